//! What would happen: where the clients of a service are sent, country by country, and whom a change would move.
//!
//! [`Demand`] counts the clients of each country by their addresses. It depends on the plan only, so it is made once for
//! each plan. [`Forecast`] combines it with a standing: what a ranking's clients get is what
//! [`Compiled::shares`](crate::steer::Compiled::shares) says, which decides by the functions that answer queries.
//! [`moves`] compares two standings, of one config or of two.

mod change;
mod demand;

pub use change::{Change, CountryChange, Move, Regions, Side, moves, pairs};
pub use demand::{CountryDemand, Demand};

use crate::model::{EndpointRef, Family, RegionId, ServiceId, ServiceKind, Unix};
use crate::snapshot::Plan;
use crate::standing::Standing;
use crate::steer::Population;

/// Regions with the share of clients that each gets, the largest first. The shares sum to 1, or to less where some
/// clients get no region.
pub type Shares = Vec<(RegionId, f64)>;

/// Where the clients of a service are sent at one moment.
#[derive(Clone, Copy, Debug)]
pub struct Forecast<'a> {
    /// The compiled config.
    pub plan: &'a Plan,
    /// The clients; those of this very plan.
    pub demand: &'a Demand,
    /// The service.
    pub service: ServiceId,
    /// The kind of data that the clients ask for.
    pub family: Family,
    /// When they ask.
    pub unix: Unix,
}

impl Forecast<'_> {
    /// The shares of the clients of each country, in the order of [`Demand::countries`].
    #[must_use]
    pub fn countries(&self, standing: &Standing) -> Vec<Shares> {
        let rankings = self.by_ranking(standing);
        let mut sums = Sums::new(self.plan.topology.regions.len());
        let cells = self.demand.cells(&self.plan.steering, self.plan.steering.table(self.service));
        let countries = cells.chunk_by(|one, two| one.country == two.country);
        let of_country = countries.map(|cells| {
            cells.iter().for_each(|cell| sums.add(rankings.of(cell.ranking.0), cell.share));
            sums.take()
        });
        of_country.collect()
    }

    /// The shares of the clients of each ranking.
    fn by_ranking(&self, standing: &Standing) -> ByRanking {
        let Self { plan, service, family, unix, .. } = *self;
        let mut found = ByRanking::default();
        let mut shares = Vec::new();
        for ranking in plan.steering.rankings(plan.steering.table(service)) {
            let clients = Population { service, ranking, family, unix };
            plan.steering.shares(&plan.topology, standing, &clients, &mut shares);
            found.shares.extend_from_slice(&shares);
            found.ends.push(found.shares.len());
        }
        found
    }
}

/// The families of data that a service answers: those that any of its regions has, or IPv4 if there are none.
#[must_use]
pub fn families(plan: &Plan, standing: &Standing, service: ServiceId) -> Vec<Family> {
    let service = plan.topology.service(service);
    if !matches!(service.kind, ServiceKind::Address { .. }) {
        return vec![Family::Host];
    }
    let has = |family: &Family| {
        service.members.iter().any(|member| standing.region(member.region).pool(*family).configured)
    };
    let found: Vec<Family> = [Family::V4, Family::V6].into_iter().filter(has).collect();
    if found.is_empty() { vec![Family::V4] } else { found }
}

/// The share of a region's clients that each of its endpoints gets, in the order of the config; with several endpoints in
/// an answer, which comes first. Empty while the region has no endpoint that serves.
#[must_use]
pub fn endpoint_shares(standing: &Standing, region: RegionId, family: Family) -> Vec<(EndpointRef, f64)> {
    let candidates = &standing.region(region).pool(family).candidates;
    let total: f64 = candidates.iter().map(|it| it.weight).sum();
    candidates.iter().map(|it| (it.endpoint, it.weight / total)).collect()
}

/// The shares of every ranking of a table.
#[derive(Debug, Default)]
struct ByRanking {
    shares: Vec<(RegionId, f64)>,
    /// Where the shares of each ranking end.
    ends: Vec<usize>,
}

impl ByRanking {
    fn of(&self, ranking: u32) -> &[(RegionId, f64)] {
        let at = ranking as usize;
        let start = at.checked_sub(1).map_or(0, |before| self.ends[before]);
        &self.shares[start..self.ends[at]]
    }
}

/// Adds up shares by region.
struct Sums {
    /// By [`RegionId`].
    sums: Vec<f64>,
    /// The regions with a sum.
    regions: Vec<RegionId>,
}

impl Sums {
    fn new(regions: usize) -> Self {
        Self { sums: vec![0.0; regions], regions: Vec::new() }
    }

    fn add(&mut self, shares: &[(RegionId, f64)], factor: f64) {
        shares.iter().for_each(|(region, share)| self.add_one(*region, share * factor));
    }

    fn add_one(&mut self, region: RegionId, share: f64) {
        let sum = &mut self.sums[usize::from(region.0)];
        if *sum == 0.0 && share > 0.0 {
            self.regions.push(region);
        }
        *sum += share;
    }

    /// The sums so far, the largest first; begins anew.
    fn take(&mut self) -> Shares {
        let taken = self
            .regions
            .drain(..)
            .map(|region| (region, std::mem::take(&mut self.sums[usize::from(region.0)])));
        let mut taken: Shares = taken.collect();
        taken.sort_by(|(one, a), (two, b)| b.total_cmp(a).then(one.cmp(two)));
        taken
    }
}
