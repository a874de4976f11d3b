//! The addresses of endpoints and backends, and the checks of each.

use std::collections::HashMap;
use std::net::IpAddr;
use std::ops::Range;
use std::sync::Arc;

use super::checks::{Check, CheckStatus, Checks, CutOff, Index};
use super::hosts::Hosts;
use super::suspicion::Suspicion;
use crate::health::{self, CannotProbe, Part, State};
use crate::model::{
    BackendRef, CheckId, Condition, Due, Endpoint, EndpointRef, Kind, Mono, Name, Now, Probe, ProbeId, Rules,
    Source, Subject, Thresholds, Topology, Unix,
};
use crate::standing::AddressStanding;

/// Reference to what has addresses.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum TargetRef {
    Endpoint(EndpointRef),
    Backend(BackendRef),
}

/// The names of a target, which stay the same over a reload.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
enum TargetName {
    Endpoint { region: Arc<str>, endpoint: Arc<str> },
    Backend { pool: Arc<str>, backend: Arc<str> },
}

impl TargetName {
    fn subject(&self, address: IpAddr) -> Subject {
        match self.clone() {
            Self::Endpoint { region, endpoint } => Subject::Address { region, endpoint, address },
            Self::Backend { pool, backend } => Subject::Backend { pool, backend, address },
        }
    }
}

/// A target as the config describes it.
struct Described<'a> {
    at: TargetRef,
    name: TargetName,
    listed: &'a [IpAddr],
    /// The host that has the addresses, if they are not listed.
    host: Option<&'a Name>,
    condition: &'a Condition,
    /// The port where a probe names none.
    port: Option<u16>,
}

/// The endpoints and backends of a topology with their current addresses, and all checks, those of anchors included.
#[derive(Clone, Debug, Default)]
pub(super) struct Targets {
    pub(super) checks: Checks,
    /// By region, then by index of the endpoint.
    endpoints: Vec<Vec<Addresses>>,
    /// By pool, then by index of the backend.
    backends: Vec<Vec<Addresses>>,
    /// By check: its target and the index of the address there; `None` for anchors.
    places: Vec<Option<(TargetRef, usize)>>,
    /// The checks of anchors.
    pub(super) anchors: Range<Index>,
    /// To carry addresses over a reload.
    by_name: HashMap<TargetName, TargetRef>,
}

/// The addresses of a target: first those of the config or of its host, then those that its host no longer has.
#[derive(Clone, Debug)]
struct Addresses {
    list: Vec<Address>,
    /// The condition for an address to be healthy.
    condition: Condition,
    /// The probes of each address, in the order of its checks.
    probes: Vec<ProbeId>,
}

#[derive(Clone, Debug)]
struct Address {
    address: IpAddr,
    /// Whether its host no longer has it. It is kept until one of the host's current addresses has a result.
    is_stale: bool,
    checks: Range<Index>,
    /// Its standing under the probes of the previous config. It counts until one of the current probes has a result.
    carried: Option<AddressStanding>,
    served_until: Option<Unix>,
}

/// How an anchor is probed: once a second, by a TCP handshake.
const ANCHOR_INTERVAL: std::time::Duration = std::time::Duration::from_secs(1);

/// What targets are built from.
pub(super) struct Sources<'a> {
    pub(super) topology: &'a Topology,
    pub(super) hosts: &'a Hosts,
    pub(super) rules: &'a Rules,
    /// The previous targets. `suspicion` decides which of their failures steering disregards.
    pub(super) before: &'a Targets,
    pub(super) suspicion: &'a Suspicion,
    pub(super) now: Now,
}

