//! Publishes changes: a new standing, and the events about what changed.

use std::cell::Cell;
use std::collections::{BTreeSet, HashSet};
use std::net::IpAddr;
use std::sync::Arc;

use super::checks::Check;
use super::event::EventKind;
use super::targets::TargetRef;
use super::{State, World};
use crate::health::{self, Part, State as Health};
use crate::model::{BackendRef, Endpoint, EndpointRef, Mono, Now, RegionId, Rule, Subject, Topology};
use crate::safety::{self, Unserved};
use crate::standing::{self, AddressStanding, EndpointStanding, Standing};

/// The evidence for a region's state that no observation caused.
const WITHOUT_OBSERVATIONS: &str = "its endpoints, addresses or `healthy_when` changed";

/// An address of an endpoint whose state changed.
struct ChangedAddress {
    at: EndpointRef,
    address: IpAddr,
    from: Health,
    to: Health,
}

/// A wall clock that moves against the monotonic one by more than this has been set.
const CLOCK_STEP_MILLIS: i128 = 500;

impl State {
    /// Recomputes the standing of the regions that changes affect, and publishes it if it differs. Returns whether it
    /// does.
    pub fn recompute(&mut self, now: Now) -> bool {
        self.notice_clock_step(now);
        self.update_suspicion(now);
        self.report_blind();
        if !self.dirty.any() {
            return false;
        }
        let dirty = self.dirty.take();
        let standing = self.assemble(&self.overrides, now.unix, Some(&dirty));
        let same_regions = dirty
            .regions
            .iter()
            .enumerate()
            .all(|(index, dirty)| !dirty || standing.regions[index] == self.standing.regions[index]);
        let is_same = same_regions && standing.pools == self.standing.pools;
        let rest = |it: &Standing| (it.held.clone(), it.dues.clone(), it.suspected);
        if is_same && rest(&standing) == rest(&self.standing) {
            return false;
        }
        self.publish(standing, now);
        true
    }

    /// Moments by the wall clock mean nothing once it has been set: until the next results anything may change at once.
    fn notice_clock_step(&mut self, now: Now) {
        let ahead = now.ahead_millis();
        if (ahead - self.wall_clock_ahead).abs() > CLOCK_STEP_MILLIS {
            self.targets.checks.list.iter_mut().for_each(Check::unsettle);
            if self.world.computes_ttl {
                self.dirty.mark_regions();
            }
        }
        self.wall_clock_ahead = ahead;
    }

    pub(super) fn update_suspicion(&mut self, now: Now) {
        let before = self.suspicion.suspected();
        let anchors = self.targets.anchors.clone();
        let event = self.suspicion.update(&self.targets.checks, anchors, &self.world.rules, now);
        self.events.extend(event);
        if before != self.suspicion.suspected() {
            self.dirty.mark_all();
        }
    }

    /// Raises an alarm when this node cannot run some checks, and clears it when it can run all of them again.
    fn report_blind(&mut self) {
        let checks = &self.targets.checks;
        if self.blind_reported == (checks.blind > 0) {
            return;
        }
        self.blind_reported = checks.blind > 0;
        let blind = checks.list.iter().find_map(|check| Some((&check.id, check.blind.as_ref()?)));
        self.events.push(match blind {
            Some((id, blind)) => EventKind::Alarm {
                message: format!(
                    "this node cannot probe {id}: {}; what it cannot probe is shown as unobserved",
                    blind.reason
                ),
            },
            None => EventKind::AllClear { message: "this node can probe everything again".into() },
        });
    }

    /// Publishes a standing of the current config.
    pub(super) fn publish(&mut self, standing: Standing, now: Now) {
        let World { topology, sets, .. } = &self.world;
        let topology = Arc::clone(topology);
        let unserved = safety::unserved(&topology, sets, &standing);
        let before = (Arc::clone(&topology), std::mem::take(&mut self.unserved));
        self.replace(standing, before.0, before.1, unserved, now);
    }

    /// Publishes a standing and reports what changed. `topology_before` is the topology of the standing being replaced;
    /// `was_unserved` lists what could not be served until now, by the ids of the current config.
    pub(super) fn replace(
        &mut self,
        mut standing: Standing,
        topology_before: Arc<Topology>,
        was_unserved: Vec<Unserved>,
        unserved: Vec<Unserved>,
        now: Now,
    ) {
        self.note_starts(&mut standing, &topology_before, now);
        let held_before = held(&self.standing, &topology_before);
        let before = std::mem::replace(&mut self.standing, Arc::new(standing));
        self.epoch += 1;
        self.report_transitions(&before, &topology_before);
        self.report_pool_transitions(&before, &topology_before);
        self.report_panic(&before, &topology_before);
        self.end_ejections(&before, &topology_before, now);
        self.report_held(&held_before);
        self.report_unserved(&was_unserved, &unserved);
        self.unserved = unserved;
    }

