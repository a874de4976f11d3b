//! Status, alarms and metrics of a node whose checks have given results.

use std::fmt::Write as _;
use std::sync::Arc;
use std::time::Duration;

use super::super::metrics::{Metrics, Seen};
use super::*;
use crate::engine::ReloadCounts;
use crate::health::{CannotProbe, Failure, Observation, ProbeResult, Severity};
use crate::model::{Mono, Now, Rules, SuspectSelf};
use crate::prepare::{Origin, prepare, world};
use crate::standing::Action;
use crate::state::{OverrideRequest, SavedState, State};

/// A small database, since these tests locate no client.
const GEO: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/data/mmdb/GeoIP2-City-Test.mmdb");

const NOW: Now = Now { mono: Mono(Duration::from_secs(60)), unix: Unix(Duration::from_secs(1_800_000_000)) };

/// A node whose regions `r0`, `r1`, … have so many endpoints each, in one service for each region and one for all.
struct Node {
    plan: Arc<crate::snapshot::Plan>,
    state: State,
}

impl Node {
    fn new(regions: usize, endpoints: usize, suspect_self: Option<SuspectSelf>) -> Self {
        let mut toml = format!("version = 1\n[geo]\ndatabase = [\"{GEO}\"]\n");
        for probe in ["p", "q"] {
            write!(toml, "[probe.{probe}]\nkind = \"tcp\"\nport = 80\nfall = 2\n").unwrap();
        }
        let mut names = Vec::new();
        for region in 0..regions {
            names.push(format!("\"r{region}\""));
            writeln!(toml, "[region.r{region}]\nendpoint = [").unwrap();
            for endpoint in 0..endpoints {
                let address = format!("10.{region}.{}.{}", endpoint / 250, endpoint % 250);
                writeln!(
                    toml,
                    "{{ name = \"e{endpoint}\", address = \"{address}\", probe = [\"p\", \"q\"] }},"
                )
                .unwrap();
            }
            toml += "]\n";
        }
        toml += "[[zone]]\norigin = \"test.\"\nfile = \"zone\"\n";
        let mut service = |name: &str, regions: &str| {
            write!(toml, "[[service]]\nname = \"{name}.test.\"\nregions = [{regions}]\n").unwrap();
        };
        for (index, name) in names.iter().enumerate() {
            service(&format!("s{index}"), name);
        }
        service("all", &names.join(", "));
        let zone = "$TTL 60\n@ SOA ns hostmaster 1 3600 600 604800 30\n@ NS ns\nns A 192.0.2.53\n";
        let files = [("zone".into(), zone.into())];
        let prepared = prepare(&Origin::Text { toml: toml.into(), files: files.into() });
        let plan = prepared.unwrap_or_else(|e| panic!("{e}")).plan;
        let world = world(&plan, Rules { suspect_self, ..Rules::default() });
        Self { plan, state: State::new(world, SavedState::default(), NOW) }
    }

    /// Every check gets this result, which may depend on its address and its probe.
    fn observe(&mut self, of: impl Fn(IpAddr, &str) -> Result<Observation, CannotProbe>) -> &mut Self {
        let wanted: Vec<_> = self.state.checks_to_run().map(|it| (it.id, it.generation)).collect();
        for (id, generation) in wanted {
            let Subject::Address { address, .. } = id.subject else { panic!("{id}") };
            let probe = id.source.to_string();
            self.state.observe(&id, generation, of(address, &probe).as_ref(), NOW);
        }
        self.state.recompute(NOW);
        self
    }

    fn snapshot(&self) -> Snapshot {
        let standing = Arc::clone(self.state.standing());
        Snapshot {
            plan: Arc::clone(&self.plan),
            standing,
            challenges: <_>::default(),
            epoch: self.state.epoch(),
        }
    }

