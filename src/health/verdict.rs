//! The state machine that turns a series of observations into a state.

use std::time::Duration;

use super::evidence::{Evidence, Failures, Slow};
use super::{Failure, Observation, Severity, State, Statement};
use crate::model::{Due, Mono, Now, Probe, Thresholds, Unix};

/// A failed first probe is confirmed by a second one before an address counts as down.
const FIRST_FAILURES: u32 = 2;

/// What is known of one target through one source of observations.
///
/// ```text
///            success                    2 consecutive failures
///   Unknown ─────────▶ Up       Unknown ───────────────────────▶ Down
///
///        ─ fall consecutive slow ones ▶            ──── fall failures ────▶
///     Up                                Degraded                            Down
///        ◀── rise consecutive fast ones            ◀─ rise and hold, some
///                                                     of the last rise slow
///
///     Up ───────────────────── fall failures ──────────────────────────▶ Down
///     Up ◀── rise consecutive successes, and hold since the first ────── Down
/// ```
///
/// No transition leads back to unknown. A slow success counts as a success everywhere: towards
/// `clear`, `rise` and `hold`.
///
/// Down is hard only if every failure that led to it was; it turns from soft to hard, or back, after `fall`
/// consecutive failures of the other kind. A [`Statement`] skips all thresholds.
#[derive(Clone, Debug, PartialEq)]
#[must_use]
pub struct Verdict {
    machine: Machine,
    /// When the current state was entered. A change between soft-down and hard-down does not count.
    pub since: Mono,
    failures: Failures,
    /// Whether any of the counted failures was soft.
    any_soft: bool,
    /// The latest consecutive failures of the same severity.
    streak: Streak,
    good: Run,
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum Machine {
    Unknown { first: Option<Mono> },
    Up(Reason),
    Degraded(Slow),
    Down(Severity),
}

/// What brought a target up.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Reason {
    GoodAtOnce,
    Recovered { successes: u32, good_for: Duration },
    Fast { successes: u32 },
    Stated,
    Restored,
}

/// Consecutive failures of the same severity.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Streak {
    severity: Severity,
    count: u32,
}

impl Streak {
    const NONE: Self = Self { severity: Severity::Soft, count: 0 };

    fn extended(self, severity: Severity) -> Self {
        let before = if severity == self.severity { self.count } else { 0 };
        Self { severity, count: before.saturating_add(1) }
    }
}

/// Consecutive successes.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
struct Run {
    count: u32,
    /// The latest of these without a slow one between.
    fast: u32,
    /// The latest of these without a fast one between.
    slow: u32,
    /// When the first was observed; meaningless while `count` is 0.
    first: Mono,
    /// The latest slow one.
    latest_slow: Option<Slow>,
}

impl Run {
    fn extended(self, slow: Option<Slow>, now: Mono) -> Self {
        Self {
            count: self.count.saturating_add(1),
            fast: if slow.is_some() { 0 } else { self.fast.saturating_add(1) },
            slow: if slow.is_some() { self.slow.saturating_add(1) } else { 0 },
            first: if self.count == 0 { now } else { self.first },
            latest_slow: slow.or(self.latest_slow),
        }
    }
}

/// A verdict as saved for a restart. Times are wall-clock times, since a monotonic clock does not survive a restart.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SavedVerdict {
    /// The state; never unknown.
    pub state: State,
    /// When it was entered.
    pub since: Unix,
    /// While down: how many consecutive successes there have been, and when the first of them ended.
    pub recovering: Option<(u32, Unix)>,
    /// Failures counted so far.
    pub failures: u32,
    /// The reason of the latest failure.
    pub reason: Option<String>,
}

impl Verdict {
    /// The initial verdict: unknown, without a result.
    pub fn new(now: Mono) -> Self {
        Self {
            machine: Machine::Unknown { first: None },
            since: now,
            failures: Failures::default(),
            any_soft: false,
            streak: Streak::NONE,
            good: Run::default(),
        }
    }

    /// Restores the verdict of the last run. A recovery in progress continues: its `hold` counts from its first
    /// success.
    pub fn restored(memory: &SavedVerdict, now: Now) -> Self {
        let mono = |at: Unix| Mono(now.mono.0.saturating_sub(now.unix.since(at)));
        let machine = match memory.state {
            State::Unknown => Machine::Unknown { first: None },
            State::Up => Machine::Up(Reason::Restored),
            State::Degraded => Machine::Degraded(Slow::UNMEASURED),
            State::Down(severity) => Machine::Down(severity),
        };
        let mut failures = Failures { count: memory.failures, ..Failures::default() };
        failures.last.extend(memory.reason.clone());
        let good = memory.recovering.map_or_else(Run::default, |(count, first)| Run {
            count,
            fast: count,
            first: mono(first),
            ..Run::default()
        });
        let any_soft = failures.count > 0 && memory.state != State::HARD_DOWN;
        Self { machine, since: mono(memory.since), failures, any_soft, streak: Streak::NONE, good }
    }

