//! The TLS handshake, with a certificate that verifies: kind `tls`, and the second phase of `https`.

use std::fmt;
use std::net::IpAddr;

use rustls::pki_types::ServerName;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use super::outcome::{Failure, Phase};
use super::outcome::{Progress, hard, quote};
use crate::net::tls::why;

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
    let stream = stream.map_err(|error| hard(Phase::Tls, format!("tls: {}", quote(&why(&error)))))?;
    progress.completed();
    Ok(stream)
}
