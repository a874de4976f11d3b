//! How many clients each country has, and which rankings they have.

use std::hash::Hash;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::sync::OnceLock;

use rustc_hash::FxHashMap;

use crate::geo::Index;
use crate::model::Country;
use crate::steer::{Compiled, RankingId, TableId};

/// The clients of a plan, counted by their addresses.
///
/// A place counts as many clients as it has IPv4 addresses. IPv6 counts only for places without any IPv4 address: the
/// size of an IPv6 allocation says nothing about how many use it, and those who do mostly have IPv4, too. There each
/// network counts one client per /48, which is what a site gets, and at most 65,536, which a provider's /32 has.
/// Addresses whose country is not known count only if there are no others: most of them are reserved or not in use.
///
/// What services were asked tells how many clients a country has much better: see [`Demand::measured`]. Addresses then only
/// divide a country's clients among its places.
#[derive(Debug)]
pub struct Demand {
    /// In order of the code; clients whose country is not known are last.
    pub countries: Box<[CountryDemand]>,
    places: Box<[PlaceDemand]>,
    /// By [`TableId`], made when a service that has the table is first asked for.
    tables: Box<[OnceLock<Box<[Cell]>>]>,
}

/// The clients of a country.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct CountryDemand {
    /// Its code; `None` for clients whose country is not known.
    pub country: Option<Country>,
    /// Its share of all clients by addresses: 1 in total. Above 0, unless its country is not known.
    pub weight: f64,
    /// An address of its largest place.
    pub client: IpAddr,
}

/// The clients of a place.
#[derive(Clone, Copy, Debug)]
struct PlaceDemand {
    /// Index into [`Demand::countries`].
    country: u32,
    /// The share of the country's clients.
    share: f64,
    client: IpAddr,
}

/// The clients of a country that have the same ranking, or the same rankings in two tables.
#[derive(Clone, Copy, Debug)]
pub(super) struct Cell<R = RankingId> {
    /// Index into [`Demand::countries`].
    pub(super) country: u32,
    pub(super) ranking: R,
    /// The share of the country's clients.
    pub(super) share: f64,
}

/// The addresses of a place, and its largest range of each family.
#[derive(Clone, Copy, Default)]
struct Count {
    v4: u64,
    v6: u64,
    largest_v4: Option<(u64, IpAddr)>,
    largest_v6: Option<(u64, IpAddr)>,
}

impl Demand {
    /// Counts the clients of an index whose rankings are in `steering`. Takes time in proportion to the ranges of the
    /// index.
    #[must_use]
    pub fn new(geo: &Index, steering: &Compiled) -> Self {
        let counts = counts(geo);
        let country = |at: usize| geo.places()[at].location.country;
        let mut places: Vec<usize> = (0..counts.len()).filter(|at| counts[*at].clients() > 0).collect();
        places.sort_by_key(|at| (country(*at).is_none(), country(*at)));
        let any_country = places.iter().any(|at| country(*at).is_some());
        let is_counted = |at: usize| !any_country || country(at).is_some();
        let sum = |places: &[usize]| places.iter().map(|at| counts[*at].clients()).sum::<u64>();
        let total: u64 = places.chunks(1).filter(|it| is_counted(it[0])).map(sum).sum();
        let (mut countries, mut demands) = (Vec::new(), Vec::with_capacity(places.len()));
        for places in places.chunk_by(|one, two| country(*one) == country(*two)) {
            let sum = sum(places);
            let Some(largest) = places.iter().max_by_key(|at| counts[**at].clients()) else { continue };
            demands.extend(places.iter().map(|at| PlaceDemand {
                country: countries.len() as u32,
                share: counts[*at].clients() as f64 / sum as f64,
                client: counts[*at].client(),
            }));
            countries.push(CountryDemand {
                country: country(*largest),
                weight: if is_counted(*largest) { sum as f64 / total as f64 } else { 0.0 },
                client: counts[*largest].client(),
            });
        }
        let tables = (0..steering.table_count()).map(|_| OnceLock::new()).collect();
        Self { countries: countries.into(), places: demands.into(), tables }
    }

    /// The share of all clients that each country has by addresses, in the order of [`Demand::countries`].
    #[must_use]
    pub fn by_addresses(&self) -> Vec<f64> {
        self.countries.iter().map(|it| it.weight).collect()
    }

    /// The share of all clients that each country has by how much it asked, in the order of [`Demand::countries`]; `None` if
    /// it asked nothing. `asked` is in order of the code; countries that have no place count as not known.
    #[must_use]
    pub fn measured(&self, asked: &[(Option<Country>, u64)]) -> Option<Vec<f64>> {
        let mut weights = vec![0.0; self.countries.len()];
        let position = |country: Option<Country>| self.countries.iter().position(|it| it.country == country);
        for (country, count) in asked {
            if let Some(at) = position(*country).or_else(|| position(None)) {
                weights[at] += *count as f64;
            }
        }
        let total: f64 = weights.iter().sum();
        weights.iter_mut().for_each(|weight| *weight /= total);
        (total > 0.0).then_some(weights)
    }

    /// The clients of each country by ranking, in the order of [`Demand::countries`].
    pub(super) fn cells(&self, steering: &Compiled, table: TableId) -> &[Cell] {
        self.tables[table.0 as usize]
            .get_or_init(|| self.cells_by(|client| steering.ranking_at(table, client)).into())
    }

