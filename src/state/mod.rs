//! A node's state: the verdict of every check, every override, what resolvers reported, and the standing computed
//! from them.
//!
//! Observations and commands come in, a finished [`Standing`] and events go out. There are no queues, clocks, files or
//! sockets here, so that a simulation runs the same code as a node. It knows targets and checks, but not zones.
//!
//! Changes are batched: [`State::observe`] and [`State::resolve`] only mark the regions that they affect, and
//! [`State::recompute`] recomputes the standing of those regions. So many changes at once cost little more than one.

mod assemble;
mod checks;
mod dirty;
mod effect;
mod event;
mod hosts;
mod overrides;
mod pools;
mod publish;
mod reload;
mod request;
mod suspicion;
mod targets;

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::sync::Arc;

pub use checks::CheckStatus;
#[cfg(test)]
pub(crate) use event::samples as event_samples;
pub use event::{Event, EventKind, LastStop, timestamp};
pub use hosts::{HostStatus, KnownHost, LookupFailure};
pub use overrides::{OverrideChange, Preview};
pub use reload::ReloadPreview;
pub use request::{DO_IT_ANYWAY, OverrideRequest, Rejection, check_target};

use crate::health::{CannotProbe, Observation, SavedVerdict, State as Health};
use crate::model::{
    BackendRef, CheckId, Due, EndpointRef, Lookup, Name, Now, Probe, RegionId, Rules, Topology, Unix,
};
use crate::safety::Unserved;
use crate::standing::{AddressStanding, Inputs, Override, PoolPast, RegionSets, Standing};
use assemble::{Basis, assemble};
use checks::Index;
use dirty::Dirty;
use hosts::Hosts;
use pools::PoolMemory;
use suspicion::Suspicion;
use targets::{Sources, TargetRef, Targets};

/// The parts of the config that the state depends on.
#[derive(Clone, Debug)]
pub struct World {
    /// Regions, endpoints, services and probes.
    pub topology: Arc<Topology>,
    /// The sets of regions that clients of its services may be sent to.
    pub sets: Arc<RegionSets>,
    /// The safety rules.
    pub rules: Rules,
    /// Whether any service has a computed TTL.
    pub computes_ttl: bool,
}

/// What a node remembers from its last run.
#[derive(Clone, Debug, Default)]
pub struct SavedState {
    /// The overrides of the last run.
    pub overrides: Vec<Override>,
    /// The largest override id ever given.
    pub last_override: u64,
    /// The verdicts of the last run, and when each was last known to be true.
    pub verdicts: Vec<(CheckId, SavedVerdict, Unix)>,
    /// The addresses that hosts had in the last run.
    pub hosts: BTreeMap<Name, Vec<IpAddr>>,
}

/// An override that was set.
#[derive(Clone, Debug, PartialEq)]
pub struct SetOverride {
    /// The override.
    pub subject: Override,
    /// The override of the same target that it replaced.
    pub replaced: Option<Override>,
    /// Why it has no effect right now, as a clause; `None` if it may have one.
    pub no_effect: Option<String>,
}

/// A check to be run.
#[derive(Clone, Debug)]
pub struct CheckToRun {
    /// The check.
    pub id: CheckId,
    /// Passed back with every result; results of an older generation do not count.
    pub generation: u32,
    /// The probe to run.
    pub probe: Arc<Probe>,
    /// Whether it has no result yet. If so, a failed probe is repeated immediately.
    pub is_new: bool,
}

/// The state of a node. Its owner is the single writer; copies are for trying what would happen.
#[derive(Clone, Debug)]
pub struct State {
    world: World,
    hosts: Hosts,
    targets: Targets,
    suspicion: Suspicion,
    /// By the name of the pool.
    pools: BTreeMap<String, PoolMemory>,
    overrides: Vec<Override>,
    last_override: u64,
    standing: Arc<Standing>,
    epoch: u64,
    unserved: Vec<Unserved>,
    events: Vec<EventKind>,
    /// The regions and pools whose standing may have changed.
    dirty: Dirty,
    /// The verdicts of the last run, kept for addresses of hosts that are not resolved yet.
    remembered: Vec<(CheckId, SavedVerdict, Unix)>,
    /// Checks whose changed verdict is to be saved.
    changed_verdicts: Vec<Index>,
    /// Hosts whose changed addresses are to be saved.
    changed_hosts: BTreeSet<Name>,
    /// Whether the set of checks to run has changed.
    has_new_checks: bool,
    blind_reported: bool,
    /// How far the wall clock is ahead of the monotonic one, in milliseconds.
    wall_clock_ahead: i128,
}

