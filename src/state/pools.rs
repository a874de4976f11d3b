//! What pools remember beside verdicts: which addresses are ejected, and which came up a short while ago.
//!
//! Both belong to a pool's name and to an address, so that a reload that keeps these keeps them.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use super::State;
use super::event::EventKind;
use super::hosts::Hosts;
use super::targets::TargetRef;
use crate::health::{Ejections, FailingRequests, State as Health};
use crate::model::{BackendRef, Mono, Now, Pool, PoolId, Subject, Topology};
use crate::standing::{Action, Ejected, PoolPast, PoolStanding, Standing};

/// The memory of a pool.
#[derive(Clone, Debug, Default)]
pub(super) struct PoolMemory {
    ejections: Ejections,
    /// The addresses that are ejected, as the standing shows them.
    ejected: Vec<Ejected>,
    /// The addresses whose slow start has not ended.
    starting: BTreeMap<SocketAddr, Starting>,
    /// Whether each of its addresses has had a result at one time. What comes up before that is part of a start of the
    /// whole pool.
    is_settled: bool,
}

/// The slow start of an address.
#[derive(Clone, Copy, Debug)]
struct Starting {
    since: Mono,
    /// From 0 to [`STEPS`].
    step: u32,
}

/// The steps in which a slow start raises a weight. Each makes workers renew their balancers.
const STEPS: u32 = 10;
/// The share of its weight that an address begins with.
const FIRST_SHARE: f64 = 0.1;

impl Starting {
    fn share(self) -> f64 {
        FIRST_SHARE + (1.0 - FIRST_SHARE) * f64::from(self.step) / f64::from(STEPS)
    }

    fn at(self, now: Mono, time: Duration) -> Self {
        let passed = now.since(self.since).as_secs_f64() / time.as_secs_f64();
        Self { step: (passed.min(1.0) * f64::from(STEPS)) as u32, ..self }
    }
}

impl PoolMemory {
    /// What the standing of the pool depends on beside verdicts and overrides.
    fn past(&self, pool: &Pool) -> PoolPast {
        let starting = self
            .starting
            .iter()
            .filter(|_| pool.slow_start.is_some())
            .map(|(address, it)| (*address, it.share()));
        PoolPast { ejected: self.ejected.clone(), starting: starting.collect() }
    }

    fn end_ejection(&mut self, address: SocketAddr, now: Mono) -> bool {
        self.ejected.retain(|it| it.address != address);
        self.ejections.end(address, now)
    }

    /// Raises the weights of the addresses that came up; returns whether any changed.
    fn warm_up(&mut self, time: Option<Duration>, now: Mono) -> bool {
        let before = self.starting.len();
        let mut is_changed = false;
        self.starting.retain(|_, it| {
            let Some(time) = time else { return false };
            let step = std::mem::replace(it, it.at(now, time)).step;
            is_changed |= step != it.step;
            it.step < STEPS
        });
        is_changed || before != self.starting.len()
    }

    /// Notes which addresses of a pool begin to serve, and lowers their weights.
    fn note_starts(&mut self, pool: &Pool, before: &PoolStanding, after: &mut PoolStanding, now: Mono) {
        if pool.slow_start.is_none() {
            return self.starting.clear();
        }
        self.starting.retain(|address, _| after.open.iter().any(|it| it.address == *address));
        // Weights do not matter while it is important that anything serves at all.
        if !self.is_settled || after.panic.is_some() {
            return;
        }
        let first = Starting { since: now, step: 0 };
        let mut open = after.open.to_vec();
        for it in &mut open {
            if !before.open.iter().any(|old| old.address == it.address) {
                self.starting.insert(it.address, first);
                it.weight *= first.share();
            }
        }
        after.open = open.into();
    }
}

/// Whether all that is known of a pool is known by results.
fn is_settled(pool: &PoolStanding, hosts: &Hosts) -> bool {
    let is_known = |addresses: &[crate::standing::AddressStanding]| {
        (!addresses.is_empty() || hosts.all_looked_up())
            && addresses.iter().all(|it| it.state != Health::Unknown)
    };
    !pool.open.is_empty() && pool.backends.iter().all(|it| is_known(&it.addresses))
}

impl State {
    /// What the standing of a pool depends on beside verdicts and overrides.
    pub(super) fn pool_past(&self, id: PoolId) -> PoolPast {
        let pool = self.world.topology.pool(id);
        self.pools.get(&pool.name).map(|memory| memory.past(pool)).unwrap_or_default()
    }

    /// Whoever sends requests reports that those to an address fail: it is ejected, unless that would leave too few.
    pub fn requests_fail(&mut self, report: &FailingRequests, now: Now) {
        let topology = Arc::clone(&self.world.topology);
        let Some(id) = topology.pool_named(&report.pool) else { return };
        let pool = topology.pool(id);
        let (Some(passive), standing) = (pool.passive, self.standing.pool(id)) else { return };
        // Nothing is gained by choosing among those that all fail.
        let Some(usable) = standing.unless_ejected(pool) else { return };
        let Some((index, _)) = owner(pool, standing, report.address) else { return };
        if standing.backends[usize::from(index)].action == Some(Action::Up) {
            return;
        }
        let memory = self.pools.entry(pool.name.clone()).or_default();
        let Some(time) = memory.ejections.eject(report.address, &passive, &usable, now.mono) else { return };
        let evidence = report.evidence.as_str();
        let until = now.unix.after(time);
        memory.ejected.push(Ejected { address: report.address, until, evidence: evidence.into() });
        let subject = subject(pool, usize::from(index), report.address.ip());
        self.events.push(EventKind::Ejected {
            subject,
            address: report.address,
            time,
            until,
            evidence: evidence.into(),
        });
        self.dirty.mark(TargetRef::Backend(BackendRef { pool: id, index }));
    }

