//! How a standing follows from states and overrides.

use std::net::IpAddr;

use super::{
    Action, Candidate, Cause, EndpointStanding, HARD_DOWN, Inputs, Override, Pool, RegionStanding,
    ServiceStanding, Standing, Usable,
};
use crate::health::{self, Severity, State};
use crate::model::{Endpoint, EndpointRef, Family, Region, RegionId, Target, Topology};

/// The part of its weight that a degraded endpoint or region keeps.
pub const DEGRADED_SHARE: f64 = 0.5;

impl Standing {
    /// Works out what may be used. Nothing is held yet: see [`safety`](crate::safety).
    #[must_use]
    pub fn compute(inputs: Inputs<'_>) -> Self {
        let regions: Box<[RegionStanding]> =
            inputs.topology.region_ids().map(|id| inputs.region(id)).collect();
        let drains_in_part = regions.iter().any(|region| region.kept_away > 0.0);
        Self { regions, services: inputs.services(), drains_in_part, ..Self::default() }
    }
}

impl Candidate {
    /// Every endpoint of a region that has something of a family, whatever its state.
    #[must_use]
    pub fn every(topology: &Topology, id: RegionId, family: Family) -> Box<[Self]> {
        let region = topology.region(id);
        let all = region.endpoints.iter().enumerate().filter_map(|(index, endpoint)| {
            if !has(endpoint, family) {
                return None;
            }
            let addresses = endpoint.addresses.iter().copied().filter(|a| family.has(*a)).collect();
            let weight = weight_of(region, index)?;
            Some(Self { endpoint: EndpointRef { region: id, index: index as u16 }, weight, addresses })
        });
        all.collect()
    }
}

/// Whether an endpoint has something to answer in a family.
fn has(endpoint: &Endpoint, family: Family) -> bool {
    match family {
        Family::V4 | Family::V6 => endpoint.addresses.iter().any(|address| family.has(*address)),
        Family::Host => endpoint.host.is_some(),
    }
}

/// What an operator's overrides on one target come to: the latest wins.
#[derive(Clone, Copy, Default)]
struct Word {
    action: Option<Action>,
    kept_away: f64,
}

impl Word {
    fn of<'a>(overrides: impl Iterator<Item = &'a Override>) -> Self {
        let latest = overrides.max_by_key(|o| o.id);
        latest.map_or_else(Self::default, |o| Self { action: Some(o.action), kept_away: kept_away(o) })
    }

    /// Nobody is sent there.
    fn withdraws(self) -> bool {
        match self.action {
            Some(Action::Down) => true,
            Some(Action::Drain) => self.kept_away >= 1.0,
            Some(Action::Up) | None => false,
        }
    }

    fn forces_up(self) -> bool {
        self.action == Some(Action::Up)
    }
}

/// An endpoint's share within its region; `None` for weight 0, which takes no clients and does not count
/// towards the region's state, unless every weight of the region is 0.
fn weight_of(region: &Region, index: usize) -> Option<f64> {
    match region.endpoints[index].weight.0 {
        0 if region.endpoints.iter().all(|endpoint| endpoint.weight.0 == 0) => Some(1.0),
        0 => None,
        weight => Some(f64::from(weight)),
    }
}

fn kept_away(o: &Override) -> f64 {
    if o.action == Action::Drain { o.share.get() } else { 0.0 }
}

