//! The parts of an answer, each timed by itself: `cargo bench --bench micro`.
//!
//! With `count KIND N` it only makes N answers of a kind, for `benches/count`, which counts their instructions.

use std::hint::black_box;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::Path;
use std::str::FromStr;
use std::sync::Arc;
use std::time::Duration;

use criterion::{BatchSize, Criterion};
use hickory_proto::op::{Edns, Message, MessageType, OpCode, Query};
use hickory_proto::rr::rdata::opt::{ClientSubnet, EdnsCode, EdnsOption};
use hickory_proto::rr::{Name, RecordType};
use ipnet::Ipv4Net;
use portolan::answer::{AnswerKind, Arrival, Client, Outcome, Reply, Transport, handle};
use portolan::config::{self, Source};
use portolan::forecast::{Demand, Forecast, Regions, Side, moves};
use portolan::geo::{Index, NetworkOverride};
use portolan::health::State;
use portolan::model::{Family, Fraction, KeyPrefix, Location, Rules, ServiceId, Unix};
use portolan::prepare::{Origin, prepare, world};
use portolan::snapshot::Snapshot;
use portolan::standing::{Action, Override};
use portolan::state;
use portolan::steer::{Compiled, NoTrace, SteeringRequest};
use portolan::traffic::{Answers, Book, Meter};
use portolan::wire::{HEADER, MAX_ENTRIES};

/// Dynamic names, as in `benches/compare/dns`.
const SERVICES: usize = 1000;
/// The one of them that has HTTPS records, too.
const HTTPS: usize = 501;

/// The EDNS option of a query.
#[derive(Clone, Copy, PartialEq)]
enum Extra {
    /// None, and no EDNS.
    Nothing,
    /// The client's subnet.
    Subnet,
    /// A client cookie, and the server cookie granted to it.
    Cookie,
}

/// Answers of each kind: the name and the type asked for, and the option of the query.
const KINDS: [(&str, &str, RecordType, Extra); 11] = [
    ("dynamic", "n0500.bench.test.", RecordType::A, Extra::Nothing),
    ("dynamic-ecs", "n0500.bench.test.", RecordType::A, Extra::Subnet),
    ("dynamic-cookie", "n0500.bench.test.", RecordType::A, Extra::Cookie),
    ("static", "ns.bench.test.", RecordType::A, Extra::Nothing),
    ("https", "n0501.bench.test.", RecordType::HTTPS, Extra::Nothing),
    ("alias", "alias.bench.test.", RecordType::A, Extra::Nothing),
    ("alias-ecs", "alias.bench.test.", RecordType::A, Extra::Subnet),
    ("mx", "bench.test.", RecordType::MX, Extra::Nothing),
    ("ns", "bench.test.", RecordType::NS, Extra::Nothing),
    ("nxdomain", "nothing.bench.test.", RecordType::A, Extra::Nothing),
    ("refused", "www.elsewhere.test.", RecordType::A, Extra::Nothing),
];

