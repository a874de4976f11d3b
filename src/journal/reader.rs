//! The read-only connection, so that readers never delay the thread that writes.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::os::unix::ffi::OsStrExt as _;
use std::path::Path;

use anyhow::Context as _;
use rusqlite::types::Value;
use rusqlite::{Connection, OpenFlags, OptionalExtension as _, Row};

use super::audit::read_audit;
use super::record::VerdictRecord;
use super::rows::{read_event, read_host, read_override, read_verdict, unix};
use super::schema;
use crate::model::{AuditRecord, EventRecord, Name, Unix};
use crate::standing::Override;

/// A read-only connection to a journal.
pub(super) struct Reader {
    db: Connection,
}

/// The state that the last run saved.
#[derive(Debug, Default, PartialEq)]
pub struct Recalled {
    /// The overrides that had been neither removed nor ended at the latest write, oldest first.
    pub overrides: Vec<Override>,
    /// The overrides that ended while the node was stopped, oldest first. They are in the file until they are removed, so
    /// that a start that is interrupted does not lose them.
    pub ended: Vec<Override>,
    /// The largest id ever assigned to an override; 0 if there was none.
    pub last_override: u64,
    /// The verdicts, in order of check.
    pub verdicts: Vec<VerdictRecord>,
    /// The addresses of hosts by the last good answer of resolvers.
    pub hosts: BTreeMap<Name, Vec<IpAddr>>,
    /// The latest events, oldest first.
    pub events: Vec<EventRecord>,
    /// The audit log, oldest first.
    pub audit: Vec<AuditRecord>,
    /// A sentence about each row that cannot be read.
    pub unreadable: Vec<String>,
}

impl Reader {
    /// Opens an existing journal.
    pub(super) fn open(path: &Path) -> rusqlite::Result<Self> {
        let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX;
        let reader = Self { db: Connection::open_with_flags(path, flags)? };
        // SQLite opens the file with the first read.
        reader.schema()?;
        Ok(reader)
    }

    /// Reads what it can of a journal that cannot be written, for example on a disk that is full or read-only.
    pub(super) fn rescue(path: &Path) -> Option<Recalled> {
        let read = |reader: Self| reader.recall();
        Self::open(path).and_then(read).or_else(|_| Self::open_as_it_is(path).and_then(read)).ok()
    }

    /// Without the companion files, for which a full disk has no room: without locks, and without the write-ahead log,
    /// which is empty after a run that was not killed.
    fn open_as_it_is(path: &Path) -> rusqlite::Result<Self> {
        let mut uri = "file:".to_owned();
        for byte in path.as_os_str().as_bytes() {
            uri += &format!("%{byte:02x}");
        }
        let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_URI;
        Ok(Self { db: Connection::open_with_flags(uri + "?immutable=1", flags)? })
    }

    /// The schema of the file.
    pub(super) fn schema(&self) -> rusqlite::Result<i64> {
        schema::version(&self.db)
    }

    /// Everything that a start needs. A row that cannot be read is skipped.
    pub(super) fn recall(&self) -> rusqlite::Result<Recalled> {
        schema::keep_temporary_data_in_memory(&self.db)?;
        let mut recalled = Recalled { last_override: self.last_override_id()?, ..Recalled::default() };
        let newest = self.newest()?;
        let mut select = self.db.prepare("SELECT * FROM override ORDER BY id")?;
        let mut rows = select.query([])?;
        while let Some(row) = rows.next()? {
            match read_override(row).with_context(|| name_of(row)) {
                Ok(it) if it.holds_at(newest) => recalled.overrides.push(it),
                Ok(it) => recalled.ended.push(it),
                Err(e) => recalled.unreadable.push(format!("{e:#}; it has no effect")),
            }
        }
        recalled.verdicts = self.verdicts(&mut recalled.unreadable)?;
        recalled.hosts = self.hosts(&mut recalled.unreadable)?;
        recalled.events = self.events(&mut recalled.unreadable)?;
        recalled.audit = self.audit(&mut recalled.unreadable)?;
        Ok(recalled)
    }