    /// The clients of each country by what `ranking` says of a client of each place, in the order of
    /// [`Demand::countries`].
    pub(super) fn cells_by<R: Copy + Ord + Hash>(&self, ranking: impl Fn(IpAddr) -> R) -> Vec<Cell<R>> {
        let mut cells: Vec<Cell<R>> = Vec::new();
        for places in self.places.chunk_by(|one, two| one.country == two.country) {
            let mut shares: FxHashMap<R, f64> = FxHashMap::default();
            for place in places {
                *shares.entry(ranking(place.client)).or_default() += place.share;
            }
            let country = places[0].country;
            let from = cells.len();
            cells.extend(shares.into_iter().map(|(ranking, share)| Cell { country, ranking, share }));
            cells[from..].sort_unstable_by_key(|cell| cell.ranking);
        }
        cells
    }
}

/// The addresses of each place, by its id.
fn counts(geo: &Index) -> Vec<Count> {
    let mut counts = vec![Count::default(); geo.places().len()];
    for (first, last, place) in geo.ranges().iter() {
        let count = &mut counts[place.0 as usize];
        match (first, last) {
            (IpAddr::V4(first), IpAddr::V4(last)) => {
                let size = u64::from(last.to_bits() - first.to_bits()) + 1;
                count.v4 += size;
                count.largest_v4 = count.largest_v4.max(Some((size, inside_v4(first, last))));
            }
            (IpAddr::V6(first), IpAddr::V6(last)) => {
                let sites = (last.to_bits() - first.to_bits()).checked_shr(80).unwrap_or(0) as u64;
                let size = sites.saturating_add(1).min(PROVIDER_SITES);
                count.v6 += size;
                count.largest_v6 = count.largest_v6.max(Some((size, inside_v6(first, last))));
            }
            _ => {}
        }
    }
    counts
}

impl Count {
    fn clients(&self) -> u64 {
        if self.v4 > 0 { self.v4 } else { self.v6 }
    }

    /// An address of the largest range. Every place that is counted has one.
    fn client(&self) -> IpAddr {
        let largest = self.largest_v4.or(self.largest_v6);
        largest.map_or(IpAddr::V4(Ipv4Addr::UNSPECIFIED), |(_, address)| address)
    }
}

/// The second address of a range: the first is that of the network.
fn inside_v4(first: Ipv4Addr, last: Ipv4Addr) -> IpAddr {
    Ipv4Addr::from_bits(first.to_bits().saturating_add(1)).min(last).into()
}

fn inside_v6(first: Ipv6Addr, last: Ipv6Addr) -> IpAddr {
    Ipv6Addr::from_bits(first.to_bits().saturating_add(1)).min(last).into()
}

/// The most clients that an IPv6 network counts: the /48s of a /32.
const PROVIDER_SITES: u64 = 1 << 16;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::geo::NetworkOverride;
    use crate::model::Location;

    /// The countries of an index of these networks, with the number of clients that each would count.
    fn countries(networks: &[(&str, Option<&str>)], total: f64) -> Vec<(String, f64, String)> {
        let network = |(prefix, country): &(&str, Option<&str>)| NetworkOverride {
            prefix: prefix.parse().unwrap(),
            location: Some(Location {
                country: country.map(|country| country.parse().unwrap()),
                // Two places may have the same country.
                asn: Some(prefix.len() as u32),
                ..Location::default()
            }),
            first: Box::default(),
        };
        let networks: Vec<NetworkOverride> = networks.iter().map(network).collect();
        let demand = Demand::new(&Index::compile(&[], &networks, &[]), &Compiled::default());
        let shown = |it: &CountryDemand| {
            let country = it.country.map_or_else(|| "?".into(), |country| country.to_string());
            (country, it.weight * total, it.client.to_string())
        };
        demand.countries.iter().filter(|it| it.weight > 0.0).map(shown).collect()
    }

    #[track_caller]
    fn check(networks: &[(&str, Option<&str>)], expected: &[(&str, f64, &str)]) {
        let total = expected.iter().map(|(_, clients, _)| clients).sum();
        let found = countries(networks, total);
        assert_eq!(found.len(), expected.len(), "{found:?}");
        for (found, expected) in found.iter().zip(expected) {
            assert_eq!((&*found.0, &*found.2), (expected.0, expected.2), "{found:?}");
            assert!((found.1 - expected.1).abs() < 1e-6, "{found:?} should be {expected:?}");
        }
    }

    #[test]
    fn clients_are_counted_by_ipv4_addresses() {
        check(
            &[("10.2.0.0/16", Some("US")), ("10.1.0.0/24", Some("DE")), ("10.1.9.0/25", Some("DE"))],
            &[("DE", 384.0, "10.1.0.1"), ("US", 65_536.0, "10.2.0.1")],
        );
        check(&[("10.1.0.7/32", Some("DE"))], &[("DE", 1.0, "10.1.0.7")]);
    }

    #[test]
    fn ipv6_counts_by_sites_where_there_is_no_ipv4() {
        check(
            &[("10.1.0.0/24", Some("DE")), ("2001:db8::/40", Some("US")), ("2002::/16", Some("FR"))],
            &[("DE", 256.0, "10.1.0.1"), ("FR", 65_536.0, "2002::1"), ("US", 256.0, "2001:db8::1")],
        );
        check(&[("2001:db8::/64", Some("US"))], &[("US", 1.0, "2001:db8::1")]);
        // Two places of one country.
        check(
            &[("10.1.0.0/24", Some("DE")), ("2001:db8::/32", Some("DE"))],
            &[("DE", 256.0 + 65_536.0, "2001:db8::1")],
        );
    }

    #[test]
    fn clients_of_unknown_countries_count_only_if_there_are_no_others() {
        check(&[("10.1.0.0/24", Some("DE")), ("10.2.0.0/24", None)], &[("DE", 256.0, "10.1.0.1")]);
        check(&[], &[("?", 1.0, "0.0.0.1")]);
    }
}
