//! What is reported about a target, and the states that follow from it.

use std::fmt;
use std::time::Duration;

/// One report about a target.
#[derive(Clone, Debug, PartialEq)]
pub enum Observation {
    /// A probe ran to its end.
    Probe(ProbeResult),
    /// Requests that were served, or not, since the last window: a proxy counts them.
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
    /// Whether anything can be served at all.
    pub severity: Severity,
    /// A short clause for people: "connect refused", "timeout after 2s in tls", "status 503".
    pub reason: String,
}

/// Counts of requests.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Window {
    /// Requests that succeeded.
    pub succeeded: u32,
    /// Requests that failed.
    pub failed: u32,
    /// How the latest of the failed ones failed; used only if [`Window::failed`] is not 0.
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

    /// Whether no request was made: then the window says nothing.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.succeeded == 0 && self.failed == 0
    }
}

/// A target's own word on itself. It takes effect at once: thresholds guard against noise, and this is none.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Statement {
    /// It takes traffic.
    Serving,
    /// It takes no traffic, and says why.
    NotServing(String),
}

/// Why this node could not make a check: no route, no such address family, out of file descriptors or ports. It says
/// nothing about the target.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Blind {
    /// A short clause for people.
    pub reason: String,
}

/// How bad a failure is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Severity {
    /// It speaks but is not well: bad status, bad document, slow answer. Safety rules may hold it in.
    Soft,
    /// Nothing can be served: refused, unreachable, timeout at connect, TLS failure. Always withdrawn.
    Hard,
}

/// What is known of a target. Ordered from best to worst.
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
    /// The worst state there is.
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
    fn a_window_fails_where_half_of_its_requests_did() {
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
