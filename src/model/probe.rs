//! How an address is probed, and how many results make a verdict.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use http::uri::{Authority, PathAndQuery};
use jsonpath_rust::parser::model::JpQuery;
use jsonpath_rust::parser::parse_json_path;
use rustls_pki_types::{ServerName, TrustAnchor};
use serde_json::Value;

/// A named way to probe an address: `[probe.NAME]`.
#[derive(Clone, Debug, PartialEq)]
pub struct Probe {
    /// The name in the config.
    pub name: String,
    /// What is spoken.
    pub kind: Kind,
    /// Start to start; jitter shortens it, never lengthens it.
    pub interval: Duration,
    /// For the whole probe, from connect to the last byte read.
    pub timeout: Duration,
    /// What a row of observations means.
    pub thresholds: Thresholds,
}

/// What a probe speaks, and to which port, 1 to 65535.
#[derive(Clone, Debug, PartialEq)]
pub enum Kind {
    /// A completed TCP handshake.
    Tcp {
        /// The port.
        port: u16,
    },
    /// A completed TLS handshake with a certificate that verifies.
    Tls {
        /// The port.
        port: u16,
        /// Whom to verify.
        tls: TlsProbe,
    },
    /// An HTTP request over TCP.
    Http {
        /// The port.
        port: u16,
        /// The request and the answer to expect.
        http: HttpProbe,
    },
    /// An HTTP request over TLS; h2 if the server offers it by ALPN.
    Https {
        /// The port.
        port: u16,
        /// The request and the answer to expect.
        http: HttpProbe,
        /// Whom to verify.
        tls: TlsProbe,
    },
}

impl Kind {
    /// The port that is probed.
    #[must_use]
    pub fn port(&self) -> u16 {
        match *self {
            Self::Tcp { port }
            | Self::Tls { port, .. }
            | Self::Http { port, .. }
            | Self::Https { port, .. } => port,
        }
    }

    /// The TLS part, if the kind has one.
    #[must_use]
    pub fn tls(&self) -> Option<&TlsProbe> {
        match self {
            Self::Tls { tls, .. } | Self::Https { tls, .. } => Some(tls),
            Self::Tcp { .. } | Self::Http { .. } => None,
        }
    }
}

/// The TLS part of a probe.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TlsProbe {
    /// Server name to ask for (SNI) and verify; without it the address itself is verified.
    pub server_name: Option<ServerName<'static>>,
    /// The authorities to trust, at least one; `None`: the system's.
    pub authorities: Option<Vec<TrustAnchor<'static>>>,
}

/// The HTTP part of a probe.
#[derive(Clone, Debug, PartialEq)]
pub struct HttpProbe {
    /// `Host` or `:authority`; without it the address.
    pub host: Option<Authority>,
    /// What is requested, in origin form.
    pub path: PathAndQuery,
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
    /// Must select at least one value.
    pub path: JsonPath,
    /// What every selected value must equal.
    pub equals: Value,
}

/// A JSONPath (RFC 9535) of at most [`JsonPath::MAX_FILTERS`] filters.
#[derive(Clone, Debug, PartialEq)]
pub struct JsonPath {
    text: String,
    query: JpQuery,
}

/// Why a text is not a [`JsonPath`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum JsonPathError {
    /// RFC 9535 does not allow it.
    Syntax,
    /// It has more than [`JsonPath::MAX_FILTERS`] filters.
    TooManyFilters,
}

impl JsonPath {
    /// Filters in one path: nested ones are evaluated again for every element, so time grows exponentially with them.
    pub const MAX_FILTERS: usize = 4;

    /// The path compiled.
    #[must_use]
    pub fn query(&self) -> &JpQuery {
        &self.query
    }
}

impl FromStr for JsonPath {
    type Err = JsonPathError;

    fn from_str(text: &str) -> Result<Self, JsonPathError> {
        // Every `?` may start a filter; within a quoted name it is counted, too.
        if text.matches('?').count() > Self::MAX_FILTERS {
            return Err(JsonPathError::TooManyFilters);
        }
        let query = parse_json_path(text).map_err(|_| JsonPathError::Syntax)?;
        Ok(Self { text: text.to_owned(), query })
    }
}

impl fmt::Display for JsonPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
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
    /// Failures do not count until the first success or until this long after the first probe.
    pub grace: Duration,
}
