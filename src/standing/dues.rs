//! When what is standing can change at the earliest, for TTLs that are computed.

use super::{Inputs, Override};
use crate::model::{Due, EndpointRef, RegionId, ServiceId, Target, Topology, Unix};

/// When a region, or a region within one service, can change at the earliest.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Dues {
    /// By [`RegionId`]; empty where nobody asks.
    regions: Box<[Due]>,
    /// When overrides of a region within one service end; in order of service and region, usually none.
    services: Box<[((ServiceId, RegionId), Due)]>,
}

impl Dues {
    /// Works them out from those of single addresses, by endpoint and the address's index.
    #[must_use]
    pub fn of(inputs: &Inputs<'_>, addresses: &dyn Fn(EndpointRef, usize) -> Due) -> Self {
        let Inputs { topology, overrides, now, .. } = *inputs;
        let in_force = || overrides.iter().filter(move |o| o.holds_at(now));
        let regions = topology.region_ids().map(|id| region(topology, id, in_force(), addresses)).collect();
        let mut services: Vec<_> = in_force().flat_map(|o| within(topology, o)).collect();
        services.sort_unstable_by_key(|(place, _)| *place);
        Self { regions, services: services.into() }
    }

    /// When what a service can expect of a region changes.
    #[must_use]
    pub fn of_member(&self, service: ServiceId, region: RegionId) -> Due {
        let own = self.regions.get(usize::from(region.0)).copied().unwrap_or(Due::ANY_TIME);
        let place = (service, region);
        let from = self.services.partition_point(|(other, _)| *other < place);
        let words = self.services[from..].iter().take_while(|(other, _)| *other == place);
        words.fold(own, |due, (_, word)| due.min(*word))
    }
}

/// The soonest of a region's addresses, of those it requires and of what operators said of them.
fn region<'a>(
    topology: &Topology,
    id: RegionId,
    overrides: impl Iterator<Item = &'a Override>,
    addresses: &dyn Fn(EndpointRef, usize) -> Due,
) -> Due {
    let region = topology.region(id);
    let own = (0..region.endpoints.len()).map(|index| EndpointRef { region: id, index: index as u16 });
    let endpoints: Vec<EndpointRef> = own.chain(region.require.iter().copied()).collect();
    let looked_at = endpoints.iter().flat_map(|at| {
        (0..topology.endpoint(*at).addresses.len()).map(move |address| addresses(*at, address))
    });
    let is_meant = |target: &Target| match target {
        Target::Region(name) => *name == region.name,
        Target::Endpoint { region, endpoint } => endpoints
            .iter()
            .any(|at| topology.region(at.region).name == *region && topology.endpoint(*at).name == *endpoint),
        Target::Service { .. } => false,
    };
    let ends = overrides.filter(|o| is_meant(&o.target)).map(ends);
    looked_at.chain(ends).fold(Due::NEVER, Due::min)
}

fn within(topology: &Topology, o: &Override) -> Vec<((ServiceId, RegionId), Due)> {
    let Target::Service { service, region } = &o.target else { return Vec::new() };
    let Some(region) = topology.region_named(region) else { return Vec::new() };
    topology.services_named(service).map(|service| ((service, region), ends(o))).collect()
}

fn ends(o: &Override) -> Due {
    o.until.map_or(Due::NEVER, |until: Unix| Due::at(until))
}
