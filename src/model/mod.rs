//! The types that every other module uses: regions, endpoints, probes, services, places.
//!
//! [`config`](crate::config) has validated and parsed everything here: a value of these types cannot name a region that
//! does not exist, hold a share above 100 % or a JSONPath that does not compile. No I/O, no clocks, no serde.

mod check;
mod clients;
mod condition;
mod destination;
mod due;
mod edit;
mod event_record;
mod identity;
mod json_path;
mod lookup;
mod name;
mod place;
mod probe;
mod proxy;
mod rate_limit;
mod rules;
mod service;
mod target;
mod tcp;
mod time;
mod topology;
mod units;

pub use check::{CheckId, Source, Subject};
pub use clients::{AllowedClients, Networks};
pub use condition::Condition;
pub use destination::Destinations;
pub use due::Due;
pub use edit::{Edits, HeaderEdits, PathEdit, PathPiece, RedirectPiece, RedirectTo};
pub use event_record::EventRecord;
pub use identity::{Identity, MAX_IDENTITY};
pub use json_path::{Extent, JsonPath, JsonPathError};
pub use lookup::{Found, Lookup};
pub use name::{Name, NameError};
pub use place::{Continent, Country, Direction, EARTH_RADIUS_KM, Location, PlaceKey, Point, Subdivision};
pub use probe::{Assertion, Expect, HttpProbe, Kind, Probe, Startup, StatusRange, Thresholds, TlsProbe};
pub use proxy::{
    AccessFormat, AccessLog, AccessTarget, Backend, BackendReach, BackendRef, Balance, ClientHeaders,
    HostPattern, Listener, ListenerTls, PathPattern, Pool, PoolId, Protocol, Proxy, Readiness, Retry,
    RetryOn, Route, RouteAction, Timeouts, ValuePattern, When,
};
pub use rate_limit::RateLimit;
pub use rules::{Rule, Rules, SuspectSelf};
pub use service::{
    AllDown, Fence, FenceRule, GeoEntry, Https, Km, Member, Millis, Rank, RankKind, Service, ServiceKind,
    Share, Steering, TtlRange,
};
pub use target::{Target, TargetError};
pub use tcp::TcpLimits;
pub use time::{Mono, Now, Unix};
pub use topology::{
    Endpoint, EndpointRef, Group, LatencyRow, ProbeId, Reach, Region, RegionId, ServiceId, Topology,
};
pub use units::{Family, Fraction, KeyPrefix, Ttl, Weight};
