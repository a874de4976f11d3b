//! The clocks whose readings the core is given.

#![allow(clippy::disallowed_methods, reason = "the one place where `now` comes from")]

use std::time::{Duration, Instant, SystemTime};

use crate::model::{Mono, Now, Unix};

/// The monotonic clock, which starts when this value is made, and the calendar.
#[derive(Clone, Copy, Debug)]
pub struct Clock {
    start: Instant,
}

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

    /// The time since this clock was made.
    #[must_use]
    pub fn mono(&self) -> Mono {
        Mono(self.start.elapsed())
    }

    /// The calendar time; 1970 if the system clock is set before it.
    #[must_use]
    pub fn unix() -> Unix {
        Unix(SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or(Duration::ZERO))
    }
}
