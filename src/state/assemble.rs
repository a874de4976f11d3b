//! Assembles a finished standing.

use super::World;
use super::dirty::Dirty;
use crate::model::{Due, EndpointRef, PoolId, RegionId};
use crate::safety;
use crate::standing::{Dues, Held, Inputs, PoolStanding, RegionStanding, Standing};

/// The inputs of a standing.
pub(super) struct Basis<'a> {
    pub(super) world: &'a World,
    pub(super) inputs: Inputs<'a>,
    /// The earliest time at which an endpoint can change.
    pub(super) due: &'a dyn Fn(EndpointRef) -> Due,
    /// The earliest time at which the severity of a failing endpoint can change.
    pub(super) severity_due: &'a dyn Fn(EndpointRef) -> Due,
    /// The regions held until now, by the ids of the current config.
    pub(super) held: &'a [Held],
}

/// The parts of the previous standing that need not be recomputed.
pub(super) struct Kept<'a> {
    /// The previous standing, of the same topology and overrides.
    pub(super) standing: &'a Standing,
    /// What must be recomputed.
    pub(super) dirty: &'a Dirty,
}

/// Assembles a standing: the regions as probes and overrides make them, when they can change, and what safety holds.
pub(super) fn assemble(basis: &Basis<'_>, kept: Option<&Kept<'_>>) -> Standing {
    let Basis { world, inputs, due, severity_due, held } = basis;
    let is_dirty = |id: RegionId| kept.is_none_or(|kept| kept.dirty.regions[usize::from(id.0)]);
    let region = |id| match kept {
        Some(kept) if !is_dirty(id) => kept.standing.region(id).clone(),
        _ => inputs.region(id),
    };
    let regions: Box<[RegionStanding]> = world.topology.region_ids().map(region).collect();
    let pool = |id: PoolId| match kept {
        Some(kept) if !kept.dirty.pools[usize::from(id.0)] => kept.standing.pool(id).clone(),
        _ => inputs.pool(id),
    };
    let pools: Box<[PoolStanding]> = world.topology.pool_ids().map(pool).collect();
    let region_due = |id: RegionId| match kept {
        Some(kept) if !is_dirty(id) => kept.standing.dues.regions[usize::from(id.0)],
        _ => inputs.due(id, due),
    };
    // Only if needed: dues may change with every result, and each change is published.
    let dues = world.computes_ttl.then(|| Dues {
        regions: world.topology.region_ids().map(region_due).collect(),
        services: kept.map_or_else(|| inputs.service_dues(), |kept| kept.standing.dues.services.clone()),
        failing: Box::default(),
    });
    let services = kept.map_or_else(|| inputs.services(), |kept| kept.standing.services.clone());
    let mut standing =
        Standing { regions, pools, services, dues: dues.unwrap_or_default(), ..Standing::default() };
    standing.held = safety::hold(&world.rules, &world.sets, &standing, held);
    if world.computes_ttl {
        let severity = |id| inputs.due(id, severity_due);
        standing.dues.failing = safety::dues(&world.rules, &world.sets, &standing, &severity);
    }
    standing
}
