//! How the API and signals ask for a reload: the node, which owns the config, serves the requests.

use std::path::PathBuf;

use tokio::sync::{mpsc, oneshot};

use super::audit::{Made, signalled};
use super::dto::AuditResult;
use crate::engine::{AuditLog, Reloaded};
use crate::prepare::{Prepared, ReloadError};

/// Requests queued at most; further ones wait.
const RELOAD_QUEUE: usize = 16;

/// A request to read a config, and where its outcome goes.
#[derive(Debug)]
pub enum ReloadRequest {
    /// Reads the node's config again and applies it.
    Apply {
        /// The author that events name.
        by: String,
        /// Where the outcome goes.
        reply: oneshot::Sender<Result<Reloaded, ReloadError>>,
    },
    /// Prepares another config as a reload would, but does not apply it.
    Prepare {
        /// The config.
        path: PathBuf,
        /// Where the outcome goes.
        reply: oneshot::Sender<Result<Draft, ReloadError>>,
    },
}

/// A config that a reload could apply.
#[derive(Debug)]
pub struct Draft {
    /// The config.
    pub prepared: Prepared,
    /// What a reload would warn of, a sentence each.
    pub warnings: Vec<String>,
}

/// Asks the node to reload.
#[derive(Clone, Debug)]
pub struct Reloads(mpsc::Sender<ReloadRequest>);

impl Reloads {
    /// The side that asks, and the requests for the side that reloads.
    #[must_use]
    pub fn new() -> (Self, mpsc::Receiver<ReloadRequest>) {
        let (sender, requests) = mpsc::channel(RELOAD_QUEUE);
        (Self(sender), requests)
    }

    /// Reads the config again, as `by` asks. A bad one changes nothing.
    ///
    /// # Errors
    /// Everything that is wrong with the config, or that the node is stopping.
    pub async fn reload(&self, by: String) -> Result<Reloaded, ReloadError> {
        self.ask(|reply| ReloadRequest::Apply { by, reply }).await
    }

    /// Prepares a config as a reload would; nothing changes.
    ///
    /// # Errors
    /// Everything that is wrong with the config, or that the node is stopping.
    pub async fn prepare(&self, path: PathBuf) -> Result<Draft, ReloadError> {
        self.ask(|reply| ReloadRequest::Prepare { path, reply }).await
    }

    async fn ask<R>(
        &self,
        request: impl FnOnce(oneshot::Sender<Result<R, ReloadError>>) -> ReloadRequest,
    ) -> Result<R, ReloadError> {
        let (reply, outcome) = oneshot::channel();
        self.0.send(request(reply)).await.map_err(|_| ReloadError::Stopped)?;
        outcome.await.unwrap_or(Err(ReloadError::Stopped))
    }
}

/// Reads the config again because of SIGHUP, and records that. Events report the outcome, too.
pub async fn reload_by_signal(reloads: &Reloads, log: &AuditLog) {
    log.record(match reloads.reload("SIGHUP".into()).await {
        Ok(Reloaded { before, after, .. }) => signalled(Some(Made::reloaded(&before, &after)), None),
        Err(why @ ReloadError::Refused(_)) => signalled(None, Some((AuditResult::Refused, why.to_string()))),
        Err(why) => signalled(None, Some((AuditResult::Failed, why.to_string()))),
    });
}
