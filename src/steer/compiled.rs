//! Rankings, precomputed for every place a client can be in.

use std::collections::HashMap;
use std::fmt::Debug;
use std::net::IpAddr;
use std::sync::Arc;

use rustc_hash::FxHashMap;

use super::rank::{Placed, Ranker, Ranking, groups, rank};
use super::trace::NoTrace;
use crate::geo::{Index, Place, RangeMap};
use crate::model::{
    Direction, KeyPrefix, Km, Millis, Point, Rank, RegionId, Service, Share, Steering, Topology, TtlRange,
};
use crate::pick::Hash;
use crate::standing::{RegionSets, SetId};

/// Everything about choosing that is known before a query arrives. Compiled when the config changes.
#[derive(Clone, Debug, Default)]
pub struct Compiled {
    pub(super) key_prefix: KeyPrefix,
    pub(super) sets: Arc<RegionSets>,
    pub(super) services: Arc<[Terms]>,
    /// One for each distinct [`RankingInputs`]; services with the same inputs share a table.
    pub(super) tables: Arc<[RankingTable]>,
    computes_ttl: bool,
}

/// What every query needs of a service, packed into half a cache line.
#[derive(Clone, Copy, Debug)]
pub(super) struct Terms {
    /// Hash of its name, so that the draws of different services are independent.
    pub(super) hash: Hash,
    /// Index into [`Compiled::tables`].
    pub(super) table: u32,
    pub(super) ttl: TtlRange,
    /// The maximum number of endpoints in one answer.
    pub(super) answers: u32,
    pub(super) share: Share,
}

/// Client address → ranking.
#[derive(Debug)]
pub(super) struct RankingTable {
    by_address: ByAddress,
    pub(super) rankings: Vec<Ranking>,
    /// The set of regions of each ranking, by the same index.
    pub(super) sets: Vec<SetId>,
}

/// Client address → index of its ranking, in the narrowest integer that can number all rankings.
#[derive(Debug)]
enum ByAddress {
    Byte(RangeMap<u8>),
    Short(RangeMap<u16>),
    Long(RangeMap<u32>),
}

impl Compiled {
    /// Compiles the rankings of all services. Every later call must pass the same `topology`.
    #[must_use]
    pub fn new(topology: &Topology, geo: &Index, key_prefix: KeyPrefix) -> Self {
        let mut sets = RegionSets::default();
        // The region sets of each table's rankings, by the index of the table.
        let mut sets_of: Vec<Arc<[SetId]>> = Vec::new();
        let mut tables: Vec<RankingTable> = Vec::new();
        let mut by_inputs: HashMap<RankingInputs<'_>, u32> = HashMap::new();
        let mut ranker = Ranker::new(topology);
        let places = Places::new(geo);
        let mut services = Vec::with_capacity(topology.services.len());
        for service in &topology.services {
            let table = *by_inputs.entry(RankingInputs(service)).or_insert_with(|| {
                tables.push(RankingTable::new(topology, &places, service, &mut ranker));
                let table = tables.last_mut().expect("it was just added");
                sets_of.push(table.intern_sets(&mut sets));
                tables.len() as u32 - 1
            });
            sets.add_service(Arc::clone(&sets_of[table as usize]));
            let Steering { ttl, answers, share, .. } = service.steering;
            let hash = Hash::of(service.name.as_wire());
            services.push(Terms { hash, table, ttl, answers: answers as u32, share });
        }
        let computes_ttl = topology.services.iter().any(|service| service.steering.ttl.is_computed());
        Self { key_prefix, sets: sets.into(), services: services.into(), tables: tables.into(), computes_ttl }
    }

    /// The sets of regions that clients of services may be sent to; safety rules count regions per set.
    #[must_use]
    pub fn region_sets(&self) -> &Arc<RegionSets> {
        &self.sets
    }

    /// Whether any service has a computed TTL.
    #[must_use]
    pub fn computes_ttl(&self) -> bool {
        self.computes_ttl
    }

