//! Which share of the clients of a ranking each region gets: what [`Compiled::choose`] draws for one client after
//! another, as the mean over all of them.

use std::net::IpAddr;

use super::admission::{Admission, Pass};
use super::compiled::Compiled;
use super::rank::{RankedRegion, Ranking};
use crate::model::{Family, RegionId, ServiceId, Topology, Unix};
use crate::standing::{SetId, Standing};

/// The table of rankings of a service; services that rank alike have the same.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TableId(pub u32);

/// A ranking of a table.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RankingId(pub u32);

/// All clients of a service in places with the same ranking, at one moment.
#[derive(Clone, Copy, Debug)]
pub struct Population {
    /// The service.
    pub service: ServiceId,
    /// The ranking, of the service's table.
    pub ranking: RankingId,
    /// The kind of data that they ask for.
    pub family: Family,
    /// When they ask.
    pub unix: Unix,
}

/// A region that takes part in the draw of its group.
struct Drawn {
    region: RegionId,
    weight: f64,
    /// The share of the clients that a partial drain keeps away from it.
    drained_share: f64,
}

impl Compiled {
    /// The number of tables.
    #[must_use]
    pub fn table_count(&self) -> usize {
        self.tables.len()
    }

    /// The table of a service.
    #[must_use]
    pub fn table(&self, service: ServiceId) -> TableId {
        TableId(self.services[service.0 as usize].table)
    }

    /// The rankings of a table.
    pub fn rankings(&self, table: TableId) -> impl Iterator<Item = RankingId> + use<> {
        (0..self.tables[table.0 as usize].rankings.len() as u32).map(RankingId)
    }

    /// The ranking for a client.
    #[must_use]
    pub fn ranking_at(&self, table: TableId, client: IpAddr) -> RankingId {
        RankingId(self.tables[table.0 as usize].lookup(client).0 as u32)
    }

    /// Replaces the contents of `into` with the share of these clients that each region gets. The shares sum to 1, or to
    /// 0 if no region may be answered: then `all_down` or the fences decide, as for every one of the clients.
    pub fn shares(
        &self,
        topology: &Topology,
        standing: &Standing,
        clients: &Population,
        into: &mut Vec<(RegionId, f64)>,
    ) {
        let &Population { service, ranking, family, unix } = clients;
        let table = &self.tables[self.table(service).0 as usize];
        let (ranking, set): (&Ranking, SetId) =
            (&table.rankings[ranking.0 as usize], table.sets[ranking.0 as usize]);
        let admission = Admission { topology, standing, service, family, unix, set };
        into.clear();
        let mut left = 1.0;
        for pass in Pass::USUAL {
            left = distribute(&admission, pass, ranking, left, into);
        }
        if left > 0.0 {
            for pass in admission.resorts(ranking).into_iter().flatten() {
                left = distribute(&admission, pass, ranking, left, into);
            }
        }
    }
}

/// Gives the clients that earlier passes left to the regions that a pass admits, group by group. Returns what is left:
/// those whom partial drains keep away from all of them.
fn distribute(
    admission: &Admission<'_>,
    pass: Pass,
    ranking: &Ranking,
    mut left: f64,
    into: &mut Vec<(RegionId, f64)>,
) -> f64 {
    let mut drawn = Vec::new();
    for group in &ranking.groups {
        if left <= 0.0 {
            break;
        }
        drawn.clear();
        drawn.extend(group.iter().filter_map(|ranked| admitted(admission, pass, ranked)));
        if !drawn.is_empty() {
            left = share(&drawn, left, into);
        }
    }
    left
}

fn admitted(admission: &Admission<'_>, pass: Pass, ranked: &RankedRegion) -> Option<Drawn> {
    let admitted = admission.admits(pass, ranked.region).ok()?;
    Some(Drawn {
        region: ranked.region,
        weight: ranked.weight * admitted.factor,
        drained_share: admitted.drained_share,
    })
}

