//! The tables, and the upgrades from earlier versions.

use rusqlite::Connection;

use super::rows::millis;
use crate::model::Unix;

/// The schema that this version writes (`PRAGMA user_version`).
pub(super) const SCHEMA: i64 = 6;

/// The first schema that has the addresses of hosts.
pub(super) const HAS_HOSTS: i64 = 5;

/// The first schema that has the audit log.
pub(super) const HAS_AUDIT: i64 = 6;

/// The upgrade from each schema to the next, starting with an empty file.
const STEPS: [&str; SCHEMA as usize] = [
    "CREATE TABLE override (
         id      INTEGER PRIMARY KEY AUTOINCREMENT,
         target  TEXT NOT NULL,
         action  TEXT NOT NULL CHECK (action IN ('drain', 'up', 'down')),
         share   REAL NOT NULL CHECK (share BETWEEN 0 AND 1),
         created INTEGER NOT NULL,  -- milliseconds since 1970
         until   INTEGER,
         reason  TEXT
     ) STRICT;",
    "ALTER TABLE override ADD COLUMN said_by TEXT;",
    "CREATE TABLE verdict (
         region        TEXT NOT NULL,
         endpoint      TEXT NOT NULL,
         address       TEXT NOT NULL,
         probe         TEXT NOT NULL,
         state         TEXT NOT NULL CHECK (state IN ('up', 'degraded', 'unknown', 'down')),
         severity      TEXT CHECK (severity IN ('soft', 'hard')),
         since         INTEGER NOT NULL,
         first_success INTEGER,
         successes     INTEGER NOT NULL,
         failures      INTEGER NOT NULL,
         last_failure  TEXT,
         seen          INTEGER NOT NULL,
         PRIMARY KEY (region, endpoint, address, probe)
     ) STRICT, WITHOUT ROWID;
     CREATE TABLE clock (newest INTEGER NOT NULL) STRICT;  -- the wall clock at the latest write
     INSERT INTO clock (newest) VALUES (0);",
    "CREATE TABLE event (
         id      INTEGER PRIMARY KEY,
         at      INTEGER NOT NULL,  -- milliseconds since 1970
         epoch   INTEGER NOT NULL,
         name    TEXT NOT NULL,
         message TEXT NOT NULL,
         fields  TEXT NOT NULL      -- a JSON array of pairs
     ) STRICT;",
    "CREATE TABLE host (
         name      TEXT PRIMARY KEY,
         addresses TEXT NOT NULL     -- those in use, separated by spaces
     ) STRICT, WITHOUT ROWID;",
    "CREATE TABLE audit (
         id         INTEGER PRIMARY KEY,
         at         INTEGER NOT NULL,  -- milliseconds since 1970
         last       INTEGER NOT NULL,
         count      INTEGER NOT NULL,
         kind       TEXT NOT NULL CHECK (kind IN ('change', 'refusal', 'stranger')),
         who        TEXT NOT NULL,
         origin     TEXT NOT NULL,
         action     TEXT NOT NULL,
         target     TEXT,
         parameters TEXT,              -- JSON, as are before and after
         reason     TEXT,
         result     TEXT NOT NULL,
         why        TEXT,
         before     TEXT,
         after      TEXT
     ) STRICT;",
];

/// The schema of a file.
pub(super) fn version(db: &Connection) -> rusqlite::Result<i64> {
    db.pragma_query_value(None, "user_version", |row| row.get(0))
}

/// Upgrades the file of this or an earlier version to the current schema.
pub(super) fn upgrade(db: &mut Connection) -> rusqlite::Result<()> {
    let found = version(db)?;
    let steps = usize::try_from(found).ok().and_then(|found| STEPS.get(found..)).unwrap_or_default();
    if steps.is_empty() {
        return Ok(());
    }
    let upgrade = db.transaction()?;
    steps.iter().try_for_each(|step| upgrade.execute_batch(step))?;
    upgrade.pragma_update(None, "user_version", SCHEMA)?;
    upgrade.commit()
}

/// Records the time of a write or a start: what has ended by then does not return if the clock is set back.
pub(super) fn advance_clock(db: &Connection, now: Unix) -> rusqlite::Result<()> {
    db.execute("UPDATE clock SET newest = max(newest, ?1)", [millis(now)])?;
    Ok(())
}

/// Records the time at which an override was made, even if it is before the latest write: a clock that was briefly
/// ahead must not end overrides made after it was corrected.
pub(super) fn set_clock(db: &Connection, now: Unix) -> rusqlite::Result<()> {
    db.execute("UPDATE clock SET newest = ?1", [millis(now)])?;
    Ok(())
}

/// Sorts and the like need no files: there may be no other folder in which this process may create any.
pub(super) fn keep_temporary_data_in_memory(db: &Connection) -> rusqlite::Result<()> {
    db.pragma_update(None, "temp_store", "MEMORY")
}
