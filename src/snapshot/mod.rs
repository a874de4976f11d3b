//! Everything that a query sees.

mod tls;

use std::sync::Arc;

use crate::geo::Index;
use crate::model::{
    AllowedClients, Challenges, Identity, KeyPrefix, Networks, QueryLog, RateLimit, Topology,
};
use crate::route;
use crate::standing::Standing;
use crate::steer::Compiled;
use crate::wire::Denial;
use crate::wire::cookie::Secrets;
use crate::zone::Zones;

pub use tls::{Certificate, PoolIdentity, PoolTls, Tls};

/// A consistent view of everything a query needs. Each query loads one snapshot; the engine publishes a new one on
/// every change.
#[derive(Clone, Debug)]
pub struct Snapshot {
    /// The compiled config.
    pub plan: Arc<Plan>,
    /// What may be used right now.
    pub standing: Arc<Standing>,
    /// What is shown to ACME servers.
    pub challenges: Arc<Challenges>,
    /// Increases with every published snapshot.
    pub epoch: u64,
}

/// The config, compiled for queries. Immutable; a reload makes a new one.
#[derive(Clone, Debug, Default)]
pub struct Plan {
    /// Regions and services.
    pub topology: Arc<Topology>,
    /// Static RRsets and dynamic names.
    pub zones: Arc<Zones>,
    /// The negative answers of each zone, for names and types that it does not have; by the number of the zone.
    pub denials: Arc<[Denial]>,
    /// The locations of clients.
    pub geo: Arc<Index>,
    /// The names of the databases behind [`Plan::geo`], by [`Source::Database`](crate::geo::Source::Database).
    pub geo_sources: Vec<String>,
    /// The rankings of every service for every place.
    pub steering: Compiled,
    /// Whether EDNS Client Subnet (RFC 7871) is used and answered.
    pub ecs: bool,
    /// Whether TXT queries for `_portolan.NAME` are answered with the choice made for a service's name and the client.
    pub debug_names: bool,
    /// How the server identifies itself.
    pub identity: Identity,
    /// The secrets of server cookies; `None`: cookies are ignored.
    pub cookies: Option<Secrets>,
    /// The limits on UDP responses, if there are any.
    pub rate_limit: Option<RateLimit>,
    /// Who may ask.
    pub allow: AllowedClients,
    /// The proxies that send a PROXY header on each TCP connection, and are believed.
    pub proxies: Networks,
    /// Where queries are logged, if they are.
    pub query_log: Option<QueryLog>,
    /// The listeners of the regional balancer and their routes.
    pub proxy: route::Plan,
    /// Its TLS.
    pub tls: Tls,
}

impl Plan {
    /// Compiles a plan; what the arguments do not determine is left empty or off. Computing the rankings takes time,
    /// so do not call it on threads that answer queries.
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