impl Targets {
    /// Builds the targets of a topology. Checks that existed before keep their verdicts; addresses whose probes are all
    /// new keep their state until the first result.
    pub(super) fn of(sources: &Sources<'_>) -> Self {
        let Sources { topology, rules, before, now, .. } = *sources;
        let probes: Vec<Arc<Probe>> = topology.probes.iter().cloned().map(Arc::new).collect();
        let mut targets = Self::default();
        for id in topology.region_ids() {
            let region = topology.region(id);
            let region_name: Arc<str> = region.name.as_str().into();
            let mut endpoints = Vec::with_capacity(region.endpoints.len());
            for (index, endpoint) in region.endpoints.iter().enumerate() {
                let (region, endpoint_name) = (Arc::clone(&region_name), endpoint.name.as_str().into());
                let described = Described {
                    at: TargetRef::Endpoint(EndpointRef { region: id, index: index as u16 }),
                    name: TargetName::Endpoint { region, endpoint: endpoint_name },
                    listed: endpoint.listed(),
                    host: endpoint.resolved_host(),
                    condition: &endpoint.healthy_when,
                    port: None,
                };
                endpoints.push(targets.add(sources, described, &probes));
            }
            targets.endpoints.push(endpoints);
        }
        for id in topology.pool_ids() {
            let pool = topology.pool(id);
            let pool_name: Arc<str> = pool.name.as_str().into();
            let mut backends = Vec::with_capacity(pool.backends.len());
            for (index, backend) in pool.backends.iter().enumerate() {
                let described = Described {
                    at: TargetRef::Backend(BackendRef { pool: id, index: index as u16 }),
                    name: TargetName::Backend {
                        pool: Arc::clone(&pool_name),
                        backend: backend.name.as_str().into(),
                    },
                    listed: backend.listed(),
                    host: backend.resolved_host(),
                    condition: &pool.healthy_when,
                    port: Some(backend.port),
                };
                backends.push(targets.add(sources, described, &probes));
            }
            targets.backends.push(backends);
        }
        let start = targets.checks.list.len() as Index;
        for anchor in rules.suspect_self.iter().flat_map(|rule| &rule.anchors) {
            let name: Arc<str> = format!("tcp:{anchor}").into();
            let id = CheckId { subject: Subject::Anchor(Arc::clone(&name)), source: Source::Probe(name) };
            targets.checks.add(&before.checks, id, &Arc::new(anchor_probe(anchor.port())), now);
            targets.places.push(None);
        }
        targets.anchors = start..targets.checks.list.len() as Index;
        targets
    }

    /// Adds the checks of a target, and returns its addresses.
    fn add(&mut self, sources: &Sources<'_>, target: Described<'_>, probes: &[Arc<Probe>]) -> Addresses {
        let Sources { before, now, .. } = *sources;
        let Described { at, name, listed, host, condition, port } = target;
        let known = before.by_name.get(&name).copied();
        let current = host.map_or(listed, |host| sources.hosts.addresses(host));
        let stale = known.map(|known| before.stale(known, host.is_some(), current)).unwrap_or_default();
        let carried = known.map(|known| before.standing(known, sources.suspicion)).unwrap_or_default();
        let mut addresses =
            Addresses { list: Vec::new(), condition: condition.clone(), probes: condition.probes() };
        let probes: Vec<Arc<Probe>> =
            addresses.probes.iter().map(|id| at_port(&probes[usize::from(id.0)], port)).collect();
        let all = current.iter().map(|address| (*address, false)).chain(stale.iter().map(|it| (*it, true)));
        for (index, (address, is_stale)) in all.enumerate() {
            let start = self.checks.list.len() as Index;
            for probe in &probes {
                let source = Source::Probe(probe.name.as_str().into());
                let id = CheckId { subject: name.subject(address), source };
                self.checks.add(&before.checks, id, probe, now);
                self.places.push(Some((at, index)));
            }
            let checks = start..self.checks.list.len() as Index;
            let carried = carried.iter().find(|it| it.address == address).copied();
            if let Some(kept) = carried.filter(|it| it.state.is_down() && it.used.serves()) {
                let cut_off = CutOff { since: now, before: kept.used };
                checks.clone().for_each(|index| self.checks.inherit(index, cut_off));
            }
            let served_until = carried.and_then(|it| it.served_until);
            addresses.list.push(Address { address, is_stale, checks, carried, served_until });
        }
        self.by_name.insert(name, at);
        addresses
    }

    /// The addresses to keep although the host no longer has them: all of them, until one of its current addresses
    /// has a result.
    fn stale(&self, known: TargetRef, is_resolved: bool, current: &[IpAddr]) -> Vec<IpAddr> {
        let known = self.target(known);
        if !is_resolved || known.probes.is_empty() || current.is_empty() {
            return Vec::new();
        }
        let is_current = |it: &&Address| current.contains(&it.address);
        if known.list.iter().filter(is_current).any(|it| self.found(known, it) != State::Unknown) {
            return Vec::new();
        }
        known.list.iter().filter(|it| !current.contains(&it.address)).map(|it| it.address).collect()
    }

    /// Whether a target keeps stale addresses that it no longer needs.
    pub(super) fn has_outlived_addresses(&self, at: TargetRef) -> bool {
        let target = self.target(at);
        let is_known = |it: &Address| !it.is_stale && self.found(target, it) != State::Unknown;
        target.list.iter().any(|it| it.is_stale) && target.list.iter().any(is_known)
    }

