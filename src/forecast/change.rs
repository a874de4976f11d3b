//! Whom a change moves: two standings compared.

use std::collections::HashMap;
use std::rc::Rc;

use super::{Demand, Forecast, Shares, Sums, families};
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
    /// How they move.
    pub change: Rc<Change>,
}

/// The services whose clients move when `before` becomes `after`, those that move the most first.
#[must_use]
pub fn moves(plan: &Plan, demand: &Demand, before: &Standing, after: &Standing, unix: Unix) -> Vec<Move> {
    let mut comparison = Comparison { plan, demand, before, after, unix, known: HashMap::new() };
    let mut moves: Vec<Move> = Vec::new();
    for service in (0..plan.topology.services.len() as u32).map(ServiceId) {
        if !comparison.may_differ(service) {
            continue;
        }
        let families = families(plan, after, service);
        let changes: Vec<Option<Rc<Change>>> =
            families.iter().map(|family| comparison.of(service, *family)).collect();
        let is_same = changes.windows(2).all(|pair| pair[0] == pair[1]);
        let shown = if is_same { &families[..1] } else { &families[..] };
        moves.extend(shown.iter().zip(changes).filter_map(|(family, change)| {
            Some(Move { service, family: (!is_same).then_some(*family), change: change? })
        }));
    }
    // The sort is stable: equal ones stay in the order of the config.
    moves.sort_by(|one, two| two.change.moved.total_cmp(&one.change.moved));
    moves
}

/// Compares two standings service by service. Services that rank alike and have no overrides of their own move alike.
struct Comparison<'a> {
    plan: &'a Plan,
    demand: &'a Demand,
    before: &'a Standing,
    after: &'a Standing,
    unix: Unix,
    known: HashMap<(TableId, Family), Vec<Known<'a>>>,
}

/// What is known of services with these rankings in common.
struct Known<'a> {
    all_down: &'a AllDown,
    change: Option<Rc<Change>>,
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

    fn of(&mut self, service: ServiceId, family: Family) -> Option<Rc<Change>> {
        let has_own = [self.before, self.after].iter().any(|it| !it.overrides_of(service).is_empty());
        if has_own {
            return self.compare(service, family).map(Rc::new);
        }
        let all_down = &self.plan.topology.service(service).steering.all_down;
        let key = (self.plan.steering.table(service), family);
        let known = self.known.get(&key).into_iter().flatten().find(|it| it.all_down == all_down);
        if let Some(known) = known {
            return known.change.clone();
        }
        let change = self.compare(service, family).map(Rc::new);
        self.known.entry(key).or_default().push(Known { all_down, change: change.clone() });
        change
    }

    fn compare(&self, service: ServiceId, family: Family) -> Option<Change> {
        let Self { plan, demand, unix, .. } = *self;
        let forecast = Forecast { plan, demand, service, family, unix };
        let (before, after) = (forecast.by_ranking(self.before), forecast.by_ranking(self.after));
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
            let weight = demand.countries[country].weight;
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
            if moved_here > LEAST {
                countries.push(CountryChange { country, moved: moved_here, before: from, after: to });
            }
        }
        let clients = |it: &CountryChange| it.moved * demand.countries[it.country].weight;
        countries.sort_by(|one, two| clients(two).total_cmp(&clients(one)));
        let (gains, before, after) = (gains.take(), all_before.take(), all_after.take());
        (!countries.is_empty()).then_some(Change { moved, gains, before, after, countries })
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
