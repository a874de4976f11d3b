//! Verdicts, addresses of hosts and events that are not in the file yet.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::net::IpAddr;
use std::sync::Arc;

use super::audit::UnsavedAudit;
use super::record::VerdictRecord;
use crate::model::{CheckId, EventRecord, Name};

/// The latest record of each check and host that waits to be written, and the events that the engine still keeps: their
/// size is bounded by the number of checks and hosts and by what the engine keeps, however long the disk stalls.
#[derive(Debug, Default)]
pub(super) struct Unsaved {
    /// Records to write; a newer one replaces an older one of the same check.
    pub(super) records: BTreeMap<CheckId, VerdictRecord>,
    /// The only checks that may keep a row, if that set changed.
    pub(super) only: Option<BTreeSet<CheckId>>,
    /// The addresses of hosts to write; newer ones replace older ones of the same host.
    pub(super) hosts: BTreeMap<Name, Vec<IpAddr>>,
    /// The only hosts that may keep a row, if that set changed.
    pub(super) only_hosts: Option<BTreeSet<Name>>,
    /// Whether to record the time: verdicts without a newer record are still current.
    pub(super) beat: bool,
    /// Events to write, oldest first.
    pub(super) events: VecDeque<Arc<EventRecord>>,
    /// The id of the oldest event that may keep a row, if events were added or removed.
    pub(super) oldest_event: u64,
    /// Whether events were removed.
    forgets_events: bool,
    /// Entries of the audit log to write.
    pub(super) audit: UnsavedAudit,
}

impl Unsaved {
    pub(super) fn is_empty(&self) -> bool {
        let Self { records, only, hosts, only_hosts, beat, events, oldest_event: _, forgets_events, audit } =
            self;
        records.is_empty()
            && only.is_none()
            && hosts.is_empty()
            && only_hosts.is_none()
            && !beat
            && events.is_empty()
            && !forgets_events
            && audit.is_empty()
    }

    pub(super) fn save(&mut self, records: impl IntoIterator<Item = VerdictRecord>) {
        self.records.extend(records.into_iter().map(|record| (record.check.clone(), record)));
    }

    pub(super) fn keep_only(&mut self, checks: BTreeSet<CheckId>) {
        self.records.retain(|check, _| checks.contains(check));
        self.only = Some(checks);
    }

    pub(super) fn save_hosts(&mut self, hosts: BTreeMap<Name, Vec<IpAddr>>) {
        self.hosts.extend(hosts);
    }

    pub(super) fn keep_only_hosts(&mut self, hosts: BTreeSet<Name>) {
        self.hosts.retain(|host, _| hosts.contains(host));
        self.only_hosts = Some(hosts);
    }

    pub(super) fn record(&mut self, event: Arc<EventRecord>, oldest: u64) {
        self.events.push_back(event);
        self.forget_events_before(oldest);
    }

    /// Removes the events before this one from the file.
    pub(super) fn forget_events(&mut self, oldest: u64) {
        self.forgets_events = true;
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
        if let Some(only) = newer.only_hosts {
            self.keep_only_hosts(only);
        }
        self.save_hosts(newer.hosts);
        self.beat |= newer.beat;
        self.events.extend(newer.events);
        self.forgets_events |= newer.forgets_events;
        self.forget_events_before(newer.oldest_event);
        self.audit.extend(newer.audit);
    }
}
