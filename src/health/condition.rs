//! The state of something that has several parts.

use super::{Severity, State};
use crate::model::Condition;

/// Evaluates a condition. `leaf` returns the state of each part, or `None` for parts that do not count, such as
/// endpoints of weight 0. The result is `None` if no part counts.
///
/// *Unknown never lowers*: a part without a result changes nothing as long as the other parts decide. If they do not,
/// but could together with the unknown ones, the whole is unknown.
#[must_use]
pub fn evaluate(condition: &Condition, leaf: &impl Fn(&Condition) -> Option<State>) -> Option<State> {
    match condition {
        Condition::All(parts) => all(states(parts, leaf)),
        Condition::Any(parts) => at_least(|_| 1, states(parts, leaf)),
        Condition::AtLeast(count, parts) => at_least(|_| *count, states(parts, leaf)),
        Condition::Fraction(share, parts) => at_least(|total| share.ceil_of(total), states(parts, leaf)),
        Condition::Not(part) => evaluate(part, leaf).map(negated),
        Condition::Check(_) | Condition::Endpoint(_) | Condition::Region(_) => leaf(condition),
    }
}

/// A part of a condition, and what its state is due to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Part<S, T> {
    /// The state.
    pub state: State,
    /// When it was entered, by any clock.
    pub since: S,
    /// What it is due to.
    pub by: T,
}

/// Evaluates a condition like [`evaluate`], and finds the part that decides: of those in the state of the whole the one that
/// brought it about when it entered that state. If all parts must be up, that is the first that failed, and the last that
/// recovered; if one suffices, the last that failed, and the first that recovered. Those at the same time count in the order
/// of the condition.
#[must_use]
pub fn decide<S: Ord + Copy, T: Copy>(
    condition: &Condition,
    leaf: &impl Fn(&Condition) -> Option<Part<S, T>>,
) -> Option<Part<S, T>> {
    let parts = |parts: &[Condition]| parts.iter().filter_map(|part| decide(part, leaf)).collect::<Vec<_>>();
    let states = |parts: &[Part<S, T>]| parts.iter().map(|part| part.state).collect::<Vec<_>>().into_iter();
    match condition {
        Condition::All(of) => {
            let parts = parts(of);
            deciding(all(states(&parts))?, parts.len(), parts)
        }
        Condition::Any(of) => any_of(parts(of)),
        Condition::AtLeast(count, of) => {
            let parts = parts(of);
            deciding(at_least(|_| *count, states(&parts))?, *count, parts)
        }
        Condition::Fraction(share, of) => {
            let parts = parts(of);
            let needed = share.ceil_of(parts.len());
            deciding(at_least(|_| needed, states(&parts))?, needed, parts)
        }
        Condition::Not(part) => decide(part, leaf).map(|found| Part { state: negated(found.state), ..found }),
        Condition::Check(_) | Condition::Endpoint(_) | Condition::Region(_) => leaf(condition),
    }
}

/// The state of what serves while any of these does, and which of them decides.
#[must_use]
pub fn any_of<S: Ord + Copy, T: Copy>(parts: Vec<Part<S, T>>) -> Option<Part<S, T>> {
    deciding(at_least(|_| 1, parts.iter().map(|part| part.state))?, 1, parts)
}

/// The part that led to a state, which `needed` parts must be up to avoid.
fn deciding<S: Ord + Copy, T: Copy>(
    state: State,
    needed: usize,
    mut parts: Vec<Part<S, T>>,
) -> Option<Part<S, T>> {
    let needed = needed.max(1);
    let order = match state {
        State::Up => needed - 1,
        State::Unknown => 0,
        // Until then, enough others were up.
        State::Degraded | State::Down(_) => parts.len().saturating_sub(needed),
    };
    // None is down where there are fewer parts than are needed.
    if parts.iter().any(|part| part.state == state) {
        parts.retain(|part| part.state == state);
    }
    parts.sort_by_key(|part| part.since);
    let found = parts.get(order.min(parts.len().checked_sub(1)?))?;
    Some(Part { state, ..*found })
}

