//! Simulated days: a seeded run drives the very writer that a node has, and answers queries from its
//! snapshots, against the invariants of the crate's documentation.
//!
//! On failure the seed is printed; `SEED=n cargo test --test it simulation` replays it. `SEEDS=n` runs more.

use std::collections::HashMap;
use std::env;
use std::net::{IpAddr, Ipv4Addr};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::time::Duration;

use http::uri::PathAndQuery;
use portolan::engine::{EventKind, OverrideRequest, Subject, Writer};
use portolan::geo::{Index, Override as Network};
use portolan::health::{Failure, Observation, Phase, Severity, State, Timings};
use portolan::model::{
    AllDown, Endpoint, EndpointRef, Expect, Family, Fraction, HttpProbe, KeyPrefix, Kind, Km, Location,
    Member, Mono, Need, Now, Point, Probe, ProbeId, Rank, Region, RegionId, Service, ServiceId, ServiceKind,
    Share, Steering, Target, Thresholds, Topology, Ttl, TtlRange, Unix, Weight,
};
use portolan::probe::CheckKey;
use portolan::safety::Rules;
use portolan::snapshot::{Plan, Snapshot};
use portolan::standing::{Action, Usable};
use portolan::steer::{Answer, Asked, Choice, NoTrace};
use portolan::zone::Zones;

use crate::harness::Numbers;

/// Runs per test; each is some simulated days.
const SEEDS: u64 = 300;

/// Steps of a run.
const STEPS: u32 = 400;

/// The whole run follows from its seed.
struct Dice(Numbers);

impl Dice {
    fn roll(&mut self) -> u64 {
        self.0.next()
    }

    fn below(&mut self, n: usize) -> usize {
        (self.roll() % n as u64) as usize
    }

    fn one_in(&mut self, n: usize) -> bool {
        self.below(n) == 0
    }

    fn of<'a, T>(&mut self, choices: &'a [T]) -> &'a T {
        &choices[self.below(choices.len())]
    }
}

/// A world of up to five regions under names that come and go with reloads.
fn topology(dice: &mut Dice) -> Topology {
    let names = ["ap-south", "eu-west", "sa-east", "us-east", "us-west"];
    let count = 2 + dice.below(names.len() - 1);
    let regions: Vec<Region> =
        names[..count].iter().enumerate().map(|(n, name)| region(dice, n, name)).collect();
    let services = (0..1 + dice.below(3)).map(|n| service(dice, n, count)).collect();
    Topology { regions, services, probes: vec![probe(dice)], ..Topology::default() }
}

fn region(dice: &mut Dice, number: usize, name: &str) -> Region {
    let endpoints = (0..1 + dice.below(3)).map(|index| {
        let host = (number * 10 + index + 1) as u8;
        let mut addresses = vec![IpAddr::V4(Ipv4Addr::new(192, 0, 2, host))];
        if !dice.one_in(3) {
            addresses.push(format!("2001:db8::{host}").parse().unwrap());
        }
        let weight = Weight(*dice.of(&[0, 1, 100, 100]));
        let probes = if dice.one_in(12) { Vec::new() } else { vec![ProbeId(0)] };
        Endpoint { name: format!("lb{index}"), addresses, host: None, is_resolved: false, weight, probes }
    });
    let point = Some(Point { lat: 10.0 * number as f32, lon: 30.0 * number as f32 });
    Region {
        name: name.into(),
        location: Location { point, ..Location::default() },
        capacity: None,
        endpoints: endpoints.collect(),
        healthy_when: *dice.of(&[Need::Any, Need::Any, Need::All]),
        require: Vec::new(),
    }
}

