//! `auth` of a route: who decides whether a request may go on.

use std::cell::RefCell;
use std::ops::RangeInclusive;
use std::time::Duration;

use http::uri::PathAndQuery;
use http::{HeaderValue, Uri};

use crate::model::{Backend, ForwardAuth, PoolId, Weight};

use super::super::keys::Shape::{OneOrMany, Text, Time};
use super::super::keys::{Keys, default, instead, key, otherwise};
use super::super::place::Names;
use super::super::table::{Table, Value};
use super::action::pool_id;
use super::backend;
use super::edit::editable;

pub(super) const AUTH: Keys = Keys {
    known: &[
        key(
            "forward",
            Text,
            otherwise("\"http://auth.internal:9000/verify\"", "`pool`"),
            "URL that is asked, with the headers of the request: 2xx lets it go on, and the client gets any other answer",
        ),
        key(
            "pool",
            Text,
            instead("\"auth\"", "without `forward`"),
            "pool that is asked; for TLS, probes and timeouts of its own",
        ),
        key("path", Text, instead("\"/verify\"", "with `pool`"), "path that the pool is asked for"),
        key(
            "headers",
            OneOrMany(&Text),
            otherwise("[\"x-user\"]", "none"),
            "headers of the answer that backends get; those of the client are removed",
        ),
        key(
            "timeout",
            Time,
            default("\"5s\""),
            "time for the whole answer; without one in time, clients get 503",
        ),
    ],
    later: &[],
};

/// Each request waits for so long while the service hangs.
const AUTH_TIMEOUTS: RangeInclusive<Duration> = Duration::from_millis(10)..=Duration::from_secs(60);
const DEFAULT_TIMEOUT: Duration = Duration::from_secs(5);

/// The services that routes name by URL. Each becomes a pool behind those of the config.
pub(super) struct Services {
    /// How many pools the config has.
    before: usize,
    pub(super) found: RefCell<Vec<Backend>>,
}

impl Services {
    pub(super) fn behind(pools: usize) -> Self {
        Self { before: pools, found: RefCell::default() }
    }

    /// The pool of a service.
    fn pool(&self, service: Backend) -> PoolId {
        let mut found = self.found.borrow_mut();
        let index = found.iter().position(|it| it.name == service.name).unwrap_or_else(|| {
            found.push(service);
            found.len() - 1
        });
        PoolId((self.before + index) as u16)
    }
}

/// Reads `auth` of a route.
pub(super) fn read(route: &Table<'_>, pools: &Names<'_>, services: &Services) -> Option<ForwardAuth> {
    let table = route.get("auth")?.table(route.path("auth"), &AUTH)?;
    if !table.has("pool") && !table.has("forward") {
        table.report.absent(table.span.clone(), "`auth` needs `forward` or `pool`");
    }
    let mut headers = Vec::new();
    let copied = table.get("headers").and_then(|it| it.one_or_many("a list of names of headers"));
    for item in copied.unwrap_or_default() {
        headers.extend(item.parsed("the name of a header", editable));
    }
    let timeout = table.get("timeout").and_then(|value| value.duration(AUTH_TIMEOUTS));
    let (pool, target, host) = match table.get("forward") {
        Some(value) => {
            table.refuse(&["pool", "path"], "with `forward`");
            let (service, target, host) = service(&value)?;
            (services.pool(service), target, Some(host))
        }
        None => {
            let path = table.get("path").map(|value| value.parsed("a path such as \"/verify\"", path));
            let path = path.unwrap_or(Some(PathAndQuery::from_static("/")));
            (pool_id(&table.get("pool")?, pools)?, path?, None)
        }
    };
    Some(ForwardAuth { pool, target, host, headers, timeout: timeout.unwrap_or(DEFAULT_TIMEOUT) })
}

fn path(written: &str) -> Result<PathAndQuery, String> {
    let parsed = PathAndQuery::try_from(written).ok().filter(|_| written.starts_with('/'));
    parsed.ok_or_else(|| format!("{written:?} is not a valid path"))
}

/// The backend that a URL stands for, what to ask it for, and its host.
fn service(value: &Value<'_>) -> Option<(Backend, PathAndQuery, HeaderValue)> {
    const WHAT: &str = "a URL such as \"http://auth.internal:9000/verify\"";
    let url = value
        .parsed(WHAT, |text| text.parse::<Uri>().map_err(|_| format!("expected {WHAT}, found {text:?}")))?;
    match url.scheme_str() {
        Some("http") => {}
        Some("https") => return value.fail("for TLS, name a pool with `tls` in `pool`, and write `path`"),
        _ => return value.expected(WHAT),
    }
    let authority = url.authority().filter(|it| !it.as_str().contains('@'))?;
    let place = match authority.port_u16() {
        Some(_) => authority.as_str().to_owned(),
        None => format!("{}:80", authority.host()),
    };
    let place = backend::place(&place).map_or_else(|why| value.fail(why), Some)?;
    let target = url.path_and_query().cloned().unwrap_or_else(|| PathAndQuery::from_static("/"));
    let host = HeaderValue::try_from(authority.as_str()).ok()?;
    Some((backend::backend(value, place, Weight(1), false), target, host))
}
