//! The order of regions for a place: fence, rank, tie groups. Independent of health.

use std::cell::OnceCell;

use super::trace::{DropReason, Note, Stage, Trace};
use crate::geo::Place;
use crate::latency::{Basis, Latencies};
use crate::model::{
    Direction, FenceRule, GeoEntry, Km, Member, Millis, PlaceKey, Point, Rank, RegionId, Service, Topology,
};
use crate::pick::Hash;

/// The order of regions for clients of a place.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Ranking {
    /// Tie groups, best first; the regions of a group share its clients.
    pub groups: Box<[Box<[RankedRegion]>]>,
    /// Whether any group has more than one region.
    pub ties: bool,
    /// The largest number of endpoints that any region in it has.
    pub most_endpoints: usize,
}

/// A region within a ranking.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct RankedRegion {
    /// The region.
    pub region: RegionId,
    /// Its weight within the tie group, above 0.
    pub weight: f64,
    /// Hash of its name.
    pub hash: Hash,
}

/// A region at its position in the order.
#[derive(Clone, Copy, Debug)]
pub(super) struct Placed {
    /// The number of its tie group. Numbers ascend, but may have gaps.
    pub(super) group: usize,
    /// The region and its configured weight.
    pub(super) member: Member,
}

/// A region to be ordered by score: its distance in kilometres or round-trip time in milliseconds, whichever the
/// rank uses, and how it is known; `None` if unknown.
struct Scored {
    member: Member,
    score: Option<(f64, Basis)>,
}

/// Computes the order of a service's regions for clients of a place.
pub fn rank(topology: &Topology, service: &Service, place: &Place, trace: &mut impl Trace) -> Ranking {
    let from = place.location.point.map(Point::direction);
    Ranking::new(topology, Ranker::new(topology).order(service, place, from, trace))
}

impl Ranking {
    /// Builds the ranking from an order.
    pub(super) fn new(topology: &Topology, order: &[Placed]) -> Self {
        let ranked = |group: &[Placed]| {
            let all_zero = group.iter().all(|placed| placed.member.weight.0 == 0);
            let one = |&Placed { member: Member { region, weight }, .. }: &Placed| RankedRegion {
                region,
                weight: if all_zero { 1.0 } else { f64::from(weight.0) },
                hash: Hash::of(topology.region(region).name.as_bytes()),
            };
            group.iter().map(one).collect()
        };
        let groups: Box<[Box<[RankedRegion]>]> = groups(order).map(ranked).collect();
        let endpoints = |placed: &Placed| topology.region(placed.member.region).endpoints.len();
        Self {
            ties: groups.iter().any(|group| group.len() > 1),
            most_endpoints: order.iter().map(endpoints).max().unwrap_or(0),
            groups,
        }
    }
}

/// The tie groups of an order, best first.
pub(super) fn groups(order: &[Placed]) -> impl Iterator<Item = &[Placed]> {
    order.chunk_by(|one, two| one.group == two.group)
}

/// Computes one order after another. Shared data is computed once, and buffers are reused.
pub(super) struct Ranker<'a> {
    topology: &'a Topology,
    /// The direction of each region from the Earth's centre, by region id.
    regions: Vec<Option<Direction>>,
    /// Built when the first service that is ranked by latency needs it.
    latencies: OnceCell<Latencies<'a>>,
    inside: Vec<Member>,
    scored: Vec<Scored>,
    order: Vec<Placed>,
}

impl<'a> Ranker<'a> {
    pub(super) fn new(topology: &'a Topology) -> Self {
        let regions = topology.regions.iter().map(|region| region.location.point.map(Point::direction));
        Self {
            topology,
            regions: regions.collect(),
            latencies: OnceCell::new(),
            inside: Vec::new(),
            scored: Vec::new(),
            order: Vec::new(),
        }
    }

    /// The order of a service's regions for clients of a place. `from` is the direction of the place.
    pub(super) fn order(
        &mut self,
        service: &Service,
        place: &Place,
        from: Option<Direction>,
        trace: &mut impl Trace,
    ) -> &[Placed] {
        let Self { topology, regions, latencies, inside, scored, order } = self;
        fence(topology, service, place, inside, trace);
        order.clear();
        let km = |region: RegionId| Some(from?.distance_km(regions[usize::from(region.0)]?));
        match &service.steering.rank {
            Rank::None => {
                for member in &*inside {
                    trace.kept(Stage::Rank, member.region, || Note::Plain);
                    order.push(Placed { group: 0, member: *member });
                }
            }
            Rank::Priority => in_config_order(inside, order, trace, position(service)),
            Rank::Geo(entries) => by_geo(topology, service, entries, place, inside, order, trace),
            &Rank::Distance(Km(tolerance)) => {
                let note = |_: Basis, km: f64| Note::Kilometres(km);
                let score = |region| km(region).map(|km| (km, Basis::Distance(km)));
                scored.clear();
                scored.extend(inside.iter().map(|&member| Scored { member, score: score(member.region) }));
                by_score(tolerance, scored, order, note, trace);
            }
            &Rank::Latency(Millis(tolerance)) => {
                let note = |basis, millis| match basis {
                    Basis::Table => Note::Measured(millis),
                    Basis::Distance(km) => Note::Estimated { millis, km },
                };
                let latencies = latencies.get_or_init(|| Latencies::of(topology));
                let estimate = |region| latencies.estimate(place, region, km(region));
                let score = |region| estimate(region).map(|estimate| (estimate.millis, estimate.basis));
                scored.clear();
                scored.extend(inside.iter().map(|&member| Scored { member, score: score(member.region) }));
                by_score(tolerance, scored, order, note, trace);
            }
        }
        move_to_front(place, order, trace);
        drop_weightless(order, trace);
        order
    }
}

