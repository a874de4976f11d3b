//! The regions, services, probes and places of a config.

use std::collections::{BTreeSet, HashMap};
use std::net::IpAddr;

use super::{
    Backend, BackendRef, Condition, Discover, Location, Name, PlaceKey, Pool, PoolId, Probe, Service,
    ServiceKey, Weight,
};

/// Index into [`Topology::regions`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RegionId(pub u16);

/// Index into [`Topology::services`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ServiceId(pub u32);

/// Index into [`Topology::probes`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ProbeId(pub u16);

/// Reference to an endpoint by its position in the topology.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct EndpointRef {
    /// The region.
    pub region: RegionId,
    /// Index into [`Region::endpoints`].
    pub index: u16,
}

/// Regions, services and what they refer to. All ids in it are valid indices.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Topology {
    /// In the order of their names.
    pub regions: Vec<Region>,
    /// In the order of the config.
    pub services: Vec<Service>,
    /// In the order of their names.
    pub probes: Vec<Probe>,
    /// In the order of their names.
    pub groups: Vec<Group>,
    /// `[latency]`: rows of the table and of the file, in the order read; of two rows for the same place and
    /// region the later wins.
    pub latency: Vec<LatencyRow>,
    /// `[proxy.pool]`: in the order of their names.
    pub pools: Vec<Pool>,
}

/// A region: `[region.NAME]`.
#[derive(Clone, Debug, PartialEq)]
pub struct Region {
    /// The name in the config.
    pub name: String,
    /// Where it is.
    pub location: Location,
    /// Requests per second that it can handle.
    pub capacity: Option<u64>,
    /// The condition for it to be healthy: `healthy_when` over its endpoints that have weight, and everything in
    /// `require`.
    pub healthy_when: Condition,
    /// Its balancers; at least one.
    pub endpoints: Vec<Endpoint>,
}

/// An endpoint of a region: `[[region.NAME.endpoint]]`.
#[derive(Clone, Debug, PartialEq)]
pub struct Endpoint {
    /// Unique within the region.
    pub name: String,
    /// How clients reach it.
    pub reach: Reach,
    /// Its share within the region.
    pub weight: Weight,
    /// The condition for one of its addresses to be healthy: the probes that must pass. [`Condition::ALWAYS`] without
    /// probes.
    pub healthy_when: Condition,
}

/// How clients reach an endpoint. Each address has its own verdict.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Reach {
    /// At these addresses.
    Addresses(Vec<IpAddr>),
    /// By a host name, which CNAME, SRV and MX services answer, and at these addresses, if any. Names are not probed:
    /// without addresses the endpoint is always up.
    Named(Name, Vec<IpAddr>),
    /// At the addresses of this host, as resolvers report them; also by its name.
    Resolved(Name),
}

/// `[group.NAME]`: a name for a set of places.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Group {
    /// The name in the config.
    pub name: String,
    /// Its places; may include other groups, but never itself, directly or indirectly.
    pub places: Vec<PlaceKey>,
}

/// A known round-trip time.
#[derive(Clone, Debug, PartialEq)]
pub struct LatencyRow {
    /// Where the client is.
    pub from: PlaceKey,
    /// The region that is measured.
    pub region: RegionId,
    /// Milliseconds, above 0.
    pub millis: f64,
}

impl Endpoint {
    /// The addresses written in the config.
    #[must_use]
    pub fn listed(&self) -> &[IpAddr] {
        match &self.reach {
            Reach::Addresses(addresses) | Reach::Named(_, addresses) => addresses,
            Reach::Resolved(_) => &[],
        }
    }

    /// The host name, which CNAME, SRV and MX services answer.
    #[must_use]
    pub fn host(&self) -> Option<&Name> {
        match &self.reach {
            Reach::Addresses(_) => None,
            Reach::Named(host, _) | Reach::Resolved(host) => Some(host),
        }
    }

    /// The host to resolve for its addresses; `None` if they are listed in the config.
    #[must_use]
    pub fn resolved_host(&self) -> Option<&Name> {
        match &self.reach {
            Reach::Resolved(host) => Some(host),
            Reach::Addresses(_) | Reach::Named(..) => None,
        }
    }

    /// Whether its addresses are probed. A host name without addresses is not.
    #[must_use]
    pub fn is_probed(&self) -> bool {
        let is_name_alone = matches!(&self.reach, Reach::Named(_, addresses) if addresses.is_empty());
        self.healthy_when != Condition::ALWAYS && !is_name_alone
    }
}

