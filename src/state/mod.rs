//! A node's memory: every check's verdict, every override, what resolvers reported, and how a standing follows.
//!
//! Observations and commands come in, a finished [`Standing`] and events go out. No queues, clocks, files or sockets
//! here, so that a simulation can drive the very code that runs. It knows targets and checks, not zones.
//!
//! Changes are collected: [`State::observe`] and [`State::resolve`] only mark what they touch, [`State::recompute`]
//! works the standing out again, for the touched regions alone. So many flips at once cost little more than one.

mod checks;
mod effect;
mod event;
mod hosts;
mod publish;
mod reload;
mod request;
mod stand;
mod suspicion;
mod targets;

use std::sync::Arc;

pub use checks::CheckStatus;
#[cfg(test)]
pub(crate) use event::samples as event_samples;
pub use event::{Event, EventKind, timestamp};
pub use request::{OverrideRequest, Rejection, check_target};

use crate::health::{Blind, Memory, Observation, State as Health};
use crate::model::{
    CheckId, Condition, Due, EndpointRef, Lookup, Name, Now, Probe, RegionId, Rules, Topology, Unix,
};
use crate::safety::{self, Unserved};
use crate::standing::{AddressStanding, Inputs, Override, RegionSets, Standing};
use checks::Index;
use hosts::Hosts;
use stand::{Basis, stand};
use suspicion::Suspicion;
use targets::{Sources, Targets};

/// What the config says, as far as the state depends on it.
#[derive(Clone, Debug)]
pub struct World {
    /// What there is.
    pub topology: Arc<Topology>,
    /// The sets of regions that clients of its services may be sent to.
    pub sets: Arc<RegionSets>,
    /// What neither automation nor operators may do.
    pub rules: Rules,
    /// Whether the TTL of any service follows from what is due.
    pub computes_ttl: bool,
}

/// What a node starts with.
#[derive(Clone, Debug, Default)]
pub struct Remembered {
    /// The overrides of the last run.
    pub overrides: Vec<Override>,
    /// The largest override id ever given.
    pub last_override: u64,
    /// The verdicts of the last run, and when each was last known to be true.
    pub verdicts: Vec<(CheckId, Memory, Unix)>,
}

/// An override that was set.
#[derive(Clone, Debug, PartialEq)]
pub struct SetOverride {
    /// The override.
    pub subject: Override,
    /// The override of the same target before.
    pub replaced: Option<Override>,
    /// Why it changes nothing now, if it does not.
    pub no_effect: Option<String>,
}

/// A check, for those who make it.
#[derive(Clone, Debug)]
pub struct Wanted {
    /// Which.
    pub id: CheckId,
    /// Results carry it; those of an older generation do not count.
    pub generation: u32,
    /// How it is made.
    pub probe: Arc<Probe>,
    /// Whether it has no result yet: then a failure is repeated at once.
    pub is_new: bool,
}

/// The state of a node. Whoever owns it is the single writer.
#[derive(Debug)]
pub struct State {
    world: World,
    hosts: Hosts,
    targets: Targets,
    suspicion: Suspicion,
    overrides: Vec<Override>,
    last_override: u64,
    standing: Arc<Standing>,
    epoch: u64,
    unserved: Vec<Unserved>,
    events: Vec<EventKind>,
    /// By region: whether something it depends on has changed.
    dirty: Vec<bool>,
    /// By region: the regions whose conditions name it or its endpoints.
    dependents: Vec<Vec<RegionId>>,
    /// The verdicts of the last run, for addresses of hosts that are not known yet.
    remembered: Vec<(CheckId, Memory, Unix)>,
    /// Checks whose verdict is to be kept over a restart.
    changed_verdicts: Vec<Index>,
    /// Whether other checks are wanted than before.
    has_new_checks: bool,
    blind_reported: bool,
    /// How far the wall clock is ahead of the monotonic one, in milliseconds.
    wall_clock_ahead: i128,
}

