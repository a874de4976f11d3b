//! The verdict of every check: one probe looking at one address.

use std::collections::HashMap;
use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;

use crate::health::{self, Observation, State, Verdict};
use crate::model::{EndpointRef, Now, Probe, Topology, Unix};
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
    /// Time of the last success's TCP handshake.
    rtt: Option<Duration>,
    last: Option<Unix>,
    since: Unix,
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
    /// When the last observation came.
    pub last_probe: Option<Unix>,
}

impl Checks {
    /// The checks of a topology; those that were there before keep their verdicts.
    pub(super) fn of(topology: &Topology, before: &Self, now: Now) -> Self {
        let probes: Vec<Arc<Probe>> = topology.probes.iter().cloned().map(Arc::new).collect();
        let mut made = Self::default();
        for region in &topology.regions {
            let mut endpoints = Vec::with_capacity(region.endpoints.len());
            for endpoint in &region.endpoints {
                let mut addresses = Vec::with_capacity(endpoint.addresses.len());
                for address in &endpoint.addresses {
                    let start = made.checks.len();
                    for probe in &endpoint.probes {
                        let probe = Arc::clone(&probes[usize::from(probe.0)]);
                        let key = CheckKey {
                            region: region.name.clone(),
                            endpoint: endpoint.name.clone(),
                            address: *address,
                            probe: probe.name.clone(),
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
            Some(index) => Check { probe, ..self.checks[*index].clone() },
            None => {
                Check { key, probe, verdict: Verdict::new(now.mono), rtt: None, last: None, since: now.unix }
            }
        }
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = &Check> {
        self.checks.iter()
    }

    /// Takes an observation in. Whether the check's state has changed by it; one for a check that is gone
    /// changes nothing.
    pub(super) fn observe(&mut self, key: &CheckKey, observation: &Observation, now: Now) -> bool {
        let Some(check) = self.by_key.get(key).map(|index| &mut self.checks[*index]) else { return false };
        let before = check.verdict.state();
        let verdict = std::mem::replace(&mut check.verdict, Verdict::new(now.mono));
        check.verdict = verdict.observe(observation, &check.probe.thresholds, now.mono);
        check.last = Some(now.unix);
        if observation.failure.is_none() {
            check.rtt = observation.timings.connect;
        }
        let changed = check.verdict.state() != before;
        if changed {
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
            evidence: check.verdict.evidence().to_string(),
            rtt: check.rtt,
            last_probe: check.last,
        };
        self.checks.iter().map(status).collect()
    }
}
