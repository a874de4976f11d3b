//! The demo: a node on loopback, and three regions that can be broken as real regions break.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, Result};
use axum::extract::State;
use axum::http::StatusCode;
use axum::response::{IntoResponse as _, Response};
use axum::routing::{any, post};
use axum::{Json, Router};
use sha2::{Digest as _, Sha256};
use tokio::net::TcpListener;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use super::{Node, Options, Signals};
use crate::api::{Problem, dto};
use crate::config::Control;
use crate::prepare::{Origin, prepare};

/// The demo's regions: name, address, where it is.
pub const REGIONS: [(&str, Ipv4Addr, &str); 3] = [
    ("ap-south", Ipv4Addr::new(127, 0, 3, 1), "Mumbai"),
    ("eu-west", Ipv4Addr::new(127, 0, 1, 1), "Dublin"),
    ("us-east", Ipv4Addr::new(127, 0, 2, 1), "Virginia"),
];

/// How many ports are tried, counting up, when one is taken.
const PORTS_TRIED: u16 = 100;
const DNS_PORT: u16 = 5300;
const REGION_PORT: u16 = 18080;

/// How slow a slow region is: slower than the probe's `slow`, faster than its timeout.
const SLOWNESS: Duration = Duration::from_millis(600);

/// The ways in which a region breaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Break {
    /// Its port is closed: connections are refused.
    Refuse,
    /// It accepts connections and never answers.
    Hang,
    /// It answers 503.
    Unavailable,
    /// It answers 200, but its readiness document says that the database is unhealthy.
    Document,
    /// It answers correctly, but late.
    Slow,
}

impl Break {
    /// Every way with its name on the command line.
    pub const ALL: [(&'static str, Self); 5] = [
        ("refuse", Self::Refuse),
        ("hang", Self::Hang),
        ("503", Self::Unavailable),
        ("document", Self::Document),
        ("slow", Self::Slow),
    ];

    fn named(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|(known, _)| *known == name).map(|(_, way)| way)
    }
}

/// Each region's switch: how it is broken, if it is.
pub type Switches = Arc<BTreeMap<&'static str, watch::Sender<Option<Break>>>>;

/// The running demo.
#[derive(Debug)]
pub struct Demo {
    /// The node.
    pub node: Node,
    /// The regions' switches.
    pub switches: Switches,
    /// A sentence for each port that was taken, with the port used instead.
    pub notes: Vec<String>,
    /// The token for changes over TCP; at the [`socket`] they need none.
    pub token: String,
    regions: CancellationToken,
}

/// How often a start is tried.
const ATTEMPTS: u32 = 3;

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

impl Demo {
    /// Starts the regions and the node.
    ///
    /// # Errors
    /// If no free port is found, or the node does not start.
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
        let mut notes = Vec::new();
        let mut give_way = |what: &str, wanted: u16, found: u16| {
            if wanted != found {
                notes.push(format!("port {wanted} for {what} is taken: using {found}"));
            }
        };
        let region_port = free_port(REGION_PORT, |port| {
            REGIONS.iter().all(|(_, address, _)| can_bind_tcp((*address).into(), port))
        })?;
        give_way("the regions", REGION_PORT, region_port);
        let loopback = IpAddr::V4(Ipv4Addr::LOCALHOST);
        let usual_port = Control::DEFAULT_LISTEN.port();
        let control_port = free_port(usual_port, |port| can_bind_tcp(loopback, port))?;
        give_way("control", usual_port, control_port);
        let dns_port = free_port(DNS_PORT, |port| {
            can_bind_tcp(loopback, port) && std::net::UdpSocket::bind((loopback, port)).is_ok()
        })?;
        give_way("DNS", DNS_PORT, dns_port);

