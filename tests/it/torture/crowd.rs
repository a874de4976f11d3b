//! Attackers in threads of their own, each at its pace.

use std::collections::BTreeMap;
use std::io;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use nix::unistd::Pid;
use tokio::runtime::{Builder, Runtime};
use tokio::time::{MissedTickBehavior, interval, sleep, timeout};

/// How long one attack may take. The longest that the node tolerates is an idle connection, for 10 s.
const ATTACK: Duration = Duration::from_secs(12);

/// What attackers know of the node.
#[derive(Clone)]
pub(super) struct Victim {
    pub(super) dns: SocketAddr,
    pub(super) control: SocketAddr,
    pub(super) socket: Arc<Path>,
    pub(super) pid: Pid,
    pub(super) config: Arc<Path>,
    /// The text of the config at the start.
    pub(super) text: Arc<str>,
}

/// Attackers. All end when it is dropped.
pub(super) struct Crowd {
    runtime: Option<Runtime>,
    attacks: BTreeMap<&'static str, Arc<AtomicU64>>,
}

impl Crowd {
    pub(super) fn gather() -> Self {
        // One thread: on a machine with two cores, the load must leave one to the node.
        let runtime = Builder::new_multi_thread().worker_threads(1).enable_all().build();
        Self { runtime: Some(runtime.expect("a thread")), attacks: BTreeMap::new() }
    }

    /// Adds so many attackers, each of which attacks again and again, at most once in `pace`.
    pub(super) fn add<A, F>(
        &mut self,
        what: &'static str,
        at_once: u32,
        pace: Duration,
        victim: &Victim,
        attack: A,
    ) where
        A: Fn(Victim) -> F + Copy + Send + 'static,
        F: Future<Output = io::Result<()>> + Send,
    {
        let attacks = self.counter(what);
        for number in 0..at_once {
            let (victim, attacks) = (victim.clone(), Arc::clone(&attacks));
            self.spawn(async move {
                // They do not all come at once.
                sleep(pace * number / at_once).await;
                let mut turns = interval(pace);
                turns.set_missed_tick_behavior(MissedTickBehavior::Delay);
                loop {
                    turns.tick().await;
                    // One that the node ends is an attack, too; one that cannot even connect is not.
                    if let Ok(Ok(())) = timeout(ATTACK, attack(victim.clone())).await {
                        attacks.fetch_add(1, Ordering::Relaxed);
                    }
                }
            });
        }
    }

    /// A count of attacks of one kind.
    pub(super) fn counter(&mut self, what: &'static str) -> Arc<AtomicU64> {
        Arc::clone(self.attacks.entry(what).or_default())
    }

    pub(super) fn spawn(&self, task: impl Future<Output = ()> + Send + 'static) {
        self.runtime.as_ref().expect("it is there until it is dropped").spawn(task);
    }

    /// How often each attack was completed.
    pub(super) fn attacks(&self) -> Vec<(&'static str, u64)> {
        self.attacks.iter().map(|(what, count)| (*what, count.load(Ordering::Relaxed))).collect()
    }
}

impl Drop for Crowd {
    fn drop(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}
