//! Computes a region's standing from the states of its addresses and from overrides.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use super::{
    Action, AddressStanding, Candidate, Cause, DEGRADED_FACTOR, EndpointStanding, LastGood, LastResort,
    LastResortClass, Override, Pool, PoolPast, RegionStanding, ServiceOverride, Usable,
};
use crate::health::{self, Part, Severity, State};
use crate::model::{
    BackendRef, Condition, Endpoint, EndpointRef, Family, Name, PoolId, Reach, Region, RegionId, Rule,
    ServiceId, Target, Topology, Unix,
};
use crate::pick;

/// Addresses of a region that stopped serving within this many seconds of each other count as lost together.
pub const LOST_TOGETHER: Duration = Duration::from_secs(60);

/// What a standing is computed from.
#[derive(Clone, Copy)]
pub struct Inputs<'a> {
    /// The regions, endpoints and services.
    pub topology: &'a Topology,
    /// Returns the standing of the addresses of an endpoint.
    pub addresses: &'a dyn Fn(EndpointRef) -> Box<[AddressStanding]>,
    /// Returns the standing of the addresses of a backend.
    pub backend_addresses: &'a dyn Fn(BackendRef) -> Box<[AddressStanding]>,
    /// Returns what a pool's requests and its past add to the states that probes found.
    pub pool_past: &'a dyn Fn(PoolId) -> PoolPast,
    /// All overrides; expired ones are ignored.
    pub overrides: &'a [Override],
    /// Returns the region's previous standing, if any: from it follow when its state was entered and what served before.
    pub previous: &'a dyn Fn(RegionId) -> Option<&'a RegionStanding>,
    /// The current time.
    pub now: Unix,
}

impl Inputs<'_> {
    /// Computes the standing of a region.
    #[must_use]
    pub fn region(&self, id: RegionId) -> RegionStanding {
        let region = self.topology.region(id);
        let overrides = self.overrides_in(&region.name);
        let action = action(&overrides, |target| matches!(target, Target::Region(_)));
        let endpoints: Arc<[EndpointStanding]> = (0..region.endpoints.len())
            .map(|index| self.endpoint(endpoint_ref(id, index), &overrides))
            .collect();
        let before = (self.previous)(id);
        let work = RegionWork { inputs: self, id, region, action, endpoints: &endpoints, before };
        let found = work.state(&|it| it.state);
        let state = match before {
            // Checks without a result do not take down a region that served.
            Some(before) if found == State::Unknown && before.state.serves() => before.state,
            _ => found,
        };
        let kept = state.is_down() && work.state(&EndpointStanding::used).serves();
        RegionStanding {
            state,
            since: before.filter(|it| same_kind(it.state, state)).map_or(self.now, |it| it.since),
            action,
            pools: work.pools(),
            unresolved: work.is_unresolved(),
            kept_by: (kept && work.is_kept()).then_some(Rule::SuspectSelf),
            endpoints,
        }
    }

    /// The overrides of regions within services, sorted by service and region. If there are several for the same pair,
    /// the latest counts.
    #[must_use]
    pub fn services(&self) -> Arc<[ServiceOverride]> {
        let of_services = self.service_overrides();
        let mut found: Vec<(u64, ServiceOverride)> = of_services
            .map(|(service, region, o)| (o.id, ServiceOverride { service, region, action: o.action }))
            .collect();
        found.sort_by_key(|(id, it)| (it.service, it.region, std::cmp::Reverse(*id)));
        found.dedup_by_key(|(_, it)| (it.service, it.region));
        found.into_iter().map(|(_, it)| it).collect()
    }

    /// The active overrides of regions within services, with the ids of both. One pass over all services, however many
    /// overrides there are.
    pub(super) fn service_overrides(&self) -> impl Iterator<Item = (ServiceId, RegionId, &Override)> {
        let mut by_name: HashMap<&Name, Vec<(RegionId, &Override)>> = HashMap::new();
        for o in self.active_overrides() {
            let Target::Service { service, region } = &o.target else { continue };
            let Some(region) = self.topology.region_named(region) else { continue };
            by_name.entry(service).or_default().push((region, o));
        }
        let services = if by_name.is_empty() { &[][..] } else { &self.topology.services };
        (0..).map(ServiceId).zip(services).flat_map(move |(id, service)| {
            let overrides = by_name.get(&service.name).cloned().unwrap_or_default();
            overrides.into_iter().map(move |(region, o)| (id, region, o))
        })
    }

    /// The overrides of a region and of its endpoints that have not expired.
    fn overrides_in(&self, name: &str) -> Vec<&Override> {
        let is_in = |target: &Target| match target {
            Target::Region(region) | Target::Endpoint { region, .. } => region == name,
            Target::Service { .. } | Target::Backend { .. } => false,
        };
        self.active_overrides().filter(|o| is_in(&o.target)).collect()
    }

    /// The standing of an endpoint. `overrides` are those of its region.
    fn endpoint(&self, at: EndpointRef, overrides: &[&Override]) -> EndpointStanding {
        let endpoint = self.topology.endpoint(at);
        let action = action(
            overrides,
            |target| matches!(target, Target::Endpoint { endpoint: name, .. } if *name == endpoint.name),
        );
        let addresses = (self.addresses)(at);
        let state = match &endpoint.reach {
            // A host name without addresses is not probed.
            Reach::Named(..) if addresses.is_empty() => State::Up,
            _ => addresses.iter().map(|it| it.state).min().unwrap_or_default(),
        };
        EndpointStanding { state, action, addresses }
    }
}

