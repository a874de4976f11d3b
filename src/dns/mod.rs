//! The DNS listeners: UDP workers on threads of their own, TCP on a runtime of its own.
//!
//! ```text
//! Server::bind ──▶ Server ── start ──▶ Listeners ── stop ──▶ all answered, all closed
//! ```
//!
//! Sockets are bound at once, so that nothing else takes the port and early queries wait in the kernel, and are
//! read once [`Server::start`] is called. Nothing of this runs in the runtime of the caller, so no flood of queries can
//! keep probes, engine or API from running. A listener describes each message by an [`Arrival`](crate::answer::Arrival)
//! and does what the `responder` decides: it loads one snapshot and reads the clock once per batch, and a panic while
//! answering a query affects only that query.

mod connections;
mod counters;
mod metrics;
mod proxied;
mod query_log;
mod responder;
mod runtime;
mod tcp;
mod udp;

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};

use arc_swap::ArcSwap;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

pub use counters::{Counters, RCODES, Totals};

use crate::answer;
use crate::model::TcpLimits;
use crate::net::listen::{BindError, Tcp, Udp};
use crate::net::record_log::Writer;
use crate::net::udp::Socket;
use crate::snapshot::Snapshot;
use crate::supervise::Supervisor;
use connections::Connections;
use query_log::QueryOutput;
use responder::{Handler, Responder};
use runtime::TcpRuntime;
use tcp::Limits;

/// The setting that contains the addresses.
const SETTING: &str = "[dns] listen";

/// Port 0 asks for any port that is free for TCP and UDP alike. The kernel picks one for TCP; UDP may have it taken.
const TRIES_FOR_ANY_PORT: usize = 16;

/// What the listeners share with the rest of the node.
#[derive(Clone, Debug)]
pub struct Shared {
    /// The snapshot that queries are answered from; replaced by the engine.
    pub snapshots: Arc<ArcSwap<Snapshot>>,
    /// The counters; they outlive the listeners.
    pub counters: Arc<Counters>,
    /// Notices workers and listeners that end or stall.
    pub supervisor: Supervisor,
}

/// Listeners that are bound but not yet read.
#[derive(Debug)]
pub struct Server {
    addresses: Vec<SocketAddr>,
    udp: Vec<Udp>,
    tcp: Vec<Tcp>,
}

/// Running listeners. When dropped without [`stop`](Self::stop), they end soon, but nothing waits for it.
#[derive(Debug)]
pub struct Listeners {
    addresses: Vec<SocketAddr>,
    stopping: Arc<AtomicBool>,
    closing: CancellationToken,
    tasks: TaskTracker,
    workers: Vec<JoinHandle<()>>,
    query_log: Option<Writer>,
    /// Dropped last, when its tasks know that they should end.
    _runtime: TcpRuntime,
}

impl Server {
    /// Binds UDP and TCP at every address, with this many UDP workers each; 0 means one per core.
    ///
    /// # Errors
    /// On the first address that cannot be bound; then none is.
    pub fn bind(listen: &[SocketAddr], workers: usize) -> Result<Self, BindError> {
        let workers = match workers {
            0 => thread::available_parallelism().map_or(1, usize::from),
            n => n,
        };
        let mut server = Self { addresses: Vec::new(), udp: Vec::new(), tcp: Vec::new() };
        for address in listen {
            let (udp, tcp) = bind_both(*address, workers)?;
            server.addresses.push(tcp.address);
            server.udp.push(udp);
            server.tcp.push(tcp);
        }
        Ok(server)
    }

    /// The addresses bound, in the order given; ports that were 0 are those found.
    #[must_use]
    pub fn local_addrs(&self) -> Vec<SocketAddr> {
        self.addresses.clone()
    }

    /// Starts to answer queries. `descriptors` is the most TCP connections that may be open whatever the config allows.
    ///
    /// # Errors
    /// If a thread cannot be started or the runtime of TCP rejects a socket.
    pub fn start(self, shared: Shared, tcp: &TcpLimits, descriptors: usize) -> io::Result<Listeners> {
        self.start_with(&shared, answer::handle, Limits::of(tcp, descriptors))
    }

