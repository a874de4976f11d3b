//! The service that decides whether a request may go on.
//!
//! It fails closed: without an answer there is no way to a backend.

use std::rc::Rc;
use std::sync::atomic::Ordering::Relaxed;

use http::header::{
    CONTENT_LENGTH, CONTENT_TYPE, EXPECT, HOST, IF_MATCH, IF_MODIFIED_SINCE, IF_NONE_MATCH, IF_RANGE,
    IF_UNMODIFIED_SINCE, RANGE, TRAILER,
};
use http::uri::Authority;
use http::{HeaderMap, HeaderName, HeaderValue, Request, Response, StatusCode, Uri, Version};
use http_body_util::{BodyExt as _, Limited};
use tokio::time::timeout;

use super::attempts::Attempts;
use super::body::{Lease, Received, ResponseBody};
use super::headers::{Sender, remove_hop_by_hop};
use super::hedge;
use super::identity::identify;
use super::reply;
use super::request_body::RequestBody;
use crate::model::{ClientHeaders, ForwardAuth, Weight};
use crate::pick::client_key;
use crate::proxy::access::Record;
use crate::proxy::pools::WorkerPool;
use crate::proxy::worker::Client;
use crate::snapshot::Snapshot;

/// Bytes of the body of an answer: a page that asks to log in. A longer one counts as no answer.
const LARGEST_ANSWER: usize = 64 * 1024;

const X_FORWARDED_METHOD: HeaderName = HeaderName::from_static("x-forwarded-method");
const X_FORWARDED_URI: HeaderName = HeaderName::from_static("x-forwarded-uri");

/// What concerns the body of a request, or the version of a resource that the service does not have.
const NOT_ASKED: [HeaderName; 10] = [
    CONTENT_LENGTH,
    CONTENT_TYPE,
    EXPECT,
    IF_MATCH,
    IF_MODIFIED_SINCE,
    IF_NONE_MATCH,
    IF_RANGE,
    IF_UNMODIFIED_SINCE,
    RANGE,
    TRAILER,
];

/// Who the service is told that the client is, whatever backends are told.
const TOLD: ClientHeaders =
    ClientHeaders { x_forwarded: true, forwarded: false, request_id: false, trace: None };

/// The headers that the service gets of a request, before anything of that is edited.
pub(super) fn question<B>(
    request: &Request<B>,
    auth: &ForwardAuth,
    authority: &Authority,
    sender: &Sender<'_>,
) -> HeaderMap {
    let mut headers = request.headers().clone();
    remove_hop_by_hop(&mut headers);
    for name in NOT_ASKED {
        headers.remove(name);
    }
    identify(&mut headers, authority, &Sender { headers: &TOLD, ..*sender }, true);
    let text = |text: &str| HeaderValue::from_str(text).ok();
    let uri = request.uri().path_and_query().map_or("/", |it| it.as_str());
    for (name, value) in [(X_FORWARDED_METHOD, text(request.method().as_str())), (X_FORWARDED_URI, text(uri))]
    {
        headers.remove(&name);
        headers.extend(value.map(|value| (name, value)));
    }
    if let Some(host) = &auth.host {
        headers.insert(HOST, host.clone());
    }
    headers
}

/// Asks whether a request may go on; then it gets the headers that the answer has for backends.
///
/// # Errors
/// What the client gets instead.
pub(super) async fn ask<B>(
    client: &Rc<Client>,
    snapshot: &Snapshot,
    auth: &ForwardAuth,
    question: HeaderMap,
    request: &mut Request<B>,
) -> Result<(), Response<ResponseBody>> {
    let key = client_key(client.address.ip());
    let pool = client.context.pool(&[(auth.pool, Weight(1))], key, snapshot);
    match timeout(auth.timeout, answer(client, &pool, auth, question)).await {
        Ok(Some(answer)) if answer.status().is_success() => {
            for name in &auth.headers {
                request.headers_mut().remove(name);
                for value in answer.headers().get_all(name) {
                    request.headers_mut().append(name, value.clone());
                }
            }
            Ok(())
        }
        Ok(Some(answer)) => {
            client.counters.auth_denied.fetch_add(1, Relaxed);
            Err(answer)
        }
        Ok(None) | Err(_) => {
            client.counters.auth_failed.fetch_add(1, Relaxed);
            Err(reply::text(StatusCode::SERVICE_UNAVAILABLE, "it is not known now whether you may do this\n"))
        }
    }
}

/// The whole answer; `None` if there is none.
async fn answer(
    client: &Rc<Client>,
    pool: &Rc<WorkerPool>,
    auth: &ForwardAuth,
    question: HeaderMap,
) -> Option<Response<ResponseBody>> {
    let (mut parts, ()) = Request::new(()).into_parts();
    (parts.uri, parts.headers) = (Uri::from(auth.target.clone()), question);
    pool.count_request();
    let record = Record::none(client);
    let mut attempts = Attempts::new(pool, &mut parts.headers, true, client.proved.is_some());
    let key = client_key(client.address.ip());
    loop {
        let in_flight = attempts.claim(key, &record).await.ok()?;
        let asked = Request::from_parts(parts.clone(), RequestBody::empty());
        let ended = hedge::send(&mut attempts, in_flight, asked, Some(&parts), (key, &record)).await;
        let backend = ended.backend;
        match ended.sent {
            Ok((mut response, lease)) => {
                if !attempts.answered(&backend, &mut response) {
                    return whole(response, lease).await;
                }
            }
            Err((failure, _)) => {
                if !attempts.failed(&backend, &failure, true, &record) {
                    return None;
                }
            }
        }
    }
}

/// A response that is received whole, so that its connection is kept.
async fn whole(response: Response<Received>, lease: Lease) -> Option<Response<ResponseBody>> {
    if response.status().is_informational() {
        return None;
    }
    let patience = lease.pool.settings().timeout.read;
    let (mut parts, body) = response.into_parts();
    let relayed = ResponseBody::relayed(body, patience, lease);
    let body = Limited::new(relayed, LARGEST_ANSWER).collect().await.ok()?.to_bytes();
    remove_hop_by_hop(&mut parts.headers);
    // That of a HEAD request would be without a body.
    parts.headers.remove(CONTENT_LENGTH);
    parts.version = Version::HTTP_11;
    Some(Response::from_parts(parts, ResponseBody::whole(body)))
}