    /// What to save for a restart; `None` while unknown.
    #[must_use]
    pub fn memory(&self, now: Now) -> Option<SavedVerdict> {
        let unix = |at: Mono| Unix(now.unix.0.saturating_sub(now.mono.since(at)));
        if self.state() == State::Unknown {
            return None;
        }
        let recovering = (self.state().is_down() && self.good.count > 0).then_some(self.good);
        Some(SavedVerdict {
            state: self.state(),
            since: unix(self.since),
            recovering: recovering.map(|run| (run.count, unix(run.first))),
            failures: self.failures.count,
            reason: self.failures.last.back().cloned(),
        })
    }

    /// The state.
    #[must_use]
    pub fn state(&self) -> State {
        match self.machine {
            Machine::Unknown { .. } => State::Unknown,
            Machine::Up(_) => State::Up,
            Machine::Degraded(_) => State::Degraded,
            Machine::Down(severity) => State::Down(severity),
        }
    }

    /// Failures counted so far, even while they are too few for down; while unknown, those that do not count yet.
    #[must_use]
    pub fn failures(&self) -> &Failures {
        &self.failures
    }

    /// Whether a down target is recovering: its latest observations are successes.
    #[must_use]
    pub fn is_recovering(&self) -> bool {
        self.state().is_down() && self.good.count > 0
    }

    /// Why the state is what it is.
    #[must_use]
    pub fn evidence(&self) -> Evidence {
        match self.machine {
            Machine::Unknown { first: None } => Evidence::NotProbed,
            Machine::Unknown { .. } => Evidence::Starting(self.failures.clone()),
            Machine::Up(Reason::GoodAtOnce) => Evidence::GoodAtOnce,
            Machine::Up(Reason::Recovered { successes, good_for }) => {
                Evidence::Recovered { successes, good_for }
            }
            Machine::Up(Reason::Fast { successes }) => Evidence::Fast { successes },
            Machine::Up(Reason::Stated) => Evidence::Stated,
            Machine::Up(Reason::Restored) => Evidence::Restored,
            Machine::Degraded(slow) => Evidence::Slow(slow),
            Machine::Down(_) => {
                Evidence::Failed { failures: self.failures.clone(), good_since: self.good.count }
            }
        }
    }

    /// The earliest time at which the state can change, after an observation at `now`. Ignores jitter, which shortens
    /// intervals slightly.
    #[must_use]
    pub fn due(&self, probe: &Probe, now: Now) -> Due {
        let Probe { thresholds, interval, .. } = probe;
        let steps = |missing: u32| Due::within(*interval * missing, now.unix);
        let fall = match self.failures.count {
            0 => Due::while_steady(probe),
            count => steps(thresholds.fall.saturating_sub(count)),
        };
        match self.machine {
            // The next result can decide.
            Machine::Unknown { .. } => Due::ANY_TIME,
            Machine::Up(_) if thresholds.slow.is_none() || self.good.slow == 0 => fall,
            Machine::Up(_) => fall.min(steps(thresholds.fall.saturating_sub(self.good.slow))),
            Machine::Degraded(_) if self.good.fast == 0 => {
                fall.min(Due::after(*interval * thresholds.rise.saturating_sub(1)))
            }
            Machine::Degraded(_) => fall.min(steps(thresholds.rise.saturating_sub(self.good.fast))),
            Machine::Down(_) if self.good.count == 0 => {
                Due::after(thresholds.hold.max(*interval * thresholds.rise.saturating_sub(1)))
            }
            Machine::Down(_) => {
                // At least one more success is needed: those so far were not enough.
                let missing = *interval * thresholds.rise.saturating_sub(self.good.count).max(1);
                let held = thresholds.hold.saturating_sub(now.mono.since(self.good.first));
                Due::within(missing.max(held), now.unix)
            }
        }
    }

    /// The earliest time at which down can turn from soft to hard, or back, after an observation at `now`. While it is
    /// not down, [`Verdict::due`] comes first.
    #[must_use]
    pub fn severity_due(&self, probe: &Probe, now: Now) -> Due {
        match self.machine {
            Machine::Down(severity) if self.streak.count > 0 && self.streak.severity != severity => {
                let missing = probe.thresholds.fall.saturating_sub(self.streak.count);
                Due::within(probe.interval * missing, now.unix)
            }
            Machine::Down(_) => Due::while_steady(probe),
            Machine::Unknown { .. } | Machine::Up(_) | Machine::Degraded(_) => Due::NEVER,
        }
    }

