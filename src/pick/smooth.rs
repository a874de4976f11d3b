//! Smooth weighted round robin, nginx's algorithm (`ngx_http_upstream_round_robin.c`, commit 52327e0627f4 of 2012): at
//! each turn every candidate's credit grows by its weight; the one with the highest credit wins and pays the sum of the
//! weights. Weights of 5, 1 and 1 give a a b a c a a instead of five a in a row.

use rustc_hash::FxHashMap;

use super::picker::{Candidate, IsExcluded};

/// The credits of the candidates, by their indices.
#[derive(Clone, Debug)]
pub(super) struct Smooth {
    credits: Vec<f64>,
}

impl Smooth {
    /// The turns of some candidates, after some of the first ones.
    pub(super) fn new(candidates: &[Candidate], start: usize) -> Self {
        let mut smooth = Self { credits: vec![0.0; candidates.len()] };
        let turns = start.checked_rem(candidates.len().min(MAX_START)).unwrap_or(0);
        for _ in 0..turns {
            smooth.next(candidates, &|_| false);
        }
        smooth
    }

    /// The candidate whose turn it is. Only those that are not excluded take part.
    pub(super) fn next(&mut self, candidates: &[Candidate], is_excluded: IsExcluded<'_>) -> Option<usize> {
        let mut total = 0.0;
        let mut best: Option<usize> = None;
        for (index, candidate) in candidates.iter().enumerate() {
            if is_excluded(index) {
                continue;
            }
            total += candidate.weight;
            self.credits[index] += candidate.weight;
            if best.is_none_or(|best| self.credits[index] > self.credits[best]) {
                best = Some(index);
            }
        }
        self.credits[best?] -= total;
        best
    }

    /// Carries over the credits of the candidates that stay.
    ///
    /// Credits are centred at 0, where new candidates begin, and scaled to the new weights: otherwise a candidate that had
    /// paid a sum of high weights would wait for long among low ones.
    pub(super) fn renew(&mut self, old: &[Candidate], new: &[Candidate]) {
        let credits: FxHashMap<u64, f64> =
            old.iter().map(|candidate| candidate.hash.0).zip(self.credits.iter().copied()).collect();
        let kept: Vec<Option<f64>> =
            new.iter().map(|candidate| credits.get(&candidate.hash.0).copied()).collect();
        let count = kept.iter().flatten().count().max(1);
        let mean = kept.iter().flatten().sum::<f64>() / count as f64;
        let scale = sum_of_weights(new) / sum_of_weights(old);
        self.credits =
            kept.iter().map(|credit| credit.map_or(0.0, |credit| (credit - mean) * scale)).collect();
    }
}

fn sum_of_weights(candidates: &[Candidate]) -> f64 {
    candidates.iter().map(|candidate| candidate.weight).sum()
}

/// The most turns that a worker may be ahead at its start. Each costs one pass over the candidates; so many are enough to
/// spread the first requests of that many workers.
const MAX_START: usize = 64;
