//! `[proxy.listener.NAME]`: where the balancer listens, and what it does with what arrives there.

use std::net::SocketAddr;

use crate::model::{
    ClientLimits, Edits, Listener, ListenerTls, Protocol, Readiness, Route, RouteAction, Weight, When,
};

use super::super::claim::{Claims, Transports};
use super::super::keys::Shape::{Any, Boolean, Either, Fields, Integer, List, OneOrMany, Text, Words};
use super::super::keys::{Keys, default, key, otherwise, required};
use super::super::place::Names;
use super::super::table::{At, Entry, Table, Value};
use super::super::text;
use super::action::pool_id;
use super::auth::Services;
use super::{ClientCertificates, reach, requests, route, tcp, tls};

pub(super) const LISTENER: Keys = Keys {
    known: &[
        key(
            "listen",
            OneOrMany(&Text),
            required("[\"0.0.0.0:80\", \"[::]:80\"]"),
            "addresses to listen on, TCP or UDP as `protocol` says; an IPv6 address takes no IPv4 connections",
        ),
        key(
            "protocol",
            Words(&["http", "tcp", "tls-passthrough", "udp"]),
            default("\"http\""),
            "what clients speak: \"http\" (HTTP/1.1, or HTTP/2 over TLS or with prior knowledge), \"tcp\" (any bytes; its routes only name pools), \"tls-passthrough\" (TLS that backends decrypt; its routes have no conditions but `host`), or \"udp\" (datagrams; its routes only name pools)",
        ),
        key(
            "proxy_protocol",
            Boolean,
            default("false"),
            "whether connections from [proxy] trusted must begin with a PROXY header (version 1 or 2) that names the client; others have none",
        ),
        key(
            "tcp",
            Fields(&tcp::OF_LISTENER),
            otherwise("", "as shown there"),
            "options of the listening sockets and of their connections",
        ),
        key(
            "tls",
            Either(&[Boolean, Fields(&tls::LISTENER_TLS)]),
            otherwise("{ client_ca = \"clients.pem\" }", "false"),
            "whether clients speak TLS 1.2 or 1.3 and get one of the certificates of [proxy]; a table asks them for theirs",
        ),
        key(
            "client",
            Fields(&CLIENT),
            otherwise("", "no limit"),
            "what each client, an IPv4 address or an IPv6 /64, may use; `trusted` hops may use more",
        ),
        key(
            "limits",
            Fields(&requests::REQUESTS),
            otherwise("", "as shown there"),
            "how long requests may be, and how slowly clients may send and read",
        ),
        key("pool", Text, otherwise("\"api\"", "none"), "pool for what no route matches"),
        key(
            "route",
            List(&Fields(&route::ROUTE)),
            otherwise("", "`pool` alone"),
            "conditions and what to do with requests that meet all of them; the first route that matches decides",
        ),
        key(
            "ready",
            Either(&[Boolean, Fields(&READY)]),
            default("false"),
            "whether it answers /portolan/ready itself: 200 if every pool that a route forwards to has a backend and the node does not stop, else 503; { pools = [\"api\"] }: only these pools count",
        ),
    ],
    later: &[],
};

const PROTOCOLS: [(&str, Protocol); 4] = [
    ("http", Protocol::Http),
    ("tcp", Protocol::Tcp),
    ("tls-passthrough", Protocol::TlsPassthrough),
    ("udp", Protocol::Udp),
];

/// The keys that have no meaning for datagrams.
const NOT_FOR_UDP: [&str; 5] = ["client", "limits", "proxy_protocol", "tcp", "tls"];
const CLIENT: Keys = Keys {
    known: &[
        key(
            "connections",
            Integer(1, MOST_CONNECTIONS),
            otherwise("100", "as many as the node may have"),
            "connections open at a time; further ones are closed at once",
        ),
        key(
            "requests_per_second",
            Integer(1, MOST_REQUESTS),
            otherwise("50", "any number"),
            "requests per second; further ones get 429. A trusted hop's count for the client that X-Forwarded-For reports",
        ),
        key(
            "burst",
            Integer(1, MOST_REQUESTS),
            otherwise("100", "`requests_per_second`"),
            "requests at once after a pause",
        ),
    ],
    later: &[],
};

/// More than a node has files for.
const MOST_CONNECTIONS: u64 = 1_000_000;
/// Requests are counted in ticks of 100 µs.
const MOST_REQUESTS: u64 = 10_000;
const READY: Keys = Keys {
    known: &[key("pools", Any(&Text), required("[\"api\"]"), "pools that count; []: none")],
    later: &[],
};

/// Each is a socket, or several, for each worker.
const MOST_LISTENERS: usize = 64;
/// The same for the addresses of a listener.
const MOST_ADDRESSES: usize = 64;
/// A request is compared with them one by one. A route for several hosts counts once for each.
const MOST_ROUTES: usize = 1024;

/// The names of the listeners with TLS, and what their clients must show.
type Secured = Vec<(String, Option<ClientCertificates>)>;

