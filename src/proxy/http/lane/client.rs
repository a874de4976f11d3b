//! The lane's connections to backends, for requests of the general path: those without a body, which are most.

use std::future::poll_fn;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::{Buf as _, Bytes, BytesMut};
use http::{Method, Request, Response};
use hyper::body::{Body, Frame, SizeHint};
use hyper::ext::ReasonPhrase;
use tokio::time::sleep;
use tokio_util::sync::{CancellationToken, WaitForCancellationFutureOwned};

use super::backend::{self, Plain};
use super::chunks::{Chunks, Malformed, Piece};
use super::relay::COPIED;
use super::response::Answered;
use super::wire::poll_write_all;
use super::{request, upload};
use crate::proxy::buffers;
use crate::proxy::http::body::BodyError;
use crate::proxy::http::exchange::Failed;
use crate::proxy::http::headers::Framing;
use crate::proxy::http::request_body::RequestBody;
use crate::proxy::pools::{Backend, WorkerPool};
use crate::proxy::upstream::Failure;

/// Sends a request without a body over an idle connection or a new one. `is_repeatable` if it may be sent again although
/// the backend may have seen it.
///
/// # Errors
/// The failure, and the request if the backend cannot have seen it.
pub(in crate::proxy::http) async fn send(
    pool: &WorkerPool,
    backend: &Backend,
    request: Request<RequestBody>,
    is_repeatable: bool,
) -> Result<Response<PlainBody>, Failed> {
    let (parts, body) = request.into_parts();
    let mut head = buffers::to_write();
    request::write(&parts, &upload::Body::Ended, &mut head);
    let mut is_begun = false;
    let mut may_reuse = true;
    let sent = loop {
        // A request that cannot be sent again is not sent over a connection that may have ended.
        let idle = if may_reuse { backend.take_plain(!is_repeatable) } else { None };
        let is_reused = idle.is_some();
        let mut plain = match idle {
            Some(plain) => plain,
            // In a box, since most requests need no new connection.
            None => match Box::pin(Plain::connect(backend, pool)).await {
                Ok(plain) => plain,
                Err(failure) => break Err(failure),
            },
        };
        match exchange(&mut plain, (backend, pool), &parts.method, &head, &mut is_begun).await {
            Ok(answered) => break Ok(response(answered, plain, backend)),
            // The backend closed the idle connection while the request was on its way.
            Err(Failure::Reset(_)) if is_reused && (is_repeatable || !is_begun) => {
                // What it may have seen once goes over a new connection, so that it sees it twice at most.
                may_reuse = !is_begun;
            }
            Err(failure) => break Err(failure),
        }
    };
    buffers::give_back_written(head);
    sent.map_err(|failure| (failure, (!is_begun).then(|| Request::from_parts(parts, body))))
}

/// Writes the head of a request, and waits for the head of the response.
async fn exchange(
    plain: &mut Plain,
    (backend, pool): (&Backend, &WorkerPool),
    method: &Method,
    head: &[u8],
    is_begun: &mut bool,
) -> Result<Answered, Failure> {
    let (mut written, mut is_writing) = (0, true);
    let answered = poll_fn(|cx| {
        // If it cannot be written, what the backend has sent before may say why.
        is_writing =
            is_writing && poll_write_all(&mut plain.wire.stream, [head], &mut written, cx).is_pending();
        *is_begun |= written > 0;
        backend::poll_head(&mut plain.wire, method, cx)
    });
    let limit = pool.settings().timeout.read;
    tokio::select! {
        biased;
        answered = answered => answered,
        () = backend.ended.cancelled() => Err(Failure::left()),
        () = sleep(limit) => Err(Failure::Timeout(limit)),
    }
}

