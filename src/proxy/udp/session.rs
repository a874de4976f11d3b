//! A session: the socket to its backend, and the task that relays what the backend sends.

use std::cell::Cell;
use std::io;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::rc::Rc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use socket2::SockRef;
use tokio::net::UdpSocket;
use tokio::time::{Instant, sleep_until};
use tokio_util::sync::CancellationToken;

use super::Listener;
use super::counters::Dropped;
use super::table::Flow;
use crate::net::exchange::Exchange as _;
use crate::net::limits::Occupant;
use crate::net::udp::BATCH;
use crate::proxy::leaving;
use crate::proxy::passive::Fault;
use crate::proxy::pools::{Backend, WorkerPool};
use crate::proxy::queue::InFlight;
use crate::proxy::worker::Context;

/// Time without a datagram until a session ends whose client has not sent anything after a reply: most are a question and
/// its answer, or a forged address.
const FRESH_IDLE: Duration = Duration::from_secs(10);
/// The same for all sessions of a node that stops.
const CLOSING_IDLE: Duration = Duration::from_secs(2);

/// What a client and a backend exchange.
pub(super) struct Session {
    /// Connected to the backend.
    socket: UdpSocket,
    backend: Rc<Backend>,
    pool: Rc<WorkerPool>,
    /// When something was sent, either way.
    last: Cell<Instant>,
    /// Whether the backend has sent something.
    is_answered: Cell<bool>,
    /// Whether the client has sent something after that.
    is_settled: Cell<bool>,
    /// Whether the backend has refused a datagram: nobody listens there.
    is_refused: Cell<bool>,
    ended: CancellationToken,
}

impl Session {
    /// A session with this backend.
    ///
    /// # Errors
    /// If there is no socket for it.
    pub(super) fn new(backend: &Rc<Backend>, pool: &Rc<WorkerPool>, now: Instant) -> io::Result<Self> {
        let any: SocketAddr = match backend.address {
            SocketAddr::V4(_) => (Ipv4Addr::UNSPECIFIED, 0).into(),
            SocketAddr::V6(_) => (Ipv6Addr::UNSPECIFIED, 0).into(),
        };
        let socket = std::net::UdpSocket::bind(any)?;
        socket.connect(backend.address)?;
        socket.set_nonblocking(true)?;
        Ok(Self {
            socket: UdpSocket::from_std(socket)?,
            backend: Rc::clone(backend),
            pool: Rc::clone(pool),
            last: Cell::new(now),
            is_answered: Cell::new(false),
            is_settled: Cell::new(false),
            is_refused: Cell::new(false),
            ended: CancellationToken::new(),
        })
    }

    /// Whether the client's next datagram still belongs to it.
    pub(super) fn goes_on(&self, context: &Context) -> bool {
        if self.is_refused.get() || self.ended.is_cancelled() || self.backend.ended.is_cancelled() {
            return false;
        }
        // What is drained or removed may go on for a while; what is down would not answer.
        self.backend.is_open.get()
            || !leaving::is_down(&context.snapshot(), &self.pool.settings().name, self.backend.address)
    }

    pub(super) fn is_answered(&self) -> bool {
        self.is_answered.get()
    }

    pub(super) fn is_settled(&self) -> bool {
        self.is_settled.get()
    }

    /// The backend, if it has refused a datagram.
    pub(super) fn refused(&self) -> Option<SocketAddr> {
        self.is_refused.get().then_some(self.backend.address)
    }

    /// The backend has refused a datagram.
    pub(super) fn refuse(&self) {
        if !self.is_refused.replace(true) {
            self.backend.counters.failures.fetch_add(1, Relaxed);
            self.pool.failed(&self.backend, Fault::Connect, &"it refuses datagrams");
        }
    }

    /// Ends it.
    pub(super) fn end(&self) {
        self.ended.cancel();
    }

    /// Sends a datagram of the client.
    ///
    /// # Errors
    /// Those of the socket, of earlier datagrams, too.
    pub(super) fn send(&self, bytes: &[u8], now: Instant) -> io::Result<()> {
        self.last.set(now);
        if self.is_answered.get() {
            self.is_settled.set(true);
        }
        // The runtime learns that a new socket can be written to only when it waits.
        SockRef::from(&self.socket).send(bytes).map(|_| ())
    }

    /// When it ends unless something is sent until then.
    fn deadline(&self, is_closing: bool) -> Instant {
        let mut idle = self.pool.settings().timeout.idle;
        if !self.is_settled.get() {
            idle = idle.min(FRESH_IDLE);
        }
        if is_closing {
            idle = idle.min(CLOSING_IDLE);
        }
        self.last.get() + idle
    }
}

/// Relays what the backend sends until the session ends.
pub(super) async fn run(
    listener: Rc<Listener>,
    flow: Flow,
    session: Rc<Session>,
    in_flight: InFlight,
    occupant: Occupant,
) {
    listener.counters.begun.fetch_add(1, Relaxed);
    listener.counters.sessions.fetch_add(1, Relaxed);
    let closing = &listener.context.closing;
    loop {
        let is_closing = closing.is_cancelled();
        let deadline = session.deadline(is_closing);
        if deadline <= Instant::now() {
            break;
        }
        tokio::select! {
            biased;
            () = session.ended.cancelled() => break,
            () = in_flight.overdue() => break,
            () = closing.cancelled(), if !is_closing => {}
            // A session that was refused waits for the client, to send its next datagram elsewhere.
            readable = session.socket.readable(), if !session.is_refused.get() => {
                if readable.is_err() || reply(&listener, flow, &session).is_err() {
                    session.refuse();
                }
            }
            () = sleep_until(deadline) => {}
        }
    }
    let mut sessions = listener.sessions.0.borrow_mut();
    if sessions.find(flow).is_some_and(|current| Rc::ptr_eq(current, &session)) {
        sessions.remove(flow);
    }
    listener.counters.sessions.fetch_sub(1, Relaxed);
    drop((in_flight, occupant));
}

/// Sends what has arrived of the backend to the client, a batch at most.
///
/// # Errors
/// If the backend refuses what it was sent.
fn reply(listener: &Listener, flow: Flow, session: &Session) -> io::Result<()> {
    let (mut socket, mut buffer) = (listener.socket.borrow_mut(), listener.buffer.borrow_mut());
    let mut received = Ok(());
    for _ in 0..BATCH {
        match session.socket.try_recv(&mut buffer) {
            Ok(length) => {
                session.last.set(Instant::now());
                if !session.is_answered.replace(true) {
                    session.pool.succeeded(&session.backend);
                }
                listener.counters.to_clients.add(length);
                socket.queue(&buffer[..length], flow.client, flow.local);
            }
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
            Err(error) => {
                received = Err(error);
                break;
            }
        }
    }
    listener.counters.count_dropped(Dropped::ToClient, socket.flush());
    received
}
