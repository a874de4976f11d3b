//! Connections to backends, and requests to them.

use std::future::{Future, poll_fn};
use std::io;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use futures_util::FutureExt as _;
use http::Method;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::time::Instant;

use super::Lane;
use super::response::{self, Answered};
use super::upload::{Broken, Upload};
use super::wire::Wire;
use crate::net::limits::Occupant;
use crate::proxy::access::Record;
use crate::proxy::http::request_body::ClientFault;
use crate::proxy::pools::{Backend, WorkerPool};
use crate::proxy::queue::InFlight;
use crate::proxy::slots::Slot;
use crate::proxy::tls::BackendStream;
use crate::proxy::upstream::{self, Connected, Failure};

/// A connection to a backend.
pub(in crate::proxy) struct Plain {
    pub(super) wire: Wire<BackendStream>,
    /// Since when it is idle.
    since: Instant,
    /// Counts it.
    _occupant: (Occupant, Slot),
}

/// A request that is with a backend.
pub(super) struct Trip<'a> {
    pub(super) pool: &'a WorkerPool,
    pub(super) in_flight: InFlight,
    pub(super) plain: Plain,
    pub(super) upload: &'a mut Upload,
    pub(super) record: &'a Record,
}

/// How often a request in progress looks whether its backend must be left.
const TICK: Duration = Duration::from_secs(1);
/// Bytes of the head of a response.
const LARGEST_RESPONSE_HEAD: usize = 64 * 1024;

/// Why what a backend was to do did not happen.
#[derive(Debug)]
pub(super) enum Stop {
    Failed(Failure),
    /// The client is gone.
    Gone,
}

impl Plain {
    /// A new connection.
    pub(super) async fn connect(backend: &Backend, pool: &WorkerPool) -> Result<Self, Failure> {
        let Connected { stream, occupant } = upstream::connect(backend, pool, &[]).await?;
        Ok(Self { wire: Wire::new(stream), since: Instant::now(), _occupant: occupant })
    }

    /// Whether nothing has come over it since its last response, and it is still open.
    fn is_quiet(&mut self) -> bool {
        poll_fn(|cx| self.wire.poll_fill(cx)).now_or_never().is_none()
    }
}

impl Backend {
    /// A connection that is idle and still open. `surely` if it must not end unnoticed: then the kernel is asked, too.
    pub(super) fn take_plain(&self, surely: bool) -> Option<Plain> {
        let mut idle = self.plain.borrow_mut();
        // The last used is the least likely to be closed by the backend.
        while let Some(mut plain) = idle.pop() {
            if plain.is_quiet() && (!surely || plain.wire.stream.is_silent()) {
                return Some(plain);
            }
        }
        None
    }

    /// Keeps a connection whose response has ended.
    pub(super) fn keep_plain(&self, mut plain: Plain, most: usize) {
        let mut idle = self.plain.borrow_mut();
        if self.may_keep() && idle.len() + self.idle.borrow().len() < most {
            plain.wire.rest();
            plain.since = Instant::now();
            idle.push(plain);
        }
    }

    /// Closes the connections that have been idle for `limit`, and forgets those that are closed.
    pub(in crate::proxy) fn close_idle_plain(&self, limit: Duration, now: Instant) {
        self.plain.borrow_mut().retain_mut(|it| now < it.since + limit && it.is_quiet());
    }
}

/// The head of the response to a request with this method.
pub(super) fn poll_head(
    wire: &mut Wire<BackendStream>,
    method: &Method,
    cx: &mut Context<'_>,
) -> Poll<Result<Answered, Failure>> {
    loop {
        if !wire.unread.is_empty() {
            match response::take(&mut wire.unread, method) {
                Ok(Some(answered)) => return Poll::Ready(Ok(answered)),
                Ok(None) if wire.unread.len() < LARGEST_RESPONSE_HEAD => {}
                Ok(None) => return Poll::Ready(Err(response::Malformed::TooLarge.into())),
                Err(malformed) => return Poll::Ready(Err(malformed.into())),
            }
        }
        if ready!(wire.poll_fill(cx)).map_err(Failure::reset)? == 0 {
            return Poll::Ready(Err(Failure::reset(io::ErrorKind::UnexpectedEof.into())));
        }
    }
}

/// Why a connection is closed although its backend would answer.
pub(super) fn left() -> io::Error {
    io::Error::other("the backend was drained or removed")
}

