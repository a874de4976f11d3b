//! The sums of all books.

use std::cmp::Reverse;
use std::sync::Arc;

use rustc_hash::FxHashMap;

use super::answers::Answers;
use super::book::Book;
use super::layout::Layout;
use super::network::Network;
use super::networks::{CountryCode, SETS, Secret, least};
use crate::model::{Country, RegionId, ServiceId, Topology};

/// The most combinations of service, region and country that are summed up: some megabytes for each sum that is kept.
pub(super) const MOST_ROWS: usize = 1 << 17;

/// The most networks that are summed up.
pub(super) const MOST_NETWORKS: usize = 1 << 12;

/// Dynamic answers, counted by who asked.
#[derive(Debug, Default)]
pub struct Totals {
    layout: Arc<Layout>,
    /// In order of number and country.
    rows: Vec<(u32, CountryCode, u64)>,
    /// By number: answers whose country found no room.
    others: Vec<u64>,
    /// Answers of services and regions that the config has no more.
    pub removed: u64,
    /// Answers chosen for a client subnet (RFC 7871).
    pub with_subnet: u64,
    /// Those that ask the most first.
    pub networks: Vec<NetworkCount>,
    /// The most answers that are certain of a network which had no room in `networks`.
    cut: u64,
}

/// The answers to a network: at least [`answers`](Self::answers), and at most [`error`](Self::error) more.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NetworkCount {
    /// The network.
    pub network: Network,
    /// The answers that are certain.
    pub answers: u64,
    /// How many more there may have been.
    pub error: u64,
}

/// The answers of a region of a service.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Row {
    /// The region; `None` for answers without one.
    pub region: Option<RegionId>,
    /// All of them.
    pub answers: u64,
    /// Of those, by country, in order of the codes; `None` is a country that is not known.
    pub countries: Vec<(Option<Country>, u64)>,
    /// Of those, answers whose country found no room.
    pub other: u64,
}

impl Totals {
    /// Adds up books, for the services and regions of a topology.
    pub(super) fn of(books: &[Arc<Book>], topology: &Arc<Topology>, secret: Secret) -> Self {
        let layout = Arc::new(Layout::of(topology));
        let mut sums = Sums::new(&layout);
        let mut with_subnet = 0;
        for book in books {
            sums.add(&book.answers());
            with_subnet += book.with_subnet();
        }
        let (networks, cut) = networks(books, secret);
        let Sums { rows, others, removed, .. } = sums;
        Self { rows: sorted(rows), others, removed, with_subnet, networks, cut, layout }
    }

    /// All answers.
    #[must_use]
    pub fn answers(&self) -> u64 {
        let rows = self.rows.iter().map(|(.., count)| count);
        rows.chain(&self.others).sum::<u64>() + self.removed
    }

    /// The answers of a service, by region in the order of the config; those without a region are last.
    #[must_use]
    pub fn service(&self, service: ServiceId) -> Vec<Row> {
        self.layout.numbers(service).map(|number| self.row(number)).collect()
    }

    /// The answers of a service by country, in order of the codes, as far as their country found room.
    #[must_use]
    pub fn countries(&self, service: ServiceId) -> Vec<(Option<Country>, u64)> {
        let numbers = self.layout.numbers(service);
        let from = self.rows.partition_point(|(number, ..)| *number < numbers.start);
        let own = self.rows[from..].iter().take_while(|(number, ..)| *number < numbers.end);
        summed(own.map(|(_, country, count)| (*country, *count)))
    }

    /// All answers by country, in order of the codes, as far as their country found room.
    #[must_use]
    pub fn all_countries(&self) -> Vec<(Option<Country>, u64)> {
        summed(self.rows.iter().map(|(_, country, count)| (*country, *count)))
    }

    fn row(&self, number: u32) -> Row {
        let from = self.rows.partition_point(|(other, ..)| *other < number);
        let own = self.rows[from..].iter().take_while(|(other, ..)| *other == number);
        let countries: Vec<_> = own.map(|(_, country, count)| (country.country(), *count)).collect();
        let other = self.others[number as usize];
        let answers = countries.iter().map(|(_, count)| count).sum::<u64>() + other;
        Row { region: self.layout.region(number), answers, countries, other }
    }