fn service(dice: &mut Dice, number: usize, regions: usize) -> Service {
    let first = dice.below(regions);
    let length = 1 + dice.below(regions);
    let members = (0..length).map(|n| Member {
        region: RegionId(((first + n) % regions) as u16),
        weight: Weight(*dice.of(&[0, 1, 1, 3])),
    });
    let fallback = vec!["203.0.113.9".parse().unwrap()];
    Service {
        name: format!("s{number}.example.test.").parse().unwrap(),
        kind: ServiceKind::ADDRESS,
        members: members.collect(),
        steering: Steering {
            rank: {
                let tolerance = Km(*dice.of(&[0.0, 5_000.0]));
                dice.of(&[Rank::Priority, Rank::Distance(tolerance), Rank::None]).clone()
            },
            share: *dice.of(&[Share::Weighted, Share::Hash]),
            answers: 1 + dice.below(2),
            ttl: *dice.of(&[Ttl(30).into(), TtlRange { max: Ttl(60), min: Ttl(0) }]),
            all_down: dice
                .of(&[
                    AllDown::All,
                    AllDown::Servfail,
                    AllDown::LastGood(Duration::from_secs(600)),
                    AllDown::Fallback(fallback),
                ])
                .clone(),
        },
        fences: Vec::new(),
    }
}

fn probe(dice: &mut Dice) -> Probe {
    let expect = Expect { status: Vec::new(), body: None, json: Vec::new() };
    Probe {
        name: "ready".into(),
        kind: Kind::Http {
            port: 80,
            http: HttpProbe { host: None, path: PathAndQuery::from_static("/"), expect },
        },
        interval: Duration::from_secs(5),
        timeout: Duration::from_secs(2),
        thresholds: Thresholds {
            fall: 1 + dice.below(4) as u32,
            clear: 1 + dice.below(2) as u32,
            rise: 1 + dice.below(3) as u32,
            hold: Duration::from_secs(30),
            startup: None,
            slow: dice.one_in(2).then_some(Duration::from_millis(800)),
        },
    }
}

fn plan(topology: Topology) -> Arc<Plan> {
    let network = |prefix: &str, lat, lon| Network {
        prefix: prefix.parse().unwrap(),
        location: Some(Location { point: Some(Point { lat, lon }), ..Location::default() }),
        first: Box::default(),
    };
    let networks = [network("10.0.0.0/10", 0.0, 0.0), network("10.64.0.0/10", 20.0, 60.0)];
    let geo = Index::compile(&[], &networks, &[]);
    Arc::new(Plan::compile(topology, Zones::default(), geo, true, KeyPrefix::default()))
}

/// A node and what the simulation knows of the world around it.
struct Simulation {
    dice: Dice,
    writer: Writer,
    rules: Rules,
    mono: Duration,
    unix: Duration,
    /// What is really the matter with each address: it decides what probes see.
    truth: HashMap<IpAddr, Option<Severity>>,
    epoch: u64,
    /// The last state told of each region, to see that transitions skip nothing.
    told: HashMap<String, State>,
    /// Answers that nothing but an operator may change while their computed TTL lasts.
    promises: Vec<Promise>,
}

/// An answer and how long it holds.
struct Promise {
    asked: Asked,
    until: Unix,
    region: Option<RegionId>,
    answer: Answer,
    addresses: Vec<IpAddr>,
}

impl Simulation {
    fn new(seed: u64) -> Self {
        let mut dice = Dice(Numbers(seed));
        let rules = Rules { min_regions: dice.below(3) };
        let (mono, unix) = (Duration::from_secs(1), Duration::from_secs(1_800_000_000));
        let now = Now { mono: Mono(mono), unix: Unix(unix) };
        let writer = Writer::new(plan(topology(&mut dice)), rules, Vec::new(), 0, now);
        let (truth, told, promises) = Default::default();
        Self { dice, writer, rules, mono, unix, truth, epoch: 0, told, promises }
    }

    fn now(&self) -> Now {
        Now { mono: Mono(self.mono), unix: Unix(self.unix) }
    }

