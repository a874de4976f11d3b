//! Rules that restrict automation and operators, so that neither makes an outage worse.
//!
//! A rule never prevents the withdrawal of a region that is hard-down: it cannot serve anyone. It holds regions that
//! are soft-down, visibly, and refuses an operator's change unless the operator overrides it. Regions are counted per
//! address family and per set of regions that clients of a service may be sent to, since fences give different
//! clients different sets.

mod permit;
mod unserved;

pub use permit::{Refusal, permit};
pub use unserved::{Unserved, alarm, all_clear, unserved};

use crate::health::Severity;
use crate::model::{Family, RegionId, Rule, Rules};
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
    for set in hold.sets_that_fail_softly() {
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
    /// The sets with a soft-down region: only these can have anything to hold. Usually there are none, however many
    /// sets exist.
    fn sets_that_fail_softly(&self) -> Vec<SetId> {
        let fails = |usable| usable == SOFT;
        let regions = (0..self.standing.regions.len()).map(|index| RegionId(index as u16));
        let soft = regions.filter(|id| self.standing.region(*id).pools.iter().any(|pool| fails(pool.usable)));
        let mut sets: Vec<SetId> = soft.flat_map(|id| self.sets.of_region(id)).copied().collect();
        sets.sort_unstable();
        sets.dedup();
        sets
    }

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
        let regions = self.sets.regions(set);
        if !regions.iter().any(|id| self.standing.region(*id).pool(family).configured) {
            return;
        }
        // Unknown is not down.
        let serving = regions.iter().filter(|id| !usable(**id).is_withdrawn()).count();
        let is_short = serving < self.rules.min_regions.min(regions.len());
        let was_held = |id: RegionId| self.before.iter().any(|it| is(it, scope, family, id));
        for id in regions.iter().copied().filter(|id| usable(*id) == SOFT) {
            if is_short || was_held(id) {
                into.push(Held { scope, family, region: id, rule: Rule::MinRegions });
            }
        }
    }
}

const SOFT: Usable = Usable::No(Cause::Probes(Severity::Soft));

fn is(held: &Held, scope: HeldFor, family: Family, region: RegionId) -> bool {
    (held.scope, held.family, held.region) == (scope, family, region)
}
