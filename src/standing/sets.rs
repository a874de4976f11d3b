//! The sets of regions that clients of services may be sent to; safety rules count regions per set.

use std::collections::HashMap;
use std::sync::Arc;

use crate::model::{RegionId, ServiceId};

/// Index into [`RegionSets::sets`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SetId(pub u32);

/// The distinct sets of regions. A service has one set for each group of clients that its fences distinguish.
#[derive(Clone, Debug, Default)]
pub struct RegionSets {
    /// Each sorted by region.
    pub sets: Vec<Box<[RegionId]>>,
    ids: HashMap<Box<[RegionId]>, SetId>,
    /// By [`ServiceId`]: the sets of the service.
    of_service: Vec<Arc<[SetId]>>,
    /// By [`RegionId`]: the sets that contain it.
    of_region: Vec<Vec<SetId>>,
}

impl RegionSets {
    /// The id of the set of these regions; adds the set if it is new.
    pub fn intern(&mut self, mut regions: Vec<RegionId>) -> SetId {
        regions.sort_unstable();
        regions.dedup();
        if let Some(id) = self.ids.get(&*regions) {
            return *id;
        }
        let id = SetId(self.sets.len() as u32);
        for region in &regions {
            let index = usize::from(region.0);
            if self.of_region.len() <= index {
                self.of_region.resize_with(index + 1, Vec::new);
            }
            self.of_region[index].push(id);
        }
        self.ids.insert(regions.clone().into(), id);
        self.sets.push(regions.into());
        id
    }

    /// Adds the next service. Each of its clients may be sent to one of these sets.
    pub fn add_service(&mut self, sets: Arc<[SetId]>) {
        self.of_service.push(sets);
    }

    /// The id of the set of exactly these regions, which must be sorted.
    #[must_use]
    pub fn find(&self, regions: &[RegionId]) -> Option<SetId> {
        self.ids.get(regions).copied()
    }

    /// The regions of a set, sorted.
    #[must_use]
    pub fn regions(&self, set: SetId) -> &[RegionId] {
        &self.sets[set.0 as usize]
    }

    /// The sets of a service.
    #[must_use]
    pub fn of_service(&self, service: ServiceId) -> &[SetId] {
        &self.of_service[service.0 as usize]
    }

    /// The sets that contain a region.
    #[must_use]
    pub fn of_region(&self, region: RegionId) -> &[SetId] {
        self.of_region.get(usize::from(region.0)).map_or(&[], Vec::as_slice)
    }

    /// The ids of all sets.
    pub fn ids(&self) -> impl Iterator<Item = SetId> + use<> {
        (0..self.sets.len() as u32).map(SetId)
    }

    /// The ids of all services.
    pub fn services(&self) -> impl Iterator<Item = ServiceId> + use<> {
        (0..self.of_service.len() as u32).map(ServiceId)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn equal_sets_have_one_id() {
        let mut sets = RegionSets::default();
        let [a, b, c] = [0, 1, 2].map(RegionId);
        let first = sets.intern(vec![b, a]);
        assert_eq!(sets.intern(vec![a, b, a]), first);
        let second = sets.intern(vec![b, c]);
        assert_ne!(first, second);
        assert_eq!(sets.regions(first), [a, b]);
        assert_eq!((sets.of_region(b), sets.of_region(c)), (&[first, second][..], &[second][..]));
        assert_eq!((sets.find(&[b, c]), sets.find(&[c])), (Some(second), None));
    }
}
