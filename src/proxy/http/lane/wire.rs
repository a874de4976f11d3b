//! Streams that are read ahead, and the time that they may take.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::BytesMut;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::time::{Instant, Sleep, sleep_until};
use tokio_util::io::poll_read_buf;

/// Bytes that are read at once.
const READ: usize = 8 * 1024;
/// Bytes that are read at once from a stream that had as many as [`READ`].
const LONG_READ: usize = 64 * 1024;

/// A stream, and what was received of it but not yet used.
pub(super) struct Wire<S> {
    pub(super) stream: S,
    pub(super) unread: BytesMut,
    /// Bytes to make room for before a read.
    room: usize,
}

impl<S: AsyncRead + Unpin> Wire<S> {
    pub(super) fn new(stream: S) -> Self {
        Self { stream, unread: BytesMut::new(), room: READ }
    }

    /// Reads more; 0 bytes at the end.
    pub(super) fn poll_fill(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<usize>> {
        self.unread.reserve(self.room);
        let read = ready!(poll_read_buf(Pin::new(&mut self.stream), cx, &mut self.unread))?;
        if read >= self.room {
            self.room = LONG_READ;
        }
        Poll::Ready(Ok(read))
    }

    /// Gives back the memory that a long message needed, once nothing is left of it.
    pub(super) fn rest(&mut self) {
        if self.unread.is_empty() && self.room > READ {
            (self.unread, self.room) = (BytesMut::new(), READ);
        }
    }
}

/// Writes all of several slices, one after the other; `written` counts the bytes between polls.
pub(super) fn poll_write_all<S: AsyncWrite + Unpin, const N: usize>(
    stream: &mut S,
    parts: [&[u8]; N],
    written: &mut usize,
    cx: &mut Context<'_>,
) -> Poll<io::Result<()>> {
    loop {
        let mut skipped = *written;
        let left = parts.map(|part| {
            let skip = skipped.min(part.len());
            skipped -= skip;
            io::IoSlice::new(&part[skip..])
        });
        let Some(first) = left.iter().position(|part| !part.is_empty()) else {
            // TLS may still have some of it.
            return Pin::new(stream).poll_flush(cx);
        };
        match ready!(Pin::new(&mut *stream).poll_write_vectored(cx, &left[first..]))? {
            0 => return Poll::Ready(Err(io::ErrorKind::WriteZero.into())),
            more => *written += more,
        }
    }
}

/// The timer of a connection. It is moved only where it would be late, since that costs more than one that is early.
pub(super) struct Timer(Pin<Box<Sleep>>);

impl Timer {
    pub(super) fn new(at: Instant) -> Self {
        Self(Box::pin(sleep_until(at)))
    }

    /// Ready once this moment has come.
    pub(super) fn poll_until(&mut self, until: Instant, cx: &mut Context<'_>) -> Poll<()> {
        if until < self.0.deadline() {
            self.0.as_mut().reset(until);
        }
        loop {
            ready!(self.0.as_mut().poll(cx));
            if Instant::now() >= until {
                return Poll::Ready(());
            }
            self.0.as_mut().reset(until);
        }
    }
}
