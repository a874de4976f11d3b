//! The regional balancer: accepts connections, chooses a route, a pool and a backend, and relays.
//!
//! ```text
//! Server::bind ──▶ Server ── start ──▶ Listeners ── stop ──▶ all drained, all closed
//! ```
//!
//! Each worker is a thread with a single-threaded runtime, listeners of its own on the same addresses, and its own
//! balancers and idle connections: a connection never changes threads, and a request takes no lock. What workers share
//! are the snapshot, which the engine replaces, and counters; requests that fail (`passive`) are reported to the engine.
//!
//! A connection goes through `worker` (accepted), `announced` (the PROXY header), `tls` (if the listener speaks it), `http`,
//! `passthrough` or `tcp` (what to do with what it sends), `pools` (which backend) and `upstream` (the connection to it).

mod access;
mod announced;
mod begun;
mod budget;
mod buffers;
mod clients;
mod counters;
mod heard_out;
mod http;
mod leaving;
mod metrics;
mod pace;
mod passive;
mod passthrough;
mod pipes;
mod pools;
mod queue;
mod relay;
mod route_counts;
mod slots;
mod sticky;
mod streams;
mod tcp;
mod times;
mod tls;
mod udp;
mod upstream;
mod worker;

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::thread::{self, JoinHandle};
use std::time::Duration;

use arc_swap::ArcSwap;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

pub use clients::Clients;
pub use counters::Counters;
pub use udp::UdpCounters;

use crate::health::FailingRequests;
pub use crate::model::LONGEST_DRAIN;
use crate::model::Proxy;
use crate::net::limits::ProxyConnections;
use crate::net::listen::{BindError, TcpShared, Udp};
use crate::net::record_log::Writer;
use crate::snapshot::Snapshot;
use crate::supervise::Supervisor;
use access::AccessOutput;
use worker::{Listening, Worker};

/// The setting that contains the addresses.
const SETTING: &str = "[proxy.listener] listen";

/// What the workers share with the rest of the node.
#[derive(Clone, Debug)]
pub struct Shared {
    /// Routes, pools and what may be used of them; replaced by the engine.
    pub snapshots: Arc<ArcSwap<Snapshot>>,
    /// The counters; they outlive the workers.
    pub counters: Arc<Counters>,
    /// What each client uses.
    pub clients: Arc<Clients>,
    /// Takes reports about addresses whose requests fail; the engine decides what follows.
    pub failing: mpsc::Sender<FailingRequests>,
    /// Notices workers that end or stall.
    pub supervisor: Supervisor,
    /// The connections that are open, of all workers. A client can need many to backends: one for each HTTP/2 stream.
    pub connections: ProxyConnections,
    /// Cancelled when the node begins to stop, before listeners are closed.
    pub stopping: CancellationToken,
}

/// Listeners that are bound but not yet read.
#[derive(Debug)]
pub struct Server {
    workers: usize,
    stop_delay: Duration,
    listeners: Vec<Bound>,
}

/// The sockets of an address.
#[derive(Debug)]
struct Bound {
    /// The name of the listener.
    name: Arc<str>,
    sockets: Sockets,
}

#[derive(Debug)]
enum Sockets {
    /// Whether its handshakes tell how far away clients are, and the sockets.
    Tcp(bool, TcpShared),
    Udp(Udp),
}

impl Sockets {
    fn address(&self) -> SocketAddr {
        match self {
            Self::Tcp(_, shared) => shared.address,
            Self::Udp(shared) => shared.address,
        }
    }

    /// The sockets, one for each worker.
    fn by_worker(self) -> Vec<Listening> {
        match self {
            Self::Tcp(measures, TcpShared { listeners, .. }) => {
                listeners.into_iter().map(|socket| Listening::Tcp { socket, measures }).collect()
            }
            Self::Udp(Udp { address, sockets }) => {
                sockets.into_iter().map(|socket| Listening::Udp(address, socket)).collect()
            }
        }
    }
}

/// Running workers. When dropped without [`stop`](Self::stop), they end soon, but nothing waits for it.
#[derive(Debug)]
pub struct Listeners {
    addresses: Vec<(Arc<str>, SocketAddr)>,
    stop_delay: Duration,
    stopping: CancellationToken,
    closing: CancellationToken,
    workers: Vec<JoinHandle<()>>,
    access_log: Option<Writer>,
}

