//! Whether an override has any effect on clients right now.

use super::World;
use crate::model::{Family, RegionId, ServiceId, Target};
use crate::standing::{Action, EndpointStanding, Override, Standing, Usable};

/// Why an override that turns `before` into `after` has no effect right now, as a clause; `None` if it may have one.
pub(super) fn no_effect(
    world: &World,
    before: &Standing,
    after: &Standing,
    new: &Override,
) -> Option<String> {
    if is_unchanged(world, before, after) {
        return Some(as_before(world, before, new));
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

/// Why an override changes nothing now, and what it still does. True before the override is set and after it.
fn as_before(world: &World, before: &Standing, new: &Override) -> String {
    let Override { target, action, .. } = new;
    let place = place(world, before, target).unwrap_or_default();
    let idle = if matches!(target, Target::Backend { .. }) {
        "gets no new requests"
    } else {
        "takes no new clients"
    };
    let word = match action {
        Action::Drain(_) => "drained",
        Action::Up => "forced up",
        Action::Down => "forced down",
    };
    match (action, place) {
        (_, Place { action: Some(now), .. }) if now == *action => {
            let part = if now.is_partial() {
                format!(" for {:.0}% of its clients", now.drained_share() * 100.0)
            } else {
                String::new()
            };
            format!("{target} is {word}{part} already")
        }
        (Action::Up, Place { is_used: true, .. }) => {
            format!("{target} is in use either way; forced up, it stays so even if probes fail")
        }
        (Action::Up, _) | (Action::Drain(_), _) if !action.withdraws() => {
            format!("{target} is used as before")
        }
        (_, Place { is_down: true, .. }) => {
            format!("{target} {idle} either way, as it is down; {word}, it stays out when it recovers")
        }
        (_, Place { action: Some(Action::Down), .. }) => {
            format!("{target} {idle} either way; drained, it may be used when nothing else is left")
        }
        (Action::Down, Place { action: Some(now), .. }) if now.withdraws() => {
            format!("{target} {idle} either way; forced down, it is not used even when nothing else is left")
        }
        _ => format!("{target} {idle} either way"),
    }
}

/// How a target is used.
#[derive(Clone, Copy, Debug, Default)]
struct Place {
    /// Its override.
    action: Option<Action>,
    /// Whether it is used.
    is_used: bool,
    /// Whether it is not used because probes found it down.
    is_down: bool,
}

fn place(world: &World, standing: &Standing, target: &Target) -> Option<Place> {
    let topology = &world.topology;
    let found = |action: Option<Action>, usable: Usable| Place {
        action,
        is_used: usable.is_eligible(),
        is_down: matches!(usable, Usable::No(cause) if !cause.is_operator()),
    };
    let part = |it: &EndpointStanding| {
        let (is_forced, is_withdrawn) = (it.action == Some(Action::Up), it.is_withdrawn());
        let is_used = is_forced || (it.state.serves() && !is_withdrawn);
        Place { action: it.action, is_used, is_down: it.state.is_down() && !is_forced && !is_withdrawn }
    };
    match target {
        Target::Region(name) => {
            let region = standing.region(topology.region_named(name)?);
            Some(found(region.action, region.usable()))
        }
        Target::Endpoint { region, endpoint } => {
            let id = topology.region_named(region)?;
            let index = topology.region(id).endpoints.iter().position(|it| it.name == *endpoint)?;
            Some(part(&standing.region(id).endpoints[index]))
        }
        Target::Service { service, region } => {
            let id = topology.region_named(region)?;
            let service = topology.services_named(service).next()?;
            let usable = Family::ALL.map(|family| standing.usable_within(service, id, family));
            let usable = usable.into_iter().reduce(Usable::best)?;
            Some(found(standing.within(service, id), usable))
        }
        Target::Backend { pool, backend } => {
            let id = topology.pool_named(pool)?;
            let index = topology.pool(id).backends.iter().position(|it| it.name == *backend)?;
            let standing = standing.pool(id);
            let is_open = standing.open.iter().any(|it| usize::from(it.backend) == index);
            Some(Place { is_used: is_open, ..part(&standing.backends[index]) })
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