    fn step(&mut self) {
        let what = self.dice.below(20);
        if (1..=4).contains(&what) {
            self.promises.clear();
        }
        match what {
            0 => self.flip(),
            1 => self.say(),
            2 => self.take_back(),
            3 if self.dice.one_in(4) => self.reload(),
            4 if self.dice.one_in(4) => self.step_clock(),
            5 => {
                let minutes = 1 + self.dice.below(30) as u64;
                self.pass(Duration::from_secs(60 * minutes));
            }
            _ => self.probe_all(),
        }
        self.writer.expire(Unix(self.unix));
        self.events();
        self.invariants();
    }

    fn pass(&mut self, time: Duration) {
        self.mono += time;
        self.unix += time;
    }

    /// Somebody sets the calendar's clock.
    fn step_clock(&mut self) {
        let by = Duration::from_secs(self.dice.below(7_200) as u64);
        self.unix = if self.dice.one_in(2) { self.unix + by } else { self.unix - by };
    }

    /// Something breaks or heals: an address, or a whole region at once.
    fn flip(&mut self) {
        let snapshot = self.writer.snapshot();
        let region = self.dice.of(&snapshot.plan.topology.regions).clone();
        let matter = *self.dice.of(&[None, None, Some(Severity::Soft), Some(Severity::Hard)]);
        let whole = self.dice.one_in(2);
        for address in region.endpoints.iter().flat_map(|endpoint| &endpoint.addresses) {
            if whole || self.dice.one_in(3) {
                self.truth.insert(*address, matter);
            }
        }
    }

    fn probe_all(&mut self) {
        self.pass(Duration::from_secs(5));
        let snapshot = self.writer.snapshot();
        let mut changed = false;
        for region in &snapshot.plan.topology.regions {
            for endpoint in region.endpoints.iter().filter(|endpoint| !endpoint.probes.is_empty()) {
                for address in &endpoint.addresses {
                    let check = CheckKey {
                        region: region.name.as_str().into(),
                        endpoint: endpoint.name.as_str().into(),
                        address: *address,
                        probe: "ready".into(),
                    };
                    let observation = self.look(*address);
                    changed |= self.writer.observe(&check, &observation, self.now());
                }
            }
        }
        if changed {
            self.writer.restand(Unix(self.unix));
        }
    }

    /// What a probe sees: the truth, now and then a slow answer or a lost packet.
    fn look(&mut self, address: IpAddr) -> Observation {
        let connect = Some(Duration::from_millis(if self.dice.one_in(30) { 900 } else { 20 }));
        let timings = Timings { connect, ..Timings::default() };
        let matter = self.truth.get(&address).copied().flatten();
        let lost = self.dice.one_in(40).then_some(Severity::Hard);
        let failure = matter.or(lost).map(|severity| Failure {
            severity,
            phase: Phase::Connect,
            reason: "broken".into(),
        });
        Observation { timings, failure }
    }

    fn say(&mut self) {
        let snapshot = self.writer.snapshot();
        let topology = &snapshot.plan.topology;
        let region = self.dice.of(&topology.regions);
        let target = match self.dice.below(3) {
            0 => Target::Region(region.name.clone()),
            1 => {
                let endpoint = self.dice.of(&region.endpoints).name.clone();
                Target::Endpoint { region: region.name.clone(), endpoint }
            }
            _ => {
                let service = self.dice.of(&topology.services);
                let member = self.dice.of(&service.members).region;
                Target::Service {
                    service: service.name.clone(),
                    region: topology.region(member).name.clone(),
                }
            }
        };
        let action = *self.dice.of(&[Action::Drain, Action::Drain, Action::Up, Action::Down]);
        let part = action == Action::Drain && self.dice.one_in(3);
        let request = OverrideRequest {
            target,
            action,
            share: if part { Fraction::from_percent(30.0).unwrap() } else { Fraction::WHOLE },
            lasts: self.dice.one_in(2).then(|| Duration::from_secs(1 + self.dice.below(3_600) as u64)),
            reason: None,
            override_safety: self.dice.one_in(5),
            by: "the simulation".into(),
        };
        let before = self.writer.snapshot();
        if self.writer.put_override(request, Unix(self.unix)).is_err() {
            assert_eq!(before.epoch, self.writer.epoch(), "a refused override changed something");
        }
    }