/// The action of the latest override of a target.
pub(super) fn action(overrides: &[&Override], applies: impl Fn(&Target) -> bool) -> Option<Action> {
    overrides.iter().filter(|o| applies(&o.target)).max_by_key(|o| o.id).map(|o| o.action)
}

/// How many of a region and its endpoints operators force up.
fn forced(region: Option<Action>, endpoints: &[EndpointStanding]) -> usize {
    let all = endpoints.iter().map(|it| it.action).chain([region]);
    all.filter(|action| *action == Some(Action::Up)).count()
}

fn endpoint_ref(region: RegionId, index: usize) -> EndpointRef {
    EndpointRef { region, index: index as u16 }
}

/// Whether two states count as the same for [`RegionStanding::since`]: soft-down and hard-down do.
fn same_kind(one: State, other: State) -> bool {
    one == other || (one.is_down() && other.is_down())
}

impl EndpointStanding {
    /// The state that steering uses, before overrides.
    fn used(&self) -> State {
        self.addresses.iter().map(|it| it.used).min().unwrap_or(self.state)
    }

    /// The state that steering uses for one family, forced up included. Without addresses of the family, that of the
    /// whole endpoint.
    fn used_in(&self, family: Family) -> State {
        let of_family = self.addresses.iter().filter(|it| family.has(it.address));
        let state = of_family.map(|it| it.used).min().unwrap_or_else(|| self.used());
        self.forced_or(state)
    }

    pub(super) fn forced_or(&self, state: State) -> State {
        if self.action == Some(Action::Up) { State::Up } else { state }
    }

    /// Whether overrides leave it no clients.
    #[must_use]
    pub fn is_withdrawn(&self) -> bool {
        self.action.is_some_and(Action::withdraws)
    }
}

/// The working state of computing one region.
struct RegionWork<'a, 'b> {
    inputs: &'b Inputs<'a>,
    id: RegionId,
    region: &'b Region,
    action: Option<Action>,
    endpoints: &'b [EndpointStanding],
    before: Option<&'a RegionStanding>,
}

/// An endpoint that can answer in a family.
struct Offer {
    index: usize,
    /// The state of its best address of the family, or of the whole endpoint if its name is answered.
    best: State,
    weight: f64,
    addresses: Vec<AddressStanding>,
}

impl RegionWork<'_, '_> {
    /// The region's state by `healthy_when`, regardless of overrides; `of` returns the state of an endpoint.
    fn state(&self, of: &dyn Fn(&EndpointStanding) -> State) -> State {
        self.evaluate(&|at| Some(self.endpoint_state(at, of)), &mut Vec::new()).unwrap_or_default()
    }

    /// The region's state in a family, over the endpoints that no operator withdrew; `None` if none is left.
    fn effective(&self, family: Family) -> Option<State> {
        let of = |at: EndpointRef| {
            if at.region != self.id {
                return Some(self.endpoint_state(at, &EndpointStanding::used));
            }
            let endpoint = &self.endpoints[usize::from(at.index)];
            (!endpoint.is_withdrawn()).then(|| endpoint.used_in(family))
        };
        self.evaluate(&of, &mut Vec::new())
    }

