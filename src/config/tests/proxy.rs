//! What `[proxy]` is read as.

use std::num::NonZeroU32;
use std::time::Duration;

use http::header::HeaderName;
use http::{Method, StatusCode};

use super::super::*;
use super::{load_with, reported};
use crate::model::{
    Backend, Balance, Condition, Edits, ErrorRate, Fraction, HostPattern, Http, Liveness, Networks, Passive,
    PassiveOn, PathPattern, Pool, PoolId, PoolLimits, ProbeId, Protocol, RedirectPiece, RedirectTo, Retry,
    RetryOn, Route, RouteAction, Timeouts, ValuePattern, Weight, When,
};

/// A balancer with nearly every key.
pub(super) const BALANCER: &str = r#"
version = 1
[probe.ready]
kind = "http"
path = "/health/ready"
[probe.open]
kind = "tcp"

[proxy]
workers = 2
trusted = ["10.0.0.0/8", "2001:db8::/32"]
[proxy.listener.web]
listen = ["0.0.0.0:80", "[::]:80"]
protocol = "http"
pool = "api"
[[proxy.listener.web.route]]
host = ["API.example.com.", "*.Example.net"]
path = "/v1/"
method = ["GET", "HEAD"]
pool = "canary"
[[proxy.listener.web.route]]
host = "[2001:DB8::1]"
path = { exact = "/x" }
header = { X-Canary = "1", x-debug = true }
cookie = { beta = { regex = "^on$" } }
query = { "user id" = "" }
split = [{ pool = "api", weight = 95 }, { pool = "canary" }]
[[proxy.listener.web.route]]
path = { regex = "^/v[0-9]+/" }
redirect = { to = "https://www.example.com/new/?from=old#top" }
[[proxy.listener.web.route]]
method = "PUT"
redirect = { status = 303, to = "/read-only" }
[[proxy.listener.web.route]]
method = "POST"
respond = { status = 503, body = "closed" }
[proxy.listener.db]
listen = "127.0.0.1:5432"
protocol = "tcp"
pool = "db"

[proxy.pool.api]
balance = "weighted"
backend = [
  { address = "10.0.0.1:8080", weight = 3 },
  "App.Internal.:8081",
  { address = "[2001:db8::3]:8080", backup = true },
]
probe = ["ready", "open"]
retry = { tries = 3, on = ["connect", "reset", "timeout", "503"], budget = "10%" }
passive = { failures = 5, on = ["connect", "5xx"], errors = "50%", requests = 50, eject = "10s", longest = "60s", max_ejected = "40%" }
panic = "50%"
slow_start = "20s"
hedge = "150ms"
limits = { requests = 40, connections = 50, pending = 200, wait = "2s" }
timeout = { connect = "1s", read = "2s", write = "3s", idle = "1h" }
keepalive = 0
drain = "20s"
[proxy.pool.canary]
backend = [{ address = "10.0.0.9:8080" }]
probe = "ready"
[proxy.pool.db]
backend = ["10.0.0.7:5432"]
probe = []
"#;

fn balancer() -> Config {
    load_with(BALANCER, &[]).unwrap_or_else(|reported| panic!("{reported}"))
}

fn forward(pool: u16) -> RouteAction {
    RouteAction::Forward(vec![(PoolId(pool), Weight(1))])
}

#[test]
fn the_listeners() {
    let config = balancer();
    assert_eq!(config.warnings.to_string(), "");
    let proxy = config.proxy.expect("a balancer");
    let trusted: Networks = ["10.0.0.0/8", "2001:db8::/32"]
        .map(|text| text.parse::<IpNet>().expect("a prefix"))
        .into_iter()
        .collect();
    assert_eq!((proxy.workers, proxy.trusted), (2, trusted));
    let listeners: Vec<_> = proxy
        .listeners
        .iter()
        .map(|it| (it.name.as_str(), it.addresses.clone(), it.protocol, it.routes.len()))
        .collect();
    let address = |text: &str| text.parse::<SocketAddr>().expect("an address");
    assert_eq!(
        listeners,
        [
            ("db", vec![address("127.0.0.1:5432")], Protocol::Tcp, 1),
            ("web", vec![address("0.0.0.0:80"), address("[::]:80")], Protocol::Http, 7),
        ]
    );
    let Route { when, action, .. } = &proxy.listeners[0].routes[0];
    assert_eq!(format!("{when:?}{action:?}"), format!("{:?}{:?}", When::default(), forward(2)));
}

