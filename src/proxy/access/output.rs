//! Where the access log goes.

use std::io;
use std::sync::{Arc, Weak};

use arc_swap::ArcSwap;

use crate::net::record_log::{LineFile, Output};
use crate::snapshot::{Plan, Snapshot};

/// The file of the config, opened again after each reload: it may be another under the same name.
pub(in crate::proxy) struct AccessOutput {
    snapshots: Arc<ArcSwap<Snapshot>>,
    /// Where the open file comes from.
    plan: Weak<Plan>,
    file: LineFile,
}

impl AccessOutput {
    pub(in crate::proxy) fn new(snapshots: Arc<ArcSwap<Snapshot>>) -> Self {
        Self { snapshots, plan: Weak::new(), file: LineFile::default() }
    }
}

impl Output for AccessOutput {
    fn check(&mut self) {
        let plan = &self.snapshots.load().plan;
        if !std::ptr::eq(self.plan.as_ptr(), Arc::as_ptr(plan)) {
            self.plan = Arc::downgrade(plan);
            self.file.close();
        }
    }

    fn write(&mut self, lines: &[u8]) -> io::Result<()> {
        match &self.snapshots.load().plan.proxy.access_log {
            Some(log) => self.file.write(&log.to, lines),
            // Of requests that began before the log was switched off.
            None => Ok(()),
        }
    }
}
