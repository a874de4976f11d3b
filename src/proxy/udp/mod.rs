//! UDP: what a client sends goes to one backend, and what that backend sends to the session's socket goes back.
//!
//! A session begins with a datagram of a client; nothing is ever sent to an address that has not sent first. It has a socket
//! of its own, connected to its backend, and ends when nobody has sent anything for `timeout.idle`, when its backend is down
//! or its `drain` is over, or to make room (`table`). The next datagram begins another.

mod counters;
mod session;
mod table;

use std::cell::RefCell;
use std::io;
use std::net::{SocketAddr, UdpSocket};
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;

use http::{HeaderMap, Method};
use tokio::io::Interest;
use tokio::time::Instant;

use super::pools::WorkerPool;
use super::worker::{ACCEPT_PAUSE, Context};
use crate::model::{Protocol, RouteAction};
use crate::net::exchange::{Datagram, Exchange as _, Wait};
use crate::net::udp::{self, BATCH, Socket};
use crate::pick::client_key;
use crate::route::Head;
use counters::Dropped;
use session::Session;
use table::{Flow, Table};

pub use counters::UdpCounters;
pub(super) use counters::encode;

/// Bytes of a datagram that is relayed; none is longer. An odd number of cache lines, as [`udp::LONGEST`].
const LONGEST: usize = 65_600;
/// Sessions of all workers: each takes a file and the memory of a task.
const MOST_SESSIONS: usize = 65_536;
/// The part of the proxy's connections that sessions may take: anyone can begin them with forged addresses.
const SESSION_PART: usize = 4;

/// The sessions of a worker.
#[derive(Clone)]
pub(super) struct Sessions(Rc<RefCell<Table<Rc<Session>>>>);

/// A UDP address as a worker listens on it.
struct Listener {
    context: Rc<Context>,
    name: Arc<str>,
    counters: Arc<UdpCounters>,
    socket: RefCell<Socket>,
    /// For what backends send.
    buffer: RefCell<Box<[u8]>>,
    sessions: Sessions,
}

/// What has been tried for a datagram.
#[derive(Default)]
struct Attempts {
    made: u32,
    /// Backends that others are preferred to.
    avoid: Vec<SocketAddr>,
}

impl Sessions {
    /// None yet, for a worker of so many whose proxy may have so many connections, those of clients included.
    pub(super) fn new(connections: usize, workers: usize) -> Self {
        let most = (connections / SESSION_PART).min(MOST_SESSIONS);
        Self(Rc::new(RefCell::new(Table::new(most / workers.max(1)))))
    }
}

/// Relays what arrives until the task is dropped. Once the node stops, no session begins.
///
/// # Errors
/// If the socket cannot be waited for.
pub(super) async fn serve(
    context: Rc<Context>,
    name: Arc<str>,
    address: SocketAddr,
    socket: UdpSocket,
    sessions: Sessions,
) -> io::Result<()> {
    socket.set_nonblocking(true)?;
    let readable = tokio::net::UdpSocket::from_std(socket.try_clone()?)?;
    let listener = Rc::new(Listener {
        counters: context.shared.counters.udp_listener(&name),
        context,
        name,
        socket: RefCell::new(Socket::with_longest(socket, address, LONGEST)),
        buffer: RefCell::new(vec![0; LONGEST].into_boxed_slice()),
        sessions,
    });
    loop {
        readable.readable().await?;
        let received = readable.try_io(Interest::READABLE, || match listener.receive()? {
            BATCH => Ok(()),
            // Whatever comes now wakes the task again.
            _ => Err(io::ErrorKind::WouldBlock.into()),
        });
        match received {
            // There may be more. Others get their turn.
            Ok(()) => tokio::task::yield_now().await,
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            Err(error) => {
                tracing::warn!(listener = &*listener.name, %error, "receiving datagrams failed");
                tokio::time::sleep(ACCEPT_PAUSE).await;
            }
        }
    }
}