/// Divides clients among the regions of a group. Each region is there for a client with the probability that no drain
/// keeps the client away, and the lowest of the draws, which are exponential with the weight as their rate, wins.
/// Returns the clients that no region is there for.
fn share(drawn: &[Drawn], clients: f64, into: &mut Vec<(RegionId, f64)>) -> f64 {
    let mut add = |region: RegionId, share: f64| match into.iter_mut().find(|(known, _)| *known == region) {
        Some((_, known)) => *known += share,
        None => into.push((region, share)),
    };
    if drawn.iter().all(|it| it.drained_share == 0.0) {
        let total: f64 = drawn.iter().map(|it| it.weight).sum();
        drawn.iter().for_each(|it| add(it.region, clients * it.weight / total));
        return 0.0;
    }
    let left: f64 = drawn.iter().map(|it| it.drained_share).product();
    let wins: Vec<f64> = drawn.iter().map(|it| win(it, drawn)).collect();
    // The integrals are exact to many digits; their sum is known exactly.
    let scale = clients * (1.0 - left) / wins.iter().sum::<f64>();
    drawn.iter().zip(&wins).for_each(|(it, win)| add(it.region, scale * win));
    clients * left
}

/// The probability that a region wins: ∫ ∏ (q + p·x^(w′/w)) dx from 0 to 1 over the others, of weight w′, which are there
/// with probability p = 1 − q, times its own probability to be there. By tanh-sinh quadrature, as powers of less than 1
/// are steep at 0, and large ones at 1.
fn win(this: &Drawn, drawn: &[Drawn]) -> f64 {
    let others = || drawn.iter().filter(|it| it.region != this.region);
    let steps = (-NODES..=NODES).map(|node| {
        let t = f64::from(node) * STEP;
        let tail = (-std::f64::consts::PI * t.sinh()).exp();
        let (x, ln_x) = (1.0 / (1.0 + tail), -tail.ln_1p());
        let density = std::f64::consts::PI * t.cosh() * x * (tail * x);
        let product = others().fold(1.0, |product, other| {
            let lost = (ln_x * other.weight / this.weight).exp();
            product * (other.drained_share + (1.0 - other.drained_share) * lost)
        });
        if density > 0.0 { density * product } else { 0.0 }
    });
    (1.0 - this.drained_share) * STEP * steps.sum::<f64>()
}

/// Of the quadrature: its nodes on each side of the middle, and how far apart they are.
const NODES: i32 = 30;
const STEP: f64 = 0.125;

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// By all combinations of the regions that are there.
    fn by_combinations(drawn: &[Drawn]) -> (Vec<f64>, f64) {
        let mut shares = vec![0.0; drawn.len()];
        let mut left = 0.0;
        for combination in 0_u32..1 << drawn.len() {
            let is_there = |index: usize| combination & 1 << index != 0;
            let of_all = drawn.iter().enumerate();
            let chance = of_all
                .clone()
                .map(|(index, it)| if is_there(index) { 1.0 - it.drained_share } else { it.drained_share });
            let chance: f64 = chance.product();
            let there = || of_all.clone().filter(|(index, _)| is_there(*index));
            let total: f64 = there().map(|(_, it)| it.weight).sum();
            there().for_each(|(index, it)| shares[index] += chance * it.weight / total);
            if combination == 0 {
                left = chance;
            }
        }
        (shares, left)
    }

    proptest! {
        #[test]
        fn shares_are_those_of_all_combinations(
            regions in prop::collection::vec((1..=1_000_000_u32, prop_oneof![Just(0.0), 0.0..1.0]), 1..7),
        ) {
            let drawn: Vec<Drawn> = regions.iter().zip(0..).map(|(&(weight, drained_share), id)| Drawn {
                region: RegionId(id),
                weight: f64::from(weight),
                drained_share,
            }).collect();
            let (expected, expected_left) = by_combinations(&drawn);
            let mut found = Vec::new();
            let left = share(&drawn, 0.5, &mut found);
            prop_assert!((left - 0.5 * expected_left).abs() < 1e-12);
            for ((region, share), expected) in found.iter().zip(&expected) {
                prop_assert!((share - 0.5 * expected).abs() < 1e-7, "{:?} has {} for {}", region, share, expected);
            }
            let sum: f64 = found.iter().map(|(_, share)| share).sum::<f64>() + left;
            prop_assert!((sum - 0.5).abs() < 1e-12);
        }
    }
}
