//! What the journal recalled of the last run, and what it is given for the next.

use crate::health::SavedVerdict;
use crate::journal::{Recalled, VerdictRecord};
use crate::model::{CheckId, Topology, Unix};
use crate::net::clock::Clock;
use crate::standing::Override;
use crate::state::{Rejection, SavedState, check_target};

/// A sentence about each override whose target is not in the config.
#[must_use]
pub fn without_target(overrides: &[Override], topology: &Topology) -> Vec<String> {
    let sentence = |o: &Override| {
        let Err(Rejection::NotFound(why)) = check_target(topology, &o.target) else { return None };
        let (id, action, target) = (o.id, o.action, &o.target);
        Some(format!(
            "override {id} {action} {target} has no effect: {why}; remove it unless it should apply when the target returns"
        ))
    };
    overrides.iter().filter_map(sentence).collect()
}

/// Takes the overrides that no longer hold from what the journal recalled, in the order in which they ended.
pub(super) fn ended_meanwhile(recalled: &mut Recalled, now: Unix) -> Vec<Override> {
    let mut ended = std::mem::take(&mut recalled.ended);
    ended.extend(recalled.overrides.extract_if(.., |it| !it.holds_at(now)));
    ended.sort_by_key(|it| it.until);
    ended
}

/// What the journal recalled of the last run, for the state.
pub(super) fn remembered(recalled: Recalled) -> SavedState {
    let Recalled { overrides, last_override, verdicts, hosts, .. } = recalled;
    let verdicts = verdicts.into_iter().map(|it| (it.check, it.memory, it.seen));
    SavedState { overrides, last_override, verdicts: verdicts.collect(), hosts }
}

pub(super) fn records(verdicts: Vec<(CheckId, SavedVerdict)>) -> Vec<VerdictRecord> {
    let seen = Clock::unix();
    verdicts.into_iter().map(|(check, memory)| VerdictRecord { check, memory, seen }).collect()
}
