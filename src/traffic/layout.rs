//! How the counters of a topology are numbered.

use std::sync::Arc;

use rustc_hash::FxHashMap;

use crate::model::{Name, RegionId, ServiceId, Topology};

/// A number for each region of each service, and for the answers of each service without a region.
#[derive(Debug, Default)]
pub(super) struct Layout {
    pub(super) topology: Arc<Topology>,
    /// By [`ServiceId`], the number of the service's first region; at the end, how many numbers there are.
    first: Box<[u32]>,
    /// The region of each number.
    regions: Box<[Option<RegionId>]>,
}

/// A service as names tell it: of services that share a name, one after the other; and a region, if any.
type Named<'a> = (&'a Name, usize, Option<&'a str>);

impl Layout {
    pub(super) fn of(topology: &Arc<Topology>) -> Self {
        let mut first = vec![0];
        let mut regions = Vec::new();
        for service in &topology.services {
            regions.extend(service.members.iter().map(|member| Some(member.region)));
            // The last number of each service.
            regions.push(None);
            first.push(regions.len() as u32);
        }
        Self { topology: Arc::clone(topology), first: first.into(), regions: regions.into() }
    }

    /// How many numbers there are.
    pub(super) fn len(&self) -> usize {
        self.regions.len()
    }

    /// The number of a service's region.
    pub(super) fn number(&self, service: ServiceId, region: Option<RegionId>) -> u32 {
        let at = service.0 as usize;
        let (start, end) = (self.first[at], self.first[at + 1]);
        let own = &self.regions[start as usize..end as usize - 1];
        match own.iter().position(|it| *it == region) {
            Some(position) => start + position as u32,
            None => end - 1,
        }
    }

    /// The numbers of a service.
    pub(super) fn numbers(&self, service: ServiceId) -> std::ops::Range<u32> {
        let at = service.0 as usize;
        self.first[at]..self.first[at + 1]
    }

    /// The region of a number.
    pub(super) fn region(&self, number: u32) -> Option<RegionId> {
        self.regions[number as usize]
    }

    /// The service of a number.
    pub(super) fn service(&self, number: u32) -> ServiceId {
        ServiceId(self.first.partition_point(|first| *first <= number) as u32 - 1)
    }

    /// For each number of another layout: the number of the same names here, if they are here.
    pub(super) fn numbers_of(&self, other: &Self) -> Vec<Option<u32>> {
        if Arc::ptr_eq(&self.topology, &other.topology) {
            return (0..self.len() as u32).map(Some).collect();
        }
        let own: FxHashMap<Named<'_>, u32> = self.named().zip(0..).collect();
        other.named().map(|named| own.get(&named).copied()).collect()
    }

    /// The names of each number.
    fn named(&self) -> impl Iterator<Item = Named<'_>> {
        let mut seen: FxHashMap<&Name, usize> = FxHashMap::default();
        self.topology.services.iter().flat_map(move |service| {
            let alike = seen.entry(&service.name).or_insert(0);
            *alike += 1;
            let which = *alike;
            let regions = service.members.iter().map(|it| Some(&*self.topology.region(it.region).name));
            regions.chain([None]).map(move |region| (&service.name, which, region))
        })
    }
}
