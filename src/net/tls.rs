//! Configuration of TLS clients: trusted authorities and protocols.

use std::fmt;
use std::sync::Arc;

use rustls::client::danger::ServerCertVerifier;
use rustls::client::{Resumption, WebPkiServerVerifier};
use rustls::crypto::{CryptoProvider, aws_lc_rs};
use rustls::pki_types::TrustAnchor;
use rustls::{ClientConfig, RootCertStore};

/// Makes TLS client configurations. Reads the system's authorities from disk when first needed and once per value,
/// so a new value sees authorities installed since.
#[derive(Debug)]
pub struct Trust {
    provider: Arc<CryptoProvider>,
    system: Option<Arc<dyn ServerCertVerifier>>,
}

/// Why the system's authorities cannot be used: usually because there are none.
#[derive(Clone, Debug, PartialEq)]
pub struct TrustError(rustls::Error);

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
        let verifier = match authorities {
            Some(authorities) => self.only(authorities),
            None => self.system()?,
        };
        let mut config = ClientConfig::builder_with_provider(Arc::clone(&self.provider))
            .with_safe_default_protocol_versions()
            .expect("the provider speaks TLS 1.2 and 1.3")
            .dangerous()
            .with_custom_certificate_verifier(verifier)
            .with_no_client_auth();
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

impl Default for Trust {
    fn default() -> Self {
        Self::new()
    }
}
