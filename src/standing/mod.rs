//! What may be used right now.
//!
//! A [`Standing`] is computed from the states that probes found, the overrides of operators and the regions that
//! safety rules hold. It is small and immutable: every change makes a new one, and queries only read it. It keeps the
//! probes' states apart from what follows from them, so that an override never hides a verdict.

mod dues;
mod overrides;
mod pool;
mod region;
mod sets;

use std::net::IpAddr;
use std::sync::Arc;

pub use dues::Dues;
pub use overrides::{Action, ActionError, Override};
pub use pool::{Closed, Ejected, OpenAddress, Panic, PoolPast, PoolStanding};
pub use region::{Inputs, LOST_TOGETHER, decide};
pub use sets::{RegionSets, SetId};

use crate::health::{Severity, State};
use crate::model::{EndpointRef, Family, PoolId, RegionId, Rule, ServiceId, Unix};

/// The fraction of its weight that a degraded endpoint or region keeps.
pub const DEGRADED_FACTOR: f64 = 0.5;

/// What may be used right now, by the ids of one topology. Cheap to clone: the large parts are shared.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Standing {
    /// By [`RegionId`].
    pub regions: Box<[RegionStanding]>,
    /// By [`PoolId`].
    pub pools: Box<[PoolStanding]>,
    /// Overrides of a region within one service, sorted by service and region; usually empty.
    pub services: Arc<[ServiceOverride]>,
    /// Regions that a safety rule holds, sorted; usually empty.
    pub held: Box<[Held]>,
    /// When any of this can change at the earliest; only filled in if a service has a computed TTL.
    pub dues: Dues,
    /// Whether the node suspects its own network.
    pub suspected: Option<Suspected>,
}

/// What follows from the node's suspicion that its own network failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Suspected {
    /// `suspect_self` keeps earlier states in use.
    KeepsStanding,
    /// Only an alarm: `suspect_self` is not set, or its time is over.
    AlarmOnly,
}

/// The standing of a region.
#[derive(Clone, Debug, PartialEq)]
pub struct RegionStanding {
    /// What probes found, regardless of overrides.
    pub state: State,
    /// When [`RegionStanding::state`] was entered.
    pub since: Unix,
    /// The override of the whole region.
    pub action: Option<Action>,
    /// What may be answered, by family: addresses for A, addresses for AAAA, host names.
    pub pools: [Pool; 3],
    /// By the index of the endpoint.
    pub endpoints: Arc<[EndpointStanding]>,
    /// Whether it has no addresses at all because its hosts have not been resolved yet.
    pub unresolved: bool,
    /// The rule that keeps it in use although probes found it down: `suspect_self`.
    pub kept_by: Option<Rule>,
}

/// What a region can answer in one family.
#[derive(Clone, Debug, PartialEq)]
pub struct Pool {
    /// Whether it may be answered, overrides of the region included.
    pub usable: Usable,
    /// Whether the region has anything of this family. If not, [`Pool::usable`] is that of another family.
    pub configured: bool,
    /// Whether this node itself has seen it serve, or an operator forced it up. Only then does it count towards the
    /// minimum that operators must keep.
    pub observed: bool,
    /// Whether the best endpoint that no operator withdrew serves, by the state that steering uses.
    pub serves: bool,
    /// The best endpoints that no operator withdrew, each with its best addresses.
    pub candidates: Arc<[Candidate]>,
    /// What to answer from it when no region may be used.
    pub last_resort: LastResort,
    /// The endpoints that served last, for `all_down = { last_good }`; `None` while it serves, or if it never did.
    pub last_good: Option<LastGood>,
}

/// What to answer from a pool when no region may be used.
#[derive(Clone, Debug, PartialEq)]
pub struct LastResort {
    /// How promising the candidates are.
    pub class: LastResortClass,
    /// The endpoints to answer.
    pub candidates: Arc<[Candidate]>,
}

/// How promising it is to answer with something that may not be used. Ordered from best to worst.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum LastResortClass {
    /// The region serves in another address family.
    OtherFamily,
    /// An operator drained it, but it is healthy.
    Drained,
    /// It is soft-down: something responds there, but not correctly.
    Soft,
    /// There is no result yet.
    Unknown,
    /// It is hard-down: nothing responds there.
    Hard,
    /// An operator drained it, and it is down.
    DrainedDown,
    /// An operator forced it down, or no address is known.
    Never,
}

/// The endpoints that served last.
#[derive(Clone, Debug, PartialEq)]
pub struct LastGood {
    /// When the last of them stopped serving.
    pub until: Unix,
    /// The endpoints, each with its addresses that stopped serving within a minute of `until`.
    pub candidates: Arc<[Candidate]>,
}

/// An endpoint and its addresses that may be answered.
#[derive(Clone, Debug, PartialEq)]
pub struct Candidate {
    /// The endpoint.
    pub endpoint: EndpointRef,
    /// Hash of its name.
    pub hash: u64,
    /// Its weight, reduced while it is degraded or partially drained.
    pub weight: f64,
    /// At least one address; empty if names are answered.
    pub addresses: Box<[IpAddr]>,
}

/// Whether something may be answered.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Usable {
    /// It may be answered, at this fraction of its weight: above 0, at most 1.
    Yes(f64),
    /// Only while nothing else may be answered, because there is no result yet.
    IfNothingElse,
    /// It may not be answered.
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

/// The standing of an endpoint, or of a backend of a pool.
#[derive(Clone, Debug, PartialEq)]
pub struct EndpointStanding {
    /// What probes found: the state of its best address.
    pub state: State,
    /// Its override.
    pub action: Option<Action>,
    /// In the order of the config; sorted if they come from resolving a host.
    pub addresses: Box<[AddressStanding]>,
}

