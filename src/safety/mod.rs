//! Rules that restrict automation and operators, so that neither makes an outage worse.
//!
//! A rule never prevents the withdrawal of a region that is hard-down: it cannot serve anyone. It holds regions that
//! are soft-down, visibly, and refuses an operator's change unless the operator overrides it. Regions are counted per
//! address family and per set of regions that clients of a service may be sent to, since fences give different
//! clients different sets.

mod all_down;
mod permit;
mod unserved;

pub use all_down::{LeftToAllDown, left_to_all_down};
pub use permit::{Refusal, permit, permit_pools};
pub use unserved::{Unserved, alarm, all_clear, unserved};

use std::collections::BTreeMap;

use crate::health::Severity;
use crate::model::{Due, Family, RegionId, Rule, Rules};
use crate::standing::{Cause, Held, HeldFor, RegionSets, SetId, Standing, Usable};

/// The regions that the rules hold in `standing`, sorted; `before` is what they held until now.
///
/// If fewer than `min_regions` would serve, every soft-down region is held, because a single one would get the clients
/// of all. A region stays held until it recovers or turns hard-down.
#[must_use]
pub fn hold(rules: &Rules, sets: &RegionSets, standing: &Standing, before: &[Held]) -> Box<[Held]> {
    if rules.min_regions == 0 {
        return Box::default();
    }
    let hold = Hold { rules, sets, standing, before };
    let mut held = Vec::new();
    for set in sets_with(sets, standing, &|usable| usable == SOFT) {
        hold.set(HeldFor::Set(set), set, &mut held);
    }
    held.sort_unstable();
    let of_sets = held.len();
    for service in standing.overridden_services() {
        for set in sets.of_service(service) {
            let known = held[..of_sets].to_vec();
            hold.service(HeldFor::Service(service, *set), *set, &known, &mut held);
        }
    }
    held.sort_unstable();
    held.into()
}

struct Hold<'a> {
    rules: &'a Rules,
    sets: &'a RegionSets,
    standing: &'a Standing,
    before: &'a [Held],
}

impl Hold<'_> {
    fn set(&self, scope: HeldFor, set: SetId, into: &mut Vec<Held>) {
        for family in Family::ALL {
            let usable = |id| self.standing.region(id).pool(family).usable;
            self.family(scope, set, family, &usable, into);
        }
    }

    /// Holds regions for one service with overrides. A region that is held for the whole set serves it, unless
    /// operators withdrew the region from the service.
    fn service(&self, scope: HeldFor, set: SetId, of_set: &[Held], into: &mut Vec<Held>) {
        let HeldFor::Service(service, _) = scope else { return };
        for family in Family::ALL {
            let usable = |id| match self.standing.usable_within(service, id, family) {
                SOFT if of_set.iter().any(|it| is(it, HeldFor::Set(set), family, id)) => Usable::Yes(1.0),
                usable => usable,
            };
            self.family(scope, set, family, &usable, into);
        }
    }

    fn family(
        &self,
        scope: HeldFor,
        set: SetId,
        family: Family,
        usable: &dyn Fn(RegionId) -> Usable,
        into: &mut Vec<Held>,
    ) {
        let regions = self.standing.able_to_serve(self.sets.regions(set), family);
        let is_short = is_short(self.rules.min_regions, &regions, usable);
        let was_held = |id: RegionId| self.before.iter().any(|it| is(it, scope, family, id));
        let has_family = |id: RegionId| self.standing.region(id).pool(family).configured;
        for id in regions.iter().copied().filter(|id| has_family(*id) && usable(*id) == SOFT) {
            if is_short || was_held(id) {
                into.push(Held { scope, family, region: id, rule: Rule::MinRegions });
            }
        }
    }
}

/// When failing regions can be held or let go, or change their place in the last resort, without recovering: sorted by
/// region, usually empty. `severity` returns when a region's severity can change.
#[must_use]
pub fn dues(
    rules: &Rules,
    sets: &RegionSets,
    standing: &Standing,
    severity: &dyn Fn(RegionId) -> Due,
) -> Box<[(RegionId, Due)]> {
    let fails = |usable| matches!(usable, Usable::No(Cause::Probes(_)));
    let mut found: BTreeMap<RegionId, Due> = BTreeMap::new();
    let mut add = |id: RegionId, due: Due| {
        found.entry(id).and_modify(|it| *it = it.min(due)).or_insert(due);
    };
    // Even without a rule, if none serves, the soft-down ones come first.
    let least = rules.min_regions.max(1);
    let mut add_set = |set, family, usable: &dyn Fn(RegionId) -> Usable, due: &dyn Fn(RegionId) -> Due| {
        let regions = standing.able_to_serve(sets.regions(set), family);
        let (withdrawn, serving): (Vec<RegionId>, Vec<RegionId>) =
            regions.iter().partition(|id| usable(**id).is_withdrawn());
        let failing = withdrawn.into_iter().filter(|id| fails(usable(*id)));
        if serving.len() < least.min(regions.len()) {
            failing.for_each(|id| add(id, severity(id)));
        } else if least > 1 {
            // When another stops serving, they may be held. Where one is enough, the last to stop is the one that
            // clients are sent to.
            let next = serving.iter().map(|id| due(*id)).fold(Due::NEVER, Due::min);
            failing.for_each(|id| add(id, next));
        }
    };
    let failing = sets_with(sets, standing, &fails);
    for family in Family::ALL {
        for set in &failing {
            let usable = |id| standing.region(id).pool(family).usable;
            add_set(*set, family, &usable, &|id| standing.dues.regions[usize::from(id.0)]);
        }
        for service in standing.overridden_services() {
            let usable = |id| standing.usable_within(service, id, family);
            for set in sets.of_service(service) {
                add_set(*set, family, &usable, &|id| standing.dues.of_member(service, id));
            }
        }
    }
    standing.held.iter().for_each(|held| add(held.region, severity(held.region)));
    found.into_iter().collect()
}

/// The sets with such a region; usually there are none, however many sets exist.
fn sets_with(sets: &RegionSets, standing: &Standing, is_such: &dyn Fn(Usable) -> bool) -> Vec<SetId> {
    let regions = (0..standing.regions.len()).map(|index| RegionId(index as u16));
    let such = regions.filter(|id| standing.region(*id).pools.iter().any(|pool| is_such(pool.usable)));
    let mut found: Vec<SetId> = such.flat_map(|id| sets.of_region(id)).copied().collect();
    found.sort_unstable();
    found.dedup();
    found
}

/// Whether fewer regions serve than must. Unknown is not down.
fn is_short(least: usize, regions: &[RegionId], usable: &dyn Fn(RegionId) -> Usable) -> bool {
    let serving = regions.iter().filter(|id| !usable(**id).is_withdrawn()).count();
    serving < least.min(regions.len())
}

const SOFT: Usable = Usable::No(Cause::Probes(Severity::Soft));

fn is(held: &Held, scope: HeldFor, family: Family, region: RegionId) -> bool {
    (held.scope, held.family, held.region) == (scope, family, region)
}
