//! What is noted of a request, for the counters and the access log.

use std::cell::{Cell, OnceCell};
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use http::header::HOST;
use http::{HeaderMap, HeaderName, HeaderValue, Method, Request, Response, StatusCode, Uri, Version};
use tokio::time::Instant;

use super::line::Line;
use crate::model::{AccessFormat, AccessLog, Unix};
use crate::net::clock::Clock;
use crate::proxy::http::request_body::Upload;
use crate::proxy::pools::WorkerPool;
use crate::proxy::worker::Client;

/// What is noted of a request: counted, and logged, when it is dropped, once the response has ended or the client is gone.
pub(in crate::proxy) struct Record {
    client: Rc<Client>,
    begun: Instant,
    /// The pool that it is sent to.
    pool: OnceCell<Rc<WorkerPool>>,
    /// Its body, if it has one.
    upload: OnceCell<Rc<Upload>>,
    /// Whether the tier before asks if this node is ready.
    is_ready_check: Cell<bool>,
    /// The bytes that the client sent after the protocol was changed, if it was.
    upgraded: Cell<Option<u64>>,
    /// `None` if it is not logged.
    entry: Option<Box<Entry>>,
}

/// What is noted for the log alone.
struct Entry {
    format: AccessFormat,
    at: Unix,
    method: Method,
    uri: Uri,
    version: Version,
    host: Option<HeaderValue>,
    response: Cell<Option<(StatusCode, Instant)>>,
    route: Cell<Option<usize>>,
    backend: Cell<Option<SocketAddr>>,
    attempts: Cell<u32>,
    sent: Cell<u64>,
    request_id: OnceCell<HeaderValue>,
    ended: Cell<Option<End>>,
}

/// How a request ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::proxy) enum End {
    /// The whole response went to the client's connection.
    Complete,
    /// The client did not send its request in time.
    ClientSlow,
    /// The body of the request was longer than it may be.
    TooLarge,
    /// The client went away, or what it sent was not valid.
    ClientGone,
    /// No backend was available.
    NoBackend,
    /// All backends were busy, and too many requests waited, or this one for too long.
    BackendsBusy,
    /// The node has as many connections to backends as it may have.
    ConnectionsFull,
    /// No connection to a backend could be made.
    ConnectFailed,
    /// A backend closed the connection before its response was complete, or sent nothing valid.
    BackendGone,
    /// A backend did not respond in time.
    BackendTimeout,
}

impl End {
    fn name(self) -> &'static str {
        match self {
            Self::Complete => "complete",
            Self::ClientSlow => "client_slow",
            Self::TooLarge => "too_large",
            Self::ClientGone => "client_gone",
            Self::NoBackend => "no_backend",
            Self::BackendsBusy => "backends_busy",
            Self::ConnectionsFull => "connections_full",
            Self::ConnectFailed => "connect_failed",
            Self::BackendGone => "backend_gone",
            Self::BackendTimeout => "backend_timeout",
        }
    }
}

impl Record {
    /// Begins with the head of a request.
    pub(in crate::proxy) fn begin<B>(client: &Rc<Client>, request: &Request<B>) -> Self {
        let snapshot = client.context.shared.snapshots.load();
        let log = snapshot.plan.proxy.access_log.as_ref();
        let (pool, upload) = (OnceCell::new(), OnceCell::new());
        let entry = log.and_then(|log| Entry::begin(log, request));
        let (is_ready_check, upgraded) = Default::default();
        let client = Rc::clone(client);
        Self { client, begun: Instant::now(), pool, upload, is_ready_check, upgraded, entry }
    }

    /// For a request that no client has sent.
    pub(in crate::proxy) fn none(client: &Rc<Client>) -> Self {
        let (pool, upload) = (OnceCell::new(), OnceCell::new());
        let (is_ready_check, upgraded) = Default::default();
        let client = Rc::clone(client);
        Self { client, begun: Instant::now(), pool, upload, is_ready_check, upgraded, entry: None }
    }

    /// The number of the route that the request takes.
    pub(in crate::proxy) fn route(&self, number: usize) {
        self.client.counters.routes.count(number);
        self.note(|it| it.route.set(Some(number)));
    }

    /// The request is sent to a pool, with these headers and this body.
    pub(in crate::proxy) fn forward(
        &self,
        pool: &Rc<WorkerPool>,
        headers: &HeaderMap,
        upload: Option<Rc<Upload>>,
    ) {
        const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");
        self.pool.set(Rc::clone(pool)).ok();
        if let Some(upload) = upload {
            self.upload.set(upload).ok();
        }
        self.note(|it| {
            if let Some(id) = headers.get(REQUEST_ID) {
                it.request_id.set(id.clone()).ok();
            }
        });
    }

    /// It is tried with this backend.
    pub(in crate::proxy) fn attempt(&self, backend: SocketAddr) {
        self.note(|it| {
            it.backend.set(Some(backend));
            it.attempts.set(it.attempts.get() + 1);
        });
    }

