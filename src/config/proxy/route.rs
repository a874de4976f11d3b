//! `route` of a listener.

use crate::model::{Protocol, Route, RouteAction, When};

use super::super::keys::Shape::{Boolean, Either, Fields, List, Map, OneOrMany, Text};
use super::super::keys::{Keys, Shape, instead, key, otherwise};
use super::super::place::Names;
use super::super::table::{At, Value};
use super::action::{self, REDIRECT, RESPOND, SPLIT};
use super::auth::{self, AUTH, Services};
use super::condition::{self, PATH, PATTERN};
use super::edit::{self, HEADERS, REWRITE};

pub(super) const ROUTE: Keys = Keys {
    known: &[
        key(
            "host",
            OneOrMany(&Text),
            otherwise("[\"api.example.com\", \"*.example.net\"]", "any"),
            "hosts; *.example.net stands for all names below example.net",
        ),
        key(
            "path",
            Either(&[Text, Fields(&PATH)]),
            otherwise("\"/v1/\"", "any"),
            "first segments of the path: \"/v1\" stands for /v1 and what is below it, \"/v1/\" for what is below it; or { exact = \"/x\" }, or { regex = \"^/v[0-9]+/\" }, which matches anywhere",
        ),
        key("method", OneOrMany(&Text), otherwise("[\"GET\", \"HEAD\"]", "any"), "methods, in capitals"),
        key(
            "header",
            Map(&VALUE),
            otherwise("{ x-canary = \"1\" }", "any"),
            "headers and their values: a text, true for any value, or { regex = \"…\" }",
        ),
        key(
            "cookie",
            Map(&VALUE),
            otherwise("{ beta = true }", "any"),
            "cookies and their values, as for `header`",
        ),
        key(
            "query",
            Map(&VALUE),
            otherwise("{ version = { regex = \"^[0-9]+$\" } }", "any"),
            "parameters of the query and their values, as for `header`",
        ),
        key(
            "pool",
            Text,
            otherwise("\"api\"", "`split`, `redirect` or `respond`"),
            "pool that requests are forwarded to",
        ),
        key(
            "split",
            Either(&[List(&Fields(&SPLIT))]),
            instead(
                "[{ pool = \"api\", weight = 95 }, { pool = \"api-next\", weight = 5 }]",
                "without `pool`",
            ),
            "pools that share the clients by their weights; a client stays with a pool",
        ),
        key(
            "redirect",
            Either(&[Fields(&REDIRECT)]),
            instead("{ status = 308, to = \"https://www.example.com/new/\" }", "without `pool`"),
            "another location for the client",
        ),
        key(
            "respond",
            Either(&[Fields(&RESPOND)]),
            instead("{ status = 503, body = \"closed for today\" }", "without `pool`"),
            "answer without a backend",
        ),
        key(
            "rewrite",
            Fields(&REWRITE),
            otherwise("", "as the client sent it"),
            "path and host that backends are asked for; the query stays",
        ),
        key(
            "headers",
            Fields(&HEADERS),
            otherwise("", "as they are"),
            "changes of headers; not of those that are about a connection, the body or who the client is",
        ),
        key(
            "auth",
            Either(&[Fields(&AUTH)]),
            otherwise("{ forward = \"http://auth.internal:9000/verify\" }", "every request may"),
            "service that decides which requests may go on to the pool",
        ),
    ],
    later: &["mirror"],
};

const VALUE: Shape = Either(&[Text, Boolean, Fields(&PATTERN)]);

/// The keys that have no meaning for bytes.
const NOT_FOR_BYTES: [&str; 11] = [
    "auth", "host", "path", "method", "header", "cookie", "query", "redirect", "respond", "rewrite",
    "headers",
];
/// The keys that have no meaning for what is encrypted.
const NOT_FOR_TLS: [&str; 10] =
    ["auth", "path", "method", "header", "cookie", "query", "redirect", "respond", "rewrite", "headers"];

/// Reads a route; one for each of its hosts, with the place to name in warnings about it.
pub(super) fn read(
    item: &Value<'_>,
    path: &str,
    protocol: Protocol,
    (pools, services): (&Names<'_>, &Services),
) -> Vec<At<Route>> {
    let Some(table) = item.table(path, &ROUTE) else { return Vec::new() };
    match protocol {
        Protocol::Http => {}
        Protocol::Tcp => table.refuse(&NOT_FOR_BYTES, "with protocol = \"tcp\""),
        Protocol::Udp => table.refuse(&NOT_FOR_BYTES, "with protocol = \"udp\""),
        Protocol::TlsPassthrough => table.refuse(&NOT_FOR_TLS, "with protocol = \"tls-passthrough\""),
    }
    let hosts = condition::read_hosts(&table);
    if protocol == Protocol::TlsPassthrough {
        condition::refuse_addresses(table.report, &hosts);
    }
    let when = When {
        host: None,
        path: condition::read_path(&table),
        methods: condition::read_methods(&table),
        headers: condition::read_headers(&table),
        cookies: condition::read_cookies(&table),
        query: condition::read_query(&table),
    };
    let edits = edit::read(&table, when.path.as_ref());
    let Some(action) = action::read(&table, pools) else { return Vec::new() };
    if !matches!(action, RouteAction::Forward(_)) {
        table.refuse(&["auth"], "where no pool gets the request");
    }
    let auth = auth::read(&table, pools, services).map(Box::new);
    if auth.is_none() && table.has("auth") {
        return Vec::new();
    }
    let route = Route { when, action, edits, auth };
    if hosts.is_empty() {
        return vec![item.at(route)];
    }
    let is_one = hosts.len() == 1;
    let with_host = |At { value: host, span }: At<_>| {
        let mut route = route.clone();
        route.when.host = Some(host);
        if is_one { item.at(route) } else { At { value: route, span } }
    };
    hosts.into_iter().map(with_host).collect()
}
