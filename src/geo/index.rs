//! The index of places: databases, the config's own networks and its `net:` keys, merged and compiled.

use std::collections::HashMap;
use std::net::IpAddr;

use ipnet::IpNet;
use rustc_hash::FxHashMap;

use super::countries::{centre_of, continent_of};
use super::database::Database;
use super::range_map::RangeMap;
use super::{Place, Source};
use crate::model::{Location, RegionId};

/// Index into [`Index::places`]. The first place is always [`Place::default`], which is unknown.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PlaceId(pub u32);

/// `[[geo.network]]`: what the config itself defines for a prefix.
#[derive(Clone, Debug, PartialEq)]
pub struct NetworkOverride {
    /// The prefix.
    pub prefix: IpNet,
    /// The location of these clients. `None` inherits it from a shorter override or a database.
    pub location: Option<Location>,
    /// The regions to put first. An empty list inherits them from a shorter override.
    pub first: Box<[RegionId]>,
}

/// Address → [`Place`], compiled. Every address has a place.
#[derive(Clone, Debug)]
pub struct Index {
    ranges: RangeMap<PlaceId>,
    places: Box<[Place]>,
}

/// The result of [`Index::locate`].
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Located<'a> {
    /// The place.
    pub place: &'a Place,
    /// Its id.
    pub id: PlaceId,
    /// The shortest prefix around the address throughout which this is the place; host bits are zero. For an
    /// IPv4-mapped address it is an IPv4 prefix.
    pub prefix: IpNet,
}

impl Default for Index {
    /// An index in which every location is unknown.
    fn default() -> Self {
        Self { ranges: RangeMap::uniform(PlaceId(0)), places: Box::new([Place::default()]) }
    }
}

impl Index {
    /// Compiles an index. For each address:
    ///
    /// - The first database with a country or coordinates wins. Later ones fill gaps: the ASN always, subdivision and
    ///   coordinates only if they have the same country.
    /// - Of the overrides that contain it, the longest with a location wins over all databases, and the longest
    ///   with regions gives [`Place::first`].
    /// - A missing continent follows from the country, and missing coordinates are the country's centre.
    #[must_use]
    pub fn compile(databases: &[Database], overrides: &[NetworkOverride], nets: &[IpNet]) -> Self {
        let (ranges, known) = merge_databases(databases);
        let (overrides, override_ranges) = nested_overrides(overrides);
        let (nets, net_ranges) = nested_nets(nets);
        let layers = override_ranges.zip(&net_ranges, |entry, net| (entry, net));

        let mut places = vec![Place::default()];
        let mut ids = FxHashMap::from_iter([((0, None, None), PlaceId(0))]);
        let ranges = ranges.zip(&layers, |from, (entry, net)| {
            *ids.entry((from, entry, net)).or_insert_with(|| {
                let over = entry.map(|entry: u32| &overrides[entry as usize]);
                let nets = net.map_or(&[][..], |net: u32| &nets[net as usize]);
                places.push(place(known[from as usize], over, nets));
                PlaceId((places.len() - 1) as u32)
            })
        });
        Self { ranges, places: places.into() }
    }

    /// The same index with each place in parts, one for each place of another index that it overlaps.
    #[must_use]
    pub fn split_by(&self, other: &Self) -> Self {
        let mut places = vec![Place::default()];
        let mut ids = FxHashMap::from_iter([((PlaceId(0), PlaceId(0)), PlaceId(0))]);
        let ranges = self.ranges.zip(&other.ranges, |own, others| {
            *ids.entry((own, others)).or_insert_with(|| {
                places.push(self.places[own.0 as usize].clone());
                PlaceId((places.len() - 1) as u32)
            })
        });
        Self { ranges, places: places.into() }
    }

    /// The place of an address.
    #[must_use]
    pub fn locate(&self, address: IpAddr) -> Located<'_> {
        let address = address.to_canonical();
        let (id, prefix_len) = self.ranges.lookup(address);
        // A lookup never returns more bits than the family has, so the fallback to a full-length prefix is not reached.
        let prefix = IpNet::new(address, prefix_len).unwrap_or_else(|_| IpNet::from(address)).trunc();
        Located { place: self.place(id), id, prefix }
    }

    /// The place with this id.
    #[must_use]
    pub fn place(&self, id: PlaceId) -> &Place {
        &self.places[id.0 as usize]
    }

    /// All places, by id.
    #[must_use]
    pub fn places(&self) -> &[Place] {
        &self.places
    }

    /// Address ranges → place.
    #[must_use]
    pub fn ranges(&self) -> &RangeMap<PlaceId> {
        &self.ranges
    }

    /// Heap size in bytes.
    #[must_use]
    pub fn memory_bytes(&self) -> usize {
        let own = |place: &Place| size_of_val(&*place.nets) + size_of_val(&*place.first);
        self.ranges.memory_bytes() + size_of_val(&*self.places) + self.places.iter().map(own).sum::<usize>()
    }
}

/// The merged location of all databases, and the database it came from.
type MergedLocation = (Location, Source);

