//! Rules that bind automation and operators, so that neither makes an outage worse.
//!
//! A rule never stops the withdrawal of what fails hard: nobody can be served there. It holds in what fails
//! softly, visibly, and refuses an operator's withdrawal unless told otherwise.

use crate::health::Severity;
use crate::model::{RegionId, ServiceId, Topology};
use crate::standing::{Cause, RegionSets, SetId, Standing, Usable};

/// `[safety]`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rules {
    /// Regions that each service keeps eligible, as far as it has as many. 0 turns the rule off.
    pub min_regions: usize,
}

impl Default for Rules {
    fn default() -> Self {
        Self { min_regions: 1 }
    }
}

/// A rule by its name in the config.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Rule {
    /// `min_regions`
    MinRegions,
}

impl Rule {
    /// The name in the config, in status, events and metrics.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::MinRegions => "min_regions",
        }
    }
}

/// A withdrawal that an operator asked for and a rule forbids.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal {
    /// Which rule.
    pub rule: Rule,
    /// How many regions the rule asks for.
    pub needed: usize,
    /// How many would remain.
    pub remaining: usize,
    /// The regions of the services that would be short of them.
    pub set: SetId,
    /// The one service that would be, if it is not all with these regions.
    pub service: Option<ServiceId>,
}

/// Marks in `standing` what the rules hold in. Of the regions that failed softly the last to fail is held
/// first: it was good for longest.
pub fn hold(rules: Rules, sets: &RegionSets, standing: &mut Standing) {
    let held = sets.sets.iter().map(|set| {
        let usable = |id| standing.region(id).usable();
        last_to_fail(set, usable, standing, missing(rules, set, usable)).into_boxed_slice()
    });
    standing.held = held.collect();
    let held_within = services(standing).into_iter().flat_map(|service| {
        let set = sets.regions_of(service);
        // What is held for its set is usable to a service, unless operators keep the service from it.
        let usable = |id| match standing.usable_within(service, id) {
            Usable::No(Cause::Probes(_)) if standing.is_held(sets.of_service(service), id) => Usable::Full,
            usable => usable,
        };
        let mut held = last_to_fail(set, usable, standing, missing(rules, set, usable));
        held.sort_unstable();
        held.into_iter().map(move |region| (service, region)).collect::<Vec<_>>()
    });
    standing.held_within = held_within.collect();
}

/// Whether an operator may turn `before` into `after`: nothing that had enough regions may come to have too few,
/// neither the services of a set nor one service that operators have said something about.
///
/// # Errors
/// The first that would be short of regions.
pub fn permit(rules: Rules, sets: &RegionSets, before: &Standing, after: &Standing) -> Result<(), Refusal> {
    let refuse = |set: SetId, service: Option<ServiceId>| {
        let regions = &sets.sets[set.0 as usize];
        let remaining = |standing: &Standing| match service {
            Some(service) => available(regions, |id| standing.usable_within(service, id)),
            None => available(regions, |id| standing.region(id).usable()),
        };
        let (needed, had, remaining) = (needed(rules, regions), remaining(before), remaining(after));
        let is_short = remaining < needed && remaining < had;
        is_short.then_some(Refusal { rule: Rule::MinRegions, needed, remaining, set, service })
    };
    let of_sets = (0..sets.sets.len()).map(|index| refuse(SetId(index as u32), None));
    let of_services = services(after).into_iter().map(|id| refuse(sets.of_service(id), Some(id)));
    match of_sets.chain(of_services).flatten().next() {
        Some(refusal) => Err(refusal),
        None => Ok(()),
    }
}

/// A sentence about services that no region may serve, if there are any.
#[must_use]
pub fn alarm(topology: &Topology, unserved: &[ServiceId]) -> Option<String> {
    let names = listed(topology, unserved)?;
    Some(format!("no region can serve {names}: answered as all_down says"))
}

/// A sentence about services that regions may serve again, if there are any.
#[must_use]
pub fn all_clear(topology: &Topology, served: &[ServiceId]) -> Option<String> {
    let names = listed(topology, served)?;
    Some(format!("regions can serve {names} again"))
}

fn listed(topology: &Topology, services: &[ServiceId]) -> Option<String> {
    let mut names: Vec<String> =
        services.iter().take(NAMED).map(|id| topology.service(*id).name.to_string()).collect();
    if services.len() > NAMED {
        names.push(format!("{} more", services.len() - NAMED));
    }
    (!names.is_empty()).then(|| names.join(", "))
}

impl Refusal {
    /// The refusal as a sentence for the operator.
    #[must_use]
    pub fn explain(&self, topology: &Topology, sets: &RegionSets) -> String {
        let names: Vec<&str> =
            sets.sets[self.set.0 as usize].iter().map(|id| topology.region(*id).name.as_str()).collect();
        let whose = self.service.map(|id| format!(" for {}", topology.service(id).name)).unwrap_or_default();
        let remaining = match self.remaining {
            0 => "none".to_owned(),
            some => format!("only {some}"),
        };
        format!(
            "{} = {} forbids it: of {} {remaining} would remain usable{whose}",
            self.rule.name(),
            self.needed,
            names.join(", "),
        )
    }
}

fn needed(rules: Rules, set: &[RegionId]) -> usize {
    rules.min_regions.min(set.len())
}

/// Services that operators have said something about, each once.
fn services(standing: &Standing) -> Vec<ServiceId> {
    let mut services: Vec<ServiceId> = standing.services.iter().map(|word| word.service).collect();
    services.dedup();
    services
}

/// Regions that are not withdrawn. Unknown is not down.
fn available(set: &[RegionId], usable: impl Fn(RegionId) -> Usable) -> usize {
    set.iter().filter(|id| !matches!(usable(**id), Usable::No(_))).count()
}

fn missing(rules: Rules, set: &[RegionId], usable: impl Fn(RegionId) -> Usable) -> usize {
    needed(rules, set).saturating_sub(available(set, usable))
}

/// Up to `count` regions of a set that failed softly, the last to fail first.
fn last_to_fail(
    set: &[RegionId],
    usable: impl Fn(RegionId) -> Usable,
    standing: &Standing,
    count: usize,
) -> Vec<RegionId> {
    let failed_softly = |id: &RegionId| usable(*id) == Usable::No(Cause::Probes(Severity::Soft));
    let mut soft: Vec<RegionId> = set.iter().copied().filter(failed_softly).collect();
    soft.sort_by_key(|id| std::cmp::Reverse((standing.region(*id).since, std::cmp::Reverse(*id))));
    soft.truncate(count);
    soft
}

/// Services that an alarm names; of the others it says how many there are.
const NAMED: usize = 5;
