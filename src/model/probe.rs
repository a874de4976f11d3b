//! How an address is looked at, and how many looks make a verdict.

use std::time::Duration;

/// A named way to look at an address: `[probe.NAME]`.
#[derive(Clone, Debug, PartialEq)]
pub struct Probe {
    /// The name in the config.
    pub name: String,
    /// What is spoken.
    pub kind: Kind,
    /// The port, 1 to 65535; a kind's default is filled in by the config.
    pub port: u16,
    /// Start to start; jitter shortens it, never lengthens it.
    pub interval: Duration,
    /// For the whole probe, from connect to the last byte read.
    pub timeout: Duration,
    /// What a row of observations means.
    pub thresholds: Thresholds,
}

/// What a probe speaks.
#[derive(Clone, Debug, PartialEq)]
pub enum Kind {
    /// A completed TCP handshake.
    Tcp,
    /// A completed TLS handshake with a certificate that verifies.
    Tls(TlsProbe),
    /// An HTTP request over TCP.
    Http(HttpProbe),
    /// An HTTP request over TLS; h2 if the server offers it by ALPN.
    Https(HttpProbe, TlsProbe),
}

/// The TLS part of a probe.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TlsProbe {
    /// Server name to ask for and verify (SNI); without it the address itself is verified.
    pub server_name: Option<String>,
    /// PEM text of the authorities to trust instead of the system's.
    pub ca_pem: Option<String>,
}

/// The HTTP part of a probe.
#[derive(Clone, Debug, PartialEq)]
pub struct HttpProbe {
    /// `Host` or `:authority`; without it the address.
    pub host: Option<String>,
    /// Path and query, starting with `/`.
    pub path: String,
    /// What a good answer looks like.
    pub expect: Expect,
}

/// What a good answer looks like. All parts must hold.
#[derive(Clone, Debug, PartialEq)]
pub struct Expect {
    /// Statuses that count as success; at least one.
    pub status: Vec<StatusRange>,
    /// Text that the body must contain.
    pub body: Option<String>,
    /// What the JSON document in the body must say.
    pub json: Vec<Assertion>,
}

/// Statuses from `first` to `last`, both included, within 100..=599.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StatusRange {
    /// The lowest that counts.
    pub first: u16,
    /// The highest that counts.
    pub last: u16,
}

/// One statement over a JSON document.
#[derive(Clone, Debug, PartialEq)]
pub struct Assertion {
    /// A JSONPath (RFC 9535) of at most [`MAX_FILTERS`](Self::MAX_FILTERS) filters that must select at least one
    /// value.
    pub path: String,
    /// The JSON text that every selected value must equal.
    pub equals: String,
}

impl Assertion {
    /// Filters in one path: nested ones are worked out anew for every element, so time grows with their power.
    pub const MAX_FILTERS: usize = 4;

    /// How many filters a path may have at most: every `?` may be one.
    #[must_use]
    pub fn filters(path: &str) -> usize {
        path.matches('?').count()
    }
}

/// What a row of observations means. All counts are at least 1.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Thresholds {
    /// Counted failures before down.
    pub fall: u32,
    /// Successes in a row that wipe counted failures; 1 makes `fall` mean consecutive.
    pub clear: u32,
    /// Successes in a row before up.
    pub rise: u32,
    /// A target that was down must stay good this long, counted from the first success, overlapping `rise`.
    pub hold: Duration,
    /// How failures are treated before the first success.
    pub startup: Option<Startup>,
    /// A success that took longer is degraded.
    pub slow: Option<Duration>,
}

/// Patience with a target that has just appeared.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Startup {
    /// Failures do not count until the first success or until this long after the first look.
    pub grace: Duration,
}
