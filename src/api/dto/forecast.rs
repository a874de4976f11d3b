//! `GET /v1/map` and `POST /v1/plan`: where clients are sent, and whom a change would move.

use std::net::IpAddr;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{Action, Family, ServiceType, Share};

/// `GET /v1/map`: where the clients of a service are sent now, country by country.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Map {
    /// The service.
    pub service: String,
    /// What it answers.
    #[serde(rename = "type")]
    pub kind: ServiceType,
    /// The address family of the answers; absent if it answers names.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub family: Option<Family>,
    /// The epoch of the snapshot that was used.
    pub epoch: u64,
    /// What clients are counted by.
    pub basis: Basis,
    /// The regions of the service, in the order of the config.
    pub regions: Vec<MapRegion>,
    /// The countries that have clients, in order of their codes.
    pub countries: Vec<MapCountry>,
}

/// What clients are counted by.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Basis {
    /// The addresses of the geo database. docs/api.md says how.
    Addresses,
    /// The queries for the service that this node answered in the last hour.
    Queries,
    /// Some services by queries, and those that were hardly asked by addresses.
    Mixed,
}

/// A region of a service.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct MapRegion {
    /// Its name.
    pub name: String,
    /// Degrees north; absent if the config has no location.
    pub lat: Option<f64>,
    /// Degrees east.
    pub lon: Option<f64>,
    /// Whether the service may send clients to it now.
    pub available: bool,
}

/// The clients of a country.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct MapCountry {
    /// ISO 3166-1 alpha-2; ZZ for clients whose country is not known.
    pub country: String,
    /// Its share of all clients; 0 if they are counted by queries and it had none.
    pub weight: f64,
    /// An address there.
    pub client: IpAddr,
    /// Where its clients are sent, the largest share first; empty if no region may be answered.
    pub regions: Vec<RegionShare>,
}

/// The share of some clients that a region gets.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct RegionShare {
    /// The region.
    pub region: String,
    /// From 0 to 1.
    pub share: f64,
}

/// `POST /v1/plan`: a change of overrides to try, or another config. It has `target` and `action`, or `restore`, or
/// `config`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct PlanRequest {
    /// The target of an override to set: region/NAME, endpoint/REGION/NAME, service/NAME/REGION or pool/NAME/BACKEND.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub target: Option<String>,
    /// What the override does.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub action: Option<Action>,
    /// The share of clients that a drain keeps away; all by default.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub share: Option<Share>,
    /// The target whose override to remove.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub restore: Option<String>,
    /// A service whose map with the change, also of the config, the answer has as well.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub map: Option<String>,
    /// The absolute path, on the node's host, of a config to compare with the current one. Over TCP it needs a token with
    /// the role operator or admin.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub config: Option<String>,
}

/// The answer to `POST /v1/plan`: whom the change would move. Nothing has changed.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Plan {
    /// Why a safety rule would refuse the change, as a sentence; `null` if none would.
    pub refused: Option<String>,
    /// Why it would change nothing now, as a clause, if it would not.
    pub no_effect: Option<String>,
    /// What `all_down` would answer for the services that it would leave without a region, as a sentence; `null` if there
    /// are none.
    #[serde(default)]
    pub all_down: Option<String>,
    /// The epoch that was compared with.
    pub epoch: u64,
    /// What clients are counted by.
    pub basis: Basis,
    /// The services whose clients would move to other regions, those that move the most first.
    pub services: Vec<PlanService>,
    /// How many more services there are whose clients would move.
    pub services_left_out: usize,
    /// For endpoints: how the region's clients are divided among them.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub endpoints: Vec<PlanEndpoints>,
    /// For backends of the proxy: the pool.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pool: Option<PlanPool>,
    /// Where the clients of the service that the request names would be sent, those included that stay.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub map: Option<Map>,
    /// For a config: what it is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub config: Option<PlanConfig>,
}

/// A config that was compared with the current one.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct PlanConfig {
    /// Its file.
    pub file: String,
    /// What a reload would warn of, a sentence each.
    pub warnings: Vec<String>,
    /// The regions with addresses or checks that were taken to be up, because no probe has checked them yet.
    pub assumed_up: PlanNames,
    /// The regions that only it has.
    pub regions_added: PlanNames,
    /// The regions that it does not have.
    pub regions_removed: PlanNames,
    /// The services that only it has; `services` has none of them.
    pub services_added: PlanNames,
    /// The services that it does not have; `services` has none of them.
    pub services_removed: PlanNames,
}

/// Names of a config.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct PlanNames {
    /// How many there are.
    pub count: usize,
    /// The first 100 of them.
    pub names: Vec<String>,
}

/// A service whose clients would move.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct PlanService {
    /// The service.
    pub service: String,
    /// What it answers.
    #[serde(rename = "type")]
    pub kind: ServiceType,
    /// The address family of the answers that change, if not all do alike.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub family: Option<Family>,
    /// What its clients are counted by.
    pub basis: Basis,
    /// The share of its clients that would move to another region, to none or from none.
    pub moved: f64,
    /// Where they would go: the share of all clients that each region gains. What is missing to `moved` gets no region.
    pub gains: Vec<RegionShare>,
    /// What each region has of all clients now.
    pub before: Vec<RegionShare>,
    /// What each region would have.
    pub after: Vec<RegionShare>,
    /// The countries whose clients would move, those with the most such clients first.
    pub countries: Vec<PlanCountry>,
    /// How many more countries there are whose clients would move.
    pub countries_left_out: usize,
}

/// The clients of a country that would move.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct PlanCountry {
    /// ISO 3166-1 alpha-2; ZZ for clients whose country is not known.
    pub country: String,
    /// Its share of all clients.
    pub weight: f64,
    /// The share of its clients that would move.
    pub moved: f64,
    /// Where its clients are sent now.
    pub from: Vec<RegionShare>,
    /// Where they would be sent.
    pub to: Vec<RegionShare>,
}

/// How the clients of a region are divided among its endpoints; with several in an answer, which comes first.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct PlanEndpoints {
    /// The region.
    pub region: String,
    /// The address family of the answers; absent for names.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub family: Option<Family>,
    /// Now.
    pub before: Vec<EndpointShare>,
    /// With the change.
    pub after: Vec<EndpointShare>,
}

/// The share of a region's clients that an endpoint gets.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct EndpointShare {
    /// The endpoint.
    pub endpoint: String,
    /// From 0 to 1.
    pub share: f64,
}

/// A pool of the proxy.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct PlanPool {
    /// Its name.
    pub name: String,
    /// The backends in use now.
    pub before: Vec<String>,
    /// Those that would be in use.
    pub after: Vec<String>,
}
