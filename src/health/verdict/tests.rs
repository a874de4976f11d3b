use std::time::Duration;

use proptest::prelude::*;

use super::*;
use crate::health::{ProbeResult, Window};
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
    Observation::Probe(ProbeResult { took: Duration::from_millis(millis), rtt: None, failure: None })
}

fn failure(severity: Severity) -> Failure {
    let reason = match severity {
        Severity::Hard => "connection refused",
        Severity::Soft => "status 503",
    };
    Failure { severity, reason: reason.to_owned() }
}

fn failed(severity: Severity) -> Observation {
    Observation::Probe(ProbeResult { took: Duration::ZERO, rtt: None, failure: Some(failure(severity)) })
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

/// An observation every five seconds, the first at 100 s.
fn play(thresholds: &Thresholds, signs: &str) -> Verdict {
    let mut now = Mono(Duration::from_secs(95));
    signs.chars().fold(Verdict::new(now), |verdict, sign| {
        now = now.after(Duration::from_secs(5));
        verdict.observe(&observation(sign), thresholds, now)
    })
}

/// The states after each observation.
fn check(thresholds: &Thresholds, signs: &str, expected: &str) {
    let states: String =
        (1..=signs.len()).map(|length| letter(play(thresholds, &signs[..length]).state())).collect();
    assert_eq!(states, expected, "after {signs}");
}

#[test]
fn a_first_success_decides_and_a_first_failure_needs_a_second() {
    assert_eq!(play(&DEFAULTS, "").state(), State::Unknown);
    for (signs, expected) in [
        ("+", "U"),
        ("~", "U"),
        ("s", "?"),
        ("ss", "?S"),
        ("hh", "?H"),
        ("hs", "?S"),
        ("sh", "?S"),
        ("h+", "?U"),
        ("h+hh", "?UUU"),
    ] {
        check(&DEFAULTS, signs, expected);
    }
    check(&Thresholds { fall: 1, ..DEFAULTS }, "hh", "?H");
}

#[test]
fn fall_counted_failures_bring_it_down() {
    check(&DEFAULTS, "+hhh", "UUUH");
    check(&DEFAULTS, "+sss", "UUUS");
    // Hard only if every failure was.
    check(&DEFAULTS, "+hhs", "UUUS");
    check(&DEFAULTS, "+shh", "UUUS");
    // clear = 1: they must be consecutive.
    check(&DEFAULTS, "+hh+hh+hhh", "UUUUUUUUUH");
    // clear = 2: one success in between does not clear them, two do.
    let clear_two = Thresholds { clear: 2, ..DEFAULTS };
    check(&clear_two, "+h+h+h", "UUUUUH");
    check(&clear_two, "+h+h++hh", "UUUUUUUU");
    check(&Thresholds { fall: 1, ..DEFAULTS }, "+s", "US");
}

#[test]
fn a_down_target_is_up_only_after_rise_and_hold() {
    // Every 5 s: the seventh success is 30 s after the first.
    check(&DEFAULTS, "hh+++++++", "?HHHHHHHU");
    check(&DEFAULTS, "hh+++++s+++++++", "?HHHHHHHHHHHHHU");
    // hold ends long before rise is reached
    let rise_four = Thresholds { rise: 4, hold: Duration::from_secs(5), ..DEFAULTS };
    check(&rise_four, "hh++++", "?HHHHU");
    check(&NO_HOLD, "hh++", "?HHU");
}

#[test]
fn a_recovered_target_starts_counting_afresh() {
    check(&Thresholds { clear: 5, ..NO_HOLD }, "hhh++hh+h", "?HHHUUUUH");
}

#[test]
fn severity_changes_after_fall_consecutive_failures_of_a_kind() {
    // A balancer that alternates between 503 and resets keeps its severity.
    check(&DEFAULTS, "+ssshshshsh", "UUUSSSSSSSS");
    check(&DEFAULTS, "+sssh+hhh", "UUUSSSSSH");
    check(&DEFAULTS, "+hhhsssh", "UUUHHHSS");
    assert_eq!(play(&DEFAULTS, "sshhh").since, play(&DEFAULTS, "ss").since, "the same down");
}

#[test]
fn slow_successes_degrade_after_fall_and_fast_ones_restore_without_hold() {
    check(&DEFAULTS, "+~~~", "UUUG");
    check(&DEFAULTS, "~~~", "UUG");
    check(&DEFAULTS, "+~~+~~", "UUUUUU");
    // A failure in between is not a slow success.
    check(&DEFAULTS, "+~~s~~~", "UUUUUUG");
    check(&DEFAULTS, "~~~+~++", "UUGGGGU");
    check(&DEFAULTS, "~~~s+s++", "UUGGGGGU");
    check(&DEFAULTS, "~~~hhh", "UUGGGH");
    check(&Thresholds { slow: None, ..DEFAULTS }, "+~~~", "UUUU");
    // Exactly as long as allowed is not slow.
    let once = Thresholds { fall: 1, ..DEFAULTS };
    let at_limit = play(&once, "+").observe(&took(800), &once, Mono(Duration::from_secs(200)));
    assert_eq!(at_limit.state(), State::Up);
}

#[test]
fn a_slow_recovery_is_degraded_first() {
    check(&NO_HOLD, "hh~~", "?HHG");
    check(&NO_HOLD, "hh~+", "?HHG");
    check(&NO_HOLD, "hh~++", "?HHGU");
    check(&DEFAULTS, "hh~++++++", "?HHHHHHHU");
}

#[test]
fn windows_count_as_one_result_each() {
    let window = |succeeded, failed| {
        Observation::Window(Window { succeeded, failed, latest: failure(Severity::Soft) })
    };
    let now = Mono(Duration::from_secs(200));
    let after = |windows: &[(u32, u32)]| {
        let observe = |verdict: Verdict, (ok, failed): &(u32, u32)| {
            verdict.observe(&window(*ok, *failed), &DEFAULTS, now)
        };
        windows.iter().fold(play(&DEFAULTS, "+"), observe).state()
    };
    assert_eq!(after(&[(10, 90), (0, 5), (50, 50)]), State::Down(Severity::Soft));
    assert_eq!(after(&[(10, 90), (0, 5), (51, 49)]), State::Up);
    assert_eq!(after(&[(10, 90), (0, 5), (0, 0)]), State::Up, "an empty window says nothing");
}

#[test]
fn a_statement_takes_effect_at_once() {
    let now = Mono(Duration::from_secs(200));
    let say =
        |verdict: Verdict, statement| verdict.observe(&Observation::Statement(statement), &DEFAULTS, now);
    let gone = say(play(&DEFAULTS, "+"), Statement::NotServing("draining".into()));
    assert_eq!(gone.state(), State::Down(Severity::Soft));
    assert_eq!(gone.evidence().to_string(), "draining");
    let back = say(gone, Statement::Serving);
    assert_eq!((back.state(), back.evidence().to_string()), (State::Up, "reports itself as serving".into()));
    let up = play(&DEFAULTS, "hh+++++++");
    assert_eq!(say(up.clone(), Statement::Serving).since, up.since, "nothing new");
}

#[test]
fn a_verdict_survives_a_restart() {
    let probe = Probe {
        name: String::new(),
        kind: crate::model::Kind::Tcp { port: 1 },
        port_is_given: true,
        interval: Duration::from_secs(5),
        timeout: Duration::from_secs(1),
        thresholds: DEFAULTS,
    };
    let at =
        |mono, unix| Now { mono: Mono(Duration::from_secs(mono)), unix: Unix(Duration::from_secs(unix)) };
    assert_eq!(play(&DEFAULTS, "h").memory(at(100, 1_800_000_000)), None, "unknown is not kept");
    // Down, with three successes in a row, the first at 110 s; the process stops at 120 s for 5 s.
    let memory = play(&DEFAULTS, "hh+++").memory(at(120, 1_800_000_000)).expect("it is known");
    assert_eq!(memory.recovering, Some((3, Unix(Duration::from_secs(1_800_000_000 - 10)))));
    let now = at(1_000_000, 1_800_000_005);
    let restored = Verdict::restored(&memory, now);
    assert_eq!(restored.state(), State::Down(Severity::Hard));
    assert_eq!(now.mono.since(restored.since), Duration::from_secs(15 + 5));
    // 30 s of hold, of which 15 are over.
    assert_eq!(restored.due(&probe, now).left(now.unix), Duration::from_secs(15));
    let later = |seconds| now.mono.after(Duration::from_secs(seconds));
    let soon = restored.observe(&took(20), &DEFAULTS, later(10));
    assert!(soon.state().is_down());
    assert_eq!(soon.observe(&took(20), &DEFAULTS, later(15)).state(), State::Up);
    for signs in ["+", "~~~", "+hhh", "+sss"] {
        let verdict = play(&DEFAULTS, signs);
        let memory = verdict.memory(at(115, 1_800_000_000)).expect("it is known");
        assert_eq!(Verdict::restored(&memory, now).state(), verdict.state(), "{signs}");
    }
}

#[test]
fn failures_do_not_count_while_the_startup_grace_runs() {
    let startup = Some(Startup { grace: Duration::from_secs(20) });
    let patient = Thresholds { startup, ..DEFAULTS };
    // From the first result at 100 s until 120 s.
    check(&patient, "hhhhh", "????H");
    check(&patient, "hs+hh", "??UUU");
    // The first success ends the grace.
    check(&patient, "+hhh", "UUUH");
    check(&patient, "hh~", "??U");
    let down = play(&patient, "hhhhh").evidence().to_string();
    assert_eq!(down, "5 consecutive failures: connection refused");
}

#[test]
fn every_state_has_evidence() {
    let startup = Some(Startup { grace: Duration::from_secs(60) });
    for (thresholds, signs, expected) in [
        (DEFAULTS, "", "not probed yet"),
        (
            Thresholds { startup, ..DEFAULTS },
            "hs",
            "not decided yet: 2 consecutive failures: connection refused, status 503",
        ),
        (DEFAULTS, "+", "first probe succeeded"),
        (DEFAULTS, "+h", "first probe succeeded"),
        (DEFAULTS, "h", "not decided yet: connection refused"),
        (DEFAULTS, "hh+++++++", "7 consecutive successes over 30s"),
        (NO_HOLD, "hh++", "2 consecutive successes over 5s"),
        (DEFAULTS, "~~~++", "2 consecutive fast successes"),
        (DEFAULTS, "+~~~", "slower than 800ms: 912ms"),
        (DEFAULTS, "+hhs", "3 consecutive failures: connection refused (2 times), status 503"),
        (DEFAULTS, "hh++", "2 consecutive failures: connection refused; 2 successes since"),
        (DEFAULTS, "hhs+h", "4 failures: connection refused (3 times), status 503"),
        (DEFAULTS, "hhhhhhs", "7 consecutive failures, the last 5: connection refused (4 times), status 503"),
    ] {
        assert_eq!(play(&thresholds, signs).evidence().to_string(), expected, "after {signs:?}");
    }
    assert_eq!(play(&DEFAULTS, "+hh").failures().count, 2);
}

#[test]
fn since_is_when_the_state_was_entered() {
    for (signs, seconds) in [("", 95), ("+", 100), ("+++", 100), ("+hh", 100), ("+hhh", 115), ("+hhhh", 115)]
    {
        assert_eq!(play(&DEFAULTS, signs).since, Mono(Duration::from_secs(seconds)), "after {signs:?}");
    }
}

/// One observation of a random history: its sign, and the time since the previous one.
fn any_observation() -> impl Strategy<Value = (char, u64)> {
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
    fn no_history_violates_the_thresholds(thresholds in any_thresholds(), signs in prop::collection::vec(any_observation(), 1..80)) {
        let mut now = Mono(Duration::from_secs(1000));
        let mut verdict = Verdict::new(now);
        let mut history: Vec<(char, Mono)> = Vec::new();
        for (sign, gap) in signs {
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
                prop_assert!(bad == history.len(), "a success decides");
                prop_assert!(bad < 2 || thresholds.startup.is_some(), "two failures decide");
            } else if to.is_down() {
                prop_assert!(bad >= 2, "one failure does not decide");
            }
            if let (State::Down(before), State::Down(after)) = (from, to)
                && before != after
            {
                let sign = if after == Severity::Hard { 'h' } else { 's' };
                let of_kind = history.iter().rev().take_while(|(it, _)| *it == sign).count();
                prop_assert!(of_kind as u32 >= thresholds.fall, "another severity without fall of its kind");
            }
            if to == State::Degraded && from == State::Up {
                let slow = good.iter().take_while(|(sign, _)| *sign == '~').count();
                prop_assert!(slow as u32 >= thresholds.fall, "degraded without fall slow ones");
            }
            let same = from == to || (from.is_down() && to.is_down());
            prop_assert_eq!(verdict.since, if same { before.since } else { now });
            prop_assert!(verdict.evidence().to_string().len() < 200, "evidence is bounded");
        }
    }
}