    /// Reports the addresses and regions whose state changed, each region after its addresses. New ones are not
    /// reported.
    fn report_transitions(&mut self, before: &Standing, topology_before: &Topology) {
        let topology = Arc::clone(&self.world.topology);
        let standing = Arc::clone(&self.standing);
        let changed = self.changed_addresses(before, topology_before);
        let all: HashSet<(EndpointRef, IpAddr)> = changed.iter().map(|it| (it.at, it.address)).collect();
        let mut changed = changed.into_iter().peekable();
        for id in topology.region_ids() {
            let region = topology.region(id);
            while let Some(ChangedAddress { at, address, from, to }) =
                changed.next_if(|it| it.at.region == id)
            {
                let subject = Subject::Address {
                    region: region.name.as_str().into(),
                    endpoint: region.endpoints[usize::from(at.index)].name.as_str().into(),
                    address,
                };
                let evidence = self.targets.evidence(TargetRef::Endpoint(at), address, to);
                self.events.push(EventKind::Transition { subject, from, to, evidence });
            }
            let Some(old_id) = same(id, &region.name, topology_before) else { continue };
            let (from, to) = (before.region(old_id).state, standing.region(id).state);
            if from != to {
                let subject = Subject::Region(region.name.as_str().into());
                let evidence =
                    self.region_evidence(id, &all).unwrap_or_else(|| WITHOUT_OBSERVATIONS.to_owned());
                self.events.push(EventKind::Transition { subject, from, to, evidence });
            }
        }
    }

    /// The addresses of endpoints, present before and after, whose state changed, by region.
    fn changed_addresses(&self, before: &Standing, topology_before: &Topology) -> Vec<ChangedAddress> {
        let topology = &self.world.topology;
        let mut changed = Vec::new();
        for id in topology.region_ids() {
            let region = topology.region(id);
            let Some(old_id) = same(id, &region.name, topology_before) else { continue };
            let (old_region, old, new) =
                (topology_before.region(old_id), before.region(old_id), self.standing.region(id));
            if Arc::ptr_eq(&old.endpoints, &new.endpoints) {
                continue;
            }
            for (index, endpoint) in region.endpoints.iter().enumerate() {
                let at = EndpointRef { region: id, index: index as u16 };
                let is_it = |it: &Endpoint| it.name == endpoint.name;
                let old_index = match old_region.endpoints.get(index) {
                    Some(it) if is_it(it) => Some(index),
                    _ => old_region.endpoints.iter().position(is_it),
                };
                let Some(old_index) = old_index else { continue };
                let its = changes(&old.endpoints[old_index], &new.endpoints[index]).into_iter();
                changed.extend(its.map(|(address, from, to)| ChangedAddress { at, address, from, to }));
            }
        }
        changed
    }

    /// What led to the state of a region, as a clause: the evidence of the address that decides. `None` if none of those that
    /// changed just now matters to the region.
    fn region_evidence(&self, id: RegionId, changed: &HashSet<(EndpointRef, IpAddr)>) -> Option<String> {
        let topology = &self.world.topology;
        let matters = Cell::new(false);
        let endpoint = |at: EndpointRef| {
            let endpoint = &self.standing.region(at.region).endpoints[usize::from(at.index)];
            let part = |it: &AddressStanding| {
                let is_changed = changed.contains(&(at, it.address));
                matters.set(matters.get() || is_changed);
                // A change of severity counts, too, although the state of the check stays the same.
                let since = (is_changed, self.targets.decided_at(at, it.address));
                Part { state: it.state, since, by: Some((at, it.address, it.state)) }
            };
            let addresses = endpoint.addresses.iter().map(part).collect();
            let without = Part { state: endpoint.state, since: (false, Mono::default()), by: None };
            Some(health::any_of(addresses).unwrap_or(without))
        };
        let found = standing::decide(topology, id, &endpoint)?;
        let (at, address, state) = found.by.filter(|_| matters.get())?;
        let evidence = self.targets.evidence(TargetRef::Endpoint(at), address, state);
        let name = &topology.endpoint(at).name;
        Some(match topology.region(at.region) {
            _ if at.region == id => format!("{name} {evidence}"),
            other => format!("region {}: {name} {evidence}", other.name),
        })
    }

