//! Which of the addresses that resolvers report may be probed and answered.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnet::IpNet;

/// The addresses at which hosts of endpoints may be: public ones, and those of the networks that the config lists.
/// Anyone who controls a zone or a resolver could otherwise direct probes and clients to loopback, to the metadata service of
/// a cloud (169.254.169.254) or to any host of an internal network.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Destinations {
    private: Box<[IpNet]>,
}

impl Destinations {
    /// Why an address is not used; `None` if it is.
    #[must_use]
    pub fn refusal(&self, address: IpAddr) -> Option<&'static str> {
        if !is_unicast(address) {
            return Some("cannot be connected to");
        }
        let is_allowed = is_public(address) || self.private.iter().any(|network| network.contains(&address));
        (!is_allowed).then_some("is not public; list its network in `[node] private_networks` to use it")
    }
}

/// The first address of each network that is not public, as in [`is_public`], without NAT64 and 6to4.
const SPECIAL_V4: [[u8; 4]; 10] = [
    [0, 0, 0, 0],
    [10, 0, 0, 0],
    [100, 64, 0, 0],
    [127, 0, 0, 0],
    [169, 254, 0, 0],
    [172, 16, 0, 0],
    [192, 0, 0, 0],
    [192, 168, 0, 0],
    [198, 18, 0, 0],
    [240, 0, 0, 0],
];
const SPECIAL_V6: [[u16; 8]; 5] = [
    [0; 8],
    [0x64, 0xff9b, 0, 0, 0, 0, 0, 0],
    [0x2002, 0, 0, 0, 0, 0, 0, 0],
    [0xfc00, 0, 0, 0, 0, 0, 0, 0],
    [0xfe80, 0, 0, 0, 0, 0, 0, 0],
];

impl Destinations {
    /// Whether a network contains only public addresses, so that listing it has no effect. Networks of NAT64 and 6to4
    /// count as not public.
    #[must_use]
    pub fn is_public_network(network: IpNet) -> bool {
        let is_translated = matches!(network, IpNet::V6(v6) if matches!(v6.network().segments(), [0x64, 0xff9b, ..] | [0x2002, ..]));
        let mut special = SPECIAL_V4.map(IpAddr::from).into_iter().chain(SPECIAL_V6.map(IpAddr::from));
        // One of two networks that overlap contains the first address of the other.
        !is_translated && is_public(network.network()) && !special.any(|first| network.contains(&first))
    }
}

impl FromIterator<IpNet> for Destinations {
    fn from_iter<I: IntoIterator<Item = IpNet>>(networks: I) -> Self {
        Self { private: networks.into_iter().collect() }
    }
}

/// Whether a client could connect to it: resolvers that block a name answer 0.0.0.0 and the like.
fn is_unicast(address: IpAddr) -> bool {
    let is_mapped = matches!(address, IpAddr::V6(v6) if v6.to_ipv4_mapped().is_some());
    !(address.is_unspecified() || address.is_multicast() || address == IpAddr::from([255; 4]) || is_mapped)
}

/// Whether it belongs to none of the special-purpose networks (RFC 6890) in which internal hosts may be.
fn is_public(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(v4) => is_public_v4(v4),
        IpAddr::V6(v6) => is_public_v6(v6),
    }
}

fn is_public_v4(v4: Ipv4Addr) -> bool {
    match v4.octets() {
        // This network, private, loopback, reserved.
        [0 | 10 | 127 | 240.., ..] => false,
        // Shared by carriers (RFC 6598), benchmarks (RFC 2544), protocol assignments.
        [100, 64..=127, ..] | [198, 18..=19, ..] | [192, 0, 0, _] => false,
        // Link-local, private.
        [169, 254, ..] | [172, 16..=31, ..] | [192, 168, ..] => false,
        _ => true,
    }
}

