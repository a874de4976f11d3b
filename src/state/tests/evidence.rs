//! Events name the evidence of the check that decides.

use super::*;

/// What a probe of an address finds.
#[derive(Clone, Copy, Debug)]
enum Finds {
    Good,
    Soft,
    Hard,
    NoRoute,
}
use Finds::{Good, Hard, NoRoute, Soft};

const TCP: usize = 0;
const DOC: usize = 1;

/// Two endpoints in `eu`, each with the probes `tcp` and `doc`, and one in `us` with `tcp`. A single failure or success changes a
/// verdict, but for the first.
fn node(endpoint: fn(Vec<Condition>) -> Condition, region: fn(Vec<Condition>) -> Condition) -> Node {
    let mut topology = topology(&[&["192.0.2.1"], &["192.0.2.2"]], &[&["192.0.2.9"]]);
    let at_once = Thresholds { fall: 1, clear: 1, rise: 1, hold: Duration::ZERO, startup: None, slow: None };
    topology.probes = ["tcp", "doc"].map(|name| Probe { thresholds: at_once, ..probe(name) }).into();
    for it in &mut topology.regions[0].endpoints {
        it.healthy_when = endpoint([TCP, DOC].map(|probe| Condition::Check(ProbeId(probe as u16))).into());
    }
    let own = [0, 1].map(|index| Condition::Endpoint(EndpointRef { region: EU, index }));
    topology.regions[0].healthy_when = region(own.into());
    Node::new(world(topology))
}

/// One round of probes, one second apart: the last octet of the address, the probe, and what it finds.
type Round<'a> = &'a [(u8, usize, Finds)];

impl Node {
    /// The events of a round, all published at once.
    fn see(&mut self, round: Round<'_>) -> Vec<String> {
        for (octet, probe, finds) in round {
            self.pass(Duration::from_secs(1));
            let address = IpAddr::from([192, 0, 2, *octet]);
            let name = ["tcp", "doc"][*probe];
            let is_it = |it: &CheckToRun| {
                let Subject::Address { address: its, .. } = &it.id.subject else { return false };
                *its == address && it.id.source.to_string() == name
            };
            let check = self.state.checks_to_run().find(is_it).unwrap();
            let severity = match finds {
                Soft => Some(Severity::Soft),
                Hard => Some(Severity::Hard),
                Good | NoRoute => None,
            };
            let failure = severity.map(|severity| Failure { severity, reason: format!("bad {name}") });
            let outcome = match finds {
                NoRoute => Err(CannotProbe { reason: "no route".into() }),
                _ => Ok(Observation::Probe(ProbeResult { took: Duration::ZERO, rtt: None, failure })),
            };
            self.state.observe(&check.id, check.generation, outcome.as_ref(), self.now);
        }
        self.state.recompute(self.now);
        self.events()
    }

    /// The checks that decide about the addresses of `eu`, as "lb1 tcp".
    fn deciding(&self) -> Vec<String> {
        let checks = self.state.checks(self.now);
        let decides = checks.iter().filter(|it| it.decides.is_some());
        let named = decides.filter_map(|it| match &it.id.subject {
            Subject::Address { region, endpoint, .. } if **region == *"eu" => {
                Some(format!("{endpoint} {}", it.id.source))
            }
            _ => None,
        });
        named.collect()
    }
}

const ALL_GOOD: Round<'_> = &[(1, TCP, Good), (1, DOC, Good), (2, TCP, Good), (2, DOC, Good), (9, TCP, Good)];

