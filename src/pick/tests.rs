//! What all balancers promise, and what each does.

use std::collections::BTreeSet;
use std::time::Duration;

use proptest::prelude::*;
use proptest::sample::{select, subsequence};

use super::{Candidate, Hash, Load, Picker};
use crate::model::Balance;

const ALL: [Balance; 7] = [
    Balance::RoundRobin,
    Balance::Weighted,
    Balance::LeastConnections,
    Balance::LeastTime,
    Balance::IpHash,
    Balance::TwoChoices,
    Balance::Maglev,
];
/// Those that follow the weights when all candidates are equally loaded.
const WEIGHTED: [Balance; 4] =
    [Balance::Weighted, Balance::LeastConnections, Balance::IpHash, Balance::Maglev];
const NONE_EXCLUDED: &dyn Fn(usize) -> bool = &|_| false;
const IDLE: &dyn Fn(usize) -> Load = &|_| Load { in_flight: 0, time: Some(Duration::from_millis(5)) };

fn candidates(weights: &[f64]) -> Vec<Candidate> {
    let hashes = (0_u64..).map(|index| Hash::of(format!("10.0.0.{index}:80").as_bytes()));
    hashes.zip(weights).map(|(hash, weight)| Candidate { hash, weight: *weight }).collect()
}

fn picker(balance: Balance, weights: &[f64], seed: u64) -> Picker {
    Picker::new(balance, candidates(weights), seed)
}

/// The key of a client.
fn key(client: u64) -> Hash {
    Hash(41).with(client)
}

/// The picks of so many clients while nothing is in progress.
fn picks(picker: &mut Picker, clients: u64) -> Vec<usize> {
    (0..clients)
        .map(|client| picker.pick(key(client), IDLE, NONE_EXCLUDED).expect("none is excluded"))
        .collect()
}

fn counts(picks: &[usize], candidates: usize) -> Vec<u32> {
    let mut counts = vec![0; candidates];
    picks.iter().for_each(|index| counts[*index] += 1);
    counts
}

/// Serves requests that each stay until `held` more have begun, and counts the picks.
fn serve(picker: &mut Picker, times: &[u64], held: usize, requests: u64) -> Vec<u32> {
    let mut in_flight = vec![0_u32; times.len()];
    let mut open = std::collections::VecDeque::new();
    let mut counts = vec![0; times.len()];
    for client in 0..requests {
        let load = |index: usize| Load {
            in_flight: in_flight[index],
            time: Some(Duration::from_millis(times[index])),
        };
        let index = picker.pick(key(client), &load, NONE_EXCLUDED).expect("none is excluded");
        counts[index] += 1;
        in_flight[index] += 1;
        open.push_back(index);
        if open.len() > held {
            in_flight[open.pop_front().expect("some are open")] -= 1;
        }
    }
    counts
}

/// Weights as operators write them, and some that nobody should.
fn any_weight() -> impl Strategy<Value = f64> {
    prop_oneof![
        8 => (1_u32..=100).prop_map(f64::from),
        1 => select(vec![0.0, -1.0, f64::NAN, f64::INFINITY, f64::NEG_INFINITY, f64::MIN_POSITIVE, f64::MAX, 1e-3, 1e9]),
    ]
}

