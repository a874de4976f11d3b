//! HTTP/2 connections to backends, each shared by many requests.
//!
//! A connection is used once the SETTINGS of the backend have come, which say how many streams it allows. Requests that
//! find no room wait for one new connection together, and fail together if it cannot be made.

use std::cell::{Cell, OnceCell, RefCell};
use std::error::Error;
use std::future::{Future, poll_fn};
use std::io;
use std::pin::pin;
use std::rc::Rc;
use std::task::{Context, Waker};
use std::time::Duration;

use http::{Request, Response};
use hyper::body::Incoming;
use hyper::client::conn::{TrySendError, http2};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::time::{Instant, sleep, timeout};
use tokio_io_timeout::TimeoutStream;
use tokio_util::sync::CancellationToken;

use super::http::request_body::RequestBody;
use super::pools::{Backend, WorkerPool};
use super::slots;
use super::upstream::{self, Connected, Failure};
use crate::net::limits::Occupant;

/// Streams of a connection at a time, if the backend allows as many: what RFC 9113 §6.5.2 recommends as the least.
const MOST_STREAMS: usize = 100;
/// Bytes of a response that may come before the client takes them: a round trip of 1 ms leaves room for 1 Gbit/s.
const STREAM_WINDOW: u32 = 128 * 1024;
/// The same for all streams of a connection. A client that takes nothing leaves the others their windows.
const CONNECTION_WINDOW: u32 = MOST_STREAMS as u32 * STREAM_WINDOW;
/// Bytes of a request that wait for the backend, for each stream.
const LARGEST_SEND_BUFFER: usize = 64 * 1024;
/// Bytes of the head of a response, as HTTP/2 counts them (RFC 9113 §6.5.2).
const LARGEST_HEAD: u32 = 64 * 1024;
/// Time for the reply to a ping.
const LONGEST_PONG: Duration = Duration::from_secs(10);
/// Time for what is left on a connection that was closed for being idle, such as the upload of a request that the backend
/// answered early.
const CLOSE_WITHIN: Duration = Duration::from_secs(2);
/// The streams that a backend allows before its SETTINGS have come; no SETTINGS can say as much.
const UNKNOWN: usize = usize::MAX - 1;

/// The connections to an address of a backend.
#[derive(Default)]
pub(super) struct Streams {
    connections: RefCell<Vec<Rc<Multiplexed>>>,
    /// The connection that is being made, if one is.
    opening: RefCell<Option<Rc<Opening>>>,
}

/// A connection.
struct Multiplexed {
    sender: RefCell<http2::SendRequest<RequestBody>>,
    progress: Rc<Progress>,
    in_use: Cell<usize>,
    /// Whether a request has been sent over it.
    was_used: Cell<bool>,
    /// When its last stream ended.
    since: Cell<Instant>,
    /// Cancelled when it is closed for being idle.
    closed: CancellationToken,
}

/// What is known of a connection.
struct Progress {
    /// The streams that the backend allows.
    allowed: Cell<usize>,
    /// Whether streams may be tunnels.
    allows_tunnels: Cell<bool>,
    /// Cancelled once that is known.
    settled: CancellationToken,
    /// Cancelled when no more requests can be sent.
    over: CancellationToken,
    /// Wakes the task that learns what the backend allows, until it is known.
    waker: Cell<Option<Waker>>,
}

/// A connection that is being made.
#[derive(Default)]
struct Opening {
    done: CancellationToken,
    failure: OnceCell<Failure>,
}

/// The right to one stream of a connection.
pub(super) struct Slot {
    connection: Rc<Multiplexed>,
    /// Whether it is not the first request of the connection.
    pub(super) is_reused: bool,
}

impl Drop for Slot {
    fn drop(&mut self) {
        self.connection.in_use.set(self.connection.in_use.get() - 1);
        self.connection.since.set(Instant::now());
    }
}

impl Slot {
    /// Whether the backend has announced that its streams may be tunnels (RFC 8441 §3).
    pub(super) fn allows_tunnels(&self) -> bool {
        self.connection.progress.allows_tunnels.get()
    }

    /// Sends a request; the future is its response.
    pub(super) fn send(
        &self,
        request: Request<RequestBody>,
    ) -> impl Future<Output = Result<Response<Incoming>, TrySendError<Request<RequestBody>>>> + use<> {
        self.connection.sender.borrow_mut().try_send_request(request)
    }
}

impl Multiplexed {
    fn is_over(&self) -> bool {
        self.progress.over.is_cancelled() || self.sender.borrow().is_closed()
    }

