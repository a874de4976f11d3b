//! What the API reports about regions, services and overrides.

use std::collections::HashMap;
use std::net::{IpAddr, SocketAddr};

use super::dto;
use super::load::Load;
use crate::model::{
    Condition, EndpointRef, Family, Member, Name, PoolId, RegionId, Rule, ServiceId, Subject, Target, Unix,
};
use crate::safety::{self, Unserved};
use crate::snapshot::Snapshot;
use crate::standing::{AddressStanding, Ejected, Override, RegionStanding, Standing, Suspected, Usable};
use crate::state::{CheckStatus, HostStatus, timestamp};

/// What is known at one moment. Everything is found by index, so that each part takes time in proportion to its size.
pub(super) struct View<'a> {
    snapshot: &'a Snapshot,
    checks: HashMap<(Owner<'a>, IpAddr), Vec<&'a CheckStatus>>,
    /// A check that this node cannot make, and how many there are.
    blind: Option<(&'a CheckStatus, usize)>,
    hosts: HashMap<&'a Name, &'a HostStatus>,
    overrides: HashMap<&'a Target, &'a Override>,
    /// By [`RegionId`].
    held: Vec<Option<Rule>>,
    now: Unix,
}

/// What has an address.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
enum Owner<'a> {
    Endpoint { region: &'a str, endpoint: &'a str },
    Backend { pool: &'a str, backend: &'a str },
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
            let at = match &check.id.subject {
                Subject::Address { region, endpoint, address } => {
                    (Owner::Endpoint { region, endpoint }, *address)
                }
                Subject::Backend { pool, backend, address } => (Owner::Backend { pool, backend }, *address),
                Subject::Region(_) | Subject::Anchor(_) => continue,
            };
            by_address.entry(at).or_default().push(check);
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
        load: &Load,
    ) -> dto::Status {
        dto::Status {
            node,
            regions: self.regions(),
            services: self.services(),
            pools: self.pools(load),
            listeners: self.snapshot.plan.proxy.listeners().iter().map(Into::into).collect(),
            alarms: [self.alarms(), engine_alarms].concat(),
            certificates: Vec::new(),
            challenges: self.snapshot.challenges.iter().map(Into::into).collect(),
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

    fn pools(&self, load: &Load) -> Vec<dto::Pool> {
        self.snapshot.plan.topology.pool_ids().map(|id| self.pool(id, load)).collect()
    }

    fn pool(&self, id: PoolId, load: &Load) -> dto::Pool {
        let pool = self.snapshot.plan.topology.pool(id);
        let standing = self.snapshot.standing.pool(id);
        let backend = |index: usize| {
            let (backend, state) = (&pool.backends[index], &standing.backends[index]);
            let target = Target::Backend { pool: pool.name.clone(), backend: backend.name.clone() };
            let owner = Owner::Backend { pool: &pool.name, backend: &backend.name };
            let probed = pool.healthy_when != Condition::ALWAYS;
            let address = |it: &AddressStanding| {
                let key = (pool.name.clone(), SocketAddr::new(it.address, backend.port));
                let load = load.backends.get(&key).copied().unwrap_or_default();
                dto::Address { load: Some(load), ..self.address(owner, it, probed) }
            };
            dto::Backend {
                name: backend.name.clone(),
                verdict: state.state.into(),
                probed,
                weight: backend.weight.0,
                backup: backend.backup,
                used: standing.open.iter().any(|it| usize::from(it.backend) == index),
                ejected: standing.ejected_of(pool, index).map(ejected).collect(),
                lookup: backend.resolved_host().and_then(|host| self.hosts.get(host)).map(|it| lookup(it)),
                overridden: self.overridden(&target),
                addresses: state.addresses.iter().map(address).collect(),
            }
        };
        dto::Pool {
            name: pool.name.clone(),
            balance: pool.balance.name().into(),
            serves: standing.serves(),
            panic: standing.panic.map(|it| dto::Panic { healthy: it.healthy, of: it.of }),
            limits: pool.limits.map(|it| dto::PoolLimits {
                requests: it.requests.map(Into::into),
                connections: it.connections.map(Into::into),
                pending: it.pending,
            }),
            waiting: load.waiting.get(&pool.name).copied().unwrap_or(0),
            backends: (0..pool.backends.len()).map(backend).collect(),
        }
    }

    fn region(&self, id: RegionId) -> dto::Region {
        let region = self.snapshot.plan.topology.region(id);
        let standing = self.snapshot.standing.region(id);
        let endpoints = (0..region.endpoints.len())
            .map(|index| self.endpoint(EndpointRef { region: id, index: index as u16 }, standing));
        let probed = self.snapshot.plan.topology.is_probed(id);
        dto::Region {
            name: region.name.clone(),
            verdict: standing.state.into(),
            probed,
            since: probed.then(|| timestamp(standing.since)),
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
        let owner = Owner::Endpoint { region: &region.name, endpoint: &endpoint.name };
        let probed = endpoint.is_probed();
        let address = |it| self.address(owner, it, probed);
        let looked_up = endpoint.resolved_host().and_then(|host| self.hosts.get(host));
        dto::Endpoint {
            name: endpoint.name.clone(),
            verdict: state.state.into(),
            probed,
            weight: endpoint.weight.0,
            host: endpoint.host().map(ToString::to_string),
            resolved: looked_up.is_some_and(|it| it.is_looked_up && it.failure.is_none()),
            lookup: looked_up.map(|it| lookup(it)),
            overridden: self.overridden(&target),
            addresses: state.addresses.iter().map(address).collect(),
        }
    }

    fn address(&self, owner: Owner<'_>, standing: &AddressStanding, probed: bool) -> dto::Address {
        let address = standing.address;
        let checks = self.checks.get(&(owner, address)).map_or(&[][..], Vec::as_slice);
        // What one probe found down is down, whether or not this node can make the others.
        let is_seen_down =
            standing.state.is_down() && checks.iter().any(|it| it.blind.is_none() && it.state.is_down());
        let is_observed = standing.observed || is_seen_down;
        let blind = checks.iter().find(|check| !is_observed && check.blind.is_some());
        let deciding = blind.or_else(|| checks.iter().find(|check| check.decides.is_some()));
        let last = checks.iter().filter_map(|check| check.last_probe).max();
        let probe = |check: &&CheckStatus| dto::Probe {
            name: check.id.source.to_string(),
            verdict: check.state.into(),
            evidence: check.to_string(),
        };
        dto::Address {
            address,
            verdict: if is_observed { standing.state.into() } else { dto::Verdict::Unobserved },
            probed,
            since: deciding.map(|check| timestamp(check.since)),
            evidence: match deciding {
                Some(check) => check.to_string(),
                None if probed => "not probed yet".into(),
                None => "no probe: always up".into(),
            },
            failures: checks.iter().map(|check| check.failures.count).max().unwrap_or(0),
            rtt_ms: checks.iter().filter_map(|check| check.rtt).map(millis).reduce(f64::min),
            last_probe_s: last.map(|last| (self.now.since(last).as_secs_f64() * 1000.0).round() / 1000.0),
            probes: checks.iter().map(probe).collect(),
            load: None,
        }
    }

    pub(super) fn service(&self, id: ServiceId) -> dto::Service {
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
        alarms.extend(self.snapshot.standing.suspected.map(|suspected| match suspected {
            Suspected::KeepsStanding => {
                "this node suspects its own network: suspect_self keeps the last standing".to_owned()
            }
            Suspected::AlarmOnly => {
                "many checks began to fail together: this node may have lost its own network".to_owned()
            }
        }));
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
        let pools = plan.topology.pools.iter().zip(&self.snapshot.standing.pools);
        let unserved = pools.filter(|(_, standing)| !standing.serves());
        alarms.extend(unserved.map(|(pool, _)| format!("no backend of pool `{}` serves", pool.name)));
        alarms.extend(plan.tls.alarms(self.now));
        let pools = plan.topology.pools.iter().zip(&self.snapshot.standing.pools);
        alarms.extend(pools.filter_map(|(pool, standing)| standing.panic_alarm(pool)));
        alarms
    }

    /// The services that no region can serve for some clients, sorted.
    pub(super) fn unserved(&self) -> Vec<Unserved> {
        let (plan, standing) = (&self.snapshot.plan, &self.snapshot.standing);
        safety::unserved(&plan.topology, plan.steering.region_sets(), standing)
    }
}

fn ejected(it: &Ejected) -> dto::Ejected {
    dto::Ejected {
        address: it.address.ip(),
        until: timestamp(it.until),
        evidence: it.evidence.as_ref().into(),
    }
}

fn lookup(host: &HostStatus) -> dto::HostLookup {
    dto::HostLookup {
        error: host.failure.as_ref().map(|failure| failure.why.clone()),
        failing_since: host.failure.as_ref().map(|failure| timestamp(failure.since)),
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
mod tests;
