//! The result of looking up a host.

use std::net::IpAddr;
use std::time::Duration;

/// The addresses of one family that were found.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Found {
    /// In no particular order; empty if the host has none.
    pub addresses: Vec<IpAddr>,
    /// Why other addresses of the answer are not used; `None` if there are no others.
    pub refused: Option<String>,
    /// The lowest TTL of all records of the answer, CNAMEs included; `None` if there are none.
    pub ttl: Option<Duration>,
}

/// What was found for IPv4 and IPv6, or why the lookup failed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Lookup {
    /// The IPv4 addresses, or the reason for the failure.
    pub v4: Result<Found, String>,
    /// The IPv6 addresses, or the reason for the failure.
    pub v6: Result<Found, String>,
}

impl Lookup {
    /// The shortest time between two lookups of a host, however low its TTL, and the time to the next lookup after a
    /// failure.
    pub const MIN_PAUSE: Duration = Duration::from_secs(5);

    /// The longest time between two lookups of a host, however high its TTL.
    pub const MAX_PAUSE: Duration = Duration::from_secs(60 * 60);

    /// How long to wait before the host is looked up again.
    #[must_use]
    pub fn pause(&self) -> Duration {
        let (Ok(v4), Ok(v6)) = (&self.v4, &self.v6) else { return Self::MIN_PAUSE };
        let least = [v4.ttl, v6.ttl].into_iter().flatten().min();
        least.unwrap_or(Self::MIN_PAUSE).clamp(Self::MIN_PAUSE, Self::MAX_PAUSE)
    }
}
