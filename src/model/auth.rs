//! `auth` of a route.

use std::time::Duration;

use http::uri::PathAndQuery;
use http::{HeaderName, HeaderValue};

use super::PoolId;

/// `auth` of a route: a service that decides which requests may go on.
#[derive(Clone, Debug, PartialEq)]
pub struct ForwardAuth {
    /// Where it is.
    pub pool: PoolId,
    /// What it is asked for.
    pub target: PathAndQuery,
    /// The host that it is asked for; `None`: the one that the client asks for.
    pub host: Option<HeaderValue>,
    /// The headers of its answer that backends get, in place of those that the client sent.
    pub headers: Vec<HeaderName>,
    /// How long its whole answer may take.
    pub timeout: Duration,
}
