//! The words that every other room uses: regions, endpoints, probes, services, places.
//!
//! Everything here has already been validated by [`config`](crate::config): a value of these types
//! cannot name a region that does not exist or hold a share above 100 %. No I/O, no clocks, no serde.

mod due;
mod identity;
mod name;
mod place;
mod probe;
mod service;
mod target;
mod time;
mod topology;
mod units;

pub use due::Due;
pub use identity::{Identity, MAX_IDENTITY};
pub use name::{Name, NameError};
pub use place::{Continent, Country, Direction, EARTH_RADIUS_KM, Location, PlaceKey, Point, Subdivision};
pub use probe::{Assertion, Expect, HttpProbe, Kind, Probe, Startup, StatusRange, Thresholds, TlsProbe};
pub use service::{
    AllDown, Fence, FenceRule, GeoEntry, Https, Member, Rank, Service, ServiceKind, Share, Steering,
    Tolerance, TtlRange,
};
pub use target::{Target, TargetError};
pub use time::{Mono, Now, Unix};
pub use topology::{
    Endpoint, EndpointRef, Group, LatencyRow, Need, ProbeId, Region, RegionId, ServiceId, Topology,
};
pub use units::{Family, Fraction, KeyPrefix, Ttl, Weight};
