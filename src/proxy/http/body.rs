//! What relays bodies, and those of responses on their way to clients.

use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use futures_util::FutureExt as _;
use http_body_util::{BodyExt as _, Full};
use hyper::body::{Body, Bytes, Frame, Incoming, SizeHint};
use tokio::time::{Instant, Sleep};

use super::headers;
use super::lane::PlainBody;
use super::request_body::Upload;
use crate::proxy::pace::Pace;
use crate::proxy::pools::WorkerPool;
use crate::proxy::queue::InFlight;
use crate::proxy::streams::Slot;
use crate::proxy::upstream::{self, Idle};

/// Why a body ended early.
pub(in crate::proxy) type BodyError = Box<dyn std::error::Error + Send + Sync>;

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
    body: Received,
    patience: Patience,
    lease: Option<Lease>,
}

/// A body as it comes from a backend.
pub(in crate::proxy) enum Received {
    Hyper(Incoming),
    Plain(PlainBody),
    /// All of it has come.
    Ended,
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
    /// All of one of the lane's. The body of the response has it.
    Plain,
    /// All of an HTTP/1.1 connection.
    Whole(Idle),
    /// A stream of an HTTP/2 connection.
    Stream {
        /// Counts it.
        _slot: Slot,
    },
}

/// The time that may pass without a byte. The timer is only set while one is waited for.
pub(super) struct Patience {
    limit: Duration,
    sleep: Option<Pin<Box<Sleep>>>,
    /// When it is over, while something is waited for.
    until: Option<Instant>,
}

impl Patience {
    pub(super) fn of(limit: Duration) -> Self {
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

    pub(super) fn relayed(body: Received, limit: Duration, lease: Lease) -> Self {
        let mut relayed = Relayed { body, patience: Patience::of(limit), lease: Some(lease) };
        if relayed.body.is_end_stream() {
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
            (None, Connection::Plain) => {
                if let Received::Plain(body) = std::mem::replace(&mut self.body, Received::Ended) {
                    body.keep(&backend, &pool);
                }
            }
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
                let frame = ready!(relay(&mut relayed.body, &mut relayed.patience, &mut Pace::any(), cx));
                match &frame {
                    None => relayed.end(),
                    Some(Ok(_)) if relayed.body.is_end_stream() => relayed.end(),
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
            Self::Relayed(relayed) => relayed.body.is_end_stream(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Self::Own(own) => own.size_hint(),
            Self::Relayed(relayed) => relayed.body.size_hint(),
        }
    }
}

impl Body for Received {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        match self.get_mut() {
            Self::Hyper(body) => Pin::new(body).poll_frame(cx).map_err(BodyError::from),
            Self::Plain(body) => Pin::new(body).poll_frame(cx),
            Self::Ended => Poll::Ready(None),
        }
    }

    fn is_end_stream(&self) -> bool {
        match self {
            Self::Hyper(body) => body.is_end_stream(),
            Self::Plain(body) => body.is_end_stream(),
            Self::Ended => true,
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Self::Hyper(body) => body.size_hint(),
            Self::Plain(body) => body.size_hint(),
            Self::Ended => SizeHint::with_exact(0),
        }
    }
}

/// Why a body does not go on.
pub(super) enum Interruption {
    /// Nothing came for this time.
    Silence(Duration),
    Broken(BodyError),
}

impl Interruption {
    fn into_error(self) -> BodyError {
        match self {
            Self::Silence(limit) => format!("nothing came for {limit:?}").into(),
            Self::Broken(error) => error,
        }
    }
}

/// The next part of a body, or an error if it does not come in time.
pub(super) fn relay<B>(
    body: &mut B,
    patience: &mut Patience,
    pace: &mut Pace,
    cx: &mut Context<'_>,
) -> Poll<Option<Result<Frame<Bytes>, Interruption>>>
where
    B: Body<Data = Bytes, Error: Into<BodyError>> + Unpin,
{
    match Pin::new(body).poll_frame(cx) {
        Poll::Ready(frame) => {
            patience.moved();
            let data = frame.as_ref().and_then(|it| it.as_ref().ok()?.data_ref());
            pace.moved(data.map_or(0, Bytes::len) as u64);
            let broken = |error: B::Error| Interruption::Broken(error.into());
            Poll::Ready(frame.map(|it| it.map(headers::without_framing).map_err(broken)))
        }
        Poll::Pending => {
            pace.wait();
            ready!(patience.poll(pace, cx));
            Poll::Ready(Some(Err(Interruption::Silence(patience.limit))))
        }
    }
}
