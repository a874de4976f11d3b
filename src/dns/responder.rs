//! From a message to what a listener does about it, the same for every transport.

use std::cell::RefCell;
use std::hash::{BuildHasher, Hasher, RandomState};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use arc_swap::{ArcSwap, Guard};

use super::Shared;
use super::counters::{Block, RCODES, Totals};
use super::query_log::{Fate, Recorder};
use crate::answer::{AnswerKind, Arrival, Client, Outcome, Reply, Transport, refuse};
use crate::model::Unix;
use crate::net::clock::Clock;
use crate::net::record_log::Queue;
use crate::snapshot::Snapshot;
use crate::traffic::{Answers, Book, Meter};

/// [`answer::handle`](crate::answer::handle), or a test's stand-in.
pub(super) type Handler = fn(&Snapshot, &[u8], Arrival, Unix, &mut Reply) -> Outcome;

/// What one worker or connection needs to answer.
#[derive(Debug)]
pub(super) struct Responder {
    snapshots: Arc<ArcSwap<Snapshot>>,
    handler: Handler,
    reply: Reply,
    block: Arc<Block>,
    book: Books,
    /// `None` in tests that log nothing.
    recorder: Option<Recorder>,
}

/// Where a responder counts who asks: in a book that nobody else writes to.
#[derive(Debug)]
enum Books {
    /// In its own.
    Own(Arc<Book>),
    /// In that of the thread that it happens to run on.
    OfThread(Arc<Meter>),
}

thread_local! {
    /// The book of this thread, and the meter that it belongs to.
    static BOOK: RefCell<Option<(Arc<Meter>, Arc<Book>)>> = const { RefCell::new(None) };
}

impl Books {
    fn get(&self) -> Arc<Book> {
        match self {
            Self::Own(book) => Arc::clone(book),
            Self::OfThread(meter) => BOOK.with_borrow_mut(|of_thread| match of_thread {
                Some((known, book)) if Arc::ptr_eq(known, meter) => Arc::clone(book),
                _ => {
                    let book = meter.book();
                    *of_thread = Some((Arc::clone(meter), Arc::clone(&book)));
                    book
                }
            }),
        }
    }
}

/// Messages answered from one snapshot at one time. Added to the counters when dropped.
pub(super) struct Batch<'a> {
    snapshot: Guard<Arc<Snapshot>>,
    now: Unix,
    handler: Handler,
    reply: &'a mut Reply,
    block: &'a Block,
    book: Arc<Book>,
    answers: Guard<Arc<Answers>>,
    tally: Totals,
    recorder: Option<&'a mut Recorder>,
}

/// What a listener does about a message.
pub(super) enum Reaction<'a> {
    /// Send this one message.
    Reply(&'a mut Vec<u8>),
    /// Send nothing.
    Ignore,
}

impl Responder {
    /// Counts in a block of its own.
    pub(super) fn new(shared: &Shared, handler: Handler) -> Self {
        let book = Books::Own(shared.counters.traffic.book());
        Self::counting_in(shared.counters.block(), book, shared, handler)
    }

    /// Counts in a block that it shares. Each of its batches must end on the thread that began it.
    pub(super) fn sharing(block: Arc<Block>, shared: &Shared, handler: Handler) -> Self {
        let book = Books::OfThread(Arc::clone(&shared.counters.traffic));
        Self::counting_in(block, book, shared, handler)
    }

    fn counting_in(block: Arc<Block>, book: Books, shared: &Shared, handler: Handler) -> Self {
        let (snapshots, reply) = (Arc::clone(&shared.snapshots), Reply::new(seed()));
        Self { snapshots, handler, reply, block, book, recorder: None }
    }

    /// Records queries, if the config wants that, for the query log.
    pub(super) fn recording_to(self, log: &Queue) -> Self {
        Self { recorder: Some(Recorder::new(log)), ..self }
    }

    /// Hands on what was recorded: more may take long to come.
    pub(super) fn flush(&self) {
        if let Some(recorder) = &self.recorder {
            recorder.flush();
        }
    }

