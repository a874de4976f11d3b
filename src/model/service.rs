//! A name that is answered by choosing, and the rules of the choice.

use std::net::IpAddr;
use std::time::Duration;

use super::{Name, PlaceKey, RegionId, Ttl, Weight};

/// `[[service]]`: a dynamic name.
#[derive(Clone, Debug, PartialEq)]
pub struct Service {
    /// Where it is answered; may be a zone's apex or a wildcard.
    pub name: Name,
    /// What is answered there.
    pub kind: ServiceKind,
    /// The regions in priority order; at least one, each once.
    pub members: Vec<Member>,
    /// How to choose among them.
    pub steering: Steering,
    /// Where a region may be used.
    pub fences: Vec<Fence>,
}

/// What a service answers: the addresses of endpoints, or their names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ServiceKind {
    /// A and AAAA.
    Address {
        /// Answers HTTPS, too.
        https: Option<Https>,
    },
    /// A CNAME to one endpoint, whatever is asked for.
    Cname,
    /// SRV (RFC 2782), one record for each endpoint; weights are those of the endpoints.
    Srv {
        /// The lower the sooner; of every record.
        priority: u16,
        /// Of every endpoint, 1 to 65535.
        port: u16,
    },
    /// MX (RFC 1035 §3.3.9), one record for each endpoint.
    Mx {
        /// The lower the sooner; of every record.
        preference: u16,
    },
}

impl ServiceKind {
    /// A and AAAA alone.
    pub const ADDRESS: Self = Self::Address { https: None };

    /// One of each type, with the least that its keys can say.
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

/// What an HTTPS record says beside the addresses (RFC 9460, ServiceMode).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Https {
    /// SvcPriority, 1 to 65535.
    pub priority: u16,
    /// Protocols beside HTTP/1.1, 1 to 255 bytes each; none: HTTP/1.1 alone.
    pub alpn: Vec<String>,
    /// Another port than 443.
    pub port: Option<u16>,
}

impl Service {
    /// Whether a CNAME may be answered at its name, beside which nothing else can stand (RFC 1034 §3.6.2).
    #[must_use]
    pub fn may_be_alias(&self) -> bool {
        self.kind == ServiceKind::Cname || matches!(self.steering.all_down, AllDown::Cname(_))
    }
}

/// A region within a service.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Member {
    /// Which region.
    pub region: RegionId,
    /// Its weight within a tie group.
    pub weight: Weight,
}

/// The keys of `[policy]` after a service's own have been laid over them.
#[derive(Clone, Debug, PartialEq)]
pub struct Steering {
    /// What puts one region before another.
    pub rank: Rank,
    /// How a tie group is shared out.
    pub share: Share,
    /// Endpoints in one answer, 1 to 64.
    pub answers: usize,
    /// Time a client may keep the answer; its maximum is the length of a share's window.
    pub ttl: TtlRange,
    /// What to answer when no region may be used.
    pub all_down: AllDown,
}

/// How long an answer may be kept: fixed where both are the same, else the least time to the next possible
/// change of anything it was chosen by, within these limits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TtlRange {
    /// The most.
    pub max: Ttl,
    /// The least; at most [`TtlRange::max`].
    pub min: Ttl,
}

impl TtlRange {
    /// Whether the time depends on what may change.
    #[must_use]
    pub fn is_computed(self) -> bool {
        self.min < self.max
    }

    /// The TTL of an answer that nothing can change before `left` is over, in whole seconds.
    #[must_use]
    pub fn within(self, left: Duration) -> Ttl {
        let seconds = u32::try_from(left.as_secs()).unwrap_or(u32::MAX);
        Ttl(seconds).clamp(self.min, self.max)
    }
}

impl From<Ttl> for TtlRange {
    /// Fixed.
    fn from(ttl: Ttl) -> Self {
        Self { max: ttl, min: ttl }
    }
}

/// What puts one region before another, and what that depends on. Regions whose distance or time differs from that of
/// the best by no more than the tolerance tie; at zero only equals do.
#[derive(Clone, Debug, PartialEq)]
pub enum Rank {
    /// The order of `regions`.
    Priority,
    /// Great-circle distance, with a tolerance.
    Distance(Km),
    /// Round-trip time, measured or else estimated from the distance, with a tolerance.
    Latency(Millis),
    /// The `geo` table, most specific key first.
    Geo(Vec<GeoEntry>),
    /// Nothing: all regions are one group.
    None,
}

impl Rank {
    /// The rank without what it depends on.
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

/// A [`Rank`] without what it depends on.
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

/// How a tie group is shared out among clients.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Share {
    /// By weight, anew in each time window: weights hold over clients and over time.
    Weighted,
    /// By weight, sticky: as `Weighted` without the window.
    Hash,
    /// By weight, a fresh draw for each query.
    Random,
}

impl Share {
    /// Every way to share.
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
    /// As if every region were up: clients may still reach something.
    All,
    /// What was up last, as long as it was up no longer ago than this.
    LastGood(Duration),
    /// These addresses.
    Fallback(Vec<IpAddr>),
    /// A CNAME to this name.
    Cname(Name),
    /// SERVFAIL: resolvers may use what they still have (RFC 8767).
    Servfail,
}

/// One line of a `geo` table.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct GeoEntry {
    /// Who it is for.
    pub place: PlaceKey,
    /// Groups in order of preference; the regions of one group tie.
    pub groups: Vec<Vec<RegionId>>,
}

/// Where a region may be used: `fence = [{ region, only | except }]`.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Fence {
    /// The region that is fenced.
    pub region: RegionId,
    /// Who may be sent there.
    pub rule: FenceRule,
}

/// Who may be sent to a fenced region.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum FenceRule {
    /// Clients in one of these places; a client that cannot be located is not.
    Only(Vec<PlaceKey>),
    /// Clients in none of these places.
    Except(Vec<PlaceKey>),
}
