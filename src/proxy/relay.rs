//! Bytes in both directions.

use std::cell::Cell;
use std::future::poll_fn;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::{Buf as _, BytesMut};
use hyper::upgrade::OnUpgrade;
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::time::{Instant, sleep_until};
use tokio_util::io::poll_read_buf;

use super::buffers;
use super::counters::ListenerCounters;
use super::queue::InFlight;
use super::tls::AnyEnd;

/// Relays what a client and a backend send after they changed the protocol. Returns the bytes from the client and to it.
pub(super) async fn upgraded(
    client: OnUpgrade,
    backend: OnUpgrade,
    idle: Duration,
    in_flight: &InFlight,
    counters: &ListenerCounters,
) -> (u64, u64) {
    let Ok((client, backend)) = tokio::try_join!(client, backend) else { return (0, 0) };
    both_ways(TokioIo::new(client), AnyEnd(TokioIo::new(backend)), idle, in_flight, counters).await
}

/// Relays both ways until both have ended, one has failed, neither has sent anything for `idle`, or the backend must be left.
/// Either may end its direction first. Counts the bytes as they come, and returns those from the client and to it.
pub(super) async fn both_ways<A, B>(
    mut client: A,
    mut backend: B,
    idle: Duration,
    in_flight: &InFlight,
    counters: &ListenerCounters,
) -> (u64, u64)
where
    A: AsyncRead + AsyncWrite + Unpin,
    B: AsyncRead + AsyncWrite + Unpin,
{
    let (mut up, mut down) = (Direction::default(), Direction::default());
    let last = &Cell::new(Instant::now());
    let relayed = poll_fn(|cx| {
        let (received, came, sent) = (up.read, down.read, down.written);
        let ended = (up.poll(&mut client, &mut backend, cx), down.poll(&mut backend, &mut client, cx));
        if (received, came) != (up.read, down.read) {
            last.set(Instant::now());
        }
        counters.received(up.read - received);
        counters.sent(down.written - sent);
        match ended {
            // Why one of them ended is of no interest to the other.
            (Poll::Ready(Err(_)), _) | (_, Poll::Ready(Err(_))) => Poll::Ready(()),
            (Poll::Ready(Ok(())), Poll::Ready(Ok(()))) => Poll::Ready(()),
            _ => Poll::Pending,
        }
    });
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
        () = relayed => {}
        () = silence => {}
        () = in_flight.overdue() => {}
    }
    (up.read, down.written)
}

/// What one side sends to the other. It has a buffer only while there is something that the other has not taken.
#[derive(Default)]
struct Direction {
    /// What was read but not written.
    held: BytesMut,
    progress: Progress,
    /// Bytes in all.
    read: u64,
    written: u64,
}

#[derive(Clone, Copy, Default)]
enum Progress {
    #[default]
    Flushed,
    /// Something was written that the writer may still hold, as TLS does.
    Written,
    /// The reader has ended, which the writer does not know yet.
    Ending,
    Ended,
}

impl Direction {
    /// Ready once the reader has ended and the writer knows.
    fn poll<R, W>(&mut self, reader: &mut R, writer: &mut W, cx: &mut Context<'_>) -> Poll<io::Result<()>>
    where
        R: AsyncRead + Unpin,
        W: AsyncWrite + Unpin,
    {
        loop {
            if !self.held.is_empty() {
                self.write(ready!(Pin::new(&mut *writer).poll_write(cx, &self.held))?)?;
                continue;
            }
            match self.progress {
                Progress::Ended => return Poll::Ready(Ok(())),
                Progress::Ending => {
                    ready!(Pin::new(&mut *writer).poll_shutdown(cx))?;
                    self.progress = Progress::Ended;
                    continue;
                }
                Progress::Flushed | Progress::Written => {}
            }
            let mut buffer = buffers::to_read();
            let read = poll_read_buf(Pin::new(&mut *reader), cx, &mut buffer);
            if let Poll::Ready(Ok(1..)) = read {
                self.read += buffer.len() as u64;
                self.held = buffer;
                continue;
            }
            buffers::give_back_read(buffer);
            match read {
                Poll::Ready(read) => {
                    read?;
                    self.progress = Progress::Ending;
                }
                Poll::Pending => {
                    if let Progress::Written = self.progress {
                        ready!(Pin::new(&mut *writer).poll_flush(cx))?;
                        self.progress = Progress::Flushed;
                    }
                    return Poll::Pending;
                }
            }
        }
    }

    /// The writer has taken so much of what is held.
    fn write(&mut self, taken: usize) -> io::Result<()> {
        if taken == 0 {
            return Err(io::ErrorKind::WriteZero.into());
        }
        self.written += taken as u64;
        self.progress = Progress::Written;
        self.held.advance(taken);
        if self.held.is_empty() {
            buffers::give_back_read(std::mem::take(&mut self.held));
        }
        Ok(())
    }
}
