//! One state out of several.

use super::{Severity, State};
use crate::model::Need;

/// The state of an address that several checks look at, all of which must pass: the worst of theirs.
/// Nobody looks: up.
#[must_use]
pub fn worst(checks: impl IntoIterator<Item = State>) -> State {
    checks.into_iter().max().unwrap_or(State::Up)
}

/// The state of an endpoint: the best of its addresses'. No address: unknown.
#[must_use]
pub fn endpoint_state(addresses: impl IntoIterator<Item = State>) -> State {
    addresses.into_iter().min().unwrap_or_default()
}

/// The state of a region from those of its endpoints, `need` of which must serve, and of the endpoints it
/// requires besides, every one of which must serve.
///
/// It is up with `need` endpoints up, degraded if some of those serve slowly, unknown while the unknown ones
/// could still make up the number, and else down.
#[must_use]
pub fn region_state(
    need: Need,
    endpoints: impl IntoIterator<Item = State>,
    required: impl IntoIterator<Item = State>,
) -> State {
    let required = required.into_iter().map(|state| if state.serves() { State::Up } else { state });
    worst(required.chain([enough(need, endpoints)]))
}

fn enough(need: Need, endpoints: impl IntoIterator<Item = State>) -> State {
    let (mut total, mut up, mut degraded, mut unknown, mut hard) = (0, 0, 0, 0, 0);
    for state in endpoints {
        total += 1;
        match state {
            State::Up => up += 1,
            State::Degraded => degraded += 1,
            State::Unknown => unknown += 1,
            State::Down(Severity::Hard) => hard += 1,
            State::Down(Severity::Soft) => {}
        }
    }
    let need = need.count(total);
    let soft = total - up - degraded - unknown - hard;
    if up >= need {
        State::Up
    } else if up + degraded >= need {
        State::Degraded
    } else if up + degraded + unknown >= need {
        State::Unknown
    } else if soft > 0 || hard == 0 {
        // Something still speaks there, so rules that hold in what is merely unwell may apply.
        State::Down(Severity::Soft)
    } else {
        State::Down(Severity::Hard)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::Fraction;

    const UP: State = State::Up;
    const SLOW: State = State::Degraded;
    const UNKNOWN: State = State::Unknown;
    const SOFT: State = State::Down(Severity::Soft);
    const HARD: State = State::Down(Severity::Hard);

    #[test]
    fn an_address_is_as_bad_as_its_worst_check() {
        for (checks, expected) in [
            (&[][..], UP),
            (&[UP, UP], UP),
            (&[UP, SLOW], SLOW),
            (&[UP, SLOW, UNKNOWN], UNKNOWN),
            (&[UNKNOWN, SOFT, UP], SOFT),
            (&[SOFT, HARD, UNKNOWN], HARD),
        ] {
            assert_eq!(worst(checks.iter().copied()), expected, "{checks:?}");
        }
    }

    #[test]
    fn an_endpoint_is_as_good_as_its_best_address() {
        for (addresses, expected) in [
            (&[][..], UNKNOWN),
            (&[HARD, UP], UP),
            (&[HARD, SLOW, UNKNOWN], SLOW),
            (&[HARD, UNKNOWN], UNKNOWN),
            (&[HARD, SOFT], SOFT),
            (&[HARD], HARD),
        ] {
            assert_eq!(endpoint_state(addresses.iter().copied()), expected, "{addresses:?}");
        }
    }

    #[test]
    fn a_region_needs_as_many_endpoints_as_it_says() {
        let half = Need::Fraction(Fraction::parse("50%").unwrap());
        for (need, endpoints, expected) in [
            (Need::Any, &[UP, HARD, HARD][..], UP),
            (Need::Any, &[SLOW, HARD], SLOW),
            (Need::Any, &[UNKNOWN, HARD], UNKNOWN),
            (Need::Any, &[HARD, HARD], HARD),
            (Need::Any, &[HARD, SOFT], SOFT),
            (Need::All, &[UP, UP], UP),
            (Need::All, &[UP, SLOW], SLOW),
            (Need::All, &[UP, UNKNOWN], UNKNOWN),
            (Need::All, &[UP, UNKNOWN, HARD], HARD),
            (Need::All, &[UP, UNKNOWN, SOFT], SOFT),
            (Need::AtLeast(2), &[UP, UP, HARD], UP),
            (Need::AtLeast(2), &[UP, SLOW, HARD], SLOW),
            (Need::AtLeast(2), &[UP, HARD, HARD], HARD),
            (Need::AtLeast(3), &[UP, UP], SOFT),
            (half, &[UP, UP, HARD, HARD], UP),
            (half, &[UP, UP, HARD, HARD, SOFT], SOFT),
        ] {
            assert_eq!(region_state(need, endpoints.iter().copied(), []), expected, "{need:?} {endpoints:?}");
        }
    }

    #[test]
    fn what_a_region_requires_must_serve_too() {
        for (own, required, expected) in [
            (UP, &[UP, SLOW][..], UP),
            (SLOW, &[UP], SLOW),
            (UP, &[UNKNOWN], UNKNOWN),
            (UP, &[SLOW, SOFT], SOFT),
            (UP, &[SOFT, HARD], HARD),
            (SOFT, &[UP], SOFT),
            (SOFT, &[HARD], HARD),
        ] {
            assert_eq!(
                region_state(Need::Any, [own], required.iter().copied()),
                expected,
                "{own:?} requiring {required:?}"
            );
        }
    }
}
