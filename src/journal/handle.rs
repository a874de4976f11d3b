//! The engine's handle to the journal.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::path::Path;
use std::sync::mpsc::{SyncSender, TrySendError, sync_channel};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use tokio::sync::{mpsc, oneshot};
use tokio::time::timeout;
use tracing::warn;

use super::audit::AuditSink;
use super::condition::{NOTICES, Notice, WriteCondition};
use super::open::{Found, Refusal, open};
use super::reader::Recalled;
use super::record::VerdictRecord;
use super::unsaved::Unsaved;
use super::worker::{Change, FULL, QUEUE, Request, Worker};
use crate::model::{CheckId, EventRecord, Name, Unix};
use crate::standing::Override;

/// How long a start waits for the journal.
const OPEN_WITHIN: Duration = Duration::from_secs(5);

/// How long the reply to a command waits for its write.
const CONFIRM_WITHIN: Duration = Duration::from_secs(5);

/// How long a stop waits for the writes that are queued.
const CLOSE_WITHIN: Duration = Duration::from_secs(5);

/// Takes the changes that must survive a restart. No call here waits for a disk.
#[derive(Debug)]
pub struct Journal {
    store: Store,
}

#[derive(Debug)]
enum Store {
    /// There is no file to write to; `why` is used in replies.
    Memory {
        why: String,
        /// The overrides in a file that cannot be written: they return at the next start.
        in_file: BTreeSet<u64>,
        /// Whether there should be one.
        is_wanted: bool,
    },
    Thread(Queue),
}

#[derive(Debug)]
struct Queue {
    /// Shared with nobody for longer than a call: the thread ends when this is gone.
    requests: Arc<SyncSender<Request>>,
    unsaved: Arc<Mutex<Unsaved>>,
    condition: Arc<WriteCondition>,
    notices: mpsc::Receiver<Notice>,
    /// Resolves when the thread ends.
    ended: oneshot::Receiver<()>,
}

/// An opened journal and its content.
#[derive(Debug)]
pub struct Opened {
    /// The handle.
    pub journal: Journal,
    /// What the last run left.
    pub recalled: Recalled,
    /// Alarms for operators, a sentence each.
    pub alarms: Vec<String>,
}

impl Opened {
    /// A journal without a file. `why` completes "this holds until the next restart only".
    #[must_use]
    pub fn in_memory(why: &str) -> Self {
        Self::recalled_in_memory(why, Recalled::default(), false)
    }

    fn recalled_in_memory(why: &str, recalled: Recalled, is_wanted: bool) -> Self {
        let why = format!("this holds until the next restart only: {why}");
        let in_file = recalled.overrides.iter().map(|it| it.id).collect();
        let journal = Journal { store: Store::Memory { why, in_file, is_wanted } };
        Self { journal, recalled, alarms: Vec::new() }
    }
}

impl Journal {
    /// Opens the journal of a state directory; both are created if missing. A journal that cannot be used does not
    /// stop the start: a damaged one is moved aside, and without any the state is kept in memory, with an alarm. Must
    /// be called within a tokio runtime.
    ///
    /// # Errors
    /// If this user cannot store anything in the state directory, or another node uses it, which are errors in the config.
    pub async fn open(state_dir: &Path, now: Unix) -> Result<Opened> {
        let (requests, queue) = sync_channel(QUEUE);
        let (notify, notices) = mpsc::channel(NOTICES);
        let unsaved: Arc<Mutex<Unsaved>> = Arc::default();
        let condition = Arc::new(WriteCondition::new(notify));
        let (result, opened) = oneshot::channel();
        let (end, ended) = oneshot::channel();
        let work = {
            let (dir, unsaved, condition) =
                (state_dir.to_owned(), Arc::clone(&unsaved), Arc::clone(&condition));
            move || {
                let (file, outcome) = match open(&dir, now) {
                    Ok(Found { file, recalled, alarms }) => (Some(file), Ok((recalled, alarms))),
                    Err(refusal) => (None, Err(refusal)),
                };
                // If opening took too long, the node has started without the journal.
                if let (Ok(()), Some(file)) = (result.send(outcome), file) {
                    Worker::new(file, queue, unsaved, condition).run();
                }
                drop(end);
            }
        };
        let thread = thread::Builder::new().name("journal".into());
        thread.spawn(work).context("cannot start the journal's thread")?;
        let (recalled, alarms) = match timeout(OPEN_WITHIN, opened).await {
            Ok(Ok(Ok(found))) => found,
            Ok(Ok(Err(Refusal::Misconfigured(e)))) => return Err(e),
            Ok(Ok(Err(Refusal::Unusable { why, recalled }))) => return Ok(unusable(&why, *recalled)),
            Ok(Err(_)) => bail!("the journal's thread has ended: please report this"),
            Err(_) => {
                let path = state_dir.display();
                let seconds = OPEN_WITHIN.as_secs();
                let why = format!("the journal in {path} could not be opened within {seconds} s");
                return Ok(unusable(&why, Recalled::default()));
            }
        };
        tokio::spawn(WriteCondition::watch_for_stalls(Arc::downgrade(&condition)));
        let requests = Arc::new(requests);
        let store = Store::Thread(Queue { requests, unsaved, condition, notices, ended });
        Ok(Opened { journal: Self { store }, recalled, alarms })
    }

