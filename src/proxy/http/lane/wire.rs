//! Streams that are read ahead, and the time that they may take.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::BytesMut;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::time::{Instant, Sleep, sleep_until};
use tokio_util::io::poll_read_buf;

use crate::proxy::buffers;

/// A stream, and what was received of it but not yet used.
pub(super) struct Wire<S> {
    pub(super) stream: S,
    pub(super) unread: BytesMut,
}

/// Bytes that a read has room for at least, behind what was not used yet.
const LEAST_ROOM: usize = 8 * 1024;

impl<S: AsyncRead + Unpin> Wire<S> {
    pub(super) fn new(stream: S) -> Self {
        Self { stream, unread: BytesMut::new() }
    }

    /// Reads more; 0 bytes at the end.
    pub(super) fn poll_fill(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<usize>> {
        let mut buffer = buffers::to_read();
        buffer.extend_from_slice(&self.unread);
        buffer.reserve(LEAST_ROOM);
        let read = poll_read_buf(Pin::new(&mut self.stream), cx, &mut buffer);
        let unused = match read {
            Poll::Ready(Ok(1..)) => std::mem::replace(&mut self.unread, buffer),
            _ => buffer,
        };
        buffers::give_back_read(unused);
        if read.is_pending() && self.unread.capacity() > self.unread.len() + LEAST_ROOM {
            self.keep_no_more_than_needed();
        }
        read
    }

    /// While it waits, a connection keeps no memory that could hold more than is there.
    #[cold]
    fn keep_no_more_than_needed(&mut self) {
        let needed = BytesMut::from(&*self.unread);
        buffers::give_back_read(std::mem::replace(&mut self.unread, needed));
    }

    /// The stream, and what is left of what was received.
    pub(super) fn end(self) -> (S, Vec<u8>) {
        let unread = self.unread.to_vec();
        buffers::give_back_read(self.unread);
        (self.stream, unread)
    }

    /// Gives back the buffer, if nothing is left in it.
    pub(super) fn rest(&mut self) {
        if self.unread.is_empty() {
            buffers::give_back_read(std::mem::take(&mut self.unread));
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
