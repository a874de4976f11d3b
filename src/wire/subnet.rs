//! The EDNS option "client subnet" (RFC 7871): the client that a resolver asks for.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// The option in a query (RFC 7871 §6); bits beyond the prefix are 0.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ClientSubnet {
    /// FAMILY: 1 is IPv4, 2 is IPv6, 0 is none, with no address.
    pub family: u16,
    /// SOURCE PREFIX-LENGTH: 0 to 32 or 128.
    pub source: u8,
    address: [u8; 16],
}

/// Length of `::ffff:0:0/96`.
const MAPPED_PREFIX: u8 = 96;

impl ClientSubnet {
    /// Bytes of the option's data before the address: FAMILY, SOURCE PREFIX-LENGTH, SCOPE PREFIX-LENGTH.
    const FIXED: usize = 4;

    /// The address, with zeros beyond the prefix; `None` if the client reveals none (source 0).
    #[must_use]
    pub fn address(&self) -> Option<IpAddr> {
        let [a, b, c, d, ..] = self.address;
        match (self.family, self.source) {
            (_, 0) => None,
            (1, _) => Some(Ipv4Addr::new(a, b, c, d).into()),
            (2, _) => Some(Ipv6Addr::from(self.address).into()),
            _ => None,
        }
    }

    /// Reads the option's data. `None` if it is malformed: nothing is normalised, so that the answer is
    /// FORMERR (RFC 7871 §7.1.2).
    pub(super) fn read(data: &[u8]) -> Option<Self> {
        let [family_high, family_low, source, scope, address @ ..] = data else { return None };
        let family = u16::from_be_bytes([*family_high, *family_low]);
        let longest = match family {
            0 => 0,
            1 => 32,
            2 => 128,
            _ => return None,
        };
        // RFC 7871 §6: SCOPE PREFIX-LENGTH "MUST be set to 0" in queries.
        if *source > longest || *scope != 0 || address.len() != usize::from(*source).div_ceil(8) {
            return None;
        }
        let spare_bits = (8 - source % 8) % 8;
        if address.last().is_some_and(|last| last.trailing_zeros() < u32::from(spare_bits)) {
            return None;
        }
        let mut subnet = Self { family, source: *source, address: [0; 16] };
        subnet.address[..address.len()].copy_from_slice(address);
        Some(subnet)
    }

    /// The option's data in a reply that holds for `bits` bits of the client's address: the fixed part, and the
    /// address. RFC 7871 §7.2.1: FAMILY, SOURCE PREFIX-LENGTH and ADDRESS "MUST match those of the original".
    pub(super) fn reply(&self, bits: u8) -> ([u8; Self::FIXED], &[u8]) {
        let [family_high, family_low] = self.family.to_be_bytes();
        let address = &self.address[..usize::from(self.source).div_ceil(8)];
        ([family_high, family_low, self.source, self.scope(bits)], address)
    }

    /// SCOPE PREFIX-LENGTH, in terms of the option's own family.
    fn scope(&self, bits: u8) -> u8 {
        match self.address() {
            // RFC 7871 §7.2.1: with a source prefix of 0 the scope is 0, too.
            None => 0,
            // RFC 4291 §2.5.5.2: an IPv4-mapped address represents the IPv4 address in its last 32 bits.
            Some(IpAddr::V6(v6)) if v6.to_ipv4_mapped().is_some() => MAPPED_PREFIX + bits,
            Some(_) => bits,
        }
    }
}
