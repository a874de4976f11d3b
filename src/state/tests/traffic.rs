//! What requests make of pools beside probes: ejections, panic, slow starts.

use std::net::SocketAddr;

use super::pools::{API, backend, backup, of, three};
use super::*;
use crate::health::FailingRequests;
use crate::model::{Backend, Passive, PassiveOn, Pool};
use crate::standing::{Closed, Panic};

const SOFT: Health = Health::Down(Severity::Soft);
const SECOND: Duration = Duration::from_secs(1);

fn passive() -> Passive {
    Passive {
        failures: 3,
        on: PassiveOn::default(),
        errors: None,
        eject: Duration::from_secs(30),
        longest: Duration::from_secs(300),
        max_ejected: Fraction::HALF,
    }
}

/// A pool of these backends that ejects, with what else `change` makes of it.
fn with(backends: Vec<Backend>, change: impl Fn(&mut Pool)) -> World {
    let mut world = of(backends);
    let topology = Arc::get_mut(&mut world.topology).unwrap();
    topology.pools[0].passive = Some(passive());
    change(&mut topology.pools[0]);
    world
}

fn pair(change: impl Fn(&mut Pool)) -> World {
    with(vec![backend("10.0.0.1:80"), backend("10.0.0.2:80")], change)
}

/// Backends 10.0.0.1:80 and so on.
fn many(count: usize, change: impl Fn(&mut Pool)) -> World {
    with((1..=count).map(|host| backend(&format!("10.0.0.{host}:80"))).collect(), change)
}

impl Node {
    fn requests_fail(&mut self, address: &str) -> &mut Self {
        let address: SocketAddr = address.parse().unwrap();
        let report = FailingRequests { pool: "api".into(), address, evidence: "reset".into() };
        self.state.requests_fail(&report, self.now);
        self.state.recompute(self.now);
        self
    }

    /// Lets time pass in seconds, without probes.
    fn tick(&mut self, seconds: u64) -> &mut Self {
        for _ in 0..seconds {
            self.pass(SECOND);
            self.state.tick(self.now);
        }
        self
    }

    fn ejected(&self) -> Vec<String> {
        self.pool().ejected.iter().map(|it| it.address.to_string()).collect()
    }

    fn panic(&self) -> Option<(usize, usize)> {
        self.pool().panic.map(|Panic { healthy, of }| (healthy, of))
    }
}

#[test]
fn an_ejected_address_returns_in_time() {
    let mut node = Node::up(pair(|_| ()));
    node.requests_fail("10.0.0.1:80");
    assert_eq!(
        (node.open_addresses(), node.ejected()),
        (vec!["10.0.0.2:80".into()], vec!["10.0.0.1:80".into()])
    );
    assert_eq!(node.pool().backends[0].state, Health::Up, "an ejection never hides a verdict");
    assert_eq!(node.pool().closed(node.state.world().topology.pool(API), 0), Some(Closed::Ejected));
    assert_eq!(node.events(), ["pool/api/10.0.0.1:80 ejected for 30s: reset"]);
    // Probes that pass say nothing about requests that fail.
    node.probe().tick(24);
    assert_eq!(node.ejected(), ["10.0.0.1:80"]);
    node.tick(1);
    assert_eq!(node.open_addresses(), ["10.0.0.1:80", "10.0.0.2:80"]);
    assert_eq!(node.events(), ["pool/api/10.0.0.1:80 returned: its time is over"]);
    node.requests_fail("10.0.0.1:80");
    assert_eq!(node.events(), ["pool/api/10.0.0.1:80 ejected for 60s: reset"]);
}

