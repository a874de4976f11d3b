//! Why a request does not take a route, for people.

use std::borrow::Cow;
use std::fmt;

use http::{HeaderName, Method};

use super::Head;
use super::conditions::{Unmet, cookies_of, parameters_of, values_of};
use crate::model::{HostPattern, PathPattern, ValuePattern, When};

/// A route that a request does not take.
#[derive(Clone, Debug)]
pub struct Skipped<'a> {
    /// Its index among the routes of the listener.
    pub route: usize,
    /// Its first condition that does not hold.
    pub why: WhyNot<'a>,
}

/// A condition that does not hold: what was expected, and what was found. Shown as a clause with the condition as its
/// subject: "its host is api.example.com, not www.example.com".
#[derive(Clone, Debug)]
pub enum WhyNot<'a> {
    /// The host is another.
    Host {
        /// What the route is for.
        expected: &'a HostPattern,
        /// As the request names it.
        found: &'a str,
    },
    /// The path is another.
    Path {
        /// What the route is for, normalized.
        expected: &'a PathPattern,
        /// As it was sent.
        found: &'a str,
    },
    /// The method is another.
    Method {
        /// What the route is for; at least one.
        expected: &'a [Method],
        /// The request's.
        found: &'a Method,
    },
    /// A header is missing or has another value.
    Header {
        /// Its name.
        name: &'a HeaderName,
        /// What the route is for.
        expected: &'a ValuePattern,
        /// The first of its values; `None` if the request does not have the header.
        found: Option<Cow<'a, str>>,
    },
    /// A cookie is missing or has another value.
    Cookie {
        /// Its name.
        name: &'a str,
        /// What the route is for.
        expected: &'a ValuePattern,
        /// The first of its values; `None` if the request does not have the cookie.
        found: Option<Cow<'a, str>>,
    },
    /// A parameter of the query is missing or has another value.
    Query {
        /// Its name.
        name: &'a str,
        /// What the route is for.
        expected: &'a ValuePattern,
        /// The first of its values, decoded; `None` if the query does not have the parameter.
        found: Option<Cow<'a, str>>,
    },
}

impl<'a> WhyNot<'a> {
    pub(super) fn new(unmet: Unmet, when: &'a When, head: &Head<'a>) -> Self {
        const PRESENT: &str = "only a condition of the route can be unmet";
        match unmet {
            Unmet::Host => Self::Host { expected: when.host.as_ref().expect(PRESENT), found: head.host },
            Unmet::Path => Self::Path { expected: when.path.as_ref().expect(PRESENT), found: head.path },
            Unmet::Method => Self::Method { expected: &when.methods, found: head.method },
            Unmet::Header(index) => {
                let (name, expected) = &when.headers[index];
                Self::Header { name, expected, found: values_of(head.headers, name).next() }
            }
            Unmet::Cookie(index) => {
                let (name, expected) = &when.cookies[index];
                Self::Cookie { name, expected, found: cookies_of(head.headers, name).next() }
            }
            Unmet::Query(index) => {
                let (name, expected) = &when.query[index];
                Self::Query { name, expected, found: parameters_of(head.query, name).next() }
            }
        }
    }
}

impl fmt::Display for WhyNot<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Host { expected: HostPattern::Exact(host), found } => {
                write!(f, "its host is {host}, not {}", named(found))
            }
            Self::Host { expected: HostPattern::Below(suffix), found } => {
                write!(f, "its host is *{suffix}, not {}", named(found))
            }
            Self::Path { expected: PathPattern::Prefix(prefix), found } => {
                write!(f, "its path begins with {prefix}, not {}", named(found))
            }
            Self::Path { expected: PathPattern::Exact(path), found } => {
                write!(f, "its path is {path}, not {}", named(found))
            }
            Self::Path { expected: PathPattern::Regex(regex), found } => {
                write!(f, "its path matches {regex}, which {} does not", named(found))
            }
            Self::Method { expected, found } => {
                let methods: Vec<&str> = expected.iter().map(Method::as_str).collect();
                write!(f, "its method is {}, not {found}", methods.join(" or "))
            }
            Self::Header { name, expected, found } => value(f, "header", name.as_str(), expected, found),
            Self::Cookie { name, expected, found } => value(f, "cookie", name, expected, found),
            Self::Query { name, expected, found } => value(f, "query parameter", name, expected, found),
        }
    }
}

fn value(
    f: &mut fmt::Formatter<'_>,
    kind: &str,
    name: &str,
    expected: &ValuePattern,
    found: &Option<Cow<'_, str>>,
) -> fmt::Result {
    write!(f, "{kind} {name} ")?;
    match (expected, found) {
        (ValuePattern::Present, _) => write!(f, "is present, but the request has none"),
        (ValuePattern::Exact(exact), None) => {
            write!(f, "is {}, but the request has none", named(exact))
        }
        (ValuePattern::Exact(exact), Some(found)) => write!(f, "is {}, not {}", named(exact), named(found)),
        (ValuePattern::Regex(regex), None) => write!(f, "matches {regex}, but the request has none"),
        (ValuePattern::Regex(regex), Some(found)) => {
            write!(f, "matches {regex}, which {} does not", named(found))
        }
    }
}

/// What a request sent, safe to show on a terminal: control characters are escaped, and nothing is quoted.
fn named(text: &str) -> String {
    if text.is_empty() {
        return "empty".into();
    }
    text.chars().flat_map(|c| if c.is_control() { c.escape_default().collect() } else { vec![c] }).collect()
}
