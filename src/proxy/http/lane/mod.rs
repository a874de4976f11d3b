//! The lane of plain HTTP/1.1: requests that are understood at a glance, without hyper.
//!
//! A connection begins here. At the first request that the lane does not understand, valid or not, the connection goes to
//! hyper with all that was not used of it, and stays there. Requests are routed, tried and counted by the same functions
//! in both.
//!
//! Requests without a body that came through hyper go to HTTP/1.1 backends over connections of the lane, too ([`client`]).

mod backend;
mod chunks;
pub(super) mod client;
mod exchange;
mod relay;
mod request;
mod response;
#[cfg(test)]
mod tests;
mod upload;
mod wire;

pub(in crate::proxy) use backend::Plain;
pub(in crate::proxy) use client::PlainBody;
pub(super) use request::MOST_HEADERS;

use std::future::{Future, poll_fn};
use std::pin::{Pin, pin};
use std::rc::Rc;
use std::sync::atomic::Ordering::Relaxed;
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite};
use tokio::time::Instant;

use super::{CLOSE_WITHIN, HEAD_WITHIN, LARGEST_HEAD, STALL};
use crate::proxy::buffers;
use crate::proxy::pace::Pace;
use crate::proxy::worker::Client;
use request::Received;
use wire::{Timer, Wire, poll_write_all};

/// Time that a client gets to close its side, once the proxy has closed its own. Were the connection dropped at once, what
/// the client still sends would reset it, and the response might be lost.
pub(super) const LINGER: Duration = Duration::from_secs(1);
/// Bytes that are read meanwhile.
pub(super) const MOST_LINGERING: usize = 256 * 1024;

/// A client's connection.
struct Lane<'a, S> {
    client: &'a Rc<Client>,
    wire: Wire<S>,
    timer: Timer,
    /// How the client takes responses.
    pace: Pace,
    /// What is to be written to the client.
    out: Vec<u8>,
    /// The snapshot for which no route of the listener leads to a pool that the lane does not serve; 0 is none.
    plain_in: u64,
}

/// A connection whose next request the lane does not understand.
pub(super) struct Left<S> {
    pub(super) stream: S,
    /// What was received of it but not used.
    pub(super) unread: Vec<u8>,
    /// Whether it had requests before, which were HTTP/1.1.
    pub(super) is_used: bool,
}

/// Whether a connection can have another request.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Then {
    GoOn,
    Close,
    /// The general path takes over, with the request that was not begun.
    HandOver,
}

/// Serves requests until one comes that the lane does not understand. `None` if the connection has ended.
pub(super) async fn serve<S>(client: &Rc<Client>, stream: S) -> Option<Left<S>>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let timer = Timer::new(Instant::now() + HEAD_WITHIN);
    let pace = Pace::of_download(&client.limits);
    let mut lane = Lane { client, wire: Wire::new(stream), timer, pace, out: Vec::new(), plain_in: 0 };
    let mut closing = pin!(client.context.closing.cancelled());
    let mut is_used = false;
    loop {
        match lane.next(closing.as_mut()).await? {
            // In a box, so that idle connections take no memory for it.
            Received::Request(asked) => match Box::pin(lane.exchange(asked)).await? {
                Then::GoOn => {
                    is_used = true;
                    lane.rest();
                }
                Then::HandOver => return Some(lane.leave(is_used)),
                Then::Close => {
                    lane.linger().await;
                    return None;
                }
            },
            _ => return Some(lane.leave(is_used)),
        }
    }
}

/// How a client takes what is written.
#[derive(Default)]
struct Taking {
    written: usize,
    stalls_at: Option<Instant>,
}

impl Taking {
    /// So many bytes are written by now.
    fn written(&mut self, written: usize, pace: &mut Pace) {
        let more = written - std::mem::replace(&mut self.written, written);
        if more > 0 {
            self.stalls_at = None;
            pace.moved(more as u64);
        }
    }

