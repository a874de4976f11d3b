//! Connections to a backend, where a pool limits them.
//!
//! A request that was let to a backend has the right to a connection: no more are let there than may be open. If all are
//! open, some are idle, perhaps kept by another worker; then each worker that has some closes one.

use std::pin::pin;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering::SeqCst};
use std::time::Duration;

use tokio::sync::Notify;
use tokio::task::JoinSet;
use tokio::time::{Instant, timeout_at};

use super::counters::BackendCounters;
use super::pools::{Backend, WorkerPool};

/// The connections to an address of a backend, of all workers.
#[derive(Debug, Default)]
pub(super) struct Slots {
    taken: AtomicU32,
    /// Requests that wait for one.
    waiting: AtomicU32,
    freed: Notify,
    idle_unwanted: Notify,
}

/// A connection that counts for its backend.
#[derive(Debug)]
pub(super) struct Slot(Arc<BackendCounters>);

/// How long a request waits until it asks again for idle connections to be closed: one may have become idle since.
const ASK_AGAIN: Duration = Duration::from_millis(20);

impl Slots {
    /// Connections that are open or being opened.
    pub(super) fn taken(&self) -> u32 {
        self.taken.load(SeqCst)
    }

    /// Whether a connection that becomes idle should be closed.
    pub(super) fn are_wanted(&self) -> bool {
        self.waiting.load(SeqCst) > 0
    }
}

impl Slot {
    /// Counts a connection that is there already.
    pub(super) fn enter(backend: &Backend) -> Self {
        backend.counters.slots.taken.fetch_add(1, SeqCst);
        Self(Arc::clone(&backend.counters))
    }

    fn enter_below(backend: &Backend, most: u32) -> Option<Self> {
        let more = |count: u32| (count < most).then_some(count + 1);
        backend.counters.slots.taken.fetch_update(SeqCst, SeqCst, more).ok()?;
        Some(Self(Arc::clone(&backend.counters)))
    }

    /// Waits until another connection may be opened; `None` if that takes longer than a connection may.
    pub(super) async fn wait(backend: &Backend, pool: &WorkerPool) -> Option<Self> {
        let limits = pool.settings().limits.as_ref();
        let Some(most) = limits.and_then(|it| it.connections) else { return Some(Self::enter(backend)) };
        if let Some(slot) = Self::enter_below(backend, most.get()) {
            return Some(slot);
        }
        let slots = &backend.counters.slots;
        let _waiting = Waiting::enter(slots);
        let until = Instant::now() + pool.settings().timeout.connect;
        loop {
            let mut freed = pin!(slots.freed.notified());
            // What is freed from here on is not missed.
            freed.as_mut().enable();
            if let Some(slot) = Self::enter_below(backend, most.get()) {
                return Some(slot);
            }
            let now = Instant::now();
            if now >= until {
                return None;
            }
            slots.idle_unwanted.notify_waiters();
            timeout_at(until.min(now + ASK_AGAIN), freed).await.ok();
        }
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        let slots = &self.0.slots;
        slots.taken.fetch_sub(1, SeqCst);
        if slots.are_wanted() {
            slots.freed.notify_one();
        }
    }
}

/// A request that waits.
struct Waiting<'a>(&'a Slots);

impl<'a> Waiting<'a> {
    fn enter(slots: &'a Slots) -> Self {
        slots.waiting.fetch_add(1, SeqCst);
        Self(slots)
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.0.waiting.fetch_sub(1, SeqCst);
    }
}

impl Backend {
    /// Closes one idle connection each time that somebody needs one, as long as the returned tasks live.
    pub(super) fn gives_way(self: &Rc<Self>) -> JoinSet<()> {
        let mut tasks = JoinSet::new();
        let (backend, counters) = (Rc::downgrade(self), Arc::clone(&self.counters));
        tasks.spawn_local(async move {
            loop {
                counters.slots.idle_unwanted.notified().await;
                let Some(backend) = backend.upgrade() else { return };
                if backend.plain.borrow_mut().pop().is_none() {
                    backend.idle.borrow_mut().pop();
                }
            }
        });
        tasks
    }
}
