//! The changes that a route makes, applied.

use std::fmt::Write as _;

use http::{HeaderMap, HeaderValue};
use regex::Captures;

use super::{Head, path};
use crate::model::{HeaderEdits, PathEdit, PathPiece, RedirectPiece, RedirectTo};

impl PathEdit {
    /// The path that a backend gets, from one that the route matched. Like routes, it sees the path without dot segments,
    /// and its result has none either: what captures put together cannot lead out of a prefix.
    #[must_use]
    pub fn apply(&self, path: &str) -> String {
        if !path.starts_with('/') && !path.is_empty() {
            // `*` is no path.
            return path.into();
        }
        let path = path::normalize(path);
        let mut new = match self {
            Self::Prefix { from, to } => {
                let rest = path.get(from.trim_end_matches('/').len()..).unwrap_or_default();
                format!("{}{rest}", to.trim_end_matches('/'))
            }
            Self::Regex { pattern, to } => match pattern.captures(&path) {
                Some(found) => replaced(&path, &found, to),
                None => path.into_owned(),
            },
        };
        if !new.starts_with('/') {
            new.insert(0, '/');
        }
        path::normalize(&new).into_owned()
    }

    /// The same change, with its prefix written as paths are compared.
    pub(super) fn normalized(self) -> Self {
        match self {
            Self::Prefix { from, to } => Self::Prefix { from: path::normalize(&from).into_owned(), to },
            Self::Regex { .. } => self,
        }
    }
}

fn replaced(path: &str, found: &Captures<'_>, to: &[PathPiece]) -> String {
    let whole = found.get_match();
    let mut new = path[..whole.start()].to_owned();
    for piece in to {
        new.push_str(match piece {
            PathPiece::Text(text) => text,
            PathPiece::Group(group) => found.get(*group).map_or("", |it| it.as_str()),
        });
    }
    new + &path[whole.end()..]
}

impl HeaderEdits {
    /// Makes the changes.
    pub fn apply(&self, headers: &mut HeaderMap) {
        for name in &self.remove {
            headers.remove(name);
        }
        for (name, value) in &self.set {
            headers.insert(name, value.clone());
        }
        for (name, value) in &self.add {
            headers.append(name, value.clone());
        }
    }
}

impl RedirectTo {
    /// The location for a request; `None` if what the request has cannot be written there.
    #[must_use]
    pub fn of(&self, head: &Head<'_>, edit: Option<&PathEdit>) -> Option<HeaderValue> {
        if let [RedirectPiece::Text(text)] = &self.0[..] {
            return HeaderValue::from_str(text).ok();
        }
        let path = edit.map_or_else(|| head.path.to_owned(), |edit| edit.apply(head.path));
        let path = if path.starts_with('/') { &path } else { "/" };
        let mut location = String::new();
        for piece in &self.0 {
            match piece {
                RedirectPiece::Text(text) => location.push_str(text),
                RedirectPiece::Host => location.push_str(head.host),
                RedirectPiece::Path => push_path(&mut location, path),
                RedirectPiece::Query => location.push_str(head.query.unwrap_or_default()),
                RedirectPiece::Uri => {
                    push_path(&mut location, path);
                    if let Some(query) = head.query {
                        location.push('?');
                        location.push_str(query);
                    }
                }
            }
        }
        HeaderValue::from_str(&in_ascii(location)).ok()
    }
}

/// A URL with what is not ASCII percent-encoded, as RFC 3986 §2.1 wants it. Clients do send it as it is.
fn in_ascii(url: String) -> String {
    if url.is_ascii() {
        return url;
    }
    let mut ascii = String::with_capacity(url.len() * 3);
    for byte in url.bytes() {
        match byte {
            0x80.. => write!(ascii, "%{byte:02X}").expect("writing to memory cannot fail"),
            _ => ascii.push(char::from(byte)),
        }
    }
    ascii
}

/// Appends a path that begins with a slash. At the beginning, `//host` and `/\host` would name another host.
fn push_path(location: &mut String, path: &str) {
    if location.is_empty() {
        location.push('/');
        location.push_str(path.trim_start_matches(['/', '\\']));
    } else {
        location.push_str(path);
    }
}

