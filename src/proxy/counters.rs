//! What the proxy counts, and what workers know of backends together.
//!
//! A counter belongs to a name, not to a config: it goes on over a reload. Those of addresses that are gone are dropped.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use http::StatusCode;

use super::passive::Outcomes;
use super::queue::Queue;
use super::route_counts::RouteCounts;
use super::slots::Slots;
use super::times::Times;
use super::tls::Handshakes;
use super::udp::UdpCounters;
use crate::model::Unix;
use crate::net::handshakes;
use crate::net::tcp_options::AcceptQueue;
use crate::pick::Load;

/// All counters of the proxy.
#[derive(Debug, Default)]
pub struct Counters {
    listeners: Registry<String, ListenerCounters>,
    udp_listeners: Registry<String, UdpCounters>,
    /// How far away clients are.
    pub handshakes: Arc<handshakes::Handshakes>,
    pools: Registry<String, PoolCounters>,
    backends: Registry<(String, SocketAddr), BackendCounters>,
    /// Lines of the access log that were not written.
    pub access_log_dropped: Arc<AtomicU64>,
}

/// Counters by name. Workers look them up when the config or the standing changes, not for each request.
#[derive(Debug)]
struct Registry<K, V>(Mutex<BTreeMap<K, Arc<V>>>);

impl<K, V> Default for Registry<K, V> {
    fn default() -> Self {
        Self(Mutex::default())
    }
}

impl<K: Ord + Clone, V: Default> Registry<K, V> {
    fn of(&self, key: K) -> Arc<V> {
        Arc::clone(self.0.lock().unwrap_or_else(PoisonError::into_inner).entry(key).or_default())
    }

    /// Forgets what is neither wanted nor in use.
    fn prune(&self, is_wanted: impl Fn(&K) -> bool) {
        let mut known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        known.retain(|key, value| Arc::strong_count(value) > 1 || is_wanted(key));
    }

    fn all(&self) -> Vec<(K, Arc<V>)> {
        let known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        known.iter().map(|(key, value)| (key.clone(), Arc::clone(value))).collect()
    }
}

/// Of a listener.
#[derive(Debug, Default)]
pub struct ListenerCounters {
    /// Connections accepted.
    pub accepted: AtomicU64,
    /// Connections closed at once because too many were open.
    pub refused: AtomicU64,
    /// Connections closed at once because their client had as many as it may.
    pub limited_connections: AtomicU64,
    /// Requests refused because their client sent too many.
    pub limited_requests: AtomicU64,
    /// Requests whose body was longer than it may be.
    pub too_large: AtomicU64,
    /// Requests that a service did not allow.
    pub auth_denied: AtomicU64,
    /// Requests refused because the service that decides did not answer.
    pub auth_failed: AtomicU64,
    /// Requests that came too slowly.
    pub slow_uploads: AtomicU64,
    /// Connections and streams that were closed because the client took a response too slowly.
    pub slow_downloads: AtomicU64,
    /// Responses, by the first digit of their status; 0 is not used.
    pub responses: [AtomicU64; 6],
    /// Requests that no route matched.
    pub unrouted: AtomicU64,
    /// Requests by the route that they took.
    pub(super) routes: RouteCounts,
    /// Bytes of the bodies of requests and responses, and of TCP connections, from clients and to them.
    pub(super) bytes: [AtomicU64; 2],
    /// The handshakes, if it speaks TLS.
    pub(super) handshakes: Handshakes,
    /// Of handshakes, where they tell how far away clients are.
    pub(super) round_trips: Times,
    /// Connections that waited to be accepted when it was last looked, and how many may wait; of all sockets.
    pub(super) waiting: AtomicU64,
    pub(super) may_wait: AtomicU64,
    /// Connections closed for what they began with, in the order of [`Rejection::ALL`].
    pub rejected: [AtomicU64; Rejection::ALL.len()],
}

/// Why a connection is closed before it belongs to a backend.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Rejection {
    /// The connection of a trusted hop does not begin with a PROXY header.
    HeaderAbsent,
    /// Its PROXY header is malformed or too long.
    HeaderMalformed,
    /// There was no whole PROXY header in time.
    HeaderLate,
    /// What was sent is not a ClientHello, or none that can be read.
    NotTls,
    /// The ClientHello is too long.
    HelloLarge,
    /// There was no whole ClientHello in time.
    HelloLate,
    /// The client names no host, and no route takes such clients.
    NoHost,
    /// No route is for the host that the client names.
    UnknownHost,
    /// The other side closed the connection before it had sent enough.
    Left,
}

