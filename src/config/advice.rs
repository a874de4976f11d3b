//! Warnings about services that work, but probably not as intended.

use std::collections::{HashMap, HashSet};
use std::net::IpAddr;
use std::time::Duration;

use crate::model::{
    AllDown, Due, Member, Probe, Rank, RankKind, Region, RegionId, Service, ServiceKind, Ttl, Weight,
};

use super::report::Report;
use super::scope::Scope;
use super::steering::Written;
use super::table::{At, Table};
use super::text;

/// Warn of TTLs longer than this many times the detection time of a failure: caches then outweigh all probing.
const LONGEST_TTL: u32 = 4;

/// A service to check.
pub(super) struct Advice<'a> {
    pub(super) table: &'a Table<'a>,
    pub(super) members: &'a [At<Member>],
    pub(super) scope: &'a Scope<'a>,
}

impl Advice<'_> {
    fn regions(&self) -> impl Iterator<Item = &Region> {
        self.members.iter().map(|it| &self.scope.regions[usize::from(it.value.region.0)])
    }

    fn probes<'r>(&'r self, region: &'r Region) -> impl Iterator<Item = &'r Probe> {
        let ids = region.endpoints.iter().flat_map(|it| it.healthy_when.probes());
        ids.filter_map(|id| self.scope.probes[usize::from(id.0)].as_ref())
    }

    /// Warns of a TTL that keeps clients on a failed region long after the failure was detected.
    pub(super) fn on_ttl(&self, written: &Written) {
        let noticed = |probe: &Probe| probe.interval * probe.thresholds.fall + probe.timeout;
        let slowest = self.regions().flat_map(|region| self.probes(region)).map(noticed).max();
        let (Some(slowest), Some(ttl)) = (slowest, &written.ttl) else { return };
        let kept = duration(ttl.value.min);
        if kept > slowest * LONGEST_TTL {
            let (kept, slowest) = (text::format_duration(kept), text::format_duration(slowest));
            self.table.report.warning(
                ttl.span.clone(),
                format!("clients keep an answer for {kept}, but a failure is noticed within {slowest}"),
                "shorten `ttl`, or clients stay with a failed region long after it was withdrawn",
            );
        }
    }

    /// Warns of a computed TTL whose maximum is never reached, because every region may change sooner.
    pub(super) fn on_computed_ttl(&self, written: &Written) {
        let Some(ttl) = written.ttl.as_ref().filter(|ttl| ttl.value.is_computed()) else { return };
        let steady = |region| self.probes(region).map(Due::while_steady).fold(Due::NEVER, Due::min).after;
        let Some(longest) = self.regions().map(steady).max() else { return };
        if longest >= duration(ttl.value.max) {
            return;
        }
        let (max, reached) = (text::format_duration(duration(ttl.value.max)), text::format_duration(longest));
        let most = text::format_duration(duration(ttl.value.within(longest)));
        self.table.report.warning(
            ttl.span.clone(),
            format!("`max` = {max} is never reached: a region may be found down within {reached}"),
            format!("no answer is kept for longer than {most}: lower `max`, or raise `fall` or `interval`"),
        );
    }

    /// Warns of a fallback that leaves an address family without an answer.
    pub(super) fn on_fallback(&self, written: &Written) {
        let Some(At { value: AllDown::Fallback(fallback), span }) = &written.all_down else { return };
        // It may be missing because of an error.
        if self.table.report.errors() > 0 {
            return;
        }
        let usual: Vec<IpAddr> =
            self.regions().flat_map(|it| &it.endpoints).flat_map(|it| it.listed().iter().copied()).collect();
        let has = |addresses: &[IpAddr], is_v4: bool| addresses.iter().any(|it| it.is_ipv4() == is_v4);
        for (is_v4, family, rtype) in [(true, "IPv4", "A"), (false, "IPv6", "AAAA")] {
            if has(&usual, is_v4) && !has(fallback, is_v4) {
                self.table.report.warning(
                    span.clone(),
                    format!("`fallback` has no {family} address, but the regions do"),
                    format!("while all are down {rtype} has no answer; add an address of that family"),
                );
            }
        }
    }

    /// Warns of regions of weight 0, which rarely do what was intended.
    pub(super) fn on_weights(&self, written: &Written) {
        const HELP: &str =
            "to keep clients away from a region, remove it from `regions`, or drain it while the node runs";
        let is_zero = |member: &&At<Member>| member.value.weight == Weight(0);
        let are_all_zero = self.members.iter().all(|member| is_zero(&member));
        for member in self.members.iter().filter(is_zero) {
            let region = &self.scope.regions[usize::from(member.value.region.0)].name;
            let message = match written.rank_kind() {
                RankKind::None if are_all_zero => return,
                RankKind::None => {
                    format!("region `{region}` never serves: it ties with the others, and its weight is 0")
                }
                RankKind::Priority => {
                    format!(
                        "the weight 0 of region `{region}` has no effect: with rank = \"priority\" regions never tie"
                    )
                }
                RankKind::Distance | RankKind::Latency | RankKind::Geo => format!(
                    "region `{region}` has weight 0: it takes every client where it is alone, and none where it ties with others"
                ),
            };
            self.table.report.warning(member.span.clone(), message, HELP);
        }
    }
}