/// The standing of an address of an endpoint.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct AddressStanding {
    /// The address.
    pub address: IpAddr,
    /// What probes found.
    pub state: State,
    /// The state that steering uses. It differs from `state` where this node cannot probe the address, which then
    /// follows its endpoint's other addresses, and where `suspect_self` keeps an earlier state in use.
    pub used: State,
    /// Whether this node can probe it, or it has no probe.
    pub observed: bool,
    /// When it stopped serving; `None` while it serves, or if it never did.
    pub served_until: Option<Unix>,
}

impl AddressStanding {
    /// An address whose state this node has observed, and which steering uses as it is.
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

/// A region that a safety rule holds: it is answered although it is soft-down.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Held {
    /// The clients that it is held for.
    pub scope: HeldFor,
    /// The address family that it is held in.
    pub family: Family,
    /// The region.
    pub region: RegionId,
    /// The rule.
    pub rule: Rule,
}

/// The clients that a region is held for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum HeldFor {
    /// Clients of any service that may be sent to exactly this set of regions.
    Set(SetId),
    /// Such clients of one service that has overrides of its own.
    Service(ServiceId, SetId),
}

impl Standing {
    /// The standing of a region.
    #[must_use]
    pub fn region(&self, id: RegionId) -> &RegionStanding {
        &self.regions[usize::from(id.0)]
    }

    /// The standing of a pool of backends.
    #[must_use]
    pub fn pool(&self, id: PoolId) -> &PoolStanding {
        &self.pools[usize::from(id.0)]
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

    /// The services that have overrides of their own, each listed once.
    pub fn overridden_services(&self) -> impl Iterator<Item = ServiceId> {
        self.services.chunk_by(|one, two| one.service == two.service).map(|chunk| chunk[0].service)
    }

    /// The rule that holds a region for the clients of a service that may be sent to a set of regions; without a
    /// service, for those of all services.
    #[must_use]
    pub fn held(
        &self,
        service: Option<ServiceId>,
        set: SetId,
        family: Family,
        region: RegionId,
    ) -> Option<Rule> {
        if self.held.is_empty() {
            return None;
        }
        let family = self.region(region).deciding_family(family);
        let find = |scope: HeldFor| {
            let key = (scope, family, region);
            let found = self.held.binary_search_by_key(&key, |held| (held.scope, held.family, held.region));
            found.ok().map(|index| self.held[index].rule)
        };
        find(HeldFor::Set(set)).or_else(|| find(HeldFor::Service(service?, set)))
    }

    /// Those of `regions` that can serve clients of a family: those with addresses of the family. IPv6 clients are also
    /// served by IPv4 addresses, as most have both, and others use NAT64.
    #[must_use]
    pub fn able_to_serve(&self, regions: &[RegionId], family: Family) -> Vec<RegionId> {
        let has = |id: &RegionId, family| self.region(*id).pool(family).configured;
        let is_able = |id: &RegionId| has(id, family) || (family == Family::V6 && has(id, Family::V4));
        regions.iter().copied().filter(is_able).collect()
    }

    /// The rule that holds or keeps a region for any clients.
    #[must_use]
    pub fn held_anywhere(&self, region: RegionId) -> Option<Rule> {
        let held = self.held.iter().find(|held| held.region == region).map(|held| held.rule);
        held.or_else(|| self.region(region).kept_by)
    }

    /// How promising a region is for a service when no region may be used.
    #[must_use]
    pub fn last_resort(&self, service: ServiceId, region: RegionId, family: Family) -> LastResortClass {
        let of_region = self.region(region).pool(family).last_resort.class;
        match self.within(service, region) {
            Some(Action::Down) => LastResortClass::Never,
            Some(action) if action.withdraws() && of_region > LastResortClass::Drained => {
                of_region.max(LastResortClass::DrainedDown)
            }
            Some(action) if action.withdraws() => LastResortClass::Drained,
            _ => of_region,
        }
    }

    /// Whether a region may be answered in a family to clients of a service. An override within the service takes
    /// precedence over the region's own, but a partial drain does not readmit what the region's override withdraws.
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
    /// What it can answer in a family.
    #[must_use]
    pub fn pool(&self, family: Family) -> &Pool {
        &self.pools[family as usize]
    }

    /// The family whose pool decides whether the region is used in a family: where nothing is configured, and the answer
    /// is NODATA, the first that is.
    #[must_use]
    pub fn deciding_family(&self, family: Family) -> Family {
        let is_configured = |it: &Family| self.pool(*it).configured;
        [family].into_iter().chain(Family::ALL).find(is_configured).unwrap_or(family)
    }

    /// The best usability over all families.
    #[must_use]
    pub fn usable(&self) -> Usable {
        let [first, rest @ ..] = self.pools.each_ref().map(|pool| pool.usable);
        rest.into_iter().fold(first, Usable::best)
    }

    /// The share of clients that a partial drain of the region keeps away, 0 if there is none.
    #[must_use]
    pub fn drained_share(&self) -> f64 {
        self.action.filter(|action| action.is_partial()).map_or(0.0, Action::drained_share)
    }
}

impl Pool {
    /// Whether it can be answered: it has candidates, or it has nothing of this family and the answer is NODATA.
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

    /// The better of the two.
    #[must_use]
    pub fn best(self, other: Self) -> Self {
        if other.order() < self.order() { other } else { self }
    }

    /// Whether it may be answered alongside others.
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