impl Inputs<'_> {
    fn word(&self, is_meant: impl Fn(&Target) -> bool) -> Word {
        Word::of(self.overrides.iter().filter(|o| o.holds_at(self.now) && is_meant(&o.target)))
    }

    fn services(&self) -> Box<[ServiceStanding]> {
        let mut found: Vec<(u64, ServiceStanding)> = Vec::new();
        for o in self.overrides.iter().filter(|o| o.holds_at(self.now)) {
            let Target::Service { service, region } = &o.target else { continue };
            let Some(region) = self.topology.region_named(region) else { continue };
            found.extend(self.topology.services_named(service).map(|service| {
                (o.id, ServiceStanding { service, region, action: o.action, kept_away: kept_away(o) })
            }));
        }
        found.sort_by_key(|(id, s)| (s.service, s.region, std::cmp::Reverse(*id)));
        found.dedup_by_key(|(_, s)| (s.service, s.region));
        found.into_iter().map(|(_, s)| s).collect()
    }

    fn region(&self, id: RegionId) -> RegionStanding {
        let region = self.topology.region(id);
        let word = self.word(|target| matches!(target, Target::Region(name) if *name == region.name));
        let endpoints: Box<[EndpointStanding]> = (0..region.endpoints.len())
            .map(|index| self.endpoint(EndpointRef { region: id, index: index as u16 }))
            .collect();
        let state = self.region_state(id, |_, endpoint| endpoint.state, &endpoints);
        let effective = self.region_state(id, |_, endpoint| endpoint.effective(), &endpoints);
        let by_operator = state != effective && effective.is_down();
        let usable = if word.withdraws() {
            Usable::No(Cause::Operator)
        } else if word.forces_up() {
            Usable::Full
        } else {
            match effective {
                State::Up => Usable::Full,
                State::Degraded => Usable::Reduced,
                State::Unknown => Usable::IfNothingElse,
                State::Down(_) if by_operator => Usable::No(Cause::Operator),
                State::Down(severity) => Usable::No(Cause::Probes(severity)),
            }
        };
        let pools = self.pools(id, usable, word.forces_up(), &endpoints);
        let before = (self.previous)(id);
        let served_until = match before {
            _ if state.serves() => None,
            Some(before) if before.state.serves() => Some(self.now),
            _ => before.and_then(|before| before.served_until),
        };
        RegionStanding {
            state,
            since: before.filter(|b| b.state == state).map_or(self.now, |b| b.since),
            served_until,
            action: word.action,
            kept_away: word.kept_away,
            pools,
            endpoints,
        }
    }

    fn endpoint(&self, at: EndpointRef) -> EndpointStanding {
        let region = self.topology.region(at.region);
        let endpoint = self.topology.endpoint(at);
        let word = self.word(|target| {
            matches!(target, Target::Endpoint { region: r, endpoint: e } if *r == region.name && *e == endpoint.name)
        });
        let addresses: Box<[State]> =
            (0..endpoint.addresses.len()).map(|address| (self.states)(at, address)).collect();
        let state = match &addresses[..] {
            [] if endpoint.is_resolved => State::Unknown,
            // Nobody looks at a name.
            [] => State::Up,
            known => health::endpoint_state(known.iter().copied()),
        };
        EndpointStanding {
            state,
            action: word.action,
            kept_away: if word.withdraws() { 1.0 } else { word.kept_away },
            addresses,
        }
    }

    /// The region's state where `of` tells an endpoint's.
    fn region_state(
        &self,
        id: RegionId,
        of: impl Fn(EndpointRef, &EndpointStanding) -> State,
        endpoints: &[EndpointStanding],
    ) -> State {
        let region = self.topology.region(id);
        let own = endpoints
            .iter()
            .enumerate()
            .filter(|(index, _)| weight_of(region, *index).is_some())
            .map(|(index, endpoint)| of(EndpointRef { region: id, index: index as u16 }, endpoint));
        let required = region.require.iter().map(|at| {
            if at.region == id {
                of(*at, &endpoints[usize::from(at.index)])
            } else {
                of(*at, &self.endpoint(*at))
            }
        });
        health::region_state(region.healthy_when, own, required)
    }

    fn pools(&self, id: RegionId, usable: Usable, forced: bool, endpoints: &[EndpointStanding]) -> [Pool; 3] {
        let mut pools = Family::ALL.map(|family| self.pool(id, family, usable, forced, endpoints));
        let configured = pools.iter().find(|pool| pool.configured).map(|pool| pool.usable);
        for pool in pools.iter_mut().filter(|pool| !pool.configured) {
            pool.usable = configured.unwrap_or(pool.usable);
        }
        if self.topology.region(id).is_unresolved() && !matches!(usable, Usable::No(_)) {
            // Whoever were sent there would be told of no address at all.
            for family in [Family::V4, Family::V6] {
                pools[family as usize].usable = Usable::No(Cause::Probes(Severity::Hard));
            }
        }
        pools
    }

    fn pool(
        &self,
        id: RegionId,
        family: Family,
        usable: Usable,
        forced: bool,
        endpoints: &[EndpointStanding],
    ) -> Pool {
        let region = self.topology.region(id);
        let configured = region.endpoints.iter().any(|endpoint| has(endpoint, family));
        let mut members: Vec<(EndpointRef, Offered)> = Vec::new();
        for (index, (endpoint, standing)) in region.endpoints.iter().zip(endpoints).enumerate() {
            if standing.kept_away < 1.0 && weight_of(region, index).is_some() && has(endpoint, family) {
                let at = EndpointRef { region: id, index: index as u16 };
                members.push((at, standing.offered(endpoint, family)));
            }
        }
        let best = members.iter().map(|(_, offered)| offered.best).min().unwrap_or(HARD_DOWN);
        let candidates = members
            .iter()
            .filter_map(|(at, offered)| self.candidate(*at, offered, best, &endpoints[usize::from(at.index)]))
            .collect();
        let usable = match (usable, best) {
            (Usable::No(_), _) => usable,
            _ if forced || best.serves() => usable,
            (_, State::Down(severity)) => Usable::No(Cause::Probes(severity)),
            _ => Usable::IfNothingElse,
        };
        Pool { usable, configured, best, candidates }
    }

    fn candidate(
        &self,
        at: EndpointRef,
        offered: &Offered,
        best: State,
        standing: &EndpointStanding,
    ) -> Option<Candidate> {
        // Up and degraded addresses are answered side by side; of others only the best.
        let good = |state: State| state == best || (state.serves() && best.serves());
        let addresses = offered.addresses.iter().filter(|(state, _)| good(*state)).map(|(_, a)| *a).collect();
        let degraded = best.serves() && offered.best != State::Up;
        let full =
            weight_of(self.topology.region(at.region), usize::from(at.index))? * (1.0 - standing.kept_away);
        let weight = if degraded { full * DEGRADED_SHARE } else { full };
        good(offered.best).then_some(Candidate { endpoint: at, weight, addresses })
    }
}

/// What an endpoint has to answer in a family.
struct Offered {
    /// The state of its best address, or of the endpoint whose name is answered.
    best: State,
    /// Its addresses of the family.
    addresses: Vec<(State, IpAddr)>,
}

impl EndpointStanding {
    fn offered(&self, endpoint: &Endpoint, family: Family) -> Offered {
        let known = self.addresses.iter().map(|state| self.forced_or(*state));
        let addresses: Vec<_> =
            known.zip(endpoint.addresses.iter().copied()).filter(|(_, a)| family.has(*a)).collect();
        let best = addresses.iter().map(|(state, _)| *state).min();
        Offered { best: best.unwrap_or_else(|| self.forced_or(self.state)), addresses }
    }

    /// The state after the operator's word.
    fn effective(&self) -> State {
        if self.kept_away >= 1.0 { HARD_DOWN } else { self.forced_or(self.state) }
    }

    fn forced_or(&self, state: State) -> State {
        if self.action == Some(Action::Up) { State::Up } else { state }
    }
}