    /// The ranking for a client, the set of its regions, and the length of the shortest prefix around the client's
    /// address throughout which the ranking holds.
    pub(super) fn ranking(&self, terms: Terms, client: IpAddr) -> (&Ranking, SetId, u8) {
        let table = &self.tables[terms.table as usize];
        let (ranking, prefix_len) = table.lookup(client);
        (&table.rankings[ranking], table.sets[ranking], prefix_len)
    }

    /// Heap size of the ranking tables in bytes.
    #[must_use]
    pub fn memory_bytes(&self) -> usize {
        self.tables.iter().map(|table| table.by_address.memory_bytes()).sum()
    }
}

/// The places clients can be in, with data that all tables need.
struct Places<'a> {
    geo: &'a Index,
    /// The direction of each place from the Earth's centre, by the index of the place.
    directions: Vec<Option<Direction>>,
    /// Whether any `[[geo.network]]` entry has `regions`.
    any_first: bool,
}

impl<'a> Places<'a> {
    fn new(geo: &'a Index) -> Self {
        let direction = |place: &Place| place.location.point.map(Point::direction);
        Self {
            geo,
            directions: geo.places().iter().map(direction).collect(),
            any_first: geo.places().iter().any(|place| !place.first.is_empty()),
        }
    }

    /// Whether clients of two places can have different rankings.
    fn matter_to(&self, service: &Service) -> bool {
        !matches!(service.steering.rank, Rank::Priority | Rank::None)
            || !service.fences.is_empty()
            || self.any_first
    }
}

impl RankingTable {
    fn new(topology: &Topology, places: &Places<'_>, service: &Service, ranker: &mut Ranker<'_>) -> Self {
        if !places.matter_to(service) {
            let anywhere = rank(topology, service, &Place::default(), &mut NoTrace);
            return Self {
                by_address: ByAddress::Byte(RangeMap::uniform(0)),
                rankings: vec![anywhere],
                sets: Vec::new(),
            };
        }
        let mut rankings: Vec<Ranking> = Vec::new();
        let mut ids: FxHashMap<Box<[(u16, bool)]>, u32> = FxHashMap::default();
        let mut shape: Vec<(u16, bool)> = Vec::new();
        let mut ranking = |(place, from): (&Place, &Option<Direction>)| {
            let order = ranker.order(service, place, *from, &mut NoTrace);
            shape.clear();
            for group in groups(order) {
                // A region, and whether it ties with the previous one.
                let region = |(index, placed): (usize, &Placed)| (placed.member.region.0, index > 0);
                shape.extend(group.iter().enumerate().map(region));
            }
            if let Some(id) = ids.get(&*shape) {
                return *id;
            }
            let id = rankings.len() as u32;
            ids.insert(shape.as_slice().into(), id);
            rankings.push(Ranking::new(topology, order));
            id
        };
        let by_place: Vec<u32> =
            places.geo.places().iter().zip(&places.directions).map(&mut ranking).collect();
        Self { by_address: ByAddress::new(places.geo, &by_place, rankings.len()), rankings, sets: Vec::new() }
    }

    /// The index of the ranking for a client, and the length of the shortest prefix around the client's address throughout
    /// which it holds.
    #[inline]
    pub(super) fn lookup(&self, client: IpAddr) -> (usize, u8) {
        self.by_address.lookup(client)
    }

    /// Numbers the set of each ranking's regions; returns each set once.
    fn intern_sets(&mut self, sets: &mut RegionSets) -> Arc<[SetId]> {
        let set = |ranking: &Ranking| {
            let regions: Vec<RegionId> =
                ranking.groups.iter().flatten().map(|ranked| ranked.region).collect();
            sets.intern(regions)
        };
        self.sets = self.rankings.iter().map(set).collect();
        let mut distinct = self.sets.clone();
        distinct.sort_unstable();
        distinct.dedup();
        distinct.into()
    }
}

