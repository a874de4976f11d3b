//! `GET /v1/explain?url=`: what the proxy does with a request.

use std::net::{IpAddr, SocketAddr};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{Override, RouteCondition, Verdict};

/// `GET /v1/explain?url=`
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct ExplainRequest {
    /// The URL.
    pub url: String,
    /// The method.
    pub method: String,
    /// The header fields, as `name: value`; Host is always there.
    pub headers: Vec<String>,
    /// The address that the proxy sees as the client.
    pub client: IpAddr,
    /// The epoch of the snapshot that decides.
    pub epoch: u64,
    /// Where the request arrives.
    pub listener: RequestListener,
    /// The routes before the one that matches, in the order of the config.
    pub skipped: Vec<SkippedRoute>,
    /// The route that matches; `None` if none does.
    pub route: Option<MatchedRoute>,
    /// What happens to the request.
    pub outcome: RequestOutcome,
}

/// The listener where a request arrives.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct RequestListener {
    /// Its name.
    pub name: String,
    /// http or tcp
    pub protocol: String,
    /// Where it listens, as the config says.
    pub addresses: Vec<SocketAddr>,
    /// What does not fit between the URL and the listener, or which other listeners would fit, too.
    pub note: Option<String>,
}

/// A route that the request does not take.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct SkippedRoute {
    /// Its number from 1, in the order of the config; a route with several hosts counts once for each.
    pub number: usize,
    /// Its first condition that does not hold.
    pub condition: RouteCondition,
    /// The same as a clause: "its host is a.example.com, not b.example.com".
    pub why: String,
}

/// The route that a request takes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct MatchedRoute {
    /// Its number, counted as for skipped ones.
    pub number: usize,
    /// Its conditions, or "any request".
    pub conditions: String,
    /// Who decides whether the request may go on, such as "auth: GET /verify"; `None` if nobody does.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub auth: Option<String>,
    /// What it changes.
    #[serde(default, skip_serializing_if = "RouteEdits::is_empty")]
    pub edits: RouteEdits,
}

/// What a route changes of a request and its response.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct RouteEdits {
    /// Path and query after `rewrite`; `None` if they stay.
    pub path: Option<String>,
    /// The host that backends are asked for; `None` if it stays.
    pub host: Option<String>,
    /// Changes of the headers that backends get, such as "set x-site: eu".
    pub request_headers: Vec<String>,
    /// Changes of the headers that clients get.
    pub response_headers: Vec<String>,
}

impl RouteEdits {
    /// Whether it changes nothing.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }
}

/// What happens to a request.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum RequestOutcome {
    /// It is forwarded to a pool.
    Forward {
        /// The pools that share the clients, if there are several.
        split: Vec<SplitPool>,
        /// The pool that this client's requests are forwarded to.
        pool: Box<RequestPool>,
    },
    /// The client is sent elsewhere.
    Redirect {
        /// 301, 302, 303, 307 or 308.
        status: u16,
        /// Where to.
        to: String,
    },
    /// The proxy answers.
    Respond {
        /// 200 to 599.
        status: u16,
        /// The body.
        body: String,
    },
    /// No route matches: 404, or for TCP a closed connection.
    Unrouted,
}

/// A pool of a split.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct SplitPool {
    /// Its name.
    pub pool: String,
    /// Its weight.
    pub weight: u32,
}

/// The pool that a request is forwarded to.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct RequestPool {
    /// Its name.
    pub name: String,
    /// How a backend is chosen.
    pub balance: String,
    /// Its backends, in the order of the config.
    pub backends: Vec<RequestBackend>,
    /// What a backend is chosen from; empty if none can be used.
    pub candidates: Vec<BackendAddress>,
    /// The backend that this client gets, where its address decides or there is only one candidate.
    pub chosen: Option<BackendAddress>,
    /// How one of the candidates is chosen, as a sentence.
    pub how: String,
    /// When another backend gets the request, too, as a sentence; absent if it goes to one at a time.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hedge: Option<String>,
    /// What the request's cookie says; absent if the pool is not sticky.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub sticky: Option<RequestSticky>,
}

/// The cookie that keeps a client with a backend of a pool.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct RequestSticky {
    /// Its name.
    pub cookie: String,
    /// Whether the request has a valid one.
    pub valid: bool,
    /// The backend that it names, if it is valid and the pool still has that backend.
    pub backend: Option<BackendAddress>,
    /// What that means, as a sentence.
    pub note: String,
}

/// A backend of the pool that a request is forwarded to.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct RequestBackend {
    /// `ADDRESS:PORT` or `HOST:PORT`.
    pub name: String,
    /// The best verdict of its addresses, whatever operators decided.
    pub verdict: Verdict,
    /// Its weight among the backends of the pool.
    pub weight: u32,
    /// Whether it serves only while no other backend does.
    pub backup: bool,
    /// Whether requests are sent to it.
    pub used: bool,
    /// Its override.
    #[serde(rename = "override")]
    pub overridden: Option<Override>,
    /// Why it is not used, or what is special about its use; may be empty.
    pub note: String,
}

/// An address of a backend.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct BackendAddress {
    /// The backend's name.
    pub backend: String,
    /// The address and port.
    pub address: SocketAddr,
}
