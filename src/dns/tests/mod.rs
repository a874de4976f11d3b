//! The listeners with a handler that echoes, so that nothing here depends on real answers.

mod proxied;
mod server;
mod tcp;
mod udp;

use std::sync::Arc;

use arc_swap::ArcSwap;

use super::Shared;
use super::tcp::Limits;
use crate::answer::{AnswerKind, Arrival, Outcome, Reply};
use crate::model::{TcpLimits, Unix};
use crate::snapshot::Snapshot;
use crate::supervise::Supervisor;

/// A query that [`echo`] does not answer.
const UNANSWERED: &[u8] = b"unanswered";

/// A query that makes [`echo`] panic.
const PANIC: &[u8] = b"panic";

/// A query whose echo claims to be truncated.
const TRUNCATED: &[u8] = b"truncated";

/// Returns the query.
fn echo(_: &Snapshot, query: &[u8], _: Arrival, _: Unix, reply: &mut Reply) -> Outcome {
    assert_ne!(query, PANIC, "this panic belongs to a test");
    if query == UNANSWERED {
        return Outcome::Dropped;
    }
    reply.bytes.clear();
    reply.bytes.extend_from_slice(query);
    Outcome::Answered { rcode: 3, kind: AnswerKind::Negative, truncated: query == TRUNCATED }
}

fn shared() -> Shared {
    let snapshot =
        Snapshot { plan: Arc::default(), standing: Arc::default(), challenges: <_>::default(), epoch: 1 };
    let snapshots = Arc::new(ArcSwap::from_pointee(snapshot));
    Shared { snapshots, counters: Arc::default(), supervisor: Supervisor::default() }
}

/// The limits where the config does not say.
fn limits() -> Limits {
    Limits::of(&TcpLimits::default(), usize::MAX)
}

/// Messages framed for TCP.
fn framed<'a>(messages: impl IntoIterator<Item = &'a [u8]>) -> Vec<u8> {
    let mut bytes = Vec::new();
    for message in messages {
        bytes.extend_from_slice(&(message.len() as u16).to_be_bytes());
        bytes.extend_from_slice(message);
    }
    bytes
}
