//! How many answers each service gave of each of its regions to each country.
//!
//! An open-addressed table, because most combinations never occur. One that finds no room is counted without its country,
//! so that what services and regions answered is always exact.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Weak};

use super::increase;
use super::layout::Layout;
use super::networks::CountryCode;
use crate::geo::Index;
use crate::model::{RegionId, ServiceId, Topology};

/// Slots for each region of a service, as long as that is between the bounds below: there are some 250 countries.
const SLOTS_PER_NUMBER: usize = 512;

/// Slots of a small config: 64 KiB.
const LEAST_SLOTS: usize = 1 << 12;

/// Slots of a book: 2 MiB, whatever is asked and by whom.
pub(super) const MOST_SLOTS: usize = 1 << 17;

/// Slots of a line: those of one cache line.
const WAYS: usize = 4;

/// Lines that a combination may be in.
const LINES: usize = 4;

/// The counts of one writer, for the topology and the places of one plan.
#[derive(Debug)]
pub struct Answers {
    pub(super) layout: Layout,
    /// The places of the plan. A plan is freed although its counts are kept.
    geo: Weak<Index>,
    lines: Box<[Line]>,
    /// How far a product is shifted to make the index of a line.
    shift: u32,
    /// By number: answers whose country found no room.
    others: Box<[AtomicU64]>,
    /// Answers of services and regions that the config has no more.
    pub(super) removed: u64,
}

/// A combination as a number: one bit that is always set, the service, the region or [`NO_REGION`], and the country.
#[derive(Clone, Copy, PartialEq, Eq)]
struct Combination(u64);

/// No config has as many regions.
const NO_REGION: u16 = u16::MAX;

impl Combination {
    #[inline]
    fn of(
        ServiceId(service): ServiceId,
        region: Option<RegionId>,
        CountryCode(country): CountryCode,
    ) -> Self {
        let region = region.map_or(NO_REGION, |RegionId(region)| region);
        Self(1 << 63 | u64::from(service) << 32 | u64::from(region) << 16 | u64::from(country))
    }

    fn service(self) -> ServiceId {
        ServiceId((self.0 >> 32) as u32 & (u32::MAX >> 1))
    }

    fn region(self) -> Option<RegionId> {
        let region = (self.0 >> 16) as u16;
        (region != NO_REGION).then_some(RegionId(region))
    }

    fn country(self) -> CountryCode {
        CountryCode(self.0 as u16)
    }
}

#[derive(Debug, Default)]
#[repr(align(64))]
struct Line {
    /// 0 if the slot is free.
    keys: [AtomicU64; WAYS],
    counts: [AtomicU64; WAYS],
}

impl Answers {
    pub(super) fn new(topology: &Arc<Topology>, geo: &Arc<Index>) -> Self {
        let layout = Layout::of(topology);
        let slots = (layout.len() * SLOTS_PER_NUMBER).next_power_of_two().clamp(LEAST_SLOTS, MOST_SLOTS);
        let lines: Box<[Line]> = (0..slots / WAYS).map(|_| Line::default()).collect();
        let others = (0..layout.len()).map(|_| AtomicU64::default()).collect();
        let shift = u64::BITS - lines.len().trailing_zeros();
        Self { geo: Arc::downgrade(geo), lines, shift, others, layout, removed: 0 }
    }

    /// Whether these are the counts for a plan.
    pub(super) fn is_of(&self, topology: &Arc<Topology>, geo: &Arc<Index>) -> bool {
        Arc::ptr_eq(&self.layout.topology, topology) && self.geo.as_ptr() == Arc::as_ptr(geo)
    }

    /// The counts of these names in another plan.
    pub(super) fn carried_over(&self, topology: &Arc<Topology>, geo: &Arc<Index>) -> Self {
        let mut next = Self::new(topology, geo);
        let numbers = next.layout.numbers_of(&self.layout);
        let mut removed = self.removed;
        for (number, country, count) in self.rows() {
            match numbers[number as usize] {
                None => removed += count,
                Some(number) => {
                    let (service, region) = (next.layout.service(number), next.layout.region(number));
                    let counter = next.counter(Combination::of(service, region, country));
                    let counter = counter.unwrap_or(&next.others[number as usize]);
                    counter.store(counter.load(Ordering::Relaxed) + count, Ordering::Relaxed);
                }
            }
        }
        for (number, count) in self.others() {
            match numbers[number as usize] {
                None => removed += count,
                Some(number) => {
                    let counter = &next.others[number as usize];
                    counter.store(counter.load(Ordering::Relaxed) + count, Ordering::Relaxed);
                }
            }
        }
        next.removed = removed;
        next
    }

    /// Counts an answer.
    #[inline]
    pub(super) fn count(&self, service: ServiceId, region: Option<RegionId>, country: CountryCode) {
        match self.counter(Combination::of(service, region, country)) {
            Some(counter) => increase(counter),
            None => increase(&self.others[self.layout.number(service, region) as usize]),
        }
    }

    /// The counter of a combination, which gets a free slot if it has none; `None` if there is no room.
    #[inline]
    fn counter(&self, Combination(key): Combination) -> Option<&AtomicU64> {
        let home = (key.wrapping_mul(SPREAD) >> self.shift) as usize;
        for step in 0..LINES {
            let line = &self.lines[(home + step) & (self.lines.len() - 1)];
            for way in 0..WAYS {
                match line.keys[way].load(Ordering::Relaxed) {
                    found if found == key => return Some(&line.counts[way]),
                    0 => {
                        line.keys[way].store(key, Ordering::Relaxed);
                        return Some(&line.counts[way]);
                    }
                    _ => {}
                }
            }
        }
        None
    }

    /// The number, the country and the count of each combination that has room.
    pub(super) fn rows(&self) -> impl Iterator<Item = (u32, CountryCode, u64)> + '_ {
        let slots = self.lines.iter().flat_map(|line| line.keys.iter().zip(&line.counts));
        slots.filter_map(|(key, count)| match key.load(Ordering::Relaxed) {
            0 => None,
            key => {
                let it = Combination(key);
                let number = self.layout.number(it.service(), it.region());
                Some((number, it.country(), count.load(Ordering::Relaxed)))
            }
        })
    }

    /// The number and the count of the answers whose country found no room.
    pub(super) fn others(&self) -> impl Iterator<Item = (u32, u64)> + '_ {
        (0..).zip(self.others.iter().map(|count| count.load(Ordering::Relaxed)))
    }
}

/// 2⁶⁴ divided by the golden ratio, which spreads neighbouring numbers (Knuth, The Art of Computer Programming 6.4).
const SPREAD: u64 = 0x9e37_79b9_7f4a_7c15;
