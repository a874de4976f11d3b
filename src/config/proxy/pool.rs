//! `[proxy.pool.NAME]`: backends, and how they are used.

use std::num::NonZeroU32;
use std::ops::RangeInclusive;
use std::time::Duration;

use crate::model::{
    Backend, Balance, Condition, Fraction, Http, LONGEST_DRAIN, Liveness, Pool, PoolLimits, ProxyVersion,
    Retry, RetryOn, Timeouts, Weight,
};

use super::super::keys::Shape::{
    Any, Boolean, Either, False, Fields, Integer, List, OneOrMany, Text, Time, Words,
};
use super::super::keys::{Keys, default, instead, key, otherwise};
use super::super::place::Names;
use super::super::region::read_probes;
use super::super::table::{Entry, Table, Value};
use super::super::text;
use super::backend::{self, BACKEND};
use super::limits::{self, LIMITS};
use super::passive::{self, PASSIVE};
use super::{PoolTls, discover, sticky, tcp, tls};

pub(super) const POOL: Keys = Keys {
    known: &[
        key(
            "balance",
            Words(&[
                "round-robin",
                "weighted",
                "least-connections",
                "least-time",
                "ip-hash",
                "two-choices",
                "maglev",
            ]),
            default("\"least-connections\""),
            "how a backend is chosen: \"round-robin\", \"weighted\" (round robin by weights), \"least-connections\", \"least-time\" (time to the first byte × requests in progress), \"two-choices\" (the less busy of two), or by the client's address: \"ip-hash\", or \"maglev\", which moves fewer clients when backends change",
        ),
        key(
            "backend",
            List(&Either(&[Text, Fields(&BACKEND)])),
            otherwise(
                "[{ address = \"10.0.0.1:8080\", weight = 1 }, \"10.0.0.2:8080\"]",
                "what `discover` finds",
            ),
            "backends; plain \"10.0.0.2:8080\" means { address = \"10.0.0.2:8080\" }",
        ),
        key(
            "discover",
            Text,
            otherwise("\"dns:api.internal:8080\"", "only what `backend` lists"),
            "where backends are found while the node runs: \"dns:HOST:PORT\" (all addresses), \"dns+srv:NAME\" (SRV records), or \"file:PATH\" (a backend per line, or a JSON list); what was found last stays in use when that fails",
        ),
        key(
            "probe",
            Any(&Text),
            otherwise("[\"edge\"]", "always up"),
            "probes, all of which must pass; []: none, without a warning",
        ),
        key(
            "passive",
            Either(&[Fields(&PASSIVE), False]),
            otherwise("{ failures = 3 }", "{ on = \"connect\" }"),
            "when an address whose requests fail is ejected for a while; false: never",
        ),
        key(
            "panic",
            Text,
            default("\"0%\""),
            "while fewer than this share of the addresses are healthy, or none is, requests also go to those that fail softly or are ejected; \"off\": never to those that fail softly",
        ),
        key(
            "slow_start",
            Time,
            otherwise("\"30s\"", "whole weight at once"),
            "time in which the weight of an address that came up grows from 10%",
        ),
        key(
            "limits",
            Either(&[Fields(&LIMITS)]),
            otherwise("{ requests = 100 }", "none"),
            "how much its backends work on at a time, and how many requests wait for them",
        ),
        key("retry", Fields(&RETRY), otherwise("", "as shown there"), "when a request is tried again"),
        key(
            "hedge",
            Time,
            otherwise("\"100ms\"", "no second backend meanwhile"),
            "time without a response after which a request that changes nothing (GET, HEAD, OPTIONS) and has no body goes to another backend as well; the first response wins. Each counts as one of the `tries` of `retry`, and for its `budget`",
        ),
        key(
            "timeout",
            Fields(&TIMEOUT),
            otherwise("", "as shown there"),
            "how long to wait for backends and clients",
        ),
        key(
            "keepalive",
            Integer(0, MOST_IDLE),
            default("32"),
            "idle connections that a worker keeps to each address of a backend",
        ),
        key(
            "http",
            Words(&["h1", "h2"]),
            default("\"h1\""),
            "what backends are asked in: \"h1\" is HTTP/1.1, \"h2\" is HTTP/2, with prior knowledge or, with `tls`, by ALPN; gRPC needs \"h2\"",
        ),
        key(
            "drain",
            Text,
            default("\"30s\""),
            "how long requests and connections may go on once their backend is drained or removed",
        ),
        key(
            "tcp",
            Fields(&tcp::OF_POOL),
            otherwise("", "the kernel's defaults"),
            "options of the connections to backends",
        ),
        key(
            "send_proxy",
            Words(&["v1", "v2"]),
            instead("\"v2\"", "with protocol = \"tcp\" or \"tls-passthrough\""),
            "version of the PROXY header, which names the client, that each connection to a backend begins with: \"v1\" or \"v2\"",
        ),
        key(
            "sticky",
            Fields(&sticky::STICKY),
            otherwise("", "no cookie"),
            "a signed cookie that keeps a client with a backend while that is in use",
        ),
        key(
            "tls",
            Either(&[Boolean, Fields(&tls::POOL_TLS)]),
            otherwise("{ sni = \"api.internal\" }", "false"),
            "whether backends are asked over TLS; their certificates are verified. Probes have settings of their own",
        ),
    ],
    later: &[],
};
const RETRY: Keys = Keys {
    known: &[
        key("tries", Integer(1, MOST_TRIES), default("2"), "attempts, the first one included; 1: no retry"),
        key(
            "on",
            OneOrMany(&Words(&["connect", "reset", "timeout", "503"])),
            default("[\"connect\"]"),
            "\"connect\" (no connection was made, or an HTTP/2 backend has not processed the request), \"reset\" (it ended before the response), \"timeout\" (no response began in time), \"503\" (that status); all but \"connect\" only for idempotent methods",
        ),
        key(
            "budget",
            Text,
            default("\"20%\""),
            "retries as a share of the requests; further ones are not made",
        ),
    ],
    later: &[],
};
const TIMEOUT: Keys = Keys {
    known: &[
        key("connect", Text, default("\"5s\""), "for a connection to a backend"),
        key(
            "read",
            Text,
            default("\"60s\""),
            "for the head of a response, and between two reads of its body",
        ),
        key("write", Text, default("\"60s\""), "for a backend to take what is sent"),
        key(
            "idle",
            Text,
            default("\"60s\""),
            "without a request or a byte until a connection is closed, or a UDP session ends; one whose client has sent nothing after a reply ends after 10s at most",
        ),
    ],
    later: &[],
};

