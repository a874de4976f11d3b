//! A connection whose peer may send only so much.

use std::fmt;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::http::MAX_BODY;

/// The most bytes that a probe reads besides the longest body: TLS handshake, response head, framing. Anything else, such
/// as interim responses (1xx) and frames that carry nothing, has no limit of its own, and each costs this node time.
const MAX_BESIDES_BODY: usize = 128 * 1024;

/// Reading from it fails once more has arrived than a probe needs. It counts what the network delivers, below TLS.
#[derive(Debug)]
pub(super) struct Metered<S> {
    stream: S,
    received: usize,
}

/// Why reading fails.
#[derive(Debug)]
struct TooMuch;

impl<S> Metered<S> {
    pub(super) fn new(stream: S) -> Self {
        Self { stream, received: 0 }
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Metered<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        ready!(Pin::new(&mut self.stream).poll_read(context, buffer))?;
        self.received += buffer.filled().len() - before;
        if self.received > MAX_BODY + MAX_BESIDES_BODY {
            return Poll::Ready(Err(io::Error::other(TooMuch)));
        }
        Poll::Ready(Ok(()))
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Metered<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(context, bytes)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        parts: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write_vectored(context, parts)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}

impl fmt::Display for TooMuch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "the target sent more than {} KiB", (MAX_BODY + MAX_BESIDES_BODY) / 1024)
    }
}

impl std::error::Error for TooMuch {}