/// Reads every `[proxy.listener.NAME]`.
pub(super) fn read_all(
    proxy: &Table<'_>,
    pools: (&Names<'_>, &Services),
    claims: &mut Claims,
) -> (Vec<Listener>, Secured) {
    let (_, entries) = Names::read(proxy, "listener");
    if entries.len() > MOST_LISTENERS {
        let message = format!("at most {MOST_LISTENERS} listeners, found {}", entries.len());
        proxy.report.error(proxy.key_span("listener"), message);
    }
    let (mut listeners, mut secured) = (Vec::new(), Secured::new());
    for entry in entries {
        let Some(table) = entry.value.table(format!("proxy.listener.{}", entry.name), &LISTENER) else {
            continue;
        };
        let (tls, clients) = tls::of_listener(&table, proxy.has("certificate")).unzip();
        secured.extend(clients.map(|clients| (entry.name.to_owned(), clients)));
        listeners.push(read(&entry, &table, tls, pools, claims));
    }
    (listeners, secured)
}

fn read(
    entry: &Entry<'_>,
    table: &Table<'_>,
    tls: Option<ListenerTls>,
    pools: (&Names<'_>, &Services),
    claims: &mut Claims,
) -> Listener {
    let protocol = match table.get("protocol") {
        None => Some(Protocol::Http),
        Some(value) => value.choice(&PROTOCOLS, &[]),
    };
    let proxy_protocol = table.get("proxy_protocol").and_then(|value| value.boolean());
    let client = read_client(table, protocol);
    let limits = requests::read(table);
    // With a protocol that is not known, routes are read as the richer ones.
    let protocol = protocol.unwrap_or(Protocol::Http);
    let transports = if protocol == Protocol::Udp { Transports::Udp } else { Transports::Tcp };
    let addresses = read_addresses(table, transports, claims);
    match protocol {
        Protocol::Http => {}
        Protocol::Tcp => table.refuse(&["limits"], "with protocol = \"tcp\""),
        Protocol::TlsPassthrough => table.refuse(&["limits", "tls"], "with protocol = \"tls-passthrough\""),
        Protocol::Udp => table.refuse(&NOT_FOR_UDP, "with protocol = \"udp\""),
    }
    let before = table.report.errors();
    let routes = read_routes(table, protocol, pools);
    let ready = read_ready(table, protocol, pools.0);
    // After an error some routes are missing.
    if table.report.errors() == before {
        reach::warn_of_unreachable(table.report, &routes);
    }
    let routes = routes.into_iter().map(|route| route.value).collect();
    let proxy_protocol = proxy_protocol.unwrap_or(false);
    let tcp = tcp::of_listener(table);
    let name = entry.name.into();
    Listener { name, addresses, protocol, proxy_protocol, tcp, tls, client, limits, routes, ready }
}

/// `true`, or `{ pools = [...] }`.
fn read_ready(table: &Table<'_>, protocol: Protocol, pools: &Names<'_>) -> Option<Readiness> {
    let value = table.get("ready")?;
    if protocol != Protocol::Http {
        table.refuse(&["ready"], "in a listener that does not read HTTP");
    }
    if !value.is_table() {
        let is_ready = value.as_boolean();
        let is_ready = is_ready.or_else(|| value.expected("true, false or { pools = [\"api\"] }"));
        return is_ready?.then_some(Readiness::Routed);
    }
    let named = value.table(table.path("ready"), &READY)?.need("pools")?;
    if named.is_empty_list() {
        return Some(Readiness::Pools(Vec::new()));
    }
    let items = named.one_or_many("a list of pools such as [\"api\"]")?;
    Some(Readiness::Pools(items.iter().filter_map(|item| pool_id(item, pools)).collect()))
}

fn read_client(listener: &Table<'_>, protocol: Option<Protocol>) -> ClientLimits {
    let table = listener.get("client").and_then(|value| value.table(listener.path("client"), &CLIENT));
    let Some(table) = table else { return ClientLimits::default() };
    let integer = |key, most| table.get(key).and_then(|value| value.integer(1..=most));
    let rate = integer("requests_per_second", MOST_REQUESTS).map(|rate| rate as u32);
    let burst = integer("burst", MOST_REQUESTS).map(|burst| burst as u32);
    if matches!(protocol, Some(Protocol::Tcp | Protocol::TlsPassthrough)) {
        table.refuse(&["requests_per_second", "burst"], "in a listener that does not read HTTP");
    } else if !table.has("requests_per_second") {
        table.refuse(&["burst"], "without `requests_per_second`");
    }
    ClientLimits {
        connections: integer("connections", MOST_CONNECTIONS).map(|count| count as usize),
        requests_per_second: rate,
        burst: burst.or(rate).unwrap_or(1),
    }
}

fn read_addresses(table: &Table<'_>, transports: Transports, claims: &mut Claims) -> Vec<SocketAddr> {
    const WHAT: &str = "an address such as \"0.0.0.0:80\"";
    let Some(value) = table.need("listen") else { return Vec::new() };
    let items = value.one_or_many("a list of addresses such as [\"0.0.0.0:80\"]").unwrap_or_default();
    if items.len() > MOST_ADDRESSES {
        value.fail::<()>(format!("at most {MOST_ADDRESSES} addresses, found {}", items.len()));
    }
    let address = |item: &Value<'_>| claims.add(item, item.parsed(WHAT, text::listener)?, transports);
    items.iter().filter_map(address).collect()
}

/// The routes, and a last one for `pool`.
fn read_routes(table: &Table<'_>, protocol: Protocol, pools: (&Names<'_>, &Services)) -> Vec<At<Route>> {
    if !["route", "pool", "ready"].iter().any(|key| table.has(key)) {
        table.report.absent(table.span.clone(), "a listener needs `pool`, `route` or `ready`");
    }
    let mut routes = Vec::new();
    if let Some(value) = table.get("route") {
        for item in value.items("a list of routes").unwrap_or_default() {
            routes.extend(route::read(&item, &table.path("route"), protocol, pools));
        }
        if routes.len() > MOST_ROUTES {
            value.fail::<()>(format!("at most {MOST_ROUTES} routes, found {}", routes.len()));
        }
    }
    if let Some(value) = table.get("pool")
        && let Some(pool) = pool_id(&value, pools.0)
    {
        let action = RouteAction::Forward(vec![(pool, Weight(1))]);
        routes.push(value.at(Route { when: When::default(), action, edits: Edits::default(), auth: None }));
    }
    routes
}