/// Each has statistics and idle connections in every worker.
const MOST_POOLS: usize = 4096;
/// Idle connections are files that the process has open.
const MOST_IDLE: u64 = 10_000;
/// More attempts only add to the load of backends that fail.
const MOST_TRIES: u64 = 10;

const DAY: Duration = Duration::from_secs(86_400);
/// TCP itself gives up after two minutes.
const CONNECT_TIMEOUTS: RangeInclusive<Duration> = Duration::from_millis(10)..=Duration::from_secs(120);
/// In shorter ones nothing gets warm; after longer ones the other backends have done without this one for long enough.
const SLOW_STARTS: RangeInclusive<Duration> = Duration::from_secs(1)..=Duration::from_secs(3600);
/// Shorter ones come before most responses do; after longer ones clients have left.
const HEDGES: RangeInclusive<Duration> = Duration::from_millis(1)..=Duration::from_secs(60);
/// Shorter ones are more likely a typo than intended.
const TIMEOUTS: RangeInclusive<Duration> = Duration::from_millis(100)..=DAY;

const DEFAULT_TRIES: u32 = 2;
/// What no backend has seen is safe to try again.
const DEFAULT_RETRY_ON: RetryOn = RetryOn { connect: true, reset: false, timeout: false, unavailable: false };
/// A question has no body, so that it can be asked again.
const SERVICE_RETRY_ON: RetryOn = RetryOn { connect: true, reset: true, timeout: false, unavailable: false };
/// Questions at a time, for all workers: more only wait in the service, which has a few threads.
const SERVICE_LIMITS: PoolLimits = PoolLimits {
    requests: NonZeroU32::new(256),
    connections: NonZeroU32::new(256),
    pending: 1024,
    wait: DEFAULT_CONNECT,
};
const DEFAULT_CONNECT: Duration = Duration::from_secs(5);
const DEFAULT_TIMEOUT: Duration = Duration::from_secs(60);
const DEFAULT_KEEPALIVE: usize = 32;
const DEFAULT_DRAIN: Duration = Duration::from_secs(30);

const BALANCES: [(&str, Balance); 7] = [
    ("round-robin", Balance::RoundRobin),
    ("weighted", Balance::Weighted),
    ("least-connections", Balance::LeastConnections),
    ("least-time", Balance::LeastTime),
    ("ip-hash", Balance::IpHash),
    ("two-choices", Balance::TwoChoices),
    ("maglev", Balance::Maglev),
];

const VERSIONS: [(&str, Http); 2] = [("h1", Http::H1), ("h2", Http::H2)];
const PROXY_VERSIONS: [(&str, ProxyVersion); 2] = [("v1", ProxyVersion::V1), ("v2", ProxyVersion::V2)];