        let regions = CancellationToken::new();
        let stop_if_failed = regions.clone().drop_guard();
        let mut switches = BTreeMap::new();
        for (name, address, _) in REGIONS {
            let (switch, position) = watch::channel(None);
            let address = SocketAddr::new(address.into(), region_port);
            let listener =
                TcpListener::bind(address).await.with_context(|| format!("cannot listen at {address}"))?;
            tokio::spawn(region(name, address, listener, position, regions.clone()));
            switches.insert(name, switch);
        }
        let switches: Switches = Arc::new(switches);
        let token = token()?;
        let origin = origin(dns_port, control_port, region_port, &token);
        let prepared = prepare(&origin)?;
        let extra_routes = Some(routes(Arc::clone(&switches)));
        let node = Node::start(origin, prepared, Options { extra_routes }).await?;
        stop_if_failed.disarm();
        Ok(Self { node, switches, notes, token, regions })
    }

    /// Runs until it should end.
    ///
    /// # Errors
    /// If a part of the node ends by itself.
    pub async fn run(self, end: End) -> Result<()> {
        let End { signals, mut hangup } = end;
        let ended = tokio::select! {
            ended = self.node.run(signals) => ended,
            _ = hangup.recv() => Ok(()),
        };
        self.regions.cancel();
        ended
    }

    /// Stops everything.
    pub async fn stop(self) {
        self.node.stop().await;
        self.regions.cancel();
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

/// The demo's config and the zone file that it names.
fn origin(dns_port: u16, control_port: u16, region_port: u16, token: &str) -> Origin {
    let toml = include_str!("demo.toml")
        .replace("@DNS@", &dns_port.to_string())
        .replace("@CONTROL@", &control_port.to_string())
        .replace("@REGION@", &region_port.to_string())
        .replace("@SOCKET@", &socket(control_port).display().to_string())
        .replace("@TOKEN@", &hexadecimal(&Sha256::digest(token)));
    let zone = (PathBuf::from("demo.test.zone"), include_bytes!("../../zones/demo.test.zone").to_vec());
    Origin::Text { toml: toml.into(), files: [zone].into() }
}

fn free_port(wanted: u16, is_free: impl Fn(u16) -> bool) -> Result<u16> {
    let mut tried = wanted..wanted.saturating_add(PORTS_TRIED);
    tried.find(|port| is_free(*port)).with_context(|| {
        format!("ports {wanted} to {} are all taken: stop what listens there", wanted + PORTS_TRIED - 1)
    })
}

fn can_bind_tcp(address: IpAddr, port: u16) -> bool {
    std::net::TcpListener::bind((address, port)).is_ok()
}

/// `POST /v1/demo`: breaks and heals regions.
fn routes(switches: Switches) -> Router {
    Router::new().route("/v1/demo", post(turn)).with_state(switches)
}

async fn turn(
    State(switches): State<Switches>,
    Json(request): Json<dto::DemoSwitch>,
) -> Result<Json<dto::DemoSwitch>, Problem> {
    let bad = |why: String| Problem::new(StatusCode::BAD_REQUEST, why);
    let name = request.region.strip_prefix("region/").unwrap_or(&request.region);
    let switch = switches.get(name).ok_or_else(|| {
        let names: Vec<_> = switches.keys().copied().collect();
        bad(format!("the demo has no region `{name}`; it has {}", names.join(", ")))
    })?;
    let how = match &request.how {
        None => None,
        Some(how) => Some(Break::named(how).ok_or_else(|| {
            let ways: Vec<_> = Break::ALL.iter().map(|(name, _)| *name).collect();
            bad(format!("`{how}` is not a way to break a region; the ways are {}", ways.join(", ")))
        })?),
    };
    switch.send_replace(how);
    Ok(Json(dto::DemoSwitch { region: name.to_owned(), how: request.how }))
}

/// One region: its listener is closed while the switch says so, and serves as the switch says otherwise.
async fn region(
    name: &'static str,
    address: SocketAddr,
    listener: TcpListener,
    mut position: watch::Receiver<Option<Break>>,
    stopped: CancellationToken,
) {
    let mut listener = Some(listener);
    loop {
        let closed = *position.borrow_and_update() == Some(Break::Refuse);
        if closed {
            listener = None;
        } else if listener.is_none() {
            match TcpListener::bind(address).await {
                Ok(bound) => listener = Some(bound),
                Err(e) => tracing::error!("region {name} cannot listen at {address} again: {e}"),
            }
        }
        let turned = match listener.take() {
            None => tokio::select! {
                turned = position.changed() => turned.is_ok(),
                () = stopped.cancelled() => false,
            },
            Some(open) => {
                // The app and the wait for the port to close each need a receiver of their own.
                let mut app_position = position.clone();
                let app = region_app(name, app_position.clone());
                let refused = async move {
                    app_position.wait_for(|position| *position == Some(Break::Refuse)).await.ok();
                };
                tokio::select! {
                    _ = async { axum::serve(open, app).await } => false,
                    () = refused => true,
                    () = stopped.cancelled() => false,
                }
            }
        };
        if !turned {
            return;
        }
    }
}

fn region_app(name: &'static str, position: watch::Receiver<Option<Break>>) -> Router {
    let ready = move || {
        let position = *position.borrow();
        async move { ready(name, position).await }
    };
    Router::new()
        .route("/health/ready", any(ready))
        .fallback(move || async move { format!("hello from {name}\n") })
}

/// The readiness document, or what a broken region sends instead.
async fn ready(name: &str, position: Option<Break>) -> Response {
    match position {
        Some(Break::Hang) => std::future::pending::<()>().await,
        Some(Break::Slow) => tokio::time::sleep(SLOWNESS).await,
        _ => {}
    }
    if position == Some(Break::Unavailable) {
        return (StatusCode::SERVICE_UNAVAILABLE, "no backend is available\n").into_response();
    }
    let database = if position == Some(Break::Document) { "unhealthy" } else { "healthy" };
    Json(serde_json::json!({
        "region": name,
        "checks": {
            "database": { "status": database },
            "cache": { "status": "healthy" },
            "memory": { "status": "healthy" },
        },
    }))
    .into_response()
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
}