/// Warns of regions with addresses of one family in services whose other regions have both, unless regions are chosen
/// in a fixed order, which makes the fallback obvious. Reported once per region, however many services use it.
pub(super) fn on_families(report: &Report<'_>, services: &[At<Service>], regions: &[Region]) {
    let mut reported: HashSet<RegionId> = HashSet::new();
    for At { value: service, span } in services {
        let is_address = matches!(service.kind, ServiceKind::Address { .. });
        if !is_address || service.steering.rank == Rank::Priority {
            continue;
        }
        let used = service.members.iter().filter(|member| member.weight.0 > 0);
        let members: Vec<(RegionId, Families)> = used
            .filter_map(|member| Some((member.region, families(&regions[usize::from(member.region.0)])?)))
            .collect();
        let Some((both, _)) = members.iter().find(|(_, families)| families.v4 && families.v6) else {
            continue;
        };
        for (id, families) in &members {
            let (missing, rtype) = match families {
                Families { v4: true, v6: false } => ("IPv6", "AAAA"),
                Families { v4: false, v6: true } => ("IPv4", "A"),
                _ => continue,
            };
            if reported.insert(*id) {
                let [region, other] = [id, both].map(|id| &regions[usize::from(id.0)].name);
                report.warning(
                    span.clone(),
                    format!("its region `{region}` has no {missing} address, but `{other}` does"),
                    format!("clients that are sent to `{region}` get no {rtype} records; give it an address of that family"),
                );
            }
        }
    }
}

/// The families of a region's addresses.
#[derive(Clone, Copy)]
struct Families {
    v4: bool,
    v6: bool,
}

/// `None` if the addresses come from resolvers.
fn families(region: &Region) -> Option<Families> {
    if region.endpoints.iter().any(|endpoint| endpoint.resolved_host().is_some()) {
        return None;
    }
    let has =
        |is_v4: bool| region.endpoints.iter().flat_map(|it| it.listed()).any(|it| it.is_ipv4() == is_v4);
    Some(Families { v4: has(true), v6: has(false) })
}

/// Warns of an address shared by several regions of an address service: a client moved from one of them to another
/// stays where it was. Reported once per pair of regions, however many services use them.
pub(super) fn on_shared_addresses(report: &Report<'_>, services: &[At<Service>], regions: &[Region]) {
    let mut owners: HashMap<IpAddr, Vec<RegionId>> = HashMap::new();
    for (id, region) in (0..).map(RegionId).zip(regions) {
        for address in region.endpoints.iter().flat_map(|it| it.listed()) {
            let owners = owners.entry(*address).or_default();
            if owners.last() != Some(&id) {
                owners.push(id);
            }
        }
    }
    owners.retain(|_, owners| owners.len() > 1);
    let mut shared: Vec<(IpAddr, Vec<RegionId>)> = owners.into_iter().collect();
    shared.sort_unstable();
    let mut reported: HashSet<Vec<RegionId>> = HashSet::new();
    let of_addresses = services.iter().filter(|it| matches!(it.value.kind, ServiceKind::Address { .. }));
    for At { value: service, span } in of_addresses {
        for (address, owners) in &shared {
            let is_member = |id: &&RegionId| service.members.iter().any(|member| member.region == **id);
            let mut both: Vec<RegionId> = owners.iter().filter(is_member).copied().collect();
            both.truncate(2);
            let &[one, other] = &both[..] else { continue };
            if reported.insert(both) {
                let [one, other] = [one, other].map(|id| &regions[usize::from(id.0)].name);
                report.warning(
                    span.clone(),
                    format!("its regions `{one}` and `{other}` have the same address {address}"),
                    "clients that steering moves from one to the other stay where they are; give each region its own addresses",
                );
            }
        }
    }
}

/// Warns of a config that answers no query.
pub(super) fn on_listeners(root: &Table<'_>) {
    // After an error something else may be missing, too.
    if root.has("dns") || root.report.errors() > 0 {
        return;
    }
    let Some(content) = ["zone", "service"].into_iter().find(|key| root.has(key)) else {
        // A node may balance and leave DNS to others.
        if root.has("proxy") {
            return;
        }
        root.report.warning(
            root.key_span("version"),
            "this config answers no query: it has neither [dns] nor a zone",
            "add [dns] with `listen`, a [[zone]] and [[service]] entries",
        );
        return;
    };
    root.report.warning(
        root.key_span(content),
        "this config answers no query: it has zones and services, but no [dns]",
        "add [dns] with `listen = [\"0.0.0.0:53\", \"[::]:53\"]`",
    );
}

fn duration(Ttl(seconds): Ttl) -> Duration {
    Duration::from_secs(u64::from(seconds))
}
