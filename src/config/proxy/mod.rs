//! `[proxy]`: the regional balancer.
//!
//! A listener (`listener`) has routes (`route`), which have conditions (`condition`) and an action (`action`); most
//! forward to a pool (`pool`) of backends (`backend`). `reach` finds routes that no request reaches. `tls` names the
//! certificates.

mod action;
mod backend;
mod condition;
mod discover;
mod listener;
mod passive;
mod pool;
mod reach;
mod route;
mod sticky;
mod tls;

pub(super) use backend::place as backend_place;
pub use discover::backends as discovered_backends;
pub use tls::{CertificateFiles, ClientCertificates, PoolTls, ProxyTls, Tickets};

use crate::model::{Networks, Pool, Proxy};

use super::abuse::prefixes;
use super::claim::Claims;
use super::keys::Shape::{Fields, Integer, List, Named, Text};
use super::keys::{Keys, default, key, otherwise};
use super::place::Names;
use super::table::{At, Table};

pub(super) const PROXY: Keys = Keys {
    known: &[
        key("workers", Integer(0, MOST_WORKERS), default("0"), "threads; 0: one per core"),
        key(
            "trusted",
            List(&Text),
            otherwise("[\"10.0.0.0/8\"]", "none"),
            "prefixes of proxies before this one, whose X-Forwarded-For and Forwarded headers are believed",
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
    later: &["acme"],
};

/// More than any machine has cores.
const MOST_WORKERS: u64 = 1024;

/// `[proxy]`, its pools, and their TLS.
pub(super) type Read = (Proxy, Vec<Pool>, ProxyTls);

/// Reads `[proxy]`.
pub(super) fn read(root: &Table<'_>, probes: &Names<'_>, claims: &mut Claims) -> Option<Read> {
    let table = root.get("proxy")?.table("proxy", &PROXY)?;
    let workers = table.get("workers").and_then(|value| value.integer(0..=MOST_WORKERS));
    let (pool_names, pool_entries) = Names::read(&table, "pool");
    let (pools, pools_tls): (Vec<_>, Vec<_>) =
        pool::read_all(&table, &pool_entries, probes).into_iter().unzip();
    let (listeners, listeners_tls) = listener::read_all(&table, &pool_names, claims);
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
    Some((Proxy { workers: workers.unwrap_or(0) as usize, trusted, listeners }, pools, tls))
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
