//! Whom a change moves: two standings compared.

use std::collections::HashMap;
use std::rc::Rc;

use super::{ByRanking, Demand, Forecast, Shares, Sums, families};
use crate::model::{AllDown, Family, RegionId, ServiceId, Unix};
use crate::snapshot::Plan;
use crate::standing::Standing;
use crate::steer::TableId;

/// How a change moves the clients of a service.
#[derive(Clone, Debug, PartialEq)]
pub struct Change {
    /// The share of the clients that move, above 0: to another region, to none, or from none.
    pub moved: f64,
    /// To which regions: of all clients, the share that moves to each. What is missing to [`Change::moved`] gets none.
    pub gains: Shares,
    /// What each region has of all clients before.
    pub before: Shares,
    /// What each region has of all clients after it.
    pub after: Shares,
    /// The countries whose clients move, those with the most clients that do first.
    pub countries: Vec<CountryChange>,
}

/// How a change moves the clients of a country.
#[derive(Clone, Debug, PartialEq)]
pub struct CountryChange {
    /// Index into [`Demand::countries`].
    pub country: usize,
    /// Its share of all clients, above 0.
    pub weight: f64,
    /// The share of the country's clients that move, above 0.
    pub moved: f64,
    /// What each region has of the country's clients before.
    pub before: Shares,
    /// What each region has of the country's clients after it.
    pub after: Shares,
}

/// A service whose clients move.
#[derive(Clone, Debug)]
pub struct Move {
    /// The service.
    pub service: ServiceId,
    /// The family of data for which they do, if it makes a difference.
    pub family: Option<Family>,
    /// Whether its countries are weighed by what it was asked, rather than by addresses.
    pub is_measured: bool,
    /// How they move.
    pub change: Rc<Change>,
}

/// The services whose clients move when `before` becomes `after`, those that move the most first. `measured` returns what
/// [`Demand::measured`] says of a service, if enough is known of it.
#[must_use]
pub fn moves(
    plan: &Plan,
    demand: &Demand,
    measured: &dyn Fn(ServiceId) -> Option<Vec<f64>>,
    [before, after]: [&Standing; 2],
    unix: Unix,
) -> Vec<Move> {
    let by_addresses = demand.by_addresses();
    let known = HashMap::new();
    let mut comparison = Comparison { plan, demand, by_addresses, before, after, unix, known };
    let mut moves: Vec<Move> = Vec::new();
    for service in (0..plan.topology.services.len() as u32).map(ServiceId) {
        if !comparison.may_differ(service) {
            continue;
        }
        let families = families(plan, after, service);
        let weights = measured(service);
        let changes: Vec<Option<Rc<Change>>> =
            families.iter().map(|family| comparison.of(service, *family, weights.as_deref())).collect();
        let is_measured = weights.is_some();
        let is_same = changes.windows(2).all(|pair| pair[0] == pair[1]);
        let shown = if is_same { &families[..1] } else { &families[..] };
        moves.extend(shown.iter().zip(changes).filter_map(|(family, change)| {
            let family = (!is_same).then_some(*family);
            Some(Move { service, family, is_measured, change: change? })
        }));
    }
    // The sort is stable: equal ones stay in the order of the config.
    moves.sort_by(|one, two| two.change.moved.total_cmp(&one.change.moved));
    moves
}

/// Compares two standings service by service. Services that rank alike and have no overrides of their own send the clients
/// of a ranking alike, and move alike unless they are asked by others.
struct Comparison<'a> {
    plan: &'a Plan,
    demand: &'a Demand,
    by_addresses: Vec<f64>,
    before: &'a Standing,
    after: &'a Standing,
    unix: Unix,
    known: HashMap<(TableId, Family), Vec<Known<'a>>>,
}

/// What is known of services with these rankings in common.
struct Known<'a> {
    all_down: &'a AllDown,
    shares: BothShares,
    /// How their clients move by addresses, once a service has asked for it.
    change: Option<Option<Rc<Change>>>,
}

/// The shares of every ranking, before and after.
struct BothShares {
    before: ByRanking,
    after: ByRanking,
}

impl<'a> Comparison<'a> {
    /// Whether anything differs that a service depends on.
    fn may_differ(&self, service: ServiceId) -> bool {
        let Self { plan, before, after, .. } = self;
        let members = &plan.topology.service(service).members;
        before.held != after.held
            || before.overrides_of(service) != after.overrides_of(service)
            || members.iter().any(|it| before.region(it.region) != after.region(it.region))
    }

