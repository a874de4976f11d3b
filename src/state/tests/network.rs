//! Addresses that this node cannot probe, and failures of its own network.

use super::*;
use crate::standing::Suspected;

fn dual_stack() -> Topology {
    topology(&[&["192.0.2.1", "2001:db8::1"]], &[&["192.0.2.2", "2001:db8::2"]])
}

/// Two regions with two endpoints each, and `suspect_self`.
fn suspicious(anchors: &[&str]) -> World {
    let mut world = world(topology(&[&["192.0.2.1"], &["192.0.2.3"]], &[&["192.0.2.2"], &["192.0.2.4"]]));
    world.rules.suspect_self = Some(SuspectSelf {
        share: Fraction::parse("60%").unwrap(),
        min: 3,
        anchors: anchors.iter().map(|it| it.parse().unwrap()).collect(),
        at_most: Duration::from_secs(120),
    });
    world
}

const ALL: [&str; 4] = ["192.0.2.1", "192.0.2.2", "192.0.2.3", "192.0.2.4"];

#[test]
fn an_address_that_this_node_cannot_probe_follows_its_siblings() {
    let mut node = Node::new(world(dual_stack()));
    node.blind = ["2001:db8::1", "2001:db8::2"].map(|it| it.parse().unwrap()).into();
    node.break_all(&["192.0.2.1"], Severity::Hard).probe_times(2);
    assert_eq!(node.health(EU), HARD, "a dead region is down, though its IPv6 address cannot be probed");
    assert_eq!(node.usable(EU, Family::V6), Usable::No(Cause::Probes(Severity::Hard)));
    assert_eq!(node.usable(US, Family::V6), Usable::Yes(1.0));
    let address = &node.state.standing().region(US).endpoints[0].addresses[1];
    assert!(!address.observed && address.state == Health::Up);
    assert!(node.state.is_ready());
    assert!(node.events().iter().any(|it| it.contains("cannot probe") && it.contains("network unreachable")));
    // Regions that cannot be observed do not count towards the minimum.
    assert!(node.is_refused("region/us", Action::DRAIN));
    node.blind.clear();
    node.probe();
    assert!(node.events().contains(&"this node can probe everything again".to_owned()));
}

#[test]
fn a_down_address_stays_down_when_it_can_no_longer_be_probed() {
    let mut node = Node::up(world(dual_stack()));
    node.break_all(&["2001:db8::1"], Severity::Hard).probe_times(3);
    node.blind = vec!["2001:db8::1".parse().unwrap()];
    node.probe();
    assert_eq!(node.usable(EU, Family::V6), Usable::No(Cause::Probes(Severity::Hard)));
    assert_eq!(node.usable(EU, Family::V4), Usable::Yes(1.0));
}

#[test]
fn a_node_that_loses_its_own_network_keeps_the_last_standing_for_a_while() {
    let mut node = Node::up(suspicious(&[]));
    node.break_all(&ALL, Severity::Hard).probe_times(5);
    assert_eq!((node.health(EU), node.health(US)), (HARD, HARD), "verdicts go on");
    assert_eq!(node.usable(EU, Family::V4), Usable::Yes(1.0), "but are not believed");
    assert_eq!(node.state.standing().held_anywhere(EU), Some(crate::model::Rule::SuspectSelf));
    let events = node.events();
    let alarm = "4 of 4 checks started to fail within 6s: this node suspects its own network and keeps the last standing for at most 120s";
    assert!(events.contains(&alarm.to_owned()), "{events:?}");
    assert!(events.contains(&"region/eu fails, but suspect_self holds it".to_owned()), "{events:?}");
    // Only for a limited time.
    node.probe_times(24);
    assert_eq!(node.usable(EU, Family::V4), Usable::No(Cause::Probes(Severity::Hard)));
    assert_eq!(node.state.standing().suspected, Some(Suspected::AlarmOnly));
    // The same failures do not start a new suspicion; it ends once they are over.
    node.probe_times(24);
    assert_eq!(node.usable(EU, Family::V4), Usable::No(Cause::Probes(Severity::Hard)));
    node.broken.clear();
    node.probe_times(8);
    assert_eq!(node.usable(EU, Family::V4), Usable::Yes(1.0));
    assert!(node.events().contains(&"checks succeed again: this node's network works".to_owned()));
}

#[test]
fn a_reachable_anchor_ends_the_suspicion() {
    let mut node = Node::up(suspicious(&["192.0.2.250:53"]));
    node.anchors_answer = false;
    node.break_all(&ALL, Severity::Hard).probe_times(3);
    assert_eq!(node.usable(EU, Family::V4), Usable::Yes(1.0));
    assert_eq!(node.state.standing().suspected, Some(Suspected::KeepsStanding));
    node.anchors_answer = true;
    node.probe();
    assert_eq!(node.usable(EU, Family::V4), Usable::No(Cause::Probes(Severity::Hard)));
    assert_eq!(node.state.standing().suspected, None, "an anchor proves that the network works");
    let anchor = Subject::Anchor("tcp:192.0.2.250:53".into());
    assert!(node.state.checks(node.now).iter().any(|it| it.id.subject == anchor));
}

#[test]
fn partial_or_gradual_failures_raise_no_suspicion() {
    let mut node = Node::up(suspicious(&[]));
    node.break_all(&ALL[..2], Severity::Hard).probe_times(3);
    assert_eq!(node.state.standing().region(EU).endpoints[0].addresses[0].used, HARD);
    node.break_all(&ALL[2..3], Severity::Hard).probe_times(3);
    node.break_all(&ALL[3..], Severity::Hard).probe_times(3);
    assert_eq!(node.usable(EU, Family::V4), Usable::No(Cause::Probes(Severity::Hard)));
}

#[test]
fn a_brown_out_is_no_reason_to_doubt_the_network() {
    let mut node = Node::up(suspicious(&[]));
    node.break_all(&ALL, Severity::Soft).probe_times(5);
    assert_eq!(node.held(), [EU, US], "held by min_regions");
    assert_eq!(node.state.standing().suspected, None, "a target that answers 503 was reached");
}

#[test]
fn without_suspect_self_there_is_only_an_alarm() {
    let mut node = Node::up(world(two_regions()));
    node.break_all(&ALL, Severity::Hard).probe_times(3);
    assert_eq!(node.usable(EU, Family::V4), Usable::No(Cause::Probes(Severity::Hard)));
    let alarm = "2 of 2 checks started to fail within 6s: this node may have lost its own network";
    assert!(node.events().contains(&alarm.to_owned()));
}