impl Listener {
    /// Relays a batch and returns its size.
    fn receive(self: &Rc<Self>) -> io::Result<usize> {
        let mut socket = self.socket.borrow_mut();
        let count = socket.receive(Wait::Not)?;
        let now = Instant::now();
        for index in 0..count {
            let Datagram { bytes, peer, local } = socket.query(index);
            self.counters.from_clients.add(bytes.len());
            if let Err(why) = self.relay(Flow { client: peer, local }, bytes, now) {
                self.counters.count_dropped(why, 1);
            }
        }
        Ok(count)
    }

    /// Sends a datagram of a client to the backend of its session.
    fn relay(self: &Rc<Self>, flow: Flow, bytes: &[u8], now: Instant) -> Result<(), Dropped> {
        if udp::answers_anything(flow.client.port()) {
            return Err(Dropped::Reflection);
        }
        let known = self.sessions.0.borrow_mut().touch(flow, now).cloned();
        let mut attempts = Attempts::default();
        let mut session = match known {
            Some(session) if session.goes_on(&self.context) => {
                if session.is_answered() && !session.is_settled() {
                    self.sessions.0.borrow_mut().settle(flow);
                }
                session
            }
            Some(over) => {
                attempts.avoid.extend(over.refused());
                self.end(flow);
                self.begin(flow, &mut attempts, now)?
            }
            None => self.begin(flow, &mut attempts, now)?,
        };
        loop {
            match session.send(bytes, now) {
                Ok(()) => return Ok(()),
                // An earlier datagram was refused, and this one has not been sent.
                Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => {
                    session.refuse();
                    self.end(flow);
                    attempts.avoid.extend(session.refused());
                    session = self.begin(flow, &mut attempts, now)?;
                }
                Err(_) => return Err(Dropped::ToBackend),
            }
        }
    }

    /// Begins the session of a flow.
    fn begin(
        self: &Rc<Self>,
        flow: Flow,
        attempts: &mut Attempts,
        now: Instant,
    ) -> Result<Rc<Session>, Dropped> {
        let pool = self.pool(flow).ok_or(Dropped::Closing)?;
        let shared = &self.context.shared;
        let occupant = shared.connections.backend().ok_or(Dropped::Full)?;
        pool.count_request();
        let key = client_key(flow.client.ip());
        let retry = pool.settings().retry;
        let tries = if retry.on.connect { retry.tries } else { 1 };
        while attempts.made < tries
            // A datagram waits for no room: its client will ask again.
            && let Ok(in_flight) = pool.try_claim(key, &attempts.avoid)
        {
            let backend = Rc::clone(&in_flight.backend);
            attempts.made += 1;
            attempts.avoid.push(backend.address);
            match Session::new(&backend, &pool, now) {
                Ok(session) => {
                    let session = Rc::new(session);
                    let evicted = self.sessions.0.borrow_mut().insert(flow, Rc::clone(&session), now);
                    if let Some(evicted) = evicted {
                        self.counters.evicted.fetch_add(1, Relaxed);
                        evicted.end();
                    }
                    let running =
                        session::run(Rc::clone(self), flow, Rc::clone(&session), in_flight, occupant);
                    self.context.tasks.spawn_local(running);
                    return Ok(session);
                }
                Err(error) => {
                    tracing::debug!(backend = %backend.address, %error, "cannot open a socket to a backend");
                    backend.counters.failures.fetch_add(1, Relaxed);
                }
            }
        }
        pool.counters.unavailable.fetch_add(1, Relaxed);
        Err(Dropped::NoBackend)
    }

    /// The pool of a flow that begins; `None` if none may.
    fn pool(&self, flow: Flow) -> Option<Rc<WorkerPool>> {
        if self.context.closing.is_cancelled() {
            return None;
        }
        let snapshot = self.context.snapshot();
        let listener = snapshot.plan.proxy.listener(&self.name).filter(|it| it.protocol == Protocol::Udp)?;
        let (method, headers) = (Method::GET, HeaderMap::new());
        let head = Head { host: "", path: "/", query: None, method: &method, headers: &headers };
        let RouteAction::Forward(pools) = &listener.find(&head)?.action else { return None };
        Some(self.context.pool(pools, client_key(flow.client.ip()), &snapshot))
    }

    /// Ends the session of a flow.
    fn end(&self, flow: Flow) {
        if let Some(session) = self.sessions.0.borrow_mut().remove(flow) {
            session.end();
        }
    }
}
