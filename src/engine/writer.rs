//! What the engine writes: every verdict, override and standing, and how they follow from each other.
//!
//! No queues, clocks, files or sockets here, so that a simulation can drive the very code that runs.

use std::collections::{BTreeSet, HashSet};
use std::net::IpAddr;
use std::sync::Arc;

use super::checks::{CheckStatus, Checks};
use super::command::{OverrideRequest, Rejection};
use super::event::{EventKind, Subject};
use crate::health::{Observation, State};
use crate::model::{Due, Endpoint, EndpointRef, Now, RegionId, Service, ServiceId, Target, Topology, Unix};
use crate::probe::CheckKey;
use crate::safety::{self, Rule, Rules};
use crate::snapshot::{Plan, Snapshot};
use crate::standing::{Dues, Inputs, Override, RegionStanding, Standing};

/// What led to a state that no look did: a reload, or other addresses of a host.
const WITHOUT_LOOKS: &str = "it has other endpoints or addresses, or another rule of what makes it so";

/// The state of a node. Whoever owns it is the single writer.
#[derive(Debug)]
pub struct Writer {
    plan: Arc<Plan>,
    rules: Rules,
    checks: Checks,
    overrides: Vec<Override>,
    last_override: u64,
    standing: Arc<Standing>,
    epoch: u64,
    events: Vec<EventKind>,
}

impl Writer {
    /// A node that has just started: nobody has been looked at. `overrides` are those of the last run, and
    /// `last_override` the largest id ever given.
    #[must_use]
    pub fn new(
        plan: Arc<Plan>,
        rules: Rules,
        overrides: Vec<Override>,
        last_override: u64,
        now: Now,
    ) -> Self {
        let mut writer = Self {
            checks: Checks::of(&plan.topology, &Checks::default(), now),
            plan,
            rules,
            overrides,
            last_override,
            standing: Arc::default(),
            epoch: 0,
            events: Vec::new(),
        };
        writer.overrides.retain(|o| o.holds_at(now.unix));
        let standing = writer.compute(&writer.overrides, None, now.unix);
        writer.publish(standing);
        writer
    }

    /// What queries should see now.
    #[must_use]
    pub fn snapshot(&self) -> Snapshot {
        Snapshot { plan: Arc::clone(&self.plan), standing: Arc::clone(&self.standing), epoch: self.epoch }
    }

    /// Grows with every change that queries should see.
    #[must_use]
    pub fn epoch(&self) -> u64 {
        self.epoch
    }

    pub(super) fn plan(&self) -> &Plan {
        &self.plan
    }

    /// Has this told with the next snapshot.
    pub(super) fn tell(&mut self, kind: Option<EventKind>) {
        self.events.extend(kind);
    }

    /// The overrides in force, oldest first.
    #[must_use]
    pub fn overrides(&self) -> &[Override] {
        &self.overrides
    }

    /// What each check found, in order of region, endpoint, address and probe.
    #[must_use]
    pub fn checks(&self) -> Vec<CheckStatus> {
        self.checks.status()
    }

    /// Whether every check has been looked at once.
    #[must_use]
    pub fn all_seen(&self) -> bool {
        self.checks.all_seen()
    }

    /// What has happened since this was last called, oldest first.
    pub fn take_events(&mut self) -> Vec<EventKind> {
        std::mem::take(&mut self.events)
    }

    pub(super) fn checks_now(&self) -> &Checks {
        &self.checks
    }

    /// Takes an observation in. If it returns true call [`Writer::restand`] once all that came together is in.
    pub fn observe(&mut self, check: &CheckKey, observation: &Observation, now: Now) -> bool {
        let changed = self.checks.observe(check, observation, now);
        changed.state || (changed.due && self.plan.steering.computes_ttl())
    }

    /// Works the standing out anew and publishes it if it has changed.
    pub fn restand(&mut self, now: Unix) {
        let standing = self.compute(&self.overrides, Some(&self.plan.topology), now);
        if standing != *self.standing {
            let plan = Arc::clone(&self.plan);
            self.publish_and_tell(standing, &plan);
        }
    }

    /// Puts a plan into force that differs from the present one in the addresses of resolved hosts alone, with
    /// the checks that [`Writer::checks_for`] made for it. Returns the one before.
    pub(super) fn put_addresses(&mut self, plan: Arc<Plan>, checks: Checks, now: Now) -> Arc<Plan> {
        let old = std::mem::replace(&mut self.plan, plan);
        self.checks = checks;
        let standing = self.compute(&self.overrides, Some(&old.topology), now.unix);
        self.publish_and_tell(standing, &old);
        old
    }

    /// `old` is the plan of the present standing; the regions and endpoints of the new one are the same.
    fn publish_and_tell(&mut self, standing: Standing, old: &Plan) {
        let held_before = self.held();
        let before = self.publish(standing);
        self.tell_transitions(&before, &old.topology);
        self.tell_held(&held_before);
        let unserved_before = self.plan.steering.region_sets().unserved(&before);
        self.tell_unserved(&unserved_before);
    }

