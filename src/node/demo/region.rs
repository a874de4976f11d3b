//! A region: a node with nothing but a proxy, as a region in production has it, and the backends behind it.

use std::net::{Ipv4Addr, SocketAddr};
use std::path::Path;

use anyhow::{Context as _, Result, bail};
use tokio::net::TcpListener;
use tokio::sync::{broadcast, watch};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use super::happening::{Happening, Tier, forward};
use super::switch::{BACKENDS, Gate, Switches, Target};
use super::{backend, backend_address, region_address};
use crate::node::{Node, Options};
use crate::prepare::{Origin, prepare};
use crate::supervise::Supervisor;

/// What a region is started with.
#[derive(Clone, Debug)]
pub(super) struct Region {
    pub(super) name: &'static str,
    pub(super) port: u16,
    pub(super) origin: Origin,
    pub(super) happenings: broadcast::Sender<Happening>,
}

/// A region that runs.
#[derive(Debug)]
pub(super) struct Running {
    region: Region,
    gate: watch::Receiver<Gate>,
    node: Option<Node>,
    /// Aborted when this is dropped.
    _backends: JoinSet<()>,
}

impl Region {
    pub(super) fn new(
        name: &'static str,
        port: u16,
        socket: &Path,
        happenings: broadcast::Sender<Happening>,
    ) -> Self {
        let origin = Origin::Text { toml: config(name, port, socket).into(), files: [].into() };
        Self { name, port, origin, happenings }
    }

    /// Starts the backends and, once they listen, the proxy.
    pub(super) async fn start(self, switches: &Switches) -> Result<Running> {
        let mut backends = JoinSet::new();
        for name in BACKENDS {
            let address = SocketAddr::from((backend_address(self.name, name), self.port));
            let listener =
                TcpListener::bind(address).await.with_context(|| format!("cannot listen at {address}"))?;
            let target = Target { region: self.name, backend: Some(name) };
            backends.spawn(backend::run(target, address, listener, switches.backend(self.name, name)));
        }
        let node = self.start_proxy().await?;
        let gate = switches.gate(self.name);
        Ok(Running { region: self, gate, node: Some(node), _backends: backends })
    }

    async fn start_proxy(&self) -> Result<Node> {
        let prepared = prepare(&self.origin)?;
        let node = Node::start(self.origin.clone(), prepared, Options::default()).await?;
        let names = BACKENDS.map(|backend| {
            let target = Target { region: self.name, backend: Some(backend) };
            (format!("pool/web/{}:{}", backend_address(self.name, backend), self.port), target.to_string())
        });
        forward(node.engine.subscribe(), Tier::Proxy(self.name), names.into(), self.happenings.clone());
        Ok(node)
    }
}

impl Running {
    /// Starts and stops the proxy as the switch says, until `stopped`.
    pub(super) async fn run(mut self, stopped: CancellationToken) -> Result<()> {
        loop {
            let gate = *self.gate.borrow_and_update();
            let _held = self.set(gate).await;
            let supervisor = self.node.as_ref().map(|node| node.supervisor.clone());
            tokio::select! {
                turned = self.gate.changed() => turned.context("the demo's switches are gone")?,
                why = ended(supervisor) => bail!("in {}: {why}", self.region.name),
                () = stopped.cancelled() => break,
            }
        }
        self.stop().await;
        Ok(())
    }

    pub(super) async fn stop(self) {
        if let Some(node) = self.node {
            node.stop("the demo").await;
        }
    }

    /// Returns the listener that nobody serves, while there is one.
    async fn set(&mut self, gate: Gate) -> Option<TcpListener> {
        let name = self.region.name;
        if gate == Gate::Open && self.node.is_none() {
            let started = self.region.start_proxy().await;
            self.node =
                started.map_err(|e| tracing::error!("the proxy of {name} cannot start again: {e:#}")).ok();
        }
        if gate == Gate::Open {
            return None;
        }
        if let Some(node) = self.node.take() {
            node.stop("the demo").await;
        }
        if gate == Gate::Closed {
            return None;
        }
        // The kernel accepts what fits into the backlog; nobody answers.
        let bound = TcpListener::bind((region_address(name), self.region.port)).await;
        bound.map_err(|e| tracing::error!("the port of {name} cannot hang: {e}")).ok()
    }
}

/// Waits until a part of a node that runs ends by itself. Returns a sentence about it.
async fn ended(supervisor: Option<Supervisor>) -> String {
    match supervisor {
        Some(supervisor) => supervisor.ended().await,
        None => std::future::pending().await,
    }
}

/// The config of a region's node.
pub(super) fn config(name: &str, port: u16, socket: &Path) -> String {
    let at = |address: Ipv4Addr| SocketAddr::from((address, port)).to_string();
    let mut toml = include_str!("region.toml")
        .replace("@NAME@", name)
        .replace("@SOCKET@", &socket.display().to_string())
        .replace("@REGION@", &at(region_address(name)));
    for (mark, backend) in ["@BACKEND1@", "@BACKEND2@"].into_iter().zip(BACKENDS) {
        toml = toml.replace(mark, &at(backend_address(name, backend)));
    }
    toml
}
