//! The networks that ask.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnet::IpNet;

/// The bits of an IPv4 network: smaller ones are not routed.
const V4_BITS: u8 = 24;

/// The bits of an IPv6 network: what a site gets.
const V6_BITS: u8 = 48;

/// The network of a client: its /24 or /48, or the wider prefix that its resolver revealed.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Network(
    /// From the highest bit: one that is always set, whether it is a client subnet, whether it is IPv6, its length in six
    /// bits, and in the lowest 24 or 48 its address.
    u64,
);

const ALWAYS: u64 = 1 << 63;
const SUBNET: u64 = 1 << 62;
const V6: u64 = 1 << 61;
const LENGTH: u32 = 55;

impl Network {
    /// The network of an address. `subnet` is the length of the client subnet (RFC 7871) that it is from; `None` if it is
    /// the address of whoever asked.
    #[must_use]
    #[inline]
    pub fn of(address: IpAddr, subnet: Option<u8>) -> Self {
        let (family, bits, most) = match address {
            IpAddr::V4(v4) => (ALWAYS, u64::from(v4.to_bits() >> (32 - V4_BITS)), V4_BITS),
            IpAddr::V6(v6) => (ALWAYS | V6, (v6.to_bits() >> (128 - V6_BITS)) as u64, V6_BITS),
        };
        match subnet {
            None => Self(family | u64::from(most) << LENGTH | bits),
            Some(length) => Self(SUBNET | family | u64::from(length.min(most)) << LENGTH | bits),
        }
    }

    /// Its prefix.
    #[must_use]
    pub fn prefix(self) -> IpNet {
        let bits = self.0 & ((1 << V6_BITS) - 1);
        let address: IpAddr = if self.is_v6() {
            Ipv6Addr::from_bits(u128::from(bits) << (128 - V6_BITS)).into()
        } else {
            Ipv4Addr::from_bits((bits as u32) << (32 - V4_BITS)).into()
        };
        IpNet::new(address, self.length()).unwrap_or_else(|_| address.into()).trunc()
    }

    /// Whether it is a client subnet that a resolver revealed, rather than the network of whoever asked.
    #[must_use]
    pub fn is_subnet(self) -> bool {
        self.0 & SUBNET != 0
    }

    pub(super) fn is_v6(self) -> bool {
        self.0 & V6 != 0
    }

    pub(super) fn length(self) -> u8 {
        (self.0 >> LENGTH) as u8 & 0x3f
    }

    /// Never 0.
    pub(super) fn key(self) -> u64 {
        self.0
    }

    pub(super) fn from_key(key: u64) -> Self {
        Self(key)
    }
}

impl fmt::Debug for Network {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let subnet = if self.is_subnet() { " (client subnet)" } else { "" };
        write!(f, "{}{subnet}", self.prefix())
    }
}
