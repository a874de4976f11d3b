//! What the API reports about regions, services and overrides.

use std::collections::HashMap;
use std::net::IpAddr;

use super::dto;
use crate::model::{EndpointRef, Family, Member, Name, RegionId, Rule, ServiceId, Subject, Target, Unix};
use crate::safety::{self, Unserved};
use crate::snapshot::Snapshot;
use crate::standing::{AddressStanding, Override, RegionStanding, Standing, Usable};
use crate::state::{CheckStatus, HostStatus, timestamp};

/// What is known at one moment. Everything is found by index, so that each part takes time in proportion to its size.
pub(super) struct View<'a> {
    snapshot: &'a Snapshot,
    /// By region, endpoint and address.
    checks: HashMap<(&'a str, &'a str, IpAddr), Vec<&'a CheckStatus>>,
    /// A check that this node cannot make, and how many there are.
    blind: Option<(&'a CheckStatus, usize)>,
    hosts: HashMap<&'a Name, &'a HostStatus>,
    overrides: HashMap<&'a Target, &'a Override>,
    /// By [`RegionId`].
    held: Vec<Option<Rule>>,
    now: Unix,
}

impl<'a> View<'a> {
    /// Without `checks` and `hosts` it can report on services only.
    pub(super) fn new(
        snapshot: &'a Snapshot,
        checks: &'a [CheckStatus],
        hosts: &'a [HostStatus],
        overrides: &'a [Override],
        now: Unix,
    ) -> Self {
        let mut by_address: HashMap<_, Vec<&CheckStatus>> = HashMap::new();
        for check in checks {
            if let Subject::Address { region, endpoint, address } = &check.id.subject {
                by_address.entry((&**region, &**endpoint, *address)).or_default().push(check);
            }
        }
        let mut blind = checks.iter().filter(|check| check.blind.is_some());
        Self {
            snapshot,
            checks: by_address,
            blind: blind.next().map(|first| (first, 1 + blind.count())),
            hosts: hosts.iter().map(|it| (&it.host, it)).collect(),
            overrides: overrides.iter().map(|o| (&o.target, o)).collect(),
            held: held_by_region(&snapshot.standing),
            now,
        }
    }

    /// `engine_alarms` are those that only the engine knows.
    pub(super) fn status(
        &self,
        node: dto::Node,
        files: dto::Files,
        engine_alarms: Vec<String>,
    ) -> dto::Status {
        dto::Status {
            node,
            regions: self.regions(),
            services: self.services(),
            alarms: [self.alarms(), engine_alarms].concat(),
            files: Some(files),
        }
    }

    pub(super) fn regions(&self) -> Vec<dto::Region> {
        self.snapshot.plan.topology.region_ids().map(|id| self.region(id)).collect()
    }

    pub(super) fn services(&self) -> Vec<dto::Service> {
        let services = self.snapshot.plan.topology.services.len() as u32;
        (0..services).map(|index| self.service(ServiceId(index))).collect()
    }

    fn region(&self, id: RegionId) -> dto::Region {
        let region = self.snapshot.plan.topology.region(id);
        let standing = self.snapshot.standing.region(id);
        let endpoints = (0..region.endpoints.len())
            .map(|index| self.endpoint(EndpointRef { region: id, index: index as u16 }, standing));
        dto::Region {
            name: region.name.clone(),
            verdict: standing.state.into(),
            since: timestamp(standing.since),
            usable: standing.usable().into(),
            held: self.held[usize::from(id.0)].map(Into::into),
            overridden: self.overridden(&Target::Region(region.name.clone())),
            capacity: region.capacity,
            endpoints: endpoints.collect(),
        }
    }