    /// Writes an override in place of all others on its target.
    pub fn put(&self, new: Override) -> Confirmation {
        match &self.store {
            Store::Memory { why, .. } => Confirmation::NotDurable(why.clone()),
            Store::Thread(queue) => queue.change(Change::Put(new)),
        }
    }

    /// Removes an override; does nothing if there is none with this id.
    pub fn remove(&self, id: u64) -> Confirmation {
        match &self.store {
            Store::Memory { why, in_file, .. } if in_file.contains(&id) => {
                Confirmation::NotDurable(why.clone())
            }
            // Without a file it cannot return at the next start.
            Store::Memory { .. } => Confirmation::Durable,
            Store::Thread(queue) => queue.change(Change::Remove(id)),
        }
    }

    /// Saves verdicts that changed, each in place of the one saved before on its check. While the disk is busy, newer
    /// ones replace those that wait. Call it for changes of state and for the start and end of runs of successes, not
    /// for each probe.
    pub fn save(&self, records: Vec<VerdictRecord>) {
        if let Store::Thread(queue) = &self.store {
            queue.unsaved().save(records);
            queue.wake();
        }
    }

    /// Removes the verdicts on all other checks.
    pub fn keep_only(&self, checks: BTreeSet<CheckId>) {
        if let Store::Thread(queue) = &self.store {
            queue.unsaved().keep_only(checks);
            queue.wake();
        }
    }

    /// Saves the addresses of hosts, each in place of those saved before.
    pub fn save_hosts(&self, hosts: BTreeMap<Name, Vec<IpAddr>>) {
        if let Store::Thread(queue) = &self.store {
            queue.unsaved().save_hosts(hosts);
            queue.wake();
        }
    }

    /// Removes the addresses of all other hosts.
    pub fn keep_only_hosts(&self, hosts: BTreeSet<Name>) {
        if let Store::Thread(queue) = &self.store {
            queue.unsaved().keep_only_hosts(hosts);
            queue.wake();
        }
    }

    /// Records that the node is running, so the verdicts saved so far are still current. Call it every few seconds.
    pub fn beat(&self) {
        if let Store::Thread(queue) = &self.store {
            queue.unsaved().beat = true;
            queue.wake();
        }
    }

    /// Saves an event, and removes those before the id of the oldest that the engine keeps.
    pub fn record(&self, event: Arc<EventRecord>, oldest: u64) {
        if let Store::Thread(queue) = &self.store {
            queue.unsaved().record(event, oldest);
            queue.wake();
        }
    }

    /// Removes the events before the id of the oldest that the engine keeps.
    pub fn forget_events_before(&self, oldest: u64) {
        if let Store::Thread(queue) = &self.store {
            queue.unsaved().forget_events(oldest);
            queue.wake();
        }
    }

