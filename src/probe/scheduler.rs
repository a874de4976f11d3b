//! Keeps targets looked at, each at its interval.

use std::collections::HashMap;
use std::fmt;
use std::future::Future;
use std::hash::{BuildHasher, DefaultHasher, Hash, Hasher, RandomState};
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use tokio::runtime::Handle;
use tokio::sync::{Semaphore, mpsc};
use tokio::time::{Instant, sleep_until};
use tokio_util::sync::{CancellationToken, DropGuard};
use tokio_util::task::TaskTracker;

use super::{LocalFault, Prepared, Target, run};
use crate::health::Observation;

/// The most looks under way at once; further ones wait their turn. A third of 10,000 targets hanging until
/// their timeout stays below it, so that they cannot keep the others from being looked at.
pub const MAX_IN_FLIGHT: usize = 4096;

/// New targets get their first look within this time, so that a start is quick.
const FIRST_LOOKS: Duration = Duration::from_secs(1);

/// The most by which jitter shortens an interval, as a part of it.
const JITTER: f64 = 0.05;

/// The identity of a check, which outlives a reload.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct CheckKey {
    /// The region's name.
    pub region: Arc<str>,
    /// The endpoint's name.
    pub endpoint: Arc<str>,
    /// One of the endpoint's addresses.
    pub address: IpAddr,
    /// The probe's name.
    pub probe: Arc<str>,
}

impl fmt::Display for CheckKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{} {} by {}", self.region, self.endpoint, self.address, self.probe)
    }
}

/// Something to be looked at again and again.
#[derive(Clone, Debug)]
pub struct Check {
    /// What it is.
    pub key: CheckKey,
    /// How it is looked at.
    pub probe: Arc<Prepared>,
}

/// One look of one check.
#[derive(Clone, Debug, PartialEq)]
pub struct Report {
    /// Which check.
    pub check: CheckKey,
    /// What was seen.
    pub observation: Observation,
}

/// Runs checks until it is dropped or shut down. Each check is a task that sleeps, looks and reports.
#[derive(Debug)]
pub struct Scheduler {
    results: mpsc::Sender<Report>,
    runtime: Handle,
    tasks: TaskTracker,
    permits: Arc<Semaphore>,
    running: HashMap<CheckKey, Running>,
}

#[derive(Debug)]
struct Running {
    probe: Arc<Prepared>,
    /// Dropped with the entry, and stops the task.
    _stop: DropGuard,
}

impl Scheduler {
    /// Nothing runs yet. Reports go to `results`; when that is full, looks wait for it.
    ///
    /// # Panics
    /// Outside a tokio runtime.
    #[must_use]
    pub fn new(results: mpsc::Sender<Report>) -> Self {
        Self {
            results,
            runtime: Handle::current(),
            tasks: TaskTracker::new(),
            permits: Arc::new(Semaphore::new(MAX_IN_FLIGHT)),
            running: HashMap::new(),
        }
    }

    /// From now on exactly these checks run. Those that ran before with the same key and the same probe
    /// definition keep their rhythm; those that are gone or changed stop at once, even in the midst of a look,
    /// though a report that is already under way may still arrive. Of two with the same key the later counts.
    pub fn set(&mut self, checks: Vec<Check>) {
        let wanted: HashMap<CheckKey, Arc<Prepared>> =
            checks.into_iter().map(|check| (check.key, check.probe)).collect();
        self.running.retain(|key, running| {
            wanted.get(key).is_some_and(|probe| probe.definition == running.probe.definition)
        });
        let now = Instant::now();
        for (key, probe) in wanted {
            if !self.running.contains_key(&key) {
                let running = self.start(&key, probe, now);
                self.running.insert(key, running);
            }
        }
    }

    /// Stops every check and waits until none is left.
    pub async fn shutdown(mut self) {
        self.running.clear();
        self.tasks.close();
        self.tasks.wait().await;
    }

