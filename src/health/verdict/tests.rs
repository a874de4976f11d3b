use std::time::Duration;

use proptest::prelude::*;

use super::*;
use crate::health::{Phase, Timings};
use crate::model::Startup;

/// The documented defaults, with `slow` set.
const DEFAULTS: Thresholds = Thresholds {
    fall: 3,
    clear: 1,
    rise: 2,
    hold: Duration::from_secs(30),
    startup: None,
    slow: Some(Duration::from_millis(800)),
};

const NO_HOLD: Thresholds = Thresholds { hold: Duration::ZERO, ..DEFAULTS };

fn took(millis: u64) -> Observation {
    let timings = Timings { connect: Some(Duration::from_millis(millis)), ..Timings::default() };
    Observation { timings, failure: None }
}

fn failed(severity: Severity) -> Observation {
    let (phase, reason) = match severity {
        Severity::Hard => (Phase::Connect, "connect refused"),
        Severity::Soft => (Phase::Response, "status 503"),
    };
    let failure = Failure { severity, phase, reason: reason.to_owned() };
    Observation { timings: Timings::default(), failure: Some(failure) }
}

/// `+` a success, `~` a slow one, `s` a soft failure, `h` a hard one.
fn observation(sign: char) -> Observation {
    match sign {
        '+' => took(20),
        '~' => took(912),
        's' => failed(Severity::Soft),
        'h' => failed(Severity::Hard),
        other => panic!("no such sign: {other}"),
    }
}

/// `?` unknown, `U` up, `G` degraded, `S` and `H` down.
fn letter(state: State) -> char {
    match state {
        State::Unknown => '?',
        State::Up => 'U',
        State::Degraded => 'G',
        State::Down(Severity::Soft) => 'S',
        State::Down(Severity::Hard) => 'H',
    }
}

/// Looks every five seconds, the first at 100 s.
fn play(thresholds: &Thresholds, looks: &str) -> Verdict {
    let mut now = Mono(Duration::from_secs(95));
    looks.chars().fold(Verdict::new(now), |verdict, sign| {
        now = now.after(Duration::from_secs(5));
        verdict.observe(&observation(sign), thresholds, now)
    })
}

/// The states after each look.
fn check(thresholds: &Thresholds, looks: &str, expected: &str) {
    let states: String =
        (1..=looks.len()).map(|length| letter(play(thresholds, &looks[..length]).state())).collect();
    assert_eq!(states, expected, "after {looks}");
}

#[test]
fn the_first_look_decides_alone() {
    assert_eq!(play(&DEFAULTS, "").state(), State::Unknown);
    for (look, expected) in [("+", "U"), ("~", "G"), ("s", "S"), ("h", "H")] {
        check(&DEFAULTS, look, expected);
    }
}

#[test]
fn fall_counted_failures_bring_it_down() {
    check(&DEFAULTS, "+hhh", "UUUH");
    check(&DEFAULTS, "+hhs", "UUUS");
    // clear = 1: they must be consecutive.
    check(&DEFAULTS, "+hh+hh+hhh", "UUUUUUUUUH");
    // clear = 2: one success between does not wipe them, two do.
    let clear_two = Thresholds { clear: 2, ..DEFAULTS };
    check(&clear_two, "+h+h+h", "UUUUUH");
    check(&clear_two, "+h+h++hh", "UUUUUUUU");
    check(&Thresholds { fall: 1, ..DEFAULTS }, "+s", "US");
}

#[test]
fn a_down_target_rises_only_when_good_for_long_enough() {
    // Every 5 s: the seventh success is 30 s after the first.
    check(&DEFAULTS, "h+++++++", "HHHHHHHU");
    check(&DEFAULTS, "h+++++s+++++++", "HHHHHHSSSSSSSU");
    // hold ends long before rise is reached
    let rise_four = Thresholds { rise: 4, hold: Duration::from_secs(5), ..DEFAULTS };
    check(&rise_four, "h++++", "HHHHU");
    check(&NO_HOLD, "h++", "HHU");
}

#[test]
fn what_comes_back_starts_counting_afresh() {
    check(&Thresholds { clear: 5, ..NO_HOLD }, "hhh++hh+h", "HHHHUUUUH");
}

#[test]
fn down_is_as_hard_as_its_latest_failure_and_stays_the_same_down() {
    check(&DEFAULTS, "shs+h", "SHSSH");
    assert_eq!(play(&DEFAULTS, "shs").since, play(&DEFAULTS, "s").since);
}

