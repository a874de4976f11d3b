//! The regions and pools whose standing must be recomputed.

use super::targets::TargetRef;
use crate::model::{Condition, Name, RegionId, Topology};

#[derive(Clone, Debug)]
pub(super) struct Dirty {
    /// By [`RegionId`]: whether anything that the region depends on has changed.
    pub(super) regions: Vec<bool>,
    /// By [`PoolId`](crate::model::PoolId).
    pub(super) pools: Vec<bool>,
    /// By [`RegionId`]: the regions whose conditions name the region or its endpoints.
    dependents: Vec<Vec<RegionId>>,
}

impl Dirty {
    pub(super) fn none(topology: &Topology) -> Self {
        Self {
            regions: vec![false; topology.regions.len()],
            pools: vec![false; topology.pools.len()],
            dependents: dependents(topology),
        }
    }

    pub(super) fn any(&self) -> bool {
        self.regions.contains(&true) || self.pools.contains(&true)
    }

    pub(super) fn mark(&mut self, at: TargetRef) {
        match at {
            TargetRef::Endpoint(at) => self.mark_region(at.region),
            TargetRef::Backend(at) => self.pools[usize::from(at.pool.0)] = true,
        }
    }

    fn mark_region(&mut self, region: RegionId) {
        self.regions[usize::from(region.0)] = true;
        for dependent in &self.dependents[usize::from(region.0)] {
            self.regions[usize::from(dependent.0)] = true;
        }
    }

    pub(super) fn mark_regions(&mut self) {
        self.regions.fill(true);
    }

    pub(super) fn mark_all(&mut self) {
        self.regions.fill(true);
        self.pools.fill(true);
    }

    /// Marks what has the addresses of a host.
    pub(super) fn mark_users(&mut self, topology: &Topology, host: &Name) {
        for id in topology.region_ids() {
            if topology.region(id).endpoints.iter().any(|it| it.resolved_host() == Some(host)) {
                self.mark_region(id);
            }
        }
        for (pool, dirty) in topology.pools.iter().zip(&mut self.pools) {
            *dirty |= pool.backends.iter().any(|it| it.resolved_host() == Some(host));
        }
    }

    /// What was marked so far. Afterwards nothing is.
    pub(super) fn take(&mut self) -> Self {
        let none = Self {
            regions: vec![false; self.regions.len()],
            pools: vec![false; self.pools.len()],
            dependents: Vec::new(),
        };
        let mut taken = std::mem::replace(self, none);
        self.dependents = std::mem::take(&mut taken.dependents);
        taken
    }
}

/// By [`RegionId`]: the regions whose conditions name the region or its endpoints, directly or through other regions.
fn dependents(topology: &Topology) -> Vec<Vec<RegionId>> {
    let mut dependents = vec![Vec::new(); topology.regions.len()];
    for id in topology.region_ids() {
        let mut seen = vec![id];
        let mut next = 0;
        while let Some(region) = seen.get(next).copied() {
            next += 1;
            topology.region(region).healthy_when.leaves(&mut |leaf| {
                let named = match leaf {
                    Condition::Endpoint(at) => at.region,
                    Condition::Region(region) => *region,
                    _ => return,
                };
                if !seen.contains(&named) {
                    seen.push(named);
                }
            });
        }
        for region in &seen[1..] {
            dependents[usize::from(region.0)].push(id);
        }
    }
    dependents
}