/// Drops the regions that clients of this place must not be sent to.
fn fence(
    topology: &Topology,
    service: &Service,
    place: &Place,
    inside: &mut Vec<Member>,
    trace: &mut impl Trace,
) {
    inside.clear();
    let lies_in = |keys: &[PlaceKey]| keys.iter().any(|key| place.is_in(key, &topology.groups));
    for member in &service.members {
        let broken = service.fences.iter().position(|fence| {
            fence.region == member.region
                && match &fence.rule {
                    FenceRule::Only(keys) => !lies_in(keys),
                    FenceRule::Except(keys) => lies_in(keys),
                }
        });
        if let Some(fence) = broken {
            trace.dropped(Stage::Fence, member.region, || DropReason::Fenced(fence));
        } else {
            trace.kept(Stage::Fence, member.region, || Note::Plain);
            inside.push(*member);
        }
    }
}

/// The number for a new group after all others.
fn next_group(order: &[Placed]) -> usize {
    order.last().map_or(0, |placed| placed.group + 1)
}

/// Appends every member in the order of the config, each in a group of its own.
fn in_config_order(
    members: &[Member],
    order: &mut Vec<Placed>,
    trace: &mut impl Trace,
    note: impl Fn(RegionId) -> Note,
) {
    for member in members {
        trace.kept(Stage::Rank, member.region, || note(member.region));
        order.push(Placed { group: next_group(order), member: *member });
    }
}

/// Notes the position of a region in the config. Regions that are fenced or already placed count, too.
fn position(service: &Service) -> impl Fn(RegionId) -> Note {
    |region| {
        let before = service.members.iter().take_while(|member| member.region != region);
        Note::Position(before.count() + 1)
    }
}

/// Lowest score first; regions within the tolerance of a group's lowest tie with it. Regions without a score come
/// last, in the order of the config; so if no score is known, the order of the config applies.
fn by_score(
    tolerance: f64,
    scored: &mut [Scored],
    order: &mut Vec<Placed>,
    note: impl Fn(Basis, f64) -> Note,
    trace: &mut impl Trace,
) {
    // The sort is stable: regions with equal scores keep the order of the config.
    scored.sort_by(|a, b| match (a.score, b.score) {
        (Some((a, _)), Some((b, _))) => a.total_cmp(&b),
        (a, b) => a.is_none().cmp(&b.is_none()),
    });
    let mut nearest = f64::NEG_INFINITY;
    for &Scored { member, score } in &*scored {
        let mut group = next_group(order);
        let Some((score, basis)) = score else {
            trace.kept(Stage::Rank, member.region, || Note::Unlocated);
            order.push(Placed { group, member });
            continue;
        };
        trace.kept(Stage::Rank, member.region, || note(basis, score));
        if group > 0 && score - nearest <= tolerance {
            group -= 1;
        } else {
            nearest = score;
        }
        order.push(Placed { group, member });
    }
}

/// The most specific entry that matches, then the next wider one, then `*`, then the remaining regions in the order
/// of the config.
fn by_geo(
    topology: &Topology,
    service: &Service,
    entries: &[GeoEntry],
    place: &Place,
    rest: &mut Vec<Member>,
    order: &mut Vec<Placed>,
    trace: &mut impl Trace,
) {
    for entry in entries.iter().filter(|entry| place.is_in(&entry.place, &topology.groups)) {
        for listed in &entry.groups {
            let group = next_group(order);
            for member in rest.extract_if(.., |member| listed.contains(&member.region)) {
                trace.kept(Stage::Rank, member.region, || Note::Geo(entry.place));
                order.push(Placed { group, member });
            }
        }
    }
    in_config_order(rest, order, trace, position(service));
}

/// Moves the regions of `[[geo.network]] regions` to the front, in this order, each in a group of its own.
fn move_to_front(place: &Place, order: &mut [Placed], trace: &mut impl Trace) {
    let mut count = 0;
    for region in &place.first {
        let found = order[count..].iter().position(|placed| placed.member.region == *region);
        let Some(found) = found else { continue };
        trace.kept(Stage::Rank, *region, || Note::NetworkFirst);
        order[count..=count + found].rotate_right(1);
        count += 1;
    }
    for (index, placed) in order.iter_mut().enumerate() {
        placed.group = if index < count { index } else { placed.group + count };
    }
}

/// Drops regions of weight 0 from a group, unless all its weights are 0.
fn drop_weightless(order: &mut Vec<Placed>, trace: &mut impl Trace) {
    let has_weight = |placed: &Placed| placed.member.weight.0 != 0;
    for (index, group) in groups(order).enumerate() {
        let any = group.iter().any(has_weight);
        for placed in group {
            let region = placed.member.region;
            if any && !has_weight(placed) {
                trace.dropped(Stage::TieGroups, region, || DropReason::NoWeight);
            } else {
                trace.kept(Stage::TieGroups, region, || Note::TieGroup(index + 1));
            }
        }
    }
    if order.iter().all(has_weight) {
        return;
    }
    let weighted_groups: Vec<usize> =
        order.iter().filter(|placed| has_weight(placed)).map(|placed| placed.group).collect();
    order.retain(|placed| has_weight(placed) || !weighted_groups.contains(&placed.group));
}