fn negated(state: State) -> State {
    match state {
        State::Up | State::Degraded => State::Down(Severity::Soft),
        State::Unknown => State::Unknown,
        State::Down(_) => State::Up,
    }
}

fn states<'a>(
    parts: &'a [Condition],
    leaf: &'a impl Fn(&Condition) -> Option<State>,
) -> impl Iterator<Item = State> + 'a {
    parts.iter().filter_map(move |part| evaluate(part, leaf))
}

/// The worst known state; unknown if all are unknown, `None` if there are no states.
fn all(states: impl Iterator<Item = State>) -> Option<State> {
    states.reduce(|one, two| match (one, two) {
        (State::Unknown, known) | (known, State::Unknown) => known,
        (one, two) => one.max(two),
    })
}

/// Up if enough parts are up; degraded if enough serve, some of them slowly; unknown while unknown parts could still
/// make up the number; otherwise down. Down is soft if any part is soft-down, because something still responds there.
fn at_least(needed: impl Fn(usize) -> usize, states: impl Iterator<Item = State>) -> Option<State> {
    let (mut total, mut up, mut degraded, mut unknown, mut soft) = (0, 0, 0, 0, 0);
    for state in states {
        total += 1;
        match state {
            State::Up => up += 1,
            State::Degraded => degraded += 1,
            State::Unknown => unknown += 1,
            State::Down(Severity::Soft) => soft += 1,
            State::Down(Severity::Hard) => {}
        }
    }
    let needed = needed(total).max(1);
    let hard = total - up - degraded - unknown - soft;
    let state = if up >= needed {
        State::Up
    } else if up + degraded >= needed {
        State::Degraded
    } else if up + degraded + unknown >= needed {
        State::Unknown
    } else if soft > 0 || hard == 0 {
        State::Down(Severity::Soft)
    } else {
        State::Down(Severity::Hard)
    };
    (total > 0).then_some(state)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{Fraction, ProbeId};

    const UP: State = State::Up;
    const SLOW: State = State::Degraded;
    const UNKNOWN: State = State::Unknown;
    const SOFT: State = State::Down(Severity::Soft);
    const HARD: State = State::Down(Severity::Hard);

    /// Leaves numbered like `states`.
    fn leaves(states: &[State]) -> Vec<Condition> {
        (0..states.len()).map(|number| Condition::Check(ProbeId(number as u16))).collect()
    }

    fn check(condition: &Condition, states: &[State], expected: Option<State>) {
        let leaf = |leaf: &Condition| match leaf {
            Condition::Check(ProbeId(number)) => Some(states[usize::from(*number)]),
            _ => None,
        };
        assert_eq!(evaluate(condition, &leaf), expected, "{condition:?} of {states:?}");
        let part = |it: &Condition| Some(Part { state: leaf(it)?, since: 0, by: () });
        let decided = decide(condition, &part).map(|it| it.state);
        assert_eq!(decided, expected, "decided: {condition:?} of {states:?}");
    }

    #[test]
    fn all_is_as_bad_as_the_worst_that_is_known() {
        for (states, expected) in [
            (&[][..], None),
            (&[UP, UP], Some(UP)),
            (&[UP, SLOW], Some(SLOW)),
            (&[UNKNOWN], Some(UNKNOWN)),
            (&[UP, SLOW, UNKNOWN], Some(SLOW)),
            (&[UNKNOWN, SOFT, UP], Some(SOFT)),
            (&[SOFT, HARD, UNKNOWN], Some(HARD)),
        ] {
            check(&Condition::All(leaves(states)), states, expected);
        }
    }

    #[test]
    fn counts_are_met_or_not() {
        let half = |parts| Condition::Fraction(Fraction::parse("50%").unwrap(), parts);
        let two = |parts| Condition::AtLeast(2, parts);
        let three = |parts| Condition::AtLeast(3, parts);
        type Make<'a> = &'a dyn Fn(Vec<Condition>) -> Condition;
        let cases: [(Make<'_>, &[State], Option<State>); 15] = [
            (&Condition::Any, &[], None),
            (&Condition::Any, &[UP, HARD, HARD], Some(UP)),
            (&Condition::Any, &[SLOW, HARD], Some(SLOW)),
            (&Condition::Any, &[UNKNOWN, HARD], Some(UNKNOWN)),
            (&Condition::Any, &[HARD, HARD], Some(HARD)),
            (&Condition::Any, &[HARD, SOFT], Some(SOFT)),
            (&two, &[UP, UP, HARD], Some(UP)),
            (&two, &[UP, UP, UNKNOWN], Some(UP)),
            (&two, &[UP, SLOW, HARD], Some(SLOW)),
            (&two, &[UP, HARD, HARD], Some(HARD)),
            (&two, &[UP, UNKNOWN, HARD], Some(UNKNOWN)),
            (&three, &[UP, UP], Some(SOFT)),
            (&half, &[UP, UP, HARD, HARD], Some(UP)),
            (&half, &[UP, UP, HARD, HARD, SOFT], Some(SOFT)),
            (&half, &[UP, UNKNOWN, SOFT], Some(UNKNOWN)),
        ];
        for (make, states, expected) in cases {
            check(&make(leaves(states)), states, expected);
        }
    }

    #[test]
    fn conditions_nest_and_leave_out_what_does_not_count() {
        let [one, two, three] = [0, 1, 2].map(|number| Condition::Check(ProbeId(number)));
        let region = Condition::Region(crate::model::RegionId(0));
        let both = Condition::All(vec![
            Condition::Any(vec![one.clone(), two.clone(), region.clone()]),
            Condition::Not(Box::new(three.clone())),
        ]);
        check(&both, &[UP, HARD, HARD], Some(UP));
        check(&both, &[UP, HARD, UP], Some(SOFT));
        check(&both, &[UP, HARD, UNKNOWN], Some(UP));
        check(&Condition::Any(vec![region]), &[], None);
        assert_eq!(both.probes(), [ProbeId(0), ProbeId(1), ProbeId(2)]);
    }

    /// Of parts with these states, entered at these times, the one with this number decides.
    #[test]
    fn the_part_decides_that_led_to_the_state() {
        let of = |count: usize| move |parts| Condition::AtLeast(count, parts);
        let half = |parts| Condition::Fraction(Fraction::parse("50%").unwrap(), parts);
        type Make<'a> = &'a dyn Fn(Vec<Condition>) -> Condition;
        let all: Make<'_> = &Condition::All;
        let any: Make<'_> = &Condition::Any;
        let two: Make<'_> = &of(2);
        type Case<'a> = (Make<'a>, &'a [(State, u32)], u16);
        let cases: [Case<'_>; 32] = [
            // One that fails is to blame, whatever the others found, before or after.
            (all, &[(UP, 1), (SOFT, 2)], 1),
            (all, &[(SOFT, 2), (UP, 3)], 0),
            (all, &[(UP, 3), (UP, 1), (HARD, 2)], 2),
            (all, &[(UNKNOWN, 0), (HARD, 2)], 1),
            // The first that failed took the whole down; one that is as bad as the whole decides how bad that is.
            (all, &[(HARD, 2), (HARD, 1)], 1),
            (all, &[(SOFT, 1), (HARD, 2)], 1),
            (all, &[(HARD, 3), (SOFT, 1), (HARD, 2)], 2),
            // It is up since the last one is, and those without a result do not count.
            (all, &[(UP, 1), (UP, 2)], 1),
            (all, &[(UP, 2), (UP, 1)], 0),
            (all, &[(UP, 1), (UNKNOWN, 2)], 0),
            (all, &[(UNKNOWN, 0), (UP, 1)], 1),
            (all, &[(UNKNOWN, 0), (UNKNOWN, 0)], 0),
            (all, &[(UP, 1), (SLOW, 3), (SLOW, 2)], 2),
            (all, &[(UP, 1), (SLOW, 2), (UNKNOWN, 0)], 1),
            // One that works suffices: the first that did.
            (any, &[(HARD, 1), (UP, 2)], 1),
            (any, &[(UP, 2), (UP, 1)], 1),
            (any, &[(SLOW, 1), (UP, 2), (SOFT, 0)], 1),
            (any, &[(UNKNOWN, 0), (UP, 1)], 1),
            (any, &[(HARD, 1), (UNKNOWN, 0)], 1),
            (any, &[(HARD, 3), (SLOW, 2)], 1),
            // The last that failed took the whole down, and it is soft while anything responds.
            (any, &[(HARD, 1), (HARD, 2)], 1),
            (any, &[(HARD, 2), (HARD, 1)], 0),
            (any, &[(SOFT, 1), (HARD, 2)], 0),
            // Two of three: the second that works, and the second that fails.
            (two, &[(UP, 3), (UP, 2), (UP, 1)], 1),
            (two, &[(UP, 1), (HARD, 0), (UP, 2)], 2),
            (two, &[(HARD, 3), (UP, 0), (HARD, 2)], 0),
            (two, &[(HARD, 3), (HARD, 1), (HARD, 2)], 2),
            (two, &[(UP, 0), (UNKNOWN, 0), (HARD, 1)], 1),
            (two, &[(UP, 0), (SLOW, 1), (HARD, 2)], 1),
            // Too few whatever they find.
            (&of(3), &[(UP, 2), (UP, 1)], 1),
            (&half, &[(UP, 0), (SOFT, 1), (SOFT, 2), (SOFT, 3)], 3),
            // At the same time: the first in the condition.
            (all, &[(UP, 0), (HARD, 1), (HARD, 1)], 1),
        ];
        for (make, parts, expected) in cases {
            let states: Vec<State> = parts.iter().map(|(state, _)| *state).collect();
            let condition = make(leaves(&states));
            let leaf = |leaf: &Condition| {
                let Condition::Check(ProbeId(by)) = *leaf else { return None };
                let (state, since) = parts[usize::from(by)];
                Some(Part { state, since, by })
            };
            let found = decide(&condition, &leaf).unwrap();
            assert_eq!(found.by, expected, "{condition:?} of {parts:?}");
            assert_eq!(Some(found.state), evaluate(&condition, &|it| Some(leaf(it)?.state)));
        }
    }

    #[test]
    fn what_decides_is_found_within_conditions_that_nest() {
        let [one, two, three] = [0, 1, 2].map(|number| Condition::Check(ProbeId(number)));
        let condition = Condition::All(vec![
            Condition::Any(vec![one, two]),
            Condition::Not(Box::new(three)),
            Condition::Region(crate::model::RegionId(0)),
        ]);
        for (parts, expected) in [
            ([(UP, 1), (HARD, 2), (HARD, 3)], (UP, 2)),
            ([(HARD, 3), (HARD, 2), (HARD, 1)], (HARD, 0)),
            ([(UP, 1), (HARD, 2), (UP, 3)], (SOFT, 2)),
            ([(UP, 2), (UP, 3), (UNKNOWN, 0)], (UP, 0)),
        ] {
            let leaf = |leaf: &Condition| {
                let Condition::Check(ProbeId(by)) = *leaf else { return None };
                let (state, since) = parts[usize::from(by)];
                Some(Part { state, since, by })
            };
            let found = decide(&condition, &leaf).map(|it| (it.state, it.by));
            assert_eq!(found, Some(expected), "{parts:?}");
        }
    }
}
