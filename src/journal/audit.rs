//! The audit log in the journal. Its entries come from whoever takes requests for changes, not from the engine: a
//! request that the engine never sees is an entry, too.

use std::collections::BTreeMap;
use std::sync::mpsc::{SyncSender, TrySendError};
use std::sync::{Arc, Mutex, PoisonError, Weak};

use anyhow::{Context as _, Result};
use rusqlite::{Connection, Row, params};

use super::condition::WriteCondition;
use super::handle::THREAD_GONE;
use super::rows::{millis, unix};
use super::unsaved::Unsaved;
use super::worker::Request;
use crate::model::{AuditKind, AuditRecord};

/// Takes the entries of the audit log. Without a file it does nothing.
#[derive(Clone, Debug, Default)]
pub struct AuditSink(Option<File>);

#[derive(Clone, Debug)]
struct File {
    requests: Weak<SyncSender<Request>>,
    unsaved: Arc<Mutex<Unsaved>>,
    condition: Arc<WriteCondition>,
}

/// The id of the oldest entry of each kind that may keep a row.
pub type OldestByKind = [u64; AuditKind::ALL.len()];

impl AuditSink {
    pub(super) fn new(
        requests: &Arc<SyncSender<Request>>,
        unsaved: Arc<Mutex<Unsaved>>,
        condition: Arc<WriteCondition>,
    ) -> Self {
        Self(Some(File { requests: Arc::downgrade(requests), unsaved, condition }))
    }

    /// Writes an entry in place of the one with the same id, and removes those before the oldest that are kept. Does not
    /// wait for the disk.
    pub fn save(&self, entry: Arc<AuditRecord>, oldest: OldestByKind) {
        self.save_later(entry, oldest);
        self.wake();
    }

    /// Removes the entries before the oldest that are kept.
    pub fn forget_before(&self, oldest: OldestByKind) {
        let Some(file) = &self.0 else { return };
        file.unsaved.lock().unwrap_or_else(PoisonError::into_inner).audit.forget(oldest);
        self.wake();
    }

    fn wake(&self) {
        let Some((file, requests)) = self.0.as_ref().and_then(|it| Some((it, it.requests.upgrade()?))) else {
            return;
        };
        match requests.try_send(Request::Unsaved) {
            // A full queue keeps the thread awake.
            Ok(()) | Err(TrySendError::Full(_)) => {}
            Err(TrySendError::Disconnected(_)) => file.condition.lose(THREAD_GONE),
        }
    }

    /// The same with the next write of anything else, which comes within seconds.
    pub fn save_later(&self, entry: Arc<AuditRecord>, oldest: OldestByKind) {
        let Some(file) = &self.0 else { return };
        file.unsaved.lock().unwrap_or_else(PoisonError::into_inner).audit.add(entry, oldest);
    }
}

/// The entries that are not in the file yet. They are among those that are kept in memory, so there are not more.
#[derive(Debug, Default)]
pub(super) struct UnsavedAudit {
    entries: BTreeMap<u64, Arc<AuditRecord>>,
    oldest: OldestByKind,
    /// Whether entries were removed.
    forgets: bool,
}

impl UnsavedAudit {
    pub(super) fn is_empty(&self) -> bool {
        self.entries.is_empty() && !self.forgets
    }

    fn forget(&mut self, oldest: OldestByKind) {
        self.forgets = true;
        self.forget_before(oldest);
    }

    fn add(&mut self, entry: Arc<AuditRecord>, oldest: OldestByKind) {
        self.entries.insert(entry.id, entry);
        self.forget_before(oldest);
    }

    /// Adds newer entries, also in place of older ones.
    pub(super) fn extend(&mut self, newer: Self) {
        self.entries.extend(newer.entries);
        self.forgets |= newer.forgets;
        self.forget_before(newer.oldest);
    }

    fn forget_before(&mut self, oldest: OldestByKind) {
        let known = self.oldest;
        self.oldest = std::array::from_fn(|kind| known[kind].max(oldest[kind]));
        if self.oldest != known {
            self.entries.retain(|id, entry| *id >= self.oldest[entry.kind as usize]);
        }
    }

    /// Writes them all.
    pub(super) fn write(&self, db: &Connection) -> rusqlite::Result<()> {
        if self.is_empty() {
            return Ok(());
        }
        self.entries.values().try_for_each(|entry| put_audit(db, entry))?;
        let mut delete = db.prepare_cached("DELETE FROM audit WHERE kind = ?1 AND id < ?2")?;
        for (kind, oldest) in AuditKind::ALL.into_iter().zip(self.oldest) {
            delete.execute(params![kind.name(), oldest.cast_signed()])?;
        }
        Ok(())
    }
}

fn put_audit(db: &Connection, entry: &AuditRecord) -> rusqlite::Result<()> {
    let AuditRecord { id, at, last, count, kind, who, origin, action, .. } = entry;
    let AuditRecord { target, parameters, reason, result, why, before, after, .. } = entry;
    let mut insert = db.prepare_cached(
        "INSERT OR REPLACE INTO audit (id, at, last, count, kind, who, origin, action, target, parameters, reason,
                                       result, why, before, after)
         VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13, ?14, ?15)",
    )?;
    insert.execute(params![
        id.cast_signed(),
        millis(*at),
        millis(*last),
        count.cast_signed(),
        kind.name(),
        who,
        origin,
        action,
        target,
        parameters,
        reason,
        result,
        why,
        before,
        after
    ])?;
    Ok(())
}

/// An entry, from the columns of `SELECT *`.
pub(super) fn read_audit(row: &Row<'_>) -> Result<AuditRecord> {
    let kind: String = row.get("kind")?;
    let kind = AuditKind::ALL.into_iter().find(|it| it.name() == kind);
    Ok(AuditRecord {
        id: row.get::<_, i64>("id")?.unsigned_abs(),
        at: unix(row.get("at")?),
        last: unix(row.get("last")?),
        count: row.get::<_, i64>("count")?.unsigned_abs(),
        kind: kind.context("there is no such kind of entry")?,
        who: row.get("who")?,
        origin: row.get("origin")?,
        action: row.get("action")?,
        target: row.get("target")?,
        parameters: row.get("parameters")?,
        reason: row.get("reason")?,
        result: row.get("result")?,
        why: row.get("why")?,
        before: row.get("before")?,
        after: row.get("after")?,
    })
}