    /// Of the backends that it was tried with, this one stands for it.
    pub(in crate::proxy) fn decided(&self, backend: SocketAddr) {
        self.note(|it| it.backend.set(Some(backend)));
    }

    /// It ended this way; what is noted later does not matter.
    pub(in crate::proxy) fn end(&self, end: End) {
        self.note(|it| it.ended.set(it.ended.get().or(Some(end))));
    }

    /// The tier before asks if this node is ready: that is no request of a client.
    pub(in crate::proxy) fn ready_check(&self) {
        self.is_ready_check.set(true);
    }

    /// A client gets a response with this status.
    pub(in crate::proxy) fn responded(&self, status: StatusCode) {
        if !self.is_ready_check.get() {
            self.client.counters.responded(status);
        }
    }

    /// There is a response.
    pub(in crate::proxy) fn response<B>(&self, response: &Response<B>) {
        if let Some(pool) = self.pool.get() {
            pool.counters.first_byte.add(self.begun.elapsed());
        }
        self.note(|it| {
            let status = response.status();
            it.response.set(Some((status, Instant::now())));
            // RFC 9110 §6.4.1: no body is sent, though there may be one.
            let no_body = [StatusCode::SWITCHING_PROTOCOLS, StatusCode::NO_CONTENT, StatusCode::NOT_MODIFIED];
            if it.method == Method::HEAD || no_body.contains(&status) {
                self.end(End::Complete);
            }
        });
    }

    /// Bytes of the body are on their way to the client.
    pub(in crate::proxy) fn sent(&self, bytes: usize) {
        self.client.counters.sent(bytes as u64);
        self.note(|it| it.sent.set(it.sent.get() + bytes as u64));
    }

    /// These bytes came from the client and went to it after the protocol was changed. They have been counted.
    pub(in crate::proxy) fn upgraded(&self, (received, sent): (u64, u64)) {
        self.upgraded.set(Some(received));
        self.note(|it| it.sent.set(it.sent.get() + sent));
    }

    fn note(&self, note: impl FnOnce(&Entry)) {
        if let Some(entry) = &self.entry {
            note(entry);
        }
    }
}

impl Drop for Record {
    fn drop(&mut self) {
        let (pool, total) = (self.pool.get(), self.begun.elapsed());
        let received = self.upload.get().map_or(0, |upload| upload.received());
        self.client.counters.received(received);
        // Else it was counted when the request was refused.
        if self.upload.get().is_some_and(|upload| upload.has_outgrown()) {
            self.client.counters.too_large.fetch_add(1, Relaxed);
        }
        let upgraded = self.upgraded.get();
        // How long a client stays is no time of a response.
        if let (Some(pool), None) = (pool, upgraded) {
            pool.counters.total.add(total);
        }
        if let Some(entry) = &self.entry {
            let line = entry.line(self, received + upgraded.unwrap_or(0), total);
            let line = line.text(entry.format);
            self.client.context.access.append(|bytes| bytes.extend_from_slice(line.as_bytes()));
        }
    }
}

impl Entry {
    /// Begins the entry of a request, if it is one to be logged.
    fn begin<B>(log: &AccessLog, request: &Request<B>) -> Option<Box<Self>> {
        let share = log.sample.get();
        if share < 1.0 && fastrand::f64() >= share {
            return None;
        }
        Some(Box::new(Self {
            format: log.format,
            at: Clock::unix(),
            method: request.method().clone(),
            uri: request.uri().clone(),
            version: request.version(),
            host: request.headers().get(HOST).cloned(),
            response: Cell::default(),
            route: Cell::default(),
            backend: Cell::default(),
            attempts: Cell::default(),
            sent: Cell::default(),
            request_id: OnceCell::new(),
            ended: Cell::default(),
        }))
    }

    fn line<'a>(&'a self, record: &'a Record, received: u64, total: Duration) -> Line<'a> {
        let response = self.response.get();
        let host = match self.uri.authority() {
            Some(authority) => authority.as_str().as_bytes(),
            None => self.host.as_ref().map_or(&b""[..], HeaderValue::as_bytes),
        };
        Line {
            at: self.at,
            client: record.client.address.ip(),
            listener: &record.client.listener,
            method: self.method.as_str(),
            version: version(self.version),
            host,
            path: self.uri.path(),
            query: self.uri.query(),
            status: response.map(|(status, _)| status.as_u16()),
            received,
            sent: self.sent.get(),
            route: self.route.get(),
            pool: record.pool.get().map(|pool| pool.settings().name.as_str()),
            backend: self.backend.get(),
            attempts: self.attempts.get(),
            first_byte: response.map(|(_, at)| at - record.begun),
            total,
            request_id: self.request_id.get().map(HeaderValue::as_bytes),
            ended: self.ended.get().unwrap_or(End::ClientGone).name(),
        }
    }
}

fn version(version: Version) -> &'static str {
    match version {
        Version::HTTP_10 => "HTTP/1.0",
        Version::HTTP_2 => "HTTP/2.0",
        _ => "HTTP/1.1",
    }
}