impl ByAddress {
    fn new(geo: &Index, by_place: &[u32], rankings: usize) -> Self {
        fn narrow<V: Copy + Eq + TryFrom<u32, Error: Debug>>(geo: &Index, by_place: &[u32]) -> RangeMap<V> {
            let id = |id: &u32| V::try_from(*id).expect("it can number all rankings");
            let by_place: Vec<V> = by_place.iter().map(id).collect();
            geo.ranges().map(|place| by_place[place.0 as usize])
        }
        match rankings {
            0..=0x100 => Self::Byte(narrow(geo, by_place)),
            0x101..=0x1_0000 => Self::Short(narrow(geo, by_place)),
            _ => Self::Long(narrow(geo, by_place)),
        }
    }

    fn lookup(&self, client: IpAddr) -> (usize, u8) {
        match self {
            Self::Byte(ranges) => {
                let (ranking, prefix_len) = ranges.lookup(client);
                (usize::from(ranking), prefix_len)
            }
            Self::Short(ranges) => {
                let (ranking, prefix_len) = ranges.lookup(client);
                (usize::from(ranking), prefix_len)
            }
            Self::Long(ranges) => {
                let (ranking, prefix_len) = ranges.lookup(client);
                (ranking as usize, prefix_len)
            }
        }
    }

    fn memory_bytes(&self) -> usize {
        match self {
            Self::Byte(ranges) => ranges.memory_bytes(),
            Self::Short(ranges) => ranges.memory_bytes(),
            Self::Long(ranges) => ranges.memory_bytes(),
        }
    }
}

/// The parts of a service that its rankings depend on: services that agree in them share a table.
struct RankingInputs<'a>(&'a Service);

impl PartialEq for RankingInputs<'_> {
    fn eq(&self, other: &Self) -> bool {
        let (a, b) = (self.0, other.0);
        a.members == b.members && a.steering.rank == b.steering.rank && a.fences == b.fences
    }
}

impl Eq for RankingInputs<'_> {}

impl std::hash::Hash for RankingInputs<'_> {
    fn hash<H: std::hash::Hasher>(&self, state: &mut H) {
        self.0.members.hash(state);
        let rank = &self.0.steering.rank;
        rank.kind().hash(state);
        match rank {
            Rank::Distance(Km(tolerance)) | Rank::Latency(Millis(tolerance)) => {
                tolerance.to_bits().hash(state)
            }
            Rank::Geo(entries) => entries.hash(state),
            Rank::Priority | Rank::None => {}
        }
        self.0.fences.hash(state);
    }
}

#[cfg(test)]
mod tests {
    use ipnet::{IpNet, Ipv4Net};

    use super::*;
    use crate::geo::NetworkOverride;
    use crate::model::Location;

    #[test]
    fn rankings_are_numbered_in_as_few_bytes_as_they_need() {
        for (rankings, bytes) in [(256, 1), (257, 2), (65_536, 2), (65_537, 4)] {
            // There is one place more than networks: everything outside of them.
            let address = |number: u32| (number << 8).into();
            let network = |number| NetworkOverride {
                prefix: IpNet::V4(Ipv4Net::new(address(number), 24).unwrap()),
                location: Some(Location { asn: Some(number), ..Location::default() }),
                first: Box::default(),
            };
            let networks: Vec<NetworkOverride> = (0..rankings - 1).map(network).collect();
            let geo = Index::compile(&[], &networks, &[]);
            let by_place: Vec<u32> = (0..rankings).collect();
            let table = ByAddress::new(&geo, &by_place, geo.places().len());
            let numbered = match &table {
                ByAddress::Byte(_) => 1,
                ByAddress::Short(_) => 2,
                ByAddress::Long(_) => 4,
            };
            assert_eq!(numbered, bytes, "{rankings}");
            for number in [0, 1, 255, rankings - 2, rankings - 1] {
                let client = IpAddr::V4(address(number));
                let place = geo.locate(client);
                assert_eq!(
                    table.lookup(client),
                    (place.id.0 as usize, place.prefix.prefix_len()),
                    "{client}"
                );
            }
        }
    }
}
