//! How far away clients are: the round-trip times of their TCP handshakes, by network.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use ipnet::IpNet;

/// Bits of an IPv4 address that a network keeps: routes have no more.
const V4_BITS: u8 = 24;
/// Bits of an IPv6 address that a network keeps: what a site gets.
const V6_BITS: u8 = 48;

/// Networks of a generation, of which there are two; together they take about 10 MB.
const MOST_NETWORKS: usize = 65_536;

/// The weight of a new sample in the average: it forgets half of what was in about five handshakes.
const SAMPLE: f64 = 0.125;

/// What all listeners have seen.
#[derive(Debug, Default)]
pub struct Handshakes(Mutex<Generations>);

/// The networks seen lately, and those before them. When there are too many, those before are forgotten.
#[derive(Debug, Default)]
struct Generations {
    recent: HashMap<IpNet, Distance>,
    earlier: HashMap<IpNet, Distance>,
}

/// The handshakes of a network.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Distance {
    /// How many were measured.
    pub handshakes: u64,
    /// The moving average of their round-trip times.
    pub average: Duration,
    /// The shortest of them.
    pub least: Duration,
}

impl Handshakes {
    /// Adds handshakes of clients. Returns false, without waiting, while somebody else uses the table.
    pub fn try_add(&self, measured: &[(IpAddr, Duration)]) -> bool {
        let Ok(mut generations) = self.0.try_lock() else { return false };
        for (client, time) in measured {
            generations.add(network(*client), *time, MOST_NETWORKS);
        }
        true
    }

    /// All networks, in order.
    #[must_use]
    pub fn networks(&self) -> Vec<(IpNet, Distance)> {
        let generations = self.lock();
        let both = generations.recent.iter().chain(&generations.earlier);
        let mut all: Vec<_> = both.map(|(network, distance)| (*network, *distance)).collect();
        drop(generations);
        all.sort_unstable_by_key(|(network, _)| *network);
        all
    }

    fn lock(&self) -> MutexGuard<'_, Generations> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Generations {
    fn add(&mut self, network: IpNet, time: Duration, most: usize) {
        if let Some(known) = self.recent.get_mut(&network) {
            return known.add(time);
        }
        let mut distance = self.earlier.remove(&network);
        match &mut distance {
            Some(known) => known.add(time),
            None => distance = Some(Distance { handshakes: 1, average: time, least: time }),
        }
        if self.recent.len() >= most {
            self.earlier = std::mem::take(&mut self.recent);
        }
        self.recent.extend(distance.map(|distance| (network, distance)));
    }
}

impl Distance {
    fn add(&mut self, time: Duration) {
        self.handshakes += 1;
        self.least = self.least.min(time);
        self.average = self.average.mul_f64(1.0 - SAMPLE) + time.mul_f64(SAMPLE);
    }
}

fn network(client: IpAddr) -> IpNet {
    let (address, bits) = match client {
        IpAddr::V4(ip) => (Ipv4Addr::from(u32::from(ip) & (u32::MAX << (32 - V4_BITS))).into(), V4_BITS),
        IpAddr::V6(ip) => (Ipv6Addr::from(u128::from(ip) & (u128::MAX << (128 - V6_BITS))).into(), V6_BITS),
    };
    IpNet::new_assert(address, bits)
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: Duration = Duration::from_millis(1);

    fn net(text: &str) -> IpNet {
        text.parse().unwrap()
    }

    #[test]
    fn clients_of_a_network_count_together() {
        let seen = Handshakes::default();
        let measured = [("192.0.2.1", 80), ("192.0.2.200", 160), ("192.0.3.1", 5), ("2001:db8:1:2::1", 7)];
        let measured = measured.map(|(client, millis)| (client.parse().unwrap(), millis * MS));
        assert!(seen.try_add(&measured));
        let one = |millis| Distance { handshakes: 1, average: millis * MS, least: millis * MS };
        let expected = [
            (net("192.0.2.0/24"), Distance { handshakes: 2, average: 90 * MS, least: 80 * MS }),
            (net("192.0.3.0/24"), one(5)),
            (net("2001:db8:1::/48"), one(7)),
        ];
        assert_eq!(seen.networks(), expected);
    }

    #[test]
    fn nobody_waits_for_a_reader() {
        let seen = Handshakes::default();
        let reading = seen.lock();
        assert!(!seen.try_add(&[("192.0.2.1".parse().unwrap(), MS)]));
        drop(reading);
        assert_eq!(seen.networks(), []);
    }

    #[test]
    fn networks_that_come_back_are_kept_and_the_others_forgotten() {
        let mut seen = Generations::default();
        let often = net("192.0.2.0/24");
        for n in 0..1000_u32 {
            seen.add(network(Ipv4Addr::from(0x0a00_0000 + (n << 8)).into()), MS, 8);
            seen.add(often, MS, 8);
            assert!(seen.recent.len() <= 8 && seen.earlier.len() <= 8);
        }
        let known = seen.recent.get(&often).or_else(|| seen.earlier.get(&often));
        assert_eq!(known.map(|it| it.handshakes), Some(1000));
    }
}
