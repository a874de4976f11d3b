//! What a probe reports and what a verdict says.

use std::fmt;
use std::time::Duration;

/// One look at a target.
#[derive(Clone, Debug, PartialEq)]
pub struct Observation {
    /// How long each phase took, as far as the probe came.
    pub timings: Timings,
    /// Why it failed; `None` is a success.
    pub failure: Option<Failure>,
}

/// Time spent in each phase, the one in which a look failed included; `None` where the probe did not come that
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

impl Timings {
    /// The whole probe.
    #[must_use]
    pub fn total(&self) -> Duration {
        [self.connect, self.tls, self.first_byte, self.body].into_iter().flatten().sum()
    }
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

/// Why a look failed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failure {
    /// Whether anything can be served at all.
    pub severity: Severity,
    /// Where it failed.
    pub phase: Phase,
    /// A short clause for people: "connect refused", "timeout after 2s in tls", "status 503".
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

/// What is held true of a target. Ordered from best to worst.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum State {
    /// It serves.
    Up,
    /// It serves, but slowly: eligible at reduced weight.
    Degraded,
    /// Nobody has looked yet. Not down: eligible while nothing is up.
    #[default]
    Unknown,
    /// It does not serve.
    Down(Severity),
}

impl State {
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
