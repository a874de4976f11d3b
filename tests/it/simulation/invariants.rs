//! The invariants that are checked at every step.

use std::collections::{HashMap, HashSet};
use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;
use std::time::Duration;

use portolan::health::{Severity, State as Health};
use portolan::model::{
    AllDown, CheckId, Condition, EndpointRef, Family, Member, RegionId, Rule, ServiceId, Subject, Unix,
};
use portolan::snapshot::{Plan, Snapshot};
use portolan::standing::{Action, AddressStanding, Cause, HeldFor, LastResortClass, Standing, Usable};
use portolan::state::CheckToRun;
use portolan::steer::{Answer, Choice, NoTrace, SteeringRequest};

use super::Simulation;

const SOFT: Usable = Usable::No(Cause::Probes(Severity::Soft));

/// An answer and how long it holds.
pub(super) struct Promise {
    request: SteeringRequest,
    until: Unix,
    region: Option<RegionId>,
    answer: Answer,
    addresses: Vec<IpAddr>,
}

impl Simulation {
    pub(super) fn invariants(&mut self) {
        let snapshot = self.snapshot();
        assert!(snapshot.epoch >= self.epoch, "epochs only grow");
        self.epoch = snapshot.epoch;
        for o in self.state.overrides() {
            assert!(o.holds_at(self.now.unix), "an override outlived its end");
        }
        self.brown_outs_are_held(&snapshot);
        withdrawals_have_their_cause(&snapshot);
        unobserved_addresses_follow_their_siblings(&snapshot);
        self.suspicion_is_bounded(&snapshot);
        self.keep_promises(&snapshot);
        for index in 0..snapshot.plan.topology.services.len() {
            for _ in 0..3 {
                let client = self.client();
                self.query(&snapshot, ServiceId(index as u32), client);
                self.promise(&snapshot, ServiceId(index as u32), client);
            }
        }
    }

    pub(super) fn client(&mut self) -> IpAddr {
        IpAddr::V4(Ipv4Addr::from_bits(0x0a00_0000 | (self.dice.roll() as u32 & 0x00ff_ffff)))
    }

    /// The addresses that each of these clients gets for each service and family.
    pub(super) fn answers(&self, clients: &[IpAddr]) -> Vec<Vec<IpAddr>> {
        let snapshot = self.snapshot();
        let services = (0..snapshot.plan.topology.services.len()).map(|index| ServiceId(index as u32));
        let mut answers = Vec::new();
        for service in services {
            for (client, family) in clients.iter().flat_map(|it| [(*it, Family::V4), (*it, Family::V6)]) {
                let request = SteeringRequest { service, client, family, unix: self.now.unix, draw: 0 };
                answers.push(answer(&snapshot, &request).1);
            }
        }
        answers
    }

    /// A first failure takes nothing down, and severity changes only after enough consecutive failures of the other
    /// kind.
    pub(super) fn verdicts_have_enough_results(
        &self,
        checks: &[CheckToRun],
        before: &HashMap<CheckId, Health>,
    ) {
        let after = self.states();
        for CheckToRun { id, probe, .. } in checks {
            let Some(results) = self.results.get(id) else { continue };
            // Checks of addresses that a host no longer has end as soon as a new one has a result.
            let Some(now) = after.get(id).copied() else { continue };
            match (before[id], now) {
                (Health::Unknown, Health::Down(_)) if matches!(id.subject, Subject::Address { .. }) => {
                    assert!(results.count > 1, "{id} is down after one result");
                }
                (Health::Down(from), Health::Down(to)) if from != to => {
                    let enough = results.failures >= probe.thresholds.fall;
                    assert!(enough, "{id} is {to} instead of {from} after {} failures", results.failures);
                }
                _ => {}
            }
        }
    }

    /// When this node begins to suspect its own network, regions still serve where nothing, also of what they require,
    /// failed before.
    pub(super) fn suspicion_keeps_what_served(&self, before: &Standing, failing: &HashSet<Arc<str>>) {
        let now = self.state.standing();
        let topology = &self.plan.topology;
        for id in topology.region_ids() {
            let name = &topology.region(id).name;
            let mut failed = failing.contains(name.as_str());
            topology.region(id).healthy_when.leaves(&mut |leaf| match leaf {
                Condition::Endpoint(at) => {
                    failed |= failing.contains(topology.region(at.region).name.as_str())
                }
                _ => failed = true,
            });
            for family in [Family::V4, Family::V6] {
                let (before, now) = (before.region(id).pool(family), now.region(id).pool(family));
                if !failed && before.configured && before.usable.is_eligible() {
                    assert!(
                        now.usable.is_eligible(),
                        "{name} is withdrawn by this node's own failure: {now:?}"
                    );
                }
            }
        }
    }