    fn target(&self, at: TargetRef) -> &Addresses {
        match at {
            TargetRef::Endpoint(at) => &self.endpoints[usize::from(at.region.0)][usize::from(at.index)],
            TargetRef::Backend(at) => &self.backends[usize::from(at.pool.0)][usize::from(at.index)],
        }
    }

    /// The target of a check and the index of the address there; `None` for anchors.
    pub(super) fn place(&self, check: Index) -> Option<(TargetRef, usize)> {
        self.places[check as usize]
    }

    /// Records that an address stopped serving.
    pub(super) fn stopped_serving(&mut self, (at, address): (TargetRef, usize), now: Unix) {
        let target = match at {
            TargetRef::Endpoint(at) => &mut self.endpoints[usize::from(at.region.0)][usize::from(at.index)],
            TargetRef::Backend(at) => &mut self.backends[usize::from(at.pool.0)][usize::from(at.index)],
        };
        target.list[address].served_until = Some(now);
    }

    /// The state that probes found for an address.
    pub(super) fn found_at(&self, (at, address): (TargetRef, usize)) -> State {
        let target = self.target(at);
        self.found(target, &target.list[address])
    }

    fn found(&self, target: &Addresses, address: &Address) -> State {
        let carried = address.carried.map(|it| it.state);
        self.state(target, address, carried, &|check| check.verdict.state())
    }

    /// The standing of the addresses of a target.
    pub(super) fn standing(&self, at: TargetRef, suspicion: &Suspicion) -> Box<[AddressStanding]> {
        let target = self.target(at);
        let mut found: Box<[AddressStanding]> = target
            .list
            .iter()
            .map(|address| AddressStanding {
                address: address.address,
                state: self.found(target, address),
                used: self.used(target, address, suspicion),
                observed: !self.is_blind(address),
                served_until: address.served_until,
            })
            .collect();
        follow_siblings(&mut found);
        found
    }

    fn used(&self, target: &Addresses, address: &Address, suspicion: &Suspicion) -> State {
        let carried = |it: AddressStanding| if suspicion.is_active() { it.used } else { it.state };
        self.state(target, address, address.carried.map(carried), &|check| suspicion.state(check))
    }

    /// Evaluates the target's condition over the states of an address's checks. Without a result, `carried` applies.
    fn state(
        &self,
        target: &Addresses,
        address: &Address,
        carried: Option<State>,
        of: &dyn Fn(&Check) -> State,
    ) -> State {
        let leaf = |leaf: &Condition| Some(of(&self.checks.list[target.check(address, leaf)? as usize]));
        match health::evaluate(&target.condition, &leaf) {
            None => State::Up,
            Some(State::Unknown) => carried.unwrap_or_default(),
            Some(state) => state,
        }
    }

    /// The check that decides about an address, and the state that this leads to; `None` without checks.
    fn deciding(&self, target: &Addresses, address: &Address) -> Option<Part<Mono, Index>> {
        health::decide(&target.condition, &|leaf| {
            let by = target.check(address, leaf)?;
            let verdict = &self.checks.list[by as usize].verdict;
            Some(Part { state: verdict.state(), since: verdict.since, by })
        })
    }

    /// When the check that decides about an address entered its state.
    pub(super) fn decided_at(&self, at: EndpointRef, address: IpAddr) -> Mono {
        let target = self.target(TargetRef::Endpoint(at));
        let found = target.list.iter().find(|it| it.address == address);
        found.and_then(|it| self.deciding(target, it)).map_or_else(Mono::default, |it| it.since)
    }

    fn is_blind(&self, address: &Address) -> bool {
        let checks = &self.checks.list[address.checks.start as usize..address.checks.end as usize];
        checks.iter().any(|check| check.blind.is_some())
    }

    /// The earliest time at which an endpoint's state can change.
    pub(super) fn due(&self, at: EndpointRef, endpoint: &Endpoint, hosts: &Hosts) -> Due {
        let checks = self.target(TargetRef::Endpoint(at)).list.iter().flat_map(|it| it.checks.clone());
        let due = checks.fold(Due::NEVER, |due, index| due.min(self.checks.list[index as usize].due));
        endpoint.resolved_host().map_or(due, |host| due.min(hosts.due(host)))
    }

