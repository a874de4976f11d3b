//! Services by the set of regions they have: safety counts regions per set, not per service.

use std::collections::HashMap;

use crate::model::{RegionId, ServiceId, Topology};

/// Index into [`RegionSets::sets`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct SetId(pub u32);

/// The distinct sets of regions that services have.
#[derive(Clone, Debug, Default)]
pub struct RegionSets {
    /// Each in order of region.
    pub sets: Vec<Box<[RegionId]>>,
    of_service: Vec<SetId>,
}

impl RegionSets {
    /// Works them out.
    #[must_use]
    pub fn of(topology: &Topology) -> Self {
        let mut found = Self::default();
        let mut ids: HashMap<Box<[RegionId]>, SetId> = HashMap::new();
        for service in &topology.services {
            let mut set: Box<[RegionId]> = service.members.iter().map(|member| member.region).collect();
            set.sort_unstable();
            let next = SetId(found.sets.len() as u32);
            let id = *ids.entry(set.clone()).or_insert_with(|| {
                found.sets.push(set);
                next
            });
            found.of_service.push(id);
        }
        found
    }

    /// The set of a service.
    #[must_use]
    pub fn of_service(&self, service: ServiceId) -> SetId {
        self.of_service[service.0 as usize]
    }
}