#[test]
fn the_last_one_stays() {
    let mut node = Node::up(pair(|_| ()));
    node.requests_fail("10.0.0.1:80").requests_fail("10.0.0.2:80");
    assert_eq!(node.open_addresses(), ["10.0.0.2:80"]);
    // The other one fails its probes: better one whose requests failed than none.
    node.break_all(&["10.0.0.2"], Severity::Hard).probe_times(3);
    assert_eq!((node.open_addresses(), node.panic()), (vec!["10.0.0.1:80".into()], Some((0, 2))));
    assert!(node.events().iter().any(|it| it.ends_with("drained or hard-down: panic: 0 of 2 healthy")));
    // A brown-out of all: nothing is ejected on top.
    node.requests_fail("10.0.0.1:80");
    assert_eq!(node.open_addresses(), ["10.0.0.1:80"]);
}

#[test]
fn no_more_than_the_share_is_ejected() {
    let mut node = Node::up(many(5, |_| ()));
    for host in 1..=5 {
        node.requests_fail(&format!("10.0.0.{host}:80"));
    }
    assert_eq!(node.ejected(), ["10.0.0.1:80", "10.0.0.2:80"]);
    // Those that an operator drained do not make room.
    let mut node = Node::up(many(4, |_| ()));
    node.set("pool/api/10.0.0.4:80", Action::DRAIN).unwrap();
    node.requests_fail("10.0.0.4:80").requests_fail("10.0.0.1:80").requests_fail("10.0.0.2:80");
    assert_eq!(node.ejected(), ["10.0.0.1:80"]);
}

#[test]
fn what_ends_an_ejection_early() {
    let mut node = Node::up(pair(|_| ()));
    node.requests_fail("10.0.0.1:80");
    node.set("pool/api/10.0.0.1:80", Action::Up).unwrap();
    assert_eq!(node.open_addresses(), ["10.0.0.1:80", "10.0.0.2:80"]);
    assert!(node.events().contains(&"pool/api/10.0.0.1:80 returned: an operator forced it up".into()));
    node.requests_fail("10.0.0.1:80");
    assert_eq!(node.ejected(), [""; 0], "an operator knows better");

    let hour = Passive { eject: SECOND * 3600, longest: SECOND * 3600, ..passive() };
    let mut node = Node::up(pair(|pool| pool.passive = Some(hour)));
    node.requests_fail("10.0.0.1:80").probe_times(20).tick(1);
    assert_eq!(node.open_addresses(), ["10.0.0.2:80"], "probes that keep passing do not end it");
    node.break_all(&["10.0.0.1"], Severity::Hard).probe_times(3);
    node.broken.clear();
    node.probe_times(10).tick(1);
    assert_eq!(node.open_addresses(), ["10.0.0.1:80", "10.0.0.2:80"]);
    let returned = "pool/api/10.0.0.1:80 returned: its probes found it down, and now up";
    assert!(node.events().contains(&returned.into()));
}

#[test]
fn an_ejection_survives_a_reload_but_not_its_reason() {
    let mut node = Node::up(many(3, |_| ()));
    node.requests_fail("10.0.0.2:80");
    node.reload(pair(|_| ()));
    assert_eq!(
        (node.open_addresses(), node.ejected()),
        (vec!["10.0.0.1:80".into()], vec!["10.0.0.2:80".into()])
    );
    node.events();
    node.reload(pair(|pool| pool.passive = None)).tick(1);
    assert_eq!(node.open_addresses(), ["10.0.0.1:80", "10.0.0.2:80"]);
    assert!(node.events().contains(&"pool/api/10.0.0.2:80 returned: `passive` was switched off".into()));
    // An address that the pool lost is forgotten.
    node.reload(many(3, |_| ())).probe().requests_fail("10.0.0.3:80");
    node.reload(pair(|_| ())).tick(60);
    assert_eq!(node.ejected(), [""; 0]);
}

#[test]
fn a_step_of_the_wall_clock_moves_no_ejection() {
    for step in [-86_400_i64, 86_400] {
        let mut node = Node::up(pair(|_| ()));
        node.requests_fail("10.0.0.1:80");
        let unix = i64::try_from(node.now.unix.0.as_secs()).unwrap() + step;
        node.now.unix = Unix(Duration::from_secs(unix.cast_unsigned()));
        node.tick(29);
        assert_eq!(node.ejected(), ["10.0.0.1:80"]);
        node.tick(1);
        assert_eq!(node.ejected(), [""; 0]);
    }
}