    fn verdicts(&self, unreadable: &mut Vec<String>) -> rusqlite::Result<Vec<VerdictRecord>> {
        let mut select =
            self.db.prepare("SELECT * FROM verdict ORDER BY region, endpoint, address, probe")?;
        let mut rows = select.query([])?;
        let newest = self.newest()?;
        let mut verdicts = Vec::new();
        let mut failed = (0, None);
        while let Some(row) = rows.next()? {
            match read_verdict(row) {
                // They were current as long as the node ran.
                Ok(it) => verdicts.push(VerdictRecord { seen: it.seen.max(newest), ..it }),
                Err(e) => failed = (failed.0 + 1, Some(e)),
            }
        }
        if let (count, Some(e)) = failed {
            unreadable
                .push(format!("{count} verdicts in the journal cannot be read, the last because: {e:#}"));
        }
        Ok(verdicts)
    }

    /// A journal that could not be upgraded, for example on a read-only disk, may have none.
    fn hosts(&self, unreadable: &mut Vec<String>) -> rusqlite::Result<BTreeMap<Name, Vec<IpAddr>>> {
        let mut hosts = BTreeMap::new();
        if self.schema()? < schema::HAS_HOSTS {
            return Ok(hosts);
        }
        let mut select = self.db.prepare("SELECT * FROM host ORDER BY name")?;
        let mut rows = select.query([])?;
        let mut failed = (0, None);
        while let Some(row) = rows.next()? {
            match read_host(row) {
                Ok((host, addresses)) => drop(hosts.insert(host, addresses)),
                Err(e) => failed = (failed.0 + 1, Some(e)),
            }
        }
        if let (count, Some(e)) = failed {
            unreadable.push(format!(
                "the addresses of {count} hosts in the journal cannot be read, the last because: {e:#}"
            ));
        }
        Ok(hosts)
    }

    fn events(&self, unreadable: &mut Vec<String>) -> rusqlite::Result<Vec<EventRecord>> {
        let mut select = self.db.prepare("SELECT * FROM event ORDER BY id")?;
        let mut rows = select.query([])?;
        let mut events = Vec::new();
        let mut failed = (0, None);
        while let Some(row) = rows.next()? {
            match read_event(row) {
                Ok(event) => events.push(event),
                Err(e) => failed = (failed.0 + 1, Some(e)),
            }
        }
        if let (count, Some(e)) = failed {
            unreadable.push(format!("{count} events in the journal cannot be read, the last because: {e:#}"));
        }
        Ok(events)
    }

    /// A journal that could not be upgraded may have none.
    fn audit(&self, unreadable: &mut Vec<String>) -> rusqlite::Result<Vec<AuditRecord>> {
        let mut entries = Vec::new();
        if self.schema()? < schema::HAS_AUDIT {
            return Ok(entries);
        }
        let mut select = self.db.prepare("SELECT * FROM audit ORDER BY id")?;
        let mut rows = select.query([])?;
        let mut failed = (0, None);
        while let Some(row) = rows.next()? {
            match read_audit(row) {
                Ok(entry) => entries.push(entry),
                Err(e) => failed = (failed.0 + 1, Some(e)),
            }
        }
        if let (count, Some(e)) = failed {
            unreadable.push(format!(
                "{count} entries of the audit log in the journal cannot be read, the last because: {e:#}"
            ));
        }
        Ok(entries)
    }

    /// The latest time that the journal knows.
    fn newest(&self) -> rusqlite::Result<Unix> {
        self.db.query_row("SELECT newest FROM clock", [], |row| row.get(0).map(unix))
    }

    fn last_override_id(&self) -> rusqlite::Result<u64> {
        let given: Option<i64> = self
            .db
            .query_row("SELECT seq FROM sqlite_sequence WHERE name = 'override'", [], |row| row.get(0))
            .optional()?;
        let largest: Option<i64> = self.db.query_row("SELECT max(id) FROM override", [], |row| row.get(0))?;
        Ok(given.max(largest).unwrap_or(0).unsigned_abs())
    }
}

fn name_of(row: &Row<'_>) -> String {
    let shown = |column| match row.get(column) {
        Ok(Value::Text(text)) => text,
        Ok(Value::Integer(number)) => number.to_string(),
        other => format!("{other:?}"),
    };
    format!("override {} on `{}` in the journal cannot be read", shown("id"), shown("target"))
}
