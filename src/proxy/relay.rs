//! Bytes in both directions.
//!
//! What comes in bulk from one socket to another goes through a [`Pipe`], without a copy. The rest is copied, which takes fewer
//! system calls than a pipe.

use std::cell::Cell;
use std::future::poll_fn;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::{Buf as _, BytesMut};
use hyper::upgrade::{OnUpgrade, Upgraded};
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio::time::{Instant, sleep_until};
use tokio_util::io::poll_read_buf;

use super::begun::Begun;
use super::buffers;
use super::counters::ListenerCounters;
use super::pipes::Pipe;
use super::queue::InFlight;
use super::tls::{AnyEnd, BackendStream, ClientStream};

/// Bytes that must come at once for a pipe to be worth its calls.
const LEAST_PIPED: usize = 16 * 1024;

/// A stream that can be relayed.
pub(super) trait Relayed: AsyncRead + AsyncWrite + Unpin {
    /// The socket, if what it receives and sends is what the stream yields and takes.
    fn socket(&self) -> Option<&TcpStream> {
        None
    }
}

impl Relayed for Begun<TcpStream> {
    fn socket(&self) -> Option<&TcpStream> {
        self.received().is_empty().then(|| self.stream())
    }
}

impl Relayed for AnyEnd<BackendStream> {
    fn socket(&self) -> Option<&TcpStream> {
        match &self.0 {
            BackendStream::Plain(socket) => Some(socket),
            BackendStream::Tls(_) => None,
        }
    }
}

impl Relayed for ClientStream {}
impl Relayed for TokioIo<Upgraded> {}
impl Relayed for AnyEnd<TokioIo<Upgraded>> {}

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
    A: Relayed,
    B: Relayed,
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

