//! The earliest time at which something can change.

use std::time::Duration;

use super::{Probe, Unix};

/// The earliest time at which something can change, as far as is known: the earlier of `after`, relative to when it
/// is asked, and `at`, absolute.
///
/// Steady states use `after`: a check that only succeeds needs `fall` failures to go down, and the next probe may come
/// immediately, whenever it is asked. Changes in progress use `at`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Due {
    /// Not earlier than this long after it is asked.
    pub after: Duration,
    /// Not earlier than this time.
    pub at: Unix,
}

impl Due {
    /// Never, as far as is known.
    pub const NEVER: Self = Self { after: Duration::MAX, at: Unix(Duration::MAX) };
    /// At any time, including now.
    pub const ANY_TIME: Self = Self { after: Duration::ZERO, at: Unix(Duration::MAX) };

    /// This long after it is asked.
    #[must_use]
    pub fn after(after: Duration) -> Self {
        Self { after, ..Self::NEVER }
    }

    /// At a fixed time.
    #[must_use]
    pub fn at(at: Unix) -> Self {
        Self { at, ..Self::NEVER }
    }

    /// After `left` from `now`. If the wall clock is set back, still no longer than `left` from when it is asked.
    #[must_use]
    pub fn within(left: Duration, now: Unix) -> Self {
        Self { after: left, at: now.after(left) }
    }

    /// When a target whose results are all alike can change: the next probe may come immediately, and be the first of
    /// `fall` others.
    #[must_use]
    pub fn while_steady(probe: &Probe) -> Self {
        Self::after(probe.interval * probe.thresholds.fall.saturating_sub(1))
    }

    /// The earlier of the two.
    #[must_use]
    pub fn min(self, other: Self) -> Self {
        Self { after: self.after.min(other.after), at: self.at.min(other.at) }
    }

    /// The time left at `now`; zero if it is over, [`Duration::MAX`] for [`Due::NEVER`].
    #[must_use]
    pub fn left(self, now: Unix) -> Duration {
        if self.at == Self::NEVER.at { self.after } else { self.after.min(self.at.since(now)) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn time_left_is_that_of_the_earlier_part() {
        let at = |secs| Unix(Duration::from_secs(secs));
        assert_eq!(Due::NEVER.left(at(1_800_000_000)), Duration::MAX);
        assert_eq!(Due::at(at(90)).left(at(60)), Duration::from_secs(30));
        assert_eq!(Due::at(at(60)).min(Due::after(Duration::from_secs(5))).left(at(90)), Duration::ZERO);
        assert_eq!(Due::after(Duration::from_secs(5)).left(at(90)), Duration::from_secs(5));
    }
}
