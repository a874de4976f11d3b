//! The end of a client's connection.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::task::{Context, Poll, ready};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::{Sleep, sleep};

use super::lane::{LINGER, MOST_LINGERING};

/// Bytes that are read at once of a connection that has been closed.
const PIECE: usize = 4096;

/// A stream that reads on for a while once it is closed for writing. Were the connection dropped at once, what the client
/// still sends would reset it, and the response might be lost.
pub(super) struct Lingering<S> {
    stream: S,
    /// Whether what comes after the end of the responses is for somebody else.
    is_upgraded: Arc<AtomicBool>,
    end: End,
}

/// How far the end has come.
enum End {
    NotYet,
    Reading { until: Pin<Box<Sleep>>, read: usize },
    Reached,
}

impl<S> Lingering<S> {
    /// Once `is_upgraded`, it ends as the stream does.
    pub(super) fn new(stream: S, is_upgraded: Arc<AtomicBool>) -> Self {
        Self { stream, is_upgraded, end: End::NotYet }
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Lingering<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(cx, buffer)
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> AsyncWrite for Lingering<S> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(cx, bytes)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write_vectored(cx, slices)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let Self { stream, is_upgraded, end } = &mut *self;
        loop {
            match end {
                End::NotYet => {
                    ready!(Pin::new(&mut *stream).poll_shutdown(cx))?;
                    *end = match is_upgraded.load(Relaxed) {
                        true => End::Reached,
                        false => End::Reading { until: Box::pin(sleep(LINGER)), read: 0 },
                    };
                }
                End::Reading { until, read } => {
                    let mut piece = [0; PIECE];
                    let mut buffer = ReadBuf::new(&mut piece);
                    match Pin::new(&mut *stream).poll_read(cx, &mut buffer) {
                        Poll::Ready(Ok(())) if !buffer.filled().is_empty() && *read < MOST_LINGERING => {
                            *read += buffer.filled().len();
                        }
                        Poll::Ready(_) => *end = End::Reached,
                        Poll::Pending => {
                            ready!(until.as_mut().poll(cx));
                            *end = End::Reached;
                        }
                    }
                }
                End::Reached => return Poll::Ready(Ok(())),
            }
        }
    }
}