    /// The lines of a scrape about `suspect_self`.
    fn metrics(&self) -> Vec<String> {
        let metrics = Metrics { contributors: Vec::new() };
        let scrape = metrics.scrape(Seen {
            traffic: None,
            snapshot: self.snapshot().into(),
            checks: Vec::new(),
            hosts: Vec::new(),
            overrides: Vec::new(),
            certificates: Vec::new(),
            engine_alarms: Vec::new(),
            transitions: Vec::new(),
            ejections: Vec::new(),
            reloads: ReloadCounts { applied: 0, failed: 0, last_applied: NOW.unix, has_failed: false },
            journal_fails: false,
            now: NOW.unix,
        });
        let scrape = scrape.unwrap();
        let about =
            |line: &&str| line.contains("suspect_self\"") || line.starts_with("portolan_self_suspicion");
        scrape.lines().filter(about).map(str::to_owned).collect()
    }

    fn view<R>(&self, read: impl FnOnce(&View<'_>) -> R) -> R {
        let snapshot = self.snapshot();
        let (checks, hosts) = (self.state.checks(NOW), self.state.hosts());
        read(&View::new(&snapshot, &checks, &hosts, self.state.overrides(), NOW.unix))
    }
}

fn result(failure: Option<Failure>) -> Observation {
    Observation::Probe(ProbeResult { took: Duration::from_millis(1), rtt: None, failure })
}

fn failed(severity: Severity, reason: String) -> Observation {
    result(Some(Failure { severity, reason }))
}

#[test]
fn ten_thousand_addresses_keep_what_was_found_of_each() {
    let mut node = Node::new(20, 500, None);
    let failing = |address, _: &str| Ok(failed(Severity::Soft, format!("answer of {address}")));
    node.observe(failing).observe(failing);
    let regions = node.view(|view| view.regions());
    let mut seen = 0;
    for address in regions.iter().flat_map(|it| &it.endpoints).flat_map(|it| &it.addresses) {
        assert!(address.evidence.ends_with(&format!("answer of {}", address.address)), "{address:?}");
        assert_eq!((address.probes.len(), address.verdict), (2, dto::Verdict::Down));
        seen += 1;
    }
    assert_eq!(seen, 10_000);
    assert!(regions.iter().all(|it| it.held == Some(dto::Rule::MinRegions)));
    let (services, alarms) = node.view(|view| (view.services(), view.alarms()));
    assert_eq!((services.len(), services[20].regions.len()), (21, 20));
    assert!(services.iter().flat_map(|it| &it.regions).all(|it| it.held == Some(dto::Rule::MinRegions)));
    assert_eq!(alarms.len(), 20, "one for each held region: {alarms:?}");
}

fn no_route() -> Result<Observation, CannotProbe> {
    Err(CannotProbe { reason: "no route".into() })
}

#[test]
fn addresses_that_this_node_cannot_probe_are_unobserved() {
    let mut node = Node::new(1, 3, None);
    let last = IpAddr::from([10, 0, 0, 2]);
    node.observe(|_, _| Ok(result(None)));
    node.observe(
        |address, probe| if (address, probe) == (last, "p") { no_route() } else { Ok(result(None)) },
    );
    let (regions, alarms) = node.view(|view| (view.regions(), view.alarms()));
    let addresses: Vec<_> = regions[0].endpoints.iter().map(|it| &it.addresses[0]).collect();
    let verdicts = addresses.iter().map(|it| it.verdict).collect::<Vec<_>>();
    assert_eq!(verdicts, [dto::Verdict::Up, dto::Verdict::Up, dto::Verdict::Unobserved]);
    assert_eq!(addresses[2].evidence, "first probe succeeded; cannot be probed: no route");
    assert_eq!(alarms, ["this node cannot probe endpoint/r0/e2 10.0.0.2 by p: no route"]);

    node.observe(|_, _| no_route());
    let alarms = node.view(|view| view.alarms());
    assert_eq!(alarms[0], "this node cannot probe endpoint/r0/e0 10.0.0.0 by p and 5 more checks: no route");
}

#[test]
fn an_address_that_one_probe_found_down_is_down_though_another_cannot_be_made() {
    let mut node = Node::new(1, 2, None);
    let first = IpAddr::from([10, 0, 0, 0]);
    node.observe(|_, _| Ok(result(None)));
    for _ in 0..2 {
        node.observe(|address, probe| match (address == first, probe) {
            (true, "p") => no_route(),
            (true, _) => Ok(failed(Severity::Hard, "connection refused".into())),
            (false, _) => Ok(result(None)),
        });
    }
    let regions = node.view(|view| view.regions());
    let address = &regions[0].endpoints[0].addresses[0];
    assert_eq!(address.verdict, dto::Verdict::Down);
    assert_eq!(address.evidence, "2 consecutive failures: connection refused");
}

#[test]
fn a_node_that_suspects_itself_says_so() {
    let rule = SuspectSelf {
        share: crate::model::Fraction::WHOLE,
        min: 1,
        anchors: Vec::new(),
        at_most: Duration::from_secs(60),
    };
    let mut node = Node::new(2, 1, Some(rule));
    node.observe(|_, _| Ok(result(None)));
    assert_eq!(node.view(|view| view.alarms()), [""; 0]);
    for _ in 0..2 {
        node.observe(|_, _| Ok(failed(Severity::Hard, "connection refused".into())));
    }
    assert_eq!(node.state.standing().suspected, Some(Suspected::KeepsStanding));
    let (regions, services, alarms) = node.view(|view| (view.regions(), view.services(), view.alarms()));
    for region in &regions {
        let summary = (region.verdict, region.usable, region.held);
        assert_eq!(summary, (dto::Verdict::Down, dto::Usable::Yes, Some(dto::Rule::SuspectSelf)));
    }
    assert_eq!(services[2].regions[1].held, Some(dto::Rule::SuspectSelf));
    assert_eq!(
        alarms,
        [
            "this node suspects its own network: suspect_self keeps the last standing",
            "region/r0 fails, but suspect_self holds it",
            "region/r1 fails, but suspect_self holds it",
        ]
    );
    assert_eq!(
        node.metrics(),
        ["portolan_self_suspicion 1", "portolan_safety_held{rule=\"suspect_self\"} 2"]
    );
    node.observe(|_, _| Ok(result(None)));
    assert_eq!(node.state.standing().suspected, None);
    assert_eq!(
        node.metrics(),
        ["portolan_self_suspicion 0", "portolan_safety_held{rule=\"suspect_self\"} 0"]
    );
}

#[test]
fn without_suspect_self_a_mass_failure_is_an_alarm_until_checks_succeed() {
    let mut node = Node::new(2, 1, None);
    node.observe(|_, _| Ok(result(None)));
    for _ in 0..2 {
        node.observe(|_, _| Ok(failed(Severity::Hard, "connection refused".into())));
    }
    let alarm = "many checks began to fail together: this node may have lost its own network".to_owned();
    assert!(node.view(|view| view.alarms()).contains(&alarm));
    assert_eq!(node.metrics()[0], "portolan_self_suspicion 1");
    node.observe(|_, _| Ok(result(None)));
    assert!(!node.view(|view| view.alarms()).contains(&alarm));
    assert_eq!(node.metrics()[0], "portolan_self_suspicion 0");
}

#[test]
fn overrides_are_shown_with_their_targets() {
    let mut node = Node::new(2, 2, None);
    node.observe(|_, _| Ok(result(None)));
    for target in ["region/r0", "endpoint/r1/e1", "service/all.test/r1"] {
        let request = OverrideRequest {
            target: target.parse().expect("a target"),
            action: Action::DRAIN,
            lasts: None,
            reason: None,
            override_safety: true,
            by: "test".into(),
        };
        node.state.set_override(request, NOW).expect("allowed");
    }
    let (regions, services) = node.view(|view| (view.regions(), view.services()));
    let id = |o: &Option<dto::Override>| o.as_ref().map(|o| o.id);
    assert_eq!([&regions[0], &regions[1]].map(|it| id(&it.overridden)), [Some(1), None]);
    let endpoints = regions.iter().flat_map(|it| &it.endpoints);
    assert_eq!(endpoints.map(|it| id(&it.overridden)).collect::<Vec<_>>(), [None, None, None, Some(2)]);
    let members = services.iter().flat_map(|it| &it.regions);
    assert_eq!(members.map(|it| id(&it.overridden)).collect::<Vec<_>>(), [None, None, None, Some(3)]);
}
