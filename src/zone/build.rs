//! Static RRsets and dynamic names in one tree, with everything computed in advance that lookups need.

use std::collections::HashSet;
use std::fmt;

use hashbrown::HashTable;
use smallvec::SmallVec;

use super::hash::is_same;
use super::{NameHash, RRset, Zone, rtype, type_name};
use crate::model::{Name, Service, ServiceId, ServiceKind, Ttl};

/// All zones of a server, ready for lookups.
#[derive(Debug, Default)]
pub struct Zones {
    pub(super) zones: Vec<Served>,
    /// Indices into `zones` by their origins.
    origins: HashTable<u32>,
    hash: NameHash,
    /// The fewest and the most labels of any origin: other suffixes of a name need no lookup.
    pub(super) origin_labels: (u8, u8),
}

/// A zone joined with its dynamic names.
#[derive(Debug)]
pub struct Served {
    /// Its position among the zones, in the order in which they were given.
    pub number: usize,
    /// The name of its apex.
    pub origin: Name,
    /// SERIAL of its SOA.
    pub serial: u32,
    /// How long negative answers may be cached: min(TTL of the SOA, MINIMUM) (RFC 2308 §3).
    pub negative_ttl: Ttl,
    /// The apex first.
    pub(super) nodes: Vec<Node>,
    /// Indices into `nodes` by their names, including every ancestor of a name that owns something.
    index: HashTable<u32>,
    hash: NameHash,
}

/// A name that exists: it owns something or something below it does (RFC 4592 §2.2.2).
#[derive(Debug)]
pub struct Node {
    /// In lowercase wire format. Most are short enough to be stored inline, which saves lookups a memory access.
    name: SmallVec<[u8; 24]>,
    /// Its static data; empty at an empty non-terminal.
    pub rrsets: Box<[RRset]>,
    services: Services,
    /// The uppermost delegation or DNAME strictly above, as an index into the zone's nodes, or [`NONE`].
    pub(super) covered_by: u32,
    /// The child `*`, as an index into the zone's nodes, or [`NONE`].
    pub(super) wildcard: u32,
    /// Labels of its name without the root.
    pub(super) labels: u8,
    /// Owns NS records and is not the apex.
    pub(super) is_cut: bool,
    /// Owns a DNAME record.
    pub(super) is_dname: bool,
}

/// The services of one name. Usually there is one, stored inline to save a memory access.
#[derive(Debug)]
enum Services {
    None,
    One(ServiceId),
    Several(Box<[ServiceId]>),
}

/// No node.
pub(super) const NONE: u32 = u32::MAX;

impl Node {
    /// The services that answer here; no two of them answer the same type.
    #[must_use]
    pub fn services(&self) -> &[ServiceId] {
        match &self.services {
            Services::None => &[],
            Services::One(id) => std::slice::from_ref(id),
            Services::Several(ids) => ids,
        }
    }

    /// The static RRset of a type.
    #[must_use]
    pub fn rrset(&self, rtype: u16) -> Option<&RRset> {
        self.rrsets.iter().find(|set| set.rtype == rtype)
    }

    fn attach(&mut self, service: ServiceId) {
        self.services = match self.services() {
            [] => Services::One(service),
            others => Services::Several([others, &[service]].concat().into()),
        };
    }
}

/// A dynamic name to be added to a zone.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Dynamic {
    /// The name.
    pub name: Name,
    /// The service that answers there.
    pub service: ServiceId,
    /// The types that it answers. Empty for what may be an alias, which excludes all other data at the name.
    owned: &'static [u16],
}

/// The types of services that answer addresses.
const ADDRESSES: &[u16] = &[rtype::A, rtype::AAAA];

