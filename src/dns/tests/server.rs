//! Whole servers over real sockets.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream, UdpSocket};
use std::sync::atomic::AtomicBool;
use std::sync::{Arc, Condvar, Mutex};
use std::time::Duration;

use super::{PANIC, TRUNCATED, UNANSWERED, echo, framed, limits, shared};
use crate::answer::{Arrival, Outcome, Reply};
use crate::dns::connections::Quota;
use crate::dns::responder::{Handler, Responder};
use crate::dns::tcp::Limits;
use crate::dns::udp::run;
use crate::dns::{Listeners, Server, Shared};
use crate::model::Unix;
use crate::net::listen::Udp;
use crate::net::udp::Socket;
use crate::snapshot::{Plan, Snapshot};

/// Far more than loopback ever needs; a test that waits this long has failed.
pub(super) const PATIENCE: Duration = Duration::from_secs(10);

fn start(shared: &Shared, listen: &[&str], workers: usize, limits: Limits) -> Listeners {
    start_by(echo, shared, listen, workers, limits)
}

pub(super) fn start_by(
    handler: Handler,
    shared: &Shared,
    listen: &[&str],
    workers: usize,
    limits: Limits,
) -> Listeners {
    let listen: Vec<SocketAddr> = listen.iter().map(|address| address.parse().unwrap()).collect();
    Server::bind(&listen, workers).unwrap().start_with(shared, handler, limits).unwrap()
}

fn udp_client(server: SocketAddr) -> UdpSocket {
    let any = if server.is_ipv4() { "127.0.0.1:0" } else { "[::1]:0" };
    let socket = UdpSocket::bind(any).unwrap();
    socket.connect(server).unwrap();
    socket.set_read_timeout(Some(PATIENCE)).unwrap();
    socket
}

fn tcp_client(server: SocketAddr) -> TcpStream {
    let stream = TcpStream::connect(server).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    stream
}

fn received(client: &UdpSocket) -> Vec<u8> {
    let mut bytes = [0; 512];
    let len = client.recv(&mut bytes).unwrap();
    bytes[..len].to_vec()
}

/// One query there and back.
fn ask(client: &mut TcpStream, query: &[u8]) {
    let query = framed([query]);
    client.write_all(&query).unwrap();
    let mut answer = vec![0; query.len()];
    client.read_exact(&mut answer).unwrap();
    assert_eq!(answer, query);
}

