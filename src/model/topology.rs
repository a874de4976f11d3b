//! Everything a config says about what there is to choose from.

use std::collections::BTreeSet;
use std::net::IpAddr;

use super::{Condition, Location, Name, PlaceKey, Probe, Service, Weight};

/// Index into [`Topology::regions`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RegionId(pub u16);

/// Index into [`Topology::services`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ServiceId(pub u32);

/// Index into [`Topology::probes`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ProbeId(pub u16);

/// An endpoint by its place in the topology.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct EndpointRef {
    /// The region.
    pub region: RegionId,
    /// Index into [`Region::endpoints`].
    pub index: u16,
}

/// Regions, services and what they refer to. Ids in it are valid indices.
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
}

/// `[region.NAME]`.
#[derive(Clone, Debug, PartialEq)]
pub struct Region {
    /// The name in the config.
    pub name: String,
    /// Where it is.
    pub location: Location,
    /// Requests per second it can take.
    pub capacity: Option<u64>,
    /// When it is healthy: `healthy_when` over its endpoints that have weight, and all that it requires.
    pub healthy_when: Condition,
    /// Its balancers; at least one.
    pub endpoints: Vec<Endpoint>,
}

/// `[[region.NAME.endpoint]]`.
#[derive(Clone, Debug, PartialEq)]
pub struct Endpoint {
    /// Unique within the region.
    pub name: String,
    /// How clients reach it.
    pub reach: Reach,
    /// Its share within the region.
    pub weight: Weight,
    /// When an address of it is healthy: the probes that must pass. [`Condition::ALWAYS`] without probes.
    pub healthy_when: Condition,
}

/// How clients reach an endpoint. Each address has a verdict of its own.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Reach {
    /// At these addresses.
    Addresses(Vec<IpAddr>),
    /// By a name that services of names answer, and at these addresses, if any. A name is not probed: without addresses
    /// the endpoint is always up.
    Named(Name, Vec<IpAddr>),
    /// At the addresses of this host, as resolvers report them; also by its name.
    Resolved(Name),
}

/// `[group.NAME]`: a name for a set of places.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Group {
    /// The name in the config.
    pub name: String,
    /// Its places; may name other groups, but never itself by any way.
    pub places: Vec<PlaceKey>,
}

/// A known round-trip time.
#[derive(Clone, Debug, PartialEq)]
pub struct LatencyRow {
    /// Where the client is.
    pub from: PlaceKey,
    /// Where it is sent.
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

    /// The name that services of names answer.
    #[must_use]
    pub fn host(&self) -> Option<&Name> {
        match &self.reach {
            Reach::Addresses(_) => None,
            Reach::Named(host, _) | Reach::Resolved(host) => Some(host),
        }
    }

    /// The host whose addresses are its own, unless they are listed.
    #[must_use]
    pub fn resolved_host(&self) -> Option<&Name> {
        match &self.reach {
            Reach::Resolved(host) => Some(host),
            Reach::Addresses(_) | Reach::Named(..) => None,
        }
    }
}

impl Region {
    /// The share of an endpoint; `None` for weight 0, which takes no clients, unless every weight of the region is 0.
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
    /// The hosts to resolve, each once.
    #[must_use]
    pub fn resolved_hosts(&self) -> BTreeSet<&Name> {
        let endpoints = self.regions.iter().flat_map(|region| &region.endpoints);
        endpoints.filter_map(Endpoint::resolved_host).collect()
    }

    /// The region behind an id.
    #[must_use]
    pub fn region(&self, id: RegionId) -> &Region {
        &self.regions[usize::from(id.0)]
    }

    /// The service behind an id.
    #[must_use]
    pub fn service(&self, id: ServiceId) -> &Service {
        &self.services[id.0 as usize]
    }

    /// The probe behind an id.
    #[must_use]
    pub fn probe(&self, id: ProbeId) -> &Probe {
        &self.probes[usize::from(id.0)]
    }

    /// The endpoint behind a reference.
    #[must_use]
    pub fn endpoint(&self, at: EndpointRef) -> &Endpoint {
        &self.region(at.region).endpoints[usize::from(at.index)]
    }

    /// Every region with its id.
    pub fn region_ids(&self) -> impl Iterator<Item = RegionId> + use<> {
        (0..self.regions.len()).map(|index| RegionId(index as u16))
    }

    /// The region of a name.
    #[must_use]
    pub fn region_named(&self, name: &str) -> Option<RegionId> {
        let found = self.regions.binary_search_by(|region| region.name.as_str().cmp(name));
        found.ok().map(|index| RegionId(index as u16))
    }

    /// The services of a name, each of other types.
    pub fn services_named(&self, name: &Name) -> impl Iterator<Item = ServiceId> {
        (0..).map(ServiceId).zip(&self.services).filter(move |(_, it)| it.name == *name).map(|(id, _)| id)
    }
}
