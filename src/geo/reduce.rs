//! Reduces place data to the fewest prefixes for a given loss.
//!
//! A database is a prefix tree and is reduced bottom-up. Each node either keeps its two halves as they are or
//! becomes one place. A kept prefix has a cost, and so has each address that is moved; the cheaper option wins.
//! For a given price per prefix, this is the optimal pruning (as for decision trees), so one number trades size for
//! accuracy.

use std::net::IpAddr;

use super::PlaceId;
use super::index::Index;
use crate::model::{Country, EARTH_RADIUS_KM, Location, Point};

/// How much detail of an address family to keep.
pub(super) struct Detail {
    /// No prefix is longer than this.
    longest: u8,
    /// The minimum saving for a kept prefix: kilometres × weight of the addresses whose position it improves.
    price: f64,
    /// The weight of a source range is its size, counted in prefixes of length `longest`, to this power. In IPv4, size
    /// reflects the number of clients; in IPv6 it does not, and a power below 1 gives small networks enough weight.
    exponent: f64,
    /// The cost in kilometres of moving an address to another country.
    border_km: f64,
}

/// IPv4 keeps every border.
pub(super) const V4: Detail =
    Detail { longest: 32, price: 130_000.0, exponent: 1.0, border_km: f64::INFINITY };

/// IPv6 sources distinguish single /48s of one network, often wrongly. The border costs half the Earth's
/// circumference.
pub(super) const V6: Detail = Detail { longest: 48, price: 1_000.0, exponent: 0.15, border_km: 20_000.0 };

/// A kept prefix.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Kept {
    /// Its leading bits, left-aligned for both families.
    pub(super) bits: u64,
    /// Its length.
    pub(super) len: u8,
    /// The place; it always has a country.
    pub(super) spot: GridPoint,
}

/// A country and a point in it on a grid of [`GRID_PER_DEGREE`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct GridPoint {
    pub(super) country: Country,
    /// Latitude and longitude in grid steps.
    pub(super) point: Option<(i16, i16)>,
}

/// A step is at most 28 km, so rounding moves a point by 10 km on average.
const GRID_PER_DEGREE: f64 = 4.0;

impl GridPoint {
    /// The point in degrees.
    pub(super) fn degrees(self) -> Option<Point> {
        let degrees = |steps: i16| (f64::from(steps) / GRID_PER_DEGREE) as f32;
        self.point.map(|(lat, lon)| Point { lat: degrees(lat), lon: degrees(lon) })
    }
}

/// Reduces IPv4 or IPv6; what has no country is left out.
pub(super) fn reduce(index: &Index, v4: bool, detail: &Detail) -> Vec<Kept> {
    let ranges = leading_bits(index, v4);
    let sources = index.places().iter().map(|place| SourcePlace::of(&place.location)).collect();
    let mut reduction = Reduction { sources, detail, kept: Vec::new() };
    reduction.prefix(0, 0, &ranges);
    reduction.kept
}

/// The starts of one family's ranges, truncated to their first 64 bits. Of ranges that differ only in later bits, the
/// last is kept: they are far longer than any kept prefix.
fn leading_bits(index: &Index, v4: bool) -> Vec<(u64, PlaceId)> {
    let mut starts: Vec<(u64, PlaceId)> = Vec::new();
    for (first, _, id) in index.ranges().iter() {
        let bits = match first {
            IpAddr::V4(first) if v4 => u64::from(first.to_bits()) << 32,
            IpAddr::V6(first) if !v4 => (first.to_bits() >> 64) as u64,
            _ => continue,
        };
        if starts.last().is_some_and(|(last, _)| *last == bits) {
            starts.pop();
        }
        starts.push((bits, id));
    }
    starts
}

/// A source place as the reduction sees it.
struct SourcePlace {
    country: Option<Country>,
    /// Its point on the unit sphere; zero if unknown.
    vector: [f64; 3],
}

impl SourcePlace {
    fn of(location: &Location) -> Self {
        Self {
            country: location.country,
            vector: location.point.map_or([0.0; 3], |point| point.direction().axes()),
        }
    }
}

struct Reduction<'a> {
    sources: Vec<SourcePlace>,
    detail: &'a Detail,
    kept: Vec<Kept>,
}

