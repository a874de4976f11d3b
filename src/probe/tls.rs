//! The TLS handshake, with a certificate that verifies: kind `tls`, and the second phase of `https`.

use std::fmt;
use std::io::{self, ErrorKind};
use std::net::IpAddr;

use rustls::pki_types::ServerName;
use rustls::{CertificateError, Error, InvalidMessage};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use super::outcome::{Failure, Phase};
use super::outcome::{Progress, hard, quote};

/// The client's side of a handshake.
pub(super) struct Client {
    pub(super) connector: TlsConnector,
    /// The name sent as SNI and verified; `None`: the address.
    pub(super) server_name: Option<ServerName<'static>>,
}

impl fmt::Debug for Client {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Client").field("server_name", &self.server_name).finish_non_exhaustive()
    }
}

pub(super) async fn handshake<S: AsyncRead + AsyncWrite + Unpin>(
    stream: S,
    client: &Client,
    address: IpAddr,
    progress: &mut Progress,
) -> Result<TlsStream<S>, Failure> {
    progress.enter(Phase::Tls);
    let name = client.server_name.clone().unwrap_or_else(|| ServerName::from(address));
    let stream = client.connector.connect(name, stream).await;
    let stream = stream.map_err(|error| hard(Phase::Tls, format!("tls: {}", clause(&error))))?;
    progress.completed();
    Ok(stream)
}

fn clause(error: &io::Error) -> String {
    match error.get_ref().and_then(|inner| inner.downcast_ref::<Error>()) {
        Some(Error::InvalidCertificate(problem)) => certificate_clause(problem),
        Some(Error::AlertReceived(alert)) => format!("alert {alert:?}"),
        Some(Error::InvalidMessage(InvalidMessage::InvalidContentType)) => "the answer is not TLS".to_owned(),
        Some(other) => quote(&other.to_string()),
        None => match error.kind() {
            ErrorKind::UnexpectedEof => "connection closed in the handshake".to_owned(),
            ErrorKind::ConnectionReset | ErrorKind::BrokenPipe => {
                "connection reset in the handshake".to_owned()
            }
            _ => quote(&error.to_string()),
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
        other => quote(&format!("certificate refused: {other}")),
    }
}
