//! Reloads, changes of hosts, and restarts.

use super::*;

#[test]
fn a_reload_that_adds_or_renames_probes_withdraws_nothing() {
    let mut node = Node::up(world(two_regions()));
    let mut added = two_regions();
    added.probes.push(probe("more"));
    added.regions[0].endpoints[0].healthy_when = Condition::checks([ProbeId(0), ProbeId(1)]);
    node.reload(world(added.clone()));
    assert_eq!((node.health(EU), node.usable(EU, Family::V4)), (Health::Up, Usable::Yes(1.0)));
    added.probes.iter_mut().for_each(|probe| probe.name += "-renamed");
    node.reload(world(added));
    assert_eq!((node.health(EU), node.health(US)), (Health::Up, Health::Up));
    assert_eq!(node.events().len(), 2, "the reloads, and no transition");
    // The first results of the new probes decide.
    node.break_all(&["192.0.2.1"], Severity::Hard).probe_times(2);
    assert_eq!((node.health(EU), node.health(US)), (HARD, Health::Up));
}

#[test]
fn a_region_that_served_keeps_serving_when_all_its_endpoints_are_new() {
    let mut node = Node::up(world(two_regions()));
    let mut renamed = two_regions();
    renamed.regions[0].endpoints[0].name = "edge1".into();
    node.reload(world(renamed));
    assert_eq!((node.health(EU), node.usable(EU, Family::V4)), (Health::Up, Usable::Yes(1.0)));
    node.break_all(&["192.0.2.1"], Severity::Hard).probe_times(2);
    assert_eq!(node.health(EU), HARD);
}

#[test]
fn a_down_address_stays_down_over_a_reload_that_renames_its_probe() {
    let mut node = Node::up(world(two_regions()));
    node.break_all(&["192.0.2.1"], Severity::Hard).probe_times(3);
    let mut renamed = two_regions();
    renamed.probes[0].name = "renamed".into();
    node.reload(world(renamed));
    assert_eq!(node.health(EU), HARD);
    node.broken.clear();
    node.probe();
    assert_eq!(node.health(EU), Health::Up, "the new probe has no history");
}

#[test]
fn what_a_reload_would_lead_to_is_tried_on_a_copy() {
    let mut node = Node::up(world(two_regions()));
    node.break_all(&["192.0.2.1"], Severity::Hard).probe_times(3);
    node.events();
    let mut more = two_regions();
    more.probes[0].name = "renamed".into();
    let mut added = more.regions[1].clone();
    added.name = "za".into();
    added.endpoints[0].reach = Reach::Addresses(vec!["192.0.2.3".parse().unwrap()]);
    let at = EndpointRef { region: RegionId(2), index: 0 };
    added.healthy_when = Condition::Any(vec![Condition::Endpoint(at)]);
    more.regions.push(added);
    let epoch = node.state.epoch();
    let tried = node.state.clone().after_reload(world(more), node.now);
    let health = |region: RegionId| tried.standing.region(region).state;
    assert_eq!((health(EU), health(US), health(RegionId(2))), (HARD, Health::Up, Health::Up));
    assert_eq!(tried.assumed_up.iter().map(|name| &**name).collect::<Vec<_>>(), ["za"]);
    assert_eq!((node.state.epoch(), node.events()), (epoch, Vec::<String>::new()));
}

#[test]
fn results_of_an_older_probe_definition_are_ignored() {
    let mut node = Node::up(world(two_regions()));
    let old: Vec<CheckToRun> = node.state.checks_to_run().collect();
    let mut changed = two_regions();
    changed.probes[0].kind = Kind::Tcp { port: 8080 };
    node.reload(world(changed));
    node.break_all(&["192.0.2.1"], Severity::Hard);
    for _ in 0..5 {
        let outcome = node.outcome(&old[0].id.subject);
        node.state.observe(&old[0].id, old[0].generation, outcome.as_ref(), node.now);
    }
    node.state.recompute(node.now);
    assert_eq!(node.health(EU), Health::Up);
}

