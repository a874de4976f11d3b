//! A node: the modules that a config asks for, assembled, and the process around them.

#![allow(clippy::disallowed_methods, reason = "a shell: it reads the clocks")]

mod control;
pub mod demo;
pub mod drill;
mod files;
mod front;
pub mod log;
mod privileges;
mod reload;
pub mod sandbox;
mod traffic;
mod watchdog;

use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};
use axum::Router;
use sd_notify::NotifyState;
use tokio::runtime::{self, Runtime};
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio::time::timeout;
use tracing::{info, warn};

use crate::acme::Keeper;
use crate::api::{
    Access, Api, Contributor, Forecasts, Load, Loads, Metrics, Policy, Reloads, Traffic, dto,
    reload_by_signal, router,
};
use crate::config::AtStart;
use crate::engine::{self, AuditLog, Engine, Handle};
use crate::journal::{Journal, Opened};
use crate::model::TcpLimits;
use crate::net;
use crate::net::clock::Clock;
use crate::net::limits::{FdBudget, Files, ProxyConnections, Serving};
use crate::net::managed::AllManaged;
use crate::prepare::{Origin, Prepared, serving};
use crate::snapshot::Plan;
use crate::supervise::Supervisor;
use control::ControlListeners;
pub(crate) use control::{default_sockets, unknown_group};
use front::{Bound, Counters, Front};
pub(crate) use privileges::unknown_user;
use reload::{Patience, Reloader};

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
    /// Waits for either signal and returns its name.
    pub async fn recv(&mut self) -> &'static str {
        tokio::select! {
            _ = self.terminate.recv() => "SIGTERM",
            _ = self.interrupt.recv() => "SIGINT",
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
    /// The addresses at which the proxy listens, each with the name of its listener.
    pub proxy_addresses: Vec<(Arc<str>, SocketAddr)>,
    running: engine::EngineTask,
    reloading: JoinHandle<()>,
    front: Front,
    control: ControlListeners,
    supervisor: Supervisor,
    _api: Background,
}

/// A node that probes but does not answer clients yet.
#[derive(Debug)]
pub struct Starting {
    /// Without its front.
    node: Node,
    front: Bound,
    counters: Counters,
    tcp: TcpLimits,
    files: Files,
}

/// The most threads that serve the API: what they do must leave cores to everything else.
const API_THREADS: usize = 2;

/// A runtime that is left to itself when dropped, whatever its tasks do.
#[derive(Debug)]
struct Background(Option<Runtime>);

impl Drop for Background {
    fn drop(&mut self) {
        if let Some(runtime) = self.0.take() {
            runtime.shutdown_background();
        }
    }
}

impl Starting {
    /// Binds every socket and starts the engine and its checks. Must be called within a tokio runtime.
    ///
    /// # Errors
    /// If a socket cannot be bound or this user cannot write to the state directory; nothing is left running then.
    pub async fn begin(origin: Origin, prepared: Prepared, options: Options) -> Result<Self> {
        let started = Instant::now();
        privileges::forbid_core_dumps();
        let counters = Counters::default();
        let config = &prepared.config;
        let files = claim_files(&counters, &prepared.plan, serving(config));
        let front = Bound::bind(config)?;
        let mut control = ControlListeners::bind(&config.control)?;
        privileges::drop_to(&config.node, control.socket_path(), config.control.group.is_some())?;
        let opened = open_journal(config.node.state_dir.as_deref()).await?;
        let tcp = config.dns.as_ref().map(|dns| dns.tcp).unwrap_or_default();
        let name = node_name(config.node.name.as_deref());
        let (policy, policy_seen) = watch::channel(reload::policy(&prepared, &name));
        let (at_start, geo) = (AtStart::of(config), prepared.geo.clone());
        let supervisor = Supervisor::default();
        let (certificates, all) = (prepared.acme.clone(), AllManaged::default());
        let (engine, running) = Engine::start(prepared, opened, supervisor.clone())
            .context("cannot start the engine's threads")?;
        let (reloads, requests) = Reloads::new();
        let part = supervisor.part("the task that reloads the config").may_end();
        let keeper = Keeper::new(engine.clone(), supervisor.clone(), Arc::clone(&all));
        let reloader = Reloader {
            certificates,
            keeper,
            origin,
            at_start,
            geo,
            engine: engine.clone(),
            policy,
            node_name: Arc::clone(&name),
            budget: files.budget,
            patience: Patience::default(),
            _part: part,
        };
        let reloading = tokio::spawn(reloader.run(requests));
        let traffic =
            front.answers_dns().then(|| Traffic { meter: Arc::clone(&counters.dns.traffic), started });
        let api =
            Api { traffic, ..api(engine.clone(), reloads.clone(), name, started, &counters, &files, all) };
        let extra = options.extra_routes.unwrap_or_default();
        let routes = |access| with_faults(router(api.clone(), access, extra.clone()));
        let api_runtime = serve_api(&mut control, routes, policy_seen, &files, &supervisor)?;
        traffic::start(&api, &api_runtime);
        let (dns_addresses, proxy_addresses) = (front.dns_addresses(), front.proxy_addresses());
        let control_address = control.address;
        tokio::task::spawn_blocking(net::memory::give_back);
        let shown = |address: Option<SocketAddr>| address.map(tracing::field::display);
        let (control_shown, metrics_shown) = (shown(control_address), shown(control.metrics_address));
        // A list is a text in JSON, too: `tracing` has no lists without its unstable feature `valuable`.
        info!(dns = ?dns_addresses, proxy = ?proxy_addresses, control = control_shown, metrics = metrics_shown, "bound, waiting for the first result of every check");
        let node = Node {
            engine,
            reloads,
            dns_addresses,
            control_address,
            proxy_addresses,
            running,
            reloading,
            front: Front::default(),
            control,
            supervisor,
            _api: api_runtime,
        };
        Ok(Self { node, front, counters, tcp, files })
    }

