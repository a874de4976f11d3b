//! `[proxy]`: the regional balancer.
//!
//! A listener (`listener`) has routes (`route`), which have conditions (`condition`) and an action (`action`); most
//! forward to a pool (`pool`) of backends (`backend`). `edit` and `location` are about what it changes on the way. `reach`
//! finds routes that no request reaches. `tls` names the certificates.

mod access;
mod acme;
mod action;
mod auth;
mod backend;
mod condition;
mod discover;
mod edit;
mod identity;
mod limits;
mod listener;
mod location;
mod passive;
mod pool;
mod reach;
mod requests;
mod route;
mod sticky;
mod tcp;
mod tls;

pub use acme::{AcmeCertificate, AcmeChallenge, ExternalAccount};
pub(super) use backend::place as backend_place;
pub use discover::backends as discovered_backends;
pub use tls::{CertificateFiles, CertificateSource, ClientCertificates, PoolTls, ProxyTls, Tickets};

use std::time::Duration;

use crate::model::{Http, Listener, Networks, Pool, PoolId, Protocol, Proxy};

use super::abuse::prefixes;
use super::claim::Claims;
use super::keys::Shape::{Fields, Integer, List, Named, Text};
use super::keys::{Keys, default, key, otherwise};
use super::place::Names;
use super::table::{At, Entry, Table};

pub(super) const PROXY: Keys = Keys {
    known: &[
        key("workers", Integer(0, MOST_WORKERS), default("0"), "threads; 0: one per core"),
        key(
            "trusted",
            List(&Text),
            otherwise("[\"10.0.0.0/8\"]", "none"),
            "prefixes of proxies before this one, whose X-Forwarded-For, Forwarded and PROXY headers are believed",
        ),
        key(
            "access_log",
            Fields(&access::ACCESS_LOG),
            otherwise("", "none"),
            "a line for each request, written once its response has ended; a reload opens the file again",
        ),
        key(
            "identity",
            Fields(&identity::IDENTITY),
            otherwise("", "as shown there"),
            "what backends learn of clients and requests; what clients outside of `trusted` say of it is removed",
        ),
        key(
            "stop_delay",
            Text,
            otherwise("\"10s\"", "10s if a listener has `ready`, else 0s"),
            "how long a node that stops still serves while /portolan/ready is 503, so that clients are sent elsewhere first",
        ),
        key(
            "certificate",
            List(&Fields(&tls::CERTIFICATE)),
            otherwise("", "none"),
            "a certificate of listeners with `tls`, chosen by the name that a client asks for (SNI): exact names first, then wildcards; the first certificate if none fits. A reload reads the files again",
        ),
        key(
            "tickets",
            Fields(&tls::TICKETS),
            otherwise("", "as shown there"),
            "the tickets by which clients resume TLS sessions; not at listeners with `client_ca`",
        ),
        key(
            "listener",
            Named(&listener::LISTENER),
            otherwise("web", "none"),
            "addresses to listen on, and the routes of what arrives there",
        ),
        key(
            "pool",
            Named(&pool::POOL),
            otherwise("api", "none"),
            "backends that can serve the same requests; routes refer to it by name",
        ),
    ],
    later: &[],
};

/// More than any machine has cores.
const MOST_WORKERS: u64 = 1024;
/// A stop that takes longer looks like one that hangs.
const LONGEST_STOP_DELAY: Duration = Duration::from_secs(300);
/// Enough for keepalived, and for two probes of the usual interval.
const DEFAULT_STOP_DELAY: Duration = Duration::from_secs(10);

/// `[proxy]`, its pools, and their TLS.
pub(super) type Read = (Proxy, Vec<Pool>, ProxyTls);

/// Reads `[proxy]`.
pub(super) fn read(root: &Table<'_>, probes: &Names<'_>, claims: &mut Claims) -> Option<Read> {
    let table = root.get("proxy")?.table("proxy", &PROXY)?;
    let workers = table.get("workers").and_then(|value| value.integer(0..=MOST_WORKERS));
    let (pool_names, pool_entries) = Names::read(&table, "pool");
    let (mut pools, mut pools_tls): (Vec<_>, Vec<_>) =
        pool::read_all(&table, &pool_entries, probes).into_iter().unzip();
    let (listeners, listeners_tls) = {
        let services = auth::Services::behind(pool_entries.len());
        let read = listener::read_all(&table, (&pool_names, &services), claims);
        // After an error pools are missing, and the next would have the wrong number.
        if table.report.errors() == 0 {
            let services = services.found.into_inner().into_iter().map(pool::of_service);
            pools.extend(services);
            pools_tls.resize_with(pools.len(), || None);
        }
        read
    };
    if table.report.errors() == 0 {
        sticky::warn(&pool_entries, &pools, &listeners);
    }
    let tls = ProxyTls {
        certificates: tls::read_certificates(&table),
        tickets: tls::read_tickets(&table),
        listeners: listeners_tls,
        pools: pools_tls,
    };
    if table.has("certificate") && tls.listeners.is_empty() && table.report.errors() == 0 {
        table.report.warning(
            table.key_span("certificate"),
            "no listener uses a certificate",
            "set `tls = true` at those listeners that speak TLS",
        );
    }
    pool_names.warn_of_unused(
        &pool_entries,
        "route",
        "name it in a listener's `pool` or `route`, or remove it",
    );
    if !table.has("listener") && table.report.errors() == 0 {
        table.report.warning(
            root.key_span("proxy"),
            "this config balances nothing: [proxy] has no listener",
            "add [proxy.listener.NAME] with `listen` and `pool`",
        );
    }
    let trusted = read_trusted(&table);
    // After an error pools or listeners are missing.
    if table.report.errors() == 0 {
        check_headers(&table, &listeners, &pools, &pool_entries);
        check_http(&table, &listeners, &pools, &pool_entries);
        check_encryption(&table, &listeners, &tls.pools, &pool_entries);
        check_trust(&table, &listeners, &trusted);
    }
    let stop_delay =
        table.get("stop_delay").and_then(|value| value.duration(Duration::ZERO..=LONGEST_STOP_DELAY));
    let has_ready = listeners.iter().any(|it| it.ready.is_some());
    let default_delay = if has_ready { DEFAULT_STOP_DELAY } else { Duration::ZERO };
    let proxy = Proxy {
        workers: workers.unwrap_or(0) as usize,
        trusted,
        identity: identity::read(&table),
        access_log: access::read(&table),
        listeners,
        stop_delay: stop_delay.unwrap_or(default_delay),
    };
    Some((proxy, pools, tls))
}

