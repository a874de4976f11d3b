//! What is reported about a target, and the states that follow from it.

use std::fmt;
use std::time::Duration;

/// One report about a target.
#[derive(Clone, Debug, PartialEq)]
pub enum Observation {
    /// A probe ran to its end.
    Probe(ProbeResult),
    /// A proxy's counts of successful and failed requests since the last window.
    Window(Window),
    /// What the target, or a peer responsible for it, says about itself.
    Statement(Statement),
}

impl Observation {
    /// How bad it is, if it is a failure.
    #[must_use]
    pub fn severity(&self) -> Option<Severity> {
        match self {
            Self::Probe(result) => result.failure.as_ref().map(|failure| failure.severity),
            Self::Window(window) => window.failure().map(|failure| failure.severity),
            Self::Statement(Statement::NotServing(_)) => Some(Severity::Soft),
            Self::Statement(Statement::Serving) => None,
        }
    }
}

/// What one probe found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ProbeResult {
    /// How long the probe took from its start to success or failure.
    pub took: Duration,
    /// The round-trip time, where the kind of probe measures one (a TCP handshake).
    pub rtt: Option<Duration>,
    /// Why it failed; `None` is a success.
    pub failure: Option<Failure>,
}

/// Why a probe failed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failure {
    /// Whether the target may still serve anything.
    pub severity: Severity,
    /// A short human-readable clause, such as "connection refused", "timeout after 2s in tls" or "status 503".
    pub reason: String,
}

/// Counts of requests.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Window {
    /// Requests that succeeded.
    pub succeeded: u32,
    /// Requests that failed.
    pub failed: u32,
    /// The latest failure; only used if [`Window::failed`] is not 0.
    pub latest: Failure,
}

impl Window {
    /// A window with at least this share of failures counts as one failure.
    pub const FAILURE_SHARE: f64 = 0.5;

    /// The failure that the window counts as; `None` counts as a success.
    #[must_use]
    pub fn failure(&self) -> Option<&Failure> {
        let total = f64::from(self.succeeded) + f64::from(self.failed);
        let is_failure = self.failed > 0 && f64::from(self.failed) >= total * Self::FAILURE_SHARE;
        is_failure.then_some(&self.latest)
    }

    /// Whether there were no requests, so that the window carries no information.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.succeeded == 0 && self.failed == 0
    }
}

/// A target's own report about itself. It takes effect immediately: thresholds only guard against noise.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Statement {
    /// It accepts traffic.
    Serving,
    /// It does not accept traffic, for this reason.
    NotServing(String),
}

/// Why this node could not run a check: no route, no such address family, out of file descriptors or ports. This
/// reveals nothing about the target.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CannotProbe {
    /// A short human-readable clause.
    pub reason: String,
}

/// How bad a failure is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Severity {
    /// It responds, but not correctly: bad status, bad document, slow answer. Safety rules may hold it.
    Soft,
    /// Nothing can be served: refused, unreachable, timeout at connect, TLS failure. Always withdrawn.
    Hard,
}

/// The state of a target. Ordered from best to worst.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum State {
    /// It serves.
    Up,
    /// It serves, but slowly: eligible at reduced weight.
    Degraded,
    /// There is no result yet. Not down: eligible while nothing is up.
    #[default]
    Unknown,
    /// It does not serve.
    Down(Severity),
}

impl State {
    /// The worst state.
    pub const HARD_DOWN: Self = Self::Down(Severity::Hard);

    /// Up or degraded.
    #[must_use]
    pub fn serves(self) -> bool {
        matches!(self, Self::Up | Self::Degraded)
    }

    /// Down, hard or soft.
    #[must_use]
    pub fn is_down(self) -> bool {
        matches!(self, Self::Down(_))
    }

    /// How bad it is, if it is down.
    #[must_use]
    pub fn severity(self) -> Option<Severity> {
        match self {
            Self::Down(severity) => Some(severity),
            Self::Up | Self::Degraded | Self::Unknown => None,
        }
    }
}

impl fmt::Display for Severity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Soft => "soft",
            Self::Hard => "hard",
        })
    }
}

impl fmt::Display for State {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Up => "up",
            Self::Degraded => "degraded",
            Self::Unknown => "unknown",
            Self::Down(_) => "down",
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_window_fails_if_half_of_its_requests_failed() {
        let latest = Failure { severity: Severity::Soft, reason: "status 503".into() };
        for (succeeded, failed, fails) in [
            (0, 0, false),
            (5, 0, false),
            (3, 2, false),
            (2, 2, true),
            (0, 1, true),
            (u32::MAX, u32::MAX, true),
        ] {
            let window = Window { succeeded, failed, latest: latest.clone() };
            assert_eq!(window.failure().is_some(), fails, "{succeeded} succeeded, {failed} failed");
            assert_eq!(window.is_empty(), succeeded == 0 && failed == 0);
        }
    }
}