    fn start_with(self, shared: &Shared, handler: Handler, limits: Limits) -> io::Result<Listeners> {
        let runtime = TcpRuntime::start()?;
        let handle = runtime.handle().clone();
        let output = QueryOutput::new(Arc::clone(&shared.snapshots));
        let dropped = Arc::clone(&shared.counters.query_log_dropped);
        let (query_log, queue) = Writer::start("query log", output, dropped)?;
        let mut running = Listeners {
            addresses: self.addresses,
            stopping: Arc::default(),
            closing: CancellationToken::new(),
            tasks: TaskTracker::new(),
            workers: Vec::new(),
            query_log: Some(query_log),
            _runtime: runtime,
        };
        for Udp { address, sockets } in self.udp {
            for socket in sockets {
                let responder = Responder::new(shared, handler).recording_to(&queue);
                let stopping = Arc::clone(&running.stopping);
                let name = format!("dns-{}", running.workers.len());
                let part = shared.supervisor.beating_part(format!("the UDP worker {name}"));
                let run = move || udp::run(&mut Socket::new(socket, address), responder, &stopping, &part);
                running.workers.push(thread::Builder::new().name(name).spawn(run)?);
            }
        }
        let connections = Arc::new(Connections::new(limits.quota));
        // The end of a listener is reported by its own part.
        let part = Arc::new(shared.supervisor.beating_part("the runtime of DNS over TCP").may_end());
        let _context = handle.enter();
        for Tcp { listener, .. } in self.tcp {
            let acceptor = tcp::Acceptor {
                listener: tokio::net::TcpListener::from_std(listener)?,
                shared: shared.clone(),
                handler,
                limits,
                connections: Arc::clone(&connections),
                query_log: queue.clone(),
                closing: running.closing.clone(),
                tasks: running.tasks.clone(),
                runtime: Arc::clone(&part),
            };
            running.tasks.spawn_on(acceptor.run(), &handle);
        }
        Ok(running)
    }
}

/// Binds both protocols to one address; port 0 finds one port for both. TCP goes first, because it shares no ports.
fn bind_both(address: SocketAddr, workers: usize) -> Result<(Udp, Tcp), BindError> {
    let mut tries = if address.port() == 0 { TRIES_FOR_ANY_PORT } else { 1 };
    loop {
        tries -= 1;
        let tcp = Tcp::bind(address, SETTING)?;
        match Udp::bind(tcp.address, workers, SETTING) {
            Ok(udp) => return Ok((udp, tcp)),
            Err(error) if tries > 0 && error.source.kind() == io::ErrorKind::AddrInUse => {}
            Err(error) => return Err(error),
        }
    }
}

impl Listeners {
    /// The addresses listened on, in the order of the config.
    #[must_use]
    pub fn local_addrs(&self) -> &[SocketAddr] {
        &self.addresses
    }

    /// Takes no new connections, answers what has arrived, closes everything and returns when that is done:
    /// within a fraction of a second, or a few seconds if a TCP client does not read its answers.
    pub async fn stop(mut self) {
        self.signal();
        let workers = std::mem::take(&mut self.workers);
        let joined = tokio::task::spawn_blocking(move || {
            // The result of a worker that panicked; the panic itself has been reported where it happened.
            workers.into_iter().filter_map(|worker| worker.join().err()).count()
        });
        self.tasks.wait().await;
        let query_log = self.query_log.take();
        let finished = tokio::task::spawn_blocking(|| query_log.map(Writer::finish));
        finished.await.ok();
        if let Ok(lost @ 1..) = joined.await {
            tracing::error!(lost, "UDP workers ended before the server was stopped");
        }
    }

    fn signal(&self) {
        self.stopping.store(true, Ordering::Relaxed);
        self.closing.cancel();
        self.tasks.close();
    }
}

impl Drop for Listeners {
    fn drop(&mut self) {
        self.signal();
    }
}

#[cfg(test)]
mod tests;
