//! Endpoints without addresses of their own: they use those of their `host`, which may lead back to this node.

use std::collections::{HashMap, HashSet};

use crate::model::{AllDown, Endpoint, Name, Reach, Region, Service, ServiceKind};
use crate::zone::{Zone, rtype};

use super::report::Report;
use super::table::At;

/// Marks endpoints without addresses of their own whose addresses are needed for answers, so that their hosts are
/// resolved. Endpoints with probes are marked already.
pub(super) fn resolve(services: &[At<Service>], regions: &mut [Region]) {
    let of_addresses = services.iter().filter(|it| matches!(it.value.kind, ServiceKind::Address { .. }));
    for member in of_addresses.flat_map(|service| &service.value.members) {
        for endpoint in &mut regions[usize::from(member.region.0)].endpoints {
            if let Reach::Named(host, addresses) = &endpoint.reach
                && addresses.is_empty()
            {
                endpoint.reach = Reach::Resolved(host.clone());
            }
        }
    }
}

/// Reports services that depend on their own answer, and warns of hosts that this node answers itself: its answers
/// would then depend on its own earlier answers.
pub(super) fn check(report: &Report<'_>, zones: &[Zone], services: &[At<Service>], regions: &[Region]) {
    let mut by_name: HashMap<&Name, &Service> = HashMap::new();
    for At { value: service, .. } in services {
        // A name with an alias may also have services that answer host names as data.
        if !matches!(service.kind, ServiceKind::Srv { .. } | ServiceKind::Mx { .. }) {
            by_name.insert(&service.name, service);
        }
    }
    let ways = Ways { zones, services: by_name, regions };
    ways.warn_of_missing(report, services);
    let mut warned: HashSet<&Name> = HashSet::new();
    for At { value: service, span } in services {
        if !matches!(service.kind, ServiceKind::Address { .. }) {
            continue;
        }
        for (region, endpoint, host) in ways.hosts(service) {
            if ways.leads_to(host, &service.name) {
                let who = format!("endpoint `{}` of region `{}`", endpoint.name, region.name);
                let message = format!("{who} leads back to the service itself through its host {host}");
                report.absent(span.clone(), message);
            } else if ways.is_own(host) && warned.insert(host) {
                report.warning(
                    span.clone(),
                    format!("the host {host} is a name that this node answers itself"),
                    "write its addresses, or use its regions, so that no resolver is involved",
                );
            }
        }
    }
}

/// The names of this node, and where they lead.
struct Ways<'a> {
    zones: &'a [Zone],
    /// The services that answer addresses or a CNAME.
    services: HashMap<&'a Name, &'a Service>,
    regions: &'a [Region],
}

impl<'a> Ways<'a> {
    /// The hosts that a service's endpoints lead to: for an address service those to resolve, for an alias all.
    fn hosts(&self, service: &'a Service) -> impl Iterator<Item = (&'a Region, &'a Endpoint, &'a Name)> {
        let regions = self.regions;
        let members = service.members.iter().map(move |member| &regions[usize::from(member.region.0)]);
        let endpoints = members.flat_map(|region| region.endpoints.iter().map(move |it| (region, it)));
        endpoints.filter_map(|(region, endpoint)| {
            let host = match service.kind {
                ServiceKind::Address { .. } => endpoint.resolved_host(),
                ServiceKind::Cname => endpoint.host(),
                ServiceKind::Srv { .. } | ServiceKind::Mx { .. } => None,
            };
            Some((region, endpoint, host?))
        })
    }

    /// Whether a name leads to another through static CNAMEs and services.
    fn leads_to(&self, from: &'a Name, to: &Name) -> bool {
        let mut seen: HashSet<Name> = HashSet::new();
        let mut open = vec![from.clone()];
        while let Some(name) = open.pop() {
            if name == *to {
                return true;
            }
            let next = match self.services.get(&name) {
                Some(service) => self.hosts(service).map(|(_, _, host)| host.clone()).collect(),
                None => Vec::from_iter(self.alias(&name)),
            };
            if seen.insert(name) {
                open.extend(next);
            }
        }
        false
    }

    /// Warns of names in the zones of this node that answers lead to, but that do not exist. Skipped if there are
    /// errors, which may be the reason.
    fn warn_of_missing(&self, report: &Report<'_>, services: &[At<Service>]) {
        if report.errors() > 0 {
            return;
        }
        let names: HashSet<&Name> = services.iter().map(|service| &service.value.name).collect();
        let mut seen: HashSet<&Name> = HashSet::new();
        for At { value: service, span } in services {
            let instead = match &service.steering.all_down {
                AllDown::Cname(name) => Some(name),
                _ => None,
            };
            let members = service.members.iter().map(|member| &self.regions[usize::from(member.region.0)]);
            let hosts =
                members.flat_map(|region| &region.endpoints).filter_map(|endpoint| match service.kind {
                    ServiceKind::Address { .. } => endpoint.resolved_host(),
                    ServiceKind::Cname | ServiceKind::Srv { .. } | ServiceKind::Mx { .. } => endpoint.host(),
                });
            for name in hosts.chain(instead).filter(|name| seen.insert(name)) {
                if let Some(zone) = self.zone_without(name, &names) {
                    report.warning(
                        span.clone(),
                        format!("it leads to {name}, but the zone {} has nothing there", zone.origin),
                        "resolvers get the answer that the name does not exist; correct it, or add it to the zone",
                    );
                }
            }
        }
    }

    /// The zone that a name belongs to, unless the name is answered or lies below a delegation or DNAME.
    fn zone_without(&self, name: &Name, services: &HashSet<&Name>) -> Option<&Zone> {
        let around = self.zones.iter().filter(|zone| name.is_at_or_below(&zone.origin));
        let zone = around.max_by_key(|zone| zone.origin.label_count())?;
        let exists = |name: &Name| zone.names.contains_key(name) || services.contains(name);
        let leads_out = |name: &Name| {
            let sets = zone.names.get(name).filter(|_| *name != zone.origin);
            sets.is_some_and(|sets| sets.iter().any(|set| [rtype::NS, rtype::DNAME].contains(&set.rtype)))
        };
        let has_wildcard = |name: &Name| {
            let wildcard = Name::from_wire(&[b"\x01*", name.as_wire()].concat());
            wildcard.is_ok_and(|wildcard| exists(&wildcard))
        };
        let mut above = std::iter::successors(name.parent(), Name::parent)
            .take_while(|name| name.is_at_or_below(&zone.origin));
        let is_answered = exists(name) || above.any(|name| leads_out(&name) || has_wildcard(&name));
        (!is_answered).then_some(zone)
    }

    /// Where a static CNAME leads.
    fn alias(&self, name: &Name) -> Option<Name> {
        let sets = self.zones.iter().find_map(|zone| zone.names.get(name))?;
        let cname = sets.iter().find(|set| set.rtype == rtype::CNAME)?;
        Name::from_wire(cname.rdata.first()?).ok()
    }

    /// Whether a name is answered here, by a service or with static records.
    fn is_own(&self, name: &Name) -> bool {
        const ANSWERS: [u16; 3] = [rtype::A, rtype::AAAA, rtype::CNAME];
        let has_answer = |zone: &Zone| {
            let sets = zone.names.get(name);
            sets.is_some_and(|sets| sets.iter().any(|set| ANSWERS.contains(&set.rtype)))
        };
        self.services.contains_key(name) || self.zones.iter().any(has_answer)
    }
}
