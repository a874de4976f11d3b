//! A server that holds the parent zone, and is the resolver too, on a loopback port.

use std::io::{Read as _, Write as _};
use std::net::{IpAddr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::time::Duration;

use hickory_proto::op::{DnsRequestOptions, DnsResponse, Message, Query, ResponseCode};
use hickory_proto::rr::RecordType;
use hickory_resolver::net::NetError;

use super::ask::ask;
use super::{Asker, check};
use crate::answer::{Arrival, Outcome, Reply, Transport, handle};
use crate::geo::Index;
use crate::model::{KeyPrefix, Topology, Unix};
use crate::snapshot::{Plan, Snapshot};
use crate::standing::Standing;
use crate::zone::{Zone, Zones};

const OWN: &str = "@ 300 SOA ns1 admin 1 3600 600 86400 60\n@ 300 NS ns1\n@ 300 NS ns2\n@ 300 NS ns.elsewhere.test.\n\
                   ns1 300 A 192.0.2.53\nns1 300 AAAA 2001:db8::53\nns2 300 A 192.0.2.54\n";

/// The parent's own records.
const APEX: &str = "@ 300 SOA ns admin 1 3600 600 86400 60\n@ 300 NS ns\nns 300 A 127.0.0.1\n";

/// The delegation as it should be.
const GOOD: &str = "gslb 300 NS ns1.gslb\ngslb 300 NS ns2.gslb\ngslb 300 NS ns.elsewhere.test.\n\
                    ns1.gslb 300 A 192.0.2.53\nns1.gslb 300 AAAA 2001:db8::53\nns2.gslb 300 A 192.0.2.54\n";

fn zones(origin: &str, text: &str) -> Zones {
    let mut include = |_: &str| Err("nothing to include".to_owned());
    let origin = origin.parse().expect("an origin");
    let zone = Zone::read(&origin, text, "zone", &mut include).unwrap_or_else(|errors| panic!("{errors:?}"));
    Zones::build(vec![zone], &[]).expect("zones")
}

/// Sockets of both protocols at the same free port.
fn bound() -> (UdpSocket, TcpListener) {
    loop {
        let tcp = TcpListener::bind("127.0.0.1:0").expect("a free port");
        // The same port of the other protocol may be taken by somebody else.
        if let Ok(udp) = UdpSocket::bind(tcp.local_addr().expect("bound")) {
            return (udp, tcp);
        }
    }
}

/// Serves `example.test.` over UDP and TCP until the process ends; with how many queries came over TCP.
fn serve_counted(text: &str) -> (SocketAddr, Arc<AtomicUsize>) {
    let zones = zones("example.test.", &format!("{APEX}{text}"));
    let plan = Plan::compile(Topology::default(), zones, Index::default(), true, KeyPrefix::default());
    let snapshot = Arc::new(Snapshot {
        plan: Arc::new(plan),
        standing: Arc::new(Standing::default()),
        challenges: <_>::default(),
        epoch: 1,
    });
    let answer = move |snapshot: &Snapshot, query: &[u8], peer, transport| {
        let mut reply = Reply::new(1);
        let arrival = Arrival { peer, local: peer, transport, encrypted: false, keepalive: None };
        let outcome = handle(snapshot, query, arrival, Unix(Duration::ZERO), &mut reply);
        matches!(outcome, Outcome::Answered { .. }).then_some(reply.bytes)
    };
    let (udp, tcp) = bound();
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
    Asker::with(vec![address], address.port()).expect("a runtime")
}

/// The report on the zone `gslb.example.test.` with a parent that has these records.
fn report(own: &str, parent: &str) -> (bool, String) {
    let zones = zones("gslb.example.test.", own);
    let verdict = check(zones.iter().next().expect("one zone"), &asker(serve(parent)));
    (verdict.matches, verdict.text())
}

#[test]
fn the_report_as_json() {
    let zones = zones("gslb.example.test.", OWN);
    let parent = GOOD.replace("gslb 300 NS ns.elsewhere.test.\n", "");
    let result = check(zones.iter().next().expect("one zone"), &asker(serve(&parent)));
    let server = "ns.example.test. at 127.0.0.1";
    let expected = serde_json::json!({
        "zone": "gslb.example.test.",
        "matches": false,
        "parent": "example.test.",
        "why": null,
        "answered": [server],
        "changes": [{
            "change": "add `gslb.example.test. NS ns.elsewhere.test.`: the zone names this server",
            "servers": [server],
        }],
        "unanswered": [],
    });
    assert_eq!(serde_json::to_value(result).expect("JSON"), expected);
}

#[test]
fn a_delegation_that_matches_the_zone() {
    let (is_good, text) = report(OWN, GOOD);
    let servers = "(ns.example.test. at 127.0.0.1)";
    let expected =
        format!("gslb.example.test.: the delegation at example.test. matches the zone {servers}\n");
    assert_eq!((is_good, text), (true, expected));
}

#[test]
fn differences_are_reported_in_sentences() {
    let parent = "gslb 300 NS ns1.gslb\ngslb 300 NS old.elsewhere.test.\ngslb 300 DS 4711 13 2 \
                  0000000000000000000000000000000000000000000000000000000000000000\nns1.gslb 300 A 192.0.2.99\n";
    insta::assert_snapshot!(report(OWN, parent).1, @r"
    gslb.example.test.: 8 things to change at example.test.
      add `gslb.example.test. NS ns.elsewhere.test.`: the zone names this server
      add `gslb.example.test. NS ns2.gslb.example.test.`: the zone names this server
      add the glue `ns1.gslb.example.test. A 192.0.2.53`: the zone has this address
      add the glue `ns1.gslb.example.test. AAAA 2001:db8::53`: the zone has this address
      add the glue `ns2.gslb.example.test. A 192.0.2.54`: without it resolvers cannot find this server
      remove `gslb.example.test. DS 4711 …`: the zone is not signed, so validating resolvers refuse every answer
      remove `gslb.example.test. NS old.elsewhere.test.`, or add it to the zone: the zone does not name this server
      remove the glue `ns1.gslb.example.test. A 192.0.2.99`: the zone does not have this address
    ");
}

#[test]
fn no_delegation_at_all() {
    let (is_good, text) =
        report("@ 300 SOA ns1 admin 1 3600 600 86400 60\n@ 300 NS ns.elsewhere.test.\n", "");
    assert!(!is_good);
    insta::assert_snapshot!(text, @r"
    gslb.example.test.: one thing to change at example.test.
      add `gslb.example.test. NS ns.elsewhere.test.`: the zone names this server
    ");
}

#[test]
fn truncated_answers_are_asked_again_over_tcp() {
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
    assert!(verdict.matches, "{}", verdict.text());
    assert_eq!(over_tcp.load(Relaxed), 1);
}

#[test]
fn a_parent_that_does_not_answer_is_reported() {
    let zones = zones("gslb.example.test.", OWN);
    let zone = zones.iter().next().expect("one zone");
    // The resolver is there, but nobody listens where it says that the parent's server is.
    let resolver = serve("");
    let closed =
        UdpSocket::bind("127.0.0.1:0").and_then(|socket| socket.local_addr()).expect("a port").port();
    let verdict = check(zone, &Asker::with(vec![resolver], closed).expect("a runtime"));
    assert!(!verdict.matches);
    let text = verdict.text();
    let (first, second) = text.split_once('\n').expect("two lines");
    assert_eq!(first, "gslb.example.test.: none of the name servers of example.test. could be queried");
    assert!(second.starts_with("  ns.example.test. at 127.0.0.1 could not be queried: "), "{second}");
    // Neither is there a resolver.
    let nobody = SocketAddr::new(IpAddr::from([127, 0, 0, 1]), closed);
    let verdict = check(zone, &asker(nobody));
    assert!(
        verdict.text().starts_with("gslb.example.test.: its parent cannot be found: the resolver "),
        "{}",
        verdict.text()
    );
    assert!(!verdict.matches);
}

#[test]
fn a_resolver_is_an_address_with_or_without_a_port() {
    let resolver = |written| Asker::new(Some(written)).map(|it| it.resolvers).map_err(|e| e.to_string());
    let socket = |text: &str| vec![text.parse::<SocketAddr>().expect("an address")];
    assert_eq!(resolver("192.0.2.1"), Ok(socket("192.0.2.1:53")));
    assert_eq!(resolver("2001:db8::1"), Ok(socket("[2001:db8::1]:53")));
    assert_eq!(resolver("[::1]:5353"), Ok(socket("[::1]:5353")));
    assert_eq!(resolver("x"), Err("\"x\" is not a valid resolver: write ADDR or ADDR:PORT".into()));
}

/// Answers one query over UDP with some messages, and one over TCP with one.
fn serve_once(
    udp_replies: impl FnOnce(&Message) -> Vec<Message> + Send + 'static,
    tcp_reply: impl FnOnce(&Message) -> Message + Send + 'static,
) -> SocketAddr {
    let (udp, tcp) = bound();
    let address = udp.local_addr().expect("bound");
    std::thread::spawn(move || {
        let mut space = [0; 1500];
        let (length, from) = udp.recv_from(&mut space).expect("a query");
        let query = Message::from_vec(&space[..length]).expect("a query");
        for reply in udp_replies(&query) {
            udp.send_to(&reply.to_vec().expect("a message"), from).expect("sent");
        }
        let (mut stream, _) = tcp.accept().expect("a connection");
        let reply = tcp_reply(&read_framed(&mut stream)).to_vec().expect("a message");
        stream.write_all(&[&(reply.len() as u16).to_be_bytes(), &*reply].concat()).expect("sent");
    });
    address
}

fn read_framed(stream: &mut TcpStream) -> Message {
    let mut length = [0; 2];
    stream.read_exact(&mut length).expect("a length");
    let mut query = vec![0; usize::from(u16::from_be_bytes(length))];
    stream.read_exact(&mut query).expect("a query");
    Message::from_vec(&query).expect("a query")
}

fn reply_to(query: &Message, change: impl FnOnce(&mut Message)) -> Message {
    let mut reply = query.clone().into_response();
    change(&mut reply);
    reply
}

async fn ask_for_ns(server: SocketAddr) -> Result<DnsResponse, NetError> {
    let name = "gslb.example.test.".parse().expect("a name");
    ask(server, Query::query(name, RecordType::NS), DnsRequestOptions::default()).await
}

fn elsewhere(reply: &mut Message) {
    reply.queries[0].set_name("elsewhere.test.".parse().expect("a name"));
}

#[tokio::test]
async fn datagrams_that_answer_another_query_are_skipped() {
    let replies = |query: &Message| {
        vec![
            reply_to(query, |reply| reply.metadata.id ^= 1),
            reply_to(query, elsewhere),
            reply_to(query, |reply| reply.metadata.response_code = ResponseCode::Refused),
        ]
    };
    let server = serve_once(replies, Message::clone);
    let reply = ask_for_ns(server).await.expect("an answer");
    assert_eq!(reply.metadata.response_code, ResponseCode::Refused);
}

#[tokio::test]
async fn an_answer_to_another_question_over_tcp_is_an_error() {
    let truncated = |query: &Message| vec![reply_to(query, |reply| reply.metadata.truncation = true)];
    for (server, expected) in [
        (serve_once(truncated, |query| reply_to(query, |_| {})), None),
        (
            serve_once(truncated, |query| reply_to(query, elsewhere)),
            Some("it answers another question over TCP"),
        ),
        // A query is not an answer.
        (serve_once(truncated, Message::clone), Some("io error: stream closed")),
    ] {
        let error = ask_for_ns(server).await.err().map(|e| e.to_string());
        assert_eq!(error.as_deref(), expected);
    }
}

#[tokio::test(start_paused = true)]
async fn a_server_that_does_not_answer_is_given_up() {
    let (udp, _tcp) = bound();
    let error = ask_for_ns(udp.local_addr().expect("bound")).await.expect_err("nobody answers");
    assert_eq!(error.to_string(), "request timed out");
}
