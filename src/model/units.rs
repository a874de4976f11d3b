//! Units whose range is part of the type.

use std::fmt;
use std::net::IpAddr;

/// Seconds an answer may be cached, 0 to 2³¹−1 (RFC 2181 §8).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Ttl(pub u32);

impl Ttl {
    /// The highest valid TTL (RFC 2181 §8).
    pub const MAX: Self = Self(0x7fff_ffff);
}

/// A relative weight, 0 to 1,000,000. Zero means never, unless every weight of its group is zero.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Weight(pub u32);

impl Weight {
    /// The highest weight that a config may use.
    pub const MAX: Self = Self(1_000_000);
}

/// A fraction from 0 to 1, written as a percentage.
#[derive(Clone, Copy, Debug, PartialEq, PartialOrd)]
pub struct Fraction(f64);

impl Fraction {
    /// 100%.
    pub const WHOLE: Self = Self(1.0);
    /// 0%.
    pub const NONE: Self = Self(0.0);
    /// 50%.
    pub const HALF: Self = Self(0.5);
    /// 20%.
    pub const TWENTY_PERCENT: Self = Self(0.2);
    /// 60%.
    pub const SIXTY_PERCENT: Self = Self(0.6);

    /// The fraction of a percentage; `None` unless it is within 0..=100.
    #[must_use]
    pub fn from_percent(percent: f64) -> Option<Self> {
        (0.0..=100.0).contains(&percent).then_some(Self(percent / 100.0))
    }

    /// Parses text such as `25%`.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        Self::from_percent(text.strip_suffix('%')?.trim().parse().ok()?)
    }

    /// The fraction as a number from 0 to 1.
    #[must_use]
    pub fn get(self) -> f64 {
        self.0
    }

    /// This fraction of `n`, rounded up.
    #[must_use]
    pub fn ceil_of(self, n: usize) -> usize {
        // Subtracting 1e-9 prevents rounding errors, such as 50% of 2 becoming 2.
        (self.0 * n as f64 - 1e-9).ceil().max(0.0) as usize
    }
}

impl fmt::Display for Fraction {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}%", (self.0 * 10_000.0).round() / 100.0)
    }
}

/// The length of the address prefix that is a client's share key: clients in the same prefix get the same answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct KeyPrefix {
    /// Prefix length for IPv4 clients, 0 to 32.
    pub v4: u8,
    /// Prefix length for IPv6 clients, 0 to 128.
    pub v6: u8,
}

impl KeyPrefix {
    /// The prefix length for the family of this address.
    #[must_use]
    pub fn bits(self, address: IpAddr) -> u8 {
        match address {
            IpAddr::V4(_) => self.v4.min(32),
            IpAddr::V6(_) => self.v6.min(128),
        }
    }
}

impl Default for KeyPrefix {
    /// The prefix lengths that RFC 7871 §11.1 recommends to resolvers; few send longer ones.
    fn default() -> Self {
        Self { v4: 24, v6: 56 }
    }
}

/// What an answer contains: addresses of one family, or host names.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Family {
    /// A records.
    V4,
    /// AAAA records.
    V6,
    /// Names: CNAME, SRV and MX records.
    Host,
}

impl Family {
    /// All families, in numerical order.
    pub const ALL: [Self; 3] = [Self::V4, Self::V6, Self::Host];

    /// Whether `address` is of this family.
    #[must_use]
    pub fn has(self, address: IpAddr) -> bool {
        matches!((self, address), (Self::V4, IpAddr::V4(_)) | (Self::V6, IpAddr::V6(_)))
    }
}
