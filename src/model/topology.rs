//! Everything a config says about what there is to choose from.

use std::collections::BTreeSet;
use std::net::IpAddr;

use super::{Fraction, Location, Name, PlaceKey, Probe, Service, Weight};

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
    /// How many of its endpoints must be up.
    pub healthy_when: Need,
    /// Endpoints, here or elsewhere, that must be up too.
    pub require: Vec<EndpointRef>,
    /// Its balancers; at least one.
    pub endpoints: Vec<Endpoint>,
}

impl Region {
    /// Whether it has no address at all, and waits for those of a host.
    #[must_use]
    pub fn is_unresolved(&self) -> bool {
        self.endpoints.iter().all(|it| it.addresses.is_empty())
            && self.endpoints.iter().any(|it| it.is_resolved)
    }
}

/// `[[region.NAME.endpoint]]`.
#[derive(Clone, Debug, PartialEq)]
pub struct Endpoint {
    /// Unique within the region.
    pub name: String,
    /// Each has a verdict of its own; none only where there is a [`Endpoint::host`].
    pub addresses: Vec<IpAddr>,
    /// The name that services of names answer. Nobody looks at it: without addresses it is always up, or
    /// unknown if it has to be resolved.
    pub host: Option<Name>,
    /// Whether the addresses are those of the host, as resolvers tell them: sorted, and none before the first
    /// answer. Otherwise they are as written.
    pub is_resolved: bool,
    /// Its share within the region.
    pub weight: Weight,
    /// All must pass; none: always up.
    pub probes: Vec<ProbeId>,
}

/// How many endpoints must be up for their region to be.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Need {
    /// One.
    Any,
    /// Every one.
    All,
    /// This many.
    AtLeast(usize),
    /// This part of them, rounded up.
    Fraction(Fraction),
}

impl Need {
    /// The number of endpoints out of `total`, at least 1.
    #[must_use]
    pub fn count(self, total: usize) -> usize {
        match self {
            Self::Any => 1,
            Self::All => total,
            Self::AtLeast(n) => n,
            Self::Fraction(part) => part.ceil_of(total),
        }
        .max(1)
    }
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
    /// The host that its addresses are those of, unless they are written.
    #[must_use]
    pub fn resolved_host(&self) -> Option<&Name> {
        self.host.as_ref().filter(|_| self.is_resolved)
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
        self.regions.iter().position(|region| region.name == name).map(|index| RegionId(index as u16))
    }

    /// The services of a name, each of other types.
    pub fn services_named(&self, name: &Name) -> impl Iterator<Item = ServiceId> {
        (0..).map(ServiceId).zip(&self.services).filter(move |(_, it)| it.name == *name).map(|(id, _)| id)
    }
}