fn is_public_v6(v6: Ipv6Addr) -> bool {
    let embedded = |high: u16, low: u16| is_public_v4(Ipv4Addr::from(u32::from(high) << 16 | u32::from(low)));
    match v6.segments() {
        // Loopback, and IPv4-compatible addresses.
        [0, 0, 0, 0, 0, 0, ..] => false,
        // NAT64 and 6to4 lead to the IPv4 address within; local NAT64 (RFC 8215) to any.
        [0x64, 0xff9b, 0, 0, 0, 0, high, low] | [0x2002, high, low, ..] => embedded(high, low),
        [0x64, 0xff9b, 1, ..] => false,
        // Unique local; link-local and site-local.
        [0xfc00..=0xfdff, ..] | [0xfe80..=0xfeff, ..] => false,
        _ => true,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn networks_without_private_addresses_are_public() {
        for (network, expected) in [
            ("8.8.8.0/24", true),
            ("192.0.2.1/32", true),
            ("2001:db8::/32", true),
            ("8.0.0.0/6", false),
            ("0.0.0.0/0", false),
            ("172.0.0.0/8", false),
            ("172.16.0.0/12", false),
            ("10.1.0.0/16", false),
            ("fd00::/8", false),
            ("fe80::/10", false),
            ("f000::/4", false),
            ("::/0", false),
            ("64:ff9b::/96", false),
            ("2002:a00::/24", false),
            ("2002:808::/32", false),
        ] {
            assert_eq!(Destinations::is_public_network(network.parse().unwrap()), expected, "{network}");
        }
    }

    #[test]
    fn public_addresses_and_listed_networks_are_used() {
        let networks = ["10.1.0.0/16", "127.0.0.0/8", "fd00:1::/32"];
        let listed: Destinations = networks.iter().map(|it| it.parse::<IpNet>().unwrap()).collect();
        let (unused, closed) = ("is not public; list its network", "cannot be connected to");
        for (address, without, with) in [
            ("192.0.2.1", None, None),
            ("172.15.255.255", None, None),
            ("172.32.0.0", None, None),
            ("2001:db8::1", None, None),
            ("64:ff9b::c000:201", None, None),
            ("10.1.2.3", Some(unused), None),
            ("10.2.2.3", Some(unused), Some(unused)),
            ("127.0.0.1", Some(unused), None),
            ("fd00:1::1", Some(unused), None),
            ("0.1.2.3", Some(unused), Some(unused)),
            ("100.64.0.1", Some(unused), Some(unused)),
            ("169.254.169.254", Some(unused), Some(unused)),
            ("172.16.0.1", Some(unused), Some(unused)),
            ("172.31.255.255", Some(unused), Some(unused)),
            ("192.0.0.8", Some(unused), Some(unused)),
            ("192.168.1.1", Some(unused), Some(unused)),
            ("198.19.0.1", Some(unused), Some(unused)),
            ("240.0.0.1", Some(unused), Some(unused)),
            ("::1", Some(unused), Some(unused)),
            ("::10.0.0.1", Some(unused), Some(unused)),
            ("64:ff9b::a9fe:a9fe", Some(unused), Some(unused)),
            ("64:ff9b:1::c000:201", Some(unused), Some(unused)),
            ("2002:a00:1::1", Some(unused), Some(unused)),
            ("fe80::1", Some(unused), Some(unused)),
            ("fec0::1", Some(unused), Some(unused)),
            ("fd01::1", Some(unused), Some(unused)),
            ("0.0.0.0", Some(closed), Some(closed)),
            ("224.0.0.1", Some(closed), Some(closed)),
            ("255.255.255.255", Some(closed), Some(closed)),
            ("::", Some(closed), Some(closed)),
            ("ff02::1", Some(closed), Some(closed)),
            ("::ffff:192.0.2.1", Some(closed), Some(closed)),
        ] {
            let starts = |found: Option<&str>, expected: Option<&str>| match (found, expected) {
                (Some(found), Some(expected)) => found.starts_with(expected),
                (found, expected) => found.is_none() && expected.is_none(),
            };
            let address = address.parse().unwrap();
            assert!(starts(Destinations::default().refusal(address), without), "{address}");
            assert!(starts(listed.refusal(address), with), "{address} with listed networks");
        }
    }
}
