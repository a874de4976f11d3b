//! Zone text: rejected with locations that exist, or able to answer every query.

use std::sync::Arc;

use portolan::answer::{Outcome, Transport};
use portolan::geo::Index;
use portolan::health::State;
use portolan::model::{KeyPrefix, Name, Topology};
use portolan::snapshot::Plan;
use portolan::zone::{MAX_ERRORS, Zone, ZoneError, Zones, rtype};

use crate::fixture;

/// Names asked for per zone.
const MAX_ASKED: usize = 64;
const SERVFAIL: u16 = 2;

/// Reads text as the zone `example.`; `$INCLUDE` finds a small file that includes itself, and no other.
pub(crate) fn read(bytes: &[u8]) {
    let text = String::from_utf8_lossy(bytes);
    let origin: Name = "example.".parse().expect("a name");
    let mut include = |path: &str| match path {
        "self" => Ok("included A 192.0.2.1\n$INCLUDE self sub\n".to_owned()),
        _ => Err("no such file".to_owned()),
    };
    match Zone::read(&origin, &text, "zone", &mut include) {
        Ok(zone) => {
            have_valid_locations(&zone.warnings, &text);
            serve(zone);
        }
        Err(errors) => {
            assert!(!errors.is_empty(), "rejected without a reason");
            have_valid_locations(&errors, &text);
        }
    }
}

fn have_valid_locations(errors: &[ZoneError], text: &str) {
    assert!(errors.len() <= MAX_ERRORS, "{} errors", errors.len());
    for error in errors.iter().filter(|error| error.file == "zone") {
        let line = text.split('\n').nth(error.line.max(1) - 1);
        let line = line.unwrap_or_else(|| panic!("no such line: {error}"));
        assert!(error.line >= 1 && (1..=line.len() + 1).contains(&error.column), "no such place: {error}");
    }
}

/// Everything in a zone can be looked up and encoded.
fn serve(zone: Zone) {
    let owned = zone.names.iter().flat_map(|(name, sets)| sets.iter().map(move |set| (name, set.rtype)));
    let asked: Vec<(Name, u16)> = owned.take(MAX_ASKED).map(|(name, rtype)| (name.clone(), rtype)).collect();
    let zones = Zones::build(vec![zone], []).expect("no services to conflict with it");
    let plan = Plan::compile(Topology::default(), zones, Index::default(), true, KeyPrefix::default());
    let snapshot = fixture::snapshot_with(Arc::new(plan), &|_, _| State::Up);
    for (name, set) in asked {
        for rtype in [set, rtype::A, rtype::DS] {
            let query = fixture::query(name.as_wire(), rtype);
            for transport in [Transport::Udp, Transport::Tcp] {
                let (_, outcome) = fixture::ask(&snapshot, &query, transport);
                let Outcome::Answered { rcode, .. } = outcome else { panic!("{name} {rtype} is dropped") };
                assert_ne!(rcode, SERVFAIL, "{name} {rtype}");
            }
        }
    }
}
