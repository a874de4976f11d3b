//! The types that every other module uses: regions, endpoints, probes, services, places.
//!
//! [`config`](crate::config) has validated and parsed everything here: a value of these types cannot name a region that
//! does not exist, hold a share above 100 % or a JSONPath that does not compile. No I/O, no clocks, no serde.

mod audit_record;
mod auth;
mod challenge;
mod check;
mod client_limits;
mod clients;
mod condition;
mod destination;
mod discover;
mod due;
mod edit;
mod event_record;
mod identity;
mod json_path;
mod limits;
mod logs;
mod lookup;
mod name;
mod passive;
mod place;
mod probe;
mod proxy;
mod rate_limit;
mod request_limits;
mod rules;
#[cfg(test)]
pub(crate) mod sample;
mod secret;
mod service;
mod sticky;
mod target;
mod tcp;
mod time;
mod topology;
mod units;

pub use audit_record::{AuditKind, AuditRecord};
pub use auth::ForwardAuth;
pub use challenge::{
    Challenge, Challenges, ChallengesAt, LONGEST_TOKEN, MOST_CHALLENGES, MOST_VALUES, Proof, Token,
};
pub use check::{CheckId, Source, Subject};
pub use client_limits::ClientLimits;
pub use clients::{AllowedClients, Networks};
pub use condition::Condition;
pub use destination::Destinations;
pub use discover::{Discover, ServiceRecord};
pub use due::Due;
pub use edit::{Edits, HeaderEdits, PathEdit, PathPiece, RedirectPiece, RedirectTo};
pub use event_record::EventRecord;
pub use identity::{Identity, MAX_IDENTITY};
pub use json_path::{Extent, JsonPath, JsonPathError};
pub use limits::PoolLimits;
pub use logs::{LogTarget, QueryLog, QueryLogTarget};
pub use lookup::{Found, Lookup};
pub use name::{Name, NameError};
pub use passive::{ErrorRate, Passive, PassiveOn};
pub use place::{Continent, Country, Direction, EARTH_RADIUS_KM, Location, PlaceKey, Point, Subdivision};
pub use probe::{Assertion, Expect, HttpProbe, Kind, Probe, Startup, StatusRange, Thresholds, TlsProbe};
pub use proxy::{
    AccessFormat, AccessLog, Backend, BackendReach, BackendRef, Balance, ClientHeaders, HostPattern, Http,
    LONGEST_DRAIN, Listener, ListenerTls, Liveness, PathPattern, Pool, PoolId, Protocol, Proxy, ProxyVersion,
    Readiness, Retry, RetryOn, Route, RouteAction, TcpOptions, Timeouts, ValuePattern, When,
};
pub use rate_limit::RateLimit;
pub use request_limits::RequestLimits;
pub use rules::{Rule, Rules, SuspectSelf};
pub use secret::Secret;
pub use service::{
    AllDown, Fence, FenceRule, GeoEntry, Https, Km, Member, Millis, Rank, RankKind, Service, ServiceKey,
    ServiceKind, Share, Steering, TtlRange,
};
pub use sticky::Sticky;
pub use target::{Target, TargetError};
pub use tcp::TcpLimits;
pub use time::{Mono, Now, Unix};
pub use topology::{
    Endpoint, EndpointRef, Group, LatencyRow, ProbeId, Reach, Region, RegionId, ServiceId, Topology,
};
pub use units::{Family, Fraction, KeyPrefix, Ttl, Weight};
