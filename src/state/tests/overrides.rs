//! Overrides.

use super::*;

#[test]
fn a_drained_endpoint_does_not_hide_that_the_rest_fails() {
    let mut node = Node::up(world(topology(&[&["192.0.2.1"], &["192.0.2.3"]], &[&["192.0.2.2"]])));
    node.break_all(&["192.0.2.2"], Severity::Hard).probe_times(3);
    node.set("endpoint/eu/lb1", Action::DRAIN).expect("lb2 is left");
    node.break_all(&["192.0.2.3"], Severity::Soft).probe_times(3);
    assert_eq!(node.usable(EU, Family::V4), Usable::No(Cause::Probes(Severity::Soft)));
    assert_eq!(node.held(), [EU]);
    assert_eq!(node.candidates(EU, Family::V4), ["192.0.2.3"], "and not the drained one");
    // As a last resort, a drained but healthy endpoint is better than a failing one.
    let resort = &node.state.standing().region(EU).pool(Family::V4).last_resort;
    assert_eq!(resort.class, LastResortClass::Drained);
    assert_eq!(&*resort.candidates[0].addresses, ["192.0.2.1".parse::<IpAddr>().unwrap()]);
}

#[test]
fn draining_an_endpoint_of_a_region_that_needs_all_leaves_the_others() {
    let mut all = topology(&[&["192.0.2.1"], &["192.0.2.3"]], &[&["192.0.2.2"]]);
    let Condition::Any(own) = all.regions[0].healthy_when.clone() else { panic!("it is any") };
    all.regions[0].healthy_when = Condition::All(own);
    let mut node = Node::up(world(all.clone()));
    node.set("endpoint/eu/lb1", Action::DRAIN).expect("lb2 is left");
    assert_eq!(node.usable(EU, Family::V4), Usable::Yes(1.0));
    // Too few endpoints are left for the required number, and that is due to the operator.
    let Condition::All(own) = all.regions[0].healthy_when.clone() else { panic!("it is all") };
    all.regions[0].healthy_when = Condition::AtLeast(2, own);
    node.reload(world(all));
    assert_eq!(node.usable(EU, Family::V4), Usable::No(Cause::Drained));
    node.break_all(&["192.0.2.3"], Severity::Hard).probe_times(3);
    assert_eq!(node.usable(EU, Family::V4), Usable::No(Cause::Probes(Severity::Hard)));
}

#[test]
fn min_regions_guards_drains_of_held_regions_and_removals() {
    let mut node = Node::up(world(two_regions()));
    node.break_all(&["192.0.2.1"], Severity::Soft).break_all(&["192.0.2.2"], Severity::Hard).probe_times(3);
    assert_eq!(node.held(), [EU]);
    assert!(node.is_refused("region/eu", Action::DRAIN), "it is held, and all there is");

    let mut node = Node::up(world(two_regions()));
    node.break_all(&["192.0.2.2"], Severity::Hard).probe_times(3);
    let forced = node.set("region/us", Action::Up).expect("it adds one").subject.id;
    node.set("region/eu", Action::DRAIN).expect("us is forced up");
    let removed = node.state.remove_override(forced, "the test".into(), false, node.now);
    assert!(matches!(removed, Err(Rejection::Unsafe(_))), "eu is drained, us is down");
    assert_eq!(node.state.overrides().len(), 2, "nothing has changed");
    assert!(node.state.remove_override(forced, "the test".into(), true, node.now).is_ok());
    let missing = node.state.remove_override(99, "the test".into(), false, node.now);
    assert_eq!(missing.unwrap_err().to_string(), "there is no override 99");
}

#[test]
fn draining_the_only_endpoint_of_a_family_is_guarded() {
    let mut node = Node::up(world(topology(&[&["192.0.2.1"], &["2001:db8::1"]], &[&["192.0.2.2"]])));
    node.break_all(&["192.0.2.2"], Severity::Hard).probe_times(3);
    assert!(node.is_refused("endpoint/eu/lb2", Action::DRAIN));
}

