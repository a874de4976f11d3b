//! The sessions of a worker, and which one makes room for a new one.
//!
//! Anyone can begin sessions with forged addresses, so a session is *fresh* until its client has sent something after a
//! reply: only then is it known that the client gets what is sent to it. Fresh sessions make room first, and of those, the
//! ones of the network that has most of them. No network has more than its quota.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::Duration;

use tokio::time::Instant;

/// The bits of an IPv4 address that a network keeps: smaller ones are not routed on their own.
const V4_NETWORK: u32 = 24;
/// The bits of an IPv6 address that a network keeps: a site gets a /48 and can use all its addresses.
const V6_NETWORK: u32 = 48;
/// Networks that fill the table, each with its quota: nobody fills it alone.
const NETWORK_SHARE: usize = 4;
/// How exactly the order of use is known: a session is moved to its end at most this often.
const GRAIN: Duration = Duration::from_secs(1);

/// What a session is known by.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) struct Flow {
    pub(super) client: SocketAddr,
    /// The address that the client sends to.
    pub(super) local: SocketAddr,
}

/// Sessions by their flows.
#[derive(Debug)]
pub(super) struct Table<S> {
    /// The most sessions; at least 1.
    most: usize,
    sessions: HashMap<Flow, Entry<S>>,
    fresh: Crowd,
    settled: Crowd,
    last: Turn,
}

#[derive(Debug)]
struct Entry<S> {
    session: S,
    is_settled: bool,
    turn: Turn,
    /// When it got its turn.
    since: Instant,
}

/// The order of use: the lower, the longer ago.
type Turn = u64;

/// Sessions by their networks.
#[derive(Debug, Default)]
struct Crowd {
    by_network: HashMap<IpAddr, BTreeMap<Turn, Flow>>,
    /// The fullest network is the last; of equally full ones, the one whose session has not been used for longest.
    ranks: BTreeSet<(usize, Reverse<Turn>, IpAddr)>,
}

impl<S> Table<S> {
    pub(super) fn new(most: usize) -> Self {
        let (sessions, fresh, settled) = Default::default();
        Self { most: most.max(1), sessions, fresh, settled, last: 0 }
    }

    /// The session of a flow, which is used now.
    pub(super) fn touch(&mut self, flow: Flow, now: Instant) -> Option<&S> {
        let entry = self.sessions.get_mut(&flow)?;
        if now.saturating_duration_since(entry.since) >= GRAIN {
            let crowd = if entry.is_settled { &mut self.settled } else { &mut self.fresh };
            crowd.remove(flow, entry.turn);
            self.last += 1;
            (entry.turn, entry.since) = (self.last, now);
            crowd.insert(flow, entry.turn);
        }
        Some(&entry.session)
    }

    /// Its client gets what is sent to it.
    pub(super) fn settle(&mut self, flow: Flow) {
        if let Some(entry) = self.sessions.get_mut(&flow)
            && !entry.is_settled
        {
            entry.is_settled = true;
            self.fresh.remove(flow, entry.turn);
            self.settled.insert(flow, entry.turn);
        }
    }

    /// Adds the session of a flow that has none. Returns the one that made room for it.
    pub(super) fn insert(&mut self, flow: Flow, session: S, now: Instant) -> Option<S> {
        debug_assert!(!self.sessions.contains_key(&flow), "it has a session");
        let evicted = self.to_evict(network(flow.client.ip())).and_then(|flow| self.remove(flow));
        self.last += 1;
        self.fresh.insert(flow, self.last);
        self.sessions.insert(flow, Entry { session, is_settled: false, turn: self.last, since: now });
        evicted
    }

    /// Removes the session of a flow.
    pub(super) fn remove(&mut self, flow: Flow) -> Option<S> {
        let Entry { session, is_settled, turn, .. } = self.sessions.remove(&flow)?;
        let crowd = if is_settled { &mut self.settled } else { &mut self.fresh };
        crowd.remove(flow, turn);
        Some(session)
    }

    /// The session of a flow.
    pub(super) fn find(&self, flow: Flow) -> Option<&S> {
        self.sessions.get(&flow).map(|entry| &entry.session)
    }

    /// The session that makes room for one more of this network, if one must.
    fn to_evict(&self, newcomer: IpAddr) -> Option<Flow> {
        let own = self.fresh.count(newcomer) + self.settled.count(newcomer);
        if own >= self.most.div_ceil(NETWORK_SHARE) {
            return self.fresh.oldest(newcomer).or_else(|| self.settled.oldest(newcomer));
        }
        if self.sessions.len() < self.most {
            return None;
        }
        let crowded = |crowd: &Crowd| crowd.oldest(crowd.ranks.last()?.2);
        crowded(&self.fresh).or_else(|| crowded(&self.settled))
    }
}

impl Crowd {
    fn count(&self, network: IpAddr) -> usize {
        self.by_network.get(&network).map_or(0, BTreeMap::len)
    }

    /// The flow of the network that has not been used for longest.
    fn oldest(&self, network: IpAddr) -> Option<Flow> {
        self.by_network.get(&network)?.first_key_value().map(|(_, flow)| *flow)
    }

    fn insert(&mut self, flow: Flow, turn: Turn) {
        self.change(network(flow.client.ip()), |flows| _ = flows.insert(turn, flow));
    }

