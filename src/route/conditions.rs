//! Whether the conditions of a route hold.

use std::borrow::Cow;

use http::header::COOKIE;
use http::{HeaderMap, HeaderName};

use super::{Head, path};
use crate::model::{PathPattern, ValuePattern, When};

/// A request, prepared for many comparisons.
pub(super) struct Request<'a> {
    head: &'a Head<'a>,
    path: Cow<'a, str>,
}

impl<'a> Request<'a> {
    pub(super) fn new(head: &'a Head<'a>) -> Self {
        Self { head, path: path::normalize(head.path) }
    }
}

/// A condition that does not hold; the indices are those in [`When`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Unmet {
    Host,
    Path,
    Method,
    Header(usize),
    Cookie(usize),
    Query(usize),
}

/// The first condition that does not hold. The host is not checked: it has led to the route.
pub(super) fn first_unmet(when: &When, request: &Request<'_>) -> Option<Unmet> {
    let head = request.head;
    if when.path.as_ref().is_some_and(|pattern| !path_matches(pattern, &request.path)) {
        return Some(Unmet::Path);
    }
    if !when.methods.is_empty() && !when.methods.contains(head.method) {
        return Some(Unmet::Method);
    }
    let header = |(name, pattern): &(HeaderName, _)| {
        values_of(head.headers, name).any(|value| value_matches(pattern, &value))
    };
    if let Some(index) = when.headers.iter().position(|condition| !header(condition)) {
        return Some(Unmet::Header(index));
    }
    let cookie = |(name, pattern): &(String, _)| {
        cookies_of(head.headers, name).any(|value| value_matches(pattern, &value))
    };
    if let Some(index) = when.cookies.iter().position(|condition| !cookie(condition)) {
        return Some(Unmet::Cookie(index));
    }
    let parameter = |(name, pattern): &(String, _)| {
        parameters_of(head.query, name).any(|value| value_matches(pattern, &value))
    };
    when.query.iter().position(|condition| !parameter(condition)).map(Unmet::Query)
}

fn path_matches(pattern: &PathPattern, path: &str) -> bool {
    match pattern {
        PathPattern::Prefix(prefix) => path
            .strip_prefix(prefix.as_str())
            .is_some_and(|rest| rest.is_empty() || rest.starts_with('/') || prefix.ends_with('/')),
        PathPattern::Exact(exact) => path == exact,
        PathPattern::Regex(regex) => regex.is_match(path),
    }
}

fn value_matches(pattern: &ValuePattern, value: &str) -> bool {
    match pattern {
        ValuePattern::Present => true,
        ValuePattern::Exact(exact) => value == exact,
        ValuePattern::Regex(regex) => regex.is_match(value),
    }
}

/// The values of all header fields of a name. Bytes that are not UTF-8 are replaced, so that they cannot keep a pattern from
/// matching the rest.
pub(super) fn values_of<'a>(headers: &'a HeaderMap, name: &HeaderName) -> impl Iterator<Item = Cow<'a, str>> {
    headers.get_all(name).into_iter().map(|value| String::from_utf8_lossy(value.as_bytes()))
}

/// The values of all cookies of a name, in all Cookie headers (HTTP/2 allows several, RFC 9113 §8.2.3). Quotes are part of a
/// value (RFC 6265 §5.2).
pub(super) fn cookies_of<'a>(headers: &'a HeaderMap, name: &str) -> impl Iterator<Item = Cow<'a, str>> {
    let pairs = headers.get_all(COOKIE).into_iter().flat_map(|line| line.as_bytes().split(|b| *b == b';'));
    pairs.filter_map(move |pair| {
        let equals = pair.iter().position(|byte| *byte == b'=')?;
        let (key, value) = (pair[..equals].trim_ascii(), pair[equals + 1..].trim_ascii());
        (key == name.as_bytes()).then(|| String::from_utf8_lossy(value))
    })
}

/// The values of all parameters of a name in a query, which is `application/x-www-form-urlencoded`.
pub(super) fn parameters_of<'a>(query: Option<&'a str>, name: &str) -> impl Iterator<Item = Cow<'a, str>> {
    let pairs = form_urlencoded::parse(query.unwrap_or_default().as_bytes());
    pairs.filter_map(move |(key, value)| (key == name).then_some(value))
}