    /// The checks as a plan would have them; those that are there now keep their verdicts.
    pub(super) fn checks_for(&self, plan: &Plan, now: Now) -> Checks {
        Checks::of(&plan.topology, &self.checks, now)
    }

    /// Puts a plan into force, with the checks that [`Writer::checks_for`] made for it, and has the reload told. Returns
    /// the one before.
    pub(super) fn put_plan(
        &mut self,
        plan: Arc<Plan>,
        checks: Checks,
        rules: Rules,
        reloaded: EventKind,
        now: Now,
    ) -> Arc<Plan> {
        let held_before = self.held();
        let old = std::mem::replace(&mut self.plan, plan);
        self.checks = checks;
        self.rules = rules;
        let standing = self.compute(&self.overrides, Some(&old.topology), now.unix);
        let before = self.publish(standing);
        self.events.push(reloaded);
        self.tell_transitions(&before, &old.topology);
        self.tell_held(&held_before);
        let unserved_before = old.steering.region_sets().unserved(&before);
        self.tell_unserved(&carried(&unserved_before, &old.topology, &self.plan.topology));
        old
    }

    /// Puts a plan into force; verdicts and overrides carry over by name. Returns the one before.
    pub fn reload(&mut self, plan: Arc<Plan>, rules: Rules, now: Now) -> Arc<Plan> {
        let checks = self.checks_for(&plan, now);
        let reloaded = EventKind::Reloaded { warnings: Vec::new(), by: String::new() };
        self.put_plan(plan, checks, rules, reloaded, now)
    }

    /// Takes an operator's word, in the place of what was said about the same target before.
    ///
    /// # Errors
    /// Why not: there is no such target, it makes no sense, or a safety rule forbids it. Nothing changes then.
    pub fn put_override(&mut self, request: OverrideRequest, now: Unix) -> Result<Override, Rejection> {
        let careless = request.override_safety;
        let topology = &self.plan.topology;
        let new = request.accept(topology, self.last_override + 1, now)?;
        let mut overrides = self.overrides.clone();
        overrides.retain(|o| o.target != new.target);
        overrides.push(new.clone());
        if !careless {
            let sets = self.plan.steering.region_sets();
            let after = self.compute(&overrides, Some(topology), now);
            safety::permit(self.rules, sets, &self.standing, &after)
                .map_err(|refusal| Rejection::Unsafe(refusal.explain(topology, sets)))?;
        }
        self.last_override = new.id;
        self.overrides = overrides;
        self.events.push(EventKind::Overridden(new.clone()));
        self.restand(now);
        Ok(new)
    }

    /// Takes a word back, as somebody asks; `None` if there is none with this id.
    pub fn remove_override(&mut self, id: u64, by: String, now: Unix) -> Option<Override> {
        let index = self.overrides.iter().position(|o| o.id == id)?;
        let gone = self.overrides.remove(index);
        self.events.push(EventKind::Restored { subject: gone.clone(), by });
        self.restand(now);
        Some(gone)
    }

    /// Ends the overrides whose time has run out, and returns them.
    pub fn expire(&mut self, now: Unix) -> Vec<Override> {
        let (held, ended): (Vec<_>, Vec<_>) =
            std::mem::take(&mut self.overrides).into_iter().partition(|o| o.holds_at(now));
        self.overrides = held;
        self.events.extend(ended.iter().cloned().map(EventKind::Expired));
        if !ended.is_empty() {
            self.restand(now);
        }
        ended
    }

    /// When the next override ends by itself.
    #[must_use]
    pub fn next_expiry(&self) -> Option<Unix> {
        self.overrides.iter().filter_map(|o| o.until).min()
    }

    /// The standing as it should be; `old` is the topology of the present one, compared by region name.
    fn compute(&self, overrides: &[Override], old: Option<&Topology>, now: Unix) -> Standing {
        let topology = &self.plan.topology;
        let previous = |id: RegionId| -> Option<&RegionStanding> {
            let before = old?.region_named(&topology.region(id).name)?;
            Some(self.standing.region(before))
        };
        let inputs = Inputs {
            topology,
            states: &|at, address| self.checks.state(at, address),
            overrides,
            previous: &previous,
            now,
        };
        let mut standing = Standing::compute(inputs);
        // Without need for them, what is due would be published anew again and again.
        if self.plan.steering.computes_ttl() {
            standing.dues = Dues::of(&inputs, &|at, address| self.due(at, address));
        }
        safety::hold(self.rules, self.plan.steering.region_sets(), &mut standing);
        standing
    }

    /// When what an address is to steering can change at the earliest. A rule for several regions may hold in
    /// one that is down beside others that serve, as soon as one look makes its failure soft.
    fn due(&self, at: EndpointRef, address: usize) -> Due {
        if self.rules.min_regions > 1 && self.checks.state(at, address).is_down() {
            return Due::ANY_TIME;
        }
        self.checks.due(at, address)
    }

