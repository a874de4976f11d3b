//! Hedging: a request without a response after a while goes to another backend, too, and the first response wins.
//!
//! The other attempts are dropped then: a connection of HTTP/1.1 is closed, a stream of HTTP/2 reset. That is no failure of
//! their backends. But a backend that hangs would never fail if all its attempts were dropped. So as many as its pool needs
//! for an ejection go on until they end, by `timeout.read` at the latest: one that is merely slow answers then.

use std::pin::{Pin, pin};
use std::rc::Rc;
use std::task::{self, Poll, ready};
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
use crate::proxy::pools::{Backend, WorkerPool};
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

/// An attempt in progress.
struct Running {
    backend: Rc<Backend>,
    sent: Pin<Box<dyn Future<Output = Sent>>>,
    is_hedge: bool,
}

impl Running {
    fn new(
        pool: &Rc<WorkerPool>,
        in_flight: InFlight,
        request: Request<RequestBody>,
        head: &Rc<Parts>,
        is_hedge: bool,
    ) -> Self {
        let (pool, head, backend) = (Rc::clone(pool), Rc::clone(head), Rc::clone(&in_flight.backend));
        let sent = Box::pin(async move { exchange::send(&pool, in_flight, request, Some(&head)).await });
        Self { backend, sent, is_hedge }
    }
}

impl Future for Running {
    type Output = Ended;

    fn poll(mut self: Pin<&mut Self>, cx: &mut task::Context<'_>) -> Poll<Ended> {
        let sent = ready!(self.sent.as_mut().poll(cx));
        Poll::Ready(Ended { backend: Rc::clone(&self.backend), sent, is_hedge: self.is_hedge })
    }
}

/// Begins another attempt after each `delay`, until there is a response or no attempt is left.
async fn race(
    attempts: &mut Attempts,
    delay: Duration,
    (in_flight, request): (InFlight, Request<RequestBody>),
    head: &Parts,
    (key, record): (Hash, &Record),
) -> Ended {
    let (pool, head) = (Rc::clone(&attempts.pool), Rc::new(head.clone()));
    let mut running = FuturesUnordered::new();
    running.push(Running::new(&pool, in_flight, request, &head, false));
    let mut next = pin!(sleep(delay));
    let mut may_hedge = true;
    let mut best: Option<Ended> = None;
    loop {
        tokio::select! {
            biased;
            ended = running.select_next_some() => {
                let better = match best.take() {
                    Some(held) if ended.worth() > held.worth() => {
                        pool.passed_over(&held);
                        ended
                    }
                    Some(held) => {
                        pool.passed_over(&ended);
                        held
                    }
                    None => ended,
                };
                if better.worth() == Worth::Response || running.is_empty() {
                    attempts.decided(better.is_hedge && better.sent.is_ok(), &better.backend, record);
                    hear_out(&pool, running);
                    return better;
                }
                best = Some(better);
            }
            () = next.as_mut(), if may_hedge => {
                match attempts.hedge(key, record) {
                    Some(in_flight) => {
                        let again = Request::from_parts(Parts::clone(&head), RequestBody::empty());
                        running.push(Running::new(&pool, in_flight, again, &head, true));
                    }
                    None => may_hedge = false,
                }
                next.as_mut().reset(Instant::now() + delay);
            }
        }
    }
}

/// Lets some of the attempts that another one made needless go on: as many for each backend as failures eject it.
fn hear_out(pool: &Rc<WorkerPool>, running: FuturesUnordered<Running>) {
    for attempt in running {
        let Some(awaited) = Awaited::begin(pool, &attempt.backend) else { continue };
        let pool = Rc::clone(pool);
        tokio::task::spawn_local(async move {
            tokio::select! {
                biased;
                () = awaited.0.ended.cancelled() => {}
                ended = attempt => pool.passed_over(&ended),
            }
        });
    }
}

/// An attempt that goes on for what it says of its backend.
struct Awaited(Rc<Backend>);

impl Awaited {
    fn begin(pool: &WorkerPool, backend: &Rc<Backend>) -> Option<Self> {
        let most = pool.settings().passive.as_ref()?.failures;
        let count = backend.awaited.get();
        (count < most).then(|| {
            backend.awaited.set(count + 1);
            Self(Rc::clone(backend))
        })
    }
}

impl Drop for Awaited {
    fn drop(&mut self) {
        self.0.awaited.set(self.0.awaited.get() - 1);
    }
}