/// Reports pools with `send_proxy` that get something else than TCP connections of one client each.
fn check_headers(table: &Table<'_>, listeners: &[Listener], pools: &[Pool], entries: &[Entry<'_>]) {
    for (index, (pool, entry)) in pools.iter().zip(entries).enumerate() {
        let id = PoolId(index as u16);
        if pool.send_proxy.is_none() {
            continue;
        }
        for listener in listeners.iter().filter(|it| it.uses(id)) {
            let (why, help) = match listener.protocol {
                Protocol::Tcp | Protocol::TlsPassthrough => continue,
                Protocol::Http => (
                    "whose clients share connections to backends",
                    "remove it: backends find the client in X-Forwarded-For",
                ),
                Protocol::Udp => ("which makes no connections", "give that listener a pool of its own"),
            };
            let (pool, listener) = (&pool.name, &listener.name);
            let message = format!("pool `{pool}` has `send_proxy`, but serves listener `{listener}`, {why}");
            table.report.error_with_help(entry.span.clone(), message, help);
        }
    }
}

/// Reports pools with what only HTTP has for what is not HTTP.
fn check_http(table: &Table<'_>, listeners: &[Listener], pools: &[Pool], entries: &[Entry<'_>]) {
    for (index, (pool, entry)) in pools.iter().zip(entries).enumerate() {
        let id = PoolId(index as u16);
        let not_http = |it: &&Listener| it.protocol != Protocol::Http && it.uses(id);
        let key = match (pool.http, pool.hedge) {
            (Http::H2, _) => "http = \"h2\"",
            (Http::H1, Some(_)) => "hedge",
            (Http::H1, None) => continue,
        };
        if let Some(listener) = listeners.iter().find(not_http) {
            let message = format!(
                "pool `{}` has `{key}`, but serves listener `{}`, whose clients' bytes are relayed as they are",
                pool.name, listener.name
            );
            table.report.error_with_help(entry.span.clone(), message, "give that listener a pool of its own");
        }
    }
}

/// Reports pools with `tls` for what is encrypted already, or is no connection.
fn check_encryption(
    table: &Table<'_>,
    listeners: &[Listener],
    pools: &[Option<PoolTls>],
    entries: &[Entry<'_>],
) {
    for (index, (_, entry)) in pools.iter().zip(entries).enumerate().filter(|(_, (tls, _))| tls.is_some()) {
        let id = PoolId(index as u16);
        for listener in listeners.iter().filter(|it| it.uses(id)) {
            let why = match listener.protocol {
                Protocol::Http | Protocol::Tcp => continue,
                Protocol::TlsPassthrough => "whose clients encrypt what they send themselves",
                Protocol::Udp => "which makes no connections",
            };
            let (pool, listener) = (entry.name, &listener.name);
            let message = format!("pool `{pool}` has `tls`, but serves listener `{listener}`, {why}");
            let help = "give that listener a pool of its own";
            table.report.error_with_help(entry.span.clone(), message, help);
        }
    }
}

/// Reports listeners that wait for PROXY headers of nobody.
fn check_trust(table: &Table<'_>, listeners: &[Listener], trusted: &Networks) {
    if let Some(listener) = listeners.iter().find(|it| it.proxy_protocol && trusted.is_empty()) {
        table.report.error_with_help(
            table.key_span("listener"),
            format!(
                "listener `{}` has `proxy_protocol`, but no hop is trusted to name clients",
                listener.name
            ),
            "list the addresses of the proxies before this one in [proxy] trusted",
        );
    }
}

fn read_trusted(table: &Table<'_>) -> Networks {
    let prefixes = table.get("trusted").map(|value| prefixes(&value)).unwrap_or_default();
    for At { value: prefix, span } in prefixes.iter().filter(|prefix| prefix.value.prefix_len() == 0) {
        table.report.warning(
            span.clone(),
            format!("{prefix} trusts every client, and each may claim any address"),
            "list only the addresses of the proxies before this one",
        );
    }
    prefixes.into_iter().map(|prefix| prefix.value).collect()
}
