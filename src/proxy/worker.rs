//! A worker: one thread that accepts connections and serves them until they end.

use std::cell::{Cell, RefCell};
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use ::http::{HeaderMap, HeaderValue};
use tokio::net::{TcpListener, TcpStream};
use tokio::runtime::Runtime;
use tokio::task::{JoinSet, LocalSet};
use tokio::time::{Instant, sleep};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::begun::Begun;
use super::clients::Admitted;
use super::counters::ListenerCounters;
use super::pools::{Pools, WorkerPool};
use super::tls::{Acceptor, Proved};
use super::{LONGEST_DRAIN, Shared, announced, clients, http, passthrough, pipes, tcp, udp};
use crate::model::{ClientLimits, Networks, PoolId, Protocol, RequestLimits, Weight};
use crate::net::record_log::Sink;
use crate::net::tcp_options::{AcceptQueue, accept_queue, round_trip};
use crate::pick::Hash;
use crate::route;
use crate::snapshot::Snapshot;
use crate::supervise::{self, Part};

/// How a worker is started.
pub(super) struct Worker {
    pub(super) index: usize,
    /// How many workers there are.
    pub(super) count: usize,
    pub(super) shared: Shared,
    pub(super) access: Sink,
    pub(super) closing: CancellationToken,
}

/// What a worker listens on.
pub(super) enum Listening {
    Tcp {
        socket: std::net::TcpListener,
        /// Whether its handshakes tell how far away clients are.
        measures: bool,
    },
    /// A socket, and the address that it is bound to.
    Udp(SocketAddr, std::net::UdpSocket),
}

/// What the connections of a worker share.
pub(super) struct Context {
    pub(super) shared: Shared,
    pools: RefCell<Pools>,
    /// Round-trip times of handshakes that the shared table does not have yet.
    measured: RefCell<Vec<(IpAddr, Duration)>>,
    pub(super) closing: CancellationToken,
    /// The same for whoever cannot wait for it, without a lock.
    is_closing: Cell<bool>,
    pub(super) tasks: TaskTracker,
    pub(super) ids: http::Ids,
    pub(super) access: Sink,
}

/// A connection of a client.
pub(super) struct Client {
    pub(super) context: Rc<Context>,
    /// The name of the listener.
    pub(super) listener: Arc<str>,
    pub(super) counters: Arc<ListenerCounters>,
    /// Those of the listener when the connection was accepted.
    pub(super) limits: RequestLimits,
    /// The client's address: the one that a trusted hop has announced, or that of the peer.
    pub(super) address: SocketAddr,
    /// What the client connected to: what a trusted hop has announced, or the address of this end.
    pub(super) destination: Option<SocketAddr>,
    /// The other end of the connection.
    pub(super) peer: SocketAddr,
    /// Counts the connection for the client, if the listener limits them.
    pub(super) admitted: Option<Rc<Admitted>>,
    /// The client's IP address as the value of a header.
    pub(super) shown: HeaderValue,
    /// What the TLS handshake proved; `None` without TLS.
    pub(super) proved: Option<Proved>,
}

/// A connection that has been accepted.
struct Arrival {
    context: Rc<Context>,
    /// The name of the listener.
    listener: Arc<str>,
    counters: Arc<ListenerCounters>,
    peer: SocketAddr,
    stream: TcpStream,
}

/// How long a listener waits after an accept that failed for want of something, such as files.
pub(super) const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// Handshakes that are noted until the next beat; others tell little more.
const MOST_MEASURED: usize = 4096;

/// How often a listener reports that it cannot accept connections.
const COMPLAIN_EVERY: Duration = Duration::from_secs(10);

impl Worker {
    /// Serves until the node stops and its connections have ended.
    pub(super) fn run(self, runtime: &Runtime, sockets: Vec<(Arc<str>, Listening)>, part: &Part) {
        let Self { index, count, shared, access, closing } = self;
        pipes::allow(shared.connections.files(), count);
        let sessions = udp::Sessions::new(shared.connections.files(), count);
        let context = Rc::new(Context::new(index, shared, access, closing.clone()));
        let local = LocalSet::new();
        local.block_on(runtime, async {
            let (mut accepting, mut receiving) = (JoinSet::new(), JoinSet::new());
            for (name, socket) in sockets {
                let context = Rc::clone(&context);
                match socket {
                    Listening::Tcp { socket, measures } => {
                        accepting.spawn_local(accept(context, name, socket, measures));
                    }
                    Listening::Udp(address, socket) => {
                        let serving = udp::serve(context, name, address, socket, sessions.clone());
                        receiving.spawn_local(serving);
                    }
                }
            }
            let mut beat = tokio::time::interval(supervise::BEAT);
            loop {
                tokio::select! {
                    biased;
                    () = closing.cancelled() => break,
                    // Without a listener, clients would wait in vain: the end of this part ends the process.
                    Some(ended) = accepting.join_next() => {
                        return tracing::error!(?ended, "a listener of the proxy ended");
                    }
                    Some(ended) = receiving.join_next() => {
                        return tracing::error!(?ended, "a UDP listener of the proxy ended");
                    }
                    _ = beat.tick() => context.beat(part),
                }
            }
            context.is_closing.set(true);
            // UDP sessions go on through the sockets of their listeners.
            drop(accepting);
            context.tasks.close();
            context.pools.borrow_mut().close(Instant::now());
            let too_late = sleep(LONGEST_DRAIN);
            tokio::pin!(too_late);
            loop {
                tokio::select! {
                    () = context.tasks.wait() => break,
                    () = &mut too_late => break,
                    _ = beat.tick() => context.beat(part),
                }
            }
        });
    }
}

