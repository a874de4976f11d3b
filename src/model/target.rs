//! Targets of overrides, identified by names, which stay the same over a reload.

use std::fmt;
use std::str::FromStr;

use super::Name;

/// `region/eu-west`, `endpoint/eu-west/lb1`, `service/www.gslb.example.com/eu-west` or `pool/api/10.0.0.1:8080`.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Target {
    /// A region in every service.
    Region(String),
    /// One endpoint of a region.
    Endpoint {
        /// The region's name.
        region: String,
        /// The endpoint's name within it.
        endpoint: String,
    },
    /// A region in one service.
    Service {
        /// The service's name.
        service: Name,
        /// The region's name.
        region: String,
    },
    /// One backend of a pool.
    Backend {
        /// The pool's name.
        pool: String,
        /// The backend's name within it: `ADDRESS:PORT` or `HOST:PORT`.
        backend: String,
    },
}

/// Why a text is not a valid target.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TargetError(String);

impl fmt::Display for TargetError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self(text) = self;
        write!(f, "`{text}` is not a valid target: ")?;
        if let Some(kind) = likely_kind(text) {
            write!(f, "did you mean {kind}/{text}? ")?;
        }
        f.write_str(
            "Targets are region/NAME, endpoint/REGION/NAME, service/NAME/REGION and pool/NAME/ADDRESS:PORT",
        )
    }
}

impl std::error::Error for TargetError {}

/// What a target without its kind probably is: only names of services have dots as a rule.
fn likely_kind(text: &str) -> Option<&'static str> {
    match text.split('/').collect::<Vec<_>>()[..] {
        ["" | "region" | "endpoint" | "service" | "pool", ..] | [_, ""] => None,
        [_] => Some("region"),
        [_, backend] if backend.contains(':') => Some("pool"),
        [service, _] if service.contains('.') => Some("service"),
        [_, _] => Some("endpoint"),
        _ => None,
    }
}

impl FromStr for Target {
    type Err = TargetError;

    fn from_str(text: &str) -> Result<Self, TargetError> {
        let error = || TargetError(text.into());
        let parts: Vec<&str> = text.split('/').collect();
        if parts.iter().any(|part| part.is_empty()) {
            return Err(error());
        }
        match parts[..] {
            ["region", region] => Ok(Self::Region(region.into())),
            ["endpoint", region, endpoint] => {
                Ok(Self::Endpoint { region: region.into(), endpoint: endpoint.into() })
            }
            ["service", service, region] => {
                Ok(Self::Service { service: service.parse().map_err(|_| error())?, region: region.into() })
            }
            ["pool", pool, backend] => Ok(Self::Backend { pool: pool.into(), backend: backend.into() }),
            _ => Err(error()),
        }
    }
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Region(region) => write!(f, "region/{region}"),
            Self::Endpoint { region, endpoint } => write!(f, "endpoint/{region}/{endpoint}"),
            Self::Service { service, region } => {
                write!(f, "service/{}/{region}", service.to_string().trim_end_matches('.'))
            }
            Self::Backend { pool, backend } => write!(f, "pool/{pool}/{backend}"),
        }
    }
}
