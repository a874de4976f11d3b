//! Requests on their way to backends.

use std::rc::Rc;
use std::task::{Context, Poll, ready};

use bytes::Buf as _;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::time::Instant;

use super::chunks::{self, Chunks, Piece};
use super::wire::{Wire, poll_write_all};
use crate::model::RequestLimits;
use crate::proxy::buffers;
use crate::proxy::http::request_body::{self, ClientFault};
use crate::proxy::pace::Pace;

type Received = request_body::Upload;

/// Bytes of chunks that are gathered before they are sent on.
const GATHERED: usize = 16 * 1024;

/// A request that is sent, head first, then the body as the client sends it.
pub(super) struct Upload {
    /// What is to be sent before more is taken from the client: the head, then chunks.
    ready: Vec<u8>,
    /// How much of it has been sent.
    sent: usize,
    /// Whether a backend may have seen some of the request.
    is_begun: bool,
    body: Body,
    /// Bytes that went to the backend or came from the client: more of them means that it goes on.
    pub(super) moved: u64,
    /// Whether it waits for the client.
    pub(super) is_starved: bool,
    /// Whether the backend takes no more of it.
    is_given_up: bool,
    /// Counts what the client has sent of the body.
    received: Option<Rc<Received>>,
    pace: Pace,
    /// Bytes that the body may have.
    most: u64,
}

/// The body of a request.
#[derive(Debug)]
pub(super) enum Body {
    /// This many bytes are left of it.
    Length(u64),
    Chunked(Chunks),
    Ended,
}

/// Why a request cannot be sent on.
#[derive(Debug)]
pub(super) enum Broken {
    Client(ClientFault),
    Backend,
}

impl Drop for Upload {
    fn drop(&mut self) {
        buffers::give_back_written(std::mem::take(&mut self.ready));
    }
}

impl Upload {
    /// A request with this head, of whose body nothing has been read.
    pub(super) fn new(head: Vec<u8>, body: Body, received: Option<Rc<Received>>) -> Self {
        Self {
            ready: head,
            sent: 0,
            is_begun: false,
            body,
            moved: 0,
            is_starved: false,
            is_given_up: false,
            received,
            pace: Pace::any(),
            most: u64::MAX,
        }
    }

    /// The same with a body that must stay within limits.
    pub(super) fn limited(mut self, limits: &RequestLimits) -> Self {
        if self.received.is_some() {
            self.pace = Pace::of_upload(limits);
            self.most = limits.body.unwrap_or(u64::MAX);
        }
        self
    }

    /// The response has begun: from now on the client may send as slowly as the two have agreed on.
    pub(super) fn answered(&mut self) {
        self.pace = Pace::any();
        if let Some(received) = &self.received {
            received.answered();
        }
    }

    /// When the client is too slow; `None` while it is not waited for.
    pub(super) fn late_at(&self) -> Option<Instant> {
        self.pace.until().filter(|_| self.is_starved)
    }

    /// Whether there is no body.
    pub(super) fn is_bodyless(&self) -> bool {
        matches!(self.body, Body::Ended | Body::Length(0))
    }

    /// Whether all has been sent.
    pub(super) fn is_done(&self) -> bool {
        self.sent == self.ready.len() && self.is_bodyless()
    }

    /// Whether nothing more of it will be sent.
    pub(super) fn is_over(&self) -> bool {
        self.is_given_up || self.is_done()
    }

    /// Sends no more of it.
    pub(super) fn give_up(&mut self) {
        (self.is_given_up, self.is_starved) = (true, false);
    }

    /// Whether a backend may have seen some of it.
    pub(super) fn is_begun(&self) -> bool {
        self.is_begun
    }

    /// Begins again, with another backend. Only for what nothing was sent of, or has no body.
    pub(super) fn restart(&mut self) {
        (self.sent, self.is_begun, self.is_given_up) = (0, false, false);
    }

    /// Sends as much as the client has sent and the backend takes.
    pub(super) fn poll<C, B>(
        &mut self,
        client: &mut Wire<C>,
        backend: &mut B,
        cx: &mut Context<'_>,
    ) -> Poll<Result<(), Broken>>
    where
        C: AsyncRead + Unpin,
        B: AsyncWrite + Unpin,
    {
        loop {
            self.is_starved = false;
            self.gather(client)?;
            let part = match self.body {
                Body::Length(left) => usize::try_from(left).unwrap_or(usize::MAX).min(client.unread.len()),
                Body::Chunked(_) | Body::Ended => 0,
            };
            let mut written = self.sent;
            let result = poll_write_all(backend, [&self.ready, &client.unread[..part]], &mut written, cx);
            self.moved += (written - self.sent) as u64;
            self.is_begun |= written > self.sent;
            self.sent = written.min(self.ready.len());
            if let Body::Length(left) = &mut self.body {
                let taken = written - self.sent;
                client.unread.advance(taken);
                *left -= taken as u64;
                if let Some(received) = &self.received {
                    received.add(taken as u64);
                }
            }
            ready!(result).map_err(|_| Broken::Backend)?;
            if self.is_bodyless() {
                return Poll::Ready(Ok(()));
            }
            self.is_starved = true;
            let filled = client.poll_fill(cx);
            match &filled {
                Poll::Pending => self.pace.wait(),
                Poll::Ready(more) => self.pace.moved(*more.as_ref().unwrap_or(&0) as u64),
            }
            match ready!(filled) {
                Ok(more @ 1..) => self.moved += more as u64,
                Ok(0) | Err(_) => return Poll::Ready(Err(Broken::Client(ClientFault::Broken))),
            }
        }
    }

    /// Takes chunks that have come, and writes them anew.
    fn gather<C>(&mut self, client: &mut Wire<C>) -> Result<(), Broken> {
        let Body::Chunked(chunks) = &mut self.body else { return Ok(()) };
        if self.sent == self.ready.len() {
            self.ready.clear();
            self.sent = 0;
        }
        while self.ready.len() < GATHERED {
            match chunks.next(&mut client.unread).map_err(|_| Broken::Client(ClientFault::Broken))? {
                Piece::Data(length) => {
                    chunks::write_size(length, &mut self.ready);
                    self.ready.extend_from_slice(&client.unread[..length]);
                    self.ready.extend_from_slice(chunks::DATA_END);
                    client.unread.advance(length);
                    if let Some(received) = &self.received {
                        received.add(length as u64);
                        if received.received() > self.most {
                            received.outgrew();
                            return Err(Broken::Client(ClientFault::TooLarge));
                        }
                    }
                }
                Piece::Wait => break,
                Piece::End => {
                    self.ready.extend_from_slice(chunks::LAST);
                    self.body = Body::Ended;
                    break;
                }
            }
        }
        Ok(())
    }
}