    /// Ready once the client has taken nothing for [`STALL`], or is too slow.
    fn poll_late(
        &mut self,
        client: &Client,
        pace: &mut Pace,
        timer: &mut Timer,
        cx: &mut Context<'_>,
    ) -> Poll<()> {
        pace.wait();
        let stalls_at = *self.stalls_at.get_or_insert_with(|| Instant::now() + STALL);
        let until = pace.until().map_or(stalls_at, |it| it.min(stalls_at));
        timer.poll_until(until, cx).map(|()| {
            client.counters.slow_downloads.fetch_add(1, Relaxed);
        })
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> Lane<'_, S> {
    fn leave(self, is_used: bool) -> Left<S> {
        let (stream, unread) = self.wire.end();
        Left { stream, unread, is_used }
    }

    /// The next request; `None` if there is none, because the client is gone or idle, or the node stops.
    async fn next(&mut self, mut closing: Pin<&mut impl Future<Output = ()>>) -> Option<Received> {
        let mut until = None;
        let mut is_closing = false;
        let mut may_be_whole = true;
        loop {
            let received = self.wire.unread.len();
            if received > 0 && may_be_whole {
                match request::read(&self.wire.unread) {
                    Received::Part if received < LARGEST_HEAD => {}
                    Received::Part => return Some(Received::Other),
                    whole => return Some(whole),
                }
            }
            let more = poll_fn(|cx| {
                if let Poll::Ready(filled) = self.wire.poll_fill(cx) {
                    return Poll::Ready(filled.ok());
                }
                let mut until_then = *until.get_or_insert_with(|| Instant::now() + HEAD_WITHIN);
                if !is_closing && closing.as_mut().poll(cx).is_ready() {
                    is_closing = true;
                    until_then = Instant::now() + if received == 0 { Duration::ZERO } else { CLOSE_WITHIN };
                    until = Some(until_then);
                }
                self.timer.poll_until(until_then, cx).map(|()| None)
            });
            if more.await? == 0 {
                return None;
            }
            // A head that comes byte by byte is not read anew with each.
            may_be_whole = received == 0 || self.wire.unread[received..].contains(&b'\n');
        }
    }

    /// Gives back the memory that is not needed while the connection is idle.
    fn rest(&mut self) {
        self.wire.rest();
        buffers::give_back_written(std::mem::take(&mut self.out));
    }

    /// Writes what is to be written, and `more`.
    async fn write(&mut self, more: &[u8]) -> Option<()> {
        let parts = [&*self.out, more];
        let (mut written, mut taking) = (0, Taking::default());
        poll_fn(|cx| {
            let done = poll_write_all(&mut self.wire.stream, parts, &mut written, cx);
            taking.written(written, &mut self.pace);
            match done {
                Poll::Ready(done) => Poll::Ready(done.ok()),
                Poll::Pending => {
                    taking.poll_late(self.client, &mut self.pace, &mut self.timer, cx).map(|()| None)
                }
            }
        })
        .await?;
        self.out.clear();
        Some(())
    }

    /// Closes the connection, and reads on for a while.
    async fn linger(&mut self) {
        let until = Instant::now() + LINGER;
        let mut is_shut = false;
        let mut read = 0;
        poll_fn(|cx| {
            if !is_shut {
                is_shut = Pin::new(&mut self.wire.stream).poll_shutdown(cx).is_ready();
            }
            loop {
                self.wire.unread.clear();
                match self.wire.poll_fill(cx) {
                    Poll::Ready(Ok(more @ 1..)) if read < MOST_LINGERING => read += more,
                    Poll::Ready(_) => return Poll::Ready(()),
                    Poll::Pending => return self.timer.poll_until(until, cx),
                }
            }
        })
        .await;
    }

    /// Ready once the client is gone. It is read meanwhile, but not far.
    fn poll_gone(wire: &mut Wire<S>, cx: &mut Context<'_>) -> Poll<()> {
        while wire.unread.len() < LARGEST_HEAD {
            match wire.poll_fill(cx) {
                Poll::Ready(Ok(0) | Err(_)) => return Poll::Ready(()),
                Poll::Ready(Ok(_)) => {}
                Poll::Pending => break,
            }
        }
        Poll::Pending
    }
}
