//! The thread that writes.

use std::any::Any;
use std::collections::BTreeSet;
use std::panic::{self, AssertUnwindSafe};
use std::sync::mpsc::{Receiver, RecvTimeoutError, TryRecvError};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime};

use rusqlite::Connection;
use tokio::sync::oneshot;
use tracing::warn;

use super::condition::WriteCondition;
use super::open::JournalFile;
use super::unsaved::Unsaved;
use super::{rows, schema};
use crate::model::{CheckId, Name, Unix};
use crate::standing::Override;
use crate::supervise::fault::{self, At};

/// The most changes that wait for the disk. Operators make a few a day.
pub(super) const QUEUE: usize = 1024;

/// The pause before a failed write is retried.
const RETRY: Duration = Duration::from_secs(1);

/// Why a change is not even attempted.
pub(super) const FULL: &str = "too many changes wait for the journal";

/// A request to the thread.
pub(super) enum Request {
    Change(Change, oneshot::Sender<Result<(), String>>),
    /// There are verdicts, addresses of hosts or events to save.
    Unsaved,
}

/// A change to the overrides. They are written in the order of the commands.
pub(super) enum Change {
    Put(Override),
    Remove(u64),
}

/// The state of the thread, which writes until the handle is dropped.
pub(super) struct Worker {
    file: JournalFile,
    requests: Receiver<Request>,
    unsaved: Arc<Mutex<Unsaved>>,
    condition: Arc<WriteCondition>,
    /// Changes that are not durable yet, oldest first; failed ones are retried before later ones.
    changes: Vec<Change>,
    /// The callers that wait for them.
    waiting: Vec<oneshot::Sender<Result<(), String>>>,
}

impl Worker {
    pub(super) fn new(
        file: JournalFile,
        requests: Receiver<Request>,
        unsaved: Arc<Mutex<Unsaved>>,
        condition: Arc<WriteCondition>,
    ) -> Self {
        Self { file, requests, unsaved, condition, changes: Vec::new(), waiting: Vec::new() }
    }

    /// A write that panics is repeated like one that fails, and reported like it. That is safe because the transaction is
    /// rolled back when it is dropped, and nothing is forgotten before its commit. Ending the process would let an unwritable row
    /// end it again after each restart.
    pub(super) fn run(mut self) {
        loop {
            let is_last = self.receive();
            if !self.is_done()
                && let Err(panic) = panic::catch_unwind(AssertUnwindSafe(|| self.write()))
            {
                self.write_panicked(&message(&*panic));
            }
            if is_last {
                if !self.is_done() {
                    warn!(overrides = self.changes.len(), "the journal ends without its latest changes");
                }
                return;
            }
        }
    }

    fn is_done(&self) -> bool {
        self.changes.is_empty() && self.unsaved.lock().unwrap_or_else(PoisonError::into_inner).is_empty()
    }

    /// Waits for a request or the next retry, and takes all requests that have arrived. Returns whether there will be
    /// no more.
    fn receive(&mut self) -> bool {
        let first = if self.is_done() {
            self.requests.recv().map_err(|_| RecvTimeoutError::Disconnected)
        } else {
            self.requests.recv_timeout(RETRY)
        };
        match first {
            Ok(request) => self.accept(request),
            Err(RecvTimeoutError::Timeout) => return false,
            Err(RecvTimeoutError::Disconnected) => return true,
        }
        for _ in 1..QUEUE {
            match self.requests.try_recv() {
                Ok(request) => self.accept(request),
                Err(TryRecvError::Empty) => return false,
                Err(TryRecvError::Disconnected) => return true,
            }
        }
        false
    }

    fn accept(&mut self, request: Request) {
        fault::point(At::JournalThread);
        let Request::Change(change, confirm) = request else { return };
        if self.changes.len() >= QUEUE {
            self.condition.lose(FULL);
            confirm.send(Err(FULL.into())).ok();
            return;
        }
        self.changes.push(change);
        self.waiting.push(confirm);
    }

    fn write(&mut self) {
        self.condition.begin_write();
        fault::point(At::Journal);
        let now = now();
        let changed = self.file.check().and_then(|()| self.write_changes(now).map_err(|e| e.to_string()));
        for confirm in self.waiting.drain(..) {
            // A caller that timed out has dropped its receiver.
            confirm.send(changed.clone()).ok();
        }
        let saved = self.file.check().and_then(|()| self.write_unsaved(now).map_err(|e| e.to_string()));
        self.condition.end_write(changed.and(saved));
    }

