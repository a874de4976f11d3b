//! `limits` of a listener: how long requests may be, and how slowly they and their responses may move.

use std::ops::RangeInclusive;
use std::time::Duration;

use crate::model::RequestLimits;

use super::super::keys::Shape::{Integer, Text, Time};
use super::super::keys::{Keys, default, key, otherwise};
use super::super::table::Table;
use super::super::text;

pub(super) const REQUESTS: Keys = Keys {
    known: &[
        key(
            "body",
            Text,
            otherwise("\"10MiB\"", "any size"),
            "largest body of a request (B, KiB, MiB or GiB); longer ones get 413, or end when they exceed it",
        ),
        key(
            "upload",
            Integer(0, FASTEST),
            default("100"),
            "bytes per second at which a client must at least send a body while a backend waits for it; slower ones get 408. 0: any; gRPC is exempt",
        ),
        key(
            "download",
            Integer(0, FASTEST),
            default("100"),
            "bytes per second at which a client must at least take a response that is there for it; slower ones are disconnected. 0: any",
        ),
        key(
            "grace",
            Time,
            default("\"60s\""),
            "how long a client may be slower than `upload` and `download`",
        ),
        key(
            "streams",
            Integer(1, MOST_STREAMS),
            default("128"),
            "streams that a client may have open on an HTTP/2 connection",
        ),
    ],
    later: &[],
};

/// Bytes per second: faster than any client is.
const FASTEST: u64 = 1_000_000_000;
/// In shorter times, a lost packet looks like a slow client; in longer ones, clients hold backends for too long.
const GRACES: RangeInclusive<Duration> = Duration::from_secs(1)..=Duration::from_secs(600);
/// Each may hold buffers.
const MOST_STREAMS: u64 = 1024;

/// Reads `limits` of a listener.
pub(super) fn read(listener: &Table<'_>) -> RequestLimits {
    let usual = RequestLimits::default();
    let table = listener.get("limits").and_then(|value| value.table(listener.path("limits"), &REQUESTS));
    let Some(table) = table else { return usual };
    let rate = |key| table.get(key).and_then(|value| value.integer(0..=FASTEST)).map(|rate| rate as u32);
    let streams = table.get("streams").and_then(|value| value.integer(1..=MOST_STREAMS));
    RequestLimits {
        body: table.get("body").and_then(|value| value.parsed(text::A_SIZE, text::size)),
        upload: rate("upload").unwrap_or(usual.upload),
        download: rate("download").unwrap_or(usual.download),
        grace: table.get("grace").and_then(|value| value.duration(GRACES)).unwrap_or(usual.grace),
        streams: streams.map_or(usual.streams, |count| count as u32),
    }
}