#[test]
fn slow_successes_degrade_and_fast_ones_restore_without_hold() {
    check(&DEFAULTS, "+~+~++", "UGGGGU");
    check(&DEFAULTS, "~s+s++", "GGGGGU");
    check(&DEFAULTS, "+~~hhh", "UGGGGH");
    check(&Thresholds { slow: None, ..DEFAULTS }, "+~~", "UUU");
    // Exactly as long as allowed is not slow.
    let at_limit = Verdict::new(Mono::default()).observe(&took(800), &DEFAULTS, Mono::default());
    assert_eq!(at_limit.state(), State::Up);
}

#[test]
fn a_slow_recovery_is_degraded_first() {
    check(&NO_HOLD, "h~~", "HHG");
    check(&NO_HOLD, "h~+", "HHG");
    check(&NO_HOLD, "h~++", "HHGU");
    check(&DEFAULTS, "h~++++++", "HHHHHHHU");
}

#[test]
fn failures_do_not_count_while_the_startup_grace_runs() {
    let startup = Some(Startup { grace: Duration::from_secs(20) });
    let patient = Thresholds { startup, ..DEFAULTS };
    // From the first look at 100 s until 120 s; then one failure decides.
    check(&patient, "hhhhh", "????H");
    check(&patient, "hs+hh", "??UUU");
    // The first success ends the grace.
    check(&patient, "+hhh", "UUUH");
    check(&patient, "hh~", "??G");
    assert_eq!(play(&patient, "hhhhh").evidence().to_string(), "connect refused");
}

#[test]
fn every_state_says_why() {
    let startup = Some(Startup { grace: Duration::from_secs(60) });
    for (thresholds, looks, expected) in [
        (DEFAULTS, "", "not probed yet"),
        (
            Thresholds { startup, ..DEFAULTS },
            "hs",
            "not counted while starting: 2 in a row: connect refused, status 503",
        ),
        (DEFAULTS, "+", "good at first look"),
        (DEFAULTS, "+h", "good at first look"),
        (DEFAULTS, "h+++++++", "7 in a row and good for 30s"),
        (NO_HOLD, "h++", "2 in a row and good for 5s"),
        (DEFAULTS, "~++", "2 in a row were fast"),
        (DEFAULTS, "+~", "slower than 800ms: 912ms"),
        (DEFAULTS, "+hhs", "3 in a row: connect refused, connect refused, status 503"),
        (DEFAULTS, "h++", "connect refused; 2 good since"),
        (DEFAULTS, "hs+h", "3 failures: connect refused, status 503, connect refused"),
        (DEFAULTS, "hhhhhhs", "7 in a row, the last 5: connect refused (4 times), status 503"),
    ] {
        assert_eq!(play(&thresholds, looks).evidence().to_string(), expected, "after {looks:?}");
    }
    assert_eq!(play(&DEFAULTS, "+hh").failures().count, 2);
}

#[test]
fn since_is_when_the_state_was_entered() {
    for (looks, seconds) in [("", 95), ("+", 100), ("+++", 100), ("+hh", 100), ("+hhh", 115), ("+hhhh", 115)]
    {
        assert_eq!(play(&DEFAULTS, looks).since, Mono(Duration::from_secs(seconds)), "after {looks:?}");
    }
}

/// One look of a random history: what came, and how long after the one before.
fn any_look() -> impl Strategy<Value = (char, u64)> {
    (prop::sample::select(vec!['+', '+', '+', '~', 's', 'h']), 0..20_u64)
}

prop_compose! {
    fn any_thresholds()(
        fall in 1..5_u32,
        clear in 1..4_u32,
        rise in 1..5_u32,
        hold in 0..60_u64,
        grace in prop::option::of(0..60_u64),
    ) -> Thresholds {
        let startup = grace.map(|seconds| Startup { grace: Duration::from_secs(seconds) });
        Thresholds { fall, clear, rise, hold: Duration::from_secs(hold), startup, ..DEFAULTS }
    }
}

