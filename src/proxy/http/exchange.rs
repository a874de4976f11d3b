//! One request and its response.

use std::rc::Rc;
use std::sync::Arc;

use http::header::CONNECTION;
use http::request::Parts;
use http::{HeaderValue, Request, Response, StatusCode, Version};
use hyper::body::Incoming;
use hyper::client::conn::TrySendError;
use hyper::upgrade::OnUpgrade;
use tokio::time::{Instant, sleep};

use super::activity::Ongoing;
use super::attempts::Attempts;
use super::body::{Connection, Lease, Received, ResponseBody};
use super::course::{Course, Forwarding, course};
use super::lane::MOST_HEADERS;
use super::request_body::{RequestBody, Upload};
use super::{auth, headers, hedge, lane, reply, stream, websocket};
use crate::model::{Http, RequestLimits, Timeouts};
use crate::pick::client_key;
use crate::proxy::access::Record;
use crate::proxy::pools::{Backend, WorkerPool};
use crate::proxy::queue::InFlight;
use crate::proxy::relay;
use crate::proxy::slots::Slot;
use crate::proxy::streams::Processed;
use crate::proxy::upstream::Failure;
use crate::proxy::worker::{Client, Context};

/// The response to a request, which may be a call of gRPC.
pub(super) async fn answer(
    client: &Rc<Client>,
    (mut request, is_call): (Request<Incoming>, bool),
    ongoing: &Rc<Ongoing>,
) -> Response<ResponseBody> {
    let record = &ongoing.record;
    if request.headers().len() > MOST_HEADERS {
        return reply::text(
            StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE,
            "the request has too many headers\n",
        );
    }
    let snapshot = client.context.snapshot();
    let is_tunnel = websocket::is_tunnel(&request);
    if is_tunnel {
        websocket::as_upgrade(&mut request);
    }
    let (mut response, route) = match course(client, &snapshot, &mut request, record) {
        Course::Reply(response, route) => (response, route),
        Course::Forward(Forwarding { pool, route, limits, question }) => {
            let allowed = match (&route.auth, question) {
                (Some(auth), Some(question)) => {
                    // In a box, since few routes ask.
                    Box::pin(auth::ask(client, &snapshot, auth, question, &mut request)).await
                }
                _ => Ok(()),
            };
            let response = match allowed {
                Ok(()) => {
                    let upgrade = headers::upgrade(&request).map(|_| Upgrade {
                        client: hyper::upgrade::on(&mut request),
                        is_tunnel,
                        key: None,
                        ongoing: Rc::clone(ongoing),
                    });
                    forward(client, (pool, limits), (request, is_call), upgrade, record).await
                }
                Err(denied) => denied,
            };
            (response, Some(route))
        }
    };
    if is_tunnel {
        response = websocket::tunnelled(response);
    }
    if let Some(route) = route {
        route.edits.response.apply(response.headers_mut());
    }
    response
}

/// The client's side of an upgrade.
struct Upgrade {
    client: OnUpgrade,
    /// Whether it is a stream of HTTP/2, not a connection.
    is_tunnel: bool,
    /// The key of a WebSocket that an HTTP/2 backend is asked for.
    key: Option<HeaderValue>,
    ongoing: Rc<Ongoing>,
}

