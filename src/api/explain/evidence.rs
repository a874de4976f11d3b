//! Which check is cited as the reason for the state of a region or backend: the one that decides.

use std::collections::HashMap;

use crate::health::{self, Part, State};
use crate::model::{EndpointRef, RegionId, Subject, Topology, Unix};
use crate::standing::{self, EndpointStanding, Standing};
use crate::state::CheckStatus;

/// A check that decides about its address, with the state of that.
type Deciding<'a> = Part<Unix, &'a CheckStatus>;

/// The checks that decide about the addresses of endpoints, by region and endpoint.
pub(super) struct Evidence<'a>(HashMap<(&'a str, &'a str), Vec<Deciding<'a>>>);

impl<'a> Evidence<'a> {
    pub(super) fn of(checks: &'a [CheckStatus]) -> Self {
        let mut all: HashMap<_, Vec<_>> = HashMap::new();
        for check in checks {
            let Subject::Address { region, endpoint, .. } = &check.id.subject else { continue };
            all.entry((&**region, &**endpoint)).or_default().extend(deciding(check));
        }
        Self(all)
    }

    /// The check that decides about a region without the endpoints that operators withdrew. If it is up by that, as it may be
    /// by another address family, the check that decides about the worst of its addresses. `None` if all of them are up.
    pub(super) fn of_region(
        &self,
        topology: &Topology,
        standing: &Standing,
        region: RegionId,
    ) -> Option<&'a CheckStatus> {
        let of = |at: EndpointRef| {
            let name = (&*topology.region(at.region).name, &*topology.endpoint(at).name);
            self.0.get(&name).map_or(&[][..], Vec::as_slice)
        };
        let endpoint = |at: EndpointRef| {
            let EndpointStanding { state, .. } = standing.region(at.region).endpoints[usize::from(at.index)];
            let part = |it: &Deciding<'a>| Part { state: it.state, since: it.since, by: Some(it.by) };
            let without = Part { state, since: Unix::default(), by: None };
            let is_left = at.region != region
                || !standing.region(region).endpoints[usize::from(at.index)].is_withdrawn();
            is_left.then(|| health::any_of(of(at).iter().map(part).collect()).unwrap_or(without))
        };
        let found = standing::decide(topology, region, &endpoint);
        if let Some(Part { by: Some(check), .. }) = found.filter(|it| it.state > State::Up) {
            return Some(check);
        }
        let own = (0..topology.region(region).endpoints.len())
            .map(|index| EndpointRef { region, index: index as u16 });
        let worst = own.flat_map(of).max_by_key(|it| it.state)?;
        (worst.state > State::Up).then_some(worst.by)
    }
}

/// The check that decides about what uses any of these addresses; `None` if that is up.
pub(super) fn of_any<'a>(checks: impl Iterator<Item = &'a CheckStatus>) -> Option<&'a CheckStatus> {
    let found = health::any_of(checks.filter_map(deciding).collect())?;
    (found.state > State::Up).then_some(found.by)
}

fn deciding(check: &CheckStatus) -> Option<Deciding<'_>> {
    Some(Part { state: check.decides?, since: check.since, by: check })
}
