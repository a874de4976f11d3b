//! Routes: every spelling of a path takes the same route, and nothing that a client writes leads out of where a route
//! leads.

use std::io;
use std::path::Path;
use std::sync::LazyLock;

use http::uri::{Authority, PathAndQuery};
use http::{HeaderMap, HeaderName, HeaderValue, Method};
use portolan::config::{self, Source};
use portolan::model::{PathEdit, Route, RouteAction};
use portolan::route::{Head, Listener, Plan};

const CONFIG: &str = r#"version = 1
[control]
listen = false
socket = "s"
[proxy.listener.web]
listen = "127.0.0.1:0"
route = [
  { path = "/admin", respond = { status = 403 } },
  { host = "a.test", path = { exact = "/exact" }, pool = "api" },
  { host = "*.b.test", path = { regex = "^/r/[0-9]+$" }, pool = "api" },
  { method = "PUT", header = { x-a = "1" }, pool = "api" },
  { cookie = { c = { regex = "^v" } }, query = { q = "" }, pool = "api" },
  { path = "/to/host", redirect = { to = "https://{host}/x{path}?{query}" } },
  { path = "/to/uri", redirect = { to = "{uri}" } },
  { path = "/to/path", redirect = { to = "/new?{path}{query}" } },
  { path = "/to/scheme", redirect = { scheme = "https" } },
  { path = "/moved/", rewrite = { prefix = "/" }, redirect = { to = "{path}" } },
  { path = "/files", rewrite = { regex = "^/files/([^/]*)-([^/]*)/", to = "/app/$1$2/" }, pool = "api" },
  { path = "/", rewrite = { prefix = "/app" }, pool = "api" },
]
[proxy.pool.api]
backend = ["127.0.0.1:1"]
probe = []
"#;

static LISTENER: LazyLock<Listener> = LazyLock::new(|| {
    let read = |source: &Source<'_>| match source.path.to_str() {
        Some("portolan.toml") => Ok(CONFIG.into()),
        _ => Err(io::ErrorKind::NotFound.into()),
    };
    let config =
        config::load(Path::new("portolan.toml"), &read).unwrap_or_else(|refused| panic!("{refused}"));
    Plan::compile(&config.proxy.expect("a proxy")).listener("web").expect("a listener").clone()
});

/// Lines: the method, the host, path and query, then headers.
pub(crate) fn take(bytes: &[u8]) {
    let mut lines = bytes.split(|byte| *byte == b'\n');
    let (Some(method), Some(host), Some(target)) = (lines.next(), lines.next(), lines.next()) else { return };
    let Ok(method) = Method::from_bytes(method) else { return };
    let Ok(authority) = Authority::try_from(host) else { return };
    let Ok(target) = PathAndQuery::try_from(target) else { return };
    let headers: HeaderMap = lines
        .filter_map(|line| {
            let (name, value) = line.split_at(line.iter().position(|byte| *byte == b':')?);
            let name = HeaderName::from_bytes(name).ok()?;
            Some((name, HeaderValue::from_bytes(&value[1..]).ok()?))
        })
        .collect();
    let (path, query) = (target.path(), target.query());
    let head = Head { host: authority.host(), path, query, method: &method, headers: &headers };
    let found = LISTENER.find_numbered(&head);
    let skipped = LISTENER.explain(&head).len();
    assert_eq!(skipped, found.map_or(LISTENER.routes.len(), |(number, _)| number - 1));
    for spelled in
        [spelled(path, |byte| format!("%{byte:02x}")), spelled(path, |byte| format!("%{byte:02X}"))]
    {
        let other = LISTENER.find_numbered(&Head { path: &spelled, ..head });
        assert_eq!(other.map(|it| it.0), found.map(|it| it.0), "{path} and {spelled}");
    }
    if let Some((_, route)) = found {
        leads_nowhere_else(route, &head);
    }
}

/// The path with its letters and dots percent-encoded, but for those of escapes.
fn spelled(path: &str, escape: impl Fn(u8) -> String) -> String {
    if path.contains('%') || !path.starts_with('/') {
        return path.to_owned();
    }
    let spell = |char: char| match char {
        'a'..='z' | '.' => escape(char as u8),
        char => char.to_string(),
    };
    path.chars().map(spell).collect()
}

fn leads_nowhere_else(route: &Route, head: &Head<'_>) {
    let edit = route.edits.path.as_ref();
    match &route.action {
        RouteAction::Redirect { to, .. } => {
            let Some(location) = to.of(head, edit) else { return };
            let location = location.to_str().expect("it was made of text");
            if let Some(rest) = location.strip_prefix('/') {
                assert!(!rest.starts_with(['/', '\\']), "{location} names another host");
            } else {
                let after = location.strip_prefix("https://").expect("as the config says");
                let end = after.find(['/', '?', '\\', '#']).unwrap_or(after.len());
                assert_eq!(&after[..end], head.host, "{location}");
            }
        }
        RouteAction::Forward(_) => {
            let Some(edit) = edit else { return };
            let path = edit.apply(head.path);
            assert!(path.starts_with('/') || !head.path.starts_with('/'), "{path}");
            // The backend decodes once.
            let decoded = decoded(&path);
            assert!(!decoded.split('/').any(|it| it == "." || it == ".."), "{path} of {}", head.path);
            // Under the new prefix is what the routes have seen, and no other path.
            if let PathEdit::Prefix { .. } = edit
                && head.path.starts_with('/')
            {
                let below = path.strip_prefix("/app").unwrap_or_else(|| panic!("{path} of {}", head.path));
                let again = LISTENER.find_numbered(&Head { path: below, ..*head });
                assert!(again.is_some_and(|(_, it)| std::ptr::eq(it, route)), "{path} of {}", head.path);
            }
            assert!(path.parse::<PathAndQuery>().is_ok(), "{path} of {}", head.path);
        }
        RouteAction::Respond { .. } => {}
    }
}

/// The path with its escapes decoded once.
fn decoded(path: &str) -> String {
    let bytes = path.as_bytes();
    let (mut decoded, mut at) = (Vec::new(), 0);
    while at < bytes.len() {
        let escape = path.get(at + 1..at + 3).filter(|_| bytes[at] == b'%');
        match escape.and_then(|digits| u8::from_str_radix(digits, 16).ok().filter(|_| !digits.contains('+')))
        {
            Some(byte) => {
                decoded.push(byte);
                at += 3;
            }
            None => {
                decoded.push(bytes[at]);
                at += 1;
            }
        }
    }
    String::from_utf8_lossy(&decoded).into_owned()
}
