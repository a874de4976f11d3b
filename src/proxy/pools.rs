//! A worker's view of the pools: which backends may be used, and its own balancers and idle connections.

use std::cell::{Cell, RefCell};
use std::collections::{BTreeSet, HashMap};
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;

use http::HeaderMap;
use tokio::task::JoinSet;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::Shared;
use super::budget::Budget;
use super::counters::{BackendCounters, PoolCounters};
use super::http::Plain;
use super::leaving::Leaving;
use super::sticky::{Session, Sessions};
use super::streams::Streams;
use super::tls::{BackendTls, Wanted};
use super::upstream::Parked;
use crate::model::{Http, Pool, PoolId, Topology};
use crate::pick::{Candidate, Hash, Picker};
use crate::snapshot::{PoolTls, Snapshot};
use crate::standing::OpenAddress;

/// The pools of a snapshot.
pub(super) struct Pools {
    shared: Shared,
    /// Tells the workers' balancers apart.
    seed: u64,
    epoch: u64,
    /// The epoch for which counters of addresses that are gone were dropped.
    pruned: u64,
    /// By [`PoolId`].
    by_id: Vec<Rc<WorkerPool>>,
    leaving: Leaving,
}

/// A pool as a worker uses it.
pub(super) struct WorkerPool {
    topology: Arc<Topology>,
    id: PoolId,
    pub(super) shared: Shared,
    pub(super) counters: Arc<PoolCounters>,
    budget: Rc<RefCell<Budget>>,
    /// `None` without TLS.
    tls: Option<Arc<PoolTls>>,
    inner: RefCell<Inner>,
}

struct Inner {
    open: Arc<[OpenAddress]>,
    picker: Picker,
    /// Chooses backends for hedges, so that these do not change whose turn it is; `None` if the pool does not hedge.
    hedges: Option<Picker>,
    /// In the order of `open`.
    backends: Vec<Rc<Backend>>,
    /// `None` if no cookie keeps clients with a backend.
    sessions: Option<Sessions>,
}

/// An address of a backend as a worker uses it.
pub(super) struct Backend {
    pub(super) address: SocketAddr,
    pub(super) counters: Arc<BackendCounters>,
    /// `None` without TLS.
    pub(super) tls: Option<BackendTls>,
    /// Idle connections of hyper.
    pub(super) idle: RefCell<Vec<Parked>>,
    /// Idle connections of the lane of plain HTTP/1.1.
    pub(super) plain: RefCell<Vec<Plain>>,
    /// Its HTTP/2 connections.
    pub(super) streams: Streams,
    /// What it is asked in.
    http: Http,
    /// Whether requests may be sent to it, so that its connections are worth keeping.
    pub(super) is_open: Cell<bool>,
    /// Cancelled when its connections must end.
    pub(super) ended: CancellationToken,
    /// Attempts that go on although their requests are over.
    pub(super) awaited: Cell<u32>,
    /// Closes idle connections that others need; only where connections are limited.
    gives_way: RefCell<Option<JoinSet<()>>>,
}

impl Pools {
    pub(super) fn new(shared: Shared, seed: u64) -> Self {
        Self { shared, seed, epoch: 0, pruned: 0, by_id: Vec::new(), leaving: Leaving::default() }
    }

    /// The pool with this id of a snapshot.
    pub(super) fn get(&mut self, id: PoolId, snapshot: &Snapshot) -> Rc<WorkerPool> {
        self.renew(snapshot);
        Rc::clone(&self.by_id[usize::from(id.0)])
    }

    /// Closes connections whose time is over: idle ones, and those to backends that were drained or removed.
    pub(super) fn close_overdue(&mut self, snapshot: &Snapshot, now: Instant) {
        self.renew(snapshot);
        for pool in &self.by_id {
            // Nobody waits for long if there is room for a reason that wakes nobody.
            pool.counters.queue.wake_all();
            let limit = pool.settings().timeout.idle;
            for backend in &pool.inner.borrow().backends {
                backend.close_idle(limit, now);
                backend.counters.outcomes.renew_window(now);
            }
        }
        self.leaving.end_overdue(snapshot, now);
        // One worker does it for all.
        if self.seed == 0 && self.pruned != self.epoch {
            self.pruned = self.epoch;
            self.shared.counters.keep_backends(&addresses(snapshot));
        }
    }

    /// From now on, connections to all backends may go on for as long as their pools' `drain` says.
    pub(super) fn close(&mut self, now: Instant) {
        for pool in &self.by_id {
            for backend in &pool.inner.borrow().backends {
                self.leaving.add(pool.settings(), backend);
            }
        }
        self.leaving.close(now);
    }

