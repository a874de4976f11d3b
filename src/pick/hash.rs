//! The hash that choices are made by.

use std::net::IpAddr;

/// A 64-bit hash that is the same on every node, version and machine. Names are hashed when a plan is
/// compiled; on the query path only integers are mixed in.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Hash(pub u64);

/// Weyl increment of SplitMix64 (Steele, Lea and Flood, "Fast splittable pseudorandom number generators",
/// OOPSLA 2014).
const GAMMA: u64 = 0x9e37_79b9_7f4a_7c15;

impl Hash {
    /// Hash of some bytes.
    #[must_use]
    pub fn of(bytes: &[u8]) -> Self {
        let length = Self(bytes.len() as u64);
        bytes.chunks(8).fold(length, |hash, chunk| {
            let mut word = [0; 8];
            word[..chunk.len()].copy_from_slice(chunk);
            hash.with(u64::from_le_bytes(word))
        })
    }

    /// Hash of this hash and one more value.
    #[must_use]
    pub fn with(self, value: u64) -> Self {
        // The finaliser of SplitMix64, which diffuses every bit over the whole word.
        let mut z = (self.0 ^ value.wrapping_mul(GAMMA)).wrapping_add(GAMMA);
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        Self(z ^ (z >> 31))
    }

    /// The hash as a number above 0 and below 1.
    #[must_use]
    pub fn unit(self) -> f64 {
        ((self.0 >> 11) as f64 + 0.5) / (1_u64 << 53) as f64
    }
}

/// What keeps a client with its pool and its backend: all of an IPv4 address, the /64 of an IPv6 one, whose hosts change
/// the rest at will (RFC 8981).
#[must_use]
pub fn client_key(address: IpAddr) -> Hash {
    match address {
        IpAddr::V4(v4) => Hash::of(&v4.octets()),
        IpAddr::V6(v6) => Hash::of(&v6.octets()[..8]),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hashes_are_a_contract_between_nodes() {
        // Changing these moves every client once: announce it in the changelog.
        let of = |text: &[u8]| Hash::of(text).0;
        assert_eq!(of(b"eu-west"), 0xb66027143b5fceba);
        assert_eq!(of(b"\x03www\x07example\x04test\0"), 0xfba53f630a62c1f6);
    }
}
