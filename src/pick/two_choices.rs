//! The less busy of two (Mitzenmacher, "The power of two choices in randomized load balancing", IEEE TPDS 12(10), 2001):
//! nearly as even as the least busy of all, but the loads of only two are read, and workers that see the same loads do not
//! all choose the same backend.

use super::picker::{Candidate, IsExcluded, LoadOf};

/// Draws candidates by their weights.
#[derive(Clone, Debug)]
pub(super) struct Draws {
    /// For each candidate, the sum of the weights up to and including its own.
    sums: Vec<f64>,
}

impl Draws {
    pub(super) fn new(candidates: &[Candidate]) -> Self {
        let mut sum = 0.0;
        let sums = candidates.iter().map(|candidate| {
            sum += candidate.weight;
            sum
        });
        Self { sums: sums.collect() }
    }

    /// The less busy, for its weight, of two different candidates.
    pub(super) fn choose(
        &self,
        candidates: &[Candidate],
        load: LoadOf<'_>,
        is_excluded: IsExcluded<'_>,
        random: &mut fastrand::Rng,
    ) -> Option<usize> {
        let first = self.draw(candidates, is_excluded, random)?;
        let is_passed_over = |index| index == first || is_excluded(index);
        let Some(second) = self.draw(candidates, &is_passed_over, random) else { return Some(first) };
        let busy = |index: usize| f64::from(load(index).in_flight) / candidates[index].weight;
        Some(if busy(second) < busy(first) { second } else { first })
    }

    /// A candidate that is not excluded, drawn by its weight.
    fn draw(
        &self,
        candidates: &[Candidate],
        is_excluded: IsExcluded<'_>,
        random: &mut fastrand::Rng,
    ) -> Option<usize> {
        let total = *self.sums.last()?;
        for _ in 0..BLIND_DRAWS {
            let drawn = random.f64() * total;
            let index = self.sums.partition_point(|sum| *sum <= drawn).min(candidates.len() - 1);
            if !is_excluded(index) {
                return Some(index);
            }
        }
        let left = || candidates.iter().enumerate().filter(|(index, _)| !is_excluded(*index));
        let mut drawn = random.f64() * left().map(|(_, candidate)| candidate.weight).sum::<f64>();
        let mut last = None;
        for (index, candidate) in left() {
            if drawn < candidate.weight {
                return Some(index);
            }
            drawn -= candidate.weight;
            last = Some(index);
        }
        // Rounding may leave a rest.
        last
    }
}

/// How often a draw that hits an excluded candidate is repeated before a pass over all of them: seldom are more than one or
/// two excluded, and a pass costs more than some draws.
const BLIND_DRAWS: u32 = 4;
