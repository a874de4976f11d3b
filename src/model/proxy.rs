//! The regional balancer: listeners, routes, pools and their backends.

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use http::{HeaderName, Method, StatusCode};
use regex::Regex;

use super::{
    ClientLimits, Condition, Discover, Edits, ForwardAuth, Fraction, LogTarget, Name, Networks, Passive,
    PoolLimits, RedirectTo, RequestLimits, Sticky, Weight,
};

/// Index into [`Topology::pools`](super::Topology::pools).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PoolId(pub u16);

/// Reference to a backend by its position in the topology.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct BackendRef {
    /// The pool.
    pub pool: PoolId,
    /// Index into [`Pool::backends`].
    pub index: u16,
}

/// `[proxy]`: what the node balances itself.
#[derive(Clone, Debug, Default)]
pub struct Proxy {
    /// Threads, each with listeners and connections of its own; 0: one for each core.
    pub workers: usize,
    /// Hops whose forwarding headers and PROXY headers are believed.
    pub trusted: Networks,
    /// In the order of their names.
    pub listeners: Vec<Listener>,
    /// What backends learn of clients and requests.
    pub identity: ClientHeaders,
    /// Where requests are logged, if they are.
    pub access_log: Option<AccessLog>,
    /// How long the node goes on serving when it stops, so that whoever reads `/portolan/ready` can send clients elsewhere
    /// first.
    pub stop_delay: Duration,
}

/// `[proxy.access_log]`: a line for each request.
#[derive(Clone, Debug, PartialEq)]
pub struct AccessLog {
    /// How lines are written.
    pub format: AccessFormat,
    /// Where they go.
    pub to: LogTarget,
    /// The share of the requests that is logged.
    pub sample: Fraction,
}

/// How the lines of the access log are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AccessFormat {
    /// An object of JSON.
    Json,
    /// The Common Log Format.
    Clf,
}

/// `[proxy.identity]`: the headers that tell backends who the client is, and which request this is.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct ClientHeaders {
    /// `X-Forwarded-For`, `-Host` and `-Proto`, and `X-Real-IP`.
    pub x_forwarded: bool,
    /// `Forwarded` (RFC 7239).
    pub forwarded: bool,
    /// `X-Request-Id`.
    pub request_id: bool,
    /// `traceparent` (W3C Trace Context): the share of the traces begun here that is marked as sampled; `None` if traces are
    /// only passed on.
    pub trace: Option<Fraction>,
}

impl Default for ClientHeaders {
    fn default() -> Self {
        Self { x_forwarded: true, forwarded: false, request_id: true, trace: None }
    }
}

/// `[proxy.listener.NAME]`.
#[derive(Clone, Debug)]
pub struct Listener {
    /// The name in the config.
    pub name: String,
    /// Where it listens; at least one.
    pub addresses: Vec<SocketAddr>,
    /// What it understands of what clients send.
    pub protocol: Protocol,
    /// Whether connections of trusted hops begin with a PROXY header that names the client.
    pub proxy_protocol: bool,
    /// Options of its sockets, if they are TCP.
    pub tcp: TcpOptions,
    /// What each client may use.
    pub client: ClientLimits,
    /// How long requests may be, and how slow clients.
    pub limits: RequestLimits,
    /// How it speaks TLS, if it does.
    pub tls: Option<ListenerTls>,
    /// The first that matches decides.
    pub routes: Vec<Route>,
    /// Whether it answers `/portolan/ready` itself, and for which pools.
    pub ready: Option<Readiness>,
}

/// The pools that need an open backend for a listener to call the node ready.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Readiness {
    /// Those that a route of any listener forwards to or asks.
    Routed,
    /// These.
    Pools(Vec<PoolId>),
}

/// `tls` of a listener, but for its certificates.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct ListenerTls {
    /// The header that shows backends the certificate of a client.
    pub client_header: Option<HeaderName>,
}

/// What a listener understands of what clients send.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Protocol {
    /// HTTP/1.1, or HTTP/2 over TLS or with prior knowledge.
    Http,
    /// Bytes. Its routes have no conditions.
    Tcp,
    /// TLS, which stays encrypted. Its routes see the host of the ClientHello.
    TlsPassthrough,
    /// Datagrams. Its routes have no conditions.
    Udp,
}

impl Protocol {
    /// Its name in the config.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Http => "http",
            Self::Tcp => "tcp",
            Self::TlsPassthrough => "tls-passthrough",
            Self::Udp => "udp",
        }
    }
}

/// `tcp` of a listener. What is `None` is the kernel's default.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TcpOptions {
    /// Connections that may wait to be accepted, for each worker; the kernel caps it.
    pub backlog: u32,
    /// Connections with TCP Fast Open that may wait for the end of the handshake; off without it.
    pub fast_open: Option<u32>,
    /// How long a connection may wait for its first bytes before it can be accepted, in whole seconds.
    pub defer_accept: Option<Duration>,
    /// The largest segment, in bytes.
    pub mss: Option<u32>,
    /// How clients that are gone are noticed.
    pub liveness: Liveness,
}