    /// Only soft failures are held; and if too few regions serve, all regions that fail softly are.
    fn brown_outs_are_held(&self, snapshot: &Snapshot) {
        let (standing, sets) = (&snapshot.standing, snapshot.plan.steering.region_sets());
        for held in standing.held.iter().filter(|it| matches!(it.scope, HeldFor::Set(_))) {
            let pool = standing.region(held.region).pool(held.family);
            assert_eq!(pool.usable, SOFT, "only soft failures are held");
            assert!(pool.configured, "{held:?} has nothing of the family that it is held for");
        }
        for set in sets.ids() {
            for family in [Family::V4, Family::V6] {
                let usable = |id: &RegionId| standing.region(*id).pool(family).usable;
                let regions = standing.able_to_serve(sets.regions(set), family);
                let serving = regions.iter().filter(|id| !usable(id).is_withdrawn()).count();
                let needed = self.rules.min_regions.min(regions.len());
                if serving >= needed {
                    continue;
                }
                let has_family = |id: &RegionId| standing.region(*id).pool(family).configured;
                for id in regions.iter().filter(|id| has_family(id) && usable(id) == SOFT) {
                    let held = standing.held(None, set, family, *id);
                    assert_eq!(
                        held,
                        Some(Rule::MinRegions),
                        "{serving} of {needed} serve, and {id:?} is not held"
                    );
                }
            }
        }
    }

    /// Nothing is kept unless the rule is on.
    fn suspicion_is_bounded(&self, snapshot: &Snapshot) {
        let keeps = snapshot.standing.regions.iter().any(|region| region.kept_by.is_some());
        assert!(!keeps || self.rules.suspect_self.is_some());
    }

    /// A region that was held, and still fails softly, is still held.
    pub(super) fn held_stays(&self, (before, plan): &(Arc<Standing>, Arc<Plan>)) {
        let now = self.state.standing();
        if !Arc::ptr_eq(plan, &self.plan) {
            return;
        }
        for held in before.held.iter().filter(|it| matches!(it.scope, HeldFor::Set(_))) {
            if now.region(held.region).pool(held.family).usable == SOFT {
                assert!(now.held.contains(held), "{held:?} is let go while it fails softly");
            }
        }
    }

    /// Regions that served before still serve, although there are checks without a result.
    pub(super) fn serves_as_before(&self, before: &Standing, why: &str) {
        let now = self.state.standing();
        for (number, (before, now)) in before.regions.iter().zip(&now.regions).enumerate() {
            for family in [Family::V4, Family::V6] {
                let (before, now) = (before.pool(family), now.pool(family));
                if before.configured && before.usable.is_eligible() && now.configured {
                    let name = &self.plan.topology.regions[number].name;
                    assert!(
                        now.usable.is_eligible(),
                        "{name} is withdrawn for {family:?} because {why}: {before:?} -> {now:?}"
                    );
                    assert!(
                        !before.serves || now.serves,
                        "{name} answers what has no result yet for {family:?} because {why}: {before:?} -> {now:?}"
                    );
                }
            }
        }
    }

    /// A client served by a region that this node has observed itself is still served after an operator's change.
    pub(super) fn leaves_a_region(&mut self, before: &Snapshot) {
        let after = self.snapshot();
        for index in 0..before.plan.topology.services.len() {
            let service = ServiceId(index as u32);
            for _ in 0..8 {
                let client = self.client();
                for family in [Family::V4, Family::V6] {
                    let request = SteeringRequest { service, client, family, unix: self.now.unix, draw: 0 };
                    let served = |snapshot: &Snapshot| {
                        let (choice, _) = answer(snapshot, &request);
                        let region = choice.region.filter(|_| choice.answer == Answer::Endpoints)?;
                        let pool = snapshot.standing.region(region).pool(family);
                        let usable = snapshot.standing.usable_within(service, region, family);
                        let forced = usable.is_eligible() && !pool.usable.is_eligible();
                        let held = snapshot.standing.held.iter().any(|it| {
                            (it.region, it.family) == (region, family)
                                && !matches!(usable, Usable::No(cause) if cause.is_operator())
                        });
                        Some((usable.is_eligible() && (pool.observed || forced)) || held)
                    };
                    // A client of a partly drained region is served by another, or by the drained one as a last resort.
                    if served(before) == Some(true) {
                        let usable = answer(&after, &request)
                            .0
                            .region
                            .map(|region| after.standing.usable_within(service, region, family));
                        let is_left = usable.is_some_and(
                            |usable| !matches!(usable, Usable::No(cause) if cause.is_operator()),
                        );
                        assert!(
                            is_left,
                            "{client} had a region for {family:?} and an operator took the last: {usable:?}"
                        );
                    }
                }
            }
        }
    }

