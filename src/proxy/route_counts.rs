//! Requests by the route that they took.

use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

/// Counters by the number of a route. They are made as they are needed, and none of them ever moves, so that counting takes no
/// lock.
#[derive(Debug)]
pub(super) struct RouteCounts([OnceLock<Box<Chunk>>; MOST_COUNTED / CHUNK]);

type Chunk = [AtomicU64; CHUNK];

/// Counters that are made together.
const CHUNK: usize = 64;
/// Routes of a listener that are counted; those behind them are not.
const MOST_COUNTED: usize = 4096;

impl Default for RouteCounts {
    fn default() -> Self {
        Self([const { OnceLock::new() }; MOST_COUNTED / CHUNK])
    }
}

impl RouteCounts {
    /// Counts a request that took the route with this number.
    pub(super) fn count(&self, number: usize) {
        if let Some(chunk) = self.0.get(number / CHUNK) {
            let chunk = chunk.get_or_init(|| Box::new([const { AtomicU64::new(0) }; CHUNK]));
            chunk[number % CHUNK].fetch_add(1, Relaxed);
        }
    }

    /// The numbers of the routes that requests took, and how many did.
    pub(super) fn counted(&self) -> impl Iterator<Item = (usize, u64)> {
        let chunks = self.0.iter().enumerate().filter_map(|(index, chunk)| Some((index, chunk.get()?)));
        let all = chunks.flat_map(|(index, chunk)| {
            chunk.iter().enumerate().map(move |(at, count)| (index * CHUNK + at, count.load(Relaxed)))
        });
        all.filter(|(_, count)| *count > 0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_route_has_its_own_count() {
        let counts = RouteCounts::default();
        for number in [1, 2, CHUNK, MOST_COUNTED - 1, 2, MOST_COUNTED] {
            counts.count(number);
        }
        let counted: Vec<(usize, u64)> = counts.counted().collect();
        assert_eq!(counted, [(1, 1), (2, 2), (CHUNK, 1), (MOST_COUNTED - 1, 1)]);
    }
}