    fn publish(&mut self, standing: Standing) -> Arc<Standing> {
        self.epoch += 1;
        std::mem::replace(&mut self.standing, Arc::new(standing))
    }

    /// Tells which addresses and regions, there before too, changed their state since, a region after its addresses.
    fn tell_transitions(&mut self, before: &Standing, topology_before: &Topology) {
        let plan = Arc::clone(&self.plan);
        for id in plan.topology.region_ids() {
            let region = plan.topology.region(id);
            // A reload may have moved it, or brought it.
            let Some(old_id) = same(id, &region.name, topology_before) else { continue };
            let (old_region, old) = (topology_before.region(old_id), before.region(old_id));
            let mut evidence = Vec::new();
            for (index, endpoint) in region.endpoints.iter().enumerate() {
                let at = EndpointRef { region: id, index: index as u16 };
                let is_it = |it: &Endpoint| it.name == endpoint.name;
                let Some(before) = old_region.endpoints.iter().position(is_it) else { continue };
                for (address, from, to) in changes(
                    (&old_region.endpoints[before].addresses, &old.endpoints[before].addresses),
                    (&endpoint.addresses, &self.standing.region(id).endpoints[index].addresses),
                ) {
                    let subject = Subject::Address {
                        region: region.name.clone(),
                        endpoint: endpoint.name.clone(),
                        address: endpoint.addresses[address],
                    };
                    let words = self.checks.evidence(at, address);
                    evidence.push(format!("{} {words}", endpoint.name));
                    self.events.push(EventKind::Transition { subject, from, to, evidence: words });
                }
            }
            let (from, to) = (old.state, self.standing.region(id).state);
            if from != to {
                let subject = Subject::Target(Target::Region(region.name.clone()));
                let evidence = match evidence.join("; ") {
                    none if none.is_empty() => WITHOUT_LOOKS.to_owned(),
                    evidence => evidence,
                };
                self.events.push(EventKind::Transition { subject, from, to, evidence });
            }
        }
    }

    /// The regions that safety holds in for any services, by name: a reload may change their ids.
    fn held(&self) -> BTreeSet<String> {
        let within = self.standing.held_within.iter().map(|(_, region)| region);
        let held = self.standing.held.iter().flatten().chain(within);
        held.map(|id| self.plan.topology.region(*id).name.clone()).collect()
    }

    fn tell_held(&mut self, before: &BTreeSet<String>) {
        let now = self.held();
        let rule = Rule::MinRegions.name();
        for region in before.difference(&now).cloned() {
            self.events.push(EventKind::Released { region, rule });
        }
        for region in now.difference(before).cloned() {
            self.events.push(EventKind::Held { region, rule });
        }
    }

    /// Raises an alarm over services that could be served before and cannot now, and ends it for those that can again.
    /// `before` is in order of service, as the present plan numbers them.
    fn tell_unserved(&mut self, before: &[ServiceId]) {
        let topology = &self.plan.topology;
        let now = self.plan.steering.region_sets().unserved(&self.standing);
        let without = |these: &[ServiceId], those: &[ServiceId]| -> Vec<ServiceId> {
            these.iter().filter(|id| those.binary_search(id).is_err()).copied().collect()
        };
        let begun = safety::alarm(topology, &without(&now, before));
        self.events.extend(begun.map(|message| EventKind::Alarm { message }));
        let over = safety::all_clear(topology, &without(before, &now));
        self.events.extend(over.map(|message| EventKind::AllClear { message }));
    }
}

/// The services of an old topology that a new one has, too, as the new one numbers them and in its order.
fn carried(ids: &[ServiceId], old: &Topology, new: &Topology) -> Vec<ServiceId> {
    if ids.is_empty() {
        return Vec::new();
    }
    // Services of several types may share a name.
    let key = |service: &Service| (service.name.clone(), std::mem::discriminant(&service.kind));
    let wanted: HashSet<_> = ids.iter().map(|id| key(old.service(*id))).collect();
    let all = (0..).map(ServiceId).zip(&new.services);
    all.filter(|(_, service)| wanted.contains(&key(service))).map(|(id, _)| id).collect()
}

/// The region of a name, which is as a rule where it was.
fn same(id: RegionId, name: &str, topology: &Topology) -> Option<RegionId> {
    let is_there = topology.regions.get(usize::from(id.0)).is_some_and(|region| region.name == name);
    if is_there { Some(id) } else { topology.region_named(name) }
}

/// The addresses of an endpoint, and the state of each.
type Known<'a> = (&'a [IpAddr], &'a [State]);

/// The addresses of an endpoint, there before and after, whose state changed: index, from, to.
fn changes(old: Known<'_>, new: Known<'_>) -> Vec<(usize, State, State)> {
    let before = |address: &IpAddr| old.0.iter().position(|it| it == address).map(|index| old.1[index]);
    let all = new.0.iter().zip(new.1).enumerate();
    let known = all.filter_map(|(index, (address, to))| Some((index, before(address)?, *to)));
    known.filter(|(_, from, to)| from != to).collect()
}