impl Region {
    /// The weight of an endpoint; `None` for weight 0, which gets no clients. If all weights of the region are 0, they
    /// count as equal.
    #[must_use]
    pub fn weight(&self, index: usize) -> Option<f64> {
        match self.endpoints[index].weight.0 {
            0 if self.endpoints.iter().all(|endpoint| endpoint.weight.0 == 0) => Some(1.0),
            0 => None,
            weight => Some(f64::from(weight)),
        }
    }
}

impl Topology {
    /// Whether anything is probed that decides whether a region is healthy: its own endpoints, or what it requires.
    #[must_use]
    pub fn is_probed(&self, region: RegionId) -> bool {
        let mut found = false;
        self.region(region).healthy_when.leaves(&mut |leaf| {
            found |= match leaf {
                Condition::Endpoint(at) => self.endpoint(*at).is_probed(),
                Condition::Region(other) => self.region(*other).endpoints.iter().any(Endpoint::is_probed),
                _ => false,
            };
        });
        found
    }

    /// The hosts to resolve, each once.
    #[must_use]
    pub fn resolved_hosts(&self) -> BTreeSet<&Name> {
        let endpoints = self.regions.iter().flat_map(|region| &region.endpoints);
        let backends = self.pools.iter().flat_map(|pool| &pool.backends);
        endpoints
            .filter_map(Endpoint::resolved_host)
            .chain(backends.filter_map(Backend::resolved_host))
            .collect()
    }

    /// The names that pools discover their backends by.
    pub fn discovered_names(&self) -> impl Iterator<Item = &Name> {
        self.pools.iter().filter_map(|pool| match pool.discover.as_ref()? {
            Discover::Host { name, .. } | Discover::Services(name) => Some(name),
            Discover::File(_) => None,
        })
    }

    /// The region with this id.
    #[must_use]
    pub fn region(&self, id: RegionId) -> &Region {
        &self.regions[usize::from(id.0)]
    }

    /// The service with this id.
    #[must_use]
    pub fn service(&self, id: ServiceId) -> &Service {
        &self.services[id.0 as usize]
    }

    /// The probe with this id.
    #[must_use]
    pub fn probe(&self, id: ProbeId) -> &Probe {
        &self.probes[usize::from(id.0)]
    }

    /// The endpoint that a reference points to.
    #[must_use]
    pub fn endpoint(&self, at: EndpointRef) -> &Endpoint {
        &self.region(at.region).endpoints[usize::from(at.index)]
    }

    /// The pool with this id.
    #[must_use]
    pub fn pool(&self, id: PoolId) -> &Pool {
        &self.pools[usize::from(id.0)]
    }

    /// The backend that a reference points to.
    #[must_use]
    pub fn backend(&self, at: BackendRef) -> &Backend {
        &self.pool(at.pool).backends[usize::from(at.index)]
    }

    /// The ids of all pools.
    pub fn pool_ids(&self) -> impl Iterator<Item = PoolId> + use<> {
        (0..self.pools.len()).map(|index| PoolId(index as u16))
    }

    /// The id of the pool with this name.
    #[must_use]
    pub fn pool_named(&self, name: &str) -> Option<PoolId> {
        let found = self.pools.binary_search_by(|pool| pool.name.as_str().cmp(name));
        found.ok().map(|index| PoolId(index as u16))
    }

    /// The ids of all regions.
    pub fn region_ids(&self) -> impl Iterator<Item = RegionId> + use<> {
        (0..self.regions.len()).map(|index| RegionId(index as u16))
    }

    /// The id of the region with this name.
    #[must_use]
    pub fn region_named(&self, name: &str) -> Option<RegionId> {
        let found = self.regions.binary_search_by(|region| region.name.as_str().cmp(name));
        found.ok().map(|index| RegionId(index as u16))
    }

    /// The ids of the services by what identifies them over reloads.
    #[must_use]
    pub fn services_by_key(&self) -> HashMap<ServiceKey<'_>, ServiceId> {
        self.services.iter().map(Service::key).zip((0..).map(ServiceId)).collect()
    }

    /// The ids of the services with this name, each of a different type.
    pub fn services_named(&self, name: &Name) -> impl Iterator<Item = ServiceId> {
        (0..).map(ServiceId).zip(&self.services).filter(move |(_, it)| it.name == *name).map(|(id, _)| id)
    }
}
