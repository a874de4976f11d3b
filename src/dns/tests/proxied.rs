//! PROXY headers, over real sockets unless time matters.

use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::sync::Arc;
use std::time::Duration;

use tokio::io::{AsyncWriteExt, duplex};
use tokio::time::{Instant, sleep};
use tokio_util::sync::CancellationToken;

use super::server::{PATIENCE, start_by};
use super::{framed, limits, shared};
use crate::answer::{AnswerKind, Arrival, Outcome, Reply};
use crate::dns::connections::Quota;
use crate::dns::proxied::read_header;
use crate::dns::tcp::Limits;
use crate::dns::{Listeners, Shared, Totals};
use crate::model::{Networks, Unix};
use crate::net::proxy_header::{Header, MAX_HEADER};
use crate::snapshot::{Plan, Snapshot};

const SIGNATURE: &[u8] = b"\r\n\r\n\0\r\nQUIT\n";

/// Answers with the client's address.
fn name_client(_: &Snapshot, _: &[u8], arrival: Arrival, _: Unix, reply: &mut Reply) -> Outcome {
    reply.bytes.clear();
    write!(reply.bytes, "{}", arrival.peer).unwrap();
    Outcome::Answered { rcode: 0, kind: AnswerKind::Static, truncated: false }
}

/// A server that trusts 127.0.0.1 and ::1 as proxies and answers the documentation's networks.
fn started(shared: &Shared, limits: Limits) -> Listeners {
    let proxies: Networks =
        ["127.0.0.1/32", "::1/128"].map(|text| text.parse().unwrap()).into_iter().collect();
    let allowed = ["192.0.2.0/24", "198.51.100.0/24", "2001:db8::/32", "127.0.0.2/32"];
    let allow = allowed.map(|text| text.parse().unwrap()).into_iter().collect();
    let plan = Arc::new(Plan { proxies, allow, ..Plan::default() });
    shared.snapshots.store(Arc::new(Snapshot { plan, ..Snapshot::clone(&shared.snapshots.load()) }));
    let listen: &[&str] = if TcpStream::connect("[::1]:1")
        .is_err_and(|error| error.kind() == std::io::ErrorKind::ConnectionRefused)
    {
        &["127.0.0.1:0", "[::1]:0"]
    } else {
        &["127.0.0.1:0"] // a host without IPv6
    };
    start_by(name_client, shared, listen, 1, limits)
}

fn client(server: SocketAddr) -> TcpStream {
    let stream = TcpStream::connect(server).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    stream.set_nodelay(true).unwrap();
    stream
}

/// What is answered to a header and a query, until the server closes.
fn answer(server: SocketAddr, header: &[u8]) -> String {
    let mut stream = client(server);
    // A server that closed already makes this fail.
    let sent = stream.write_all(&[header, &framed([&b"query"[..]])].concat());
    sent.and_then(|()| stream.shutdown(Shutdown::Write)).ok();
    rest(stream)
}

fn rest(mut stream: TcpStream) -> String {
    let mut bytes = Vec::new();
    stream.read_to_end(&mut bytes).ok();
    String::from_utf8_lossy(bytes.get(2..).unwrap_or_default()).into_owned()
}

fn binary(command: u8, family: u8, block: &[u8]) -> Vec<u8> {
    let length = u16::try_from(block.len()).unwrap().to_be_bytes();
    [SIGNATURE, &[0x20 | command, family], &length, block].concat()
}

const V4: &[u8] = &[192, 0, 2, 7, 127, 0, 0, 1, 0x12, 0x34, 0, 53];
const TLVS: &[u8] = b"\x02\0\x0bexample.com\x04\0\x03\0\0\0";

