//! Whether the rules permit an operator's change.

use crate::model::{Family, RegionId, Rule, Rules, ServiceId, Topology};
use crate::standing::{RegionSets, SetId, Standing, Usable};

/// A change that a rule forbids.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal {
    /// The rule that forbids it.
    pub rule: Rule,
    /// How many regions the rule requires.
    pub needed: usize,
    /// How many would remain usable.
    pub remaining: usize,
    /// The regions of which too few would remain.
    pub regions: Vec<RegionId>,
    /// The address family in which they would be too few.
    pub family: Family,
    /// The set of regions that they are.
    pub set: SetId,
    /// The service that would have too few; `None` if that holds for all services with these regions.
    pub service: Option<ServiceId>,
}

/// Whether an operator may turn `before` into `after`. A change is refused if it reduces the usable regions in any
/// address family to fewer than the rule requires, for all services with a set of regions or for one service with
/// overrides of its own.
///
/// # Errors
/// A refusal that names the first set of regions with too few.
pub fn permit(rules: &Rules, sets: &RegionSets, before: &Standing, after: &Standing) -> Result<(), Refusal> {
    let change = Change { rules, sets, before, after };
    let services: Vec<ServiceId> = before.overridden_services().chain(after.overridden_services()).collect();
    let of_sets = sets.ids().map(|set| (set, None));
    let of_services = services.iter().flat_map(|id| sets.of_service(*id).iter().map(|set| (*set, Some(*id))));
    for (set, service) in of_sets.chain(of_services) {
        for family in Family::ALL {
            if let Some(refusal) = change.refuse(set, family, service) {
                return Err(refusal);
            }
        }
    }
    Ok(())
}

/// Whether an operator may turn `before` into `after` as far as pools of backends are concerned: a pool that serves must
/// keep a backend that does.
///
/// # Errors
/// A sentence about the first pool that would have none.
pub fn permit_pools(topology: &Topology, before: &Standing, after: &Standing) -> Result<(), String> {
    let lost = topology.pool_ids().find(|id| before.pool(*id).serves() && !after.pool(*id).serves());
    lost.map_or(Ok(()), |id| {
        Err(format!("pool `{}` would have no backend left that serves", topology.pool(id).name))
    })
}

struct Change<'a> {
    rules: &'a Rules,
    sets: &'a RegionSets,
    before: &'a Standing,
    after: &'a Standing,
}

impl Change<'_> {
    fn refuse(&self, set: SetId, family: Family, service: Option<ServiceId>) -> Option<Refusal> {
        let regions = self.before.able_to_serve(self.sets.regions(set), family);
        let needed = self.rules.min_regions.min(regions.len());
        let remaining = self.serving(self.after, set, family, service);
        if remaining >= needed {
            return None;
        }
        let is_less = remaining < self.serving(self.before, set, family, service);
        let refusal = Refusal { rule: Rule::MinRegions, needed, remaining, regions, family, set, service };
        is_less.then_some(refusal)
    }

    /// The number of regions that serve, as observed by this node itself, or are held.
    fn serving(&self, standing: &Standing, set: SetId, family: Family, service: Option<ServiceId>) -> usize {
        let serves = |id: RegionId| {
            let pool = standing.region(id).pool(family);
            let usable = match service {
                Some(service) => standing.usable_within(service, id, family),
                None => pool.usable,
            };
            match usable {
                Usable::Yes(_) => pool.observed || pool.usable != usable,
                Usable::IfNothingElse => false,
                Usable::No(cause) => {
                    !cause.is_operator() && standing.held(service, set, family, id).is_some()
                }
            }
        };
        standing.able_to_serve(self.sets.regions(set), family).into_iter().filter(|id| serves(*id)).count()
    }
}

impl Refusal {
    /// A sentence that explains the refusal to the operator.
    #[must_use]
    pub fn explain(&self, topology: &Topology, sets: &RegionSets) -> String {
        let names: Vec<&str> = self.regions.iter().map(|id| topology.region(*id).name.as_str()).collect();
        let services = self.services(topology, sets);
        let family = match self.family {
            Family::V6 => " over IPv6",
            Family::V4 | Family::Host => "",
        };
        let rule = self.rule.name();
        let consequence = match (&names[..], self.remaining) {
            ([only], _) => format!("{only} is the only region of {services} and would not be usable{family}"),
            (all, 0) => format!("none of {} would be usable{family} for {services}", all.join(", ")),
            (all, some) => {
                format!("only {some} of {} would be usable{family} for {services}", all.join(", "))
            }
        };
        format!("{rule} = {} forbids this, because {consequence}", self.needed)
    }

    /// The names of the services that would have too few regions; of many, the first.
    fn services(&self, topology: &Topology, sets: &RegionSets) -> String {
        const SHOWN: usize = 3;
        let ids = (0..topology.services.len()).map(|index| ServiceId(index as u32));
        let uses = |id: &ServiceId| match self.service {
            Some(service) => *id == service,
            None => sets.of_service(*id).contains(&self.set),
        };
        let mut names: Vec<String> = Vec::new();
        for name in ids.filter(uses).map(|id| topology.service(id).name.to_string()) {
            if !names.contains(&name) {
                names.push(name);
            }
        }
        match names.len().saturating_sub(SHOWN) {
            0 => names.join(", "),
            more => format!("{} and {more} more", names[..SHOWN].join(", ")),
        }
    }
}
