//! The clocks whose readings are passed to the core.

#![allow(clippy::disallowed_methods, reason = "the one place where `now` comes from")]

use std::time::{Duration, Instant, SystemTime};

use crate::model::{Mono, Now, Unix};

/// The monotonic clock, which starts when this value is made, and the calendar.
#[derive(Clone, Copy, Debug)]
pub struct Clock {
    start: Instant,
}

/// The initial reading of the monotonic clock, so that events from before a restart have a time on it, too.
const BEFORE_START: Duration = Duration::from_secs(10 * 365 * 24 * 60 * 60);

impl Default for Clock {
    fn default() -> Self {
        Self { start: Instant::now() }
    }
}

impl Clock {
    /// Reads both clocks.
    #[must_use]
    pub fn now(&self) -> Now {
        Now { mono: self.mono(), unix: Self::unix() }
    }

    /// The monotonic time.
    #[must_use]
    pub fn mono(&self) -> Mono {
        Mono(BEFORE_START + self.start.elapsed())
    }

    /// The calendar time; 1970 if the system clock is set before it.
    #[must_use]
    pub fn unix() -> Unix {
        Unix(SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or(Duration::ZERO))
    }
}