impl Default for TcpOptions {
    fn default() -> Self {
        const BACKLOG: u32 = 1024;
        let (fast_open, defer_accept, mss, liveness) = Default::default();
        Self { backlog: BACKLOG, fast_open, defer_accept, mss, liveness }
    }
}

/// How a connection notices that its peer is gone.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Liveness {
    /// The silence after which the kernel asks the peer.
    pub keepalive: Option<Duration>,
    /// How long what was sent may stay unacknowledged.
    pub user_timeout: Option<Duration>,
}

/// What to do with the requests that match.
#[derive(Clone, Debug)]
pub struct Route {
    /// All of it must hold.
    pub when: When,
    /// What to do.
    pub action: RouteAction,
    /// What changes on the way.
    pub edits: Edits,
    /// Who decides whether a request may go on, if anyone does.
    pub auth: Option<Box<ForwardAuth>>,
}

/// The conditions of a route. What is empty always holds.
#[derive(Clone, Debug, Default)]
pub struct When {
    /// The host that the request is for, without its port.
    pub host: Option<HostPattern>,
    /// The path, without the query.
    pub path: Option<PathPattern>,
    /// One of these methods.
    pub methods: Vec<Method>,
    /// Headers that must be present; any of the values of a header may match.
    pub headers: Vec<(HeaderName, ValuePattern)>,
    /// Cookies that must be present.
    pub cookies: Vec<(String, ValuePattern)>,
    /// Parameters of the query that must be present.
    pub query: Vec<(String, ValuePattern)>,
}

/// The hosts that a route is for, in lower case.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum HostPattern {
    /// This host.
    Exact(String),
    /// Any host that ends in this text, which begins with a dot, and has at least one label before it.
    Below(String),
}

/// The paths that a route is for.
#[derive(Clone, Debug)]
pub enum PathPattern {
    /// Paths that begin with these segments: `/v1` stands for `/v1` and `/v1/x`, but not for `/v10`; `/v1/` for what is
    /// below it.
    Prefix(String),
    /// This path.
    Exact(String),
    /// Paths that a pattern matches anywhere; `^` and `$` anchor it.
    Regex(Regex),
}

/// The values that a route is for.
#[derive(Clone, Debug)]
pub enum ValuePattern {
    /// Any.
    Present,
    /// This one.
    Exact(String),
    /// Those that a pattern matches anywhere.
    Regex(Regex),
}

/// What a route does with a request.
#[derive(Clone, Debug)]
pub enum RouteAction {
    /// Forwards it to one of these pools, at least one, by their weights. A client stays with a pool.
    Forward(Vec<(PoolId, Weight)>),
    /// Sends the client elsewhere.
    Redirect {
        /// 301, 302, 303, 307 or 308.
        status: StatusCode,
        /// The new location.
        to: RedirectTo,
    },
    /// Answers it.
    Respond {
        /// 200 to 599.
        status: StatusCode,
        /// The body, as `text/plain`.
        body: String,
    },
}

/// `[proxy.pool.NAME]`: backends that can serve the same requests.
#[derive(Clone, Debug, PartialEq)]
pub struct Pool {
    /// The name in the config.
    pub name: String,
    /// How a backend is chosen.
    pub balance: Balance,
    /// In the order of the config, and then those that were discovered. At least one, unless nothing has been discovered yet.
    pub backends: Vec<Backend>,
    /// Where further backends are found, if anywhere.
    pub discover: Option<Discover>,
    /// The condition for an address of a backend to be healthy: the probes that must pass. [`Condition::ALWAYS`]
    /// without probes.
    pub healthy_when: Condition,
    /// When an address whose requests fail is ejected; `None` for never.
    pub passive: Option<Passive>,
    /// While fewer than this share of the addresses are healthy, or none is, those that fail softly are used as well;
    /// `None`: never.
    pub panic: Option<Fraction>,
    /// How much its backends work on at a time; `None` without limits.
    pub limits: Option<PoolLimits>,
    /// How long the weight of an address that came up grows; `None` if it has its whole weight at once.
    pub slow_start: Option<Duration>,
    /// When a request is tried again.
    pub retry: Retry,
    /// The time without a response after which a request that changes nothing goes to another backend, too; `None`: it does not.
    pub hedge: Option<Duration>,
    /// How long to wait.
    pub timeout: Timeouts,
    /// The idle connections that a thread keeps to each address of a backend.
    pub keepalive: usize,
    /// How long requests and connections may go on once their backend is drained or removed.
    pub drain: Duration,
    /// The cookie that keeps a client with a backend, if there is one.
    pub sticky: Option<Sticky>,
    /// The HTTP that its backends are asked in.
    pub http: Http,
    /// The PROXY header that a connection to a backend begins with; none by default.
    pub send_proxy: Option<ProxyVersion>,
    /// How backends that are gone are noticed.
    pub tcp: Liveness,
}

/// The HTTP that backends are asked in.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Http {
    /// HTTP/1.1.
    #[default]
    H1,
    /// HTTP/2: over TLS by ALPN, in the clear with prior knowledge (RFC 9113 §3.3).
    H2,
}