    /// Takes over what changed. Pools and backends that stay keep their balancers and idle connections.
    fn renew(&mut self, snapshot: &Snapshot) {
        if self.epoch == snapshot.epoch {
            return;
        }
        let topology = &snapshot.plan.topology;
        let mut before: HashMap<String, Rc<WorkerPool>> =
            self.by_id.drain(..).map(|pool| (pool.settings().name.clone(), pool)).collect();
        for id in topology.pool_ids() {
            let pool = topology.pool(id);
            let open = &snapshot.standing.pool(id).open;
            let tls = snapshot.plan.tls.pool(id);
            let pool = match before.remove(&pool.name) {
                Some(old) if Arc::ptr_eq(&old.topology, topology) => {
                    old.set_open(open, &mut self.leaving);
                    old
                }
                Some(old) => old.moved_to(Arc::clone(topology), id, tls, open, self.seed, &mut self.leaving),
                None => WorkerPool::new(
                    Arc::clone(topology),
                    id,
                    tls,
                    open,
                    &self.shared,
                    self.seed,
                    &mut self.leaving,
                ),
            };
            self.by_id.push(pool);
        }
        for removed in before.values() {
            removed.set_open(&Arc::default(), &mut self.leaving);
        }
        self.epoch = snapshot.epoch;
    }
}

impl WorkerPool {
    fn new(
        topology: Arc<Topology>,
        id: PoolId,
        tls: Option<&Arc<PoolTls>>,
        open: &Arc<[OpenAddress]>,
        shared: &Shared,
        seed: u64,
        leaving: &mut Leaving,
    ) -> Rc<Self> {
        let settings = topology.pool(id);
        let backends = backends(settings, tls, open, &[], shared, leaving);
        let picker = Picker::new(settings.balance, candidates(open), seed);
        let sessions = Sessions::of(settings, open);
        let hedges = hedges(settings, open, seed);
        let inner = RefCell::new(Inner { open: Arc::clone(open), picker, hedges, backends, sessions });
        let counters = shared.counters.pool(&settings.name);
        let budget = Rc::new(RefCell::new(Budget::new(Instant::now())));
        let tls = tls.cloned();
        Rc::new(Self { topology, id, shared: shared.clone(), counters, budget, tls, inner })
    }

    /// The pool of another config. Requests in progress go on with the settings that they began with.
    fn moved_to(
        &self,
        topology: Arc<Topology>,
        id: PoolId,
        tls: Option<&Arc<PoolTls>>,
        open: &Arc<[OpenAddress]>,
        seed: u64,
        leaving: &mut Leaving,
    ) -> Rc<Self> {
        let settings = topology.pool(id);
        let old = self.inner.borrow();
        let backends = backends(settings, tls, open, &old.backends, &self.shared, leaving);
        let picker = if settings.balance == self.settings().balance {
            let mut picker = old.picker.clone();
            picker.renew(candidates(open));
            picker
        } else {
            Picker::new(settings.balance, candidates(open), seed)
        };
        let sessions = Sessions::of(settings, open);
        let hedges = hedges(settings, open, seed);
        let inner = RefCell::new(Inner { open: Arc::clone(open), picker, hedges, backends, sessions });
        let (shared, counters, tls) = (self.shared.clone(), Arc::clone(&self.counters), tls.cloned());
        Rc::new(Self { topology, id, shared, counters, budget: Rc::clone(&self.budget), tls, inner })
    }

    fn set_open(&self, open: &Arc<[OpenAddress]>, leaving: &mut Leaving) {
        let mut inner = self.inner.borrow_mut();
        if Arc::ptr_eq(&inner.open, open) || inner.open == *open {
            return;
        }
        let tls = self.tls.as_ref();
        inner.backends = backends(self.settings(), tls, open, &inner.backends, &self.shared, leaving);
        inner.picker.renew(candidates(open));
        if let Some(hedges) = &mut inner.hedges {
            hedges.renew(candidates(open));
        }
        if let Some(sessions) = &mut inner.sessions {
            sessions.renew(open);
        }
        inner.open = Arc::clone(open);
        self.counters.queue.wake_all();
    }

    /// The pool's config.
    pub(super) fn settings(&self) -> &Pool {
        self.topology.pool(self.id)
    }

    /// Whether backends are asked over TLS.
    pub(super) fn is_encrypted(&self) -> bool {
        self.tls.is_some()
    }

    /// Whether no backend may be used at all.
    pub(super) fn is_empty(&self) -> bool {
        self.inner.borrow().backends.is_empty()
    }

    /// Chooses a backend that has room, one that has not been tried if there is one; `None` if none has room.
    pub(super) fn pick(&self, key: Hash, tried: &[SocketAddr]) -> Option<Rc<Backend>> {
        let Inner { picker, backends, .. } = &mut *self.inner.borrow_mut();
        let limits = &self.settings().limits;
        let load = |index: usize| backends[index].counters.load();
        let is_full = |index: usize| limits.is_some_and(|limits| load(index).in_flight >= limits.in_flight());
        let is_tried = |index: usize| tried.contains(&backends[index].address) || is_full(index);
        let index = picker.pick(key, &load, &is_tried).or_else(|| picker.pick(key, &load, &is_full))?;
        Some(Rc::clone(&backends[index]))
    }

