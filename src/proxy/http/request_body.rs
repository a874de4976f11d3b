//! The bodies of requests on their way to backends.

use std::cell::{Cell, RefCell};
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use http::HeaderMap;
use hyper::body::{Body, Bytes, Frame, Incoming, SizeHint};
use tokio::time::{Instant, sleep_until};
use tokio_util::sync::CancellationToken;

use super::body::{BodyError, Interruption, Patience, relay};
use crate::model::RequestLimits;
use crate::proxy::pace::Pace;

/// The body of a request on its way to a backend.
pub(in crate::proxy) struct RequestBody {
    /// `None` if there is no body.
    upload: Option<Rc<Upload>>,
    /// Which of the times that it is sent this is.
    turn: u64,
    /// How many of the kept parts have been sent this time.
    repeated: usize,
}

/// How the body of a request gets on, for whoever waits for the response.
#[derive(Default)]
pub(in crate::proxy) struct Upload {
    ended: RefCell<CancellationToken>,
    fault: Cell<Option<ClientFault>>,
    received: Cell<u64>,
    /// `None` if nobody takes the body any more, or it comes another way than through a [`RequestBody`].
    source: RefCell<Option<Source>>,
    /// The last time that it was sent.
    turn: Cell<u64>,
    /// Since when the backend has taken nothing of what is there; `None` while the client is waited for.
    waiting: Cell<Option<Instant>>,
    /// Wakes whoever sends it on, while the client is waited for.
    waker: Cell<Option<Waker>>,
    is_answered: Cell<bool>,
}

/// Where the body of a request comes from.
struct Source {
    incoming: Incoming,
    patience: Patience,
    pace: Pace,
    /// Bytes that it may have.
    most: u64,
    kept: Option<Kept>,
}

/// What was sent of a body, all of it from the beginning.
#[derive(Default)]
struct Kept {
    parts: Vec<Part>,
    bytes: usize,
}

#[derive(Clone)]
enum Part {
    Data(Bytes),
    Trailers(HeaderMap),
}

/// Bytes of a body that are kept until there is a response, so that a request that an HTTP/2 backend has refused can be
/// sent again: a usual message of gRPC. They take no memory of their own while the client's connection has them.
const MOST_KEPT: usize = 64 * 1024;

/// What a client did wrong with the body of a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::proxy) enum ClientFault {
    /// It sent nothing, or too little, for too long.
    Slow,
    /// It sent more than it may.
    TooLarge,
    /// It went away, or what it sent was not valid.
    Broken,
}

impl RequestBody {
    /// The body of a client's request, each part of which must come within `patience`. Clients of gRPC may keep a stream
    /// open and send rarely.
    pub(in crate::proxy) fn of(
        incoming: Incoming,
        patience: Duration,
        limits: &RequestLimits,
        is_call: bool,
    ) -> Self {
        if incoming.is_end_stream() {
            return Self::empty();
        }
        let pace = if is_call { Pace::any() } else { Pace::of_upload(limits) };
        let most = limits.body.unwrap_or(u64::MAX);
        let source = Source { incoming, patience: Patience::of(patience), pace, most, kept: None };
        let upload = Upload { source: RefCell::new(Some(source)), ..Upload::default() };
        upload.waiting.set(Some(Instant::now()));
        Self { upload: Some(Rc::new(upload)), turn: 0, repeated: 0 }
    }

    pub(in crate::proxy) fn upload(&self) -> Option<Rc<Upload>> {
        self.upload.clone()
    }

    /// Whether there is nothing to send, so that the request can be sent again.
    pub(in crate::proxy) fn is_empty(&self) -> bool {
        self.upload.is_none()
    }

    pub(in crate::proxy) fn empty() -> Self {
        Self { upload: None, turn: 0, repeated: 0 }
    }

    /// Keeps what is sent of it, as far as [`MOST_KEPT`] allows, so that it can be [repeated](Upload::again).
    pub(in crate::proxy) fn keep(&self) {
        let Some(upload) = &self.upload else { return };
        if let Some(source) = &mut *upload.source.borrow_mut() {
            source.kept = Some(Kept::default());
        }
    }

    fn is_current(&self, upload: &Upload) -> bool {
        upload.turn.get() == self.turn
    }
}

impl Drop for RequestBody {
    fn drop(&mut self) {
        if let Some(upload) = &self.upload
            && self.is_current(upload)
        {
            upload.ended.borrow().cancel();
        }
    }
}

impl Upload {
    /// Waits until the whole body is with the connection to the backend, or will never be.
    pub(in crate::proxy) async fn ended(&self) {
        let ended = self.ended.borrow().clone();
        ended.cancelled().await;
    }

    /// Waits until the backend has taken nothing for this time although there was something.
    pub(in crate::proxy) async fn stuck(&self, limit: Duration) {
        loop {
            let now = Instant::now();
            let until = self.waiting.get().unwrap_or(now) + limit;
            if until <= now {
                return;
            }
            sleep_until(until).await;
        }
    }

    /// Whether the whole body is with the connection to the backend.
    pub(in crate::proxy) fn is_complete(&self) -> bool {
        self.ended.borrow().is_cancelled()
    }

    /// The whole body once more; `None` if too much of it was sent, or the client has failed. What was sent before ends with
    /// an error.
    pub(in crate::proxy) fn again(self: &Rc<Self>) -> Option<RequestBody> {
        let is_whole = self.source.borrow().as_ref().is_some_and(|source| source.kept.is_some());
        if !is_whole || self.fault().is_some() {
            return None;
        }
        self.turn.set(self.turn.get() + 1);
        *self.ended.borrow_mut() = CancellationToken::new();
        self.waiting.set(Some(Instant::now()));
        Some(RequestBody { upload: Some(Rc::clone(self)), turn: self.turn.get(), repeated: 0 })
    }