#[test]
fn the_routes() {
    let proxy = balancer().proxy.expect("a balancer");
    let pattern = |text: &str| regex::Regex::new(text).expect("a pattern");
    let exact = |text: &str| ValuePattern::Exact(text.to_owned());
    let v1 = |host| When {
        host: Some(host),
        path: Some(PathPattern::Prefix("/v1/".into())),
        methods: vec![Method::GET, Method::HEAD],
        ..When::default()
    };
    let split = When {
        host: Some(HostPattern::Exact("[2001:db8::1]".into())),
        path: Some(PathPattern::Exact("/x".into())),
        headers: vec![
            (HeaderName::from_static("x-canary"), exact("1")),
            (HeaderName::from_static("x-debug"), ValuePattern::Present),
        ],
        cookies: vec![("beta".into(), ValuePattern::Regex(pattern("^on$")))],
        query: vec![("user id".into(), exact(""))],
        ..When::default()
    };
    let old = When { path: Some(PathPattern::Regex(pattern("^/v[0-9]+/"))), ..When::default() };
    let method = |method| When { methods: vec![method], ..When::default() };
    let redirect = |status, to: &str| RouteAction::Redirect {
        status,
        to: RedirectTo(vec![RedirectPiece::Text(to.into())]),
    };
    let routes = [
        (v1(HostPattern::Exact("api.example.com".into())), forward(1)),
        (v1(HostPattern::Below(".example.net".into())), forward(1)),
        (split, RouteAction::Forward(vec![(PoolId(0), Weight(95)), (PoolId(1), Weight(1))])),
        (old, redirect(StatusCode::PERMANENT_REDIRECT, "https://www.example.com/new/?from=old#top")),
        (method(Method::PUT), redirect(StatusCode::SEE_OTHER, "/read-only")),
        (
            method(Method::POST),
            RouteAction::Respond { status: StatusCode::SERVICE_UNAVAILABLE, body: "closed".into() },
        ),
        (When::default(), forward(0)),
    ];
    let expected = routes.map(|(when, action)| Route { when, action, edits: Edits::default(), auth: None });
    assert_eq!(format!("{:#?}", proxy.listeners[1].routes), format!("{expected:#?}"));
}

/// `passive` of the pool `api`.
fn written_passive() -> Passive {
    Passive {
        failures: 5,
        on: PassiveOn { connect: true, server_error: true, ..PassiveOn::default() },
        errors: Some(ErrorRate { share: Fraction::HALF, requests: 50 }),
        eject: Duration::from_secs(10),
        longest: Duration::from_secs(60),
        max_ejected: Fraction::from_percent(40.0).expect("a share"),
    }
}

fn written_retry() -> Retry {
    Retry {
        tries: 3,
        on: RetryOn { connect: true, reset: true, timeout: true, unavailable: true },
        budget: Fraction::from_percent(10.0).expect("a share"),
    }
}

/// What applies to a pool without `passive`.
fn default_passive() -> Passive {
    Passive {
        failures: 3,
        on: PassiveOn { connect: true, ..PassiveOn::default() },
        errors: None,
        eject: Duration::from_secs(30),
        longest: Duration::from_secs(300),
        max_ejected: Fraction::HALF,
    }
}

fn backend(name: &str, reach: BackendReach, port: u16, weight: u32, backup: bool) -> Backend {
    Backend { name: name.into(), reach, port, weight: Weight(weight), backup }
}

