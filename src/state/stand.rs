//! The one function that makes a finished standing.

use super::World;
use crate::model::{Due, EndpointRef, RegionId};
use crate::safety;
use crate::standing::{Dues, Held, Inputs, RegionStanding, Standing};

/// What a standing is made from.
pub(super) struct Basis<'a> {
    pub(super) world: &'a World,
    pub(super) inputs: Inputs<'a>,
    /// When an endpoint can change at the earliest.
    pub(super) due: &'a dyn Fn(EndpointRef) -> Due,
    /// What safety held until now, by the ids of the present world.
    pub(super) held: &'a [Held],
}

/// What need not be worked out again.
pub(super) struct Kept<'a> {
    /// The standing before, of the same topology and overrides.
    pub(super) standing: &'a Standing,
    /// By region: whether it is to be worked out again.
    pub(super) dirty: &'a [bool],
}

/// Makes a standing: what probes and overrides come to, when that can change, and what safety holds.
pub(super) fn stand(basis: &Basis<'_>, kept: Option<&Kept<'_>>) -> Standing {
    let Basis { world, inputs, due, held } = basis;
    let is_dirty = |id: RegionId| kept.is_none_or(|kept| kept.dirty[usize::from(id.0)]);
    let region = |id| match kept {
        Some(kept) if !is_dirty(id) => kept.standing.region(id).clone(),
        _ => inputs.region(id),
    };
    let regions: Box<[RegionStanding]> = world.topology.region_ids().map(region).collect();
    let region_due = |id: RegionId| match kept {
        Some(kept) if !is_dirty(id) => kept.standing.dues.regions[usize::from(id.0)],
        _ => inputs.due(id, due),
    };
    // Without need for them, what is due would be published again and again.
    let dues = world.computes_ttl.then(|| Dues {
        regions: world.topology.region_ids().map(region_due).collect(),
        services: kept.map_or_else(|| inputs.service_dues(), |kept| kept.standing.dues.services.clone()),
    });
    let services = kept.map_or_else(|| inputs.services(), |kept| kept.standing.services.clone());
    let mut standing = Standing { regions, services, dues: dues.unwrap_or_default(), ..Standing::default() };
    standing.held = safety::hold(&world.rules, &world.sets, &standing, held);
    standing
}
