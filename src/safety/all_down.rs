//! What `all_down` answers for services that a change leaves without a region.

use std::collections::BTreeMap;

use super::unserved::{Unserved, listed, unserved};
use crate::model::{AllDown, RegionId, Topology};
use crate::standing::{LastResortClass, RegionSets, Standing};

/// The most answers that are told apart, and the most regions or addresses of one.
const NAMED: usize = 5;

/// Services that no region could serve.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LeftToAllDown {
    /// Their names.
    services: String,
    /// What they would be answered, as a clause.
    answer: String,
}

impl LeftToAllDown {
    /// A sentence about all of them; `None` if there are none.
    #[must_use]
    pub fn sentence(all: &[Self]) -> Option<String> {
        let of =
            |Self { services, answer }: &Self| format!("no region would be left for {services}: {answer}");
        (!all.is_empty()).then(|| all.iter().map(of).collect::<Vec<_>>().join("; "))
    }

    /// A clause about all of them, for a sentence that says why no region would be left; `None` if there are none.
    #[must_use]
    pub fn clause(all: &[Self]) -> Option<String> {
        match all {
            [] => None,
            [only] => Some(only.answer.clone()),
            several => {
                let of = |Self { services, answer }: &Self| format!("{answer} for {services}");
                Some(several.iter().map(of).collect::<Vec<_>>().join("; "))
            }
        }
    }
}

/// The services that no region could serve with a standing, by what they would be answered. Those that are `already`
/// without a region, sorted, are left out.
#[must_use]
pub fn left_to_all_down(
    topology: &Topology,
    sets: &RegionSets,
    standing: &Standing,
    already: &[Unserved],
) -> Vec<LeftToAllDown> {
    let mut by_answer: BTreeMap<String, Vec<Unserved>> = BTreeMap::new();
    for it in unserved(topology, sets, standing) {
        if already.binary_search(&it).is_err() {
            by_answer.entry(answer(topology, sets, standing, it)).or_default().push(it);
        }
    }
    let left = by_answer.into_iter().take(NAMED);
    left.filter_map(|(answer, all)| Some(LeftToAllDown { services: listed(topology, &all)?, answer }))
        .collect()
}

fn answer(topology: &Topology, sets: &RegionSets, standing: &Standing, it: Unserved) -> String {
    let resort = || last_resort(topology, sets, standing, it);
    match &topology.service(it.service).steering.all_down {
        AllDown::All => format!("all_down = \"all\" would then answer with {}", resort()),
        AllDown::LastGood(time) => {
            let seconds = time.as_secs();
            format!(
                "all_down would then answer with what served within the last {seconds} s, or else with {}",
                resort()
            )
        }
        AllDown::Fallback(addresses) => {
            let family = addresses.iter().filter(|address| it.family.has(**address));
            let addresses = shortened(family.map(ToString::to_string).collect());
            match &*addresses {
                "" => "all_down would then answer without an address of this family".into(),
                addresses => format!("all_down would then answer with its fallback {addresses}"),
            }
        }
        AllDown::Cname(name) => format!("all_down would then answer with a CNAME to {name}"),
        AllDown::Servfail => "all_down = \"servfail\" would then answer with SERVFAIL".into(),
    }
}

/// The most promising regions. Which of them a client gets may depend on where it is.
fn last_resort(topology: &Topology, sets: &RegionSets, standing: &Standing, it: Unserved) -> String {
    let members = topology.service(it.service).members.iter().map(|member| member.region);
    let class = |region: RegionId| standing.last_resort(it.service, region, it.family);
    let best = members.clone().map(class).min().filter(|best| *best != LastResortClass::Never);
    let Some(best) = best else { return "SERVFAIL, as no region may be answered".into() };
    if sets.of_service(it.service).len() > 1 {
        return "the most promising regions of each client".into();
    }
    let names = members.filter(|region| class(*region) == best);
    shortened(names.map(|region| topology.region(region).name.clone()).collect())
}

fn shortened(mut names: Vec<String>) -> String {
    let more = names.len().saturating_sub(NAMED);
    names.truncate(NAMED);
    let names = names.join(", ");
    if more > 0 { format!("{names} and {more} more") } else { names }
}
