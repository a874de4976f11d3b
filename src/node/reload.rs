//! Reload: everything is prepared first, then committed everywhere by steps that cannot fail.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{mpsc, watch};
use tokio::task::JoinHandle;

use super::files;
use crate::acme::Keeper;
use crate::api::{Draft, Policy, ReloadRequest};
use crate::config::{AtStart, Diagnostic, Diagnostics};
use crate::engine::{Handle, Reloaded};
use crate::model::QueryLogTarget;
use crate::net::limits::FdBudget;
use crate::net::record_log::unwritable;
use crate::prepare::{Acme, KeptIndex, Origin, Prepared, ReloadError, prepare_after};
use crate::snapshot::Plan;
use crate::supervise::Part;
use crate::supervise::fault::{self, At};

/// A config of a million names takes seconds. A file system that does not answer must not keep the operator waiting.
pub(super) const PREPARE_WITHIN: Duration = Duration::from_secs(120);

/// How long the file of a log may take to open.
const OPEN_WITHIN: Duration = Duration::from_secs(2);

/// Owns the origin of the config and what a reload needs of the config before.
#[derive(Debug)]
pub(super) struct Reloader {
    pub(super) origin: Origin,
    /// The settings that only a restart changes, as they were at the start.
    pub(super) at_start: AtStart,
    /// The geo index in use.
    pub(super) geo: KeptIndex,
    pub(super) engine: Handle,
    /// The certificates by ACME in use, and what renews them.
    pub(super) certificates: Vec<Acme>,
    pub(super) keeper: Keeper,
    /// What the API allows over TCP.
    pub(super) policy: watch::Sender<Policy>,
    pub(super) node_name: Arc<str>,
    pub(super) budget: FdBudget,
    pub(super) patience: Patience<Result<Prepared, Diagnostics>>,
    /// Without the task, every reload would fail from then on.
    pub(super) _part: Part,
}

/// What a config allows over TCP. The node's own name is a good Host.
pub(super) fn policy(prepared: &Prepared, node_name: &str) -> Policy {
    let control = &prepared.config.control;
    let hosts = control.hosts.iter().cloned().chain([node_name.to_owned()]).collect();
    let tls = prepared.control_tls.clone();
    Policy { tokens: control.tokens.clone(), read: control.read, hosts, tls }
}

impl Reloader {
    /// Serves requests, one at a time, so that a config that was read later is never applied earlier.
    pub(super) async fn run(mut self, mut requests: mpsc::Receiver<ReloadRequest>) {
        // Sockets are bound: whoever checks a challenge waits until they are read.
        self.keeper.set(&self.certificates);
        while let Some(request) = requests.recv().await {
            fault::point(At::Reload);
            // The client may be gone, which is fine.
            match request {
                ReloadRequest::Apply { by, reply } => drop(reply.send(self.reload(by).await)),
                ReloadRequest::Prepare { path, reply } => drop(reply.send(self.draft(path).await)),
            }
        }
    }

    async fn reload(&mut self, by: String) -> Result<Reloaded, ReloadError> {
        let Draft { prepared, mut warnings } = match self.prepare(self.origin.clone()).await {
            Ok(draft) => draft,
            Err(why) => {
                let reported = self.engine.report_failed_reload(why.to_string(), by).await;
                return Err(if reported.is_ok() { why } else { ReloadError::Stopped });
            }
        };
        warnings.extend(unwritable_logs(&prepared.plan).await);
        let (geo, policy) = (prepared.geo.clone(), policy(&prepared, &self.node_name));
        let certificates = prepared.acme.clone();
        let reloaded = self.engine.commit(prepared, warnings, by).await.map_err(|_| ReloadError::Stopped)?;
        self.geo = geo;
        self.keeper.set(&certificates);
        self.certificates = certificates;
        self.policy.send_replace(policy);
        Ok(reloaded)
    }

    /// Prepares a config from the folder of the node's own. Mistakes are quoted, and not everyone who may use the API may
    /// read what the node may; whoever can write to this folder can change the node's config anyway.
    async fn draft(&mut self, path: PathBuf) -> Result<Draft, ReloadError> {
        let folder = match &self.origin {
            Origin::File(own) => folder_of(own),
            Origin::Text { .. } => None,
        };
        if folder.is_none() || folder_of(&path) != folder {
            return Err(ReloadError::Elsewhere(folder));
        }
        self.prepare(Origin::File(path)).await
    }