    /// Reports the addresses of backends whose state changed, and pools that lost or got back their last backend that
    /// serves. New ones are not reported.
    fn report_pool_transitions(&mut self, before: &Standing, topology_before: &Topology) {
        let topology = Arc::clone(&self.world.topology);
        let standing = Arc::clone(&self.standing);
        for (pool, id) in topology.pools.iter().zip(topology.pool_ids()) {
            let Some(old_id) = topology_before.pool_named(&pool.name) else { continue };
            let (old, new) = (before.pool(old_id), standing.pool(id));
            let old_backends = &topology_before.pool(old_id).backends;
            for (index, backend) in pool.backends.iter().enumerate() {
                let old_index = old_backends.iter().position(|it| it.name == backend.name);
                let Some(old_index) = old_index else { continue };
                for (address, from, to) in changes(&old.backends[old_index], &new.backends[index]) {
                    let (pool, name) = (pool.name.as_str().into(), backend.name.as_str().into());
                    let subject = Subject::Backend { pool, backend: name, address };
                    let at = TargetRef::Backend(BackendRef { pool: id, index: index as u16 });
                    let evidence = self.targets.evidence(at, address, to);
                    self.events.push(EventKind::Transition { subject, from, to, evidence });
                }
            }
            let message = match (old.serves(), new.serves()) {
                (true, false) => format!("no backend of pool `{}` serves", pool.name),
                (false, true) => format!("pool `{}` has a backend that serves", pool.name),
                _ => continue,
            };
            let is_lost = old.serves();
            let event = if is_lost { EventKind::Alarm { message } } else { EventKind::AllClear { message } };
            self.events.push(event);
        }
    }

    fn report_held(&mut self, before: &BTreeSet<(String, Rule)>) {
        let now = held(&self.standing, &self.world.topology);
        for (region, rule) in before.difference(&now).cloned() {
            self.events.push(EventKind::Released { region, rule });
        }
        for (region, rule) in now.difference(before).cloned() {
            self.events.push(EventKind::Held { region, rule });
        }
    }

    /// Raises an alarm for services that can no longer be served, and clears it for those that can be served again.
    fn report_unserved(&mut self, before: &[Unserved], now: &[Unserved]) {
        let topology = &self.world.topology;
        let without = |these: &[Unserved], those: &[Unserved]| -> Vec<Unserved> {
            these.iter().filter(|it| those.binary_search(it).is_err()).copied().collect()
        };
        let raised = safety::alarm(topology, &without(now, before));
        self.events.extend(raised.map(|message| EventKind::Alarm { message }));
        let cleared = safety::all_clear(topology, &without(before, now));
        self.events.extend(cleared.map(|message| EventKind::AllClear { message }));
    }
}

/// The regions that rules hold for any clients, by name, because a reload may change their ids.
fn held(standing: &Standing, topology: &Topology) -> BTreeSet<(String, Rule)> {
    let name = |id: RegionId| topology.region(id).name.clone();
    let held = standing.held.iter().map(|held| (name(held.region), held.rule));
    let kept = standing.regions.iter().enumerate();
    let kept = kept.filter_map(|(index, it)| Some((name(RegionId(index as u16)), it.kept_by?)));
    held.chain(kept).collect()
}

/// The region with this name; `id`, where it used to be, is tried first.
pub(super) fn same(id: RegionId, name: &str, topology: &Topology) -> Option<RegionId> {
    let is_unmoved = topology.regions.get(usize::from(id.0)).is_some_and(|region| region.name == name);
    if is_unmoved { Some(id) } else { topology.region_named(name) }
}

/// The addresses of an endpoint, present before and after, whose state changed: address, old state, new state.
fn changes(old: &EndpointStanding, new: &EndpointStanding) -> Vec<(IpAddr, Health, Health)> {
    let before = |index: usize, address| match old.addresses.get(index) {
        Some(it) if it.address == address => Some(it.state),
        _ => old.addresses.iter().find(|it| it.address == address).map(|it| it.state),
    };
    let all = new.addresses.iter().enumerate();
    let known = all.filter_map(|(index, it)| Some((it.address, before(index, it.address)?, it.state)));
    known.filter(|(_, from, to)| from != to).collect()
}
