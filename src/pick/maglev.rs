//! Maglev hashing (Eisenbud et al., "Maglev: a fast and reliable software network load balancer", NSDI 2016, §3.4): every
//! candidate has a permutation of the slots of a table, and candidates take turns to claim their next free slot. A pick is
//! one table lookup, and a change of the candidates leaves most slots as they were.

use std::cmp::{Ordering, Reverse};
use std::collections::BinaryHeap;

use super::Hash;
use super::picker::Candidate;

/// Slot → index of a candidate; empty until the first pick.
#[derive(Clone, Debug, Default)]
pub(super) struct Table {
    slots: Vec<u32>,
}

impl Table {
    /// The candidate that a key belongs to; `None` if there are none.
    pub(super) fn find(&mut self, candidates: &[Candidate], key: Hash) -> Option<usize> {
        if self.slots.is_empty() {
            self.slots = fill(candidates);
        }
        // The key is mixed once more, since keys may come from addresses that differ in a few bits.
        let slot = key.with(0).0 % SLOTS;
        self.slots.get(slot as usize).map(|index| *index as usize)
    }
}

/// A candidate's place in the order of turns and in its permutation.
#[derive(Clone, Copy)]
struct Claimant {
    index: u32,
    hash: Hash,
    weight: f64,
    turns: u32,
    next: u64,
    skip: u64,
}

impl Claimant {
    fn new(index: u32, candidate: &Candidate) -> Self {
        Self {
            index,
            hash: candidate.hash,
            weight: candidate.weight,
            turns: 0,
            next: candidate.hash.with(OFFSET).0 % SLOTS,
            skip: candidate.hash.with(SKIP).0 % (SLOTS - 1) + 1,
        }
    }

    /// The time of its next turn. A candidate of twice the weight has turns twice as often; the first turn of all is at 0,
    /// so that each has a slot at least.
    fn time(&self) -> f64 {
        f64::from(self.turns) / self.weight
    }
}

/// Turns at the same time are in the order of the hashes: the table does not depend on the order of the candidates.
impl Ord for Claimant {
    fn cmp(&self, other: &Self) -> Ordering {
        self.time().total_cmp(&other.time()).then_with(|| self.hash.0.cmp(&other.hash.0))
    }
}

impl PartialOrd for Claimant {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl PartialEq for Claimant {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other).is_eq()
    }
}

impl Eq for Claimant {}

fn fill(candidates: &[Candidate]) -> Vec<u32> {
    if candidates.is_empty() {
        return Vec::new();
    }
    let claimants = (0..).zip(candidates).map(|(index, candidate)| Reverse(Claimant::new(index, candidate)));
    let mut turns: BinaryHeap<_> = claimants.collect();
    let mut slots = vec![FREE; SLOTS as usize];
    for _ in 0..SLOTS {
        let Reverse(claimant) = &mut *turns.peek_mut().expect("there are candidates, and none leaves");
        while slots[claimant.next as usize] != FREE {
            claimant.next = (claimant.next + claimant.skip) % SLOTS;
        }
        slots[claimant.next as usize] = claimant.index;
        claimant.turns += 1;
    }
    slots
}

/// Slots of a table: a prime, so that every skip visits all of them, and the paper's smaller size, which keeps shares within
/// 1 % for a few hundred candidates. A table takes 256 KiB.
const SLOTS: u64 = 65_537;
/// A slot that nobody has claimed.
const FREE: u32 = u32::MAX;
/// Tell apart the two hashes of a candidate's permutation.
const OFFSET: u64 = 1;
const SKIP: u64 = 2;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_does_not_depend_on_the_order_of_candidates() {
        let candidates: Vec<Candidate> =
            (0..20).map(|name| Candidate { hash: Hash(9).with(name), weight: 1.0 }).collect();
        let reversed: Vec<Candidate> = candidates.iter().rev().copied().collect();
        let mirrored: Vec<u32> = fill(&reversed).into_iter().map(|index| 19 - index).collect();
        assert!(fill(&candidates) == mirrored, "some slots have other candidates");
    }

    #[test]
    fn slots_follow_the_weights() {
        let weights = [1e-3, 1.0, 2.0, 7.0];
        let candidates: Vec<Candidate> =
            (0..).zip(weights).map(|(name, weight)| Candidate { hash: Hash(9).with(name), weight }).collect();
        let slots = fill(&candidates);
        for (index, weight) in (0..).zip(weights) {
            let count = slots.iter().filter(|slot| **slot == index).count() as f64;
            let share = weight / weights.iter().sum::<f64>() * SLOTS as f64;
            assert!((count - share).abs() <= 2.0, "{count} slots instead of {share}");
        }
    }
}
