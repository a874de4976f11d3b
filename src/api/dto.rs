//! The shapes of the API's JSON. Names are a contract: fields are added, never renamed. Times are RFC 3339,
//! durations in the unit that their name says.

use std::collections::BTreeMap;
use std::net::IpAddr;

use serde::{Deserialize, Serialize};

/// `GET /v1/status`
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Status {
    /// The node that answers.
    pub node: Node,
    /// In order of name.
    pub regions: Vec<Region>,
    /// In the order of the config.
    pub services: Vec<Service>,
    /// What an operator should know of; empty when all is well.
    pub alarms: Vec<String>,
}

/// The node.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Node {
    /// `[node] name`
    pub name: String,
    /// Of the program.
    pub version: String,
    /// Of the snapshot that answers queries.
    pub epoch: u64,
    /// Whether queries are being answered.
    pub ready: bool,
    /// Since the program started.
    pub uptime_s: u64,
}

/// A region.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Region {
    /// Its name.
    pub name: String,
    /// What probes found: unknown, up, degraded or down.
    pub verdict: String,
    /// When the verdict was entered.
    pub since: String,
    /// Whether it is answered: yes, reduced, if_nothing_else, no.
    pub usable: String,
    /// The safety rule that holds it in, if one does.
    pub held: Option<String>,
    /// The operator's word, if there is one.
    #[serde(rename = "override")]
    pub overridden: Option<Override>,
    /// Requests per second it can take.
    pub capacity: Option<u64>,
    /// Its balancers.
    pub endpoints: Vec<Endpoint>,
}

/// An endpoint.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Endpoint {
    /// Its name.
    pub name: String,
    /// The best of its addresses' verdicts.
    pub verdict: String,
    /// Its share within the region.
    pub weight: u32,
    /// The name that services of names answer.
    pub host: Option<String>,
    /// Whether its addresses are those of the host, as resolvers tell them.
    #[serde(default)]
    pub resolved: bool,
    /// The operator's word, if there is one.
    #[serde(rename = "override")]
    pub overridden: Option<Override>,
    /// In the order of the config; sorted if they are the host's.
    pub addresses: Vec<Address>,
}

/// An address.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Address {
    /// It.
    pub address: IpAddr,
    /// The worst verdict of its probes.
    pub verdict: String,
    /// When that verdict was entered.
    pub since: String,
    /// What led to it, in words.
    pub evidence: String,
    /// TCP handshake of the last success.
    pub rtt_ms: Option<f64>,
    /// When it was last looked at.
    pub last_probe_s: Option<f64>,
    /// Each probe apart.
    pub probes: Vec<Probe>,
}

/// A probe's view of an address.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Probe {
    /// Its name.
    pub name: String,
    /// Its verdict.
    pub verdict: String,
    /// What led to it, in words.
    pub evidence: String,
}

/// A service.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Service {
    /// Its name.
    pub name: String,
    /// What it answers: address, cname, srv or mx.
    #[serde(rename = "type")]
    pub kind: String,
    /// How it ranks regions.
    pub rank: String,
    /// Its regions in priority order.
    pub regions: Vec<ServiceRegion>,
}

/// A region within a service.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ServiceRegion {
    /// The region's name.
    pub name: String,
    /// Its weight within a tie group.
    pub weight: u32,
    /// Whether it is answered: yes, reduced, if_nothing_else, no.
    pub usable: String,
    /// The safety rule that holds it in for this service, if one does.
    pub held: Option<String>,
    /// What an operator said about it within this service.
    #[serde(default, rename = "override")]
    pub overridden: Option<Override>,
}

/// An override in force.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Override {
    /// For `DELETE /v1/overrides/{id}`.
    pub id: u64,
    /// About what.
    pub target: String,
    /// drain, up or down
    pub action: String,
    /// The share of clients that a drain keeps away, as "25%".
    pub share: String,
    /// When it was said.
    pub created: String,
    /// When it ends by itself.
    pub until: Option<String>,
    /// Why.
    pub reason: Option<String>,
    /// Who said so: "token NAME", or "socket"; unknown of overrides that an earlier version took.
    #[serde(default)]
    pub by: Option<String>,
}

/// `POST /v1/overrides`
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct OverrideRequest {
    /// About what.
    pub target: String,
    /// drain, up or down
    pub action: String,
    /// The share of clients that a drain keeps away, as "25%"; all by default.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub share: Option<String>,
    /// How long, as "30m"; until taken back by default.
    #[serde(default, rename = "for", skip_serializing_if = "Option::is_none")]
    pub lasts: Option<String>,
    /// Why.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// Sets safety rules aside.
    #[serde(default)]
    pub override_safety: bool,
}

