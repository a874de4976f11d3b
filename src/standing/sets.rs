//! Services by the set of regions they have: safety counts regions per set, not per service.

use std::collections::HashMap;

use super::{Cause, Standing, Usable};
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

    /// The regions of a service, in order.
    #[must_use]
    pub fn regions_of(&self, service: ServiceId) -> &[RegionId] {
        &self.sets[self.of_service(service).0 as usize]
    }

    /// Services of which no region may be answered and none is held in: their `all_down` policy answers.
    #[must_use]
    pub fn unserved(&self, standing: &Standing) -> Vec<ServiceId> {
        let may_answer = |id: &RegionId| !matches!(standing.region(*id).usable(), Usable::No(_));
        let is_set_served: Vec<bool> = self
            .sets
            .iter()
            .enumerate()
            .map(|(index, set)| {
                set.iter().any(|id| may_answer(id) || standing.is_held(SetId(index as u32), *id))
            })
            .collect();
        let is_served = |service: ServiceId| {
            if standing.has_words_on(service) {
                let regions = self.regions_of(service);
                let set = self.of_service(service);
                regions.iter().any(|id| match standing.usable_within(service, *id) {
                    Usable::No(Cause::Probes(_)) => standing.is_held_for(service, set, *id),
                    Usable::No(Cause::Operator) => false,
                    Usable::Full | Usable::Reduced | Usable::IfNothingElse => true,
                })
            } else {
                is_set_served[self.of_service(service).0 as usize]
            }
        };
        (0..self.of_service.len() as u32).map(ServiceId).filter(|id| !is_served(*id)).collect()
    }
}
