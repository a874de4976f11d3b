//! Counters of queries and answers. No two threads write to one cache line.

use std::ops::AddAssign;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use super::responder::seed;
use crate::net::limits::Occupancy;
use crate::traffic::Meter;

/// Response codes that have counters of their own. The highest assigned is 23 (BADCOOKIE); higher ones count as the
/// last.
pub const RCODES: usize = 32;

/// Sums since the start of the process.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Totals {
    /// Datagrams received.
    pub udp_queries: u64,
    /// Messages received over TCP.
    pub tcp_queries: u64,
    /// Answers given, by response code, the extended ones of EDNS included.
    pub responses: [u64; RCODES],
    /// Of those, answers with TC set (RFC 1035 §4.1.1): the client retries over TCP.
    pub truncated: u64,
    /// Of those, short ones that replaced answers beyond the rate limit.
    pub slipped: u64,
    /// Queries without an answer, because it would have exceeded the rate limit.
    pub limited: u64,
    /// Messages without an answer, because they are not queries.
    pub dropped: u64,
    /// Answers that could not be sent.
    pub unsent: u64,
    /// Queries whose answer panicked; each is also counted as dropped.
    pub panics: u64,
    /// Datagrams dropped unread because of the port that they claim to come from.
    pub reflections: u64,
    /// UDP queries and TCP connections refused, because their client is not allowed to ask.
    pub denied: u64,
    /// TCP connections closed to make room for others.
    pub evicted: u64,
    /// TCP connections of proxies closed because they did not begin with a valid PROXY header.
    pub unnamed: u64,
}

impl AddAssign for Totals {
    fn add_assign(&mut self, more: Self) {
        self.udp_queries += more.udp_queries;
        self.tcp_queries += more.tcp_queries;
        for (sum, responses) in self.responses.iter_mut().zip(more.responses) {
            *sum += responses;
        }
        self.truncated += more.truncated;
        self.slipped += more.slipped;
        self.limited += more.limited;
        self.dropped += more.dropped;
        self.unsent += more.unsent;
        self.panics += more.panics;
        self.reflections += more.reflections;
        self.denied += more.denied;
        self.evicted += more.evicted;
        self.unnamed += more.unnamed;
    }
}

/// The counters of all listeners, past and present.
#[derive(Debug)]
pub struct Counters {
    /// The open TCP connections.
    pub tcp_connections: Arc<Occupancy>,
    /// Who asks.
    pub traffic: Arc<Meter>,
    /// Records of the query log that were not written.
    pub query_log_dropped: Arc<AtomicU64>,
    blocks: Mutex<Vec<Arc<Block>>>,
}

/// The counters of one writer. Aligned to two cache lines, because the processor fetches them in pairs.
#[derive(Debug, Default)]
#[repr(align(128))]
pub(super) struct Block {
    udp_queries: AtomicU64,
    tcp_queries: AtomicU64,
    responses: [AtomicU64; RCODES],
    truncated: AtomicU64,
    slipped: AtomicU64,
    limited: AtomicU64,
    dropped: AtomicU64,
    unsent: AtomicU64,
    panics: AtomicU64,
    reflections: AtomicU64,
    denied: AtomicU64,
    evicted: AtomicU64,
    unnamed: AtomicU64,
}

impl Default for Counters {
    fn default() -> Self {
        Self {
            tcp_connections: Arc::default(),
            traffic: Arc::new(Meter::new(seed())),
            query_log_dropped: Arc::default(),
            blocks: Mutex::default(),
        }
    }
}

impl Counters {
    /// The sum over all writers. They go on counting meanwhile, so the sums may be of slightly different times.
    #[must_use]
    pub fn totals(&self) -> Totals {
        let mut totals = Totals::default();
        for block in &*self.blocks.lock().unwrap_or_else(PoisonError::into_inner) {
            totals += block.read();
        }
        totals
    }

    /// A block for one writer. Blocks whose writer is gone are used again, so that connections and reloads do not
    /// accumulate them.
    pub(super) fn block(&self) -> Arc<Block> {
        let mut blocks = self.blocks.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(orphan) = blocks.iter().find(|block| Arc::strong_count(block) == 1) {
            return Arc::clone(orphan);
        }
        let block = Arc::new(Block::default());
        blocks.push(Arc::clone(&block));
        block
    }
}

impl Block {
    /// Adds the counts of a batch.
    pub(super) fn add(&self, batch: &Totals) {
        let add = |counter: &AtomicU64, n: u64| {
            if n != 0 {
                counter.fetch_add(n, Ordering::Relaxed);
            }
        };
        add(&self.udp_queries, batch.udp_queries);
        add(&self.tcp_queries, batch.tcp_queries);
        for (counter, n) in self.responses.iter().zip(batch.responses) {
            add(counter, n);
        }
        add(&self.truncated, batch.truncated);
        add(&self.slipped, batch.slipped);
        add(&self.limited, batch.limited);
        add(&self.dropped, batch.dropped);
        add(&self.unsent, batch.unsent);
        add(&self.panics, batch.panics);
        add(&self.reflections, batch.reflections);
        add(&self.denied, batch.denied);
        add(&self.evicted, batch.evicted);
        add(&self.unnamed, batch.unnamed);
    }

    fn read(&self) -> Totals {
        let read = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        Totals {
            udp_queries: read(&self.udp_queries),
            tcp_queries: read(&self.tcp_queries),
            responses: std::array::from_fn(|rcode| read(&self.responses[rcode])),
            truncated: read(&self.truncated),
            slipped: read(&self.slipped),
            limited: read(&self.limited),
            dropped: read(&self.dropped),
            unsent: read(&self.unsent),
            panics: read(&self.panics),
            reflections: read(&self.reflections),
            denied: read(&self.denied),
            evicted: read(&self.evicted),
            unnamed: read(&self.unnamed),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn totals_sum_all_writers_and_outlive_them() {
        let counters = Counters::default();
        let mut batch =
            Totals { udp_queries: 1, tcp_queries: 2, truncated: 3, dropped: 4, ..Totals::default() };
        (batch.unsent, batch.panics) = (5, 6);
        (batch.slipped, batch.limited) = (7, 8);
        (batch.reflections, batch.evicted, batch.denied, batch.unnamed) = (9, 10, 11, 12);
        batch.responses = std::array::from_fn(|rcode| rcode as u64);
        let (first, second) = (counters.block(), counters.block());
        first.add(&batch);
        assert_eq!(counters.totals(), batch);
        second.add(&batch);
        drop((first, second));
        let mut twice = batch;
        twice += batch;
        assert_eq!(counters.totals(), twice);
        let _third = counters.block();
        assert_eq!(counters.blocks.lock().unwrap().len(), 2, "a block without a writer is used again");
    }
}