#[test]
fn overrides_without_effect_are_reported() {
    let quarter = Action::Drain(Fraction::parse("25%").unwrap());
    let note = |node: &mut Node, target: &str, action| node.set(target, action).unwrap().no_effect;
    let mut node = Node::up(world(topology(&[&["192.0.2.1"], &["192.0.2.3"]], &[&["192.0.2.2"]])));
    let used = "region/eu is in use either way; forced up, it stays so even if probes fail";
    assert_eq!(note(&mut node, "region/eu", Action::Up).unwrap(), used);
    assert_eq!(note(&mut node, "endpoint/eu/lb1", quarter), None);
    assert_eq!(note(&mut node, "region/us", quarter), None);
    assert_eq!(note(&mut node, "region/eu", Action::DRAIN), None);
    assert_eq!(
        note(&mut node, "endpoint/us/lb1", quarter).unwrap(),
        "lb1 is the only endpoint of its region in use"
    );
    let mut node = Node::up(world(two_regions()));
    node.break_all(&["192.0.2.2"], Severity::Hard).probe_times(3);
    for (target, expected) in [
        ("region/eu", "no other region serves the clients of eu"),
        ("service/www.example.test/eu", "no other region of www.example.test. serves"),
    ] {
        assert_eq!(note(&mut node, target, quarter).unwrap(), expected);
    }
    let down =
        "region/us takes no new clients either way, as it is down; drained, it stays out when it recovers";
    assert_eq!(note(&mut node, "region/us", Action::DRAIN).unwrap(), down);
}

/// What is true of a target that is withdrawn already, before the override and after it.
#[test]
fn overrides_of_what_takes_no_clients_say_what_they_still_do() {
    let quarter = Action::Drain(Fraction::parse("25%").unwrap());
    let never = "takes no new clients either way; forced down, it is not used even when nothing else is left";
    let perhaps = "takes no new clients either way; drained, it may be used when nothing else is left";
    for (target, first, second, expected) in [
        ("region/eu", Action::DRAIN, Action::DRAIN, "is drained already"),
        ("region/eu", quarter, quarter, "is drained for 25% of its clients already"),
        ("region/eu", Action::Down, Action::Down, "is forced down already"),
        ("region/eu", Action::Up, Action::Up, "is forced up already"),
        ("region/eu", Action::DRAIN, Action::Down, never),
        ("region/eu", Action::Down, Action::DRAIN, perhaps),
        ("endpoint/eu/lb1", Action::DRAIN, Action::Down, never),
        ("endpoint/eu/lb1", Action::Down, Action::DRAIN, perhaps),
        ("service/www.example.test/eu", Action::DRAIN, Action::Down, never),
        ("service/www.example.test/eu", Action::Down, Action::DRAIN, perhaps),
    ] {
        let mut node = Node::up(world(two_regions()));
        node.set(target, first).unwrap();
        let change = OverrideChange::Set(request(target, second));
        let planned = node.state.preview(change, node.now).unwrap().no_effect;
        assert_eq!(planned.as_deref(), Some(&*format!("{target} {expected}")), "{first:?} -> {second:?}");
        assert_eq!(node.set(target, second).unwrap().no_effect, planned, "once it is set");
    }
    let mut node = Node::up(world(two_regions()));
    node.set("endpoint/eu/lb1", Action::DRAIN).unwrap();
    for (target, action, expected) in [
        ("region/eu", Action::Down, "region/eu takes no new clients either way"),
        (
            "service/www.example.test/eu",
            Action::DRAIN,
            "service/www.example.test/eu takes no new clients either way",
        ),
    ] {
        assert_eq!(node.set(target, action).unwrap().no_effect.as_deref(), Some(expected));
    }
}

#[test]
fn a_partial_drain_within_a_service_takes_precedence_over_a_forced_region() {
    let mut node = Node::up(world(two_regions()));
    node.set("region/eu", Action::Up).unwrap();
    let half = Action::Drain(Fraction::parse("50%").unwrap());
    assert_eq!(node.set("service/www.example.test/eu", half).unwrap().no_effect, None);
    assert_eq!(node.state.standing().within(ServiceId(0), EU), Some(half));
    // But a partial drain does not readmit what the region's own override withdraws.
    node.set("region/eu", Action::DRAIN).unwrap();
    let usable = node.state.standing().usable_within(ServiceId(0), EU, Family::V4);
    assert_eq!(usable, Usable::No(Cause::Drained));
}

#[test]
fn overrides_expire_by_the_wall_clock() {
    let mut node = Node::up(world(two_regions()));
    let request = OverrideRequest {
        target: "region/eu".parse().unwrap(),
        action: Action::DRAIN,
        lasts: Some(Duration::from_secs(600)),
        reason: None,
        override_safety: false,
        by: "the test".into(),
    };
    node.state.set_override(request, node.now).unwrap();
    // The wall clock is set forward; the monotonic clock is not.
    node.now.unix = node.now.unix.after(Duration::from_secs(599));
    assert!(node.state.tick(node.now).is_empty());
    node.now.unix = node.now.unix.after(Duration::from_secs(1));
    assert_eq!(node.state.tick(node.now).len(), 1);
    assert_eq!(node.usable(EU, Family::V4), Usable::Yes(1.0));
}
