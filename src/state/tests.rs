use std::collections::HashMap;
use std::net::IpAddr;
use std::time::Duration;

use super::*;
use crate::health::{Failure, ProbeResult, Severity};
use crate::model::{
    AllDown, Endpoint, Family, Found, Fraction, Kind, Location, Member, Mono, ProbeId, Rank, Reach, Region,
    Service, ServiceId, ServiceKind, Share, Source, Steering, Subject, SuspectSelf, Thresholds, Ttl, Weight,
};
use crate::standing::{Action, Cause, Resort, Usable};

const EU: RegionId = RegionId(0);
const US: RegionId = RegionId(1);
const HARD: Health = Health::Down(Severity::Hard);
const INTERVAL: Duration = Duration::from_secs(5);

fn probe(name: &str) -> Probe {
    Probe {
        name: name.into(),
        kind: Kind::Tcp { port: 80 },
        interval: INTERVAL,
        timeout: Duration::from_secs(1),
        thresholds: Thresholds {
            fall: 3,
            clear: 1,
            rise: 2,
            hold: Duration::from_secs(30),
            startup: None,
            slow: None,
        },
    }
}

/// `eu` and `us`, each with the endpoints `lb1` and so on at these addresses, all probed by `edge`.
fn topology(eu: &[&[&str]], us: &[&[&str]]) -> Topology {
    let region = |id: RegionId, name: &str, endpoints: &[&[&str]]| {
        let endpoint = |(index, addresses): (usize, &&[&str])| Endpoint {
            name: format!("lb{}", index + 1),
            reach: Reach::Addresses(addresses.iter().map(|it| it.parse().unwrap()).collect()),
            weight: Weight(100),
            healthy_when: Condition::checks([ProbeId(0)]),
        };
        let own = (0..endpoints.len())
            .map(|index| Condition::Endpoint(EndpointRef { region: id, index: index as u16 }));
        Region {
            name: name.into(),
            location: Location::default(),
            capacity: None,
            healthy_when: Condition::Any(own.collect()),
            endpoints: endpoints.iter().enumerate().map(endpoint).collect(),
        }
    };
    Topology {
        regions: vec![region(EU, "eu", eu), region(US, "us", us)],
        services: vec![service(&[EU, US])],
        probes: vec![probe("edge")],
        ..Topology::default()
    }
}

fn service(members: &[RegionId]) -> Service {
    Service {
        name: "www.example.test.".parse().unwrap(),
        kind: ServiceKind::ADDRESS,
        members: members.iter().map(|region| Member { region: *region, weight: Weight(1) }).collect(),
        steering: Steering {
            rank: Rank::Priority,
            share: Share::Weighted,
            answers: 1,
            ttl: Ttl(30).into(),
            all_down: AllDown::All,
        },
        fences: Vec::new(),
    }
}

fn world(topology: Topology) -> World {
    let mut sets = RegionSets::default();
    for service in &topology.services {
        let set = sets.intern(service.members.iter().map(|member| member.region).collect());
        sets.add_service([set].into());
    }
    World { topology: topology.into(), sets: sets.into(), rules: Rules::default(), computes_ttl: false }
}

/// A node in a world where everything is fine unless it is said to be broken.
struct Node {
    state: State,
    now: Now,
    broken: HashMap<IpAddr, Severity>,
    /// Addresses that this node has no route to.
    blind: Vec<IpAddr>,
    anchors_answer: bool,
}

impl Node {
    fn new(world: World) -> Self {
        Self::remembering(world, Remembered::default())
    }

    fn remembering(world: World, remembered: Remembered) -> Self {
        let now = Now {
            mono: Mono(Duration::from_secs(1_000_000)),
            unix: Unix(Duration::from_secs(1_800_000_000)),
        };
        let (broken, blind) = Default::default();
        Self { state: State::new(world, remembered, now), now, broken, blind, anchors_answer: true }
    }

