//! Simulated days: a seeded run drives the same state machine as a node, answers queries from its snapshots, and checks
//! the invariants in the crate's documentation.
//!
//! On failure the seed is printed; `SEED=n cargo test --test it simulation` replays it. `SEEDS=n` runs more.

mod invariants;
mod world;

use std::collections::{HashMap, HashSet};
use std::env;
use std::net::IpAddr;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::time::Duration;

use portolan::health::{CannotProbe, Failure, Observation, ProbeResult, Severity, State as Health};
use portolan::model::{CheckId, Found, Fraction, Lookup, Mono, Name, Now, Rules, Subject, Target, Unix};
use portolan::snapshot::{Plan, Snapshot};
use portolan::standing::{Action, Override, Standing, Suspected};
use portolan::state::{CheckToRun, EventKind, OverrideChange, OverrideRequest, Rejection, SavedState, State};

use crate::harness::Numbers;
use invariants::Promise;
use world::{Dice, both, plan, reordered, reworded, rules, topology, world};

/// Runs per test; each simulates several days.
const SEEDS: u64 = 300;

/// Steps of a run.
const STEPS: u32 = 300;

const INTERVAL: Duration = Duration::from_secs(5);

/// A node and the state of the simulated world around it.
struct Simulation {
    dice: Dice,
    plan: Arc<Plan>,
    state: State,
    rules: Rules,
    now: Now,
    /// The real condition of each address, which determines what probes find.
    truth: HashMap<IpAddr, Option<Severity>>,
    /// Whether this node has lost its network, and whether it has a route for IPv6.
    is_cut_off: bool,
    has_v6: bool,
    epoch: u64,
    /// The last state reported of each region, to see that transitions skip nothing.
    reported: HashMap<Arc<str>, Health>,
    /// The results of each check so far, counted independently of the code under test.
    results: HashMap<CheckId, Results>,
    /// Answers that nothing but an operator may change while their computed TTL lasts.
    promises: Vec<Promise>,
}

/// The results of a check.
#[derive(Clone, Copy, Default)]
struct Results {
    count: u32,
    /// The latest consecutive failures of one severity.
    failures: u32,
    severity: Option<Severity>,
}

impl Results {
    fn add(&mut self, severity: Option<Severity>) {
        self.count += 1;
        self.failures = match severity {
            None => 0,
            Some(_) if severity == self.severity => self.failures + 1,
            Some(_) => 1,
        };
        self.severity = severity;
    }
}

impl Simulation {
    fn new(seed: u64) -> Self {
        let mut dice = Dice(Numbers(seed));
        let rules = rules(&mut dice);
        let unix = Unix(Duration::from_secs(1_800_000_000));
        let now = Now { mono: Mono(Duration::from_secs(1_000_000)), unix };
        let plan = plan(topology(&mut dice));
        let state = State::new(world(&plan, &rules), SavedState::default(), now);
        let (truth, reported, results, promises) = Default::default();
        let (is_cut_off, has_v6) = (false, true);
        Self {
            dice,
            plan,
            state,
            rules,
            now,
            truth,
            is_cut_off,
            has_v6,
            epoch: 0,
            reported,
            results,
            promises,
        }
    }

    fn snapshot(&self) -> Snapshot {
        let (plan, standing) = (Arc::clone(&self.plan), Arc::clone(self.state.standing()));
        Snapshot { plan, standing, challenges: <_>::default(), epoch: self.state.epoch() }
    }

