//! Two clocks, distinguished by type: a monotonic clock and the wall clock.

use std::time::Duration;

/// Monotonic time since an arbitrary start. Health verdicts use it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Mono(pub Duration);

impl Mono {
    /// How long ago `earlier` was; zero if it lies in the future.
    #[must_use]
    pub fn since(self, earlier: Self) -> Duration {
        self.0.saturating_sub(earlier.0)
    }

    /// This time plus `by`.
    #[must_use]
    pub fn after(self, by: Duration) -> Self {
        Self(self.0.saturating_add(by))
    }
}

/// Time since 1970-01-01T00:00:00Z without leap seconds. Windows of a share and the expiry of overrides
/// are in it, because other nodes must agree and a restart must not forget.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Unix(pub Duration);

impl Unix {
    /// How long ago `earlier` was; zero if it lies in the future.
    #[must_use]
    pub fn since(self, earlier: Self) -> Duration {
        self.0.saturating_sub(earlier.0)
    }

    /// This time plus `by`.
    #[must_use]
    pub fn after(self, by: Duration) -> Self {
        Self(self.0.saturating_add(by))
    }
}

impl Now {
    /// How far the wall clock is ahead of the monotonic one, in milliseconds: steady unless somebody sets it.
    #[must_use]
    pub fn ahead_millis(self) -> i128 {
        self.unix.0.as_millis().cast_signed() - self.mono.0.as_millis().cast_signed()
    }
}

/// Both clocks, read at one moment.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Now {
    /// The monotonic clock.
    pub mono: Mono,
    /// The calendar's clock.
    pub unix: Unix,
}
