//! Services that no region can serve.

use crate::model::{Family, ServiceId, ServiceKind, Topology};
use crate::standing::{RegionSets, SetId, Standing};

/// The number of services that an alarm names; the others are only counted.
const NAMED: usize = 5;

/// A service that no region can serve in an address family, so that its `all_down` policy applies.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Unserved {
    /// The service.
    pub service: ServiceId,
    /// The family.
    pub family: Family,
}

/// The services that have clients for whom no region may be answered and none is held, sorted.
#[must_use]
pub fn unserved(topology: &Topology, sets: &RegionSets, standing: &Standing) -> Vec<Unserved> {
    let of_sets: Vec<[bool; 3]> =
        sets.ids().map(|set| Family::ALL.map(|family| !is_set_served(sets, standing, set, family))).collect();
    if standing.services.is_empty() && !of_sets.iter().flatten().any(|unserved| *unserved) {
        return Vec::new();
    }
    let mut found = Vec::new();
    for service in sets.services() {
        let has_overrides = !standing.overrides_of(service).is_empty();
        for family in Family::ALL {
            let is_unserved = |set: &SetId| {
                if has_overrides {
                    !is_service_served(sets, standing, service, *set, family)
                } else {
                    of_sets[set.0 as usize][family as usize]
                }
            };
            if sets.of_service(service).iter().any(is_unserved)
                && answers(topology, service, standing, family)
            {
                found.push(Unserved { service, family });
            }
        }
    }
    found
}

/// Whether a service answers records of a family anywhere.
fn answers(topology: &Topology, service: ServiceId, standing: &Standing, family: Family) -> bool {
    let service = topology.service(service);
    let is_of_kind = match service.kind {
        ServiceKind::Address { .. } => family != Family::Host,
        ServiceKind::Cname | ServiceKind::Srv { .. } | ServiceKind::Mx { .. } => family == Family::Host,
    };
    let mut regions = service.members.iter().map(|member| standing.region(member.region));
    is_of_kind && regions.any(|region| region.pool(family).configured)
}

fn is_set_served(sets: &RegionSets, standing: &Standing, set: SetId, family: Family) -> bool {
    let regions = sets.regions(set);
    // If fences exclude a client from every region, none has failed it.
    regions.is_empty()
        || regions.iter().any(|id| {
            !standing.region(*id).pool(family).usable.is_withdrawn()
                || standing.held(None, set, family, *id).is_some()
        })
}

fn is_service_served(
    sets: &RegionSets,
    standing: &Standing,
    service: ServiceId,
    set: SetId,
    family: Family,
) -> bool {
    let regions = sets.regions(set);
    regions.is_empty()
        || regions.iter().any(|id| match standing.usable_within(service, *id, family) {
            crate::standing::Usable::No(cause) => {
                !cause.is_operator() && standing.held(Some(service), set, family, *id).is_some()
            }
            _ => true,
        })
}

/// The message of an alarm about services that no region can serve; `None` if there are none.
#[must_use]
pub fn alarm(topology: &Topology, unserved: &[Unserved]) -> Option<String> {
    let names = listed(topology, unserved)?;
    Some(format!("no region can serve {names}: answered as all_down says"))
}

/// The message that services can be served by regions again; `None` if there are none.
#[must_use]
pub fn all_clear(topology: &Topology, served: &[Unserved]) -> Option<String> {
    let names = listed(topology, served)?;
    Some(format!("regions can serve {names} again"))
}

/// The names of the services, each once; with the address family if only one of two is affected.
pub(super) fn listed(topology: &Topology, unserved: &[Unserved]) -> Option<String> {
    let mut services: Vec<(ServiceId, Vec<Family>)> = Vec::new();
    for Unserved { service, family } in unserved {
        match services.last_mut() {
            Some((last, families)) if last == service => families.push(*family),
            _ => services.push((*service, vec![*family])),
        }
    }
    let name = |(id, families): &(ServiceId, Vec<Family>)| {
        let family = match families[..] {
            [Family::V4] if has_addresses(topology, *id, Family::V6) => " over IPv4",
            [Family::V6] if has_addresses(topology, *id, Family::V4) => " over IPv6",
            _ => "",
        };
        format!("{}{family}", topology.service(*id).name)
    };
    let mut names: Vec<String> = services.iter().take(NAMED).map(name).collect();
    if services.len() > NAMED {
        names.push(format!("{} more", services.len() - NAMED));
    }
    (!names.is_empty()).then(|| names.join(", "))
}

/// Whether any region of a service can have addresses of a family: it lists some, or it has a host to resolve.
fn has_addresses(topology: &Topology, service: ServiceId, family: Family) -> bool {
    let members = topology.service(service).members.iter();
    let mut endpoints = members.flat_map(|member| &topology.region(member.region).endpoints);
    endpoints.any(|it| it.resolved_host().is_some() || it.listed().iter().any(|a| family.has(*a)))
}