/// A version of the PROXY protocol.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ProxyVersion {
    /// A line of text.
    V1,
    /// Binary.
    V2,
}

/// One entry of a pool's `backend`.
#[derive(Clone, Debug, PartialEq)]
pub struct Backend {
    /// `ADDRESS:PORT` or `HOST:PORT`, as overrides and metrics name it. Unique within the pool.
    pub name: String,
    /// Where it is.
    pub reach: BackendReach,
    /// The port of each of its addresses.
    pub port: u16,
    /// Its share within the pool.
    pub weight: Weight,
    /// Whether it serves only while no other backend does.
    pub backup: bool,
}

/// Where a backend is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum BackendReach {
    /// At this address.
    Address(IpAddr),
    /// At the addresses of this host, as resolvers report them.
    Resolved(Name),
}

/// The longest that requests and connections may go on when the node stops, whatever the `drain` of their pools.
pub const LONGEST_DRAIN: Duration = Duration::from_secs(30);

/// How a pool chooses a backend.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum Balance {
    /// One after the other, whatever their weights.
    RoundRobin,
    /// One after the other, by their weights, evenly mixed.
    Weighted,
    /// The one with the fewest requests in progress for its weight.
    #[default]
    LeastConnections,
    /// The one that promises the shortest time: time to the first byte × requests in progress.
    LeastTime,
    /// By the client's address: a client stays with a backend.
    IpHash,
    /// The less busy of two that are drawn.
    TwoChoices,
    /// By the client's address through a table that few changes of the pool disturb.
    Maglev,
}

impl Balance {
    /// All, with the names that the config gives them.
    pub const ALL: [(&'static str, Self); 7] = [
        ("round-robin", Self::RoundRobin),
        ("weighted", Self::Weighted),
        ("least-connections", Self::LeastConnections),
        ("least-time", Self::LeastTime),
        ("ip-hash", Self::IpHash),
        ("two-choices", Self::TwoChoices),
        ("maglev", Self::Maglev),
    ];

    /// The name in the config.
    #[must_use]
    pub fn name(self) -> &'static str {
        Self::ALL.iter().find(|(_, it)| *it == self).map_or("", |(name, _)| name)
    }
}

/// When a request is tried again, with another backend where there is one.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Retry {
    /// The most attempts, the first one included; at least 1.
    pub tries: u32,
    /// The failures that are retried.
    pub on: RetryOn,
    /// Retries as a share of the requests; further ones are not made.
    pub budget: Fraction,
}

/// The failures after which a request is tried again. But for a failed connect, which no backend has seen, only requests
/// with idempotent methods are.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct RetryOn {
    /// No connection could be made.
    pub connect: bool,
    /// The connection ended before the head of the response.
    pub reset: bool,
    /// The response did not begin in time.
    pub timeout: bool,
    /// The response has status 503.
    pub unavailable: bool,
}

/// How long a pool waits for backends and clients.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Timeouts {
    /// For a connection to a backend.
    pub connect: Duration,
    /// For the head of a response, and between two reads of its body.
    pub read: Duration,
    /// For a backend to take what is sent.
    pub write: Duration,
    /// Without a request or a byte until a connection is closed.
    pub idle: Duration,
}

impl Listener {
    /// Whether a route forwards to a pool, or asks it whether requests may go on.
    #[must_use]
    pub fn uses(&self, id: PoolId) -> bool {
        let forwards = |route: &Route| match &route.action {
            RouteAction::Forward(pools) => pools.iter().any(|(pool, _)| *pool == id),
            RouteAction::Redirect { .. } | RouteAction::Respond { .. } => false,
        };
        let asks = |route: &Route| route.auth.as_ref().is_some_and(|auth| auth.pool == id);
        self.routes.iter().any(|route| forwards(route) || asks(route))
    }

    /// Whether it listens for datagrams; else for TCP.
    #[must_use]
    pub fn is_udp(&self) -> bool {
        self.protocol == Protocol::Udp
    }
}

impl Pool {
    /// The weight of a backend; `None` for weight 0, which gets no clients. If all weights of the pool are 0, they count
    /// as equal.
    #[must_use]
    pub fn weight(&self, index: usize) -> Option<f64> {
        match self.backends[index].weight.0 {
            0 if self.backends.iter().all(|backend| backend.weight.0 == 0) => Some(1.0),
            0 => None,
            weight => Some(f64::from(weight)),
        }
    }
}

impl Backend {
    /// The address written in the config.
    #[must_use]
    pub fn listed(&self) -> &[IpAddr] {
        match &self.reach {
            BackendReach::Address(address) => std::slice::from_ref(address),
            BackendReach::Resolved(_) => &[],
        }
    }

    /// The host to resolve for its addresses; `None` if the config has its address.
    #[must_use]
    pub fn resolved_host(&self) -> Option<&Name> {
        match &self.reach {
            BackendReach::Address(_) => None,
            BackendReach::Resolved(host) => Some(host),
        }
    }
}