fn any_load() -> impl Strategy<Value = Load> {
    (any::<u32>(), prop::option::of(any::<u64>().prop_map(Duration::from_secs)))
        .prop_map(|(in_flight, time)| Load { in_flight, time })
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(64) })]

    #[test]
    fn a_candidate_is_found_unless_all_are_excluded(
        balance in select(&ALL[..]),
        (weights, excluded) in prop::collection::vec(any_weight(), 0..8).prop_flat_map(|weights| {
            let indices: Vec<usize> = (0..weights.len()).collect();
            let size = 0..=indices.len();
            (Just(weights), subsequence(indices, size).prop_map(BTreeSet::from_iter))
        }),
        loads in prop::collection::vec(any_load(), 8),
        renewed in any::<bool>(),
        seed in any::<u64>(),
    ) {
        let mut picker = picker(balance, &weights, seed);
        for client in 0..50 {
            if renewed && client == 20 {
                picker.renew(Vec::new());
                prop_assert_eq!(picker.pick(key(client), &|index| loads[index], NONE_EXCLUDED), None);
                picker.renew(candidates(&weights));
            }
            match picker.pick(key(client), &|index| loads[index], &|index| excluded.contains(&index)) {
                Some(index) => prop_assert!(index < weights.len() && !excluded.contains(&index), "{}", index),
                None => prop_assert_eq!(excluded.len(), weights.len()),
            }
        }
    }

    #[test]
    fn shares_follow_the_weights(
        balance in select(&WEIGHTED[..]),
        weights in prop::collection::vec(1_u32..=10, 1..6),
        seed in any::<u64>(),
    ) {
        const PICKS: u64 = 5_000;
        let weights: Vec<f64> = weights.into_iter().map(f64::from).collect();
        let total: f64 = weights.iter().sum();
        let picks = picks(&mut picker(balance, &weights, seed), PICKS);
        for (count, weight) in counts(&picks, weights.len()).into_iter().zip(&weights) {
            let share = weight / total;
            // Six standard deviations of independent draws, and what a table of 65,537 slots rounds.
            let bound = 6.0 * (PICKS as f64 * share * (1.0 - share)).sqrt() + 2.0;
            prop_assert!((f64::from(count) - PICKS as f64 * share).abs() <= bound, "{count} of {PICKS} for {share}");
        }
    }

    #[test]
    fn least_connections_takes_the_least_loaded(
        backends in prop::collection::vec((1_u32..=5, 0_u32..20), 1..8),
        seed in any::<u64>(),
    ) {
        let weights: Vec<f64> = backends.iter().map(|(weight, _)| f64::from(*weight)).collect();
        let load = |index: usize| Load { in_flight: backends[index].1, time: None };
        let busy = |index: usize| f64::from(backends[index].1) / weights[index];
        let chosen = picker(Balance::LeastConnections, &weights, seed).pick(key(0), &load, NONE_EXCLUDED).unwrap();
        prop_assert!((0..weights.len()).all(|other| busy(chosen) <= busy(other)), "{chosen} of {backends:?}");
    }

    #[test]
    fn exclusion_moves_only_the_keys_of_the_excluded(
        balance in select(vec![Balance::IpHash, Balance::Maglev]),
        weights in prop::collection::vec((5_u32..=10).prop_map(f64::from), 2..7),
        excluded in 0_usize..2,
    ) {
        let mut picker = picker(balance, &weights, 0);
        let before = picks(&mut picker, 1_000);
        let mut moved = BTreeSet::new();
        for (client, before) in (0..).zip(before) {
            let after = picker.pick(key(client), IDLE, &|index| index == excluded).unwrap();
            if before == excluded {
                moved.insert(after);
            } else {
                prop_assert_eq!(after, before);
            }
        }
        prop_assert_eq!(moved.len(), weights.len() - 1, "keys of the excluded are spread");
    }

    #[test]
    fn renewal_with_the_same_candidates_changes_nothing(
        balance in select(&ALL[..]),
        weights in prop::collection::vec((1_u32..=10).prop_map(f64::from), 1..8),
        before in 0_u64..30,
        seed in any::<u64>(),
    ) {
        let mut renewed = picker(balance, &weights, seed);
        picks(&mut renewed, before);
        let mut same = renewed.clone();
        renewed.renew(candidates(&weights));
        prop_assert_eq!(picks(&mut renewed, 50), picks(&mut same, 50));
    }
}

#[test]
fn every_candidate_serves() {
    // One in a thousand of the weights; least-time explores those that it would not choose.
    let mut weights = [1.0; 10];
    weights[3] = 991.0;
    for balance in ALL {
        let counts = counts(&picks(&mut picker(balance, &weights, 5), 15_000), weights.len());
        assert!(counts.iter().all(|count| *count > 0), "{balance:?}: {counts:?}");
    }
}

#[test]
fn round_robin_takes_turns_whatever_the_weights() {
    let mut picker = picker(Balance::RoundRobin, &[5.0, 1.0, 1.0], 1);
    let picks = picks(&mut picker, 7);
    assert!(picks.windows(2).all(|pair| pair[1] == (pair[0] + 1) % 3), "{picks:?}");
}

#[test]
fn workers_start_at_different_backends() {
    for balance in [Balance::RoundRobin, Balance::Weighted, Balance::LeastConnections, Balance::LeastTime] {
        let first: BTreeSet<usize> =
            (0..40).map(|seed| picks(&mut picker(balance, &[1.0; 4], seed), 1)[0]).collect();
        assert_eq!(first.len(), 4, "{balance:?}");
    }
}

