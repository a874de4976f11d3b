//! The server that packets are sent to.

use std::io;
use std::path::Path;
use std::sync::{Arc, LazyLock};
use std::time::Duration;

use portolan::answer::{Outcome, Peer, Reply, Transport, handle, handle_generally};
use portolan::config::{self, Config};
use portolan::geo::Index;
use portolan::health::{Severity, State};
use portolan::model::{EndpointRef, KeyPrefix, Rules, Unix};
use portolan::prepare::world;
use portolan::snapshot::{Plan, Snapshot};
use portolan::state;

pub(crate) const ZONE: &[u8] = include_bytes!("fixture.zone");

const CONFIG: &[u8] = include_bytes!("fixture.toml");
const NOW: Unix = Unix(Duration::from_secs(1_800_000_000));

pub(crate) static SNAPSHOT: LazyLock<Snapshot> = LazyLock::new(|| {
    let read = |path: &Path| match path.to_str() {
        Some("portolan.toml") => Ok(CONFIG.to_vec()),
        Some("fixture.zone") => Ok(ZONE.to_vec()),
        _ => Err(io::ErrorKind::NotFound.into()),
    };
    let config = config::load(Path::new("portolan.toml"), &read).unwrap_or_else(|said| panic!("{said}"));
    let plan = compile(config);
    let dark = plan.topology.region_named("dark").expect("a region");
    stand(plan, &|at, _| if at.region == dark { State::Down(Severity::Hard) } else { State::Up })
});

/// The plan of a config, with its own networks for a geo database.
pub(crate) fn compile(config: Config) -> Arc<Plan> {
    let index = Index::compile(&[], &config.geo.networks, &config.nets());
    let debug_names = config.dns.as_ref().is_some_and(|dns| dns.debug_names);
    let key_prefix = config.dns.map_or_else(KeyPrefix::default, |dns| dns.key_prefix);
    Arc::new(Plan { debug_names, ..Plan::compile(config.topology, config.zones, index, true, key_prefix) })
}

/// A snapshot of a plan with addresses in these states.
pub(crate) fn stand(plan: Arc<Plan>, states: &dyn Fn(EndpointRef, usize) -> State) -> Snapshot {
    let standing = Arc::new(state::assume(&world(&plan, Rules::default()), &[], NOW, states));
    Snapshot { plan, standing, epoch: 1 }
}

/// What a server says to a message; no bytes if it drops it.
pub(crate) fn ask(snapshot: &Snapshot, message: &[u8], transport: Transport) -> (Vec<u8>, Outcome) {
    ask_by(handle, snapshot, message, transport)
}

fn ask_by(
    handle: fn(&Snapshot, &[u8], Peer, Unix, &mut Reply) -> Outcome,
    snapshot: &Snapshot,
    message: &[u8],
    transport: Transport,
) -> (Vec<u8>, Outcome) {
    let peer = Peer { address: "198.51.100.7:5353".parse().expect("an address"), transport };
    let mut reply = Reply::new(1);
    let outcome = handle(snapshot, message, peer, NOW, &mut reply);
    (reply.bytes, outcome)
}

/// What the fixture says: on the general path, which the express lane is held to, and by the way that messages take.
pub(crate) fn ask_fixture(message: &[u8], transport: Transport) -> [(Vec<u8>, Outcome); 2] {
    [handle_generally, handle].map(|handle| ask_by(handle, &SNAPSHOT, message, transport))
}

/// Answers a message with what is kept from one answer to the next, as often as it is called.
pub(crate) fn answer_again(message: &[u8], transport: Transport) -> impl FnMut() {
    let peer = Peer { address: "198.51.100.7:5353".parse().expect("an address"), transport };
    let mut reply = Reply::new(1);
    move || {
        handle(&SNAPSHOT, message, peer, NOW, &mut reply);
    }
}

/// A query without EDNS for a name in wire format.
pub(crate) fn query(name: &[u8], rtype: u16) -> Vec<u8> {
    let header = [0x12, 0x34, 1, 0, 0, 1, 0, 0, 0, 0, 0, 0];
    [&header, name, &rtype.to_be_bytes(), &[0, 1]].concat()
}
