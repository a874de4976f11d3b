//! How far a probe got and what went wrong.

use std::fmt;
use std::io;
use std::time::Duration;

use tokio::time::Instant;

use crate::health::{self, CannotProbe, Observation, ProbeResult, Severity};

/// The longest quote from a peer in a reason, in characters.
const MAX_QUOTE: usize = 80;

/// The result of one probe.
#[derive(Clone, Debug, PartialEq)]
pub struct Outcome {
    /// How long each phase took, up to the last one reached.
    pub timings: Timings,
    /// Why it failed; `None` if it succeeded.
    pub failure: Option<Failure>,
}

/// Time spent in each phase, including the one in which a probe failed; `None` for phases that the probe did not
/// reach or its kind does not have.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Timings {
    /// TCP handshake; also the best measure of the round-trip time.
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
    /// Response body and the assertions about it.
    Body,
}

/// Why a probe failed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failure {
    /// Hard if nothing can be served at all.
    pub severity: Severity,
    /// Where it failed.
    pub phase: Phase,
    /// A short readable clause: "connection refused", "timeout after 2s in tls", "status 503".
    pub reason: String,
}

impl Timings {
    /// The duration of the whole probe.
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
/// by its own packet filter. It is no evidence about the target.
#[derive(Debug)]
pub struct LocalFault(pub io::Error);

impl fmt::Display for LocalFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "this node cannot probe: {}", self.0)
    }
}

impl From<LocalFault> for CannotProbe {
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
    /// This node failed.
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

/// A failure of a target that still responds.
pub(super) fn soft(phase: Phase, reason: impl Into<String>) -> Failure {
    Failure { severity: Severity::Soft, phase, reason: reason.into() }
}

/// `text` cut to the length allowed in a reason.
pub(super) fn quote(text: &str) -> String {
    match text.char_indices().nth(MAX_QUOTE) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text.to_owned(),
    }
}

/// How far a probe has got. It outlives the probe, so that a timeout knows which phase it interrupted.
pub(super) struct Progress {
    pub(super) timings: Timings,
    /// The result, once only closing the connection is left: a timeout no longer changes it.
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

    /// Records that the current phase succeeded.
    pub(super) fn completed(&mut self) {
        let now = Instant::now();
        let took = now - self.phase_began;
        *self.timing() = Some(took);
        self.phase_began = now;
    }

    /// Records the time of the current phase, in which the probe ended.
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

    /// Starts the next phase, at the moment when the previous one ended.
    pub(super) fn enter(&mut self, phase: Phase) {
        self.phase = phase;
    }

    /// The failure of a probe that timed out in the current phase.
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
