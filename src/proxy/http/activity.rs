//! Whether a client's connection has requests in progress.

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll};
use std::time::Duration;

use hyper::body::{Body, Bytes, Frame, SizeHint};
use tokio::time::{Instant, sleep_until};

use crate::proxy::access::{End, Record};

/// The requests of a connection.
pub(super) struct Activity {
    in_progress: Cell<usize>,
    /// When the last of them ended, or the connection began.
    since: Cell<Instant>,
    begun: Cell<u64>,
    /// The last that began, until its task is known.
    without_task: Cell<Option<u64>>,
    /// The requests whose response waits for the client, and since when.
    waiting: RefCell<BTreeMap<u64, Instant>>,
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
        ongoing.busy.waits_for_client();
        if body.is_end_stream() {
            ongoing.record.end(End::Complete);
        }
        Self { body, ongoing }
    }
}

impl Activity {
    pub(super) fn new() -> Rc<Self> {
        let since = Cell::new(Instant::now());
        Rc::new(Self {
            in_progress: Cell::new(0),
            since,
            begun: Cell::new(0),
            without_task: Cell::new(None),
            waiting: RefCell::default(),
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

    /// Waits until the response to a request has waited for the client for this time. Where a client opens no window for an
    /// HTTP/2 stream, nothing is written that could take too long.
    pub(super) async fn stalled(&self, request: u64, limit: Duration) {
        loop {
            let now = Instant::now();
            let since = self.waiting.borrow().get(&request).copied();
            let until = since.unwrap_or(now) + limit;
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
    fn waits_for_client(&self) {
        self.activity.waiting.borrow_mut().insert(self.number, Instant::now());
    }

    fn goes_on(&self) {
        self.activity.waiting.borrow_mut().remove(&self.number);
    }
}

impl Drop for Busy {
    fn drop(&mut self) {
        self.goes_on();
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
                self.ongoing.busy.waits_for_client();
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
