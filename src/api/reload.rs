//! How the API and signals ask for a reload: the node, which owns the config, serves the requests.

use tokio::sync::{mpsc, oneshot};

use super::audit::{Made, signalled};
use super::dto::AuditResult;
use crate::engine::{AuditLog, Reloaded};
use crate::prepare::ReloadError;

/// Requests queued at most; further ones wait.
const RELOAD_QUEUE: usize = 16;

/// A request to read the config again, and where its outcome goes.
#[derive(Debug)]
pub struct ReloadRequest {
    /// The author that events name.
    pub by: String,
    /// Where the outcome goes.
    pub reply: oneshot::Sender<Result<Reloaded, ReloadError>>,
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
        let (reply, outcome) = oneshot::channel();
        self.0.send(ReloadRequest { by, reply }).await.map_err(|_| ReloadError::Stopped)?;
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
