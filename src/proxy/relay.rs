//! Bytes in both directions.

use std::cell::Cell;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use hyper::upgrade::OnUpgrade;
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf, copy_bidirectional};
use tokio::time::{Instant, sleep_until};

use super::counters::ListenerCounters;
use super::queue::InFlight;
use super::tls::AnyEnd;

/// Relays what a client and a backend send after they changed the protocol, until both have ended, neither has sent
/// anything for `idle`, or the backend must be left. Returns the bytes from the client and to it.
pub(super) async fn upgraded(
    client: OnUpgrade,
    backend: OnUpgrade,
    idle: Duration,
    in_flight: InFlight,
    counters: &ListenerCounters,
) -> (u64, u64) {
    let Ok((client, backend)) = tokio::try_join!(client, backend) else { return (0, 0) };
    let (received, sent) = (Cell::new(0), Cell::new(0));
    let client = Counted { stream: TokioIo::new(client), read: &received, written: &sent };
    tokio::select! {
        // Why one of them ended is of no interest to the other.
        _ = both_ways(client, AnyEnd(TokioIo::new(backend)), idle, counters) => {}
        () = in_flight.overdue() => {}
    }
    (received.get(), sent.get())
}

/// A stream that counts its bytes, whatever it ends by.
struct Counted<'a, S> {
    stream: S,
    read: &'a Cell<u64>,
    written: &'a Cell<u64>,
}

impl<S: AsyncRead + Unpin> AsyncRead for Counted<'_, S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        let read = Pin::new(&mut self.stream).poll_read(cx, buffer);
        self.read.set(self.read.get() + (buffer.filled().len() - before) as u64);
        read
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Counted<'_, S> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.stream).poll_write(cx, bytes);
        if let Poll::Ready(Ok(count)) = written {
            self.written.set(self.written.get() + count as u64);
        }
        written
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}

/// Relays both ways until both have ended, one has failed, or neither has sent anything for `idle`. Either may end its
/// direction first. The bytes are counted as they come.
pub(super) async fn both_ways<A, B>(
    client: A,
    backend: B,
    idle: Duration,
    counters: &ListenerCounters,
) -> io::Result<(u64, u64)>
where
    A: AsyncRead + AsyncWrite + Unpin,
    B: AsyncRead + AsyncWrite + Unpin,
{
    let last = &Cell::new(Instant::now());
    let received = |bytes| counters.received(bytes);
    let sent = |bytes| counters.sent(bytes);
    let mut client = Watched { stream: client, last, count: received };
    let mut backend = Watched { stream: backend, last, count: sent };
    let relayed = copy_bidirectional(&mut client, &mut backend);
    let silence = async {
        loop {
            let until = last.get() + idle;
            if until <= Instant::now() {
                return;
            }
            sleep_until(until).await;
        }
    };
    tokio::select! {
        relayed = relayed => relayed,
        () = silence => Err(io::ErrorKind::TimedOut.into()),
    }
}

/// A stream that notes when something came over it, and counts the bytes.
struct Watched<'a, S, F> {
    stream: S,
    last: &'a Cell<Instant>,
    count: F,
}

impl<S: AsyncRead + Unpin, F: Fn(u64) + Unpin> AsyncRead for Watched<'_, S, F> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        let read = Pin::new(&mut self.stream).poll_read(cx, buffer);
        if read.is_ready() {
            self.last.set(Instant::now());
            (self.count)((buffer.filled().len() - before) as u64);
        }
        read
    }
}

impl<S: AsyncWrite + Unpin, F: Unpin> AsyncWrite for Watched<'_, S, F> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(cx, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}
