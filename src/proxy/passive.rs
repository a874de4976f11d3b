//! Requests that fail: counted for each address by all workers together, and reported to the engine once they are too many.
//!
//! The engine decides what follows, and every worker learns of it as of any change: by the next snapshot.

use std::fmt;
use std::sync::atomic::{AtomicU32, Ordering::Relaxed};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use http::StatusCode;
use tokio::sync::mpsc;
use tokio::time::Instant;

use super::pools::{Backend, WorkerPool};
use crate::health::FailingRequests;
use crate::model::PassiveOn;

/// The time over which an error rate is computed: long enough for some requests, short enough to forget a past trouble.
const RATE_WINDOW: Duration = Duration::from_secs(10);

/// What the requests to an address came to.
#[derive(Debug, Default)]
pub(super) struct Outcomes {
    /// Failures since the last success.
    consecutive: AtomicU32,
    /// Successes and failures of the current window.
    succeeded: AtomicU32,
    failed: AtomicU32,
    /// When the window began; locked once a second by each worker, and not by requests.
    window: Mutex<Option<Instant>>,
}

/// What is wrong with a backend, if a request failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Fault {
    /// No connection could be made.
    Connect,
    /// The connection ended before the head of the response.
    Reset,
    /// The response did not begin in time.
    Timeout,
    /// The response says that the backend failed.
    Response,
}

impl Fault {
    /// What a response says about its backend. 501 and 505 are about the request: a client could have a backend ejected.
    pub(super) fn of_response(status: StatusCode) -> Option<Self> {
        let is_of_request =
            matches!(status, StatusCode::NOT_IMPLEMENTED | StatusCode::HTTP_VERSION_NOT_SUPPORTED);
        (status.is_server_error() && !is_of_request).then_some(Self::Response)
    }

    fn is_in(self, on: PassiveOn) -> bool {
        match self {
            Self::Connect => on.connect,
            Self::Reset => on.reset,
            Self::Timeout => on.timeout,
            Self::Response => on.server_error,
        }
    }
}

impl Outcomes {
    /// Begins a new window if it is time.
    pub(super) fn renew_window(&self, now: Instant) {
        let mut began = self.window.lock().unwrap_or_else(PoisonError::into_inner);
        if began.is_none_or(|began| now.saturating_duration_since(began) >= RATE_WINDOW) {
            *began = Some(now);
            self.forget_window();
        }
    }

    fn forget_window(&self) {
        self.succeeded.store(0, Relaxed);
        self.failed.store(0, Relaxed);
    }
}

impl WorkerPool {
    /// A backend answered a request with this status.
    pub(super) fn answered(&self, backend: &Backend, status: StatusCode) {
        match Fault::of_response(status) {
            Some(fault) => self.failed(backend, fault, &format_args!("HTTP {}", status.as_u16())),
            None => self.succeeded(backend),
        }
    }

    /// A backend took a connection, or answered a request as it should.
    pub(super) fn succeeded(&self, backend: &Backend) {
        let Some(passive) = &self.settings().passive else { return };
        let outcomes = &backend.counters.outcomes;
        // As long as all is well, the memory that workers share is only read.
        if outcomes.consecutive.load(Relaxed) != 0 {
            outcomes.consecutive.store(0, Relaxed);
        }
        if passive.errors.is_some() {
            outcomes.succeeded.fetch_add(1, Relaxed);
        }
    }

    /// A request or connection failed: `why` is a clause.
    pub(super) fn failed(&self, backend: &Backend, fault: Fault, why: &dyn fmt::Display) {
        let pool = self.settings();
        let Some(passive) = pool.passive.as_ref().filter(|it| fault.is_in(it.on)) else { return };
        let outcomes = &backend.counters.outcomes;
        let consecutive = outcomes.consecutive.fetch_add(1, Relaxed).saturating_add(1);
        let failed = outcomes.failed.fetch_add(1, Relaxed).saturating_add(1);
        let all = failed.saturating_add(outcomes.succeeded.load(Relaxed));
        let evidence = if consecutive >= passive.failures {
            match consecutive {
                1 => format!("a request failed: {why}"),
                _ => format!("{consecutive} consecutive requests failed, the last: {why}"),
            }
        } else if passive.is_error_rate(failed, all) {
            format!("{failed} of {all} requests failed, the last: {why}")
        } else {
            return;
        };
        // From here on it is counted anew: the engine hears of each failure once.
        outcomes.consecutive.store(0, Relaxed);
        outcomes.forget_window();
        let report = FailingRequests { pool: pool.name.clone(), address: backend.address, evidence };
        // If the engine is that busy, the next failures are reported.
        if let Err(mpsc::error::TrySendError::Full(report)) = self.shared.failing.try_send(report) {
            tracing::debug!(backend = %report.address, "too many reports of failing requests");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_response_says_about_its_backend() {
        for (status, is_fault) in
            [(200, false), (404, false), (429, false), (500, true), (501, false), (503, true), (505, false)]
        {
            let status = StatusCode::from_u16(status).unwrap();
            assert_eq!(Fault::of_response(status).is_some(), is_fault, "{status}");
        }
    }

    #[test]
    fn failures_of_long_ago_do_not_count() {
        let (outcomes, now) = (Outcomes::default(), Instant::now());
        outcomes.renew_window(now);
        outcomes.failed.store(7, Relaxed);
        outcomes.renew_window(now + RATE_WINDOW / 2);
        assert_eq!(outcomes.failed.load(Relaxed), 7);
        outcomes.renew_window(now + RATE_WINDOW);
        assert_eq!(outcomes.failed.load(Relaxed), 0);
    }
}