/// What one side sends to the other. It has a buffer or a pipe only while there is something that the other has not taken.
#[derive(Default)]
struct Direction {
    /// What was read but not written.
    held: BytesMut,
    /// What was read but not written is here, if it is not `held`.
    pipe: Option<Pipe>,
    /// Whether so much came at once that more may be expected.
    is_bulk: bool,
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
        R: Relayed,
        W: Relayed,
    {
        loop {
            if let (Some(pipe), Some(socket)) = (&mut self.pipe, writer.socket()) {
                let moved = ready!(pipe.poll_drain(socket, cx))?;
                self.wrote(moved)?;
                if let Some(pipe) = self.pipe.take_if(|it| it.is_empty()) {
                    pipe.give_back();
                }
                continue;
            }
            if !self.held.is_empty() {
                let taken = ready!(Pin::new(&mut *writer).poll_write(cx, &self.held))?;
                self.wrote(taken)?;
                self.held.advance(taken);
                if self.held.is_empty() {
                    buffers::give_back_read(std::mem::take(&mut self.held));
                }
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
            let piped = if self.is_bulk { self.pipe(reader, writer, cx) } else { None };
            let read = piped.unwrap_or_else(|| self.copy(reader, cx));
            match read {
                Poll::Ready(Ok(1..)) => {}
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

    /// Reads what there is into a buffer.
    fn copy(
        &mut self,
        reader: &mut (impl AsyncRead + Unpin),
        cx: &mut Context<'_>,
    ) -> Poll<io::Result<usize>> {
        let mut buffer = buffers::to_read();
        let read = poll_read_buf(Pin::new(reader), cx, &mut buffer);
        if let Poll::Ready(Ok(more @ 1..)) = read {
            self.read += more as u64;
            self.is_bulk = buffer.len() == buffer.capacity();
            self.held = buffer;
        } else {
            buffers::give_back_read(buffer);
        }
        read
    }

    /// Moves what there is into a pipe. `None` if it must be copied.
    fn pipe<R, W>(&mut self, reader: &R, writer: &W, cx: &mut Context<'_>) -> Option<Poll<io::Result<usize>>>
    where
        R: Relayed,
        W: Relayed,
    {
        let (from, _) = reader.socket().zip(writer.socket())?;
        let mut pipe = Pipe::take()?;
        let moved = pipe.poll_fill(from, cx);
        match moved {
            Poll::Ready(Ok(more @ 1..)) => {
                self.read += more as u64;
                self.is_bulk = more >= LEAST_PIPED;
                self.pipe = Some(pipe);
            }
            // A sandbox may not allow it, and reading says what else is wrong.
            Poll::Ready(Err(_)) => return None,
            Poll::Ready(Ok(0)) | Poll::Pending => pipe.give_back(),
        }
        Some(moved)
    }

    /// The writer has taken so much of what was read.
    fn wrote(&mut self, taken: usize) -> io::Result<()> {
        if taken == 0 {
            return Err(io::ErrorKind::WriteZero.into());
        }
        self.written += taken as u64;
        self.progress = Progress::Written;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use futures_util::future::join_all;
    use socket2::SockRef;
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    use tokio::net::TcpListener;
    use tokio::task::JoinHandle;

    use super::*;
    use crate::proxy::pipes;

    const SENT: usize = 2 * 1024 * 1024;

    /// One direction between a sender and a receiver.
    struct Relay {
        direction: Direction,
        from: Begun<TcpStream>,
        to: Begun<TcpStream>,
        sending: JoinHandle<()>,
        receiver: TcpStream,
    }

    async fn connection() -> (TcpStream, TcpStream) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let connecting = TcpStream::connect(listener.local_addr().unwrap());
        let (one, two) = tokio::join!(connecting, listener.accept());
        (one.unwrap(), two.unwrap().0)
    }

    /// What the sender with this number sends.
    fn sent(number: usize) -> Vec<u8> {
        let mut random = fastrand::Rng::with_seed(number as u64);
        let part: Vec<u8> = (0..65_537).map(|_| random.u8(..)).collect();
        part.into_iter().cycle().take(SENT).collect()
    }

    impl Relay {
        /// Sends until the relay holds what the receiver does not take.
        async fn stuck(number: usize) -> Self {
            let ((mut sender, from), (to, receiver)) = (connection().await, connection().await);
            SockRef::from(&to).set_send_buffer_size(64 * 1024).unwrap();
            SockRef::from(&receiver).set_recv_buffer_size(64 * 1024).unwrap();
            let sending = tokio::spawn(async move { sender.write_all(&sent(number)).await.unwrap() });
            let (mut from, mut to, mut direction) = (Begun::new(from), Begun::new(to), Direction::default());
            poll_fn(|cx| {
                let polled = direction.poll(&mut from, &mut to, cx);
                assert!(polled.is_pending(), "nothing is held");
                let is_held = direction.pipe.is_some() || !direction.held.is_empty();
                if is_held { Poll::Ready(()) } else { Poll::Pending }
            })
            .await;
            Self { direction, from, to, sending, receiver }
        }

        /// What the receiver gets.
        async fn finish(self) -> Vec<u8> {
            let Self { mut direction, mut from, mut to, sending, mut receiver } = self;
            let mut received = Vec::new();
            let relayed = poll_fn(|cx| direction.poll(&mut from, &mut to, cx));
            let (relayed, read) = tokio::join!(relayed, receiver.read_to_end(&mut received));
            relayed.unwrap();
            read.unwrap();
            sending.await.unwrap();
            assert_eq!((direction.read, direction.written), (SENT as u64, SENT as u64));
            received
        }
    }

    #[tokio::test]
    async fn what_comes_in_bulk_goes_through_pipes_or_buffers_unchanged() {
        let mut relays = Vec::new();
        for number in 0..2 * pipes::MOST_PIPES {
            relays.push(Relay::stuck(number).await);
        }
        assert_eq!(pipes::made(), pipes::MOST_PIPES, "no more pipes than allowed");
        let received = join_all(relays.into_iter().map(Relay::finish)).await;
        for (number, received) in received.into_iter().enumerate() {
            assert!(received == sent(number), "relay {number}");
        }
        assert_eq!(pipes::made(), pipes::MOST_PIPES, "pipes are kept");
    }

    #[tokio::test]
    async fn nobody_gets_what_is_left_in_a_pipe() {
        let mut stuck = Vec::new();
        for number in 0..pipes::MOST_PIPES {
            stuck.push(Relay::stuck(number).await);
        }
        let in_use = stuck.iter().filter(|it| it.direction.pipe.is_some()).count();
        assert!(in_use > 0);
        let made = pipes::made();
        drop(stuck);
        assert_eq!(pipes::made(), made - in_use);
        for number in 100..100 + pipes::MOST_PIPES {
            let received = Relay::stuck(number).await.finish().await;
            assert!(received == sent(number), "relay {number}");
        }
    }
}
