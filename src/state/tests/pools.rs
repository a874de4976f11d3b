//! Pools of backends: the same checks, overrides and hosts as for regions.

use super::*;
use crate::model::{Backend, BackendReach, Balance, Http, Liveness, Pool, PoolId, Retry, RetryOn, Timeouts};
use crate::standing::PoolStanding;

pub(super) const API: PoolId = PoolId(0);

fn pool(name: &str, backends: Vec<Backend>) -> Pool {
    let second = Duration::from_secs(1);
    Pool {
        name: name.into(),
        balance: Balance::LeastConnections,
        backends,
        discover: None,
        healthy_when: Condition::checks([ProbeId(0)]),
        passive: None,
        panic: None,
        limits: None,
        slow_start: None,
        hedge: None,
        retry: Retry { tries: 2, on: RetryOn::default(), budget: Fraction::WHOLE },
        timeout: Timeouts { connect: second, read: second, write: second, idle: second },
        keepalive: 32,
        drain: second,
        http: Http::H1,
        send_proxy: None,
        tcp: Liveness::default(),
        sticky: None,
    }
}

pub(super) fn backend(address: &str) -> Backend {
    let at: std::net::SocketAddr = address.parse().unwrap();
    let reach = BackendReach::Address(at.ip());
    Backend { name: address.into(), reach, port: at.port(), weight: Weight(1), backup: false }
}

pub(super) fn backup(address: &str) -> Backend {
    Backend { backup: true, ..backend(address) }
}

/// A node with one pool, `api`, and no regions.
pub(super) fn of(backends: Vec<Backend>) -> World {
    let probes = vec![Probe { port_is_given: false, ..probe("edge") }];
    world(Topology { pools: vec![pool("api", backends)], probes, ..Topology::default() })
}

pub(super) fn three() -> World {
    of(vec![backend("10.0.0.1:80"), backend("10.0.0.2:80"), backup("10.0.0.9:8080")])
}

impl Node {
    pub(super) fn pool(&self) -> &PoolStanding {
        self.state.standing().pool(API)
    }

    /// What requests may be sent to, with the weight of each.
    pub(super) fn open(&self) -> Vec<(String, f64)> {
        self.pool().open.iter().map(|it| (it.address.to_string(), it.weight)).collect()
    }

    pub(super) fn open_addresses(&self) -> Vec<String> {
        self.open().into_iter().map(|(address, _)| address).collect()
    }
}

#[test]
fn backups_serve_only_while_nothing_else_does() {
    let mut node = Node::up(three());
    assert_eq!(node.open(), [("10.0.0.1:80".into(), 1.0), ("10.0.0.2:80".into(), 1.0)]);
    node.break_all(&["10.0.0.1"], Severity::Hard).probe_times(3);
    assert_eq!(node.open_addresses(), ["10.0.0.2:80"]);
    let event = node.state.take_events().pop();
    let Some(EventKind::Transition { subject, to, evidence, .. }) = event else { panic!("{event:?}") };
    assert_eq!((subject.to_string().as_str(), to), ("pool/api/10.0.0.1:80", HARD));
    assert!(evidence.starts_with("3 consecutive failures"), "{evidence}");

    node.break_all(&["10.0.0.2"], Severity::Soft).probe_times(3);
    assert_eq!(node.open_addresses(), ["10.0.0.9:8080"]);
    node.break_all(&["10.0.0.9"], Severity::Soft).probe_times(3);
    assert_eq!(node.open_addresses(), [""; 0]);
    let alarm = EventKind::Alarm { message: "no backend of pool `api` serves".into() };
    assert!(node.state.take_events().contains(&alarm));

    node.broken.clear();
    node.probe_times(8);
    assert_eq!(node.open_addresses(), ["10.0.0.1:80", "10.0.0.2:80"]);
    let clear = EventKind::AllClear { message: "pool `api` has a backend that serves".into() };
    assert!(node.state.take_events().contains(&clear));
}

#[test]
fn what_has_no_result_yet_is_used_while_nothing_is_known_to_serve() {
    let mut node = Node::new(three());
    assert_eq!(node.open_addresses(), ["10.0.0.1:80", "10.0.0.2:80"]);
    assert!(!node.pool().serves());
    node.break_all(&["10.0.0.1", "10.0.0.2"], Severity::Hard).probe_times(3);
    assert_eq!(node.open_addresses(), ["10.0.0.9:8080"]);
}

#[test]
fn a_backend_is_probed_at_its_own_port() {
    let node = Node::new(three());
    let ports: Vec<u16> = node.state.checks_to_run().map(|it| it.probe.kind.port()).collect();
    assert_eq!(ports, [80, 80, 8080]);
}