    /// Everything works, and everything has been probed.
    fn up(world: World) -> Self {
        let mut node = Self::new(world);
        node.probe();
        node.state.take_events();
        node
    }

    fn pass(&mut self, time: Duration) -> &mut Self {
        self.now = Now { mono: self.now.mono.after(time), unix: self.now.unix.after(time) };
        self
    }

    fn break_all(&mut self, addresses: &[&str], severity: Severity) -> &mut Self {
        self.broken.extend(addresses.iter().map(|it| (it.parse::<IpAddr>().unwrap(), severity)));
        self
    }

    /// Every check once, all at the same moment, an interval after the last.
    fn probe(&mut self) -> &mut Self {
        self.pass(INTERVAL);
        let wanted: Vec<Wanted> = self.state.wanted().collect();
        for check in wanted {
            let outcome = self.outcome(&check.id.subject);
            self.state.observe(&check.id, check.generation, outcome.as_ref(), self.now);
        }
        self.state.recompute(self.now);
        self
    }

    fn probe_times(&mut self, times: usize) -> &mut Self {
        for _ in 0..times {
            self.probe();
        }
        self
    }

    fn outcome(&self, subject: &Subject) -> Result<Observation, Blind> {
        let severity = match subject {
            Subject::Address { address, .. } if self.blind.contains(address) => {
                return Err(Blind { reason: "network unreachable".into() });
            }
            Subject::Address { address, .. } => self.broken.get(address).copied(),
            Subject::Anchor(_) if !self.anchors_answer => Some(Severity::Hard),
            _ => None,
        };
        let failure = severity.map(|severity| Failure { severity, reason: "broken".into() });
        Ok(Observation::Probe(ProbeResult { took: Duration::from_millis(5), rtt: None, failure }))
    }

    fn reload(&mut self, world: World) -> &mut Self {
        let reloaded = EventKind::Reloaded { warnings: Vec::new(), by: String::new() };
        self.state.reload(world, reloaded, self.now);
        self
    }

    fn health(&self, region: RegionId) -> Health {
        self.state.standing().region(region).state
    }

    fn usable(&self, region: RegionId, family: Family) -> Usable {
        self.state.standing().region(region).pool(family).usable
    }

    /// The addresses that are answered of a region.
    fn candidates(&self, region: RegionId, family: Family) -> Vec<String> {
        let pool = self.state.standing().region(region).pool(family);
        pool.candidates.iter().flat_map(|it| &it.addresses).map(ToString::to_string).collect()
    }

    fn held(&self) -> Vec<RegionId> {
        let mut held: Vec<_> = self.state.standing().held.iter().map(|it| it.region).collect();
        held.sort_unstable();
        held.dedup();
        held
    }

    fn set(&mut self, target: &str, action: Action) -> Result<SetOverride, Rejection> {
        let request = OverrideRequest {
            target: target.parse().unwrap(),
            action,
            lasts: None,
            reason: None,
            override_safety: false,
            by: "the test".into(),
        };
        self.state.set_override(request, self.now)
    }

    fn is_refused(&mut self, target: &str, action: Action) -> bool {
        matches!(self.set(target, action), Err(Rejection::Unsafe(_)))
    }

    fn events(&mut self) -> Vec<String> {
        self.state.take_events().iter().map(ToString::to_string).collect()
    }
}

fn two_regions() -> Topology {
    topology(&[&["192.0.2.1"]], &[&["192.0.2.2"]])
}

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
fn what_was_down_stays_down_over_a_reload_that_renames_its_probe() {
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
fn results_of_an_older_definition_do_not_count() {
    let mut node = Node::up(world(two_regions()));
    let old: Vec<Wanted> = node.state.wanted().collect();
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
        let v4 = Found { addresses: vec![address.parse().unwrap()], ttl: Some(Duration::from_secs(5)) };
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
        assert_eq!(node.state.wanted().count(), 2, "the old address is no longer probed");
    }
    // Also where the new address turns out to be down: the old one is somebody else's now.
    node.break_all(&["192.0.2.20"], Severity::Hard);
    resolve(&mut node, "192.0.2.20");
    node.probe();
    assert_eq!(node.candidates(EU, Family::V4), ["192.0.2.14"]);
    node.probe();
    assert_eq!(node.health(EU), HARD);
    assert_eq!(node.candidates(EU, Family::V4), ["192.0.2.20"]);
}