#[cfg(test)]
mod tests {
    use http::Method;
    use regex::Regex;

    use super::*;

    #[test]
    fn prefixes_are_replaced_by_segments() {
        for (from, to, path, expected) in [
            ("/v1", "/", "/v1", "/"),
            ("/v1", "/", "/v1/x", "/x"),
            ("/v1/", "/", "/v1/", "/"),
            ("/v1/", "/new", "/v1/x/", "/new/x/"),
            ("/v1", "/new/", "/v1", "/new"),
            ("/v1", "/new/", "/v1/x", "/new/x"),
            ("/", "/new", "/x", "/new/x"),
            ("/", "/new", "", "/new/"),
            ("/%7ea", "/b", "/~a/x", "/b/x"),
            ("/v1", "/", "/x/../v1/%2e%2e/v1/y", "/y"),
            ("/v1", "/", "/v1//host/x", "//host/x"),
            ("/", "/app", "/%%32e%%32e/secret", "/app/%252e%252e/secret"),
            ("/", "/app", "/%%361dmin", "/app/%2561dmin"),
            ("/", "/x", "*", "*"),
        ] {
            let edit = PathEdit::Prefix { from: from.into(), to: to.into() }.normalized();
            assert_eq!(edit.apply(path), expected, "{from} by {to} in {path}");
        }
    }

    #[test]
    fn patterns_are_replaced_and_lead_nowhere_else() {
        let text = |text: &str| PathPiece::Text(text.into());
        let edit = |pattern: &str, to| PathEdit::Regex { pattern: Regex::new(pattern).unwrap(), to };
        let swap = edit("^/(a+)/(b+)?", vec![text("/"), PathPiece::Group(2), text("/"), PathPiece::Group(1)]);
        assert_eq!(swap.apply("/aa/b/rest"), "/b/aa/rest");
        assert_eq!(swap.apply("/aa/rest"), "//aarest");
        assert_eq!(swap.apply("/none"), "/none");
        let join = edit(
            "^/files/([^/]*)-([^/]*)/",
            vec![text("/static/"), PathPiece::Group(1), PathPiece::Group(2), text("/")],
        );
        assert_eq!(join.apply("/files/.-./secret"), "/secret");
        let drop = edit("^/", vec![]);
        assert_eq!(drop.apply("/x"), "/x");
    }

    #[test]
    fn locations_keep_what_they_should_and_name_no_host_of_the_client() {
        use RedirectPiece::{Host, Path, Query, Text, Uri};
        let text = |text: &str| Text(text.into());
        let head = |path, query| Head {
            host: "a.test",
            path,
            query,
            method: &Method::GET,
            headers: Box::leak(Box::default()),
        };
        for (pieces, path, query, expected) in [
            (vec![text("https://"), Host, Uri], "/a%20b", Some("c=d"), "https://a.test/a%20b?c=d"),
            (vec![text("https://"), Host, Uri], "//b.test/", None, "https://a.test//b.test/"),
            (vec![text("https://"), Host, Uri], "*", None, "https://a.test/"),
            (vec![text("/new"), Path], "/x", Some("y"), "/new/x"),
            (vec![text("/new?"), Query], "/x", Some("y"), "/new?y"),
            (vec![text("/new?"), Query], "/x", None, "/new?"),
            (vec![Uri], "//b.test/", None, "/b.test/"),
            (vec![Path], "/\\/b.test/", None, "/b.test/"),
            (vec![Path], "/\\b.test/", None, "/b.test/"),
            (vec![Uri], "/gr\u{fc}n", Some("\u{e9}"), "/gr%C3%BCn?%C3%A9"),
        ] {
            let location = RedirectTo(pieces.clone()).of(&head(path, query), None).unwrap();
            assert_eq!(location, expected, "{pieces:?} for {path}");
        }
        let edit = PathEdit::Prefix { from: "/old".into(), to: "/new".into() };
        let location = RedirectTo(vec![Uri]).of(&head("/old/x", Some("y")), Some(&edit)).unwrap();
        assert_eq!(location, "/new/x?y");
    }
}