    /// Remembers an answer whose TTL is computed.
    fn promise(&mut self, snapshot: &Snapshot, service: ServiceId, client: IpAddr) {
        if !snapshot.plan.topology.service(service).steering.ttl.is_computed() {
            return;
        }
        let request = SteeringRequest { service, client, family: Family::V4, unix: self.now.unix, draw: 0 };
        let (choice, addresses) = answer(snapshot, &request);
        let until = request.unix.after(Duration::from_secs(u64::from(choice.ttl.0)));
        let Choice { region, answer, .. } = choice;
        self.promises.push(Promise { request, until, region, answer, addresses });
    }

    fn keep_promises(&mut self, snapshot: &Snapshot) {
        let now = self.now.unix;
        self.promises.retain(|promise| now < promise.until);
        for promise in &self.promises {
            let (choice, addresses) = answer(snapshot, &SteeringRequest { unix: now, ..promise.request });
            let (found, promised) = (
                (choice.region, choice.answer, addresses),
                (promise.region, promise.answer, promise.addresses.clone()),
            );
            assert_eq!(
                found, promised,
                "of {:?}, promised until {:?}, at {now:?}",
                promise.request, promise.until
            );
        }
    }

    fn query(&self, snapshot: &Snapshot, service: ServiceId, client: IpAddr) {
        let choose = |client, family| {
            answer(snapshot, &SteeringRequest { service, client, family, unix: self.now.unix, draw: 0 })
        };
        for family in [Family::V4, Family::V6] {
            let (choice, addresses) = choose(client, family);
            assert_eq!((choice, addresses.clone()), choose(client, family), "no randomness");
            // Every address within the scope is sent to the same place.
            let scope = ipnet::IpNet::new(client, choice.scope).unwrap();
            for other in [scope.network(), scope.broadcast()] {
                let theirs = choose(other, family);
                assert_eq!(
                    theirs,
                    (choice, addresses.clone()),
                    "{client} and {other} share a scope but no choice"
                );
            }
            assert!(addresses.iter().all(|address| family.has(*address)));
            self.scope_is_as_wide_as_possible(snapshot, service, client, family, choice.scope);
            if choice.answer == Answer::Servfail {
                let is_served = self.is_served(snapshot, service, family);
                assert!(!is_served, "SERVFAIL for {family:?} while a region serves: {choice:?}");
            }
            self.last_resort_prefers_healthy(snapshot, service, family, &addresses);
            assert_eq!(choice.answer == Answer::Endpoints, !addresses.is_empty());
            if let Some(region) = choice.region {
                self.region_is_usable(snapshot, service, region, family);
                overrides_are_respected(snapshot, service, region, family, &addresses);
                no_hard_down_beside_better(snapshot, region, family, &addresses);
            }
        }
    }

    /// Overrides narrow the ECS scope only if clients can be told apart by them: within the service, or by a partial
    /// drain.
    fn scope_is_as_wide_as_possible(
        &self,
        snapshot: &Snapshot,
        service: ServiceId,
        client: IpAddr,
        family: Family,
        scope: u8,
    ) {
        let standing = &snapshot.standing;
        let mut actions = standing.regions.iter().filter_map(|region| region.action);
        let is_overridden = !standing.services.is_empty() || actions.clone().next().is_some();
        if !is_overridden || actions.any(Action::is_partial) || !standing.overrides_of(service).is_empty() {
            return;
        }
        let mut without = Standing { services: Arc::default(), ..(**standing).clone() };
        without.regions.iter_mut().for_each(|region| region.action = None);
        let without = Snapshot {
            plan: Arc::clone(&snapshot.plan),
            standing: without.into(),
            challenges: <_>::default(),
            epoch: 0,
        };
        let request = SteeringRequest { service, client, family, unix: self.now.unix, draw: 0 };
        assert_eq!(scope, answer(&without, &request).0.scope, "overrides of others narrow the scope");
    }

