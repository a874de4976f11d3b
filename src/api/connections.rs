//! How many connections to the API may be open, and which one is closed for a new one.
//!
//! Anyone could block a server that refuses connections when it is full, by opening them and leaving them idle. Here
//! the client that holds the most connections loses the one whose last request is longest ago. Event streams are
//! never closed for others; they have a limit of their own instead.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv6Addr};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio_util::sync::CancellationToken;

/// The most connections per listener, whatever the budget of file descriptors. A connection takes some 15 KB, and up to
/// 100 KB while a large reply waits for its reader.
const MOST: usize = 256;

/// The fewest connections per listener, however small the budget: fewer would be of no use.
const FEWEST: usize = 4;

/// One in this many connections may be an event stream.
const CONNECTIONS_PER_STREAM: usize = 4;

/// The bits of an IPv6 address that tell clients apart: a host usually has a /64 to choose addresses from.
const CLIENT_V6_BITS: u32 = 64;

/// The open connections of a listener.
#[derive(Debug)]
pub struct Connections {
    most: usize,
    most_streams: usize,
    open: Mutex<Open>,
}

#[derive(Debug, Default)]
struct Open {
    /// Counts admissions and requests: the order of events, which is all that matters here.
    clock: u64,
    by_number: HashMap<u64, Connection>,
}

#[derive(Debug)]
struct Connection {
    /// `None` on a Unix socket.
    client: Option<IpAddr>,
    /// When it was accepted or its last request came.
    active: u64,
    is_stream: bool,
    evicted: CancellationToken,
}

/// The place of an open connection; released when dropped.
#[derive(Debug)]
pub(super) struct Admission {
    connections: Arc<Connections>,
    number: u64,
    evicted: CancellationToken,
}

impl Connections {
    /// At most `budget` may be open.
    #[must_use]
    pub fn within(budget: usize) -> Arc<Self> {
        let most = budget.clamp(FEWEST, MOST);
        Arc::new(Self { most, most_streams: most / CONNECTIONS_PER_STREAM, open: Mutex::default() })
    }

    /// Admits a connection; if it would be one too many, another one is evicted.
    pub(super) fn admit(self: &Arc<Self>, client: Option<IpAddr>) -> Admission {
        let mut open = self.open();
        if open.by_number.len() >= self.most
            && let Some(number) = open.dispensable()
            && let Some(connection) = open.by_number.remove(&number)
        {
            connection.evicted.cancel();
        }
        let (number, evicted) = (open.tick(), CancellationToken::new());
        let client = client.map(whole);
        let connection = Connection { client, active: number, is_stream: false, evicted: evicted.clone() };
        open.by_number.insert(number, connection);
        Admission { connections: Arc::clone(self), number, evicted }
    }

    fn open(&self) -> MutexGuard<'_, Open> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Open {
    fn tick(&mut self) -> u64 {
        self.clock += 1;
        self.clock
    }

    /// The connection to close for a new one. There are fewer streams than connections, so there is one.
    fn dispensable(&self) -> Option<u64> {
        let mut held: HashMap<Option<IpAddr>, usize> = HashMap::new();
        for connection in self.by_number.values() {
            *held.entry(connection.client).or_default() += 1;
        }
        let candidates = self.by_number.iter().filter(|(_, connection)| !connection.is_stream);
        let worst = candidates.min_by_key(|(_, it)| (std::cmp::Reverse(held[&it.client]), it.active));
        worst.map(|(number, _)| *number)
    }
}

/// What stands for a client: its IPv4 address, or the /64 of its IPv6 address.
fn whole(address: IpAddr) -> IpAddr {
    match address {
        IpAddr::V6(v6) => Ipv6Addr::from_bits(v6.to_bits() >> CLIENT_V6_BITS << CLIENT_V6_BITS).into(),
        IpAddr::V4(_) => address,
    }
}

impl Admission {
    /// Records that a request came.
    pub(super) fn touch(&self) {
        let mut open = self.connections.open();
        let now = open.tick();
        if let Some(connection) = open.by_number.get_mut(&self.number) {
            connection.active = now;
        }
    }

    /// Makes the connection an event stream until it ends.
    ///
    /// # Errors
    /// The number of streams, if no more may be open.
    pub(super) fn become_stream(&self) -> Result<(), usize> {
        let mut open = self.connections.open();
        let streams = open.by_number.values().filter(|connection| connection.is_stream).count();
        if streams >= self.connections.most_streams {
            return Err(streams);
        }
        if let Some(connection) = open.by_number.get_mut(&self.number) {
            connection.is_stream = true;
        }
        Ok(())
    }

    /// Returns when the connection is evicted.
    pub(super) async fn evicted(&self) {
        self.evicted.cancelled().await;
    }
}

impl Drop for Admission {
    fn drop(&mut self) {
        self.connections.open().by_number.remove(&self.number);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn is_evicted(admission: &Admission) -> bool {
        admission.evicted.is_cancelled()
    }

    fn client(last: u8) -> Option<IpAddr> {
        Some(IpAddr::from([192, 0, 2, last]))
    }

    #[test]
    fn the_client_with_the_most_loses_its_longest_idle_one() {
        let connections = Connections::within(8);
        let one = connections.admit(client(1));
        let flood: Vec<_> = (0..7).map(|_| connections.admit(client(2))).collect();
        flood[0].touch();
        let new = connections.admit(client(3));
        assert!(!is_evicted(&one) && !is_evicted(&new), "one connection is not too many for a client");
        assert_eq!(flood.iter().map(is_evicted).filter(|evicted| *evicted).count(), 1);
        assert!(is_evicted(&flood[1]), "the first one has asked something since");
        // An evicted connection that ends does not make room twice.
        drop(flood);
        assert_eq!(connections.open().by_number.len(), 2);
    }

    #[test]
    fn addresses_of_one_ipv6_network_are_one_client() {
        let connections = Connections::within(8);
        let v6 = |text: &str| Some(text.parse().unwrap());
        let other = connections.admit(v6("2001:db8:0:1::1"));
        let flood: Vec<_> = (0..7).map(|host| connections.admit(v6(&format!("2001:db8::{host}")))).collect();
        let _new = connections.admit(v6("2001:db8::8"));
        assert!(!is_evicted(&other) && is_evicted(&flood[0]));
    }

    #[test]
    fn streams_stay_and_are_limited() {
        let connections = Connections::within(8);
        let streams: Vec<_> = (0..2).map(|_| connections.admit(client(1))).collect();
        assert!(streams.iter().all(|stream| stream.become_stream() == Ok(())));
        let mut others: Vec<_> = (0..20).map(|_| connections.admit(client(1))).collect();
        assert!(!streams.iter().any(is_evicted));
        let last = others.pop().unwrap();
        assert!(!is_evicted(&last));
        assert_eq!(last.become_stream(), Err(2));
        drop(streams);
        assert_eq!(last.become_stream(), Ok(()));
    }
}
