//! What must outlive a restart, in SQLite: `state_dir/portolan.db`.
//!
//! Losing the journal never stops answers: the engine says what could not be made durable and goes on.

#![allow(clippy::disallowed_methods, reason = "a shell: it lives in the world's time")]

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use rusqlite::{Connection, OptionalExtension as _, Row, params};

use crate::model::{Fraction, Target, Unix};
use crate::standing::{Action, Override};

/// The schema this version writes (`PRAGMA user_version`).
const SCHEMA: i64 = 2;

/// An open journal.
#[derive(Debug)]
pub struct Journal {
    db: Connection,
    path: PathBuf,
}

impl Journal {
    /// Opens the journal of a state directory; both are created if missing.
    ///
    /// # Errors
    /// If the directory cannot be made or written, the file is no database, or a later version wrote it.
    pub fn open(state_dir: &Path) -> Result<Self> {
        fs::create_dir_all(state_dir).with_context(|| {
            format!("cannot create the state directory {}: check its owner and mode", state_dir.display())
        })?;
        let path = state_dir.join("portolan.db");
        let db = Connection::open(&path).with_context(|| format!("cannot open {}", path.display()))?;
        let mut journal = Self { db, path };
        let opened = journal.prepare();
        opened.with_context(|| format!("cannot use {}", journal.path.display()))?;
        Ok(journal)
    }

    fn prepare(&mut self) -> Result<()> {
        self.db.busy_timeout(Duration::from_secs(2))?;
        // A word given to an operator must survive a power cut: each commit reaches the disk.
        self.db.pragma_update(None, "journal_mode", "WAL")?;
        self.db.pragma_update(None, "synchronous", "FULL")?;
        let found: i64 = self.db.pragma_query_value(None, "user_version", |row| row.get(0))?;
        if found > SCHEMA {
            bail!(
                "it was written by a later version (schema {found}, this one knows {SCHEMA}): use that version"
            );
        }
        if found < SCHEMA {
            let upgrade = self.db.transaction()?;
            if found < 1 {
                upgrade.execute_batch(
                    "CREATE TABLE override (
                     id      INTEGER PRIMARY KEY AUTOINCREMENT,
                     target  TEXT NOT NULL,
                     action  TEXT NOT NULL CHECK (action IN ('drain', 'up', 'down')),
                     share   REAL NOT NULL CHECK (share BETWEEN 0 AND 1),
                     created INTEGER NOT NULL,  -- milliseconds since 1970
                     until   INTEGER,
                     reason  TEXT
                 ) STRICT;",
                )?;
            }
            upgrade.execute_batch("ALTER TABLE override ADD COLUMN said_by TEXT")?;
            upgrade.pragma_update(None, "user_version", SCHEMA)?;
            upgrade.commit()?;
        }
        Ok(())
    }

    /// The overrides written and not removed, ended ones among them, oldest first.
    ///
    /// # Errors
    /// If the file cannot be read, or holds a row that no version wrote.
    pub fn overrides(&self) -> Result<Vec<Override>> {
        let mut select = self.db.prepare(
            "SELECT id, target, action, share, created, until, reason, said_by FROM override ORDER BY id",
        )?;
        let rows = select.query_and_then([], read_override)?;
        rows.collect::<Result<_>>().with_context(|| format!("cannot read {}", self.path.display()))
    }

    /// The largest id ever given, 0 if none was.
    ///
    /// # Errors
    /// If the file cannot be read.
    pub fn last_override_id(&self) -> Result<u64> {
        let id: Option<i64> = self
            .db
            .query_row("SELECT seq FROM sqlite_sequence WHERE name = 'override'", [], |row| row.get(0))
            .optional()?;
        Ok(id.unwrap_or(0).unsigned_abs())
    }

    /// Writes an override in the place of all others on its target, durably.
    ///
    /// # Errors
    /// If it could not be made durable; then nothing has changed in the file.
    pub fn put(&mut self, new: &Override) -> Result<()> {
        let write = self.db.transaction()?;
        write.execute("DELETE FROM override WHERE target = ?1", params![new.target.to_string()])?;
        write.execute(
            "INSERT INTO override (id, target, action, share, created, until, reason, said_by)
             VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8)",
            params![
                new.id.cast_signed(),
                new.target.to_string(),
                new.action.name(),
                share(new.action),
                millis(new.created),
                new.until.map(millis),
                new.reason,
                new.by
            ],
        )?;
        write.commit()?;
        Ok(())
    }

    /// Removes an override; no such override is fine.
    ///
    /// # Errors
    /// If it could not be made durable.
    pub fn remove(&mut self, id: u64) -> Result<()> {
        self.db.execute("DELETE FROM override WHERE id = ?1", params![id.cast_signed()])?;
        Ok(())
    }
}

