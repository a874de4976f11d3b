//! The backends that are discovered while the node runs.
//!
//! A config's topology has the backends that it lists; here the discovered ones are added to it, so that to everything
//! else they are backends like others.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use tokio::runtime::Handle;
use tokio::sync::mpsc;
use tokio::task::JoinSet;

use super::sources::{self, Report};
use crate::model::{Backend, Discover, Name, Pool, Topology};
use crate::net::resolver::Resolver;
use crate::snapshot::Plan;
use crate::state::EventKind;
use crate::supervise::Supervisor;

/// Backends of a pool, listed and discovered ones together: each is probed, and has connections and counters.
const MOST_BACKENDS: usize = 1024;

/// What is known of every pool that discovers its backends, and the tasks that do.
pub(super) struct Discovery {
    pools: BTreeMap<String, Known>,
    /// The plan of the config, without what was discovered.
    configured: Arc<Plan>,
    reports: mpsc::Sender<Report>,
    runtime: Handle,
    supervisor: Supervisor,
    tasks: JoinSet<()>,
}

struct Known {
    source: Discover,
    /// Sorted by address.
    backends: Vec<Backend>,
    /// What is wrong with the last result.
    problem: Option<String>,
    has_result: bool,
}

impl Discovery {
    /// The tasks run in `runtime`.
    pub(super) fn new(reports: mpsc::Sender<Report>, runtime: Handle, supervisor: Supervisor) -> Self {
        let (pools, configured, tasks) = (BTreeMap::new(), Arc::default(), JoinSet::new());
        Self { pools, configured, reports, runtime, supervisor, tasks }
    }

    /// Takes over the plan of a config. What was discovered by the same source is kept.
    pub(super) fn set(&mut self, plan: &Arc<Plan>, resolver: Option<&Arc<Resolver>>) {
        self.configured = Arc::clone(plan);
        let mut before = std::mem::take(&mut self.pools);
        // Dropping the set ends the previous tasks.
        self.tasks = JoinSet::new();
        for pool in &plan.topology.pools {
            let Some(source) = &pool.discover else { continue };
            let known = before.remove(&pool.name).filter(|known| known.source == *source);
            let known = known.unwrap_or_else(|| Known {
                source: source.clone(),
                backends: Vec::new(),
                problem: None,
                has_result: false,
            });
            self.pools.insert(pool.name.clone(), known);
            let task =
                sources::run(pool.name.clone(), source.clone(), resolver.cloned(), self.reports.clone());
            // It ends with a reload, but must not panic: nothing would be discovered any more.
            let part = self.supervisor.part(format!("the task that discovers pool {}", pool.name)).may_end();
            let task = async move {
                let _part = part;
                task.await;
            };
            self.tasks.spawn_on(task, &self.runtime);
        }
    }

    /// Restores the addresses that hosts had in the last run. They are used until a lookup succeeds.
    pub(super) fn restore(&mut self, saved: &BTreeMap<Name, Vec<IpAddr>>) {
        for known in self.pools.values_mut() {
            if let Discover::Host { name, port } = &known.source
                && let Some(addresses) = saved.get(name)
            {
                let address = |ip: &IpAddr| sources::backend(SocketAddr::new(*ip, *port));
                known.backends = addresses.iter().map(address).collect();
            }
        }
    }

    /// The config's plan with what was discovered.
    pub(super) fn plan(&self) -> Arc<Plan> {
        if self.pools.values().all(|known| known.backends.is_empty()) {
            return Arc::clone(&self.configured);
        }
        let mut topology = Topology::clone(&self.configured.topology);
        for pool in &mut topology.pools {
            if let Some(known) = self.pools.get(&pool.name) {
                add(pool, &known.backends);
            }
        }
        Arc::new(Plan { topology: Arc::new(topology), ..Plan::clone(&self.configured) })
    }

    /// Takes over a result. Returns the events of a change of the backends, and of an alarm that begins or ends.
    pub(super) fn apply(&mut self, report: Report) -> (Option<EventKind>, Option<EventKind>) {
        let Report { pool, backends, mut problem } = report;
        // The result may arrive after a reload that removed the pool.
        let Some(known) = self.pools.get_mut(&pool) else { return (None, None) };
        known.has_result = true;
        let mut changed = None;
        if let Some(mut found) = backends {
            found.sort_by(|a, b| a.listed().cmp(b.listed()).then(a.port.cmp(&b.port)));
            let topology = &self.configured.topology;
            let listed = topology.pool_named(&pool).map_or(0, |id| topology.pool(id).backends.len());
            let most = MOST_BACKENDS.saturating_sub(listed);
            if found.len() > most {
                problem.get_or_insert_with(|| format!("{} backends, of which {most} are used", found.len()));
                found.truncate(most);
            }
            if found != known.backends {
                let backends = found.iter().map(|it| it.name.clone()).collect();
                changed = Some(EventKind::Discovered { pool: pool.clone(), backends });
                known.backends = found;
            }
        }
        let alarm = match (&known.problem, &problem) {
            (before, Some(why)) if before.as_ref() != Some(why) => {
                Some(EventKind::Alarm { message: alarm(&pool, why, known.backends.len()) })
            }
            (Some(_), None) => Some(EventKind::AllClear {
                message: format!("the backends of pool `{pool}` are discovered again"),
            }),
            _ => None,
        };
        known.problem = problem;
        (changed, alarm)
    }

    /// Whether every pool has been discovered, or has failed to be.
    pub(super) fn is_ready(&self) -> bool {
        self.pools.values().all(|known| known.has_result)
    }

    /// A sentence about each pool that cannot be discovered.
    pub(super) fn alarms(&self) -> impl Iterator<Item = String> {
        self.pools
            .iter()
            .filter_map(|(pool, known)| Some(alarm(pool, known.problem.as_ref()?, known.backends.len())))
    }

    /// The hosts that are looked up, with the addresses that are in use.
    pub(super) fn hosts(&self) -> BTreeMap<Name, Vec<IpAddr>> {
        let host = |known: &Known| match &known.source {
            Discover::Host { name, .. } => {
                let addresses = known.backends.iter().flat_map(|it| it.listed().to_vec());
                Some((name.clone(), addresses.collect()))
            }
            Discover::Services(_) | Discover::File(_) => None,
        };
        self.pools.values().filter_map(host).collect()
    }
}

fn alarm(pool: &str, why: &str, kept: usize) -> String {
    match kept {
        0 => format!("the backends of pool `{pool}` cannot be discovered: {why}"),
        kept => format!("the backends of pool `{pool}` cannot be discovered: {why}; {kept} are in use"),
    }
}

/// Adds backends to those that the config lists.
fn add(pool: &mut Pool, discovered: &[Backend]) {
    let listed = pool.backends.len();
    let is_new = |it: &&Backend| !pool.backends[..listed].iter().any(|other| other.name == it.name);
    let new: Vec<Backend> = discovered.iter().filter(is_new).cloned().collect();
    pool.backends.extend(new);
}
