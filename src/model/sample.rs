//! Regions and services for tests.

use super::{
    AllDown, Condition, Location, Member, Rank, Region, RegionId, Service, ServiceKind, Share, Steering, Ttl,
    Weight,
};

/// A region without endpoints and place.
pub(crate) fn region(name: &str) -> Region {
    Region {
        name: name.into(),
        location: Location::default(),
        capacity: None,
        healthy_when: Condition::Any(Vec::new()),
        endpoints: Vec::new(),
    }
}

/// A service that answers addresses of these regions, by their order.
pub(crate) fn service(name: &str, regions: &[RegionId]) -> Service {
    Service {
        name: name.parse().expect("a name"),
        kind: ServiceKind::ADDRESS,
        members: regions.iter().map(|region| Member { region: *region, weight: Weight(1) }).collect(),
        steering: Steering {
            rank: Rank::Priority,
            share: Share::Weighted,
            answers: 1,
            ttl: Ttl(30).into(),
            all_down: AllDown::All,
        },
        fences: Vec::new(),
    }
}
