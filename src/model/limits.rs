//! How much a pool asks of its backends at a time.

use std::num::NonZeroU32;
use std::time::Duration;

/// `limits` of a pool.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PoolLimits {
    /// The most requests, or connections of TCP listeners, that an address works on at a time; `None`: any number.
    pub requests: Option<NonZeroU32>,
    /// The most connections to an address, idle ones included; `None`: any number.
    pub connections: Option<NonZeroU32>,
    /// The most requests that wait until an address has room; 0: none waits.
    pub pending: u32,
    /// How long a request waits at most.
    pub wait: Duration,
}

impl PoolLimits {
    /// The most requests that an address works on at a time. Each needs a connection.
    #[must_use]
    pub fn in_flight(&self) -> u32 {
        let most = |limit: Option<NonZeroU32>| limit.map_or(u32::MAX, NonZeroU32::get);
        most(self.requests).min(most(self.connections))
    }
}
