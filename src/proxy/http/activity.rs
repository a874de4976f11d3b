//! Whether a client's connection has requests in progress.

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll};
use std::time::Duration;

use hyper::body::{Body, Bytes, Frame, SizeHint};
use tokio::time::{Instant, sleep_until};

use crate::model::RequestLimits;
use crate::proxy::access::{End, Record};
use crate::proxy::pace::Pace;

/// The requests of a connection.
pub(super) struct Activity {
    in_progress: Cell<usize>,
    /// When the last of them ended, or the connection began.
    since: Cell<Instant>,
    begun: Cell<u64>,
    /// The last that began, until its task is known.
    without_task: Cell<Option<u64>>,
    /// The requests whose response has begun.
    responding: RefCell<BTreeMap<u64, Responding>>,
    limits: RequestLimits,
}

/// A response on its way to the client.
struct Responding {
    /// Since when it waits for the client, if it does.
    since: Option<Instant>,
    pace: Pace,
    /// Bytes that the client takes now.
    part: u64,
}

/// A request in progress.
pub(super) struct Busy {
    activity: Rc<Activity>,
    /// Tells it apart from others of the connection.
    number: u64,
}

/// The body of a response; its request is in progress until it is dropped, and what it was upgraded to has ended.
pub(super) struct During<B> {
    body: B,
    ongoing: Rc<Ongoing>,
}

/// A request in progress, and what is noted of it.
pub(super) struct Ongoing {
    pub(super) record: Record,
    busy: Busy,
}

impl Ongoing {
    pub(super) fn new(busy: Busy, record: Record) -> Self {
        Self { record, busy }
    }
}

impl<B: Body> During<B> {
    pub(super) fn new(body: B, ongoing: Rc<Ongoing>) -> Self {
        ongoing.busy.waits_for_client(0);
        if body.is_end_stream() {
            ongoing.record.end(End::Complete);
        }
        Self { body, ongoing }
    }
}

impl Activity {
    pub(super) fn new(limits: RequestLimits) -> Rc<Self> {
        let since = Cell::new(Instant::now());
        Rc::new(Self {
            in_progress: Cell::new(0),
            since,
            begun: Cell::new(0),
            without_task: Cell::new(None),
            responding: RefCell::default(),
            limits,
        })
    }

    /// A request begins.
    pub(super) fn begin(self: &Rc<Self>) -> Busy {
        self.in_progress.set(self.in_progress.get() + 1);
        self.begun.set(self.begun.get() + 1);
        self.without_task.set(Some(self.begun.get()));
        Busy { activity: Rc::clone(self), number: self.begun.get() }
    }

    /// The request that began just now, once.
    pub(super) fn take_begun(&self) -> Option<u64> {
        self.without_task.take()
    }

    /// Waits until the response to a request has waited for the client for this time, or the client is too slow. Where a client opens no window for an
    /// HTTP/2 stream, nothing is written that could take too long.
    pub(super) async fn stalled(&self, request: u64, limit: Duration) {
        loop {
            let now = Instant::now();
            let until = self.responding.borrow().get(&request).and_then(|it| it.until(limit));
            let until = until.unwrap_or_else(|| now + limit.min(self.limits.grace));
            if until <= now {
                return;
            }
            sleep_until(until).await;
        }
    }

    /// Waits until there has been no request for this time.
    pub(super) async fn idle(&self, limit: Duration) {
        loop {
            let now = Instant::now();
            let until = if self.in_progress.get() > 0 { now + limit } else { self.since.get() + limit };
            if until <= now {
                return;
            }
            sleep_until(until).await;
        }
    }

    /// The same, counted from now on.
    pub(super) async fn idle_from_now(&self, limit: Duration) {
        self.since.set(Instant::now());
        self.idle(limit).await;
    }
}

impl Busy {
    /// The client is to take this many bytes.
    fn waits_for_client(&self, part: usize) {
        let mut responding = self.activity.responding.borrow_mut();
        let response = responding.entry(self.number).or_insert_with(|| {
            let pace = Pace::of_download(&self.activity.limits);
            Responding { since: None, pace, part: 0 }
        });
        response.goes_on();
        response.since = Some(Instant::now());
        response.pace.wait();
        response.part = part as u64;
    }

    /// The client has taken all that there is.
    fn goes_on(&self) {
        if let Some(response) = self.activity.responding.borrow_mut().get_mut(&self.number) {
            response.goes_on();
        }
    }
}

impl Responding {
    fn goes_on(&mut self) {
        self.since = None;
        self.pace.moved(std::mem::take(&mut self.part));
    }

    /// When the client has taken nothing for this time, or is too slow.
    fn until(&self, limit: Duration) -> Option<Instant> {
        let stalls_at = self.since? + limit;
        Some(self.pace.until().map_or(stalls_at, |it| it.min(stalls_at)))
    }
}

impl Drop for Busy {
    fn drop(&mut self) {
        self.activity.responding.borrow_mut().remove(&self.number);
        self.activity.in_progress.set(self.activity.in_progress.get() - 1);
        self.activity.since.set(Instant::now());
    }
}

impl<B: Body<Data = Bytes> + Unpin> Body for During<B> {
    type Data = B::Data;
    type Error = B::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<B::Data>, B::Error>>> {
        // It is polled when the client has room for more.
        let frame = Pin::new(&mut self.body).poll_frame(cx);
        match &frame {
            Poll::Pending => self.ongoing.busy.goes_on(),
            Poll::Ready(frame) => {
                let data = frame.as_ref().and_then(|it| it.as_ref().ok()?.data_ref());
                self.ongoing.busy.waits_for_client(data.map_or(0, Bytes::len));
                match frame {
                    Some(Ok(frame)) => self.ongoing.record.sent(frame.data_ref().map_or(0, Bytes::len)),
                    Some(Err(_)) => self.ongoing.record.end(End::BackendGone),
                    None => self.ongoing.record.end(End::Complete),
                }
                if self.body.is_end_stream() {
                    self.ongoing.record.end(End::Complete);
                }
            }
        }
        frame
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}