    /// The verdict after one more observation, made at `now`.
    pub fn observe(self, observation: &Observation, thresholds: &Thresholds, now: Mono) -> Self {
        match observation {
            Observation::Probe(result) => match &result.failure {
                Some(failure) => self.failed(failure, thresholds, now),
                None => {
                    let slow = thresholds.slow.filter(|limit| result.took > *limit);
                    let slow = slow.map(|limit| Slow { limit, took: result.took });
                    self.succeeded(slow, thresholds, now)
                }
            },
            Observation::Window(window) if window.is_empty() => self,
            Observation::Window(window) => match window.failure() {
                Some(failure) => self.failed(failure, thresholds, now),
                None => self.succeeded(None, thresholds, now),
            },
            Observation::Statement(statement) => self.stated(statement, now),
        }
    }

    fn failed(mut self, failure: &Failure, thresholds: &Thresholds, now: Mono) -> Self {
        self.failures.broken |= self.failures.count > 0 && self.good.count > 0;
        self.good = Run::default();
        self.failures.add(&failure.reason);
        self.any_soft |= failure.severity == Severity::Soft;
        self.streak = self.streak.extended(failure.severity);
        match self.machine {
            Machine::Unknown { first } => self.failed_while_unknown(first.unwrap_or(now), thresholds, now),
            Machine::Down(severity)
                if severity != self.streak.severity && self.streak.count >= thresholds.fall =>
            {
                Self { machine: Machine::Down(self.streak.severity), ..self }
            }
            Machine::Down(_) => self,
            Machine::Up(_) | Machine::Degraded(_) if self.failures.count < thresholds.fall => self,
            Machine::Up(_) | Machine::Degraded(_) => {
                let severity = self.severity();
                self.entered(Machine::Down(severity), now)
            }
        }
    }

    /// Handles a failure before the first success: a first failure awaits confirmation by a second one, and failures
    /// do not count during a startup grace.
    fn failed_while_unknown(self, first: Mono, thresholds: &Thresholds, now: Mono) -> Self {
        let is_starting = thresholds.startup.is_some_and(|startup| now.since(first) < startup.grace);
        if is_starting || self.failures.count < FIRST_FAILURES {
            return Self { machine: Machine::Unknown { first: Some(first) }, ..self };
        }
        let severity = self.severity();
        self.entered(Machine::Down(severity), now)
    }

    /// The severity of the counted failures: hard only if every one was.
    fn severity(&self) -> Severity {
        if self.any_soft { Severity::Soft } else { Severity::Hard }
    }

    fn succeeded(mut self, slow: Option<Slow>, thresholds: &Thresholds, now: Mono) -> Self {
        self.good = self.good.extended(slow, now);
        let Run { count, fast, slow: slow_count, first, latest_slow } = self.good;
        self.streak = Streak::NONE;
        if !self.state().is_down() && (count >= thresholds.clear || self.state() == State::Unknown) {
            self.clear_failures();
        }
        match (self.machine, slow) {
            (Machine::Unknown { .. }, _) => self.entered(Machine::Up(Reason::GoodAtOnce), now),
            (Machine::Up(_), Some(slow)) if slow_count >= thresholds.fall => {
                self.entered(Machine::Degraded(slow), now)
            }
            (Machine::Degraded(_), Some(slow)) => Self { machine: Machine::Degraded(slow), ..self },
            (Machine::Degraded(_), None) if fast >= thresholds.rise => {
                self.entered(Machine::Up(Reason::Fast { successes: fast }), now)
            }
            (Machine::Down(_), _) if count >= thresholds.rise && now.since(first) >= thresholds.hold => {
                self.clear_failures();
                match latest_slow {
                    Some(slow) if fast < thresholds.rise => self.entered(Machine::Degraded(slow), now),
                    _ => {
                        let reason = Reason::Recovered { successes: count, good_for: now.since(first) };
                        self.entered(Machine::Up(reason), now)
                    }
                }
            }
            (Machine::Up(_) | Machine::Degraded(_) | Machine::Down(_), _) => self,
        }
    }

    fn stated(mut self, statement: &Statement, now: Mono) -> Self {
        match statement {
            Statement::Serving => {
                self.clear_failures();
                if self.state().serves() { self } else { self.entered(Machine::Up(Reason::Stated), now) }
            }
            Statement::NotServing(reason) => {
                self.good = Run::default();
                self.clear_failures();
                self.failures.add(reason);
                match self.machine {
                    Machine::Down(_) => Self { machine: Machine::Down(Severity::Soft), ..self },
                    _ => self.entered(Machine::Down(Severity::Soft), now),
                }
            }
        }
    }

    /// Clears the counted failures.
    fn clear_failures(&mut self) {
        self.failures = Failures::default();
        self.any_soft = false;
        self.streak = Streak::NONE;
    }

    fn entered(self, machine: Machine, now: Mono) -> Self {
        Self { machine, since: now, ..self }
    }
}

#[cfg(test)]
mod tests;
