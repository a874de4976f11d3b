//! The DNS listeners: UDP workers on threads of their own, TCP on the runtime.
//!
//! ```text
//! Server::bind ──▶ Server ── start ──▶ Running ── stop ──▶ all answered, all closed
//! ```
//!
//! Sockets are bound at once, so that nothing else takes the port and early queries wait in the kernel, and are
//! read once [`Server::start`] is called. What every listener does with a query is in `respond`: one snapshot and
//! one look at the clock per batch, and a query that makes the answer panic costs that query alone.

mod connections;
mod counters;
mod metrics;
mod respond;
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
use crate::net::listen::{BindError, Listener};
use crate::snapshot::Snapshot;
use connections::Connections;
use respond::{Handle, Responder};
use tcp::Limits;

/// What the listeners have in common with the rest of the node.
#[derive(Clone, Debug)]
pub struct Shared {
    /// The snapshot that queries are answered from; replaced by the engine.
    pub snapshots: Arc<ArcSwap<Snapshot>>,
    /// What was asked and answered; it outlives the listeners.
    pub counters: Arc<Counters>,
}

/// Listeners that are bound and not yet read.
#[derive(Debug)]
pub struct Server {
    listeners: Vec<Listener>,
}

/// Listeners at work. Dropped without [`stop`](Self::stop) they end soon and unobserved.
#[derive(Debug)]
pub struct Running {
    addresses: Vec<SocketAddr>,
    stopping: Arc<AtomicBool>,
    closing: CancellationToken,
    tasks: TaskTracker,
    workers: Vec<JoinHandle<()>>,
}

impl Server {
    /// Binds UDP and TCP at every address, with so many UDP workers each; 0 means one per core.
    ///
    /// # Errors
    /// On the first address that cannot be listened at; then none is.
    pub fn bind(listen: &[SocketAddr], workers: usize) -> Result<Self, BindError> {
        let workers = match workers {
            0 => thread::available_parallelism().map_or(1, usize::from),
            n => n,
        };
        let listeners =
            listen.iter().map(|address| Listener::bind(*address, workers)).collect::<Result<Vec<_>, _>>()?;
        Ok(Self { listeners })
    }

    /// The addresses bound, in the order given; ports that were 0 are those found.
    #[must_use]
    pub fn local_addrs(&self) -> Vec<SocketAddr> {
        self.listeners.iter().map(|listener| listener.address).collect()
    }

    /// Begins to answer.
    ///
    /// # Errors
    /// If a thread cannot be made or the runtime does not take a socket.
    ///
    /// # Panics
    /// Outside of a tokio runtime.
    pub fn start(self, shared: Shared) -> io::Result<Running> {
        self.start_with(&shared, answer::handle, Limits::default())
    }

    fn start_with(self, shared: &Shared, handle: Handle, limits: Limits) -> io::Result<Running> {
        let mut running = Running {
            addresses: self.local_addrs(),
            stopping: Arc::default(),
            closing: CancellationToken::new(),
            tasks: TaskTracker::new(),
            workers: Vec::new(),
        };
        let connections = Arc::new(Connections::new(limits.connections));
        for Listener { address, tcp, udp } in self.listeners {
            for socket in udp {
                let responder = Responder::new(shared, handle);
                let stopping = Arc::clone(&running.stopping);
                let name = format!("dns-{}", running.workers.len());
                let run = move || udp::run(socket, address, responder, &stopping);
                running.workers.push(thread::Builder::new().name(name).spawn(run)?);
            }
            let listener = tcp::Acceptor {
                listener: tokio::net::TcpListener::from_std(tcp)?,
                shared: shared.clone(),
                handle,
                limits,
                connections: Arc::clone(&connections),
                closing: running.closing.clone(),
                tasks: running.tasks.clone(),
            };
            running.tasks.spawn(listener.run());
        }
        Ok(running)
    }
}

impl Running {
    /// The addresses answered at, in the order of the config.
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
        if let Ok(lost @ 1..) = joined.await {
            tracing::error!(lost, "UDP workers had ended before they were told to");
        }
    }

    fn signal(&self) {
        self.stopping.store(true, Ordering::Relaxed);
        self.closing.cancel();
        self.tasks.close();
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.signal();
    }
}

#[cfg(test)]
mod tests;