#[test]
fn backups_take_over_from_ejected_ones() {
    let mut node =
        Node::up(with(vec![backend("10.0.0.1:80"), backend("10.0.0.2:80"), backup("10.0.0.9:80")], |_| ()));
    node.requests_fail("10.0.0.1:80");
    assert_eq!(node.open_addresses(), ["10.0.0.2:80"]);
    node.break_all(&["10.0.0.2"], Severity::Hard).probe_times(3);
    assert_eq!((node.open_addresses(), node.panic()), (vec!["10.0.0.9:80".into()], None));
}

#[test]
fn too_few_healthy_ones_are_not_crushed() {
    let half = |pool: &mut Pool| pool.panic = Some(Fraction::HALF);
    let mut node = Node::up(many(5, half));
    node.set("pool/api/10.0.0.5:80", Action::DRAIN).unwrap();
    node.break_all(&["10.0.0.1"], Severity::Hard).break_all(&["10.0.0.2"], Severity::Soft).probe_times(3);
    assert_eq!((node.open_addresses().len(), node.panic()), (2, None), "2 of 4 are healthy");
    node.events();
    node.break_all(&["10.0.0.3"], Severity::Soft).probe_times(3);
    // What is drained or hard-down gets nothing.
    assert_eq!(node.open_addresses(), ["10.0.0.2:80", "10.0.0.3:80", "10.0.0.4:80"]);
    assert_eq!(node.panic(), Some((1, 4)));
    let alarm = "pool `api` uses every backend that is not drained or hard-down: panic: 1 of 4 healthy";
    assert!(node.events().contains(&alarm.into()));
    node.broken.remove(&"10.0.0.3".parse::<IpAddr>().unwrap());
    node.probe_times(10);
    assert_eq!((node.open_addresses().len(), node.panic()), (2, None));
    assert!(node.events().contains(&"pool `api` uses only healthy backends again".into()));
}

#[test]
fn by_default_a_pool_panics_only_when_nothing_is_healthy() {
    let all = ["10.0.0.1", "10.0.0.2", "10.0.0.3"];
    for (panic, open) in [(Some(Fraction::NONE), 3), (None, 0)] {
        let mut node = Node::up(many(3, |pool| pool.panic = panic));
        node.break_all(&all[..2], Severity::Soft).probe_times(3);
        assert_eq!((node.open_addresses().len(), node.panic()), (1, None));
        node.break_all(&all, Severity::Soft).probe_times(3);
        assert_eq!(node.open_addresses().len(), open, "{panic:?}");
        assert_eq!(node.panic(), (open > 0).then_some((0, 3)));
        assert_eq!(node.pool().backends[0].state, SOFT);
        assert!(!node.pool().serves(), "nothing is known to work");
        // Where nothing listens, nothing can be served.
        node.break_all(&all, Severity::Hard).probe_times(4);
        assert_eq!((node.open_addresses().len(), node.panic()), (0, None));
    }
}

#[test]
fn what_is_not_known_is_no_reason_to_panic() {
    let half = |pool: &mut Pool| pool.panic = Some(Fraction::HALF);
    let mut node = Node::up(pair(half));
    node.reload(many(9, half));
    assert_eq!((node.open_addresses().len(), node.panic()), (2, None));
}

#[test]
fn a_new_backend_waits_for_its_first_result_while_others_serve() {
    let mut node = Node::up(pair(|_| ()));
    node.break_all(&["10.0.0.3"], Severity::Soft).reload(many(3, |_| ()));
    assert_eq!(node.open_addresses(), ["10.0.0.1:80", "10.0.0.2:80"]);
    let pool = node.state.world().topology.pool(API).clone();
    assert_eq!(node.pool().closed(&pool, 2), Some(Closed::Unknown));
    node.probe();
    assert_eq!(node.open_addresses(), ["10.0.0.1:80", "10.0.0.2:80"], "its first probe failed");
    node.broken.clear();
    node.probe_times(8);
    assert_eq!(node.open_addresses(), ["10.0.0.1:80", "10.0.0.2:80", "10.0.0.3:80"]);
}

