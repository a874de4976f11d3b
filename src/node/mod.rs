//! A node: the modules that a config asks for, assembled, and the process around them.

#![allow(clippy::disallowed_methods, reason = "a shell: it reads the clocks")]

mod control;
pub mod demo;
pub mod drill;
mod reload;

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Instant;

use anyhow::{Context as _, Result};
use axum::Router;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tracing::{info, warn};

use crate::api::{Api, Contributor, Metrics, Reloads, router};
use crate::config::AtStart;
use crate::dns;
use crate::engine::{self, Engine, Handle};
use crate::journal::{Journal, Opened};
use crate::net;
use crate::net::clock::Clock;
use crate::net::limits::FdBudget;
use crate::prepare::{Origin, Prepared};
use control::ControlListeners;
pub(crate) use control::default_sockets;
use reload::Reloader;

/// How a node is started, besides its config.
#[derive(Debug, Default)]
pub struct Options {
    /// Routes in addition to the API's, for the demo.
    pub extra_routes: Option<Router>,
}

/// The signals that the process handles.
#[derive(Debug)]
pub struct Signals {
    hangup: Signal,
    /// Those that end it.
    pub end: End,
}

/// SIGTERM or SIGINT.
#[derive(Debug)]
pub struct End {
    terminate: Signal,
    interrupt: Signal,
}

impl Signals {
    /// Starts to listen: from now on none of these signals ends the process by itself. To be called before a node
    /// starts, because SIGHUP must not end a node that still waits for its first results.
    ///
    /// # Errors
    /// If signals cannot be listened for.
    pub fn listen() -> Result<Self> {
        let listen = |kind| signal(kind).context("cannot listen for signals");
        let end =
            End { terminate: listen(SignalKind::terminate())?, interrupt: listen(SignalKind::interrupt())? };
        Ok(Self { hangup: listen(SignalKind::hangup())?, end })
    }
}

impl End {
    /// Waits for either signal.
    pub async fn recv(&mut self) {
        tokio::select! {
            _ = self.terminate.recv() => {}
            _ = self.interrupt.recv() => {}
        }
    }
}

/// A running node.
#[derive(Debug)]
pub struct Node {
    /// The engine.
    pub engine: Handle,
    /// Asks for reloads.
    pub reloads: Reloads,
    /// The addresses at which DNS is answered.
    pub dns_addresses: Vec<SocketAddr>,
    /// The TCP address of the API, if it has one.
    pub control_address: Option<SocketAddr>,
    running: engine::EngineTask,
    reloading: JoinHandle<()>,
    dns: Option<dns::Listeners>,
    control: ControlListeners,
}

impl Node {
    /// Binds every socket, starts the engine, waits until its checks have results, and begins to answer. Must be
    /// called within a tokio runtime.
    ///
    /// # Errors
    /// If a socket cannot be bound or this user cannot write to the state directory; nothing is left running then.
    pub async fn start(origin: Origin, prepared: Prepared, options: Options) -> Result<Self> {
        let started = Instant::now();
        let descriptors = FdBudget::claim();
        let config = &prepared.config;
        let server = match &config.dns {
            Some(dns) => Some(dns::Server::bind(&dns.listen, dns.workers)?),
            None => None,
        };
        let mut control = ControlListeners::bind(&config.control)?;
        let opened = match &config.node.state_dir {
            Some(dir) => Journal::open(dir, Clock::unix()).await?,
            None => {
                info!(
                    "no [node] state_dir: overrides and verdicts are kept in memory only and lost at a restart"
                );
                Opened::in_memory("[node] state_dir is not set")
            }
        };
        let name = node_name(config.node.name.as_deref());
        let counters = Arc::new(dns::Counters::default());
        let (policy, policy_seen) = watch::channel(reload::policy(&prepared, &name));
        let (at_start, geo) = (AtStart::of(config), prepared.geo.clone());
        let (engine, running) = Engine::start(prepared, opened);
        let (reloads, requests) = Reloads::new();
        let reloader =
            Reloader { origin, at_start, geo, engine: engine.clone(), policy, node_name: Arc::clone(&name) };
        let reloading = tokio::spawn(reloader.run(requests));
        let dns_metrics: Contributor = {
            let counters = Arc::clone(&counters);
            Arc::new(move |encoder| counters.encode(encoder))
        };
        let metrics = Metrics { contributors: vec![dns_metrics] };
        let api = Api { engine: engine.clone(), reloads: reloads.clone(), node_name: name, started, metrics };
        let extra = options.extra_routes.unwrap_or_default();
        let routes = |access| router(api.clone(), access, extra.clone());
        control.serve(routes, policy_seen, descriptors.api)?;
        let dns_addresses = server.as_ref().map(dns::Server::local_addrs).unwrap_or_default();
        let control_address = control.address;
        tokio::task::spawn_blocking(net::memory::give_back);
        let plan = Arc::clone(&engine.snapshots.load().plan);
        info!(
            geo_bytes = plan.geo.memory_bytes(),
            ranking_bytes = plan.steering.memory_bytes(),
            places = plan.geo.places().len(),
            "plan compiled"
        );
        let shown = |address: Option<SocketAddr>| address.map(tracing::field::display);
        let (control_shown, metrics_shown) = (shown(control_address), shown(control.metrics_address));
        info!(dns = ?dns_addresses, control = control_shown, metrics = metrics_shown, "bound, waiting for the first result of every check");
        engine.ready.clone().wait_for(|ready| *ready).await.context("the engine stopped")?;
        let shared = dns::Shared { snapshots: Arc::clone(&engine.snapshots), counters };
        let dns = server
            .map(|server| server.start(shared, descriptors.dns_tcp))
            .transpose()
            .context("cannot start the DNS workers")?;
        info!("ready");
        Ok(Self { engine, reloads, dns_addresses, control_address, running, reloading, dns, control })
    }

    /// Runs until SIGTERM or SIGINT. SIGHUP reads the config again.
    pub async fn run(self, mut signals: Signals) {
        // Not running under systemd is fine.
        sd_notify::notify(&[sd_notify::NotifyState::Ready]).ok();
        loop {
            tokio::select! {
                _ = signals.hangup.recv() => {
                    // Events report the outcome; the loop must stay free for the next signal.
                    let reloads = self.reloads.clone();
                    tokio::spawn(async move { reloads.reload("SIGHUP".into()).await.map(|_| ()) });
                }
                () = self.engine.retired.notified() => {
                    tokio::task::spawn_blocking(net::memory::give_back);
                }
                () = signals.end.recv() => break,
            }
        }
        sd_notify::notify(&[sd_notify::NotifyState::Stopping]).ok();
        info!("stopping");
        self.stop().await;
    }

    /// Answers the queries that have arrived, then stops everything.
    pub async fn stop(self) {
        if let Some(dns) = self.dns {
            dns.stop().await;
        }
        self.control.stop().await;
        self.reloading.abort();
        self.running.stop().await;
    }
}

fn node_name(configured: Option<&str>) -> Arc<str> {
    let host = || {
        let name = nix::unistd::gethostname().map_err(|e| warn!("the host name cannot be read: {e}"));
        name.map_or_else(|()| "portolan".into(), |name| name.to_string_lossy().into_owned())
    };
    configured.map_or_else(host, str::to_owned).into()
}
