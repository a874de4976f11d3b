//! The bodies that are relayed.

use std::cell::Cell;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use futures_util::FutureExt as _;
use http::HeaderMap;
use http_body_util::{BodyExt as _, Full};
use hyper::body::{Body, Bytes, Frame, Incoming, SizeHint};
use tokio::time::{Instant, Sleep};
use tokio_util::sync::CancellationToken;

use crate::model::RequestLimits;
use crate::proxy::pace::Pace;
use crate::proxy::pools::WorkerPool;
use crate::proxy::queue::InFlight;
use crate::proxy::upstream::{self, Idle};

/// Why a body ended early.
pub(in crate::proxy) type BodyError = Box<dyn std::error::Error + Send + Sync>;

/// The body of a request on its way to a backend.
pub(in crate::proxy) struct RequestBody {
    incoming: Option<Incoming>,
    patience: Patience,
    pace: Pace,
    /// Bytes that it may have.
    most: u64,
    /// `None` if there is no body.
    upload: Option<Rc<Upload>>,
}

/// How the body of a request gets on, for whoever waits for the response.
#[derive(Default)]
pub(in crate::proxy) struct Upload {
    ended: CancellationToken,
    fault: Cell<Option<ClientFault>>,
    received: Cell<u64>,
    is_answered: Cell<bool>,
}

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
    pub(in crate::proxy) connection: Idle,
    pub(in crate::proxy) pool: Rc<WorkerPool>,
    pub(in crate::proxy) in_flight: InFlight,
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
        Self {
            incoming: Some(incoming),
            patience: Patience::of(patience),
            pace: Pace::of_upload(limits, headers),
            most: limits.body.unwrap_or(u64::MAX),
            upload: Some(Rc::default()),
        }
    }

    pub(in crate::proxy) fn upload(&self) -> Option<Rc<Upload>> {
        self.upload.clone()
    }

    /// Whether there is nothing to send, so that the request can be sent again.
    pub(in crate::proxy) fn is_empty(&self) -> bool {
        self.incoming.is_none()
    }

    pub(in crate::proxy) fn empty() -> Self {
        let patience = Patience::of(Duration::ZERO);
        Self { incoming: None, patience, pace: Pace::any(), most: 0, upload: None }
    }
}

impl Drop for RequestBody {
    fn drop(&mut self) {
        if let Some(upload) = &self.upload {
            upload.ended.cancel();
        }
    }
}

impl Upload {
    /// Waits until the whole body is with the connection to the backend, or will never be.
    pub(in crate::proxy) async fn ended(&self) {
        self.ended.cancelled().await;
    }

    /// Whether the whole body is with the connection to the backend.
    pub(in crate::proxy) fn is_complete(&self) -> bool {
        self.ended.is_cancelled()
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

impl Body for RequestBody {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        let Self { incoming, patience, pace, most, upload } = &mut *self;
        let (Some(incoming), Some(upload)) = (incoming, upload) else { return Poll::Ready(None) };
        if upload.is_answered.get() {
            *pace = Pace::any();
        }
        match ready!(relay(incoming, patience, pace, cx)) {
            Some(Ok(frame)) => {
                upload.add(frame.data_ref().map_or(0, Bytes::len) as u64);
                if upload.received() > *most {
                    upload.fault.set(Some(ClientFault::TooLarge));
                    return Poll::Ready(Some(Err("the client sent more than it may".into())));
                }
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
                upload.ended.cancel();
                Poll::Ready(None)
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        self.incoming.as_ref().is_none_or(Body::is_end_stream)
    }

    fn size_hint(&self) -> SizeHint {
        self.incoming.as_ref().map_or_else(|| SizeHint::with_exact(0), Body::size_hint)
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
    /// Keeps the connection.
    fn end(&mut self) {
        let Some(Lease { connection, pool, in_flight }) = self.lease.take() else { return };
        let backend = Rc::clone(&in_flight.backend);
        drop(in_flight);
        upstream::keep(&backend, &pool, connection);
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
            Poll::Ready(frame.map(|it| it.map_err(Interruption::Broken)))
        }
        Poll::Pending => {
            pace.wait();
            ready!(patience.poll(pace, cx));
            Poll::Ready(Some(Err(Interruption::Silence(patience.limit))))
        }
    }
}