#[test]
fn round_robin_goes_on_where_it_was() {
    let mut picker = picker(Balance::RoundRobin, &[1.0; 4], 0);
    while picks(&mut picker, 1) != [1] {}
    let [a, b, c, d] = *candidates(&[1.0; 4]) else { unreachable!("there are four") };
    // The next would be c, which leaves; d is first now.
    picker.renew(vec![d, a, b]);
    assert_eq!(picks(&mut picker, 4), [0, 1, 2, 0]);
    picker.renew(vec![a, b, c, d]);
    assert_eq!(picks(&mut picker, 4), [0, 1, 2, 3]);
}

#[test]
fn smooth_turns_are_those_of_nginx() {
    for seed in 0..20 {
        let mut picker = picker(Balance::Weighted, &[5.0, 1.0, 1.0], seed);
        let twice: Vec<usize> = [0, 0, 1, 0, 2, 0, 0].repeat(2);
        let picks = picks(&mut picker, 7);
        assert!(twice.windows(7).any(|turns| turns == picks), "{picks:?}");
    }
}

#[test]
fn smooth_turns_continue_when_weights_change() {
    let mut picker = picker(Balance::Weighted, &[1_000.0, 1.0], 0);
    while picks(&mut picker, 1) != [1] {}
    // It has just paid 1,001; at equal weights it must not wait that long.
    picker.renew(candidates(&[1.0, 1.0]));
    let counts = counts(&picks(&mut picker, 10), 2);
    assert!(counts.iter().all(|count| (4..=6).contains(count)), "{counts:?}");
}

#[test]
fn candidates_that_stay_have_no_advance_over_new_ones() {
    let mut picker = picker(Balance::Weighted, &[1.0; 10], 0);
    while picks(&mut picker, 1) != [9] {}
    assert_eq!(picks(&mut picker, 5), [0, 1, 2, 3, 4]);
    // Those that have had their turns leave. Among equals the first is next.
    let renewed = [candidates(&[1.0; 15]).split_off(10), candidates(&[1.0; 10]).split_off(5)].concat();
    picker.renew(renewed);
    assert_eq!(picks(&mut picker, 5), [0, 1, 2, 3, 4]);
}

#[test]
fn two_choices_is_close_to_the_least_loaded() {
    // Of ten backends one has nothing to do: two draws of ten hit it in 1 of 5 cases, and then it is chosen.
    let load = |index: usize| Load { in_flight: if index == 7 { 0 } else { 10 }, time: None };
    let mut picker = picker(Balance::TwoChoices, &[1.0; 10], 9);
    let hits =
        (0..10_000).filter(|client| picker.pick(key(*client), &load, NONE_EXCLUDED) == Some(7)).count();
    assert!((1_800..2_200).contains(&hits), "{hits}");

    // The busiest backend is never chosen while there is another.
    let load = |index: usize| Load { in_flight: index as u32, time: None };
    assert!((0..1_000).all(|client| picker.pick(key(client), &load, NONE_EXCLUDED) != Some(9)));

    // With 100 requests open at any time, shares stay even.
    let counts = serve(&mut picker, &[1; 10], 100, 10_000);
    assert!(counts.iter().all(|count| (900..1_100).contains(count)), "{counts:?}");
}

#[test]
fn two_choices_draws_by_weight() {
    let mut picker = picker(Balance::TwoChoices, &[1.0, 2.0, 3.0], 2);
    let counts = serve(&mut picker, &[1; 3], 60, 12_000);
    for (count, expected) in counts.iter().zip([2_000_u32, 4_000, 6_000]) {
        assert!(count.abs_diff(expected) < 600, "{counts:?}");
    }
}

#[test]
fn two_choices_among_few_is_exact() {
    // All but two of many are excluded: blind draws miss, and the two are still drawn by their weights.
    let mut weights = vec![100.0; 50];
    weights[10] = 1.0;
    weights[20] = 1.0;
    let mut picker = picker(Balance::TwoChoices, &weights, 3);
    let excluded = |index: usize| ![10, 20].contains(&index);
    let first = (0..2_000).filter(|client| picker.pick(key(*client), IDLE, &excluded) == Some(10)).count();
    assert!((850..1_150).contains(&first), "{first}");
}