impl Rejection {
    /// All, in the order of their declaration, with their names in metrics.
    pub(super) const ALL: [(Self, &'static str); 9] = [
        (Self::HeaderAbsent, "proxy_header_absent"),
        (Self::HeaderMalformed, "proxy_header_malformed"),
        (Self::HeaderLate, "proxy_header_late"),
        (Self::NotTls, "not_tls"),
        (Self::HelloLarge, "client_hello_too_long"),
        (Self::HelloLate, "client_hello_late"),
        (Self::NoHost, "no_host"),
        (Self::UnknownHost, "unknown_host"),
        (Self::Left, "closed_early"),
    ];

    /// The name in metrics.
    #[must_use]
    pub(super) fn name(self) -> &'static str {
        Self::ALL[self as usize].1
    }
}

impl ListenerCounters {
    /// Replaces what one of its sockets has contributed.
    pub(super) fn replace_queue(&self, before: AcceptQueue, now: AcceptQueue) {
        for (gauge, before, now) in
            [(&self.waiting, before.waiting, now.waiting), (&self.may_wait, before.limit, now.limit)]
        {
            gauge.fetch_add(now.into(), Relaxed);
            gauge.fetch_sub(before.into(), Relaxed);
        }
    }

    /// Counts a connection that is closed for what it began with.
    pub(super) fn reject(&self, why: Rejection) {
        self.rejected[why as usize].fetch_add(1, Relaxed);
    }
}

/// Of a pool.
#[derive(Debug, Default)]
pub struct PoolCounters {
    /// Requests or connections that found no backend.
    pub unavailable: AtomicU64,
    /// Requests that wait for a backend with room.
    pub queue: Queue,
    /// Attempts after one that failed.
    pub retries: AtomicU64,
    /// Attempts while another one had no response yet.
    pub hedges: AtomicU64,
    /// Those whose response the client got.
    pub hedges_won: AtomicU64,
    /// From the head of a request to that of its response, and to the end of its response.
    pub(super) first_byte: Times,
    pub(super) total: Times,
    /// Requests, which the retries' budget is a share of.
    pub requests: AtomicU64,
    /// Requests whose cookie named a backend that is in use.
    pub kept: AtomicU64,
    /// Requests whose cookie named a backend that is not.
    pub moved: AtomicU64,
    /// Requests with a cookie that was forged, expired, malformed or there twice.
    pub invalid_cookies: AtomicU64,
}

/// Of an address of a backend.
#[derive(Debug, Default)]
pub struct BackendCounters {
    /// Requests or connections that it works on.
    pub in_flight: AtomicU32,
    /// The connections to it.
    pub(super) slots: Slots,
    /// Requests or connections that it was chosen for.
    pub requests: AtomicU64,
    /// Those that failed: no connection, no response or not in time.
    pub failures: AtomicU64,
    /// Its responses, by the first digit of their status; 0 is not used.
    pub responses: [AtomicU64; 6],
    /// What the requests came to.
    pub(super) outcomes: Outcomes,
    /// Moving average of the time to the first byte in microseconds; 0: none yet.
    time: AtomicU64,
    /// When a failed handshake was last logged, in seconds since 1970; 0: never.
    complained: AtomicU64,
}

/// How often the log says that handshakes with a backend fail, in seconds, however many workers try.
const COMPLAIN_EVERY: u64 = 60;

/// The weight of a new sample in the average: it forgets half of what was in about five requests.
const SAMPLE: f64 = 0.125;

/// Counts a response by the first digit of its status.
fn count(responses: &[AtomicU64; 6], status: StatusCode) {
    if let Some(counter) = responses.get(usize::from(status.as_u16() / 100)) {
        counter.fetch_add(1, Relaxed);
    }
}

impl ListenerCounters {
    /// Counts a response.
    pub(super) fn responded(&self, status: StatusCode) {
        count(&self.responses, status);
    }

    /// Counts bytes from the client.
    pub(super) fn received(&self, bytes: u64) {
        self.bytes[0].fetch_add(bytes, Relaxed);
    }