fn v6() -> Vec<u8> {
    let ip = |last: u8| [&[0x20, 1, 0x0d, 0xb8][..], &[0; 11], &[last]].concat();
    [ip(7), ip(1), vec![0x12, 0x34, 0, 53]].concat()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn the_header_names_the_client() {
    let shared = shared();
    let running = started(&shared, limits());
    for &server in running.local_addrs() {
        for (header, expected) in [
            (b"PROXY TCP4 192.0.2.7 127.0.0.1 4660 53\r\n".to_vec(), "192.0.2.7:4660"),
            (b"PROXY TCP6 2001:db8::7 2001:db8::1 4660 53\r\n".to_vec(), "[2001:db8::7]:4660"),
            (binary(1, 0x11, V4), "192.0.2.7:4660"),
            (binary(1, 0x11, &[V4, TLVS].concat()), "192.0.2.7:4660"),
            (binary(1, 0x21, &v6()), "[2001:db8::7]:4660"),
            (binary(1, 0x21, &[&v6(), TLVS].concat()), "[2001:db8::7]:4660"),
        ] {
            assert_eq!(answer(server, &header), expected, "{}", String::from_utf8_lossy(&header));
        }
    }
    running.stop().await;
    let totals = shared.counters.totals();
    assert_eq!((totals.unnamed, totals.denied), (0, 0));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn a_header_in_many_segments_is_put_together() {
    let shared = shared();
    let running = started(&shared, limits());
    let server = running.local_addrs()[0];
    for header in
        [b"PROXY TCP4 192.0.2.7 127.0.0.1 4660 53\r\n".to_vec(), binary(1, 0x11, &[V4, TLVS].concat())]
    {
        let mut stream = client(server);
        let query = framed([&b"query"[..]]);
        // The last segment holds the end of the header and the beginning of the query.
        let (head, tail) = header.split_at(header.len() - 1);
        for byte in head {
            stream.write_all(&[*byte]).unwrap();
        }
        stream.write_all(&[tail, &query[..1]].concat()).unwrap();
        stream.write_all(&query[1..]).unwrap();
        stream.shutdown(Shutdown::Write).unwrap();
        assert_eq!(rest(stream), "192.0.2.7:4660");
    }
    running.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn a_proxy_without_a_valid_header_is_disconnected() {
    let shared = shared();
    let running = started(&shared, limits());
    let server = running.local_addrs()[0];
    let wrong: [Vec<u8>; 9] = [
        Vec::new(), // the query itself
        b"PROXY TCP4 192.0.2.7 127.0.0.1 4660\r\n".to_vec(),
        b"PROXY TCP4 192.0.2.7 127.0.0.1 4660 65536\r\n".to_vec(),
        format!("PROXY UNKNOWN {}\r\n", "x".repeat(100)).into_bytes(),
        binary(2, 0x11, V4),
        [SIGNATURE, b"\x31\x11\0\x0c", V4].concat(),
        binary(1, 0x13, V4),
        binary(1, 0x11, &V4[1..]),
        binary(1, 0x11, &[0; MAX_HEADER]),
    ];
    for header in &wrong {
        assert_eq!(answer(server, header), "", "{}", String::from_utf8_lossy(header));
    }
    // Truncated: the proxy closes in the middle of its header.
    for header in [&b"PROXY TCP4 192."[..], &binary(1, 0x11, V4)[..20]] {
        let mut stream = client(server);
        stream.write_all(header).unwrap();
        stream.shutdown(Shutdown::Write).unwrap();
        assert_eq!(rest(stream), "");
    }
    // A health check that only connects is nobody's mistake.
    let stream = client(server);
    stream.shutdown(Shutdown::Write).unwrap();
    assert_eq!(rest(stream), "");
    running.stop().await;
    let totals = shared.counters.totals();
    assert_eq!((totals.unnamed, totals.tcp_queries), (wrong.len() as u64 + 2, 0));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn clients_that_may_not_ask_are_refused_behind_any_proxy() {
    let shared = shared();
    let running = started(&shared, limits());
    let server = running.local_addrs()[0];
    assert_eq!(answer(server, b"PROXY TCP4 203.0.113.7 127.0.0.1 4660 53\r\n"), "");
    // The proxy itself is a client where its header names none, and it is not allowed either.
    for header in
        [b"PROXY UNKNOWN\r\n".to_vec(), binary(0, 0, b""), binary(1, 0, b""), binary(1, 0x31, &[0; 216])]
    {
        assert_eq!(answer(server, &header), "");
    }
    running.stop().await;
    let totals = shared.counters.totals();
    assert_eq!((totals.denied, totals.unnamed, totals.tcp_queries), (5, 0, 0));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn a_header_that_names_nobody_keeps_the_address_of_the_connection() {
    let shared = shared();
    let running = started(&shared, limits());
    let server = running.local_addrs()[0];
    let plan = Plan { allow: Default::default(), ..Plan::clone(&shared.snapshots.load().plan) };
    shared
        .snapshots
        .store(Arc::new(Snapshot { plan: Arc::new(plan), ..Snapshot::clone(&shared.snapshots.load()) }));
    for header in [b"PROXY UNKNOWN\r\n".to_vec(), binary(0, 0, TLVS), binary(0, 0x11, V4)] {
        let answer = answer(server, &header);
        assert!(answer.starts_with("127.0.0.1:"), "{answer}");
    }
    running.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn nobody_else_is_believed() {
    let shared = shared();
    let running = started(&shared, limits());
    let server = running.local_addrs()[0];
    // A loopback address that is not in the list of proxies.
    let connect = || {
        let socket = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).unwrap();
        socket.bind(&SocketAddr::from(([127, 0, 0, 2], 0)).into()).unwrap();
        socket.connect(&server.into()).unwrap();
        let stream: TcpStream = socket.into();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        stream
    };
    let mut stream = connect();
    stream.write_all(&framed([&b"query"[..]])).unwrap();
    stream.shutdown(Shutdown::Write).unwrap();
    let answer = rest(stream);
    assert!(answer.starts_with("127.0.0.2:"), "{answer}");
    // As the beginning of a DNS message, the header's bytes are one of 20,562 bytes that never ends.
    let mut stream = connect();
    stream.write_all(b"PROXY TCP4 192.0.2.7 127.0.0.1 4660 53\r\n").unwrap();
    stream.write_all(&framed([&b"query"[..]])).unwrap();
    stream.shutdown(Shutdown::Write).unwrap();
    assert_eq!(rest(stream), "");
    running.stop().await;
    assert_eq!(shared.counters.totals().tcp_queries, 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn quotas_are_those_of_the_clients_behind_a_proxy() {
    let limits = Limits { quota: Quota { total: 4, per_prefix: 1 }, ..limits() };
    let shared = shared();
    let running = started(&shared, limits);
    let server = running.local_addrs()[0];
    let ask = |client_address: &str| {
        let mut stream = client(server);
        let header = format!("PROXY TCP4 {client_address} 127.0.0.1 4660 53\r\n");
        stream.write_all(&[header.as_bytes(), &framed([&b"query"[..]])].concat()).unwrap();
        let expected = format!("{client_address}:4660");
        let mut answer = vec![0; 2 + expected.len()];
        stream.read_exact(&mut answer).unwrap();
        assert_eq!(answer[2..], *expected.as_bytes());
        stream
    };
    let mut first = ask("192.0.2.7");
    let _other = ask("198.51.100.7");
    assert_eq!(shared.counters.totals().evicted, 0, "two networks");
    let _second = ask("192.0.2.8");
    assert_eq!(first.read(&mut [0]).unwrap(), 0, "one connection per network");
    running.stop().await;
    assert_eq!(shared.counters.totals(), Totals { evicted: 1, ..counted(3) });
}

/// So many queries over TCP, all answered.
fn counted(queries: u64) -> Totals {
    let mut totals = Totals { tcp_queries: queries, ..Totals::default() };
    totals.responses[0] = queries;
    totals
}

#[tokio::test(start_paused = true)]
async fn a_header_that_does_not_come_is_not_waited_for_longer_than_a_query() {
    let start = Instant::now();
    let (mut proxy, mut stream) = duplex(64);
    proxy.write_all(b"PROXY TCP4 ").await.unwrap();
    let error =
        read_header(&mut stream, &mut Vec::new(), limits(), &CancellationToken::new()).await.unwrap_err();
    assert_eq!((error.kind(), start.elapsed().as_secs()), (std::io::ErrorKind::TimedOut, 10));
}

#[tokio::test(start_paused = true)]
async fn trickling_a_header_does_not_prolong_the_wait() {
    let start = Instant::now();
    let (mut proxy, mut stream) = duplex(64);
    tokio::spawn(async move {
        // Never a whole header; it ends when the server is gone.
        for byte in *b"PROXY TCP4 192.0.2.7" {
            if proxy.write_all(&[byte]).await.is_err() {
                break;
            }
            sleep(Duration::from_secs(4)).await;
        }
    });
    let closing = CancellationToken::new();
    let error = read_header(&mut stream, &mut Vec::new(), limits(), &closing).await.unwrap_err();
    assert_eq!((error.kind(), start.elapsed().as_secs()), (std::io::ErrorKind::TimedOut, 10));
}

#[tokio::test(start_paused = true)]
async fn a_stop_waits_for_the_header_for_a_moment_only() {
    let start = Instant::now();
    let closing = CancellationToken::new();
    closing.cancel();
    let (mut proxy, mut stream) = duplex(64);
    let named = read_header(&mut stream, &mut Vec::new(), limits(), &closing).await;
    assert_eq!(named.unwrap(), None);
    assert!(start.elapsed() < Duration::from_secs(1), "{:?}", start.elapsed());
    proxy.write_all(b"PROXY UNKNOWN\r\nrest").await.unwrap();
    let mut received = Vec::new();
    let named = read_header(&mut stream, &mut received, limits(), &closing).await;
    assert_eq!(named.unwrap(), Some(Header { client: None, destination: None, length: 15 }));
    assert_eq!(received, b"rest");
}