    fn endpoint(&self, at: EndpointRef, standing: &RegionStanding) -> dto::Endpoint {
        let topology = &self.snapshot.plan.topology;
        let (region, endpoint) = (topology.region(at.region), topology.endpoint(at));
        let state = &standing.endpoints[usize::from(at.index)];
        let target = Target::Endpoint { region: region.name.clone(), endpoint: endpoint.name.clone() };
        let address = |it| self.address(&region.name, &endpoint.name, it);
        let looked_up = endpoint.resolved_host().and_then(|host| self.hosts.get(host));
        dto::Endpoint {
            name: endpoint.name.clone(),
            verdict: state.state.into(),
            weight: endpoint.weight.0,
            host: endpoint.host().map(ToString::to_string),
            resolved: looked_up.is_some_and(|it| it.is_looked_up && it.failure.is_none()),
            lookup: looked_up.map(|it| dto::HostLookup {
                error: it.failure.as_ref().map(|failure| failure.why.clone()),
                failing_since: it.failure.as_ref().map(|failure| timestamp(failure.since)),
            }),
            overridden: self.overridden(&target),
            addresses: state.addresses.iter().map(address).collect(),
        }
    }

    fn address(&self, region: &str, endpoint: &str, standing: &AddressStanding) -> dto::Address {
        let address = standing.address;
        let checks = self.checks.get(&(region, endpoint, address)).map_or(&[][..], Vec::as_slice);
        // What one probe found down is down, whether or not this node can make the others.
        let is_seen_down =
            standing.state.is_down() && checks.iter().any(|it| it.blind.is_none() && it.state.is_down());
        let is_observed = standing.observed || is_seen_down;
        let blind = checks.iter().find(|check| !is_observed && check.blind.is_some());
        let deciding = blind.or_else(|| checks.iter().max_by_key(|check| check.state));
        let last = checks.iter().filter_map(|check| check.last_probe).max();
        let probe = |check: &&CheckStatus| dto::Probe {
            name: check.id.source.to_string(),
            verdict: check.state.into(),
            evidence: check.to_string(),
        };
        dto::Address {
            address,
            verdict: if is_observed { standing.state.into() } else { dto::Verdict::Unobserved },
            since: timestamp(deciding.map_or(self.now, |check| check.since)),
            evidence: deciding.map_or_else(|| "no probe: always up".into(), |check| check.to_string()),
            rtt_ms: checks.iter().filter_map(|check| check.rtt).map(millis).reduce(f64::min),
            last_probe_s: last.map(|last| (self.now.since(last).as_secs_f64() * 1000.0).round() / 1000.0),
            probes: checks.iter().map(probe).collect(),
        }
    }

    fn service(&self, id: ServiceId) -> dto::Service {
        let plan = &self.snapshot.plan;
        let service = plan.topology.service(id);
        let region = |member: &Member| {
            let name = &plan.topology.region(member.region).name;
            let target = Target::Service { service: service.name.clone(), region: name.clone() };
            dto::ServiceRegion {
                name: name.clone(),
                weight: member.weight.0,
                usable: self.usable_within(id, member.region).into(),
                held: self.held_within(id, member.region).map(Into::into),
                overridden: self.overridden(&target),
            }
        };
        dto::Service {
            name: service.name.to_string(),
            kind: (&service.kind).into(),
            rank: service.steering.rank.kind().into(),
            regions: service.members.iter().map(region).collect(),
        }
    }

    /// The best of the families.
    fn usable_within(&self, service: ServiceId, region: RegionId) -> Usable {
        let standing = &self.snapshot.standing;
        let usable = Family::ALL.map(|family| standing.usable_within(service, region, family));
        usable.into_iter().reduce(Usable::best).unwrap_or(Usable::IfNothingElse)
    }

    fn held_within(&self, service: ServiceId, region: RegionId) -> Option<Rule> {
        // Most regions are not held for anyone.
        self.held[usize::from(region.0)]?;
        let standing = &self.snapshot.standing;
        let sets = self.snapshot.plan.steering.region_sets().of_service(service).iter();
        let mut held = sets
            .flat_map(|set| Family::ALL.map(|family| standing.held(Some(service), *set, family, region)))
            .flatten();
        held.next().or_else(|| standing.region(region).kept_by)
    }

