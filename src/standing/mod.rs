//! What may be used right now.
//!
//! A [`Standing`] is made from the states that probes found, the overrides of operators and what safety holds
//! in. It is small, and made anew on every change; queries read it, nobody changes it. It keeps the probes'
//! states apart from what follows from them, so that an override never hides a verdict.

mod compute;
mod dues;
mod overrides;
mod sets;

use std::net::IpAddr;

pub use compute::DEGRADED_SHARE;
pub use dues::Dues;
pub use overrides::{Action, Override};
pub use sets::{RegionSets, SetId};

use crate::health::{Severity, State};
use crate::model::{EndpointRef, Family, RegionId, ServiceId, Topology, Unix};

/// What may be used right now, by the ids of one topology.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Standing {
    /// By [`RegionId`].
    pub regions: Box<[RegionStanding]>,
    /// Overrides of a region within one service, in order of service and region; usually none.
    pub services: Box<[ServiceStanding]>,
    /// By [`SetId`]: regions that safety holds in for services with these regions; usually none.
    pub held: Box<[Box<[RegionId]>]>,
    /// Regions that safety holds in for one service beside those of its set, because operators have said
    /// something about that service alone; in order of service and region, usually none.
    pub held_within: Box<[(ServiceId, RegionId)]>,
    /// Whether any region is drained for a part of its clients.
    pub drains_in_part: bool,
    /// When any of this can change at the earliest; worked out if a service's TTL is computed.
    pub dues: Dues,
}

/// A region.
#[derive(Clone, Debug, PartialEq)]
pub struct RegionStanding {
    /// What probes found, whatever operators say.
    pub state: State,
    /// When [`RegionStanding::state`] was entered.
    pub since: Unix,
    /// When it ceased to serve; `None` while it serves, or if it never did.
    pub served_until: Option<Unix>,
    /// The operator's word on the whole region.
    pub action: Option<Action>,
    /// The share of clients that a partial drain keeps away, 0 to 1.
    pub kept_away: f64,
    /// What may be answered, by family: addresses for A, for AAAA, then names.
    pub pools: [Pool; 3],
    /// By index of the endpoint.
    pub endpoints: Box<[EndpointStanding]>,
}

/// What a region has to answer in one family.
#[derive(Clone, Debug, PartialEq)]
pub struct Pool {
    /// Whether it may be answered.
    pub usable: Usable,
    /// Whether anything of this family is configured. If nothing is, [`Pool::usable`] is another family's.
    pub configured: bool,
    /// The best addresses there are: those that serve; else those unknown; else soft-down ones; else all.
    pub best: State,
    /// Those addresses, by endpoint.
    pub candidates: Box<[Candidate]>,
}

/// An endpoint and those of its addresses that are as good as any in the pool.
#[derive(Clone, Debug, PartialEq)]
pub struct Candidate {
    /// Which endpoint.
    pub endpoint: EndpointRef,
    /// Its weight, reduced while degraded.
    pub weight: f64,
    /// At least one; none where names are answered.
    pub addresses: Box<[IpAddr]>,
}

/// Whether something may be answered. Ordered from yes to no.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Usable {
    /// Yes.
    Full,
    /// Yes, at a reduced weight.
    Reduced,
    /// While nothing else may: nobody knows.
    IfNothingElse,
    /// No.
    No(Cause),
}

/// The worst state there is.
pub const HARD_DOWN: State = State::Down(Severity::Hard);

/// Why something may not be answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cause {
    /// Probes found it down.
    Probes(Severity),
    /// An operator drained it or forced it down.
    Operator,
}

/// An endpoint.
#[derive(Clone, Debug, PartialEq)]
pub struct EndpointStanding {
    /// What probes found: the best of its addresses.
    pub state: State,
    /// The operator's word.
    pub action: Option<Action>,
    /// The share of clients that a partial drain keeps away, 0 to 1: its weight is reduced by as much.
    pub kept_away: f64,
    /// By index of the address.
    pub addresses: Box<[State]>,
}

/// An operator's word on a region within one service.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct ServiceStanding {
    /// The service.
    pub service: ServiceId,
    /// The region.
    pub region: RegionId,
    /// The word.
    pub action: Action,
    /// The share of clients a drain keeps away, 0 to 1.
    pub kept_away: f64,
}

