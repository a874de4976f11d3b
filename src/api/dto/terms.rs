//! The closed sets among the values of the API's JSON. Each is shown to people as it is written in JSON.

use std::borrow::Cow;
use std::fmt;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

use super::{AuditAction, AuditResult};
use crate::model::Fraction;

/// What is known of a target's health.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Verdict {
    /// There is no result yet.
    Unknown,
    /// It serves.
    Up,
    /// It serves, but slowly.
    Degraded,
    /// It does not serve.
    Down,
    /// Addresses only: this node cannot probe it.
    Unobserved,
}

/// Whether clients are sent to a region.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Usable {
    /// Yes.
    Yes,
    /// Yes, at a part of its weight.
    Reduced,
    /// While no other region may be used: there is no result yet.
    IfNothingElse,
    /// No.
    No,
}

/// What an override does.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Action {
    /// Keep clients away.
    Drain,
    /// Treat the target as up.
    Up,
    /// Treat the target as down.
    Down,
}

/// A safety rule, by its key in `[safety]`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Rule {
    /// Too few regions would serve.
    MinRegions,
    /// The node suspects its own network.
    SuspectSelf,
}

/// What a service answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum ServiceType {
    /// A and AAAA, and HTTPS if the config says so.
    Address,
    /// CNAME.
    Cname,
    /// SRV.
    Srv,
    /// MX.
    Mx,
}

/// What puts one region of a service before another.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Rank {
    /// The order in the config.
    Priority,
    /// The distance from the client.
    Distance,
    /// The round-trip time from the client.
    Latency,
    /// The service's `geo` table.
    Geo,
    /// Nothing.
    None,
}

/// What a token permits.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Role {
    /// Reads.
    Viewer,
    /// Changes, too.
    Operator,
    /// Even those that safety rules forbid.
    Admin,
}

/// The name of an event.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum EventName {
    /// The node has started.
    NodeStarted,
    /// The node stops.
    NodeStopped,
    /// An address or a region changed its state.
    Transition,
    /// An address of a backend was ejected, because its requests fail.
    Ejected,
    /// An address that was ejected is used again.
    Returned,
    /// An operator set an override.
    Override,
    /// An operator removed an override.
    Restore,
    /// An override expired.
    Expire,
    /// A safety rule holds a region that probes found down.
    Held,
    /// A safety rule no longer holds a region.
    Released,
    /// A new config applies.
    Reload,
    /// A new config is bad; the one before still applies.
    ReloadFailed,
    /// The addresses of a host changed, or the host can be resolved again.
    Resolved,
    /// A host cannot be resolved; its addresses are kept.
    Unresolved,
    /// The backends of a pool that are discovered have changed.
    Discovered,
    /// The node obtained a certificate by ACME, the first or a new one.
    Issued,
    /// Something needs an operator's attention.
    Alarm,
    /// The reason for an alarm is gone.
    AllClear,
    /// Only in a stream: events after the last one that the reader has seen are no longer kept.
    Missed,
}

/// Where an explained answer comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum ExplainKind {
    /// A service chose it for this client.
    Dynamic,
    /// A record of the zone.
    Static,
    /// There is no such name.
    NoName,
    /// The name has no record of this type.
    NoData,
    /// The name is a service, but nothing is chosen for this type.
    Unsteered,
    /// Other name servers answer for this name.
    Referral,
}

/// A condition of a route.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum RouteCondition {
    /// The host.
    Host,
    /// The path.
    Path,
    /// The method.
    Method,
    /// A header.
    Header,
    /// A cookie.
    Cookie,
    /// A parameter of the query.
    Query,
}

/// A stage of a choice.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum StageName {
    /// Where the client may be sent.
    Fence,
    /// What puts one region before another.
    Rank,
    /// Regions that tie.
    #[serde(rename = "tie groups")]
    TieGroups,
    /// What may be used right now.
    Eligible,
    /// The draw within a tie group.
    Share,
    /// How long the answer may be cached, if that is computed.
    Ttl,
}

/// What `all_down` answers instead of a region.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Instead {
    /// Its addresses.
    Fallback,
    /// Its CNAME.
    Cname,
    /// SERVFAIL.
    Servfail,
}

/// An address family.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum Family {
    /// IPv4
    #[serde(rename = "IPv4")]
    V4,
    /// IPv6
    #[serde(rename = "IPv6")]
    V6,
}

/// A share of clients, written as a percentage: "25%".
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Share(pub Fraction);

impl Share {
    /// All clients.
    pub const WHOLE: Self = Self(Fraction::WHOLE);
}

impl Serialize for Share {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(&self.0)
    }
}

