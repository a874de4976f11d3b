//! Configuration of TLS servers.

use std::sync::Arc;

use rustls::crypto::{CryptoProvider, aws_lc_rs};
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::danger::ClientCertVerifier;
use rustls::server::{NoServerSessionStorage, ProducesTickets, WebPkiClientVerifier};
use rustls::{Error, RootCertStore, ServerConfig};

use super::certificates::BySni;

/// A server of HTTP/1.1 over TLS 1.2 and 1.3 with this certificate, which those that lead to its authority follow. With
/// `clients`, only clients with a certificate of one of these authorities are served.
///
/// # Errors
/// If certificate and key do not belong together or cannot be used, or there is no authority.
pub fn server_config(
    chain: Vec<CertificateDer<'static>>,
    key: PrivateKeyDer<'static>,
    clients: Option<RootCertStore>,
) -> Result<Arc<ServerConfig>, Error> {
    let provider = Arc::new(aws_lc_rs::default_provider());
    let builder =
        ServerConfig::builder_with_provider(Arc::clone(&provider)).with_safe_default_protocol_versions()?;
    let builder = match clients {
        None => builder.with_no_client_auth(),
        Some(authorities) => builder.with_client_cert_verifier(verifier(authorities, true, provider)?),
    };
    let mut config = builder.with_single_cert(chain, key)?;
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(Arc::new(config))
}

/// The clients of a listener that have certificates.
#[derive(Debug)]
pub struct Clients {
    /// Their authorities, at least one.
    pub authorities: RootCertStore,
    /// Whether those without one are refused.
    pub is_required: bool,
}

/// A listener over TLS 1.2 and 1.3 that speaks the protocols `alpn` (RFC 7301), if any, and prefers the first. There is
/// no early data, which an attacker could send again.
///
/// Sessions are resumed by tickets alone, which need no memory that threads share. With `clients` there are none: a
/// resumed session does not present the certificate, so it would outlive it, and a ticket from a listener that asks for
/// no certificate must not open one that does.
///
/// # Errors
/// If there is no authority of clients.
pub fn listener_config(
    certificates: Arc<BySni>,
    clients: Option<Clients>,
    alpn: &[&[u8]],
    tickets: Arc<dyn ProducesTickets>,
) -> Result<Arc<ServerConfig>, Error> {
    let provider = Arc::new(aws_lc_rs::default_provider());
    let builder =
        ServerConfig::builder_with_provider(Arc::clone(&provider)).with_safe_default_protocol_versions()?;
    let resumes = clients.is_none();
    let builder = match clients {
        None => builder.with_no_client_auth(),
        Some(Clients { authorities, is_required }) => {
            builder.with_client_cert_verifier(verifier(authorities, is_required, provider)?)
        }
    };
    let mut config = builder.with_cert_resolver(certificates);
    config.alpn_protocols = alpn.iter().map(|protocol| protocol.to_vec()).collect();
    config.max_early_data_size = 0;
    config.session_storage = Arc::new(NoServerSessionStorage {});
    if resumes {
        config.ticketer = tickets;
    } else {
        config.send_tls13_tickets = 0;
    }
    Ok(Arc::new(config))
}

fn verifier(
    authorities: RootCertStore,
    is_required: bool,
    provider: Arc<CryptoProvider>,
) -> Result<Arc<dyn ClientCertVerifier>, Error> {
    let builder = WebPkiClientVerifier::builder_with_provider(Arc::new(authorities), provider);
    let builder = if is_required { builder } else { builder.allow_unauthenticated() };
    builder.build().map_err(|error| Error::General(error.to_string()))
}
