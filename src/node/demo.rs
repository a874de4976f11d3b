//! The demo: a node that answers DNS, and three regions, each a node with a proxy and two backends, all on loopback. Regions
//! and backends can be broken as real ones break.

mod backend;
pub mod happening;
mod region;
pub mod switch;

use std::net::{IpAddr, Ipv4Addr};
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};
use axum::extract::State;
use axum::http::StatusCode;
use axum::routing::post;
use axum::{Json, Router};
use sha2::{Digest as _, Sha256};
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::broadcast;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use super::{Node, Options, Signals};
use crate::api::{Problem, dto};
use crate::config::Control;
use crate::net::clock::Clock;
use crate::prepare::{Origin, prepare};
use happening::{Happening, Tier};
use region::{Region, Running};
use switch::{BACKENDS, Break, REGIONS, Switches, Target};

/// How many ports are tried, counting up, when one is taken.
pub const PORTS_TRIED: u16 = 100;
const DNS_PORT: u16 = 5300;
/// Of the proxies and of their backends, each of which has an address of its own.
const REGION_PORT: u16 = 18080;

/// The address of a region's proxy.
#[must_use]
pub fn region_address(region: &str) -> Ipv4Addr {
    address(region, 1)
}

/// The address of a backend.
#[must_use]
pub fn backend_address(region: &str, backend: &str) -> Ipv4Addr {
    let index = BACKENDS.iter().position(|known| *known == backend).unwrap_or_default();
    address(region, 11 + index as u8)
}

/// Each region has a network of its own.
fn address(region: &str, host: u8) -> Ipv4Addr {
    let network = match region {
        "eu-west" => 1,
        "us-east" => 2,
        _ => 3,
    };
    Ipv4Addr::new(127, 0, network, host)
}

/// Every address that listens at the port of the regions.
fn addresses() -> impl Iterator<Item = Ipv4Addr> {
    Target::all().map(|Target { region, backend }| {
        backend.map_or_else(|| region_address(region), |backend| backend_address(region, backend))
    })
}

/// The running demo.
#[derive(Debug)]
pub struct Demo {
    /// The node that answers DNS.
    pub node: Node,
    /// Break regions and backends.
    pub switches: Switches,
    /// The port of the regions' proxies.
    pub region_port: u16,
    /// A sentence for each port that was taken, with the port used instead.
    pub notes: Vec<String>,
    /// The token for changes over TCP; at the [`socket`] they need none.
    pub token: String,
    happenings: broadcast::Sender<Happening>,
    regions: Regions,
}

/// The regions that run, each in a task of its own.
#[derive(Debug)]
struct Regions {
    tasks: JoinSet<Result<()>>,
    stopped: CancellationToken,
}

/// How often a start is tried.
const ATTEMPTS: u32 = 5;

/// What ends a demo: SIGTERM, SIGINT, and SIGHUP, since its terminal is closed then. It has no config to read again.
#[derive(Debug)]
pub struct End {
    signals: Signals,
    hangup: Signal,
}

impl End {
    /// Starts to listen.
    ///
    /// # Errors
    /// If signals cannot be listened for.
    pub fn listen() -> Result<Self> {
        let hangup = signal(SignalKind::hangup()).context("cannot listen for signals")?;
        Ok(Self { signals: Signals::listen()?, hangup })
    }
}

/// The ports at which the demo listens.
#[derive(Clone, Copy, Debug)]
struct Ports {
    dns: u16,
    control: u16,
    region: u16,
}

impl Ports {
    const USUAL: Self = Self { dns: DNS_PORT, control: Control::DEFAULT_LISTEN.port(), region: REGION_PORT };

    /// The usual ports, or the next ones that are free, with a sentence about each of those.
    fn free() -> Result<(Self, Vec<String>)> {
        let loopback = IpAddr::V4(Ipv4Addr::LOCALHOST);
        let is_free = |port| addresses().all(|address| can_bind_tcp(address.into(), port));
        let region = free_port(Self::USUAL.region, is_free)?;
        // A demo that starts at the same time has its sockets before it has its control port.
        let control = free_port(Self::USUAL.control, |port| {
            can_bind_tcp(loopback, port)
                && !is_in_use(&socket(port))
                && REGIONS.iter().all(|region| !is_in_use(&region_socket(port, region)))
        })?;
        let dns = free_port(Self::USUAL.dns, |port| {
            can_bind_tcp(loopback, port) && std::net::UdpSocket::bind((loopback, port)).is_ok()
        })?;
        let notes = [
            ("the regions", Self::USUAL.region, region),
            ("control", Self::USUAL.control, control),
            ("DNS", Self::USUAL.dns, dns),
        ];
        let notes = notes.into_iter().filter(|(_, usual, found)| usual != found);
        let notes =
            notes.map(|(what, usual, found)| format!("port {usual} for {what} is taken: using {found}"));
        Ok((Self { dns, control, region }, notes.collect()))
    }
}

