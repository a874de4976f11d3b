//! What the engine is asked to do.

use std::sync::Arc;

use tokio::sync::{broadcast, oneshot};

use crate::prepare::Prepared;
use crate::standing::Override;
use crate::state::{CheckStatus, Event, OverrideRequest, Rejection};

/// One request to the engine, and where its answer goes.
pub(super) enum Command {
    Override { request: OverrideRequest, reply: oneshot::Sender<Result<Applied, Rejection>> },
    Restore { id: u64, by: String, override_safety: bool, reply: oneshot::Sender<Result<Applied, Rejection>> },
    Overrides { reply: oneshot::Sender<Vec<Override>> },
    Checks { reply: oneshot::Sender<Vec<CheckStatus>> },
    Events { reply: oneshot::Sender<EventFeed> },
    Commit { prepared: Box<Prepared>, warnings: Vec<String>, by: String, reply: oneshot::Sender<Reloaded> },
    ReloadFailed { why: String, by: String },
    Stop { reply: oneshot::Sender<()> },
}

/// The events kept and those to come, without a gap between them.
#[derive(Debug)]
pub struct EventFeed {
    /// Oldest first.
    pub kept: Vec<Arc<Event>>,
    /// What comes after them.
    pub live: broadcast::Receiver<Arc<Event>>,
}

/// An override that was set or removed.
#[derive(Clone, Debug, PartialEq)]
pub struct Applied {
    /// The override.
    pub subject: Override,
    /// The override of the same target that it replaced.
    pub replaced: Option<Override>,
    /// The epoch from which on the change applies.
    pub epoch: u64,
    /// Why it changes nothing now, if it does not.
    pub no_effect: Option<String>,
    /// Why it could not be made durable, if it could not. It applies all the same, until the next restart.
    pub not_durable: Option<String>,
}

/// A config that was read again and applied.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reloaded {
    /// The epoch from which on it applies.
    pub epoch: u64,
    /// What works, but probably not as meant, and what a running node cannot change; a sentence each.
    pub warnings: Vec<String>,
}
