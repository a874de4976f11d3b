//! A server that holds the parent zone, and is the resolver too, on a loopback port.

use std::io::{Read as _, Write as _};
use std::net::{IpAddr, SocketAddr, TcpListener, UdpSocket};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::time::Duration;

use super::ask::resolvers_of;
use super::{Asker, check};
use crate::answer::{Arrival, Outcome, Reply, Transport, handle};
use crate::geo::Index;
use crate::model::{KeyPrefix, Topology, Unix};
use crate::snapshot::{Plan, Snapshot};
use crate::standing::Standing;
use crate::zone::{Zone, Zones};

const OWN: &str = "@ 300 SOA ns1 admin 1 3600 600 86400 60\n@ 300 NS ns1\n@ 300 NS ns2\n@ 300 NS ns.elsewhere.test.\n\
                   ns1 300 A 192.0.2.53\nns1 300 AAAA 2001:db8::53\nns2 300 A 192.0.2.54\n";

/// What the parent says of itself.
const APEX: &str = "@ 300 SOA ns admin 1 3600 600 86400 60\n@ 300 NS ns\nns 300 A 127.0.0.1\n";

/// The delegation as it should be.
const GOOD: &str = "gslb 300 NS ns1.gslb\ngslb 300 NS ns2.gslb\ngslb 300 NS ns.elsewhere.test.\n\
                    ns1.gslb 300 A 192.0.2.53\nns1.gslb 300 AAAA 2001:db8::53\nns2.gslb 300 A 192.0.2.54\n";

fn zones(origin: &str, text: &str) -> Zones {
    let mut include = |_: &str| Err("nothing to include".to_owned());
    let origin = origin.parse().expect("an origin");
    let zone = Zone::read(&origin, text, "zone", &mut include).unwrap_or_else(|said| panic!("{said:?}"));
    Zones::build(vec![zone], &[]).expect("zones")
}

/// Serves `example.test.` over UDP and TCP until the process ends; with how many came over TCP.
fn serve_counted(text: &str) -> (SocketAddr, Arc<AtomicUsize>) {
    let zones = zones("example.test.", &format!("{APEX}{text}"));
    let plan = Plan::compile(Topology::default(), zones, Index::default(), true, KeyPrefix::default());
    let snapshot =
        Arc::new(Snapshot { plan: Arc::new(plan), standing: Arc::new(Standing::default()), epoch: 1 });
    let answer = move |snapshot: &Snapshot, query: &[u8], peer, transport| {
        let mut reply = Reply::new(1);
        let arrival = Arrival { peer, local: peer, transport, encrypted: false, keepalive: None };
        let outcome = handle(snapshot, query, arrival, Unix(Duration::ZERO), &mut reply);
        matches!(outcome, Outcome::Answered { .. }).then_some(reply.bytes)
    };
    let (udp, tcp) = loop {
        let tcp = TcpListener::bind("127.0.0.1:0").expect("a free port");
        // The same port of the other protocol may be taken by somebody else.
        if let Ok(udp) = UdpSocket::bind(tcp.local_addr().expect("bound")) {
            break (udp, tcp);
        }
    };
    let address = udp.local_addr().expect("bound");
    let (shared, count) = (Arc::clone(&snapshot), Arc::new(AtomicUsize::new(0)));
    let counter = Arc::clone(&count);
    std::thread::spawn(move || {
        let mut space = [0; 1500];
        while let Ok((length, from)) = udp.recv_from(&mut space) {
            if let Some(reply) = answer(&shared, &space[..length], from, Transport::Udp) {
                udp.send_to(&reply, from).expect("sent");
            }
        }
    });
    std::thread::spawn(move || {
        while let Ok((mut stream, from)) = tcp.accept() {
            let mut length = [0; 2];
            stream.read_exact(&mut length).expect("a length");
            let mut query = vec![0; usize::from(u16::from_be_bytes(length))];
            stream.read_exact(&mut query).expect("a query");
            let reply = answer(&snapshot, &query, from, Transport::Tcp).expect("a reply");
            let length = (reply.len() as u16).to_be_bytes();
            counter.fetch_add(1, Relaxed);
            stream.write_all(&[&length, &*reply].concat()).expect("sent");
        }
    });
    (address, count)
}

fn serve(text: &str) -> SocketAddr {
    serve_counted(text).0
}

fn asker(address: SocketAddr) -> Asker {
    Asker { resolvers: vec![address], port: address.port() }
}

/// All that is said of the zone `gslb.example.test.` with a parent that has these records.
fn said(own: &str, parent: &str) -> (bool, String) {
    let zones = zones("gslb.example.test.", own);
    let verdict = check(zones.iter().next().expect("one zone"), &asker(serve(parent)));
    (verdict.is_good, verdict.text)
}

#[test]
fn a_delegation_as_the_zone_says() {
    let expected =
        "gslb.example.test.: example.test. delegates it as the zone says (ns.example.test. at 127.0.0.1)\n";
    assert_eq!(said(OWN, GOOD), (true, expected.to_owned()));
}

