//! Static RRsets and dynamic names in one tree, with everything worked out that lookups need.

use std::collections::{HashMap, HashSet};
use std::fmt;

use super::{NameHash, RRset, Zone, rtype};
use crate::model::{Name, ServiceId, Ttl};

/// All zones of a server, ready for lookups.
#[derive(Debug, Default)]
pub struct Zones {
    pub(super) zones: Vec<Served>,
    /// Origin in wire format → index into `zones`.
    pub(super) origins: HashMap<Box<[u8]>, u32, NameHash>,
    /// The fewest and the most labels an origin has: other suffixes of a name need no look.
    pub(super) origin_labels: (u8, u8),
}

/// A zone joined with its dynamic names.
#[derive(Debug)]
pub struct Served {
    /// Its place among the zones, in the order they were given.
    pub number: usize,
    /// The name of its apex.
    pub origin: Name,
    /// SERIAL of its SOA.
    pub serial: u32,
    /// How long "there is no such thing" may be cached: min(TTL of the SOA, MINIMUM) (RFC 2308 §3).
    pub negative_ttl: Ttl,
    /// The apex first.
    pub(super) nodes: Vec<Node>,
    /// Lowercase wire name → index into `nodes`; every name on the way to one that owns something is here.
    pub(super) index: HashMap<Box<[u8]>, u32, NameHash>,
}

/// A name that exists: it owns something or something below it does (RFC 4592 §2.2.2).
#[derive(Debug)]
pub struct Node {
    /// What it owns of static data; empty at an empty non-terminal.
    pub rrsets: Box<[RRset]>,
    /// The service that answers A and AAAA here.
    pub service: Option<ServiceId>,
    /// The uppermost delegation or DNAME strictly above, as an index into the zone's nodes; [`NONE`] without.
    pub(super) covered_by: u32,
    /// The child `*`, as an index into the zone's nodes; [`NONE`] without.
    pub(super) wildcard: u32,
    /// Labels of its name without the root.
    pub(super) labels: u8,
    /// Owns NS records and is not the apex.
    pub(super) is_cut: bool,
    /// Owns a DNAME record.
    pub(super) is_dname: bool,
}

/// No node.
pub(super) const NONE: u32 = u32::MAX;

impl Node {
    /// The static RRset of a type.
    #[must_use]
    pub fn rrset(&self, rtype: u16) -> Option<&RRset> {
        self.rrsets.iter().find(|set| set.rtype == rtype)
    }
}