impl Dynamic {
    /// The names of all services, ordered by id.
    #[must_use]
    pub fn all<'s>(services: impl IntoIterator<Item = &'s Service>) -> Vec<Self> {
        (0..).map(ServiceId).zip(services).map(|(id, service)| Self::of(id, service)).collect()
    }

    /// The name of a service.
    fn of(id: ServiceId, service: &Service) -> Self {
        let owned: &[u16] = match &service.kind {
            _ if service.may_be_alias() => &[],
            ServiceKind::Address { https: None } => ADDRESSES,
            ServiceKind::Address { https: Some(_) } => &[rtype::A, rtype::AAAA, rtype::HTTPS],
            ServiceKind::Cname => &[],
            ServiceKind::Srv { .. } => &[rtype::SRV],
            ServiceKind::Mx { .. } => &[rtype::MX],
        };
        Self { name: service.name.clone(), service: id, owned }
    }

    /// The reason why it conflicts with another service at its name, if it does.
    fn clash_with(&self, other: &Self) -> Option<String> {
        let Self { name, owned, .. } = self;
        if owned.is_empty() || other.owned.is_empty() {
            return Some(format!(
                "{name} has two services, but one of them answers a CNAME, beside which nothing else may stand (RFC 1034 §3.6.2)"
            ));
        }
        let both = owned.iter().find(|rtype| other.owned.contains(rtype))?;
        Some(format!(
            "a service at {name} answers {} already; services of one name need a `type` each",
            type_name(*both)
        ))
    }

    /// The reason why it conflicts with the static data at its name, if it does.
    fn clash(&self, node: &Node, at_apex: bool, origin: &Name) -> Option<String> {
        let Self { name, owned, .. } = self;
        if owned.is_empty() && at_apex {
            return Some(format!(
                "{name} is the apex of its zone, where no CNAME may stand beside SOA and NS (RFC 1034 §3.6.2)"
            ));
        }
        let other = if owned.is_empty() {
            node.rrsets.first()
        } else {
            node.rrsets.iter().find(|set| set.rtype == rtype::CNAME || owned.contains(&set.rtype))
        };
        let beside =
            if owned.is_empty() { ", beside which no CNAME may stand (RFC 1034 §3.6.2)" } else { "" };
        other.map(|set| {
            let what = match set.rtype {
                rtype::CNAME => "a CNAME".to_owned(),
                rtype => format!("{} records", type_name(rtype)),
            };
            format!("the zone {origin} has {what} of its own at {name}{beside}")
        })
    }
}

/// Why zones and dynamic names cannot be joined.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ZonesError {
    /// The service that cannot be added; `None` if a zone is at fault.
    pub service: Option<ServiceId>,
    /// A sentence without a full stop.
    pub message: String,
}

impl fmt::Display for ZonesError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl std::error::Error for ZonesError {}

impl Served {
    /// The apex.
    #[must_use]
    pub fn apex(&self) -> &Node {
        &self.nodes[0]
    }

    /// The SOA RRset.
    ///
    /// # Panics
    /// Never: a zone is not read without one.
    #[must_use]
    pub fn soa(&self) -> &RRset {
        self.apex().rrset(rtype::SOA).expect("every zone has a SOA")
    }

    /// The node of a name in wire format, in any case, including glue below a delegation.
    #[must_use]
    pub fn node(&self, name: &[u8]) -> Option<&Node> {
        self.find_index(name).map(|index| &self.nodes[index as usize])
    }

    fn find_index(&self, name: &[u8]) -> Option<u32> {
        let is_named = |index: &u32| is_same(&self.nodes[*index as usize].name, name);
        self.index.find(self.hash.of(name), is_named).copied()
    }

    fn read(number: usize, zone: Zone) -> Self {
        let Zone { origin, serial, negative_ttl, names, .. } = zone;
        let mut served = Self {
            number,
            nodes: Vec::with_capacity(names.len()),
            index: HashTable::with_capacity(names.len()),
            hash: NameHash::default(),
            origin,
            serial,
            negative_ttl,
        };
        let apex = served.origin.clone();
        served.add(apex.as_wire());
        for (name, rrsets) in names {
            let known = served.find_index(name.as_wire());
            let node = known.unwrap_or_else(|| served.insert(name.into_wire()));
            served.nodes[node as usize].rrsets = rrsets.into_boxed_slice();
        }
        served
    }

