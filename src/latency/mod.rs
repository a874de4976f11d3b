//! How long a round trip from a client's place to a region takes: measured by somebody and written into the
//! config, or estimated from the distance.

use crate::geo::Place;
use crate::model::{PlaceKey, RegionId, Topology};

/// A round-trip time and how it is known.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Estimate {
    /// Milliseconds.
    pub millis: f64,
    /// How it is known.
    pub basis: Basis,
}

/// How a round-trip time is known, the surest first.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Basis {
    /// `[latency]` has a row for the place.
    Table,
    /// Derived from the great-circle distance in kilometres.
    Distance(f64),
}

/// Round-trip milliseconds per kilometre of great circle. Light in fibre needs 0.0098 ms there and back; paths
/// are longer than great circles by about a half, and queues and access networks add [`BASE_MILLIS`].
const MILLIS_PER_KM: f64 = 0.0098 * 1.5;

/// Round-trip milliseconds to a region next door.
const BASE_MILLIS: f64 = 5.0;

/// The best estimate for clients of `place`, who are so many kilometres of great circle away from the region, where
/// that is known; `None` where neither a row nor the distance tells.
#[must_use]
pub fn estimate(topology: &Topology, place: &Place, region: RegionId, km: Option<f64>) -> Option<Estimate> {
    from_table(topology, place, region).or_else(|| {
        let km = km?;
        Some(Estimate { millis: BASE_MILLIS + km * MILLIS_PER_KM, basis: Basis::Distance(km) })
    })
}

/// The most specific row that holds for the place; among equals the last.
fn from_table(topology: &Topology, place: &Place, region: RegionId) -> Option<Estimate> {
    let rows = topology.latency.iter().filter(|row| row.region == region);
    let row = rows
        .filter(|row| place.is_in(&row.from, &topology.groups))
        .max_by_key(|row| (row.from.specificity(), prefix_len(&row.from)))?;
    Some(Estimate { millis: row.millis, basis: Basis::Table })
}

fn prefix_len(key: &PlaceKey) -> u8 {
    match key {
        PlaceKey::Net(net) => net.prefix_len(),
        _ => 0,
    }
}