    fn overridden(&self, target: &Target) -> Option<dto::Override> {
        self.overrides.get(target).map(|o| (*o).into())
    }

    /// Held regions, services that no region can serve, hosts that cannot be resolved, and what this node cannot see.
    pub(super) fn alarms(&self) -> Vec<String> {
        let plan = &self.snapshot.plan;
        let mut alarms = Vec::new();
        if self.snapshot.standing.suspected {
            alarms.push("this node suspects its own network: suspect_self keeps the last standing".into());
        }
        if let Some((CheckStatus { id, blind: Some(reason), .. }, count)) = self.blind {
            let others = if count > 1 { format!(" and {} more checks", count - 1) } else { String::new() };
            alarms.push(format!("this node cannot probe {id}{others}: {reason}"));
        }
        let unresolved = plan.topology.resolved_hosts().into_iter().filter_map(|host| self.hosts.get(host));
        alarms.extend(unresolved.filter_map(|host| unresolved_alarm(host)));
        for (region, rule) in plan.topology.regions.iter().zip(&self.held) {
            let Some(rule) = rule else { continue };
            alarms.push(format!("region/{} fails, but {} holds it", region.name, rule.name()));
        }
        alarms.extend(safety::alarm(&plan.topology, &self.unserved()));
        alarms
    }

    /// The services that no region can serve for some clients, sorted.
    pub(super) fn unserved(&self) -> Vec<Unserved> {
        let (plan, standing) = (&self.snapshot.plan, &self.snapshot.standing);
        safety::unserved(&plan.topology, plan.steering.region_sets(), standing)
    }
}

/// A sentence about a host that cannot be resolved.
fn unresolved_alarm(host: &HostStatus) -> Option<String> {
    let failure = host.failure.as_ref()?;
    let kept = match host.addresses.len() {
        0 => "it has no known address".into(),
        1 => "its last known address is kept".into(),
        count => format!("its last {count} known addresses are kept"),
    };
    let (host, since) = (&host.host, timestamp(failure.since));
    Some(format!("{host} cannot be resolved since {since}: {}; {kept}", failure.why))
}

/// By [`RegionId`]: the rule that holds or keeps the region for anyone.
pub(super) fn held_by_region(standing: &Standing) -> Vec<Option<Rule>> {
    let mut rules: Vec<Option<Rule>> = standing.regions.iter().map(|region| region.kept_by).collect();
    for held in standing.held.iter().rev() {
        rules[usize::from(held.region.0)] = Some(held.rule);
    }
    rules
}

fn millis(duration: std::time::Duration) -> f64 {
    (duration.as_secs_f64() * 1e6).round() / 1e3
}

#[cfg(test)]
mod tests {
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

    const NOW: Now =
        Now { mono: Mono(Duration::from_secs(60)), unix: Unix(Duration::from_secs(1_800_000_000)) };

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
            Snapshot { plan: Arc::clone(&self.plan), standing, epoch: self.state.epoch() }
        }

        /// The lines of a scrape about `suspect_self`.
        fn metrics(&self) -> Vec<String> {
            let metrics = Metrics { contributors: Vec::new() };
            let scrape = metrics.scrape(Seen {
                snapshot: self.snapshot().into(),
                checks: Vec::new(),
                hosts: Vec::new(),
                overrides: Vec::new(),
                engine_alarms: Vec::new(),
                transitions: Vec::new(),
                reloads: ReloadCounts { applied: 0, failed: 0, last_applied: NOW.unix },
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
        assert_eq!(
            alarms[0],
            "this node cannot probe endpoint/r0/e0 10.0.0.0 by p and 5 more checks: no route"
        );
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
        assert!(node.state.standing().suspected);
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
        assert!(!node.state.standing().suspected);
        assert_eq!(
            node.metrics(),
            ["portolan_self_suspicion 0", "portolan_safety_held{rule=\"suspect_self\"} 0"]
        );
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
}