fn response(answered: Answered, plain: Plain, backend: &Backend) -> Response<PlainBody> {
    let Answered { mut head, reason, framing, keeps } = answered;
    if head.status().canonical_reason().map(str::as_bytes) != Some(&*reason)
        && let Ok(reason) = ReasonPhrase::try_from(reason)
    {
        head.extensions_mut().insert(reason);
    }
    let left = match framing {
        Framing::None | Framing::Length(0) => Left::Nothing,
        Framing::Length(length) => Left::Bytes(length),
        Framing::Chunked => Left::Chunks(Chunks::new()),
        Framing::UntilClose => Left::UntilClose,
    };
    head.map(|()| PlainBody { plain, left, keeps, ended: backend.ended.clone(), leaving: None })
}

/// The body of a response, without its trailers.
pub(in crate::proxy) struct PlainBody {
    plain: Plain,
    left: Left,
    /// Whether the backend keeps the connection open after it.
    keeps: bool,
    /// Cancelled when the backend may be used no longer.
    ended: CancellationToken,
    /// Waits for that. `None` until the body has to be waited for.
    leaving: Option<Pin<Box<WaitForCancellationFutureOwned>>>,
}

/// What is still to come of a body.
enum Left {
    Nothing,
    Bytes(u64),
    Chunks(Chunks),
    UntilClose,
}

impl PlainBody {
    /// Keeps the connection, if it can have another request.
    pub(in crate::proxy::http) fn keep(self, backend: &Backend, pool: &WorkerPool) {
        if self.keeps && self.is_end_stream() && self.plain.wire.unread.is_empty() {
            backend.keep_plain(self.plain, pool.settings().keepalive);
        }
    }

    /// The next part of what was received; `None` if there is none.
    fn part(&mut self) -> Result<Option<Bytes>, Malformed> {
        let unread = &mut self.plain.wire.unread;
        let length = match &mut self.left {
            Left::Nothing => 0,
            Left::Bytes(left) => {
                let length = usize::try_from(*left).unwrap_or(usize::MAX).min(unread.len());
                *left -= length as u64;
                if *left == 0 {
                    self.left = Left::Nothing;
                }
                length
            }
            Left::Chunks(chunks) => match chunks.next(unread)? {
                Piece::Data(length) => length,
                Piece::Wait => 0,
                Piece::End => {
                    self.left = Left::Nothing;
                    0
                }
            },
            Left::UntilClose => unread.len(),
        };
        Ok((length > 0).then(|| take(unread, length)))
    }
}

/// Takes bytes from the beginning. Few of them are copied, since a slow client would otherwise keep the whole buffer.
fn take(unread: &mut BytesMut, length: usize) -> Bytes {
    if length >= COPIED {
        return unread.split_to(length).freeze();
    }
    let copy = Bytes::copy_from_slice(&unread[..length]);
    unread.advance(length);
    copy
}

impl Body for PlainBody {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        let body = self.get_mut();
        loop {
            match body.part() {
                Ok(Some(part)) => return Poll::Ready(Some(Ok(Frame::data(part)))),
                Ok(None) if body.is_end_stream() => return Poll::Ready(None),
                Ok(None) => {}
                Err(Malformed) => {
                    return Poll::Ready(Some(Err("the backend's chunks are not valid".into())));
                }
            }
            let filled = body.plain.wire.poll_fill(cx);
            if filled.is_pending() {
                let ended = &body.ended;
                let leaving = body.leaving.get_or_insert_with(|| Box::pin(ended.clone().cancelled_owned()));
                ready!(leaving.as_mut().poll(cx));
                return Poll::Ready(Some(Err(backend::left().into())));
            }
            match (ready!(filled), &body.left) {
                (Ok(0), Left::UntilClose) => body.left = Left::Nothing,
                (Ok(0), _) => {
                    return Poll::Ready(Some(Err(io::Error::from(io::ErrorKind::UnexpectedEof).into())));
                }
                (Ok(_), _) => {}
                (Err(error), _) => return Poll::Ready(Some(Err(error.into()))),
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        matches!(self.left, Left::Nothing)
    }

    fn size_hint(&self) -> SizeHint {
        match self.left {
            Left::Nothing => SizeHint::with_exact(0),
            Left::Bytes(left) => SizeHint::with_exact(left),
            Left::Chunks(_) | Left::UntilClose => SizeHint::default(),
        }
    }
}
