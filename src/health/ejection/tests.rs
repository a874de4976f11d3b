use proptest::prelude::*;

use super::*;
use crate::model::{ErrorRate, Fraction, PassiveOn};

const EJECT: Duration = Duration::from_secs(30);
const LONGEST: Duration = Duration::from_secs(300);

fn passive(max_ejected: f64) -> Passive {
    Passive {
        failures: 3,
        on: PassiveOn::default(),
        errors: None,
        eject: EJECT,
        longest: LONGEST,
        max_ejected: Fraction::from_percent(max_ejected).unwrap(),
    }
}

fn addresses(count: u8) -> Vec<SocketAddr> {
    (0..count).map(|host| ([10, 0, 0, host], 80).into()).collect()
}

/// Until when which addresses are ejected.
fn ejected(ejections: &Ejections) -> Vec<Mono> {
    let entries = ejections.entries.values();
    entries
        .filter_map(|entry| match entry.phase {
            Phase::Ejected { until } => Some(until),
            Phase::Returned { .. } => None,
        })
        .collect()
}

fn at(seconds: u64) -> Mono {
    Mono(Duration::from_secs(1_000 + seconds))
}

#[test]
fn shares_leave_at_least_one_and_take_at_least_one() {
    for (share, of, most) in [
        (50.0, 0, 0),
        (50.0, 1, 0),
        (50.0, 2, 1),
        (50.0, 3, 1),
        (50.0, 4, 2),
        (10.0, 2, 1),
        (100.0, 2, 1),
        (100.0, 5, 4),
        (60.0, 5, 3),
        (29.0, 100, 29),
    ] {
        assert_eq!(passive(share).most_ejected(of), most, "{share}% of {of}");
    }
}

#[test]
fn an_error_rate_needs_its_requests() {
    let rate = ErrorRate { share: Fraction::from_percent(50.0).unwrap(), requests: 10 };
    let passive = Passive { errors: Some(rate), ..passive(50.0) };
    for (failures, requests, expected) in
        [(9, 9, false), (5, 10, true), (4, 10, false), (500, 1000, true), (0, 1000, false)]
    {
        assert_eq!(passive.is_error_rate(failures, requests), expected, "{failures} of {requests}");
    }
    assert!(!self::passive(50.0).is_error_rate(1000, 1000), "without a rate");
}

#[test]
fn a_flapping_address_is_ejected_for_longer_each_time() {
    let (passive, all) = (passive(50.0), addresses(2));
    let mut ejections = Ejections::default();
    let mut now = at(0);
    for seconds in [30, 60, 120, 240, 300, 300] {
        let time = ejections.eject(all[0], &passive, &all, now).unwrap();
        assert_eq!(time, Duration::from_secs(seconds));
        assert_eq!(ejections.eject(all[0], &passive, &all, now), None, "it is ejected already");
        assert_eq!(ejections.tick(&passive, now.after(time - Duration::from_millis(1))), []);
        now = now.after(time);
        assert_eq!(ejections.tick(&passive, now), [all[0]]);
        // It serves for a moment.
        now = now.after(Duration::from_secs(5));
    }
}

#[test]
fn health_is_rewarded() {
    let (passive, all) = (passive(50.0), addresses(2));
    for (health, seconds) in [(0, 120), (59, 120), (60, 60), (89, 60), (90, 30), (100_000, 30)] {
        let mut ejections = Ejections::default();
        ejections.eject(all[0], &passive, &all, at(0));
        ejections.tick(&passive, at(30));
        ejections.eject(all[0], &passive, &all, at(30));
        ejections.tick(&passive, at(90));
        let time = ejections.eject(all[0], &passive, &all, at(90 + health));
        assert_eq!(time, Some(Duration::from_secs(seconds)), "after {health} s in health");
    }
}

#[test]
fn only_what_serves_is_ejected() {
    let (passive, all) = (passive(50.0), addresses(4));
    let mut ejections = Ejections::default();
    assert_eq!(ejections.eject(all[3], &passive, &all[..3], at(0)), None);
    assert_eq!(ejections.eject(all[0], &passive, &all[..1], at(0)), None, "the last one");
    assert_eq!(ejected(&ejections), []);
}

#[derive(Clone, Copy, Debug)]
enum Step {
    Fails(usize),
    Ends(usize),
    Passes(u64),
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        4 => (0_usize..8).prop_map(Step::Fails),
        1 => (0_usize..8).prop_map(Step::Ends),
        4 => (0_u64..400).prop_map(Step::Passes),
    ]
}

proptest! {
    #[test]
    fn never_too_many_never_too_long_and_all_return(
        count in 1_u8..=8,
        share in 1.0_f64..=100.0,
        steps in prop::collection::vec(step(), 0..80),
    ) {
        let (passive, all) = (passive(share), addresses(count));
        let mut ejections = Ejections::default();
        let mut now = at(0);
        for step in steps {
            match step {
                Step::Fails(index) => {
                    let address = all[index % all.len()];
                    if let Some(time) = ejections.eject(address, &passive, &all, now) {
                        prop_assert!((EJECT..=LONGEST).contains(&time));
                        prop_assert!(ejections.is_ejected(address));
                    }
                }
                Step::Ends(index) => {
                    let address = all[index % all.len()];
                    let was_ejected = ejections.is_ejected(address);
                    prop_assert_eq!(ejections.end(address, now), was_ejected);
                }
                Step::Passes(seconds) => {
                    now = now.after(Duration::from_secs(seconds));
                    for address in ejections.tick(&passive, now) {
                        prop_assert!(!ejections.is_ejected(address));
                    }
                }
            }
            let ejected = ejected(&ejections);
            prop_assert!(ejected.len() <= passive.most_ejected(all.len()) && ejected.len() < all.len());
            prop_assert!(ejected.iter().all(|until| *until <= now.after(LONGEST)));
        }
        ejections.tick(&passive, now.after(LONGEST));
        prop_assert_eq!(ejected(&ejections), []);
        ejections.tick(&passive, now.after(LONGEST * 100));
        prop_assert!(ejections.entries.is_empty(), "what stays healthy is forgotten");
    }
}
