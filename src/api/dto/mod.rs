//! The shapes of the API's JSON. Names are a contract: fields are added, never renamed. Times are RFC 3339 in UTC,
//! durations in the unit that their name says.

mod acme;
mod audit;
mod forecast;
mod from;
mod pool;
mod request;
mod terms;
mod traffic;

use std::collections::BTreeMap;
use std::net::IpAddr;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

pub use acme::{AcmeRequest, Certificate, Challenge};
pub use audit::{AuditAction, AuditEntry, AuditResult, AuditState};
pub use forecast::{
    Basis, EndpointShare, Map, MapCountry, MapRegion, Plan, PlanConfig, PlanCountry, PlanEndpoints,
    PlanNames, PlanPool, PlanRequest, PlanService, RegionShare,
};
pub use pool::{Backend, Ejected, Listener, Load, Panic, Pool, PoolLimits};
pub use request::{
    BackendAddress, ExplainRequest, MatchedRoute, RequestBackend, RequestListener, RequestOutcome,
    RequestPool, RequestSticky, RouteEdits, SkippedRoute, SplitPool,
};
pub use terms::{
    Action, EventName, ExplainKind, Family, Instead, Rank, Role, RouteCondition, Rule, ServiceType, Share,
    StageName, Usable, Verdict,
};
pub use traffic::{Answers, Traffic, TrafficCountry, TrafficNetwork, TrafficRegion, TrafficService};

/// `GET /v1/status`
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Status {
    /// The node that answers.
    pub node: Node,
    /// In order of name.
    pub regions: Vec<Region>,
    /// In the order of the config.
    pub services: Vec<Service>,
    /// The proxy's pools, in order of name.
    #[serde(default)]
    pub pools: Vec<Pool>,
    /// The proxy's listeners, in order of name.
    #[serde(default)]
    pub listeners: Vec<Listener>,
    /// What needs an operator's attention now, a sentence each.
    pub alarms: Vec<String>,
    /// The certificates of the proxy that the node obtains itself.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub certificates: Vec<Certificate>,
    /// What is shown to ACME servers.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub challenges: Vec<Challenge>,
    /// The files that the process may have open; absent from nodes of earlier versions.
    #[serde(default)]
    pub files: Option<Files>,
}

/// `GET /v1/handshakes`: how far away the proxy's clients of a network are, as their TCP handshakes show.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Handshakes {
    /// The network: a /24, or a /48 of IPv6.
    pub network: String,
    /// How many handshakes were measured.
    pub handshakes: u64,
    /// The moving average of their round-trip times.
    pub rtt_ms: f64,
    /// The shortest of them.
    pub least_ms: f64,
}

/// `GET /v1/whoami`: who the node takes the sender of the request for.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Whoami {
    /// The author that its overrides would name, as in the audit log: "token NAME", or on the socket "user NAME", or
    /// "uid NUMBER" for a user without a name; "a reader" without a token.
    pub by: String,
    /// What it may do.
    pub role: Role,
}

/// How the files that the process may have open are shared out, and how many it has open.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Files {
    /// The most that it may have open.
    pub limit: u64,
    /// Those that it has open; unknown where /proc cannot be read.
    pub open: Option<u64>,
    /// Of `limit`, those set aside for probes and the node itself.
    pub reserved: u64,
    /// Of `limit`, those for connections of DNS over TCP; none without DNS.
    pub dns_tcp: FileShare,
    /// Of `limit`, those for connections to the API.
    pub api: FileShare,
    /// Connections of the proxy's clients; they share files with those to backends. Absent without a proxy.
    #[serde(default)]
    pub proxy: Option<FileShare>,
}

/// A share of the files that the process may have open.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct FileShare {
    /// The most connections.
    pub limit: u64,
    /// Those that are open.
    pub open: u64,
}

/// A node.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Node {
    /// `[node] name`
    pub name: String,
    /// The version of the program.
    pub version: String,
    /// The epoch of the snapshot that answers queries.
    pub epoch: u64,
    /// Whether queries are being answered.
    pub ready: bool,
    /// Seconds since the program started.
    pub uptime_s: u64,
}

/// A region.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Region {
    /// Its name.
    pub name: String,
    /// What probes found, whatever operators decided; up without probes.
    pub verdict: Verdict,
    /// Whether any of its endpoints, or of what it requires, is probed.
    pub probed: bool,
    /// When it entered this verdict; `null` without probes.
    pub since: Option<String>,
    /// Whether clients are sent to it.
    pub usable: Usable,
    /// The safety rule that holds it though probes found it down.
    pub held: Option<Rule>,
    /// The override of the whole region.
    #[serde(rename = "override")]
    pub overridden: Option<Override>,
    /// Requests per second it can take.
    pub capacity: Option<u64>,
    /// Its endpoints, in the order of the config.
    pub endpoints: Vec<Endpoint>,
}

