//! Opens the journal, whatever state its file is in.

use std::fs::{self, DirBuilder, File, OpenOptions, Permissions};
use std::io::ErrorKind;
use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _, OpenOptionsExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context as _, anyhow};
use nix::fcntl::{Flock, FlockArg};
use nix::unistd::{AccessFlags, access};
use rusqlite::{Connection, ErrorCode};
use tracing::warn;

use super::reader::{Reader, Recalled};
use super::schema::{self, SCHEMA};
use crate::model::Unix;

const FILE: &str = "portolan.db";

/// The smallest page of a database, in bytes.
const SHORTEST: u64 = 512;

/// How long another program, such as a backup, may lock the file before a write fails.
const BUSY: Duration = Duration::from_secs(2);

/// How long to wait for another process to release the state directory, and how often to try.
const LOCK_WITHIN: Duration = Duration::from_secs(2);
const LOCK_RETRY: Duration = Duration::from_millis(20);

/// Only the user that runs the node may read overrides, which contain names and reasons.
const DIR_MODE: u32 = 0o700;
const FILE_MODE: u32 = 0o600;

/// A journal ready for writing.
pub(super) struct Found {
    pub(super) file: JournalFile,
    pub(super) recalled: Recalled,
    pub(super) alarms: Vec<String>,
}

/// The open file, which no other node writes to.
pub(super) struct JournalFile {
    pub(super) db: Connection,
    path: PathBuf,
    /// Device and inode.
    identity: (u64, u64),
    /// Held until the file is closed; `None` where the file system has no locks.
    _lock: Option<Flock<File>>,
}

impl JournalFile {
    /// Checks that the file is still where it was opened: SQLite writes to a removed file without an error.
    pub(super) fn check(&self) -> Result<(), String> {
        match identity(&self.path) {
            Ok(identity) if identity == self.identity => Ok(()),
            Ok(_) => {
                Err(format!("{} was replaced: restart the node to use the new file", self.path.display()))
            }
            Err(e) if e.kind() == ErrorKind::NotFound => {
                Err(format!("{} was removed: restart the node to create it again", self.path.display()))
            }
            Err(e) => Err(format!("{}: {e}", self.path.display())),
        }
    }
}

fn identity(path: &Path) -> std::io::Result<(u64, u64)> {
    fs::metadata(path).map(|file| (file.dev(), file.ino()))
}

/// Why the journal cannot be opened.
pub(super) enum Refusal {
    /// The config names a directory in which this user cannot store anything.
    Misconfigured(anyhow::Error),
    /// Something is wrong with the disk or the file. What could be read is recalled.
    Unusable { why: String, recalled: Box<Recalled> },
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
    let lock = lock(state_dir)?;
    let damage = match open_file(&path, now) {
        Ok(opened) => return opened.found(&path, lock),
        Err(OpenError::Damaged(why)) => why,
        Err(fault) => return Err(refuse(&path, fault)),
    };
    let aside = move_aside(&path, now).map_err(|e| {
        refuse(
            &path,
            OpenError::Unusable(format!("it is damaged ({damage}) and cannot be moved aside: {e:#}")),
        )
    })?;
    let mut opened = open_file(&path, now).map_err(|fault| refuse(&path, fault))?;
    opened.alarms.push(format!(
        "the journal {} was damaged ({damage}) and is now {}: overrides and verdicts of the last run are lost",
        path.display(),
        aside.display()
    ));
    opened.found(&path, lock)
}

/// What [`open_file`] read.
struct Opened {
    db: Connection,
    recalled: Recalled,
    alarms: Vec<String>,
}

impl Opened {
    fn found(self, path: &Path, lock: Option<Flock<File>>) -> Result<Found, Refusal> {
        let Self { db, recalled, alarms } = self;
        let identity = identity(path).map_err(|e| refuse(path, OpenError::Unusable(e.to_string())))?;
        Ok(Found { file: JournalFile { db, path: path.to_owned(), identity, _lock: lock }, recalled, alarms })
    }
}

/// Locks the state directory, so that two nodes never overwrite each other's overrides. Waits a moment, because the
/// process that this one replaces may still be writing its last changes.
fn lock(state_dir: &Path) -> Result<Option<Flock<File>>, Refusal> {
    let shown = state_dir.display();
    let mut dir = File::open(state_dir).map_err(|e| Refusal::Unusable {
        why: format!("cannot open the state directory {shown}: {e}"),
        recalled: Box::default(),
    })?;
    let give_up = Instant::now() + LOCK_WITHIN;
    loop {
        match Flock::lock(dir, FlockArg::LockExclusiveNonblock) {
            Ok(lock) => return Ok(Some(lock)),
            Err((again, nix::Error::EWOULDBLOCK)) if Instant::now() < give_up => dir = again,
            Err((_, nix::Error::EWOULDBLOCK)) => {
                return Err(Refusal::Misconfigured(anyhow!(
                    "another node uses the state directory {shown}: stop it, or give this node a [node] state_dir of its own"
                )));
            }
            Err((_, e)) => {
                warn!(error = %e, "cannot lock the state directory {shown}: make sure that no other node uses it");
                return Ok(None);
            }
        }
        thread::sleep(LOCK_RETRY);
    }
}

/// Creates the state directory. A failure is an error of the config only if a change of the config or of permissions
/// can fix it; a failing disk is not.
fn create(state_dir: &Path, path: &Path) -> Result<(), Refusal> {
    let shown = state_dir.display();
    if let Err(e) = DirBuilder::new().recursive(true).mode(DIR_MODE).create(state_dir) {
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
            Refusal::Unusable { why: format!("{why}: {e}"), recalled: Box::default() }
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
            recalled: Box::default(),
        },
        OpenError::Damaged(why) | OpenError::Unusable(why) => Refusal::Unusable {
            why: format!("the journal {shown} cannot be used: {why}"),
            recalled: Box::new(Reader::rescue(path).unwrap_or_default()),
        },
    }
}

fn open_file(path: &Path, now: Unix) -> Result<Opened, OpenError> {
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
    restrict(path).map_err(|e| OpenError::Unusable(e.to_string()))?;
    let mut db = Connection::open(path)?;
    db.busy_timeout(BUSY)?;
    db.pragma_update(None, "journal_mode", "WAL")?;
    schema::keep_temporary_data_in_memory(&db)?;
    let check: String = db.query_row("PRAGMA quick_check(1)", [], |row| row.get(0))?;
    if check != "ok" {
        return Err(OpenError::Damaged(check));
    }
    schema::upgrade(&mut db)?;
    schema::advance_clock(&db, now)?;
    let recalled = Reader::open(path)?.recall()?;
    let alarms = recalled.unreadable.clone();
    Ok(Opened { db, recalled, alarms })
}

/// Creates the file if it is missing, and makes sure that other users cannot read it. SQLite gives its companion files
/// the same mode.
fn restrict(path: &Path) -> std::io::Result<()> {
    let file = OpenOptions::new().append(true).create(true).mode(FILE_MODE).open(path)?;
    let mode = file.metadata()?.mode();
    if mode & 0o077 != 0 {
        file.set_permissions(Permissions::from_mode(FILE_MODE))?;
    }
    Ok(())
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