    /// Waits until every check has a result. Dropping the future loses nothing.
    ///
    /// # Errors
    /// If a part of the node ends by itself.
    pub fn ready(&self) -> impl Future<Output = Result<()>> + use<> {
        let (engine, supervisor) = (self.node.engine.clone(), self.node.supervisor.clone());
        async move {
            log_plan(&engine.snapshots.load_full().plan).await;
            if engine.ready.clone().wait_for(|ready| *ready).await.is_err() {
                bail!(supervisor.failure().unwrap_or_else(|| "the engine has stopped".into()));
            }
            Ok(())
        }
    }

    /// Begins to answer.
    ///
    /// # Errors
    /// If a thread cannot be started.
    pub fn answer(self) -> Result<Node> {
        let Self { mut node, front, counters, tcp, files } = self;
        node.front = front.start(&node.engine, &counters, &tcp, &files, &node.supervisor)?;
        info!(page = node.control.page, "ready");
        Ok(node)
    }

    /// Stops everything. `by` is who asked for it.
    pub async fn stop(self, by: &str) {
        // Nothing else watches a node that has not begun to answer.
        timeout(watchdog::longest_stop(Duration::ZERO), self.node.stop(by)).await.ok();
    }
}

impl Node {
    /// Does what [`Starting::begin`] does, waits until the checks have results, and begins to answer. Must be called
    /// within a tokio runtime.
    ///
    /// # Errors
    /// If a socket cannot be bound or this user cannot write to the state directory; nothing is left running then.
    pub async fn start(origin: Origin, prepared: Prepared, options: Options) -> Result<Self> {
        let starting = Starting::begin(origin, prepared, options).await?;
        starting.ready().await?;
        starting.answer()
    }

    /// Runs until SIGTERM or SIGINT. SIGHUP reads the config again.
    ///
    /// # Errors
    /// If a part of the node ends by itself. The process is to end then; nothing has been stopped.
    pub async fn run(self, signals: Signals) -> Result<()> {
        let Signals { hangup, mut end } = signals;
        watchdog::start(self.supervisor.clone(), self.front.drain())
            .context("cannot start the watchdog's thread")?;
        // Not running under systemd is fine.
        sd_notify::notify(&[NotifyState::Ready]).ok();
        let reloading = tokio::spawn(reload_on(hangup, self.reloads.clone(), Arc::clone(&self.engine.audit)));
        let by = loop {
            tokio::select! {
                () = self.engine.retired.notified() => {
                    tokio::task::spawn_blocking(net::memory::give_back);
                }
                why = self.supervisor.ended() => bail!("{why}: the process ends, so that it can be started again"),
                by = end.recv() => break by,
            }
        };
        reloading.abort();
        let longest =
            u32::try_from(watchdog::longest_stop(self.front.drain()).as_micros()).unwrap_or(u32::MAX);
        sd_notify::notify(&[NotifyState::Stopping, NotifyState::ExtendTimeoutUsec(longest)]).ok();
        info!("stopping");
        self.stop(by).await;
        Ok(())
    }

    /// Answers the queries that have arrived, then stops everything. `by` is who asked for it.
    pub async fn stop(self, by: &str) {
        self.supervisor.stop();
        self.front.stop().await;
        // An engine that does not answer must not keep the rest from stopping.
        self.engine.report_stop(by).await.ok();
        self.control.stop().await;
        self.reloading.abort();
        self.running.stop().await;
    }
}