/// The answer to a change of overrides.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Applied {
    /// What was put into force or taken back.
    #[serde(rename = "override")]
    pub subject: Override,
    /// What had been said about the same target before and is forgotten now.
    pub replaced: Option<Override>,
    /// The epoch from which on the change applies.
    pub epoch: u64,
    /// Why it changes nothing now, if it does not.
    #[serde(default)]
    pub no_effect: Option<String>,
    /// Why it may not survive a restart, if so.
    pub not_durable: Option<String>,
}

/// The answer to `POST /v1/reload`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Reloaded {
    /// The epoch from which on the new config holds.
    pub epoch: u64,
    /// What is probably not as meant, or waits for a restart; a sentence each.
    #[serde(default)]
    pub warnings: Vec<String>,
}

/// `GET /v1/events`: one event.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Event {
    /// Grows by one with each event of a run.
    pub id: u64,
    /// When.
    pub at: String,
    /// The epoch in which it shows.
    pub epoch: u64,
    /// Its stable name: transition, override, restore, expire, held, released, reload, reload_failed, resolved,
    /// unresolved, alarm, all_clear.
    pub event: String,
    /// A sentence.
    pub message: String,
    /// What it is about, by field: subject, from, to, severity, evidence, target, action, share,
    /// until, reason, by, region, rule, host, addresses, kept, warnings, why.
    pub fields: BTreeMap<String, String>,
}

/// `GET /v1/explain`
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Explain {
    /// The name asked for.
    pub name: String,
    /// A or AAAA, or another type.
    #[serde(rename = "type")]
    pub rtype: String,
    /// For whom.
    pub client: IpAddr,
    /// Where the answer comes from: dynamic (by choosing), static (a record of the zone), no_name, no_data,
    /// unsteered (a service, asked for a type that is not chosen), referral (others answer for that name).
    pub kind: String,
    /// The dynamic name that decides, if one does: the asked one, or the end of its chain of CNAMEs.
    pub service: Option<String>,
    /// Where the client is.
    pub location: Location,
    /// For how many bits of the client's address the answer holds.
    pub scope: u8,
    /// Of the snapshot that answered.
    pub epoch: u64,
    /// What happened, in order; empty for static names.
    pub stages: Vec<Stage>,
    /// Where the client is sent.
    pub region: Option<String>,
    /// What of all_down is answered in the place of regions, of which none can serve the client: fallback, cname
    /// or servfail.
    #[serde(default)]
    pub instead: Option<String>,
    /// What is answered.
    pub answer: Answer,
}

/// Where a client is.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Location {
    /// ISO 3166-1 alpha-2.
    pub country: Option<String>,
    /// The usual two letters.
    pub continent: Option<String>,
    /// ISO 3166-2.
    pub subdivision: Option<String>,
    /// Degrees north.
    pub lat: Option<f64>,
    /// Degrees east.
    pub lon: Option<f64>,
    /// Where this was learned.
    pub source: String,
    /// The prefix for which it holds.
    pub prefix: String,
}

/// A stage of a choice.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Stage {
    /// fence, rank, tie groups, eligible, share or, where it is computed, ttl
    pub stage: String,
    /// Whose stage it is where IPv4 and IPv6 are chosen for one answer (HTTPS) and differ: IPv4 or IPv6.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub family: Option<String>,
    /// The regions that stayed in, in order.
    pub kept: Vec<Kept>,
    /// The regions that dropped out.
    pub dropped: Vec<Dropped>,
}

/// A region that stayed in.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Kept {
    /// Its name.
    pub region: String,
    /// What speaks for it; may be empty.
    pub note: String,
}

/// A region that dropped out.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Dropped {
    /// Its name.
    pub region: String,
    /// Why.
    pub why: String,
}

/// What is answered.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Answer {
    /// NOERROR, NXDOMAIN, …
    pub rcode: String,
    /// How long it may be kept, in seconds: the least TTL of the answer, or of what says that there is none.
    pub ttl: Option<u32>,
    /// The answer section, as in a zone file.
    pub records: Vec<String>,
    /// The authority section: name servers of a referral, or the SOA of an answer without records.
    pub authority: Vec<String>,
}

/// `POST /v1/demo` (the demo only): breaks a region, or heals it without `how`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct DemoSwitch {
    /// The region's name.
    pub region: String,
    /// refuse, hang, 503, document or slow
    #[serde(default)]
    pub how: Option<String>,
}
