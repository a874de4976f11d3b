//! What may be used right now.
//!
//! A [`Standing`] is made from the states that probes found, the overrides of operators and what safety holds.
//! It is small, and made anew on every change; queries read it, nothing changes it. It keeps the probes' states
//! apart from what follows from them, so that an override never hides a verdict.

mod dues;
mod overrides;
mod region;
mod sets;

use std::net::IpAddr;
use std::sync::Arc;

pub use dues::Dues;
pub use overrides::{Action, ActionError, Override};
pub use region::Inputs;
pub use sets::{RegionSets, SetId};

use crate::health::{Severity, State};
use crate::model::{EndpointRef, Family, RegionId, Rule, ServiceId, Unix};

/// The part of its weight that a degraded endpoint or region keeps.
pub const DEGRADED_FACTOR: f64 = 0.5;

/// What may be used right now, by the ids of one topology. Cheap to copy: what is large is shared.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Standing {
    /// By [`RegionId`].
    pub regions: Box<[RegionStanding]>,
    /// Overrides of a region within one service, in order of service and region; usually none.
    pub services: Arc<[ServiceOverride]>,
    /// Regions that a safety rule holds, in order; usually none.
    pub held: Box<[Held]>,
    /// When any of this can change at the earliest; worked out if a service's TTL is computed.
    pub dues: Dues,
    /// Whether the node suspects its own network, so that `suspect_self` keeps what was found before.
    pub suspected: bool,
}

/// A region.
#[derive(Clone, Debug, PartialEq)]
pub struct RegionStanding {
    /// What probes found, whatever operators decided.
    pub state: State,
    /// When [`RegionStanding::state`] was entered.
    pub since: Unix,
    /// The override of the whole region.
    pub action: Option<Action>,
    /// What may be answered, by family: addresses for A, for AAAA, then names.
    pub pools: [Pool; 3],
    /// By index of the endpoint.
    pub endpoints: Arc<[EndpointStanding]>,
    /// Whether all its addresses are those of hosts that have not been resolved yet.
    pub unresolved: bool,
    /// Whether it would be down, but for a rule that keeps what was found before: `suspect_self`.
    pub kept_by: Option<Rule>,
}

/// What a region has to answer in one family.
#[derive(Clone, Debug, PartialEq)]
pub struct Pool {
    /// Whether it may be answered.
    pub usable: Usable,
    /// Whether anything of this family is configured. If nothing is, [`Pool::usable`] is another family's.
    pub configured: bool,
    /// Whether this node has itself seen that it serves, or an operator says so: only then it counts towards a minimum
    /// that operators must keep.
    pub observed: bool,
    /// Whether the best of what no operator withdrew serves, by what steering goes by.
    pub serves: bool,
    /// The best endpoints that no operator withdrew, with the best of their addresses.
    pub candidates: Arc<[Candidate]>,
    /// What to answer of it when no region may be answered.
    pub last_resort: LastResort,
    /// What served last, for `all_down = { last_good }`; `None` while it serves, or if it never did.
    pub last_good: Option<LastGood>,
}

/// What to answer of a pool when no region may be answered.
#[derive(Clone, Debug, PartialEq)]
pub struct LastResort {
    /// How promising that is.
    pub class: Resort,
    /// The endpoints.
    pub candidates: Arc<[Candidate]>,
}

/// How promising it is to answer something that may not be used. Ordered from best to worst.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Resort {
    /// The region serves in another address family.
    OtherFamily,
    /// An operator drained it, but it is healthy.
    Drained,
    /// Something answers there, though badly.
    Soft,
    /// There is no result yet.
    Unknown,
    /// Nothing answers there.
    Hard,
    /// An operator drained it, and it is down.
    DrainedDown,
    /// An operator forced it down, or no address is known.
    Never,
}

/// What served last.
#[derive(Clone, Debug, PartialEq)]
pub struct LastGood {
    /// When it ceased to serve.
    pub until: Unix,
    /// The endpoints, with those of their addresses that were lost together last.
    pub candidates: Arc<[Candidate]>,
}

/// An endpoint and those of its addresses that may be answered.
#[derive(Clone, Debug, PartialEq)]
pub struct Candidate {
    /// Which endpoint.
    pub endpoint: EndpointRef,
    /// Hash of its name.
    pub hash: u64,
    /// Its weight, reduced while it is degraded or drained in part.
    pub weight: f64,
    /// At least one; none where names are answered.
    pub addresses: Box<[IpAddr]>,
}

/// Whether something may be answered.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Usable {
    /// Yes, at this part of its weight, above 0.
    Yes(f64),
    /// While nothing else may: there is no result yet.
    IfNothingElse,
    /// No.
    No(Cause),
}

/// Why something may not be answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cause {
    /// Probes found it down.
    Probes(Severity),
    /// An operator drained it.
    Drained,
    /// An operator forced it down.
    ForcedDown,
}

/// An endpoint.
#[derive(Clone, Debug, PartialEq)]
pub struct EndpointStanding {
    /// What probes found: the best of its addresses.
    pub state: State,
    /// Its override.
    pub action: Option<Action>,
    /// In the order of the config; sorted if they are those of a host.
    pub addresses: Box<[AddressStanding]>,
}

/// An address of an endpoint.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct AddressStanding {
    /// The address.
    pub address: IpAddr,
    /// What probes found.
    pub state: State,
    /// What steering goes by. It differs where this node cannot probe the address and follows its endpoint's other
    /// addresses, and where `suspect_self` keeps what was found before.
    pub used: State,
    /// Whether this node can probe it, or has nothing to probe.
    pub observed: bool,
    /// When it ceased to serve; `None` while it serves, or if it never did.
    pub served_until: Option<Unix>,
}