    /// The earliest time at which a failing endpoint's severity can change.
    pub(super) fn severity_due(&self, at: EndpointRef) -> Due {
        let checks = self.target(TargetRef::Endpoint(at)).list.iter().flat_map(|it| it.checks.clone());
        checks.fold(Due::NEVER, |due, index| due.min(self.checks.list[index as usize].severity_due))
    }

    /// Whether hard failures of an endpoint may turn out to be this node's own: they began within the time in which a
    /// lost network shows in all checks.
    pub(super) fn is_just_cut_off(&self, at: EndpointRef, now: Unix) -> bool {
        let checks = self.target(TargetRef::Endpoint(at)).list.iter().flat_map(|it| it.checks.clone());
        let mut cut_off = checks.filter_map(|index| self.checks.list[index as usize].cut_off);
        cut_off.any(|it| now.since(it.since.unix) <= self.checks.longest * 2)
    }

    /// The endpoints with checks that are cut off.
    pub(super) fn cut_off(&self) -> impl Iterator<Item = EndpointRef> {
        let checks = self.checks.list.iter().zip(&self.places).filter(|(check, _)| check.cut_off.is_some());
        checks.filter_map(|(_, place)| match place {
            Some((TargetRef::Endpoint(at), _)) => Some(*at),
            Some((TargetRef::Backend(_), _)) | None => None,
        })
    }

    /// What led to this state of an address, as a clause: the evidence of the check that decides, with its name if the
    /// address has several.
    pub(super) fn evidence(&self, at: TargetRef, address: IpAddr, state: State) -> String {
        let target = self.target(at);
        let found = target.list.iter().find(|it| it.address == address);
        let Some(found) = found else { return String::new() };
        let Some(deciding) = self.deciding(target, found) else { return "no probe: always up".into() };
        let checks = &self.checks.list[found.checks.start as usize..found.checks.end as usize];
        let named = |check: &Check, what: String| {
            if checks.len() == 1 { what } else { format!("{}: {what}", check.id.source) }
        };
        let blind = checks.iter().find_map(|check| Some((check, check.blind.as_ref()?)));
        match blind.filter(|_| deciding.state != state) {
            Some((check, CannotProbe { reason })) => {
                named(check, format!("cannot be probed: {reason}; its target's other addresses decide"))
            }
            None => {
                let check = &self.checks.list[deciding.by as usize];
                named(check, check.verdict.evidence().to_string())
            }
        }
    }

    /// The status of each check.
    pub(super) fn status(&self, now: Now) -> Vec<CheckStatus> {
        let mut all = self.checks.status(now);
        for target in self.endpoints.iter().chain(&self.backends).flatten() {
            for deciding in target.list.iter().filter_map(|address| self.deciding(target, address)) {
                all[deciding.by as usize].decides = Some(deciding.state);
            }
        }
        all
    }
}

impl Addresses {
    /// The check of an address that a leaf of the condition names.
    fn check(&self, address: &Address, leaf: &Condition) -> Option<Index> {
        let Condition::Check(probe) = leaf else { return None };
        let offset = self.probes.iter().position(|it| it == probe)?;
        Some(address.checks.start + offset as Index)
    }
}

/// Gives each address that this node cannot probe the best state of its target's other addresses, unless it is known
/// to be worse.
fn follow_siblings(addresses: &mut [AddressStanding]) {
    let siblings = addresses.iter().filter(|it| it.observed).map(|it| (it.state, it.used));
    let Some(best) = siblings.reduce(|one, two| (one.0.min(two.0), one.1.min(two.1))) else { return };
    for unobserved in addresses.iter_mut().filter(|it| !it.observed) {
        let follow = |own: State, best: State| if own == State::Unknown { best } else { own.max(best) };
        unobserved.state = follow(unobserved.state, best.0);
        unobserved.used = follow(unobserved.used, best.1);
    }
}

/// The probe of a target: of a backend at its own port, unless the probe names one.
fn at_port(probe: &Arc<Probe>, port: Option<u16>) -> Arc<Probe> {
    port.map_or_else(|| Arc::clone(probe), |port| Arc::new(probe.at(port)))
}

fn anchor_probe(port: u16) -> Probe {
    Probe {
        name: "anchor".into(),
        kind: Kind::Tcp { port },
        port_is_given: true,
        interval: ANCHOR_INTERVAL,
        timeout: ANCHOR_INTERVAL,
        thresholds: Thresholds {
            fall: 1,
            clear: 1,
            rise: 1,
            hold: std::time::Duration::ZERO,
            startup: None,
            slow: None,
        },
    }
}
