//! The server that packets are sent to.

use std::io;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::{Arc, LazyLock};
use std::time::Duration;

use portolan::answer::{Arrival, Outcome, Reply, Transport, handle, handle_generally};
use portolan::config::{self, Config, Source};
use portolan::geo::Index;
use portolan::health::{Severity, State};
use portolan::model::{EndpointRef, KeyPrefix, Rules, Unix};
use portolan::prepare::world;
use portolan::snapshot::{Plan, Snapshot};
use portolan::state;
use portolan::wire::cookie::{Secret, Secrets};

pub(crate) const ZONE: &[u8] = include_bytes!("fixture.zone");

const CONFIG: &[u8] = include_bytes!("fixture.toml");
const NOW: Unix = Unix(Duration::from_secs(1_800_000_000));

pub(crate) static SNAPSHOT: LazyLock<Snapshot> = LazyLock::new(|| {
    let read = |source: &Source<'_>| match source.path.to_str() {
        Some("portolan.toml") => Ok(CONFIG.to_vec()),
        Some("fixture.zone") => Ok(ZONE.to_vec()),
        _ => Err(io::ErrorKind::NotFound.into()),
    };
    let config =
        config::load(Path::new("portolan.toml"), &read).unwrap_or_else(|refused| panic!("{refused}"));
    let plan = compile(config);
    let dark = plan.topology.region_named("dark").expect("a region");
    snapshot_with(plan, &|at, _| if at.region == dark { State::Down(Severity::Hard) } else { State::Up })
});

/// The plan of a config, with only its own networks as geo data.
pub(crate) fn compile(config: Config) -> Arc<Plan> {
    let index = Index::compile(&[], &config.geo.networks, &config.nets());
    let debug_names = config.dns.as_ref().is_some_and(|dns| dns.debug_names);
    let key_prefix = config.dns.map_or_else(KeyPrefix::default, |dns| dns.key_prefix);
    let cookies = Some(Secrets { current: Secret(*b"a secret of 16 B"), other: None });
    let plan = Plan::compile(config.topology, config.zones, index, true, key_prefix);
    Arc::new(Plan { debug_names, cookies, ..plan })
}

/// A snapshot of a plan whose addresses have these states.
pub(crate) fn snapshot_with(plan: Arc<Plan>, states: &dyn Fn(EndpointRef, usize) -> State) -> Snapshot {
    let standing = Arc::new(state::assume(&world(&plan, Rules::default()), &[], NOW, states));
    Snapshot { plan, standing, challenges: <_>::default(), epoch: 1 }
}

/// A server's reply to a message; no bytes if it drops the message.
pub(crate) fn ask(snapshot: &Snapshot, message: &[u8], transport: Transport) -> (Vec<u8>, Outcome) {
    ask_by(handle, snapshot, message, transport)
}

fn ask_by(
    handle: fn(&Snapshot, &[u8], Arrival, Unix, &mut Reply) -> Outcome,
    snapshot: &Snapshot,
    message: &[u8],
    transport: Transport,
) -> (Vec<u8>, Outcome) {
    let mut reply = Reply::new(1);
    let outcome = handle(snapshot, message, arrival(transport), NOW, &mut reply);
    (reply.bytes, outcome)
}

fn arrival(transport: Transport) -> Arrival {
    Arrival {
        peer: SocketAddr::from(([198, 51, 100, 7], 5353)),
        local: SocketAddr::from(([192, 0, 2, 53], 53)),
        transport,
        encrypted: false,
        keepalive: (transport == Transport::Tcp).then_some(Duration::from_secs(10)),
    }
}

/// The fixture's replies: by the general path, which is the reference, and by the path that messages normally take.
pub(crate) fn ask_fixture(message: &[u8], transport: Transport) -> [(Vec<u8>, Outcome); 2] {
    [handle_generally, handle].map(|handle| ask_by(handle, &SNAPSHOT, message, transport))
}

/// A closure that answers a message each time it is called, with the buffers kept from one answer to the next.
pub(crate) fn answer_again(message: &[u8], transport: Transport) -> impl FnMut() {
    let arrival = arrival(transport);
    let mut reply = Reply::new(1);
    move || {
        handle(&SNAPSHOT, message, arrival, NOW, &mut reply);
    }
}

/// A query without EDNS for a name in wire format.
pub(crate) fn query(name: &[u8], rtype: u16) -> Vec<u8> {
    let header = [0x12, 0x34, 1, 0, 0, 1, 0, 0, 0, 0, 0, 0];
    [&header, name, &rtype.to_be_bytes(), &[0, 1]].concat()
}
