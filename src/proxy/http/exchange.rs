//! One request and its response.

use std::rc::Rc;
use std::sync::Arc;

use http::request::Parts;
use http::{Request, Response, StatusCode, Version};
use hyper::body::Incoming;
use hyper::upgrade::OnUpgrade;
use tokio::time::{Instant, sleep};

use super::attempts::Attempts;
use super::body::{Lease, RequestBody, ResponseBody, Upload};
use super::course::{Course, Forwarding, course};
use super::{auth, headers, reply};
use crate::model::RequestLimits;
use crate::pick::client_key;
use crate::proxy::access::Record;
use crate::proxy::pools::{Backend, WorkerPool};
use crate::proxy::queue::InFlight;
use crate::proxy::relay;
use crate::proxy::slots::Slot;
use crate::proxy::upstream::{Failure, Idle};
use crate::proxy::worker::{Client, Context};

/// The response to a request.
pub(super) async fn answer(
    client: &Rc<Client>,
    mut request: Request<Incoming>,
    record: &Record,
) -> Response<ResponseBody> {
    let snapshot = client.context.snapshot();
    let (mut response, route) = match course(client, &snapshot, &mut request, record) {
        Course::Reply(response, route) => (response, route),
        Course::Forward(Forwarding { pool, route, limits, question }) => {
            let allowed = match (&route.auth, question) {
                (Some(auth), Some(question)) => {
                    auth::ask(client, &snapshot, auth, question, &mut request).await
                }
                _ => Ok(()),
            };
            let response = match allowed {
                Ok(()) => {
                    let upgrade = headers::upgrade(&request).map(|_| hyper::upgrade::on(&mut request));
                    forward(client, (pool, limits), request, upgrade, record).await
                }
                Err(denied) => denied,
            };
            (response, Some(route))
        }
    };
    if let Some(route) = route {
        route.edits.response.apply(response.headers_mut());
    }
    response
}

/// Sends a request to a backend of the pool, and to others if that fails in a way that the pool retries.
async fn forward(
    client: &Client,
    (pool, limits): (Rc<WorkerPool>, &RequestLimits),
    request: Request<Incoming>,
    upgrade: Option<OnUpgrade>,
    record: &Record,
) -> Response<ResponseBody> {
    pool.count_request();
    let (mut parts, body) = request.into_parts();
    let mut body = RequestBody::of(body, pool.settings().timeout.read, limits, &parts.headers);
    headers::frame(&mut parts, &body);
    record.forward(&pool, &parts.headers, body.upload());
    // RFC 9110 §9.2.2.
    let is_repeatable = parts.method.is_idempotent() && body.is_empty() && upgrade.is_none();
    let mut attempts = Attempts::new(&pool, &mut parts.headers, is_repeatable, client.proved.is_some());
    let key = client_key(client.address.ip());
    loop {
        let in_flight = match attempts.claim(key, record).await {
            Ok(in_flight) => in_flight,
            Err(refusal) => return refusal.response(),
        };
        let backend = Rc::clone(&in_flight.backend);
        let spare = is_repeatable.then(|| parts.clone());
        let sent = Request::from_parts(parts, std::mem::replace(&mut body, RequestBody::empty()));
        let again = match send(&pool, in_flight, sent, spare.as_ref()).await {
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

/// Sends a request over an idle connection or a new one. `spare` is a copy of its head, if it may be sent again.
///
/// # Errors
/// The failure, and the request if the backend cannot have seen it.
pub(super) async fn send(
    pool: &Rc<WorkerPool>,
    in_flight: InFlight,
    request: Request<RequestBody>,
    spare: Option<&Parts>,
) -> Result<(Response<Incoming>, Lease), (Failure, Option<Request<RequestBody>>)> {
    let backend = &Rc::clone(&in_flight.backend);
    let mut attempt =
        Attempt { backend, begun: Instant::now(), upload: request.body().upload(), has_ended: false };
    let sent = try_send(pool, backend, request, spare).await;
    attempt.has_ended = true;
    if let Some(upload) = &attempt.upload {
        upload.answered();
    }
    let (response, connection) = sent?;
    backend.counters.took(attempt.begun.elapsed());
    Ok((response, Lease { connection, pool: Rc::clone(pool), in_flight }))
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
) -> Result<(Response<Incoming>, Idle), (Failure, Option<Request<RequestBody>>)> {
    let method = request.method().clone();
    let mut may_reuse = true;
    loop {
        let idle = if may_reuse { backend.take_idle() } else { None };
        let is_reused = idle.is_some();
        let mut connection = match idle {
            Some(connection) => connection,
            None => match backend.open(pool).await {
                Ok(connection) => connection,
                Err(failure) => return Err((failure, Some(request))),
            },
        };
        match exchange(&mut connection, request, pool).await {
            Ok(response) if headers::framing(&method, response.status(), response.headers()).is_none() => {
                return Err((Failure::unclear_framing(), None));
            }
            Ok(response) => return Ok((response, connection)),
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

async fn exchange(
    connection: &mut Idle,
    request: Request<RequestBody>,
    pool: &WorkerPool,
) -> Result<Response<Incoming>, (Failure, Option<Request<RequestBody>>)> {
    let within = pool.settings().timeout.read;
    let upload = request.body().upload();
    let answered = connection.try_send_request(request);
    let too_late = async {
        if let Some(upload) = &upload {
            upload.ended().await;
        }
        sleep(within).await;
    };
    tokio::select! {
        answered = answered => answered.map_err(|mut failed| {
            let unsent = failed.take_message();
            let error = failed.into_error();
            let failure = match upload.as_ref().and_then(|it| it.fault()) {
                Some(fault) => Failure::Client(fault),
                None if error.is_parse() => Failure::Malformed(error.into()),
                None => Failure::Reset(error.into()),
            };
            (failure, unsent)
        }),
        () = too_late => Err((Failure::Timeout(within), None)),
    }
}

/// What a client gets of a backend's response.
fn relay_response(
    client: &Client,
    mut response: Response<Incoming>,
    lease: Lease,
    upgrade: Option<OnUpgrade>,
) -> Response<ResponseBody> {
    let timeouts = lease.pool.settings().timeout;
    // A proxy speaks its own version (RFC 9110 §2.5).
    *response.version_mut() = Version::HTTP_11;
    if response.status() == StatusCode::SWITCHING_PROTOCOLS {
        let Some(upgrade) = upgrade else {
            return reply::text(
                StatusCode::BAD_GATEWAY,
                "the backend changed the protocol without being asked\n",
            );
        };
        let backend = hyper::upgrade::on(&mut response);
        let Context { shared, tasks, .. } = &*client.context;
        // The connections that hyper had are counted no longer.
        let counters = Arc::clone(&client.counters);
        let slot = Slot::enter(&lease.in_flight.backend);
        let occupants = (shared.connections.enter(), shared.upstream.enter(), client.admitted.clone(), slot);
        tasks.spawn_local(async move {
            relay::upgraded(upgrade, backend, timeouts.idle, lease.in_flight, &counters).await;
            drop(occupants);
        });
        return response.map(|_| ResponseBody::of(String::new()));
    }
    headers::remove_hop_by_hop(response.headers_mut());
    response.map(|incoming| ResponseBody::relayed(incoming, timeouts.read, lease))
}