#[test]
fn a_host_that_changes_its_addresses_serves_from_the_old_ones_until_a_new_one_has_a_result() {
    let mut topology = two_regions();
    let host: Name = "lb.example.net.".parse().unwrap();
    topology.regions[0].endpoints[0].reach = Reach::Resolved(host.clone());
    let mut node = Node::new(world(topology));
    assert!(node.state.standing().region(EU).unresolved);
    let resolve = |node: &mut Node, address: &str| {
        let v4 = Found {
            addresses: vec![address.parse().unwrap()],
            ttl: Some(Duration::from_secs(5)),
            ..Found::default()
        };
        let lookup = Lookup { v4: Ok(v4), v6: Ok(Found::default()) };
        node.state.resolve(host.clone(), lookup, node.now);
        node.state.recompute(node.now);
    };
    resolve(&mut node, "192.0.2.10");
    node.probe();
    for last in 11..15 {
        resolve(&mut node, &format!("192.0.2.{last}"));
        assert_eq!(node.usable(EU, Family::V4), Usable::Yes(1.0));
        assert_eq!(node.candidates(EU, Family::V4), [format!("192.0.2.{}", last - 1)], "make before break");
        node.probe();
        assert_eq!(node.candidates(EU, Family::V4), [format!("192.0.2.{last}")]);
        assert_eq!(node.state.checks_to_run().count(), 2, "the old address is no longer probed");
    }
    // Even if the new address turns out to be down: the old one may belong to somebody else now.
    node.break_all(&["192.0.2.20"], Severity::Hard);
    resolve(&mut node, "192.0.2.20");
    node.probe();
    assert_eq!(node.candidates(EU, Family::V4), ["192.0.2.14"]);
    node.probe();
    assert_eq!(node.health(EU), HARD);
    assert_eq!(node.candidates(EU, Family::V4), ["192.0.2.20"]);
}

#[test]
fn held_regions_carry_over_a_reload() {
    let mut node = Node::up(world(two_regions()));
    node.break_all(&["192.0.2.1", "192.0.2.2"], Severity::Soft).probe_times(3);
    node.broken.remove(&"192.0.2.2".parse::<IpAddr>().unwrap());
    node.probe_times(8);
    // A new region that sorts before the others changes all ids.
    let mut more = two_regions();
    let mut first = more.regions[1].clone();
    first.name = "ap".into();
    first.endpoints[0].reach = Reach::Addresses(vec!["192.0.2.3".parse().unwrap()]);
    more.regions.insert(0, first);
    for (number, region) in more.regions.iter_mut().enumerate() {
        let at = EndpointRef { region: RegionId(number as u16), index: 0 };
        region.healthy_when = Condition::Any(vec![Condition::Endpoint(at)]);
    }
    more.services = vec![service(&[RegionId(1), RegionId(2)])];
    node.events();
    node.reload(world(more));
    assert_eq!(node.held(), [RegionId(1)]);
    assert!(!node.events().iter().any(|it| it.contains("held")), "nothing changed for it");
}

#[test]
fn a_restart_restores_verdicts_and_recoveries_in_progress() {
    let mut node = Node::up(world(two_regions()));
    node.break_all(&["192.0.2.1"], Severity::Hard).probe_times(3);
    node.broken.clear();
    node.probe_times(3);
    assert_eq!(node.health(EU), HARD, "good for 10 of 30 seconds");
    let verdicts: Vec<_> =
        node.state.verdicts(node.now).into_iter().map(|(id, memory)| (id, memory, node.now.unix)).collect();
    assert_eq!(verdicts.len(), 2);
    let restart = |after: u64, verdicts: &[(CheckId, SavedVerdict, Unix)]| {
        let now = Now {
            mono: Mono(Duration::from_secs(5_000_000)),
            unix: node.now.unix.after(Duration::from_secs(after)),
        };
        let remembered = SavedState { verdicts: verdicts.to_vec(), ..SavedState::default() };
        let state = State::new(world(two_regions()), remembered, now);
        let broken = HashMap::new();
        Node { state, now, broken, blind: Vec::new(), anchors_answer: true }
    };
    let mut restarted = restart(2, &verdicts);
    assert!(restarted.state.is_ready());
    assert_eq!((restarted.health(EU), restarted.health(US)), (HARD, Health::Up));
    restarted.probe_times(3);
    assert_eq!(restarted.health(EU), HARD, "good for 27 seconds");
    restarted.probe();
    assert_eq!(restarted.health(EU), Health::Up);
    // Outdated verdicts are discarded, and so are verdicts from the future.
    assert_eq!(restart(60, &verdicts).health(EU), Health::Unknown);
    let future: Vec<_> =
        verdicts.iter().map(|(id, memory, _)| (id.clone(), memory.clone(), Unix(Duration::MAX))).collect();
    assert_eq!(restart(2, &future).health(US), Health::Unknown);
}

