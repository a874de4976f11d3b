//! How much each client may use of a listener.
//!
//! A client is an IPv4 address or the /64 of an IPv6 one. What is known of clients is shared by all workers, so that a limit
//! is the node's, however a client's connections are spread: connections are counted in a table that is locked when one is
//! accepted or closed, requests in one of atomics.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering::Relaxed;
use std::sync::{Arc, LazyLock, Mutex, PoisonError};
use std::time::Duration;

use http::HeaderMap;
use tokio::time::Instant;

use crate::model::{ClientLimits, Networks};
use crate::net;
use crate::pick::{Hash, client_key};

/// The connections and requests of clients.
#[derive(Debug, Default)]
pub struct Clients {
    /// Only those that have connections: there are no more than connections.
    connections: Mutex<HashMap<u64, usize>>,
    requests: LazyLock<Accounts>,
}

/// A connection that counts for its client.
#[derive(Debug)]
pub(super) struct Admitted {
    clients: Arc<Clients>,
    key: u64,
}

impl Clients {
    /// Counts a connection; `None` if the client has as many as it may.
    pub(super) fn admit(self: &Arc<Self>, listener: Hash, client: IpAddr, most: usize) -> Option<Admitted> {
        let key = self.requests.key(listener, client);
        let mut connections = self.connections.lock().unwrap_or_else(PoisonError::into_inner);
        let count = connections.entry(key).or_default();
        if *count >= most {
            return None;
        }
        *count += 1;
        Some(Admitted { clients: Arc::clone(self), key })
    }

    /// Counts a request.
    ///
    /// # Errors
    /// The time until the client may send another one.
    pub(super) fn request(
        &self,
        listener: Hash,
        client: IpAddr,
        limits: &ClientLimits,
    ) -> Result<(), Duration> {
        let Some(per_second) = limits.requests_per_second else { return Ok(()) };
        self.requests.charge(self.requests.key(listener, client), per_second, limits.burst)
    }
}

impl Drop for Admitted {
    fn drop(&mut self) {
        let mut connections = self.clients.connections.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(count) = connections.get_mut(&self.key) {
            *count -= 1;
            if *count == 0 {
                connections.remove(&self.key);
            }
        }
    }
}

/// Who sent a request: the peer, or if that is a trusted hop, the last address that a trusted hop reports and that is not one
/// itself. `None` if trusted hops report nobody: their own requests are not limited.
pub(super) fn sender(peer: IpAddr, headers: &HeaderMap, trusted: &Networks) -> Option<IpAddr> {
    if !trusted.contain(peer) {
        return Some(peer);
    }
    let lines = headers.get_all("x-forwarded-for").iter().rev();
    // What a client has written before a hop's own entry need not be text.
    let hops = lines.flat_map(|line| line.as_bytes().rsplit(|byte| *byte == b','));
    let mut hops = hops.map(|hop| str::from_utf8(hop).map_err(drop)?.trim().parse::<IpAddr>().map_err(drop));
    // What stands before a hop that is not an address was reported by nobody who is known.
    hops.find_map(|hop| match hop {
        Ok(hop) if trusted.contain(hop) => None,
        hop => Some(hop.ok()),
    })?
}

/// Accounts of requests: 512 KiB, however many clients there are. A power of two.
const ACCOUNTS: usize = 1 << 16;

/// Accounts that a client may have: those of one cache line.
const WAYS: usize = 8;

/// Accounts count in ticks of 100 µs, so that one request of the highest rate takes one.
const TICKS_PER_SECOND: u64 = 10_000;

/// Bits of an account for the time; the others tell clients of a set apart. 40 bits of ticks last for three years.
const TIME_BITS: u32 = 40;
const TIME: u64 = (1 << TIME_BITS) - 1;

/// When each client's requests are paid, in ticks. An account that is not known has all credit, so a client that loses its
/// account to another gains by it, and clients that owe most keep theirs: a flood of sources turns nobody away.
#[derive(Debug)]
struct Accounts {
    slots: Box<[AtomicU64]>,
    /// Nobody can choose addresses that share an account.
    seed: Hash,
    start: Instant,
}

impl Default for Accounts {
    fn default() -> Self {
        let seed = Hash(u64::from_le_bytes(net::random::bytes()));
        Self { slots: (0..ACCOUNTS).map(|_| AtomicU64::new(0)).collect(), seed, start: Instant::now() }
    }
}

impl Accounts {
    fn key(&self, listener: Hash, client: IpAddr) -> u64 {
        self.seed.with(listener.0).with(client_key(client.to_canonical()).0).0
    }

    fn charge(&self, key: u64, per_second: u32, burst: u32) -> Result<(), Duration> {
        // Later than the longest burst, so that accounts that are nobody's have all credit.
        let now = self.start.elapsed() + SAVED_UP;
        let now = (now.as_micros() as u64 / (1_000_000 / TICKS_PER_SECOND)) & TIME;
        let cost = (TICKS_PER_SECOND / u64::from(per_second)).max(1);
        let credit = cost * u64::from(burst);
        loop {
            let (slot, before) = self.find(key);
            // After years the ticks begin anew: then what is known lies far in the future, and counts for nothing.
            let is_known = before >> TIME_BITS == tag(key) && before & TIME <= now + TICKS_PER_SECOND;
            let paid_at = if is_known { before & TIME } else { 0 }.max(now.saturating_sub(credit));
            let after = paid_at + cost;
            if after > now {
                return Err(Duration::from_micros((after - now) * (1_000_000 / TICKS_PER_SECOND)));
            }
            let account = tag(key) << TIME_BITS | after;
            if slot.compare_exchange(before, account, Relaxed, Relaxed).is_ok() {
                return Ok(());
            }
        }
    }