    fn evaluate(
        &self,
        endpoint: &dyn Fn(EndpointRef) -> Option<State>,
        within: &mut Vec<RegionId>,
    ) -> Option<State> {
        evaluate(self.inputs.topology, &self.region.healthy_when, endpoint, within)
    }

    /// The state of an endpoint of this region, or of another region that this one requires.
    fn endpoint_state(&self, at: EndpointRef, of: &dyn Fn(&EndpointStanding) -> State) -> State {
        if at.region == self.id {
            of(&self.endpoints[usize::from(at.index)])
        } else {
            let overrides = self.inputs.overrides_in(&self.inputs.topology.region(at.region).name);
            of(&self.inputs.endpoint(at, &overrides))
        }
    }

    /// Whether `suspect_self` keeps any address in use that probes found down.
    fn is_kept(&self) -> bool {
        let addresses = self.endpoints.iter().flat_map(|it| &it.addresses);
        addresses.filter(|it| it.observed).any(|it| it.state.is_down() && it.used.serves())
    }

    /// Whether it has no address at all and waits for a host to be resolved.
    fn is_unresolved(&self) -> bool {
        self.endpoints.iter().all(|it| it.addresses.is_empty())
            && self.region.endpoints.iter().any(|it| it.resolved_host().is_some())
    }

    fn pools(&self) -> [Pool; 3] {
        let mut pools = Family::ALL.map(|family| self.pool(family));
        // As in `RegionStanding::deciding_family`.
        let configured = pools.iter().find(|pool| pool.configured).map(|pool| (pool.usable, pool.observed));
        for pool in pools.iter_mut().filter(|pool| !pool.configured) {
            (pool.usable, pool.observed) = configured.unwrap_or((pool.usable, pool.observed));
        }
        let serves_in = |family: usize| pools[family].configured && pools[family].usable.is_eligible();
        let serves = [0, 1, 2].map(serves_in);
        for (index, pool) in pools.iter_mut().enumerate() {
            let elsewhere = [0, 1].into_iter().any(|other| other != index && serves[other]);
            if elsewhere && index < 2 && pool.last_resort.class != LastResortClass::Never {
                pool.last_resort.class = LastResortClass::OtherFamily;
            }
        }
        pools
    }

    fn pool(&self, family: Family) -> Pool {
        let (mut open, mut withdrawn) = (Vec::new(), Vec::new());
        let mut configured = family != Family::Host && self.is_unresolved();
        for (index, (endpoint, standing)) in self.region.endpoints.iter().zip(self.endpoints).enumerate() {
            if !can_answer(endpoint, standing, family) {
                continue;
            }
            let Some(weight) = self.region.weight(index) else { continue };
            configured = true;
            let offer = offer(index, standing, family, weight);
            match standing.action {
                Some(Action::Down) => {}
                Some(action) if action.withdraws() => withdrawn.push(offer),
                _ => open.push(offer),
            }
        }
        let best = open.iter().map(|offer| offer.best).min();
        let candidates = best.map_or_else(Arc::default, |best| self.candidates(&open, best));
        Pool {
            usable: self.usable(family, best),
            configured,
            serves: best.is_some_and(State::serves),
            observed: self.action == Some(Action::Up) || open.iter().any(Offer::is_observed_serving),
            last_resort: self.last_resort(best, &candidates, &withdrawn),
            last_good: self.last_good(&open, best),
            candidates,
        }
    }