impl AddressStanding {
    /// An address in a state that was observed.
    #[must_use]
    pub fn observed(address: IpAddr, state: State) -> Self {
        Self { address, state, used: state, observed: true, served_until: None }
    }
}

/// An override of a region within one service.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct ServiceOverride {
    /// The service.
    pub service: ServiceId,
    /// The region.
    pub region: RegionId,
    /// What to do with it.
    pub action: Action,
}

/// A region that a safety rule holds: answered though it fails softly.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Held {
    /// For whom.
    pub scope: HeldFor,
    /// In which address family.
    pub family: Family,
    /// The region.
    pub region: RegionId,
    /// The rule.
    pub rule: Rule,
}

/// Whom a region is held for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum HeldFor {
    /// All services with clients who may be sent to these regions.
    Set(SetId),
    /// One service with overrides of its own, for those clients.
    Service(ServiceId, SetId),
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

    /// The override of a region within a service.
    #[must_use]
    pub fn within(&self, service: ServiceId, region: RegionId) -> Option<Action> {
        if self.services.is_empty() {
            return None;
        }
        let found = self.services.binary_search_by_key(&(service, region), |it| (it.service, it.region));
        found.ok().map(|index| self.services[index].action)
    }

    /// The overrides of regions within a service.
    #[must_use]
    pub fn overrides_of(&self, service: ServiceId) -> &[ServiceOverride] {
        if self.services.is_empty() {
            return &[];
        }
        let start = self.services.partition_point(|it| it.service < service);
        let length = self.services[start..].partition_point(|it| it.service == service);
        &self.services[start..start + length]
    }

    /// The services that have overrides of their own, each once.
    pub fn overridden_services(&self) -> impl Iterator<Item = ServiceId> {
        self.services.chunk_by(|one, two| one.service == two.service).map(|chunk| chunk[0].service)
    }

    /// The rule that holds a region for those clients of a service who may be sent to a set of regions.
    #[must_use]
    pub fn held(&self, service: ServiceId, set: SetId, family: Family, region: RegionId) -> Option<Rule> {
        if self.held.is_empty() {
            return None;
        }
        let find = |scope: HeldFor| {
            let key = (scope, family, region);
            let found = self.held.binary_search_by_key(&key, |held| (held.scope, held.family, held.region));
            found.ok().map(|index| self.held[index].rule)
        };
        find(HeldFor::Set(set)).or_else(|| find(HeldFor::Service(service, set)))
    }

    /// The rule that holds or keeps a region for anyone.
    #[must_use]
    pub fn held_anywhere(&self, region: RegionId) -> Option<Rule> {
        let held = self.held.iter().find(|held| held.region == region).map(|held| held.rule);
        held.or_else(|| self.region(region).kept_by)
    }

    /// Whether a region may be answered in a family to clients of a service: an override within the service goes
    /// before the region's own, but a partial drain does not readmit what the region's override withdraws.
    #[must_use]
    pub fn usable_within(&self, service: ServiceId, region: RegionId, family: Family) -> Usable {
        let standing = self.region(region);
        let pool = standing.pool(family);
        match self.within(service, region) {
            Some(Action::Up) if pool.has_answer() => Usable::Yes(1.0),
            Some(Action::Down) => Usable::No(Cause::ForcedDown),
            Some(action) if action.withdraws() => Usable::No(Cause::Drained),
            _ => pool.usable,
        }
    }
}

impl RegionStanding {
    /// What it has to answer in a family.
    #[must_use]
    pub fn pool(&self, family: Family) -> &Pool {
        &self.pools[family as usize]
    }

    /// The best of the families.
    #[must_use]
    pub fn usable(&self) -> Usable {
        let [first, rest @ ..] = self.pools.each_ref().map(|pool| pool.usable);
        rest.into_iter().fold(first, Usable::best)
    }

    /// The share of clients that a partial drain of the region keeps away, 0 if there is none.
    #[must_use]
    pub fn kept_away(&self) -> f64 {
        self.action.filter(|action| action.is_partial()).map_or(0.0, Action::kept_away)
    }
}

impl Pool {
    /// Whether there is anything to answer, or nothing is configured and the answer has no records.
    #[must_use]
    pub fn has_answer(&self) -> bool {
        !self.configured || !self.candidates.is_empty()
    }
}

impl Usable {
    fn order(self) -> (u8, f64) {
        match self {
            Self::Yes(factor) => (0, -factor),
            Self::IfNothingElse => (1, 0.0),
            Self::No(Cause::Probes(Severity::Soft)) => (2, 0.0),
            Self::No(Cause::Probes(Severity::Hard)) => (3, 0.0),
            Self::No(Cause::Drained) => (4, 0.0),
            Self::No(Cause::ForcedDown) => (5, 0.0),
        }
    }

    /// The better of two.
    #[must_use]
    pub fn best(self, other: Self) -> Self {
        if other.order() < self.order() { other } else { self }
    }

    /// Whether it may be answered while others may, too.
    #[must_use]
    pub fn is_eligible(self) -> bool {
        matches!(self, Self::Yes(_))
    }

    /// Whether probes or an operator withdrew it.
    #[must_use]
    pub fn is_withdrawn(self) -> bool {
        matches!(self, Self::No(_))
    }
}

impl Cause {
    /// Whether an operator withdrew it.
    #[must_use]
    pub fn is_operator(self) -> bool {
        matches!(self, Self::Drained | Self::ForcedDown)
    }
}
