//! What a route changes of requests and responses: `rewrite` and `headers`.

use http::{HeaderName, HeaderValue};
use regex::Regex;

use crate::model::{Edits, HeaderEdits, PathEdit, PathPattern, PathPiece};

use super::super::keys::Shape::{Fields, Map, OneOrMany, Text};
use super::super::keys::{Keys, instead, key, otherwise};
use super::super::table::{Table, Value};
use super::super::text;
use super::condition::{path, regex};

pub(super) const REWRITE: Keys = Keys {
    known: &[
        key(
            "prefix",
            Text,
            otherwise("\"/\"", "the path stays"),
            "what replaces the `path` of the route, by segments: with \"/\", /v1/x becomes /x",
        ),
        key(
            "regex",
            Text,
            instead("\"^/v([0-9]+)/\"", "without `prefix`"),
            "pattern whose first match is replaced by `to`",
        ),
        key(
            "to",
            Text,
            instead("\"/version/$1/\"", "with `regex`"),
            "what replaces it; $1 or ${name}: a group of the pattern",
        ),
        key("host", Text, otherwise("\"api.internal\"", "the client's"), "host that backends are asked for"),
    ],
    later: &[],
};
pub(super) const HEADERS: Keys = Keys {
    known: &[
        key("request", Fields(&EDITS), otherwise("", "as they are"), "headers that backends get"),
        key(
            "response",
            Fields(&EDITS),
            otherwise("", "as they are"),
            "headers that clients get, also of the proxy's own responses",
        ),
    ],
    later: &[],
};
const EDITS: Keys = Keys {
    known: &[
        key("remove", OneOrMany(&Text), otherwise("[\"x-powered-by\"]", "none"), "headers to remove; first"),
        key(
            "set",
            Map(&Text),
            otherwise("{ x-site = \"eu\" }", "none"),
            "headers to set, in place of any there are",
        ),
        key(
            "add",
            Map(&Text),
            otherwise("{ vary = \"Accept\" }", "none"),
            "headers to add to those there are",
        ),
    ],
    later: &[],
};

/// They concern a single connection (RFC 9110 §7.6.1).
const OF_A_HOP: [&str; 8] = [
    "connection",
    "http2-settings",
    "keep-alive",
    "proxy-connection",
    "te",
    "trailer",
    "transfer-encoding",
    "upgrade",
];
/// The length of a body, and whether to send it.
const FRAMING: [&str; 2] = ["content-length", "expect"];
/// The proxy writes them itself.
const IDENTITY: [&str; 8] = [
    "forwarded",
    "traceparent",
    "via",
    "x-forwarded-for",
    "x-forwarded-host",
    "x-forwarded-proto",
    "x-real-ip",
    "x-request-id",
];

/// Reads the changes of a route with this condition for the path.
pub(super) fn read(route: &Table<'_>, condition: Option<&PathPattern>) -> Edits {
    let mut edits = Edits::default();
    if let Some(table) = route.get("rewrite").and_then(|it| it.table(route.path("rewrite"), &REWRITE)) {
        edits.path = read_path(&table, condition);
        edits.host =
            table.get("host").and_then(|value| value.parsed("a host such as \"api.internal\"", host));
    }
    if let Some(table) = route.get("headers").and_then(|it| it.table(route.path("headers"), &HEADERS)) {
        let read = |key: &str| Some(read_headers(&table.get(key)?.table(table.path(key), &EDITS)?));
        edits.request = read("request").unwrap_or_default();
        edits.response = read("response").unwrap_or_default();
    }
    edits
}

fn read_path(table: &Table<'_>, condition: Option<&PathPattern>) -> Option<PathEdit> {
    match (table.get("prefix"), table.get("regex"), table.get("to")) {
        (Some(prefix), None, None) => {
            let to = prefix.parsed("a path such as \"/\"", path)?;
            match condition {
                Some(PathPattern::Prefix(from)) => Some(PathEdit::Prefix { from: from.clone(), to }),
                _ => {
                    prefix.fail("`prefix` replaces the `path` of the route, but it has none such as \"/v1\"")
                }
            }
        }
        (None, Some(pattern), Some(to)) => {
            let pattern = pattern.parsed("a pattern", regex)?;
            let to = to.parsed("a path such as \"/version/$1/\"", |text| pieces(text, &pattern))?;
            Some(PathEdit::Regex { pattern, to })
        }
        (None, None, None) if table.has("host") => None,
        _ => {
            let message = "`rewrite` needs `prefix`, or `regex` with `to`, or `host` alone";
            table.report.error(table.span.clone(), message);
            None
        }
    }
}