fn read_override(row: &Row<'_>) -> Result<Override> {
    let action: String = row.get("action")?;
    let share: f64 = row.get("share")?;
    let until: Option<i64> = row.get("until")?;
    Ok(Override {
        id: row.get::<_, i64>("id")?.unsigned_abs(),
        target: row.get::<_, String>("target")?.parse::<Target>()?,
        action: match action.parse()? {
            Action::Drain(_) => {
                Action::Drain(Fraction::from_percent(share * 100.0).context("a share lies between 0 and 1")?)
            }
            action => action,
        },
        created: unix(row.get("created")?),
        until: until.map(unix),
        reason: row.get("reason")?,
        by: row.get("said_by")?,
    })
}

/// The share column: the whole for what is not a drain.
fn share(action: Action) -> f64 {
    match action {
        Action::Drain(share) => share.get(),
        Action::Up | Action::Down => 1.0,
    }
}

fn millis(at: Unix) -> i64 {
    i64::try_from(at.0.as_millis()).unwrap_or(i64::MAX)
}

fn unix(millis: i64) -> Unix {
    Unix(Duration::from_millis(millis.unsigned_abs()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn drain(id: u64, target: &str) -> Override {
        Override {
            id,
            target: target.parse().unwrap(),
            action: Action::Drain(Fraction::parse("25%").unwrap()),
            created: Unix(Duration::from_secs(1_800_000_000)),
            until: Some(Unix(Duration::from_secs(1_800_001_800))),
            reason: Some("new kernel".into()),
            by: Some("token ci".into()),
        }
    }

    #[test]
    fn overrides_outlive_the_process() {
        let dir = tempfile::tempdir().unwrap();
        let state_dir = dir.path().join("made/by/open");
        let mut journal = Journal::open(&state_dir).unwrap();
        journal.put(&drain(1, "region/eu-west")).unwrap();
        journal.put(&drain(2, "endpoint/us-east/lb1")).unwrap();
        journal.put(&drain(3, "region/eu-west")).unwrap();
        journal.remove(3).unwrap();
        journal.remove(99).unwrap();
        drop(journal);

        let journal = Journal::open(&state_dir).unwrap();
        assert_eq!(journal.overrides().unwrap(), [drain(2, "endpoint/us-east/lb1")]);
        assert_eq!(journal.last_override_id().unwrap(), 3, "an id is never used twice");
    }

    #[test]
    fn a_journal_of_the_first_schema_is_taken_over() {
        let dir = tempfile::tempdir().unwrap();
        let old = Journal::open(dir.path()).unwrap();
        old.db
            .execute_batch(
                "ALTER TABLE override DROP COLUMN said_by;
                 INSERT INTO override (id, target, action, share, created, until, reason)
                 VALUES (7, 'region/eu-west', 'drain', 0.25, 1800000000000, 1800001800000, 'new kernel');
                 PRAGMA user_version = 1",
            )
            .unwrap();
        drop(old);
        let mut journal = Journal::open(dir.path()).unwrap();
        let kept = Override { by: None, ..drain(7, "region/eu-west") };
        assert_eq!(journal.overrides().unwrap(), [kept]);
        journal.put(&drain(8, "region/eu-west")).unwrap();
        assert_eq!(journal.overrides().unwrap(), [drain(8, "region/eu-west")]);
    }

    #[test]
    fn what_is_no_journal_is_refused_and_left_alone() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("portolan.db");
        fs::write(&file, "this is a shopping list, at least sixteen bytes").unwrap();
        let error = format!("{:#}", Journal::open(dir.path()).unwrap_err());
        assert!(error.contains("portolan.db") && error.contains("not a database"), "{error}");
        assert!(fs::read_to_string(&file).unwrap().starts_with("this is a shopping list"));
    }

    #[test]
    fn a_later_schema_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        Journal::open(dir.path()).unwrap().db.pragma_update(None, "user_version", 99).unwrap();
        let error = format!("{:#}", Journal::open(dir.path()).unwrap_err());
        assert!(error.contains("later version"), "{error}");
    }
}
