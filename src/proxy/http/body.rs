//! The bodies that are relayed.

use std::cell::{Cell, RefCell};
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, Waker, ready};
use std::time::Duration;

use futures_util::FutureExt as _;
use http::HeaderMap;
use http_body_util::{BodyExt as _, Full};
use hyper::body::{Body, Bytes, Frame, Incoming, SizeHint};
use tokio::time::{Instant, Sleep, sleep_until};
use tokio_util::sync::CancellationToken;

use super::headers;
use crate::model::RequestLimits;
use crate::proxy::pace::Pace;
use crate::proxy::pools::WorkerPool;
use crate::proxy::queue::InFlight;
use crate::proxy::streams::Slot;
use crate::proxy::upstream::{self, Idle};

/// Why a body ended early.
pub(in crate::proxy) type BodyError = Box<dyn std::error::Error + Send + Sync>;

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

/// The body of a response on its way to a client.
pub(in crate::proxy) enum ResponseBody {
    /// The proxy's own.
    Own(Full<Bytes>),
    /// A backend's.
    Relayed(Box<Relayed>),
}

/// The body of a backend's response. At its end the connection is kept for other requests; if it is dropped before, the
/// connection is closed.
pub(in crate::proxy) struct Relayed {
    incoming: Incoming,
    patience: Patience,
    lease: Option<Lease>,
}

/// The connection that a response comes over.
pub(in crate::proxy) struct Lease {
    pub(in crate::proxy) connection: Connection,
    /// What the client still sends of the request.
    pub(in crate::proxy) upload: Option<Rc<Upload>>,
    pub(in crate::proxy) pool: Rc<WorkerPool>,
    pub(in crate::proxy) in_flight: InFlight,
}

/// A connection that has a request.
pub(in crate::proxy) enum Connection {
    /// All of an HTTP/1.1 connection.
    Whole(Idle),
    /// A stream of an HTTP/2 connection.
    Stream {
        /// Counts it.
        _slot: Slot,
    },
}

/// The time that may pass without a byte. The timer is only set while one is waited for.
struct Patience {
    limit: Duration,
    sleep: Option<Pin<Box<Sleep>>>,
    /// When it is over, while something is waited for.
    until: Option<Instant>,
}

impl Patience {
    fn of(limit: Duration) -> Self {
        Self { limit, sleep: None, until: None }
    }

    fn moved(&mut self) {
        self.until = None;
    }

    /// Ready once the time is over, or that of `pace`.
    fn poll(&mut self, pace: &Pace, cx: &mut Context<'_>) -> Poll<()> {
        let until = *self.until.get_or_insert_with(|| Instant::now() + self.limit);
        let until = pace.until().map_or(until, |it| it.min(until));
        let sleep = self.sleep.get_or_insert_with(|| Box::pin(tokio::time::sleep_until(until)));
        if sleep.deadline() != until {
            sleep.as_mut().reset(until);
        }
        sleep.as_mut().poll(cx)
    }
}

impl RequestBody {
    /// The body of a client's request with these headers, each part of which must come within `patience`.
    pub(in crate::proxy) fn of(
        incoming: Incoming,
        patience: Duration,
        limits: &RequestLimits,
        headers: &HeaderMap,
    ) -> Self {
        if incoming.is_end_stream() {
            return Self::empty();
        }
        let (pace, most) = (Pace::of_upload(limits, headers), limits.body.unwrap_or(u64::MAX));
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
                    upload.fault.set(Some(ClientFault::TooLarge));
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
                Poll::Ready(Some(Err(error.into())))
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

impl ResponseBody {
    /// All of a body of the proxy's own; `None` for a backend's.
    pub(super) fn own(self) -> Option<Bytes> {
        let Self::Own(mut own) = self else { return None };
        let frame = own.frame().now_or_never().flatten();
        Some(frame.and_then(|it| it.ok()?.into_data().ok()).unwrap_or_default())
    }

    pub(super) fn of(text: String) -> Self {
        Self::Own(Full::from(text))
    }

    /// All of a body that is there.
    pub(super) fn whole(bytes: Bytes) -> Self {
        Self::Own(Full::new(bytes))
    }

    pub(super) fn relayed(incoming: Incoming, limit: Duration, lease: Lease) -> Self {
        let mut relayed = Relayed { incoming, patience: Patience::of(limit), lease: Some(lease) };
        if relayed.incoming.is_end_stream() {
            relayed.end();
        }
        Self::Relayed(Box::new(relayed))
    }
}

impl Relayed {
    /// Keeps the connection, unless the backend wants no more of a request that still comes.
    fn end(&mut self) {
        let Some(Lease { connection, upload, pool, in_flight }) = self.lease.take() else { return };
        let backend = Rc::clone(&in_flight.backend);
        drop(in_flight);
        match (upload.filter(|upload| !upload.is_complete()), connection) {
            (Some(upload), _) => upload.give_up(),
            (None, Connection::Whole(connection)) => upstream::keep(&backend, &pool, connection),
            (None, Connection::Stream { .. }) => {}
        }
    }
}

impl Body for ResponseBody {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        match self.get_mut() {
            Self::Own(own) => Pin::new(own).poll_frame(cx).map_err(|never| match never {}),
            Self::Relayed(relayed) => {
                let frame = ready!(relay(&mut relayed.incoming, &mut relayed.patience, &mut Pace::any(), cx));
                match &frame {
                    None => relayed.end(),
                    Some(Ok(_)) if relayed.incoming.is_end_stream() => relayed.end(),
                    Some(Ok(_)) => {}
                    Some(Err(_)) => drop(relayed.lease.take()),
                }
                Poll::Ready(frame.map(|it| it.map_err(Interruption::into_error)))
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        match self {
            Self::Own(own) => own.is_end_stream(),
            Self::Relayed(relayed) => relayed.incoming.is_end_stream(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Self::Own(own) => own.size_hint(),
            Self::Relayed(relayed) => relayed.incoming.size_hint(),
        }
    }
}

/// Why a body does not go on.
enum Interruption {
    /// Nothing came for this time.
    Silence(Duration),
    Broken(hyper::Error),
}

impl Interruption {
    fn into_error(self) -> BodyError {
        match self {
            Self::Silence(limit) => format!("nothing came for {limit:?}").into(),
            Self::Broken(error) => error.into(),
        }
    }
}

/// The next part of a body, or an error if it does not come in time.
fn relay(
    incoming: &mut Incoming,
    patience: &mut Patience,
    pace: &mut Pace,
    cx: &mut Context<'_>,
) -> Poll<Option<Result<Frame<Bytes>, Interruption>>> {
    match Pin::new(incoming).poll_frame(cx) {
        Poll::Ready(frame) => {
            patience.moved();
            let data = frame.as_ref().and_then(|it| it.as_ref().ok()?.data_ref());
            pace.moved(data.map_or(0, Bytes::len) as u64);
            Poll::Ready(frame.map(|it| it.map(headers::without_framing).map_err(Interruption::Broken)))
        }
        Poll::Pending => {
            pace.wait();
            ready!(patience.poll(pace, cx));
            Poll::Ready(Some(Err(Interruption::Silence(patience.limit))))
        }
    }
}
