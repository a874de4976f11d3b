//! Shares under generated weights: weights, failures and operators move the clients they should, and no others.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr};
use std::time::Duration;

use portolan::model::{Fraction, Unix};
use portolan::standing::{Action, Override};
use proptest::prelude::*;
use proptest::sample::Index;

use super::world::{Node, Region, Service, World};

const CASES: u32 = 24;
/// The number of clients, each in its own /24.
const CLIENTS: u32 = 1_000;
/// How far a share may be from its mean, in standard deviations: exceeded once in 500 million draws.
const DEVIATIONS: f64 = 6.0;
const NAMES: [&str; 5] = ["a", "b", "c", "d", "e"];

/// One service, shared by a region for each weight.
fn shared(weights: &[u32]) -> World {
    let regions = NAMES.iter().zip(1..).take(weights.len()).map(|(name, host)| Region {
        name: (*name).into(),
        body: format!("endpoint = [{{ name = \"lb\", address = [\"192.0.2.{host}\"] }}]\n"),
    });
    let members: Vec<_> = NAMES
        .iter()
        .zip(weights)
        .map(|(name, weight)| format!("{{ region = \"{name}\", weight = {weight} }}"))
        .collect();
    let body = format!("rank = \"none\"\nregions = [{}]\n", members.join(", "));
    World {
        regions: regions.collect(),
        services: vec![Service { name: "s.example.".into(), body }],
        networks: Vec::new(),
        latency: Vec::new(),
        down: Vec::new(),
        overrides: Vec::new(),
    }
}

/// The same with an override of a region.
fn with_override(world: &World, region: &str, action: Action) -> World {
    let set = Override {
        id: 1,
        target: format!("region/{region}").parse().expect("a target"),
        action,
        created: Unix(Duration::ZERO),
        until: None,
        reason: None,
        by: None,
    };
    World { overrides: vec![set], ..world.clone() }
}

/// Where each client is sent.
fn sent(world: &World) -> Vec<String> {
    let node = Node::start(world);
    let client = |number: u32| IpAddr::V4(Ipv4Addr::from_bits(0x0a00_0001 | number << 8));
    (0..CLIENTS)
        .map(|number| node.ask("s.example.", "A", client(number), 0).region.expect("some region serves"))
        .collect()
}

/// At least two weights above 0, so that a region remains when one is lost.
fn any_weights() -> impl Strategy<Value = Vec<u32>> {
    let weight = prop_oneof![1 => Just(0_u32), 2 => 1..10_u32, 1 => 1..1000_u32];
    prop::collection::vec(weight, 2..=NAMES.len())
        .prop_filter("two take clients", |weights| weights.iter().filter(|weight| **weight > 0).count() > 1)
}

/// Whether `count` of `total` is a fair draw of this share.
pub(super) fn is_fair(count: usize, total: usize, share: f64) -> bool {
    let (count, total) = (count as f64, total as f64);
    (count - total * share).abs() <= DEVIATIONS * (total * share * (1.0 - share)).sqrt() + 1.0
}

fn counts(sent: &[String]) -> BTreeMap<&str, usize> {
    sent.iter().fold(BTreeMap::new(), |mut counts, region| {
        *counts.entry(region.as_str()).or_default() += 1;
        counts
    })
}

#[test]
fn regions_share_equally_if_all_weights_are_0() {
    for regions in 2..=NAMES.len() {
        assert_eq!(sent(&shared(&vec![0; regions])), sent(&shared(&vec![1; regions])));
    }
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(CASES) })]

    #[test]
    fn shares_are_the_weights(weights in any_weights()) {
        let sent = sent(&shared(&weights));
        let counts = counts(&sent);
        let total: u32 = weights.iter().sum();
        for (name, weight) in NAMES.iter().zip(&weights) {
            let count = counts.get(name).copied().unwrap_or(0);
            prop_assert!(*weight > 0 || count == 0, "{} has weight 0 and {} clients", name, count);
            let share = f64::from(*weight) / f64::from(total);
            prop_assert!(is_fair(count, sent.len(), share), "{} has {} clients for {}", name, count, share);
        }
    }

    #[test]
    fn only_the_clients_of_a_lost_region_move(weights in any_weights(), lost in any::<Index>()) {
        let world = shared(&weights);
        let lost = NAMES[lost.index(weights.len())];
        let gone = [
            World { down: vec![lost.into()], ..world.clone() },
            with_override(&world, lost, Action::Down),
            with_override(&world, lost, Action::DRAIN),
        ];
        let before = sent(&world);
        let [failed, forced, drained] = gone.each_ref().map(sent);
        prop_assert_eq!(&failed, &forced, "however it is lost");
        prop_assert_eq!(&failed, &drained);
        for (before, after) in before.iter().zip(&failed) {
            prop_assert!(after != lost && (before == after || before == lost), "{} to {}", before, after);
        }
    }

    #[test]
    fn forced_up_is_as_if_it_were_up(weights in any_weights(), down in any::<Index>()) {
        let world = shared(&weights);
        let down = NAMES[down.index(weights.len())];
        let failed = World { down: vec![down.into()], ..world.clone() };
        prop_assert_eq!(sent(&with_override(&failed, down, Action::Up)), sent(&world));
    }

    #[test]
    fn partial_drains_take_their_share_and_nest(
        weights in any_weights(),
        drained in any::<Index>(),
        first in 1..100_u8,
        more in 1..100_u8,
    ) {
        let world = shared(&weights);
        let drained = NAMES[drained.index(weights.len())];
        let percent = |percent: u8| Fraction::from_percent(f64::from(percent)).expect("up to 100 %");
        let drain = |share| sent(&with_override(&world, drained, Action::Drain(percent(share))));
        let before = sent(&world);
        let owned = before.iter().filter(|region| *region == drained).count();
        let (less, more) = (first.min(more), first.max(more));
        let (some, others) = (drain(less), drain(more));
        for ((before, some), others) in before.iter().zip(&some).zip(&others) {
            prop_assert!(before == some || before == drained, "{} is not drained", before);
            prop_assert!(some == others || some == drained, "a larger drain brings {} back", some);
        }
        let moved = before.iter().zip(&some).filter(|(before, some)| before != some).count();
        prop_assert!(is_fair(moved, owned, f64::from(less) / 100.0), "{} of {} for {} %", moved, owned, less);
    }
}
