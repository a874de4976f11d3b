//! `GET /portolan/ready`: whether the tier before this node should send clients here.

use std::collections::BTreeMap;

use http::header::{ALLOW, CACHE_CONTROL, CONTENT_TYPE};
use http::{HeaderValue, Method, Response, StatusCode};
use serde::Serialize;

use super::body::ResponseBody;
use super::reply;
use crate::model::PoolId;
use crate::proxy::Shared;
use crate::snapshot::Snapshot;

/// The path, on listeners that have `ready`.
pub(super) const PATH: &str = "/portolan/ready";

/// The body of the response.
#[derive(Serialize)]
struct Report<'a> {
    /// Whether the node does not stop and every pool that counts has an open backend.
    ready: bool,
    stopping: bool,
    connections: Connections,
    pools: BTreeMap<&'a str, Pool>,
}

#[derive(Serialize)]
struct Connections {
    clients: Saturation,
    backends: Saturation,
}

#[derive(Serialize)]
struct Saturation {
    open: usize,
    limit: usize,
    /// `open` as a share of `limit`, from 0 to 1.
    saturation: f64,
    /// Whether that is [`SATURATED`] or more.
    saturated: bool,
}

/// The share of a budget from which on it counts as used up: what is left goes fast.
const SATURATED: f64 = 0.9;

#[derive(Serialize)]
struct Pool {
    /// Whether it has an open backend.
    ready: bool,
    /// Whether the node is only ready if it is.
    counts: bool,
    /// Backends in the config.
    backends: usize,
    /// Addresses that requests are sent to.
    open: usize,
    /// Those of them that are known to work.
    serving: usize,
    /// Requests and connections that its backends work on.
    in_flight: u32,
}

/// 200 or 503, with a report as JSON. `needed` are the pools that count.
pub(super) fn answer(
    shared: &Shared,
    snapshot: &Snapshot,
    needed: &[PoolId],
    method: &Method,
) -> Response<ResponseBody> {
    if !matches!(*method, Method::GET | Method::HEAD) {
        let mut response = reply::text(StatusCode::METHOD_NOT_ALLOWED, "only GET and HEAD are allowed\n");
        response.headers_mut().insert(ALLOW, HeaderValue::from_static("GET, HEAD"));
        return response;
    }
    let report = Report::new(shared, snapshot, needed);
    let status = if report.ready { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    let body = serde_json::to_string(&report).expect("names and numbers have a JSON form");
    let mut response = reply::text(status, body + "\n");
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response
}

impl<'a> Report<'a> {
    fn new(shared: &Shared, snapshot: &'a Snapshot, needed: &[PoolId]) -> Self {
        let topology = &snapshot.plan.topology;
        let pool = |id: PoolId| {
            let (pool, standing) = (topology.pool(id), snapshot.standing.pool(id));
            let shown = Pool {
                ready: !standing.open.is_empty(),
                counts: needed.contains(&id),
                backends: pool.backends.len(),
                open: standing.open.len(),
                serving: standing.serving(),
                in_flight: shared.counters.in_flight(&pool.name),
            };
            (pool.name.as_str(), shown)
        };
        let pools: BTreeMap<&str, Pool> = topology.pool_ids().map(pool).collect();
        let stopping = shared.stopping.is_cancelled();
        let connections = &shared.connections;
        let connections = Connections {
            clients: Saturation::of(connections.clients.count(), connections.most_clients()),
            backends: Saturation::of(connections.backends.count(), connections.most_backends()),
        };
        let ready = !stopping && pools.values().all(|pool| pool.ready || !pool.counts);
        Self { ready, stopping, connections, pools }
    }
}

impl Saturation {
    fn of(open: usize, limit: usize) -> Self {
        let saturation = open as f64 / limit.max(1) as f64;
        Self { open, limit, saturation, saturated: saturation >= SATURATED }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nine_tenths_of_a_budget_saturate_it() {
        for (open, limit, saturated) in [(89, 100, false), (90, 100, true), (101, 100, true), (0, 0, false)] {
            assert_eq!(Saturation::of(open, limit).saturated, saturated, "{open} of {limit}");
        }
    }
}
