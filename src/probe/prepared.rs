//! A probe definition prepared to run many times.

use std::sync::Arc;

use http::uri::Scheme;
use tokio_rustls::TlsConnector;

use super::http::Ask;
use super::tls::Client;
use crate::model::{Kind, Probe, TlsProbe};
use crate::net::tls::{Trust, TrustError};

/// A probe, with everything that its runs share.
#[derive(Debug)]
pub struct PreparedProbe {
    /// The definition it was built from.
    pub definition: Arc<Probe>,
    pub(super) speech: Arc<Speech>,
}

/// The protocol, with its clients built.
#[derive(Debug)]
pub(super) enum Speech {
    Tcp,
    Tls(Client),
    Http(Ask),
    Https(Ask, Client),
}

impl PreparedProbe {
    /// A TCP handshake, which needs no preparation.
    #[must_use]
    pub fn handshake(definition: Arc<Probe>) -> Self {
        Self { definition, speech: Arc::new(Speech::Tcp) }
    }

    /// The same at the port of another definition, which differs in nothing else.
    #[must_use]
    pub fn with(&self, definition: Arc<Probe>) -> Self {
        Self { definition, speech: Arc::clone(&self.speech) }
    }

    /// Builds what all runs share.
    ///
    /// # Errors
    /// If the probe relies on the system's authorities and there are none.
    pub fn new(definition: Arc<Probe>, trust: &mut Trust) -> Result<Self, TrustError> {
        let speech = match &definition.kind {
            Kind::Tcp { .. } => Speech::Tcp,
            Kind::Tls { tls, .. } => Speech::Tls(client(tls, &[], trust)?),
            Kind::Http { http, .. } => Speech::Http(Ask::new(http, Scheme::HTTP, definition.interval)),
            Kind::Https { http, tls, .. } => Speech::Https(
                Ask::new(http, Scheme::HTTPS, definition.interval),
                client(tls, &[b"h2", b"http/1.1"], trust)?,
            ),
        };
        Ok(Self { definition, speech: Arc::new(speech) })
    }
}

fn client(tls: &TlsProbe, alpn: &[&[u8]], trust: &mut Trust) -> Result<Client, TrustError> {
    let config = trust.client_config(tls.authorities.as_deref(), alpn)?;
    Ok(Client { connector: TlsConnector::from(config), server_name: tls.server_name.clone() })
}
