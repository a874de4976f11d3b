//! One request and its response.

use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::atomic::Ordering::Relaxed;

use http::request::Parts;
use http::{Request, Response, StatusCode, Version};
use hyper::body::Incoming;
use hyper::upgrade::OnUpgrade;
use tokio::time::{Instant, sleep};

use super::body::{ClientFault, Lease, RequestBody, ResponseBody, Upload};
use super::headers::{self, Sender};
use super::{ready, reply, target};
use crate::model::{Retry, RouteAction};
use crate::pick::{Hash, client_key};
use crate::proxy::access::{End, Record};
use crate::proxy::passive::Fault;
use crate::proxy::pools::{Backend, WorkerPool};
use crate::proxy::queue::{InFlight, Refusal};
use crate::proxy::relay;
use crate::proxy::sticky::Session;
use crate::proxy::upstream::{Failure, Idle};
use crate::proxy::worker::{Client, Context};
use crate::route::Head;

/// The response to a request.
pub(super) async fn answer(
    client: &Rc<Client>,
    mut request: Request<Incoming>,
    record: &Record,
) -> Response<ResponseBody> {
    let authority = match target::authority(&request) {
        Ok(authority) => authority,
        Err((status, why)) => return reply::text(status, why),
    };
    let snapshot = client.context.snapshot();
    let Some(listener) = client.plan(&snapshot) else {
        return reply::text(StatusCode::MISDIRECTED_REQUEST, "this listener is no longer configured\n");
    };
    if let Some(needed) = &listener.ready
        && request.uri().path() == ready::PATH
    {
        return ready::answer(&client.context.shared, &snapshot, needed, request.method());
    }
    let trusted = &snapshot.plan.proxy.trusted;
    if let Err(wait) = client.admit_request(&listener.client, request.headers(), trusted) {
        return reply::too_many(wait);
    }
    let head = Head {
        host: authority.host(),
        path: request.uri().path(),
        query: request.uri().query(),
        method: request.method(),
        headers: request.headers(),
    };
    let Some((number, route)) = listener.find_numbered(&head) else {
        client.counters.unrouted.fetch_add(1, Relaxed);
        return reply::text(StatusCode::NOT_FOUND, "no route matches this request\n");
    };
    record.route(number);
    let mut response = match &route.action {
        RouteAction::Redirect { status, to } => match to.of(&head, route.edits.path.as_ref()) {
            Some(to) => reply::redirect(*status, to),
            None => reply::text(StatusCode::BAD_REQUEST, "this URL cannot be redirected\n"),
        },
        RouteAction::Respond { status, body } => reply::text(*status, body.clone()),
        RouteAction::Forward(pools) => {
            let key = client_key(client.address.ip());
            let pool = client.context.pool(pools, key, &snapshot);
            let is_trusted = client.is_trusted(trusted);
            let upgrade = headers::upgrade(&request).map(|_| hyper::upgrade::on(&mut request));
            let sender = Sender {
                shown: &client.shown,
                is_trusted,
                is_encrypted: client.proved.is_some(),
                certificate: client.proved.as_ref().and_then(|it| it.certificate.as_ref()),
                certificate_headers: &snapshot.plan.proxy.client_headers,
                headers: &snapshot.plan.proxy.identity,
                ids: &client.context.ids,
            };
            match headers::prepare(&mut request, &authority, &sender, &route.edits) {
                Ok(()) => forward(client, pool, request, key, upgrade, record).await,
                Err((status, why)) => reply::text(status, why),
            }
        }
    };
    route.edits.response.apply(response.headers_mut());
    response
}

/// A request on its way, which may be tried with several backends.
struct Attempts {
    pool: Rc<WorkerPool>,
    tried: Vec<SocketAddr>,
    /// Whether it may be sent again although a backend may have seen it.
    is_repeatable: bool,
    /// `None` if the pool is not sticky.
    session: Option<Session>,
}

/// Sends a request to a backend of the pool, and to others if that fails in a way that the pool retries.
async fn forward(
    client: &Client,
    pool: Rc<WorkerPool>,
    request: Request<Incoming>,
    key: Hash,
    upgrade: Option<OnUpgrade>,
    record: &Record,
) -> Response<ResponseBody> {
    pool.count_request();
    let (mut parts, body) = request.into_parts();
    let mut body = RequestBody::of(body, pool.settings().timeout.read);
    headers::frame(&mut parts, &body);
    record.forward(&pool, &parts.headers, body.upload());
    // RFC 9110 §9.2.2.
    let is_repeatable = parts.method.is_idempotent() && body.is_empty() && upgrade.is_none();
    let is_secure = client.proved.is_some() || headers::is_secure(&parts.headers);
    let session = pool.session(&mut parts.headers, is_secure);
    let mut attempts = Attempts { pool: Rc::clone(&pool), tried: Vec::new(), is_repeatable, session };
    let mut request = Some(parts);
    loop {
        let in_flight = match attempts.claim(key).await {
            Ok(in_flight) => in_flight,
            Err(refusal) => {
                record.end(refusal.end());
                return refusal.response();
            }
        };
        let backend = Rc::clone(&in_flight.backend);
        record.attempt(backend.address);
        let Some(parts) = request.take() else {
            return reply::text(StatusCode::BAD_GATEWAY, "the request cannot be sent again\n");
        };
        let spare = attempts.is_repeatable.then(|| parts.clone());
        let sent = Request::from_parts(parts, std::mem::replace(&mut body, RequestBody::empty()));
        let (failure, unsent) = match send(&pool, in_flight, sent, spare.as_ref()).await {
            Ok((mut response, lease)) => {
                pool.answered(&backend, response.status());
                let is_last = spare.is_none() || response.status() != StatusCode::SERVICE_UNAVAILABLE;
                if is_last || !attempts.go_on(pool.settings().retry.on.unavailable) {
                    if let Some(session) = &attempts.session {
                        session.grant(&pool, &backend, &mut response);
                    }
                    return relay_response(client, response, lease, upgrade);
                }
                request = spare;
                continue;
            }
            Err(failed) => failed,
        };
        let Some(fault) = failure.fault() else {
            record.end(failure.end());
            return failure.response();
        };
        attempts.blame(&backend, fault, &failure);
        tracing::debug!(backend = %backend.address, pool = pool.settings().name, %failure, "a backend did not answer");
        match unsent {
            Some(unsent) => {
                let (parts, unsent_body) = unsent.into_parts();
                (request, body) = (Some(parts), unsent_body);
            }
            None => request = spare,
        }
        if !attempts.go_on_after(&failure) || request.is_none() {
            record.end(failure.end());
            return failure.response();
        }
    }
}

