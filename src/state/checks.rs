//! The verdict of every check.

use std::collections::HashMap;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use crate::health::{Blind, Evidence, Failures, Memory, Observation, Severity, State, Verdict};
use crate::model::{CheckId, Due, Mono, Now, Probe, Unix};

/// Index into the checks of a node.
pub(super) type Index = u32;

/// All checks: those of addresses in order of region, endpoint, address and probe, then those of anchors.
#[derive(Debug, Default)]
pub(super) struct Checks {
    pub(super) list: Vec<Check>,
    by_id: HashMap<CheckId, Index>,
    /// Checks that have found nothing to connect to since [`Check::cut_off`].
    pub(super) cut_off: usize,
    /// The longest interval and timeout of a check: what fails for one reason fails within this time.
    pub(super) longest: Duration,
    /// Checks that this node could not make when it last tried.
    pub(super) blind: usize,
    /// Checks without a verdict so far.
    unseen: usize,
}

/// A check and what came of it so far.
#[derive(Clone, Debug)]
pub(super) struct Check {
    pub(super) id: CheckId,
    pub(super) probe: Arc<Probe>,
    /// Grows when the probe changes: a result of the old one no longer counts.
    pub(super) generation: u32,
    pub(super) verdict: Verdict,
    /// When the verdict can change at the earliest, as known after the last result.
    pub(super) due: Due,
    /// When the first of the failures since the last success came.
    failing_since: Option<Unix>,
    /// The hard failures since anything else was found: all that a lost network of this node looks like.
    pub(super) cut_off: Option<CutOff>,
    /// Why this node could not make it when it last tried.
    pub(super) blind: Option<Blind>,
    rtt: Option<Duration>,
    took: Option<Duration>,
    last: Option<Unix>,
    pub(super) last_success: Option<Now>,
}

/// Consecutive hard failures.
#[derive(Clone, Copy, Debug)]
pub(super) struct CutOff {
    /// When the first came.
    pub(super) since: Now,
    /// The state before it.
    pub(super) before: State,
}

/// What came of a check, for status and explain.
#[derive(Clone, Debug, PartialEq)]
pub struct CheckStatus {
    /// Which check.
    pub id: CheckId,
    /// The state.
    pub state: State,
    /// Since when.
    pub since: Unix,
    /// Why.
    pub evidence: Evidence,
    /// Failures counted so far, also while they are too few for down.
    pub failures: Failures,
    /// How long the last successful TCP handshake took.
    pub rtt: Option<Duration>,
    /// How long the last probe took.
    pub took: Option<Duration>,
    /// When the last probe ended.
    pub last_probe: Option<Unix>,
    /// When the last success ended.
    pub last_success: Option<Unix>,
    /// When the first of the failures since then ended; `None` while it succeeds.
    pub failing_since: Option<Unix>,
    /// Why this node cannot make it, if it cannot.
    pub blind: Option<String>,
}

/// What led to the state, and what speaks against it by now.
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
    /// The state, or whether this node can make the check at all.
    pub(super) state: bool,
    /// When the state can change at the earliest.
    pub(super) due: bool,
    /// What must be kept over a restart.
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

    fn take_in(&mut self, observation: &Observation, now: Now) {
        let before = self.verdict.state();
        let verdict = std::mem::replace(&mut self.verdict, Verdict::new(now.mono));
        self.verdict = verdict.observe(observation, &self.probe.thresholds, now.mono);
        self.due = self.verdict.due(&self.probe, now);
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
    /// Adds a check; one that was there before, under the same id, keeps its verdict.
    pub(super) fn add(&mut self, before: &Self, id: CheckId, probe: &Arc<Probe>, now: Now) -> Index {
        let index = self.list.len() as Index;
        let check = match before.get(&id) {
            Some(known) if *known.probe == **probe => known.clone(),
            // Under another definition only the next result can tell.
            Some(known) => Check {
                probe: Arc::clone(probe),
                generation: known.generation + 1,
                due: Due::ANY_TIME,
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

    /// A check without a result takes over that its subject fails, though that is not believed.
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

    /// Takes in what came of a check.
    pub(super) fn observe(
        &mut self,
        index: Index,
        outcome: Result<&Observation, &Blind>,
        now: Now,
    ) -> Changed {
        let check = &mut self.list[index as usize];
        let (state, due, recovering) = (check.verdict.state(), check.due, check.verdict.is_recovering());
        let (cut_off, blind, seen) = (check.cut_off.is_some(), check.blind.is_some(), check.is_seen());
        match outcome {
            Ok(observation) => {
                check.blind = None;
                check.take_in(observation, now);
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
            due: check.due != due,
            memory: state_changed || recovering != check.verdict.is_recovering(),
        }
    }

    /// Gives a check without a result the verdict of the last run.
    pub(super) fn restore(&mut self, index: Index, memory: &Memory, now: Now) {
        let check = &mut self.list[index as usize];
        if check.is_seen() {
            return;
        }
        check.verdict = Verdict::restored(memory, now);
        check.due = Due::ANY_TIME;
        self.unseen -= 1;
    }

    /// Whether every check has a verdict.
    pub(super) fn all_seen(&self) -> bool {
        self.unseen == 0
    }

    /// Checks that have a verdict.
    pub(super) fn seen(&self) -> usize {
        self.list.len() - self.unseen
    }

    /// The last success of a check.
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
        };
        self.list.iter().map(status).collect()
    }
}
