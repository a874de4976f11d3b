//! The regional balancer: accepts connections, chooses a route, a pool and a backend, and relays.
//!
//! ```text
//! Server::bind ──▶ Server ── start ──▶ Listeners ── stop ──▶ all drained, all closed
//! ```
//!
//! Each worker is a thread with a single-threaded runtime, listeners of its own on the same addresses, and its own
//! balancers and idle connections: a connection never changes threads, and a request takes no lock. What workers share
//! are the snapshot, which the engine replaces, and counters.
//!
//! A connection goes through `worker` (accepted), `tls` (if the listener speaks it), `http` or `tcp` (what to do with what it sends), `pools` (which backend)
//! and `upstream` (the connection to it).

mod access;
mod budget;
mod counters;
mod http;
mod leaving;
mod metrics;
mod pools;
mod relay;
mod tcp;
mod tls;
mod upstream;
mod worker;

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::thread::{self, JoinHandle};
use std::time::Duration;

use arc_swap::ArcSwap;
use tokio_util::sync::CancellationToken;

pub use counters::Counters;

use crate::model::Proxy;
use crate::net::limits::Occupancy;
use crate::net::listen::{BindError, TcpShared};
use crate::snapshot::Snapshot;
use crate::supervise::Supervisor;
use access::{Sink, Writer};
use worker::Worker;

/// The setting that contains the addresses.
const SETTING: &str = "[proxy.listener] listen";

/// What the workers share with the rest of the node.
#[derive(Clone, Debug)]
pub struct Shared {
    /// Routes, pools and what may be used of them; replaced by the engine.
    pub snapshots: Arc<ArcSwap<Snapshot>>,
    /// The counters; they outlive the workers.
    pub counters: Arc<Counters>,
    /// Notices workers that end or stall.
    pub supervisor: Supervisor,
    /// The connections of clients that are open, of all workers.
    pub connections: Arc<Occupancy>,
    /// The connections to backends that are open, of all workers. A client can need many: one for each HTTP/2 stream.
    pub upstream: Arc<Occupancy>,
    /// The most connections of clients that may be open, and the most to backends.
    pub most_connections: usize,
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
    sockets: TcpShared,
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
                let sockets = TcpShared::bind(*address, workers, SETTING)?;
                listeners.push(Bound { name: Arc::clone(&name), sockets });
            }
        }
        Ok(Self { workers, stop_delay: proxy.stop_delay, listeners })
    }

    /// The addresses bound, each with the name of its listener; ports that were 0 are those found.
    #[must_use]
    pub fn local_addrs(&self) -> Vec<(Arc<str>, SocketAddr)> {
        self.listeners.iter().map(|it| (Arc::clone(&it.name), it.sockets.address)).collect()
    }

    /// Starts to serve.
    ///
    /// # Errors
    /// If a thread or its runtime cannot be started.
    pub fn start(self, shared: &Shared) -> io::Result<Listeners> {
        let addresses = self.local_addrs();
        let mut by_worker: Vec<Vec<(Arc<str>, std::net::TcpListener)>> =
            (0..self.workers).map(|_| Vec::new()).collect();
        for Bound { name, sockets } in self.listeners {
            for (worker, socket) in by_worker.iter_mut().zip(sockets.listeners) {
                worker.push((Arc::clone(&name), socket));
            }
        }
        let (access_log, access_lines) =
            Writer::start(Arc::clone(&shared.snapshots), Arc::clone(&shared.counters))?;
        let mut running = Listeners {
            addresses,
            stop_delay: self.stop_delay,
            stopping: shared.stopping.clone(),
            closing: CancellationToken::new(),
            workers: Vec::new(),
            access_log: Some(access_log),
        };
        for (index, sockets) in by_worker.into_iter().enumerate() {
            let access = Sink::new(access_lines.clone(), Arc::clone(&shared.counters));
            let worker = Worker { index, shared: shared.clone(), access, closing: running.closing.clone() };
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

/// The longest that requests and connections may go on when the node stops, whatever the `drain` of their pools.
pub const LONGEST_DRAIN: Duration = Duration::from_secs(30);