    /// The node of a name at or below the origin; creates it and its ancestors if needed.
    fn add(&mut self, name: &[u8]) -> u32 {
        let known = self.find_index(name);
        known.unwrap_or_else(|| self.insert(name.into()))
    }

    /// Creates the node of a name that has none yet.
    fn insert(&mut self, name: Box<[u8]>) -> u32 {
        let at_apex = *name == *self.origin.as_wire();
        let parent = if at_apex { NONE } else { self.add(&name[usize::from(name[0]) + 1..]) };
        let index = self.nodes.len() as u32;
        let labels =
            if at_apex { self.origin.label_count() as u8 } else { self.nodes[parent as usize].labels + 1 };
        if !at_apex && name.starts_with(b"\x01*") {
            self.nodes[parent as usize].wildcard = index;
        }
        let Self { index: by_name, nodes, hash, .. } = self;
        by_name.insert_unique(hash.of(&name), index, |index| hash.of(&nodes[*index as usize].name));
        nodes.push(Node {
            name: name.into_vec().into(),
            rrsets: Box::default(),
            services: Services::None,
            covered_by: NONE,
            wildcard: NONE,
            labels,
            is_cut: false,
            is_dname: false,
        });
        index
    }

    /// Computes cuts, DNAMEs and what they cover.
    fn finish(&mut self) {
        for (index, node) in self.nodes.iter_mut().enumerate() {
            node.is_cut = index != 0 && node.rrset(rtype::NS).is_some();
            node.is_dname = node.rrset(rtype::DNAME).is_some();
        }
        if !self.nodes.iter().any(|node| node.is_cut || node.is_dname) {
            return;
        }
        let covers: Vec<_> = self.nodes.iter().map(|node| self.cover(&node.name)).collect();
        for (node, cover) in self.nodes.iter_mut().zip(covers) {
            node.covered_by = cover;
        }
    }

    /// The uppermost cut or DNAME strictly above a name.
    fn cover(&self, name: &[u8]) -> u32 {
        let mut cover = NONE;
        let mut rest = name;
        while rest != self.origin.as_wire() {
            rest = &rest[usize::from(rest[0]) + 1..];
            let index = self.find_index(rest).expect("every name above is there");
            let node = &self.nodes[index as usize];
            if node.is_cut || node.is_dname {
                cover = index;
            }
        }
        cover
    }

    /// Adds a dynamic name to the tree. `all` contains those added before, ordered by id.
    fn serve(&mut self, dynamic: &Dynamic, all: &[Dynamic]) -> Result<(), String> {
        let name = &dynamic.name;
        let index = self.add(name.as_wire());
        let node = &mut self.nodes[index as usize];
        let known = |id: &ServiceId| all.binary_search_by_key(id, |other| other.service).ok();
        let mut others = node.services().iter().filter_map(known).map(|index| &all[index]);
        if let Some(clash) = others.find_map(|other| dynamic.clash_with(other)) {
            return Err(clash);
        }
        if let Some(clash) = dynamic.clash(node, index == 0, &self.origin) {
            return Err(clash);
        }
        if index != 0 && node.rrset(rtype::NS).is_some() {
            return Err(format!("the zone {} delegates {name}", self.origin));
        }
        node.attach(dynamic.service);
        let cover = self.cover(name.as_wire());
        if cover == NONE {
            return Ok(());
        }
        let what = if self.nodes[cover as usize].is_cut { "a delegation" } else { "a DNAME" };
        Err(format!("{name} lies below {what} in the zone {}", self.origin))
    }
}

