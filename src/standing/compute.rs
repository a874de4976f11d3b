//! How a standing follows from states and overrides.

use super::{
    Action, Candidate, Cause, EndpointStanding, HARD_DOWN, Inputs, Override, Pool, RegionStanding,
    ServiceStanding, Standing, Usable,
};
use crate::health::{self, State};
use crate::model::{EndpointRef, Family, Region, RegionId, Target, Topology};

/// The part of its weight that a degraded endpoint or region keeps.
pub const DEGRADED_SHARE: f64 = 0.5;

impl Standing {
    /// Works out what may be used. Nothing is held yet: see [`safety`](crate::safety).
    #[must_use]
    pub fn compute(inputs: Inputs<'_>) -> Self {
        let regions = inputs.topology.region_ids().map(|id| inputs.region(id)).collect();
        Self { regions, services: inputs.services(), ..Self::default() }
    }
}

impl Candidate {
    /// Every endpoint of a region that has addresses of a family, whatever its state.
    #[must_use]
    pub fn every(topology: &Topology, id: RegionId, family: Family) -> Box<[Self]> {
        let region = topology.region(id);
        let all = region.endpoints.iter().enumerate().filter_map(|(index, endpoint)| {
            let addresses: Box<[_]> = endpoint.addresses.iter().copied().filter(|a| family.has(*a)).collect();
            let weight = weight_of(region, index)?;
            let endpoint = EndpointRef { region: id, index: index as u16 };
            (!addresses.is_empty()).then_some(Self { endpoint, weight, addresses })
        });
        all.collect()
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
            let ids = self.topology.service_named(service).zip(self.topology.region_named(region));
            let Some((service, region)) = ids else { continue };
            found
                .push((o.id, ServiceStanding { service, region, action: o.action, kept_away: kept_away(o) }));
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
        EndpointStanding {
            state: health::endpoint_state(addresses.iter().copied()),
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

    fn pools(&self, id: RegionId, usable: Usable, forced: bool, endpoints: &[EndpointStanding]) -> [Pool; 2] {
        let mut pools =
            [Family::V4, Family::V6].map(|family| self.pool(id, family, usable, forced, endpoints));
        for (this, other) in [(0, 1), (1, 0)] {
            if !pools[this].configured && pools[other].configured {
                pools[this].usable = pools[other].usable;
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
        let configured = region.endpoints.iter().flat_map(|e| &e.addresses).any(|a| family.has(*a));
        let mut members: Vec<(EndpointRef, Vec<(State, std::net::IpAddr)>)> = Vec::new();
        for (index, (endpoint, standing)) in region.endpoints.iter().zip(endpoints).enumerate() {
            if standing.kept_away >= 1.0 || weight_of(region, index).is_none() {
                continue;
            }
            let known = standing.addresses.iter().map(|state| standing.forced_or(*state));
            let addresses =
                known.zip(endpoint.addresses.iter().copied()).filter(|(_, a)| family.has(*a)).collect();
            members.push((EndpointRef { region: id, index: index as u16 }, addresses));
        }
        let states = members.iter().flat_map(|(_, addresses)| addresses).map(|(state, _)| *state);
        let best = states.min().unwrap_or(HARD_DOWN);
        let candidates = members
            .iter()
            .filter_map(|(at, addresses)| {
                self.candidate(*at, addresses, best, &endpoints[usize::from(at.index)])
            })
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
        addresses: &[(State, std::net::IpAddr)],
        best: State,
        standing: &EndpointStanding,
    ) -> Option<Candidate> {
        // Up and degraded addresses are answered side by side; of the others only the best.
        let good = |state: State| state == best || (state.serves() && best.serves());
        let chosen: Box<[_]> = addresses.iter().filter(|(state, _)| good(*state)).map(|(_, a)| *a).collect();
        let is_up = addresses.iter().any(|(state, _)| *state == State::Up);
        let degraded = best.serves() && !is_up;
        let full =
            weight_of(self.topology.region(at.region), usize::from(at.index))? * (1.0 - standing.kept_away);
        let weight = if degraded { full * DEGRADED_SHARE } else { full };
        (!chosen.is_empty()).then_some(Candidate { endpoint: at, weight, addresses: chosen })
    }
}

impl EndpointStanding {
    /// The state after the operator's word.
    fn effective(&self) -> State {
        if self.kept_away >= 1.0 { HARD_DOWN } else { self.forced_or(self.state) }
    }

    fn forced_or(&self, state: State) -> State {
        if self.action == Some(Action::Up) { State::Up } else { state }
    }
}
