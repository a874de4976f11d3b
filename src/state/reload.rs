//! Replaces the config: verdicts, overrides and held regions carry over by name.

use std::collections::{BTreeSet, HashSet};
use std::sync::Arc;
use std::time::Duration;

use super::assemble::{Basis, assemble};
use super::dirty::Dirty;
use super::event::EventKind;
use super::publish::same;
use super::targets::TargetRef;
use super::{State, World};
use crate::health::{Observation, ProbeResult};
use crate::model::{EndpointRef, Now, RegionId, Subject, Topology};
use crate::safety::{self, Unserved};
use crate::standing::{Held, HeldFor, Inputs, SetId, Standing};

/// What a reload would lead to.
#[derive(Clone, Debug)]
pub struct ReloadPreview {
    /// The standing by the new config, once the first probes of what it adds have succeeded.
    pub standing: Arc<Standing>,
    /// The regions with addresses or checks that were taken to be up, because there is no result of them yet.
    pub assumed_up: BTreeSet<Arc<str>>,
}

impl State {
    /// Switches to another config; `reloaded` is the event to emit about it.
    pub fn reload(&mut self, world: World, reloaded: EventKind, now: Now) {
        self.recompute(now);
        let old = std::mem::replace(&mut self.world, world);
        self.hosts.set(&self.world.topology);
        self.renew_targets(now);
        self.update_suspicion(now);
        let World { topology, sets, .. } = &self.world;
        self.dirty = Dirty::none(topology);
        let held = carried_held(&self.standing.held, &old, &self.world);
        let previous = |id: RegionId| {
            let before = same(id, &topology.region(id).name, &old.topology)?;
            Some(self.standing.region(before))
        };
        let inputs = Inputs {
            topology,
            addresses: &|at| self.targets.standing(TargetRef::Endpoint(at), &self.suspicion),
            backend_addresses: &|at| self.targets.standing(TargetRef::Backend(at), &self.suspicion),
            pool_past: &|id| self.pool_past(id),
            overrides: &self.overrides,
            previous: &previous,
            now: now.unix,
        };
        let due = |at: EndpointRef| self.due(at, now.unix);
        let severity_due = |at: EndpointRef| self.targets.severity_due(at);
        let basis = Basis { world: &self.world, inputs, due: &due, severity_due: &severity_due, held: &held };
        let standing = assemble(&basis, None);
        let was_unserved = carried_unserved(&self.unserved, &old.topology, topology);
        let unserved = safety::unserved(topology, sets, &standing);
        self.events.push(reloaded);
        self.replace(standing, old.topology, was_unserved, unserved, now);
    }

    /// What a reload of another config would lead to. What was probed before keeps its verdict, as at a reload; the first
    /// probes of what was not are taken to succeed.
    #[must_use]
    pub fn after_reload(mut self, world: World, now: Now) -> ReloadPreview {
        let before: HashSet<Subject> = self.checks_to_run().map(|check| check.id.subject).collect();
        self.reload(world, EventKind::Reloaded { warnings: Vec::new(), by: String::new() }, now);
        let new: Vec<_> = self.checks_to_run().filter(|it| !before.contains(&it.id.subject)).collect();
        let success = Observation::Probe(ProbeResult { took: Duration::ZERO, rtt: None, failure: None });
        let mut assumed_up = BTreeSet::new();
        for check in new {
            self.observe(&check.id, check.generation, Ok(&success), now);
            if let Subject::Region(region) | Subject::Address { region, .. } = check.id.subject {
                assumed_up.insert(region);
            }
        }
        self.recompute(now);
        ReloadPreview { standing: self.standing, assumed_up }
    }
}

/// The held regions, translated to the ids of the new config; what it no longer has is left out.
fn carried_held(held: &[Held], old: &World, new: &World) -> Vec<Held> {
    if held.is_empty() {
        return Vec::new();
    }
    let services = new.topology.services_by_key();
    let region = |id: RegionId| new.topology.region_named(&old.topology.region(id).name);
    let set = |set: SetId| {
        let mut regions: Vec<RegionId> = old.sets.regions(set).iter().filter_map(|id| region(*id)).collect();
        regions.sort_unstable();
        new.sets.find(&regions)
    };
    let carried = held.iter().filter_map(|it| {
        let scope = match it.scope {
            HeldFor::Set(id) => HeldFor::Set(set(id)?),
            HeldFor::Service(service, id) => {
                HeldFor::Service(*services.get(&old.topology.service(service).key())?, set(id)?)
            }
        };
        Some(Held { scope, region: region(it.region)?, ..*it })
    });
    carried.collect()
}

/// What could not be served, translated to the ids of the new topology and sorted.
fn carried_unserved(unserved: &[Unserved], old: &Topology, new: &Topology) -> Vec<Unserved> {
    if unserved.is_empty() {
        return Vec::new();
    }
    let services = new.services_by_key();
    let carried = unserved.iter().filter_map(|it| {
        let service = *services.get(&old.service(it.service).key())?;
        Some(Unserved { service, ..*it })
    });
    let mut carried: Vec<Unserved> = carried.collect();
    carried.sort_unstable();
    carried
}
