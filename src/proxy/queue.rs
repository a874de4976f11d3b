//! Room at the backends of a pool: how much each works on, and the requests that wait for room.
//!
//! Waiting requests are woken one by one, first come, first served, by whatever ends at a backend of the pool, on any
//! worker. Where nothing waits, that costs one look at a counter.

use std::net::SocketAddr;
use std::pin::pin;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering::Relaxed, Ordering::SeqCst};

use tokio::sync::Notify;
use tokio::time::{Instant, timeout_at};

use super::counters::PoolCounters;
use super::pools::{Backend, WorkerPool};
use crate::model::PoolLimits;
use crate::pick::Hash;

/// The requests of a pool that wait, of all workers.
#[derive(Debug, Default)]
pub struct Queue {
    /// How many wait.
    pub waiting: AtomicU32,
    /// Requests that did not get room: too many were waiting, or for too long.
    pub overflowed: AtomicU64,
    freed: Notify,
}

/// A request or connection that a backend works on.
pub(super) struct InFlight {
    pub(super) backend: Rc<Backend>,
    pool: Arc<PoolCounters>,
}

/// Why a request gets no backend.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Refusal {
    /// There is none that may be used.
    Unavailable,
    /// All are busy, and too many requests wait, or this one has for too long.
    Busy,
}

/// A request that waits.
struct Waiting<'a>(&'a Queue);

impl Queue {
    /// Something ended at a backend.
    fn wake_one(&self) {
        if self.waiting.load(SeqCst) > 0 {
            self.freed.notify_one();
        }
    }

    /// Lets all that wait look again: what is open has changed, or may have.
    pub(super) fn wake_all(&self) {
        if self.waiting.load(SeqCst) > 0 {
            self.freed.notify_waiters();
        }
    }

    fn enter(&self, limits: &PoolLimits) -> Option<Waiting<'_>> {
        if self.waiting.fetch_add(1, SeqCst) < limits.pending {
            return Some(Waiting(self));
        }
        self.waiting.fetch_sub(1, SeqCst);
        None
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.0.waiting.fetch_sub(1, SeqCst);
    }
}

impl InFlight {
    /// Counts a request at a backend, unless that has too many.
    pub(super) fn begin(backend: &Rc<Backend>, pool: &WorkerPool) -> Option<Self> {
        let counters = &backend.counters;
        let most = pool.settings().limits.map_or(u32::MAX, |limits| limits.in_flight());
        let more = |count: u32| (count < most).then_some(count + 1);
        counters.in_flight.fetch_update(SeqCst, SeqCst, more).ok()?;
        counters.requests.fetch_add(1, Relaxed);
        Some(Self { backend: Rc::clone(backend), pool: Arc::clone(&pool.counters) })
    }

    /// Waits until it must end, because its backend was drained or removed, or the node stops.
    pub(super) async fn overdue(&self) {
        self.backend.ended.cancelled().await;
    }
}

impl Drop for InFlight {
    fn drop(&mut self) {
        self.backend.counters.in_flight.fetch_sub(1, SeqCst);
        self.pool.queue.wake_one();
    }
}

impl WorkerPool {
    /// Chooses a backend that has room, one that has not been tried if there is one. If none has room, waits for it.
    pub(super) async fn claim(&self, key: Hash, tried: &[SocketAddr]) -> Result<InFlight, Refusal> {
        let queue = &self.counters.queue;
        // Those that wait come first.
        let is_first = self.settings().limits.is_none() || queue.waiting.load(Relaxed) == 0;
        let claimed = if is_first { self.try_claim(key, tried) } else { Err(Refusal::Busy) };
        let claimed = match (claimed, &self.settings().limits) {
            (Err(Refusal::Busy), Some(limits)) => self.wait(key, tried, limits).await,
            (claimed, _) => claimed,
        };
        claimed.inspect_err(|refusal| match refusal {
            Refusal::Unavailable => drop(self.counters.unavailable.fetch_add(1, Relaxed)),
            Refusal::Busy => drop(queue.overflowed.fetch_add(1, Relaxed)),
        })
    }

    async fn wait(&self, key: Hash, tried: &[SocketAddr], limits: &PoolLimits) -> Result<InFlight, Refusal> {
        let queue = &self.counters.queue;
        let is_first = queue.waiting.load(SeqCst) == 0;
        let Some(_waiting) = queue.enter(limits) else { return Err(Refusal::Busy) };
        let until = Instant::now() + limits.wait;
        let mut may_try = is_first;
        loop {
            let mut freed = pin!(queue.freed.notified());
            // What is freed from here on is not missed.
            freed.as_mut().enable();
            if may_try {
                match self.try_claim(key, tried) {
                    Err(Refusal::Busy) => {}
                    claimed => return claimed,
                }
            }
            timeout_at(until, freed).await.map_err(|_| Refusal::Busy)?;
            may_try = true;
        }
    }

    /// Another backend for a request that is with some already: one that has room that no request waits for. `None` if there is
    /// none, or the budget is spent.
    pub(super) fn claim_another(&self, key: Hash, tried: &[SocketAddr]) -> Option<InFlight> {
        if self.counters.queue.waiting.load(Relaxed) > 0 {
            return None;
        }
        let backend = self.pick_another(key, tried)?;
        let in_flight = if self.is_in_budget() { InFlight::begin(&backend, self) } else { None }?;
        self.counters.hedges.fetch_add(1, Relaxed);
        Some(in_flight)
    }

    /// The same without waiting; refusals are not counted.
    pub(super) fn try_claim(&self, key: Hash, tried: &[SocketAddr]) -> Result<InFlight, Refusal> {
        // Other workers may take the last room of a backend after it was chosen; then it counts as full.
        loop {
            match self.pick(key, tried) {
                None if self.is_empty() => return Err(Refusal::Unavailable),
                None => return Err(Refusal::Busy),
                Some(backend) => match InFlight::begin(&backend, self) {
                    Some(in_flight) => return Ok(in_flight),
                    None => continue,
                },
            }
        }
    }
}
