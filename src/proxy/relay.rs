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
/// anything for `idle`, or the backend must be left.
pub(super) async fn upgraded(
    client: OnUpgrade,
    backend: OnUpgrade,
    idle: Duration,
    in_flight: InFlight,
    counters: &ListenerCounters,
) {
    let Ok((client, backend)) = tokio::try_join!(client, backend) else { return };
    tokio::select! {
        // Why one of them ended is of no interest to the other.
        _ = both_ways(TokioIo::new(client), AnyEnd(TokioIo::new(backend)), idle, counters) => {}
        () = in_flight.overdue() => {}
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