/// Multi-threaded, because the clients block while the server's runtime must go on.
#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn both_transports_and_families_are_answered_and_counted() {
    let mut listen = vec!["127.0.0.1:0"];
    if UdpSocket::bind("[::1]:0").is_ok() {
        listen.push("[::1]:0");
    }
    let shared = shared();
    let running = start(&shared, &listen, 2, limits());
    for &address in running.local_addrs() {
        // Different ports, so that both workers get some.
        for n in 0..20 {
            let client = udp_client(address);
            client.send(&[n; 20]).unwrap();
            assert_eq!(received(&client), [n; 20]);
        }
        let mut client = tcp_client(address);
        for n in 0..5 {
            ask(&mut client, &[n; 20]);
        }
    }
    let addresses = listen.len() as u64;
    running.stop().await;
    let totals = shared.counters.totals();
    assert_eq!((totals.udp_queries, totals.tcp_queries), (20 * addresses, 5 * addresses));
    assert_eq!((totals.responses[3], totals.dropped, totals.unsent), (25 * addresses, 0, 0));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn a_panic_costs_one_query_and_no_worker() {
    let shared = shared();
    let running = start(&shared, &["127.0.0.1:0"], 1, limits());
    let client = udp_client(running.local_addrs()[0]);
    for query in [PANIC, UNANSWERED, TRUNCATED] {
        client.send(query).unwrap();
    }
    assert_eq!(received(&client), TRUNCATED);
    running.stop().await;
    let totals = shared.counters.totals();
    assert_eq!((totals.udp_queries, totals.panics, totals.dropped, totals.truncated), (3, 1, 2, 1));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn queries_before_the_start_wait() {
    let server = Server::bind(&["127.0.0.1:0".parse().unwrap()], 2).unwrap();
    let client = udp_client(server.local_addrs()[0]);
    client.send(b"early").unwrap();
    let running = server.start_with(&shared(), echo, limits()).unwrap();
    assert_eq!(received(&client), b"early");
    running.stop().await;
}

#[test]
fn a_worker_that_stops_answers_what_is_queued() {
    let Udp { address, mut sockets } = Udp::bind("127.0.0.1:0".parse().unwrap(), 1, "listen").unwrap();
    let clients: Vec<_> = (0..10).map(|_| udp_client(address)).collect();
    for client in &clients {
        for n in 0..20 {
            client.send(&[n; 12]).unwrap();
        }
    }
    let mut socket = Socket::new(sockets.remove(0), address);
    let part = shared().supervisor.part("the worker of the test");
    run(&mut socket, Responder::new(&shared(), echo), &AtomicBool::new(true), &part);
    for client in &clients {
        for n in 0..20 {
            assert_eq!(received(client), [n; 12]);
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn a_stop_closes_connections_and_frees_the_port() {
    let running = start(&shared(), &["127.0.78.1:0"], 1, limits());
    let address = running.local_addrs()[0];
    let mut client = tcp_client(address);
    ask(&mut client, b"one query, so that it is accepted");
    running.stop().await;
    assert_eq!(client.read(&mut [0]).unwrap(), 0);
    let again = start(&shared(), &[&address.to_string()], 1, limits());
    ask(&mut tcp_client(address), b"query");
    again.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn a_connection_too_many_replaces_the_longest_idle() {
    let limits = Limits { quota: Quota { total: 2, per_prefix: 2 }, ..limits() };
    let shared = shared();
    let running = start(&shared, &["127.0.0.1:0"], 1, limits);
    let mut clients: Vec<_> = (0..3).map(|_| None).collect();
    for client in &mut clients {
        ask(client.insert(tcp_client(running.local_addrs()[0])), b"query");
    }
    let [Some(first), Some(second), Some(third)] = &mut clients[..] else { unreachable!("all connected") };
    assert_eq!(first.read(&mut [0]).unwrap(), 0);
    ask(second, b"still there");
    ask(third, b"still there");
    running.stop().await;
    assert_eq!(shared.counters.totals().evicted, 1);
}

#[tokio::test]
async fn only_allowed_clients_are_answered() {
    let query = b"\0\x07\0\0\0\x01\0\0\0\0\0\0\x04test\0\0\x01\0\x01";
    let mut refused = query.to_vec();
    (refused[2], refused[3]) = (0x80, 5);
    let shared = shared();
    let allow = |network: &str| {
        let allow = [network.parse().unwrap()].into_iter().collect();
        let plan = Plan { allow, ..Plan::default() };
        shared
            .snapshots
            .store(Arc::new(Snapshot { plan: Arc::new(plan), ..Snapshot::clone(&shared.snapshots.load()) }));
    };
    allow("127.0.0.1/32");
    let running = start(&shared, &["127.0.0.1:0"], 1, limits());
    let address = running.local_addrs()[0];
    let (udp, mut tcp) = (udp_client(address), tcp_client(address));
    udp.send(query).unwrap();
    assert_eq!(received(&udp), query, "the echo");
    ask(&mut tcp, query);
    // A reload applies to the connections that are open, too.
    allow("192.0.2.0/24");
    udp.send(query).unwrap();
    assert_eq!(received(&udp), refused);
    udp.send(&refused).unwrap();
    tcp.write_all(&framed([&query[..]])).unwrap();
    assert_eq!(tcp.read(&mut [0]).unwrap(), 0);
    assert_eq!(tcp_client(address).read(&mut [0]).unwrap(), 0);
    running.stop().await;
    let totals = shared.counters.totals();
    assert_eq!((totals.denied, totals.dropped, totals.responses[5]), (4, 1, 1));
}

/// How many queries [`wait`] is answering, and whether it may end.
static WAITING: (Mutex<(usize, bool)>, Condvar) = (Mutex::new((0, false)), Condvar::new());

/// An answer that takes as long as the test wants.
fn wait(_: &Snapshot, _: &[u8], _: Arrival, _: Unix, _: &mut Reply) -> Outcome {
    let (state, changed) = &WAITING;
    let mut state = state.lock().unwrap();
    state.0 += 1;
    let (_state, timeout) = changed.wait_timeout_while(state, PATIENCE, |(_, may_end)| !*may_end).unwrap();
    assert!(!timeout.timed_out(), "nothing else runs while a query over TCP is answered");
    Outcome::Dropped
}

/// On a runtime of one thread, which queries over TCP would occupy if they ran there.
#[tokio::test]
async fn queries_over_tcp_do_not_delay_the_rest_of_the_process() {
    let shared = shared();
    let running = start_by(wait, &shared, &["127.0.0.1:0"], 1, limits());
    let threads = std::thread::available_parallelism().unwrap().get();
    let mut clients: Vec<_> = (0..2 * threads).map(|_| tcp_client(running.local_addrs()[0])).collect();
    for client in &mut clients {
        client.write_all(&framed([&b"query"[..]])).unwrap();
    }
    let (state, changed) = &WAITING;
    // Every thread of TCP becomes busy; this task and its timer go on.
    while state.lock().unwrap().0 < threads.div_ceil(2) {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    state.lock().unwrap().1 = true;
    changed.notify_all();
    running.stop().await;
    assert_eq!(shared.counters.totals().panics, 0);
}

#[tokio::test]
async fn a_second_server_on_the_port_is_refused_and_leaves_the_first_alone() {
    let listen = ["127.0.0.1:0".parse().unwrap()];
    let first = Server::bind(&listen, 2).unwrap();
    // The second list has a free address too, but either all addresses are bound or none.
    let error = Server::bind(&[listen[0], first.local_addrs()[0]], 2).unwrap_err().to_string();
    let in_use = format!("{} is in use: another server is listening there", first.local_addrs()[0]);
    assert!(error.starts_with(&in_use), "{error}");
}

#[test]
fn port_0_is_one_port_for_both_protocols() {
    let server = Server::bind(&["127.0.0.1:0".parse().unwrap()], 3).unwrap();
    let [address] = server.local_addrs()[..] else { panic!("one address") };
    assert_ne!(address.port(), 0);
    assert_eq!((server.udp[0].address, server.tcp[0].address), (address, address));
    assert_eq!(server.udp[0].sockets.len(), 3);
}

#[test]
fn a_server_that_holds_only_udp_is_noticed() {
    let listen = ["127.0.78.2:0".parse().unwrap()];
    let Server { addresses, udp, tcp } = Server::bind(&listen, 2).unwrap();
    drop(tcp);
    assert_eq!(Server::bind(&addresses, 2).unwrap_err().protocol, "UDP");
    drop(udp);
    Server::bind(&addresses, 2).unwrap();
}

#[test]
fn no_worker_count_means_one_per_core() {
    let server = Server::bind(&["127.0.0.1:0".parse().unwrap()], 0).unwrap();
    assert_eq!(server.udp[0].sockets.len(), std::thread::available_parallelism().unwrap().get());
}
