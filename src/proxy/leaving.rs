//! Backends that get no more requests, but still work on some.

use std::net::SocketAddr;
use std::rc::{Rc, Weak};
use std::time::Duration;

use tokio::time::Instant;

use super::pools::Backend;
use crate::model::Pool;
use crate::snapshot::Snapshot;

/// The backends that are no longer open, for as long as something is in flight.
#[derive(Default)]
pub(super) struct Leaving {
    backends: Vec<Entry>,
    /// When the node began to stop, if it does.
    closing: Option<Instant>,
}

struct Entry {
    pool: String,
    address: SocketAddr,
    backend: Weak<Backend>,
    /// The pool's `drain`.
    drain: Duration,
    /// Since when it is drained or removed; `None` if it is only down: what it still works on may succeed.
    since: Option<Instant>,
}

impl Leaving {
    /// Adds a backend of this pool.
    pub(super) fn add(&mut self, pool: &Pool, backend: &Rc<Backend>) {
        self.backends.push(Entry {
            pool: pool.name.clone(),
            address: backend.address,
            backend: Rc::downgrade(backend),
            drain: pool.drain,
            since: None,
        });
    }

    /// The backend, if something is in flight with it, because it is open again. It must fit, too.
    pub(super) fn take_back(
        &mut self,
        pool: &str,
        address: SocketAddr,
        fits: impl Fn(&Backend) -> bool,
    ) -> Option<Rc<Backend>> {
        let is_it = |it: &Entry| {
            it.pool == pool && it.address == address && it.backend.upgrade().is_some_and(|it| fits(&it))
        };
        let index = self.backends.iter().position(is_it)?;
        self.backends.swap_remove(index).backend.upgrade().filter(|it| !it.ended.is_cancelled())
    }

    /// The node stops: all that were added leave now.
    pub(super) fn close(&mut self, now: Instant) {
        self.closing = Some(now);
    }

    /// Ends what is in flight with backends that were drained or removed longer ago than their pools' `drain`.
    pub(super) fn end_overdue(&mut self, snapshot: &Snapshot, now: Instant) {
        let closing = self.closing;
        self.backends.retain_mut(|it| {
            let Some(backend) = it.backend.upgrade() else { return false };
            let is_gone = closing.is_some() || !may_finish(snapshot, &it.pool, it.address);
            it.since = if is_gone { it.since.or(closing).or(Some(now)) } else { None };
            let is_overdue = it.since.is_some_and(|since| now >= since + it.drain);
            if is_overdue {
                backend.ended.cancel();
            }
            !is_overdue
        });
    }
}

/// Whether an address of the pool is down.
pub(super) fn is_down(snapshot: &Snapshot, pool: &str, address: SocketAddr) -> bool {
    let topology = &snapshot.plan.topology;
    let id = topology.pool_ids().find(|id| topology.pool(*id).name == pool);
    id.is_some_and(|id| snapshot.standing.pool(id).is_down(topology.pool(id), address))
}

/// Whether the pool still has the address, and nobody has withdrawn it.
fn may_finish(snapshot: &Snapshot, pool: &str, address: SocketAddr) -> bool {
    let topology = &snapshot.plan.topology;
    let Some(id) = topology.pool_ids().find(|id| topology.pool(*id).name == pool) else { return false };
    let backends = topology.pool(id).backends.iter().zip(&*snapshot.standing.pool(id).backends);
    backends.filter(|(backend, _)| backend.port == address.port()).any(|(_, standing)| {
        !standing.is_withdrawn() && standing.addresses.iter().any(|it| it.address == address.ip())
    })
}
