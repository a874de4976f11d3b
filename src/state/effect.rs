//! Whether an override has any effect on clients right now.

use super::World;
use crate::model::{Family, RegionId, ServiceId, Target};
use crate::standing::{Action, Override, Standing, Usable};

/// Why an override that turns `before` into `after` has no effect right now, as a clause; `None` if it may have one.
pub(super) fn no_effect(
    world: &World,
    before: &Standing,
    after: &Standing,
    new: &Override,
) -> Option<String> {
    if is_unchanged(world, before, after) {
        return Some(format!("{} is used as before", new.target));
    }
    if !new.action.is_partial() {
        return None;
    }
    let topology = &world.topology;
    match &new.target {
        Target::Region(name) => {
            let id = topology.region_named(name)?;
            let sets = world.sets.of_region(id).iter();
            let has_other = sets
                .flat_map(|set| world.sets.regions(*set))
                .any(|other| *other != id && after.region(*other).usable().is_eligible());
            (!has_other).then(|| format!("no other region serves the clients of {name}"))
        }
        Target::Service { service, region } => {
            let id = topology.region_named(region)?;
            let has_other =
                topology.services_named(service).any(|service| serves_elsewhere(world, after, service, id));
            (!has_other).then(|| format!("no other region of {service} serves"))
        }
        Target::Endpoint { region, endpoint } => {
            let id = topology.region_named(region)?;
            no_endpoint_effect(world, after, id, endpoint)
        }
        Target::Backend { pool, backend } => {
            let id = topology.pool_named(pool)?;
            let name_of = |index: u16| &topology.pool(id).backends[usize::from(index)].name;
            let has_other = after.pool(id).open.iter().any(|it| name_of(it.backend) != backend);
            (!has_other).then(|| format!("{backend} is the only backend of its pool in use"))
        }
    }
}

fn serves_elsewhere(world: &World, after: &Standing, service: ServiceId, region: RegionId) -> bool {
    let sets =
        world.sets.of_service(service).iter().filter(|set| world.sets.regions(**set).contains(&region));
    let others = sets.flat_map(|set| world.sets.regions(*set)).filter(|other| **other != region);
    let mut serves = others.flat_map(|other| {
        Family::ALL.map(|family| after.usable_within(service, *other, family).is_eligible())
    });
    serves.any(|serves| serves)
}

/// Why a partial drain of an endpoint has no effect: it lowers the endpoint's weight, which only matters if clients
/// draw among several endpoints.
fn no_endpoint_effect(world: &World, after: &Standing, region: RegionId, endpoint: &str) -> Option<String> {
    let topology = &world.topology;
    let most = after.region(region).pools.iter().map(|pool| pool.candidates.len()).max().unwrap_or(0);
    if most <= 1 {
        return Some(format!("{endpoint} is the only endpoint of its region in use"));
    }
    let mut services = topology
        .services
        .iter()
        .filter(|service| service.members.iter().any(|member| member.region == region));
    let all = services.clone().next().is_some() && services.all(|service| service.steering.answers >= most);
    all.then(|| format!("clients get every endpoint of the region, though {endpoint} comes first less often"))
}

fn is_unchanged(world: &World, before: &Standing, after: &Standing) -> bool {
    // The last resort only matters while no region serves.
    let serves = after.regions.iter().any(|region| region.usable().is_eligible());
    let region = |id: RegionId| {
        let (before, after) = (before.region(id), after.region(id));
        let pools = before.pools.iter().zip(&after.pools);
        before.drained_share() == after.drained_share()
            && pools.into_iter().all(|(before, after)| {
                has_same_effect(before.usable, after.usable)
                    && before.candidates == after.candidates
                    && (serves || before.last_resort == after.last_resort)
            })
    };
    let drained_share =
        |action: Option<Action>| action.filter(|it| it.is_partial()).map_or(0.0, Action::drained_share);
    let mut overridden = before.services.iter().chain(after.services.iter());
    world.topology.region_ids().all(region)
        && before.pools.iter().zip(&after.pools).all(|(before, after)| before.open == after.open)
        && before.held == after.held
        && overridden.all(|it| {
            let usable_in = |standing: &Standing| {
                Family::ALL.map(|family| standing.usable_within(it.service, it.region, family))
            };
            let same = usable_in(before)
                .into_iter()
                .zip(usable_in(after))
                .all(|(one, two)| has_same_effect(one, two));
            let within = |standing: &Standing| drained_share(standing.within(it.service, it.region));
            same && within(before) == within(after)
        })
}

/// Whether two usabilities have the same effect on clients. The cause of a withdrawal does not matter.
fn has_same_effect(one: Usable, two: Usable) -> bool {
    one == two || (one.is_withdrawn() && two.is_withdrawn())
}