    /// Whether there is no file to write to though there should be one.
    #[must_use]
    pub fn is_unusable(&self) -> bool {
        matches!(self.store, Store::Memory { is_wanted: true, .. })
    }

    /// What takes the entries of the audit log, for those that make them.
    #[must_use]
    pub fn audit(&self) -> AuditSink {
        match &self.store {
            Store::Memory { .. } => AuditSink::default(),
            Store::Thread(Queue { requests, unsaved, condition, .. }) => {
                AuditSink::new(requests, Arc::clone(unsaved), Arc::clone(condition))
            }
        }
    }

    /// Waits until writes begin to fail or work again. Dropping the future loses nothing.
    pub async fn notice(&mut self) -> Notice {
        if let Store::Thread(queue) = &mut self.store
            && let Some(notice) = queue.notices.recv().await
        {
            return notice;
        }
        std::future::pending().await
    }

    /// Writes what is queued and ends the thread, but gives up if the disk takes too long.
    pub async fn close(self) {
        let Store::Thread(Queue { requests, ended, .. }) = self.store else { return };
        // The thread writes the rest, then ends because the sender is gone.
        drop(requests);
        if timeout(CLOSE_WITHIN, ended).await.is_err() {
            let seconds = CLOSE_WITHIN.as_secs();
            warn!("the journal is not closed within {seconds} s: the latest changes may be lost");
        }
    }
}

/// Starts without a file, after one could not be used.
fn unusable(why: &str, recalled: Recalled) -> Opened {
    let alarm = match recalled.overrides.len() {
        0 => format!(
            "{why}; whatever it holds has no effect, and changes are kept in memory until the next start"
        ),
        count => {
            format!("{why}; its {count} overrides apply, and changes are kept in memory until the next start")
        }
    };
    let alarms = [vec![alarm], recalled.unreadable.clone()].concat();
    Opened { alarms, ..Opened::recalled_in_memory(why, recalled, true) }
}

impl Queue {
    fn change(&self, change: Change) -> Confirmation {
        let (confirm, confirmed) = oneshot::channel();
        let why = match self.requests.try_send(Request::Change(change, confirm)) {
            Ok(()) => return Confirmation::Pending(confirmed),
            Err(TrySendError::Full(_)) => FULL,
            Err(TrySendError::Disconnected(_)) => THREAD_GONE,
        };
        self.condition.lose(why);
        Confirmation::NotDurable(not_durable(why))
    }

    fn unsaved(&self) -> MutexGuard<'_, Unsaved> {
        self.unsaved.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn wake(&self) {
        match self.requests.try_send(Request::Unsaved) {
            // A full queue keeps the thread awake.
            Ok(()) | Err(TrySendError::Full(_)) => {}
            Err(TrySendError::Disconnected(_)) => self.condition.lose(THREAD_GONE),
        }
    }
}

pub(super) const THREAD_GONE: &str = "the journal's thread has ended";

fn not_durable(why: &str) -> String {
    format!("not durable yet: {why}")
}

/// Whether a change is durable.
#[derive(Debug)]
pub enum Confirmation {
    /// It survives a restart.
    Durable,
    /// It may not, for this reason.
    NotDurable(String),
    /// The writing thread will report it.
    Pending(oneshot::Receiver<Result<(), String>>),
}

impl Confirmation {
    /// Waits for the write, with a bound. Returns why the change may not survive a restart, `None` if it does.
    pub async fn not_durable(self) -> Option<String> {
        let confirmed = match self {
            Self::Durable => return None,
            Self::NotDurable(why) => return Some(why),
            Self::Pending(confirmed) => confirmed,
        };
        match timeout(CONFIRM_WITHIN, confirmed).await {
            Ok(Ok(Ok(()))) => None,
            Ok(Ok(Err(why))) => Some(not_durable(&format!("the journal cannot be written, retrying: {why}"))),
            Ok(Err(_)) => Some(not_durable(THREAD_GONE)),
            Err(_) => {
                let seconds = CONFIRM_WITHIN.as_secs();
                Some(not_durable(&format!("the journal has not confirmed the write within {seconds} s")))
            }
        }
    }
}
