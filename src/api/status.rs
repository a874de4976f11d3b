//! The state of things as the API tells it.

use std::net::IpAddr;

use super::dto;
use crate::engine::CheckStatus;
use crate::model::{EndpointRef, Member, RegionId, ServiceId, Target, Unix};
use crate::safety::{self, Rule};
use crate::snapshot::Snapshot;
use crate::standing::{Override, RegionStanding, Usable};

/// Everything but the node's own data, at one moment.
#[must_use]
pub fn status(
    node: dto::Node,
    snapshot: &Snapshot,
    checks: &[CheckStatus],
    overrides: &[Override],
    now: Unix,
) -> dto::Status {
    let view = View { snapshot, checks, overrides, now };
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
    checks: &'a [CheckStatus],
    overrides: &'a [Override],
    now: Unix,
}

impl View<'_> {
    fn region(&self, id: RegionId) -> dto::Region {
        let region = self.snapshot.plan.topology.region(id);
        let standing = self.snapshot.standing.region(id);
        let held = self.snapshot.standing.is_held_anywhere(id);
        let endpoints = (0..region.endpoints.len())
            .map(|index| self.endpoint(EndpointRef { region: id, index: index as u16 }, standing));
        dto::Region {
            name: region.name.clone(),
            verdict: standing.state.to_string(),
            since: timestamp(standing.since),
            usable: usable(standing.usable()).into(),
            held: held.then(|| Rule::MinRegions.name().into()),
            overridden: self.word(&Target::Region(region.name.clone())),
            capacity: region.capacity,
            endpoints: endpoints.collect(),
        }
    }

    fn endpoint(&self, at: EndpointRef, standing: &RegionStanding) -> dto::Endpoint {
        let topology = &self.snapshot.plan.topology;
        let (region, endpoint) = (topology.region(at.region), topology.endpoint(at));
        let state = &standing.endpoints[usize::from(at.index)];
        let target = Target::Endpoint { region: region.name.clone(), endpoint: endpoint.name.clone() };
        let addresses = endpoint.addresses.iter().zip(&state.addresses);
        dto::Endpoint {
            name: endpoint.name.clone(),
            verdict: state.state.to_string(),
            weight: endpoint.weight.0,
            host: endpoint.host.as_ref().map(ToString::to_string),
            resolved: endpoint.is_resolved,
            overridden: self.word(&target),
            addresses: addresses
                .map(|(address, state)| {
                    self.address(&region.name, &endpoint.name, *address, state.to_string())
                })
                .collect(),
        }
    }

    fn address(&self, region: &str, endpoint: &str, address: IpAddr, verdict: String) -> dto::Address {
        let is_meant = |check: &&CheckStatus| {
            *check.key.region == *region && *check.key.endpoint == *endpoint && check.key.address == address
        };
        let checks: Vec<&CheckStatus> = self.checks.iter().filter(is_meant).collect();
        let worst = checks.iter().max_by_key(|check| check.state);
        let last = checks.iter().filter_map(|check| check.last_probe).max();
        dto::Address {
            address,
            verdict,
            since: timestamp(worst.map_or(self.now, |check| check.since)),
            evidence: worst.map_or_else(|| "no probe: always up".into(), |check| check.evidence.clone()),
            rtt_ms: checks.iter().filter_map(|check| check.rtt).map(millis).reduce(f64::min),
            last_probe_s: last.map(|last| (self.now.since(last).as_secs_f64() * 1000.0).round() / 1000.0),
            probes: checks
                .iter()
                .map(|check| dto::Probe {
                    name: check.key.probe.to_string(),
                    verdict: check.state.to_string(),
                    evidence: check.evidence.clone(),
                })
                .collect(),
        }
    }

    fn service(&self, id: ServiceId) -> dto::Service {
        let plan = &self.snapshot.plan;
        let service = plan.topology.service(id);
        let set = plan.steering.region_sets().of_service(id);
        let region = |member: &Member| {
            let standing = &self.snapshot.standing;
            let name = &plan.topology.region(member.region).name;
            let target = Target::Service { service: service.name.clone(), region: name.clone() };
            dto::ServiceRegion {
                name: name.clone(),
                weight: member.weight.0,
                usable: usable(standing.usable_within(id, member.region)).into(),
                held: standing.is_held_for(id, set, member.region).then(|| Rule::MinRegions.name().into()),
                overridden: self.word(&target),
            }
        };
        dto::Service {
            name: service.name.to_string(),
            kind: service.kind.name().into(),
            rank: service.steering.rank.kind().name().into(),
            regions: service.members.iter().map(region).collect(),
        }
    }

    fn word(&self, target: &Target) -> Option<dto::Override> {
        self.overrides.iter().find(|o| o.target == *target).map(overridden)
    }

    /// Held regions, and services that nobody can serve.
    fn alarms(&self) -> Vec<String> {
        let (plan, standing) = (&self.snapshot.plan, &self.snapshot.standing);
        let mut alarms = Vec::new();
        for id in plan.topology.region_ids().filter(|id| standing.is_held_anywhere(*id)) {
            let name = &plan.topology.region(id).name;
            alarms.push(format!("region/{name} fails, but {} holds it in", Rule::MinRegions.name()));
        }
        alarms.extend(safety::alarm(&plan.topology, &plan.steering.region_sets().unserved(standing)));
        alarms
    }
}

/// An override as the API tells it.
#[must_use]
pub(super) fn overridden(o: &Override) -> dto::Override {
    dto::Override {
        id: o.id,
        target: o.target.to_string(),
        action: o.action.to_string(),
        share: o.share.to_string(),
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

pub(super) fn usable(usable: Usable) -> &'static str {
    match usable {
        Usable::Full => "yes",
        Usable::Reduced => "reduced",
        Usable::IfNothingElse => "if_nothing_else",
        Usable::No(_) => "no",
    }
}