fn slow(pool: &mut Pool) {
    pool.slow_start = Some(SECOND * 30);
}

#[test]
fn what_comes_up_starts_slowly() {
    let mut node = Node::up(many(3, slow));
    assert!(
        node.open().iter().all(|(_, weight)| *weight == 1.0),
        "a start of the whole pool is no slow start"
    );
    node.break_all(&["10.0.0.3"], Severity::Hard).probe_times(3);
    node.broken.clear();
    while node.open().len() < 3 {
        node.probe();
    }
    let weight = |node: &Node| node.open()[2].1;
    assert!((weight(&node) - 0.1).abs() < 1e-9);
    let epoch = node.state.epoch();
    let mut last = weight(&node);
    for _ in 0..30 {
        node.tick(1);
        assert!(weight(&node) >= last);
        last = weight(&node);
    }
    assert_eq!(last, 1.0);
    assert_eq!(node.state.epoch(), epoch + 10, "one snapshot for each step");
    assert!(node.open()[..2].iter().all(|(_, weight)| *weight == 1.0));
}

#[test]
fn what_a_reload_adds_starts_slowly_and_what_it_keeps_does_not() {
    let mut node = Node::up(pair(slow));
    node.reload(many(3, slow));
    assert!(node.open().iter().all(|(_, weight)| *weight == 1.0));
    node.probe();
    let weights: Vec<f64> = node.open().into_iter().map(|(_, weight)| weight).collect();
    assert_eq!(weights, [1.0, 1.0, 0.1]);
    node.tick(15).reload(many(3, slow));
    assert!((node.open()[2].1 - 0.55).abs() < 1e-9, "it goes on: {:?}", node.open());
    node.reload(many(3, |_| ()));
    assert!(node.open().iter().all(|(_, weight)| *weight == 1.0));
}

#[test]
fn verdicts_of_the_last_run_are_no_reason_for_a_slow_start() {
    let node = Node::up(pair(slow));
    let seen = Unix(Duration::from_secs(1_800_000_000));
    let verdicts =
        node.state.verdicts(node.now).into_iter().map(|(id, verdict)| (id, verdict, seen)).collect();
    let mut next = Node::remembering(pair(slow), SavedState { verdicts, ..SavedState::default() });
    next.probe();
    assert!(next.open().iter().all(|(_, weight)| *weight == 1.0), "{:?}", next.open());
    // A drain that ends is a reason.
    next.set("pool/api/10.0.0.1:80", Action::DRAIN).unwrap();
    let id = next.state.overrides()[0].id;
    next.state.remove_override(id, "the test".into(), false, next.now).unwrap();
    assert_eq!(next.open(), [("10.0.0.1:80".into(), 0.1), ("10.0.0.2:80".into(), 1.0)]);
}

#[test]
fn nobody_starts_slowly_in_panic() {
    let both = |pool: &mut Pool| {
        slow(pool);
        pool.panic = Some(Fraction::WHOLE);
    };
    let mut node = Node::up(many(4, both));
    node.break_all(&["10.0.0.1", "10.0.0.2"], Severity::Soft).break_all(&["10.0.0.3"], Severity::Hard);
    node.probe_times(3);
    node.broken.insert("10.0.0.3".parse().unwrap(), Severity::Soft);
    node.probe_times(4);
    assert_eq!(node.panic(), Some((1, 4)));
    assert!(
        node.open().len() == 4 && node.open().iter().all(|(_, weight)| *weight == 1.0),
        "{:?}",
        node.open()
    );
}

#[test]
fn backups_have_no_share_in_all_this() {
    let mut node = Node::up(three());
    node.break_all(&["10.0.0.1", "10.0.0.2"], Severity::Soft).probe_times(3);
    assert_eq!((node.open_addresses(), node.panic()), (vec!["10.0.0.9:8080".into()], None));
}
