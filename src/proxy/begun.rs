//! A connection of which some bytes have been read already.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};

use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, ReadBuf};

/// A stream that yields the bytes read of it once more, before those that follow.
#[derive(Debug)]
pub(super) struct Begun<S> {
    stream: S,
    received: Vec<u8>,
    /// How many of `received` have been yielded.
    yielded: usize,
}

impl<S: AsyncRead + Unpin> Begun<S> {
    pub(super) fn new(stream: S) -> Self {
        Self { stream, received: Vec::new(), yielded: 0 }
    }

    /// What has been received and not yielded yet.
    pub(super) fn received(&self) -> &[u8] {
        &self.received[self.yielded..]
    }

    /// Receives more, up to [`CHUNK`] bytes; returns how many, 0 at the end of the stream.
    ///
    /// # Errors
    /// Those of the stream.
    pub(super) async fn receive(&mut self) -> io::Result<usize> {
        let limit = CHUNK as u64;
        (&mut self.stream).take(limit).read_buf(&mut self.received).await
    }

    /// Drops the next bytes received.
    pub(super) fn skip(&mut self, count: usize) {
        self.yielded += count;
    }

    /// The stream itself.
    pub(super) fn stream(&self) -> &S {
        &self.stream
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Begun<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let waiting = self.received();
        if waiting.is_empty() {
            return Pin::new(&mut self.stream).poll_read(cx, buffer);
        }
        let count = waiting.len().min(buffer.remaining());
        buffer.put_slice(&waiting[..count]);
        self.yielded += count;
        if self.yielded == self.received.len() {
            (self.received, self.yielded) = (Vec::new(), 0);
        }
        Poll::Ready(Ok(()))
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Begun<S> {
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
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}

/// Bytes received at a time: a ClientHello with a post-quantum key share takes under 2 KiB.
const CHUNK: usize = 4096;
