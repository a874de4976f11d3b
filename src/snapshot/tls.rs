//! The TLS of the balancer, prepared. The core only passes it on with the config that it belongs to, so that a
//! connection sees one state of both; it does look at dates.

use std::sync::Arc;
use std::time::Duration;

use rustls::pki_types::{CertificateDer, ServerName, TrustAnchor};
use rustls::{ClientConfig, ServerConfig};

use crate::model::{PoolId, Unix};

/// What handshakes need.
#[derive(Clone, Debug, Default)]
pub struct Tls {
    /// By the name of the listener; only those with TLS.
    pub listeners: Box<[(String, Arc<ServerConfig>)]>,
    /// By [`PoolId`]; `None` without TLS. May be shorter than the pools.
    pub pools: Box<[Option<Arc<PoolTls>>]>,
    /// Every certificate that clients or backends are shown, in the order of the config.
    pub certificates: Box<[Certificate]>,
}

/// How the backends of a pool are asked.
#[derive(Debug)]
pub struct PoolTls {
    /// The client's side of handshakes, without sessions to resume.
    pub client: Arc<ClientConfig>,
    /// What decides whom backends are taken for; connections outlive a reload only if it is the same.
    pub identity: PoolIdentity,
}

/// Whom backends must be, and whom they see.
#[derive(Clone, Debug, PartialEq)]
pub struct PoolIdentity {
    /// The name to send and verify; `None`: each backend's own.
    pub server_name: Option<ServerName<'static>>,
    /// The authorities to trust; `None`: those of the system.
    pub authorities: Option<Vec<TrustAnchor<'static>>>,
    /// What backends are shown.
    pub chain: Vec<CertificateDer<'static>>,
}

/// A certificate, as far as operators must know of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Certificate {
    /// Its file.
    pub file: String,
    /// When it begins to be valid.
    pub not_before: Unix,
    /// When it expires.
    pub not_after: Unix,
}

/// An alarm is raised when a certificate expires within this time: long enough to notice that it is not being renewed.
const EXPIRES_SOON: Duration = Duration::from_secs(14 * 86_400);

/// The same as a share of the whole time that a certificate is valid, for those that live for days.
const LAST_PART: u32 = 4;

impl Tls {
    /// What the listener with this name needs.
    #[must_use]
    pub fn listener(&self, name: &str) -> Option<&Arc<ServerConfig>> {
        self.listeners.iter().find(|(it, _)| it == name).map(|(_, config)| config)
    }

    /// How the backends of a pool are asked; `None` without TLS.
    #[must_use]
    pub fn pool(&self, id: PoolId) -> Option<&Arc<PoolTls>> {
        self.pools.get(usize::from(id.0))?.as_ref()
    }

    /// A sentence about each certificate that is not valid or will not be for long.
    pub fn alarms(&self, now: Unix) -> impl Iterator<Item = String> {
        self.certificates.iter().filter_map(move |it| it.alarm(now))
    }
}

impl Certificate {
    /// What is wrong with its dates.
    #[must_use]
    pub fn alarm(&self, now: Unix) -> Option<String> {
        let lifetime = self.not_after.since(self.not_before);
        if now < self.not_before {
            return Some(format!(
                "the certificate {} is not valid before {}",
                self.file,
                date(self.not_before)
            ));
        }
        let until = date(self.not_after);
        if now >= self.not_after {
            return Some(format!("the certificate {} expired at {until}", self.file));
        }
        let is_soon = self.not_after.since(now) < EXPIRES_SOON.min(lifetime / LAST_PART);
        is_soon.then(|| format!("the certificate {} expires at {until}", self.file))
    }
}

/// `never` beyond the year 9999.
fn date(at: Unix) -> String {
    let date = i64::try_from(at.0.as_secs()).ok().and_then(|it| jiff::Timestamp::from_second(it).ok());
    date.map_or_else(|| "never".into(), |date| date.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    const DAY: u64 = 86_400;

    #[test]
    fn alarms_come_in_time_and_not_for_certificates_that_are_renewed_every_few_days() {
        for (from, to, now, expected) in [
            (10, 100, 9, Some("the certificate a.pem is not valid before 1970-01-11T00:00:00Z")),
            (10, 100, 10, None),
            (10, 100, 86, None),
            (10, 100, 87, Some("the certificate a.pem expires at 1970-04-11T00:00:00Z")),
            (10, 100, 100, Some("the certificate a.pem expired at 1970-04-11T00:00:00Z")),
            (10, 18, 15, None),
            (10, 18, 17, Some("the certificate a.pem expires at 1970-01-19T00:00:00Z")),
        ] {
            let day = |day| Unix(Duration::from_secs(day * DAY));
            let it = Certificate { file: "a.pem".into(), not_before: day(from), not_after: day(to) };
            assert_eq!(it.alarm(day(now)).as_deref(), expected, "{from} to {to} at {now}");
        }
    }
}
