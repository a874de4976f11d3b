//! Rankings worked out ahead, for every place a client can be in.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::Arc;

use super::rank::{Ranking, rank};
use super::trace::NoTrace;
use crate::geo::{Index, Place, RangeMap};
use crate::model::{Family, KeyPrefix, Rank, Service, ServiceId, Tolerance, Topology};
use crate::pick::Hash;
use crate::standing::{Candidate, RegionSets, SetId};

/// Everything about choosing that can be known before a query comes: compiled when the config changes.
#[derive(Clone, Debug, Default)]
pub struct Compiled {
    pub(super) key_prefix: KeyPrefix,
    pub(super) sets: Arc<RegionSets>,
    pub(super) services: Arc<[CompiledService]>,
    /// By distinct inputs of a ranking, not by service.
    pub(super) tables: Arc<[RankingTable]>,
    /// By region and family: everything there is, for when all are down.
    pub(super) everything: Vec<[Box<[Candidate]>; 3]>,
    computes_ttl: bool,
}

/// A service.
#[derive(Clone, Copy, Debug)]
pub(super) struct CompiledService {
    /// Hash of its name: services are shared out independently of each other.
    pub(super) hash: Hash,
    /// Index into [`Compiled::tables`].
    pub(super) table: u32,
    pub(super) set: SetId,
}

/// Client address → ranking.
#[derive(Debug)]
pub(super) struct RankingTable {
    pub(super) by_address: RangeMap<u32>,
    pub(super) rankings: Vec<Ranking>,
}

impl Compiled {
    /// Compiles the rankings of all services. `topology` is the one that every later call passes, too.
    #[must_use]
    pub fn new(topology: &Topology, geo: &Index, key_prefix: KeyPrefix) -> Self {
        let sets = RegionSets::of(topology);
        let mut tables: Vec<RankingTable> = Vec::new();
        let mut by_inputs: HashMap<Inputs<'_>, u32> = HashMap::new();
        let mut services = Vec::with_capacity(topology.services.len());
        for (index, service) in topology.services.iter().enumerate() {
            let table = *by_inputs.entry(Inputs(service)).or_insert_with(|| {
                tables.push(RankingTable::new(topology, geo, service));
                tables.len() as u32 - 1
            });
            let set = sets.of_service(ServiceId(index as u32));
            services.push(CompiledService { hash: Hash::of(service.name.as_wire()), table, set });
        }
        let computes_ttl = topology.services.iter().any(|service| service.steering.ttl.is_computed());
        Self {
            key_prefix,
            everything: everything(topology),
            sets: sets.into(),
            services: services.into(),
            tables: tables.into(),
            computes_ttl,
        }
    }

    /// Goes over to a topology that differs in the addresses of endpoints alone: rankings do not depend on them.
    pub fn renew_addresses(&mut self, topology: &Topology) {
        self.everything = everything(topology);
    }

    /// The sets of regions that services have, for safety.
    #[must_use]
    pub fn region_sets(&self) -> &RegionSets {
        &self.sets
    }

    /// Whether the TTL of any service follows from what is due.
    #[must_use]
    pub fn computes_ttl(&self) -> bool {
        self.computes_ttl
    }

    /// The ranking for a client, and the length of the widest prefix around it for which it holds.
    pub(super) fn ranking(&self, service: CompiledService, client: IpAddr) -> (&Ranking, u8) {
        let table = &self.tables[service.table as usize];
        let (ranking, prefix_len) = table.by_address.lookup(client);
        (&table.rankings[ranking as usize], prefix_len)
    }

    /// Bytes that the ranking tables take.
    #[must_use]
    pub fn memory_bytes(&self) -> usize {
        self.tables.iter().map(|table| table.by_address.memory_bytes()).sum()
    }
}

fn everything(topology: &Topology) -> Vec<[Box<[Candidate]>; 3]> {
    let every = |region| Family::ALL.map(|family| Candidate::every(topology, region, family));
    topology.region_ids().map(every).collect()
}

impl RankingTable {
    fn new(topology: &Topology, geo: &Index, service: &Service) -> Self {
        if !depends_on_place(service, geo) {
            let anywhere = rank(topology, service, &Place::default(), &mut NoTrace);
            return Self { by_address: RangeMap::uniform(0), rankings: vec![anywhere] };
        }
        let mut rankings: Vec<Ranking> = Vec::new();
        let mut ids: HashMap<Vec<Vec<u16>>, u32> = HashMap::new();
        let mut intern = |ranking: Ranking| {
            let shape =
                ranking.groups.iter().map(|group| group.iter().map(|r| r.region.0).collect()).collect();
            *ids.entry(shape).or_insert_with(|| {
                rankings.push(ranking);
                rankings.len() as u32 - 1
            })
        };
        let by_place: Vec<u32> =
            geo.places().iter().map(|place| intern(rank(topology, service, place, &mut NoTrace))).collect();
        let by_address = geo.ranges().map(|place| by_place[place.0 as usize]);
        Self { by_address, rankings }
    }
}

/// Whether clients of two places can have different rankings.
fn depends_on_place(service: &Service, geo: &Index) -> bool {
    !matches!(service.steering.rank, Rank::Priority | Rank::None)
        || !service.fences.is_empty()
        || geo.places().iter().any(|place| !place.first.is_empty())
}

/// What a ranking depends on: two services that agree in it share a table.
struct Inputs<'a>(&'a Service);

impl PartialEq for Inputs<'_> {
    fn eq(&self, other: &Self) -> bool {
        let (a, b) = (self.0, other.0);
        a.members == b.members
            && a.steering.rank == b.steering.rank
            && a.steering.tolerance == b.steering.tolerance
            && (a.steering.rank != Rank::Geo || a.geo == b.geo)
            && a.fences == b.fences
    }
}

impl Eq for Inputs<'_> {}

impl std::hash::Hash for Inputs<'_> {
    fn hash<H: std::hash::Hasher>(&self, state: &mut H) {
        self.0.members.hash(state);
        self.0.steering.rank.hash(state);
        match self.0.steering.tolerance {
            Tolerance::Exact => 0_u64.hash(state),
            Tolerance::Millis(limit) | Tolerance::Kilometres(limit) => limit.to_bits().hash(state),
        }
        self.0.fences.hash(state);
    }
}
