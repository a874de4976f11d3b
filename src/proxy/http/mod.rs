//! HTTP connections of clients.

mod activity;
mod attempts;
mod auth;
pub(super) mod body;
mod course;
mod exchange;
mod grpc;
mod headers;
mod hedge;
mod identity;
mod lane;
mod linger;
mod paced;
mod ready;
mod reply;
pub(super) mod request_body;
mod stream;
mod target;
#[cfg(test)]
mod tests;
mod websocket;

use std::convert::Infallible;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::time::Duration;

use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper::{Request, Response, StatusCode};
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::server::conn::auto;
use tokio::io::{AsyncRead, AsyncWrite};

use super::access::Record;
use super::begun::Begun;
use super::counters::ListenerCounters;
use super::pace::Pace;
use super::worker::Client;
use activity::{Activity, During, Ongoing};
use body::ResponseBody;
pub(super) use headers::shown;
pub(super) use identity::Ids;
use lane::Left;
pub(super) use lane::Plain;
use linger::Lingering;
use paced::Paced;

/// Time for the head of a request, and without a request, until a client's connection is closed.
const HEAD_WITHIN: Duration = Duration::from_secs(60);
/// Time that a client may take no byte of a response that is there for it.
const STALL: Duration = Duration::from_secs(60);
/// Time without a request until a connection is closed that is asked to end, by the node's stop or for being idle.
const CLOSE_WITHIN: Duration = Duration::from_secs(2);
/// Time between two pings on an HTTP/2 connection, and for the reply to one: a client that vanished is noticed although
/// its requests go on.
const PING: Duration = Duration::from_secs(30);
/// Bytes of the bodies of requests that may come over an HTTP/2 connection before backends take them: at a round trip of 50 ms
/// a client sends 160 Mbit/s.
const CONNECTION_WINDOW: u32 = 1024 * 1024;
/// The same for each stream: one whose backend takes nothing leaves half to the others.
const STREAM_WINDOW: u32 = 512 * 1024;
/// Bytes of responses that wait for the client, for each HTTP/2 stream, until no more is read of the backend: two frames, as
/// the kernel buffers more.
const LARGEST_SEND_BUFFER: usize = 32 * 1024;
/// Bytes of the head of a request.
const LARGEST_HEAD: usize = 64 * 1024;
/// Streams that a client may reset before the proxy has looked at them, until its HTTP/2 connection is closed: what a browser
/// has asked for when its user leaves the page at once.
const MOST_PENDING_RESETS: usize = 50;
/// Streams of an HTTP/2 connection that the proxy may have to reset for what the client does, until it closes the connection.
const MOST_FAULTY_STREAMS: usize = 128;

/// Runs what belongs to a connection on the thread that has the connection.
#[derive(Clone)]
struct Local(Rc<Activity>, Arc<ListenerCounters>);

impl<F: Future + 'static> hyper::rt::Executor<F> for Local
where
    F::Output: 'static,
{
    /// hyper runs each HTTP/2 stream as a task, which it hands over right after it has called the service. Dropping the task
    /// resets the stream: that is how one stream ends whose client takes nothing, while the others go on.
    fn execute(&self, task: F) {
        // In a box, since it is moved several times until it runs.
        let task = Box::pin(task);
        let Some(request) = self.0.take_begun() else {
            tokio::task::spawn_local(task);
            return;
        };
        let (activity, counters) = (Rc::clone(&self.0), Arc::clone(&self.1));
        tokio::task::spawn_local(async move {
            tokio::select! {
                _ = task => {}
                () = activity.stalled(request, STALL) => {
                    counters.slow_downloads.fetch_add(1, Relaxed);
                }
            }
        });
    }
}

/// Serves the requests of a connection until it ends, is idle for too long, or the node stops.
pub(super) async fn serve<S>(client: Rc<Client>, stream: S)
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    if let Some(Left { stream, unread, is_used }) = lane::serve(&client, stream).await {
        // A connection that has spoken HTTP/1.1 does not change to HTTP/2 (RFC 9113 §3.3).
        if is_used && unread.starts_with(b"PRI ") {
            return;
        }
        // In a box, so that connections in the lane take no more memory for it.
        Box::pin(serve_generally(client, Begun::with(stream, unread))).await;
    }
}

/// Serves whatever hyper understands.
async fn serve_generally<S>(client: Rc<Client>, stream: S)
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let limits = client.limits;
    let activity = Activity::new(limits);
    let mut builder = auto::Builder::new(Local(Rc::clone(&activity), Arc::clone(&client.counters)));
    builder.http1().timer(TokioTimer::new()).header_read_timeout(HEAD_WITHIN).max_buf_size(LARGEST_HEAD);
    builder
        .http2()
        .timer(TokioTimer::new())
        .keep_alive_interval(PING)
        .keep_alive_timeout(PING)
        .initial_connection_window_size(CONNECTION_WINDOW)
        .initial_stream_window_size(STREAM_WINDOW)
        .max_concurrent_streams(limits.streams)
        .max_pending_accept_reset_streams(MOST_PENDING_RESETS)
        .max_local_error_reset_streams(MOST_FAULTY_STREAMS)
        .max_send_buf_size(LARGEST_SEND_BUFFER)
        .max_header_list_size(LARGEST_HEAD as u32)
        .enable_connect_protocol();
    let stream = Paced::new(stream, Pace::of_download(&limits), Arc::clone(&client.counters));
    let is_upgraded = Arc::new(AtomicBool::new(false));
    let stream = Lingering::new(Box::pin(stream), Arc::clone(&is_upgraded));
    let closing = client.context.closing.clone();
    let requests = Rc::clone(&activity);
    let service = service_fn(move |request: Request<Incoming>| {
        let (client, busy, is_upgraded) = (Rc::clone(&client), requests.begin(), Arc::clone(&is_upgraded));
        async move {
            let ongoing = Rc::new(Ongoing::new(busy, Record::begin(&client, &request)));
            // In a box: hyper moves the future of an HTTP/2 request several times.
            let response = Box::pin(answer(&client, request, &ongoing)).await;
            if response.status() == StatusCode::SWITCHING_PROTOCOLS {
                is_upgraded.store(true, Relaxed);
            }
            ongoing.record.response(&response);
            Ok::<_, Infallible>(response.map(|body| During::new(body, ongoing)))
        }
    });
    let connection = builder.serve_connection_with_upgrades(TokioIo::new(stream), service);
    tokio::pin!(connection);
    tokio::select! {
        // What a client did wrong is its own affair, and hyper has answered it.
        _ = connection.as_mut() => return,
        // hyper limits the time for a head, but neither for the first byte of a connection nor for idle HTTP/2.
        () = activity.idle(HEAD_WITHIN) => {}
        () = closing.cancelled() => {}
    }
    connection.as_mut().graceful_shutdown();
    tokio::select! {
        _ = connection => {}
        () = activity.idle_from_now(CLOSE_WITHIN) => {}
    }
}

async fn answer(
    client: &Rc<Client>,
    request: Request<Incoming>,
    ongoing: &Rc<Ongoing>,
) -> Response<ResponseBody> {
    let is_call = grpc::is_call(&request);
    let response = exchange::answer(client, (request, is_call), ongoing).await;
    ongoing.record.responded(response.status());
    if is_call { grpc::ended(response) } else { response }
}