impl Failure {
    pub(super) fn left() -> Self {
        Self::reset(left())
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> Lane<'_, S> {
    /// Sends a request over an idle connection or a new one, and waits for the head of the response.
    pub(super) async fn attempt(
        &mut self,
        pool: &WorkerPool,
        in_flight: &InFlight,
        method: &Method,
        upload: &mut Upload,
        is_repeatable: bool,
    ) -> Result<(Plain, Answered), Stop> {
        let backend = &*in_flight.backend;
        let begun = Instant::now();
        let mut may_reuse = true;
        loop {
            // A request that cannot be sent again is not sent over a connection that may have ended.
            let idle = if may_reuse { backend.take_plain(!is_repeatable) } else { None };
            let is_reused = idle.is_some();
            let mut plain = match idle {
                Some(plain) => plain,
                None => {
                    // In a box, since most requests need no new connection.
                    let connecting = self.unless_gone(Box::pin(Plain::connect(backend, pool))).await?;
                    connecting.map_err(Stop::Failed)?
                }
            };
            match self.ask(&mut plain, backend, pool, method, upload).await {
                Ok(answered) => {
                    backend.counters.took(begun.elapsed());
                    return Ok((plain, answered));
                }
                // The backend closed the idle connection while the request was on its way.
                Err(Stop::Failed(Failure::Reset(_)))
                    if is_reused && (is_repeatable || !upload.is_begun()) =>
                {
                    // What it may have seen once goes over a new connection, so that it sees it twice at most.
                    may_reuse = !upload.is_begun();
                    upload.restart();
                }
                Err(Stop::Gone) => {
                    // It must not look fast because nobody waits for it.
                    backend.counters.gave_up(begun.elapsed());
                    return Err(Stop::Gone);
                }
                Err(stop) => return Err(stop),
            }
        }
    }

    /// Sends a request and waits for the head of the response, which may come before the whole request is sent.
    async fn ask(
        &mut self,
        plain: &mut Plain,
        backend: &Backend,
        pool: &WorkerPool,
        method: &Method,
        upload: &mut Upload,
    ) -> Result<Answered, Stop> {
        let read = pool.settings().timeout.read;
        let head = |wire: &mut Wire<BackendStream>, cx: &mut Context<'_>| poll_head(wire, method, cx);
        self.while_wanted(plain, backend, upload, read, head).await?.map_err(Stop::Failed)
    }

    /// Waits for something of a backend while the request is sent on, as long as the client is there and the backend may
    /// be used.
    pub(super) async fn while_wanted<T>(
        &mut self,
        plain: &mut Plain,
        backend: &Backend,
        upload: &mut Upload,
        limit: Duration,
        mut poll: impl FnMut(&mut Wire<BackendStream>, &mut Context<'_>) -> Poll<T>,
    ) -> Result<T, Stop> {
        let (mut until, mut look) = (None, None);
        let mut moved = upload.moved;
        let Self { wire, timer, .. } = self;
        poll_fn(|cx| {
            if !upload.is_over() {
                match upload.poll(wire, &mut plain.wire.stream, cx) {
                    Poll::Ready(Ok(())) | Poll::Pending => {}
                    Poll::Ready(Err(Broken::Client(fault))) => {
                        return Poll::Ready(Err(Stop::Failed(Failure::Client(fault))));
                    }
                    // What it has sent before is read first, since it may say why.
                    Poll::Ready(Err(Broken::Backend)) => upload.give_up(),
                }
                if upload.moved != moved {
                    (until, look, moved) = (None, None, upload.moved);
                }
            }
            if let Poll::Ready(it) = poll(&mut plain.wire, cx) {
                return Poll::Ready(Ok(it));
            }
            if upload.is_over() && Self::poll_gone(wire, cx).is_ready() {
                return Poll::Ready(Err(Stop::Gone));
            }
            let until = *until.get_or_insert_with(|| Instant::now() + limit);
            let until = upload.late_at().map_or(until, |it| it.min(until));
            loop {
                let next = *look.get_or_insert_with(|| until.min(Instant::now() + TICK));
                ready!(timer.poll_until(next, cx));
                if Instant::now() >= until {
                    let failure = match upload.is_starved {
                        true => Failure::Client(ClientFault::Slow),
                        false => Failure::Timeout(limit),
                    };
                    return Poll::Ready(Err(Stop::Failed(failure)));
                }
                if backend.ended.is_cancelled() {
                    return Poll::Ready(Err(Stop::Failed(Failure::left())));
                }
                look = None;
            }
        })
        .await
    }

    /// Waits for something, as long as the client is there.
    pub(super) async fn unless_gone<T>(&mut self, future: impl Future<Output = T>) -> Result<T, Stop> {
        let mut future = std::pin::pin!(future);
        poll_fn(|cx| match future.as_mut().poll(cx) {
            Poll::Ready(it) => Poll::Ready(Ok(it)),
            Poll::Pending => Self::poll_gone(&mut self.wire, cx).map(|()| Err(Stop::Gone)),
        })
        .await
    }
}
