//! All checks of a node, with their verdicts.

use std::collections::HashMap;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use crate::health::{CannotProbe, Evidence, Failures, Observation, SavedVerdict, Severity, State, Verdict};
use crate::model::{CheckId, Due, Mono, Now, Probe, Unix};

/// Index into the checks of a node.
pub(super) type Index = u32;

/// All checks: first those of addresses, sorted by region, endpoint, address and probe, then those of anchors.
#[derive(Clone, Debug, Default)]
pub(super) struct Checks {
    pub(super) list: Vec<Check>,
    by_id: HashMap<CheckId, Index>,
    /// Checks whose latest results are hard failures, see [`Check::cut_off`].
    pub(super) cut_off: usize,
    /// The longest interval plus timeout of a check: failures with one cause begin within this time.
    pub(super) longest: Duration,
    /// Checks that this node could not run when it last tried.
    pub(super) blind: usize,
    /// Checks without a verdict so far.
    unseen: usize,
}

/// A check and its results so far.
#[derive(Clone, Debug)]
pub(super) struct Check {
    pub(super) id: CheckId,
    pub(super) probe: Arc<Probe>,
    /// Incremented when the probe changes: results of the old one no longer count.
    pub(super) generation: u32,
    pub(super) verdict: Verdict,
    /// The earliest time at which the verdict can change, as of the last result.
    pub(super) due: Due,
    /// While it is down: the earliest time at which its severity can change, as of the last result.
    pub(super) severity_due: Due,
    /// When the first of the failures since the last success was observed.
    failing_since: Option<Unix>,
    /// The hard failures since the last other result. A lost network of this node shows as these and nothing else.
    pub(super) cut_off: Option<CutOff>,
    /// Why this node could not run it when it last tried; `None` if it could.
    pub(super) blind: Option<CannotProbe>,
    rtt: Option<Duration>,
    took: Option<Duration>,
    last: Option<Unix>,
    pub(super) last_success: Option<Now>,
}

/// Consecutive hard failures.
#[derive(Clone, Copy, Debug)]
pub(super) struct CutOff {
    /// When the first failure was observed.
    pub(super) since: Now,
    /// The state before the first failure.
    pub(super) before: State,
}

/// The state and latest results of a check, for status and explain.
#[derive(Clone, Debug, PartialEq)]
pub struct CheckStatus {
    /// The check.
    pub id: CheckId,
    /// The state.
    pub state: State,
    /// When the state was entered.
    pub since: Unix,
    /// What led to the state.
    pub evidence: Evidence,
    /// Failures counted so far, even while they are too few for down.
    pub failures: Failures,
    /// How long the last successful TCP handshake took.
    pub rtt: Option<Duration>,
    /// How long the last probe took.
    pub took: Option<Duration>,
    /// When the last probe ended.
    pub last_probe: Option<Unix>,
    /// When the last success ended.
    pub last_success: Option<Unix>,
    /// When the first failure since the last success ended; `None` while it succeeds.
    pub failing_since: Option<Unix>,
    /// Why this node cannot run it; `None` if it can.
    pub blind: Option<String>,
    /// If it is the check that decides about its address: the state that the address has by it.
    pub decides: Option<State>,
}

/// What led to the state, and failures since then that have not changed it yet.
impl fmt::Display for CheckStatus {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.evidence.fmt(f)?;
        if self.state.serves() && self.failures.count > 0 {
            write!(f, "; lately {}", self.failures)?;
        }
        match &self.blind {
            Some(reason) => write!(f, "; cannot be probed: {reason}"),
            None => Ok(()),
        }
    }
}

/// What an observation changed.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Changed {
    /// The state, or whether this node can run the check at all.
    pub(super) state: bool,
    /// The earliest time at which the state or its severity can change.
    pub(super) due: bool,
    /// Anything that must survive a restart.
    pub(super) memory: bool,
}

impl Check {
    fn new(id: CheckId, probe: Arc<Probe>, now: Now) -> Self {
        Self {
            id,
            probe,
            generation: 0,
            verdict: Verdict::new(now.mono),
            due: Due::ANY_TIME,
            severity_due: Due::ANY_TIME,
            failing_since: None,
            cut_off: None,
            blind: None,
            rtt: None,
            took: None,
            last: None,
            last_success: None,
        }
    }

    /// Whether it has a verdict, of this run or of the last, or cannot have one yet: a startup grace runs, or this node
    /// cannot make it.
    pub(super) fn is_seen(&self) -> bool {
        let is_starting = self.probe.thresholds.startup.is_some() && self.last.is_some();
        self.verdict.state() != State::Unknown || is_starting || self.blind.is_some()
    }

    /// Until the next result, anything may change at once.
    pub(super) fn unsettle(&mut self) {
        self.due = Due::ANY_TIME;
        self.severity_due = Due::ANY_TIME;
    }