#[test]
fn the_pools() {
    let config = balancer();
    let address = |text: &str| BackendReach::Address(text.parse().expect("an address"));
    let resolved = |text: &str| BackendReach::Resolved(text.parse().expect("a name"));
    let secs = Duration::from_secs;
    let api = Pool {
        name: "api".into(),
        balance: Balance::Weighted,
        backends: vec![
            backend("10.0.0.1:8080", address("10.0.0.1"), 8080, 3, false),
            backend("app.internal:8081", resolved("app.internal"), 8081, 1, false),
            backend("[2001:db8::3]:8080", address("2001:db8::3"), 8080, 1, true),
        ],
        healthy_when: Condition::checks([ProbeId(1), ProbeId(0)]),
        passive: Some(written_passive()),
        panic: Some(Fraction::HALF),
        limits: Some(PoolLimits {
            requests: NonZeroU32::new(40),
            connections: NonZeroU32::new(50),
            pending: 200,
            wait: secs(2),
        }),
        slow_start: Some(secs(20)),
        hedge: Some(Duration::from_millis(150)),
        retry: written_retry(),
        timeout: Timeouts { connect: secs(1), read: secs(2), write: secs(3), idle: secs(3600) },
        keepalive: 0,
        drain: secs(20),
        sticky: None,
        discover: None,
        http: Http::H1,
        send_proxy: None,
        tcp: Liveness::default(),
    };
    let canary = Pool {
        name: "canary".into(),
        balance: Balance::LeastConnections,
        backends: vec![backend("10.0.0.9:8080", address("10.0.0.9"), 8080, 1, false)],
        healthy_when: Condition::checks([ProbeId(1)]),
        passive: Some(default_passive()),
        panic: Some(Fraction::NONE),
        limits: None,
        slow_start: None,
        hedge: None,
        retry: Retry {
            tries: 2,
            on: RetryOn { connect: true, ..RetryOn::default() },
            budget: Fraction::TWENTY_PERCENT,
        },
        timeout: Timeouts { connect: secs(5), read: secs(60), write: secs(60), idle: secs(60) },
        keepalive: 32,
        drain: secs(30),
        http: Http::H1,
        send_proxy: None,
        tcp: Liveness::default(),
        sticky: None,
        discover: None,
    };
    assert_eq!(config.topology.pools[..2], [api, canary]);
    assert_eq!(config.topology.pools[2].healthy_when, Condition::ALWAYS);
    // Where the resolver's diagnostics point to.
    let hosts: Vec<_> =
        config.hosts.iter().map(|(host, at)| (host.to_string(), at.line, at.column)).collect();
    assert_eq!(hosts, [("app.internal.".to_owned(), 46, 3)]);
}

#[test]
fn probes_without_a_port_use_that_of_the_backend() {
    let probes = balancer().topology.probes;
    let port = |id: usize, port| probes[id].at(port).kind.port();
    assert_eq!((port(0, 5432), port(1, 8080)), (5432, 8080));
    let text = BALANCER.replace("kind = \"tcp\"", "kind = \"tcp\"\nport = 9000");
    let given = load_with(&text, &[]).unwrap_or_else(|reported| panic!("{reported}")).topology;
    assert_eq!(given.probes[0].at(5432).kind.port(), 9000);
}

#[test]
fn a_balancer_needs_no_name_server_and_a_name_server_no_balancer() {
    assert_eq!(balancer().dns, None);
    assert_eq!(balancer().topology.regions, []);
    let dns = load_with("version = 1\ndns.listen = [\"127.0.0.1:53\"]", &[]);
    assert!(dns.unwrap_or_else(|reported| panic!("{reported}")).proxy.is_none());
    assert_eq!(
        reported("[proxy]"),
        "2:2: warning: this config balances nothing: [proxy] has no listener\n  help: add [proxy.listener.NAME] with `listen` and `pool`"
    );
}

#[test]
fn workers_and_sockets_are_made_at_the_start() {
    let of = |text: &str| AtStart::of(&load_with(text, &[]).unwrap_or_else(|reported| panic!("{reported}")));
    let changes = of(BALANCER).changes(&of(&BALANCER.replace("workers = 2", "workers = 3")));
    assert_eq!(changes, ["[proxy] workers has changed, but is read only at the start: restart the node"]);
    let sockets = BALANCER.replace("protocol = \"tcp\"", "protocol = \"tcp\"\ntcp = { backlog = 5 }");
    let changes = of(BALANCER).changes(&of(&sockets));
    assert_eq!(
        changes,
        ["[proxy.listener] tcp has changed, but is read only at the start: restart the node"]
    );
    let other = BALANCER.replace("keepalive = 0", "keepalive = 1");
    assert!(of(BALANCER).changes(&of(&other)).is_empty());
}
