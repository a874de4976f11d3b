//! Verdicts and events that are not in the file yet.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;

use super::record::VerdictRecord;
use crate::model::{CheckId, EventRecord};

/// The latest record of each check that waits to be written, and the events that the engine still keeps: their size is
/// bounded by the number of checks and by what the engine keeps, however long the disk stalls.
#[derive(Debug, Default)]
pub(super) struct Unsaved {
    /// Records to write; a newer one replaces an older one of the same check.
    pub(super) records: BTreeMap<CheckId, VerdictRecord>,
    /// The only checks that may keep a row, if that set changed.
    pub(super) only: Option<BTreeSet<CheckId>>,
    /// Whether to record the time: verdicts without a newer record are still current.
    pub(super) beat: bool,
    /// Events to write, oldest first.
    pub(super) events: VecDeque<Arc<EventRecord>>,
    /// The id of the oldest event that may keep a row, if events were added.
    pub(super) oldest_event: u64,
}

impl Unsaved {
    pub(super) fn is_empty(&self) -> bool {
        self.records.is_empty() && self.only.is_none() && !self.beat && self.events.is_empty()
    }

    pub(super) fn save(&mut self, records: impl IntoIterator<Item = VerdictRecord>) {
        self.records.extend(records.into_iter().map(|record| (record.check.clone(), record)));
    }

    pub(super) fn keep_only(&mut self, checks: BTreeSet<CheckId>) {
        self.records.retain(|check, _| checks.contains(check));
        self.only = Some(checks);
    }

    pub(super) fn record(&mut self, event: Arc<EventRecord>, oldest: u64) {
        self.events.push_back(event);
        self.forget_events_before(oldest);
    }

    fn forget_events_before(&mut self, oldest: u64) {
        self.oldest_event = self.oldest_event.max(oldest);
        while self.events.front().is_some_and(|event| event.id < self.oldest_event) {
            self.events.pop_front();
        }
    }

    /// Puts back what could not be written, without replacing newer records.
    pub(super) fn put_back(&mut self, older: Self) {
        let newer = std::mem::replace(self, older);
        if let Some(only) = newer.only {
            self.keep_only(only);
        }
        self.save(newer.records.into_values());
        self.beat |= newer.beat;
        self.events.extend(newer.events);
        self.forget_events_before(newer.oldest_event);
    }
}
