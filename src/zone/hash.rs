//! Hashing and comparing names in any case.

use std::fmt;
use std::hash::{BuildHasher, Hasher as _, RandomState};

use rustc_hash::{FxHasher, FxSeededState};

/// Hashes names fast; each table has its own key.
///
/// Tables contain only the operator's names, and the names of queries are only looked up: a query for a colliding
/// name costs us one comparison.
#[derive(Clone)]
pub struct NameHash(FxSeededState);

impl Default for NameHash {
    fn default() -> Self {
        Self(FxSeededState::with_seed(RandomState::new().build_hasher().finish() as usize))
    }
}

impl fmt::Debug for NameHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("NameHash")
    }
}

impl NameHash {
    /// The hash of a name in wire format, independent of case.
    pub(super) fn of(&self, name: &[u8]) -> u64 {
        let key = self.0.build_hasher().finish() ^ name.len() as u64;
        words(name).fold(key, |hash, word| {
            // Both halves of a product depend on all bits of its factors (Wang, "wyhash").
            let product = u128::from(hash ^ word) * u128::from(FACTOR);
            product as u64 ^ (product >> 64) as u64
        })
    }
}

/// An odd number with half of its bits set.
const FACTOR: u64 = 0x9e37_79b9_7f4a_7c15;

/// Whether two names in wire format are equal except for case (RFC 4343 §3).
pub(super) fn is_same(one: &[u8], other: &[u8]) -> bool {
    one.len() == other.len() && words(one).eq(words(other))
}

/// All bytes of a name in lowercase, eight at a time. The last eight may overlap those before.
fn words(name: &[u8]) -> impl Iterator<Item = u64> {
    let (words, rest) = name.as_chunks();
    let last = match name.last_chunk() {
        Some(last) => u64::from_le_bytes(*last),
        None => rest.iter().fold(0, |word, byte| word << 8 | u64::from(*byte)),
    };
    let rest = (!rest.is_empty()).then_some(last);
    words.iter().map(|word| u64::from_le_bytes(*word)).chain(rest).map(lowercase)
}

/// Lowercases eight bytes at once. Bit 7 of each byte of one sum says whether that byte is at least `A`, of the other
/// whether it is above `Z`.
fn lowercase(word: u64) -> u64 {
    const fn each(byte: u8) -> u64 {
        u64::from_ne_bytes([byte; 8])
    }
    let low = word & each(0x7f);
    let is_letter = (low + each(0x80 - b'A')) & !(low + each(0x7f - b'Z')) & !word & each(0x80);
    word | is_letter >> 2
}

impl BuildHasher for NameHash {
    type Hasher = FxHasher;

    fn build_hasher(&self) -> FxHasher {
        self.0.build_hasher()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_have_the_lowercase_that_std_gives_them() {
        for byte in 0..=u8::MAX {
            let bytes = [b'Z', byte, 0xff, byte, 0, b'a', byte, b'@'];
            let expected = bytes.map(|byte| byte.to_ascii_lowercase());
            assert_eq!(lowercase(u64::from_le_bytes(bytes)).to_le_bytes(), expected);
        }
    }

    #[test]
    fn names_of_every_length_are_the_same_in_any_case_and_no_other() {
        let hash = NameHash::default();
        let name: Vec<u8> = (0..255).map(|n| b"xAb-9zZ@"[n % 8].wrapping_add((n / 8) as u8 & 1)).collect();
        for length in 0..=255 {
            let name = &name[..length];
            let (upper, lower) = (name.to_ascii_uppercase(), name.to_ascii_lowercase());
            assert!(is_same(&upper, &lower) && hash.of(&upper) == hash.of(&lower), "{length}");
            for at in 0..length {
                let mut other = lower.clone();
                other[at] ^= 1;
                assert!(!is_same(&upper, &other) && hash.of(&upper) != hash.of(&other), "{length} {at}");
            }
            assert!(!is_same(name, &[name, b"x"].concat()));
        }
    }
}
