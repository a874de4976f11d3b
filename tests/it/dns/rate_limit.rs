//! Response rate limiting: strangers cannot make the server flood a victim, and clients still get their answers.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use hickory_proto::op::{Message, ResponseCode};
use hickory_proto::rr::rdata::opt::{EdnsCode, EdnsOption};
use portolan::answer::{Arrival, Outcome, Reply, Transport, handle, handle_generally};
use portolan::model::{AllDown, Identity, RateLimit, Unix};
use portolan::snapshot::Snapshot;
use portolan::wire::cookie::{Secret, Secrets};

use super::{NOW, Server, query, text, with_edns, with_subnet};

const COOKIE: u16 = 10;
const LIMIT: u32 = 5;

/// A worker of a server that limits responses.
struct Worker {
    snapshot: Snapshot,
    reply: Reply,
    now: Unix,
}

impl Worker {
    fn new() -> Self {
        let zone = "www A 192.0.2.1\n*.wild TXT x\nsub NS ns.sub\nns.sub A 192.0.2.9\nold DNAME new\n\
                    big TXT \"0123456789012345678901234567890123456789012345678901234567890123456789\"\n";
        let server = Server::new(&[("example.", zone)]);
        let server = server.service("dynamic.example.", &["192.0.2.1"], AllDown::Servfail);
        let mut snapshot = server.start().0;
        let plan = Arc::get_mut(&mut snapshot.plan).expect("no other reference");
        plan.cookies = Some(Secrets { current: Secret([7; 16]), other: None });
        plan.rate_limit = Some(RateLimit {
            responses_per_second: LIMIT,
            errors_per_second: LIMIT,
            slip: 2,
            ..RateLimit::default()
        });
        plan.identity =
            Identity { nsid: Some("a long name of this server".to_owned()), ..Identity::default() };
        Self { snapshot, reply: Reply::new(1), now: NOW }
    }

    fn ask(&mut self, message: &Message, client: &str, transport: Transport) -> (Option<Message>, Outcome) {
        let client: IpAddr = client.parse().expect("an address");
        let arrival = Arrival {
            peer: SocketAddr::from((client, 5353)),
            local: SocketAddr::from(([192, 0, 2, 53], 53)),
            transport,
            encrypted: false,
            keepalive: None,
        };
        let bytes = message.to_vec().expect("an encodable query");
        let outcome = handle(&self.snapshot, &bytes, arrival, self.now, &mut self.reply);
        let reply = &self.reply.bytes;
        (
            matches!(outcome, Outcome::Answered { .. }).then(|| Message::from_vec(reply).expect("a reply")),
            outcome,
        )
    }

    /// How many of so many queries of one client get their answer, a short reply, and nothing.
    fn flood(&mut self, message: &Message, client: &str, queries: usize) -> [usize; 3] {
        let mut counts = [0; 3];
        for _ in 0..queries {
            let (reply, _) = self.ask(message, client, Transport::Udp);
            let is_short = |reply: &Message| {
                reply.metadata.truncation || reply.metadata.response_code == ResponseCode::BADCOOKIE
            };
            counts[reply.map_or(2, |reply| usize::from(is_short(&reply)))] += 1;
        }
        counts
    }
}

fn with_cookie(asked: &str, data: &[u8]) -> Message {
    let mut message = with_edns(query(asked), 1232);
    let options = message.edns.as_mut().expect("just added").options_mut();
    options.insert(EdnsOption::Unknown(COOKIE, data.to_vec()));
    message
}

