//! The invariants that are checked at every step.

use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;
use std::time::Duration;

use portolan::health::{Severity, State as Health};
use portolan::model::{EndpointRef, Family, Member, RegionId, Rule, ServiceId, Unix};
use portolan::snapshot::{Plan, Snapshot};
use portolan::standing::{Action, Cause, HeldFor, Standing, Usable};
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

    fn client(&mut self) -> IpAddr {
        IpAddr::V4(Ipv4Addr::from_bits(0x0a00_0000 | (self.dice.roll() as u32 & 0x00ff_ffff)))
    }

    /// Only soft failures are held; and if too few regions serve, all regions that fail softly are.
    fn brown_outs_are_held(&self, snapshot: &Snapshot) {
        let (standing, sets) = (&snapshot.standing, snapshot.plan.steering.region_sets());
        for held in standing.held.iter().filter(|it| matches!(it.scope, HeldFor::Set(_))) {
            let usable = standing.region(held.region).pool(held.family).usable;
            assert_eq!(usable, SOFT, "only soft failures are held");
        }
        for set in sets.ids() {
            let regions = sets.regions(set);
            for family in [Family::V4, Family::V6] {
                let usable = |id: &RegionId| standing.region(*id).pool(family).usable;
                let is_answered = |id: &RegionId| standing.region(*id).pool(family).configured;
                let serving = regions.iter().filter(|id| !usable(id).is_withdrawn()).count();
                let needed = self.rules.min_regions.min(regions.len());
                if serving >= needed || !regions.iter().any(is_answered) {
                    continue;
                }
                for id in regions.iter().filter(|id| usable(id) == SOFT) {
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
            assert_eq!(choice.answer == Answer::Endpoints, !addresses.is_empty());
            if let Some(region) = choice.region {
                self.region_is_usable(snapshot, service, region, family);
                overrides_are_respected(snapshot, service, region, family, &addresses);
                no_hard_down_beside_better(snapshot, region, family, &addresses);
            }
        }
    }

    /// No client is sent to an unusable region while there is a usable one.
    fn region_is_usable(&self, snapshot: &Snapshot, service: ServiceId, region: RegionId, family: Family) {
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
        if !members.iter().filter(weighs).any(eligible) {
            return;
        }
        let usable = standing.usable_within(service, region, family);
        let held = standing.held.iter().any(|it| (it.region, it.family) == (region, family));
        let name = &topology.region(region).name;
        assert!(held || usable.is_eligible(), "{name} is answered though it is {usable:?}");
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
    if known.iter().any(|it| family.has(it.address) && it.used.serves()) {
        for it in known.iter().filter(|it| it.used == Health::HARD_DOWN) {
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
