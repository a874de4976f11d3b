//! Networks of clients: who may ask, and who may speak for others.

use std::net::IpAddr;

use ipnet::IpNet;

/// A set of networks.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Networks {
    /// Disjoint, ordered.
    networks: Box<[IpNet]>,
}

impl Networks {
    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.networks.is_empty()
    }

    /// Whether one of them contains the address.
    #[inline]
    #[must_use]
    pub fn contain(&self, address: IpAddr) -> bool {
        let after = self.networks.partition_point(|network| network.network() <= address);
        self.networks[..after].last().is_some_and(|network| network.contains(&address))
    }
}

impl FromIterator<IpNet> for Networks {
    fn from_iter<I: IntoIterator<Item = IpNet>>(networks: I) -> Self {
        let networks: Vec<_> = networks.into_iter().map(|network| network.trunc()).collect();
        let mut networks = IpNet::aggregate(&networks);
        networks.sort_unstable_by_key(IpNet::network);
        Self { networks: networks.into() }
    }
}

/// The networks whose clients may ask; every client if there are none.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct AllowedClients(Networks);

impl AllowedClients {
    /// Whether a client may ask.
    #[inline]
    #[must_use]
    pub fn permit(&self, client: IpAddr) -> bool {
        self.0.networks.is_empty() || self.0.contain(client)
    }
}

impl FromIterator<IpNet> for AllowedClients {
    fn from_iter<I: IntoIterator<Item = IpNet>>(networks: I) -> Self {
        Self(networks.into_iter().collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn allowed(networks: &[&str]) -> AllowedClients {
        networks.iter().map(|network| network.parse::<IpNet>().unwrap()).collect()
    }

    #[test]
    fn clients_of_the_networks_may_ask() {
        let networks = ["10.0.0.0/8", "10.1.0.0/16", "192.0.2.128/25", "2001:db8::/32", "192.0.2.1/32"];
        let allowed = allowed(&networks);
        for client in ["10.0.0.0", "10.255.255.255", "192.0.2.1", "192.0.2.200", "2001:db8:ffff::1"] {
            assert!(allowed.permit(client.parse().unwrap()), "{client}");
        }
        let others =
            ["9.255.255.255", "11.0.0.0", "192.0.2.0", "192.0.2.2", "192.0.2.127", "::1", "2001:db9::"];
        for client in others {
            assert!(!allowed.permit(client.parse().unwrap()), "{client}");
        }
    }

    #[test]
    fn without_networks_everybody_may_ask() {
        for client in ["192.0.2.1", "::1"] {
            assert!(AllowedClients::default().permit(client.parse().unwrap()));
            let network = if client.contains(':') { "::/0" } else { "0.0.0.0/0" };
            assert!(allowed(&[network]).permit(client.parse().unwrap()));
        }
        assert!(!allowed(&["0.0.0.0/0"]).permit("::1".parse().unwrap()));
    }

    #[test]
    fn no_networks_contain_nobody() {
        assert!(!Networks::default().contain("192.0.2.1".parse().unwrap()));
    }
}
