//! The least busy candidate, by connections or by time.

use std::time::Duration;

use super::picker::{Candidate, IsExcluded, Load, LoadOf};
use super::rotation::Rotation;
use super::smooth::Smooth;

/// Chooses the candidate with the lowest score. Equal ones take turns by their weights, so that an idle pool is used evenly.
#[derive(Clone, Debug)]
pub(super) struct Least {
    turns: Smooth,
    /// Whose turn it is to be explored.
    exploration: Rotation,
    /// Of the pick in progress, by index; infinite for those that do not take part. Kept to save the allocation.
    scores: Vec<f64>,
}

impl Least {
    pub(super) fn new(candidates: &[Candidate], start: usize) -> Self {
        Self {
            turns: Smooth::new(candidates, start),
            exploration: Rotation::starting_at(start),
            scores: Vec::with_capacity(candidates.len()),
        }
    }

    pub(super) fn renew(&mut self, old: &[Candidate], new: &[Candidate]) {
        self.turns.renew(old, new);
        self.exploration.renew(old, new);
    }

    /// The candidate with the fewest requests in progress for its weight.
    pub(super) fn by_connections(
        &mut self,
        candidates: &[Candidate],
        load: LoadOf<'_>,
        is_excluded: IsExcluded<'_>,
    ) -> Option<usize> {
        self.lowest(candidates, is_excluded, |index, candidate| {
            Some(f64::from(load(index).in_flight) / candidate.weight)
        })
    }

    /// The candidate that promises the shortest time: its time to the first byte × requests in progress, this one
    /// included, for its weight.
    ///
    /// Candidates without a time come first, but each with one request only until it has a time. Then one pick in
    /// [`EXPLORE_ONE_IN`] goes to a candidate that would not be chosen, if it is idle: it may have become faster.
    pub(super) fn by_time(
        &mut self,
        candidates: &[Candidate],
        load: LoadOf<'_>,
        is_excluded: IsExcluded<'_>,
        random: &mut fastrand::Rng,
    ) -> Option<usize> {
        let count = candidates.len();
        let is_explored = |index: usize| load(index) != Load { in_flight: 0, time: None };
        if let Some(index) = self.exploration.next(count, &|index| is_excluded(index) || is_explored(index)) {
            return Some(index);
        }
        let score = |index, candidate: &Candidate| {
            let Load { in_flight, time } = load(index);
            let seconds = time?.max(TIME_FLOOR).as_secs_f64();
            Some(seconds * (f64::from(in_flight) + 1.0) / candidate.weight)
        };
        let Some(best) = self.lowest(candidates, is_excluded, score) else {
            // All are being explored.
            return self.by_connections(candidates, load, is_excluded);
        };
        if random.u32(..EXPLORE_ONE_IN) != 0 {
            return Some(best);
        }
        let is_passed_over = |index| index == best || is_excluded(index) || load(index).in_flight > 0;
        Some(self.exploration.next(count, &is_passed_over).unwrap_or(best))
    }

    /// The candidate with the lowest score, of those that have one and are not excluded. Each score is computed once:
    /// loads change while they are read.
    fn lowest(
        &mut self,
        candidates: &[Candidate],
        is_excluded: IsExcluded<'_>,
        score: impl Fn(usize, &Candidate) -> Option<f64>,
    ) -> Option<usize> {
        self.scores.clear();
        self.scores.extend(candidates.iter().enumerate().map(|(index, candidate)| {
            if is_excluded(index) { f64::INFINITY } else { score(index, candidate).unwrap_or(f64::INFINITY) }
        }));
        let scores = &self.scores;
        let least = scores.iter().copied().fold(f64::INFINITY, f64::min);
        self.turns.next(candidates, &|index| scores[index] > least || scores[index] == f64::INFINITY)
    }
}

/// Shorter times count as this much: below it they say more about scheduling than about the backend, and one of a few
/// microseconds would attract every request.
const TIME_FLOOR: Duration = Duration::from_millis(1);
/// One pick in so many explores: at 100 requests/s a pool notices within a second or so that a backend has recovered, and
/// at most 1.6 % of the requests wait for one that has not.
const EXPLORE_ONE_IN: u32 = 64;