#[test]
fn operators_drain_and_force_backends() {
    let mut node = Node::up(three());
    node.set("pool/api/10.0.0.1:80", Action::DRAIN).unwrap();
    assert_eq!(node.open_addresses(), ["10.0.0.2:80"]);
    // The backup would serve, so the last ordinary one may go as well; but then the backup has to stay.
    node.set("pool/api/10.0.0.2:80", Action::Down).unwrap();
    assert_eq!(node.open_addresses(), ["10.0.0.9:8080"]);
    let refused = node.set("pool/api/10.0.0.9:8080", Action::DRAIN).unwrap_err();
    assert_eq!(refused, Rejection::Unsafe("pool `api` would have no backend left that serves".into()));

    node.set("pool/api/10.0.0.1:80", Action::Drain(Fraction::parse("25%").unwrap())).unwrap();
    assert_eq!(node.open(), [("10.0.0.1:80".into(), 0.75)]);
    node.break_all(&["10.0.0.1"], Severity::Hard).probe_times(3);
    node.set("pool/api/10.0.0.1:80", Action::Up).unwrap();
    assert_eq!(node.open_addresses(), ["10.0.0.1:80"]);
    assert_eq!(node.pool().backends[0].state, HARD, "an override never hides a verdict");

    for (target, why) in [
        ("pool/web/10.0.0.1:80", "there is no pool `web`; the pools are api"),
        (
            "pool/api/10.0.0.1:81",
            "pool `api` has no backend `10.0.0.1:81`; its backends are 10.0.0.1:80, 10.0.0.2:80, 10.0.0.9:8080",
        ),
    ] {
        assert_eq!(node.set(target, Action::DRAIN).unwrap_err(), Rejection::NotFound(why.into()));
    }
}

#[test]
fn a_drain_that_changes_nothing_says_so() {
    let mut node = Node::up(three());
    let set = node.set("pool/api/10.0.0.9:8080", Action::DRAIN).unwrap();
    assert_eq!(set.no_effect.as_deref(), Some("pool/api/10.0.0.9:8080 gets no new requests either way"));
    node.set("pool/api/10.0.0.1:80", Action::DRAIN).unwrap();
    let half = Action::Drain(Fraction::parse("50%").unwrap());
    let set = node.set("pool/api/10.0.0.2:80", half).unwrap();
    assert_eq!(set.no_effect.as_deref(), Some("10.0.0.2:80 is the only backend of its pool in use"));
}

#[test]
fn verdicts_of_backends_survive_reloads_and_restarts() {
    let mut node = Node::up(three());
    node.break_all(&["10.0.0.1"], Severity::Hard).probe_times(3);
    // One goes, one comes.
    node.reload(of(vec![backend("10.0.0.3:80"), backend("10.0.0.1:80")]));
    assert_eq!(node.open_addresses(), ["10.0.0.3:80"]);
    assert_eq!(node.pool().backends[1].state, HARD);
    node.probe();
    assert_eq!(node.open_addresses(), ["10.0.0.3:80"]);

    let verdicts = node.state.verdicts(node.now);
    // The next run starts at this time.
    let seen = Unix(Duration::from_secs(1_800_000_000));
    let verdicts = verdicts.into_iter().map(|(id, verdict)| (id, verdict, seen)).collect();
    let next = Node::remembering(three(), SavedState { verdicts, ..SavedState::default() });
    assert_eq!(next.pool().backends[0].state, HARD);
    assert_eq!(next.open_addresses(), ["10.0.0.2:80"]);
}

#[test]
fn the_addresses_of_a_host_are_backends() {
    let host: crate::model::Name = "api.internal.".parse().unwrap();
    let resolved = Backend {
        name: "api.internal:8080".into(),
        reach: BackendReach::Resolved(host.clone()),
        port: 8080,
        weight: Weight(1),
        backup: false,
    };
    let mut node = Node::new(of(vec![resolved]));
    assert_eq!(node.open_addresses(), [""; 0]);
    let found = |addresses: &[&str]| Found {
        addresses: addresses.iter().map(|it| it.parse().unwrap()).collect(),
        ..Found::default()
    };
    let lookup = |v4: &[&str]| crate::model::Lookup { v4: Ok(found(v4)), v6: Ok(found(&[])) };
    node.state.resolve(host.clone(), lookup(&["10.0.0.1", "10.0.0.2"]), node.now);
    node.probe();
    assert_eq!(node.open_addresses(), ["10.0.0.1:8080", "10.0.0.2:8080"]);
    // Old addresses stay until a new one has a result.
    node.state.resolve(host, lookup(&["10.0.0.3"]), node.now);
    node.state.recompute(node.now);
    assert!(node.open_addresses().contains(&"10.0.0.1:8080".to_owned()));
    node.probe().probe();
    assert_eq!(node.open_addresses(), ["10.0.0.3:8080"]);
}