    fn write_panicked(&mut self, why: &str) {
        let why = format!("the write panicked: {why}");
        for confirm in self.waiting.drain(..) {
            confirm.send(Err(why.clone())).ok();
        }
        self.condition.end_write(Err(why));
    }

    /// A confirmed change must survive a power cut: the commit is flushed to disk.
    fn write_changes(&mut self, now: Unix) -> rusqlite::Result<()> {
        if self.changes.is_empty() {
            return Ok(());
        }
        self.file.db.pragma_update(None, "synchronous", "FULL")?;
        let write = self.file.db.transaction()?;
        schema::advance_clock(&write, now)?;
        for change in &self.changes {
            match change {
                Change::Put(new) => {
                    rows::put_override(&write, new)?;
                    schema::set_clock(&write, new.created)?;
                }
                Change::Remove(id) => rows::remove_override(&write, *id)?,
            }
        }
        write.commit()?;
        self.changes.clear();
        Ok(())
    }

    /// A power cut may lose the latest verdicts and addresses, which the next probes and lookups restore, and the latest
    /// events: the commit does not wait for the disk, unless there are entries of the audit log.
    fn write_unsaved(&mut self, now: Unix) -> rusqlite::Result<()> {
        let mut taken = Taken::from(&self.unsaved);
        if !taken.records.is_empty() {
            save(&mut self.file.db, &taken.records, now)?;
            taken.records = Unsaved::default();
        }
        Ok(())
    }
}

/// What is being written. Dropped before that is done, also by a panic, it is to be written again.
struct Taken<'a> {
    records: Unsaved,
    whence: &'a Mutex<Unsaved>,
}

impl<'a> Taken<'a> {
    fn from(whence: &'a Mutex<Unsaved>) -> Self {
        let records = std::mem::take(&mut *whence.lock().unwrap_or_else(PoisonError::into_inner));
        Self { records, whence }
    }
}

impl Drop for Taken<'_> {
    fn drop(&mut self) {
        let records = std::mem::take(&mut self.records);
        if !records.is_empty() {
            self.whence.lock().unwrap_or_else(PoisonError::into_inner).put_back(records);
        }
    }
}

fn save(db: &mut Connection, unsaved: &Unsaved, now: Unix) -> rusqlite::Result<()> {
    // Who changed what must survive a power cut.
    let mode = if unsaved.audit.is_empty() { "NORMAL" } else { "FULL" };
    db.pragma_update(None, "synchronous", mode)?;
    let write = db.transaction()?;
    fault::point(At::JournalSave);
    schema::advance_clock(&write, now)?;
    if let Some(only) = &unsaved.only {
        for gone in checks(&write)?.difference(only) {
            rows::remove_verdict(&write, gone)?;
        }
    }
    unsaved.records.values().try_for_each(|record| rows::put_verdict(&write, record))?;
    if let Some(only) = &unsaved.only_hosts {
        for gone in hosts(&write)?.difference(only) {
            rows::remove_host(&write, gone)?;
        }
    }
    unsaved.hosts.iter().try_for_each(|(host, addresses)| rows::put_host(&write, host, addresses))?;
    unsaved.events.iter().try_for_each(|event| rows::put_event(&write, event))?;
    rows::remove_events_before(&write, unsaved.oldest_event)?;
    unsaved.audit.write(&write)?;
    write.commit()
}

/// The checks that have a row.
fn checks(db: &Connection) -> rusqlite::Result<BTreeSet<CheckId>> {
    let mut select = db.prepare("SELECT * FROM verdict")?;
    let rows = select.query_map([], |row| Ok(rows::read_verdict(row).ok().map(|record| record.check)))?;
    rows.filter_map(Result::transpose).collect()
}

/// The hosts that have a row.
fn hosts(db: &Connection) -> rusqlite::Result<BTreeSet<Name>> {
    let mut select = db.prepare("SELECT * FROM host")?;
    let rows = select.query_map([], |row| Ok(rows::read_host(row).ok().map(|(host, _)| host)))?;
    rows.filter_map(Result::transpose).collect()
}

/// What a panic says.
fn message(panic: &(dyn Any + Send)) -> String {
    let text = panic.downcast_ref::<&str>().map(|text| (*text).to_owned());
    text.or_else(|| panic.downcast_ref::<String>().cloned()).unwrap_or_else(|| "no message".into())
}

fn now() -> Unix {
    Unix(SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or(Duration::ZERO))
}