impl State {
    /// A node that has just started.
    #[must_use]
    pub fn new(world: World, remembered: Remembered, now: Now) -> Self {
        let mut hosts = Hosts::default();
        hosts.set(&world.topology);
        let targets = Targets::of(&Sources {
            topology: &world.topology,
            hosts: &hosts,
            rules: &world.rules,
            before: &Targets::default(),
            suspicion: &Suspicion::None,
            now,
        });
        let mut state = Self {
            dirty: vec![false; world.topology.regions.len()],
            dependents: dependents(&world.topology),
            world,
            hosts,
            targets,
            suspicion: Suspicion::None,
            overrides: remembered.overrides,
            last_override: remembered.last_override,
            standing: Arc::default(),
            epoch: 1,
            unserved: Vec::new(),
            events: Vec::new(),
            remembered: remembered.verdicts,
            changed_verdicts: Vec::new(),
            has_new_checks: true,
            blind_reported: false,
            wall_clock_ahead: now.ahead_millis(),
        };
        state.overrides.retain(|o| o.holds_at(now.unix));
        state.restore(now);
        state.standing = Arc::new(state.compute(&state.overrides, now.unix));
        state
    }

    /// Verdicts hold after a restart as long as they could still be true.
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

    /// What may be used now.
    #[must_use]
    pub fn standing(&self) -> &Arc<Standing> {
        &self.standing
    }

    /// Grows with every change that queries should see.
    #[must_use]
    pub fn epoch(&self) -> u64 {
        self.epoch
    }

    /// What the config says.
    #[must_use]
    pub fn world(&self) -> &World {
        &self.world
    }

    /// The overrides in force, oldest first.
    #[must_use]
    pub fn overrides(&self) -> &[Override] {
        &self.overrides
    }

    /// What each check found: in order of region, endpoint, address and probe, then anchors.
    #[must_use]
    pub fn checks(&self, now: Now) -> Vec<CheckStatus> {
        self.targets.checks.status(now)
    }

    /// The checks to make, in the same order.
    pub fn wanted(&self) -> impl Iterator<Item = Wanted> {
        self.targets.checks.list.iter().map(|check| Wanted {
            id: check.id.clone(),
            generation: check.generation,
            probe: Arc::clone(&check.probe),
            is_new: !check.is_seen(),
        })
    }

    /// Whether other checks are wanted than when this was last called.
    pub fn take_new_checks(&mut self) -> bool {
        std::mem::take(&mut self.has_new_checks)
    }

    /// Whether every check has a result and every host has been looked up.
    #[must_use]
    pub fn is_ready(&self) -> bool {
        self.targets.checks.all_seen() && self.hosts.all_looked_up()
    }

    /// What has happened since this was last called, oldest first.
    pub fn take_events(&mut self) -> Vec<EventKind> {
        std::mem::take(&mut self.events)
    }

    /// The verdicts that have changed since this was last called, as they are to be kept over a restart.
    pub fn take_changed_verdicts(&mut self, now: Now) -> Vec<(CheckId, Memory)> {
        let mut changed = std::mem::take(&mut self.changed_verdicts);
        changed.sort_unstable();
        changed.dedup();
        let checks = changed.into_iter().map(|index| &self.targets.checks.list[index as usize]);
        checks.filter_map(|check| Some((check.id.clone(), check.verdict.memory(now)?))).collect()
    }

    /// All verdicts, as they are to be kept over a restart.
    #[must_use]
    pub fn verdicts(&self, now: Now) -> Vec<(CheckId, Memory)> {
        let checks = self.targets.checks.list.iter();
        checks.filter_map(|check| Some((check.id.clone(), check.verdict.memory(now)?))).collect()
    }

