//! The batch loop of a worker over an exchange in memory.

use std::collections::VecDeque;
use std::io;
use std::mem;
use std::net::SocketAddr;
use std::sync::atomic::AtomicBool;

use super::{UNANSWERED, echo, shared};
use crate::answer::{AnswerKind, Arrival, Outcome, Reply, Transport};
use crate::dns::responder::Responder;
use crate::dns::udp::{BATCHES_TO_DRAIN, run};
use crate::model::Unix;
use crate::net::exchange::{Datagram, Exchange, Wait};
use crate::snapshot::Snapshot;
use crate::supervise::Supervisor;

/// An answer that [`Memory`] cannot send.
const UNSENDABLE: &[u8] = b"unsendable";

/// Batches to receive, and what was sent of each.
#[derive(Default)]
struct Memory {
    queued: VecDeque<Vec<Vec<u8>>>,
    /// Whether the last batch comes again and again.
    endless: bool,
    /// The ports that the datagrams of a batch come from; by default those of [`peer`].
    ports: Vec<u16>,
    batch: Vec<Vec<u8>>,
    taken: Vec<(SocketAddr, Vec<u8>)>,
    sent: Vec<Vec<(SocketAddr, Vec<u8>)>>,
}

impl Memory {
    fn of(batches: &[&[&[u8]]]) -> Self {
        let queued = batches.iter().map(|batch| batch.iter().map(|bytes| bytes.to_vec()).collect()).collect();
        Self { queued, ..Self::default() }
    }

    fn drain(&mut self, responder: Responder) {
        run(self, responder, &AtomicBool::new(true), &Supervisor::default().part("the worker of the test"));
    }
}

/// The sender of the datagram at an index, unless [`Memory::ports`] has another port.
fn peer(index: usize) -> SocketAddr {
    SocketAddr::from(([192, 0, 2, 1], 1024 + index as u16))
}

impl Exchange for Memory {
    fn receive(&mut self, wait: Wait) -> io::Result<usize> {
        assert_eq!(wait, Wait::Not, "the worker is stopping");
        self.batch = match self.queued.pop_front() {
            Some(last) if self.endless => {
                self.queued.push_front(last.clone());
                last
            }
            next => next.unwrap_or_default(),
        };
        Ok(self.batch.len())
    }

    fn query(&self, index: usize) -> Datagram<'_> {
        let local = SocketAddr::from(([192, 0, 2, 53], 53));
        let mut peer = peer(index);
        peer.set_port(self.ports.get(index).copied().unwrap_or_else(|| peer.port()));
        Datagram { bytes: &self.batch[index], peer, local }
    }

    fn answer(&mut self, index: usize, bytes: &mut Vec<u8>) {
        self.taken.push((peer(index), mem::take(bytes)));
    }

    fn flush(&mut self) -> usize {
        let taken = self.taken.len();
        self.taken.retain(|(_, bytes)| bytes != UNSENDABLE);
        let refused = taken - self.taken.len();
        self.sent.push(mem::take(&mut self.taken));
        refused
    }
}

#[test]
fn each_batch_is_answered_in_order_and_sent_at_once() {
    let mut exchange = Memory::of(&[&[b"first", UNANSWERED, b"third"], &[UNSENDABLE, b"second"]]);
    let shared = shared();
    exchange.drain(Responder::new(&shared, echo));
    let answer = |index, bytes: &[u8]| (peer(index), bytes.to_vec());
    assert_eq!(exchange.sent, [vec![answer(0, b"first"), answer(2, b"third")], vec![answer(1, b"second")]]);
    let totals = shared.counters.totals();
    assert_eq!((totals.udp_queries, totals.responses[3]), (5, 4));
    assert_eq!((totals.dropped, totals.unsent), (1, 1));
}

#[test]
fn services_that_answer_anything_are_not_answered() {
    let ports = vec![0, 1, 7, 9, 13, 16, 17, 18, 19, 20, 53];
    let batch: Vec<Vec<u8>> = ports.iter().map(|port| port.to_string().into_bytes()).collect();
    let mut exchange = Memory { queued: [batch].into(), ports, ..Memory::default() };
    let shared = shared();
    exchange.drain(Responder::new(&shared, echo));
    let answered: Vec<_> = exchange.sent[0].iter().map(|(_, bytes)| String::from_utf8_lossy(bytes)).collect();
    assert_eq!(answered, ["1", "9", "16", "18", "20", "53"]);
    let totals = shared.counters.totals();
    assert_eq!((totals.udp_queries, totals.responses[3], totals.reflections), (11, 6, 5));
}

#[test]
fn draining_ends_although_queries_keep_coming() {
    let mut exchange = Memory { endless: true, ..Memory::of(&[&[b"query"]]) };
    exchange.drain(Responder::new(&shared(), echo));
    assert_eq!(exchange.sent.len(), BATCHES_TO_DRAIN);
}

/// Replies with the addresses of the arrival, after checking its other fields.
fn describe(_: &Snapshot, _: &[u8], arrival: Arrival, _: Unix, reply: &mut Reply) -> Outcome {
    let Arrival { peer, local, transport: Transport::Udp, encrypted: false, keepalive: None } = arrival
    else {
        return Outcome::Dropped;
    };
    reply.bytes = format!("{peer} {local}").into_bytes();
    Outcome::Answered { rcode: 0, kind: AnswerKind::Static, truncated: false }
}

#[test]
fn the_handler_knows_how_a_datagram_arrived() {
    let mut exchange = Memory::of(&[&[b"", b""]]);
    exchange.drain(Responder::new(&shared(), describe));
    let described: Vec<_> =
        exchange.sent[0].iter().map(|(_, bytes)| String::from_utf8_lossy(bytes)).collect();
    assert_eq!(described, ["192.0.2.1:1024 192.0.2.53:53", "192.0.2.1:1025 192.0.2.53:53"]);
}
