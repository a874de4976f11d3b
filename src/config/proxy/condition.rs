//! The conditions of a route.

use std::net::Ipv4Addr;

use http::{HeaderName, HeaderValue, Method};
use regex::{Regex, RegexBuilder};

use crate::model::{HostPattern, PathPattern, ValuePattern};

use super::super::keys::Shape::Text;
use super::super::keys::{Keys, key, otherwise, required};
use super::super::report::Report;
use super::super::table::{At, Entry, Table, Value};
use super::super::text;

pub(super) const PATH: Keys = Keys {
    known: &[
        key("exact", Text, otherwise("\"/x\"", "`regex`"), "this path"),
        key("regex", Text, otherwise("\"^/v[0-9]+/\"", "`exact`"), "paths that a pattern matches anywhere"),
    ],
    later: &[],
};
pub(super) const PATTERN: Keys = Keys {
    known: &[key("regex", Text, required("\"^v[0-9]+\""), "values that a pattern matches anywhere")],
    later: &[],
};

/// The largest compiled pattern, in bytes of memory: the time to search a text grows with it.
const MAX_PATTERN_MEMORY: usize = 64 * 1024;

const A_HOST: &str = "a host such as \"api.example.com\" or \"*.example.com\"";
const A_VALUE: &str = "a text, true or { regex = \"…\" }";

pub(super) fn read_hosts(route: &Table<'_>) -> Vec<At<HostPattern>> {
    let items = route.get("host").and_then(|value| value.one_or_many("a list of hosts"));
    let mut found: Vec<At<HostPattern>> = Vec::new();
    for item in items.unwrap_or_default() {
        let Some(host) = item.parsed(A_HOST, host) else { continue };
        if found.iter().any(|other| other.value == host) {
            item.fail::<()>("this host is listed twice");
        }
        found.push(item.at(host));
    }
    found
}

/// Parses `api.example.com`, `*.example.com` or an address; brackets stay around IPv6, as they do in requests.
fn host(written: &str) -> Result<HostPattern, String> {
    if written == "*" {
        return Err("leave `host` out to match every host".into());
    }
    let below = written.strip_prefix("*.");
    let name = text::host(below.unwrap_or(written)).map_err(|why| match written.split_once("://") {
        Some((scheme, _)) => format!("{why}; leave {scheme}:// out"),
        None => why,
    })?;
    let name = text::authority(&name).as_str().to_ascii_lowercase();
    Ok(match below {
        Some(_) => HostPattern::Below(format!(".{name}")),
        None => HostPattern::Exact(name),
    })
}

/// Reports hosts that are addresses: clients of TLS name only hosts by name (RFC 6066 §3).
pub(super) fn refuse_addresses(report: &Report<'_>, hosts: &[At<HostPattern>]) {
    let is_address = |host: &str| host.starts_with('[') || host.parse::<Ipv4Addr>().is_ok();
    for At { value, span } in hosts {
        if let HostPattern::Exact(host) = value
            && is_address(host)
        {
            let message = format!("no client of TLS names the address {host} as its host");
            report.error_with_help(span.clone(), message, "use `pool` for clients that name no host");
        }
    }
}

pub(super) fn read_path(route: &Table<'_>) -> Option<PathPattern> {
    const WHAT: &str = "a path such as \"/v1/\", { exact = \"/x\" } or { regex = \"^/v[0-9]+/\" }";
    let value = route.get("path")?;
    if !value.is_table() {
        return value.parsed(WHAT, path).map(PathPattern::Prefix);
    }
    let table = value.table(route.path("path"), &PATH)?;
    match (table.get("exact"), table.get("regex")) {
        (Some(exact), None) => exact.parsed("a path such as \"/x\"", path).map(PathPattern::Exact),
        (None, Some(pattern)) => pattern.parsed("a pattern", regex).map(PathPattern::Regex),
        _ => value.fail(format!("expected {WHAT}")),
    }
}

/// A path as it stands in a request: visible ASCII, without query and fragment.
pub(super) fn path(written: &str) -> Result<String, String> {
    let good = |byte: u8| byte.is_ascii_graphic() && !matches!(byte, b'?' | b'#');
    if written.starts_with('/') && written.bytes().all(good) {
        return Ok(written.to_owned());
    }
    Err(format!(
        "{:?} is not a valid path: it starts with `/` and has no spaces, no `?` and no `#`",
        text::shortened(written)
    ))
}