    fn step(&mut self) {
        let what = self.dice.below(24);
        if (1..=6).contains(&what) {
            self.promises.clear();
        }
        match what {
            0 => self.flip(),
            1 => self.set_override(),
            2 => self.remove_override(),
            3 if self.dice.one_in(4) => self.reload(),
            4 if self.dice.one_in(4) => self.step_clock(),
            5 if self.dice.one_in(3) => self.restart(),
            6 => self.resolve(),
            7 => {
                let minutes = 1 + self.dice.below(30) as u64;
                self.pass(Duration::from_secs(60 * minutes));
            }
            8 if self.dice.one_in(4) => self.is_cut_off = !self.is_cut_off,
            9 if self.dice.one_in(4) => self.has_v6 = !self.has_v6,
            _ => self.probe_all(),
        }
        let held = self.held();
        self.state.tick(self.now);
        self.held_stays(&held);
        self.events();
        self.invariants();
    }

    fn pass(&mut self, time: Duration) {
        self.now = Now { mono: self.now.mono.after(time), unix: self.now.unix.after(time) };
    }

    /// The wall clock is set to another time.
    fn step_clock(&mut self) {
        let by = Duration::from_secs(self.dice.below(7_200) as u64);
        let unix = self.now.unix.0;
        self.now.unix = Unix(if self.dice.one_in(2) { unix + by } else { unix - by });
    }

    /// Something breaks or heals: an address, a family of a region, a whole region, or all of them at once.
    fn flip(&mut self) {
        let standing = Arc::clone(self.state.standing());
        let matter = *self.dice.of(&[None, None, Some(Severity::Soft), Some(Severity::Hard)]);
        let everywhere = self.dice.one_in(4);
        let chosen = self.dice.below(standing.regions.len());
        let (whole, family) = (self.dice.one_in(2), self.dice.one_in(3).then(|| self.dice.one_in(2)));
        for (number, region) in standing.regions.iter().enumerate() {
            if number != chosen && !everywhere {
                continue;
            }
            for it in region.endpoints.iter().flat_map(|endpoint| &endpoint.addresses) {
                if family.is_none_or(|v4| it.address.is_ipv4() == v4) && (whole || self.dice.one_in(3)) {
                    self.truth.insert(it.address, matter);
                }
            }
        }
    }

    fn probe_all(&mut self) {
        self.pass(INTERVAL);
        let held = self.held();
        let before = Arc::clone(self.state.standing());
        let states = self.states();
        let failing = self.failing_regions();
        let checks: Vec<CheckToRun> = self.state.checks_to_run().collect();
        for check in &checks {
            let outcome = self.probe(&check.id.subject);
            if let Ok(observation) = &outcome {
                self.results.entry(check.id.clone()).or_default().add(observation.severity());
            }
            self.state.observe(&check.id, check.generation, outcome.as_ref(), self.now);
        }
        self.verdicts_have_enough_results(&checks, &states);
        self.state.recompute(self.now);
        self.held_stays(&held);
        let now_kept = self.state.standing().suspected == Some(Suspected::KeepsStanding);
        if self.is_cut_off && before.suspected.is_none() && now_kept {
            self.suspicion_keeps_what_served(&before, &failing);
        }
    }

    fn states(&self) -> HashMap<CheckId, Health> {
        self.state.checks(self.now).into_iter().map(|check| (check.id, check.state)).collect()
    }

    /// The regions with a check that has no result, or whose latest result is a failure.
    fn failing_regions(&self) -> HashSet<Arc<str>> {
        let is_failing = |id: &CheckId| self.results.get(id).is_none_or(|it| it.failures > 0);
        let failing = self.state.checks_to_run().filter(|check| is_failing(&check.id));
        failing
            .filter_map(|check| match check.id.subject {
                Subject::Address { region, .. } => Some(region),
                Subject::Backend { .. } | Subject::Region(_) | Subject::Anchor(_) => None,
            })
            .collect()
    }

