//! What is noted of a request for the access log.

use std::cell::{Cell, RefCell};
use std::net::SocketAddr;
use std::rc::Rc;

use http::header::HOST;
use http::{HeaderMap, HeaderName, HeaderValue, Method, Request, Response, StatusCode, Uri, Version};
use tokio::time::Instant;

use super::line::Line;
use crate::model::{AccessFormat, Unix};
use crate::net::clock::Clock;
use crate::proxy::http::body::Upload;
use crate::proxy::pools::WorkerPool;
use crate::proxy::worker::Client;

/// The entry of a request; empty if it is not logged. The line is written when the last clone is dropped: once the response
/// has ended, or the client is gone.
#[derive(Clone)]
pub(in crate::proxy) struct Record(Option<Rc<Entry>>);

struct Entry {
    client: Rc<Client>,
    format: AccessFormat,
    at: Unix,
    begun: Instant,
    method: Method,
    uri: Uri,
    version: Version,
    host: Option<HeaderValue>,
    response: Cell<Option<(StatusCode, Instant)>>,
    route: Cell<Option<usize>>,
    pool: RefCell<Option<Rc<WorkerPool>>>,
    backend: Cell<Option<SocketAddr>>,
    attempts: Cell<u32>,
    upload: RefCell<Option<Rc<Upload>>>,
    sent: Cell<u64>,
    request_id: RefCell<Option<HeaderValue>>,
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
    /// Begins the entry of a request, if it is one to be logged.
    pub(in crate::proxy) fn begin<B>(client: &Rc<Client>, request: &Request<B>) -> Self {
        let snapshot = client.context.shared.snapshots.load();
        let Some(log) = &snapshot.plan.proxy.access_log else { return Self(None) };
        let share = log.sample.get();
        if share < 1.0 && fastrand::f64() >= share {
            return Self(None);
        }
        Self(Some(Rc::new(Entry {
            client: Rc::clone(client),
            format: log.format,
            at: Clock::unix(),
            begun: Instant::now(),
            method: request.method().clone(),
            uri: request.uri().clone(),
            version: request.version(),
            host: request.headers().get(HOST).cloned(),
            response: Cell::default(),
            route: Cell::default(),
            pool: RefCell::default(),
            backend: Cell::default(),
            attempts: Cell::default(),
            upload: RefCell::default(),
            sent: Cell::default(),
            request_id: RefCell::default(),
            ended: Cell::default(),
        })))
    }

    /// No entry, for a request that no client has sent.
    pub(in crate::proxy) fn none() -> Self {
        Self(None)
    }

    /// The number of the route that the request takes.
    pub(in crate::proxy) fn route(&self, number: usize) {
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
        self.note(|it| {
            *it.pool.borrow_mut() = Some(Rc::clone(pool));
            *it.request_id.borrow_mut() = headers.get(REQUEST_ID).cloned();
            *it.upload.borrow_mut() = upload;
        });
    }

    /// It is tried with this backend.
    pub(in crate::proxy) fn attempt(&self, backend: SocketAddr) {
        self.note(|it| {
            it.backend.set(Some(backend));
            it.attempts.set(it.attempts.get() + 1);
        });
    }

    /// It ended this way; what is noted later does not matter.
    pub(in crate::proxy) fn end(&self, end: End) {
        self.note(|it| it.ended.set(it.ended.get().or(Some(end))));
    }

    /// There is a response.
    pub(in crate::proxy) fn response<B>(&self, response: &Response<B>) {
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
        self.note(|it| it.sent.set(it.sent.get() + bytes as u64));
    }

    fn note(&self, note: impl FnOnce(&Entry)) {
        if let Some(entry) = &self.0 {
            note(entry);
        }
    }
}

impl Drop for Entry {
    fn drop(&mut self) {
        let pool = self.pool.borrow();
        let request_id = self.request_id.borrow();
        let response = self.response.get();
        let host = match self.uri.authority() {
            Some(authority) => authority.as_str().as_bytes(),
            None => self.host.as_ref().map_or(&b""[..], HeaderValue::as_bytes),
        };
        let line = Line {
            at: self.at,
            client: self.client.address.ip(),
            listener: &self.client.listener,
            method: self.method.as_str(),
            version: version(self.version),
            host,
            path: self.uri.path(),
            query: self.uri.query(),
            status: response.map(|(status, _)| status.as_u16()),
            received: self.upload.borrow().as_ref().map_or(0, |upload| upload.received()),
            sent: self.sent.get(),
            route: self.route.get(),
            pool: pool.as_ref().map(|pool| pool.settings().name.as_str()),
            backend: self.backend.get(),
            attempts: self.attempts.get(),
            first_byte: response.map(|(_, at)| at - self.begun),
            total: self.begun.elapsed(),
            request_id: request_id.as_ref().map(HeaderValue::as_bytes),
            ended: self.ended.get().unwrap_or(End::ClientGone).name(),
        };
        self.client.context.access.append(line.text(self.format).as_bytes());
    }
}

fn version(version: Version) -> &'static str {
    match version {
        Version::HTTP_10 => "HTTP/1.0",
        Version::HTTP_2 => "HTTP/2.0",
        _ => "HTTP/1.1",
    }
}
