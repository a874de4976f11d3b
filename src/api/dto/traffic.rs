//! `GET /v1/traffic`: who asks.

use ipnet::IpNet;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::ServiceType;

/// `GET /v1/traffic`: the answers of services, by region and country, and the networks that ask the most. What asks for
/// anything else, such as names of the zone files, is not counted here.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Traffic {
    /// When counting began: when the node was started.
    pub since: String,
    /// What `per_second` is about: so many seconds until now, which is a minute or somewhat more, or less after a start.
    pub window_s: f64,
    /// All answers of services, those that the config has no more included.
    pub total: Answers,
    /// Of those, answers that were chosen for a client subnet (RFC 7871), rather than for whoever asked.
    pub client_subnet: Answers,
    /// Of all, answers of services and regions that the config has no more.
    pub removed: Answers,
    /// The services that were asked, in the order of the config.
    pub services: Vec<TrafficService>,
    /// The networks that ask the most, those that do so now first.
    pub networks: Vec<TrafficNetwork>,
}

/// How many answers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Answers {
    /// Since counting began.
    pub answers: u64,
    /// In the last minute.
    pub per_second: f64,
}

/// The answers of a service.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct TrafficService {
    /// Its name.
    pub service: String,
    /// What it answers.
    #[serde(rename = "type")]
    pub kind: ServiceType,
    /// All of them.
    #[serde(flatten)]
    pub all: Answers,
    /// By region, in the order of the config. Answers without a region are last, if there are any.
    pub regions: Vec<TrafficRegion>,
}

/// The answers of a region of a service.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct TrafficRegion {
    /// The region; `null` for answers without one.
    pub region: Option<String>,
    /// All of them.
    #[serde(flatten)]
    pub all: Answers,
    /// By the country of the client, those with the most answers first.
    pub countries: Vec<TrafficCountry>,
    /// Those of countries that are not listed, because memory or the list has no room.
    pub other: Answers,
}

/// The answers to the clients of a country.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct TrafficCountry {
    /// ISO 3166-1 alpha-2; ZZ for clients whose country is not known.
    pub country: String,
    /// All of them.
    #[serde(flatten)]
    pub all: Answers,
}

/// The answers to a network.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct TrafficNetwork {
    /// The /24 or /48 of the client, or the wider client subnet.
    #[schemars(with = "String")]
    pub network: IpNet,
    /// Whether it is a client subnet that resolvers revealed (RFC 7871), rather than the network of whoever asked.
    pub client_subnet: bool,
    /// At least so many.
    #[serde(flatten)]
    pub all: Answers,
    /// At most so many more.
    pub error: u64,
}