    /// Whether the region may be answered in a family. `best` is the state of its best address of the family that no
    /// operator withdrew.
    fn usable(&self, family: Family, best: Option<State>) -> Usable {
        let is_addresses = family != Family::Host;
        match self.action {
            Some(Action::Down) => return Usable::No(Cause::ForcedDown),
            Some(action) if action.withdraws() => return Usable::No(Cause::Drained),
            // A client sent there would get an empty answer.
            _ if is_addresses && self.is_unresolved() => return Usable::No(Cause::Probes(Severity::Hard)),
            Some(Action::Up) if best.is_some() => return Usable::Yes(1.0),
            _ => {}
        }
        let Some(best) = best else { return Usable::No(self.withdrawn_by()) };
        let found = match (self.effective(family).unwrap_or_default(), best) {
            (State::Down(_), _) if self.only_operators_withdraw(family) => {
                return Usable::No(self.withdrawn_by());
            }
            (State::Down(severity), _) => Usable::No(Cause::Probes(severity)),
            (_, State::Down(severity)) => Usable::No(Cause::Probes(severity)),
            (State::Up, State::Up | State::Degraded) => Usable::Yes(1.0),
            (State::Degraded, State::Up | State::Degraded) => Usable::Yes(DEGRADED_FACTOR),
            (State::Unknown, _) | (_, State::Unknown) => Usable::IfNothingElse,
        };
        // What served because an operator forced it up does not keep serving once the override has gone.
        let forced_now = forced(self.action, self.endpoints);
        let served = self.before.filter(|before| forced(before.action, &before.endpoints) <= forced_now);
        match (found, served.map(|before| before.pool(family).usable)) {
            // A region that served keeps serving until there is a result.
            (Usable::IfNothingElse, Some(before @ Usable::Yes(_))) => before,
            (found, _) => found,
        }
    }

    /// Whether the region is down only because operators withdrew endpoints: the remaining ones are too few, but none
    /// is down, and by its probes alone the region is not down either.
    fn only_operators_withdraw(&self, family: Family) -> bool {
        let mut counted =
            self.endpoints.iter().enumerate().filter(|(index, _)| self.region.weight(*index).is_some());
        self.endpoints.iter().any(EndpointStanding::is_withdrawn)
            && counted.all(|(_, it)| it.is_withdrawn() || !it.used_in(family).is_down())
            && !self.state(&EndpointStanding::used).is_down()
    }

    fn withdrawn_by(&self) -> Cause {
        let mut withdrawn = self.endpoints.iter().filter_map(|it| it.action).filter(|it| it.withdraws());
        let all_forced = withdrawn.all(|action| action == Action::Down);
        if all_forced { Cause::ForcedDown } else { Cause::Drained }
    }

    /// The best endpoints of a pool: those that are up or degraded, or else those in the best state.
    fn candidates(&self, offers: &[Offer], best: State) -> Arc<[Candidate]> {
        let good = |state: State| state == best || (state.serves() && best.serves());
        let good_offers = offers.iter().filter(|offer| good(offer.best));
        let candidate = |offer: &Offer| {
            let addresses =
                offer.addresses.iter().filter(|it| good(self.endpoints[offer.index].forced_or(it.used)));
            let degraded = best.serves() && offer.best != State::Up;
            let factor = if degraded { DEGRADED_FACTOR } else { 1.0 };
            self.candidate(offer, offer.weight * factor, addresses.map(|it| it.address).collect())
        };
        good_offers.map(candidate).collect()
    }

    fn candidate(&self, offer: &Offer, weight: f64, addresses: Box<[IpAddr]>) -> Candidate {
        let name = &self.region.endpoints[offer.index].name;
        let hash = pick::Hash::of(name.as_bytes()).0;
        Candidate { endpoint: endpoint_ref(self.id, offer.index), hash, weight, addresses }
    }

    fn last_resort(
        &self,
        best: Option<State>,
        candidates: &Arc<[Candidate]>,
        withdrawn: &[Offer],
    ) -> LastResort {
        let state = match best {
            Some(best) if best.serves() => LastResortClass::Drained,
            Some(State::Down(Severity::Hard)) => LastResortClass::Hard,
            Some(State::Down(Severity::Soft)) => LastResortClass::Soft,
            Some(_) => LastResortClass::Unknown,
            None => LastResortClass::Never,
        };
        let is_drained = self.action.is_some_and(Action::withdraws);
        let open = match state {
            _ if self.action == Some(Action::Down) => LastResortClass::Never,
            state if is_drained && state > LastResortClass::Drained => {
                state.max(LastResortClass::DrainedDown)
            }
            state => state,
        };
        let others = withdrawn.iter().map(|offer| offer.best).min();
        let drained = match others {
            _ if self.action == Some(Action::Down) => LastResortClass::Never,
            Some(best) if best.serves() => LastResortClass::Drained,
            Some(_) => LastResortClass::DrainedDown,
            None => LastResortClass::Never,
        };
        match others {
            Some(best) if drained < open => {
                LastResort { class: drained, candidates: self.candidates(withdrawn, best) }
            }
            _ => LastResort { class: open, candidates: Arc::clone(candidates) },
        }
    }