    /// How the clients of a service move, whose countries have the weights `measured`, or else those by addresses.
    fn of(&mut self, service: ServiceId, family: Family, measured: Option<&[f64]>) -> Option<Rc<Change>> {
        let has_own = [self.before, self.after].iter().any(|it| !it.overrides_of(service).is_empty());
        if has_own {
            let weights = measured.unwrap_or(&self.by_addresses);
            return self.compare(service, &self.shares(service, family), weights);
        }
        let key = (self.plan.steering.table(service), family);
        let at = self.known(key, service);
        let Known { shares, change, .. } = &self.known[&key][at];
        match (measured, change) {
            (Some(weights), _) => return self.compare(service, shares, weights),
            (None, Some(change)) => return change.clone(),
            (None, None) => {}
        }
        let found = self.compare(service, shares, &self.by_addresses);
        if let Some(known) = self.known.get_mut(&key).and_then(|all| all.get_mut(at)) {
            known.change = Some(found.clone());
        }
        found
    }

    /// The position of what is known of services like this one.
    fn known(&mut self, key: (TableId, Family), service: ServiceId) -> usize {
        let all_down = &self.plan.topology.service(service).steering.all_down;
        let known = self.known.get(&key).into_iter().flatten().position(|it| it.all_down == all_down);
        known.unwrap_or_else(|| {
            let shares = self.shares(service, key.1);
            let all = self.known.entry(key).or_default();
            all.push(Known { all_down, shares, change: None });
            all.len() - 1
        })
    }

    fn shares(&self, service: ServiceId, family: Family) -> BothShares {
        let Self { plan, demand, unix, .. } = *self;
        let forecast = Forecast { plan, demand, service, family, unix };
        BothShares { before: forecast.by_ranking(self.before), after: forecast.by_ranking(self.after) }
    }

    /// `weights` are those of the countries, in the order of [`Demand::countries`].
    fn compare(&self, service: ServiceId, shares: &BothShares, weights: &[f64]) -> Option<Rc<Change>> {
        let Self { plan, demand, .. } = *self;
        let BothShares { before, after } = shares;
        if before.ends == after.ends && before.shares == after.shares {
            return None;
        }
        let sums = || Sums::new(plan.topology.regions.len());
        let (mut gains, mut all_before, mut all_after) = (sums(), sums(), sums());
        let (mut from, mut to, mut scratch) = (sums(), sums(), sums());
        let (mut moved, mut countries) = (0.0, Vec::new());
        let cells = demand.cells(&plan.steering, plan.steering.table(service));
        for cells in cells.chunk_by(|one, two| one.country == two.country) {
            let country = cells[0].country as usize;
            let weight = weights[country];
            let mut moved_here = 0.0;
            for cell in cells {
                let (one, two) = (before.of(cell.ranking.0), after.of(cell.ranking.0));
                from.add(one, cell.share);
                to.add(two, cell.share);
                let (lost, won) = difference(one, two, &mut scratch);
                won.iter().for_each(|(region, share)| gains.add_one(*region, share * cell.share * weight));
                moved_here += cell.share * lost.max(won.iter().map(|(_, share)| share).sum());
            }
            let (from, to) = (from.take(), to.take());
            all_before.add(&from, weight);
            all_after.add(&to, weight);
            moved += moved_here * weight;
            if moved_here > LEAST && weight > 0.0 {
                countries.push(CountryChange { country, weight, moved: moved_here, before: from, after: to });
            }
        }
        let clients = |it: &CountryChange| it.moved * it.weight;
        countries.sort_by(|one, two| clients(two).total_cmp(&clients(one)));
        let (gains, before, after) = (gains.take(), all_before.take(), all_after.take());
        (!countries.is_empty()).then(|| Rc::new(Change { moved, gains, before, after, countries }))
    }
}

/// The share of clients that leave their regions, and those that regions win.
fn difference(before: &[(RegionId, f64)], after: &[(RegionId, f64)], sums: &mut Sums) -> (f64, Shares) {
    if before == after {
        return (0.0, Vec::new());
    }
    let share_in = |shares: &[(RegionId, f64)], region: RegionId| {
        shares.iter().find(|(other, _)| *other == region).map_or(0.0, |(_, share)| *share)
    };
    let lost = before.iter().map(|(region, share)| (share - share_in(after, *region)).max(0.0)).sum();
    for (region, share) in after {
        sums.add_one(*region, (share - share_in(before, *region)).max(0.0));
    }
    (lost, sums.take())
}

/// Less than this of a country's clients is an error of rounding.
const LEAST: f64 = 1e-9;
