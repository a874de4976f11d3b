//! Whether this node should doubt its own network rather than what it probes.
//!
//! Targets fail one by one; a failure of the node's own network affects all of them at once, and is hard. When many
//! checks start to fail hard within one interval, and no external anchor can be reached, verdicts change as usual, but
//! steering keeps using the states from before, for a limited time.

use std::ops::Range;
use std::time::Duration;

use super::checks::{Check, Checks, Index};
use super::event::EventKind;
use crate::health::State;
use crate::model::{Mono, Now, Rules, SuspectSelf};
use crate::standing::Suspected;

/// The least number of checks that must all fail together for an alarm if `suspect_self` is not set; fewer prove
/// nothing.
const MIN_FOR_ALARM: usize = 2;

/// What the node currently suspects.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) enum Suspicion {
    /// Nothing.
    #[default]
    None,
    /// This node's own network, since the first of these failures (`onset`): steering disregards failures from then on.
    Own { onset: Mono, until: Mono },
    /// Probes decide: an anchor can be reached, the time limit is over, or `suspect_self` is not set. But for an anchor,
    /// which proves that the network works, the alarm remains.
    Dropped { onset: Mono, alarm: bool },
}

impl Suspicion {
    /// The state of a check that steering uses.
    pub(super) fn state(&self, check: &Check) -> State {
        match (self, check.cut_off) {
            (Self::Own { onset, .. }, Some(cut_off)) if cut_off.since.mono >= *onset => cut_off.before,
            _ => check.verdict.state(),
        }
    }

    /// Whether steering currently disregards recent failures.
    pub(super) fn is_active(&self) -> bool {
        matches!(self, Self::Own { .. })
    }

    pub(super) fn suspected(&self) -> Option<Suspected> {
        match self {
            Self::Own { .. } => Some(Suspected::KeepsStanding),
            Self::Dropped { alarm: true, .. } => Some(Suspected::AlarmOnly),
            Self::None | Self::Dropped { alarm: false, .. } => None,
        }
    }

    /// Re-evaluates all checks. Returns an event if an alarm begins or ends.
    pub(super) fn update(
        &mut self,
        checks: &Checks,
        anchors: Range<Index>,
        rules: &Rules,
        now: Now,
    ) -> Option<EventKind> {
        let rule = rules.suspect_self.as_ref();
        let probes = &checks.list[..anchors.start as usize];
        // New checks after a reload prove nothing before they have a verdict.
        let is_kept = self.is_active() && !checks.all_seen();
        if checks.cut_off < required(rule, checks.seen().saturating_sub(anchors.len())) && !is_kept {
            return self.end();
        }
        let anchor_answered = |onset: Mono| {
            anchors.clone().any(|anchor| checks.last_success(anchor).is_some_and(|at| at > onset))
        };
        match *self {
            // A reload has removed the rule.
            Self::Own { onset, .. } if rule.is_none() => {
                *self = Self::Dropped { onset, alarm: true };
                None
            }
            Self::None => {
                let failure = MassFailure::of(probes, checks.longest, now, rule)?;
                self.begin(&failure, rule, now)
            }
            Self::Own { onset, until } => {
                if anchor_answered(onset) {
                    *self = Self::Dropped { onset, alarm: false };
                    let message = "an anchor can be reached: this node's network works, probes decide again";
                    return Some(EventKind::AllClear { message: message.into() });
                }
                if now.mono >= until {
                    *self = Self::Dropped { onset, alarm: true };
                    let message = "suspect_self has kept the last standing for at_most: probes decide again";
                    return Some(EventKind::Alarm { message: message.into() });
                }
                if is_kept { None } else { self.end_if_recovered(probes, onset, rule) }
            }
            Self::Dropped { onset, .. } => self.end_if_recovered(probes, onset, rule),
        }
    }

    fn begin(&mut self, failure: &MassFailure, rule: Option<&SuspectSelf>, now: Now) -> Option<EventKind> {
        let MassFailure { failing, of, onset, within } = *failure;
        let what = format!("{failing} of {of} checks started to fail within {within:?}");
        let message = match rule {
            Some(rule) => {
                *self = Self::Own { onset, until: now.mono.after(rule.at_most) };
                let at_most = rule.at_most;
                format!(
                    "{what}: this node suspects its own network and keeps the last standing for at most {at_most:?}"
                )
            }
            None => {
                *self = Self::Dropped { onset, alarm: true };
                format!("{what}: this node may have lost its own network")
            }
        };
        Some(EventKind::Alarm { message })
    }

    /// Ends the suspicion once too few of the checks that failed together still fail.
    fn end_if_recovered(
        &mut self,
        probes: &[Check],
        onset: Mono,
        rule: Option<&SuspectSelf>,
    ) -> Option<EventKind> {
        let together = probes.iter().filter(|check| is_failing_since(check, onset)).count();
        let of = probes.iter().filter(|check| counts(check, onset)).count();
        if together < required(rule, of) { self.end() } else { None }
    }

    fn end(&mut self) -> Option<EventKind> {
        let was = std::mem::take(self);
        let message = "checks succeed again: this node's network works".to_owned();
        (was != Self::None).then_some(EventKind::AllClear { message })
    }
}

/// Checks that started to fail together.
struct MassFailure {
    failing: usize,
    of: usize,
    /// When the first of them started to fail.
    onset: Mono,
    within: Duration,
}

impl MassFailure {
    /// The checks that started to fail within `within` (the longest interval plus timeout of any probe), if they are
    /// enough. Checks that failed before do not count.
    fn of(probes: &[Check], within: Duration, now: Now, rule: Option<&SuspectSelf>) -> Option<Self> {
        let start = Mono(now.mono.0.saturating_sub(within));
        let of = probes.iter().filter(|check| counts(check, start)).count();
        let recent = || probes.iter().filter(|check| is_failing_since(check, start));
        let failing = recent().count();
        let onset = recent().filter_map(|check| check.cut_off).map(|cut_off| cut_off.since.mono).min()?;
        let served = recent().any(|check| check.cut_off.is_some_and(|cut_off| cut_off.before.serves()));
        (failing >= required(rule, of) && served).then_some(Self { failing, of, onset, within })
    }
}

/// How many checks must fail together.
fn required(rule: Option<&SuspectSelf>, of: usize) -> usize {
    match rule {
        Some(rule) => rule.share.ceil_of(of).max(rule.min).max(1),
        None => of.max(MIN_FOR_ALARM),
    }
}

fn is_failing_since(check: &Check, start: Mono) -> bool {
    check.cut_off.is_some_and(|cut_off| cut_off.since.mono >= start)
}

/// Whether a check has a result, and was not failing before `start`.
fn counts(check: &Check, start: Mono) -> bool {
    check.is_seen() && check.cut_off.is_none_or(|cut_off| cut_off.since.mono >= start)
}