proptest! {
    #[test]
    fn no_history_breaks_the_rules(thresholds in any_thresholds(), looks in prop::collection::vec(any_look(), 1..80)) {
        let mut now = Mono(Duration::from_secs(1000));
        let mut verdict = Verdict::new(now);
        let mut history: Vec<(char, Mono)> = Vec::new();
        for (sign, gap) in looks {
            now = now.after(Duration::from_secs(gap));
            history.push((sign, now));
            let before = verdict.clone();
            verdict = verdict.observe(&observation(sign), &thresholds, now);
            let (from, to) = (before.state(), verdict.state());

            let good: Vec<_> =
                history.iter().rev().take_while(|(sign, _)| matches!(sign, '+' | '~')).copied().collect();
            let fast = good.iter().take_while(|(sign, _)| *sign == '+').count();
            let bad = history.iter().rev().take_while(|(sign, _)| matches!(sign, 's' | 'h')).count();

            if from != State::Unknown {
                prop_assert_ne!(to, State::Unknown, "nothing leads back to unknown");
                if from != State::Up && to == State::Up {
                    prop_assert!(fast as u32 >= thresholds.rise, "up without rise");
                }
                if from.is_down() && to.serves() {
                    let first_good = good.last().expect("a success brought it up").1;
                    prop_assert!(good.len() as u32 >= thresholds.rise, "serves without rise");
                    prop_assert!(now.since(first_good) >= thresholds.hold, "serves without hold");
                }
                if from.serves() && to.is_down() {
                    prop_assert!(thresholds.clear > 1 || bad as u32 >= thresholds.fall, "down without fall");
                }
                if bad as u32 >= thresholds.fall {
                    prop_assert!(to.is_down(), "fall consecutive failures and still not down");
                }
            } else if to == State::Unknown {
                prop_assert!(thresholds.startup.is_some() && bad == history.len());
            }
            if good.is_empty() && to.is_down() {
                let latest = if sign == 'h' { Severity::Hard } else { Severity::Soft };
                prop_assert_eq!(to, State::Down(latest));
            }
            if sign == '~' && !from.is_down() {
                prop_assert_eq!(to, State::Degraded);
            }
            let same = from == to || (from.is_down() && to.is_down());
            prop_assert_eq!(verdict.since, if same { before.since } else { now });
            prop_assert!(verdict.evidence().to_string().len() < 200, "evidence is bounded");
        }
    }
}

/// How long the state of a target lasts at least, as seen at the last of these looks and two seconds later.
fn left(thresholds: &Thresholds, looks: &str) -> [u64; 2] {
    let probe = Probe {
        name: String::new(),
        kind: crate::model::Kind::Tcp { port: 443 },
        interval: Duration::from_secs(5),
        timeout: Duration::from_secs(1),
        thresholds: *thresholds,
    };
    let mono = Mono(Duration::from_secs(95 + 5 * looks.len() as u64));
    let now = Now { mono, unix: crate::model::Unix(Duration::from_secs(1_800_000_000)) };
    let due = play(thresholds, looks).due(&probe, now);
    [0, 2].map(|later| due.left(now.unix.after(Duration::from_secs(later))).as_secs())
}

#[test]
fn a_state_lasts_until_so_many_looks_have_been_made() {
    let clear = Thresholds { clear: 2, ..DEFAULTS };
    for (thresholds, looks, expected) in [
        (&DEFAULTS, "", [0, 0]),
        // Up: the next of three failures may come at once.
        (&DEFAULTS, "+", [10, 10]),
        (&DEFAULTS, "+++", [10, 10]),
        (&DEFAULTS, "+s", [10, 8]),
        (&DEFAULTS, "+ss", [5, 3]),
        (&DEFAULTS, "+ss+", [10, 10]),
        (&DEFAULTS, "~", [10, 10]),
        (&DEFAULTS, "~h", [10, 8]),
        (&clear, "+ss+", [5, 3]),
        (&clear, "+ss++", [10, 10]),
        // Down: good for 30 s from the first success on, or two looks.
        (&DEFAULTS, "h", [30, 30]),
        (&DEFAULTS, "hhhhh", [30, 30]),
        (&DEFAULTS, "h+", [30, 28]),
        (&DEFAULTS, "h+++", [20, 18]),
        (&DEFAULTS, "h++++++", [5, 3]),
        (&DEFAULTS, "h+++++++", [10, 10]),
        (&NO_HOLD, "h", [5, 5]),
        (&NO_HOLD, "h+", [5, 3]),
    ] {
        assert_eq!(left(thresholds, looks), expected, "{looks}");
    }
}