/// Merges the databases. The first of the results is the unknown location.
fn merge_databases(databases: &[Database]) -> (RangeMap<u32>, Vec<MergedLocation>) {
    let mut ranges = RangeMap::uniform(0);
    let mut known: Vec<MergedLocation> = vec![(Location::default(), Source::Nowhere)];
    for (number, database) in databases.iter().enumerate() {
        let mut merged = vec![known[0]];
        let mut ids = FxHashMap::from_iter([((0, 0), 0)]);
        ranges = ranges.zip(database.ranges(), |earlier: u32, record| {
            *ids.entry((earlier, record)).or_insert_with(|| {
                merged.push(filled(known[earlier as usize], database.location(record), number));
                (merged.len() - 1) as u32
            })
        });
        known = merged;
    }
    (ranges, known)
}

fn filled((mut location, mut source): MergedLocation, more: &Location, number: usize) -> MergedLocation {
    if location.country.is_none() && location.point.is_none() {
        let asn = location.asn.or(more.asn);
        let continent = more.continent.or(location.continent);
        location = Location { asn, continent, ..*more };
        if !more.is_unknown() {
            source = Source::Database(number as u8);
        }
        return (location, source);
    }
    location.asn = location.asn.or(more.asn);
    if location.country == more.country {
        location.subdivision = location.subdivision.or(more.subdivision);
        location.point = location.point.or(more.point);
    }
    (location, source)
}

/// Builds a place from its layers; missing values are derived from the country.
fn place((known, source): MergedLocation, over: Option<&Nested<'_>>, nets: &[IpNet]) -> Place {
    let (mut location, source) = match over.and_then(|over| over.location) {
        Some((own, prefix)) => {
            // A network that an override relocates keeps its AS.
            (Location { asn: own.asn.or(known.asn), ..*own }, Source::Override(prefix))
        }
        None => (known, source),
    };
    if let Some(country) = location.country {
        location.continent = location.continent.or_else(|| continent_of(country));
        location.point = location.point.or_else(|| centre_of(country));
    }
    let first = over.map_or_else(Box::default, |over| over.first.into());
    Place { location, nets: nets.into(), first, source }
}

/// An override with what it inherits from shorter ones.
#[derive(Clone, Copy)]
struct Nested<'a> {
    location: Option<(&'a Location, IpNet)>,
    first: &'a [RegionId],
}

fn nested_overrides(overrides: &[NetworkOverride]) -> (Vec<Nested<'_>>, RangeMap<Option<u32>>) {
    // Shorter prefixes first, so that what a prefix inherits is known.
    let mut order: Vec<&NetworkOverride> = overrides.iter().collect();
    order.sort_by_key(|entry| entry.prefix.prefix_len());
    let mut nested: Vec<Nested<'_>> = Vec::with_capacity(order.len());
    let parents = parents(order.iter().map(|entry| entry.prefix));
    for (entry, parent) in order.iter().zip(parents) {
        let outer = parent.map_or(Nested { location: None, first: &[] }, |parent| nested[parent]);
        nested.push(Nested {
            location: entry.location.as_ref().map(|own| (own, entry.prefix)).or(outer.location),
            first: if entry.first.is_empty() { outer.first } else { &entry.first },
        });
    }
    let ranges = by_position(order.iter().map(|entry| entry.prefix));
    (nested, ranges)
}

fn nested_nets(nets: &[IpNet]) -> (Vec<Box<[IpNet]>>, RangeMap<Option<u32>>) {
    let mut order: Vec<IpNet> = nets.iter().map(IpNet::trunc).collect();
    order.sort_by_key(|net| (net.prefix_len(), *net));
    order.dedup();
    let mut chains: Vec<Box<[IpNet]>> = Vec::with_capacity(order.len());
    for (net, parent) in order.iter().zip(parents(order.iter().copied())) {
        let outer = parent.map_or(&[][..], |parent| &chains[parent]);
        chains.push([&[*net], outer].concat().into());
    }
    let ranges = by_position(order.iter().copied());
    (chains, ranges)
}

/// For prefixes from short to long: the index of the longest earlier prefix that contains each.
fn parents(prefixes: impl Iterator<Item = IpNet> + Clone) -> Vec<Option<usize>> {
    let mut at: HashMap<IpNet, usize> = HashMap::new();
    let mut parents = Vec::new();
    for (position, prefix) in prefixes.enumerate() {
        let prefix = prefix.trunc();
        let mut wider = Some(prefix);
        parents.push(
            std::iter::from_fn(|| {
                let this = wider?;
                wider = this.supernet();
                Some(at.get(&this).copied())
            })
            .flatten()
            .next(),
        );
        at.insert(prefix, position);
    }
    parents
}

fn by_position(prefixes: impl Iterator<Item = IpNet>) -> RangeMap<Option<u32>> {
    RangeMap::from_prefixes(
        None,
        prefixes.enumerate().map(|(position, prefix)| (prefix, Some(position as u32))),
    )
}
