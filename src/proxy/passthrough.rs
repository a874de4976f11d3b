//! TLS connections of clients, relayed as they are to the pool of the host that the client names.

use std::io;
use std::time::Duration;

use http::{HeaderMap, Method};
use rustls::server::{Accepted, Acceptor};
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::time::timeout;

use super::begun::Begun;
use super::counters::Rejection;
use super::tcp;
use super::worker::Client;
use crate::model::RouteAction;
use crate::pick::client_key;
use crate::route::Head;

/// Bytes of a ClientHello with the heads of its records. Those of browsers have 2 KiB.
const LARGEST_HELLO: usize = 16 * 1024;
/// Time for a whole ClientHello.
const HELLO_WITHIN: Duration = Duration::from_secs(10);
/// Time for the client to take an alert, which fits any buffer.
const ALERT_WITHIN: Duration = Duration::from_secs(1);

/// A fatal alert, as a record of TLS 1.2, which is that of TLS 1.3, too (RFC 8446 §5.1, §6).
const fn fatal(description: u8) -> [u8; 7] {
    [21, 3, 3, 0, 2, 2, description]
}
/// RFC 6066 §3.
const UNRECOGNIZED_NAME: [u8; 7] = fatal(112);
/// For servers that need the host (RFC 8446 §9.2).
const MISSING_EXTENSION: [u8; 7] = fatal(109);

/// Why a connection is closed, and what the client gets first.
struct Refused {
    why: Rejection,
    alert: Vec<u8>,
}

/// Reads the host, connects the client to a backend and relays until both have ended.
pub(super) async fn serve(client: &Client, mut stream: Begun<TcpStream>) {
    let host = match host(&mut stream).await {
        Ok(host) => host,
        Err(refused) => return refuse(client, stream, refused).await,
    };
    let snapshot = client.context.snapshot();
    let Some(listener) = client.plan(&snapshot) else { return };
    let (method, headers) = (Method::GET, HeaderMap::new());
    let named = host.as_deref().unwrap_or_default();
    let head = Head { host: named, path: "/", query: None, method: &method, headers: &headers };
    let Some(RouteAction::Forward(pools)) = listener.find(&head).map(|route| &route.action) else {
        let (why, alert) = match host {
            Some(_) => (Rejection::UnknownHost, UNRECOGNIZED_NAME),
            None => (Rejection::NoHost, MISSING_EXTENSION),
        };
        drop(snapshot);
        return refuse(client, stream, Refused { why, alert: alert.to_vec() }).await;
    };
    let pool = client.context.pool(pools, client_key(client.address.ip()), &snapshot);
    drop(snapshot);
    tcp::relay_to(client, stream, &pool).await;
}

/// The host that the client names in its ClientHello, if it names one. The bytes stay in the stream.
async fn host<S>(stream: &mut Begun<S>) -> Result<Option<String>, Refused>
where
    S: AsyncRead + Unpin,
{
    let late = || Refused { why: Rejection::HelloLate, alert: Vec::new() };
    let accepted = timeout(HELLO_WITHIN, hello(stream)).await.map_err(|_| late())??;
    Ok(accepted.client_hello().server_name().map(str::to_owned))
}

async fn hello<S>(stream: &mut Begun<S>) -> Result<Accepted, Refused>
where
    S: AsyncRead + Unpin,
{
    let refused = |why| Refused { why, alert: Vec::new() };
    let mut acceptor = Acceptor::default();
    let mut seen = 0;
    loop {
        while seen < stream.received().len() {
            let mut unseen = &stream.received()[seen..];
            let read = acceptor.read_tls(&mut unseen).unwrap_or(0);
            if read == 0 {
                return Err(refused(Rejection::NotTls));
            }
            seen += read;
            match acceptor.accept() {
                Ok(Some(accepted)) => return Ok(accepted),
                Ok(None) => {}
                Err((error, mut alert)) => {
                    tracing::debug!(%error, "not a ClientHello");
                    let mut bytes = Vec::new();
                    // A vector takes everything.
                    alert.write_all(&mut bytes).unwrap_or_default();
                    return Err(Refused { why: Rejection::NotTls, alert: bytes });
                }
            }
        }
        if seen >= LARGEST_HELLO {
            return Err(refused(Rejection::HelloLarge));
        }
        match stream.receive().await {
            Ok(1..) => {}
            Ok(0) | Err(_) => return Err(refused(Rejection::Left)),
        }
    }
}