impl JsonSchema for Share {
    fn schema_name() -> Cow<'static, str> {
        "Share".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "description": "A share of clients, as a percentage.",
            "type": "string",
            "pattern": r"^[0-9]+(\.[0-9]+)?%$",
            "examples": ["25%"],
        })
    }
}

impl<'de> Deserialize<'de> for Share {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        let share = Fraction::parse(&text).map(Self);
        share.ok_or_else(|| {
            de::Error::custom(format_args!(
                "`{text}` is not a valid share: write a percentage from 0% to 100%, such as \"25%\""
            ))
        })
    }
}

/// serde's own formatter writes what JSON has between its quotes, so that no name is written twice.
macro_rules! shown_as_in_json {
    ($($term:ident)*) => {$(
        impl fmt::Display for $term {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.serialize(f)
            }
        }
    )*};
}

shown_as_in_json! {
    Verdict Usable Action Rule ServiceType Rank Role EventName ExplainKind StageName RouteCondition Instead Family Share
    AuditAction AuditResult
}

#[cfg(test)]
mod tests {
    use std::fmt::{Debug, Display};

    use serde::de::DeserializeOwned;

    use super::*;

    /// Every value of a set, as JSON and as text.
    #[track_caller]
    fn check<T: Serialize + DeserializeOwned + Display + Debug + PartialEq>(all: &[(T, &str)]) {
        for (term, text) in all {
            let json = serde_json::to_string(term).expect("JSON");
            assert_eq!((json.as_str(), term.to_string().as_str()), (&*format!("\"{text}\""), *text));
            assert_eq!(serde_json::from_str::<T>(&json).expect("the same term"), *term);
        }
    }

    #[test]
    fn names_are_a_contract() {
        check(&[
            (Verdict::Unknown, "unknown"),
            (Verdict::Up, "up"),
            (Verdict::Degraded, "degraded"),
            (Verdict::Down, "down"),
            (Verdict::Unobserved, "unobserved"),
        ]);
        check(&[
            (Usable::Yes, "yes"),
            (Usable::Reduced, "reduced"),
            (Usable::IfNothingElse, "if_nothing_else"),
            (Usable::No, "no"),
        ]);
        check(&[(Action::Drain, "drain"), (Action::Up, "up"), (Action::Down, "down")]);
        check(&[(Rule::MinRegions, "min_regions"), (Rule::SuspectSelf, "suspect_self")]);
        check(&[
            (ServiceType::Address, "address"),
            (ServiceType::Cname, "cname"),
            (ServiceType::Srv, "srv"),
            (ServiceType::Mx, "mx"),
        ]);
        check(&[
            (Rank::Priority, "priority"),
            (Rank::Distance, "distance"),
            (Rank::Latency, "latency"),
            (Rank::Geo, "geo"),
            (Rank::None, "none"),
        ]);
        check(&[(Role::Viewer, "viewer"), (Role::Operator, "operator"), (Role::Admin, "admin")]);
        check(&[
            (ExplainKind::Dynamic, "dynamic"),
            (ExplainKind::Static, "static"),
            (ExplainKind::NoName, "no_name"),
            (ExplainKind::NoData, "no_data"),
            (ExplainKind::Unsteered, "unsteered"),
            (ExplainKind::Referral, "referral"),
        ]);
        check(&[
            (StageName::Fence, "fence"),
            (StageName::Rank, "rank"),
            (StageName::TieGroups, "tie groups"),
            (StageName::Eligible, "eligible"),
            (StageName::Share, "share"),
            (StageName::Ttl, "ttl"),
        ]);
        check(&[
            (RouteCondition::Host, "host"),
            (RouteCondition::Path, "path"),
            (RouteCondition::Method, "method"),
            (RouteCondition::Header, "header"),
            (RouteCondition::Cookie, "cookie"),
            (RouteCondition::Query, "query"),
        ]);
        check(&[(Instead::Fallback, "fallback"), (Instead::Cname, "cname"), (Instead::Servfail, "servfail")]);
        check(&[(Family::V4, "IPv4"), (Family::V6, "IPv6")]);
    }

    #[test]
    fn shares_are_percentages() {
        let share = |percent| Share(Fraction::from_percent(percent).expect("a percentage"));
        check(&[(Share::WHOLE, "100%"), (share(25.0), "25%"), (share(0.25), "0.25%"), (share(0.0), "0%")]);
        for text in ["half", "25", "101%", "-1%", ""] {
            let error = serde_json::from_str::<Share>(&format!("\"{text}\"")).unwrap_err().to_string();
            assert!(
                error.starts_with(&format!("`{text}` is not a valid share: write a percentage")),
                "{error}"
            );
        }
    }
}
