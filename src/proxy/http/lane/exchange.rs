//! One request and its response.

use std::rc::Rc;

use bytes::Buf as _;
use http::header::CONTENT_LENGTH;
use http::{Method, Request, Response, StatusCode};
use tokio::io::{AsyncRead, AsyncWrite};

use super::backend::{Plain, Stop, Trip};
use super::request::{self, Asked};
use super::response::{self, Answered, Writing};
use super::upload::{Body, Upload};
use super::{Lane, Then};
use crate::model::{Http, Pool, RequestLimits, Route, RouteAction};
use crate::pick::client_key;
use crate::proxy::access::{End, Record};
use crate::proxy::buffers;
use crate::proxy::http::attempts::Attempts;
use crate::proxy::http::body::ResponseBody;
use crate::proxy::http::course::{Course, Forwarding, course};
use crate::proxy::http::headers::{self, Framing};
use crate::proxy::http::reply;
use crate::proxy::pools::WorkerPool;
use crate::proxy::queue::InFlight;
use crate::route;
use crate::snapshot::Snapshot;

/// A request that a pool gets.
struct Forwarded<'a> {
    pool: Rc<WorkerPool>,
    route: &'a Route,
    limits: &'a RequestLimits,
    head: Request<()>,
    body: Body,
    /// Whether the client wants the connection closed after the response.
    is_last: bool,
}

/// A response that goes to the client.
struct Responding<'a> {
    pool: &'a WorkerPool,
    in_flight: InFlight,
    plain: Plain,
    answered: Answered,
    record: &'a Record,
    is_last: bool,
}

/// Whether a route of the listener leads to a pool that the lane does not serve: its backends speak HTTP/2, or it hedges.
fn leads_elsewhere(listener: &route::Listener, snapshot: &Snapshot) -> bool {
    let topology = &snapshot.plan.topology;
    let is_elsewhere = |pool: &Pool| pool.http == Http::H2 || pool.hedge.is_some();
    listener.routes.iter().any(|route| match &route.action {
        RouteAction::Forward(pools) => pools.iter().any(|(pool, _)| is_elsewhere(topology.pool(*pool))),
        RouteAction::Redirect { .. } | RouteAction::Respond { .. } => false,
    })
}