    fn take_back(&mut self) {
        if let Some(id) = self.writer.overrides().first().map(|o| o.id) {
            assert!(self.writer.remove_override(id, "the simulation".into(), Unix(self.unix)).is_some());
        }
    }

    fn reload(&mut self) {
        let before: HashMap<CheckKey, State> =
            self.writer.checks().into_iter().map(|check| (check.key, check.state)).collect();
        self.rules = Rules { min_regions: self.dice.below(3) };
        let plan = plan(topology(&mut self.dice));
        self.writer.reload(plan, self.rules, self.now());
        for check in self.writer.checks() {
            if let Some(state) = before.get(&check.key) {
                assert_eq!(*state, check.state, "{} lost its verdict in a reload", check.key);
            }
        }
        self.told.clear();
    }

    fn events(&mut self) {
        for event in self.writer.take_events() {
            if let EventKind::Transition {
                subject: Subject::Target(Target::Region(region)), from, to, ..
            } = event
            {
                assert_ne!(from, to);
                if let Some(last) = self.told.insert(region.clone(), to) {
                    assert_eq!(last, from, "region {region} skipped a state");
                }
            }
        }
    }

    fn invariants(&mut self) {
        let snapshot = self.writer.snapshot();
        assert!(snapshot.epoch >= self.epoch, "epochs only grow");
        self.epoch = snapshot.epoch;
        for o in self.writer.overrides() {
            assert!(o.holds_at(Unix(self.unix)), "an override outlived its end");
        }
        self.held_fail_softly(&snapshot);
        self.keep_promises(&snapshot);
        for index in 0..snapshot.plan.topology.services.len() {
            for _ in 0..3 {
                let client =
                    IpAddr::V4(Ipv4Addr::from_bits(0x0a00_0000 | (self.dice.roll() as u32 & 0x00ff_ffff)));
                self.query(&snapshot, ServiceId(index as u32), client);
                self.promise(&snapshot, ServiceId(index as u32), client);
            }
        }
    }

    /// Remembers an answer whose TTL is computed; what is slow changes weights and is no change to it.
    fn promise(&mut self, snapshot: &Snapshot, service: ServiceId, client: IpAddr) {
        let topology = &snapshot.plan.topology;
        let is_computed = topology.service(service).steering.ttl.is_computed();
        let may_be_slow = topology.probes.iter().any(|probe| probe.thresholds.slow.is_some());
        // The config before may have left some behind.
        let endpoints = snapshot.standing.regions.iter().flat_map(|region| &region.endpoints);
        let is_slow = endpoints.flat_map(|it| &it.addresses).any(|state| *state == State::Degraded);
        if !is_computed || may_be_slow || is_slow {
            return;
        }
        let asked = Asked { service, client, family: Family::V4, unix: Unix(self.unix), draw: 0 };
        let (choice, addresses) = answer(snapshot, &asked);
        let until = asked.unix.after(Duration::from_secs(u64::from(choice.ttl.0)));
        let Choice { region, answer, .. } = choice;
        self.promises.push(Promise { asked, until, region, answer, addresses });
    }

    fn keep_promises(&mut self, snapshot: &Snapshot) {
        let now = Unix(self.unix);
        self.promises.retain(|promise| now < promise.until);
        for promise in &self.promises {
            let (choice, addresses) = answer(snapshot, &Asked { unix: now, ..promise.asked });
            let (found, promised) = (
                (choice.region, choice.answer, addresses),
                (promise.region, promise.answer, promise.addresses.clone()),
            );
            assert_eq!(
                found, promised,
                "of {:?}, promised until {:?}, at {now:?}",
                promise.asked, promise.until
            );
        }
    }

    fn held_fail_softly(&self, snapshot: &Snapshot) {
        for region in snapshot.standing.held.iter().flatten() {
            let usable = snapshot.standing.region(*region).usable();
            let soft = Usable::No(portolan::standing::Cause::Probes(Severity::Soft));
            assert_eq!(usable, soft, "only soft failures are held");
        }
    }

