//! The query log: who asked what, and what the answer was.
//!
//! ```text
//! Recorder (of a responder) ── dnstap messages in frames ──▶ the log's thread ──▶ a reader of dnstap
//!                                                                             └─▶ lines of JSON
//! ```
//!
//! What answers queries copies two messages and a few numbers into a frame. The rest is the thread's.

mod line;
mod message;
mod output;
mod stream;
#[cfg(test)]
mod tests;

use std::io::Write as _;
use std::net::{IpAddr, SocketAddr};

use fastrand::Rng;
use prost::Message as _;

pub(super) use output::QueryOutput;

use crate::answer::{AnswerKind, Arrival, Transport};
use crate::model::{Fraction, Unix};
use crate::net::record_log::{Queue, Sink};
use crate::snapshot::Plan;
use message::{Dnstap, Kind, Message, SocketFamily, SocketProtocol};

/// What became of a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Fate {
    Answered(AnswerKind),
    /// Its client may not ask, and was told so if it asked over UDP.
    Denied,
    /// Beyond the rate limit.
    Limited,
    /// Not a query.
    Dropped,
}

impl Fate {
    fn word(self) -> &'static str {
        match self {
            Self::Answered(AnswerKind::Static) => "static",
            Self::Answered(AnswerKind::Dynamic { .. }) => "dynamic",
            Self::Answered(AnswerKind::Negative) => "negative",
            Self::Answered(AnswerKind::Referral) => "referral",
            Self::Answered(AnswerKind::Refused) => "refused",
            Self::Answered(AnswerKind::Slipped) => "slipped",
            Self::Denied => "denied",
            Self::Limited => "limited",
            Self::Dropped => "dropped",
        }
    }
}

/// Records the queries of one responder.
#[derive(Debug)]
pub(super) struct Recorder {
    sink: Sink,
    /// Used again for each record, to avoid allocations.
    record: Dnstap,
    rng: Rng,
    /// The second of the last record.
    last: u64,
}

impl Recorder {
    pub(super) fn new(queue: &Queue) -> Self {
        let version = Some(concat!("portolan ", env!("CARGO_PKG_VERSION")).into());
        let message = Some(Message::default());
        let record = Dnstap { version, message, ..Dnstap::default() };
        Self { sink: queue.sink(), record, rng: Rng::new(), last: 0 }
    }

    /// Whether the next query is one of the sample.
    pub(super) fn draw(&mut self, sample: Fraction) -> bool {
        let share = sample.get();
        share >= 1.0 || self.rng.f64() < share
    }

    /// Records a query and its reply, if it has one.
    pub(super) fn record(
        &mut self,
        plan: &Plan,
        arrival: &Arrival,
        now: Unix,
        query: &[u8],
        (fate, reply): (Fate, Option<&[u8]>),
    ) {
        let Dnstap { identity, extra, message, .. } = &mut self.record;
        fill(identity, plan.identity.nsid.as_deref().map(str::as_bytes));
        let extra = extra.get_or_insert_default();
        extra.clear();
        write!(extra, "outcome={}", fate.word()).ok();
        if let Fate::Answered(AnswerKind::Dynamic { service, region }) = fate {
            write!(extra, " service={}", plan.topology.service(service).name).ok();
            if let Some(region) = region {
                write!(extra, " region={}", plan.topology.region(region).name).ok();
            }
        }
        let message = message.get_or_insert_default();
        describe(message, arrival, now);
        fill(&mut message.query_message, Some(query));
        fill(&mut message.response_message, reply);
        let kind = if reply.is_some() { Kind::AuthResponse } else { Kind::AuthQuery };
        message.set_type(kind);
        (message.response_time_sec, message.response_time_nsec) = match reply {
            Some(_) => (message.query_time_sec, message.query_time_nsec),
            None => (None, None),
        };
        self.last = now.0.as_secs();
        let record = &self.record;
        self.sink.append(|frames| stream::append_frame(frames, |frame| record.encode_raw(frame)));
    }

    /// Hands on what was recorded in an earlier second.
    pub(super) fn flush_old(&self, now: Unix) {
        if now.0.as_secs() != self.last {
            self.sink.flush();
        }
    }

    /// Hands on what was recorded.
    pub(super) fn flush(&self) {
        self.sink.flush();
    }
}

/// Who asked whom, how and when.
fn describe(message: &mut Message, arrival: &Arrival, now: Unix) {
    let protocol = match (arrival.transport, arrival.encrypted) {
        (Transport::Udp, _) => SocketProtocol::Udp,
        (Transport::Tcp, false) => SocketProtocol::Tcp,
        (Transport::Tcp, true) => SocketProtocol::Dot,
    };
    message.set_socket_protocol(protocol);
    let is_v4 = arrival.peer.ip().to_canonical().is_ipv4();
    message.set_socket_family(if is_v4 { SocketFamily::Inet } else { SocketFamily::Inet6 });
    put_address(&mut message.query_address, &mut message.query_port, arrival.peer);
    put_address(&mut message.response_address, &mut message.response_port, arrival.local);
    message.query_time_sec = Some(now.0.as_secs());
    message.query_time_nsec = Some(now.0.subsec_nanos());
}

fn put_address(address: &mut Option<Vec<u8>>, port: &mut Option<u32>, socket: SocketAddr) {
    match socket.ip().to_canonical() {
        IpAddr::V4(ip) => fill(address, Some(&ip.octets())),
        IpAddr::V6(ip) => fill(address, Some(&ip.octets())),
    }
    *port = Some(socket.port().into());
}

/// Puts bytes where others were, without an allocation if it can.
fn fill(field: &mut Option<Vec<u8>>, bytes: Option<&[u8]>) {
    match bytes {
        Some(bytes) => {
            let field = field.get_or_insert_default();
            field.clear();
            field.extend_from_slice(bytes);
        }
        None => *field = None,
    }
}