/// Closes a connection, with an alert if there is one.
async fn refuse(client: &Client, mut stream: impl AsyncWrite + AsyncRead + Unpin, refused: Refused) {
    client.counters.reject(refused.why);
    tracing::debug!(client = %client.address, why = refused.why.name(), "closed a TLS connection");
    let sending = async {
        stream.write_all(&refused.alert).await?;
        stream.shutdown().await
    };
    let _: Result<io::Result<()>, _> = timeout(ALERT_WITHIN, sending).await;
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use proptest::prelude::*;
    use rustls::{ClientConfig, ClientConnection, RootCertStore};
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, duplex};

    use super::*;

    /// The ClientHello of a client that connects to this host.
    fn client_hello(host: &'static str) -> Vec<u8> {
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let config = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_root_certificates(RootCertStore::empty())
            .with_no_client_auth();
        let mut client = ClientConnection::new(Arc::new(config), host.try_into().unwrap()).unwrap();
        let mut bytes = Vec::new();
        client.write_tls(&mut bytes).unwrap();
        bytes
    }

    /// The same message in records of `size` bytes (RFC 8446 §5.1).
    fn in_records(hello: &[u8], size: usize) -> Vec<u8> {
        let (head, message) = hello.split_at(5);
        let record = |part: &[u8]| [&head[..3], &(part.len() as u16).to_be_bytes(), part].concat();
        message.chunks(size).flat_map(record).collect()
    }

    /// What is read of bytes that arrive in segments of this many, and what is left in the stream.
    async fn read(bytes: &[u8], segment: usize) -> (Result<Option<String>, Rejection>, Vec<u8>) {
        let (mut client, stream) = duplex(segment);
        let mut stream = Begun::new(stream);
        let sending = async {
            client.write_all(bytes).await.ok();
            drop(client);
        };
        let reading = async {
            let found = host(&mut stream).await.map_err(|refused| refused.why);
            let mut rest = Vec::new();
            stream.read_to_end(&mut rest).await.unwrap();
            (found, rest)
        };
        tokio::join!(sending, reading).1
    }

    #[tokio::test]
    async fn the_host_is_read_and_every_byte_is_left() {
        let hello = client_hello("www.example.com");
        for (record, segment) in [(usize::MAX, 65536), (usize::MAX, 1), (100, 7), (1, 65536), (1, 1)] {
            let bytes = if record == usize::MAX { hello.clone() } else { in_records(&hello, record) };
            let (found, rest) = read(&bytes, segment).await;
            assert_eq!(found, Ok(Some("www.example.com".into())), "{record} {segment}");
            assert!(rest == bytes, "{record} {segment}");
        }
        // What the client sends after its hello, too.
        let more = [&hello[..], b"\x14\x03\x03\0\x01\x01early"].concat();
        assert!(read(&more, 65536).await == (Ok(Some("www.example.com".into())), more));
        assert_eq!(read(&client_hello("192.0.2.1"), 65536).await.0, Ok(None), "an address is no host");
    }

    #[tokio::test]
    async fn anything_else_is_refused() {
        let hello = client_hello("www.example.com");
        // A message of 64 KiB, of which the first record announces all.
        let endless = [22, 3, 1, 0x40, 0, 1, 0, 0xff, 0xff].into_iter().chain([0; 0x4000 - 4]);
        let endless: Vec<u8> = endless.chain([22, 3, 1, 0x40, 0]).chain([0; 0x4000]).collect();
        for (bytes, expected) in [
            (b"".as_slice(), Rejection::Left),
            (&hello[..hello.len() - 1], Rejection::Left),
            (b"GET / HTTP/1.1\r\nHost: a\r\n\r\n", Rejection::NotTls),
            (b"SSH-2.0-OpenSSH_9.6\r\n", Rejection::NotTls),
            (&[0; 64], Rejection::NotTls),
            (&endless, Rejection::HelloLarge),
        ] {
            assert_eq!(read(bytes, 65536).await.0, Err(expected), "{:?}", &bytes[..bytes.len().min(64)]);
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_client_that_sends_no_whole_hello_is_not_waited_for() {
        let (mut client, stream) = duplex(4096);
        client.write_all(&client_hello("www.example.com")[..100]).await.unwrap();
        let found = host(&mut Begun::new(stream)).await.map_err(|refused| refused.why);
        assert_eq!(found, Err(Rejection::HelloLate));
    }

    proptest! {
        /// Whatever arrives is read to its end or refused.
        #[test]
        fn garbage_never_panics(bytes in prop::collection::vec(any::<u8>(), 0..600), is_record: bool) {
            let bytes = if is_record { [&[22, 3, 1], &bytes[..]].concat() } else { bytes };
            let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
            prop_assert!(runtime.block_on(read(&bytes, 65536)).0.is_err());
        }
    }
}