/// Reads every `[proxy.pool.NAME]`; complete unless an error was reported.
pub(super) fn read_all(
    proxy: &Table<'_>,
    entries: &[Entry<'_>],
    probes: &Names<'_>,
) -> Vec<(Pool, Option<PoolTls>)> {
    if entries.len() > MOST_POOLS {
        let message = format!("at most {MOST_POOLS} pools, found {}", entries.len());
        proxy.report.error(proxy.key_span("pool"), message);
    }
    entries.iter().filter_map(|entry| read(entry, probes)).collect()
}

fn read(entry: &Entry<'_>, probes: &Names<'_>) -> Option<(Pool, Option<PoolTls>)> {
    let table = entry.value.table(format!("proxy.pool.{}", entry.name), &POOL)?;
    let before = table.report.errors();
    let balance = table.get("balance").and_then(|value| value.choice(&BALANCES, &[]));
    let backends = backend::read_all(&table);
    let probed = read_probes(&table, probes);
    let keepalive = table.get("keepalive").and_then(|value| value.integer(0..=MOST_IDLE));
    let drain = table.get("drain").and_then(|value| value.duration(Duration::ZERO..=DAY));
    let http = table.get("http").and_then(|value| value.choice(&VERSIONS, &[]));
    let send_proxy = table.get("send_proxy").and_then(|value| value.choice(&PROXY_VERSIONS, &[]));
    let (retry, timeout) = (read_retry(&table), read_timeouts(&table));
    let pool = Pool {
        name: entry.name.into(),
        balance: balance.unwrap_or_default(),
        backends,
        discover: discover::read(&table),
        healthy_when: Condition::checks(probed),
        passive: passive::read(&table),
        panic: read_panic(&table),
        limits: limits::read(&table, http.unwrap_or_default()),
        slow_start: table.get("slow_start").and_then(|value| value.duration(SLOW_STARTS)),
        retry,
        hedge: read_hedge(&table, &retry, &timeout),
        timeout,
        keepalive: keepalive.map_or(DEFAULT_KEEPALIVE, |count| count as usize),
        drain: drain.unwrap_or(DEFAULT_DRAIN),
        http: http.unwrap_or_default(),
        send_proxy,
        tcp: tcp::of_pool(&table),
        sticky: sticky::read(&table, entry.name),
    };
    if !table.has("probe") {
        table.report.warning(
            entry.span.clone(),
            format!("pool `{}` has no probe: its backends count as up whatever happens to them", entry.name),
            "name its probes in `probe`, or write `probe = []` if that is what you want",
        );
    }
    if pool.drain > LONGEST_DRAIN
        && let Some(value) = table.get("drain")
    {
        let (drain, longest) = (text::format_duration(pool.drain), text::format_duration(LONGEST_DRAIN));
        table.report.warning(
            value.span.clone(),
            format!("a `drain` of {drain} holds for backends, but when the node stops, it ends requests and connections after {longest}"),
            format!("set at most \"{longest}\", unless backends are drained more often than the node stops"),
        );
    }
    // An error may be the reason that backends are missing.
    if table.report.errors() == before && !pool.backends.is_empty() {
        warn(&table, &pool);
    }
    Some((pool, tls::of_pool(&table)))
}

/// The pool of a service that a route asks.
pub(super) fn of_service(backend: Backend) -> Pool {
    Pool {
        name: backend.name.clone(),
        balance: Balance::default(),
        backends: vec![backend],
        discover: None,
        healthy_when: Condition::ALWAYS,
        passive: None,
        panic: Some(Fraction::NONE),
        limits: Some(SERVICE_LIMITS),
        slow_start: None,
        retry: Retry { tries: DEFAULT_TRIES, on: SERVICE_RETRY_ON, budget: Fraction::TWENTY_PERCENT },
        hedge: None,
        http: Http::H1,
        timeout: Timeouts {
            connect: DEFAULT_CONNECT,
            read: DEFAULT_TIMEOUT,
            write: DEFAULT_TIMEOUT,
            idle: DEFAULT_TIMEOUT,
        },
        keepalive: DEFAULT_KEEPALIVE,
        drain: DEFAULT_DRAIN,
        send_proxy: None,
        tcp: Liveness::default(),
        sticky: None,
    }
}

/// Warns of what works, but probably not as intended.
fn warn(table: &Table<'_>, pool: &Pool) {
    if pool.backends.iter().all(|backend| backend.backup) {
        table.report.warning(
            table.key_span("backend"),
            format!("every backend of pool `{}` is a backup, so all serve as if none were", pool.name),
            "set `backup` only for those that serve while no other backend does",
        );
    }
    if matches!(pool.balance, Balance::IpHash | Balance::Maglev) && pool.backends.len() > 1 {
        table.report.warning(
            table.key_span("balance"),
            "all clients behind one NAT have one address, so they all go to one backend",
            "choose \"least-connections\", unless clients must stay with a backend",
        );
    }
    let is_alone = |backend: &Backend| backend.resolved_host().is_none();
    if pool.hedge.is_some() && pool.discover.is_none() && matches!(&pool.backends[..], [it] if is_alone(it)) {
        table.report.warning(
            table.key_span("hedge"),
            format!("pool `{}` has one backend, so a request has no other to go to", pool.name),
            "add backends, or remove `hedge`",
        );
    }
    if pool.slow_start.is_some() && pool.balance == Balance::RoundRobin {
        table.report.warning(
            table.key_span("slow_start"),
            "\"round-robin\" ignores weights, also those that grow in a slow start",
            "choose \"weighted\", which is round robin by weights",
        );
    }
    let mut weights =
        pool.backends.iter().map(|backend| backend.weight).filter(|weight| *weight != Weight(0));
    let first = weights.next();
    if pool.balance == Balance::RoundRobin && weights.any(|weight| Some(weight) != first) {
        table.report.warning(
            table.key_span("balance"),
            "\"round-robin\" ignores the weights of the backends",
            "choose \"weighted\", which is round robin by weights",
        );
    }
}

/// Reads `panic`: "off", or a share, which may be 0%: then a pool panics only when nothing is healthy.
fn read_panic(pool: &Table<'_>) -> Option<Fraction> {
    let Some(value) = pool.get("panic") else { return Some(Fraction::NONE) };
    let read = |written: &str| match written {
        "off" => Ok(None),
        share => Fraction::parse(share).map(Some).ok_or_else(|| {
            format!("{:?} is not a share such as \"50%\", and not \"off\"", text::shortened(share))
        }),
    };
    value.parsed("a share such as \"50%\", or \"off\"", read).flatten()
}

fn read_retry(pool: &Table<'_>) -> Retry {
    let table = pool.get("retry").and_then(|value| value.table(pool.path("retry"), &RETRY));
    let get = |key: &str| table.as_ref().and_then(|table| table.get(key));
    let tries = get("tries").and_then(|value| value.integer(1..=MOST_TRIES));
    let on = get("on").and_then(|value| read_on(&value));
    let budget = get("budget").and_then(|value| value.parsed("a share such as \"20%\"", text::share));
    Retry {
        tries: tries.map_or(DEFAULT_TRIES, |tries| tries as u32),
        on: on.unwrap_or(DEFAULT_RETRY_ON),
        budget: budget.unwrap_or(Fraction::TWENTY_PERCENT),
    }
}

fn read_hedge(pool: &Table<'_>, retry: &Retry, timeout: &Timeouts) -> Option<Duration> {
    let value = pool.get("hedge")?;
    let delay = value.duration(HEDGES)?;
    if retry.tries < 2 {
        return value.fail("`hedge` needs a second attempt: set `tries` of `retry` to at least 2");
    }
    if delay >= timeout.read {
        let read = text::format_duration(timeout.read);
        return value.fail(format!("`hedge` must be shorter than `timeout.read`, which is {read}"));
    }
    Some(delay)
}

fn read_on(value: &Value<'_>) -> Option<RetryOn> {
    type Switch = fn(&mut RetryOn) -> &mut bool;
    const FAILURES: [(&str, Switch); 4] = [
        ("connect", |on| &mut on.connect),
        ("reset", |on| &mut on.reset),
        ("timeout", |on| &mut on.timeout),
        ("503", |on| &mut on.unavailable),
    ];
    let mut on = RetryOn::default();
    for item in value.one_or_many("a list of failures such as [\"connect\", \"503\"]")? {
        let Some(switch) = item.choice(&FAILURES, &[]) else { continue };
        if std::mem::replace(switch(&mut on), true) {
            item.fail::<()>("this failure is listed twice");
        }
    }
    Some(on)
}

fn read_timeouts(pool: &Table<'_>) -> Timeouts {
    let table = pool.get("timeout").and_then(|value| value.table(pool.path("timeout"), &TIMEOUT));
    let read = |key: &str, range| table.as_ref().and_then(|table| table.get(key)?.duration(range));
    Timeouts {
        connect: read("connect", CONNECT_TIMEOUTS).unwrap_or(DEFAULT_CONNECT),
        read: read("read", TIMEOUTS).unwrap_or(DEFAULT_TIMEOUT),
        write: read("write", TIMEOUTS).unwrap_or(DEFAULT_TIMEOUT),
        idle: read("idle", TIMEOUTS).unwrap_or(DEFAULT_TIMEOUT),
    }
}