/// An endpoint.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Endpoint {
    /// Its name.
    pub name: String,
    /// The best verdict of its addresses.
    pub verdict: Verdict,
    /// Whether its addresses are probed. A host name without addresses is not.
    pub probed: bool,
    /// Its weight among the endpoints of the region.
    pub weight: u32,
    /// Its host name, which CNAME, SRV and MX services answer.
    pub host: Option<String>,
    /// Whether the last lookup of its host succeeded.
    #[serde(default)]
    pub resolved: bool,
    /// The state of looking up its host; absent if its addresses are in the config.
    #[serde(default)]
    pub lookup: Option<HostLookup>,
    /// Its override.
    #[serde(rename = "override")]
    pub overridden: Option<Override>,
    /// In the order of the config; sorted if they were looked up.
    pub addresses: Vec<Address>,
}

/// The state of looking up a host.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct HostLookup {
    /// Why the last lookup failed, if it did; the addresses of the last one that succeeded are kept meanwhile.
    pub error: Option<String>,
    /// Since when lookups fail.
    pub failing_since: Option<String>,
}

/// An address.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Address {
    /// The IP address.
    pub address: IpAddr,
    /// What its probes found together; up without probes.
    pub verdict: Verdict,
    /// Whether it has probes.
    pub probed: bool,
    /// When the probe that decides entered its verdict; `null` without probes.
    pub since: Option<String>,
    /// Why it has this verdict; for an unobserved address why this node cannot probe it.
    pub evidence: String,
    /// The failures that its probes count towards down, or have counted since it went down: of the probe that has most.
    #[serde(default)]
    pub failures: u32,
    /// How long the TCP handshake of the last success took.
    pub rtt_ms: Option<f64>,
    /// Seconds since the last probe ended.
    pub last_probe_s: Option<f64>,
    /// Each probe's own verdict.
    pub probes: Vec<Probe>,
    /// What it works on for the proxy; absent for endpoints of regions.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub load: Option<Load>,
}

/// A probe of an address.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Probe {
    /// Its name.
    pub name: String,
    /// Its verdict.
    pub verdict: Verdict,
    /// Why it has this verdict.
    pub evidence: String,
}

/// A service.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Service {
    /// Its name.
    pub name: String,
    /// What it answers.
    #[serde(rename = "type")]
    pub kind: ServiceType,
    /// How it ranks regions.
    pub rank: Rank,
    /// Its regions in priority order.
    pub regions: Vec<ServiceRegion>,
}

/// A region within a service.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct ServiceRegion {
    /// The region's name.
    pub name: String,
    /// Its weight within a tie group.
    pub weight: u32,
    /// Whether the service sends clients to it.
    pub usable: Usable,
    /// The safety rule that holds it for this service though probes found it down.
    pub held: Option<Rule>,
    /// Its override within this service.
    #[serde(default, rename = "override")]
    pub overridden: Option<Override>,
}

/// An override that applies.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Override {
    /// For `DELETE /v1/overrides/{id}`.
    pub id: u64,
    /// The target: region/NAME, endpoint/REGION/NAME or service/NAME/REGION.
    pub target: String,
    /// What it does.
    pub action: Action,
    /// The share of clients that a drain keeps away; 100% for other actions.
    pub share: Share,
    /// When it was set.
    pub created: String,
    /// When it expires.
    pub until: Option<String>,
    /// The operator's reason.
    pub reason: Option<String>,
    /// Who set it, as in the audit log: "token NAME", "user NAME" or "uid NUMBER"; "socket" or unknown for overrides that
    /// an earlier version stored.
    #[serde(default)]
    pub by: Option<String>,
}

/// `POST /v1/overrides`
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct OverrideRequest {
    /// The target: region/NAME, endpoint/REGION/NAME or service/NAME/REGION.
    pub target: String,
    /// What to do with it.
    pub action: Action,
    /// The share of clients that a drain keeps away; all by default.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub share: Option<Share>,
    /// For how long, such as "30m"; until it is removed by default.
    #[serde(default, rename = "for", skip_serializing_if = "Option::is_none")]
    pub lasts: Option<String>,
    /// The operator's reason.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// Whether to do it even if a safety rule forbids it.
    #[serde(default)]
    pub override_safety: bool,
}