    fn apply(&mut self, observation: &Observation, now: Now) {
        let before = self.verdict.state();
        let verdict = std::mem::replace(&mut self.verdict, Verdict::new(now.mono));
        self.verdict = verdict.observe(observation, &self.probe.thresholds, now.mono);
        self.due = self.verdict.due(&self.probe, now);
        self.severity_due = self.verdict.severity_due(&self.probe, now);
        self.last = Some(now.unix);
        let result = match observation {
            Observation::Probe(result) => Some(result),
            Observation::Window(_) | Observation::Statement(_) => None,
        };
        self.took = result.map(|result| result.took).or(self.took);
        let severity = observation.severity();
        // Whatever else is wrong: something was reached.
        if severity == Some(Severity::Hard) {
            self.cut_off.get_or_insert(CutOff { since: now, before });
        } else {
            self.cut_off = None;
        }
        if severity.is_some() {
            self.failing_since.get_or_insert(now.unix);
        } else {
            self.failing_since = None;
            self.rtt = result.and_then(|result| result.rtt).or(self.rtt);
            self.last_success = Some(now);
        }
    }
}

impl Checks {
    /// Adds a check. If `before` has one with the same id, the check keeps its verdict.
    pub(super) fn add(&mut self, before: &Self, id: CheckId, probe: &Arc<Probe>, now: Now) -> Index {
        let index = self.list.len() as Index;
        let check = match before.get(&id) {
            Some(known) if *known.probe == **probe => known.clone(),
            // The definition of the probe changed: the next result decides when the state can change.
            Some(known) => Check {
                probe: Arc::clone(probe),
                generation: known.generation + 1,
                due: Due::ANY_TIME,
                severity_due: Due::ANY_TIME,
                ..known.clone()
            },
            None => Check::new(id, Arc::clone(probe), now),
        };
        self.longest = self.longest.max(check.probe.interval + check.probe.timeout);
        self.cut_off += usize::from(check.cut_off.is_some());
        self.blind += usize::from(check.blind.is_some());
        self.unseen += usize::from(!check.is_seen());
        self.by_id.insert(check.id.clone(), index);
        self.list.push(check);
        index
    }

    /// Makes a check without a verdict inherit the failures of its subject that `suspect_self` disregards.
    pub(super) fn inherit(&mut self, index: Index, cut_off: CutOff) {
        let check = &mut self.list[index as usize];
        if !check.is_seen() && check.cut_off.is_none() {
            check.cut_off = Some(cut_off);
            self.cut_off += 1;
        }
    }

    pub(super) fn find(&self, id: &CheckId) -> Option<Index> {
        self.by_id.get(id).copied()
    }

    fn get(&self, id: &CheckId) -> Option<&Check> {
        self.find(id).map(|index| &self.list[index as usize])
    }

    /// Records the outcome of a check.
    pub(super) fn observe(
        &mut self,
        index: Index,
        outcome: Result<&Observation, &CannotProbe>,
        now: Now,
    ) -> Changed {
        let check = &mut self.list[index as usize];
        let (state, recovering) = (check.verdict.state(), check.verdict.is_recovering());
        let due = (check.due, check.severity_due);
        let (cut_off, blind, seen) = (check.cut_off.is_some(), check.blind.is_some(), check.is_seen());
        match outcome {
            Ok(observation) => {
                check.blind = None;
                check.apply(observation, now);
            }
            Err(reason) => check.blind = Some(reason.clone()),
        }
        let move_count = |count: &mut usize, was: bool, is: bool| match (was, is) {
            (false, true) => *count += 1,
            (true, false) => *count -= 1,
            _ => {}
        };
        move_count(&mut self.cut_off, cut_off, check.cut_off.is_some());
        move_count(&mut self.blind, blind, check.blind.is_some());
        move_count(&mut self.unseen, !seen, !check.is_seen());
        let state_changed = check.verdict.state() != state;
        Changed {
            state: state_changed || blind != check.blind.is_some(),
            due: (check.due, check.severity_due) != due,
            memory: state_changed || recovering != check.verdict.is_recovering(),
        }
    }

    /// Restores the verdict of the last run for a check without a result.
    pub(super) fn restore(&mut self, index: Index, memory: &SavedVerdict, now: Now) {
        let check = &mut self.list[index as usize];
        if check.is_seen() {
            return;
        }
        check.verdict = Verdict::restored(memory, now);
        check.unsettle();
        self.unseen -= 1;
    }

    /// Whether every check has a verdict.
    pub(super) fn all_seen(&self) -> bool {
        self.unseen == 0
    }

    /// The number of checks that have a verdict.
    pub(super) fn seen(&self) -> usize {
        self.list.len() - self.unseen
    }

    /// When a check last succeeded.
    pub(super) fn last_success(&self, index: Index) -> Option<Mono> {
        self.list[index as usize].last_success.map(|at| at.mono)
    }

    pub(super) fn status(&self, now: Now) -> Vec<CheckStatus> {
        let unix = |at: Mono| Unix(now.unix.0.saturating_sub(now.mono.since(at)));
        let status = |check: &Check| CheckStatus {
            id: check.id.clone(),
            state: check.verdict.state(),
            since: unix(check.verdict.since),
            evidence: check.verdict.evidence(),
            failures: check.verdict.failures().clone(),
            rtt: check.rtt,
            took: check.took,
            last_probe: check.last,
            last_success: check.last_success.map(|at| at.unix),
            failing_since: check.failing_since,
            blind: check.blind.as_ref().map(|blind| blind.reason.clone()),
            decides: None,
        };
        self.list.iter().map(status).collect()
    }
}