impl Attempts {
    /// Claims the backend that the client is bound to, the first time and if it has room, or else one that the balancer
    /// chooses.
    async fn claim(&mut self, key: Hash) -> Result<InFlight, Refusal> {
        let bound = self.session.as_mut().and_then(Session::take_backend);
        let in_flight = match bound.and_then(|backend| InFlight::begin(&backend, &self.pool)) {
            Some(in_flight) => in_flight,
            None => self.pool.claim(key, &self.tried).await?,
        };
        self.tried.push(in_flight.backend.address);
        Ok(in_flight)
    }

    fn has_more(&self) -> bool {
        self.tried.len() < self.pool.settings().retry.tries as usize
    }

    /// Notes that a backend did not answer.
    fn blame(&self, backend: &Rc<Backend>, fault: Fault, failure: &Failure) {
        backend.counters.failures.fetch_add(1, Relaxed);
        self.pool.failed(backend, fault, failure);
        // It must not look fast, or new for ever.
        backend.counters.took(self.pool.settings().timeout.read);
    }

    /// Whether to try again after a failure; if so, that is counted.
    fn go_on_after(&self, failure: &Failure) -> bool {
        let is_retried = failure.is_in(&self.pool.settings().retry);
        match failure {
            Failure::Connect(_) if is_retried && self.has_more() => {
                self.pool.count_retry();
                true
            }
            _ => self.go_on(is_retried),
        }
    }

    /// Whether to try again; if so, that is counted.
    fn go_on(&self, is_retried: bool) -> bool {
        is_retried && self.has_more() && self.pool.may_retry()
    }
}

/// Sends a request over an idle connection or a new one. `spare` is a copy of its head, if it may be sent again.
///
/// # Errors
/// The failure, and the request if the backend cannot have seen it.
async fn send(
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
            let reset = |fault: Option<_>| fault.map_or(Failure::Reset(failed.into_error()), Failure::Client);
            (reset(upload.as_ref().and_then(|it| it.fault())), unsent)
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
        let occupants = (shared.connections.enter(), shared.upstream.enter(), client.admitted.clone());
        tasks.spawn_local(async move {
            relay::upgraded(upgrade, backend, timeouts.idle, lease.in_flight).await;
            drop(occupants);
        });
        return response.map(|_| ResponseBody::of(String::new()));
    }
    headers::remove_hop_by_hop(response.headers_mut());
    response.map(|incoming| ResponseBody::relayed(incoming, timeouts.read, lease))
}

impl Refusal {
    /// How a request ends after it.
    fn end(self) -> End {
        match self {
            Self::Unavailable => End::NoBackend,
            Self::Busy => End::BackendsBusy,
        }
    }

    fn response(self) -> Response<ResponseBody> {
        match self {
            Self::Unavailable => reply::text(StatusCode::SERVICE_UNAVAILABLE, "no backend is available\n"),
            Self::Busy => reply::busy(),
        }
    }
}

impl Failure {
    /// Whether a pool retries after it.
    fn is_in(&self, retry: &Retry) -> bool {
        match self {
            Self::Connect(_) => retry.on.connect,
            Self::Reset(_) => retry.on.reset,
            Self::Timeout(_) => retry.on.timeout,
            Self::Client(_) | Self::Full => false,
        }
    }

    /// What is wrong with the backend; `None` if it is not to blame.
    fn fault(&self) -> Option<Fault> {
        match self {
            Self::Connect(_) => Some(Fault::Connect),
            Self::Reset(_) => Some(Fault::Reset),
            Self::Timeout(_) => Some(Fault::Timeout),
            Self::Client(_) | Self::Full => None,
        }
    }

    /// How a request ends after it.
    fn end(&self) -> End {
        match self {
            Self::Connect(_) => End::ConnectFailed,
            Self::Reset(_) => End::BackendGone,
            Self::Timeout(_) => End::BackendTimeout,
            Self::Client(ClientFault::Slow) => End::ClientSlow,
            Self::Client(ClientFault::Broken) => End::ClientGone,
            Self::Full => End::ConnectionsFull,
        }
    }

    fn response(&self) -> Response<ResponseBody> {
        match self {
            Self::Connect(_) | Self::Reset(_) => {
                reply::text(StatusCode::BAD_GATEWAY, "the backend did not answer\n")
            }
            Self::Timeout(_) => {
                reply::text(StatusCode::GATEWAY_TIMEOUT, "the backend did not answer in time\n")
            }
            Self::Client(ClientFault::Slow) => {
                reply::text(StatusCode::REQUEST_TIMEOUT, "the request did not come in time\n")
            }
            Self::Client(ClientFault::Broken) => {
                reply::text(StatusCode::BAD_REQUEST, "the request did not come whole\n")
            }
            Self::Full => {
                reply::text(StatusCode::SERVICE_UNAVAILABLE, "too many connections to backends are open\n")
            }
        }
    }
}
