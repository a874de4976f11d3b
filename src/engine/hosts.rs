//! The tasks that look up the hosts of endpoints.

use std::sync::Arc;

use tokio::runtime::Handle;
use tokio::sync::{Semaphore, mpsc};
use tokio::task::JoinSet;
use tokio::time::sleep;

use crate::model::{Lookup, Name, Topology};
use crate::net::resolver::Resolver;
use crate::supervise::Supervisor;
use crate::supervise::fault::{self, At};

/// The maximum number of concurrent lookups; further ones wait.
const MAX_LOOKUPS: usize = 32;

/// A host and the result of looking it up.
#[derive(Debug)]
pub(super) struct Resolved {
    pub(super) host: Name,
    pub(super) lookup: Lookup,
}

/// The lookup tasks, one for each host.
#[derive(Debug)]
pub(super) struct Resolving {
    results: mpsc::Sender<Resolved>,
    runtime: Handle,
    supervisor: Supervisor,
    tasks: JoinSet<()>,
}

impl Resolving {
    /// The tasks run in `runtime`.
    pub(super) fn new(results: mpsc::Sender<Resolved>, runtime: Handle, supervisor: Supervisor) -> Self {
        Self { results, runtime, supervisor, tasks: JoinSet::new() }
    }

    /// Replaces the tasks by those for the hosts of this topology, with this resolver. Each looks up its host
    /// immediately.
    pub(super) fn set(&mut self, topology: &Topology, resolver: Option<Arc<Resolver>>) {
        // Dropping the set ends the previous tasks.
        self.tasks = JoinSet::new();
        let Some(resolver) = resolver else { return };
        let turns = Arc::new(Semaphore::new(MAX_LOOKUPS));
        for host in topology.resolved_hosts() {
            let (resolver, turns) = (Arc::clone(&resolver), Arc::clone(&turns));
            let look_up = move |host: Name| {
                let (resolver, turns) = (Arc::clone(&resolver), Arc::clone(&turns));
                async move {
                    let _turn = turns.acquire().await;
                    fault::point(At::Lookup);
                    let lookup = resolver.addresses(&host).await;
                    Resolved { host, lookup }
                }
            };
            let task = keep_resolved(host.clone(), look_up, self.results.clone());
            // It ends with a reload, but must not panic: the host would never be looked up again.
            let part = self.supervisor.part(format!("the task that resolves {host}")).may_end();
            let task = async move {
                let _part = part;
                task.await;
            };
            self.tasks.spawn_on(task, &self.runtime);
        }
    }
}

/// Looks up a host, and again whenever the answer expires, until the receiver of the results is gone.
async fn keep_resolved<F: Future<Output = Resolved>>(
    host: Name,
    look_up: impl Fn(Name) -> F,
    results: mpsc::Sender<Resolved>,
) {
    loop {
        let resolved = look_up(host.clone()).await;
        let pause = resolved.lookup.pause();
        if results.send(resolved).await.is_err() {
            return;
        }
        sleep(pause).await;
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::model::Found;

    fn found(addresses: &[&str], ttl: u64) -> Result<Found, String> {
        let addresses = addresses.iter().map(|text| text.parse().expect("an address")).collect();
        Ok(Found { addresses, refused: None, ttl: Some(Duration::from_secs(ttl)) })
    }

    fn failed() -> Result<Found, String> {
        Err("timed out".into())
    }

    fn host() -> Name {
        "lb.example.net.".parse().expect("a name")
    }

    #[tokio::test(start_paused = true)]
    async fn lookups_follow_the_ttl_within_bounds() {
        let ttls = [(0, 60), (30, 20), (1_000_000, 2_000_000)];
        let mut lookups: Vec<Lookup> = ttls
            .iter()
            .map(|(v4, v6)| Lookup { v4: found(&["192.0.2.1"], *v4), v6: found(&[], *v6) })
            .collect();
        lookups.push(Lookup { v4: failed(), v6: found(&["2001:db8::1"], 600) });
        lookups.push(Lookup { v4: found(&["192.0.2.1"], 60), v6: found(&[], 60) });
        let lookups = std::sync::Mutex::new(lookups.into_iter());
        let (results, mut queue) = mpsc::channel(1);
        let look_up = async |host| {
            let lookup = lookups.lock().expect("no panic").next().expect("no lookup too many");
            Resolved { host, lookup }
        };
        let resolving = keep_resolved(host(), look_up, results);
        let times = async {
            let start = tokio::time::Instant::now();
            let mut times = Vec::new();
            for _ in 0..5 {
                queue.recv().await.expect("an answer");
                times.push(start.elapsed().as_secs());
            }
            times
        };
        let times = tokio::select! {
            () = resolving => panic!("it ended"),
            times = times => times,
        };
        assert_eq!(times, [0, 5, 25, 25 + 3600, 25 + 3600 + 5]);
    }
}
