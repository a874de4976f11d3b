//! The clocks that the core is given.

use std::time::{Duration, Instant, SystemTime};

use crate::model::{Mono, Now, Unix};

/// Both clocks. The monotonic one starts when it is made.
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
    /// Both, now.
    #[must_use]
    pub fn now(&self) -> Now {
        Now { mono: self.mono(), unix: Self::unix() }
    }

    /// Since this clock was made.
    #[must_use]
    pub fn mono(&self) -> Mono {
        Mono(self.start.elapsed())
    }

    /// The calendar's time; 1970 for clocks set before it.
    #[must_use]
    pub fn unix() -> Unix {
        Unix(SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or(Duration::ZERO))
    }
}
