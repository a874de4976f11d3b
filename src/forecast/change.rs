//! Whom a change moves: two standings compared, of one config or of two.

use std::collections::HashMap;
use std::rc::Rc;

use super::demand::Cell;
use super::{ByRanking, Demand, Forecast, Shares, Sums, families};
use crate::model::{AllDown, Family, Region, RegionId, ServiceId, Topology, Unix};
use crate::snapshot::Plan;
use crate::standing::Standing;
use crate::steer::{RankingId, TableId};

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
    /// The service, in the config before.
    pub service: ServiceId,
    /// The family of data for which they do, if it makes a difference.
    pub family: Option<Family>,
    /// Whether its countries are weighed by what it was asked, rather than by addresses.
    pub is_measured: bool,
    /// How they move.
    pub change: Rc<Change>,
}

/// A side of a comparison: a config, and what may be used of it.
#[derive(Clone, Copy, Debug)]
pub struct Side<'a> {
    /// The compiled config.
    pub plan: &'a Plan,
    /// The standing, by this very plan.
    pub standing: &'a Standing,
}

/// The regions of both sides of a comparison, numbered together. Those of the config after have their own ids.
#[derive(Debug)]
pub struct Regions {
    /// By their ids in the config before.
    before: Vec<RegionId>,
    /// By the ids here.
    pub names: Vec<String>,
}

impl Regions {
    /// Those of one config, on both sides.
    #[must_use]
    pub fn of_one(topology: &Topology) -> Self {
        let names = topology.regions.iter().map(|region| region.name.to_string()).collect();
        Self { before: topology.region_ids().collect(), names }
    }

    /// `None` if there are more than ids.
    #[must_use]
    pub fn of(before: &Topology, after: &Topology) -> Option<Self> {
        let Self { mut names, .. } = Self::of_one(after);
        let mut number = |region: &Region| {
            after.region_named(&region.name).or_else(|| {
                names.push(region.name.to_string());
                u16::try_from(names.len() - 1).ok().map(RegionId)
            })
        };
        let before = before.regions.iter().map(&mut number).collect::<Option<_>>()?;
        Some(Self { before, names })
    }
}

/// The services that both sides of a comparison have, by their ids in each.
#[must_use]
pub fn pairs(before: &Topology, after: &Topology) -> Vec<[ServiceId; 2]> {
    let by_key = after.services_by_key();
    let found = before.services.iter().zip((0..).map(ServiceId));
    found.filter_map(|(service, id)| Some([id, *by_key.get(&service.key())?])).collect()
}