/// Parses what replaces a match: text, `$1`, `${name}`, and `$$` for a dollar sign.
fn pieces(written: &str, pattern: &Regex) -> Result<Vec<PathPiece>, String> {
    let good = |byte: u8| byte.is_ascii_graphic() && !matches!(byte, b'?' | b'#');
    if !written.bytes().all(good) {
        return Err(format!(
            "{:?} is not a part of a path: no spaces, no `?` and no `#`",
            text::shortened(written)
        ));
    }
    let mut pieces = Vec::new();
    let mut rest = written;
    while let Some(at) = rest.find('$') {
        pieces.push(PathPiece::Text(rest[..at].into()));
        rest = &rest[at + 1..];
        if let Some(after) = rest.strip_prefix('$') {
            pieces.push(PathPiece::Text("$".into()));
            rest = after;
            continue;
        }
        let digits = rest.len() - rest.trim_start_matches(|it: char| it.is_ascii_digit()).len();
        let (name, after) = match rest.strip_prefix('{') {
            Some(braced) => braced.split_once('}').unwrap_or((braced, "")),
            None => rest.split_at(digits),
        };
        pieces.push(PathPiece::Group(group(name, pattern)?));
        rest = after;
    }
    pieces.push(PathPiece::Text(rest.into()));
    pieces.retain(|piece| *piece != PathPiece::Text(String::new()));
    Ok(pieces)
}

/// The index of a group by its number or name.
fn group(name: &str, pattern: &Regex) -> Result<usize, String> {
    let named = || pattern.capture_names().position(|it| it == Some(name));
    let found = name.parse().ok().filter(|index| *index < pattern.captures_len()).or_else(named);
    found.ok_or_else(|| match name {
        "" => "`$` needs the number or {name} of a group; write $$ for a dollar sign".into(),
        _ => format!("the pattern has no group `{}`", text::shortened(name)),
    })
}

/// A host, perhaps with a port, as the value of Host.
fn host(written: &str) -> Result<HeaderValue, String> {
    let error = || format!("{:?} is not a valid host", text::shortened(written));
    let authority: http::uri::Authority = written.parse().map_err(|_| error())?;
    if authority.host().is_empty() || written.contains('@') {
        return Err(error());
    }
    HeaderValue::from_str(written).map_err(|_| error())
}

fn read_headers(table: &Table<'_>) -> HeaderEdits {
    let mut remove: Vec<HeaderName> = Vec::new();
    let removed = table.get("remove").and_then(|it| it.one_or_many("a list of names of headers"));
    for item in removed.unwrap_or_default() {
        remove.extend(item.parsed("the name of a header", editable));
    }
    HeaderEdits { remove, set: read_values(table, "set"), add: read_values(table, "add") }
}

fn read_values(table: &Table<'_>, key: &str) -> Vec<(HeaderName, HeaderValue)> {
    let mut found: Vec<(HeaderName, HeaderValue)> = Vec::new();
    let Some(value) = table.get(key) else { return found };
    let entries = value.entries();
    if value.is_table() && entries.is_empty() {
        value.fail::<()>(format!("`{key}` is empty"));
    }
    for entry in entries {
        let name = match editable(entry.name) {
            Ok(name) => name,
            Err(why) => {
                table.report.error(entry.span.clone(), why);
                continue;
            }
        };
        if found.iter().any(|(other, _)| *other == name) {
            table.report.error(entry.span.clone(), format!("header `{name}` is listed twice"));
        }
        found.extend(header_value(&entry.value).map(|value| (name, value)));
    }
    found
}

fn header_value(value: &Value<'_>) -> Option<HeaderValue> {
    value.parsed("a text", |text| {
        let parsed = HeaderValue::from_str(text).ok().filter(|_| text.trim() == text);
        parsed.ok_or_else(|| format!("{:?} is not a valid value of a header", text::shortened(text)))
    })
}

/// The name of a header that a route may change.
pub(super) fn editable(written: &str) -> Result<HeaderName, String> {
    let name = HeaderName::from_bytes(written.as_bytes())
        .map_err(|_| format!("{:?} is not a valid name of a header", text::shortened(written)))?;
    match name.as_str() {
        "host" => Err("Host cannot be edited: write `rewrite = { host = \"…\" }`".into()),
        it if OF_A_HOP.contains(&it) => {
            Err(format!("`{it}` concerns a single connection, and cannot be edited"))
        }
        it if FRAMING.contains(&it) => {
            Err(format!("`{it}` is about how the body is sent, and cannot be edited"))
        }
        it if IDENTITY.contains(&it) => {
            Err(format!("the proxy itself writes `{it}`, so it cannot be edited"))
        }
        _ => Ok(name),
    }
}
