//! Whether a client's connection has requests in progress.

use std::cell::Cell;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll};
use std::time::Duration;

use hyper::body::{Body, Frame, SizeHint};
use tokio::time::{Instant, sleep_until};

/// The requests of a connection.
pub(super) struct Activity {
    in_progress: Cell<usize>,
    /// When the last of them ended, or the connection began.
    since: Cell<Instant>,
}

/// A request in progress.
pub(super) struct Busy(Rc<Activity>);

/// The body of a response; its request is in progress until it is dropped.
pub(super) struct During<B> {
    pub(super) body: B,
    pub(super) _busy: Busy,
}

impl Activity {
    pub(super) fn new() -> Rc<Self> {
        Rc::new(Self { in_progress: Cell::new(0), since: Cell::new(Instant::now()) })
    }

    /// A request begins.
    pub(super) fn begin(self: &Rc<Self>) -> Busy {
        self.in_progress.set(self.in_progress.get() + 1);
        Busy(Rc::clone(self))
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

impl Drop for Busy {
    fn drop(&mut self) {
        self.0.in_progress.set(self.0.in_progress.get() - 1);
        self.0.since.set(Instant::now());
    }
}

impl<B: Body + Unpin> Body for During<B> {
    type Data = B::Data;
    type Error = B::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<B::Data>, B::Error>>> {
        Pin::new(&mut self.body).poll_frame(cx)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}