    /// Counts bytes to the client.
    pub(super) fn sent(&self, bytes: u64) {
        self.bytes[1].fetch_add(bytes, Relaxed);
    }
}

impl BackendCounters {
    /// Counts a response.
    pub(super) fn responded(&self, status: StatusCode) {
        count(&self.responses, status);
    }

    /// Takes a time to the first byte into the average. Workers may overwrite each other, which loses a sample.
    pub fn took(&self, time: Duration) {
        let new = time.as_micros().max(1) as f64;
        let before = self.time.load(Relaxed);
        let average = if before == 0 { new } else { before as f64 + (new - before as f64) * SAMPLE };
        self.time.store((average as u64).max(1), Relaxed);
    }

    /// Whether it is time to log that a handshake failed; if so, that is noted.
    pub(super) fn may_complain(&self, now: Unix) -> bool {
        let (now, last) = (now.0.as_secs(), self.complained.load(Relaxed));
        let is_due = last == 0 || now.abs_diff(last) >= COMPLAIN_EVERY;
        is_due && self.complained.compare_exchange(last, now, Relaxed, Relaxed).is_ok()
    }

    /// Takes an attempt into the average that was given up after this time: its response would have come later.
    pub fn gave_up(&self, after: Duration) {
        if after.as_micros() > u128::from(self.time.load(Relaxed)) {
            self.took(after);
        }
    }

    /// The connections to it, idle ones included.
    #[must_use]
    pub fn connections(&self) -> u32 {
        self.slots.taken()
    }

    /// What balancers know of it.
    #[must_use]
    pub fn load(&self) -> Load {
        let time = match self.time.load(Relaxed) {
            0 => None,
            micros => Some(Duration::from_micros(micros)),
        };
        Load { in_flight: self.in_flight.load(Relaxed), time }
    }
}

impl Counters {
    pub(super) fn listener(&self, name: &str) -> Arc<ListenerCounters> {
        self.listeners.of(name.to_owned())
    }

    pub(super) fn udp_listener(&self, name: &str) -> Arc<UdpCounters> {
        self.udp_listeners.of(name.to_owned())
    }

    pub(super) fn pool(&self, name: &str) -> Arc<PoolCounters> {
        self.pools.of(name.to_owned())
    }

    pub(super) fn backend(&self, pool: &str, address: SocketAddr) -> Arc<BackendCounters> {
        self.backends.of((pool.to_owned(), address))
    }

    /// Forgets the counters of addresses that pools no longer have, once nothing is in flight there: a host or a source of
    /// backends may have many over time.
    pub(super) fn keep_backends(&self, known: &BTreeSet<(&str, SocketAddr)>) {
        self.backends.prune(|(pool, address)| known.contains(&(pool.as_str(), *address)));
    }

    /// Requests or connections that the backends of a pool work on, those included that are no longer open.
    pub(super) fn in_flight(&self, pool: &str) -> u32 {
        let first = (pool.to_owned(), SocketAddr::from(([0, 0, 0, 0], 0)));
        let known = self.backends.0.lock().unwrap_or_else(PoisonError::into_inner);
        let of_pool = known.range(first..).take_while(|((name, _), _)| name == pool);
        of_pool.map(|(_, counters)| counters.in_flight.load(Relaxed)).sum()
    }

    /// By listener.
    #[must_use]
    pub fn listeners(&self) -> Vec<(String, Arc<ListenerCounters>)> {
        self.listeners.all()
    }

    /// By UDP listener.
    #[must_use]
    pub fn udp_listeners(&self) -> Vec<(String, Arc<UdpCounters>)> {
        self.udp_listeners.all()
    }

    /// By pool.
    #[must_use]
    pub fn pools(&self) -> Vec<(String, Arc<PoolCounters>)> {
        self.pools.all()
    }

    /// By pool and address.
    #[must_use]
    pub fn backends(&self) -> Vec<((String, SocketAddr), Arc<BackendCounters>)> {
        self.backends.all()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reasons_are_listed_in_the_order_of_their_declaration() {
        for (index, (reason, _)) in Rejection::ALL.into_iter().enumerate() {
            assert_eq!(reason as usize, index, "{reason:?}");
        }
    }
}
