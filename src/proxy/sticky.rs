//! Clients that stay with a backend by a cookie.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::atomic::Ordering::Relaxed;

use http::header::SET_COOKIE;
use http::{HeaderMap, StatusCode};

use super::counters::PoolCounters;
use super::pools::{Backend, WorkerPool};
use crate::model::Pool;
use crate::net::clock::Clock;
use crate::route::{Cookies, NoSession, Tag};
use crate::standing::OpenAddress;

/// The cookies of a pool, and which of its open addresses they stand for.
pub(super) struct Sessions {
    cookies: Cookies,
    /// The index among the open addresses.
    open: HashMap<Tag, usize>,
}

/// The session of a request.
pub(super) struct Session {
    /// The backend of its cookie, until that is chosen, and whether the cookie is to be renewed.
    bound: Option<(Rc<Backend>, bool)>,
    /// The backend that the client need not be told.
    known: Option<SocketAddr>,
    /// Whether it came over TLS.
    is_secure: bool,
}

impl Sessions {
    pub(super) fn of(pool: &Pool, open: &[OpenAddress]) -> Option<Self> {
        let mut sessions = Self { cookies: Cookies::of(pool)?, open: HashMap::new() };
        sessions.renew(open);
        Some(sessions)
    }

    /// Takes over other open addresses.
    pub(super) fn renew(&mut self, open: &[OpenAddress]) {
        self.open.clear();
        for (index, it) in open.iter().enumerate() {
            self.open.extend(self.cookies.tags(it.address).map(|tag| (tag, index)));
        }
    }

    /// The open address that a request's cookie stands for, and whether the cookie is to be renewed. The backend gets the
    /// request without the cookie.
    pub(super) fn take(&self, headers: &mut HeaderMap, counters: &PoolCounters) -> Option<(usize, bool)> {
        let read = self.cookies.read(headers, Clock::unix());
        self.cookies.remove_from(headers);
        match read {
            Ok(session) => {
                let open = self.open.get(&session.tag);
                let counter = if open.is_some() { &counters.kept } else { &counters.moved };
                counter.fetch_add(1, Relaxed);
                open.map(|index| (*index, session.is_due))
            }
            Err(NoSession::Absent) => None,
            Err(_) => {
                counters.invalid_cookies.fetch_add(1, Relaxed);
                None
            }
        }
    }

    fn cookies(&self) -> &Cookies {
        &self.cookies
    }
}

impl Session {
    pub(super) fn new(bound: Option<(Rc<Backend>, bool)>, is_secure: bool) -> Self {
        Self { bound, known: None, is_secure }
    }

    /// The backend that the client is bound to; only once: if that fails, the client is bound to another.
    pub(super) fn take_backend(&mut self) -> Option<Rc<Backend>> {
        let (backend, is_due) = self.bound.take()?;
        self.known = (!is_due).then_some(backend.address);
        Some(backend)
    }

    /// Binds the client to the backend that answered, unless it is already, or the backend says that it cannot serve.
    pub(super) fn grant<B>(&self, pool: &WorkerPool, backend: &Backend, response: &mut http::Response<B>) {
        const CANNOT_SERVE: [StatusCode; 3] =
            [StatusCode::BAD_GATEWAY, StatusCode::SERVICE_UNAVAILABLE, StatusCode::GATEWAY_TIMEOUT];
        if self.known == Some(backend.address) || CANNOT_SERVE.contains(&response.status()) {
            return;
        }
        let grant = |it: &Sessions| it.cookies().grant(backend.address, Clock::unix(), self.is_secure);
        if let Some(cookie) = pool.with_sessions(grant) {
            response.headers_mut().append(SET_COOKIE, cookie);
        }
    }
}
