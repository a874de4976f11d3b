//! `[proxy.listener.NAME]`: where the balancer listens, and what it does with what arrives there.

use std::net::SocketAddr;

use crate::model::{Edits, Listener, ListenerTls, Protocol, Readiness, Route, RouteAction, Weight, When};

use super::super::claim::Claims;
use super::super::keys::Shape::{Any, Boolean, Either, Fields, List, OneOrMany, Text, Words};
use super::super::keys::{Keys, default, key, otherwise, required};
use super::super::place::Names;
use super::super::table::{At, Entry, Table, Value};
use super::super::text;
use super::action::pool_id;
use super::{ClientCertificates, reach, route, tls};

pub(super) const LISTENER: Keys = Keys {
    known: &[
        key(
            "listen",
            OneOrMany(&Text),
            required("[\"0.0.0.0:80\", \"[::]:80\"]"),
            "TCP addresses to listen on; an IPv6 address takes no IPv4 connections",
        ),
        key(
            "protocol",
            Words(&["http", "tcp"]),
            default("\"http\""),
            "what clients speak: \"http\" (HTTP/1.1, or HTTP/2 over TLS or with prior knowledge), or \"tcp\" (any bytes; its routes only name pools)",
        ),
        key(
            "tls",
            Either(&[Boolean, Fields(&tls::LISTENER_TLS)]),
            otherwise("{ client_ca = \"clients.pem\" }", "false"),
            "whether clients speak TLS 1.2 or 1.3 and get one of the certificates of [proxy]; a table asks them for theirs",
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

const READY: Keys = Keys {
    known: &[key("pools", Any(&Text), required("[\"api\"]"), "pools that count; []: none")],
    later: &[],
};

const LATER_PROTOCOLS: [&str; 2] = ["udp", "tls-passthrough"];

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
    pools: &Names<'_>,
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
    pools: &Names<'_>,
    claims: &mut Claims,
) -> Listener {
    let addresses = read_addresses(table, claims);
    let protocols = [("http", Protocol::Http), ("tcp", Protocol::Tcp)];
    let protocol = match table.get("protocol") {
        None => Some(Protocol::Http),
        Some(value) => value.choice(&protocols, &LATER_PROTOCOLS),
    };
    let before = table.report.errors();
    // With a protocol that is not known, routes are read as the richer ones.
    let protocol = protocol.unwrap_or(Protocol::Http);
    let routes = read_routes(table, protocol, pools);
    let ready = read_ready(table, protocol, pools);
    // After an error some routes are missing.
    if table.report.errors() == before {
        reach::warn_of_unreachable(table.report, &routes);
    }
    let routes = routes.into_iter().map(|route| route.value).collect();
    Listener { name: entry.name.into(), addresses, protocol, tls, routes, ready }
}

/// `true`, or `{ pools = [...] }`.
fn read_ready(table: &Table<'_>, protocol: Protocol, pools: &Names<'_>) -> Option<Readiness> {
    let value = table.get("ready")?;
    if protocol == Protocol::Tcp {
        table.refuse(&["ready"], "with protocol = \"tcp\"");
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

fn read_addresses(table: &Table<'_>, claims: &mut Claims) -> Vec<SocketAddr> {
    const WHAT: &str = "an address such as \"0.0.0.0:80\"";
    let Some(value) = table.need("listen") else { return Vec::new() };
    let items = value.one_or_many("a list of addresses such as [\"0.0.0.0:80\"]").unwrap_or_default();
    if items.len() > MOST_ADDRESSES {
        value.fail::<()>(format!("at most {MOST_ADDRESSES} addresses, found {}", items.len()));
    }
    let address = |item: &Value<'_>| claims.add(item, item.parsed(WHAT, text::listener)?);
    items.iter().filter_map(address).collect()
}

/// The routes, and a last one for `pool`.
fn read_routes(table: &Table<'_>, protocol: Protocol, pools: &Names<'_>) -> Vec<At<Route>> {
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
        && let Some(pool) = pool_id(&value, pools)
    {
        let action = RouteAction::Forward(vec![(pool, Weight(1))]);
        routes.push(value.at(Route { when: When::default(), action, edits: Edits::default() }));
    }
    routes
}
