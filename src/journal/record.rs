//! The stored verdict of a check.

use crate::health::SavedVerdict;
use crate::model::{CheckId, Unix};

/// The verdict of a check, as far as a restart needs it. Only probes of addresses are stored.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct VerdictRecord {
    /// The check.
    pub check: CheckId,
    /// Its verdict.
    pub memory: SavedVerdict,
    /// When it was last known to be current.
    pub seen: Unix,
}
