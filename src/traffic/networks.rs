//! The networks that ask the most, in fixed memory.
//!
//! A set-associative Space-Saving sketch (Metwally, Agrawal, El Abbadi 2005): each network belongs to one set of [`WAYS`]
//! entries. One that has no entry replaces the entry with the lowest count of its set, and inherits that count as its
//! error. So of every network that has an entry `count - error ≤ answers ≤ count`; of one that has none, no more answers
//! can have been counted than the lowest count of its set; and that is at most the answers of all networks of the set,
//! divided by [`WAYS`]. Whoever sends queries in the name of very many networks therefore raises the errors, but takes
//! the entry of no network that asks more than a [`WAYS`]th of what the networks of its set do. Which networks share a
//! set depends on a secret number.

use std::sync::atomic::{AtomicU32, AtomicU64, Ordering, fence};

use super::increase;
use super::network::Network;
use crate::model::Country;

/// Sets of a book: with their entries 128 KiB. A power of two.
pub(super) const SETS: usize = 1 << 10;

/// Entries of a set: those of two cache lines.
pub(super) const WAYS: usize = 4;

/// The networks of one writer.
#[derive(Debug)]
pub(super) struct Networks {
    sets: Box<[Set; SETS]>,
    secret: Secret,
}

/// Decides which networks share a set; the same for all books of a meter.
#[derive(Clone, Copy, Debug)]
pub(super) struct Secret(u64);

/// What a set keeps of a network, read at one moment.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Entry {
    /// The network's key; 0 if the entry is free.
    pub(super) key: u64,
    pub(super) count: u64,
    pub(super) error: u64,
}

/// The counts first, which share a cache line with the keys: the rest is needed less often.
#[derive(Debug, Default)]
#[repr(align(128))]
struct Set {
    keys: [AtomicU64; WAYS],
    counts: [AtomicU64; WAYS],
    errors: [AtomicU64; WAYS],
    /// The country of each network, once it is known to be in one.
    countries: [AtomicU32; WAYS],
    /// Odd while an entry is replaced.
    version: AtomicU32,
}

/// Where an address is, as far as it is counted.
#[derive(Clone, Copy, Debug)]
pub(super) struct Located {
    pub(super) country: CountryCode,
    /// The length of a prefix around the address throughout which that is its country.
    pub(super) prefix_len: u8,
}

/// A country as a number; 0 if it is not known.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) struct CountryCode(pub(super) u16);

impl CountryCode {
    pub(super) fn of(country: Option<Country>) -> Self {
        Self(country.map_or(0, |Country(code)| u16::from_be_bytes(code)))
    }

    pub(super) fn country(self) -> Option<Country> {
        (self.0 != 0).then(|| Country(self.0.to_be_bytes()))
    }
}

/// A network whose country is not known, or which is in several.
#[derive(Debug)]
pub(super) struct Unlocated<'a> {
    set: &'a Set,
    way: usize,
    network: Network,
}

/// Nobody has looked yet, or the network is in several countries.
const UNKNOWN: u32 = 0;
/// With the code of the country that all of the network is in.
const ONE: u32 = 1 << 16;

impl Secret {
    pub(super) fn new(number: u64) -> Self {
        // Multiplication by an odd number loses nothing.
        Self(number | 1)
    }

    #[inline]
    pub(super) fn set(self, key: u64) -> usize {
        (key.wrapping_mul(self.0) >> (u64::BITS - SETS.trailing_zeros())) as usize
    }
}

impl Networks {
    pub(super) fn new(secret: Secret) -> Self {
        let sets: Box<[Set]> = (0..SETS).map(|_| Set::default()).collect();
        Self { sets: sets.try_into().expect("there are as many as that"), secret }
    }

    /// Counts an answer to a network and returns its country, or whom to tell it if it is not known.
    #[inline]
    pub(super) fn count(&self, network: Network) -> Result<CountryCode, Unlocated<'_>> {
        let key = network.key();
        let set = &self.sets[self.secret.set(key)];
        for way in 0..WAYS {
            if set.keys[way].load(Ordering::Relaxed) == key {
                increase(&set.counts[way]);
                let known = set.countries[way].load(Ordering::Relaxed);
                return if known & ONE != 0 {
                    Ok(CountryCode(known as u16))
                } else {
                    Err(Unlocated { set, way, network })
                };
            }
        }
        Err(Unlocated { set, way: set.replace(key), network })
    }

    /// Looks up the countries of all networks again from now on.
    pub(super) fn forget_countries(&self) {
        for set in self.sets.iter() {
            set.countries.iter().for_each(|country| country.store(UNKNOWN, Ordering::Relaxed));
        }
    }

    /// The entries of each set.
    pub(super) fn read(&self) -> impl Iterator<Item = [Entry; WAYS]> + '_ {
        self.sets.iter().map(Set::read)
    }
}

impl Unlocated<'_> {
    /// Remembers where an address of the network is, if all of it is there.
    pub(super) fn learn(self, Located { country, prefix_len }: Located) -> CountryCode {
        if prefix_len <= self.network.length() {
            self.set.countries[self.way].store(ONE | u32::from(country.0), Ordering::Relaxed);
        }
        country
    }
}

impl Set {
    /// Gives the entry with the lowest count to a network, counts its first answer and returns the entry.
    #[inline(never)]
    fn replace(&self, key: u64) -> usize {
        let count = |way: usize| self.counts[way].load(Ordering::Relaxed);
        let way = (0..WAYS).min_by_key(|way| count(*way)).unwrap_or(0);
        let least = count(way);
        let version = self.version.load(Ordering::Relaxed);
        self.version.store(version.wrapping_add(1), Ordering::Relaxed);
        fence(Ordering::Release);
        self.keys[way].store(key, Ordering::Relaxed);
        self.errors[way].store(least, Ordering::Relaxed);
        self.counts[way].store(least + 1, Ordering::Relaxed);
        self.countries[way].store(UNKNOWN, Ordering::Relaxed);
        self.version.store(version.wrapping_add(2), Ordering::Release);
        way
    }

    /// Waits for a replacement that goes on, which takes a few instructions, unless its thread was interrupted.
    fn read(&self) -> [Entry; WAYS] {
        loop {
            let before = self.version.load(Ordering::Acquire);
            let entries = std::array::from_fn(|way| Entry {
                key: self.keys[way].load(Ordering::Relaxed),
                count: self.counts[way].load(Ordering::Relaxed),
                error: self.errors[way].load(Ordering::Relaxed),
            });
            fence(Ordering::Acquire);
            if before.is_multiple_of(2) && self.version.load(Ordering::Relaxed) == before {
                return entries;
            }
            std::thread::yield_now();
        }
    }
}

/// The lowest count of a set; 0 while it has room.
pub(super) fn least(entries: &[Entry; WAYS]) -> u64 {
    entries.iter().map(|entry| entry.count).min().unwrap_or(0)
}
