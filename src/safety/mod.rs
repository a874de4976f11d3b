//! Rules that bind automation and operators, so that neither makes an outage worse.
//!
//! A rule never stops the withdrawal of what fails hard: nobody can be served there. It holds in what fails
//! softly, visibly, and refuses an operator's withdrawal unless told otherwise.

use crate::health::Severity;
use crate::model::{RegionId, ServiceId, Topology};
use crate::standing::{Action, Cause, RegionSets, SetId, Standing, Usable};

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
}

/// Marks in `standing` what the rules hold in. Of the regions that failed softly the last to fail is held
/// first: it was good for longest.
pub fn hold(rules: Rules, sets: &RegionSets, standing: &mut Standing) {
    let held = sets.sets.iter().map(|set| {
        let missing = needed(rules, set).saturating_sub(available(set, standing));
        let mut soft: Vec<RegionId> = set.iter().copied().filter(|id| failed_softly(standing, *id)).collect();
        soft.sort_by_key(|id| std::cmp::Reverse((standing.region(*id).since, std::cmp::Reverse(*id))));
        soft.truncate(missing);
        soft.into_boxed_slice()
    });
    standing.held = held.collect();
}

/// Whether an operator may turn `before` into `after`: no set of regions that had enough may come to have too few,
/// and no service of which a region was withdrawn.
///
/// # Errors
/// The first set that would be short of regions.
pub fn permit(rules: Rules, sets: &RegionSets, before: &Standing, after: &Standing) -> Result<(), Refusal> {
    for (index, set) in sets.sets.iter().enumerate() {
        let (needed, had, remaining) = (needed(rules, set), available(set, before), available(set, after));
        if remaining < needed && remaining < had {
            return Err(Refusal { rule: Rule::MinRegions, needed, remaining, set: SetId(index as u32) });
        }
    }
    // Services of which an operator withdrew a region have fewer than their set.
    for service in after.services.iter().map(|word| word.service) {
        let set = sets.of_service(service);
        let regions = &sets.sets[set.0 as usize];
        let had = available_to(service, regions, before);
        let remaining = available_to(service, regions, after);
        let needed = needed(rules, regions);
        if remaining < needed && remaining < had {
            return Err(Refusal { rule: Rule::MinRegions, needed, remaining, set });
        }
    }
    Ok(())
}

impl Refusal {
    /// The refusal as a sentence for the operator.
    #[must_use]
    pub fn explain(&self, topology: &Topology, sets: &RegionSets) -> String {
        let names: Vec<&str> =
            sets.sets[self.set.0 as usize].iter().map(|id| topology.region(*id).name.as_str()).collect();
        format!(
            "{} = {} forbids it: of {} only {} would remain usable",
            self.rule.name(),
            self.needed,
            names.join(", "),
            self.remaining
        )
    }
}

fn needed(rules: Rules, set: &[RegionId]) -> usize {
    rules.min_regions.min(set.len())
}

/// Regions that are not withdrawn. Unknown is not down.
fn available(set: &[RegionId], standing: &Standing) -> usize {
    set.iter().filter(|id| !matches!(standing.region(**id).usable(), Usable::No(_))).count()
}

/// The same for one service, with the operator's word within it.
fn available_to(service: ServiceId, set: &[RegionId], standing: &Standing) -> usize {
    let is_available = |id: &&RegionId| match standing.within(service, **id) {
        Some(word) if word.action == Action::Up => true,
        Some(word) if word.action == Action::Down || word.kept_away >= 1.0 => false,
        _ => !matches!(standing.region(**id).usable(), Usable::No(_)),
    };
    set.iter().filter(is_available).count()
}

fn failed_softly(standing: &Standing, id: RegionId) -> bool {
    standing.region(id).usable() == Usable::No(Cause::Probes(Severity::Soft))
}