fn dual_stack() -> Topology {
    topology(&[&["192.0.2.1", "2001:db8::1"]], &[&["192.0.2.2", "2001:db8::2"]])
}

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
    // What cannot be observed counts towards no minimum.
    assert!(node.is_refused("region/us", Action::DRAIN));
    node.blind.clear();
    node.probe();
    assert!(node.events().contains(&"this node can probe everything again".to_owned()));
}

#[test]
fn an_address_known_to_be_down_stays_down_when_it_cannot_be_probed_any_more() {
    let mut node = Node::up(world(dual_stack()));
    node.break_all(&["2001:db8::1"], Severity::Hard).probe_times(3);
    node.blind = vec!["2001:db8::1".parse().unwrap()];
    node.probe();
    assert_eq!(node.usable(EU, Family::V6), Usable::No(Cause::Probes(Severity::Hard)));
    assert_eq!(node.usable(EU, Family::V4), Usable::Yes(1.0));
}

#[test]
fn a_held_region_does_not_flap_with_the_kind_of_its_failures() {
    let mut node = Node::up(world(two_regions()));
    node.break_all(&["192.0.2.1", "192.0.2.2"], Severity::Soft).probe_times(3);
    assert_eq!(node.held(), [EU, US], "all that fails softly is held, not the last alone");
    let epoch = node.state.epoch();
    for turn in 0..20 {
        let severity = if turn % 2 == 0 { Severity::Hard } else { Severity::Soft };
        node.break_all(&["192.0.2.1"], severity).probe();
    }
    assert_eq!((node.held(), node.state.epoch()), (vec![EU, US], epoch));
    // It stays held when the other recovers, until it recovers itself.
    node.broken.remove(&"192.0.2.2".parse::<IpAddr>().unwrap());
    node.probe_times(8);
    assert_eq!((node.health(US), node.held()), (Health::Up, vec![EU]));
    node.broken.clear();
    node.probe_times(8);
    assert_eq!((node.health(EU), node.held()), (Health::Up, vec![]));
}

#[test]
fn a_held_region_is_released_when_it_fails_hard() {
    let mut node = Node::up(world(two_regions()));
    node.break_all(&["192.0.2.1", "192.0.2.2"], Severity::Soft).probe_times(3);
    node.break_all(&["192.0.2.1"], Severity::Hard).probe_times(2);
    assert_eq!(node.held(), [EU, US]);
    let since = node.state.standing().region(EU).since;
    node.probe();
    assert_eq!((node.health(EU), node.held()), (HARD, vec![US]));
    assert_eq!(node.state.standing().region(EU).since, since, "it went down when it first did");
}

