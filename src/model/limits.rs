//! How much a pool asks of its backends at a time.

use std::num::NonZeroU32;
use std::time::Duration;

/// `limits` of a pool.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PoolLimits {
    /// The most requests, or connections of TCP listeners, that an address works on at a time.
    pub requests: NonZeroU32,
    /// The most requests that wait until an address has room; 0: none waits.
    pub pending: u32,
    /// How long a request waits at most.
    pub wait: Duration,
}