pub(super) fn regex(pattern: &str) -> Result<Regex, String> {
    RegexBuilder::new(pattern).size_limit(MAX_PATTERN_MEMORY).build().map_err(|_| {
        format!("{:?} is not a valid regular expression, or is too large", text::shortened(pattern))
    })
}

pub(super) fn read_methods(route: &Table<'_>) -> Vec<Method> {
    let items = route.get("method").and_then(|value| value.one_or_many("a list of methods"));
    let mut found = Vec::new();
    for item in items.unwrap_or_default() {
        let Some(method) = item.parsed("a method such as \"GET\"", method) else { continue };
        if found.contains(&method) {
            item.fail::<()>(format!("method {method} is listed twice"));
        }
        found.push(method);
    }
    found
}

/// Methods are case-sensitive (RFC 9110 §9.1), and none in use has small letters.
fn method(written: &str) -> Result<Method, String> {
    let capitals = written.to_ascii_uppercase();
    if capitals != written {
        return Err(format!("methods are written in capitals: {:?}", text::shortened(&capitals)));
    }
    Method::from_bytes(written.as_bytes())
        .map_err(|_| format!("{:?} is not a valid method such as GET", text::shortened(written)))
}

pub(super) fn read_headers(route: &Table<'_>) -> Vec<(HeaderName, ValuePattern)> {
    let mut found: Vec<(HeaderName, ValuePattern)> = Vec::new();
    for entry in entries(route, "header") {
        let name = match header_name(entry.name) {
            Ok(name) => name,
            Err(why) => {
                entry.value.report.error(entry.span.clone(), why);
                continue;
            }
        };
        let written = entry.value.as_text();
        if let Some(written) = written.filter(|it| HeaderValue::from_str(it).is_err() || it.trim() != *it) {
            let message = format!("{:?} is not a valid value of a header", text::shortened(written));
            entry.value.fail::<()>(message);
        }
        if found.iter().any(|(other, _)| *other == name) {
            entry.value.report.error(entry.span.clone(), format!("header `{name}` is listed twice"));
        }
        found.extend(pattern(route, "header", &entry.value).map(|pattern| (name, pattern)));
    }
    found
}

fn header_name(written: &str) -> Result<HeaderName, String> {
    let name = HeaderName::from_bytes(written.as_bytes())
        .map_err(|_| format!("{:?} is not a valid name of a header", text::shortened(written)))?;
    // HTTP/2 has another field for the host, and cookies come several in one header.
    match name.as_str() {
        "host" => Err("a route has the key `host` for this header".into()),
        "cookie" => Err("a route has the key `cookie` for this header".into()),
        _ => Ok(name),
    }
}

pub(super) fn read_cookies(route: &Table<'_>) -> Vec<(String, ValuePattern)> {
    // RFC 6265 §4.1.1: a token. Cookies in use have nearly anything else in their names.
    let good = |name: &str| {
        !name.is_empty() && name.bytes().all(|byte| byte.is_ascii_graphic() && !b"=;,\"".contains(&byte))
    };
    let mut found = Vec::new();
    for entry in entries(route, "cookie") {
        if !good(entry.name) {
            let message = format!("{:?} is not a valid name of a cookie", text::shortened(entry.name));
            entry.value.report.error(entry.span.clone(), message);
        }
        let pattern = pattern(route, "cookie", &entry.value);
        found.extend(pattern.map(|pattern| (entry.name.to_owned(), pattern)));
    }
    found
}

pub(super) fn read_query(route: &Table<'_>) -> Vec<(String, ValuePattern)> {
    let pattern = |entry: Entry<'_>| Some((entry.name.to_owned(), pattern(route, "query", &entry.value)?));
    entries(route, "query").into_iter().filter_map(pattern).collect()
}

/// The entries of a table of values.
fn entries<'a>(route: &Table<'a>, key: &str) -> Vec<Entry<'a>> {
    let Some(value) = route.get(key) else { return Vec::new() };
    let entries = value.entries();
    if value.is_table() && entries.is_empty() {
        value.fail::<()>(format!("`{key}` is empty"));
    }
    entries
}

fn pattern(route: &Table<'_>, key: &str, value: &Value<'_>) -> Option<ValuePattern> {
    if value.is_table() {
        let pattern = value.table(route.path(key), &PATTERN)?.need("regex")?;
        return pattern.parsed("a pattern", regex).map(ValuePattern::Regex);
    }
    match (value.as_text(), value.as_boolean()) {
        (Some(text), _) => Some(ValuePattern::Exact(text.to_owned())),
        (None, Some(true)) => Some(ValuePattern::Present),
        _ => value.expected(A_VALUE),
    }
}