impl Reduction<'_> {
    /// Reduces one prefix. `ranges` are those that overlap it; the first one covers its start. Returns what lies
    /// below it, and the cost of the chosen option.
    fn prefix(&mut self, bits: u64, len: u8, ranges: &[(u64, PlaceId)]) -> (Mixture, f64) {
        if ranges.len() == 1 || len == self.detail.longest {
            let mixture = self.pieces(bits, len, ranges);
            self.keep(bits, len, &mixture);
            return (mixture, self.detail.price);
        }
        let mark = self.kept.len();
        let middle = bits | 1 << (63 - len);
        let left = ranges.partition_point(|(start, _)| *start < middle);
        let right = ranges.partition_point(|(start, _)| *start <= middle) - 1;
        let (mut mixture, cost_left) = self.prefix(bits, len + 1, &ranges[..left]);
        let (more, cost_right) = self.prefix(middle, len + 1, &ranges[right..]);
        mixture.add(&more);

        let apart = cost_left + cost_right;
        let merged = mixture.loss_as_one(self.detail.border_km) + self.detail.price;
        if merged > apart {
            return (mixture, apart);
        }
        self.kept.truncate(mark);
        self.keep(bits, len, &mixture);
        (mixture, merged)
    }

    /// What the ranges contribute to this prefix.
    fn pieces(&self, bits: u64, len: u8, ranges: &[(u64, PlaceId)]) -> Mixture {
        let whole = f64::from(self.detail.longest - len).exp2().powf(self.detail.exponent);
        let size = f64::from(64 - len).exp2();
        let mut mixture = Mixture::default();
        for (at, (start, id)) in ranges.iter().enumerate() {
            let from = start.saturating_sub(bits) as f64;
            let to = ranges.get(at + 1).map_or(size, |(next, _)| (next - bits) as f64);
            let source = &self.sources[id.0 as usize];
            let weight = whole * (to - from) / size;
            let sum = source.vector.map(|axis| axis * weight);
            mixture.push(Weights { country: source.country, weight, sum });
        }
        mixture
    }

    fn keep(&mut self, bits: u64, len: u8, mixture: &Mixture) {
        let Some(Weights { country: Some(country), sum, .. }) = mixture.shares[0] else { return };
        let point = point_towards(sum).map(|point| {
            let steps = |degrees: f32| (f64::from(degrees) * GRID_PER_DEGREE).round() as i16;
            (steps(point.lat), steps(point.lon))
        });
        self.kept.push(Kept { bits, len, spot: GridPoint { country, point } });
    }
}

/// The addresses of one country (or of none) below a prefix.
#[derive(Clone, Copy)]
struct Weights {
    country: Option<Country>,
    weight: f64,
    /// Sum of weight × unit vector.
    sum: [f64; 3],
}

impl Weights {
    /// Root mean square distance to the mean point, in kilometres. The more the unit vectors spread, the shorter their
    /// mean: 1 − |mean|² is their variance.
    fn spread_km(&self) -> f64 {
        let square = self.sum.iter().map(|axis| axis * axis).sum::<f64>();
        if square == 0.0 {
            return 0.0;
        }
        (1.0 - square / (self.weight * self.weight)).max(0.0).sqrt() * EARTH_RADIUS_KM
    }
}

/// The maximum number of countries that a mixture distinguishes.
const SHARES_MAX: usize = 4;

/// What lies below a prefix: a few countries, heaviest first.
#[derive(Clone, Copy, Default)]
struct Mixture {
    shares: [Option<Weights>; SHARES_MAX],
    /// The total weight of the countries beyond [`SHARES_MAX`].
    others: f64,
}

impl Mixture {
    fn add(&mut self, more: &Self) {
        self.others += more.others;
        more.shares.iter().flatten().for_each(|share| self.push(*share));
    }

    fn push(&mut self, share: Weights) {
        let mut at = SHARES_MAX;
        for (place, slot) in self.shares.iter_mut().enumerate() {
            match slot {
                Some(known) if known.country == share.country => {
                    known.weight += share.weight;
                    known.sum.iter_mut().zip(share.sum).for_each(|(axis, more)| *axis += more);
                }
                Some(known) if place + 1 == SHARES_MAX => {
                    let (stays, goes) =
                        if known.weight < share.weight { (share, *known) } else { (*known, share) };
                    *known = stays;
                    self.others += goes.weight;
                }
                Some(_) => continue,
                None => *slot = Some(share),
            }
            at = place;
            break;
        }
        while at > 0 && at < SHARES_MAX && weight(&self.shares[at - 1]) < weight(&self.shares[at]) {
            self.shares.swap(at - 1, at);
            at -= 1;
        }
    }

    /// The loss of moving everything to the mean of the heaviest share: kilometres × weight.
    fn loss_as_one(&self, border_km: f64) -> f64 {
        let abroad = self.shares[1..].iter().map(weight).sum::<f64>() + self.others;
        // Infinity times zero is NaN.
        let moved = if abroad > 0.0 { abroad * border_km } else { 0.0 };
        moved + self.shares[0].map_or(0.0, |share| share.weight * share.spread_km())
    }
}

fn weight(share: &Option<Weights>) -> f64 {
    share.map_or(0.0, |share| share.weight)
}

/// The point in the direction of a vector; `None` for the zero vector.
fn point_towards([x, y, z]: [f64; 3]) -> Option<Point> {
    let length = (x * x + y * y + z * z).sqrt();
    (length > 0.0)
        .then(|| Point { lat: (z / length).asin().to_degrees() as f32, lon: y.atan2(x).to_degrees() as f32 })
}
