//! The single writer: observations and commands come in, snapshots go out.
//!
//! One task owns every verdict and override. Readers load the latest [`Snapshot`] from an
//! [`ArcSwap`] and are never waited for. What arrives together is published together.

mod checks;
mod command;
mod event;
mod hosts;
mod index;
mod prepare;
mod task;
mod unanswered;
mod writer;

use std::path::PathBuf;
use std::sync::Arc;

use arc_swap::ArcSwap;
use tokio::sync::{Notify, broadcast, mpsc, oneshot, watch};

pub use checks::CheckStatus;
pub use command::{Applied, EventFeed, OverrideRequest, Rejection, Reloaded};
pub use event::{Event, EventKind, Subject};
pub use index::KeptIndex;
pub use prepare::{BUILTIN, PrepareError, Prepared, index, prepare, prepare_after};
pub use task::{Engine, Running};
pub use writer::Writer;

use crate::config::Token;
use crate::health::State;
use crate::snapshot::Snapshot;
use crate::standing::Override;
use command::Command;
use event::Transitions;

/// Commands waiting for the engine at most; further ones wait outside.
const COMMAND_QUEUE: usize = 64;

/// Events a slow reader may lag behind before it loses some.
const EVENT_QUEUE: usize = 1024;

/// What the rest of the program holds of the engine.
#[derive(Clone, Debug)]
pub struct Handle {
    /// The latest snapshot.
    pub snapshots: Arc<ArcSwap<Snapshot>>,
    /// Whether every target has been looked at once.
    pub ready: watch::Receiver<bool>,
    /// Told when a plan that a reload has replaced is gone: a good time to give memory back.
    pub retired: Arc<Notify>,
    /// Who may change something over TCP, as the config in force has it.
    pub tokens: watch::Receiver<Vec<Token>>,
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
    /// Says something about a target; a rule may refuse it.
    ///
    /// # Errors
    /// `Stopped`, or within it why the override was not taken.
    pub async fn put_override(
        &self,
        request: OverrideRequest,
    ) -> Result<Result<Applied, Rejection>, Stopped> {
        self.ask(|reply| Command::Override { request, reply }).await
    }

    /// Takes an override back, as somebody asks; `None` if there is none with this id.
    ///
    /// # Errors
    /// If the engine has stopped.
    pub async fn remove_override(&self, id: u64, by: String) -> Result<Option<Applied>, Stopped> {
        self.ask(|reply| Command::Restore { id, by, reply }).await
    }

    /// The overrides in force, oldest first.
    ///
    /// # Errors
    /// If the engine has stopped.
    pub async fn overrides(&self) -> Result<Vec<Override>, Stopped> {
        self.ask(|reply| Command::Overrides { reply }).await
    }

    /// What each check found, with its evidence, in order of region, endpoint, address and probe.
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

    /// Reads the config again, as somebody asks. A bad one changes nothing.
    ///
    /// # Errors
    /// `Stopped`, or within it everything that is wrong with the config.
    pub async fn reload(&self, by: String) -> Result<Result<Reloaded, PrepareError>, Stopped> {
        self.ask(|reply| Command::Reload { by, reply }).await
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

/// Where a config is read from, at start and at every reload.
#[derive(Clone, Debug)]
pub enum Origin {
    /// A file.
    File(PathBuf),
    /// Text that the program brings along (the demo), with the folder its relative paths start from.
    Text {
        /// The config.
        toml: Arc<str>,
        /// What stands beside it: file name and content.
        files: Arc<[(PathBuf, Vec<u8>)]>,
    },
}