    /// There is a response: the body will not be sent again.
    pub(in crate::proxy) fn is_answered(&self) {
        if let Some(source) = &mut *self.source.borrow_mut() {
            source.kept = None;
        }
    }

    /// Takes no more of the client. What is being sent ends with an error.
    pub(in crate::proxy) fn give_up(&self) {
        if self.is_complete() {
            return;
        }
        self.source.take();
        if let Some(waker) = self.waker.take() {
            waker.wake();
        }
    }

    /// Counts bytes of the body that the client has sent.
    pub(in crate::proxy) fn add(&self, bytes: u64) {
        self.received.set(self.received.get() + bytes);
    }

    /// Bytes of the body that the client has sent.
    pub(in crate::proxy) fn received(&self) -> u64 {
        self.received.get()
    }

    /// The response has begun: from now on the client may send as slowly as the two have agreed on.
    pub(in crate::proxy) fn answered(&self) {
        self.is_answered.set(true);
    }

    /// The client sent more than it may.
    pub(in crate::proxy) fn outgrew(&self) {
        self.fault.set(Some(ClientFault::TooLarge));
    }

    /// Whether the client sent more than it may, and it was too late to refuse the request.
    pub(in crate::proxy) fn has_outgrown(&self) -> bool {
        self.is_answered.get() && self.fault() == Some(ClientFault::TooLarge)
    }

    /// What the client did wrong, if anything.
    pub(in crate::proxy) fn fault(&self) -> Option<ClientFault> {
        self.fault.get()
    }
}

impl Source {
    /// Keeps a part that is sent, or gives up to keep the body.
    fn note(&mut self, frame: &Frame<Bytes>) {
        let Some(kept) = &mut self.kept else { return };
        let part = match (frame.data_ref(), frame.trailers_ref()) {
            (Some(data), _) => Part::Data(data.clone()),
            (None, Some(trailers)) => Part::Trailers(trailers.clone()),
            (None, None) => return,
        };
        kept.bytes += frame.data_ref().map_or(0, Bytes::len);
        if kept.bytes > MOST_KEPT {
            self.kept = None;
            return;
        }
        kept.parts.push(part);
    }

    /// The bytes that were kept from this part on; `None` if nothing is left of them.
    fn repeats(&self, from: usize) -> Option<u64> {
        let parts = self.kept.as_ref()?.parts.get(from..).filter(|parts| !parts.is_empty())?;
        let length = |part: &Part| match part {
            Part::Data(data) => data.len() as u64,
            Part::Trailers(_) => 0,
        };
        Some(parts.iter().map(length).sum())
    }
}

impl Body for RequestBody {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        let Self { upload: Some(upload), turn, repeated } = &mut *self else { return Poll::Ready(None) };
        let mut source = upload.source.borrow_mut();
        let Some(source) = source.as_mut().filter(|_| upload.turn.get() == *turn) else {
            return Poll::Ready(Some(Err("the request is no longer sent".into())));
        };
        if let Some(part) = source.kept.as_ref().and_then(|kept| kept.parts.get(*repeated)) {
            *repeated += 1;
            return Poll::Ready(Some(Ok(match part.clone() {
                Part::Data(data) => Frame::data(data),
                Part::Trailers(trailers) => Frame::trailers(trailers),
            })));
        }
        if upload.is_answered.get() {
            source.pace = Pace::any();
        }
        let Poll::Ready(frame) = relay(&mut source.incoming, &mut source.patience, &mut source.pace, cx)
        else {
            upload.waiting.set(None);
            upload.waker.set(Some(cx.waker().clone()));
            return Poll::Pending;
        };
        upload.waiting.set(Some(Instant::now()));
        match frame {
            Some(Ok(frame)) => {
                upload.add(frame.data_ref().map_or(0, Bytes::len) as u64);
                if upload.received() > source.most {
                    upload.outgrew();
                    return Poll::Ready(Some(Err("the client sent more than it may".into())));
                }
                source.note(&frame);
                *repeated += 1;
                Poll::Ready(Some(Ok(frame)))
            }
            Some(Err(Interruption::Silence(limit))) => {
                upload.fault.set(Some(ClientFault::Slow));
                Poll::Ready(Some(Err(format!("the client sent nothing for {limit:?}, or too little").into())))
            }
            Some(Err(Interruption::Broken(error))) => {
                upload.fault.set(Some(ClientFault::Broken));
                Poll::Ready(Some(Err(error)))
            }
            None => {
                upload.ended.borrow().cancel();
                Poll::Ready(None)
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        let Some(upload) = &self.upload else { return true };
        let source = upload.source.borrow();
        let Some(source) = source.as_ref().filter(|_| self.is_current(upload)) else { return false };
        source.repeats(self.repeated).is_none() && source.incoming.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        let Some(upload) = &self.upload else { return SizeHint::with_exact(0) };
        let source = upload.source.borrow();
        let Some(source) = &*source else { return SizeHint::default() };
        let (hint, repeats) = (source.incoming.size_hint(), source.repeats(self.repeated).unwrap_or(0));
        let mut whole = SizeHint::new();
        whole.set_lower(hint.lower() + repeats);
        if let Some(upper) = hint.upper() {
            whole.set_upper(upper + repeats);
        }
        whole
    }
}