impl Server {
    /// Binds every address of every listener, once for each worker.
    ///
    /// # Errors
    /// On the first address that cannot be bound; then none is.
    pub fn bind(proxy: &Proxy) -> Result<Self, BindError> {
        let workers = match proxy.workers {
            0 => thread::available_parallelism().map_or(1, usize::from),
            workers => workers,
        };
        let mut listeners = Vec::new();
        for listener in &proxy.listeners {
            let name: Arc<str> = listener.name.as_str().into();
            for address in &listener.addresses {
                let sockets = if listener.is_udp() {
                    Sockets::Udp(Udp::bind(*address, workers, SETTING)?)
                } else {
                    // The kernel would add the time until the first bytes, or has none yet.
                    let measures = listener.tcp.defer_accept.is_none() && listener.tcp.fast_open.is_none();
                    Sockets::Tcp(measures, TcpShared::bind(*address, workers, SETTING, &listener.tcp)?)
                };
                listeners.push(Bound { name: Arc::clone(&name), sockets });
            }
        }
        Ok(Self { workers, stop_delay: proxy.stop_delay, listeners })
    }

    /// The addresses bound, each with the name of its listener; ports that were 0 are those found.
    #[must_use]
    pub fn local_addrs(&self) -> Vec<(Arc<str>, SocketAddr)> {
        self.listeners.iter().map(|it| (Arc::clone(&it.name), it.sockets.address())).collect()
    }

    /// Starts to serve.
    ///
    /// # Errors
    /// If a thread or its runtime cannot be started.
    pub fn start(self, shared: &Shared) -> io::Result<Listeners> {
        let addresses = self.local_addrs();
        let mut by_worker: Vec<Vec<(Arc<str>, Listening)>> = (0..self.workers).map(|_| Vec::new()).collect();
        for Bound { name, sockets } in self.listeners {
            for (worker, socket) in by_worker.iter_mut().zip(sockets.by_worker()) {
                worker.push((Arc::clone(&name), socket));
            }
        }
        let output = AccessOutput::new(Arc::clone(&shared.snapshots));
        let dropped = Arc::clone(&shared.counters.access_log_dropped);
        let (access_log, access_lines) = Writer::start("access log", output, dropped)?;
        let mut running = Listeners {
            addresses,
            stop_delay: self.stop_delay,
            stopping: shared.stopping.clone(),
            closing: CancellationToken::new(),
            workers: Vec::new(),
            access_log: Some(access_log),
        };
        for (index, sockets) in by_worker.into_iter().enumerate() {
            let worker = Worker {
                index,
                count: self.workers,
                shared: shared.clone(),
                access: access_lines.sink(),
                closing: running.closing.clone(),
            };
            let name = format!("proxy-{index}");
            let part = shared.supervisor.beating_part(format!("the proxy's worker {name}"));
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
            let run = move || worker.run(&runtime, sockets, &part);
            running.workers.push(thread::Builder::new().name(name).spawn(run)?);
        }
        Ok(running)
    }
}

impl Listeners {
    /// The addresses listened on, each with the name of its listener.
    #[must_use]
    pub fn local_addrs(&self) -> &[(Arc<str>, SocketAddr)] {
        &self.addresses
    }

    /// The longest that a stop takes.
    #[must_use]
    pub fn stop_within(&self) -> Duration {
        self.stop_delay + LONGEST_DRAIN
    }

    /// Reports that the node is not ready, and goes on for the `stop_delay`. Then takes no new connections, lets requests end for as long as their pools' `drain` and [`LONGEST_DRAIN`] allow, and closes
    /// everything.
    pub async fn stop(mut self) {
        self.stopping.cancel();
        tokio::time::sleep(self.stop_delay).await;
        self.closing.cancel();
        let (workers, access_log) = (std::mem::take(&mut self.workers), self.access_log.take());
        let joined = tokio::task::spawn_blocking(move || {
            // The result of a worker that panicked; the panic itself has been reported where it happened.
            let lost = workers.into_iter().filter_map(|worker| worker.join().err()).count();
            if let Some(access_log) = access_log {
                access_log.finish();
            }
            lost
        });
        if let Ok(lost @ 1..) = joined.await {
            tracing::error!(lost, "workers of the proxy ended before it was stopped");
        }
    }
}

impl Drop for Listeners {
    fn drop(&mut self) {
        self.closing.cancel();
    }
}
