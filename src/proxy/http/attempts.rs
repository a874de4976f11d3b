//! The attempts of a request: which backends are tried, and when no more are.

use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::atomic::Ordering::Relaxed;

use http::{HeaderMap, Method, Response, StatusCode};
use smallvec::SmallVec;

use super::body::ResponseBody;
use super::hedge::Ended;
use super::request_body::ClientFault;
use super::{headers, reply};
use crate::model::Retry;
use crate::pick::Hash;
use crate::proxy::access::{End, Record};
use crate::proxy::counters::ListenerCounters;
use crate::proxy::passive::Fault;
use crate::proxy::pools::{Backend, WorkerPool};
use crate::proxy::queue::{InFlight, Refusal};
use crate::proxy::sticky::Session;
use crate::proxy::upstream::Failure;

/// A request on its way, which may be tried with several backends.
pub(super) struct Attempts {
    pub(super) pool: Rc<WorkerPool>,
    tried: SmallVec<[SocketAddr; 2]>,
    /// Whether it may be sent again although a backend may have seen it.
    pub(super) is_repeatable: bool,
    /// `None` if the pool is not sticky.
    session: Option<Session>,
    /// Whether the last attempt is with the backend that the client is bound to.
    is_bound: bool,
}

impl Attempts {
    /// The attempts of a request with these headers, from which the proxy's own cookie is taken.
    pub(super) fn new(
        pool: &Rc<WorkerPool>,
        headers: &mut HeaderMap,
        is_repeatable: bool,
        is_encrypted: bool,
    ) -> Self {
        let is_secure = is_encrypted || headers::is_secure(headers);
        let session = pool.session(headers, is_secure);
        Self { pool: Rc::clone(pool), tried: SmallVec::new(), is_repeatable, session, is_bound: false }
    }

    /// Claims the backend that the client is bound to, the first time and if it has room, or else one that the balancer
    /// chooses.
    pub(super) async fn claim(&mut self, key: Hash, record: &Record) -> Result<InFlight, Refusal> {
        let bound = self.session.as_mut().and_then(Session::take_backend);
        let bound = bound.and_then(|backend| InFlight::begin(&backend, &self.pool));
        self.is_bound = bound.is_some();
        let claimed = match bound {
            Some(in_flight) => Ok(in_flight),
            None => self.pool.claim(key, &self.tried).await,
        };
        match &claimed {
            Ok(in_flight) => {
                self.tried.push(in_flight.backend.address);
                record.attempt(in_flight.backend.address);
            }
            Err(refusal) => record.end(refusal.end()),
        }
        claimed
    }

    /// Whether the request may go to further backends while it is with one. Methods that change something are not sent twice at
    /// once although they are idempotent: what the second came to might be told of the first. A client that is bound to a
    /// backend would not find its session at another.
    pub(super) fn may_hedge(&self, method: &Method) -> bool {
        method.is_safe() && !self.is_bound
    }

    /// Claims another backend while the request is with one; `None` if there is none, or it must not be tried again.
    pub(super) fn hedge(&mut self, key: Hash, record: &Record) -> Option<InFlight> {
        let in_flight = if self.has_more() { self.pool.claim_another(key, &self.tried) } else { None }?;
        self.tried.push(in_flight.backend.address);
        record.attempt(in_flight.backend.address);
        Some(in_flight)
    }

    /// The attempt with this backend stands for the request.
    pub(super) fn decided(&self, has_hedge_won: bool, backend: &Backend, record: &Record) {
        if has_hedge_won {
            self.pool.counters.hedges_won.fetch_add(1, Relaxed);
        }
        record.decided(backend.address);
    }

    /// Whether the request is tried again after this response; if not, the client is bound to the backend.
    pub(super) fn answered<B>(&self, backend: &Backend, response: &mut Response<B>) -> bool {
        self.pool.count_response(backend, response.status());
        let is_unavailable = response.status() == StatusCode::SERVICE_UNAVAILABLE;
        if self.is_repeatable && is_unavailable && self.go_on(self.pool.settings().retry.on.unavailable) {
            return true;
        }
        if let Some(session) = &self.session {
            session.grant(&self.pool, backend, response);
        }
        false
    }

