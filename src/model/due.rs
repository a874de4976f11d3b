//! When something can change at the earliest.

use std::time::Duration;

use super::{Probe, Unix};

/// The earliest moment at which something can change, as far as is known: the sooner of a time that begins
/// whenever one asks, and of a moment that stands fixed.
///
/// What is steady has the first: a check that has nothing but successes needs so many failures to fall, and the
/// next look may come at once. It stays the same from look to look. What is under way has the second.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Due {
    /// Not before so long from now, whenever now is.
    pub after: Duration,
    /// Not before then.
    pub at: Unix,
}

impl Due {
    /// Never, as far as is known.
    pub const NEVER: Self = Self { after: Duration::MAX, at: Unix(Duration::MAX) };
    /// At any moment.
    pub const ANY_TIME: Self = Self { after: Duration::ZERO, at: Unix(Duration::MAX) };

    /// So long from whatever moment one asks at.
    #[must_use]
    pub fn after(after: Duration) -> Self {
        Self { after, ..Self::NEVER }
    }

    /// At a moment.
    #[must_use]
    pub fn at(at: Unix) -> Self {
        Self { at, ..Self::NEVER }
    }

    /// So long from `now` on; no longer than that either where the calendar's clock is set back.
    #[must_use]
    pub fn counted(left: Duration, now: Unix) -> Self {
        Self { after: left, at: now.after(left) }
    }

    /// When a target that has had nothing but successes can fall: its next look may come at once, and be the
    /// first of as many failures as that takes.
    #[must_use]
    pub fn while_good(probe: &Probe) -> Self {
        Self::after(probe.interval * probe.thresholds.fall.saturating_sub(1))
    }

    /// The sooner of two.
    #[must_use]
    pub fn min(self, other: Self) -> Self {
        Self { after: self.after.min(other.after), at: self.at.min(other.at) }
    }

    /// How long it is until then; zero once the moment has come, [`Duration::MAX`] if it never does.
    #[must_use]
    pub fn left(self, now: Unix) -> Duration {
        if self.at == Self::NEVER.at { self.after } else { self.after.min(self.at.since(now)) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn never_is_never_whenever_one_asks() {
        let at = |secs| Unix(Duration::from_secs(secs));
        assert_eq!(Due::NEVER.left(at(1_800_000_000)), Duration::MAX);
        assert_eq!(Due::at(at(90)).left(at(60)), Duration::from_secs(30));
        assert_eq!(Due::at(at(60)).min(Due::after(Duration::from_secs(5))).left(at(90)), Duration::ZERO);
        assert_eq!(Due::after(Duration::from_secs(5)).left(at(90)), Duration::from_secs(5));
    }
}