impl Demo {
    /// Starts the regions and the node.
    ///
    /// # Errors
    /// If no free port is found, or a node does not start.
    pub async fn start() -> Result<Self> {
        // Another program may take a port between the moment it is found free and the moment it is bound.
        for _ in 1..ATTEMPTS {
            if let Ok(demo) = Self::try_start().await {
                return Ok(demo);
            }
        }
        Self::try_start().await
    }

    async fn try_start() -> Result<Self> {
        let (ports, notes) = Ports::free()?;
        let (switches, happenings, token) = (Switches::new(), happening::channel(), token()?);
        let zone = include_bytes!("../../zones/demo.test.zone").to_vec();
        let origin = Origin::Text {
            toml: dns_config(ports, &token).into(),
            files: [(PathBuf::from("demo.test.zone"), zone)].into(),
        };
        let regions = Regions::start(ports, &switches, &happenings).await?;
        let extra_routes = Some(routes(switches.clone(), happenings.clone()));
        let node = match start_dns(origin, Options { extra_routes }).await {
            Ok(node) => node,
            Err(why) => {
                regions.stop().await;
                return Err(why);
            }
        };
        happening::forward(node.engine.subscribe(), Tier::Dns, Vec::new(), happenings.clone());
        Ok(Self { node, switches, region_port: ports.region, notes, token, happenings, regions })
    }

    /// A receiver of all that happens from now on.
    #[must_use]
    pub fn subscribe(&self) -> broadcast::Receiver<Happening> {
        self.happenings.subscribe()
    }

    /// Breaks a target, or heals it.
    pub fn turn(&self, target: Target, how: Option<Break>) {
        turn(&self.switches, &self.happenings, target, how);
    }

    /// Runs until it should end.
    ///
    /// # Errors
    /// If a part of a node ends by itself.
    pub async fn run(self, end: End) -> Result<()> {
        let End { signals, mut hangup } = end;
        let Self { node, mut regions, .. } = self;
        let ended = tokio::select! {
            ended = node.run(signals) => ended,
            _ = hangup.recv() => Ok(()),
            why = regions.ended() => Err(why),
        };
        regions.stop().await;
        ended
    }

    /// Stops everything.
    pub async fn stop(self) {
        self.node.stop("the demo").await;
        self.regions.stop().await;
    }
}

/// Starts the node that answers DNS. To prepare it takes long; the backends of the regions answer probes meanwhile.
async fn start_dns(origin: Origin, options: Options) -> Result<Node> {
    let preparing = origin.clone();
    let prepared = tokio::task::spawn_blocking(move || prepare(&preparing)).await??;
    Node::start(origin, prepared, options).await
}

impl Regions {
    async fn start(
        ports: Ports,
        switches: &Switches,
        happenings: &broadcast::Sender<Happening>,
    ) -> Result<Self> {
        let mut starting = JoinSet::new();
        for name in REGIONS {
            let region =
                Region::new(name, ports.region, &region_socket(ports.control, name), happenings.clone());
            let switches = switches.clone();
            starting.spawn(async move { region.start(&switches).await });
        }
        let mut regions = Self { tasks: JoinSet::new(), stopped: CancellationToken::new() };
        let mut failed = None;
        for started in starting.join_all().await {
            match started {
                Ok(running) => drop(regions.tasks.spawn(Running::run(running, regions.stopped.clone()))),
                Err(why) => failed = Some(why),
            }
        }
        match failed {
            None => Ok(regions),
            Some(why) => {
                regions.stop().await;
                Err(why)
            }
        }
    }

    /// Waits until a region ends by itself. Returns why.
    async fn ended(&mut self) -> anyhow::Error {
        match self.tasks.join_next().await {
            Some(Ok(Err(why))) => why,
            other => anyhow::anyhow!("a region of the demo ended: {other:?}"),
        }
    }

    async fn stop(self) {
        self.stopped.cancel();
        self.tasks.join_all().await;
    }
}

/// A node of the demo.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Part {
    /// The one that answers DNS.
    Dns,
    /// That of this region.
    Region(&'static str),
}

impl Part {
    /// Every node.
    pub fn all() -> impl Iterator<Item = Self> {
        std::iter::once(Self::Dns).chain(REGIONS.map(Self::Region))
    }

    /// Its name on the command line.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Dns => "dns",
            Self::Region(name) => name,
        }
    }

    /// Its config if no port is taken.
    ///
    /// # Errors
    /// If the system has no random numbers for a token.
    pub fn config(self) -> Result<String> {
        let ports = Ports::USUAL;
        match self {
            Self::Dns => Ok(dns_config(ports, &token()?)),
            Self::Region(name) => Ok(region::config(name, ports.region, &region_socket(ports.control, name))),
        }
    }
}

/// The socket of the demo whose API has this port. It is not where other nodes have theirs, so that a demo beside a node
/// is not taken for it.
#[must_use]
pub fn socket(control_port: u16) -> PathBuf {
    sockets(control_port).remove(0)
}

/// The sockets that this user's demo may have, best first: it may have been started without XDG_RUNTIME_DIR, as by `sudo`.
#[must_use]
pub fn sockets(control_port: u16) -> Vec<PathBuf> {
    let user = nix::unistd::geteuid();
    let runtime = std::env::var_os("XDG_RUNTIME_DIR");
    let runtime = runtime.map(|dir| PathBuf::from(dir).join(format!("portolan-demo-{control_port}.sock")));
    let temporary = std::env::temp_dir().join(format!("portolan-demo-{user}-{control_port}.sock"));
    runtime.into_iter().chain([temporary]).collect()
}