    /// What a probe finds: the real condition, or occasionally a slow answer or a lost packet.
    fn probe(&mut self, subject: &Subject) -> Result<Observation, CannotProbe> {
        let address = match subject {
            Subject::Address { address, .. } => Some(*address),
            Subject::Backend { .. } | Subject::Region(_) | Subject::Anchor(_) => None,
        };
        if !self.has_v6 && address.is_some_and(|it| it.is_ipv6()) {
            return Err(CannotProbe { reason: "network unreachable".into() });
        }
        let took = Duration::from_millis(if self.dice.one_in(30) { 900 } else { 20 });
        let matter = address.and_then(|it| self.truth.get(&it).copied().flatten());
        let lost = (self.is_cut_off || self.dice.one_in(40)).then_some(Severity::Hard);
        let failure = lost.or(matter).map(|severity| Failure { severity, reason: "broken".into() });
        Ok(Observation::Probe(ProbeResult { took, rtt: None, failure }))
    }

    /// A host gets other addresses, or cannot be resolved. Regions that served keep serving.
    fn resolve(&mut self) {
        let topology = Arc::clone(&self.plan.topology);
        let hosts: Vec<&Name> = topology.resolved_hosts().into_iter().collect();
        if hosts.is_empty() {
            return;
        }
        let host = (*self.dice.of(&hosts)).clone();
        let number = 100 + self.dice.below(100) as u8;
        let found = |address: IpAddr| {
            Ok(Found { addresses: vec![address], ttl: Some(Duration::from_secs(30)), ..Found::default() })
        };
        // Always of both families: if a host loses a family, its answers are really gone.
        let [v4, v6] = both(number);
        let lookup = match self.dice.below(4) {
            0 => Lookup { v4: Err("timed out".into()), v6: Err("timed out".into()) },
            _ => Lookup { v4: found(v4), v6: found(v6) },
        };
        let before = Arc::clone(self.state.standing());
        self.state.resolve(host, lookup, self.now);
        self.state.recompute(self.now);
        self.serves_as_before(&before, "a host has other addresses");
    }