    /// Ends the ejections whose time is over, and raises weights. To be called once a second.
    pub(super) fn tick_pools(&mut self, now: Now) {
        let topology = Arc::clone(&self.world.topology);
        for id in topology.pool_ids() {
            let pool = topology.pool(id);
            let Some(memory) = self.pools.get_mut(&pool.name) else { continue };
            let over = match &pool.passive {
                Some(passive) => memory.ejections.tick(passive, now.mono),
                None => Vec::new(),
            };
            let is_warmer = memory.warm_up(pool.slow_start, now.mono);
            for address in &over {
                self.return_to(id, *address, "its time is over", now);
            }
            if is_warmer {
                self.dirty.mark(TargetRef::Backend(BackendRef { pool: id, index: 0 }));
            }
        }
    }

    /// An address is no longer ejected.
    fn return_to(&mut self, id: PoolId, address: SocketAddr, why: &str, now: Now) {
        let topology = Arc::clone(&self.world.topology);
        let pool = topology.pool(id);
        let Some(memory) = self.pools.get_mut(&pool.name) else { return };
        memory.end_ejection(address, now.mono);
        self.dirty.mark(TargetRef::Backend(BackendRef { pool: id, index: 0 }));
        if let Some((index, _)) = owner(pool, self.standing.pool(id), address) {
            let subject = subject(pool, usize::from(index), address.ip());
            self.events.push(EventKind::Returned { subject, evidence: why.into() });
        }
    }

    /// Before a standing is published: notes what begins to serve, and lowers its weight.
    pub(super) fn note_starts(&mut self, standing: &mut Standing, topology_before: &Topology, now: Now) {
        let topology = Arc::clone(&self.world.topology);
        for (id, after) in topology.pool_ids().zip(&mut standing.pools) {
            let pool = topology.pool(id);
            let Some(old_id) = topology_before.pool_named(&pool.name) else { continue };
            let before = self.standing.pool(old_id);
            if Arc::ptr_eq(&before.open, &after.open) {
                continue;
            }
            let memory = self.pools.entry(pool.name.clone()).or_default();
            memory.is_settled |= is_settled(before, &self.hosts);
            memory.note_starts(pool, before, after, now.mono);
        }
    }

    /// After a standing was published: ends ejections that verdicts, overrides or a reload have overtaken.
    pub(super) fn end_ejections(&mut self, before: &Standing, topology_before: &Topology, now: Now) {
        let topology = Arc::clone(&self.world.topology);
        let standing = Arc::clone(&self.standing);
        self.pools.retain(|name, _| topology.pool_named(name).is_some());
        for id in topology.pool_ids() {
            let (pool, after) = (topology.pool(id), standing.pool(id));
            let Some(memory) = self.pools.get_mut(&pool.name) else { continue };
            let has = |address| owner(pool, after, address).is_some();
            memory.ejections.keep_only(has);
            memory.ejected.retain(|it| has(it.address));
            let old = topology_before
                .pool_named(&pool.name)
                .map(|old| (topology_before.pool(old), before.pool(old)));
            let state_before = |address| {
                let (pool, standing) = old?;
                Some(owner(pool, standing, address)?.1)
            };
            let over = |address: SocketAddr| {
                let (index, state) = owner(pool, after, address)?;
                if pool.passive.is_none() {
                    return Some((address, "`passive` was switched off"));
                }
                if after.backends[usize::from(index)].action == Some(Action::Up) {
                    return Some((address, "an operator forced it up"));
                }
                let was_down = state_before(address).is_some_and(Health::is_down);
                (was_down && state.serves()).then_some((address, "its probes found it down, and now up"))
            };
            let over: Vec<_> = memory.ejected.iter().filter_map(|it| over(it.address)).collect();
            for (address, why) in over {
                self.return_to(id, address, why, now);
            }
        }
    }

    /// Raises an alarm for each pool that began to use failing backends, and clears it once it has stopped.
    pub(super) fn report_panic(&mut self, before: &Standing, topology_before: &Topology) {
        let panics = |standing: &Standing, topology: &Topology| -> BTreeSet<String> {
            let pools = topology.pool_ids().filter(|id| standing.pool(*id).panic.is_some());
            pools.map(|id| topology.pool(id).name.clone()).collect()
        };
        let topology = Arc::clone(&self.world.topology);
        let (before, after) = (panics(before, topology_before), panics(&self.standing, &topology));
        for name in before.difference(&after) {
            let message = format!("pool `{name}` uses only healthy backends again");
            self.events.push(EventKind::AllClear { message });
        }
        for id in topology.pool_ids() {
            let pool = topology.pool(id);
            let alarm = self.standing.pool(id).panic_alarm(pool).filter(|_| !before.contains(&pool.name));
            self.events.extend(alarm.map(|message| EventKind::Alarm { message }));
        }
    }
}

fn subject(pool: &Pool, index: usize, address: IpAddr) -> Subject {
    let (pool, backend) = (pool.name.as_str().into(), pool.backends[index].name.as_str().into());
    Subject::Backend { pool, backend, address }
}

/// The backend that an address belongs to, and what probes found for the address.
fn owner(pool: &Pool, standing: &PoolStanding, address: SocketAddr) -> Option<(u16, Health)> {
    let backends = pool.backends.iter().zip(&*standing.backends).enumerate();
    let mut found = backends.filter(|(_, (backend, _))| backend.port == address.port()).filter_map(
        |(index, (_, backend))| {
            let it = backend.addresses.iter().find(|it| it.address == address.ip())?;
            Some((index as u16, it.state))
        },
    );
    found.next()
}
