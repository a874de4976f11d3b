//! The earliest time at which a standing can change, for computed TTLs.

use std::sync::Arc;

use super::{Inputs, Override};
use crate::model::{Condition, Due, EndpointRef, RegionId, ServiceId, Target, Topology};

/// The earliest time at which each region, or a region within one service, can change.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Dues {
    /// By [`RegionId`]; empty if no service has a computed TTL.
    pub regions: Box<[Due]>,
    /// When overrides of a region within one service end, sorted by service and region; usually empty.
    pub services: Arc<[((ServiceId, RegionId), Due)]>,
    /// When safety rules, or a change of severity, can change whether failing regions are answered, sorted by region;
    /// usually empty.
    pub failing: Box<[(RegionId, Due)]>,
}

impl Dues {
    /// The earliest time at which a region can change for a service.
    #[must_use]
    pub fn of_member(&self, service: ServiceId, region: RegionId) -> Due {
        let own = self.regions.get(usize::from(region.0)).copied().unwrap_or(Due::ANY_TIME);
        let failing = self.failing.binary_search_by_key(&region, |(other, _)| *other);
        let own = failing.map_or(own, |index| own.min(self.failing[index].1));
        let place = (service, region);
        let from = self.services.partition_point(|(other, _)| *other < place);
        let ends = self.services[from..].iter().take_while(|(other, _)| *other == place);
        ends.fold(own, |due, (_, end)| due.min(*end))
    }
}

impl Inputs<'_> {
    /// The earliest time at which a region can change: when one of its endpoints, or of those that it requires, can
    /// change, or when one of their overrides ends.
    #[must_use]
    pub fn due(&self, id: RegionId, endpoints: &dyn Fn(EndpointRef) -> Due) -> Due {
        let topology = self.topology;
        let region = topology.region(id);
        let mut involved: Vec<EndpointRef> = (0..region.endpoints.len())
            .map(|index| EndpointRef { region: id, index: index as u16 })
            .collect();
        required(topology, id, &mut vec![id], &mut involved);
        let applies = |target: &Target| match target {
            Target::Region(name) => *name == region.name,
            Target::Endpoint { region, endpoint } => involved.iter().any(|at| {
                topology.region(at.region).name == *region && topology.endpoint(*at).name == *endpoint
            }),
            Target::Service { .. } | Target::Backend { .. } => false,
        };
        let ends = self.active_overrides().filter(|o| applies(&o.target)).map(ends);
        involved.iter().map(|at| endpoints(*at)).chain(ends).fold(Due::NEVER, Due::min)
    }

    /// When overrides of a region within a service end, sorted by service and region.
    #[must_use]
    pub fn service_dues(&self) -> Arc<[((ServiceId, RegionId), Due)]> {
        let mut services: Vec<_> =
            self.service_overrides().map(|(service, region, o)| ((service, region), ends(o))).collect();
        services.sort_unstable_by_key(|(place, _)| *place);
        services.into()
    }

    /// The overrides that have not expired.
    pub(super) fn active_overrides(&self) -> impl Iterator<Item = &Override> {
        self.overrides.iter().filter(|o| o.holds_at(self.now))
    }
}

/// Adds the endpoints that a region's condition names, directly or through other regions.
fn required(topology: &Topology, id: RegionId, seen: &mut Vec<RegionId>, into: &mut Vec<EndpointRef>) {
    topology.region(id).healthy_when.leaves(&mut |leaf| match leaf {
        Condition::Endpoint(at) if !into.contains(at) => into.push(*at),
        Condition::Region(other) if !seen.contains(other) => {
            seen.push(*other);
            required(topology, *other, seen, into);
        }
        _ => {}
    });
}

fn ends(o: &Override) -> Due {
    o.until.map_or(Due::NEVER, Due::at)
}