/// The socket of a region's node, beside that of the demo.
#[must_use]
pub fn region_socket(control_port: u16, region: &str) -> PathBuf {
    beside(&socket(control_port), region)
}

fn beside(socket: &Path, region: &str) -> PathBuf {
    let stem = socket.file_stem().unwrap_or_default().to_string_lossy();
    socket.with_file_name(format!("{stem}-{region}.sock"))
}

/// A token that nobody can guess.
fn token() -> Result<String> {
    let mut secret = [0; 16];
    let random = rustls::crypto::aws_lc_rs::default_provider().secure_random;
    random.fill(&mut secret).map_err(|_| anyhow::anyhow!("the system has no random numbers for a token"))?;
    Ok(hexadecimal(&secret))
}

fn hexadecimal(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// The config of the node that answers DNS.
fn dns_config(ports: Ports, token: &str) -> String {
    include_str!("demo/dns.toml")
        .replace("@DNS@", &ports.dns.to_string())
        .replace("@CONTROL@", &ports.control.to_string())
        .replace("@REGION@", &ports.region.to_string())
        .replace("@SOCKET@", &socket(ports.control).display().to_string())
        .replace("@TOKEN@", &hexadecimal(&Sha256::digest(token)))
}

fn free_port(wanted: u16, is_free: impl Fn(u16) -> bool) -> Result<u16> {
    let mut tried = wanted..wanted.saturating_add(PORTS_TRIED);
    tried.find(|port| is_free(*port)).with_context(|| {
        format!("ports {wanted} to {} are all taken: stop what listens there", wanted + PORTS_TRIED - 1)
    })
}

fn is_in_use(socket: &Path) -> bool {
    std::os::unix::net::UnixStream::connect(socket).is_ok()
}

fn can_bind_tcp(address: IpAddr, port: u16) -> bool {
    std::net::TcpListener::bind((address, port)).is_ok()
}

/// `POST /v1/demo`: breaks and heals.
fn routes(switches: Switches, happenings: broadcast::Sender<Happening>) -> Router {
    Router::new().route("/v1/demo", post(switch)).with_state((switches, happenings))
}

async fn switch(
    State((switches, happenings)): State<(Switches, broadcast::Sender<Happening>)>,
    Json(request): Json<dto::DemoSwitch>,
) -> Result<Json<dto::DemoSwitched>, Problem> {
    let bad = |why: String| Problem::new(StatusCode::BAD_REQUEST, why);
    let target = Target::named(&request.target).ok_or_else(|| {
        let names: Vec<String> = Target::all().map(|target| target.to_string()).collect();
        bad(format!("the demo has no `{}`; it has {}", request.target, names.join(", ")))
    })?;
    let how = match &request.how {
        None => None,
        Some(how) => Some(Break::named(how).ok_or_else(|| {
            let ways: Vec<_> = Break::ALL.iter().map(|(name, _)| *name).collect();
            bad(format!("`{how}` is not a way to break; the ways are {}", ways.join(", ")))
        })?),
    };
    turn(&switches, &happenings, target, how);
    let broken = switches.broken(target.region);
    let shown = |how: Option<Break>| how.map(|how| how.to_string());
    let backends = BACKENDS.into_iter().zip(broken.backends);
    Ok(Json(dto::DemoSwitched {
        target: target.to_string(),
        how: shown(how),
        proxy: shown(broken.proxy),
        backends: backends.map(|(name, how)| (name.to_owned(), shown(how))).collect(),
    }))
}

fn turn(switches: &Switches, happenings: &broadcast::Sender<Happening>, target: Target, how: Option<Break>) {
    switches.turn(target, how);
    let sentence = how.map_or_else(|| format!("{target} is healed"), |how| format!("{target} fails ({how})"));
    // Nobody may be reading.
    happenings.send(Happening { at: Clock::unix(), tier: Tier::Demo, event: None, sentence }).ok();
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_demo_has_a_token_that_nobody_can_guess() {
        let (one, other) = (token().unwrap(), token().unwrap());
        assert_ne!(one, other);
        assert_eq!(one.len(), 32, "128 bits: {one}");
    }

    #[test]
    fn sockets_of_regions_differ() {
        let of = |region| beside(Path::new("/run/user/1000/portolan-demo-8053.sock"), region);
        assert_eq!(of("eu-west"), Path::new("/run/user/1000/portolan-demo-8053-eu-west.sock"));
        assert_ne!(of("us-east"), of("ap-south"));
    }

    #[test]
    fn no_two_share_an_address() {
        let all: std::collections::BTreeSet<_> = addresses().collect();
        assert_eq!(all.len(), Target::all().count());
    }

    #[test]
    fn every_config_is_complete() {
        for part in Part::all() {
            let config = part.config().unwrap();
            assert!(!config.contains('@'), "{config}");
        }
    }
}
