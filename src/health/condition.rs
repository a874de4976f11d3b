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
        Condition::Not(part) => evaluate(part, leaf).map(|state| match state {
            State::Up | State::Degraded => State::Down(Severity::Soft),
            State::Unknown => State::Unknown,
            State::Down(_) => State::Up,
        }),
        Condition::Check(_) | Condition::Endpoint(_) | Condition::Region(_) => leaf(condition),
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
}