    /// What was counted since `earlier`, which may be of another topology. Of networks that had no entry all that time, the
    /// least that is certain.
    #[must_use]
    pub fn since(&self, earlier: &Self) -> Self {
        let numbers = self.layout.numbers_of(&earlier.layout);
        let mut before: FxHashMap<(u32, CountryCode), u64> = FxHashMap::default();
        let mut others = self.others.clone();
        let mut removed = earlier.removed;
        for (number, country, count) in &earlier.rows {
            match numbers[*number as usize] {
                Some(number) => *before.entry((number, *country)).or_default() += count,
                None => removed += count,
            }
        }
        for (number, count) in numbers.iter().zip(&earlier.others) {
            match number {
                Some(number) => {
                    let other = &mut others[*number as usize];
                    *other = other.saturating_sub(*count);
                }
                None => removed += count,
            }
        }
        let difference = |(number, country, count): &(u32, CountryCode, u64)| {
            let before = before.get(&(*number, *country)).copied().unwrap_or(0);
            (*number, *country, count.saturating_sub(before))
        };
        let rows = self.rows.iter().map(difference).filter(|(.., count)| *count > 0).collect();
        Self {
            layout: Arc::clone(&self.layout),
            rows,
            others,
            removed: self.removed.saturating_sub(removed),
            with_subnet: self.with_subnet.saturating_sub(earlier.with_subnet),
            networks: self.networks_since(earlier),
            cut: 0,
        }
    }

    fn networks_since(&self, earlier: &Self) -> Vec<NetworkCount> {
        let before: FxHashMap<Network, u64> =
            earlier.networks.iter().map(|it| (it.network, it.answers)).collect();
        let difference = |it: &NetworkCount| {
            // One that lost its entry and got another one since then began anew.
            let kept = before.get(&it.network).copied().unwrap_or(earlier.cut);
            let answers = if kept > it.answers { it.answers } else { it.answers - kept };
            NetworkCount { answers, ..*it }
        };
        let mut found: Vec<_> = self.networks.iter().map(difference).filter(|it| it.answers > 0).collect();
        found.sort_by_key(|it| (Reverse(it.answers), it.network));
        found
    }
}

/// Sums by number and country.
struct Sums<'a> {
    layout: &'a Layout,
    rows: FxHashMap<(u32, CountryCode), u64>,
    others: Vec<u64>,
    removed: u64,
}

impl<'a> Sums<'a> {
    fn new(layout: &'a Layout) -> Self {
        Self { layout, rows: FxHashMap::default(), others: vec![0; layout.len()], removed: 0 }
    }

    fn add(&mut self, answers: &Answers) {
        // A writer that has not answered since a reload still counts for the plan before.
        let numbers = self.layout.numbers_of(&answers.layout);
        self.removed += answers.removed;
        for (number, country, count) in answers.rows() {
            let Some(number) = numbers[number as usize] else {
                self.removed += count;
                continue;
            };
            let has_room = self.rows.len() < MOST_ROWS || self.rows.contains_key(&(number, country));
            let sum = if has_room {
                self.rows.entry((number, country)).or_default()
            } else {
                &mut self.others[number as usize]
            };
            *sum += count;
        }
        for (number, count) in answers.others() {
            match numbers[number as usize] {
                Some(number) => self.others[number as usize] += count,
                None => self.removed += count,
            }
        }
    }
}

fn sorted(rows: FxHashMap<(u32, CountryCode), u64>) -> Vec<(u32, CountryCode, u64)> {
    let mut rows: Vec<_> =
        rows.into_iter().map(|((number, country), count)| (number, country, count)).collect();
    rows.sort_unstable();
    rows
}

fn summed(rows: impl Iterator<Item = (CountryCode, u64)>) -> Vec<(Option<Country>, u64)> {
    let mut sums: FxHashMap<CountryCode, u64> = FxHashMap::default();
    for (country, count) in rows {
        *sums.entry(country).or_default() += count;
    }
    let mut sums: Vec<_> = sums.into_iter().collect();
    sums.sort_unstable();
    sums.into_iter().map(|(country, count)| (country.country(), count)).collect()
}

/// The networks of all books, and the most answers that are certain of one that is left out.
fn networks(books: &[Arc<Book>], secret: Secret) -> (Vec<NetworkCount>, u64) {
    // What a network may have been counted in the books where it has no entry.
    let mut floors = vec![0_u64; SETS];
    let mut sums: FxHashMap<u64, (u64, u64)> = FxHashMap::default();
    for book in books {
        for (entries, floor) in book.networks.read().zip(&mut floors) {
            let least = least(&entries);
            *floor += least;
            for entry in entries.iter().filter(|entry| entry.key != 0) {
                let (certain, above) = sums.entry(entry.key).or_default();
                *certain += entry.count - entry.error;
                *above += entry.count - least;
            }
        }
    }
    let mut found: Vec<NetworkCount> = sums
        .into_iter()
        .map(|(key, (answers, above))| {
            let error = floors[secret.set(key)] + above - answers;
            NetworkCount { network: Network::from_key(key), answers, error }
        })
        .collect();
    found.sort_unstable_by_key(|it| (Reverse(it.answers), it.network));
    let cut = found.get(MOST_NETWORKS).map_or(0, |it| it.answers);
    found.truncate(MOST_NETWORKS);
    (found, cut)
}
