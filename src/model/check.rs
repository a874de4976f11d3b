//! The identity of checks: what is checked, and by what.

use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

/// The identity of a check: a subject and a source of observations about it. It consists of names, so it stays the
/// same over a reload.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct CheckId {
    /// What is checked.
    pub subject: Subject,
    /// Where the observations come from.
    pub source: Source,
}

/// Something that has a state.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Subject {
    /// A region.
    Region(Arc<str>),
    /// An address of an endpoint.
    Address {
        /// The region's name.
        region: Arc<str>,
        /// The endpoint's name within it.
        endpoint: Arc<str>,
        /// The address.
        address: IpAddr,
    },
    /// An address of a backend.
    Backend {
        /// The pool's name.
        pool: Arc<str>,
        /// The backend's name within it: `ADDRESS:PORT` or `HOST:PORT`.
        backend: Arc<str>,
        /// The address.
        address: IpAddr,
    },
    /// An external address that this node should always be able to reach, as written in `suspect_self`:
    /// `tcp:ADDRESS:PORT`.
    Anchor(Arc<str>),
}

/// Where observations come from.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Source {
    /// A probe, by its name in the config.
    Probe(Arc<str>),
    /// Requests that a proxy counted.
    Traffic,
    /// What the subject, or a peer responsible for it, says about itself.
    Statement,
}

impl fmt::Display for Subject {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Region(region) => write!(f, "region/{region}"),
            Self::Address { region, endpoint, address } => {
                write!(f, "endpoint/{region}/{endpoint} {address}")
            }
            Self::Backend { pool, backend, address } => {
                write!(f, "pool/{pool}/{backend}")?;
                let is_named = backend.parse::<SocketAddr>().is_err();
                if is_named { write!(f, " {address}") } else { Ok(()) }
            }
            Self::Anchor(name) => write!(f, "anchor {name}"),
        }
    }
}

impl fmt::Display for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Probe(name) => name,
            Self::Traffic => "traffic",
            Self::Statement => "statement",
        })
    }
}

impl fmt::Display for CheckId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} by {}", self.subject, self.source)
    }
}