/// Why zones and dynamic names do not go together.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ZonesError {
    /// The zone or dynamic name at fault.
    pub name: Name,
    /// A sentence without its full stop.
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

    /// The node of a lowercase wire name, even below a delegation, where glue is.
    #[must_use]
    pub fn node(&self, name: &[u8]) -> Option<&Node> {
        self.index.get(name).map(|index| &self.nodes[*index as usize])
    }

    fn read(number: usize, zone: Zone) -> Self {
        let Zone { origin, serial, negative_ttl, names, .. } = zone;
        let mut served = Self {
            number,
            nodes: Vec::with_capacity(names.len()),
            index: HashMap::with_capacity_and_hasher(names.len(), NameHash::default()),
            origin,
            serial,
            negative_ttl,
        };
        let apex = served.origin.clone();
        served.add(apex.as_wire());
        for (name, rrsets) in names {
            let known = served.index.get(name.as_wire()).copied();
            let node = known.unwrap_or_else(|| served.insert(name.into_wire()));
            served.nodes[node as usize].rrsets = rrsets.into_boxed_slice();
        }
        served
    }

    /// The node of a name at or below the origin, made if need be together with those above it.
    fn add(&mut self, name: &[u8]) -> u32 {
        let known = self.index.get(name).copied();
        known.unwrap_or_else(|| self.insert(name.into()))
    }

    /// The same of a name that has none yet.
    fn insert(&mut self, name: Box<[u8]>) -> u32 {
        let at_apex = *name == *self.origin.as_wire();
        let parent = if at_apex { NONE } else { self.add(&name[usize::from(name[0]) + 1..]) };
        let index = self.nodes.len() as u32;
        let labels =
            if at_apex { self.origin.label_count() as u8 } else { self.nodes[parent as usize].labels + 1 };
        if !at_apex && name.starts_with(b"\x01*") {
            self.nodes[parent as usize].wildcard = index;
        }
        self.nodes.push(Node {
            rrsets: Box::default(),
            service: None,
            covered_by: NONE,
            wildcard: NONE,
            labels,
            is_cut: false,
            is_dname: false,
        });
        self.index.insert(name, index);
        index
    }

    /// Works out cuts, DNAMEs and what they cover.
    fn finish(&mut self) {
        for (index, node) in self.nodes.iter_mut().enumerate() {
            node.is_cut = index != 0 && node.rrset(rtype::NS).is_some();
            node.is_dname = node.rrset(rtype::DNAME).is_some();
        }
        if !self.nodes.iter().any(|node| node.is_cut || node.is_dname) {
            return;
        }
        let covered: Vec<_> = self.index.iter().map(|(name, index)| (*index, self.cover(name))).collect();
        for (index, cover) in covered {
            self.nodes[index as usize].covered_by = cover;
        }
    }

    /// The uppermost cut or DNAME strictly above a name.
    fn cover(&self, name: &[u8]) -> u32 {
        let mut cover = NONE;
        let mut rest = name;
        while rest != self.origin.as_wire() {
            rest = &rest[usize::from(rest[0]) + 1..];
            let index = self.index[rest];
            let node = &self.nodes[index as usize];
            if node.is_cut || node.is_dname {
                cover = index;
            }
        }
        cover
    }

    /// Hangs a dynamic name into the tree.
    fn serve(&mut self, name: &Name, service: ServiceId) -> Result<(), String> {
        let index = self.add(name.as_wire());
        let node = &mut self.nodes[index as usize];
        if node.service.is_some() {
            return Err(format!("two services are named {name}"));
        }
        let types = [(rtype::CNAME, "a CNAME"), (rtype::A, "A records"), (rtype::AAAA, "AAAA records")];
        for (rtype, what) in types {
            if node.rrset(rtype).is_some() {
                return Err(format!("the zone {} has {what} of its own at {name}", self.origin));
            }
        }
        if index != 0 && node.rrset(rtype::NS).is_some() {
            return Err(format!("the zone {} delegates {name} away", self.origin));
        }
        node.service = Some(service);
        let cover = self.cover(name.as_wire());
        if cover == NONE {
            return Ok(());
        }
        let what = if self.nodes[cover as usize].is_cut { "a delegation" } else { "a DNAME" };
        Err(format!("{name} lies below {what} in the zone {}", self.origin))
    }
}

impl Zones {
    /// Joins zones and dynamic names.
    ///
    /// # Errors
    /// Every zone that stands twice and every service that has no place: outside all zones, below a
    /// delegation or a DNAME, at a name with a CNAME or with addresses of its own, or named like another.
    pub fn build(
        zones: Vec<Zone>,
        services: impl AsRef<[(Name, ServiceId)]>,
    ) -> Result<Self, Vec<ZonesError>> {
        let mut errors = Vec::new();
        let mut seen = HashSet::new();
        for zone in &zones {
            if !seen.insert(zone.origin.clone()) {
                let message = format!("the zone {} stands twice", zone.origin);
                errors.push(ZonesError { name: zone.origin.clone(), message });
            }
        }
        let mut built = Self::default();
        for zone in zones {
            built.origins.insert(zone.origin.as_wire().into(), built.zones.len() as u32);
            built.zones.push(Served::read(built.zones.len(), zone));
        }
        let labels = |zone: &Served| zone.origin.label_count() as u8;
        let fewest = built.zones.iter().map(labels).min().unwrap_or(0);
        built.origin_labels = (fewest, built.zones.iter().map(labels).max().unwrap_or(0));
        // Dynamic names neither cut nor redirect, and have their places outside of what is covered.
        built.zones.iter_mut().for_each(Served::finish);
        for (name, service) in services.as_ref() {
            let placed = match built.zone_of(name) {
                Some(index) => built.zones[index].serve(name, *service),
                None => Err(format!("{name} lies in none of the zones")),
            };
            if let Err(message) = placed {
                errors.push(ZonesError { name: name.clone(), message });
            }
        }
        if errors.is_empty() { Ok(built) } else { Err(errors) }
    }

    /// The zones, in the order they were given.
    pub fn iter(&self) -> impl Iterator<Item = &Served> {
        self.zones.iter()
    }

    fn zone_of(&self, name: &Name) -> Option<usize> {
        let mut rest = Some(name.clone());
        while let Some(name) = rest {
            if let Some(index) = self.origins.get(name.as_wire()) {
                return Some(*index as usize);
            }
            rest = name.parent();
        }
        None
    }
}
