mod evidence;
mod network;
mod overrides;
mod pools;
mod reload;
mod traffic;

use std::collections::HashMap;
use std::net::IpAddr;
use std::time::Duration;

use super::*;
use crate::health::{Failure, ProbeResult, Severity};
use crate::model::{
    Condition, Endpoint, Family, Found, Fraction, Kind, Mono, ProbeId, Reach, Region, Service, ServiceId,
    Source, Subject, SuspectSelf, Thresholds, Weight, sample,
};
use crate::standing::{Action, Cause, LastResortClass, Usable};

const EU: RegionId = RegionId(0);
const US: RegionId = RegionId(1);
const HARD: Health = Health::Down(Severity::Hard);
const INTERVAL: Duration = Duration::from_secs(5);

fn probe(name: &str) -> Probe {
    Probe {
        name: name.into(),
        kind: Kind::Tcp { port: 80 },
        port_is_given: true,
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

/// The regions `eu` and `us`, each with endpoints `lb1`, `lb2`, ... at these addresses, all probed by `edge`.
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
        let endpoints = endpoints.iter().enumerate().map(endpoint).collect();
        Region { healthy_when: Condition::Any(own.collect()), endpoints, ..sample::region(name) }
    };
    Topology {
        regions: vec![region(EU, "eu", eu), region(US, "us", us)],
        services: vec![service(&[EU, US])],
        probes: vec![probe("edge")],
        ..Topology::default()
    }
}

fn service(members: &[RegionId]) -> Service {
    sample::service("www.example.test.", members)
}

fn world(topology: Topology) -> World {
    let mut sets = RegionSets::default();
    for service in &topology.services {
        let set = sets.intern(service.members.iter().map(|member| member.region).collect());
        sets.add_service([set].into());
    }
    World { topology: topology.into(), sets: sets.into(), rules: Rules::default(), computes_ttl: false }
}

/// A node in a simulated network, where every address works unless it is in `broken`.
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
        Self::remembering(world, SavedState::default())
    }

    fn remembering(world: World, remembered: SavedState) -> Self {
        let now = Now {
            mono: Mono(Duration::from_secs(1_000_000)),
            unix: Unix(Duration::from_secs(1_800_000_000)),
        };
        let (broken, blind) = Default::default();
        Self { state: State::new(world, remembered, now), now, broken, blind, anchors_answer: true }
    }

    /// A node where everything works and has been probed.
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

    /// Runs every check once, all at the same moment, one interval after the last round.
    fn probe(&mut self) -> &mut Self {
        self.pass(INTERVAL);
        let wanted: Vec<CheckToRun> = self.state.checks_to_run().collect();
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

    fn outcome(&self, subject: &Subject) -> Result<Observation, CannotProbe> {
        let severity = match subject {
            Subject::Address { address, .. } | Subject::Backend { address, .. }
                if self.blind.contains(address) =>
            {
                return Err(CannotProbe { reason: "network unreachable".into() });
            }
            Subject::Address { address, .. } | Subject::Backend { address, .. } => {
                self.broken.get(address).copied()
            }
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

    /// How long the region is certain to stay as it is.
    fn time_left(&self, region: RegionId) -> Duration {
        self.state.standing().dues.of_member(ServiceId(0), region).left(self.now.unix)
    }

    /// The addresses that a region answers with.
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
        self.state.set_override(request(target, action), self.now)
    }

    fn is_refused(&mut self, target: &str, action: Action) -> bool {
        matches!(self.set(target, action), Err(Rejection::Unsafe(_)))
    }

    fn events(&mut self) -> Vec<String> {
        self.state.take_events().iter().map(ToString::to_string).collect()
    }
}

fn request(target: &str, action: Action) -> OverrideRequest {
    OverrideRequest {
        target: target.parse().unwrap(),
        action,
        lasts: None,
        reason: None,
        override_safety: false,
        by: "the test".into(),
    }
}

fn two_regions() -> Topology {
    topology(&[&["192.0.2.1"]], &[&["192.0.2.2"]])
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
    // A region stays held when the other one recovers, until it recovers itself.
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
fn a_state_change_recomputes_only_its_region() {
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
    let mut ids: Vec<CheckId> = node.state.checks_to_run().map(|it| it.id).collect();
    let traffic: Vec<CheckId> =
        ids.iter().map(|id| CheckId { source: Source::Traffic, ..id.clone() }).collect();
    ids.extend(traffic);
    ids.sort();
    ids.dedup();
    assert_eq!(ids.len(), 4);
}
