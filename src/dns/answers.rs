//! How many answers each service gave of each of its regions.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use arc_swap::{ArcSwap, Guard};

use crate::model::{Name, RegionId, ServiceId, Topology};

/// The counts of one writer.
#[derive(Debug, Default)]
pub(super) struct AnswerCounts(ArcSwap<Table>);

/// A counter for each region of each service of a topology, so that counting is one addition.
#[derive(Debug, Default)]
pub(super) struct Table {
    topology: Arc<Topology>,
    /// By [`ServiceId`]: the position in `counts` of the service's first region.
    first: Box<[u32]>,
    counts: Box<[AtomicU64]>,
}

impl AnswerCounts {
    /// The table for answers from this topology. After a reload the counts so far are carried over by name; that
    /// happens once, and only then does this take time.
    pub(super) fn table(&self, topology: &Arc<Topology>) -> Guard<Arc<Table>> {
        let table = self.0.load();
        if Arc::ptr_eq(&table.topology, topology) {
            return table;
        }
        self.0.store(Arc::new(table.carried_over(Arc::clone(topology))));
        self.0.load()
    }

    /// Adds the counts to sums by the names of service and region.
    pub(super) fn add_to(&self, sums: &mut BTreeMap<(String, String), u64>) {
        for ((service, region), count) in self.0.load().rows() {
            *sums.entry((service.to_string(), region.to_owned())).or_insert(0) += count;
        }
    }
}

impl Table {
    /// Counts an answer of a service from a region.
    pub(super) fn count(&self, service: ServiceId, region: RegionId) {
        let members = &self.topology.service(service).members;
        let Some(at) = members.iter().position(|member| member.region == region) else { return };
        self.counts[self.first[service.0 as usize] as usize + at].fetch_add(1, Ordering::Relaxed);
    }

    fn carried_over(&self, topology: Arc<Topology>) -> Self {
        let mut first = Vec::with_capacity(topology.services.len());
        let mut total = 0;
        for service in &topology.services {
            first.push(total);
            total += service.members.len() as u32;
        }
        let mut before: HashMap<(&Name, &str), u64> = HashMap::new();
        for (pair, count) in self.rows() {
            *before.entry(pair).or_insert(0) += count;
        }
        // Services of different types may share a name; the first of them takes what was counted for it.
        let counts = pairs(&topology).map(|pair| before.remove(&pair).unwrap_or(0).into()).collect();
        Self { first: first.into(), counts, topology }
    }

    /// The names of service and region of each counter, and its value.
    fn rows(&self) -> impl Iterator<Item = ((&Name, &str), u64)> {
        pairs(&self.topology).zip(self.counts.iter().map(|count| count.load(Ordering::Relaxed)))
    }
}

/// The services with each of their regions, in the order of their counters.
fn pairs(topology: &Topology) -> impl Iterator<Item = (&Name, &str)> {
    topology.services.iter().flat_map(|service| {
        service.members.iter().map(|member| (&service.name, &*topology.region(member.region).name))
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{
        AllDown, Condition, Location, Member, Rank, Region, Service, ServiceKind, Share, Steering, Ttl,
        Weight,
    };

    /// Regions `a` to `c`, and services by their names and regions.
    fn topology(services: &[(&str, &[u16])]) -> Arc<Topology> {
        let region = |name: &str| Region {
            name: name.into(),
            location: Location::default(),
            capacity: None,
            healthy_when: Condition::Any(Vec::new()),
            endpoints: Vec::new(),
        };
        let member = |region: &u16| Member { region: RegionId(*region), weight: Weight(1) };
        let service = |(name, regions): &(&str, &[u16])| Service {
            name: name.parse().unwrap(),
            kind: ServiceKind::ADDRESS,
            members: regions.iter().map(member).collect(),
            steering: Steering {
                rank: Rank::Priority,
                share: Share::Weighted,
                answers: 1,
                ttl: Ttl(30).into(),
                all_down: AllDown::All,
            },
            fences: Vec::new(),
        };
        Arc::new(Topology {
            regions: ["a", "b", "c"].map(region).into(),
            services: services.iter().map(service).collect(),
            ..Topology::default()
        })
    }

    #[test]
    fn counts_stay_with_their_names_over_a_reload() {
        let counts = AnswerCounts::default();
        let sums = || {
            let mut sums = BTreeMap::new();
            counts.add_to(&mut sums);
            let sums =
                sums.into_iter().map(|((service, region), count)| format!("{service} {region} {count}"));
            sums.collect::<Vec<_>>()
        };
        let before = topology(&[("www.test.", &[0, 1]), ("api.test.", &[1])]);
        let table = counts.table(&before);
        for (service, region) in [(0, 0), (0, 1), (0, 1), (1, 1)] {
            table.count(ServiceId(service), RegionId(region));
        }
        // Not one of its regions.
        table.count(ServiceId(1), RegionId(2));
        assert_eq!(sums(), ["api.test. b 1", "www.test. a 1", "www.test. b 2"]);
        assert!(Arc::ptr_eq(&table, &counts.table(&before)), "it is made once");
        counts
            .table(&topology(&[("new.test.", &[0]), ("www.test.", &[2, 1])]))
            .count(ServiceId(1), RegionId(1));
        assert_eq!(sums(), ["new.test. a 0", "www.test. b 3", "www.test. c 0"]);
    }
}
