//! Services: names with steered answers, and how they are steered.

use std::mem::{Discriminant, discriminant};
use std::net::IpAddr;
use std::time::Duration;

use super::{Name, PlaceKey, RegionId, Ttl, Weight};

/// `[[service]]`: a dynamic name.
#[derive(Clone, Debug, PartialEq)]
pub struct Service {
    /// The name; may be a zone's apex or a wildcard.
    pub name: Name,
    /// The type of answer.
    pub kind: ServiceKind,
    /// The regions in priority order; at least one, each once.
    pub members: Vec<Member>,
    /// How to choose among the regions.
    pub steering: Steering,
    /// Which clients may be sent to which region.
    pub fences: Vec<Fence>,
}

/// What identifies a service over reloads: services of different types may share a name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct ServiceKey<'a>(&'a Name, Discriminant<ServiceKind>);

impl Service {
    /// What identifies it over reloads.
    #[must_use]
    pub fn key(&self) -> ServiceKey<'_> {
        ServiceKey(&self.name, discriminant(&self.kind))
    }
}

/// What a service answers: the addresses of endpoints, or their names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ServiceKind {
    /// A and AAAA.
    Address {
        /// If set, HTTPS queries are answered, too.
        https: Option<Https>,
    },
    /// A CNAME to the name of one endpoint, regardless of the query type.
    Cname,
    /// SRV (RFC 2782), one record for each endpoint; weights are those of the endpoints.
    Srv {
        /// The priority of every record; clients prefer the lowest.
        priority: u16,
        /// The port of every record, 1 to 65535.
        port: u16,
    },
    /// MX (RFC 1035 §3.3.9), one record for each endpoint.
    Mx {
        /// The preference of every record; clients prefer the lowest.
        preference: u16,
    },
}

impl ServiceKind {
    /// A and AAAA alone.
    pub const ADDRESS: Self = Self::Address { https: None };

    /// One kind of each type, with placeholder values.
    pub const EACH: [Self; 4] =
        [Self::ADDRESS, Self::Cname, Self::Srv { priority: 0, port: 0 }, Self::Mx { preference: 0 }];

    /// The type as the config and the API write it.
    #[must_use]
    pub const fn name(&self) -> &'static str {
        match self {
            Self::Address { .. } => "address",
            Self::Cname => "cname",
            Self::Srv { .. } => "srv",
            Self::Mx { .. } => "mx",
        }
    }
}

/// The parameters of an HTTPS record besides the addresses (RFC 9460, ServiceMode).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Https {
    /// SvcPriority, 1 to 65535.
    pub priority: u16,
    /// ALPN ids besides HTTP/1.1, 1 to 255 bytes each; empty for HTTP/1.1 alone.
    pub alpn: Vec<String>,
    /// The port, if it is not 443.
    pub port: Option<u16>,
}

impl Service {
    /// Whether it may answer a CNAME, next to which no other data may exist (RFC 1034 §3.6.2).
    #[must_use]
    pub fn may_be_alias(&self) -> bool {
        self.kind == ServiceKind::Cname || matches!(self.steering.all_down, AllDown::Cname(_))
    }
}

/// A region within a service.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Member {
    /// The region.
    pub region: RegionId,
    /// Its weight within a tie group.
    pub weight: Weight,
}

/// The keys of `[policy]`, overridden by a service's own.
#[derive(Clone, Debug, PartialEq)]
pub struct Steering {
    /// How regions are ordered.
    pub rank: Rank,
    /// How clients are distributed within a tie group.
    pub share: Share,
    /// The maximum number of endpoints in one answer, 1 to 64.
    pub answers: usize,
    /// How long a client may cache the answer. Its maximum is also the length of a share's time window.
    pub ttl: TtlRange,
    /// What to answer when no region may be used.
    pub all_down: AllDown,
}

/// How long an answer may be cached. If both limits are equal, this is a fixed time; otherwise it is the time until
/// anything that the answer depends on can change, within these limits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TtlRange {
    /// The maximum.
    pub max: Ttl,
    /// The minimum; at most [`TtlRange::max`].
    pub min: Ttl,
}

