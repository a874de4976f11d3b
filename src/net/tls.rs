//! Configuration of TLS clients: trusted authorities and protocols, and why handshakes fail.

use std::fmt;
use std::io::{self, ErrorKind};
use std::sync::Arc;

use rustls::client::danger::ServerCertVerifier;
use rustls::client::{Resumption, WebPkiServerVerifier};
use rustls::crypto::{CryptoProvider, aws_lc_rs};
use rustls::pki_types::TrustAnchor;
use rustls::sign::{CertifiedKey, SingleCertAndKey};
use rustls::{CertificateError, ClientConfig, Error, InvalidMessage, RootCertStore};

/// Makes TLS client configurations. Reads the system's authorities from disk when first needed and once per value,
/// so a new value sees authorities installed since.
#[derive(Debug)]
pub struct Trust {
    provider: Arc<CryptoProvider>,
    system: Option<Arc<dyn ServerCertVerifier>>,
}

/// Why the system's authorities cannot be used: usually because there are none.
#[derive(Clone, Debug, PartialEq)]
pub struct TrustError(Error);

impl fmt::Display for TrustError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "the system's certificate authorities: {}", self.0)
    }
}

impl std::error::Error for TrustError {}

impl Trust {
    /// Does not read the system's authorities yet.
    #[must_use]
    pub fn new() -> Self {
        Self { provider: Arc::new(aws_lc_rs::default_provider()), system: None }
    }

    /// A client that trusts these authorities, at least one, or the system's for `None`, and offers the protocols
    /// `alpn` (RFC 7301) in this order. TLS 1.2 and 1.3, no client certificate, and no resumption: a resumed
    /// session does not present the certificate, so it would remain valid after the certificate expires.
    ///
    /// # Errors
    /// If the system has no authorities.
    ///
    /// # Panics
    /// If `authorities` is empty.
    pub fn client_config(
        &mut self,
        authorities: Option<&[TrustAnchor<'static>]>,
        alpn: &[&[u8]],
    ) -> Result<Arc<ClientConfig>, TrustError> {
        self.client_config_with(authorities, alpn, None)
    }

    /// The same with a client certificate, if there is one.
    ///
    /// # Errors
    /// If the system has no authorities.
    ///
    /// # Panics
    /// If `authorities` is empty.
    pub fn client_config_with(
        &mut self,
        authorities: Option<&[TrustAnchor<'static>]>,
        alpn: &[&[u8]],
        certificate: Option<Arc<CertifiedKey>>,
    ) -> Result<Arc<ClientConfig>, TrustError> {
        let verifier = match authorities {
            Some(authorities) => self.only(authorities),
            None => self.system()?,
        };
        let builder = ClientConfig::builder_with_provider(Arc::clone(&self.provider))
            .with_safe_default_protocol_versions()
            .expect("the provider speaks TLS 1.2 and 1.3")
            .dangerous()
            .with_custom_certificate_verifier(verifier);
        let mut config = match certificate {
            None => builder.with_no_client_auth(),
            Some(key) => builder.with_client_cert_resolver(Arc::new(SingleCertAndKey::from(key))),
        };
        config.alpn_protocols = alpn.iter().map(|protocol| protocol.to_vec()).collect();
        config.resumption = Resumption::disabled();
        Ok(Arc::new(config))
    }

    fn system(&mut self) -> Result<Arc<dyn ServerCertVerifier>, TrustError> {
        if let Some(known) = &self.system {
            return Ok(Arc::clone(known));
        }
        let verifier = rustls_platform_verifier::Verifier::new(Arc::clone(&self.provider));
        let verifier: Arc<dyn ServerCertVerifier> = Arc::new(verifier.map_err(TrustError)?);
        self.system = Some(Arc::clone(&verifier));
        Ok(verifier)
    }

    fn only(&self, authorities: &[TrustAnchor<'static>]) -> Arc<dyn ServerCertVerifier> {
        let roots = Arc::new(RootCertStore { roots: authorities.to_vec() });
        let provider = Arc::clone(&self.provider);
        WebPkiServerVerifier::builder_with_provider(roots, provider)
            .build()
            .expect("there is an authority to trust")
    }
}

/// Why a handshake with a server failed, as a clause.
#[must_use]
pub fn why(error: &io::Error) -> String {
    match error.get_ref().and_then(|inner| inner.downcast_ref::<Error>()) {
        Some(Error::InvalidCertificate(problem)) => certificate_clause(problem),
        Some(Error::AlertReceived(alert)) => format!("alert {alert:?}"),
        Some(Error::InvalidMessage(InvalidMessage::InvalidContentType)) => "the answer is not TLS".to_owned(),
        Some(other) => other.to_string(),
        None => match error.kind() {
            ErrorKind::UnexpectedEof => "connection closed in the handshake".to_owned(),
            ErrorKind::ConnectionReset | ErrorKind::BrokenPipe => {
                "connection reset in the handshake".to_owned()
            }
            _ => error.to_string(),
        },
    }
}

fn certificate_clause(problem: &CertificateError) -> String {
    match problem {
        CertificateError::Expired | CertificateError::ExpiredContext { .. } => {
            "certificate expired".to_owned()
        }
        CertificateError::NotValidYet | CertificateError::NotValidYetContext { .. } => {
            "certificate not valid yet".to_owned()
        }
        CertificateError::NotValidForNameContext { expected, .. } => {
            format!("certificate not valid for name {}", expected.to_str())
        }
        CertificateError::UnknownIssuer => "unknown issuer".to_owned(),
        other => format!("certificate refused: {other}"),
    }
}

impl Default for Trust {
    fn default() -> Self {
        Self::new()
    }
}
