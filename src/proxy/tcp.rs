//! TCP connections of clients, relayed as they are.

use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::atomic::Ordering::Relaxed;

use http::{HeaderMap, Method};

use super::passive::Fault;
use super::pools::WorkerPool;
use super::queue::InFlight;
use super::relay::Relayed;
use super::tls::AnyEnd;
use super::upstream::{Connected, Failure};
use super::worker::Client;
use super::{relay, upstream};
use crate::model::{ProxyVersion, RouteAction};
use crate::net::proxy_header;
use crate::pick::{Hash, client_key};
use crate::route::Head;

/// Connects the client to a backend and relays until both have ended.
pub(super) async fn serve<S: Relayed>(client: &Client, stream: S) {
    let snapshot = client.context.snapshot();
    let Some(listener) = client.plan(&snapshot) else { return };
    let (method, headers) = (Method::GET, HeaderMap::new());
    let head = Head { host: "", path: "/", query: None, method: &method, headers: &headers };
    let Some(RouteAction::Forward(pools)) = listener.find(&head).map(|route| &route.action) else { return };
    let pool = client.context.pool(pools, client_key(client.address.ip()), &snapshot);
    drop(snapshot);
    relay_to(client, stream, &pool).await;
}

/// Connects the client to a backend of the pool and relays until both have ended.
pub(super) async fn relay_to<S: Relayed>(client: &Client, stream: S, pool: &Rc<WorkerPool>) {
    pool.count_request();
    let version = pool.settings().send_proxy;
    let header = version.and_then(|version| header(client, version)).unwrap_or_default();
    let key = client_key(client.address.ip());
    let Some((Connected { stream: backend, occupant }, in_flight)) = connect(pool, key, &header).await else {
        return;
    };
    let idle = pool.settings().timeout.idle;
    relay::both_ways(stream, AnyEnd(backend), idle, &in_flight, &client.counters).await;
    drop((occupant, in_flight));
}

/// The PROXY header for a connection to a backend.
fn header(client: &Client, version: ProxyVersion) -> Option<Vec<u8>> {
    let destination = client.destination?;
    Some(match version {
        ProxyVersion::V1 => proxy_header::line(client.address, destination),
        ProxyVersion::V2 => proxy_header::binary(client.address, destination),
    })
}

/// A connection to a backend that has been sent `header`, if any of those that the pool may try can be reached.
async fn connect(pool: &Rc<WorkerPool>, key: Hash, header: &[u8]) -> Option<(Connected, InFlight)> {
    let settings = pool.settings();
    let mut tried: Vec<SocketAddr> = Vec::new();
    while let Ok(in_flight) = pool.claim(key, &tried).await {
        let backend = &in_flight.backend;
        match upstream::connect(backend, pool, header).await {
            Ok(connected) => {
                pool.succeeded(backend);
                return Some((connected, in_flight));
            }
            Err(Failure::Full) => {
                pool.counters.unavailable.fetch_add(1, Relaxed);
                return None;
            }
            Err(failure) => {
                tracing::debug!(backend = %backend.address, %failure, "cannot connect to a backend");
                backend.counters.failures.fetch_add(1, Relaxed);
                pool.failed(backend, Fault::Connect, &failure);
            }
        }
        tried.push(backend.address);
        let may_go_on = settings.retry.on.connect && tried.len() < settings.retry.tries as usize;
        if !may_go_on {
            return None;
        }
        pool.count_retry();
    }
    None
}
