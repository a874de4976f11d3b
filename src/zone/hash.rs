//! How names are hashed.

use std::fmt;
use std::hash::{BuildHasher, Hasher as _, RandomState};

use rustc_hash::{FxHasher, FxSeededState};

/// Hashes names fast, each table by a key of its own.
///
/// What is in the tables is the operator's, and what strangers ask for is only looked up: a name that collides costs
/// them a query and us a comparison.
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

impl BuildHasher for NameHash {
    type Hasher = FxHasher;

    fn build_hasher(&self) -> FxHasher {
        self.0.build_hasher()
    }
}
