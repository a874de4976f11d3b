//! Measures how well one index agrees with another, on random addresses.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use fastrand::Rng;

use super::index::Index;

/// How many random addresses to draw, and from which seed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sampling {
    /// The number of IPv4 addresses.
    pub v4: usize,
    /// The number of IPv6 addresses.
    pub v6: usize,
    /// The same seed draws the same addresses.
    pub seed: u64,
}

/// How addresses are drawn.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Draw {
    /// Every address that the source covers is equally likely.
    Addresses,
    /// Every range of the source is equally likely, however small.
    Ranges,
}

/// The result of one draw. Percentiles are of the distance in kilometres between the coordinates in the two indexes,
/// over the addresses for which both have coordinates.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Agreement {
    /// Whether IPv4 addresses were drawn.
    pub v4: bool,
    /// How they were drawn.
    pub draw: Draw,
    /// How many addresses were drawn.
    pub count: usize,
    /// The fraction of addresses on whose country both agree, 0 to 1.
    pub country: f64,
    /// Median distance in kilometres.
    pub p50_km: f64,
    /// 95th percentile of the distance in kilometres.
    pub p95_km: f64,
    /// 99th percentile of the distance in kilometres.
    pub p99_km: f64,
}

/// Draws addresses for which `source` has a country, and compares their locations in `source` and `other`. Skips
/// families that the source does not cover.
#[must_use]
pub fn compare(source: &Index, other: &Index, sampling: Sampling) -> Vec<Agreement> {
    let mut random = Rng::with_seed(sampling.seed);
    let mut rows = Vec::new();
    for (v4, count) in [(true, sampling.v4), (false, sampling.v6)] {
        let ranges: Vec<(u128, u128)> = covered(source, v4).collect();
        for draw in [Draw::Addresses, Draw::Ranges] {
            rows.extend(measure(&drawn(&ranges, v4, draw, count, &mut random), source, other, v4, draw));
        }
    }
    rows
}

/// The ranges for which `source` has a country, as numbers. For IPv6, only global unicast: 2000::/3 (RFC 4291 §2.4).
fn covered(source: &Index, v4: bool) -> impl Iterator<Item = (u128, u128)> + '_ {
    let known = move |(first, last, id)| {
        source.place(id).location.country?;
        match (first, last) {
            (IpAddr::V4(first), IpAddr::V4(last)) if v4 => {
                Some((first.to_bits().into(), last.to_bits().into()))
            }
            (IpAddr::V6(first), IpAddr::V6(last)) if !v4 => {
                let (first, last) = (first.to_bits().max(0x2 << 124), last.to_bits().min((0x4 << 124) - 1));
                (first <= last).then_some((first, last))
            }
            _ => None,
        }
    };
    source.ranges().iter().filter_map(known)
}

fn drawn(ranges: &[(u128, u128)], v4: bool, draw: Draw, count: usize, random: &mut Rng) -> Vec<IpAddr> {
    if ranges.is_empty() {
        return Vec::new();
    }
    // The number of covered addresses before each range.
    let mut total = 0;
    let before: Vec<u128> = ranges
        .iter()
        .map(|(first, last)| {
            total += last - first + 1;
            total - (last - first + 1)
        })
        .collect();
    let one = |random: &mut Rng| {
        let bits = match draw {
            Draw::Addresses => {
                let nth = random.u128(..total);
                let at = before.partition_point(|before| *before <= nth) - 1;
                ranges[at].0 + (nth - before[at])
            }
            Draw::Ranges => {
                let (first, last) = ranges[random.usize(..ranges.len())];
                random.u128(first..=last)
            }
        };
        if v4 { IpAddr::V4(Ipv4Addr::from_bits(bits as u32)) } else { IpAddr::V6(Ipv6Addr::from_bits(bits)) }
    };
    (0..count).map(|_| one(random)).collect()
}

fn measure(addresses: &[IpAddr], source: &Index, other: &Index, v4: bool, draw: Draw) -> Option<Agreement> {
    let mut same = 0;
    let mut distances = Vec::with_capacity(addresses.len());
    for address in addresses {
        let (truth, found) = (source.locate(*address).place.location, other.locate(*address).place.location);
        same += usize::from(truth.country == found.country);
        distances.extend(truth.point.zip(found.point).map(|(truth, found)| truth.distance_km(found)));
    }
    distances.sort_by(f64::total_cmp);
    let percentile = |percent: usize| distances.get(distances.len() * percent / 100).copied();
    Some(Agreement {
        v4,
        draw,
        count: addresses.len(),
        country: same as f64 / addresses.len() as f64,
        p50_km: percentile(50)?,
        p95_km: percentile(95)?,
        p99_km: percentile(99)?,
    })
}