    /// Whether some region serves whichever client asks.
    fn is_served(&self, snapshot: &Snapshot, service: ServiceId, family: Family) -> bool {
        let (topology, standing) = (&snapshot.plan.topology, &snapshot.standing);
        let service_of = topology.service(service);
        let members = &service_of.members;
        // Weight 0 is never chosen among other weights, and fences and partial drains exclude some clients.
        let weighs = |m: &&Member| m.weight.0 > 0 || members.iter().all(|m| m.weight.0 == 0);
        let is_open = |m: &Member| !service_of.fences.iter().any(|fence| fence.region == m.region);
        let eligible = |m: &Member| {
            standing.region(m.region).pool(family).usable.is_eligible()
                && standing.region(m.region).drained_share() == 0.0
                && standing.within(service, m.region).is_none()
                && is_open(m)
        };
        members.iter().filter(weighs).any(eligible)
    }

    /// No client is sent to an unusable region while there is a usable one.
    fn region_is_usable(&self, snapshot: &Snapshot, service: ServiceId, region: RegionId, family: Family) {
        let (topology, standing) = (&snapshot.plan.topology, &snapshot.standing);
        if !self.is_served(snapshot, service, family) {
            return;
        }
        let usable = standing.usable_within(service, region, family);
        let decides = standing.region(region).deciding_family(family);
        let held = standing.held.iter().any(|it| (it.region, it.family) == (region, decides));
        let name = &topology.region(region).name;
        assert!(held || usable.is_eligible(), "{name} is answered though it is {usable:?}");
    }

    /// As a last resort, nothing that is hard-down is answered while a region is healthy and merely drained.
    fn last_resort_prefers_healthy(
        &self,
        snapshot: &Snapshot,
        service: ServiceId,
        family: Family,
        addresses: &[IpAddr],
    ) {
        let (topology, standing) = (&snapshot.plan.topology, &snapshot.standing);
        let service_of = topology.service(service);
        let is_plain = service_of.steering.all_down == AllDown::All
            && service_of.fences.is_empty()
            && service_of.members.iter().all(|member| member.weight.0 > 0)
            && standing.overrides_of(service).is_empty()
            && service_of.members.iter().all(|member| {
                let region = standing.region(member.region);
                // These come first, as an operator or another family vouches for them.
                region.action != Some(Action::Up)
                    && region.pool(family).last_resort.class != LastResortClass::OtherFamily
            });
        let known = || standing.regions.iter().flat_map(|region| region.endpoints.iter());
        let states = || known().flat_map(|endpoint| endpoint.addresses.iter());
        let is_dead = |address: &IpAddr| {
            states().any(|it| it.address == *address) // Not a fallback.
                && states().filter(|it| it.address == *address).all(|it| it.used == Health::HARD_DOWN)
                && known().all(|endpoint| endpoint.action.is_none())
        };
        if !is_plain || addresses.is_empty() || !addresses.iter().all(is_dead) {
            return;
        }
        for member in &service_of.members {
            let region = standing.region(member.region);
            let serves = region.endpoints.iter().enumerate().any(|(index, endpoint)| {
                topology.region(member.region).weight(index).is_some()
                    && endpoint.addresses.iter().any(|it| family.has(it.address) && it.used.serves())
            });
            let name = &topology.region(member.region).name;
            let is_drained = matches!(region.action, Some(Action::Drain(_)));
            assert!(!(is_drained && serves), "{addresses:?} are answered, though {name} is only drained");
        }
    }
}

/// A region that no operator withdrew is withdrawn by probes exactly if they found what is left of it down.
fn withdrawals_have_their_cause(snapshot: &Snapshot) {
    let (topology, standing) = (&snapshot.plan.topology, &snapshot.standing);
    for id in topology.region_ids() {
        let (region, found) = (topology.region(id), standing.region(id));
        let mut is_own = true;
        region
            .healthy_when
            .leaves(&mut |leaf| is_own &= matches!(leaf, Condition::Endpoint(at) if at.region == id));
        if found.action.is_some() || found.unresolved || !is_own {
            continue;
        }
        for family in [Family::V4, Family::V6].into_iter().filter(|family| found.pool(*family).configured) {
            let counted = || {
                let all = found.endpoints.iter().enumerate();
                all.filter(|(index, it)| {
                    region.weight(*index).is_some() && !it.action.is_some_and(Action::withdraws)
                })
            };
            let states = || {
                counted().map(|(_, endpoint)| {
                    let forced = endpoint.action == Some(Action::Up);
                    let mut of_family = endpoint.addresses.iter().filter(|it| family.has(it.address));
                    // Forced up though its probes fail, it says nothing about probes.
                    let is_failing = endpoint.addresses.iter().any(|it| it.used.is_down());
                    let is_up = of_family.clone().any(|it| it.used == Health::Up) || (forced && !is_failing);
                    let is_down = of_family.all(|it| it.used.is_down()) && !forced;
                    (is_up, is_down, endpoint.addresses.iter().any(|it| family.has(it.address)))
                })
            };
            match found.pool(family).usable {
                Usable::No(Cause::Probes(_)) => {
                    let is_withdrawn_only = found.endpoints.iter().all(|it| {
                        !it.action.is_some_and(Action::withdraws)
                            || it.addresses.iter().all(|it| !it.used.is_down())
                    });
                    let all_up = counted().count() > 0 && states().all(|(is_up, ..)| is_up);
                    let name = &region.name;
                    assert!(!(all_up && is_withdrawn_only), "{name} is withdrawn by probes that all succeed");
                }
                Usable::No(_) => {
                    let any_down = states().any(|(_, is_down, has_family)| has_family && is_down);
                    assert!(!any_down, "operators are blamed for what probes found in {}", region.name);
                }
                Usable::Yes(_) | Usable::IfNothingElse => {}
            }
        }
    }
}

