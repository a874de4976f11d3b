//! `limits` of a pool: how much its backends work on at a time.

use std::num::NonZeroU32;
use std::ops::RangeInclusive;
use std::time::Duration;

use crate::model::{Http, PoolLimits};

use super::super::keys::Shape::{Integer, Time};
use super::super::keys::{Keys, default, key, otherwise};
use super::super::table::Table;

pub(super) const LIMITS: Keys = Keys {
    known: &[
        key(
            "requests",
            Integer(1, MOST_REQUESTS),
            otherwise("100", "any number, if there is `connections`"),
            "requests, or connections of TCP listeners, that an address works on at a time, for all workers together",
        ),
        key(
            "connections",
            Integer(1, MOST_CONNECTIONS),
            otherwise("100", "any number"),
            "connections to an address, idle ones included, for all workers together; requests wait for one",
        ),
        key(
            "pending",
            Integer(0, MOST_PENDING),
            default("100"),
            "requests that wait until an address has room; further ones get 503",
        ),
        key("wait", Time, default("\"5s\""), "how long a request waits; after that it gets 503"),
    ],
    later: &[],
};

/// More than a backend has sockets for.
const MOST_REQUESTS: u64 = 1_000_000;
/// As many as a backend has ports for an address.
const MOST_CONNECTIONS: u64 = 65_535;
/// Each is a connection of a client that is kept open.
const MOST_PENDING: u64 = 1_000_000;
/// Longer than clients have patience, they wait for nothing.
const WAITS: RangeInclusive<Duration> = Duration::from_millis(1)..=Duration::from_secs(600);

const DEFAULT_PENDING: u32 = 100;
const DEFAULT_WAIT: Duration = Duration::from_secs(5);

/// Reads `limits` of a pool.
pub(super) fn read(pool: &Table<'_>, http: Http) -> Option<PoolLimits> {
    let table = pool.get("limits")?.table(pool.path("limits"), &LIMITS)?;
    if !table.has("requests") && !table.has("connections") {
        table.report.absent(table.span.clone(), "`limits` of a pool need `requests`, `connections` or both");
    }
    if http == Http::H2 && table.has("connections") {
        let message = "`connections` does not go with `http = \"h2\"`, where requests share connections: limit `requests`";
        table.report.error(table.key_span("connections"), message);
    }
    let count = |key, most| {
        let count = table.get(key).and_then(|value| value.integer(1..=most))?;
        NonZeroU32::new(count as u32)
    };
    let pending = table.get("pending").and_then(|value| value.integer(0..=MOST_PENDING));
    let wait = table.get("wait").and_then(|value| value.duration(WAITS));
    Some(PoolLimits {
        requests: count("requests", MOST_REQUESTS),
        connections: count("connections", MOST_CONNECTIONS),
        pending: pending.map_or(DEFAULT_PENDING, |count| count as u32),
        wait: wait.unwrap_or(DEFAULT_WAIT),
    })
}
