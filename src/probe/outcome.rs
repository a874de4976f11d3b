//! How far a probe came and what went wrong.

use std::fmt;
use std::io;
use std::time::Duration;

use tokio::time::Instant;

use crate::health::{self, Blind, Observation, ProbeResult, Severity};

/// Longest piece of a peer's words in a reason, in characters.
const MAX_QUOTE: usize = 80;

/// What one probe came to.
#[derive(Clone, Debug, PartialEq)]
pub struct Outcome {
    /// How long each phase took, as far as the probe came.
    pub timings: Timings,
    /// Why it failed; `None` is a success.
    pub failure: Option<Failure>,
}

/// Time spent in each phase, the one in which a probe failed included; `None` where the probe did not come that
/// far or the kind has no such phase.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Timings {
    /// TCP handshake, which is also the best measure of the round-trip time.
    pub connect: Option<Duration>,
    /// TLS handshake.
    pub tls: Option<Duration>,
    /// From the request sent to the head of the response.
    pub first_byte: Option<Duration>,
    /// From the head of the response to the end of its body.
    pub body: Option<Duration>,
}

/// Where in a probe something happened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Phase {
    /// TCP handshake.
    Connect,
    /// TLS handshake.
    Tls,
    /// Request and response head.
    Response,
    /// Response body and what is asserted over it.
    Body,
}

/// Why a probe failed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failure {
    /// Whether anything can be served at all.
    pub severity: Severity,
    /// Where it failed.
    pub phase: Phase,
    /// A short clause for people: "connect refused", "timeout after 2s in tls", "status 503".
    pub reason: String,
}

impl Timings {
    /// The whole probe.
    #[must_use]
    pub fn total(&self) -> Duration {
        [self.connect, self.tls, self.first_byte, self.body].into_iter().flatten().sum()
    }
}

impl From<Outcome> for Observation {
    fn from(Outcome { timings, failure }: Outcome) -> Self {
        let failure = failure.map(|Failure { severity, reason, .. }| health::Failure { severity, reason });
        Self::Probe(ProbeResult { took: timings.total(), rtt: timings.connect, failure })
    }
}

impl fmt::Display for Phase {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Connect => "connect",
            Self::Tls => "tls",
            Self::Response => "response",
            Self::Body => "body",
        })
    }
}

/// Why this node could not probe: out of file descriptors or local ports, no such address family, no route, forbidden
/// by its own packet filter. It says nothing about the target.
#[derive(Debug)]
pub struct LocalFault(pub io::Error);

impl fmt::Display for LocalFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "this node cannot probe: {}", self.0)
    }
}

impl From<LocalFault> for Blind {
    fn from(fault: LocalFault) -> Self {
        Self { reason: fault.0.to_string() }
    }
}

impl std::error::Error for LocalFault {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        Some(&self.0)
    }
}

/// What ended a probe early.
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

/// How far a probe has come. It outlives the probe, so that a timeout knows where it struck.
pub(super) struct Progress {
    pub(super) timings: Timings,
    /// The result, where only closing the connection is left: no timeout changes it.
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

    /// The probe ended in the present phase: what that took counts, too.
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

    /// The failure of a probe that `timeout` cut off here.
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
