//! TLS with clients and with backends. Certificates and trust come prepared with the snapshot.

mod backend;
mod handshakes;
mod stream;

use std::io;
use std::sync::Arc;
use std::time::Duration;

use http::{HeaderName, HeaderValue};
use rustls::ServerConfig;
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;
use tokio_util::sync::CancellationToken;

pub(super) use backend::{BackendTls, Wanted};
use handshakes::Ended;
pub(super) use handshakes::Handshakes;
pub(super) use stream::{AnyEnd, BackendStream};

use super::begun::Begun;
use crate::model::ListenerTls;
use crate::net::certificates;

/// Time for the handshake of a client: many times what a slow phone on a bad network needs.
const HANDSHAKE_WITHIN: Duration = Duration::from_secs(10);

/// How a listener speaks TLS, for one connection.
pub(super) struct Acceptor {
    pub(super) config: Arc<ServerConfig>,
    pub(super) settings: ListenerTls,
}

/// What a handshake proved.
pub(super) struct Proved {
    /// The header that shows backends the client's certificate, if they are to see it and there is one.
    pub(super) certificate: Option<(HeaderName, HeaderValue)>,
}

/// A client's connection. Clients that end it without saying so are common, and what HTTP sends says itself where it
/// ends (RFC 9112 §9.8). In a box, since futures that a stream is moved through have room for it several times.
pub(super) type ClientStream = AnyEnd<Box<TlsStream<Begun<TcpStream>>>>;

impl Acceptor {
    /// The server's side of a handshake; `None` if it fails, takes too long, or the node stops meanwhile.
    pub(super) async fn accept(
        self,
        stream: Begun<TcpStream>,
        counts: &Handshakes,
        closing: &CancellationToken,
    ) -> Option<(ClientStream, Proved)> {
        let handshake = TlsAcceptor::from(self.config).accept(stream);
        let finished = tokio::select! {
            finished = timeout(HANDSHAKE_WITHIN, handshake) => finished,
            () = closing.cancelled() => return None,
        };
        let finished = finished.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into()));
        counts.count(&Ended::of(finished.as_ref().map(|stream| stream.get_ref().1)));
        let stream = finished.ok()?;
        let certificate = self.settings.client_header.and_then(|name| {
            let shown = certificates::shown(stream.get_ref().1.peer_certificates()?.first()?);
            Some((name, HeaderValue::try_from(shown).ok()?))
        });
        Some((AnyEnd(Box::new(stream)), Proved { certificate }))
    }
}

#[cfg(test)]
mod tests {
    use rustls::pki_types::PrivateKeyDer;
    use tokio::io::AsyncWriteExt as _;
    use tokio::net::TcpListener;
    use tokio::time::Instant;

    use super::*;
    use crate::net::certificates::{BySni, Certified, Shown};
    use crate::net::server_tls::listener_config;
    use crate::net::tickets::{Secret, Tickets};

    fn acceptor() -> Acceptor {
        let made = rcgen::generate_simple_self_signed(["a.test".to_owned()]).unwrap();
        let key = PrivateKeyDer::try_from(made.signing_key.serialize_der()).unwrap();
        let certified = Certified::new(vec![made.cert.der().clone()], key).unwrap();
        let (by_sni, _) = BySni::new(&[Shown::Fixed(certified)]).unwrap();
        let tickets = Arc::new(Tickets::new(&Secret([0; 32]), None, Duration::from_secs(60)));
        let config = listener_config(Arc::new(by_sni), None, &[], tickets).unwrap();
        Acceptor { config, settings: ListenerTls::default() }
    }

    #[tokio::test(start_paused = true)]
    async fn a_client_that_does_not_finish_its_handshake_is_closed() {
        // Nothing, and half of a ClientHello.
        for sent in [&[][..], &[22, 3, 1, 2, 0, 1, 0, 1, 252, 3, 3]] {
            let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
            let mut client = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
            client.write_all(sent).await.unwrap();
            let (stream, _) = listener.accept().await.unwrap();
            let (counts, begun) = (Handshakes::default(), Instant::now());
            let accepted = acceptor().accept(Begun::new(stream), &counts, &CancellationToken::new()).await;
            assert!(accepted.is_none() && begun.elapsed() < HANDSHAKE_WITHIN * 2);
            let failed: Vec<_> = counts.failed().filter(|(_, count)| *count > 0).collect();
            assert_eq!(failed, [(("reason", "timeout"), 1)]);
        }
    }
}
