//! How many TCP connections may be open, and which one is closed for a new one.
//!
//! Anyone could block a server that refuses connections when it is full, by opening them and leaving them idle. Here
//! the connection that has been without a query for longest is closed instead, so a client that asks is served.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

/// The open connections of all listeners.
#[derive(Debug)]
pub(super) struct Connections {
    /// The most that may be open; at least 1.
    limit: usize,
    start: Instant,
    open: Mutex<Open>,
}

#[derive(Debug, Default)]
struct Open {
    next: u64,
    by_number: HashMap<u64, Arc<Connection>>,
}

#[derive(Debug)]
struct Connection {
    /// When its last query came, or it was accepted: milliseconds after `start`.
    active: AtomicU64,
    evicted: CancellationToken,
}

/// A slot for an open connection; released when dropped.
#[derive(Debug)]
pub(super) struct Admission {
    connections: Arc<Connections>,
    number: u64,
    connection: Arc<Connection>,
}

impl Connections {
    pub(super) fn new(limit: usize) -> Self {
        Self { limit: limit.max(1), start: Instant::now(), open: Mutex::default() }
    }

    /// Admits a connection; if it would be one too many, the longest idle one is evicted.
    pub(super) fn admit(self: &Arc<Self>) -> Admission {
        let connection =
            Arc::new(Connection { active: AtomicU64::new(self.moment()), evicted: CancellationToken::new() });
        let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        if open.by_number.len() >= self.limit {
            let idlest = |(number, connection): &(&u64, &Arc<Connection>)| {
                (connection.active.load(Ordering::Relaxed), **number)
            };
            if let Some(number) = open.by_number.iter().min_by_key(idlest).map(|(number, _)| *number)
                && let Some(evicted) = open.by_number.remove(&number)
            {
                evicted.evicted.cancel();
            }
        }
        let number = open.next;
        open.next += 1;
        open.by_number.insert(number, Arc::clone(&connection));
        Admission { connections: Arc::clone(self), number, connection }
    }

    fn moment(&self) -> u64 {
        self.start.elapsed().as_millis() as u64
    }
}

impl Admission {
    /// Records that a query arrived.
    pub(super) fn touch(&self) {
        self.connection.active.store(self.connections.moment(), Ordering::Relaxed);
    }

    /// Returns when the connection is evicted.
    pub(super) async fn evicted(&self) {
        self.connection.evicted.cancelled().await;
    }
}

impl Drop for Admission {
    fn drop(&mut self) {
        self.connections.open.lock().unwrap_or_else(PoisonError::into_inner).by_number.remove(&self.number);
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn is_evicted(admission: &Admission) -> bool {
        admission.connection.evicted.is_cancelled()
    }

    #[tokio::test(start_paused = true)]
    async fn the_longest_idle_is_evicted() {
        let connections = Arc::new(Connections::new(3));
        let mut admissions = Vec::new();
        for _ in 0..3 {
            admissions.push(connections.admit());
            tokio::time::advance(Duration::from_millis(1)).await;
        }
        admissions[0].touch();
        let fourth = connections.admit();
        assert_eq!(admissions.iter().map(is_evicted).collect::<Vec<_>>(), [false, true, false]);
        // A connection that ends by itself leaves its place to the next.
        drop(admissions.pop());
        let _fifth = connections.admit();
        assert!(!is_evicted(&admissions[0]) && !is_evicted(&fourth));
    }
}
