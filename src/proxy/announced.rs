//! The PROXY header that a connection of a trusted hop begins with.

use std::net::SocketAddr;
use std::time::Duration;

use tokio::io::AsyncRead;
use tokio::time::timeout;

use super::begun::Begun;
use super::counters::Rejection;
use crate::net::proxy_header::{self, Malformed};

/// What a PROXY header says of a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Ends {
    pub(super) client: SocketAddr,
    /// What the client connected to.
    pub(super) destination: SocketAddr,
}

/// Time for a whole PROXY header: a hop sends it at once.
const HEADER_WITHIN: Duration = Duration::from_secs(5);

/// Reads the PROXY header, and leaves what follows it. `None` if the hop speaks for itself (LOCAL, as health checks do), or
/// cannot name its client.
///
/// # Errors
/// Why there is none.
pub(super) async fn read<S>(stream: &mut Begun<S>) -> Result<Option<Ends>, Rejection>
where
    S: AsyncRead + Unpin,
{
    timeout(HEADER_WITHIN, read_in_time(stream)).await.unwrap_or(Err(Rejection::HeaderLate))
}

async fn read_in_time<S>(stream: &mut Begun<S>) -> Result<Option<Ends>, Rejection>
where
    S: AsyncRead + Unpin,
{
    loop {
        if !stream.received().is_empty() {
            match proxy_header::parse(stream.received()) {
                Ok(Some(header)) => {
                    stream.skip(header.length);
                    let named = header.client.zip(header.destination);
                    return Ok(named.map(|(client, destination)| Ends { client, destination }));
                }
                Ok(None) => {}
                Err(Malformed::Absent) => return Err(Rejection::HeaderAbsent),
                Err(why) => {
                    tracing::debug!(%why, "not a PROXY header");
                    return Err(Rejection::HeaderMalformed);
                }
            }
        }
        match stream.receive().await {
            Ok(1..) => {}
            Ok(0) | Err(_) => return Err(Rejection::Left),
        }
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, duplex};

    use super::*;
    use crate::net::proxy_header::{binary, line};

    fn named() -> Ends {
        Ends { client: "192.0.2.7:5".parse().unwrap(), destination: "198.51.100.1:443".parse().unwrap() }
    }

    /// Sends these pieces one after the other, and returns what was read and what follows it.
    async fn sent(pieces: &[&[u8]]) -> (Result<Option<Ends>, Rejection>, Vec<u8>) {
        let (mut hop, stream) = duplex(1);
        let mut stream = Begun::new(stream);
        let sending = async {
            for piece in pieces {
                hop.write_all(piece).await.ok();
            }
            drop(hop);
        };
        let reading = async {
            let ends = read(&mut stream).await;
            let mut rest = Vec::new();
            stream.read_to_end(&mut rest).await.unwrap();
            (ends, rest)
        };
        tokio::join!(sending, reading).1
    }

    #[tokio::test]
    async fn what_follows_the_header_is_left() {
        let Ends { client, destination } = named();
        for header in [line(client, destination), binary(client, destination)] {
            assert_eq!(sent(&[&header, b"hello"]).await, (Ok(Some(named())), b"hello".to_vec()));
        }
        let local = [b"\r\n\r\n\0\r\nQUIT\n\x20\0\0\0".as_slice(), b"hello"];
        assert_eq!(sent(&local).await, (Ok(None), b"hello".to_vec()));
        assert_eq!(sent(&[b"PROXY UNKNOWN\r\n"]).await, (Ok(None), Vec::new()));
    }

    #[tokio::test]
    async fn anything_else_is_rejected() {
        let long = [b"PROXY UNKNOWN ".as_slice(), &[b'x'; 200]].concat();
        for (bytes, expected) in [
            (b"".as_slice(), Rejection::Left),
            (b"PROXY TCP4", Rejection::Left),
            (b"GET / HTTP/1.1\r\n", Rejection::HeaderAbsent),
            (b"PROXY TCP4 x\r\n", Rejection::HeaderMalformed),
            (b"\r\n\r\n\0\r\nQUIT\n\x21\x11\xff\xff", Rejection::HeaderMalformed),
            (&long, Rejection::HeaderMalformed),
        ] {
            assert_eq!(sent(&[bytes]).await.0, Err(expected), "{bytes:?}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_hop_that_sends_no_whole_header_is_not_waited_for() {
        let (mut hop, stream) = duplex(64);
        hop.write_all(b"PROXY ").await.unwrap();
        assert_eq!(read(&mut Begun::new(stream)).await, Err(Rejection::HeaderLate));
    }
}