/// The services whose clients move from one side to the other, those that move the most first. `demand` are the clients of
/// the plan before; if the other plan places clients differently, with its places split by those of the other.
/// `measured` returns what [`Demand::measured`] says of a service of the plan before, if enough is known of it.
#[must_use]
pub fn moves(
    sides: [Side<'_>; 2],
    regions: &Regions,
    demand: &Demand,
    measured: &dyn Fn(ServiceId) -> Option<Vec<f64>>,
    unix: Unix,
) -> Vec<Move> {
    let [before, after] = sides;
    let (by_addresses, known) = (demand.by_addresses(), HashMap::new());
    let is_one_plan = std::ptr::eq(before.plan, after.plan);
    let mut comparison = Comparison { sides, regions, is_one_plan, demand, by_addresses, unix, known };
    let mut moves: Vec<Move> = Vec::new();
    for pair in pairs(&before.plan.topology, &after.plan.topology) {
        if !comparison.may_differ(pair) {
            continue;
        }
        let mut asked = families(before.plan, before.standing, pair[0]);
        let new = families(after.plan, after.standing, pair[1]);
        asked.extend(new.into_iter().filter(|family| !asked.contains(family)).collect::<Vec<_>>());
        let weights = measured(pair[0]);
        let changes: Vec<Option<Rc<Change>>> =
            asked.iter().map(|family| comparison.of(pair, *family, weights.as_deref())).collect();
        let is_measured = weights.is_some();
        let is_same = changes.windows(2).all(|pair| pair[0] == pair[1]);
        let shown = if is_same { &asked[..1] } else { &asked[..] };
        moves.extend(shown.iter().zip(changes).filter_map(|(family, change)| {
            let family = (!is_same).then_some(*family);
            Some(Move { service: pair[0], family, is_measured, change: change? })
        }));
    }
    // The sort is stable: equal ones stay in the order of the config.
    moves.sort_by(|one, two| two.change.moved.total_cmp(&one.change.moved));
    moves
}

/// Compares two sides service by service. Services that rank alike and have no overrides of their own send the clients
/// of a ranking alike, and move alike unless they are asked by others.
struct Comparison<'a> {
    sides: [Side<'a>; 2],
    regions: &'a Regions,
    /// Whether the standings alone differ.
    is_one_plan: bool,
    demand: &'a Demand,
    by_addresses: Vec<f64>,
    unix: Unix,
    known: HashMap<([TableId; 2], Family), Vec<Known<'a>>>,
}

/// What is known of services with these rankings in common.
struct Known<'a> {
    all_down: [&'a AllDown; 2],
    clients: Clients,
    /// How their clients move by addresses, once a service has asked for it.
    change: Option<Option<Rc<Change>>>,
}

/// Clients by their rankings before and after, and the shares that regions have of those of each ranking.
struct Clients {
    cells: Vec<Cell<[RankingId; 2]>>,
    before: ByRanking,
    after: ByRanking,
}

impl<'a> Comparison<'a> {
    /// Whether anything differs that a service depends on.
    fn may_differ(&self, [service, _]: [ServiceId; 2]) -> bool {
        let [Side { plan, standing: before }, Side { standing: after, .. }] = self.sides;
        let members = &plan.topology.service(service).members;
        !self.is_one_plan
            || before.held != after.held
            || before.overrides_of(service) != after.overrides_of(service)
            || members.iter().any(|it| before.region(it.region) != after.region(it.region))
    }

    /// Something of the sides and of a service on each.
    fn of_both<T>(&self, pair: [ServiceId; 2], of: impl Fn(Side<'a>, ServiceId) -> T) -> [T; 2] {
        [of(self.sides[0], pair[0]), of(self.sides[1], pair[1])]
    }

    /// How the clients of a service move, whose countries have the weights `measured`, or else those by addresses.
    fn of(&mut self, pair: [ServiceId; 2], family: Family, measured: Option<&[f64]>) -> Option<Rc<Change>> {
        let tables = self.of_both(pair, |side, service| side.plan.steering.table(service));
        let has_own = self.of_both(pair, |side, service| !side.standing.overrides_of(service).is_empty());
        if has_own.contains(&true) {
            let weights = measured.unwrap_or(&self.by_addresses);
            return self.compare(&self.clients(pair, tables, family), weights);
        }
        let key = (tables, family);
        let at = self.known(key, pair);
        let Known { clients, change, .. } = &self.known[&key][at];
        match (measured, change) {
            (Some(weights), _) => return self.compare(clients, weights),
            (None, Some(change)) => return change.clone(),
            (None, None) => {}
        }
        let found = self.compare(clients, &self.by_addresses);
        if let Some(known) = self.known.get_mut(&key).and_then(|all| all.get_mut(at)) {
            known.change = Some(found.clone());
        }
        found
    }

    /// The position of what is known of services like this one.
    fn known(&mut self, key: ([TableId; 2], Family), pair: [ServiceId; 2]) -> usize {
        let all_down =
            self.of_both(pair, |side, service| &side.plan.topology.service(service).steering.all_down);
        let known = self.known.get(&key).into_iter().flatten().position(|it| it.all_down == all_down);
        known.unwrap_or_else(|| {
            let clients = self.clients(pair, key.0, key.1);
            let all = self.known.entry(key).or_default();
            all.push(Known { all_down, clients, change: None });
            all.len() - 1
        })
    }

    fn clients(&self, pair: [ServiceId; 2], tables: [TableId; 2], family: Family) -> Clients {
        let Self { sides, demand, unix, .. } = *self;
        let [mut before, after] = self.of_both(pair, |Side { plan, standing }, service| {
            Forecast { plan, demand, service, family, unix }.by_ranking(standing)
        });
        for (region, _) in &mut before.shares {
            *region = self.regions.before[usize::from(region.0)];
        }
        let [one, two] = sides.map(|side| &side.plan.steering);
        let cells = if self.is_one_plan {
            let cells = demand.cells(one, tables[0]).iter();
            cells
                .map(|&Cell { country, ranking, share }| Cell { country, ranking: [ranking; 2], share })
                .collect()
        } else {
            demand.cells_by(|client| [one.ranking_at(tables[0], client), two.ranking_at(tables[1], client)])
        };
        Clients { cells, before, after }
    }

    /// `weights` are those of the countries, in the order of [`Demand::countries`].
    fn compare(&self, clients: &Clients, weights: &[f64]) -> Option<Rc<Change>> {
        let Clients { cells, before, after } = clients;
        if self.is_one_plan && before.ends == after.ends && before.shares == after.shares {
            return None;
        }
        let sums = || Sums::new(self.regions.names.len());
        let (mut gains, mut all_before, mut all_after) = (sums(), sums(), sums());
        let (mut from, mut to, mut scratch) = (sums(), sums(), sums());
        let (mut moved, mut countries) = (0.0, Vec::new());
        for cells in cells.chunk_by(|one, two| one.country == two.country) {
            let country = cells[0].country as usize;
            let weight = weights[country];
            let mut moved_here = 0.0;
            for cell in cells {
                let (one, two) = (before.of(cell.ranking[0].0), after.of(cell.ranking[1].0));
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