    fn has_room(&self) -> bool {
        self.in_use.get() < self.progress.allowed.get().min(MOST_STREAMS)
    }
}

impl Streams {
    /// A stream of a connection that has room. The first that has is taken, so that those that are not needed get idle.
    fn take(&self) -> Option<Slot> {
        let mut connections = self.connections.borrow_mut();
        connections.retain(|it| !it.is_over());
        let connection = Rc::clone(connections.iter().find(|it| it.has_room())?);
        connection.in_use.set(connection.in_use.get() + 1);
        let is_reused = connection.was_used.replace(true);
        Some(Slot { connection, is_reused })
    }

    /// Takes no more requests; those in progress go on.
    pub(super) fn clear(&self) {
        self.connections.borrow_mut().clear();
    }

    /// Closes the connections that have been idle for `limit`.
    pub(super) fn close_idle(&self, limit: Duration, now: Instant) {
        self.connections.borrow_mut().retain(|it| {
            let is_idle = it.in_use.get() == 0 && now >= it.since.get() + limit;
            if is_idle {
                it.closed.cancel();
            }
            !is_idle && !it.is_over()
        });
    }
}

impl Backend {
    /// A stream of an HTTP/2 connection that has room, or of a new one.
    ///
    /// # Errors
    /// [`Failure::Full`] or [`Failure::Connect`].
    pub(super) async fn stream(self: &Rc<Self>, pool: &Rc<WorkerPool>) -> Result<Slot, Failure> {
        loop {
            if let Some(slot) = self.streams.take() {
                return Ok(slot);
            }
            let opening = self.opening(pool);
            opening.done.cancelled().await;
            if let Some(failure) = opening.failure.get() {
                return Err(failure.shared());
            }
        }
    }

    /// The connection that is being made. It has a task of its own, since whoever wanted it first may give up.
    fn opening(self: &Rc<Self>, pool: &Rc<WorkerPool>) -> Rc<Opening> {
        if let Some(opening) = &*self.streams.opening.borrow() {
            return Rc::clone(opening);
        }
        let opening = Rc::new(Opening::default());
        *self.streams.opening.borrow_mut() = Some(Rc::clone(&opening));
        let (backend, pool, made) = (Rc::clone(self), Rc::clone(pool), Rc::clone(&opening));
        tokio::task::spawn_local(async move {
            match open(&backend, &pool).await {
                Ok(connection) => backend.streams.connections.borrow_mut().push(Rc::new(connection)),
                // It is set once, here.
                Err(failure) => drop(made.failure.set(failure)),
            }
            backend.streams.opening.take();
            made.done.cancel();
        });
        opening
    }
}

/// Makes a connection, within the pool's time for it.
async fn open(backend: &Backend, pool: &WorkerPool) -> Result<Multiplexed, Failure> {
    let within = pool.settings().timeout.connect;
    let opened = timeout(within, settle(backend, pool)).await;
    opened.unwrap_or_else(|_| Err(Failure::Connect(io::ErrorKind::TimedOut.into())))
}

/// Connects, and waits for the SETTINGS of the backend.
async fn settle(backend: &Backend, pool: &WorkerPool) -> Result<Multiplexed, Failure> {
    let Connected { stream, occupant } = upstream::connect(backend, pool, &[]).await?;
    let timeouts = pool.settings().timeout;
    let mut stream = TimeoutStream::new(stream);
    stream.set_write_timeout(Some(timeouts.write));
    let progress = Rc::new(Progress {
        allowed: Cell::new(UNKNOWN),
        allows_tunnels: Cell::new(false),
        settled: CancellationToken::new(),
        over: CancellationToken::new(),
        waker: Cell::default(),
    });
    let closed = CancellationToken::new();
    let guard = Guard { _occupant: occupant, ended: backend.ended.clone(), closed: closed.clone() };
    let tasks = Tasks { progress: Rc::clone(&progress), guard: Rc::new(Cell::new(Some(guard))) };
    let handshake = http2::Builder::new(tasks)
        .timer(TokioTimer::new())
        // A stream may be silent for as long as the pool reads. One ping in that time tells whether the connection is
        // alive, and no server takes it for a flood.
        .keep_alive_interval(timeouts.read / 2)
        .keep_alive_timeout(LONGEST_PONG.min(timeouts.read / 2))
        .keep_alive_while_idle(true)
        .initial_max_send_streams(UNKNOWN)
        .initial_stream_window_size(STREAM_WINDOW)
        .initial_connection_window_size(CONNECTION_WINDOW)
        .max_send_buf_size(LARGEST_SEND_BUFFER)
        .max_header_list_size(LARGEST_HEAD)
        .handshake(TokioIo::new(Box::pin(stream)));
    let (sender, connection) = handshake.await.map_err(|error| no_http2(backend, pool, error.into()))?;
    let driven = Rc::clone(&progress);
    tokio::task::spawn_local(async move {
        let mut connection = pin!(connection);
        let driving = poll_fn(|cx| {
            let polled = connection.as_mut().poll(cx);
            driven.allows_tunnels.set(connection.is_extended_connect_protocol_enabled());
            driven.allows(connection.current_max_send_streams(), cx);
            polled
        });
        // Whoever waits for a response learns of errors.
        driving.await.ok();
        driven.over.cancel();
    });
    tokio::select! {
        biased;
        () = progress.settled.cancelled() => {}
        () = progress.over.cancelled() => return Err(no_http2(backend, pool, "it sent no SETTINGS".into())),
    }
    Ok(Multiplexed {
        sender: RefCell::new(sender),
        progress,
        in_use: Cell::new(0),
        was_used: Cell::new(false),
        since: Cell::new(Instant::now()),
        closed,
    })
}

