//! The verdict of every check: one probe looking at one address.

use std::collections::HashMap;
use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;

use crate::health::{self, Observation, State, Verdict};
use crate::model::{Due, EndpointRef, Now, Probe, Topology, Unix};
use crate::probe::CheckKey;

/// All checks of a topology, in order of region, endpoint, address and probe.
#[derive(Debug, Default)]
pub(super) struct Checks {
    checks: Vec<Check>,
    by_key: HashMap<CheckKey, usize>,
    /// By region, endpoint and address: the checks that look at it.
    by_address: Vec<Vec<Vec<Range<usize>>>>,
}

/// A check and what came of it so far.
#[derive(Clone, Debug)]
pub(super) struct Check {
    pub(super) key: CheckKey,
    pub(super) probe: Arc<Probe>,
    verdict: Verdict,
    since: Unix,
    /// When that can change at the earliest, as known after the last look.
    due: Due,
    /// TCP handshake of the last success.
    rtt: Option<Duration>,
    /// Time the last look took.
    took: Option<Duration>,
    last: Option<Unix>,
    last_success: Option<Unix>,
    failing_since: Option<Unix>,
}

/// What came of a check, for status and explain.
#[derive(Clone, Debug, PartialEq)]
pub struct CheckStatus {
    /// Which check.
    pub key: CheckKey,
    /// The state.
    pub state: State,
    /// Since when.
    pub since: Unix,
    /// Why, in words.
    pub evidence: String,
    /// How long the last successful TCP handshake took.
    pub rtt: Option<Duration>,
    /// How long the last look took.
    pub took: Option<Duration>,
    /// When the last look ended.
    pub last_probe: Option<Unix>,
    /// When the last success ended.
    pub last_success: Option<Unix>,
    /// When the first of the failures since then ended; `None` while it succeeds.
    pub failing_since: Option<Unix>,
}

/// What an observation has changed.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Changed {
    /// The check's state.
    pub(super) state: bool,
    /// When that can change at the earliest.
    pub(super) due: bool,
}

impl Check {
    /// What led to its state, and what speaks against it by now.
    fn evidence(&self) -> String {
        let evidence = self.verdict.evidence();
        if self.verdict.state().serves() && self.verdict.failures().count > 0 {
            format!("{evidence}; lately {}", self.verdict.failures())
        } else {
            evidence.to_string()
        }
    }
}

impl Checks {
    /// The checks of a topology; those that were there before keep their verdicts.
    pub(super) fn of(topology: &Topology, before: &Self, now: Now) -> Self {
        let probes: Vec<Arc<Probe>> = topology.probes.iter().cloned().map(Arc::new).collect();
        let mut made = Self::default();
        for region in &topology.regions {
            let mut endpoints = Vec::with_capacity(region.endpoints.len());
            let region_name: Arc<str> = region.name.as_str().into();
            for endpoint in &region.endpoints {
                let endpoint_name: Arc<str> = endpoint.name.as_str().into();
                let mut addresses = Vec::with_capacity(endpoint.addresses.len());
                for address in &endpoint.addresses {
                    let start = made.checks.len();
                    for probe in &endpoint.probes {
                        let probe = Arc::clone(&probes[usize::from(probe.0)]);
                        let key = CheckKey {
                            region: Arc::clone(&region_name),
                            endpoint: Arc::clone(&endpoint_name),
                            address: *address,
                            probe: probe.name.as_str().into(),
                        };
                        made.add(before.carry_over(key, probe, now));
                    }
                    addresses.push(start..made.checks.len());
                }
                endpoints.push(addresses);
            }
            made.by_address.push(endpoints);
        }
        made
    }

    fn add(&mut self, check: Check) {
        self.by_key.insert(check.key.clone(), self.checks.len());
        self.checks.push(check);
    }

    fn carry_over(&self, key: CheckKey, probe: Arc<Probe>, now: Now) -> Check {
        match self.by_key.get(&key) {
            Some(index) => {
                let before = self.checks[*index].clone();
                // Under other thresholds only the next look can tell.
                let due = if *before.probe == *probe { before.due } else { Due::ANY_TIME };
                Check { probe, due, ..before }
            }
            None => {
                let verdict = Verdict::new(now.mono);
                Check {
                    key,
                    probe,
                    verdict,
                    since: now.unix,
                    due: Due::ANY_TIME,
                    rtt: None,
                    took: None,
                    last: None,
                    last_success: None,
                    failing_since: None,
                }
            }
        }
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = &Check> {
        self.checks.iter()
    }

    /// Takes an observation in; one for a check that is gone changes nothing.
    pub(super) fn observe(&mut self, key: &CheckKey, observation: &Observation, now: Now) -> Changed {
        let Some(check) = self.by_key.get(key).map(|index| &mut self.checks[*index]) else {
            return Changed::default();
        };
        let (before, due_before) = (check.verdict.state(), check.due);
        let verdict = std::mem::replace(&mut check.verdict, Verdict::new(now.mono));
        check.verdict = verdict.observe(observation, &check.probe.thresholds, now.mono);
        check.due = check.verdict.due(&check.probe, now);
        check.last = Some(now.unix);
        check.took = Some(observation.timings.total());
        if observation.failure.is_none() {
            check.rtt = observation.timings.connect;
            check.last_success = Some(now.unix);
            check.failing_since = None;
        } else {
            check.failing_since.get_or_insert(now.unix);
        }
        let changed = Changed { state: check.verdict.state() != before, due: check.due != due_before };
        if changed.state {
            check.since = now.unix;
        }
        changed
    }

    /// Whether every check has been looked at once.
    pub(super) fn all_seen(&self) -> bool {
        self.checks.iter().all(|check| check.last.is_some())
    }

    /// The state of an address: the worst of its checks.
    pub(super) fn state(&self, at: EndpointRef, address: usize) -> State {
        health::worst(self.of_address(at, address).iter().map(|check| check.verdict.state()))
    }

    /// When an address's state can change at the earliest.
    pub(super) fn due(&self, at: EndpointRef, address: usize) -> Due {
        self.of_address(at, address).iter().fold(Due::NEVER, |due, check| due.min(check.due))
    }

    /// What led to an address's state, in words: the evidence of its worst check, named if it has several.
    pub(super) fn evidence(&self, at: EndpointRef, address: usize) -> String {
        let checks = self.of_address(at, address);
        let Some(worst) = checks.iter().max_by_key(|check| check.verdict.state()) else {
            return "no probe: always up".into();
        };
        let evidence = worst.verdict.evidence();
        if checks.len() == 1 { evidence.to_string() } else { format!("{}: {evidence}", worst.key.probe) }
    }

    fn of_address(&self, at: EndpointRef, address: usize) -> &[Check] {
        let range = &self.by_address[usize::from(at.region.0)][usize::from(at.index)][address];
        &self.checks[range.clone()]
    }

    pub(super) fn status(&self) -> Vec<CheckStatus> {
        let status = |check: &Check| CheckStatus {
            key: check.key.clone(),
            state: check.verdict.state(),
            since: check.since,
            evidence: check.evidence(),
            rtt: check.rtt,
            took: check.took,
            last_probe: check.last,
            last_success: check.last_success,
            failing_since: check.failing_since,
        };
        self.checks.iter().map(status).collect()
    }
}