    /// The addresses that stopped serving last, within [`LOST_TOGETHER`] of the latest; `None` while any serves.
    fn last_good(&self, open: &[Offer], best: Option<State>) -> Option<LastGood> {
        if best.is_some_and(State::serves) {
            return None;
        }
        let served = |it: &AddressStanding| it.served_until;
        let until = open.iter().flat_map(|offer| &offer.addresses).filter_map(served).max()?;
        let since = Unix(until.0.saturating_sub(LOST_TOGETHER));
        let candidate = |offer: &Offer| {
            let lost = offer.addresses.iter().filter(|it| served(it).is_some_and(|at| at >= since));
            let addresses: Box<[IpAddr]> = lost.map(|it| it.address).collect();
            (!addresses.is_empty()).then(|| self.candidate(offer, offer.weight, addresses))
        };
        Some(LastGood { until, candidates: open.iter().filter_map(candidate).collect() })
    }
}

/// The state of a region's condition. `within` lists the regions that are being evaluated; one that is reached again
/// does not count.
fn evaluate(
    topology: &Topology,
    condition: &Condition,
    endpoint: &dyn Fn(EndpointRef) -> Option<State>,
    within: &mut Vec<RegionId>,
) -> Option<State> {
    combine(topology, condition, endpoint, within, &|condition, leaf| health::evaluate(condition, &leaf))
}

/// The state of a region by its condition, and what that is due to. `endpoint` returns the same of an endpoint, or `None`
/// if it does not count.
#[must_use]
pub fn decide<S: Ord + Copy, T: Copy>(
    topology: &Topology,
    region: RegionId,
    endpoint: &dyn Fn(EndpointRef) -> Option<Part<S, T>>,
) -> Option<Part<S, T>> {
    let condition = &topology.region(region).healthy_when;
    combine(topology, condition, endpoint, &mut Vec::new(), &|condition, leaf| {
        health::decide(condition, &leaf)
    })
}

/// What is known of the leaves of a condition.
type Leaves<'a, R> = &'a dyn Fn(&Condition) -> Option<R>;

/// Combines what is known of the endpoints of a condition; `how` does so for one without regions.
fn combine<R>(
    topology: &Topology,
    condition: &Condition,
    endpoint: &dyn Fn(EndpointRef) -> Option<R>,
    within: &mut Vec<RegionId>,
    how: &dyn Fn(&Condition, Leaves<'_, R>) -> Option<R>,
) -> Option<R> {
    let within = std::cell::RefCell::new(within);
    how(condition, &|leaf| match leaf {
        Condition::Endpoint(at) => endpoint(*at),
        Condition::Region(id) => {
            let mut within = within.borrow_mut();
            if within.contains(id) {
                return None;
            }
            within.push(*id);
            let found = combine(topology, &topology.region(*id).healthy_when, endpoint, &mut within, how);
            within.pop();
            found
        }
        _ => None,
    })
}

/// Whether an endpoint can answer in a family.
fn can_answer(endpoint: &Endpoint, standing: &EndpointStanding, family: Family) -> bool {
    match family {
        Family::V4 | Family::V6 => standing.addresses.iter().any(|it| family.has(it.address)),
        Family::Host => endpoint.host().is_some(),
    }
}

fn offer(index: usize, standing: &EndpointStanding, family: Family, weight: f64) -> Offer {
    let addresses: Vec<_> = standing.addresses.iter().copied().filter(|it| family.has(it.address)).collect();
    let best = addresses.iter().map(|it| it.used).min().unwrap_or_else(|| standing.used());
    let drained_share = standing.action.filter(|it| it.is_partial()).map_or(0.0, Action::drained_share);
    Offer { index, best: standing.forced_or(best), weight: weight * (1.0 - drained_share), addresses }
}

impl Offer {
    /// Whether it serves, as this node itself has observed of one of its addresses. Names are not probed and count as
    /// observed.
    fn is_observed_serving(&self) -> bool {
        self.best.serves()
            && (self.addresses.is_empty() || self.addresses.iter().any(|it| it.observed && it.used.serves()))
    }
}
