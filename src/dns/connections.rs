//! How many TCP connections may be open, and which one is closed for a new one.
//!
//! Anyone could block a server that refuses connections when it is full, by opening them and leaving them idle. Here a
//! new connection replaces one of the client prefix that has most of them, so a client that floods the server evicts
//! itself, and of that prefix the one that has been without a query for longest.
//!
//! The connections of a trusted proxy are its clients': until its header names the client, a connection belongs to the
//! group of all such connections, which counts against the total but has no quota of its own.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio_util::sync::CancellationToken;

/// The bits of an IPv4 address that a prefix keeps: networks smaller than a /24 are not routed on their own.
const V4_PREFIX: u32 = 24;
/// The bits of an IPv6 address that a prefix keeps: a site gets a /48 and can use all its addresses.
const V6_PREFIX: u32 = 48;

/// The open connections of all listeners.
#[derive(Debug)]
pub(super) struct Connections {
    quota: Quota,
    open: Mutex<Open>,
}

/// The most connections open at a time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Quota {
    /// Over all clients and addresses; at least 1.
    pub(super) total: usize,
    /// Of one client prefix; at least 1.
    pub(super) per_prefix: usize,
}

/// Connections that compete with each other first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
enum Group {
    /// Those of a client prefix, which share a quota; its first address.
    Prefix(IpAddr),
    /// Those of trusted proxies that have not named their client yet.
    Unnamed,
}

/// The order of admissions and queries: the lower, the longer ago.
type Turn = u64;

#[derive(Debug, Default)]
struct Open {
    last: Turn,
    count: usize,
    /// By the turn of their last query, or of their admission.
    by_group: HashMap<Group, BTreeMap<Turn, CancellationToken>>,
    /// The fullest group is the last; of equally full ones, the one with the connection that is idle for longest.
    ranks: BTreeSet<(usize, Reverse<Turn>, Group)>,
}

/// A slot for an open connection; released when dropped.
#[derive(Debug)]
pub(super) struct Admission {
    connections: Arc<Connections>,
    group: Group,
    turn: Turn,
    /// Cancelled when the connection must make room for another.
    pub(super) evicted: CancellationToken,
}

/// Whether a connection was evicted for a new one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Room {
    Free,
    Made,
}

impl Connections {
    pub(super) fn new(quota: Quota) -> Self {
        Self { quota, open: Mutex::default() }
    }

    /// Admits a connection; if it would be one too many, another is evicted.
    pub(super) fn admit(self: &Arc<Self>, client: IpAddr) -> (Admission, Room) {
        self.admit_to(Group::of(client))
    }

    /// Admits a connection of a trusted proxy, whose client is not known yet.
    pub(super) fn admit_unnamed(self: &Arc<Self>) -> (Admission, Room) {
        self.admit_to(Group::Unnamed)
    }

    fn admit_to(self: &Arc<Self>, group: Group) -> (Admission, Room) {
        let evicted = CancellationToken::new();
        let mut open = self.lock();
        let room = open.make_room(group, self.quota);
        let turn = open.insert(group, evicted.clone());
        drop(open);
        (Admission { connections: Arc::clone(self), group, turn, evicted }, room)
    }

    fn lock(&self) -> MutexGuard<'_, Open> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Open {
    fn make_room(&mut self, newcomer: Group, quota: Quota) -> Room {
        let own = self.by_group.get(&newcomer).map_or(0, BTreeMap::len);
        let crowded = match self.ranks.last() {
            _ if newcomer != Group::Unnamed && own >= quota.per_prefix.max(1) => newcomer,
            Some((_, _, fullest)) if self.count >= quota.total => *fullest,
            _ => return Room::Free,
        };
        if let Some((_, evicted)) = self.change(crowded, BTreeMap::pop_first) {
            evicted.cancel();
        }
        Room::Made
    }

    fn insert(&mut self, group: Group, connection: CancellationToken) -> Turn {
        self.last += 1;
        let turn = self.last;
        self.change(group, |connections| connections.insert(turn, connection));
        turn
    }

    fn remove(&mut self, group: Group, turn: Turn) -> Option<CancellationToken> {
        self.change(group, |connections| connections.remove(&turn))
    }

    /// Changes the connections of a group, and its rank with them.
    fn change<T>(
        &mut self,
        group: Group,
        change: impl FnOnce(&mut BTreeMap<Turn, CancellationToken>) -> T,
    ) -> T {
        let rank = |connections: &BTreeMap<Turn, CancellationToken>| {
            let (longest_idle, _) = connections.first_key_value()?;
            Some((connections.len(), Reverse(*longest_idle), group))
        };
        let connections = self.by_group.entry(group).or_default();
        if let Some(rank) = rank(connections) {
            self.ranks.remove(&rank);
        }
        self.count -= connections.len();
        let changed = change(connections);
        self.count += connections.len();
        match rank(connections) {
            Some(rank) => _ = self.ranks.insert(rank),
            None => _ = self.by_group.remove(&group),
        }
        changed
    }
}

impl Group {
    fn of(client: IpAddr) -> Self {
        Self::Prefix(match client {
            IpAddr::V4(ip) => IpAddr::V4(ip & Ipv4Addr::from(u32::MAX << (u32::BITS - V4_PREFIX))),
            IpAddr::V6(ip) => IpAddr::V6(ip & Ipv6Addr::from(u128::MAX << (u128::BITS - V6_PREFIX))),
        })
    }
}