/// A computed TTL must not outlast the next lookup of a host, or its answer may change while it is cached.
#[test]
fn a_region_may_change_when_its_host_is_looked_up_again() {
    let mut topology = two_regions();
    let host: Name = "lb.example.net.".parse().unwrap();
    topology.regions[0].endpoints[0].reach = Reach::Resolved(host.clone());
    let mut node = Node::new(World { computes_ttl: true, ..world(topology) });
    let found = Found {
        addresses: vec!["192.0.2.10".parse().unwrap()],
        ttl: Some(Duration::from_secs(7)),
        ..Found::default()
    };
    node.probe();
    node.state.resolve(host, Lookup { v4: Ok(found), v6: Ok(Found::default()) }, node.now);
    node.state.recompute(node.now);
    node.pass(Duration::from_secs(1));
    let check = node.state.checks_to_run().next().unwrap();
    let outcome = node.outcome(&check.id.subject);
    node.state.observe(&check.id, check.generation, outcome.as_ref(), node.now);
    node.state.recompute(node.now);
    // Three failures in a row would take ten seconds at least.
    assert_eq!(node.time_left(EU), Duration::from_secs(6));
}

#[test]
fn after_a_clock_step_anything_may_change_until_the_next_results() {
    let mut node = Node::up(World { computes_ttl: true, ..world(two_regions()) });
    node.break_all(&["192.0.2.1"], Severity::Hard).probe_times(3);
    node.broken.clear();
    node.probe_times(3);
    assert_eq!(node.time_left(EU), Duration::from_secs(20), "good for 10 of 30 seconds");
    node.pass(Duration::from_secs(5));
    node.now.unix = Unix(node.now.unix.0 - Duration::from_secs(3600));
    node.state.tick(node.now);
    assert_eq!(node.time_left(EU), Duration::ZERO);
    node.probe();
    assert_eq!(node.time_left(EU), Duration::from_secs(10));
}

/// A held region is let go once its failures have been hard for long enough, which an answer from another region then
/// depends on.
#[test]
fn a_held_region_may_change_when_its_failures_turn_hard() {
    let mut node = Node::up(World { computes_ttl: true, ..world(two_regions()) });
    node.break_all(&["192.0.2.1"], Severity::Soft).probe_times(3);
    assert_eq!(node.time_left(EU), Duration::from_secs(30), "only recovery can change it");
    node.break_all(&["192.0.2.2"], Severity::Soft).probe_times(3);
    let held: Vec<RegionId> = node.state.standing().held.iter().map(|held| held.region).collect();
    assert_eq!(held, [EU, US]);
    assert_eq!(node.time_left(EU), Duration::from_secs(10));
    node.break_all(&["192.0.2.1"], Severity::Hard).probe();
    assert_eq!(node.time_left(EU), Duration::from_secs(10), "two more hard failures, each after 5 seconds");
    node.pass(Duration::from_secs(3));
    assert_eq!(node.time_left(EU), Duration::from_secs(7));
}

/// With `min_regions = 2`, the failure of the second region makes the rule hold the first.
#[test]
fn a_failing_region_may_be_held_when_another_fails() {
    let mut topology = two_regions();
    let mut third = topology.regions[1].clone();
    third.name = "ap".into();
    third.endpoints[0].reach = Reach::Addresses(vec!["203.0.113.1".parse().unwrap()]);
    third.healthy_when = Condition::Endpoint(EndpointRef { region: RegionId(2), index: 0 });
    topology.regions.push(third);
    topology.services = vec![service(&[EU, US, RegionId(2)])];
    let rules = Rules { min_regions: 2, ..Rules::default() };
    let mut node = Node::up(World { computes_ttl: true, rules, ..world(topology) });
    node.break_all(&["192.0.2.1"], Severity::Soft).probe_times(3);
    assert_eq!(node.time_left(EU), Duration::from_secs(10), "another may fail three times in a row");
    node.break_all(&["203.0.113.1"], Severity::Soft).probe();
    assert_eq!(node.time_left(EU), Duration::from_secs(10), "two more failures");
    node.probe();
    assert_eq!(node.time_left(EU), Duration::from_secs(5));
}