impl<S: AsyncRead + AsyncWrite + Unpin> Lane<'_, S> {
    /// Answers a request; `None` if the client is gone.
    pub(super) async fn exchange(&mut self, asked: Box<Asked>) -> Option<Then> {
        let client = self.client;
        let snapshot = client.context.snapshot();
        if snapshot.plan.proxy.asks(&client.listener) {
            return Some(Then::HandOver);
        }
        let Asked { mut head, length, body, is_last } = *asked;
        if self.plain_in != snapshot.epoch {
            if client.plan(&snapshot).is_some_and(|it| leads_elsewhere(it, &snapshot)) {
                return Some(Then::HandOver);
            }
            self.plain_in = snapshot.epoch;
        }
        self.wire.unread.advance(length);
        let record = Record::begin(client, &head);
        let method = head.method().clone();
        match course(client, &snapshot, &mut head, &record) {
            Course::Reply(mut response, route) => {
                if let Some(route) = route {
                    route.edits.response.apply(response.headers_mut());
                }
                let is_last = is_last || !self.skip(&body);
                self.reply(&method, response, &record, is_last).await
            }
            Course::Forward(Forwarding { pool, route, limits, .. }) => {
                self.forward(Forwarded { pool, route, limits, head, body, is_last }, &record).await
            }
        }
    }

    /// Skips a body that nobody gets, if all of it is there; else the connection is closed after the response.
    fn skip(&mut self, body: &Body) -> bool {
        let unread = &mut self.wire.unread;
        match body {
            Body::Ended => true,
            Body::Length(length) if *length <= unread.len() as u64 => {
                unread.advance(*length as usize);
                true
            }
            Body::Length(_) | Body::Chunked(_) => false,
        }
    }

    /// Sends a request to a backend of the pool, and to others if that fails in a way that the pool retries.
    async fn forward(&mut self, forwarded: Forwarded<'_>, record: &Record) -> Option<Then> {
        let Forwarded { pool, route, limits, head, body, is_last } = forwarded;
        let client = self.client;
        pool.count_request();
        let (mut parts, ()) = head.into_parts();
        let received = (!matches!(body, Body::Ended)).then(Rc::default);
        record.forward(&pool, &parts.headers, received.clone());
        // RFC 9110 §9.2.2.
        let is_repeatable = parts.method.is_idempotent() && received.is_none();
        let mut attempts = Attempts::new(&pool, &mut parts.headers, is_repeatable, client.proved.is_some());
        let mut bytes = buffers::to_write();
        request::write(&parts, &body, &mut bytes);
        let mut upload = Upload::new(bytes, body, received).limited(limits);
        let method = std::mem::take(&mut parts.method);
        // The next request gets its memory, which the CPU still has in its cache.
        drop(parts);
        let key = client_key(client.address.ip());
        loop {
            let refused = match self.unless_gone(attempts.claim(key, record)).await.ok()? {
                Ok(in_flight) => {
                    let asked = self.attempt(&pool, &in_flight, &method, &mut upload, is_repeatable).await;
                    match asked {
                        Ok((plain, mut answered)) => {
                            if attempts.answered(&in_flight.backend, &mut answered.head) {
                                upload.restart();
                                continue;
                            }
                            route.edits.response.apply(answered.head.headers_mut());
                            let responding =
                                Responding { pool: &pool, in_flight, plain, answered, record, is_last };
                            return self.respond(responding, &mut upload).await;
                        }
                        Err(Stop::Gone) => return None,
                        Err(Stop::Failed(failure)) => {
                            let may_repeat = is_repeatable || !upload.is_begun();
                            if attempts.failed(&in_flight.backend, &failure, may_repeat, record) {
                                upload.restart();
                                continue;
                            }
                            failure.response(&client.counters)
                        }
                    }
                }
                Err(refusal) => refusal.response(),
            };
            let mut refused = refused;
            route.edits.response.apply(refused.headers_mut());
            return self.reply(&method, refused, record, is_last || !upload.is_done()).await;
        }
    }

    /// Relays a response.
    async fn respond(&mut self, responding: Responding<'_>, upload: &mut Upload) -> Option<Then> {
        let Responding { pool, in_flight, plain, mut answered, record, is_last } = responding;
        upload.answered();
        if answered.head.status() == StatusCode::SWITCHING_PROTOCOLS {
            let why = "the backend changed the protocol without being asked\n";
            let refused = reply::text(StatusCode::BAD_GATEWAY, why);
            return self.reply(&Method::GET, refused, record, is_last || !upload.is_done()).await;
        }
        headers::remove_hop_by_hop(answered.head.headers_mut());
        let is_last = is_last || self.client.context.is_closing();
        record.responded(answered.head.status());
        record.response(&answered.head);
        let is_chunked = matches!(answered.framing, Framing::Chunked | Framing::UntilClose);
        self.out = buffers::to_write();
        let writing = Writing { reason: Some(&answered.reason), is_chunked, is_last };
        response::write(&answered.head, &writing, &mut self.out);
        let mut trip = Trip { pool, in_flight, plain, upload, record };
        if let Err(end) = self.relay(&mut trip, answered.framing).await {
            record.end(end);
            return None;
        }
        record.end(End::Complete);
        let Trip { in_flight, plain, upload, .. } = trip;
        let backend = Rc::clone(&in_flight.backend);
        drop(in_flight);
        if !upload.is_done() {
            return Some(Then::Close);
        }
        if answered.keeps && plain.wire.unread.is_empty() {
            backend.keep_plain(plain, pool.settings().keepalive);
        }
        Some(if is_last { Then::Close } else { Then::GoOn })
    }

    /// Writes a response of the proxy's own.
    async fn reply(
        &mut self,
        method: &Method,
        response: Response<ResponseBody>,
        record: &Record,
        is_last: bool,
    ) -> Option<Then> {
        let (head, body) = response.into_parts();
        let body = body.own().unwrap_or_default();
        let mut head = Response::from_parts(head, ());
        let is_bodyless = matches!(head.status().as_u16(), 204 | 304) || *method == Method::HEAD;
        if !is_bodyless || !body.is_empty() {
            head.headers_mut().insert(CONTENT_LENGTH, body.len().into());
        }
        let is_last = is_last || self.client.context.is_closing();
        record.responded(head.status());
        record.response(&head);
        self.out = buffers::to_write();
        response::write(&head, &Writing { reason: None, is_chunked: false, is_last }, &mut self.out);
        let body = if is_bodyless { &[] } else { &body[..] };
        self.write(body).await?;
        record.sent(body.len());
        record.end(End::Complete);
        Some(if is_last { Then::Close } else { Then::GoOn })
    }
}
