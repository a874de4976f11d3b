//! From a query to its answer, the same for every transport.

use std::hash::{BuildHasher, Hasher, RandomState};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use arc_swap::{ArcSwap, Guard};

use super::Shared;
use super::counters::{Block, RCODES, Totals};
use crate::answer::{Arrival, Outcome, Reply, Transport};
use crate::model::Unix;
use crate::net::clock::Clock;
use crate::snapshot::Snapshot;

/// [`answer::handle`](crate::answer::handle); tests put one in its place that panics when asked to.
pub(super) type Handle = fn(&Snapshot, &[u8], Arrival, Unix, &mut Reply) -> Outcome;

/// What one worker or connection answers with.
#[derive(Debug)]
pub(super) struct Responder {
    snapshots: Arc<ArcSwap<Snapshot>>,
    handle: Handle,
    reply: Reply,
    block: Arc<Block>,
}

/// A batch: one snapshot, one moment. Counted when dropped.
pub(super) struct Turn<'a> {
    snapshot: Guard<Arc<Snapshot>>,
    now: Unix,
    handle: Handle,
    reply: &'a mut Reply,
    block: &'a Block,
    tally: Totals,
}

impl Responder {
    /// One with a block of counters of its own.
    pub(super) fn new(shared: &Shared, handle: Handle) -> Self {
        Self::counting_in(shared.counters.block(), shared, handle)
    }

    /// One that shares a block of counters.
    pub(super) fn counting_in(block: Arc<Block>, shared: &Shared, handle: Handle) -> Self {
        Self { snapshots: Arc::clone(&shared.snapshots), handle, reply: Reply::new(seed()), block }
    }

    /// Starts a batch.
    pub(super) fn turn(&mut self) -> Turn<'_> {
        Turn {
            snapshot: self.snapshots.load(),
            now: Clock::unix(),
            handle: self.handle,
            reply: &mut self.reply,
            block: &self.block,
            tally: Totals::default(),
        }
    }
}

impl Turn<'_> {
    /// The answer to a query, `None` if it gets none.
    pub(super) fn answer(&mut self, query: &[u8], arrival: Arrival) -> Option<&mut Vec<u8>> {
        match arrival.transport {
            Transport::Udp => self.tally.udp_queries += 1,
            Transport::Tcp => self.tally.tcp_queries += 1,
        }
        let (handle, snapshot, now) = (self.handle, &**self.snapshot, self.now);
        let reply = &mut *self.reply;
        let outcome = catch_unwind(AssertUnwindSafe(|| handle(snapshot, query, arrival, now, reply)));
        match outcome {
            Ok(Outcome::Answered { rcode, truncated, .. }) => {
                self.tally.responses[usize::from(rcode).min(RCODES - 1)] += 1;
                self.tally.truncated += u64::from(truncated);
                Some(&mut self.reply.bytes)
            }
            Ok(Outcome::Dropped) => {
                self.tally.dropped += 1;
                None
            }
            Err(_) => {
                tracing::error!(client = %arrival.peer, "a query made its answer panic; it is dropped");
                self.tally.dropped += 1;
                self.tally.panics += 1;
                // Whatever state it was left in.
                *self.reply = Reply::new(seed());
                None
            }
        }
    }

    /// Counts answers that could not be sent.
    pub(super) fn unsent(&mut self, answers: usize) {
        self.tally.unsent += answers as u64;
    }
}

impl Drop for Turn<'_> {
    fn drop(&mut self) {
        self.block.add(&self.tally);
    }
}

/// From the operating system's random source, by way of the hasher that std seeds from it.
fn seed() -> u64 {
    RandomState::new().build_hasher().finish()
}