#[test]
fn what_is_held_carries_over_a_reload() {
    let mut node = Node::up(world(two_regions()));
    node.break_all(&["192.0.2.1", "192.0.2.2"], Severity::Soft).probe_times(3);
    node.broken.remove(&"192.0.2.2".parse::<IpAddr>().unwrap());
    node.probe_times(8);
    // A region in front of the others changes all ids.
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
fn a_drained_endpoint_does_not_hide_that_the_rest_fails() {
    let mut node = Node::up(world(topology(&[&["192.0.2.1"], &["192.0.2.3"]], &[&["192.0.2.2"]])));
    node.break_all(&["192.0.2.2"], Severity::Hard).probe_times(3);
    node.set("endpoint/eu/lb1", Action::DRAIN).expect("lb2 is left");
    node.break_all(&["192.0.2.3"], Severity::Soft).probe_times(3);
    assert_eq!(node.usable(EU, Family::V4), Usable::No(Cause::Probes(Severity::Soft)));
    assert_eq!(node.held(), [EU]);
    assert_eq!(node.candidates(EU, Family::V4), ["192.0.2.3"], "and not the drained one");
    // Where nothing is held, a healthy endpoint that was drained is better than one that fails.
    let resort = &node.state.standing().region(EU).pool(Family::V4).last_resort;
    assert_eq!(resort.class, Resort::Drained);
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
    // Too few are left where a number is needed: that is the operator's doing.
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
fn overrides_that_change_nothing_say_so() {
    let quarter = Action::Drain(Fraction::parse("25%").unwrap());
    let note = |node: &mut Node, target: &str, action| node.set(target, action).unwrap().no_effect;
    let mut node = Node::up(world(topology(&[&["192.0.2.1"], &["192.0.2.3"]], &[&["192.0.2.2"]])));
    assert_eq!(note(&mut node, "region/eu", Action::Up).unwrap(), "region/eu is used as before");
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
    assert_eq!(note(&mut node, "region/us", Action::DRAIN).unwrap(), "region/us is used as before");
}

#[test]
fn a_partial_drain_within_a_service_goes_before_a_forced_region() {
    let mut node = Node::up(world(two_regions()));
    node.set("region/eu", Action::Up).unwrap();
    let half = Action::Drain(Fraction::parse("50%").unwrap());
    assert_eq!(node.set("service/www.example.test/eu", half).unwrap().no_effect, None);
    assert_eq!(node.state.standing().within(ServiceId(0), EU), Some(half));
    // But it does not readmit what the region's own override withdraws.
    node.set("region/eu", Action::DRAIN).unwrap();
    let usable = node.state.standing().usable_within(ServiceId(0), EU, Family::V4);
    assert_eq!(usable, Usable::No(Cause::Drained));
}

#[test]
fn overrides_end_by_the_wall_clock() {
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
    // The calendar's clock is set forward; the monotonic one stays.
    node.now.unix = node.now.unix.after(Duration::from_secs(599));
    assert!(node.state.tick(node.now).is_empty());
    node.now.unix = node.now.unix.after(Duration::from_secs(1));
    assert_eq!(node.state.tick(node.now).len(), 1);
    assert_eq!(node.usable(EU, Family::V4), Usable::Yes(1.0));
}

/// Four regions' worth of targets in two, and `suspect_self`.
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
    // Not for ever.
    node.probe_times(24);
    assert_eq!(node.usable(EU, Family::V4), Usable::No(Cause::Probes(Severity::Hard)));
    // And not again for the same failures; when they are over all is well.
    node.probe_times(24);
    assert_eq!(node.usable(EU, Family::V4), Usable::No(Cause::Probes(Severity::Hard)));
    node.broken.clear();
    node.probe_times(8);
    assert_eq!(node.usable(EU, Family::V4), Usable::Yes(1.0));
    assert!(node.events().contains(&"checks succeed again: this node's network works".to_owned()));
}

#[test]
fn an_anchor_that_answers_clears_this_node() {
    let mut node = Node::up(suspicious(&["192.0.2.250:53"]));
    node.anchors_answer = false;
    node.break_all(&ALL, Severity::Hard).probe_times(3);
    assert_eq!(node.usable(EU, Family::V4), Usable::Yes(1.0));
    node.anchors_answer = true;
    node.probe();
    assert_eq!(node.usable(EU, Family::V4), Usable::No(Cause::Probes(Severity::Hard)));
    let anchor = Subject::Anchor("tcp:192.0.2.250:53".into());
    assert!(node.state.checks(node.now).iter().any(|it| it.id.subject == anchor));
}

#[test]
fn failures_of_a_part_or_one_after_another_are_believed() {
    let mut node = Node::up(suspicious(&[]));
    node.break_all(&ALL[..2], Severity::Hard).probe_times(3);
    assert_eq!(node.state.standing().region(EU).endpoints[0].addresses[0].used, HARD);
    node.break_all(&ALL[2..3], Severity::Hard).probe_times(3);
    node.break_all(&ALL[3..], Severity::Hard).probe_times(3);
    assert_eq!(node.usable(EU, Family::V4), Usable::No(Cause::Probes(Severity::Hard)));
}

#[test]
fn without_the_rule_there_is_only_the_alarm() {
    let mut node = Node::up(world(two_regions()));
    node.break_all(&ALL, Severity::Hard).probe_times(3);
    assert_eq!(node.usable(EU, Family::V4), Usable::No(Cause::Probes(Severity::Hard)));
    let alarm = "2 of 2 checks started to fail within 6s: this node may have lost its own network";
    assert!(node.events().contains(&alarm.to_owned()));
}

#[test]
fn a_restart_remembers_verdicts_and_holds_in_progress() {
    let mut node = Node::up(world(two_regions()));
    node.break_all(&["192.0.2.1"], Severity::Hard).probe_times(3);
    node.broken.clear();
    node.probe_times(3);
    assert_eq!(node.health(EU), HARD, "good for 10 of 30 seconds");
    let verdicts: Vec<_> =
        node.state.verdicts(node.now).into_iter().map(|(id, memory)| (id, memory, node.now.unix)).collect();
    assert_eq!(verdicts.len(), 2);
    let restart = |after: u64, verdicts: &[(CheckId, Memory, Unix)]| {
        let now = Now {
            mono: Mono(Duration::from_secs(5_000_000)),
            unix: node.now.unix.after(Duration::from_secs(after)),
        };
        let remembered = Remembered { verdicts: verdicts.to_vec(), ..Remembered::default() };
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
    // Verdicts that may no longer be true are forgotten, and so are those from a future.
    assert_eq!(restart(60, &verdicts).health(EU), Health::Unknown);
    let future: Vec<_> =
        verdicts.iter().map(|(id, memory, _)| (id.clone(), memory.clone(), Unix(Duration::MAX))).collect();
    assert_eq!(restart(2, &future).health(US), Health::Unknown);
}

#[test]
fn a_flip_works_out_its_own_region_only() {
    let mut node = Node::up(world(topology(&[&["192.0.2.1"], &["192.0.2.3"]], &[&["192.0.2.2"]])));
    let before = Arc::clone(node.state.standing());
    node.break_all(&["192.0.2.1"], Severity::Hard).probe_times(3);
    let after = node.state.standing();
    assert!(!Arc::ptr_eq(&before.region(EU).endpoints, &after.region(EU).endpoints));
    assert!(Arc::ptr_eq(&before.region(US).endpoints, &after.region(US).endpoints));
    assert_eq!(node.state.epoch(), 3, "the start, the first results, the flip");
}

#[test]
fn a_region_follows_the_regions_and_endpoints_that_it_requires() {
    let mut topology = topology(&[&["192.0.2.1"]], &[&["192.0.2.2"]]);
    let own = topology.regions[0].healthy_when.clone();
    topology.regions[0].healthy_when = Condition::All(vec![own, Condition::Region(US)]);
    let mut node = Node::up(world(topology));
    node.break_all(&["192.0.2.2"], Severity::Hard).probe_times(3);
    assert_eq!((node.health(EU), node.health(US)), (HARD, HARD));
    node.broken.clear();
    node.probe_times(8);
    assert_eq!((node.health(EU), node.health(US)), (Health::Up, Health::Up));
}

#[test]
fn two_sources_of_one_subject_are_two_checks() {
    let node = Node::up(world(two_regions()));
    let mut ids: Vec<CheckId> = node.state.wanted().map(|it| it.id).collect();
    let traffic: Vec<CheckId> =
        ids.iter().map(|id| CheckId { source: Source::Traffic, ..id.clone() }).collect();
    ids.extend(traffic);
    ids.sort();
    ids.dedup();
    assert_eq!(ids.len(), 4);
}