impl State {
    /// A node that has just started.
    #[must_use]
    pub fn new(world: World, remembered: SavedState, now: Now) -> Self {
        let mut hosts = Hosts::default();
        hosts.set(&world.topology);
        hosts.restore(&remembered.hosts);
        let targets = Targets::of(&Sources {
            topology: &world.topology,
            hosts: &hosts,
            rules: &world.rules,
            before: &Targets::default(),
            suspicion: &Suspicion::None,
            now,
        });
        let mut state = Self {
            dirty: Dirty::none(&world.topology),
            world,
            hosts,
            targets,
            suspicion: Suspicion::None,
            pools: BTreeMap::new(),
            overrides: remembered.overrides,
            last_override: remembered.last_override,
            standing: Arc::default(),
            epoch: 1,
            unserved: Vec::new(),
            events: Vec::new(),
            remembered: remembered.verdicts,
            changed_verdicts: Vec::new(),
            changed_hosts: BTreeSet::new(),
            has_new_checks: true,
            blind_reported: false,
            wall_clock_ahead: now.ahead_millis(),
        };
        state.overrides.retain(|o| o.holds_at(now.unix));
        state.restore(now);
        state.standing = Arc::new(state.compute(&state.overrides, now.unix));
        state
    }

    /// Restores the verdicts of the last run that are recent enough to still be valid.
    fn restore(&mut self, now: Now) {
        for (id, memory, seen) in &self.remembered {
            let Some(index) = self.targets.checks.find(id) else { continue };
            let probe = &self.targets.checks.list[index as usize].probe;
            let good_for = probe.interval * 3 + probe.thresholds.hold;
            if now.unix.since(*seen) <= good_for && *seen <= now.unix {
                self.targets.checks.restore(index, memory, now);
            }
        }
    }

    /// The current standing.
    #[must_use]
    pub fn standing(&self) -> &Arc<Standing> {
        &self.standing
    }

    /// Incremented with every published change.
    #[must_use]
    pub fn epoch(&self) -> u64 {
        self.epoch
    }

    /// Counts a published change that is not one of the state.
    pub fn count_change(&mut self) {
        self.epoch += 1;
    }

    /// The parts of the config that the state depends on.
    #[must_use]
    pub fn world(&self) -> &World {
        &self.world
    }

    /// The active overrides, oldest first.
    #[must_use]
    pub fn overrides(&self) -> &[Override] {
        &self.overrides
    }

    /// The status of each check, sorted by region, endpoint, address and probe, then anchors.
    #[must_use]
    pub fn checks(&self, now: Now) -> Vec<CheckStatus> {
        self.targets.status(now)
    }

    /// The status of each host that is resolved, in order of name.
    #[must_use]
    pub fn hosts(&self) -> Vec<HostStatus> {
        self.hosts.status()
    }

    /// The checks to run, in the same order.
    pub fn checks_to_run(&self) -> impl Iterator<Item = CheckToRun> {
        self.targets.checks.list.iter().map(|check| CheckToRun {
            id: check.id.clone(),
            generation: check.generation,
            probe: Arc::clone(&check.probe),
            is_new: !check.is_seen(),
        })
    }

    /// Whether the set of checks to run has changed since the last call.
    pub fn take_new_checks(&mut self) -> bool {
        std::mem::take(&mut self.has_new_checks)
    }

    /// Whether every check has a result and every host has been looked up.
    #[must_use]
    pub fn is_ready(&self) -> bool {
        self.targets.checks.all_seen() && self.hosts.all_looked_up()
    }

    /// The events since the last call, oldest first.
    pub fn take_events(&mut self) -> Vec<EventKind> {
        std::mem::take(&mut self.events)
    }

    /// The verdicts that have changed since the last call, in the form to be saved for a restart.
    pub fn take_changed_verdicts(&mut self, now: Now) -> Vec<(CheckId, SavedVerdict)> {
        let mut changed = std::mem::take(&mut self.changed_verdicts);
        changed.sort_unstable();
        changed.dedup();
        let checks = changed.into_iter().map(|index| &self.targets.checks.list[index as usize]);
        checks.filter_map(|check| Some((check.id.clone(), check.verdict.memory(now)?))).collect()
    }

    /// All verdicts, in the form to be saved for a restart.
    #[must_use]
    pub fn verdicts(&self, now: Now) -> Vec<(CheckId, SavedVerdict)> {
        let checks = self.targets.checks.list.iter();
        checks.filter_map(|check| Some((check.id.clone(), check.verdict.memory(now)?))).collect()
    }

    /// Records the outcome of a check. Outcomes of a removed check or of an older generation are ignored.
    pub fn observe(
        &mut self,
        id: &CheckId,
        generation: u32,
        outcome: Result<&Observation, &CannotProbe>,
        now: Now,
    ) {
        let Some(index) = self.targets.checks.find(id) else { return };
        if self.targets.checks.list[index as usize].generation != generation {
            return;
        }
        let place = self.targets.place(index);
        let before = place.map(|place| self.targets.found_at(place));
        let changed = self.targets.checks.observe(index, outcome, now);
        let Some((place, before)) = place.zip(before) else { return };
        if before.serves() && !self.targets.found_at(place).serves() {
            self.targets.stopped_serving(place, now.unix);
        }
        if changed.memory {
            self.changed_verdicts.push(index);
        }
        if changed.state || (changed.due && self.world.computes_ttl) {
            self.dirty.mark(place.0);
        }
        if changed.state && self.targets.has_outlived_addresses(place.0) {
            self.renew_targets(now);
        }
    }