    fn query(&self, snapshot: &Snapshot, service: ServiceId, client: IpAddr) {
        let choose = |client, family| {
            answer(snapshot, &Asked { service, client, family, unix: Unix(self.unix), draw: 0 })
        };
        for family in [Family::V4, Family::V6] {
            let (choice, addresses) = choose(client, family);
            assert_eq!((choice, addresses.clone()), choose(client, family), "no randomness");
            // Every address within the scope is sent to the same place.
            let scope = ipnet::IpNet::new(client, choice.scope).unwrap();
            for other in [scope.network(), scope.broadcast()] {
                let theirs = choose(other, family);
                assert_eq!(
                    theirs,
                    (choice, addresses.clone()),
                    "{client} and {other} share a scope but no choice"
                );
            }
            assert!(addresses.iter().all(|address| family.has(*address)));
            assert_eq!(choice.answer == Answer::Addresses, !addresses.is_empty());
            if let Some(region) = choice.region {
                self.answer_is_fit(snapshot, service, region, family, &addresses);
            }
        }
    }

    /// No hard-down address while something eligible exists; nobody is sent where an operator withdrew.
    fn answer_is_fit(
        &self,
        snapshot: &Snapshot,
        service: ServiceId,
        region: RegionId,
        family: Family,
        addresses: &[IpAddr],
    ) {
        let (topology, standing) = (&snapshot.plan.topology, &snapshot.standing);
        let members = &topology.service(service).members;
        let set = snapshot.plan.steering.region_sets().of_service(service);
        // Those of weight 0 are never chosen beside others, and partial drains keep some clients away.
        let weighs = |m: &&Member| m.weight.0 > 0 || members.iter().all(|m| m.weight.0 == 0);
        let eligible = |m: &Member| {
            standing.region(m.region).pool(family).usable.is_eligible()
                && standing.region(m.region).kept_away == 0.0
                && standing.within(service, m.region).is_none()
        };
        if !members.iter().filter(weighs).any(eligible) {
            return;
        }
        let chosen = standing.region(region);
        let forced = chosen.action == Some(Action::Up)
            || standing.within(service, region).is_some_and(|word| word.action == Action::Up);
        let held = standing.is_held_for(service, set, region);
        assert!(
            forced || held || chosen.pool(family).usable.is_eligible(),
            "{} is answered though it is {:?}",
            topology.region(region).name,
            chosen.pool(family).usable
        );
        if forced {
            return;
        }
        for (index, endpoint) in topology.region(region).endpoints.iter().enumerate() {
            let at = EndpointRef { region, index: index as u16 };
            let found = standing.endpoint(at);
            for (address, state) in endpoint.addresses.iter().zip(&found.addresses) {
                let answered = addresses.contains(address) && found.action.is_none();
                assert!(!answered || *state != State::Down(Severity::Hard), "{address} is hard down");
            }
        }
    }
}

fn answer(snapshot: &Snapshot, asked: &Asked) -> (Choice, Vec<IpAddr>) {
    let mut addresses = Vec::new();
    let Snapshot { plan, standing, .. } = snapshot;
    let choice = plan.steering.choose(&plan.topology, standing, asked, &mut addresses, &mut NoTrace);
    (choice, addresses)
}

#[test]
fn days_go_by() {
    let number = |name: &str| env::var(name).ok().and_then(|text| text.parse::<u64>().ok());
    let seeds = match number("SEED") {
        Some(seed) => seed..seed + 1,
        None => 0..number("SEEDS").unwrap_or(SEEDS),
    };
    for seed in seeds {
        let run = catch_unwind(AssertUnwindSafe(|| {
            let mut simulation = Simulation::new(seed);
            (0..STEPS).for_each(|_| simulation.step());
        }));
        assert!(run.is_ok(), "replay with: SEED={seed} cargo test --test it simulation");
    }
}