    /// Starts a batch.
    pub(super) fn batch(&mut self) -> Batch<'_> {
        let snapshot = self.snapshots.load();
        let book = self.book.get();
        Batch {
            answers: book.turn_to(&snapshot.plan.topology, &snapshot.plan.geo),
            book,
            snapshot,
            now: Clock::unix(),
            handler: self.handler,
            reply: &mut self.reply,
            block: &self.block,
            tally: Totals::default(),
            recorder: self.recorder.as_mut(),
        }
    }
}

impl Batch<'_> {
    /// Answers a message and counts it.
    pub(super) fn answer(&mut self, message: &[u8], arrival: Arrival) -> Reaction<'_> {
        match arrival.transport {
            Transport::Udp => self.tally.udp_queries += 1,
            Transport::Tcp => self.tally.tcp_queries += 1,
        }
        let (handler, snapshot, now) = (self.handler, &**self.snapshot, self.now);
        let is_allowed = snapshot.plan.allow.permit(arrival.peer.ip());
        if !is_allowed {
            self.tally.denied += 1;
            if arrival.transport == Transport::Tcp {
                self.record(message, &arrival, Fate::Denied, false);
                return Reaction::Ignore;
            }
        }
        let handler = if is_allowed { handler } else { refuse };
        let reply = &mut *self.reply;
        let outcome = catch_unwind(AssertUnwindSafe(|| handler(snapshot, message, arrival, now, reply)));
        match outcome {
            Ok(Outcome::Answered { rcode, truncated, kind }) => {
                if let AnswerKind::Dynamic { service, region } = kind {
                    let Client { address, subnet } = self.reply.client;
                    let geo = &snapshot.plan.geo;
                    self.book.count(&self.answers, geo, (service, region), (address, subnet));
                }
                self.tally.responses[usize::from(rcode).min(RCODES - 1)] += 1;
                self.tally.truncated += u64::from(truncated);
                self.tally.slipped += u64::from(kind == AnswerKind::Slipped);
                let fate = if is_allowed { Fate::Answered(kind) } else { Fate::Denied };
                self.record(message, &arrival, fate, true);
                Reaction::Reply(&mut self.reply.bytes)
            }
            Ok(Outcome::Limited) => {
                self.tally.limited += 1;
                self.record(message, &arrival, Fate::Limited, false);
                Reaction::Ignore
            }
            Ok(Outcome::Dropped) => {
                self.tally.dropped += 1;
                self.record(message, &arrival, Fate::Dropped, false);
                Reaction::Ignore
            }
            Err(_) => {
                let Arrival { peer, local, transport, encrypted, .. } = arrival;
                tracing::error!(client = %peer, %local, ?transport, encrypted, "dropped a query whose answer panicked");
                self.tally.dropped += 1;
                self.tally.panics += 1;
                // The panic may have left it in any state.
                *self.reply = Reply::new(seed());
                self.record(message, &arrival, Fate::Dropped, false);
                Reaction::Ignore
            }
        }
    }

    /// Records a message and what became of it, if the config wants that.
    fn record(&mut self, message: &[u8], arrival: &Arrival, fate: Fate, is_answered: bool) {
        let plan = &self.snapshot.plan;
        if let (Some(log), Some(recorder)) = (&plan.query_log, &mut self.recorder)
            && recorder.draw(log.sample)
        {
            let reply = is_answered.then_some(&*self.reply.bytes);
            recorder.record(plan, arrival, self.now, message, (fate, reply));
        }
    }

    /// Counts a datagram that is not even read, because its answer would hit a service that answers in turn.
    pub(super) fn reflection(&mut self) {
        self.tally.udp_queries += 1;
        self.tally.reflections += 1;
    }

    /// Counts answers that could not be sent.
    pub(super) fn unsent(&mut self, answers: usize) {
        self.tally.unsent += answers as u64;
    }
}

impl Drop for Batch<'_> {
    fn drop(&mut self) {
        self.block.add(&self.tally);
        if let Some(recorder) = &self.recorder {
            recorder.flush_old(self.now);
        }
    }
}

/// A random number of the operating system, by way of the hasher that std seeds with one.
pub(super) fn seed() -> u64 {
    RandomState::new().build_hasher().finish()
}