    /// Records the result of looking up a host.
    pub fn resolve(&mut self, host: Name, lookup: Lookup, now: Now) {
        let before = self.hosts.addresses(&host).to_vec();
        let event = self.hosts.apply(host.clone(), lookup, now.unix);
        self.events.extend(event);
        if self.hosts.addresses(&host) != before {
            self.changed_hosts.insert(host.clone());
            self.renew_targets(now);
        }
        self.dirty.mark_users(&self.world.topology, &host);
    }

    /// Rebuilds the targets after the addresses of a host changed, kept addresses became unnecessary, or the config
    /// changed.
    fn renew_targets(&mut self, now: Now) {
        self.targets = Targets::of(&Sources {
            topology: &self.world.topology,
            hosts: &self.hosts,
            rules: &self.world.rules,
            before: &self.targets,
            suspicion: &self.suspicion,
            now,
        });
        self.restore(now);
        // The indices of checks have changed: save all verdicts.
        self.changed_verdicts = (0..self.targets.checks.list.len() as Index).collect();
        self.has_new_checks = true;
    }

    /// Removes the overrides that have expired and returns them; ends ejections. To be called once a second.
    pub fn tick(&mut self, now: Now) -> Vec<Override> {
        let (held, ended): (Vec<_>, Vec<_>) =
            std::mem::take(&mut self.overrides).into_iter().partition(|o| o.holds_at(now.unix));
        self.overrides = held;
        self.refresh_dues();
        self.tick_pools(now);
        self.recompute(now);
        if !ended.is_empty() {
            self.events.extend(ended.iter().cloned().map(EventKind::Expired));
            let standing = self.compute(&self.overrides, now.unix);
            self.publish(standing, now);
        }
        ended
    }

    /// With `suspect_self`, when a failing target can change depends on how long it has failed.
    fn refresh_dues(&mut self) {
        if self.world.computes_ttl && self.world.rules.suspect_self.is_some() {
            self.targets.cut_off().for_each(|at| self.dirty.mark(TargetRef::Endpoint(at)));
        }
    }

    /// The standing, computed from scratch.
    fn compute(&self, overrides: &[Override], now: Unix) -> Standing {
        self.assemble(overrides, now, None)
    }

    fn assemble(&self, overrides: &[Override], now: Unix, dirty: Option<&Dirty>) -> Standing {
        let previous = |id: RegionId| self.standing.regions.get(usize::from(id.0));
        let inputs = Inputs {
            topology: &self.world.topology,
            addresses: &|at| self.targets.standing(TargetRef::Endpoint(at), &self.suspicion),
            backend_addresses: &|at| self.targets.standing(TargetRef::Backend(at), &self.suspicion),
            pool_past: &|id| self.pool_past(id),
            overrides,
            previous: &previous,
            now,
        };
        let due = |at: EndpointRef| self.due(at, now);
        let severity_due = |at: EndpointRef| self.targets.severity_due(at);
        let held = &self.standing.held;
        let basis = Basis { world: &self.world, inputs, due: &due, severity_due: &severity_due, held };
        let kept = dirty.map(|dirty| assemble::Kept { standing: &self.standing, dirty });
        Standing { suspected: self.suspicion.suspected(), ..assemble(&basis, kept.as_ref()) }
    }

    /// The earliest time at which an endpoint's part in steering can change.
    fn due(&self, at: EndpointRef, now: Unix) -> Due {
        let endpoint = self.world.topology.endpoint(at);
        let has_rule = self.world.rules.suspect_self.is_some();
        let may_be_own = || has_rule && self.targets.is_just_cut_off(at, now);
        if self.suspicion.is_active() || may_be_own() {
            return Due::ANY_TIME;
        }
        self.targets.due(at, endpoint, &self.hosts)
    }
}

/// The standing of a config without a running node, for `explain` offline: `of` returns the state of each address that
/// the config lists, by its endpoint and its index in the endpoint. Backends count as up.
#[must_use]
pub fn assume(
    world: &World,
    overrides: &[Override],
    now: Unix,
    of: &dyn Fn(EndpointRef, usize) -> Health,
) -> Standing {
    let topology = &world.topology;
    let addresses = |at: EndpointRef| {
        let listed = topology.endpoint(at).listed().iter().enumerate();
        listed.map(|(index, address)| AddressStanding::observed(*address, of(at, index))).collect()
    };
    let due = |at: EndpointRef| {
        let probes = topology.endpoint(at).healthy_when.probes();
        probes.into_iter().map(|id| Due::while_steady(topology.probe(id))).fold(Due::NEVER, Due::min)
    };
    let backend_addresses = |at: BackendRef| {
        let listed = topology.backend(at).listed().iter();
        listed.map(|address| AddressStanding::observed(*address, Health::Up)).collect()
    };
    let inputs = Inputs {
        topology,
        addresses: &addresses,
        backend_addresses: &backend_addresses,
        pool_past: &|_| PoolPast::default(),
        overrides,
        previous: &|_| None,
        now,
    };
    assemble(&Basis { world, inputs, due: &due, severity_due: &due, held: &[] }, None)
}

#[cfg(test)]
mod tests;
