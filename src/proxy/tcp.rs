//! TCP connections of clients, relayed as they are.

use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::atomic::Ordering::Relaxed;

use http::{HeaderMap, Method};
use tokio::io::{AsyncRead, AsyncWrite};

use super::pools::{InFlight, WorkerPool};
use super::tls::AnyEnd;
use super::upstream::{Connected, Failure};
use super::worker::Client;
use super::{relay, upstream};
use crate::model::RouteAction;
use crate::pick::{Hash, client_key};
use crate::route::Head;

/// Connects the client to a backend and relays until both have ended.
pub(super) async fn serve<S: AsyncRead + AsyncWrite + Unpin>(client: &Client, stream: S) {
    let snapshot = client.context.snapshot();
    let Some(listener) = client.plan(&snapshot) else { return };
    let (method, headers) = (Method::GET, HeaderMap::new());
    let head = Head { host: "", path: "/", query: None, method: &method, headers: &headers };
    let Some(RouteAction::Forward(pools)) = listener.find(&head).map(|route| &route.action) else { return };
    let key = client_key(client.address.ip());
    let pool = client.context.pool(pools, key, &snapshot);
    drop(snapshot);
    pool.count_request();
    let Some((Connected { stream: backend, occupant }, in_flight)) = connect(&pool, key).await else {
        return;
    };
    let idle = pool.settings().timeout.idle;
    let relayed = relay::both_ways(stream, AnyEnd(backend), idle);
    tokio::select! {
        // Why it ended is of no interest to anyone but the two.
        _ = relayed => {}
        () = in_flight.overdue() => {}
    }
    drop((occupant, in_flight));
}

/// A connection to a backend, if any of those that the pool may try can be reached.
async fn connect(pool: &Rc<WorkerPool>, key: Hash) -> Option<(Connected, InFlight)> {
    let settings = pool.settings();
    let mut tried: Vec<SocketAddr> = Vec::new();
    while let Some(backend) = pool.pick(key, &tried) {
        let in_flight = InFlight::new(&backend);
        match upstream::connect(&backend, pool).await {
            Ok(connected) => return Some((connected, in_flight)),
            Err(Failure::Full) => break,
            Err(failure) => {
                tracing::debug!(backend = %backend.address, %failure, "cannot connect to a backend");
                backend.counters.failures.fetch_add(1, Relaxed);
            }
        }
        tried.push(backend.address);
        let may_go_on = settings.retry.on.connect && tried.len() < settings.retry.tries as usize;
        if !may_go_on {
            return None;
        }
        pool.count_retry();
    }
    pool.counters.unavailable.fetch_add(1, Relaxed);
    None
}