#[test]
fn what_differs_is_said_in_sentences() {
    let parent = "gslb 300 NS ns1.gslb\ngslb 300 NS old.elsewhere.test.\ngslb 300 DS 4711 13 2 \
                  0000000000000000000000000000000000000000000000000000000000000000\nns1.gslb 300 A 192.0.2.99\n";
    insta::assert_snapshot!(said(OWN, parent).1, @r"
    gslb.example.test.: 8 things to change at example.test.
      add `gslb.example.test. NS ns.elsewhere.test.`: the zone names this server
      add `gslb.example.test. NS ns2.gslb.example.test.`: the zone names this server
      add the glue `ns1.gslb.example.test. A 192.0.2.53`: the zone has this address
      add the glue `ns1.gslb.example.test. AAAA 2001:db8::53`: the zone has this address
      add the glue `ns2.gslb.example.test. A 192.0.2.54`: without it nobody finds this server
      remove `gslb.example.test. DS 4711 …`: the zone is not signed, so validating resolvers refuse every answer
      remove `gslb.example.test. NS old.elsewhere.test.`, or add it to the zone: the zone does not name this server
      remove the glue `ns1.gslb.example.test. A 192.0.2.99`: the zone does not have this address
    ");
}

#[test]
fn no_delegation_at_all() {
    let (is_good, text) = said("@ 300 SOA ns1 admin 1 3600 600 86400 60\n@ 300 NS ns.elsewhere.test.\n", "");
    assert!(!is_good);
    insta::assert_snapshot!(text, @r"
    gslb.example.test.: one thing to change at example.test.
      add `gslb.example.test. NS ns.elsewhere.test.`: the zone names this server
    ");
}

#[test]
fn what_is_cut_over_udp_is_asked_again_over_tcp() {
    let mut own = "@ 300 SOA ns1 admin 1 3600 600 86400 60\n".to_owned();
    let mut parent = String::new();
    for n in 0..16 {
        let label = format!("a-rather-long-label-for-a-name-server-{n}");
        let addresses = |name: &str| format!("{name} 300 A 192.0.2.{n}\n{name} 300 AAAA 2001:db8::{n}\n");
        own += &format!("@ 300 NS {label}\n{}", addresses(&label));
        parent += &format!("gslb 300 NS {label}.gslb\n{}", addresses(&format!("{label}.gslb")));
    }
    let zones = zones("gslb.example.test.", &own);
    let (address, over_tcp) = serve_counted(&parent);
    let verdict = check(zones.iter().next().expect("one zone"), &asker(address));
    assert!(verdict.is_good, "{}", verdict.text);
    assert_eq!(over_tcp.load(Relaxed), 1);
}

#[test]
fn a_parent_that_is_not_there_is_said_so() {
    let zones = zones("gslb.example.test.", OWN);
    let zone = zones.iter().next().expect("one zone");
    // The resolver is there, but nobody listens where it says that the parent's server is.
    let resolver = serve("");
    let closed =
        UdpSocket::bind("127.0.0.1:0").and_then(|socket| socket.local_addr()).expect("a port").port();
    let verdict = check(zone, &Asker { resolvers: vec![resolver], port: closed });
    assert!(!verdict.is_good);
    let (first, second) = verdict.text.split_once('\n').expect("two lines");
    assert_eq!(first, "gslb.example.test.: none of the name servers of example.test. could be asked");
    assert!(second.starts_with("  ns.example.test. at 127.0.0.1 could not be asked: "), "{second}");
    // Neither is there a resolver.
    let nobody = SocketAddr::new(IpAddr::from([127, 0, 0, 1]), closed);
    let verdict = check(zone, &asker(nobody));
    assert!(
        verdict.text.starts_with("gslb.example.test.: its parent cannot be found: the resolver "),
        "{}",
        verdict.text
    );
    assert!(!verdict.is_good);
}

#[test]
fn resolvers_are_read_as_the_system_reads_them() {
    let text = "# nameserver 192.0.2.9\nsearch example.test\nnameserver 192.0.2.1\n  nameserver\t2001:db8::1 # x\nnameserver junk\n";
    assert_eq!(
        resolvers_of(text).iter().map(ToString::to_string).collect::<Vec<_>>(),
        ["192.0.2.1:53", "[2001:db8::1]:53"]
    );
    let resolver =
        |written| Asker::new(Some(written)).map(|it| it.resolvers[0].to_string()).map_err(|e| e.to_string());
    assert_eq!(resolver("192.0.2.1").as_deref(), Ok("192.0.2.1:53"));
    assert_eq!(resolver("[::1]:5353").as_deref(), Ok("[::1]:5353"));
    assert_eq!(resolver("x"), Err("\"x\" is no resolver: write ADDR or ADDR:PORT".into()));
}