/// Sends a request to a backend of the pool, and to others if that fails in a way that the pool retries.
async fn forward(
    client: &Client,
    (pool, limits): (Rc<WorkerPool>, &RequestLimits),
    (request, is_call): (Request<Incoming>, bool),
    mut upgrade: Option<Upgrade>,
    record: &Record,
) -> Response<ResponseBody> {
    pool.count_request();
    let (mut parts, body) = request.into_parts();
    let mut body = RequestBody::of(body, pool.settings().timeout.read, limits, is_call);
    headers::frame(&mut parts, &body);
    record.forward(&pool, &parts.headers, body.upload());
    // RFC 9110 §9.2.2.
    let is_repeatable = parts.method.is_idempotent() && body.is_empty() && upgrade.is_none();
    let mut attempts = Attempts::new(&pool, &mut parts.headers, is_repeatable, client.proved.is_some());
    if pool.settings().http == Http::H2 {
        if let Some(upgrade) = &mut upgrade {
            upgrade.key = websocket::as_connect(&mut parts);
        }
        headers::for_http2(&mut parts, pool.is_encrypted());
        body.keep();
    }
    let key = client_key(client.address.ip());
    loop {
        let in_flight = match attempts.claim(key, record).await {
            Ok(in_flight) => in_flight,
            Err(refusal) => return refusal.response(),
        };
        let spare = is_repeatable.then(|| parts.clone());
        let sent = Request::from_parts(parts, std::mem::replace(&mut body, RequestBody::empty()));
        let ended = hedge::send(&mut attempts, in_flight, sent, spare.as_ref(), (key, record)).await;
        let backend = ended.backend;
        let again = match ended.sent {
            Ok((mut response, lease)) => {
                if !attempts.answered(&backend, &mut response) {
                    return relay_response(client, response, lease, upgrade);
                }
                spare
            }
            Err((failure, unsent)) => {
                let again = match unsent {
                    Some(unsent) => {
                        let (parts, unsent_body) = unsent.into_parts();
                        body = unsent_body;
                        Some(parts)
                    }
                    None => spare,
                };
                if !attempts.failed(&backend, &failure, again.is_some(), record) {
                    return failure.response(&client.counters);
                }
                again
            }
        };
        let Some(again) = again else {
            return reply::text(StatusCode::BAD_GATEWAY, "the request cannot be sent again\n");
        };
        parts = again;
    }
}

/// Why there is no response, and the request if no backend has seen it.
pub(super) type Failed = (Failure, Option<Request<RequestBody>>);
/// What came of an attempt.
pub(super) type Sent = Result<(Response<Received>, Lease), Failed>;

/// Sends a request over an idle connection or a new one. `spare` is a copy of its head, if it may be sent again.
///
/// # Errors
/// The failure, and the request if the backend cannot have seen it.
pub(super) async fn send(
    pool: &Rc<WorkerPool>,
    in_flight: InFlight,
    request: Request<RequestBody>,
    spare: Option<&Parts>,
) -> Sent {
    let backend = &Rc::clone(&in_flight.backend);
    let upload = request.body().upload();
    let mut attempt = Attempt { backend, begun: Instant::now(), upload: upload.clone(), has_ended: false };
    // Else it asks for an upgrade, or for trailers.
    let is_plain = upload.is_none() && !request.headers().contains_key(CONNECTION);
    let sent = match pool.settings().http {
        Http::H1 if is_plain => {
            let sent = lane::client::send(pool, backend, request, spare.is_some()).await;
            sent.map(|response| (response.map(Received::Plain), Connection::Plain))
        }
        // In a box, since few requests have a body.
        Http::H1 => Box::pin(try_send(pool, backend, request, spare)).await.map(received),
        Http::H2 => stream::try_send(pool, backend, request, spare.is_some()).await.map(received),
    };
    attempt.has_ended = true;
    let (response, connection) = sent?;
    if let Some(upload) = &attempt.upload {
        upload.answered();
    }
    backend.counters.took(attempt.begun.elapsed());
    Ok((response, Lease { connection, upload, pool: Rc::clone(pool), in_flight }))
}

fn received((response, connection): (Response<Incoming>, Connection)) -> (Response<Received>, Connection) {
    (response.map(Received::Hyper), connection)
}

/// An attempt in progress. If it is dropped, its client did not wait.
struct Attempt<'a> {
    backend: &'a Backend,
    begun: Instant,
    upload: Option<Rc<Upload>>,
    has_ended: bool,
}

impl Drop for Attempt<'_> {
    fn drop(&mut self) {
        // While the request was not complete, the backend did not keep the client waiting.
        let is_complete = self.upload.as_ref().is_none_or(|upload| upload.is_complete());
        if !self.has_ended && is_complete {
            // It must not look fast because nobody waits for it.
            self.backend.counters.gave_up(self.begun.elapsed());
        }
    }
}