impl TtlRange {
    /// Whether the TTL is computed, not fixed.
    #[must_use]
    pub fn is_computed(self) -> bool {
        self.min < self.max
    }

    /// The TTL of an answer that cannot change before `left` is over, in whole seconds.
    #[must_use]
    pub fn within(self, left: Duration) -> Ttl {
        let seconds = u32::try_from(left.as_secs()).unwrap_or(u32::MAX);
        Ttl(seconds).clamp(self.min, self.max)
    }
}

impl From<Ttl> for TtlRange {
    /// A fixed TTL.
    fn from(ttl: Ttl) -> Self {
        Self { max: ttl, min: ttl }
    }
}

/// How regions are ordered, with parameters. Regions tie if their distance or time exceeds that of the best by no more
/// than the tolerance; with a tolerance of zero, only equal ones tie.
#[derive(Clone, Debug, PartialEq)]
pub enum Rank {
    /// The order of `regions`.
    Priority,
    /// Great-circle distance, with a tolerance.
    Distance(Km),
    /// Round-trip time, from the latency table or else estimated from the distance, with a tolerance.
    Latency(Millis),
    /// The `geo` table, most specific key first.
    Geo(Vec<GeoEntry>),
    /// No order: all regions are one tie group.
    None,
}

impl Rank {
    /// The rank without its parameters.
    #[must_use]
    pub fn kind(&self) -> RankKind {
        match self {
            Self::Priority => RankKind::Priority,
            Self::Distance(_) => RankKind::Distance,
            Self::Latency(_) => RankKind::Latency,
            Self::Geo(_) => RankKind::Geo,
            Self::None => RankKind::None,
        }
    }
}

/// A [`Rank`] without its parameters.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[allow(missing_docs, reason = "described at Rank")]
pub enum RankKind {
    Priority,
    Distance,
    Latency,
    Geo,
    None,
}

impl RankKind {
    /// Every kind.
    pub const ALL: [Self; 5] = [Self::Priority, Self::Distance, Self::Latency, Self::Geo, Self::None];

    /// The rank as the config and the API write it.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Priority => "priority",
            Self::Distance => "distance",
            Self::Latency => "latency",
            Self::Geo => "geo",
            Self::None => "none",
        }
    }
}

/// Kilometres, finite and not negative.
#[derive(Clone, Copy, Debug, PartialEq, PartialOrd)]
pub struct Km(pub f64);

/// Milliseconds, finite and not negative.
#[derive(Clone, Copy, Debug, PartialEq, PartialOrd)]
pub struct Millis(pub f64);

/// How clients are distributed among the regions of a tie group.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Share {
    /// By weight, with a new draw in each time window: shares follow the weights over clients and over time.
    Weighted,
    /// By weight, sticky: like `Weighted`, without the window.
    Hash,
    /// By weight, with a new draw for each query.
    Random,
}

impl Share {
    /// Every kind.
    pub const ALL: [Self; 3] = [Self::Weighted, Self::Hash, Self::Random];

    /// The share as the config writes it.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Weighted => "weighted",
            Self::Hash => "hash",
            Self::Random => "random",
        }
    }
}

/// What to answer when no region may be used.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum AllDown {
    /// The most promising regions: clients may still reach something.
    All,
    /// The regions that served last, provided that they served within this time.
    LastGood(Duration),
    /// These addresses.
    Fallback(Vec<IpAddr>),
    /// A CNAME to this name.
    Cname(Name),
    /// SERVFAIL: resolvers may serve stale data (RFC 8767).
    Servfail,
}

/// One entry of a `geo` table.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct GeoEntry {
    /// The clients that it applies to.
    pub place: PlaceKey,
    /// Groups in order of preference; the regions of one group tie.
    pub groups: Vec<Vec<RegionId>>,
}

/// A restriction of a region to certain clients: `fence = [{ region, only | except }]`.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Fence {
    /// The region that is fenced.
    pub region: RegionId,
    /// The clients that may be sent there.
    pub rule: FenceRule,
}

/// The clients that may be sent to a fenced region.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum FenceRule {
    /// Clients in one of these places. Clients that cannot be located are in none.
    Only(Vec<PlaceKey>),
    /// Clients in none of these places.
    Except(Vec<PlaceKey>),
}
