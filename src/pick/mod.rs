//! Deterministic weighted choice: the same key and candidates give the same pick everywhere.
//!
//! [`rendezvous`] is weighted rendezvous hashing by the logarithmic method (Schindelhauer and Schomaker, "Weighted
//! distributed hash tables", SPAA 2005): each candidate draws an exponential variate from the hash of key and
//! candidate, divided by its weight, and the lowest one wins. Over many keys every candidate gets its share of the
//! weights, and removing one moves only the keys that it had.

/// A 64-bit hash that is the same on every node, version and machine. Names are hashed when a plan is
/// compiled; on the query path only integers are mixed in.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Hash(pub u64);

/// Weyl increment of SplitMix64 (Steele, Lea and Flood, "Fast splittable pseudorandom number generators",
/// OOPSLA 2014).
const GAMMA: u64 = 0x9e37_79b9_7f4a_7c15;

impl Hash {
    /// Hash of some bytes.
    #[must_use]
    pub fn of(bytes: &[u8]) -> Self {
        let length = Self(bytes.len() as u64);
        bytes.chunks(8).fold(length, |hash, chunk| {
            let mut word = [0; 8];
            word[..chunk.len()].copy_from_slice(chunk);
            hash.with(u64::from_le_bytes(word))
        })
    }

    /// Hash of this hash and one more value.
    #[must_use]
    pub fn with(self, value: u64) -> Self {
        // The finaliser of SplitMix64, which diffuses every bit over the whole word.
        let mut z = (self.0 ^ value.wrapping_mul(GAMMA)).wrapping_add(GAMMA);
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        Self(z ^ (z >> 31))
    }

    /// The hash as a number above 0 and below 1.
    #[must_use]
    pub fn unit(self) -> f64 {
        ((self.0 >> 11) as f64 + 0.5) / (1_u64 << 53) as f64
    }
}

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

    #[test]
    fn hashes_are_a_contract_between_nodes() {
        // Changing these moves every client once: announce it in the changelog.
        let of = |text: &[u8]| Hash::of(text).0;
        assert_eq!(of(b"eu-west"), 0xb66027143b5fceba);
        assert_eq!(of(b"\x03www\x07example\x04test\0"), 0xfba53f630a62c1f6);
    }
}