fn cookie(reply: &Message) -> Vec<u8> {
    match reply.edns.as_ref().and_then(|edns| edns.option(EdnsCode::from(COOKIE))) {
        Some(EdnsOption::Unknown(COOKIE, data)) => data.clone(),
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_flood_from_one_prefix_is_limited_and_another_prefix_is_not() {
    let mut worker = Worker::new();
    let message = query("dynamic.example. A");
    assert_eq!(worker.flood(&message, "198.51.100.7", 1000), [5, 497, 498]);
    assert_eq!(worker.flood(&message, "198.51.100.99", 100), [0, 50, 50], "the same prefix");
    assert_eq!(worker.flood(&message, "203.0.113.7", 5), [5, 0, 0]);
    worker.now = worker.now.after(Duration::from_secs(17));
    assert_eq!(worker.flood(&message, "198.51.100.7", 5), [5, 0, 0], "after the window");
}

#[test]
fn answers_about_one_name_share_a_limit_and_so_do_all_names_that_do_not_exist() {
    let mut worker = Worker::new();
    let client = "198.51.100.7";
    for (one, other) in [
        ("www.example. A", "WWW.example. AAAA"),
        ("gone.example. A", "nowhere.example. TXT"),
        ("a.wild.example. TXT", "b.wild.example. A"),
        ("a.sub.example. A", "b.c.sub.example. MX"),
        ("a.old.example. A", "b.old.example. A"),
    ] {
        assert_eq!(worker.flood(&query(one), client, 5), [5, 0, 0], "{one}");
        assert_eq!(worker.flood(&query(other), client, 2), [0, 1, 1], "{other} after {one}");
    }
    assert_eq!(worker.flood(&query("a.example.test. A"), client, 5), [5, 0, 0]);
    assert_eq!(worker.flood(&query("b.example.test. A"), client, 2), [0, 0, 2], "errors never slip");
    let mut chaos = query("version.bind. TXT");
    chaos.queries[0].set_query_class(hickory_proto::rr::DNSClass::CH);
    assert_eq!(worker.flood(&chaos, client, 2), [0, 0, 2], "an error like others");
}

#[test]
fn a_valid_cookie_and_tcp_are_not_limited() {
    let mut worker = Worker::new();
    let client = "198.51.100.7";
    let (reply, _) = worker.ask(&with_cookie("www.example. A", b"client-1"), client, Transport::Udp);
    let valid = cookie(&reply.expect("within the limit"));
    assert_eq!(worker.flood(&query("www.example. A"), client, 100), [4, 48, 48]);
    assert_eq!(worker.flood(&with_cookie("www.example. A", &valid), client, 1000), [1000, 0, 0]);
    // It is valid for its address alone.
    assert_eq!(worker.flood(&with_cookie("www.example. A", &valid), "198.51.100.8", 4), [0, 2, 2]);
    for _ in 0..100 {
        let (reply, outcome) = worker.ask(&query("www.example. A"), client, Transport::Tcp);
        assert_eq!(reply.map(|reply| reply.answers.len()), Some(1), "{outcome:?}");
    }
}

#[test]
fn a_client_that_sends_a_cookie_learns_its_server_cookie_although_it_is_limited() {
    let mut worker = Worker::new();
    let client = "198.51.100.7";
    worker.flood(&query("www.example. A"), client, 20);
    let short = (0..2)
        .find_map(|_| worker.ask(&with_cookie("www.example. A", b"client-1"), client, Transport::Udp).0);
    let short = short.expect("one of two slips");
    assert_eq!(text(&short), "BADCOOKIE\nedns 1232\n");
    let retried = worker.ask(&with_cookie("www.example. A", &cookie(&short)), client, Transport::Udp).0;
    assert_eq!(text(&retried.expect("a reply")), "NOERROR aa\nedns 1232\nAN www.example. 300 A 192.0.2.1\n");
}

#[test]
fn a_short_reply_without_a_cookie_is_truncated_and_holds_nothing() {
    let mut worker = Worker::new();
    let client = "198.51.100.7";
    let mut short = |message: &Message| {
        worker.flood(message, client, 20);
        let short = (0..2).find_map(|_| worker.ask(message, client, Transport::Udp).0);
        text(&short.expect("one of two slips"))
    };
    assert_eq!(short(&query("www.example. A")), "NOERROR tc\n");
    assert_eq!(short(&with_edns(query("gone.example. A"), 4096)), "NOERROR tc\nedns 1232\n");
    let subnet = with_subnet(query("dynamic.example. A"), "10.1.2.0", 24);
    assert_eq!(short(&subnet), "NOERROR tc\nedns 1232 10.1.2.0/24/0\n");
}

/// What a victim gets for the bytes that were sent in its name.
#[test]
fn nobody_without_a_cookie_gets_more_bytes_than_were_sent_in_their_name() {
    let mut nsid = with_edns(query("big.example. TXT"), 4096);
    nsid.edns.as_mut().unwrap().options_mut().insert(EdnsOption::Unknown(3, Vec::new()));
    for message in [
        query("big.example. TXT"),
        nsid,
        with_subnet(query("dynamic.example. A"), "2001:db8::", 56),
        with_cookie("big.example. TXT", b"client-1"),
        with_cookie("big.example. TXT", &[1; 24]),
        query("gone.example. A"),
        query("elsewhere.test. A"),
    ] {
        let mut worker = Worker::new();
        worker.flood(&message, "198.51.100.7", LIMIT as usize);
        let query = message.to_vec().expect("an encodable query").len();
        let has_cookie =
            message.edns.as_ref().is_some_and(|edns| edns.option(EdnsCode::from(COOKIE)).is_some());
        let server_cookie = if has_cookie { 16 } else { 0 };
        let mut received = 0;
        const QUERIES: usize = 1000;
        for _ in 0..QUERIES {
            worker.ask(&message, "198.51.100.7", Transport::Udp);
            let length = worker.reply.bytes.len();
            assert!(
                length <= query + server_cookie,
                "{length} bytes for {query}, asking {:?}",
                message.queries
            );
            received += length;
        }
        let sent = QUERIES * query;
        assert!(received <= sent, "{received} bytes for {sent}, asking {:?}", message.queries);
    }
}

#[test]
fn both_lanes_limit_alike() {
    let mut worker = Worker::new();
    let (mut express, mut general) = (Reply::new(1), Reply::new(1));
    let arrival = Arrival {
        peer: SocketAddr::from(([198, 51, 100, 7], 5353)),
        local: SocketAddr::from(([192, 0, 2, 53], 53)),
        transport: Transport::Udp,
        encrypted: false,
        keepalive: None,
    };
    worker.now = NOW;
    let message = query("www.example. A").to_vec().expect("an encodable query");
    for _ in 0..20 {
        let one = handle(&worker.snapshot, &message, arrival, worker.now, &mut express);
        let other = handle_generally(&worker.snapshot, &message, arrival, worker.now, &mut general);
        assert_eq!((one, &express.bytes), (other, &general.bytes));
    }
}
