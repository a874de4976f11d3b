//! The state of things as the API reports it.

use std::collections::HashMap;

use super::dto;
use crate::model::{EndpointRef, Family, Fraction, Member, RegionId, Rule, ServiceId, Subject, Target, Unix};
use crate::safety;
use crate::snapshot::Snapshot;
use crate::standing::{Action, AddressStanding, Override, RegionStanding, Usable};
use crate::state::CheckStatus;

/// The verdict shown for an address that this node cannot probe.
const UNOBSERVED: &str = "unobserved";

/// Everything but the node's own data, at one moment.
#[must_use]
pub fn status(
    node: dto::Node,
    snapshot: &Snapshot,
    checks: &[CheckStatus],
    overrides: &[Override],
    now: Unix,
) -> dto::Status {
    let mut by_subject: HashMap<&Subject, Vec<&CheckStatus>> = HashMap::new();
    for check in checks {
        by_subject.entry(&check.id.subject).or_default().push(check);
    }
    let overrides = overrides.iter().map(|o| (&o.target, o)).collect();
    let view = View { snapshot, checks: by_subject, overrides, now };
    let topology = &snapshot.plan.topology;
    dto::Status {
        node,
        regions: topology.region_ids().map(|id| view.region(id)).collect(),
        services: (0..topology.services.len()).map(|index| view.service(ServiceId(index as u32))).collect(),
        alarms: view.alarms(),
    }
}

struct View<'a> {
    snapshot: &'a Snapshot,
    checks: HashMap<&'a Subject, Vec<&'a CheckStatus>>,
    overrides: HashMap<&'a Target, &'a Override>,
    now: Unix,
}

impl View<'_> {
    fn region(&self, id: RegionId) -> dto::Region {
        let region = self.snapshot.plan.topology.region(id);
        let standing = self.snapshot.standing.region(id);
        let held = self.snapshot.standing.held_anywhere(id);
        let endpoints = (0..region.endpoints.len())
            .map(|index| self.endpoint(EndpointRef { region: id, index: index as u16 }, standing));
        dto::Region {
            name: region.name.clone(),
            verdict: standing.state.to_string(),
            since: timestamp(standing.since),
            usable: standing.usable().name().into(),
            held: held.map(|rule| rule.name().into()),
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
        dto::Endpoint {
            name: endpoint.name.clone(),
            verdict: state.state.to_string(),
            weight: endpoint.weight.0,
            host: endpoint.host().map(ToString::to_string),
            resolved: endpoint.resolved_host().is_some(),
            overridden: self.overridden(&target),
            addresses: state
                .addresses
                .iter()
                .map(|it| self.address(&region.name, &endpoint.name, it))
                .collect(),
        }
    }

    fn address(&self, region: &str, endpoint: &str, standing: &AddressStanding) -> dto::Address {
        let address = standing.address;
        let subject = Subject::Address { region: region.into(), endpoint: endpoint.into(), address };
        let checks: &[&CheckStatus] = self.checks.get(&subject).map_or(&[], Vec::as_slice);
        let worst = checks.iter().max_by_key(|check| check.state);
        let last = checks.iter().filter_map(|check| check.last_probe).max();
        dto::Address {
            address,
            verdict: if standing.observed { standing.state.to_string() } else { UNOBSERVED.into() },
            since: timestamp(worst.map_or(self.now, |check| check.since)),
            evidence: worst.map_or_else(|| "no probe: always up".into(), |check| check.to_string()),
            rtt_ms: checks.iter().filter_map(|check| check.rtt).map(millis).reduce(f64::min),
            last_probe_s: last.map(|last| (self.now.since(last).as_secs_f64() * 1000.0).round() / 1000.0),
            probes: checks
                .iter()
                .map(|check| dto::Probe {
                    name: check.id.source.to_string(),
                    verdict: check.state.to_string(),
                    evidence: check.to_string(),
                })
                .collect(),
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
                usable: self.usable_within(id, member.region).name().into(),
                held: self.held_within(id, member.region).map(|rule| rule.name().into()),
                overridden: self.overridden(&target),
            }
        };
        dto::Service {
            name: service.name.to_string(),
            kind: service.kind.name().into(),
            rank: service.steering.rank.kind().name().into(),
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
        let standing = &self.snapshot.standing;
        let sets = self.snapshot.plan.steering.region_sets().of_service(service).iter();
        let mut held = sets
            .flat_map(|set| Family::ALL.map(|family| standing.held(service, *set, family, region)))
            .flatten();
        held.next().or(standing.region(region).kept_by)
    }

    fn overridden(&self, target: &Target) -> Option<dto::Override> {
        self.overrides.get(target).map(|o| overridden(o))
    }

    /// Held regions, and services that nobody can serve.
    fn alarms(&self) -> Vec<String> {
        let (plan, standing) = (&self.snapshot.plan, &self.snapshot.standing);
        let mut alarms = Vec::new();
        for id in plan.topology.region_ids() {
            let Some(rule) = standing.held_anywhere(id) else { continue };
            alarms.push(format!(
                "region/{} fails, but {} holds it",
                plan.topology.region(id).name,
                rule.name()
            ));
        }
        let unserved = safety::unserved(&plan.topology, plan.steering.region_sets(), standing);
        alarms.extend(safety::alarm(&plan.topology, &unserved));
        alarms
    }
}

/// An override as the API reports it.
#[must_use]
pub(super) fn overridden(o: &Override) -> dto::Override {
    dto::Override {
        id: o.id,
        target: o.target.to_string(),
        action: o.action.name().into(),
        share: share(o.action).to_string(),
        created: timestamp(o.created),
        until: o.until.map(timestamp),
        reason: o.reason.clone(),
        by: o.by.clone(),
    }
}

/// RFC 3339 in UTC, to the millisecond.
pub(super) fn timestamp(at: Unix) -> String {
    let millis = i64::try_from(at.0.as_millis()).unwrap_or(i64::MAX);
    jiff::Timestamp::from_millisecond(millis).map_or_else(|_| "never".into(), |at| format!("{at:.3}"))
}

fn millis(duration: std::time::Duration) -> f64 {
    (duration.as_secs_f64() * 1e6).round() / 1e3
}

/// The share of clients that an override concerns.
pub(super) fn share(action: Action) -> Fraction {
    match action {
        Action::Drain(share) => share,
        Action::Up | Action::Down => Fraction::WHOLE,
    }
}
