//! Reload: everything is prepared first, then committed everywhere by steps that cannot fail.

use std::sync::Arc;

use tokio::sync::{mpsc, watch};

use super::files;
use crate::api::{Policy, ReloadRequest};
use crate::config::AtStart;
use crate::engine::{Handle, Reloaded};
use crate::net::limits::FdBudget;
use crate::prepare::{KeptIndex, Origin, Prepared, ReloadError, prepare_after};
use crate::supervise::Part;
use crate::supervise::fault::{self, At};

/// Owns the origin of the config and what a reload needs of the config before.
#[derive(Debug)]
pub(super) struct Reloader {
    pub(super) origin: Origin,
    /// The settings that only a restart changes, as they were at the start.
    pub(super) at_start: AtStart,
    /// The geo index in use.
    pub(super) geo: KeptIndex,
    pub(super) engine: Handle,
    /// What the API allows over TCP.
    pub(super) policy: watch::Sender<Policy>,
    pub(super) node_name: Arc<str>,
    pub(super) budget: FdBudget,
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
        while let Some(ReloadRequest { by, reply }) = requests.recv().await {
            fault::point(At::Reload);
            // The client may be gone, which is fine.
            reply.send(self.reload(by).await).ok();
        }
    }

    async fn reload(&mut self, by: String) -> Result<Reloaded, ReloadError> {
        let prepared = match self.prepare().await {
            Ok(prepared) => prepared,
            Err(why) => {
                let reported = self.engine.report_failed_reload(why.to_string(), by).await;
                return Err(if reported.is_ok() { why } else { ReloadError::Stopped });
            }
        };
        let mut warnings: Vec<String> = prepared.config.warnings.iter().map(ToString::to_string).collect();
        warnings.extend(self.at_start.changes(&AtStart::of(&prepared.config)));
        warnings.extend(files::shortage(self.budget, &prepared.plan.topology));
        let (geo, policy) = (prepared.geo.clone(), policy(&prepared, &self.node_name));
        let reloaded = self.engine.commit(prepared, warnings, by).await.map_err(|_| ReloadError::Stopped)?;
        self.geo = geo;
        self.policy.send_replace(policy);
        Ok(reloaded)
    }

    /// On a thread of its own, because compiling the rankings can take seconds.
    async fn prepare(&self) -> Result<Prepared, ReloadError> {
        let (origin, last) = (self.origin.clone(), self.geo.clone());
        match tokio::task::spawn_blocking(move || prepare_after(&origin, Some(&last))).await {
            Ok(prepared) => prepared.map_err(ReloadError::Refused),
            Err(crash) => Err(ReloadError::Crashed(crash.to_string())),
        }
    }
}
