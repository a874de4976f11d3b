//! What the proxy counts, and what workers know of backends together.
//!
//! A counter belongs to a name, not to a config: it goes on over a reload.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use super::tls::Handshakes;
use crate::model::Unix;
use crate::pick::Load;

/// All counters of the proxy.
#[derive(Debug, Default)]
pub struct Counters {
    listeners: Registry<String, ListenerCounters>,
    pools: Registry<String, PoolCounters>,
    backends: Registry<(String, SocketAddr), BackendCounters>,
    /// Lines of the access log that were not written.
    pub access_log_dropped: AtomicU64,
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
    /// Responses, by the first digit of their status; 0 is not used.
    pub responses: [AtomicU64; 6],
    /// Requests that no route matched.
    pub unrouted: AtomicU64,
    /// The handshakes, if it speaks TLS.
    pub(super) handshakes: Handshakes,
}

/// Of a pool.
#[derive(Debug, Default)]
pub struct PoolCounters {
    /// Requests or connections that found no backend.
    pub unavailable: AtomicU64,
    /// Attempts after the first.
    pub retries: AtomicU64,
    /// Requests, which the retries' budget is a share of.
    pub requests: AtomicU64,
}

/// Of an address of a backend.
#[derive(Debug, Default)]
pub struct BackendCounters {
    /// Requests or connections that it works on.
    pub in_flight: AtomicU32,
    /// Requests or connections that it was chosen for.
    pub requests: AtomicU64,
    /// Those that failed: no connection, no response or not in time.
    pub failures: AtomicU64,
    /// Moving average of the time to the first byte in microseconds; 0: none yet.
    time: AtomicU64,
    /// When a failed handshake was last logged, in seconds since 1970; 0: never.
    complained: AtomicU64,
}

/// How often the log says that handshakes with a backend fail, in seconds, however many workers try.
const COMPLAIN_EVERY: u64 = 60;

/// The weight of a new sample in the average: it forgets half of what was in about five requests.
const SAMPLE: f64 = 0.125;

impl BackendCounters {
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

    pub(super) fn pool(&self, name: &str) -> Arc<PoolCounters> {
        self.pools.of(name.to_owned())
    }

    pub(super) fn backend(&self, pool: &str, address: SocketAddr) -> Arc<BackendCounters> {
        self.backends.of((pool.to_owned(), address))
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
