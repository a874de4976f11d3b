//! Parts of the process that end or stall are noticed.
//!
//! Each part that the node cannot do without holds a [`Part`] for as long as it runs. A part that ends while the node is
//! not stopping, above all by a panic, is reported to the node, which ends the process: systemd starts a new one that
//! works, whereas a process without its engine would answer from its last snapshot forever. Parts that go round a loop
//! beat in it, and [`Supervisor::failure`] names the one that has not for too long. Nothing here needs a runtime, so the
//! answer does not depend on what it is about.

#![allow(clippy::disallowed_methods, reason = "heartbeats are measured in real time")]

pub mod fault;
mod part;

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::{Duration, Instant};

use tokio::sync::watch;

use part::Beat;
pub use part::Part;

/// How long a part may be without a heartbeat before it counts as stalled: several times the interval of the slowest,
/// [`BEAT`], so that a busy machine is not taken for a stall.
pub const STALLED_AFTER: Duration = Duration::from_secs(5);

/// How often parts beat at least.
pub const BEAT: Duration = Duration::from_secs(1);

/// Knows the parts of one node.
#[derive(Clone, Debug)]
pub struct Supervisor(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    start: Instant,
    beats: Mutex<Vec<Weak<Beat>>>,
    /// A sentence about the first part that ended.
    ended: watch::Sender<Option<String>>,
    is_stopping: AtomicBool,
}

impl Default for Supervisor {
    fn default() -> Self {
        Self(Arc::new(Shared {
            start: Instant::now(),
            beats: Mutex::default(),
            ended: watch::Sender::new(None),
            is_stopping: AtomicBool::new(false),
        }))
    }
}

impl Supervisor {
    /// A part that must run until the node stops; `name` is a noun with its article.
    #[must_use]
    pub fn part(&self, name: impl Into<String>) -> Part {
        Part::new(self, name.into(), None)
    }

    /// The same for a part that also beats, at least every [`BEAT`].
    #[must_use]
    pub fn beating_part(&self, name: impl Into<String>) -> Part {
        let name = name.into();
        let beat = Arc::new(Beat::new(name.clone(), self.uptime()));
        let mut beats = self.beats();
        beats.retain(|beat| beat.strong_count() > 0);
        beats.push(Arc::downgrade(&beat));
        Part::new(self, name, Some(beat))
    }

    /// What is wrong: a sentence about a part that has ended or stalled; `None` if all run.
    #[must_use]
    pub fn failure(&self) -> Option<String> {
        if let Some(why) = &*self.0.ended.borrow() {
            return Some(why.clone());
        }
        let now = self.uptime();
        self.beats().iter().filter_map(Weak::upgrade).find_map(|beat| beat.stall(now))
    }

    /// Waits until a part ends. Returns a sentence about it.
    pub async fn ended(&self) -> String {
        let mut ended = self.0.ended.subscribe();
        let ended = ended.wait_for(Option::is_some).await;
        // The sender is as old as this.
        ended.ok().and_then(|why| why.clone()).unwrap_or_default()
    }

    /// From now on parts may end.
    pub fn stop(&self) {
        self.0.is_stopping.store(true, Ordering::Relaxed);
    }

    /// Whether parts may end.
    #[must_use]
    pub fn is_stopping(&self) -> bool {
        self.0.is_stopping.load(Ordering::Relaxed)
    }

    fn report(&self, sentence: String) {
        if !self.is_stopping() {
            self.0.ended.send_if_modified(|ended| {
                let is_first = ended.is_none();
                ended.get_or_insert(sentence);
                is_first
            });
        }
    }

    /// The time since this was made.
    fn uptime(&self) -> Duration {
        self.0.start.elapsed()
    }

    fn beats(&self) -> MutexGuard<'_, Vec<Weak<Beat>>> {
        self.0.beats.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
