//! A worker: one thread that accepts connections and serves them until they end.

use std::cell::RefCell;
use std::io;
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use ::http::HeaderValue;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};
use tokio::runtime::Runtime;
use tokio::task::{JoinSet, LocalSet};
use tokio::time::{Instant, sleep};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::access::Sink;
use super::counters::ListenerCounters;
use super::pools::{Pools, WorkerPool};
use super::tls::{Acceptor, Proved};
use super::{LONGEST_DRAIN, Shared, http, tcp};
use crate::model::{PoolId, Protocol, Weight};
use crate::pick::Hash;
use crate::route;
use crate::snapshot::Snapshot;
use crate::supervise::{self, Part};

/// How a worker is started.
pub(super) struct Worker {
    pub(super) index: usize,
    pub(super) shared: Shared,
    pub(super) access: Sink,
    pub(super) closing: CancellationToken,
}

/// What the connections of a worker share.
pub(super) struct Context {
    pub(super) shared: Shared,
    pools: RefCell<Pools>,
    pub(super) closing: CancellationToken,
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
    pub(super) address: SocketAddr,
    /// Its IP address as the value of a header.
    pub(super) shown: HeaderValue,
    /// What the TLS handshake proved; `None` without TLS.
    pub(super) proved: Option<Proved>,
}

/// How long a listener waits after an accept that failed for want of something, such as files.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// How often a listener reports that it cannot accept connections.
const COMPLAIN_EVERY: Duration = Duration::from_secs(10);

impl Worker {
    /// Serves until the node stops and its connections have ended.
    pub(super) fn run(self, runtime: &Runtime, sockets: Vec<(Arc<str>, std::net::TcpListener)>, part: &Part) {
        let Self { index, shared, access, closing } = self;
        let context = Rc::new(Context::new(index, shared, access, closing.clone()));
        let local = LocalSet::new();
        local.block_on(runtime, async {
            let mut accepting = JoinSet::new();
            for (name, socket) in sockets {
                let counters = context.shared.counters.listener(&name);
                accepting.spawn_local(accept(Rc::clone(&context), name, counters, socket));
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
                    _ = beat.tick() => context.beat(part),
                }
            }
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
    counters: Arc<ListenerCounters>,
    socket: std::net::TcpListener,
) -> io::Result<()> {
    let socket = TcpListener::from_std(socket)?;
    let mut complained: Option<Instant> = None;
    loop {
        let accepted = tokio::select! {
            accepted = socket.accept() => accepted,
            () = context.closing.cancelled() => return Ok(()),
        };
        match accepted {
            Ok((stream, address)) => {
                let client = Client {
                    context: Rc::clone(&context),
                    listener: Arc::clone(&listener),
                    counters: Arc::clone(&counters),
                    address,
                    shown: http::shown(address.ip()),
                    proved: None,
                };
                client.start(stream);
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

impl Client {
    /// Serves the connection in a task of its own.
    fn start(self, stream: TcpStream) {
        self.counters.accepted.fetch_add(1, Relaxed);
        let shared = &self.context.shared;
        let Some(slot) = shared.connections.enter_below(shared.most_connections) else {
            self.counters.refused.fetch_add(1, Relaxed);
            return;
        };
        let snapshot = self.context.snapshot();
        let Some(plan) = self.plan(&snapshot) else { return };
        let protocol = plan.protocol;
        let acceptor = match (&plan.tls, snapshot.plan.tls.listener(&self.listener)) {
            (None, _) => None,
            (Some(settings), Some(config)) => {
                Some(Acceptor { config: Arc::clone(config), settings: settings.clone() })
            }
            // Nothing is served in the clear instead.
            (Some(_), None) => return,
        };
        // Small writes must not wait for acknowledgements.
        stream.set_nodelay(true).ok();
        let tasks = self.context.tasks.clone();
        tasks.spawn_local(async move {
            match acceptor {
                None => self.serve(protocol, stream).await,
                // In a box, so that connections in the clear take no more memory for it.
                Some(acceptor) => Box::pin(self.serve_encrypted(protocol, stream, acceptor)).await,
            }
            drop(slot);
        });
    }

    async fn serve_encrypted(mut self, protocol: Protocol, stream: TcpStream, acceptor: Acceptor) {
        let accepting = acceptor.accept(stream, &self.counters.handshakes, &self.context.closing);
        let Some((stream, proved)) = accepting.await else { return };
        self.proved = Some(proved);
        self.serve(protocol, stream).await;
    }

    async fn serve<S>(self, protocol: Protocol, stream: S)
    where
        S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        match protocol {
            Protocol::Http => http::serve(Rc::new(self), stream).await,
            Protocol::Tcp => tcp::serve(&self, stream).await,
        }
    }

    /// The compiled listener; `None` if the config has it no longer.
    pub(super) fn plan<'a>(&self, snapshot: &'a Snapshot) -> Option<&'a route::Listener> {
        snapshot.plan.proxy.listener(&self.listener)
    }
}

impl Context {
    pub(super) fn new(index: usize, shared: Shared, access: Sink, closing: CancellationToken) -> Self {
        let pools = RefCell::new(Pools::new(shared.clone(), index as u64));
        Self { shared, pools, closing, tasks: TaskTracker::new(), ids: http::Ids::new(), access }
    }

    fn beat(&self, part: &Part) {
        part.beat();
        self.access.flush();
        self.pools.borrow_mut().close_overdue(&self.snapshot(), Instant::now());
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
