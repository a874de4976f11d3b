//! The round-trip time from a client's place to a region: from the `[latency]` table, or estimated from the distance.

use rustc_hash::FxHashMap;

use crate::geo::Place;
use crate::model::{Group, Location, PlaceKey, RegionId, Topology};

/// A round-trip time and how it is known.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Estimate {
    /// Milliseconds.
    pub millis: f64,
    /// How it is known.
    pub basis: Basis,
}

/// How a round-trip time is known, the most reliable first.
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

/// Round-trip milliseconds at distance zero.
const BASE_MILLIS: f64 = 5.0;

/// The round-trip times of a config, indexed for lookups.
#[derive(Debug)]
pub struct Latencies<'a> {
    groups: &'a [Group],
    /// By region and place, except for groups.
    rows: FxHashMap<(RegionId, PlaceKey), f64>,
    /// By region: groups and their times, in the order of the rows.
    of_groups: FxHashMap<RegionId, Vec<(usize, f64)>>,
}

impl<'a> Latencies<'a> {
    /// Indexes the rows of a topology. Of two rows for the same place and region, the later one counts.
    #[must_use]
    pub fn of(topology: &'a Topology) -> Self {
        let mut rows = FxHashMap::default();
        let mut of_groups: FxHashMap<RegionId, Vec<(usize, f64)>> = FxHashMap::default();
        for row in &topology.latency {
            match row.from {
                PlaceKey::Group(group) => of_groups.entry(row.region).or_default().push((group, row.millis)),
                place => {
                    rows.insert((row.region, place), row.millis);
                }
            }
        }
        Self { groups: &topology.groups, rows, of_groups }
    }

    /// The best estimate for clients of `place`. `km` is their great-circle distance from the region, if known.
    /// `None` if there is no row and the distance is unknown.
    #[must_use]
    pub fn estimate(&self, place: &Place, region: RegionId, km: Option<f64>) -> Option<Estimate> {
        if let Some(millis) = self.measured(place, region) {
            return Some(Estimate { millis, basis: Basis::Table });
        }
        let km = km?;
        Some(Estimate { millis: BASE_MILLIS + km * MILLIS_PER_KM, basis: Basis::Distance(km) })
    }

    /// The most specific row that matches the place; among groups, the last one.
    fn measured(&self, place: &Place, region: RegionId) -> Option<f64> {
        let at = |place| self.rows.get(&(region, place)).copied();
        let Location { asn, country, subdivision, continent, .. } = place.location;
        let nets = place.nets.iter().filter_map(|net| Some((net.prefix_len(), at(PlaceKey::Net(*net))?)));
        let longest = nets.max_by_key(|(length, _)| *length).map(|(_, millis)| millis);
        longest
            .or_else(|| at(PlaceKey::Asn(asn?)))
            .or_else(|| at(PlaceKey::Subdivision(country?, subdivision?)))
            .or_else(|| at(PlaceKey::Country(country?)))
            .or_else(|| self.of_group(place, region))
            .or_else(|| at(PlaceKey::Continent(continent?)))
            .or_else(|| at(PlaceKey::Any))
    }

    fn of_group(&self, place: &Place, region: RegionId) -> Option<f64> {
        let is_in = |group: usize| place.is_in(&PlaceKey::Group(group), self.groups);
        self.of_groups.get(&region)?.iter().rfind(|(group, _)| is_in(*group)).map(|(_, millis)| *millis)
    }
}

#[cfg(test)]
mod tests {
    use ipnet::IpNet;
    use proptest::prelude::*;

    use super::*;
    use crate::model::{Continent, LatencyRow};

    const NETS: [&str; 3] = ["192.0.2.0/24", "192.0.2.0/25", "192.0.0.0/16"];

    fn keys() -> Vec<PlaceKey> {
        let nets = NETS.map(|net| PlaceKey::Net(net.parse().expect("a prefix")));
        let [germany, france] = ["DE", "FR"].map(|code| code.parse().expect("a code"));
        let bavaria = "BY".parse().expect("a code");
        let others = [
            PlaceKey::Asn(1),
            PlaceKey::Asn(2),
            PlaceKey::Subdivision(germany, bavaria),
            PlaceKey::Country(germany),
            PlaceKey::Country(france),
            PlaceKey::Group(0),
            PlaceKey::Group(1),
            PlaceKey::Continent(Continent::EU),
            PlaceKey::Any,
        ];
        nets.into_iter().chain(others).collect()
    }

    fn places() -> impl Strategy<Value = Place> {
        let some = |keys: [&'static str; 2]| proptest::option::of(proptest::sample::select(keys.to_vec()));
        let nets = proptest::sample::subsequence(NETS.to_vec(), 0..=NETS.len());
        (nets, proptest::option::of(0_u32..4), some(["DE", "FR"]), any::<bool>(), any::<bool>()).prop_map(
            |(nets, asn, country, is_bavaria, is_europe)| Place {
                nets: nets.iter().map(|net| net.parse::<IpNet>().expect("a prefix")).collect(),
                location: Location {
                    asn,
                    country: country.map(|code| code.parse().expect("a code")),
                    subdivision: is_bavaria.then(|| "BY".parse().expect("a code")),
                    continent: is_europe.then_some(Continent::EU),
                    ..Location::default()
                },
                ..Place::default()
            },
        )
    }

    proptest! {
        #[test]
        fn the_last_of_the_most_specific_rows_counts(
            rows in proptest::collection::vec((0..12_usize, 0..2_u16, 1..1000_u16), 0..30),
            place in places(),
        ) {
            let keys = keys();
            let row = |(key, region, millis): (usize, u16, u16)| LatencyRow {
                from: keys[key],
                region: RegionId(region),
                millis: millis.into(),
            };
            let group = |places: &[PlaceKey]| Group { name: String::new(), places: places.to_vec() };
            let topology = Topology {
                latency: rows.into_iter().map(row).collect(),
                groups: vec![group(&keys[3..5]), group(&keys[6..8])],
                ..Topology::default()
            };
            for region in [RegionId(0), RegionId(1)] {
                let holds = |row: &&LatencyRow| row.region == region && place.is_in(&row.from, &topology.groups);
                let length = |row: &LatencyRow| match row.from {
                    PlaceKey::Net(net) => net.prefix_len(),
                    _ => 0,
                };
                let best = topology.latency.iter().filter(holds).max_by_key(|row| (row.from.specificity(), length(row)));
                let expected = best.map(|row| Estimate { millis: row.millis, basis: Basis::Table });
                prop_assert_eq!(Latencies::of(&topology).estimate(&place, region, None), expected);
            }
        }
    }
}
