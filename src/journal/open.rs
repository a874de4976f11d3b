//! Opens the journal, whatever state its file is in.

use std::fs;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context as _, anyhow};
use nix::unistd::{AccessFlags, access};
use rusqlite::{Connection, ErrorCode};
use tracing::info;

use super::reader::{Reader, Recalled};
use super::schema::{self, SCHEMA};
use crate::model::Unix;

const FILE: &str = "portolan.db";

/// The smallest page of a database, in bytes.
const SHORTEST: u64 = 512;

/// How long another program, such as a backup, may lock the file before a write fails.
const BUSY: Duration = Duration::from_secs(2);

/// A journal ready for writing.
pub(super) struct Found {
    pub(super) db: Connection,
    pub(super) recalled: Recalled,
    pub(super) alarms: Vec<String>,
}

/// Why the journal cannot be opened.
pub(super) enum Refusal {
    /// The config names a directory in which this user cannot store anything.
    Misconfigured(anyhow::Error),
    /// Something is wrong with the disk or the file. What could be read is recalled.
    Unusable { why: String, recalled: Recalled },
}

/// What is wrong with a file.
enum OpenError {
    /// It is damaged or not a journal.
    Damaged(String),
    /// A later version wrote it, with this schema.
    Later(i64),
    /// It cannot be opened, read or written at present.
    Unusable(String),
}

impl From<rusqlite::Error> for OpenError {
    fn from(error: rusqlite::Error) -> Self {
        match error.sqlite_error_code() {
            Some(
                ErrorCode::CannotOpen
                | ErrorCode::DatabaseBusy
                | ErrorCode::DatabaseLocked
                | ErrorCode::DiskFull
                | ErrorCode::FileLockingProtocolFailed
                | ErrorCode::NoLargeFileSupport
                | ErrorCode::OutOfMemory
                | ErrorCode::PermissionDenied
                | ErrorCode::ReadOnly
                | ErrorCode::SystemIoFailure,
            ) => Self::Unusable(error.to_string()),
            _ => Self::Damaged(error.to_string()),
        }
    }
}

pub(super) fn open(state_dir: &Path, now: Unix) -> Result<Found, Refusal> {
    let path = state_dir.join(FILE);
    create(state_dir, &path)?;
    let damage = match open_file(&path, now) {
        Ok(found) => return Ok(found),
        Err(OpenError::Damaged(why)) => why,
        Err(fault) => return Err(refuse(&path, fault)),
    };
    let aside = move_aside(&path, now).map_err(|e| {
        refuse(
            &path,
            OpenError::Unusable(format!("it is damaged ({damage}) and cannot be moved aside: {e:#}")),
        )
    })?;
    let mut found = open_file(&path, now).map_err(|fault| refuse(&path, fault))?;
    found.alarms.push(format!(
        "the journal {} was damaged ({damage}) and is now {}: overrides and verdicts of the last run are lost",
        path.display(),
        aside.display()
    ));
    Ok(found)
}

/// Creates the state directory. A failure is an error of the config only if a change of the config or of permissions
/// can fix it; a failing disk is not.
fn create(state_dir: &Path, path: &Path) -> Result<(), Refusal> {
    let shown = state_dir.display();
    if let Err(e) = fs::create_dir_all(state_dir) {
        let is_config = matches!(
            e.kind(),
            ErrorKind::PermissionDenied | ErrorKind::NotADirectory | ErrorKind::AlreadyExists
        );
        let why = format!("cannot create the state directory {shown}");
        return Err(if is_config {
            Refusal::Misconfigured(
                anyhow!(e).context(format!("{why}: check its owner and mode, or change [node] state_dir")),
            )
        } else {
            Refusal::Unusable { why: format!("{why}: {e}"), recalled: Recalled::default() }
        });
    }
    let is_first_start = path.try_exists().is_ok_and(|exists| !exists);
    if is_first_start && access(state_dir, AccessFlags::W_OK | AccessFlags::X_OK) == Err(nix::Error::EACCES) {
        return Err(Refusal::Misconfigured(anyhow!(
            "cannot write to the state directory {shown}: check its owner and mode, or change [node] state_dir"
        )));
    }
    Ok(())
}

fn refuse(path: &Path, fault: OpenError) -> Refusal {
    let shown = path.display();
    match fault {
        OpenError::Later(schema) => Refusal::Unusable {
            why: format!(
                "the journal {shown} was written by a later version (its schema is {schema}, this version knows {SCHEMA}) and is left alone"
            ),
            recalled: Recalled::default(),
        },
        OpenError::Damaged(why) | OpenError::Unusable(why) => Refusal::Unusable {
            why: format!("the journal {shown} cannot be used: {why}"),
            recalled: Reader::rescue(path).unwrap_or_default(),
        },
    }
}

fn open_file(path: &Path, now: Unix) -> Result<Found, OpenError> {
    match fs::metadata(path) {
        // SQLite treats a file shorter than a page as new.
        Ok(file) if file.is_file() && file.len() < SHORTEST => {
            return Err(OpenError::Damaged(format!("it has {} bytes", file.len())));
        }
        // Before anything writes to the file.
        Ok(_) => match Reader::open(path)?.schema()? {
            later if later > SCHEMA => return Err(OpenError::Later(later)),
            _ => {}
        },
        Err(e) if e.kind() == ErrorKind::NotFound => {}
        Err(e) => return Err(OpenError::Unusable(e.to_string())),
    }
    let mut db = Connection::open(path)?;
    db.busy_timeout(BUSY)?;
    db.pragma_update(None, "journal_mode", "WAL")?;
    let check: String = db.query_row("PRAGMA quick_check(1)", [], |row| row.get(0))?;
    if check != "ok" {
        return Err(OpenError::Damaged(check));
    }
    schema::upgrade(&mut db)?;
    let ended = schema::delete_ended(&mut db, now)?;
    if !ended.is_empty() {
        info!(overrides = ?ended, "ended while the node was stopped");
    }
    let recalled = Reader::open(path)?.recall()?;
    let alarms = recalled.unreadable.clone();
    Ok(Found { db, recalled, alarms })
}

/// Renames the file and SQLite's companion files, so that its tools still find them together.
fn move_aside(path: &Path, now: Unix) -> anyhow::Result<PathBuf> {
    let at =
        jiff::Timestamp::from_millisecond(super::rows::millis(now)).context("the clock is out of range")?;
    let stamp = at.strftime("%Y%m%dT%H%M%SZ");
    let named = |path: &Path, suffix: &str| {
        let mut name = path.as_os_str().to_owned();
        name.push(suffix);
        PathBuf::from(name)
    };
    let mut aside = named(path, &format!(".damaged-{stamp}"));
    let mut count = 1;
    while aside.try_exists()? {
        count += 1;
        aside = named(path, &format!(".damaged-{stamp}-{count}"));
    }
    // The file last: as long as it is there, a start that was interrupted here finds it again.
    for suffix in ["-wal", "-shm", ""] {
        match fs::rename(named(path, suffix), named(&aside, suffix)) {
            Err(e) if e.kind() == ErrorKind::NotFound && !suffix.is_empty() => {}
            renamed => renamed.with_context(|| format!("cannot rename {}", named(path, suffix).display()))?,
        }
    }
    Ok(aside)
}
