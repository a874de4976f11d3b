//! Probes targets, each at its interval.

use std::collections::HashMap;
use std::future::{Future, poll_fn};
use std::hash::{BuildHasher, DefaultHasher, Hash, Hasher, RandomState};
use std::io;
use std::panic::{self, AssertUnwindSafe};
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use tokio::runtime::Handle;
use tokio::sync::{Semaphore, mpsc};
use tokio::time::{Instant, sleep_until};
use tokio_util::sync::{CancellationToken, DropGuard};
use tokio_util::task::TaskTracker;

use super::{LocalFault, Outcome, PreparedProbe, ProbeTarget, run};
use crate::health::{CannotProbe, Observation};
use crate::model::{CheckId, Subject};
use crate::supervise::fault::{self, At};
use crate::supervise::{Part, Supervisor};

/// The most probes in flight at once; further ones wait their turn. If a third of 10,000 targets hang until their
/// timeout, they stay below it and cannot keep the others from being probed.
pub const MAX_IN_FLIGHT: usize = 4096;

/// New targets are probed within this time, so that a node starts quickly.
const FIRST_PROBES: Duration = Duration::from_secs(1);

/// A failed first probe is repeated after this time, or after the interval if that is shorter: one lost packet must
/// not keep a new target down for its `hold`.
const REPEAT_FIRST: Duration = Duration::from_millis(500);

/// The largest fraction of an interval by which jitter shortens it.
const JITTER: f64 = 0.05;

/// A check to run periodically. Its subject is an address, or an anchor that names one.
#[derive(Clone, Debug)]
pub struct ScheduledCheck {
    /// Its identity.
    pub id: CheckId,
    /// Copied into reports, so that those of an older definition can be recognized.
    pub generation: u32,
    /// The probe to run.
    pub probe: Arc<PreparedProbe>,
    /// Whether there is no result yet: then a failure is repeated soon.
    pub is_new: bool,
}

/// The result of one probe of one check.
#[derive(Clone, Debug, PartialEq)]
pub struct CheckReport {
    /// The check.
    pub check: CheckId,
    /// The generation of the check.
    pub generation: u32,
    /// The outcome, or why this node could not probe.
    pub outcome: Result<Observation, CannotProbe>,
}

/// Runs checks until it is dropped or shut down. Each check is a task that sleeps, probes and reports.
#[derive(Debug)]
pub struct Scheduler {
    results: mpsc::Sender<CheckReport>,
    runtime: Handle,
    supervisor: Supervisor,
    tasks: TaskTracker,
    permits: Arc<Semaphore>,
    running: HashMap<CheckId, RunningCheck>,
}

#[derive(Debug)]
struct RunningCheck {
    probe: Arc<PreparedProbe>,
    generation: u32,
    /// Dropped with the entry, and stops the task.
    _stop: DropGuard,
}

impl Scheduler {
    /// Without checks yet. They run in `runtime`. Reports go to `results`; when that is full, probes wait for it.
    #[must_use]
    pub fn new(results: mpsc::Sender<CheckReport>, runtime: Handle, supervisor: Supervisor) -> Self {
        Self {
            results,
            runtime,
            supervisor,
            tasks: TaskTracker::new(),
            permits: Arc::new(Semaphore::new(MAX_IN_FLIGHT)),
            running: HashMap::new(),
        }
    }

    /// Replaces the set of checks. Those that already run with the same id, generation and probe definition keep their
    /// schedule; those that are gone or changed stop at once, even during a probe, though a report that has already
    /// been sent may still arrive. Of two with the same id the later one is used.
    pub fn set(&mut self, checks: Vec<ScheduledCheck>) {
        let wanted: HashMap<CheckId, ScheduledCheck> =
            checks.into_iter().map(|check| (check.id.clone(), check)).collect();
        self.running.retain(|id, running| {
            wanted.get(id).is_some_and(|check| {
                check.generation == running.generation && check.probe.definition == running.probe.definition
            })
        });
        let now = Instant::now();
        for (id, check) in wanted {
            if !self.running.contains_key(&id)
                && let Some(running) = self.start(check, now)
            {
                self.running.insert(id, running);
            }
        }
    }

    /// Stops every check and waits until none is left.
    pub async fn shutdown(mut self) {
        self.running.clear();
        self.tasks.close();
        self.tasks.wait().await;
    }

    /// `None` for a subject that has no address to probe.
    fn start(&self, check: ScheduledCheck, now: Instant) -> Option<RunningCheck> {
        let stop = CancellationToken::new();
        let address = match &check.id.subject {
            Subject::Address { address, .. } | Subject::Backend { address, .. } => *address,
            Subject::Anchor(name) => anchor(name)?,
            Subject::Region(_) => return None,
        };
        let (probe, generation) = (Arc::clone(&check.probe), check.generation);
        let schedule = Schedule::new(&check.id, probe.definition.interval, now);
        let target = Arc::new(ProbeTarget { address, probe: Arc::clone(&probe) });
        let part = self.supervisor.part(format!("the check {}", check.id)).may_end();
        let watch = Watch {
            check,
            schedule,
            permits: Arc::clone(&self.permits),
            results: self.results.clone(),
            _part: part,
        };
        let task = watch.keep(move || {
            let target = Arc::clone(&target);
            // Boxed, so that the thousands of tasks that sleep between probes stay small.
            Box::pin(async move {
                fault::point(At::Probe);
                run(&target).await
            })
        });
        self.tasks.spawn_on(stop.clone().run_until_cancelled_owned(task), &self.runtime);
        Some(RunningCheck { probe, generation, _stop: stop.drop_guard() })
    }
}