    async fn prepare(&mut self, origin: Origin) -> Result<Draft, ReloadError> {
        let (last, kept) = (self.geo.clone(), self.certificates.clone());
        let prepare = move || prepare_after(&origin, Some(&last), &kept);
        let prepared = self.patience.run(PREPARE_WITHIN, prepare).await?.map_err(ReloadError::Refused)?;
        let mut warnings: Vec<String> = prepared.config.warnings.iter().map(Diagnostic::sentence).collect();
        warnings.extend(self.at_start.changes(&AtStart::of(&prepared.config)));
        warnings.extend(files::shortage(self.budget, &prepared.plan.topology));
        Ok(Draft { prepared, warnings })
    }
}

/// What keeps a log from being written, a sentence each. A file system that does not answer keeps nobody waiting.
async fn unwritable_logs(plan: &Plan) -> Vec<String> {
    let queries = plan.query_log.as_ref().and_then(|log| match &log.to {
        QueryLogTarget::Json(target) => Some(("queries are", target.clone())),
        QueryLogTarget::Dnstap(_) => None,
    });
    let requests = plan.proxy.access_log.as_ref().map(|log| ("requests are", log.to.clone()));
    let mut warnings = Vec::new();
    for (what, target) in queries.into_iter().chain(requests) {
        let tried = tokio::task::spawn_blocking(move || unwritable(&target));
        let why = match tokio::time::timeout(OPEN_WITHIN, tried).await {
            Ok(tried) => tried.unwrap_or_default(),
            Err(_) => Some(format!("the file could not be opened within {OPEN_WITHIN:?}")),
        };
        warnings.extend(why.map(|why| format!("{what} not logged: {why}")));
    }
    warnings
}

/// Logs what keeps a log from being written.
pub(super) async fn warn_of_logs(plan: &Plan) {
    for warning in unwritable_logs(plan).await {
        tracing::warn!("{warning}");
    }
}

/// The folder that a file is in, whatever links lead there.
fn folder_of(path: &Path) -> Option<PathBuf> {
    match fs::canonicalize(path) {
        Ok(path) => path.parent().map(Path::to_owned),
        // What is wrong with the file is reported when it is read.
        Err(_) => fs::canonicalize(path.parent()?).ok(),
    }
}

/// Work on a thread of its own, since reading files can wait and compiling the rankings can take seconds. It is waited
/// for only so long, and what still runs then is the last until it ends, so that threads do not pile up.
#[derive(Debug)]
pub(super) struct Patience<T>(Option<JoinHandle<T>>);

impl<T> Default for Patience<T> {
    fn default() -> Self {
        Self(None)
    }
}

impl<T: Send + 'static> Patience<T> {
    async fn run(
        &mut self,
        within: Duration,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> Result<T, ReloadError> {
        if self.0.as_ref().is_some_and(|it| !it.is_finished()) {
            return Err(ReloadError::Waiting);
        }
        let mut running = tokio::task::spawn_blocking(work);
        match tokio::time::timeout(within, &mut running).await {
            Ok(done) => done.map_err(|crash| ReloadError::Crashed(crash.to_string())),
            Err(_) => {
                self.0 = Some(running);
                Err(ReloadError::Late(within))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;

    use super::*;

    #[tokio::test]
    async fn a_file_that_does_not_answer_ends_the_reload_and_refuses_others_until_it_does() {
        let mut patience = Patience::default();
        let (answer, file) = mpsc::channel::<()>();
        let late = patience.run(Duration::from_millis(1), move || file.recv().is_ok()).await;
        assert!(matches!(late, Err(ReloadError::Late(_))), "{late:?}");
        let waiting = patience.run(Duration::MAX, || true).await;
        assert!(matches!(waiting, Err(ReloadError::Waiting)), "{waiting:?}");

        answer.send(()).expect("the file is still read");
        while patience.0.as_ref().is_some_and(|it| !it.is_finished()) {
            tokio::task::yield_now().await;
        }
        assert!(matches!(patience.run(Duration::MAX, || true).await, Ok(true)));
    }
}