/// The failure of a backend that does not speak HTTP/2, which is logged.
fn no_http2(backend: &Backend, pool: &WorkerPool, why: Box<dyn Error + Send + Sync>) -> Failure {
    let error = io::Error::other(format!("HTTP/2: {why}"));
    upstream::complain(backend, pool, "it does not speak HTTP/2", &error);
    Failure::Connect(error)
}

impl Progress {
    /// The backend allows this many streams, as far as is known.
    fn allows(&self, streams: usize, cx: &Context<'_>) {
        self.allowed.set(streams);
        if self.settled.is_cancelled() {
            return;
        }
        // One that allows none is of no use yet.
        match streams {
            UNKNOWN | 0 => self.waker.set(Some(cx.waker().clone())),
            _ => self.settled.cancel(),
        }
    }
}

/// Runs what belongs to a connection on the thread that has it.
#[derive(Clone)]
struct Tasks {
    progress: Rc<Progress>,
    /// For the first task, which reads and writes the connection.
    guard: Rc<Cell<Option<Guard>>>,
}

/// What a connection holds, and when it ends.
struct Guard {
    /// Counts it.
    _occupant: (Occupant, slots::Slot),
    /// Cancelled when connections to the backend must end.
    ended: CancellationToken,
    /// Cancelled when it is closed for being idle.
    closed: CancellationToken,
}

impl<F> hyper::rt::Executor<F> for Tasks
where
    F: Future + 'static,
    F::Output: 'static,
{
    fn execute(&self, task: F) {
        let Some(guard) = self.guard.take() else {
            tokio::task::spawn_local(task);
            return;
        };
        let progress = Rc::clone(&self.progress);
        tokio::task::spawn_local(async move {
            let mut task = pin!(task);
            let running = poll_fn(|cx| {
                let polled = task.as_mut().poll(cx);
                if let Some(waker) = progress.waker.take() {
                    waker.wake();
                }
                polled.map(drop)
            });
            let idle = async {
                guard.closed.cancelled().await;
                sleep(CLOSE_WITHIN).await;
            };
            tokio::select! {
                () = running => {}
                () = guard.ended.cancelled() => {}
                () = idle => {}
            }
        });
    }
}

/// What an HTTP/2 backend has done with a request that failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Processed {
    /// Nothing: it refused the stream (RFC 9113 §8.7).
    Refused,
    /// Nothing: the connection takes no more streams (RFC 9113 §6.8).
    GoneAway,
    /// It ended the stream.
    Reset,
    /// It broke the rules.
    Malformed,
    /// Unknown.
    Maybe,
}

impl Processed {
    /// What an error of hyper says of it.
    pub(super) fn of(error: &hyper::Error) -> Self {
        let mut source = error.source();
        while let Some(cause) = source {
            if let Some(cause) = cause.downcast_ref::<h2::Error>() {
                return match (cause.is_remote(), cause.is_go_away()) {
                    (true, true) => Self::GoneAway,
                    (true, false) if cause.reason() == Some(h2::Reason::REFUSED_STREAM) => Self::Refused,
                    (true, false) => Self::Reset,
                    (false, _) if cause.is_library() => Self::Malformed,
                    (false, _) => Self::Maybe,
                };
            }
            source = cause.source();
        }
        Self::Maybe
    }
}
