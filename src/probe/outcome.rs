//! How far a look came and what went wrong.

use std::fmt;
use std::io;
use std::time::Duration;

use tokio::time::Instant;

use crate::health::{Failure, Phase, Severity, Timings};

/// Longest piece of a peer's words in a reason, in characters.
const MAX_QUOTE: usize = 80;

/// Why this node could not look: out of file descriptors or local ports, no such address family, forbidden by
/// its own packet filter. It says nothing about the target, so it never becomes an observation.
#[derive(Debug)]
pub struct LocalFault(pub io::Error);

impl fmt::Display for LocalFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "this node cannot look: {}", self.0)
    }
}

impl std::error::Error for LocalFault {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        Some(&self.0)
    }
}

/// What ended a look early.
#[derive(Debug)]
pub(super) enum Trouble {
    /// The target failed.
    Target(Failure),
    /// This node did.
    Local(LocalFault),
}

impl From<Failure> for Trouble {
    fn from(failure: Failure) -> Self {
        Self::Target(failure)
    }
}

/// A failure that means nothing can be served.
pub(super) fn hard(phase: Phase, reason: impl Into<String>) -> Failure {
    Failure { severity: Severity::Hard, phase, reason: reason.into() }
}

/// A failure of something that still speaks.
pub(super) fn soft(phase: Phase, reason: impl Into<String>) -> Failure {
    Failure { severity: Severity::Soft, phase, reason: reason.into() }
}

/// `text` cut to a length fit for a reason.
pub(super) fn quote(text: &str) -> String {
    match text.char_indices().nth(MAX_QUOTE) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text.to_owned(),
    }
}

/// How far a look has come. It outlives the look, so that a timeout knows where it struck.
pub(super) struct Progress {
    pub(super) timings: Timings,
    /// What the look comes to, where only courtesy is left to do: no timeout changes it.
    pub(super) decided: Option<Result<(), Failure>>,
    phase: Phase,
    phase_began: Instant,
}

impl Progress {
    pub(super) fn start() -> Self {
        Self {
            timings: Timings::default(),
            decided: None,
            phase: Phase::Connect,
            phase_began: Instant::now(),
        }
    }

    /// The present phase succeeded.
    pub(super) fn completed(&mut self) {
        let now = Instant::now();
        let took = now - self.phase_began;
        *self.timing() = Some(took);
        self.phase_began = now;
    }

    /// The look ended in the present phase: what that took counts, too.
    pub(super) fn ended(&mut self) {
        let took = self.phase_began.elapsed();
        self.timing().get_or_insert(took);
    }

    fn timing(&mut self) -> &mut Option<Duration> {
        match self.phase {
            Phase::Connect => &mut self.timings.connect,
            Phase::Tls => &mut self.timings.tls,
            Phase::Response => &mut self.timings.first_byte,
            Phase::Body => &mut self.timings.body,
        }
    }

    /// The next phase begins where the one before ended.
    pub(super) fn enter(&mut self, phase: Phase) {
        self.phase = phase;
    }

    /// The failure of a look that `timeout` cut off here.
    pub(super) fn timed_out(&self, timeout: Duration) -> Failure {
        let reason = format!("timeout after {timeout:?} in {}", self.phase);
        match self.phase {
            Phase::Connect | Phase::Tls => hard(self.phase, reason),
            Phase::Response | Phase::Body => soft(self.phase, reason),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quotes_are_bounded_and_cut_between_characters() {
        assert_eq!(quote("short"), "short");
        assert_eq!(quote(&"é".repeat(MAX_QUOTE)), "é".repeat(MAX_QUOTE));
        assert_eq!(quote(&"é".repeat(MAX_QUOTE + 1)), format!("{}…", "é".repeat(MAX_QUOTE)));
    }
}