impl Zones {
    /// Joins zones with the names of services that answer addresses only, as [`Zones::join`] does.
    ///
    /// # Errors
    /// Those of [`Zones::join`].
    pub fn build(
        zones: Vec<Zone>,
        services: impl AsRef<[(Name, ServiceId)]>,
    ) -> Result<Self, Vec<ZonesError>> {
        let services = services.as_ref().iter().cloned();
        let dynamic = services.map(|(name, service)| Dynamic { name, service, owned: ADDRESSES });
        Self::join(zones, &dynamic.collect::<Vec<_>>())
    }

    /// Joins zones with dynamic names, which are ordered by id.
    ///
    /// # Errors
    /// Every zone that is given twice, and every service that cannot be added: outside all zones, below a
    /// delegation or a DNAME, at a name with a CNAME, or with records or an earlier service of a type that it
    /// answers, or, if it may be an alias, at an apex or at a name with any other data.
    pub fn join(zones: Vec<Zone>, services: &[Dynamic]) -> Result<Self, Vec<ZonesError>> {
        debug_assert!(services.is_sorted_by_key(|dynamic| dynamic.service), "services in order");
        let mut errors = Vec::new();
        let mut seen = HashSet::new();
        for zone in &zones {
            if !seen.insert(zone.origin.clone()) {
                let message = format!("the zone {} is given twice", zone.origin);
                errors.push(ZonesError { service: None, message });
            }
        }
        let mut built = Self::default();
        for zone in zones {
            built.add(zone);
        }
        let labels = |zone: &Served| zone.origin.label_count() as u8;
        let fewest = built.zones.iter().map(labels).min().unwrap_or(0);
        built.origin_labels = (fewest, built.zones.iter().map(labels).max().unwrap_or(0));
        // Dynamic names neither cut nor redirect, and never lie below what does.
        built.zones.iter_mut().for_each(Served::finish);
        for dynamic in services {
            let name = &dynamic.name;
            let placed = match built.zone_of(name) {
                Some(index) => built.zones[index].serve(dynamic, services),
                None => Err(built.outside(name)),
            };
            if let Err(message) = placed {
                errors.push(ZonesError { service: Some(dynamic.service), message });
            }
        }
        if errors.is_empty() { Ok(built) } else { Err(errors) }
    }

    fn add(&mut self, zone: Zone) {
        let Self { zones, origins, hash, .. } = self;
        let index = zones.len();
        zones.push(Served::read(index, zone));
        let hash_of = |index: &u32| hash.of(zones[*index as usize].origin.as_wire());
        origins.insert_unique(hash_of(&(index as u32)), index as u32, hash_of);
    }

    /// The zones, in the order in which they were given.
    pub fn iter(&self) -> impl Iterator<Item = &Served> {
        self.zones.iter()
    }

    /// The index of the zone with an origin, in any case.
    pub(super) fn find_origin(&self, origin: &[u8]) -> Option<usize> {
        let is_its = |index: &u32| is_same(self.zones[*index as usize].origin.as_wire(), origin);
        self.origins.find(self.hash.of(origin), is_its).map(|index| *index as usize)
    }

    /// That a name lies in no zone, and where it may have been meant to lie.
    fn outside(&self, name: &Name) -> String {
        const SHOWN: usize = 5;
        let origins: Vec<String> =
            self.zones.iter().take(SHOWN).map(|zone| zone.origin.to_string()).collect();
        let more = self.zones.len() - origins.len();
        let more = if more == 0 { String::new() } else { format!(" and {more} more") };
        let Some(origin) = origins.first() else { return format!("{name} lies in none of the zones") };
        // A name without dots was meant to be relative to its zone, as in a zone file.
        let meant = if name.label_count() == 1 {
            format!("; write the whole name, such as {name}{origin}")
        } else {
            String::new()
        };
        format!("{name} lies in none of the zones {}{more}{meant}", origins.join(", "))
    }

    fn zone_of(&self, name: &Name) -> Option<usize> {
        let mut rest = Some(name.clone());
        while let Some(name) = rest {
            if let Some(index) = self.find_origin(name.as_wire()) {
                return Some(index);
            }
            rest = name.parent();
        }
        None
    }
}