    /// The account of a client, or the one of its set that has the most credit.
    fn find(&self, key: u64) -> (&AtomicU64, u64) {
        let set = key as usize % (ACCOUNTS / WAYS) * WAYS;
        let slots = self.slots[set..set + WAYS].iter().map(|slot| (slot, slot.load(Relaxed)));
        let mut richest = None;
        for (slot, account) in slots {
            if account >> TIME_BITS == tag(key) {
                return (slot, account);
            }
            if richest.is_none_or(|(_, best)| account & TIME < best & TIME) {
                richest = Some((slot, account));
            }
        }
        richest.expect("a set has accounts")
    }
}

/// The longest time for which a burst may save up: the highest burst at the lowest rate.
const SAVED_UP: Duration = Duration::from_secs(100_000);

/// Never 0, which is nobody's.
fn tag(key: u64) -> u64 {
    (key >> TIME_BITS).max(1)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn limits(per_second: u32, burst: u32) -> ClientLimits {
        ClientLimits { connections: None, requests_per_second: Some(per_second), burst }
    }

    fn sent(clients: &Clients, client: &str, limits: &ClientLimits, count: usize) -> usize {
        let client = client.parse().unwrap();
        (0..count).filter(|_| clients.request(Hash(1), client, limits).is_ok()).count()
    }

    #[tokio::test(start_paused = true)]
    async fn a_client_gets_a_burst_and_then_its_rate() {
        for (per_second, burst) in [(1, 1), (7, 20), (50, 100), (10_000, 3)] {
            let (clients, limits) = (Clients::default(), limits(per_second, burst));
            assert_eq!(sent(&clients, "192.0.2.1", &limits, 200), burst as usize);
            assert_eq!(sent(&clients, "192.0.2.2", &limits, 1), 1, "others are not affected");
            let wait = clients.request(Hash(1), "192.0.2.1".parse().unwrap(), &limits).unwrap_err();
            assert!(wait <= Duration::from_secs(1).div_f64(f64::from(per_second)), "{wait:?}");
            tokio::time::advance(Duration::from_secs(2)).await;
            let expected = (2 * per_second).min(burst) as usize;
            assert_eq!(sent(&clients, "192.0.2.1", &limits, 200), expected);
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_flood_of_sources_neither_frees_a_client_that_exceeds_its_rate_nor_hurts_others() {
        let (clients, limits) = (Clients::default(), limits(1, 100));
        assert_eq!(sent(&clients, "192.0.2.1", &limits, 200), 100);
        for source in 0..4 * ACCOUNTS as u32 {
            let source = IpAddr::from(std::net::Ipv4Addr::from(0x0a00_0000 + source));
            assert!(clients.request(Hash(1), source, &limits).is_ok());
        }
        assert_eq!(sent(&clients, "192.0.2.1", &limits, 200), 0);
        assert_eq!(sent(&clients, "192.0.2.2", &limits, 200), 100);
        assert_eq!(sent(&clients, "2001:db8::1", &limits, 60), 60);
        assert_eq!(sent(&clients, "2001:db8::2", &limits, 60), 40, "a /64 is one client");
    }

    #[test]
    fn connections_count_until_they_are_closed() {
        let clients = Arc::new(Clients::default());
        let admit = |listener| clients.admit(Hash(listener), "192.0.2.1".parse().unwrap(), 2);
        let (one, two) = (admit(1), admit(1));
        assert!(one.is_some() && two.is_some() && admit(1).is_none());
        assert!(admit(2).is_some(), "another listener");
        drop(one);
        assert!(admit(1).is_some());
        drop(two);
        assert!(clients.connections.lock().unwrap().is_empty());
    }

    #[test]
    fn only_trusted_hops_say_who_the_client_is() {
        let trusted: Networks = ["10.0.0.0/8".parse().unwrap()].into_iter().collect();
        let of = |peer: &str, lines: &[&str]| {
            let headers: HeaderMap = lines
                .iter()
                .map(|it| (http::HeaderName::from_static("x-forwarded-for"), it.parse().unwrap()))
                .collect();
            sender(peer.parse().unwrap(), &headers, &trusted).map(|it| it.to_string()).unwrap_or_default()
        };
        assert_eq!(of("192.0.2.1", &["192.0.2.9"]), "192.0.2.1");
        assert_eq!(of("10.0.0.1", &["192.0.2.9"]), "192.0.2.9");
        assert_eq!(of("10.0.0.1", &["192.0.2.8, 192.0.2.9", "10.0.0.2,10.0.0.3"]), "192.0.2.9");
        assert_eq!(of("10.0.0.1", &["192.0.2.9, unknown"]), "");
        assert_eq!(of("10.0.0.1", &["\u{e9}, 192.0.2.9", "10.0.0.2"]), "192.0.2.9");
        assert_eq!(of("10.0.0.1", &["192.0.2.9, \u{e9}"]), "");
        assert_eq!(of("10.0.0.1", &["10.0.0.2"]), "");
        assert_eq!(of("10.0.0.1", &[]), "");
    }
}
