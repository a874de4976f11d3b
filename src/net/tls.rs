//! Configuration of TLS clients: trusted authorities and protocols.

use std::fmt;
use std::sync::Arc;

use rustls::client::danger::ServerCertVerifier;
use rustls::client::{Resumption, WebPkiServerVerifier};
use rustls::crypto::{CryptoProvider, aws_lc_rs};
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use rustls::{ClientConfig, RootCertStore};

/// Makes TLS client configurations. Reads the system's authorities from disk when first needed and once per value,
/// so a new value sees authorities installed since.
#[derive(Debug)]
pub struct Trust {
    provider: Arc<CryptoProvider>,
    system: Option<Arc<dyn ServerCertVerifier>>,
}

/// Why there is no authority to trust.
#[derive(Debug)]
pub enum TrustError {
    /// The text is not valid PEM, or contains an invalid certificate.
    Pem(String),
    /// The PEM text holds no certificate.
    NoCertificate,
    /// The system has no authorities, or rustls rejected the configuration.
    Tls(rustls::Error),
}

impl fmt::Display for TrustError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Pem(error) => write!(f, "authorities are not readable as PEM: {error}"),
            Self::NoCertificate => f.write_str("authorities: the PEM text holds no certificate"),
            Self::Tls(error) => write!(f, "authorities: {error}"),
        }
    }
}

impl std::error::Error for TrustError {}

impl Trust {
    /// Reads nothing yet.
    #[must_use]
    pub fn new() -> Self {
        Self { provider: Arc::new(aws_lc_rs::default_provider()), system: None }
    }

    /// A client that trusts the authorities in `ca_pem`, or the system's without it, and offers the protocols
    /// `alpn` (RFC 7301) in this order. TLS 1.2 and 1.3, no client certificate, and no resumption: a resumed
    /// session does not present the certificate, so it would remain valid after the certificate expires.
    ///
    /// # Errors
    /// If there is no authority to trust.
    pub fn client_config(
        &mut self,
        ca_pem: Option<&str>,
        alpn: &[&[u8]],
    ) -> Result<Arc<ClientConfig>, TrustError> {
        let verifier = match ca_pem {
            Some(pem) => self.only(pem)?,
            None => self.system()?,
        };
        let mut config = ClientConfig::builder_with_provider(Arc::clone(&self.provider))
            .with_safe_default_protocol_versions()
            .map_err(TrustError::Tls)?
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
        let verifier: Arc<dyn ServerCertVerifier> = Arc::new(verifier.map_err(TrustError::Tls)?);
        self.system = Some(Arc::clone(&verifier));
        Ok(verifier)
    }

    fn only(&self, pem: &str) -> Result<Arc<dyn ServerCertVerifier>, TrustError> {
        let mut roots = RootCertStore::empty();
        for certificate in CertificateDer::pem_slice_iter(pem.as_bytes()) {
            let certificate = certificate.map_err(|error| TrustError::Pem(error.to_string()))?;
            roots.add(certificate).map_err(TrustError::Tls)?;
        }
        if roots.is_empty() {
            return Err(TrustError::NoCertificate);
        }
        let provider = Arc::clone(&self.provider);
        let verifier = WebPkiServerVerifier::builder_with_provider(Arc::new(roots), provider).build();
        Ok(verifier.map_err(|error| TrustError::Pem(error.to_string()))?)
    }
}

impl Default for Trust {
    fn default() -> Self {
        Self::new()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn authorities_come_from_pem_text() {
        let authority = rcgen::generate_simple_self_signed(["ca.test".to_owned()]).unwrap();
        let config = Trust::new().client_config(Some(&authority.cert.pem()), &[b"h2", b"http/1.1"]).unwrap();
        assert_eq!(config.alpn_protocols, [b"h2".to_vec(), b"http/1.1".to_vec()]);
    }

    #[test]
    fn texts_without_authorities_are_refused() {
        let broken = "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n";
        for (pem, expected) in [
            ("", "authorities: the PEM text holds no certificate"),
            ("no PEM", "authorities: the PEM text holds no certificate"),
            (broken, "authorities: invalid peer certificate: BadEncoding"),
            ("-----BEGIN CERTIFICATE-----\n", "authorities are not readable as PEM"),
        ] {
            let error = Trust::new().client_config(Some(pem), &[]).unwrap_err().to_string();
            assert!(error.starts_with(expected), "{pem:?}: {error}");
        }
    }
}