    /// Whether the request is tried again after this failure; `may_repeat` if there is a request to send.
    pub(super) fn failed(
        &self,
        backend: &Backend,
        failure: &Failure,
        may_repeat: bool,
        record: &Record,
    ) -> bool {
        if failure.fault().is_none() {
            record.end(failure.end());
            return false;
        }
        self.pool.count_failure(backend, failure);
        let is_retried = may_repeat && failure.is_in(&self.pool.settings().retry);
        let is_tried_again = match failure {
            Failure::Connect(_) if is_retried && self.has_more() => {
                self.pool.count_retry();
                true
            }
            _ => self.go_on(is_retried),
        };
        if !is_tried_again {
            record.end(failure.end());
        }
        is_tried_again
    }

    fn has_more(&self) -> bool {
        self.tried.len() < self.pool.settings().retry.tries as usize
    }

    /// Whether to try again; if so, that is counted.
    fn go_on(&self, is_retried: bool) -> bool {
        is_retried && self.has_more() && self.pool.may_retry()
    }
}

impl WorkerPool {
    /// What became of an attempt that another one made needless.
    pub(super) fn passed_over(&self, ended: &Ended) {
        match &ended.sent {
            Ok((response, _)) => self.count_response(&ended.backend, response.status()),
            Err((failure, _)) => self.count_failure(&ended.backend, failure),
        }
    }

    fn count_response(&self, backend: &Backend, status: StatusCode) {
        self.answered(backend, status);
        backend.counters.responded(status);
    }

    fn count_failure(&self, backend: &Backend, failure: &Failure) {
        let Some(fault) = failure.fault() else { return };
        backend.counters.failures.fetch_add(1, Relaxed);
        self.failed(backend, fault, failure);
        // It must not look fast, or new for ever.
        backend.counters.took(self.settings().timeout.read);
        tracing::debug!(backend = %backend.address, pool = self.settings().name, %failure, "a backend did not answer");
    }
}

impl Refusal {
    /// How a request ends after it.
    pub(super) fn end(self) -> End {
        match self {
            Self::Unavailable => End::NoBackend,
            Self::Busy => End::BackendsBusy,
        }
    }

    pub(super) fn response(self) -> Response<ResponseBody> {
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
            Self::Connect(_) | Self::Refused(_) => retry.on.connect,
            Self::Reset(_) | Self::Malformed(_) => retry.on.reset,
            Self::Timeout(_) => retry.on.timeout,
            Self::NoTunnels | Self::Client(_) | Self::Full => false,
        }
    }

    /// What is wrong with the backend; `None` if it is not to blame.
    fn fault(&self) -> Option<Fault> {
        match self {
            Self::Connect(_) => Some(Fault::Connect),
            Self::Reset(_) | Self::Refused(_) | Self::Malformed(_) => Some(Fault::Reset),
            Self::Timeout(_) => Some(Fault::Timeout),
            Self::NoTunnels | Self::Client(_) | Self::Full => None,
        }
    }

    /// How a request ends after it.
    pub(super) fn end(&self) -> End {
        match self {
            Self::Connect(_) => End::ConnectFailed,
            Self::Reset(_) | Self::Refused(_) | Self::Malformed(_) | Self::NoTunnels => End::BackendGone,
            Self::Timeout(_) => End::BackendTimeout,
            Self::Client(ClientFault::Slow) => End::ClientSlow,
            Self::Client(ClientFault::Broken) => End::ClientGone,
            Self::Client(ClientFault::TooLarge) => End::TooLarge,
            Self::Full => End::ConnectionsFull,
        }
    }

    /// The response to a client of this listener.
    pub(super) fn response(&self, counters: &ListenerCounters) -> Response<ResponseBody> {
        match self {
            Self::Connect(_) | Self::Reset(_) | Self::Refused(_) | Self::Malformed(_) => {
                reply::text(StatusCode::BAD_GATEWAY, "the backend did not answer\n")
            }
            Self::NoTunnels => {
                reply::text(StatusCode::NOT_IMPLEMENTED, "the backend takes no WebSockets over HTTP/2\n")
            }
            Self::Timeout(_) => {
                reply::text(StatusCode::GATEWAY_TIMEOUT, "the backend did not answer in time\n")
            }
            Self::Client(ClientFault::Slow) => {
                counters.slow_uploads.fetch_add(1, Relaxed);
                reply::text(StatusCode::REQUEST_TIMEOUT, "the request did not come in time\n")
            }
            Self::Client(ClientFault::TooLarge) => {
                counters.too_large.fetch_add(1, Relaxed);
                reply::too_large()
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
