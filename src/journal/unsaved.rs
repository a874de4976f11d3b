//! Verdicts that are not in the file yet.

use std::collections::{BTreeMap, BTreeSet};

use super::record::VerdictRecord;
use crate::model::CheckId;

/// The latest record of each check that waits to be written: its size is bounded by the number of checks, however
/// long the disk stalls.
#[derive(Debug, Default)]
pub(super) struct Unsaved {
    /// Records to write; a newer one replaces an older one of the same check.
    pub(super) records: BTreeMap<CheckId, VerdictRecord>,
    /// The only checks that may keep a row, if that set changed.
    pub(super) only: Option<BTreeSet<CheckId>>,
    /// Whether to record the time: verdicts without a newer record are still current.
    pub(super) beat: bool,
}

impl Unsaved {
    pub(super) fn is_empty(&self) -> bool {
        self.records.is_empty() && self.only.is_none() && !self.beat
    }

    pub(super) fn save(&mut self, records: impl IntoIterator<Item = VerdictRecord>) {
        self.records.extend(records.into_iter().map(|record| (record.check.clone(), record)));
    }

    pub(super) fn keep_only(&mut self, checks: BTreeSet<CheckId>) {
        self.records.retain(|check, _| checks.contains(check));
        self.only = Some(checks);
    }

    /// Puts back what could not be written, without replacing newer records.
    pub(super) fn put_back(&mut self, older: Self) {
        let newer = std::mem::replace(self, older);
        if let Some(only) = newer.only {
            self.keep_only(only);
        }
        self.save(newer.records.into_values());
        self.beat |= newer.beat;
    }
}
