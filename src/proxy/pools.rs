//! A worker's view of the pools: which backends may be used, and its own balancers and idle connections.

use std::cell::RefCell;
use std::collections::HashMap;
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;

use super::counters::{BackendCounters, Counters, PoolCounters};
use super::upstream::Idle;
use crate::model::{Pool, PoolId, Topology};
use crate::pick::{Candidate, Hash, Picker};
use crate::snapshot::Snapshot;
use crate::standing::OpenAddress;

/// The pools of a snapshot.
pub(super) struct Pools {
    counters: Arc<Counters>,
    /// Tells the workers' balancers apart.
    seed: u64,
    epoch: u64,
    /// By [`PoolId`].
    by_id: Vec<Rc<WorkerPool>>,
}

/// A pool as a worker uses it.
pub(super) struct WorkerPool {
    topology: Arc<Topology>,
    id: PoolId,
    pub(super) counters: Arc<PoolCounters>,
    inner: RefCell<Inner>,
}

struct Inner {
    open: Arc<[OpenAddress]>,
    picker: Picker,
    /// In the order of `open`.
    backends: Vec<Rc<Backend>>,
}

/// An address of a backend as a worker uses it.
pub(super) struct Backend {
    pub(super) address: SocketAddr,
    pub(super) counters: Arc<BackendCounters>,
    pub(super) idle: RefCell<Vec<Idle>>,
}

/// A request or connection that a backend works on.
pub(super) struct InFlight(Rc<Backend>);

impl Pools {
    pub(super) fn new(counters: Arc<Counters>, seed: u64) -> Self {
        Self { counters, seed, epoch: 0, by_id: Vec::new() }
    }

    /// The pool with this id of a snapshot.
    pub(super) fn get(&mut self, id: PoolId, snapshot: &Snapshot) -> Rc<WorkerPool> {
        if self.epoch != snapshot.epoch {
            self.renew(snapshot);
        }
        Rc::clone(&self.by_id[usize::from(id.0)])
    }

    /// Takes over what changed. Pools and backends that stay keep their balancers and idle connections.
    fn renew(&mut self, snapshot: &Snapshot) {
        let topology = &snapshot.plan.topology;
        let mut before: HashMap<String, Rc<WorkerPool>> =
            self.by_id.drain(..).map(|pool| (pool.settings().name.clone(), pool)).collect();
        for id in topology.pool_ids() {
            let pool = topology.pool(id);
            let open = &snapshot.standing.pool(id).open;
            let pool = match before.remove(&pool.name) {
                Some(old) if Arc::ptr_eq(&old.topology, topology) => {
                    old.set_open(open, &self.counters);
                    old
                }
                Some(old) => old.moved_to(Arc::clone(topology), id, open, self),
                None => WorkerPool::new(Arc::clone(topology), id, open, self),
            };
            self.by_id.push(pool);
        }
        self.epoch = snapshot.epoch;
    }
}

impl WorkerPool {
    fn new(topology: Arc<Topology>, id: PoolId, open: &Arc<[OpenAddress]>, pools: &Pools) -> Rc<Self> {
        let settings = topology.pool(id);
        let backends = backends(&settings.name, open, &[], &pools.counters);
        let picker = Picker::new(settings.balance, candidates(open), pools.seed);
        let counters = pools.counters.pool(&settings.name);
        let inner = Inner { open: Arc::clone(open), picker, backends };
        Rc::new(Self { topology, id, counters, inner: RefCell::new(inner) })
    }

    /// The pool of another config. Requests in progress go on with the settings that they began with.
    fn moved_to(
        &self,
        topology: Arc<Topology>,
        id: PoolId,
        open: &Arc<[OpenAddress]>,
        pools: &Pools,
    ) -> Rc<Self> {
        let settings = topology.pool(id);
        let old = self.inner.borrow();
        let backends = backends(&settings.name, open, &old.backends, &pools.counters);
        let picker = if settings.balance == self.settings().balance {
            let mut picker = old.picker.clone();
            picker.renew(candidates(open));
            picker
        } else {
            Picker::new(settings.balance, candidates(open), pools.seed)
        };
        let inner = Inner { open: Arc::clone(open), picker, backends };
        Rc::new(Self { topology, id, counters: Arc::clone(&self.counters), inner: RefCell::new(inner) })
    }

    fn set_open(&self, open: &Arc<[OpenAddress]>, counters: &Counters) {
        let mut inner = self.inner.borrow_mut();
        if Arc::ptr_eq(&inner.open, open) || inner.open == *open {
            return;
        }
        inner.backends = backends(&self.settings().name, open, &inner.backends, counters);
        inner.picker.renew(candidates(open));
        inner.open = Arc::clone(open);
    }

    /// The pool's config.
    pub(super) fn settings(&self) -> &Pool {
        self.topology.pool(self.id)
    }

    /// Chooses a backend that has not been tried; `None` if there is none.
    pub(super) fn pick(&self, key: Hash, tried: &[SocketAddr]) -> Option<Rc<Backend>> {
        let Inner { picker, backends, .. } = &mut *self.inner.borrow_mut();
        let load = |index: usize| backends[index].counters.load();
        let is_excluded = |index: usize| tried.contains(&backends[index].address);
        let index = picker.pick(key, &load, &is_excluded)?;
        Some(Rc::clone(&backends[index]))
    }

    /// Whether another attempt stays within the share of the requests that may be retries. A pool with few requests
    /// may still make some.
    pub(super) fn may_retry(&self) -> bool {
        let (requests, retries) = (self.counters.requests.load(Relaxed), self.counters.retries.load(Relaxed));
        let most = self.settings().retry.budget.get() * requests as f64;
        retries as f64 <= most.max(LEAST_RETRIES)
    }
}

/// Retries that a pool may make however few requests it had.
const LEAST_RETRIES: f64 = 10.0;

fn candidates(open: &[OpenAddress]) -> Vec<Candidate> {
    open.iter().map(|it| Candidate { hash: it.hash, weight: it.weight }).collect()
}

/// The backends that are open, those known before with their idle connections.
fn backends(
    pool: &str,
    open: &[OpenAddress],
    known: &[Rc<Backend>],
    counters: &Counters,
) -> Vec<Rc<Backend>> {
    let backend = |it: &OpenAddress| {
        let known = known.iter().find(|known| known.address == it.address).cloned();
        known.unwrap_or_else(|| {
            Rc::new(Backend {
                address: it.address,
                counters: counters.backend(pool, it.address),
                idle: RefCell::default(),
            })
        })
    };
    open.iter().map(backend).collect()
}

impl InFlight {
    pub(super) fn new(backend: &Rc<Backend>) -> Self {
        backend.counters.in_flight.fetch_add(1, Relaxed);
        backend.counters.requests.fetch_add(1, Relaxed);
        Self(Rc::clone(backend))
    }
}

impl Drop for InFlight {
    fn drop(&mut self) {
        self.0.counters.in_flight.fetch_sub(1, Relaxed);
    }
}