/// The transitions of the last of several rounds, without what they are about, are these; then these checks decide.
#[track_caller]
fn check(node: &mut Node, rounds: &[Round<'_>], expected: &[&str], decide: [&str; 2]) {
    let mut last = Vec::new();
    for round in rounds {
        last = node.see(round);
    }
    assert_eq!(last, expected);
    assert_eq!(node.deciding(), decide);
}

#[test]
fn if_all_probes_must_pass_a_failing_one_is_cited() {
    let up = |rounds: &[Round<'static>]| [&[ALL_GOOD], rounds].concat();
    let decided_last = ["lb1 doc", "lb2 doc"];
    for (rounds, expected, decide) in [
        (
            vec![&[(1, TCP, Good)][..]],
            vec![
                "endpoint/eu/lb1 192.0.2.1 unknown -> up: tcp: first probe succeeded",
                "region/eu unknown -> up: lb1 tcp: first probe succeeded",
            ],
            ["lb1 tcp", "lb2 tcp"],
        ),
        (
            up(&[&[(1, DOC, Soft), (1, TCP, Good)]]),
            vec!["endpoint/eu/lb1 192.0.2.1 up -> down: doc: bad doc"],
            decided_last,
        ),
        (
            up(&[&[(1, DOC, Good), (1, TCP, Hard)]]),
            vec!["endpoint/eu/lb1 192.0.2.1 up -> down: tcp: bad tcp"],
            ["lb1 tcp", "lb2 doc"],
        ),
        // The first that failed.
        (
            up(&[&[(1, DOC, Hard), (1, TCP, Hard)]]),
            vec!["endpoint/eu/lb1 192.0.2.1 up -> down: doc: bad doc"],
            decided_last,
        ),
        // How bad it is, too.
        (
            up(&[&[(1, TCP, Soft)], &[(1, DOC, Hard)]]),
            vec!["endpoint/eu/lb1 192.0.2.1 still down, soft -> hard: doc: bad doc"],
            decided_last,
        ),
        // The last that recovered.
        (
            up(&[&[(1, TCP, Hard), (1, DOC, Hard)], &[(1, DOC, Good)], &[(1, TCP, Good)]]),
            vec!["endpoint/eu/lb1 192.0.2.1 down -> up: tcp: 1 consecutive successes over 0ns"],
            ["lb1 tcp", "lb2 doc"],
        ),
    ] {
        check(&mut node(Condition::All, Condition::Any), &rounds, &expected, decide);
    }
}

#[test]
fn if_any_probe_suffices_the_last_that_failed_is_cited() {
    let mut node = node(Condition::Any, Condition::Any);
    for (round, expected, decide) in [
        (ALL_GOOD, vec![], ["lb1 tcp", "lb2 tcp"]),
        (&[(1, TCP, Hard)], vec![], ["lb1 doc", "lb2 tcp"]),
        (
            &[(1, DOC, Hard)],
            vec!["endpoint/eu/lb1 192.0.2.1 up -> down: doc: bad doc"],
            ["lb1 doc", "lb2 tcp"],
        ),
        (
            &[(1, TCP, Good)],
            vec!["endpoint/eu/lb1 192.0.2.1 down -> up: tcp: 1 consecutive successes over 0ns"],
            ["lb1 tcp", "lb2 tcp"],
        ),
    ] {
        let mut events = node.see(round);
        if round.len() == ALL_GOOD.len() {
            events.clear();
        }
        assert_eq!(events, expected);
        assert_eq!(node.deciding(), decide);
    }
}

#[test]
fn a_region_cites_the_endpoint_that_decides() {
    let up_but_lb2: Round<'_> = &[(1, TCP, Good), (1, DOC, Good), (9, TCP, Good)];
    let all: fn(Vec<Condition>) -> Condition = Condition::All;
    let any: fn(Vec<Condition>) -> Condition = Condition::Any;
    let with_us: fn(Vec<Condition>) -> Condition =
        |own| Condition::All(vec![Condition::Any(own), Condition::Region(US)]);
    for (region, rounds, expected) in [
        // What was found at the same time about another endpoint is not cited.
        (all, vec![up_but_lb2, &[(1, DOC, Soft), (2, TCP, Good)]], "up -> down: lb1 doc: bad doc"),
        (all, vec![ALL_GOOD, &[(2, DOC, Soft), (1, TCP, Hard)]], "up -> down: lb1 tcp: bad tcp"),
        (any, vec![ALL_GOOD, &[(1, TCP, Hard)], &[(2, DOC, Hard)]], "up -> down: lb2 doc: bad doc"),
        (any, vec![ALL_GOOD, &[(2, TCP, Hard), (1, TCP, Hard)]], "up -> down: lb1 tcp: bad tcp"),
        // It was hard as long as both were.
        (
            any,
            vec![ALL_GOOD, &[(2, TCP, Soft), (1, TCP, Hard)], &[(2, TCP, Hard)]],
            "still down, soft -> hard: lb2 tcp: 2 consecutive failures: bad tcp",
        ),
        // The one that is left decides, though it is not what changed.
        (
            all,
            vec![ALL_GOOD, &[(1, TCP, Hard), (2, TCP, Soft)], &[(1, TCP, Good)]],
            "still down, hard -> soft: lb2 tcp: bad tcp",
        ),
        (
            any,
            vec![ALL_GOOD, &[(1, TCP, Hard), (2, TCP, Hard)], &[(2, TCP, Good)]],
            "down -> up: lb2 tcp: 1 consecutive successes over 0ns",
        ),
        (with_us, vec![ALL_GOOD, &[(9, TCP, Hard)]], "up -> down: region us: lb1 bad tcp"),
        (with_us, vec![ALL_GOOD, &[(1, TCP, Hard), (2, DOC, Hard)]], "up -> down: lb2 doc: bad doc"),
    ] {
        let mut node = node(Condition::All, region);
        let mut last = Vec::new();
        for round in &rounds {
            last = node.see(round);
        }
        let about = last.iter().find_map(|it| it.strip_prefix("region/eu "));
        assert_eq!(about, Some(expected), "{rounds:?}: {last:?}");
    }
}

#[test]
fn without_an_observation_a_region_cites_none() {
    let mut node = node(Condition::All, Condition::Any);
    node.see(ALL_GOOD);
    node.see(&[(2, TCP, Hard)]);
    let mut topology = (*node.state.world().topology).clone();
    let Condition::Any(own) = &topology.regions[0].healthy_when else { panic!("it is any") };
    topology.regions[0].healthy_when = Condition::All(own.clone());
    node.reload(world(topology));
    let about = node.events().into_iter().find(|it| it.starts_with("region/eu "));
    let expected = "region/eu up -> down: its endpoints, addresses or `healthy_when` changed";
    assert_eq!(about.as_deref(), Some(expected));
}

#[test]
fn an_address_that_follows_others_says_so() {
    let mut topology = topology(&[&["192.0.2.1", "192.0.2.2"]], &[&["192.0.2.9"]]);
    topology.probes = vec![Probe {
        thresholds: Thresholds { fall: 1, rise: 1, hold: Duration::ZERO, ..probe("tcp").thresholds },
        ..probe("tcp")
    }];
    let mut node = Node::new(world(topology));
    node.see(&[(1, TCP, Good), (2, TCP, Good), (9, TCP, Good)]);
    assert_eq!(node.see(&[(2, TCP, NoRoute)]).len(), 1, "an alarm");
    let follows = "cannot be probed: no route; its target's other addresses decide";
    assert_eq!(
        node.see(&[(1, TCP, Hard)]),
        [
            "endpoint/eu/lb1 192.0.2.1 up -> down: bad tcp".to_owned(),
            format!("endpoint/eu/lb1 192.0.2.2 up -> down: {follows}"),
            "region/eu up -> down: lb1 bad tcp".to_owned(),
        ]
    );
}