/// The minimum time that something lasts, as computed at the last of these observations and two seconds later.
fn left(thresholds: &Thresholds, signs: &str, due: fn(&Verdict, &Probe, Now) -> Due) -> [u64; 2] {
    let probe = Probe {
        name: String::new(),
        kind: crate::model::Kind::Tcp { port: 443 },
        port_is_given: true,
        interval: Duration::from_secs(5),
        timeout: Duration::from_secs(1),
        thresholds: *thresholds,
    };
    let mono = Mono(Duration::from_secs(95 + 5 * signs.len() as u64));
    let now = Now { mono, unix: crate::model::Unix(Duration::from_secs(1_800_000_000)) };
    let due = due(&play(thresholds, signs), &probe, now);
    [0, 2].map(|later| due.left(now.unix.after(Duration::from_secs(later))).as_secs())
}

#[test]
fn due_follows_from_the_missing_results() {
    let clear = Thresholds { clear: 2, ..DEFAULTS };
    for (thresholds, signs, expected) in [
        (&DEFAULTS, "", [0, 0]),
        // Up: the next of three failures may come at once.
        (&DEFAULTS, "+", [10, 10]),
        (&DEFAULTS, "+++", [10, 10]),
        (&DEFAULTS, "+s", [10, 8]),
        (&DEFAULTS, "+ss", [5, 3]),
        (&DEFAULTS, "+ss+", [10, 10]),
        // Slow ones count the same way: degraded has half the weight.
        (&DEFAULTS, "~", [10, 8]),
        (&DEFAULTS, "~~", [5, 3]),
        (&DEFAULTS, "~h", [10, 8]),
        (&DEFAULTS, "~~~", [5, 5]),
        (&DEFAULTS, "~~~+", [5, 3]),
        (&clear, "+ss+", [5, 3]),
        (&clear, "+ss++", [10, 10]),
        // Down: good for 30 s from the first success on, or two results.
        (&DEFAULTS, "hh", [30, 30]),
        (&DEFAULTS, "hhhhh", [30, 30]),
        (&DEFAULTS, "hh+", [30, 28]),
        (&DEFAULTS, "hh+++", [20, 18]),
        (&DEFAULTS, "hh++++++", [5, 3]),
        (&DEFAULTS, "hh+++++++", [10, 10]),
        (&NO_HOLD, "hh", [5, 5]),
        (&NO_HOLD, "hh+", [5, 3]),
    ] {
        assert_eq!(left(thresholds, signs, Verdict::due), expected, "{signs}");
    }
}

#[test]
fn severity_is_due_after_enough_failures_of_the_other_kind() {
    const NEVER: [u64; 2] = [Duration::MAX.as_secs(); 2];
    for (signs, expected) in [
        ("+ss", NEVER),
        ("+sss", [10, 10]),
        ("+sssss", [10, 10]),
        ("+sssh", [10, 8]),
        ("+ssshh", [5, 3]),
        ("+ssshhs", [10, 10]),
        ("+ssshh+", [10, 10]),
        ("+ssshhh", [10, 10]),
        ("+ssshhhs", [10, 8]),
    ] {
        assert_eq!(left(&DEFAULTS, signs, Verdict::severity_due), expected, "{signs}");
    }
}