    /// Takes in what came of a check. One that is gone, or of an older generation, changes nothing.
    pub fn observe(
        &mut self,
        id: &CheckId,
        generation: u32,
        outcome: Result<&Observation, &Blind>,
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
            self.targets.ceased(place, now.unix);
        }
        if changed.memory {
            self.changed_verdicts.push(index);
        }
        if changed.state || (changed.due && self.world.computes_ttl) {
            self.touch(place.0.region);
        }
        if changed.state && self.targets.has_outlived_addresses(place.0) {
            self.renew_targets(now);
        }
    }

    /// Takes in what a resolver reported about a host.
    pub fn resolve(&mut self, host: Name, lookup: Lookup, now: Now) {
        let before = self.hosts.addresses(&host).to_vec();
        let event = self.hosts.take_in(host.clone(), lookup, now.unix);
        self.events.extend(event);
        if self.hosts.addresses(&host) != before {
            self.renew_targets(now);
        }
        for id in self.world.topology.clone().region_ids() {
            let mut endpoints = self.world.topology.region(id).endpoints.iter();
            if endpoints.any(|endpoint| endpoint.resolved_host() == Some(&host)) {
                self.touch(id);
            }
        }
    }

    /// Hosts have other addresses, addresses that were kept are needed no longer, or the config is another one.
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
        // Indices of checks have changed: all are kept.
        self.changed_verdicts = (0..self.targets.checks.list.len() as Index).collect();
        self.has_new_checks = true;
    }

    fn touch(&mut self, region: RegionId) {
        self.dirty[usize::from(region.0)] = true;
        for dependent in &self.dependents[usize::from(region.0)] {
            self.dirty[usize::from(dependent.0)] = true;
        }
    }

    /// Sets an override, in the place of the one of the same target.
    ///
    /// # Errors
    /// There is no such target, it makes no sense, or a safety rule forbids it. Nothing changes then.
    pub fn set_override(&mut self, request: OverrideRequest, now: Now) -> Result<SetOverride, Rejection> {
        self.recompute(now);
        let override_safety = request.override_safety;
        let new = request.accept(&self.world.topology, self.last_override + 1, now.unix)?;
        let mut overrides = self.overrides.clone();
        let replaced = overrides.iter().position(|o| o.target == new.target).map(|at| overrides.remove(at));
        overrides.push(new.clone());
        let after = self.permitted(&overrides, override_safety, now)?;
        let no_effect = effect::none(&self.world, &self.standing, &after, &new);
        self.last_override = new.id;
        self.overrides = overrides;
        self.events.push(EventKind::Overridden(new.clone()));
        self.publish(after);
        Ok(SetOverride { subject: new, replaced, no_effect })
    }

    /// Removes an override, as somebody asks.
    ///
    /// # Errors
    /// There is no such override, or a safety rule forbids it. Nothing changes then.
    pub fn remove_override(
        &mut self,
        id: u64,
        by: String,
        override_safety: bool,
        now: Now,
    ) -> Result<Override, Rejection> {
        self.recompute(now);
        let Some(index) = self.overrides.iter().position(|o| o.id == id) else {
            return Err(Rejection::NotFound(format!("there is no override {id}")));
        };
        let mut overrides = self.overrides.clone();
        let gone = overrides.remove(index);
        let after = self.permitted(&overrides, override_safety, now)?;
        self.overrides = overrides;
        self.events.push(EventKind::Restored { subject: gone.clone(), by });
        self.publish(after);
        Ok(gone)
    }

    /// The standing under these overrides, if the safety rules allow it.
    fn permitted(
        &self,
        overrides: &[Override],
        override_safety: bool,
        now: Now,
    ) -> Result<Standing, Rejection> {
        let after = self.compute(overrides, now.unix);
        if !override_safety {
            let World { topology, sets, rules, .. } = &self.world;
            safety::permit(rules, sets, &self.standing, &after)
                .map_err(|refusal| Rejection::Unsafe(refusal.explain(topology, sets)))?;
        }
        Ok(after)
    }

    /// Lets time pass: ends the overrides whose time is over, and returns them. To be called once a second.
    pub fn tick(&mut self, now: Now) -> Vec<Override> {
        let (held, ended): (Vec<_>, Vec<_>) =
            std::mem::take(&mut self.overrides).into_iter().partition(|o| o.holds_at(now.unix));
        self.overrides = held;
        self.refresh_dues();
        self.recompute(now);
        if !ended.is_empty() {
            self.events.extend(ended.iter().cloned().map(EventKind::Expired));
            let standing = self.compute(&self.overrides, now.unix);
            self.publish(standing);
        }
        ended
    }

    /// With `suspect_self`, what is due of a target that fails depends on how long it does.
    fn refresh_dues(&mut self) {
        if self.world.computes_ttl && self.world.rules.suspect_self.is_some() {
            let regions: Vec<RegionId> = self.targets.cut_off().map(|at| at.region).collect();
            regions.into_iter().for_each(|region| self.touch(region));
        }
    }

    /// The standing, worked out from scratch.
    fn compute(&self, overrides: &[Override], now: Unix) -> Standing {
        self.stand(overrides, now, None)
    }

    fn stand(&self, overrides: &[Override], now: Unix, dirty: Option<&[bool]>) -> Standing {
        let previous = |id: RegionId| self.standing.regions.get(usize::from(id.0));
        let inputs = Inputs {
            topology: &self.world.topology,
            addresses: &|at| self.targets.standing(at, &self.suspicion),
            overrides,
            previous: &previous,
            now,
        };
        let due = |at: EndpointRef| self.due(at, now);
        let basis = Basis { world: &self.world, inputs, due: &due, held: &self.standing.held };
        let kept = dirty.map(|dirty| stand::Kept { standing: &self.standing, dirty });
        Standing { suspected: self.suspicion.is_active(), ..stand(&basis, kept.as_ref()) }
    }

    /// When what an endpoint is to steering can change at the earliest. A rule for several regions may hold one that is
    /// down beside others that serve, as soon as one result makes its failure soft.
    fn due(&self, at: EndpointRef, now: Unix) -> Due {
        let endpoint = self.world.topology.endpoint(at);
        let is_down = || self.targets.standing(at, &self.suspicion).iter().any(|it| it.state.is_down());
        let rules = &self.world.rules;
        let may_be_own = || rules.suspect_self.is_some() && self.targets.is_just_cut_off(at, now);
        if self.suspicion.is_active() || (rules.min_regions > 1 && is_down()) || may_be_own() {
            return Due::ANY_TIME;
        }
        self.targets.due(at, endpoint, &self.hosts)
    }
}

/// The standing of a world without a node: every address that the config lists is in the state that `of` gives, by its
/// endpoint and its index there. For explanations offline.
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
        probes.into_iter().map(|id| Due::while_good(topology.probe(id))).fold(Due::NEVER, Due::min)
    };
    let inputs = Inputs { topology, addresses: &addresses, overrides, previous: &|_| None, now };
    stand(&Basis { world, inputs, due: &due, held: &[] }, None)
}

/// By region: the regions whose conditions name it or its endpoints, by way of others, too.
fn dependents(topology: &Topology) -> Vec<Vec<RegionId>> {
    let mut dependents = vec![Vec::new(); topology.regions.len()];
    for id in topology.region_ids() {
        let mut seen = vec![id];
        let mut next = 0;
        while let Some(region) = seen.get(next).copied() {
            next += 1;
            topology.region(region).healthy_when.leaves(&mut |leaf| {
                let named = match leaf {
                    Condition::Endpoint(at) => at.region,
                    Condition::Region(region) => *region,
                    _ => return,
                };
                if !seen.contains(&named) {
                    seen.push(named);
                }
            });
        }
        for region in &seen[1..] {
            dependents[usize::from(region.0)].push(id);
        }
    }
    dependents
}

#[cfg(test)]
mod tests;