/// The answer to a change of overrides.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Applied {
    /// The override that was set or removed.
    #[serde(rename = "override")]
    pub subject: Override,
    /// The override of the same target that it replaced.
    pub replaced: Option<Override>,
    /// The first epoch in which the change applies.
    pub epoch: u64,
    /// Why it changes nothing now, if it does not.
    #[serde(default)]
    pub no_effect: Option<String>,
    /// Why it may not survive a restart, if so.
    pub not_durable: Option<String>,
}

/// The answer to `POST /v1/reload`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Reloaded {
    /// The first epoch in which the new config applies.
    pub epoch: u64,
    /// What is probably not as meant, or takes effect after a restart only; a sentence each.
    #[serde(default)]
    pub warnings: Vec<String>,
}

/// `GET /v1/events`: one event.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Event {
    /// Grows by one with each event of a run. The first of a run is greater than all of earlier runs, whose events are kept
    /// where there is a `state_dir`.
    pub id: u64,
    /// When it happened.
    pub at: String,
    /// The first epoch in which queries see it.
    pub epoch: u64,
    /// What happened.
    pub event: EventName,
    /// The same as a sentence.
    pub message: String,
    /// The details by name: version, last_stop, subject, from, to, severity, evidence, number, target, action, share,
    /// until, reason, by, region, rule, warnings, why, host, addresses, kept, pool, backends, names, ca, expires.
    /// docs/operations.md lists them by event.
    pub fields: BTreeMap<String, String>,
}

/// `GET /v1/explain?name=`
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Explain {
    /// The name asked for.
    pub name: String,
    /// A or AAAA, or another type.
    #[serde(rename = "type")]
    pub rtype: String,
    /// The client's address.
    pub client: IpAddr,
    /// Where the answer comes from.
    pub kind: ExplainKind,
    /// The service that decides, if one does: the name asked for, or the end of its chain of CNAMEs.
    pub service: Option<String>,
    /// Where the client is.
    pub location: Location,
    /// The ECS scope: for how many bits of the client's address the answer is valid.
    pub scope: u8,
    /// The epoch of the snapshot that answered.
    pub epoch: u64,
    /// The stages of the choice, in order; empty if no service decides.
    pub stages: Vec<Stage>,
    /// Where the client is sent.
    pub region: Option<String>,
    /// What `all_down` answers if no region can serve the client.
    #[serde(default)]
    pub instead: Option<Instead>,
    /// The answer.
    pub answer: Answer,
}

/// Where a client is.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Location {
    /// ISO 3166-1 alpha-2.
    pub country: Option<String>,
    /// Two letters: AF, AN, AS, EU, NA, OC or SA.
    pub continent: Option<String>,
    /// ISO 3166-2.
    pub subdivision: Option<String>,
    /// Degrees north.
    pub lat: Option<f64>,
    /// Degrees east.
    pub lon: Option<f64>,
    /// The database or `geo.network` entry that says so.
    pub source: String,
    /// The prefix around the client's address for which it says the same.
    pub prefix: String,
}

/// A stage of a choice.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Stage {
    /// Which stage.
    pub stage: StageName,
    /// The address family it chose for, in HTTPS answers for which IPv4 and IPv6 were chosen differently.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub family: Option<Family>,
    /// The regions that stay in the choice, in order.
    pub kept: Vec<Kept>,
    /// The regions that leave it.
    pub dropped: Vec<Dropped>,
}

/// A region that stays in the choice.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Kept {
    /// Its name.
    pub region: String,
    /// What the stage found about it; may be empty.
    pub note: String,
}

/// A region that leaves the choice.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Dropped {
    /// Its name.
    pub region: String,
    /// Why.
    pub why: String,
}

/// An answer.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Answer {
    /// NOERROR, NXDOMAIN, …
    pub rcode: String,
    /// How long it may be cached, in seconds: the least TTL of the records, or of the SOA of a negative answer.
    pub ttl: Option<u32>,
    /// The answer section, in zone file format.
    pub records: Vec<String>,
    /// The authority section: name servers of a referral, or the SOA of an answer without records.
    pub authority: Vec<String>,
}

/// `POST /v1/demo` (the demo only): breaks a region or a backend, or heals it without `how`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct DemoSwitch {
    /// REGION or REGION/BACKEND
    pub target: String,
    /// refuse, hang, 503, document or slow
    #[serde(default)]
    pub how: Option<String>,
}

/// The answer to [`DemoSwitch`].
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct DemoSwitched {
    /// REGION or REGION/BACKEND
    pub target: String,
    /// How it is broken; absent if it is healed.
    pub how: Option<String>,
    /// How the proxy of the region is broken, if it is.
    pub proxy: Option<String>,
    /// How each backend of the region is broken, if it is.
    pub backends: BTreeMap<String, Option<String>>,
}