/// Accepts connections until the node stops.
async fn accept(
    context: Rc<Context>,
    listener: Arc<str>,
    socket: std::net::TcpListener,
    measures: bool,
) -> io::Result<()> {
    let counters = context.shared.counters.listener(&listener);
    let socket = TcpListener::from_std(socket)?;
    let mut complained: Option<Instant> = None;
    let mut queue = AcceptQueue::default();
    let mut looking = tokio::time::interval(supervise::BEAT);
    loop {
        let accepted = tokio::select! {
            // The queue is looked at before it gets shorter, and a flood of connections does not delay the stop.
            biased;
            _ = looking.tick() => {
                let now = accept_queue(&socket).unwrap_or_default();
                counters.replace_queue(queue, now);
                queue = now;
                continue;
            }
            () = context.closing.cancelled() => return Ok(()),
            accepted = socket.accept() => accepted,
        };
        match accepted {
            Ok((stream, peer)) => {
                let (context, listener, counters) =
                    (Rc::clone(&context), Arc::clone(&listener), Arc::clone(&counters));
                Arrival { context, listener, counters, peer, stream }.start(measures);
            }
            // A client that is gone already.
            Err(error) if error.kind() == io::ErrorKind::ConnectionAborted => {}
            Err(error) => {
                if complained.is_none_or(|at| at.elapsed() >= COMPLAIN_EVERY) {
                    tracing::warn!(listener = &*listener, %error, "cannot accept connections");
                    complained = Some(Instant::now());
                }
                tokio::time::sleep(ACCEPT_PAUSE).await;
            }
        }
    }
}

impl Arrival {
    /// Serves the connection in a task of its own. `measures` if its handshake tells how far away the peer is.
    fn start(self, measures: bool) {
        self.counters.accepted.fetch_add(1, Relaxed);
        let shared = &self.context.shared;
        let Some(slot) = shared.connections.client() else {
            self.counters.refused.fetch_add(1, Relaxed);
            return;
        };
        let snapshot = self.context.snapshot();
        let proxy = &snapshot.plan.proxy;
        let Some(listener) = proxy.listener(&self.listener) else { return };
        let is_announced = listener.proxy_protocol && proxy.trusted.contain(self.peer.ip());
        let (protocol, limits) = (listener.protocol, listener.limits);
        // A trusted hop brings many clients.
        let is_limited = is_announced || !proxy.trusted.contain(self.peer.ip());
        let most = listener.client.connections.filter(|_| is_limited);
        let acceptor = match (&listener.tls, snapshot.plan.tls.listener(&self.listener)) {
            (None, _) => None,
            (Some(settings), Some(config)) => {
                Some(Acceptor { config: Arc::clone(config), settings: settings.clone() })
            }
            // Nothing is served in the clear instead.
            (Some(_), None) => return,
        };
        // A hop before this one is not the client.
        if measures && !is_announced {
            self.measure();
        }
        // Small writes must not wait for acknowledgements.
        self.stream.set_nodelay(true).ok();
        let tasks = self.context.tasks.clone();
        tasks.spawn_local(async move {
            let Some((client, stream)) = self.client(is_announced, limits).await else { return };
            let Some(client) = client.admit(most) else { return };
            match acceptor {
                None => Rc::new(client).serve(protocol, stream).await,
                // In a box, so that connections in the clear take no more memory for it.
                Some(acceptor) => Box::pin(client.serve_encrypted(protocol, stream, acceptor)).await,
            }
            drop(slot);
        });
    }

    /// Notes the time that the handshake took.
    fn measure(&self) {
        let Some(time) = round_trip(&self.stream).ok().filter(|time| !time.is_zero()) else { return };
        self.counters.round_trips.add(time);
        self.context.measured(self.peer.ip(), time);
    }

    /// The client, whom a hop announces first if it `is_announced`; `None` if the hop does not.
    async fn client(self, is_announced: bool, limits: RequestLimits) -> Option<(Client, Begun<TcpStream>)> {
        let Self { context, listener, counters, peer, stream } = self;
        let mut stream = Begun::new(stream);
        let ends = if is_announced {
            let read = tokio::select! {
                read = announced::read(&mut stream) => read,
                () = context.closing.cancelled() => return None,
            };
            read.map_err(|why| {
                counters.reject(why);
                tracing::debug!(hop = %peer, why = why.name(), "closed a connection");
            })
            .ok()?
        } else {
            None
        };
        let address = ends.map_or(peer, |ends| ends.client);
        let destination = ends.map(|ends| ends.destination).or_else(|| stream.stream().local_addr().ok());
        let (shown, proved, admitted) = (http::shown(address.ip()), None, None);
        let client = Client {
            context,
            listener,
            counters,
            limits,
            address,
            destination,
            peer,
            admitted,
            shown,
            proved,
        };
        Some((client, stream))
    }
}

