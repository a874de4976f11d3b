//! From the bytes of a query to the bytes of its reply: all that an authoritative server does with one
//! message. Synchronous and without I/O: listeners, benches and fuzzers call the same [`handle`].
//!
//! ```text
//! handle ──▶ dispatch ──▶ refusal, identity
//!                     ──▶ express
//!                     ──▶ walk ──▶ dynamic, debug, additional ──▶ general
//! ```
//!
//! `dispatch` asks `rate_limit` whether the client gets a response at all, and passes a decoded message to one of:
//! `refusal`, for what is refused without a lookup; `identity`, which answers for the server itself; `express`, for the simplest answers; `walk`, for all others, from the question's
//! name through CNAMEs to the final answer. On that general path `dynamic` writes the answers of services, `debug`
//! explains them, `challenge` answers ACME servers, and `additional` adds related addresses; `general` is what they share. Records are written directly
//! into [`Reply::bytes`].

mod additional;
mod asker;
mod challenge;
mod debug;
mod dispatch;
mod dynamic;
mod express;
mod general;
mod identity;
mod rate_limit;
mod refusal;
mod reply;
mod services;
mod walk;

use std::net::SocketAddr;
use std::time::Duration;

pub use asker::Client;
pub use reply::Reply;
pub use services::family;

use dispatch::Lane;
use refusal::Refusal;

use crate::model::{RegionId, ServiceId, Unix};
use crate::snapshot::Snapshot;
use crate::wire::edns::Response;
use crate::wire::{MIN_UDP_PAYLOAD, Query, ResponseCode, Writer};

/// How a message arrived: what its listener knows about it besides its bytes.
#[derive(Clone, Copy, Debug)]
pub struct Arrival {
    /// Where it came from.
    pub peer: SocketAddr,
    /// The address that it was sent to.
    pub local: SocketAddr,
    /// Its transport.
    pub transport: Transport,
    /// Whether it was encrypted between the peer and this server.
    pub encrypted: bool,
    /// How long the connection may be idle, for clients that ask (RFC 7828); `None` where the option must
    /// not be sent, as over UDP (§3.2.2).
    pub keepalive: Option<Duration>,
}

/// The transport of a message, which bounds the size of its reply.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Transport {
    /// Replies have at most [`MAX_UDP_PAYLOAD`](crate::wire::MAX_UDP_PAYLOAD) bytes, and no more than the client
    /// takes.
    Udp,
    /// Replies have at most 65535 bytes.
    Tcp,
}

/// What happened to a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// [`Reply::bytes`] holds the reply.
    Answered {
        /// RCODE with its extension by EDNS: 0 to 4095.
        rcode: u16,
        /// What kind of answer it is.
        kind: AnswerKind,
        /// TC is set.
        truncated: bool,
    },
    /// It gets no reply, because its client has had too many ([`RateLimit`](crate::model::RateLimit)).
    Limited,
    /// It gets no reply, because it is not a query.
    Dropped,
}

/// What kind of answer a query got.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AnswerKind {
    /// Records from a zone file, or about the server itself.
    Static,
    /// What steering chose.
    Dynamic {
        /// The service asked for.
        service: ServiceId,
        /// The region chosen, if any.
        region: Option<RegionId>,
    },
    /// There is no such name or no such data.
    Negative,
    /// The name servers of a zone below.
    Referral,
    /// Malformed, not supported or not ours to answer.
    Refused,
    /// None: a short reply instead of one beyond the [`RateLimit`](crate::model::RateLimit).
    Slipped,
}

/// Answers one message. The reply replaces what is in `reply.bytes`.
///
/// Never panics, whatever `message` holds.
pub fn handle(
    snapshot: &Snapshot,
    message: &[u8],
    arrival: Arrival,
    now: Unix,
    reply: &mut Reply,
) -> Outcome {
    match Query::read(message) {
        Some(query) => dispatch::answer(Lane::Express, snapshot, &query, &arrival, now, reply),
        None => drop_message(reply),
    }
}

/// Like [`handle`], but always by the general path: the reference for tests of the express lane.
pub fn handle_generally(
    snapshot: &Snapshot,
    message: &[u8],
    arrival: Arrival,
    now: Unix,
    reply: &mut Reply,
) -> Outcome {
    match Query::decode(message) {
        Some(query) => dispatch::answer(Lane::General, snapshot, &query, &arrival, now, reply),
        None => drop_message(reply),
    }
}

/// Refuses a message of a client that may not ask. The reply is never longer than the message.
pub fn refuse(_: &Snapshot, message: &[u8], _: Arrival, _: Unix, reply: &mut Reply) -> Outcome {
    let Some(query) = Query::read(message) else { return drop_message(reply) };
    let edns = query.edns.map(|edns| Response { dnssec_ok: edns.dnssec_ok, ..Response::default() });
    let refusal = Refusal { rcode: ResponseCode::Refused, error: None };
    refusal.write(Writer::start(&mut reply.bytes, &query, MIN_UDP_PAYLOAD, edns))
}

fn drop_message(reply: &mut Reply) -> Outcome {
    reply.bytes.clear();
    Outcome::Dropped
}
