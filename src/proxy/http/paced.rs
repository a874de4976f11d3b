//! A client's connection that must take what is written.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::task::{Context, Poll};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::{Instant, Sleep, sleep_until};

use super::STALL;
use crate::proxy::counters::ListenerCounters;
use crate::proxy::pace::Pace;

/// A stream whose writes fail once the other side takes nothing for [`STALL`], or too little for its pace.
pub(super) struct Paced<S> {
    stream: S,
    pace: Pace,
    stalls_at: Option<Instant>,
    /// Only there once something has waited.
    sleep: Option<Pin<Box<Sleep>>>,
    counters: Arc<ListenerCounters>,
}

impl<S> Paced<S> {
    pub(super) fn new(stream: S, pace: Pace, counters: Arc<ListenerCounters>) -> Self {
        Self { stream, pace, stalls_at: None, sleep: None, counters }
    }

    /// Passes on what a write came to, unless the time for it is over.
    fn watch<T>(
        &mut self,
        written: Poll<io::Result<T>>,
        bytes: impl FnOnce(&T) -> usize,
        cx: &mut Context<'_>,
    ) -> Poll<io::Result<T>> {
        if let Poll::Ready(written) = written {
            self.stalls_at = None;
            self.pace.moved(written.as_ref().map_or(0, bytes) as u64);
            return Poll::Ready(written);
        }
        self.pace.wait();
        let stalls_at = *self.stalls_at.get_or_insert_with(|| Instant::now() + STALL);
        let until = self.pace.until().map_or(stalls_at, |it| it.min(stalls_at));
        let sleep = self.sleep.get_or_insert_with(|| Box::pin(sleep_until(until)));
        if sleep.deadline() != until {
            sleep.as_mut().reset(until);
        }
        sleep.as_mut().poll(cx).map(|()| {
            self.counters.slow_downloads.fetch_add(1, Relaxed);
            Err(io::ErrorKind::TimedOut.into())
        })
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Paced<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(cx, buffer)
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Paced<S> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.stream).poll_write(cx, bytes);
        self.watch(written, |count| *count, cx)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        parts: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.stream).poll_write_vectored(cx, parts);
        self.watch(written, |count| *count, cx)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let flushed = Pin::new(&mut self.stream).poll_flush(cx);
        self.watch(flushed, |()| 0, cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let shut = Pin::new(&mut self.stream).poll_shutdown(cx);
        self.watch(shut, |()| 0, cx)
    }
}
