//! The same zones served by Knot and NSD: Portolan's answers equal theirs, or the difference is listed in `choices`
//! with its reason. BIND's named-checkzone reads the same text: its records are those that Portolan reads. A test whose
//! server is not installed is skipped.

mod choices;
mod questions;
mod reply;
mod servers;
mod text;

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::net::SocketAddr;
use std::sync::Arc;

use portolan::answer::{Arrival, Outcome, Reply as Buffer, Transport, handle};
use portolan::geo::Index;
use portolan::model::{KeyPrefix, Name, Topology, Unix};
use portolan::snapshot::{Plan, Snapshot};
use portolan::standing::Standing;
use portolan::zone::{Zone, Zones};

use self::questions::Question;
use self::reply::Reply;
use self::servers::Server;
use crate::harness::skipped;

/// Origin and text of every zone.
const ZONES: [(&str, &str); 6] = [
    ("example.", include_str!("zones/example.zone")),
    ("child.example.", include_str!("zones/child.example.zone")),
    ("grand.orphan.example.", include_str!("zones/grand.orphan.example.zone")),
    ("uncut.example.", include_str!("zones/uncut.example.zone")),
    ("other.test.", include_str!("zones/other.test.zone")),
    ("apex.test.", include_str!("zones/apex.test.zone")),
];

/// The most unexplained differences that are shown.
const SHOWN: usize = 20;

fn read() -> Vec<Zone> {
    let read = |(origin, text): &(&str, &str)| {
        let origin: Name = origin.parse().expect("an origin");
        let mut include = |_: &str| Err("nothing to include".to_owned());
        Zone::read(&origin, text, "zone", &mut include)
            .unwrap_or_else(|errors| panic!("{origin}: {errors:?}"))
    };
    ZONES.iter().map(read).collect()
}

fn serve(zones: Vec<Zone>) -> Snapshot {
    let zones = Zones::build(zones, []).expect("no services");
    let plan = Plan::compile(Topology::default(), zones, Index::default(), true, KeyPrefix::default());
    Snapshot {
        plan: Arc::new(plan),
        standing: Arc::new(Standing::default()),
        challenges: <_>::default(),
        epoch: 1,
    }
}

fn ask(snapshot: &Snapshot, question: &Question, buffer: &mut Buffer) -> Reply {
    let peer: SocketAddr = "127.0.0.1:5353".parse().expect("an address");
    let transport = if question.tcp { Transport::Tcp } else { Transport::Udp };
    let now = Unix(std::time::Duration::from_secs(1_800_000_000));
    let arrival = Arrival { peer, local: peer, transport, encrypted: false, keepalive: None };
    let outcome = handle(snapshot, &question.message(), arrival, now, buffer);
    assert!(matches!(outcome, Outcome::Answered { .. }), "{question} is dropped");
    Reply::read(&buffer.bytes)
}

fn compare(mut peer: Server) {
    let zones = read();
    let questions = questions::of(&zones);
    assert!(questions.len() > 5_000, "{} questions", questions.len());
    let snapshot = serve(zones);
    let mut buffer = Buffer::new(1);
    let mut explained: BTreeMap<&str, usize> = BTreeMap::new();
    let mut unexplained: Vec<String> = Vec::new();
    for question in &questions {
        let (ours, theirs) = (ask(&snapshot, question, &mut buffer), peer.ask(question));
        let Some(difference) = ours.difference(&theirs) else { continue };
        match choices::LIST.iter().find(|choice| choice.explains(peer.name, question, &ours, &theirs)) {
            Some(choice) => *explained.entry(choice.why).or_default() += 1,
            None => unexplained.push(format!("{question}\n{difference}")),
        }
    }
    let stale: Vec<_> = choices::LIST
        .iter()
        .filter(|choice| choice.peers.contains(&peer.name) && !explained.contains_key(choice.why))
        .map(|choice| choice.why)
        .collect();
    let mut report =
        format!("{} of {} questions differ without a reason\n", unexplained.len(), questions.len());
    for difference in unexplained.iter().take(SHOWN) {
        let _ = writeln!(report, "{difference}");
    }
    assert!(unexplained.is_empty(), "{report}");
    assert!(stale.is_empty(), "reasons that explain nothing: {stale:?}");
}

#[tokio::test]
async fn answers_equal_those_of_knot() {
    match Server::knot(&ZONES).await {
        Some(knot) => compare(knot),
        None => skipped("knotd is not installed (Debian package knot)"),
    }
}

#[tokio::test]
async fn answers_equal_those_of_nsd() {
    match Server::nsd(&ZONES).await {
        Some(nsd) => compare(nsd),
        None => skipped("nsd is not installed (Debian package nsd)"),
    }
}