/// What a standing is made from.
#[derive(Clone, Copy)]
pub struct Inputs<'a> {
    /// What there is.
    pub topology: &'a Topology,
    /// What probes found for an address, by endpoint and the address's index.
    pub states: &'a dyn Fn(EndpointRef, usize) -> State,
    /// Those in force.
    pub overrides: &'a [Override],
    /// The region's standing before, if it had one: it remembers since when.
    pub previous: &'a dyn Fn(RegionId) -> Option<&'a RegionStanding>,
    /// The present moment.
    pub now: Unix,
}

impl Standing {
    /// The standing of a region.
    #[must_use]
    pub fn region(&self, id: RegionId) -> &RegionStanding {
        &self.regions[usize::from(id.0)]
    }

    /// The standing of an endpoint.
    #[must_use]
    pub fn endpoint(&self, at: EndpointRef) -> &EndpointStanding {
        &self.region(at.region).endpoints[usize::from(at.index)]
    }

    /// The operator's word on a region within a service.
    #[must_use]
    pub fn within(&self, service: ServiceId, region: RegionId) -> Option<&ServiceStanding> {
        if self.services.is_empty() {
            return None;
        }
        let found = self.services.binary_search_by_key(&(service, region), |s| (s.service, s.region));
        found.ok().map(|index| &self.services[index])
    }

    /// Whether an operator has said anything about a service alone.
    #[must_use]
    pub fn has_words_on(&self, service: ServiceId) -> bool {
        self.services.binary_search_by_key(&service, |word| word.service).is_ok()
    }

    /// Whether safety holds a region in for the services of a set.
    #[must_use]
    pub fn is_held(&self, set: SetId, region: RegionId) -> bool {
        self.held.get(set.0 as usize).is_some_and(|held| held.contains(&region))
    }

    /// Whether safety holds a region in for a service of a set.
    #[must_use]
    pub fn is_held_for(&self, service: ServiceId, set: SetId, region: RegionId) -> bool {
        self.is_held(set, region) || self.held_within.binary_search(&(service, region)).is_ok()
    }

    /// Whether safety holds a region in for any services.
    #[must_use]
    pub fn is_held_anywhere(&self, region: RegionId) -> bool {
        self.held.iter().any(|held| held.contains(&region))
            || self.held_within.iter().any(|(_, held)| *held == region)
    }

    /// What a region is to a service: an operator's word on the two of them goes before the region's own.
    #[must_use]
    pub fn usable_within(&self, service: ServiceId, region: RegionId) -> Usable {
        match self.within(service, region) {
            Some(word) if word.action == Action::Up => Usable::Full,
            Some(word) if word.withdraws() => Usable::No(Cause::Operator),
            _ => self.region(region).usable(),
        }
    }
}

impl ServiceStanding {
    /// Nobody is sent there.
    #[must_use]
    pub fn withdraws(&self) -> bool {
        match self.action {
            Action::Down => true,
            Action::Drain => self.kept_away >= 1.0,
            Action::Up => false,
        }
    }
}

impl RegionStanding {
    /// When it last served, as seen at `now`.
    #[must_use]
    pub fn last_served(&self, now: Unix) -> Option<Unix> {
        if self.state.serves() { Some(now) } else { self.served_until }
    }

    /// What it has to answer in a family.
    #[must_use]
    pub fn pool(&self, family: Family) -> &Pool {
        &self.pools[family as usize]
    }

    /// The best of the families.
    #[must_use]
    pub fn usable(&self) -> Usable {
        let [first, rest @ ..] = self.pools.each_ref().map(|pool| pool.usable);
        rest.into_iter().fold(first, |best, other| if other.order() < best.order() { other } else { best })
    }
}

impl Usable {
    /// 0 for yes, growing towards no.
    fn order(self) -> u8 {
        match self {
            Self::Full => 0,
            Self::Reduced => 1,
            Self::IfNothingElse => 2,
            Self::No(Cause::Probes(Severity::Soft)) => 3,
            Self::No(Cause::Probes(Severity::Hard)) => 4,
            Self::No(Cause::Operator) => 5,
        }
    }

    /// Whether it may be answered while others may, too.
    #[must_use]
    pub fn is_eligible(self) -> bool {
        matches!(self, Self::Full | Self::Reduced)
    }
}
