//! When a pool ejects an address whose requests fail.

use std::time::Duration;

use super::Fraction;

/// `passive` of a pool: an address whose requests fail is ejected for a while, whatever its probes find.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Passive {
    /// The consecutive failures after which an address is ejected; at least 1.
    pub failures: u32,
    /// What counts as a failure.
    pub on: PassiveOn,
    /// The share of failures above which an address is ejected, although some requests succeed.
    pub errors: Option<ErrorRate>,
    /// The time of the first ejection. Each further one takes twice as long.
    pub eject: Duration,
    /// The longest time of an ejection; at least `eject`.
    pub longest: Duration,
    /// The largest share of a pool's addresses that are ejected at a time; of two or more, one always may be, and one
    /// always stays.
    pub max_ejected: Fraction,
}

/// The failures that count.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct PassiveOn {
    /// No connection could be made.
    pub connect: bool,
    /// The connection ended before the head of the response.
    pub reset: bool,
    /// The response did not begin in time.
    pub timeout: bool,
    /// The response has a status from 500 to 599, except 501 and 505, which are about the request.
    pub server_error: bool,
}

/// A share of failures.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct ErrorRate {
    /// Failures as a share of the requests; above 0.
    pub share: Fraction,
    /// The fewest requests that it is computed from; at least 1.
    pub requests: u32,
}

impl Passive {
    /// Whether so many failures within so many requests are too many.
    #[must_use]
    pub fn is_error_rate(&self, failures: u32, requests: u32) -> bool {
        let is_over = |rate: ErrorRate| {
            requests >= rate.requests && f64::from(failures) >= rate.share.get() * f64::from(requests)
        };
        failures > 0 && self.errors.is_some_and(is_over)
    }

    /// How many of this many addresses may be ejected at a time.
    #[must_use]
    pub fn most_ejected(&self, of: usize) -> usize {
        // Adding 1e-9 prevents rounding errors, such as 60% of 5 becoming 2.
        let share = (self.max_ejected.get() * of as f64 + 1e-9).floor() as usize;
        share.max(1).min(of.saturating_sub(1))
    }

    /// The time of the ejection of an address that `before` ejections preceded.
    #[must_use]
    pub fn time(&self, before: u32) -> Duration {
        let factor = 2_u32.checked_pow(before).unwrap_or(u32::MAX);
        self.eject.saturating_mul(factor).min(self.longest)
    }
}
