//! All that a query sees.

use std::sync::Arc;

use crate::geo::Index;
use crate::model::{Identity, KeyPrefix, Topology};
use crate::standing::Standing;
use crate::steer::Compiled;
use crate::wire::Denial;
use crate::zone::Zones;

/// One consistent view. A query loads one and sees nothing else; the engine publishes a new one on every change.
#[derive(Clone, Debug)]
pub struct Snapshot {
    /// What the config says, compiled.
    pub plan: Arc<Plan>,
    /// What may be used right now.
    pub standing: Arc<Standing>,
    /// Grows with every snapshot published, and never shrinks.
    pub epoch: u64,
}

/// What the config says, compiled for queries. Immutable; a reload makes a new one.
#[derive(Clone, Debug, Default)]
pub struct Plan {
    /// Regions and services.
    pub topology: Arc<Topology>,
    /// Static RRsets and dynamic names.
    pub zones: Arc<Zones>,
    /// What each zone says to names and types that it does not have, by its number.
    pub denials: Arc<[Denial]>,
    /// Where clients are.
    pub geo: Arc<Index>,
    /// What the databases behind [`Plan::geo`] are called, by [`Source::Database`](crate::geo::Source::Database).
    pub geo_sources: Vec<String>,
    /// Rankings of every service for every place.
    pub steering: Compiled,
    /// Whether ECS is read and answered (RFC 7871).
    pub ecs: bool,
    /// Whether `_portolan.NAME` TXT tells what was decided on a service's name for the asker.
    pub debug_names: bool,
    /// What the server says of itself.
    pub identity: Identity,
}

impl Plan {
    /// Compiles a plan, with [`Plan::geo_sources`] and [`Plan::identity`] left empty. Takes as long as the rankings
    /// need: not for threads that answer queries.
    #[must_use]
    pub fn compile(
        topology: Topology,
        zones: Zones,
        geo: impl Into<Arc<Index>>,
        ecs: bool,
        key_prefix: KeyPrefix,
    ) -> Self {
        let geo = geo.into();
        let steering = Compiled::new(&topology, &geo, key_prefix);
        let denials = zones.iter().map(Denial::of).collect();
        Self {
            topology: Arc::new(topology),
            zones: zones.into(),
            denials,
            geo,
            steering,
            ecs,
            ..Self::default()
        }
    }
}
