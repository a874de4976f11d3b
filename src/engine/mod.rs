//! The single writer: observations and commands come in, snapshots go out.
//!
//! One task owns every verdict and override. Readers load the latest [`Snapshot`] from an
//! [`ArcSwap`] and are never waited for. What arrives together is published together.

#![allow(clippy::disallowed_methods, reason = "a shell: it reads the clocks that the core is given")]

mod clock;
mod command;
mod events;
mod hosts;
mod task;

use std::sync::Arc;

use arc_swap::ArcSwap;
use tokio::sync::{Notify, broadcast, mpsc, oneshot, watch};

pub use clock::Clock;
pub use command::{Applied, EventFeed, Reloaded};
pub use task::{Engine, Running};

use crate::health::State;
use crate::prepare::Prepared;
use crate::snapshot::Snapshot;
use crate::standing::Override;
use crate::state::{CheckStatus, Event, OverrideRequest, Rejection};
use command::Command;
use events::Transitions;

/// Commands waiting for the engine at most; further ones wait outside.
const COMMAND_QUEUE: usize = 64;

/// Events a slow reader may lag behind before it loses some.
const EVENT_QUEUE: usize = 1024;

/// What the rest of the program holds of the engine.
#[derive(Clone, Debug)]
pub struct Handle {
    /// The latest snapshot.
    pub snapshots: Arc<ArcSwap<Snapshot>>,
    /// Whether every check has a result.
    pub ready: watch::Receiver<bool>,
    /// Notified when a plan that a reload replaced is freed: a good time to give memory back.
    pub retired: Arc<Notify>,
    transitions: Arc<Transitions>,
    commands: mpsc::Sender<Command>,
    events: broadcast::Sender<Arc<Event>>,
}

/// The engine has stopped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stopped;

impl std::fmt::Display for Stopped {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("the engine has stopped")
    }
}

impl std::error::Error for Stopped {}

impl Handle {
    /// Sets an override; a rule may refuse it.
    ///
    /// # Errors
    /// `Stopped`, or within it why the override was refused.
    pub async fn put_override(
        &self,
        request: OverrideRequest,
    ) -> Result<Result<Applied, Rejection>, Stopped> {
        self.ask(|reply| Command::Override { request, reply }).await
    }

    /// Removes an override, as somebody asks; a rule may refuse it.
    ///
    /// # Errors
    /// `Stopped`, or within it why it was refused, or that there is no such override.
    pub async fn remove_override(
        &self,
        id: u64,
        by: String,
        override_safety: bool,
    ) -> Result<Result<Applied, Rejection>, Stopped> {
        self.ask(|reply| Command::Restore { id, by, override_safety, reply }).await
    }

    /// The overrides in force, oldest first.
    ///
    /// # Errors
    /// If the engine has stopped.
    pub async fn overrides(&self) -> Result<Vec<Override>, Stopped> {
        self.ask(|reply| Command::Overrides { reply }).await
    }

    /// What each check found, with its evidence: in order of region, endpoint, address and probe, then anchors.
    ///
    /// # Errors
    /// If the engine has stopped.
    pub async fn checks(&self) -> Result<Vec<CheckStatus>, Stopped> {
        self.ask(|reply| Command::Checks { reply }).await
    }

    /// The latest events, oldest first, and all that come after them.
    ///
    /// # Errors
    /// If the engine has stopped.
    pub async fn events(&self) -> Result<EventFeed, Stopped> {
        self.ask(|reply| Command::Events { reply }).await
    }

    /// Applies a prepared config in place of the present one, as `by` asked; `warnings` are reported with it.
    ///
    /// # Errors
    /// If the engine has stopped.
    pub async fn commit(
        &self,
        prepared: Prepared,
        warnings: Vec<String>,
        by: String,
    ) -> Result<Reloaded, Stopped> {
        let prepared = Box::new(prepared);
        self.ask(|reply| Command::Commit { prepared, warnings, by, reply }).await
    }

    /// Reports that a config, which `by` asked for, was not taken, and why.
    ///
    /// # Errors
    /// If the engine has stopped.
    pub async fn report_failed_reload(&self, why: String, by: String) -> Result<(), Stopped> {
        self.commands.send(Command::ReloadFailed { why, by }).await.map_err(|_| Stopped)
    }

    /// Everything that happens from now on.
    #[must_use]
    pub fn subscribe(&self) -> broadcast::Receiver<Arc<Event>> {
        self.events.subscribe()
    }

    /// How often each region came into each state since the start.
    #[must_use]
    pub fn transitions(&self) -> Vec<(String, State, u64)> {
        self.transitions.counts()
    }

    async fn ask<R>(&self, command: impl FnOnce(oneshot::Sender<R>) -> Command) -> Result<R, Stopped> {
        let (reply, answer) = oneshot::channel();
        self.commands.send(command(reply)).await.map_err(|_| Stopped)?;
        answer.await.map_err(|_| Stopped)
    }
}
