//! The balancers of a pool behind one interface.

use std::time::Duration;

use super::least::Least;
use super::maglev::Table;
use super::rotation::Rotation;
use super::smooth::Smooth;
use super::two_choices::Draws;
use super::{Hash, rendezvous};
use crate::model::Balance;

/// A backend that may be chosen.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Candidate {
    /// The hash of its name and address: what it is recognised by when candidates change. Unique among them.
    pub hash: Hash,
    /// Its share relative to the others, from 0.001 to 1,000,000,000; weights beyond count as these.
    pub weight: f64,
}

/// What is known of a backend right now.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Load {
    /// Requests or connections that it works on.
    pub in_flight: u32,
    /// Moving average of the time to the first byte of its responses; `None` before the first. A failed attempt should
    /// count as its timeout: a backend that never responds and has no time is explored again and again.
    pub time: Option<Duration>,
}

/// Whether a candidate is passed over, by its index.
pub(super) type IsExcluded<'a> = &'a dyn Fn(usize) -> bool;
/// The load of a candidate, by its index.
pub(super) type LoadOf<'a> = &'a dyn Fn(usize) -> Load;

/// Chooses among the backends of a pool. Each worker has pickers of its own, so nothing here is shared.
#[derive(Clone, Debug)]
pub struct Picker {
    candidates: Vec<Candidate>,
    random: fastrand::Rng,
    balancer: Balancer,
}

/// What a balancer remembers from one pick to the next.
#[derive(Clone, Debug)]
enum Balancer {
    RoundRobin(Rotation),
    Weighted(Smooth),
    LeastConnections(Least),
    LeastTime(Least),
    IpHash,
    TwoChoices(Draws),
    Maglev(Table),
}

impl Picker {
    /// A picker among some candidates. Balancers that take turns begin at a position drawn from `seed`: workers with
    /// different seeds do not send their first requests to the same backend.
    #[must_use]
    pub fn new(balance: Balance, candidates: Vec<Candidate>, seed: u64) -> Self {
        let mut random = fastrand::Rng::with_seed(seed);
        let start = random.usize(..);
        let candidates = bounded(candidates);
        let balancer = match balance {
            Balance::RoundRobin => Balancer::RoundRobin(Rotation::starting_at(start)),
            Balance::Weighted => Balancer::Weighted(Smooth::new(&candidates, start)),
            Balance::LeastConnections => Balancer::LeastConnections(Least::new(&candidates, start)),
            Balance::LeastTime => Balancer::LeastTime(Least::new(&candidates, start)),
            Balance::IpHash => Balancer::IpHash,
            Balance::TwoChoices => Balancer::TwoChoices(Draws::new(&candidates)),
            Balance::Maglev => Balancer::Maglev(Table::default()),
        };
        Self { candidates, random, balancer }
    }

    /// The index of the chosen candidate; `None` if all are excluded. `key` stands for the client and only matters to
    /// balancers that keep clients at their backends. `is_excluded` says which candidates are passed over: those already
    /// tried, or full.
    pub fn pick(
        &mut self,
        key: Hash,
        load: &dyn Fn(usize) -> Load,
        is_excluded: &dyn Fn(usize) -> bool,
    ) -> Option<usize> {
        let candidates = &self.candidates;
        match &mut self.balancer {
            Balancer::RoundRobin(rotation) => rotation.next(candidates.len(), is_excluded),
            Balancer::Weighted(smooth) => smooth.next(candidates, is_excluded),
            Balancer::LeastConnections(least) => least.by_connections(candidates, load, is_excluded),
            Balancer::LeastTime(least) => least.by_time(candidates, load, is_excluded, &mut self.random),
            Balancer::IpHash => by_key(candidates, key, is_excluded),
            Balancer::TwoChoices(draws) => draws.choose(candidates, load, is_excluded, &mut self.random),
            Balancer::Maglev(table) => match table.find(candidates, key) {
                Some(index) if !is_excluded(index) => Some(index),
                // Rendezvous spreads the keys of an excluded candidate over all others.
                _ => by_key(candidates, key, is_excluded),
            },
        }
    }

    /// Replaces the candidates: their health, weights or membership changed. Turns go on where they were among the
    /// candidates that stay.
    pub fn renew(&mut self, candidates: Vec<Candidate>) {
        let old = std::mem::replace(&mut self.candidates, bounded(candidates));
        let new = &self.candidates;
        match &mut self.balancer {
            Balancer::RoundRobin(rotation) => rotation.renew(&old, new),
            Balancer::Weighted(smooth) => smooth.renew(&old, new),
            Balancer::LeastConnections(least) | Balancer::LeastTime(least) => least.renew(&old, new),
            Balancer::IpHash => {}
            Balancer::TwoChoices(draws) => *draws = Draws::new(new),
            Balancer::Maglev(table) => *table = Table::default(),
        }
    }
}

/// The candidate that a key belongs to by weighted rendezvous hashing. Excluding one moves only its keys.
fn by_key(candidates: &[Candidate], key: Hash, is_excluded: IsExcluded<'_>) -> Option<usize> {
    let left = candidates.iter().enumerate().filter(|(index, _)| !is_excluded(*index));
    rendezvous(key, left.map(|(index, candidate)| (index, candidate.hash, candidate.weight)))
}

fn bounded(mut candidates: Vec<Candidate>) -> Vec<Candidate> {
    for candidate in &mut candidates {
        let weight = candidate.weight;
        candidate.weight = if weight.is_nan() { MIN_WEIGHT } else { weight.clamp(MIN_WEIGHT, MAX_WEIGHT) };
    }
    candidates
}

/// The least weight of a candidate: a weight of 1 that a slow start has lowered a thousandfold. Anything less, or not a
/// number, counts as this, so that no weight makes a balancer fail.
const MIN_WEIGHT: f64 = 1e-3;
/// The highest weight of a candidate, a thousand times [`Weight::MAX`](crate::model::Weight::MAX). Adding [`MIN_WEIGHT`] to
/// the sum of a thousand of them is not lost to rounding.
const MAX_WEIGHT: f64 = 1e9;
