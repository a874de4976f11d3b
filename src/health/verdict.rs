//! The machine that turns a row of observations into a state.

use std::time::Duration;

use super::evidence::{Evidence, Failures, Slow};
use super::{Failure, Observation, Severity, State};
use crate::model::{Due, Mono, Now, Probe, Thresholds};

/// What is held true of one target seen through one probe.
///
/// ```text
///             the first look that counts
///   Unknown ─┬───────── success ─────────▶ Up
///            ├────── slow success ───────▶ Degraded
///            └───────── failure ─────────▶ Down (soft or hard, as its latest failure was)
///
///        ─── slow success ──▶             ────────── fall ──────────▶
///     Up                       Degraded                                Down
///        ◀── rise fast ones ─             ◀─ rise and hold, some slow ─
///
///     Up ────────────────────── fall counted failures ───────────────▶ Down
///     Up ◀── rise fast successes in a row, and hold since the first ── Down
/// ```
///
/// There is no way back to unknown. A success may be slow and still counts as a success everywhere: towards
/// `clear`, `rise` and `hold`. Only the way to up asks for `rise` *fast* ones, so a target that recovers
/// slowly becomes degraded first.
#[derive(Clone, Debug, PartialEq)]
#[must_use]
pub struct Verdict {
    machine: Machine,
    /// When the present state was entered. A down that turns from soft to hard stays the same down.
    pub since: Mono,
    failures: Failures,
    good: Run,
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum Machine {
    Unknown { first_look: Option<Mono> },
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
}

/// Successes in a row.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
struct Run {
    count: u32,
    /// Of these the latest that came without a slow one between.
    fast: u32,
    /// When the first came; means nothing while `count` is 0.
    first: Mono,
    /// The latest slow one.
    slow: Option<Slow>,
}

impl Run {
    fn extended(self, slow: Option<Slow>, now: Mono) -> Self {
        Self {
            count: self.count.saturating_add(1),
            fast: if slow.is_some() { 0 } else { self.fast.saturating_add(1) },
            first: if self.count == 0 { now } else { self.first },
            slow: slow.or(self.slow),
        }
    }
}

impl Verdict {
    /// Unknown: nobody has looked.
    pub fn new(now: Mono) -> Self {
        Self {
            machine: Machine::Unknown { first_look: None },
            since: now,
            failures: Failures::default(),
            good: Run::default(),
        }
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

    /// Failures counted so far, also while they are too few for down; while unknown, those of the startup
    /// grace, which do not count.
    #[must_use]
    pub fn failures(&self) -> &Failures {
        &self.failures
    }

    /// Why the state is what it is.
    #[must_use]
    pub fn evidence(&self) -> Evidence {
        match self.machine {
            Machine::Unknown { first_look: None } => Evidence::NotProbed,
            Machine::Unknown { .. } => Evidence::Starting(self.failures.clone()),
            Machine::Up(Reason::GoodAtOnce) => Evidence::GoodAtOnce,
            Machine::Up(Reason::Recovered { successes, good_for }) => {
                Evidence::Recovered { successes, good_for }
            }
            Machine::Up(Reason::Fast { successes }) => Evidence::Fast { successes },
            Machine::Degraded(slow) => Evidence::Slow(slow),
            Machine::Down(_) => {
                Evidence::Failed { failures: self.failures.clone(), good_since: self.good.count }
            }
        }
    }

    /// When the target can begin or cease to serve at the earliest, as known after a look at `now`. That it
    /// serves fast or slowly is no such change: both are answered. Jitter, which shortens an interval a
    /// little, is left aside.
    #[must_use]
    pub fn due(&self, probe: &Probe, now: Now) -> Due {
        let Probe { thresholds, interval, .. } = probe;
        match self.machine {
            // The first look that counts decides alone.
            Machine::Unknown { .. } => Due::ANY_TIME,
            Machine::Up(_) | Machine::Degraded(_) => match self.failures.count {
                0 => Due::while_good(probe),
                count => Due::counted(*interval * thresholds.fall.saturating_sub(count), now.unix),
            },
            Machine::Down(_) if self.good.count == 0 => {
                Due::after(thresholds.hold.max(*interval * thresholds.rise.saturating_sub(1)))
            }
            Machine::Down(_) => {
                // At least one more look: this one was not enough.
                let looks = *interval * thresholds.rise.saturating_sub(self.good.count).max(1);
                let held = thresholds.hold.saturating_sub(now.mono.since(self.good.first));
                Due::counted(looks.max(held), now.unix)
            }
        }
    }

    /// The verdict after one more look, made at `now`.
    pub fn observe(self, observation: &Observation, thresholds: &Thresholds, now: Mono) -> Self {
        match &observation.failure {
            Some(failure) => self.failed(failure, thresholds, now),
            None => {
                let took = observation.timings.total();
                let slow = thresholds.slow.filter(|limit| took > *limit).map(|limit| Slow { limit, took });
                self.succeeded(slow, thresholds, now)
            }
        }
    }

    fn failed(mut self, failure: &Failure, thresholds: &Thresholds, now: Mono) -> Self {
        self.good = Run::default();
        if let Machine::Unknown { first_look } = self.machine {
            let first_look = first_look.unwrap_or(now);
            if thresholds.startup.is_some_and(|startup| now.since(first_look) < startup.grace) {
                self.failures.add(&failure.reason);
                return Self { machine: Machine::Unknown { first_look: Some(first_look) }, ..self };
            }
            // What failed during the grace never counted: this look alone decides.
            self.failures = Failures::default();
        }
        self.failures.add(&failure.reason);
        match self.machine {
            Machine::Down(_) => Self { machine: Machine::Down(failure.severity), ..self },
            Machine::Up(_) | Machine::Degraded(_) if self.failures.count < thresholds.fall => self,
            Machine::Up(_) | Machine::Degraded(_) | Machine::Unknown { .. } => {
                self.entered(Machine::Down(failure.severity), now)
            }
        }
    }

    fn succeeded(mut self, slow: Option<Slow>, thresholds: &Thresholds, now: Mono) -> Self {
        self.good = self.good.extended(slow, now);
        let Run { count, fast, first, slow: lately_slow } = self.good;
        if count >= thresholds.clear && !self.state().is_down() {
            self.failures = Failures::default();
        }
        self.failures.broken = self.failures.count > 0;
        match (self.machine, slow) {
            (Machine::Unknown { .. }, None) => {
                self.failures = Failures::default();
                self.entered(Machine::Up(Reason::GoodAtOnce), now)
            }
            (Machine::Unknown { .. }, Some(slow)) => {
                self.failures = Failures::default();
                self.entered(Machine::Degraded(slow), now)
            }
            (Machine::Up(_), Some(slow)) => self.entered(Machine::Degraded(slow), now),
            (Machine::Degraded(_), Some(slow)) => Self { machine: Machine::Degraded(slow), ..self },
            (Machine::Degraded(_), None) if fast >= thresholds.rise => {
                self.entered(Machine::Up(Reason::Fast { successes: fast }), now)
            }
            (Machine::Down(_), _) if count >= thresholds.rise && now.since(first) >= thresholds.hold => {
                self.failures = Failures::default();
                match lately_slow {
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

    fn entered(self, machine: Machine, now: Mono) -> Self {
        Self { machine, since: now, ..self }
    }
}

#[cfg(test)]
mod tests;