    fn remove(&mut self, flow: Flow, turn: Turn) {
        self.change(network(flow.client.ip()), |flows| _ = flows.remove(&turn));
    }

    /// Changes the flows of a network, and its rank with them.
    fn change(&mut self, network: IpAddr, change: impl FnOnce(&mut BTreeMap<Turn, Flow>)) {
        let rank = |flows: &BTreeMap<Turn, Flow>| {
            let (oldest, _) = flows.first_key_value()?;
            Some((flows.len(), Reverse(*oldest), network))
        };
        let flows = self.by_network.entry(network).or_default();
        if let Some(rank) = rank(flows) {
            self.ranks.remove(&rank);
        }
        change(flows);
        match rank(flows) {
            Some(rank) => _ = self.ranks.insert(rank),
            None => _ = self.by_network.remove(&network),
        }
    }
}

/// The first address of the network of an address.
fn network(address: IpAddr) -> IpAddr {
    match address {
        IpAddr::V4(ip) => Ipv4Addr::from(u32::from(ip) & (u32::MAX << (32 - V4_NETWORK))).into(),
        IpAddr::V6(ip) => Ipv6Addr::from(u128::from(ip) & (u128::MAX << (128 - V6_NETWORK))).into(),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn flow(client: &str) -> Flow {
        Flow { client: client.parse().unwrap(), local: "198.51.100.1:53".parse().unwrap() }
    }

    /// A table of 8 with these clients, whose sessions are their names.
    fn table(clients: &[&'static str]) -> (Table<&'static str>, Instant) {
        let (mut table, now) = (Table::new(8), Instant::now());
        for client in clients {
            assert_eq!(table.insert(flow(client), *client, now), None, "{client}");
        }
        (table, now)
    }

    #[test]
    fn no_network_has_more_than_a_quarter() {
        let (mut table, now) = table(&["192.0.2.1:1", "192.0.2.2:1", "203.0.113.1:1"]);
        assert_eq!(table.insert(flow("192.0.2.3:1"), "new", now), Some("192.0.2.1:1"));
        assert_eq!(table.insert(flow("203.0.113.1:2"), "203.0.113.1:2", now), None);
        assert_eq!(table.insert(flow("[2001:db8::1]:1"), "a", now), None);
        assert_eq!(table.insert(flow("[2001:db8:0:1::1]:1"), "b", now), None);
        assert_eq!(table.insert(flow("[2001:db8:0:2::1]:1"), "c", now), Some("a"));
    }

    #[test]
    fn a_flood_of_forged_addresses_evicts_itself() {
        let (mut table, now) = table(&["192.0.2.1:1", "192.0.2.2:1", "203.0.113.1:1"]);
        for client in ["192.0.2.1:1", "192.0.2.2:1", "203.0.113.1:1"] {
            table.settle(flow(client));
        }
        for forged in 0..1000_u32 {
            let client = SocketAddr::from((Ipv4Addr::from(0x0a00_0000 + (forged << 8)), 7));
            let evicted = table.insert(Flow { client, ..flow("10.0.0.1:1") }, "forged", now);
            assert_eq!(evicted, (forged >= 5).then_some("forged"), "{forged}");
        }
        assert_eq!(table.find(flow("192.0.2.1:1")), Some(&"192.0.2.1:1"));
    }

    #[test]
    fn the_session_that_was_not_used_for_longest_makes_room() {
        let (mut table, now) = table(&["192.0.2.1:1", "192.0.2.1:2"]);
        assert_eq!(table.touch(flow("192.0.2.1:1"), now + GRAIN), Some(&"192.0.2.1:1"));
        assert_eq!(table.insert(flow("192.0.2.1:3"), "new", now + GRAIN), Some("192.0.2.1:2"));
    }

    proptest! {
        /// Whatever happens, the table knows every session once, in the right crowd, and holds no more than it may.
        #[test]
        fn the_crowds_are_those_of_the_sessions(
            steps in prop::collection::vec((0_u8..4, 0_u8..6, 0_u16..4), 0..200),
        ) {
            let (mut table, mut now) = (Table::new(8), Instant::now());
            for (step, net, port) in steps {
                let flow = flow(&format!("192.0.{net}.1:{}", port + 1));
                now += Duration::from_millis(400);
                let known = table.find(flow).is_some();
                match step {
                    0 if known => table.settle(flow),
                    1 => _ = table.remove(flow),
                    2 => _ = table.touch(flow, now),
                    _ if !known => _ = table.insert(flow, (), now),
                    _ => {}
                }
                prop_assert!(table.sessions.len() <= 8);
                for (crowd, is_settled) in [(&table.fresh, false), (&table.settled, true)] {
                    let mut counted = 0;
                    for (turn, flow) in crowd.by_network.values().flatten() {
                        let entry = &table.sessions[flow];
                        prop_assert_eq!((entry.turn, entry.is_settled), (*turn, is_settled));
                        counted += 1;
                    }
                    prop_assert_eq!(counted, table.sessions.values().filter(|it| it.is_settled == is_settled).count());
                    prop_assert_eq!(crowd.ranks.len(), crowd.by_network.len());
                }
                for net in 0..6_u8 {
                    let net = network(IpAddr::from([192, 0, net, 1]));
                    prop_assert!(table.fresh.count(net) + table.settled.count(net) <= 2);
                }
            }
        }
    }
}
