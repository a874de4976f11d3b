//! One request and its response.

use std::rc::Rc;
use std::sync::atomic::Ordering::Relaxed;

use bytes::{Buf as _, Bytes};
use http::header::CONTENT_LENGTH;
use http::{Method, Response, StatusCode};
use http_body_util::BodyExt as _;
use tokio::io::{AsyncRead, AsyncWrite};

use super::backend::Stop;
use super::request::{self, Asked};
use super::response::{self, Writing};
use super::upload::Upload;
use super::{Lane, Then};
use crate::model::RouteAction;
use crate::pick::{Hash, client_key};
use crate::proxy::http::body::ResponseBody;
use crate::proxy::http::headers::{self, Framing, Sender};
use crate::proxy::http::{reply, target};
use crate::proxy::pools::WorkerPool;
use crate::route::Head;

impl<S: AsyncRead + AsyncWrite + Unpin> Lane<'_, S> {
    /// Answers a request; `None` if the client is gone.
    pub(super) async fn exchange(&mut self, asked: Asked) -> Option<Then> {
        let Asked { head: mut request, length, body, is_last } = asked;
        self.wire.unread.advance(length);
        let client = self.client;
        let method = request.method().clone();
        let authority = match target::authority(&request) {
            Ok(authority) => authority,
            Err((status, why)) => return self.reply(&method, reply::text(status, why), is_last).await,
        };
        let snapshot = client.context.snapshot();
        let Some(listener) = client.plan(&snapshot) else { return None };
        let head = Head {
            host: authority.host(),
            path: request.uri().path(),
            query: request.uri().query(),
            method: request.method(),
            headers: request.headers(),
        };
        let Some(route) = listener.find(&head) else {
            client.counters.unrouted.fetch_add(1, Relaxed);
            let none = reply::text(StatusCode::NOT_FOUND, "no route matches this request\n");
            return self.reply(&method, none, is_last).await;
        };
        let key = client_key(client.address.ip());
        let pool = match &route.action {
            RouteAction::Forward(pools) => client.context.pool(pools, key, &snapshot),
            _ => return None,
        };
        let is_trusted = snapshot.plan.proxy.trusted.contain(client.address.ip());
        headers::prepare(&mut request, &authority, &Sender { shown: &client.shown, is_trusted });
        drop(snapshot);
        let (parts, ()) = request.into_parts();
        let mut bytes = Vec::with_capacity(length + 256);
        request::write(&parts, &body, &mut bytes);
        self.forward(pool, &method, Upload::new(bytes, body), key, is_last).await
    }

    async fn reply(&mut self, method: &Method, response: Response<ResponseBody>, is_last: bool) -> Option<Then> {
        let (head, mut body) = response.into_parts();
        let mut bytes = Bytes::new();
        if let Some(Ok(frame)) = body.frame().await {
            bytes = frame.into_data().unwrap_or_default();
        }
        let mut head = Response::from_parts(head, ());
        head.headers_mut().insert(CONTENT_LENGTH, bytes.len().into());
        let is_last = is_last || self.client.context.closing.is_cancelled();
        response::write(&head, &Writing { reason: None, is_chunked: false, is_last }, &mut self.out);
        self.write(if *method == Method::HEAD { &[] } else { &bytes }).await?;
        Some(if is_last { Then::Close } else { Then::GoOn })
    }

    async fn forward(
        &mut self,
        pool: Rc<WorkerPool>,
        method: &Method,
        mut upload: Upload,
        key: Hash,
        mut is_last: bool,
    ) -> Option<Then> {
        pool.count_request();
        let is_repeatable = upload.is_bodyless() && method.is_idempotent();
        let mut tried = Vec::new();
        let (mut trip, mut answered) = loop {
            let backend = pool.pick(key, &tried)?;
            tried.push(backend.address);
            match self.attempt(&pool, &backend, method, &mut upload, is_repeatable).await {
                Ok(begun) => break begun,
                Err(Stop::Gone) => return None,
                Err(_) if tried.len() < pool.settings().retry.tries as usize => {}
                Err(_) => {
                    let bad = reply::text(StatusCode::BAD_GATEWAY, "the backend did not answer\n");
                    return self.reply(method, bad, is_last).await;
                }
            }
        };
        headers::remove_hop_by_hop(answered.head.headers_mut());
        let class = usize::from(answered.head.status().as_u16() / 100);
        if let Some(counter) = self.client.counters.responses.get(class) {
            counter.fetch_add(1, Relaxed);
        }
        is_last |= self.client.context.closing.is_cancelled();
        let is_chunked = matches!(answered.framing, Framing::Chunked | Framing::UntilClose);
        let writing = Writing { reason: Some(&answered.reason), is_chunked, is_last };
        response::write(&answered.head, &writing, &mut self.out);
        self.relay(&mut trip, answered.framing).await?;
        drop(trip.in_flight);
        if !trip.upload.is_done() {
            return Some(Then::Close);
        }
        if answered.keeps && trip.plain.wire.unread.is_empty() {
            trip.backend.keep_plain(trip.plain, pool.settings().keepalive);
        }
        Some(if is_last { Then::Close } else { Then::GoOn })
    }
}