impl Admission {
    /// Records that a query arrived.
    pub(super) fn touch(&mut self) {
        let mut open = self.connections.lock();
        // An evicted connection has no place to keep.
        if let Some(connection) = open.remove(self.group, self.turn) {
            self.turn = open.insert(self.group, connection);
        }
    }

    /// Counts the connection against the quota of its client, which a proxy has named.
    pub(super) fn attribute(&mut self, client: IpAddr) -> Room {
        let mut open = self.connections.lock();
        let Some(connection) = open.remove(self.group, self.turn) else { return Room::Free };
        self.group = Group::of(client);
        let room = open.make_room(self.group, self.connections.quota);
        self.turn = open.insert(self.group, connection);
        room
    }
}

impl Drop for Admission {
    fn drop(&mut self) {
        self.connections.lock().remove(self.group, self.turn);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn connections(total: usize, per_prefix: usize) -> Arc<Connections> {
        Arc::new(Connections::new(Quota { total, per_prefix }))
    }

    fn admit(connections: &Arc<Connections>, client: &str) -> Admission {
        connections.admit(client.parse().unwrap()).0
    }

    fn evicted(admissions: &[Admission]) -> Vec<bool> {
        admissions.iter().map(|admission| admission.evicted.is_cancelled()).collect()
    }

    #[test]
    fn the_longest_idle_is_evicted() {
        let connections = connections(3, 3);
        let mut admissions: Vec<_> = (0..3).map(|_| admit(&connections, "192.0.2.1")).collect();
        admissions[0].touch();
        let (fourth, room) = connections.admit("192.0.2.2".parse().unwrap());
        assert_eq!((evicted(&admissions), room), (vec![false, true, false], Room::Made));
        // A connection that ends by itself leaves its place to the next; one that was evicted does not.
        drop(admissions.pop());
        admissions[1].touch();
        let (fifth, room) = connections.admit("192.0.2.1".parse().unwrap());
        assert_eq!((evicted(&admissions), room), (vec![false, true], Room::Free));
        assert_eq!(evicted(&[fourth, fifth]), [false, false]);
        drop(admissions);
        let open = connections.lock();
        assert_eq!((open.count, open.ranks.len()), (0, 0));
        assert!(open.by_group.is_empty(), "nothing is left of clients that are gone");
    }

    #[test]
    fn a_flood_from_one_network_evicts_itself() {
        let connections = connections(4, 4);
        let polite = [admit(&connections, "198.51.100.1"), admit(&connections, "2001:db8:1::1")];
        // Neighbours share a prefix: one /24, one /48.
        for flood in [["192.0.2.1", "192.0.2.254"], ["2001:db8:2::1", "2001:db8:2:ffff::1"]] {
            let mut flooding: Vec<_> = (0..100).map(|n| admit(&connections, flood[n % 2])).collect();
            assert_eq!(evicted(&polite), [false, false], "idle for longer than any of {flood:?}");
            let last = flooding.split_off(98);
            assert!(evicted(&flooding).into_iter().all(|is_evicted| is_evicted));
            assert_eq!(evicted(&last), [false, false]);
        }
        let newcomer = [admit(&connections, "203.0.113.1")];
        assert_eq!((evicted(&newcomer), evicted(&polite)), (vec![false], vec![false, false]));
    }

    #[test]
    fn a_prefix_has_a_quota_even_where_there_is_room() {
        let connections = connections(100, 2);
        let many: Vec<_> = (0..4).map(|_| admit(&connections, "192.0.2.1")).collect();
        let others = [admit(&connections, "192.0.3.1"), admit(&connections, "2001:db8::1")];
        assert_eq!(evicted(&many), [true, true, false, false]);
        assert_eq!(evicted(&others), [false, false]);
    }

    #[test]
    fn a_proxy_has_the_quotas_of_its_clients_and_none_of_its_own() {
        let connections = connections(6, 2);
        let mut unnamed: Vec<_> = (0..5).map(|_| connections.admit_unnamed().0).collect();
        assert_eq!(evicted(&unnamed), [false; 5], "more than a prefix may have");
        let clients = ["192.0.2.1", "192.0.2.2", "192.0.2.3", "198.51.100.1"];
        let rooms: Vec<_> = unnamed
            .iter_mut()
            .zip(clients)
            .map(|(admission, client)| admission.attribute(client.parse().unwrap()))
            .collect();
        assert_eq!(rooms, [Room::Free, Room::Free, Room::Made, Room::Free]);
        assert_eq!(evicted(&unnamed), [true, false, false, false, false]);
        // An evicted connection is counted nowhere, whatever its proxy says.
        assert_eq!(unnamed[0].attribute("203.0.113.1".parse().unwrap()), Room::Free);
        // They do count against the total.
        let more: Vec<_> = (0..3).map(|_| connections.admit_unnamed()).collect();
        assert_eq!(
            more.iter().map(|(_, room)| *room).collect::<Vec<_>>(),
            [Room::Free, Room::Free, Room::Made]
        );
        assert_eq!(connections.lock().count, 6);
        drop((unnamed, more));
        assert_eq!(connections.lock().count, 0);
    }

    #[test]
    fn of_equally_full_networks_the_one_idle_for_longest_loses_a_connection() {
        let connections = connections(3, 3);
        let clients = ["203.0.113.1", "192.0.2.1", "198.51.100.1"];
        let mut admissions: Vec<_> = clients.iter().map(|client| admit(&connections, client)).collect();
        admissions[0].touch();
        let _fourth = admit(&connections, "2001:db8::1");
        assert_eq!(evicted(&admissions), [false, true, false]);
    }
}
