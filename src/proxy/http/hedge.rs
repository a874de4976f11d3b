//! Hedging: a request without a response after a while goes to another backend, too, and the first response wins.
//!
//! The other attempts are dropped then: a connection of HTTP/1.1 is closed, a stream of HTTP/2 reset. That is no failure of
//! their backends.

use std::pin::pin;
use std::rc::Rc;
use std::time::Duration;

use futures_util::StreamExt as _;
use futures_util::stream::FuturesUnordered;
use http::Request;
use http::request::Parts;
use tokio::time::{Instant, sleep};

use super::attempts::Attempts;
use super::exchange::{self, Sent};
use super::request_body::RequestBody;
use crate::pick::Hash;
use crate::proxy::access::Record;
use crate::proxy::passive::Fault;
use crate::proxy::pools::Backend;
use crate::proxy::queue::InFlight;

/// An attempt that has ended.
pub(super) struct Ended {
    pub(super) backend: Rc<Backend>,
    pub(super) sent: Sent,
    is_hedge: bool,
}

/// What an attempt is worth to the client, the least first.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Worth {
    Failure,
    /// A response that says that the backend failed: it waits for what the other attempts come to.
    ServerError,
    Response,
}

impl Ended {
    fn worth(&self) -> Worth {
        match &self.sent {
            Err(_) => Worth::Failure,
            Ok((response, _)) if Fault::of_response(response.status()).is_some() => Worth::ServerError,
            Ok(_) => Worth::Response,
        }
    }
}

/// Sends a request to the backend that was claimed, and to others if that takes too long and the pool hedges. `spare` is a
/// copy of its head, if it may be sent again.
pub(super) async fn send(
    attempts: &mut Attempts,
    in_flight: InFlight,
    request: Request<RequestBody>,
    spare: Option<&Parts>,
    (key, record): (Hash, &Record),
) -> Ended {
    let hedge = attempts.pool.settings().hedge.zip(spare);
    if let Some((delay, head)) = hedge.filter(|(_, head)| attempts.may_hedge(&head.method)) {
        // In a box, so that requests of other pools take no more memory for it.
        return Box::pin(race(attempts, delay, (in_flight, request), head, (key, record))).await;
    }
    let backend = Rc::clone(&in_flight.backend);
    let sent = exchange::send(&attempts.pool, in_flight, request, spare).await;
    Ended { backend, sent, is_hedge: false }
}

/// Begins another attempt after each `delay`, until there is a response or no attempt is left.
async fn race(
    attempts: &mut Attempts,
    delay: Duration,
    (in_flight, request): (InFlight, Request<RequestBody>),
    head: &Parts,
    (key, record): (Hash, &Record),
) -> Ended {
    let pool = Rc::clone(&attempts.pool);
    let attempt = |in_flight: InFlight, request, is_hedge| {
        let pool = &pool;
        async move {
            let backend = Rc::clone(&in_flight.backend);
            let sent = exchange::send(pool, in_flight, request, Some(head)).await;
            Ended { backend, sent, is_hedge }
        }
    };
    let mut running = FuturesUnordered::new();
    running.push(attempt(in_flight, request, false));
    let mut next = pin!(sleep(delay));
    let mut may_hedge = true;
    let mut best: Option<Ended> = None;
    loop {
        tokio::select! {
            biased;
            ended = running.select_next_some() => {
                let better = match best.take() {
                    Some(held) if ended.worth() > held.worth() => {
                        attempts.passed_over(&held);
                        ended
                    }
                    Some(held) => {
                        attempts.passed_over(&ended);
                        held
                    }
                    None => ended,
                };
                if better.worth() == Worth::Response || running.is_empty() {
                    attempts.decided(better.is_hedge && better.sent.is_ok(), &better.backend, record);
                    return better;
                }
                best = Some(better);
            }
            () = next.as_mut(), if may_hedge => {
                match attempts.hedge(key, record) {
                    Some(in_flight) => {
                        let again = Request::from_parts(head.clone(), RequestBody::empty());
                        running.push(attempt(in_flight, again, true));
                    }
                    None => may_hedge = false,
                }
                next.as_mut().reset(Instant::now() + delay);
            }
        }
    }
}