#[test]
fn least_time_prefers_the_faster_and_keeps_exploring() {
    let mut picker = picker(Balance::LeastTime, &[1.0; 4], 0);
    let counts = serve(&mut picker, &[100, 10, 100, 100], 1, 64_000);
    // One pick in 64 goes to one of the three slow ones, by turns.
    let explored: Vec<u32> = [0, 2, 3].iter().map(|index| counts[*index]).collect();
    assert!(explored.iter().all(|count| (250..420).contains(count)), "{counts:?}");
}

#[test]
fn least_time_weighs_time_by_requests_in_progress() {
    let load = |index: usize| Load {
        in_flight: [4, 1, 0][index],
        time: Some(Duration::from_millis([10, 20, 60][index])),
    };
    let mut picker = picker(Balance::LeastTime, &[1.0; 3], 0);
    let picks: Vec<_> =
        (0..640).filter_map(|client| picker.pick(key(client), &load, NONE_EXCLUDED)).collect();
    // 10 × 5, 20 × 2, 60 × 1; only the idle one is ever explored.
    let counts = counts(&picks, 3);
    assert!(counts[0] == 0 && counts[1] > 600 && counts[2] > 0, "{counts:?}");
}

#[test]
fn times_below_a_millisecond_are_equal() {
    let load = |index: usize| Load { in_flight: 0, time: Some(Duration::from_micros([1, 900][index])) };
    let mut picker = picker(Balance::LeastTime, &[1.0; 2], 0);
    let picks: Vec<_> =
        (0..1_000).filter_map(|client| picker.pick(key(client), &load, NONE_EXCLUDED)).collect();
    let counts = counts(&picks, 2);
    assert!(counts.iter().all(|count| (450..550).contains(count)), "{counts:?}");
}

#[test]
fn each_candidate_without_a_time_is_explored_by_one_request() {
    let mut picker = picker(Balance::LeastTime, &[1.0; 4], 0);
    let mut in_flight = [0_u32; 4];
    let mut order = Vec::new();
    for client in 0..3 + 60 {
        // The last one is known.
        let load = |index: usize| Load {
            in_flight: in_flight[index],
            time: (index == 3).then_some(Duration::from_secs(1)),
        };
        let index = picker.pick(key(client), &load, NONE_EXCLUDED).unwrap();
        in_flight[index] += 1;
        order.push(index);
    }
    assert_eq!(BTreeSet::from_iter(&order[..3]), BTreeSet::from([&0, &1, &2]));
    assert!(order[3..].iter().all(|index| *index == 3), "{order:?}");
}

#[test]
fn before_any_response_requests_are_spread() {
    let mut picker = picker(Balance::LeastTime, &[1.0; 4], 0);
    let mut in_flight = [0_u32; 4];
    for client in 0..40 {
        let load = |index: usize| Load { in_flight: in_flight[index], time: None };
        in_flight[picker.pick(key(client), &load, NONE_EXCLUDED).unwrap()] += 1;
    }
    assert_eq!(in_flight, [10; 4]);
}

#[test]
fn leaving_moves_only_the_keys_of_the_one_that_left_under_ip_hash() {
    let before = picks(&mut picker(Balance::IpHash, &[1.0; 10], 0), 5_000);
    let mut picker = picker(Balance::IpHash, &[1.0; 10], 0);
    let mut left = candidates(&[1.0; 10]);
    left.remove(4);
    picker.renew(left);
    for (before, after) in before.into_iter().zip(picks(&mut picker, 5_000)) {
        // Those behind the one that left moved up by one.
        assert!(before == 4 || before - usize::from(before > 4) == after);
    }
}

#[test]
fn leaving_moves_few_keys_of_others_under_maglev() {
    const CLIENTS: u64 = 20_000;
    for count in [10, 11, 30, 64, 100] {
        let all = candidates(&vec![1.0; count]);
        let mut picker = Picker::new(Balance::Maglev, all.clone(), 0);
        let before = picks(&mut picker, CLIENTS);
        let mut left = all.clone();
        left.remove(count / 2);
        picker.renew(left.clone());
        let after = picks(&mut picker, CLIENTS);
        let pairs = before.iter().zip(&after).filter(|(before, _)| **before != count / 2);
        let (moved, others) = pairs.fold((0, 0), |(moved, others), (before, after)| {
            (moved + u64::from(all[*before].hash != left[*after].hash), others + 1)
        });
        assert!(moved * 50 <= others, "{moved} of {others} keys of others moved when one of {count} left");
    }
}
