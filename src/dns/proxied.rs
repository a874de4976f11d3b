//! Connections of trusted proxies: they begin with a header that names the client.

use std::io;

use tokio::io::{AsyncRead, AsyncReadExt};
use tokio::time::{Instant, timeout_at};
use tokio_util::sync::CancellationToken;

use super::tcp::{Limits, READ};
use crate::net::proxy_header::{self, Header};

/// Reads the header and removes it from `received`, where the client's bytes may follow it. `None` if the proxy closes
/// before it has sent anything, as health checks do, or the server stops.
///
/// # Errors
/// If anything else comes, or no whole header within the idle time.
pub(super) async fn read_header<S>(
    stream: &mut S,
    received: &mut Vec<u8>,
    limits: Limits,
    closing: &CancellationToken,
) -> io::Result<Option<Header>>
where
    S: AsyncRead + Unpin,
{
    let mut deadline = Instant::now() + limits.idle;
    let mut is_closing = false;
    loop {
        let parsed = proxy_header::parse(received);
        if let Some(header) = parsed.map_err(|error| io::Error::new(io::ErrorKind::InvalidData, error))? {
            received.drain(..header.length);
            return Ok(Some(header));
        }
        received.reserve(READ);
        let read = tokio::select! {
            biased;
            () = closing.cancelled(), if !is_closing => {
                is_closing = true;
                deadline = deadline.min(Instant::now() + limits.grace);
                continue;
            }
            read = timeout_at(deadline, stream.read_buf(received)) => read,
        };
        match read {
            Ok(Ok(1..)) => {}
            Ok(Ok(0) | Err(_)) if received.is_empty() => return Ok(None),
            Ok(Ok(0)) => return Err(io::ErrorKind::UnexpectedEof.into()),
            Ok(Err(error)) => return Err(error),
            Err(_) if is_closing => return Ok(None),
            Err(_) => {
                return Err(io::Error::new(io::ErrorKind::TimedOut, "no PROXY header within the idle time"));
            }
        }
    }
}
