//! A backend of a region: a small HTTP server that breaks on command.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::time::Duration;

use http_body_util::Full;
use hyper::body::{Bytes, Incoming};
use hyper::header::{CONTENT_TYPE, HeaderValue};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio::task::JoinSet;

use super::switch::{Break, Target};

/// How late a slow backend answers: later than the `slow` of both tiers' probes, earlier than their timeouts.
const SLOWNESS: Duration = Duration::from_millis(400);

/// How long a backend waits after it could not accept a connection, as when the process has too many files open.
const ACCEPT_PAUSE: Duration = Duration::from_millis(10);

/// The path of the readiness document, which the probes of both tiers check.
const READY: &str = "/health/ready";

/// Serves until the task is aborted. While the switch says so, the port is closed and every connection cut, as when a
/// process is killed.
pub(super) async fn run(
    target: Target,
    address: SocketAddr,
    listener: TcpListener,
    mut switch: watch::Receiver<Option<Break>>,
) {
    let mut listener = Some(listener);
    loop {
        if *switch.borrow_and_update() == Some(Break::Refuse) {
            listener = None;
        } else if listener.is_none() {
            match TcpListener::bind(address).await {
                Ok(bound) => listener = Some(bound),
                Err(e) => tracing::error!("{target} cannot listen at {address} again: {e}"),
            }
        }
        let Some(open) = &listener else {
            if switch.changed().await.is_err() {
                return;
            }
            continue;
        };
        let mut closing = switch.clone();
        tokio::select! {
            () = accept(target, open, &switch) => return,
            _ = closing.wait_for(|how| *how == Some(Break::Refuse)) => {}
        }
    }
}

/// Serves connections. They end with this future.
async fn accept(target: Target, listener: &TcpListener, switch: &watch::Receiver<Option<Break>>) {
    let mut connections = JoinSet::new();
    loop {
        tokio::select! {
            accepted = listener.accept() => {
                let Ok((stream, _)) = accepted else {
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                    continue;
                };
                let switch = switch.clone();
                connections.spawn(async move {
                    let service = service_fn(move |request| {
                        let how = *switch.borrow();
                        answer(target, how, request)
                    });
                    // The client may leave at any time.
                    http1::Builder::new().serve_connection(TokioIo::new(stream), service).await.ok();
                });
            }
            Some(_) = connections.join_next() => {}
        }
    }
}

async fn answer(
    target: Target,
    how: Option<Break>,
    request: Request<Incoming>,
) -> Result<Response<Full<Bytes>>, Infallible> {
    match how {
        Some(Break::Hang) => std::future::pending::<()>().await,
        Some(Break::Slow) => tokio::time::sleep(SLOWNESS).await,
        _ => {}
    }
    if how == Some(Break::Unavailable) {
        let mut response = text(format!("{target} is unavailable\n"));
        *response.status_mut() = StatusCode::SERVICE_UNAVAILABLE;
        return Ok(response);
    }
    if request.uri().path() != READY {
        return Ok(text(format!("hello from {target}\n")));
    }
    let mut response = text(document(target, how).to_string());
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    Ok(response)
}

fn text(body: String) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::from(body));
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("text/plain"));
    response
}

/// The readiness document.
fn document(target: Target, how: Option<Break>) -> serde_json::Value {
    let database = if how == Some(Break::Document) { "unhealthy" } else { "healthy" };
    serde_json::json!({
        "region": target.region,
        "backend": target.backend,
        "checks": {
            "database": { "status": database },
            "cache": { "status": "healthy" },
            "memory": { "status": "healthy" },
        },
    })
}
