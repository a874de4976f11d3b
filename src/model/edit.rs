//! What a route changes of requests and responses.

use http::{HeaderName, HeaderValue};
use regex::Regex;

/// The changes of a route. Most routes make none.
#[derive(Clone, Debug, Default)]
pub struct Edits {
    /// Of the path that a backend gets.
    pub path: Option<PathEdit>,
    /// The host that a backend is asked for, instead of the client's.
    pub host: Option<HeaderValue>,
    /// Of the headers that a backend gets.
    pub request: HeaderEdits,
    /// Of the headers that a client gets, whether a backend or the proxy responds.
    pub response: HeaderEdits,
}

/// How a path is rewritten.
#[derive(Clone, Debug)]
pub enum PathEdit {
    /// The first segments are replaced.
    Prefix {
        /// The path of the route's condition.
        from: String,
        /// What takes its place.
        to: String,
    },
    /// The first match of a pattern is replaced.
    Regex {
        /// The pattern.
        pattern: Regex,
        /// What takes its place.
        to: Vec<PathPiece>,
    },
}

/// A piece of what replaces a match.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PathPiece {
    /// This text.
    Text(String),
    /// What a group of the pattern matched; nothing if it did not take part in the match.
    Group(usize),
}

/// Changes of headers, in this order.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct HeaderEdits {
    /// Removed.
    pub remove: Vec<HeaderName>,
    /// Set, in place of all values that there are.
    pub set: Vec<(HeaderName, HeaderValue)>,
    /// Added to the values that there are.
    pub add: Vec<(HeaderName, HeaderValue)>,
}

/// Where a redirect leads: pieces of a URL or of a path.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RedirectTo(pub Vec<RedirectPiece>);

/// A piece of a location.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RedirectPiece {
    /// This text.
    Text(String),
    /// `{host}`: the host of the request, without its port.
    Host,
    /// `{path}`: its path, rewritten if the route does so.
    Path,
    /// `{query}`: what follows the `?`.
    Query,
    /// `{uri}`: path and query.
    Uri,
}
