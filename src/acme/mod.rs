//! Certificates of the proxy by ACME (RFC 8555): obtained, renewed and kept.
//!
//! `Keeper` runs a task for each certificate (`task`). It waits until the certificate is due (`schedule`), orders one
//! (`order`, over `client`), writes it with its key to the state directory (`store`), and only then shows it to clients.
//! Whatever fails, what was shown before stays.

mod client;
mod order;
mod schedule;
mod store;
mod task;

use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::Arc;

use tokio::sync::Notify;
use tokio::task::AbortHandle;

use crate::engine::Handle;
use crate::net::managed::AllManaged;
use crate::prepare::Acme;
use crate::supervise::Supervisor;
use schedule::Budget;
use task::Task;

/// Runs the tasks that the config asks for.
#[derive(Debug)]
pub struct Keeper {
    engine: Handle,
    supervisor: Supervisor,
    all: AllManaged,
    budget: Arc<std::sync::Mutex<Budget>>,
    /// By the file of the certificate: one order at a time for each.
    running: HashMap<PathBuf, Running>,
}

#[derive(Debug)]
struct Running {
    acme: Acme,
    retry: Arc<Notify>,
    task: AbortHandle,
}

impl Drop for Running {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Keeper {
    /// Starts nothing yet. `all` is kept up to date with what the config has.
    #[must_use]
    pub fn new(engine: Handle, supervisor: Supervisor, all: AllManaged) -> Self {
        Self { engine, supervisor, all, budget: Arc::default(), running: HashMap::new() }
    }

    /// Runs the tasks of a config, and ends the others. Those that go on try again at once what failed: the operator may
    /// have mended it. Must be called within a tokio runtime.
    pub fn set(&mut self, certificates: &[Acme]) {
        self.all.store(Arc::new(certificates.iter().map(|it| Arc::clone(&it.managed)).collect()));
        let mut before = std::mem::take(&mut self.running);
        for acme in certificates {
            let file = acme.managed.file.clone();
            let running = match before.remove(&file).filter(|it| it.acme.is_same(acme)) {
                Some(running) => {
                    running.retry.notify_one();
                    running
                }
                None => self.start(acme.clone()),
            };
            self.running.insert(file, running);
        }
    }

    fn start(&self, acme: Acme) -> Running {
        let retry = Arc::new(Notify::new());
        let name = format!("the task that renews {}", acme.managed.file.display());
        let part = self.supervisor.part(name).may_end();
        let task = Task::new(acme.clone(), self.engine.clone(), Arc::clone(&self.budget), Arc::clone(&retry));
        let task = tokio::spawn(async move {
            let _part = part;
            task.run().await;
        });
        Running { acme, retry, task: task.abort_handle() }
    }
}