/// What this node cannot probe is neither up nor unknown while all that it can probe of the endpoint is down.
fn unobserved_addresses_follow_their_siblings(snapshot: &Snapshot) {
    for endpoint in snapshot.standing.regions.iter().flat_map(|region| region.endpoints.iter()) {
        let (observed, unobserved): (Vec<&AddressStanding>, Vec<&AddressStanding>) =
            endpoint.addresses.iter().partition(|it| it.observed);
        if observed.is_empty() || !observed.iter().all(|it| it.used.is_down()) {
            continue;
        }
        assert!(unobserved.iter().all(|it| it.used.is_down()), "{endpoint:?}");
    }
}

/// Whatever is forced down is never answered, and whatever is drained only if nothing else is left in the region.
fn overrides_are_respected(
    snapshot: &Snapshot,
    service: ServiceId,
    region: RegionId,
    family: Family,
    addresses: &[IpAddr],
) {
    let (topology, standing) = (&snapshot.plan.topology, &snapshot.standing);
    let chosen = standing.region(region);
    assert_ne!(standing.within(service, region), Some(Action::Down), "forced down for the service");
    if standing.within(service, region) != Some(Action::Up) {
        assert_ne!(chosen.action, Some(Action::Down), "forced down");
    }
    let of_region = || chosen.endpoints.iter().enumerate();
    for (_, endpoint) in of_region().filter(|(_, it)| it.action.is_some_and(Action::withdraws)) {
        let Some(answered) = endpoint.addresses.iter().find(|it| addresses.contains(&it.address)) else {
            continue;
        };
        assert_ne!(endpoint.action, Some(Action::Down), "a forced-down endpoint is answered");
        let is_left = of_region().any(|(index, other)| {
            topology.region(region).weight(index).is_some()
                && !other.action.is_some_and(Action::withdraws)
                && other
                    .addresses
                    .iter()
                    .any(|it| family.has(it.address) && (it.used.serves() || !answered.used.serves()))
        });
        assert!(!is_left, "a drained endpoint is answered while another is left");
    }
}

/// Within a region no hard-down address is answered while one serves.
fn no_hard_down_beside_better(snapshot: &Snapshot, region: RegionId, family: Family, addresses: &[IpAddr]) {
    let (topology, standing) = (&snapshot.plan.topology, &snapshot.standing);
    let open = |at: EndpointRef| {
        topology.region(region).weight(usize::from(at.index)).is_some()
            && standing.endpoint(at).action.is_none()
    };
    let count = topology.region(region).endpoints.len();
    let all = (0..count).map(|index| EndpointRef { region, index: index as u16 }).filter(|at| open(*at));
    let known: Vec<_> = all.flat_map(|at| standing.endpoint(at).addresses.iter()).collect();
    let serving: Vec<IpAddr> = known.iter().filter(|it| it.used.serves()).map(|it| it.address).collect();
    if serving.iter().any(|address| family.has(*address)) {
        // Two hosts may have the same address, and different probes.
        let dead = known.iter().filter(|it| it.used == Health::HARD_DOWN && !serving.contains(&it.address));
        for it in dead {
            assert!(!addresses.contains(&it.address), "{} is hard down", it.address);
        }
    }
}

fn answer(snapshot: &Snapshot, request: &SteeringRequest) -> (Choice, Vec<IpAddr>) {
    let mut addresses = Vec::new();
    let Snapshot { plan, standing, .. } = snapshot;
    let choice = plan.steering.choose(&plan.topology, standing, request, &mut addresses, &mut NoTrace);
    (choice, addresses)
}
