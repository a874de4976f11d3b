//! The single writer: observations and commands come in, snapshots go out.
//!
//! One task owns every verdict and override. Readers load the latest [`Snapshot`] from an [`ArcSwap`] and never block
//! the task. What arrives together is published together.
//!
//! The task has a thread to itself, and the probes and lookups have a runtime of their own: neither an API call nor a
//! DNS client nor a probe whose answer takes long to evaluate can keep the engine from its work, and no API call or
//! client can keep probes from theirs.

mod audit;
mod command;
mod discovery;
mod events;
mod history;
mod hosts;
mod queues;
mod recalled;
mod sources;
mod task;

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use tokio::sync::{Notify, broadcast, mpsc, oneshot, watch};
use tokio::time::timeout;

pub use audit::AuditLog;
pub use command::{Applied, Copied, InForce, Previewed, Reloaded, ShowChallenge};
pub use events::ReloadCounts;
pub use history::{History, Next};
pub use recalled::without_target;
pub use task::Engine;

use crate::health::{FailingRequests, State};
use crate::model::{Challenge, Proof};
use crate::prepare::Prepared;
use crate::snapshot::Snapshot;
use crate::standing::Override;
use crate::state::{CheckStatus, Event, EventKind, HostStatus, OverrideChange, OverrideRequest, Rejection};
use crate::supervise::Supervisor;
use command::{Change, Command};
use events::Counts;

/// Capacity of the command queue; senders of further commands wait.
const COMMAND_QUEUE: usize = 64;

/// How many events a slow subscriber of this process, such as the demo, may lag behind before it misses some.
const EVENT_QUEUE: usize = 1024;

/// The interface of the engine to the rest of the program.
#[derive(Clone, Debug)]
pub struct Handle {
    /// The latest snapshot.
    pub snapshots: Arc<ArcSwap<Snapshot>>,
    /// Whether the node is ready: every check has a result and every host has been looked up, or the wait for them is
    /// over.
    pub ready: watch::Receiver<bool>,
    /// Notified when a plan that a reload replaced has been freed: a good time to return memory to the system.
    pub retired: Arc<Notify>,
    /// Whether all parts of the node run; answers without the engine.
    pub supervisor: Supervisor,
    /// The latest events; answers without the engine.
    pub history: Arc<History>,
    /// Who asked for which change; answers without the engine.
    pub audit: Arc<AuditLog>,
    /// Takes reports about addresses whose requests fail.
    pub failing: mpsc::Sender<FailingRequests>,
    counts: Arc<Counts>,
    commands: mpsc::Sender<Command>,
    events: broadcast::Sender<Arc<Event>>,
}

/// A running engine.
#[derive(Debug)]
pub struct EngineTask {
    /// Resolves when the thread ends.
    ended: oneshot::Receiver<()>,
    commands: mpsc::Sender<Command>,
}

impl EngineTask {
    /// Stops the probes and the engine. Published snapshots stay readable.
    pub async fn stop(self) {
        let (reply, stopped) = oneshot::channel();
        if self.commands.send(Command::Stop { reply }).await.is_ok() {
            stopped.await.ok();
        }
        self.ended.await.ok();
    }
}

/// How long a request waits for the engine, which answers within milliseconds unless it has stalled.
const ANSWER_WITHIN: Duration = Duration::from_secs(3);

/// Why there is no answer of the engine.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NoAnswer {
    /// It has stopped.
    Stopped,
    /// It has not answered in time, and drops the request.
    Late,
}

impl std::fmt::Display for NoAnswer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Stopped => f.write_str("the engine has stopped"),
            Self::Late => {
                let seconds = ANSWER_WITHIN.as_secs();
                write!(f, "the engine has not answered within {seconds} s; see /livez")
            }
        }
    }
}

impl std::error::Error for NoAnswer {}

impl Handle {
    /// Sets an override; a safety rule may refuse it. Waits until it is durable, with a bound.
    ///
    /// # Errors
    /// [`NoAnswer`] of the engine; the inner [`Rejection`] if the override was refused.
    pub async fn put_override(
        &self,
        request: OverrideRequest,
    ) -> Result<Result<Applied, Rejection>, NoAnswer> {
        Ok(when_durable(self.ask(|reply| Command::Override { request, reply }).await?).await)
    }

    /// Removes an override; `by` is who asked for it. A safety rule may refuse it.
    ///
    /// # Errors
    /// [`NoAnswer`] of the engine; the inner [`Rejection`] if the removal was refused or there is no such override.
    pub async fn remove_override(
        &self,
        id: u64,
        by: String,
        override_safety: bool,
    ) -> Result<Result<Applied, Rejection>, NoAnswer> {
        let change = self.ask(|reply| Command::Restore { id, by, override_safety, reply }).await?;
        Ok(when_durable(change).await)
    }

    /// What a change of overrides would do; it is not made.
    ///
    /// # Errors
    /// [`NoAnswer`] of the engine; the inner [`Rejection`] if the change makes no sense.
    pub async fn preview(&self, change: OverrideChange) -> Result<Result<Previewed, Rejection>, NoAnswer> {
        self.ask(|reply| Command::Preview { change, reply }).await
    }

    /// A copy of the state, to try what would happen.
    ///
    /// # Errors
    /// If the engine does not answer.
    pub async fn copy(&self) -> Result<Copied, NoAnswer> {
        self.ask(|reply| Command::Copy { reply }).await
    }

