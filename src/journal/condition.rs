//! Whether the journal can be written, and notices when that changes.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::{mpsc, watch};
use tokio::time::timeout;

/// How long a write may take before it counts as stalled.
const STALLED_AFTER: Duration = Duration::from_secs(5);

/// The most notices that wait for the engine. They alternate, at the pace of retries.
pub(super) const NOTICES: usize = 16;

/// A change in whether the journal can be written; a sentence for operators.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Notice {
    /// Writes have started to fail.
    Failing(String),
    /// Writes succeed again.
    Recovered(String),
}

/// Reports the first failure and the recovery from it, not each failed write.
#[derive(Debug)]
pub(super) struct WriteCondition {
    state: Mutex<State>,
    notices: mpsc::Sender<Notice>,
    /// Odd while a write is in progress.
    writes: watch::Sender<u64>,
}

#[derive(Debug, Default)]
struct State {
    is_failing: bool,
    /// The number of changes dropped because the queue was full: they will never be in the file.
    lost: u64,
}

impl WriteCondition {
    pub(super) fn new(notices: mpsc::Sender<Notice>) -> Self {
        Self { state: Mutex::default(), notices, writes: watch::Sender::new(0) }
    }

    pub(super) fn begin_write(&self) {
        self.writes.send_modify(|writes| *writes += 1);
    }

    pub(super) fn end_write(&self, outcome: Result<(), String>) {
        let mut state = self.lock();
        // Under the lock, so that the watch for stalls cannot report one that is over.
        self.writes.send_modify(|writes| *writes += 1);
        match outcome {
            Ok(()) => self.recovered(&mut state),
            Err(why) => self.failing(&mut state, format!("the journal cannot be written, retrying: {why}")),
        }
    }

    /// Records that a change was dropped, and why.
    pub(super) fn lose(&self, why: &str) {
        let mut state = self.lock();
        state.lost += 1;
        self.failing(&mut state, format!("changes are not written to the journal: {why}"));
    }

    /// Reports each write that takes too long while it is still in progress, as long as there is a writer.
    pub(super) async fn watch_for_stalls(condition: std::sync::Weak<Self>) {
        let Some(mut writes) = condition.upgrade().map(|it| it.writes.subscribe()) else { return };
        loop {
            let Ok(current) = writes.wait_for(|writes| writes % 2 == 1).await.map(|it| *it) else { return };
            if timeout(STALLED_AFTER, writes.wait_for(|now| *now != current)).await.is_ok() {
                continue;
            }
            let Some(condition) = condition.upgrade() else { return };
            condition.stalled(current);
            drop(condition);
            if writes.wait_for(|now| *now != current).await.is_err() {
                return;
            }
        }
    }

    fn stalled(&self, write: u64) {
        let mut state = self.lock();
        if *self.writes.borrow() == write {
            let seconds = STALLED_AFTER.as_secs();
            self.failing(
                &mut state,
                format!("the journal's disk stalls: a write has taken {seconds} s and goes on"),
            );
        }
    }

    fn failing(&self, state: &mut State, why: String) {
        if !state.is_failing {
            // If the queue is full, it is reported with the next failure.
            state.is_failing = self.notices.try_send(Notice::Failing(why)).is_ok();
        }
    }

    fn recovered(&self, state: &mut State) {
        if !state.is_failing {
            return;
        }
        let message = match state.lost {
            0 => "the journal is written again and complete".to_owned(),
            lost => format!("the journal is written again; changes lost because its queue was full: {lost}"),
        };
        if self.notices.try_send(Notice::Recovered(message)).is_ok() {
            *state = State::default();
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
