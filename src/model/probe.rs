//! How an address is probed, and how results lead to a verdict.

use std::time::Duration;

use http::uri::{Authority, PathAndQuery};
use rustls_pki_types::{ServerName, TrustAnchor};
use serde_json::Value;

use super::JsonPath;

/// A named way to probe an address: `[probe.NAME]`.
#[derive(Clone, Debug, PartialEq)]
pub struct Probe {
    /// The name in the config.
    pub name: String,
    /// The protocol, port and expected answer.
    pub kind: Kind,
    /// Whether the config sets the port. Where it does not, a backend of a pool is probed at its own: see
    /// [`Probe::at`].
    pub port_is_given: bool,
    /// Time between the starts of two probes. Jitter shortens it, never lengthens it.
    pub interval: Duration,
    /// Limit for the whole probe, from connecting to the last byte read.
    pub timeout: Duration,
    /// How results lead to a verdict.
    pub thresholds: Thresholds,
}

impl Probe {
    /// This probe for a backend that listens on `port`, which is 1 to 65535.
    #[must_use]
    pub fn at(&self, port: u16) -> Self {
        let mut probe = self.clone();
        if !probe.port_is_given {
            *probe.kind.port_mut() = port;
        }
        probe
    }
}

/// The protocol of a probe. Ports are 1 to 65535; of a [`Kind::Tcp`] without a given port, which pools alone use, it is 0.
#[derive(Clone, Debug, PartialEq)]
pub enum Kind {
    /// A completed TCP handshake.
    Tcp {
        /// The port.
        port: u16,
    },
    /// A completed TLS handshake with a valid certificate.
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
    /// An HTTP request over TLS; HTTP/2 if the server selects it by ALPN.
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

    fn port_mut(&mut self) -> &mut u16 {
        match self {
            Self::Tcp { port }
            | Self::Tls { port, .. }
            | Self::Http { port, .. }
            | Self::Https { port, .. } => port,
        }
    }

    /// The TLS settings, if the kind has any.
    #[must_use]
    pub fn tls(&self) -> Option<&TlsProbe> {
        match self {
            Self::Tls { tls, .. } | Self::Https { tls, .. } => Some(tls),
            Self::Tcp { .. } | Self::Http { .. } => None,
        }
    }
}

/// The TLS settings of a probe.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TlsProbe {
    /// The server name to send (SNI) and to verify; `None` to verify the address itself.
    pub server_name: Option<ServerName<'static>>,
    /// The certificate authorities to trust, at least one; `None` for those of the system.
    pub authorities: Option<Vec<TrustAnchor<'static>>>,
}

/// The HTTP settings of a probe.
#[derive(Clone, Debug, PartialEq)]
pub struct HttpProbe {
    /// Value of `Host` or `:authority`; `None` for the address.
    pub host: Option<Authority>,
    /// Path and query of the request (origin form).
    pub path: PathAndQuery,
    /// The expected response.
    pub expect: Expect,
}

/// The expected response. All conditions must hold.
#[derive(Clone, Debug, PartialEq)]
pub struct Expect {
    /// Status codes that count as success; at least one range.
    pub status: Vec<StatusRange>,
    /// Text that the body must contain.
    pub body: Option<String>,
    /// Assertions about the JSON document in the body.
    pub json: Vec<Assertion>,
}

/// Status codes from `first` to `last`, inclusive, within 100..=599.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StatusRange {
    /// The lowest code.
    pub first: u16,
    /// The highest code.
    pub last: u16,
}

/// An assertion about a JSON document.
#[derive(Clone, Debug, PartialEq)]
pub struct Assertion {
    /// Must select at least one value.
    pub path: JsonPath,
    /// What every selected value must equal.
    pub equals: Value,
}

/// How a series of results leads to a verdict. All counts are at least 1.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Thresholds {
    /// Counted failures until the target is down.
    pub fall: u32,
    /// Consecutive successes that reset the failure count. With 1, `fall` counts consecutive failures.
    pub clear: u32,
    /// Consecutive successes until a target that was down is up.
    pub rise: u32,
    /// How long a target that was down must succeed, from the first success on, until it is up. Runs concurrently with
    /// `rise`.
    pub hold: Duration,
    /// How failures before the first success are treated.
    pub startup: Option<Startup>,
    /// A success that takes longer counts as slow: enough of them degrade the target.
    pub slow: Option<Duration>,
}

/// Leniency towards a target that has just been added.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Startup {
    /// Failures do not count until the first success or until this long after the first probe.
    pub grace: Duration,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_probe_without_a_port_of_its_own_uses_that_of_the_backend() {
        let thresholds =
            Thresholds { fall: 3, clear: 1, rise: 2, hold: Duration::ZERO, startup: None, slow: None };
        let probe = |port_is_given| Probe {
            name: "edge".into(),
            kind: Kind::Tls { port: 443, tls: TlsProbe::default() },
            port_is_given,
            interval: Duration::from_secs(5),
            timeout: Duration::from_secs(2),
            thresholds,
        };
        assert_eq!(probe(false).at(8443).kind.port(), 8443);
        assert_eq!(probe(true).at(8443), probe(true));
    }
}
