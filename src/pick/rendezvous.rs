//! Weighted rendezvous hashing by the logarithmic method (Schindelhauer and Schomaker, "Weighted distributed hash tables",
//! SPAA 2005): each candidate draws an exponential variate from the hash of key and candidate, divided by its weight,
//! and the lowest one wins. Over many keys every candidate gets its share of the weights, and removing one moves only
//! the keys that it had.

use super::Hash;

/// A candidate's draw under a key; the lowest draw wins. Infinite for weight 0, which never wins.
#[must_use]
pub fn draw(key: Hash, candidate: Hash, weight: f64) -> f64 {
    -key.with(candidate.0).unit().ln() / weight
}

/// The candidate with the lowest draw; `None` if none has a weight above 0.
pub fn rendezvous<T>(key: Hash, candidates: impl Iterator<Item = (T, Hash, f64)>) -> Option<T> {
    let mut best: Option<(f64, T)> = None;
    for (item, hash, weight) in candidates {
        let drawn = draw(key, hash, weight);
        if drawn.is_finite() && best.as_ref().is_none_or(|(least, _)| drawn < *least) {
            best = Some((drawn, item));
        }
    }
    best.map(|(_, item)| item)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pick(key: u64, weights: &[f64]) -> Option<usize> {
        let candidates = weights.iter().enumerate().map(|(i, w)| (i, Hash(100 + i as u64), *w));
        rendezvous(Hash(7).with(key), candidates)
    }

    #[test]
    fn shares_follow_weights() {
        let weights = [1.0, 3.0, 0.0, 4.0];
        let mut counts = [0_u32; 4];
        for key in 0..80_000 {
            counts[pick(key, &weights).expect("a candidate has weight")] += 1;
        }
        for (count, share) in counts.iter().zip([0.125, 0.375, 0.0, 0.5]) {
            assert!((f64::from(*count) / 80_000.0 - share).abs() < 0.01, "{counts:?}");
        }
    }

    #[test]
    fn removing_a_candidate_moves_only_its_keys() {
        for key in 0..10_000 {
            let before = pick(key, &[2.0, 3.0, 5.0]).unwrap();
            let after = pick(key, &[2.0, 0.0, 5.0]).unwrap();
            assert!(before == 1 || before == after);
            assert_ne!(after, 1);
        }
    }

    #[test]
    fn without_weights_there_is_no_pick() {
        assert_eq!(pick(1, &[]), None);
        assert_eq!(pick(1, &[0.0, 0.0]), None);
    }
}
