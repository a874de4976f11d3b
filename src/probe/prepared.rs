//! A probe definition made ready to run many times.

use std::fmt;
use std::sync::Arc;

use rustls::pki_types::ServerName;
use tokio_rustls::TlsConnector;

use super::http::Ask;
use super::tls::Client;
use crate::model::{Kind, Probe, TlsProbe};
use crate::net::tls::Trust;

/// A probe with everything built that its runs share.
#[derive(Debug)]
pub struct Prepared {
    /// What it was made from.
    pub definition: Arc<Probe>,
    pub(super) speech: Speech,
}

/// What is spoken, ready to speak.
#[derive(Debug)]
pub(super) enum Speech {
    Tcp,
    Tls(Client),
    Http(Ask),
    Https(Ask, Client),
}

/// Why a probe cannot be run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PrepareError {
    /// The probe's name.
    pub probe: String,
    /// What is wrong with it, as a clause.
    pub reason: String,
}

impl fmt::Display for PrepareError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "probe {}: {}", self.probe, self.reason)
    }
}

impl std::error::Error for PrepareError {}

impl Prepared {
    /// Reads names, paths and certificates of the definition once for all runs.
    ///
    /// # Errors
    /// If a host, path, JSONPath, expected value, server name or certificate in it cannot be read, or it
    /// relies on the system's authorities and there are none.
    pub fn new(definition: Arc<Probe>, trust: &mut Trust) -> Result<Self, PrepareError> {
        let speech = match &definition.kind {
            Kind::Tcp => Ok(Speech::Tcp),
            Kind::Tls(tls) => client(tls, &[], trust).map(Speech::Tls),
            Kind::Http(http) => Ask::new(http, "http", definition.interval).map(Speech::Http),
            Kind::Https(http, tls) => Ask::new(http, "https", definition.interval).and_then(|ask| {
                client(tls, &[b"h2", b"http/1.1"], trust).map(|client| Speech::Https(ask, client))
            }),
        };
        match speech {
            Ok(speech) => Ok(Self { definition, speech }),
            Err(reason) => Err(PrepareError { probe: definition.name.clone(), reason }),
        }
    }
}

fn client(tls: &TlsProbe, alpn: &[&[u8]], trust: &mut Trust) -> Result<Client, String> {
    let config = trust.client_config(tls.ca_pem.as_deref(), alpn).map_err(|error| error.to_string())?;
    let server_name = match &tls.server_name {
        Some(name) => {
            Some(ServerName::try_from(name.clone()).map_err(|_invalid| format!("{name} is no server name"))?)
        }
        None => None,
    };
    Ok(Client { connector: TlsConnector::from(config), server_name })
}
