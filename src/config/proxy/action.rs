//! What a route does with the requests that match.

use http::StatusCode;

use crate::model::{PoolId, RouteAction, Weight};

use super::super::keys::Shape::{Integer, Text, Words};
use super::super::keys::{Keys, default, instead, key, otherwise, required};
use super::super::place::Names;
use super::super::region::read_weight;
use super::super::table::{Table, Value};
use super::location;

pub(super) const SPLIT: Keys = Keys {
    known: &[
        key("pool", Text, required("\"api\""), "pool"),
        key("weight", Integer(0, Weight::MAX.0 as u64), default("1"), "its share of the clients"),
    ],
    later: &[],
};
pub(super) const REDIRECT: Keys = Keys {
    known: &[
        key("status", Integer(301, 308), default("308"), "301, 302, 303, 307 or 308"),
        key(
            "to",
            Text,
            otherwise("\"https://www.example.com/new/\"", "`scheme`"),
            "new location: a URL, or a path on the same host; {host}, {path}, {query} and {uri} (path and query) are those of the request, after `rewrite`",
        ),
        key(
            "scheme",
            Words(&["https", "http"]),
            instead("\"https\"", "without `to`"),
            "the same URL with this scheme; not the port",
        ),
        key("host", Text, instead("\"www.example.com\"", "with `scheme`"), "and this host"),
        key("port", Integer(1, 65535), instead("8443", "with `scheme`"), "and this port"),
    ],
    later: &[],
};
pub(super) const RESPOND: Keys = Keys {
    known: &[
        key("status", Integer(200, 599), required("503"), "status of the response"),
        key("body", Text, default("\"\""), "its body, as text/plain; at most 64 KiB"),
    ],
    later: &[],
};

const ACTIONS: [&str; 4] = ["pool", "split", "redirect", "respond"];

const REDIRECTS: [u16; 5] = [301, 302, 303, 307, 308];

/// A share is found by going through them.
const MOST_POOLS_OF_SPLIT: usize = 64;
/// Larger ones belong on a server of files.
const MAX_BODY: usize = 64 * 1024;

pub(super) fn read(route: &Table<'_>, pools: &Names<'_>) -> Option<RouteAction> {
    let mut written = ACTIONS.into_iter().filter(|key| route.has(key));
    let Some(action) = written.next() else {
        let message = "a route needs one of `pool`, `split`, `redirect` and `respond`";
        route.report.absent(route.span.clone(), message);
        return None;
    };
    if let Some(other) = written.next() {
        let message = format!("this route has `{action}` already, and does only one thing");
        route.report.error(route.key_span(other), message);
    }
    let value = route.get(action)?;
    match action {
        "pool" => Some(RouteAction::Forward(vec![(pool_id(&value, pools)?, Weight(1))])),
        "split" => read_split(&value, &route.path(action), pools),
        "redirect" => read_redirect(&value, &route.path(action)),
        _ => read_respond(&value, &route.path(action)),
    }
}

/// The pool that a value names.
pub(super) fn pool_id(value: &Value<'_>, pools: &Names<'_>) -> Option<PoolId> {
    Some(PoolId(pools.refer(value)? as u16))
}

fn read_split(value: &Value<'_>, path: &str, pools: &Names<'_>) -> Option<RouteAction> {
    let items = value.items("a list of pools such as [{ pool = \"api\", weight = 95 }]")?;
    if items.len() > MOST_POOLS_OF_SPLIT {
        return value.fail(format!("at most {MOST_POOLS_OF_SPLIT} pools, found {}", items.len()));
    }
    let mut found: Vec<(PoolId, Weight)> = Vec::new();
    for item in &items {
        let Some(table) = item.table(path, &SPLIT) else { continue };
        let pool = table.need("pool").and_then(|value| pool_id(&value, pools));
        let weight = table.get("weight").and_then(|value| read_weight(&value));
        let Some(pool) = pool else { continue };
        if found.iter().any(|(other, _)| *other == pool) {
            item.fail::<()>(format!("pool `{}` is listed twice", pools.name(usize::from(pool.0))));
        }
        found.push((pool, weight.unwrap_or(Weight(1))));
    }
    (!found.is_empty()).then_some(RouteAction::Forward(found))
}

fn read_redirect(value: &Value<'_>, path: &str) -> Option<RouteAction> {
    let table = value.table(path, &REDIRECT)?;
    let status = match table.get("status") {
        None => Some(StatusCode::PERMANENT_REDIRECT),
        Some(value) => read_status(&value, |status| REDIRECTS.contains(&status))
            .or_else(|| value.expected("301, 302, 303, 307 or 308")),
    };
    let to = location::read(&table);
    Some(RouteAction::Redirect { status: status?, to: to? })
}

fn read_respond(value: &Value<'_>, path: &str) -> Option<RouteAction> {
    let table = value.table(path, &RESPOND)?;
    let status = table.need("status").and_then(|value| {
        read_status(&value, |status| (200..600).contains(&status))
            .or_else(|| value.expected("an integer from 200 to 599"))
    });
    let body = table.get("body").and_then(|value| match value.as_text() {
        None => value.expected("a text"),
        Some(text) if text.len() > MAX_BODY => {
            value.fail(format!("the body has {} bytes, but at most {MAX_BODY} are allowed", text.len()))
        }
        // RFC 9110 §15.3.5, §15.3.6, §15.4.5
        Some(text) if !text.is_empty() && matches!(status.map(|it| it.as_u16()), Some(204 | 205 | 304)) => {
            value.fail(format!("a response with status {} has no body", status?.as_u16()))
        }
        Some(text) => Some(text.to_owned()),
    });
    Some(RouteAction::Respond { status: status?, body: body.unwrap_or_default() })
}

/// The status, if it is one of those allowed; reports nothing.
fn read_status(value: &Value<'_>, is_allowed: impl FnOnce(u16) -> bool) -> Option<StatusCode> {
    let status = u16::try_from(value.as_integer()?).ok()?;
    if is_allowed(status) { StatusCode::from_u16(status).ok() } else { None }
}