/// The code of the option COOKIE (RFC 7873 §4).
const COOKIE: u16 = 10;
/// A kind of message and how it is made.
type Bomb = (&'static str, fn() -> Vec<u8>);

/// Messages that cost the most to read: the longest that TCP carries, and one for UDP.
const BOMBS: [Bomb; 5] = [
    ("bomb-questions", || bomb([0xffff, 0, 0, 0], &longest_name(), b"\xc0\x0c\0\x01\0\x01", LONGEST)),
    ("bomb-records", || bomb([1, 0, 0, 0xffff], &longest_name(), &record(12), LONGEST)),
    ("bomb-records-udp", || bomb([1, 0, 0, 0xffff], &longest_name(), &record(12), LONGEST_DATAGRAM)),
    ("bomb-pointers", || {
        let (chain, end) = pointers();
        bomb([1, 0, 0, MAX_ENTRIES as u16 - 1], &chain, &record(end), LONGEST)
    }),
    ("bomb-options", || {
        let option = b"\xff\xfe\0\0";
        let before = b"\x03www\x09elsewhere\x04test\0\0\x01\0\x01\0\0\x29\x04\xd0\0\0\0\0";
        let options = (LONGEST - HEADER - before.len() - 2) / option.len() * option.len();
        bomb([1, 0, 0, 1], &[&before[..], &(options as u16).to_be_bytes()].concat(), option, LONGEST)
    }),
];

/// The longest message that TCP carries (RFC 1035 §4.2.2).
const LONGEST: usize = 65_535;
/// A datagram that fills an Ethernet frame.
const LONGEST_DATAGRAM: usize = 1_472;

const NOW: Unix = Unix(Duration::from_secs(1_800_000_000));

/// 1,000 services ranked by distance over the builtin database, weighted, two endpoints in each region.
fn snapshot() -> Snapshot {
    let mut toml =
        String::from("version = 1\n[dns]\nlisten = [\"127.0.0.1:0\"]\n[policy.bench]\nrank = \"distance\"\n");
    for (name, lat, lon, net) in [
        ("eu-west", 53.35, -6.26, "192.0.2"),
        ("us-east", 38.95, -77.45, "198.51.100"),
        ("ap-south", 19.1, 72.9, "203.0.113"),
    ] {
        toml += &format!(
            "[region.{name}]\nlocation = {{ lat = {lat}, lon = {lon} }}\n\
             endpoint = [{{ name = \"lb1\", address = [\"{net}.1\"] }}, {{ name = \"lb2\", address = [\"{net}.2\"] }}]\n"
        );
    }
    toml += "[[zone]]\norigin = \"bench.test.\"\nfile = \"zone\"\n";
    for n in 0..SERVICES {
        toml += &format!(
            "[[service]]\nname = \"n{n:04}.bench.test.\"\npolicy = \"bench\"\nregions = [\"eu-west\", \"us-east\", \"ap-south\"]\n"
        );
        if n == HTTPS {
            toml += "https = { alpn = [\"h3\", \"h2\"] }\n";
        }
    }
    let zone = "$TTL 60\n@ SOA ns hostmaster 1 3600 600 604800 30\n@ NS ns\nns A 192.0.2.53\n\
                alias CNAME n0001\n@ MX 10 mail\nmail A 192.0.2.25\n AAAA 2001:db8::25\n";
    let files = [("zone".into(), zone.into())];
    let plan =
        prepare(&Origin::Text { toml: toml.into(), files: files.into() }).expect("the config is good").plan;
    let standing = state::assume(&world(&plan, Rules::default()), &[], NOW, &|_, _| State::Up);
    Snapshot { plan, standing: Arc::new(standing), challenges: <_>::default(), epoch: 1 }
}

fn query(snapshot: &Snapshot, name: &str, rtype: RecordType, extra: Extra) -> Vec<u8> {
    let subnet = || EdnsOption::Subnet(ClientSubnet::new(Ipv4Addr::new(84, 128, 0, 0).into(), 24, 0));
    let cookie = |data| EdnsOption::Unknown(COOKIE, data);
    match extra {
        Extra::Nothing => query_with(name, rtype, None),
        Extra::Subnet => query_with(name, rtype, Some(subnet())),
        Extra::Cookie => {
            let first = query_with(name, rtype, Some(cookie(b"client-1".to_vec())));
            let mut reply = Reply::new(1);
            handle(snapshot, &first, arrival(), NOW, &mut reply);
            let edns = Message::from_vec(&reply.bytes).expect("a reply").edns.expect("EDNS");
            let granted = edns.option(EdnsCode::from(COOKIE)).expect("a server cookie").clone();
            query_with(name, rtype, Some(granted))
        }
    }
}

fn query_with(name: &str, rtype: RecordType, option: Option<EdnsOption>) -> Vec<u8> {
    let mut query = Message::new(4711, MessageType::Query, OpCode::Query);
    query.add_query(Query::query(Name::from_str(name).expect("a name"), rtype));
    if let Some(option) = option {
        let mut edns = Edns::new();
        edns.set_max_payload(1232);
        edns.options_mut().insert(option);
        query.set_edns(edns);
    }
    query.to_vec().expect("it fits")
}

/// A message with these counts that is filled with copies of one part.
fn bomb(counts: [u16; 4], first: &[u8], repeated: &[u8], length: usize) -> Vec<u8> {
    let counts = counts.map(u16::to_be_bytes);
    let mut message = [&[7, 7, 0, 0], counts.as_flattened(), first].concat();
    let copies = (length - message.len()) / repeated.len();
    message.extend(repeated.repeat(copies));
    message
}

/// A question whose name has as many labels as possible.
fn longest_name() -> Vec<u8> {
    [&b"\x01a".repeat(127)[..], b"\0\0\x01\0\x01"].concat()
}

/// A record without data whose owner is a pointer to a byte of the message.
fn record(owner: u16) -> Vec<u8> {
    [&(0xc000 | owner).to_be_bytes()[..], b"\0\x01\0\x01\0\0\0\0\0\0"].concat()
}

/// A question, and a record whose data are pointers, each to the one before it; and the last one's place.
fn pointers() -> (Vec<u8>, u16) {
    const POINTERS: u16 = 8_000;
    let mut bytes = b"\x04test\0\0\x01\0\x01\xc0\x0c\0\x0a\0\x01\0\0\0\0".to_vec();
    bytes.extend((2 * POINTERS).to_be_bytes());
    let mut place = 12_u16;
    for _ in 0..POINTERS {
        let next = (HEADER + bytes.len()) as u16;
        bytes.extend((0xc000 | place).to_be_bytes());
        place = next;
    }
    (bytes, place)
}

/// A message of a kind.
fn message(snapshot: &Snapshot, kind: &str) -> Option<Vec<u8>> {
    let ordinary = KINDS.into_iter().find(|(known, ..)| *known == kind);
    let bomb = || BOMBS.into_iter().find(|(known, _)| *known == kind).map(|(_, build)| build());
    ordinary.map(|(_, name, rtype, extra)| query(snapshot, name, rtype, extra)).or_else(bomb)
}

fn arrival() -> Arrival {
    let peer = SocketAddr::from(([84, 128, 0, 1], 5353));
    let local = SocketAddr::from(([192, 0, 2, 53], 53));
    Arrival { peer, local, transport: Transport::Udp, encrypted: false, keepalive: None }
}

/// Answers a message and counts it, as a listener does.
#[inline(never)]
fn answer(snapshot: &Snapshot, book: &Book, counts: &Answers, query: &[u8], reply: &mut Reply) {
    let outcome = handle(snapshot, query, arrival(), NOW, reply);
    if let Outcome::Answered { kind: AnswerKind::Dynamic { service, region }, .. } = outcome {
        let Client { address, subnet } = reply.client;
        book.count(counts, &snapshot.plan.geo, (service, region), (address, subnet));
    }
}

fn bench(criterion: &mut Criterion) {
    let snapshot = snapshot();
    let plan = &snapshot.plan;
    let mut reply = Reply::new(1);
    let book = Meter::new(1).book();
    let counts = book.turn_to(&plan.topology, &plan.geo);
    let kinds = KINDS.iter().map(|(kind, ..)| *kind).chain(BOMBS.iter().map(|(kind, _)| *kind));
    for kind in kinds {
        let query = message(&snapshot, kind).expect("a known kind");
        criterion.bench_function(&format!("answer/{kind}"), |b| {
            b.iter(|| answer(&snapshot, &book, &counts, black_box(&query), &mut reply));
        });
    }
    let mut last = 0_u32;
    let mut client = move || {
        last = last.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        IpAddr::V4(Ipv4Addr::from_bits(last))
    };
    criterion.bench_function("locate", |b| b.iter(|| plan.geo.locate(client()).id));
    // Where networks begin, each asked for once in a while: nothing is warm.
    for (family, is_wanted) in [("v4", IpAddr::is_ipv4 as fn(&IpAddr) -> bool), ("v6", IpAddr::is_ipv6)] {
        let starts = plan.geo.ranges().iter().map(|(first, ..)| first);
        let starts: Vec<_> = starts.filter(is_wanted).collect();
        let mut last = 0;
        criterion.bench_function(&format!("locate/{family}-cold"), |b| {
            b.iter(|| {
                last = (last + 104_729) % starts.len();
                plan.geo.locate(starts[last]).id
            });
        });
    }
    let mut addresses = Vec::new();
    criterion.bench_function("choose", |b| {
        b.iter(|| {
            let service = ServiceId(500);
            let request =
                SteeringRequest { service, client: client(), family: Family::V4, unix: NOW, draw: 0 };
            plan.steering.choose(&plan.topology, &snapshot.standing, &request, &mut addresses, &mut NoTrace)
        });
    });
    let name: portolan::model::Name = "n0500.bench.test.".parse().expect("a name");
    criterion.bench_function("zone", |b| {
        b.iter(|| plan.zones.find(black_box(name.as_wire())).node().is_some());
    });
}

/// Where the clients of 250 countries are sent, and whom drains of a region move of all services.
fn bench_forecasts(criterion: &mut Criterion) {
    let Snapshot { plan, standing, .. } = snapshot();
    let drained = |share| {
        let action = Action::Drain(Fraction::from_percent(share).expect("up to 100 %"));
        let drain = Override {
            id: 1,
            target: "region/eu-west".parse().expect("a target"),
            action,
            created: NOW,
            until: None,
            reason: None,
            by: None,
        };
        state::assume(&world(&plan, Rules::default()), &[drain], NOW, &|_, _| State::Up)
    };
    let (all, some) = (drained(100.0), drained(25.0));
    let mut group = criterion.benchmark_group("forecast");
    group.bench_function("demand", |b| b.iter(|| Demand::new(&plan.geo, &plan.steering)));
    let service = ServiceId(500);
    group.bench_function("first map", |b| {
        let map = |demand: Demand| {
            let forecast = Forecast { plan: &plan, demand: &demand, service, family: Family::V4, unix: NOW };
            forecast.countries(&standing)
        };
        b.iter_batched(|| Demand::new(&plan.geo, &plan.steering), map, BatchSize::LargeInput);
    });
    let demand = Demand::new(&plan.geo, &plan.steering);
    let forecast = Forecast { plan: &plan, demand: &demand, service, family: Family::V4, unix: NOW };
    group.bench_function("map", |b| b.iter(|| forecast.countries(black_box(&standing))));
    for (kind, after) in [("drain", &all), ("partial drain", &some)] {
        group.bench_function(kind, |b| {
            let sides = [&standing, after].map(|standing| Side { plan: &plan, standing });
            b.iter(|| moves(black_box(sides), &Regions::of_one(&plan.topology), &demand, &|_| None, NOW))
        });
    }
    group.finish();
}

/// Rows of a latency file, one for each autonomous system.
const ASNS: u32 = 50_000;

/// Compiles the rankings of one service by the times to four regions that a latency file has by AS number.
fn bench_latencies(criterion: &mut Criterion) {
    let network = |asn: u32| NetworkOverride {
        prefix: Ipv4Net::new((asn << 8).into(), 24).expect("a prefix").into(),
        location: Some(Location { asn: Some(asn), ..Location::default() }),
        first: Box::default(),
    };
    let geo = Index::compile(&[], &(1..=ASNS).map(network).collect::<Vec<_>>(), &[]);
    let mut toml = String::from(
        "version = 1\nlatency.file = \"rtt.csv\"\nzone = [{ origin = \"test\", file = \"zone\" }]\n",
    );
    for region in 0..4 {
        toml +=
            &format!("[region.r{region}]\nendpoint = [{{ name = \"a\", address = \"192.0.2.{region}\" }}]\n");
    }
    toml +=
        "[[service]]\nname = \"www.test\"\nrank = \"latency\"\nregions = [\"r0\", \"r1\", \"r2\", \"r3\"]\n";
    let row = |asn: u32| format!("asn:{asn},r{},{}\n", asn % 4, 1 + asn % 100);
    let rows: String = (1..=ASNS).map(row).collect();
    let read = |source: &Source<'_>| {
        Ok(match source.path.to_str() {
            Some("rtt.csv") => rows.clone().into_bytes(),
            Some("zone") => {
                b"@ 300 SOA ns1 admin 1 3600 600 86400 60\n@ 300 NS ns1\nns1 300 A 192.0.2.53\n".to_vec()
            }
            _ => toml.clone().into_bytes(),
        })
    };
    let topology = config::load(Path::new("p.toml"), &read).expect("the config is good").topology;
    let mut group = criterion.benchmark_group("compile");
    group.sample_size(10);
    group.bench_function("latency-by-asn", |b| {
        b.iter(|| Compiled::new(black_box(&topology), &geo, KeyPrefix::default()));
    });
    group.finish();
}

/// Makes answers and nothing else.
fn count(kind: &str, n: u64) {
    let (snapshot, mut reply) = (snapshot(), Reply::new(1));
    let query = message(&snapshot, kind).expect("a known kind");
    let book = Meter::new(1).book();
    let counts = book.turn_to(&snapshot.plan.topology, &snapshot.plan.geo);
    for _ in 0..n {
        answer(&snapshot, &book, &counts, black_box(&query), &mut reply);
        black_box(&reply.bytes);
    }
}

fn main() {
    let arguments: Vec<String> = std::env::args().collect();
    if let [_, command, kind, n] = &arguments[..]
        && command == "count"
    {
        count(kind, n.parse().expect("a number"));
        return;
    }
    let mut criterion = Criterion::default().configure_from_args();
    bench(&mut criterion);
    bench_forecasts(&mut criterion);
    bench_latencies(&mut criterion);
    criterion.final_summary();
}