    fn set_override(&mut self) {
        let topology = Arc::clone(&self.plan.topology);
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
                let region = topology.region(member).name.clone();
                Target::Service { service: service.name.clone(), region }
            }
        };
        let part = Action::Drain(Fraction::from_percent(30.0).unwrap());
        let request = OverrideRequest {
            target,
            action: *self.dice.of(&[Action::DRAIN, Action::DRAIN, part, Action::Up, Action::Down]),
            lasts: self.dice.one_in(2).then(|| Duration::from_secs(1 + self.dice.below(3_600) as u64)),
            reason: None,
            override_safety: self.dice.one_in(8),
            by: "the simulation".into(),
        };
        let tried = OverrideChange::Set(request.clone());
        self.change(tried, request.override_safety, |state, now| state.set_override(request, now).map(drop));
    }

    fn remove_override(&mut self) {
        let overrides: Vec<(u64, Target)> =
            self.state.overrides().iter().map(|o| (o.id, o.target.clone())).collect();
        if !overrides.is_empty() {
            let (id, target) = self.dice.of(&overrides).clone();
            let set_aside = self.dice.one_in(8);
            let by = "the simulation".to_owned();
            let tried = OverrideChange::Restore(target);
            self.change(tried, set_aside, |state, now| {
                state.remove_override(id, by, set_aside, now).map(drop)
            });
        }
    }

    /// Changes overrides: a refused change has no effect, an accepted one leaves every client a region. Trying it before
    /// changes nothing, and says what happens.
    fn change(
        &mut self,
        tried: OverrideChange,
        set_aside: bool,
        change: impl FnOnce(&mut State, Now) -> Result<(), Rejection>,
    ) {
        self.state.recompute(self.now);
        let before = self.snapshot();
        let preview = self.state.preview(tried, self.now).expect("the change makes sense");
        assert_eq!(before.epoch, self.state.epoch(), "trying a change made one");
        assert_eq!(preview.before, before.standing);
        let changed = change(&mut self.state, self.now);
        match &changed {
            Ok(()) => {
                assert_eq!(preview.after, **self.state.standing(), "it did something else than when tried");
                assert!(set_aside || preview.refusal.is_none(), "{:?}", preview.refusal);
            }
            // It goes on with what `all_down` would answer.
            Err(Rejection::Unsafe(why)) => {
                let refusal = preview.refusal.as_deref();
                assert!(refusal.is_some_and(|it| why.starts_with(it)), "{refusal:?}, then {why}");
            }
            Err(other) => panic!("{other}"),
        }
        if changed.is_err() {
            assert_eq!(before.epoch, self.state.epoch(), "a refused override changed something");
        } else if !set_aside && self.rules.min_regions > 0 {
            self.leaves_a_region(&before);
        }
    }

    /// Loads another config: occasionally one that differs only in its probes.
    fn reload(&mut self) {
        self.state.recompute(self.now);
        let before = self.states();
        let standing = Arc::clone(self.state.standing());
        let clients: Vec<IpAddr> = (0..8).map(|_| self.client()).collect();
        let answers = self.answers(&clients);
        let is_reworded = self.dice.one_in(2);
        let is_reordered = is_reworded && self.dice.one_in(4);
        let topology = if is_reordered {
            reordered(&mut self.dice, &self.plan.topology)
        } else if is_reworded {
            reworded(&mut self.dice, &self.plan.topology)
        } else {
            self.rules = rules(&mut self.dice);
            topology(&mut self.dice)
        };
        self.plan = plan(topology);
        let reloaded = EventKind::Reloaded { warnings: Vec::new(), by: String::new() };
        self.state.reload(world(&self.plan, &self.rules), reloaded, self.now);
        for check in self.state.checks(self.now) {
            if let Some(state) = before.get(&check.id) {
                assert_eq!(*state, check.state, "{} lost its verdict in a reload", check.id);
            }
        }
        if is_reordered {
            assert_eq!(self.answers(&clients), answers, "endpoints are listed in another order");
        }
        if is_reworded {
            self.serves_as_before(&standing, "probes are written in another way");
        } else {
            self.reported.clear();
        }
    }

    /// The process stops and restarts a little later, with the content of its journal.
    fn restart(&mut self) {
        let seen = self.now.unix;
        let verdicts = self.state.verdicts(self.now).into_iter().map(|(id, memory)| (id, memory, seen));
        let overrides: Vec<Override> = self.state.overrides().to_vec();
        let last_override = overrides.iter().map(|o| o.id).max().unwrap_or(0);
        let known = self.state.hosts().into_iter().filter(|it| !it.addresses.is_empty());
        let hosts = known.map(|it| (it.host, it.addresses)).collect();
        let remembered = SavedState { overrides, last_override, verdicts: verdicts.collect(), hosts };
        let before = self.states();
        self.results.clear();
        self.pass(Duration::from_secs(3));
        let mono = Mono(Duration::from_secs(5_000_000 + self.dice.below(1_000_000) as u64));
        self.now = Now { mono, ..self.now };
        self.state = State::new(world(&self.plan, &self.rules), remembered, self.now);
        for check in self.state.checks(self.now) {
            // Addresses that a host no longer has are forgotten.
            if let Some(before) = before.get(&check.id) {
                assert_eq!(*before, check.state, "{} lost its verdict in a restart", check.id);
            }
        }
        self.epoch = 0;
        self.reported.clear();
    }

    fn events(&mut self) {
        for event in self.state.take_events() {
            if let EventKind::Transition { subject: Subject::Region(region), from, to, .. } = event {
                assert_ne!(from, to);
                if let Some(last) = self.reported.insert(Arc::clone(&region), to) {
                    assert_eq!(last, from, "region {region} skipped a state");
                }
            }
        }
    }

    /// The regions held before a step that may release them.
    fn held(&self) -> (Arc<Standing>, Arc<Plan>) {
        (Arc::clone(self.state.standing()), Arc::clone(&self.plan))
    }
}

#[test]
fn invariants_hold_over_simulated_days() {
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