    fn start(&self, key: &CheckKey, probe: Arc<Prepared>, now: Instant) -> Running {
        let stop = CancellationToken::new();
        let rhythm = Rhythm::new(key, probe.definition.interval, now);
        let target = Arc::new(Target { address: key.address, probe: Arc::clone(&probe) });
        let watch = Watch {
            key: key.clone(),
            rhythm,
            permits: Arc::clone(&self.permits),
            results: self.results.clone(),
        };
        let task = watch.keep(move || {
            let target = Arc::clone(&target);
            // Boxed, so that the thousands of tasks that sleep between looks stay small.
            Box::pin(async move { run(&target).await })
        });
        self.tasks.spawn_on(stop.clone().run_until_cancelled_owned(task), &self.runtime);
        Running { probe, _stop: stop.drop_guard() }
    }
}

/// The life of one check.
struct Watch {
    key: CheckKey,
    rhythm: Rhythm,
    permits: Arc<Semaphore>,
    results: mpsc::Sender<Report>,
}

impl Watch {
    /// Looks in its rhythm, never twice at once, until nobody wants the reports any more.
    async fn keep<F, L>(mut self, look: F)
    where
        F: Fn() -> L,
        L: Future<Output = Result<Observation, LocalFault>>,
    {
        let mut blind = false;
        loop {
            sleep_until(self.rhythm.next).await;
            let Ok(permit) = self.permits.acquire().await else { return };
            let outcome = look().await;
            drop(permit);
            match outcome {
                Ok(observation) => {
                    let report = Report { check: self.key.clone(), observation };
                    if self.results.send(report).await.is_err() {
                        return;
                    }
                    blind = false;
                }
                Err(fault) if !blind => {
                    tracing::warn!(check = %self.key, error = %fault.0, "this node cannot look; the last verdict stands");
                    blind = true;
                }
                Err(_told) => {}
            }
            self.rhythm.advance(Instant::now());
        }
    }
}

/// When to look.
struct Rhythm {
    next: Instant,
    interval: Duration,
    /// To the second look; the shorter the first wait was, the shorter.
    first_gap: Option<Duration>,
    jitter: u64,
}

impl Rhythm {
    /// The identity decides where in the interval a check has its place, so the looks of many checks spread
    /// evenly. The first look comes within a second, and the second at that place of the interval after it.
    fn new(key: &CheckKey, interval: Duration, now: Instant) -> Self {
        let mut hasher = DefaultHasher::new();
        key.hash(&mut hasher);
        let place = hasher.finish() as f64 / 2.0_f64.powi(64);
        let head_start = interval.min(FIRST_LOOKS);
        Self {
            next: now + head_start.mul_f64(place),
            interval,
            first_gap: Some(head_start + (interval - head_start).mul_f64(place)),
            // Seeded anew in each process: nodes that start together must not stay in step. Never zero, where
            // the generator would stay.
            jitter: RandomState::new().hash_one(key) | 1,
        }
    }

    /// Moves on to the first slot after `now`: the next one, unless a look took longer than the interval.
    fn advance(&mut self, now: Instant) {
        let gap = self.first_gap.take().unwrap_or(self.interval);
        let part = 1.0 - JITTER * self.draw();
        self.next += gap.mul_f64(part);
        if self.next <= now {
            let missed = (now - self.next).as_nanos() / self.interval.as_nanos().max(1) + 1;
            self.next += self.interval.saturating_mul(u32::try_from(missed).unwrap_or(u32::MAX));
        }
    }

    /// The next number of 0..1 (xorshift64).
    fn draw(&mut self) -> f64 {
        self.jitter ^= self.jitter << 13;
        self.jitter ^= self.jitter >> 7;
        self.jitter ^= self.jitter << 17;
        (self.jitter >> 11) as f64 / 2.0_f64.powi(53)
    }
}

#[cfg(test)]
mod tests;