    /// Chooses a backend for a request that is with others already: one that has not been tried and has room.
    pub(super) fn pick_another(&self, key: Hash, tried: &[SocketAddr]) -> Option<Rc<Backend>> {
        let Inner { hedges, backends, .. } = &mut *self.inner.borrow_mut();
        let limits = &self.settings().limits;
        let load = |index: usize| backends[index].counters.load();
        let is_full = |index: usize| limits.is_some_and(|limits| load(index).in_flight >= limits.in_flight());
        // After a reload, a request still has the backends that it began with.
        let is_gone = |index: usize| !backends[index].is_open.get();
        let is_tried = |index: usize| tried.contains(&backends[index].address);
        let index = hedges
            .as_mut()?
            .pick(key, &load, &|index| is_tried(index) || is_gone(index) || is_full(index))?;
        Some(Rc::clone(&backends[index]))
    }

    /// The session of a request; `None` if the pool is not sticky. Takes the cookie out of the request.
    pub(super) fn session(&self, headers: &mut HeaderMap, is_secure: bool) -> Option<Session> {
        let Inner { sessions, backends, .. } = &*self.inner.borrow();
        let bound = sessions.as_ref()?.take(headers, &self.counters);
        let bound = bound.map(|(index, is_due)| (Rc::clone(&backends[index]), is_due));
        Some(Session::new(bound, is_secure))
    }

    pub(super) fn with_sessions<T>(&self, then: impl FnOnce(&Sessions) -> T) -> Option<T> {
        self.inner.borrow().sessions.as_ref().map(then)
    }

    /// Counts a request or connection.
    pub(super) fn count_request(&self) {
        self.counters.requests.fetch_add(1, Relaxed);
        self.budget.borrow_mut().request(Instant::now());
    }

    /// Whether another attempt stays within the share of the requests that may be retries; if so, it is counted.
    pub(super) fn may_retry(&self) -> bool {
        let may = self.is_in_budget();
        if may {
            self.count_retry();
        }
        may
    }

    /// The same, but it is only taken from the budget.
    pub(super) fn is_in_budget(&self) -> bool {
        self.budget.borrow_mut().retry(self.settings().retry.budget, Instant::now())
    }

    /// Counts a retry after a failed connect. It does not use the budget, because it adds no load to any backend.
    pub(super) fn count_retry(&self) {
        self.counters.retries.fetch_add(1, Relaxed);
    }
}

/// All addresses of all pools.
fn addresses(snapshot: &Snapshot) -> BTreeSet<(&str, SocketAddr)> {
    let topology = &snapshot.plan.topology;
    let of_pool = |id: PoolId| {
        let (pool, standing) = (topology.pool(id), snapshot.standing.pool(id));
        let backends = pool.backends.iter().zip(&*standing.backends);
        backends.flat_map(move |(backend, standing)| {
            let address = |ip| (pool.name.as_str(), SocketAddr::new(ip, backend.port));
            standing.addresses.iter().map(move |it| address(it.address))
        })
    };
    topology.pool_ids().flat_map(of_pool).collect()
}

fn hedges(settings: &Pool, open: &[OpenAddress], seed: u64) -> Option<Picker> {
    settings.hedge.map(|_| Picker::new(settings.balance, candidates(open), seed))
}

fn candidates(open: &[OpenAddress]) -> Vec<Candidate> {
    open.iter().map(OpenAddress::candidate).collect()
}

/// The backends that are open; those known before keep their connections, unless TLS with them or their HTTP has changed. Those that
/// are no longer open leave.
fn backends(
    pool: &Pool,
    tls: Option<&Arc<PoolTls>>,
    open: &[OpenAddress],
    known: &[Rc<Backend>],
    shared: &Shared,
    leaving: &mut Leaving,
) -> Vec<Rc<Backend>> {
    let mut backend = |it: &OpenAddress| {
        let wanted = Wanted::of(tls, pool, it);
        let fits = |known: &Backend| {
            known.http == pool.http && BackendTls::goes_on(known.tls.as_ref(), wanted.as_ref())
        };
        let known = known.iter().find(|known| known.address == it.address && fits(known)).cloned();
        let known = known.or_else(|| leaving.take_back(&pool.name, it.address, fits));
        let backend = known.unwrap_or_else(|| {
            Rc::new(Backend {
                address: it.address,
                counters: shared.counters.backend(&pool.name, it.address),
                tls: wanted.map(BackendTls::new),
                idle: RefCell::default(),
                plain: RefCell::default(),
                streams: Streams::default(),
                http: pool.http,
                is_open: Cell::new(true),
                ended: CancellationToken::new(),
                awaited: Cell::new(0),
                gives_way: RefCell::default(),
            })
        });
        backend.is_open.set(true);
        let is_limited = pool.limits.is_some_and(|it| it.connections.is_some());
        if is_limited && backend.gives_way.borrow().is_none() {
            backend.gives_way.replace(Some(backend.gives_way()));
        }
        backend
    };
    let backends: Vec<Rc<Backend>> = open.iter().map(&mut backend).collect();
    for it in known.iter().filter(|known| !backends.iter().any(|it| Rc::ptr_eq(it, known))) {
        it.is_open.set(false);
        it.idle.borrow_mut().clear();
        it.plain.borrow_mut().clear();
        it.streams.clear();
        leaving.add(pool, it);
    }
    backends
}
