//! Responses on their way to clients.

use std::future::poll_fn;
use std::task::Poll;
use std::time::Duration;

use bytes::Buf as _;
use tokio::io::{AsyncRead, AsyncWrite};

use super::backend::{Stop, Trip};
use super::chunks::{self, Chunks, Piece};
use super::upload::Broken;
use super::wire::poll_write_all;
use super::{Lane, Taking};
use crate::proxy::access::End;
use crate::proxy::http::headers::Framing;
use crate::proxy::http::request_body::ClientFault;

/// Parts of bodies below this are copied rather than written on their own.
pub(super) const COPIED: usize = 4 * 1024;

impl<S: AsyncRead + AsyncWrite + Unpin> Lane<'_, S> {
    /// Writes a head that is ready to be written, and the body that follows it as it comes.
    ///
    /// # Errors
    /// How the response ended, if the client does not get all of it.
    pub(super) async fn relay(&mut self, trip: &mut Trip<'_>, framing: Framing) -> Result<(), End> {
        match framing {
            Framing::None => self.send(trip, 0).await,
            Framing::Length(length) => self.length(trip, length).await,
            Framing::Chunked => self.chunked(trip).await,
            Framing::UntilClose => self.until_close(trip).await,
        }
    }

    async fn length(&mut self, trip: &mut Trip<'_>, length: u64) -> Result<(), End> {
        let mut left = length;
        loop {
            let part = usize::try_from(left).unwrap_or(usize::MAX).min(trip.plain.wire.unread.len());
            trip.record.sent(part);
            self.send(trip, part).await?;
            left -= part as u64;
            if left == 0 {
                return Ok(());
            }
            if self.more(trip).await? == 0 {
                return Err(End::BackendGone);
            }
        }
    }

    async fn chunked(&mut self, trip: &mut Trip<'_>) -> Result<(), End> {
        let mut chunks = Chunks::new();
        loop {
            match chunks.next(&mut trip.plain.wire.unread) {
                Ok(Piece::Data(length)) => self.chunk(trip, length).await?,
                Ok(Piece::Wait) => {
                    self.send(trip, 0).await?;
                    if self.more(trip).await? == 0 {
                        return Err(End::BackendGone);
                    }
                }
                Ok(Piece::End) => break,
                Err(chunks::Malformed) => {
                    self.send(trip, 0).await?;
                    return Err(End::BackendGone);
                }
            }
        }
        self.out.extend_from_slice(chunks::LAST);
        self.send(trip, 0).await
    }

    async fn until_close(&mut self, trip: &mut Trip<'_>) -> Result<(), End> {
        loop {
            let length = trip.plain.wire.unread.len();
            if length > 0 {
                self.chunk(trip, length).await?;
            }
            self.send(trip, 0).await?;
            if self.more(trip).await? == 0 {
                self.out.extend_from_slice(chunks::LAST);
                return self.send(trip, 0).await;
            }
        }
    }

    /// Writes the next bytes of a backend as a chunk, or puts them with what is to be written.
    async fn chunk(&mut self, trip: &mut Trip<'_>, length: usize) -> Result<(), End> {
        trip.record.sent(length);
        chunks::write_size(length, &mut self.out);
        if length < COPIED {
            self.out.extend_from_slice(&trip.plain.wire.unread[..length]);
            trip.plain.wire.unread.advance(length);
        } else {
            self.send(trip, length).await?;
        }
        self.out.extend_from_slice(chunks::DATA_END);
        Ok(())
    }

    /// Receives more of a backend; 0 bytes at the end.
    async fn more(&mut self, trip: &mut Trip<'_>) -> Result<usize, End> {
        let limit: Duration = trip.pool.settings().timeout.read;
        let Trip { in_flight, plain, upload, .. } = trip;
        let more = self.while_wanted(plain, &in_flight.backend, upload, limit, |wire, cx| wire.poll_fill(cx));
        match more.await {
            Ok(Ok(more)) => Ok(more),
            Ok(Err(_)) => Err(End::BackendGone),
            Err(Stop::Failed(failure)) => Err(failure.end()),
            Err(Stop::Gone) => Err(End::ClientGone),
        }
    }

    /// Writes what is to be written, and the next `part` bytes of the backend.
    async fn send(&mut self, trip: &mut Trip<'_>, part: usize) -> Result<(), End> {
        let wire = &mut trip.plain.wire;
        let (mut written, mut taking) = (0, Taking::default());
        let sent = poll_fn(|cx| {
            let parts = [&*self.out, &wire.unread[..part]];
            let done = poll_write_all(&mut self.wire.stream, parts, &mut written, cx);
            taking.written(written, &mut self.pace);
            if let Poll::Ready(done) = done {
                return Poll::Ready(done.map_err(|_| End::ClientGone));
            }
            // A backend may send on only once it has more of the request.
            let upload = &mut *trip.upload;
            if !upload.is_over()
                && let Poll::Ready(Err(broken)) = upload.poll(&mut self.wire, &mut wire.stream, cx)
            {
                if let Broken::Client(ClientFault::TooLarge) = broken {
                    return Poll::Ready(Err(End::TooLarge));
                }
                upload.give_up();
            }
            let late = taking.poll_late(self.client, &mut self.pace, &mut self.timer, cx);
            late.map(|()| Err(End::ClientGone))
        });
        sent.await?;
        self.out.clear();
        wire.unread.advance(part);
        Ok(())
    }
}
