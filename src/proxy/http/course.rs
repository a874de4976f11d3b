//! What becomes of a request, as far as its head says.

use std::rc::Rc;
use std::sync::atomic::Ordering::Relaxed;

use http::header::CONTENT_LENGTH;
use http::{HeaderMap, Method, Request, Response, StatusCode};

use super::body::ResponseBody;
use super::headers::{self, Sender};
use super::{auth, ready, reply, target};
use crate::model::{RequestLimits, Route, RouteAction};
use crate::pick::client_key;
use crate::proxy::access::Record;
use crate::proxy::pools::WorkerPool;
use crate::proxy::worker::Client;
use crate::route::{Head, Listener};
use crate::snapshot::Snapshot;

/// What becomes of a request, and the route that it takes.
pub(super) enum Course<'a> {
    /// The proxy answers it itself. Without a route, it took none.
    Reply(Response<ResponseBody>, Option<&'a Route>),
    /// A backend gets it.
    Forward(Forwarding<'a>),
}

/// What a request is forwarded by.
pub(super) struct Forwarding<'a> {
    pub(super) pool: Rc<WorkerPool>,
    pub(super) route: &'a Route,
    pub(super) limits: &'a RequestLimits,
    /// The headers that the service gets which decides about the request, if one does.
    pub(super) question: Option<HeaderMap>,
}

/// Decides what becomes of a request; one for a pool becomes the one that backends get.
pub(super) fn course<'a, B>(
    client: &Client,
    snapshot: &'a Snapshot,
    request: &mut Request<B>,
    record: &Record,
) -> Course<'a> {
    let refuse = |status, why| Course::Reply(reply::text(status, why), None);
    let authority = match target::authority(request) {
        Ok(authority) => authority,
        Err((status, why)) => return refuse(status, why),
    };
    let Some(listener) = client.plan(snapshot) else {
        return refuse(StatusCode::MISDIRECTED_REQUEST, "this listener is no longer configured\n");
    };
    if let Some(reply) = ready(client, snapshot, listener, request) {
        record.ready_check();
        return Course::Reply(reply, None);
    }
    if let Some(reply) = challenge(snapshot, request) {
        return Course::Reply(reply, None);
    }
    let trusted = &snapshot.plan.proxy.trusted;
    if let Err(wait) = client.admit_request(&listener.client, request.headers(), trusted) {
        return Course::Reply(reply::too_many(wait), None);
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
        return refuse(StatusCode::NOT_FOUND, "no route matches this request\n");
    };
    record.route(number);
    let pools = match &route.action {
        RouteAction::Redirect { status, to } => {
            let to = to.of(&head, route.edits.path.as_ref());
            return Course::Reply(reply::redirect(*status, to), Some(route));
        }
        RouteAction::Respond { status, body } => {
            return Course::Reply(reply::text(*status, body.clone()), Some(route));
        }
        RouteAction::Forward(pools) => pools,
    };
    if listener.limits.body.is_some_and(|most| announced(request.headers()) > most) {
        client.counters.too_large.fetch_add(1, Relaxed);
        return Course::Reply(reply::too_large(), Some(route));
    }
    let sender = Sender {
        shown: &client.shown,
        is_trusted: client.is_trusted(trusted),
        is_encrypted: client.proved.is_some(),
        certificate: client.proved.as_ref().and_then(|it| it.certificate.as_ref()),
        certificate_headers: &snapshot.plan.proxy.client_headers,
        headers: &snapshot.plan.proxy.identity,
        ids: &client.context.ids,
    };
    let question = route.auth.as_ref().map(|auth| auth::question(request, auth, &authority, &sender));
    match headers::prepare(request, &authority, &sender, &route.edits) {
        Ok(()) => {
            let pool = client.context.pool(pools, client_key(client.address.ip()), snapshot);
            Course::Forward(Forwarding { pool, route, limits: &listener.limits, question })
        }
        Err((status, why)) => Course::Reply(reply::text(status, why), Some(route)),
    }
}

/// What the tier above gets that asks whether this node is ready.
fn ready<B>(
    client: &Client,
    snapshot: &Snapshot,
    listener: &Listener,
    request: &Request<B>,
) -> Option<Response<ResponseBody>> {
    let needed = listener.ready.as_ref().filter(|_| request.uri().path() == ready::PATH)?;
    Some(ready::answer(&client.context.shared, snapshot, needed, request.method()))
}

/// What an ACME server gets that asks for a proof.
fn challenge<B>(snapshot: &Snapshot, request: &Request<B>) -> Option<Response<ResponseBody>> {
    if snapshot.challenges.is_empty() || !matches!(*request.method(), Method::GET | Method::HEAD) {
        return None;
    }
    snapshot.challenges.body(request.uri().path()).map(reply::challenge)
}

/// Bytes that the body of a request has, as far as its head says so.
fn announced(headers: &HeaderMap) -> u64 {
    let length = headers.get(CONTENT_LENGTH).and_then(|it| it.to_str().ok()?.parse().ok());
    length.unwrap_or(0)
}