/// The address of an anchor, as in `tcp:192.0.2.250:53`.
fn anchor(name: &str) -> Option<std::net::IpAddr> {
    let socket: std::net::SocketAddr = name.strip_prefix("tcp:")?.parse().ok()?;
    Some(socket.ip())
}

/// The task of one check.
struct Watch {
    check: ScheduledCheck,
    schedule: Schedule,
    permits: Arc<Semaphore>,
    results: mpsc::Sender<CheckReport>,
    /// The check ends with a reload, but must not panic: it would never be probed again.
    _part: Part,
}

impl Watch {
    /// Probes on schedule, never twice at once, until the receiver of the reports is gone.
    ///
    /// A probe that panics is not the end of the check, and does not end the process: the next probe shares nothing with
    /// it, and a target whose answer makes probes panic must not be able to restart the node. This node just cannot
    /// observe that target.
    async fn keep<F, P>(mut self, probe: F)
    where
        F: Fn() -> P,
        P: Future<Output = Result<Outcome, LocalFault>>,
    {
        let mut is_first = self.check.is_new;
        loop {
            sleep_until(self.schedule.next).await;
            let Ok(permit) = self.permits.acquire().await else { return };
            let outcome = caught(pin!(probe())).await.unwrap_or_else(|| Err(panicked()));
            drop(permit);
            fault::point(At::Check);
            let failed = matches!(&outcome, Ok(Outcome { failure: Some(_), .. }));
            let report = CheckReport {
                check: self.check.id.clone(),
                generation: self.check.generation,
                outcome: outcome.map(Observation::from).map_err(CannotProbe::from),
            };
            if self.results.send(report).await.is_err() {
                return;
            }
            if is_first && failed {
                self.schedule.repeat(Instant::now());
            } else {
                self.schedule.advance(Instant::now());
            }
            is_first = false;
        }
    }
}

/// Polls a future until it is done; `None` if it panics.
async fn caught<F: Future>(mut future: Pin<&mut F>) -> Option<F::Output> {
    poll_fn(|context| {
        let poll = panic::catch_unwind(AssertUnwindSafe(|| future.as_mut().poll(context)));
        poll.map_or(Poll::Ready(None), |poll| poll.map(Some))
    })
    .await
}

fn panicked() -> LocalFault {
    LocalFault(io::Error::other("the probe panicked; the log says where: please report this"))
}

/// The schedule of one check.
struct Schedule {
    next: Instant,
    interval: Duration,
    /// The wait from the first probe to the second.
    first_gap: Option<Duration>,
    jitter: u64,
}

impl Schedule {
    /// The identity of a check determines its offset in the interval, so the probes of many checks spread evenly.
    /// The first probe runs within a second, the second at that offset of the interval after it.
    fn new(id: &CheckId, interval: Duration, now: Instant) -> Self {
        let mut hasher = DefaultHasher::new();
        id.hash(&mut hasher);
        let place = hasher.finish() as f64 / 2.0_f64.powi(64);
        let head_start = interval.min(FIRST_PROBES);
        Self {
            next: now + head_start.mul_f64(place),
            interval,
            first_gap: Some(head_start + (interval - head_start).mul_f64(place)),
            // Seeded differently in each process: nodes that start together must not stay in step. Never zero, where
            // the generator would stay forever.
            jitter: RandomState::new().hash_one(id) | 1,
        }
    }

    /// Schedules the next probe soon, as for a new check.
    fn repeat(&mut self, now: Instant) {
        self.next = now + self.interval.min(REPEAT_FIRST);
    }

    /// Moves on to the next slot. One that is over already is used at once: a probe that times out shortly before the slot
    /// ends a little late on a busy machine, and a target that hangs must not gain an interval by that. If more than one
    /// is over, as after a pause of the machine, the first slot after `now` is next, so that probes stay spread.
    fn advance(&mut self, now: Instant) {
        let gap = self.first_gap.take().unwrap_or(self.interval);
        let part = 1.0 - JITTER * self.draw();
        self.next += gap.mul_f64(part);
        if self.next + self.interval <= now {
            let missed = (now - self.next).as_nanos() / self.interval.as_nanos().max(1) + 1;
            self.next += self.interval.saturating_mul(u32::try_from(missed).unwrap_or(u32::MAX));
        }
    }

    /// The next random number in 0..1 (xorshift64).
    fn draw(&mut self) -> f64 {
        self.jitter ^= self.jitter << 13;
        self.jitter ^= self.jitter >> 7;
        self.jitter ^= self.jitter << 17;
        (self.jitter >> 11) as f64 / 2.0_f64.powi(53)
    }
}

#[cfg(test)]
mod tests;
