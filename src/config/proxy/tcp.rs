//! Options of TCP sockets.

use std::ops::RangeInclusive;
use std::time::Duration;

use crate::model::{Liveness, TcpOptions};

use super::super::keys::Shape::{Integer, Text};
use super::super::keys::{Keys, default, key, otherwise};
use super::super::table::Table;

pub(super) const OF_LISTENER: Keys = Keys {
    known: &[
        key(
            "backlog",
            Integer(1, MOST_WAITING),
            default("1024"),
            "connections of a worker that may wait to be accepted; the kernel caps it at net.core.somaxconn",
        ),
        key(
            "fast_open",
            Integer(1, MOST_WAITING),
            otherwise("256", "off"),
            "TCP Fast Open (RFC 7413): connections whose first bytes come with the SYN, and may wait for the end of the handshake; what they carry may arrive twice",
        ),
        key(
            "defer_accept",
            Text,
            otherwise("\"5s\"", "off"),
            "how long a connection may wait in the kernel for its first bytes; not for protocols in which the server speaks first",
        ),
        key(
            "mss",
            Integer(SMALLEST_MSS, LARGEST_MSS),
            otherwise("1400", "that of the interface"),
            "largest segment in bytes, for paths that lose larger packets",
        ),
        KEEPALIVE,
        USER_TIMEOUT,
    ],
    later: &[],
};
pub(super) const OF_POOL: Keys = Keys { known: &[KEEPALIVE, USER_TIMEOUT], later: &[] };

const KEEPALIVE: super::super::keys::Key = key(
    "keepalive",
    Text,
    otherwise("\"60s\"", "off"),
    "silence after which the kernel asks whether the peer is still there; it is gone after 3 probes without a reply",
);
const USER_TIMEOUT: super::super::keys::Key = key(
    "user_timeout",
    Text,
    otherwise("\"30s\"", "the kernel's, about 15m"),
    "how long what was sent may stay unacknowledged until the connection is closed",
);

/// What the kernel can count.
const MOST_WAITING: u64 = 65_535;
/// The least that any IPv4 host must take (RFC 879).
const SMALLEST_MSS: u64 = 536;
/// What the kernel allows.
const LARGEST_MSS: u64 = 32_767;
/// The kernel counts in seconds, and gives up a handshake after a minute or two.
const DEFER_ACCEPT: RangeInclusive<Duration> = Duration::from_secs(1)..=Duration::from_secs(60);
/// The kernel counts in seconds, in 15 bits.
const KEEPALIVES: RangeInclusive<Duration> = Duration::from_secs(1)..=Duration::from_secs(32_767);
/// Shorter than a retransmission or two would close connections that only lost a packet.
const USER_TIMEOUTS: RangeInclusive<Duration> = Duration::from_secs(1)..=Duration::from_secs(3600);

/// Reads `tcp` of a listener.
pub(super) fn of_listener(listener: &Table<'_>) -> TcpOptions {
    let usual = TcpOptions::default();
    let Some(table) = listener.get("tcp").and_then(|value| value.table(listener.path("tcp"), &OF_LISTENER))
    else {
        return usual;
    };
    let connections = |key: &str| Some(table.get(key)?.integer(1..=MOST_WAITING)? as u32);
    let mss = table.get("mss").and_then(|value| value.integer(SMALLEST_MSS..=LARGEST_MSS));
    TcpOptions {
        backlog: connections("backlog").unwrap_or(usual.backlog),
        fast_open: connections("fast_open"),
        defer_accept: table.get("defer_accept").and_then(|value| value.duration(DEFER_ACCEPT)),
        mss: mss.map(|bytes| bytes as u32),
        liveness: liveness(&table),
    }
}

/// Reads `tcp` of a pool.
pub(super) fn of_pool(pool: &Table<'_>) -> Liveness {
    let table = pool.get("tcp").and_then(|value| value.table(pool.path("tcp"), &OF_POOL));
    table.map(|table| liveness(&table)).unwrap_or_default()
}

fn liveness(table: &Table<'_>) -> Liveness {
    Liveness {
        keepalive: table.get("keepalive").and_then(|value| value.duration(KEEPALIVES)),
        user_timeout: table.get("user_timeout").and_then(|value| value.duration(USER_TIMEOUTS)),
    }
}
