//! Response rate limiting.

use std::net::IpAddr;
use std::time::Duration;

use ipnet::IpNet;

use super::KeyPrefix;

/// How many UDP responses of a kind the clients of one prefix get from one worker, unless they prove their address by
/// a cookie.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RateLimit {
    /// Responses about one name per second, 1 to [`MOST_PER_SECOND`](Self::MOST_PER_SECOND).
    pub responses_per_second: u32,
    /// Errors per second, in the same range.
    pub errors_per_second: u32,
    /// Responses of any kind per second, in the same range; `None`: no limit.
    pub all_per_second: Option<u32>,
    /// Each how many responses beyond the limit one is replaced by a short one instead of being dropped; 0: all are
    /// dropped.
    pub slip: u32,
    /// How long a prefix that exceeded a limit by far must be quiet, at most, until it gets responses again; at most
    /// [`LONGEST_WINDOW`](Self::LONGEST_WINDOW).
    pub window: Duration,
    /// The prefixes that share a limit.
    pub prefix: KeyPrefix,
    /// Clients that are not limited.
    pub exempt: Vec<IpNet>,
}

impl RateLimit {
    /// The highest limit, in responses per second: more than that needs no limit.
    pub const MOST_PER_SECOND: u32 = 100_000;
    /// The longest [`window`](Self::window): a client that was limited in error is not locked out for longer.
    pub const LONGEST_WINDOW: Duration = Duration::from_secs(3600);

    /// Whether a client is exempt.
    #[must_use]
    pub fn exempts(&self, client: IpAddr) -> bool {
        self.exempt.iter().any(|prefix| prefix.contains(&client))
    }
}

impl Default for RateLimit {
    fn default() -> Self {
        Self {
            responses_per_second: 20,
            errors_per_second: 20,
            all_per_second: None,
            slip: 2,
            window: Duration::from_secs(15),
            prefix: KeyPrefix::default(),
            exempt: Vec::new(),
        }
    }
}
