//! HTTP connections of clients.

pub(super) mod body;
mod exchange;
mod headers;
mod reply;
mod target;

use std::convert::Infallible;
use std::rc::Rc;
use std::time::Duration;

use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper::{Request, Response};
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::server::conn::auto;
use tokio::net::TcpStream;

use super::worker::Client;
use body::ResponseBody;

/// Time for the head of a request, and without a request, until a client's connection is closed.
const HEAD_WITHIN: Duration = Duration::from_secs(60);
/// Bytes of the head of a request.
const LARGEST_HEAD: usize = 64 * 1024;
/// Streams that a client may have open on an HTTP/2 connection.
const MOST_STREAMS: u32 = 128;

/// Runs what belongs to a connection on the thread that has the connection.
#[derive(Clone, Copy, Debug)]
struct Local;

impl<F: Future + 'static> hyper::rt::Executor<F> for Local
where
    F::Output: 'static,
{
    fn execute(&self, task: F) {
        tokio::task::spawn_local(task);
    }
}

/// Serves the requests of a connection until it ends, or until the node stops.
pub(super) async fn serve(client: Rc<Client>, stream: TcpStream) {
    let mut builder = auto::Builder::new(Local);
    builder
        .http1()
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD_WITHIN)
        .max_buf_size(LARGEST_HEAD)
        .pipeline_flush(true);
    builder
        .http2()
        .timer(TokioTimer::new())
        .max_concurrent_streams(MOST_STREAMS)
        .max_header_list_size(LARGEST_HEAD as u32);
    let closing = client.context.closing.clone();
    let service = service_fn(move |request: Request<Incoming>| answer(Rc::clone(&client), request));
    let connection = builder.serve_connection_with_upgrades(TokioIo::new(stream), service);
    tokio::pin!(connection);
    tokio::select! {
        // What a client did wrong is its own affair, and hyper has answered it.
        _ = connection.as_mut() => return,
        () = closing.cancelled() => connection.as_mut().graceful_shutdown(),
    }
    connection.await.ok();
}

async fn answer(
    client: Rc<Client>,
    request: Request<Incoming>,
) -> Result<Response<ResponseBody>, Infallible> {
    let response = exchange::answer(&client, request).await;
    let class = usize::from(response.status().as_u16() / 100);
    if let Some(counter) = client.counters.responses.get(class) {
        counter.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
    }
    Ok(response)
}
