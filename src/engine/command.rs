//! Commands to the engine.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::oneshot;

use crate::journal::Confirmation;
use crate::model::{Challenge, Now, Proof};
use crate::prepare::Prepared;
use crate::snapshot::Plan;
use crate::standing::Override;
use crate::state::{
    CheckStatus, EventKind, HostStatus, OverrideChange, OverrideRequest, Preview, Rejection, State,
};

/// A challenge of an ACME server that is to be shown.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ShowChallenge {
    /// What is shown.
    pub proof: Proof,
    /// Who asks for it.
    pub by: String,
    /// For how long.
    pub lasts: Duration,
}

/// A request to the engine, and where to send the reply.
pub(super) enum Command {
    Override { request: OverrideRequest, reply: oneshot::Sender<Change> },
    Restore { id: u64, by: String, override_safety: bool, reply: oneshot::Sender<Change> },
    Preview { change: OverrideChange, reply: oneshot::Sender<Result<Previewed, Rejection>> },
    Copy { reply: oneshot::Sender<Copied> },
    Overrides { reply: oneshot::Sender<Vec<Override>> },
    Checks { reply: oneshot::Sender<Vec<CheckStatus>> },
    Hosts { reply: oneshot::Sender<Vec<HostStatus>> },
    Alarms { reply: oneshot::Sender<Vec<String>> },
    Commit { prepared: Box<Prepared>, warnings: Vec<String>, by: String, reply: oneshot::Sender<Reloaded> },
    ShowChallenge { request: ShowChallenge, reply: oneshot::Sender<Result<Challenge, Rejection>> },
    HideChallenge { proof: Proof, reply: oneshot::Sender<()> },
    Report { kind: EventKind, reply: oneshot::Sender<()> },
    Stop { reply: oneshot::Sender<()> },
}

/// A change and its write to the journal, or why it was refused.
pub(super) type Change = Result<(Applied, Confirmation), Rejection>;

impl Command {
    /// Whether it would change something, or take long, for a caller that no longer waits and was told so.
    pub(super) fn is_abandoned(&self) -> bool {
        match self {
            Self::Override { reply, .. } | Self::Restore { reply, .. } => reply.is_closed(),
            Self::ShowChallenge { reply, .. } => reply.is_closed(),
            Self::Preview { reply, .. } => reply.is_closed(),
            Self::Copy { reply } => reply.is_closed(),
            _ => false,
        }
    }
}

/// An override that was set or removed.
#[derive(Clone, Debug, PartialEq)]
pub struct Applied {
    /// The override.
    pub subject: Override,
    /// The override of the same target that it replaced.
    pub replaced: Option<Override>,
    /// The first epoch with the change.
    pub epoch: u64,
    /// Why it has no effect right now, as a clause; `None` if it may have one.
    pub no_effect: Option<String>,
    /// Why it could not be saved; `None` if it was. It applies regardless, until the next restart.
    pub not_durable: Option<String>,
}

/// What a change of overrides would do, and the plan that both of its standings belong to.
#[derive(Clone, Debug)]
pub struct Previewed {
    /// The compiled config.
    pub plan: Arc<Plan>,
    /// The epoch that the change would apply to.
    pub epoch: u64,
    /// What it would do.
    pub preview: Preview,
}

/// A copy of the engine's state, and what belongs to it.
#[derive(Debug)]
pub struct Copied {
    /// The compiled config.
    pub plan: Arc<Plan>,
    /// The epoch of the standing.
    pub epoch: u64,
    /// The state.
    pub state: State,
    /// The moment of the copy.
    pub now: Now,
}

/// A config that was reloaded and applied.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reloaded {
    /// The first epoch with the new config.
    pub epoch: u64,
    /// Probable mistakes in the config, and settings that need a restart to change; a sentence each.
    pub warnings: Vec<String>,
    /// What was in force before.
    pub before: InForce,
    /// What is in force since.
    pub after: InForce,
}

/// A config in force.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct InForce {
    /// An epoch with it.
    pub epoch: u64,
    /// Changes whenever the config does: see [`Prepared::digest`].
    pub digest: Arc<str>,
}