    /// The active overrides, oldest first.
    ///
    /// # Errors
    /// If the engine does not answer.
    pub async fn overrides(&self) -> Result<Vec<Override>, NoAnswer> {
        self.ask(|reply| Command::Overrides { reply }).await
    }

    /// The status of each check with its evidence, sorted by region, endpoint, address and probe, then anchors.
    ///
    /// # Errors
    /// If the engine does not answer.
    pub async fn checks(&self) -> Result<Vec<CheckStatus>, NoAnswer> {
        self.ask(|reply| Command::Checks { reply }).await
    }

    /// The status of each host that is resolved, in order of name.
    ///
    /// # Errors
    /// If the engine does not answer.
    pub async fn hosts(&self) -> Result<Vec<HostStatus>, NoAnswer> {
        self.ask(|reply| Command::Hosts { reply }).await
    }

    /// What needs an operator's attention besides what the snapshot, checks and hosts show: the journal, and overrides
    /// without a target; a sentence each.
    ///
    /// # Errors
    /// If the engine does not answer.
    pub async fn alarms(&self) -> Result<Vec<String>, NoAnswer> {
        self.ask(|reply| Command::Alarms { reply }).await
    }

    /// Replaces the current config by a prepared one. `by` is who asked for it; `warnings` are reported with it. Waits as
    /// long as the engine runs: a config that it has applied must be applied everywhere.
    ///
    /// # Errors
    /// [`NoAnswer::Stopped`]
    pub async fn commit(
        &self,
        prepared: Prepared,
        warnings: Vec<String>,
        by: String,
    ) -> Result<Reloaded, NoAnswer> {
        let prepared = Box::new(prepared);
        self.wait(|reply| Command::Commit { prepared, warnings, by, reply }).await
    }

    /// Emits the event that a reload, which `by` asked for, failed, and why. Waits until it is there.
    ///
    /// # Errors
    /// [`NoAnswer::Stopped`]
    pub async fn report_failed_reload(&self, why: String, by: String) -> Result<(), NoAnswer> {
        self.report(EventKind::ReloadFailed { why, by }).await
    }

    /// Emits an event of another part of the node. Waits until it is there.
    ///
    /// # Errors
    /// [`NoAnswer::Stopped`]
    pub async fn report(&self, kind: EventKind) -> Result<(), NoAnswer> {
        self.wait(|reply| Command::Report { kind, reply }).await
    }

    /// Emits the event that the node stops, and who asked for it, while there are still readers of events.
    ///
    /// # Errors
    /// If the engine does not answer.
    pub async fn report_stop(&self, by: &str) -> Result<(), NoAnswer> {
        let kind = EventKind::Stopped { by: by.to_owned() };
        self.ask(|reply| Command::Report { kind, reply }).await
    }

    /// Shows a challenge of an ACME server, to whoever asks from then on.
    ///
    /// # Errors
    /// [`NoAnswer`] of the engine; the inner [`Rejection`] if no zone can hold it, or there are too many.
    pub async fn show_challenge(
        &self,
        request: ShowChallenge,
    ) -> Result<Result<Challenge, Rejection>, NoAnswer> {
        self.ask(|reply| Command::ShowChallenge { request, reply }).await
    }

    /// Shows a challenge no longer.
    ///
    /// # Errors
    /// If the engine does not answer.
    pub async fn hide_challenge(&self, proof: Proof) -> Result<(), NoAnswer> {
        self.ask(|reply| Command::HideChallenge { proof, reply }).await
    }

    /// A receiver of all events from now on.
    #[must_use]
    pub fn subscribe(&self) -> broadcast::Receiver<Arc<Event>> {
        self.events.subscribe()
    }

    /// How often each region has entered each state since the start.
    #[must_use]
    pub fn transitions(&self) -> Vec<(String, State, u64)> {
        self.counts.transitions()
    }

    /// How often each address of a backend was ejected since the start, by pool and address.
    #[must_use]
    pub fn ejections(&self) -> Vec<(String, SocketAddr, u64)> {
        self.counts.ejections()
    }

    /// How often the config was read again.
    #[must_use]
    pub fn reloads(&self) -> ReloadCounts {
        self.counts.reloads()
    }

    /// Whether changes cannot be written to the journal that the config asks for.
    #[must_use]
    pub fn journal_fails(&self) -> bool {
        self.counts.journal_fails()
    }

    async fn ask<R>(&self, command: impl FnOnce(oneshot::Sender<R>) -> Command) -> Result<R, NoAnswer> {
        timeout(ANSWER_WITHIN, self.wait(command)).await.unwrap_or(Err(NoAnswer::Late))
    }

    async fn wait<R>(&self, command: impl FnOnce(oneshot::Sender<R>) -> Command) -> Result<R, NoAnswer> {
        let (reply, answer) = oneshot::channel();
        self.commands.send(command(reply)).await.map_err(|_| NoAnswer::Stopped)?;
        answer.await.map_err(|_| NoAnswer::Stopped)
    }
}

/// Waits until the journal has confirmed a change, or has taken too long.
async fn when_durable(change: Change) -> Result<Applied, Rejection> {
    let (applied, written) = change?;
    Ok(Applied { not_durable: written.not_durable().await, ..applied })
}