/// Shares out the files that the process may have open.
fn claim_files(counters: &Counters, plan: &Plan, serving: Serving) -> Files {
    let budget = FdBudget::claim(serving);
    if let Some(why) = files::shortage(budget, &plan.topology) {
        warn!("{why}");
    }
    Files {
        budget,
        dns_tcp: Arc::clone(&counters.dns.tcp_connections),
        api: Arc::default(),
        proxy: ProxyConnections::new(budget.proxy),
    }
}

/// What the API needs.
fn api(
    engine: Handle,
    reloads: Reloads,
    node_name: Arc<str>,
    started: Instant,
    counters: &Counters,
    files: &Files,
    certificates: AllManaged,
) -> Api {
    let (metrics, loads, files) = (metrics(counters, files), loads(counters), files.clone());
    let handshakes = Arc::clone(&counters.proxy.handshakes);
    let forecasts = Forecasts::default();
    let traffic = None;
    Api {
        engine,
        reloads,
        node_name,
        started,
        metrics,
        files,
        loads,
        handshakes,
        certificates,
        forecasts,
        traffic,
    }
}

/// The metrics of the modules that the API does not know.
fn metrics(counters: &Counters, files: &Files) -> Metrics {
    let (dns, proxy, files) = (Arc::clone(&counters.dns), Arc::clone(&counters.proxy), files.clone());
    let dns: Contributor = Arc::new(move |encoder| dns.encode(encoder));
    let proxy: Contributor = Arc::new(move |encoder| proxy.encode(encoder));
    let files: Contributor = Arc::new(move |encoder| files::encode(&files, encoder));
    Metrics { contributors: vec![dns, proxy, Arc::new(log::encode), files] }
}

/// How much the proxy's backends work on.
fn loads(counters: &Counters) -> Loads {
    let proxy = Arc::clone(&counters.proxy);
    Loads(Arc::new(move || Load {
        waiting: proxy.pools().into_iter().map(|(pool, it)| (pool, it.queue.waiting.load(Relaxed))).collect(),
        backends: proxy
            .backends()
            .into_iter()
            .map(|(key, it)| {
                let load = dto::Load {
                    requests: it.in_flight.load(Relaxed),
                    connections: it.connections(),
                    total: it.requests.load(Relaxed),
                    failures: it.failures.load(Relaxed),
                    server_errors: it.responses[5].load(Relaxed),
                };
                (key, load)
            })
            .collect(),
    }))
}

async fn log_plan(plan: &Plan) {
    info!(
        geo_bytes = plan.geo.memory_bytes(),
        ranking_bytes = plan.steering.memory_bytes(),
        places = plan.geo.places().len(),
        "plan compiled"
    );
    reload::warn_of_logs(plan).await;
}

async fn open_journal(state_dir: Option<&Path>) -> Result<Opened> {
    if let Some(dir) = state_dir {
        return Journal::open(dir, Clock::unix()).await;
    }
    info!("no [node] state_dir: overrides and verdicts are kept in memory only and lost at a restart");
    Ok(Opened::in_memory("[node] state_dir is not set"))
}

/// Serves the API on a runtime of its own: requests that take long, or block, delay only other requests. Signals and
/// reloads, which the caller's runtime serves, the engine and DNS do not depend on it.
fn serve_api(
    control: &mut ControlListeners,
    router: impl Fn(Access) -> Router,
    policy: watch::Receiver<Policy>,
    files: &Files,
    supervisor: &Supervisor,
) -> Result<Background> {
    let runtime = runtime::Builder::new_multi_thread()
        .worker_threads(API_THREADS)
        .thread_name("api")
        .enable_all()
        .build()
        .context("cannot start the API's threads")?;
    let entered = runtime.enter();
    control.serve(router, policy, files, supervisor)?;
    drop(entered);
    Ok(Background(Some(runtime)))
}

/// The API with the faults that tests inject.
#[cfg(debug_assertions)]
fn with_faults(router: Router) -> Router {
    use crate::supervise::fault::{At, point};
    use axum::middleware::{Next, from_fn};

    router.layer(from_fn(async |request, next: Next| {
        point(At::Api);
        next.run(request).await
    }))
}

#[cfg(not(debug_assertions))]
fn with_faults(router: Router) -> Router {
    router
}

/// Reloads for each SIGHUP. Those that arrive during a reload cause one more, however many they are.
async fn reload_on(mut hangup: Signal, reloads: Reloads, log: Arc<AuditLog>) {
    while hangup.recv().await.is_some() {
        reload_by_signal(&reloads, &log).await;
    }
}

/// The name of a node: the configured one, else that of the host.
pub(crate) fn node_name(configured: Option<&str>) -> Arc<str> {
    let host = || {
        let name = nix::unistd::gethostname().map_err(|e| warn!("the host name cannot be read: {e}"));
        name.map_or_else(|()| "portolan".into(), |name| name.to_string_lossy().into_owned())
    };
    configured.map_or_else(host, str::to_owned).into()
}