impl Client {
    /// Counts the connection for the client; `None` if it has as many as it may.
    fn admit(mut self, most: Option<usize>) -> Option<Self> {
        let Some(most) = most else { return Some(self) };
        match self.context.shared.clients.admit(self.listener_hash(), self.address.ip(), most) {
            Some(admitted) => self.admitted = Some(Rc::new(admitted)),
            None => {
                self.counters.limited_connections.fetch_add(1, Relaxed);
                return None;
            }
        }
        Some(self)
    }

    /// Counts a request for its client.
    ///
    /// # Errors
    /// The time after which the client may send another one.
    pub(super) fn admit_request(
        &self,
        limits: &ClientLimits,
        headers: &HeaderMap,
        trusted: &Networks,
    ) -> Result<(), Duration> {
        if limits.requests_per_second.is_none() {
            return Ok(());
        }
        let Some(sender) = clients::sender(self.address.ip(), headers, trusted) else { return Ok(()) };
        let counted = self.context.shared.clients.request(self.listener_hash(), sender, limits);
        if counted.is_err() {
            self.counters.limited_requests.fetch_add(1, Relaxed);
        }
        counted
    }

    fn listener_hash(&self) -> Hash {
        Hash::of(self.listener.as_bytes())
    }

    async fn serve_encrypted(mut self, protocol: Protocol, stream: Begun<TcpStream>, acceptor: Acceptor) {
        let accepting = acceptor.accept(stream, &self.counters.handshakes, &self.context.closing);
        let Some((stream, proved)) = accepting.await else { return };
        self.proved = Some(proved);
        match protocol {
            Protocol::Http => http::serve(Rc::new(self), stream).await,
            Protocol::Tcp => tcp::serve(&self, stream).await,
            // The config allows no `tls` for them.
            Protocol::TlsPassthrough | Protocol::Udp => {}
        }
    }

    async fn serve(self: Rc<Self>, protocol: Protocol, stream: Begun<TcpStream>) {
        match protocol {
            Protocol::Http => http::serve(self, stream).await,
            Protocol::Tcp => tcp::serve(&self, stream).await,
            Protocol::TlsPassthrough => passthrough::serve(&self, stream).await,
            // A reload that would make it one is not applied before a restart.
            Protocol::Udp => {}
        }
    }

    /// Whether what it says about the hops before it is believed. The headers of a client that a hop has announced may come
    /// from that client, so that both must be trusted.
    pub(super) fn is_trusted(&self, trusted: &Networks) -> bool {
        trusted.contain(self.peer.ip()) && trusted.contain(self.address.ip())
    }

    /// The compiled listener; `None` if the config has it no longer.
    pub(super) fn plan<'a>(&self, snapshot: &'a Snapshot) -> Option<&'a route::Listener> {
        snapshot.plan.proxy.listener(&self.listener)
    }
}

impl Context {
    pub(super) fn new(index: usize, shared: Shared, access: Sink, closing: CancellationToken) -> Self {
        let pools = RefCell::new(Pools::new(shared.clone(), index as u64));
        let (measured, tasks) = (RefCell::default(), TaskTracker::new());
        let is_closing = Cell::default();
        Self { shared, pools, measured, closing, is_closing, tasks, ids: http::Ids::new(), access }
    }

    /// Whether the node stops.
    pub(super) fn is_closing(&self) -> bool {
        self.is_closing.get()
    }

    fn beat(&self, part: &Part) {
        part.beat();
        self.access.flush();
        self.pools.borrow_mut().close_overdue(&self.snapshot(), Instant::now());
        let mut measured = self.measured.borrow_mut();
        if !measured.is_empty() && self.shared.counters.handshakes.try_add(&measured) {
            measured.clear();
        }
    }

    fn measured(&self, client: IpAddr, time: Duration) {
        let mut measured = self.measured.borrow_mut();
        if measured.len() < MOST_MEASURED {
            measured.push((client, time));
        }
    }

    pub(super) fn snapshot(&self) -> Arc<Snapshot> {
        self.shared.snapshots.load_full()
    }

    /// The pool that a client is sent to; it stays with one of several by its key.
    pub(super) fn pool(&self, pools: &[(PoolId, Weight)], key: Hash, snapshot: &Snapshot) -> Rc<WorkerPool> {
        let name = |id| Hash::of(snapshot.plan.topology.pool(id).name.as_bytes());
        let id = route::choose_pool(pools, name, key);
        self.pools.borrow_mut().get(id, snapshot)
    }
}