async fn try_send(
    pool: &Rc<WorkerPool>,
    backend: &Rc<Backend>,
    mut request: Request<RequestBody>,
    spare: Option<&Parts>,
) -> Result<(Response<Incoming>, Connection), Failed> {
    let method = request.method().clone();
    let mut may_reuse = true;
    loop {
        let idle = if may_reuse { backend.take_idle() } else { None };
        let is_reused = idle.is_some();
        let mut connection = match idle {
            Some(connection) => connection,
            None => match Box::pin(backend.open(pool)).await {
                Ok(connection) => connection,
                Err(failure) => return Err((failure, Some(request))),
            },
        };
        let upload = request.body().upload();
        match exchange(connection.try_send_request(request), upload, pool).await {
            Ok(response) if headers::framing(&method, response.status(), response.headers()).is_none() => {
                return Err((Failure::unclear_framing(), None));
            }
            Ok(response) => return Ok((response, Connection::Whole(connection))),
            // The backend closed the idle connection while the request was on its way.
            Err((Failure::Reset(error), unsent)) if is_reused => {
                let again = || spare.map(|parts| Request::from_parts(parts.clone(), RequestBody::empty()));
                // What it may have seen once goes over a new connection, so that it sees it twice at most.
                may_reuse = unsent.is_some();
                request = unsent.or_else(again).ok_or((Failure::Reset(error), None))?;
            }
            Err(failed) => return Err(failed),
        }
    }
}

/// Waits for the response to a request that is being sent.
pub(super) async fn exchange(
    answered: impl Future<Output = Result<Response<Incoming>, TrySendError<Request<RequestBody>>>>,
    upload: Option<Rc<Upload>>,
    pool: &WorkerPool,
) -> Result<Response<Incoming>, Failed> {
    let Timeouts { read, write, .. } = pool.settings().timeout;
    let too_late = async {
        if let Some(upload) = &upload {
            tokio::select! {
                () = upload.ended() => {}
                // The backend opens no window for more of it.
                () = upload.stuck(write) => return write,
            }
        }
        sleep(read).await;
        read
    };
    tokio::select! {
        answered = answered => answered.map_err(|mut failed| {
            let unsent = failed.take_message();
            let error = failed.into_error();
            let failure = match upload.as_ref().and_then(|it| it.fault()) {
                Some(fault) => Failure::Client(fault),
                None if error.is_parse() => Failure::Malformed(error.into()),
                None => match Processed::of(&error) {
                    Processed::Refused | Processed::GoneAway => Failure::Refused(error.into()),
                    Processed::Malformed => Failure::Malformed(error.into()),
                    Processed::Reset | Processed::Maybe => Failure::Reset(error.into()),
                },
            };
            (failure, unsent)
        }),
        within = too_late => Err((Failure::Timeout(within), None)),
    }
}

/// What a client gets of a backend's response.
fn relay_response(
    client: &Client,
    mut response: Response<Received>,
    lease: Lease,
    upgrade: Option<Upgrade>,
) -> Response<ResponseBody> {
    let timeouts = lease.pool.settings().timeout;
    // A proxy speaks its own version (RFC 9110 §2.5).
    *response.version_mut() = Version::HTTP_11;
    if response.status() == StatusCode::OK
        && let Some(Upgrade { key: Some(key), .. }) = &upgrade
    {
        websocket::switched(&mut response, key);
    }
    if response.status() == StatusCode::SWITCHING_PROTOCOLS {
        let Some(upgrade) = upgrade else {
            return reply::text(
                StatusCode::BAD_GATEWAY,
                "the backend changed the protocol without being asked\n",
            );
        };
        let backend = hyper::upgrade::on(&mut response);
        let Context { shared, tasks, .. } = &*client.context;
        // The connections that hyper had are counted no longer. Streams belong to connections that are.
        let occupants = (
            (!upgrade.is_tunnel).then(|| (shared.connections.clients.enter(), client.admitted.clone())),
            upgrade
                .key
                .is_none()
                .then(|| (shared.connections.backends.enter(), Slot::enter(&lease.in_flight.backend))),
        );
        let counters = Arc::clone(&client.counters);
        let Upgrade { client, ongoing, .. } = upgrade;
        tasks.spawn_local(async move {
            let Lease { connection, in_flight, .. } = lease;
            let relayed = relay::upgraded(client, backend, timeouts.idle, &in_flight, &counters).await;
            ongoing.record.upgraded(relayed);
            drop((connection, in_flight, occupants));
        });
        return response.map(|_| ResponseBody::of(String::new()));
    }
    headers::remove_hop_by_hop(response.headers_mut());
    response.map(|body| ResponseBody::relayed(body, timeouts.read, lease))
}
