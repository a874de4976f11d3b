//! The order of regions for a place: fence, rank, tie groups. Nothing here knows of health.

use super::trace::{Note, Stage, Trace, Why};
use crate::geo::Place;
use crate::latency::{self, Basis};
use crate::model::{FenceRule, Member, PlaceKey, Rank, RegionId, Service, Tolerance, Topology};
use crate::pick::Hash;

/// The order of regions for clients of a place.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Ranking {
    /// Tie groups, best first; regions of one group share its clients.
    pub groups: Box<[Box<[RankedRegion]>]>,
    /// Whether regions tie anywhere in it.
    pub ties: bool,
    /// The most endpoints that a region of it has.
    pub most_endpoints: usize,
}

/// A region within a ranking.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct RankedRegion {
    /// Which.
    pub region: RegionId,
    /// Its weight within the tie group, above 0.
    pub weight: f64,
    /// Hash of its name.
    pub hash: Hash,
}

/// A region on its way into a ranking: how far it is, in the rank's unit.
struct Scored {
    member: Member,
    score: f64,
}

/// Works out the order of a service's regions for clients of a place.
pub fn rank(topology: &Topology, service: &Service, place: &Place, trace: &mut impl Trace) -> Ranking {
    let inside = fence(topology, service, place, trace);
    let mut groups = ordered(topology, service, place, &inside, trace);
    put_first(place, &mut groups, trace);
    groups.retain(|group| !group.is_empty());
    let numbered = (1..).zip(groups);
    let groups: Box<[Box<[RankedRegion]>]> =
        numbered.map(|(number, group)| weigh(topology, number, group, trace)).collect();
    let endpoints = |ranked: &RankedRegion| topology.region(ranked.region).endpoints.len();
    Ranking {
        ties: groups.iter().any(|group| group.len() > 1),
        most_endpoints: groups.iter().flatten().map(endpoints).max().unwrap_or(0),
        groups,
    }
}

/// Drops the regions that this place must not be sent to.
fn fence(topology: &Topology, service: &Service, place: &Place, trace: &mut impl Trace) -> Vec<Member> {
    let lies_in = |keys: &[PlaceKey]| keys.iter().any(|key| place.is_in(key, &topology.groups));
    let mut inside = Vec::with_capacity(service.members.len());
    for member in &service.members {
        let broken = service.fences.iter().position(|fence| {
            fence.region == member.region
                && match &fence.rule {
                    FenceRule::Only(keys) => !lies_in(keys),
                    FenceRule::Except(keys) => lies_in(keys),
                }
        });
        if let Some(fence) = broken {
            trace.dropped(Stage::Fence, member.region, || Why::Fenced(fence));
        } else {
            trace.kept(Stage::Fence, member.region, || Note::Plain);
            inside.push(*member);
        }
    }
    inside
}

fn ordered(
    topology: &Topology,
    service: &Service,
    place: &Place,
    inside: &[Member],
    trace: &mut impl Trace,
) -> Vec<Vec<Member>> {
    match service.steering.rank {
        Rank::None => {
            for member in inside {
                trace.kept(Stage::Rank, member.region, || Note::Plain);
            }
            vec![inside.to_vec()]
        }
        Rank::Priority => in_config_order(inside, trace, position(service)),
        Rank::Geo => by_geo(topology, service, place, inside, trace),
        Rank::Distance => {
            let note = |_: Basis, km: f64| Note::Kilometres(km);
            let score =
                |region| latency::distance_km(topology, place, region).map(|km| (km, Basis::Distance(km)));
            by_score(service.steering.tolerance, inside, score, note, trace)
        }
        Rank::Latency => {
            let note = |basis, millis| match basis {
                Basis::Table => Note::Measured(millis),
                Basis::Distance(km) => Note::Estimated { millis, km },
            };
            let score = |region| latency::estimate(topology, place, region).map(|e| (e.millis, e.basis));
            by_score(service.steering.tolerance, inside, score, note, trace)
        }
    }
}

/// Each alone, as listed.
fn in_config_order(
    inside: &[Member],
    trace: &mut impl Trace,
    note: impl Fn(RegionId) -> Note,
) -> Vec<Vec<Member>> {
    for member in inside {
        trace.kept(Stage::Rank, member.region, || note(member.region));
    }
    inside.iter().map(|member| vec![*member]).collect()
}

/// Where the config lists a region, fenced ones and those already named counted too.
fn position(service: &Service) -> impl Fn(RegionId) -> Note {
    |region| {
        let before = service.members.iter().take_while(|member| member.region != region);
        Note::Position(before.count() + 1)
    }
}

/// Nearest first; those within the tolerance of a group's nearest tie with it. Regions whose score is unknown
/// come last, as listed; if none is known the order of the config holds.
fn by_score(
    tolerance: Tolerance,
    inside: &[Member],
    score: impl Fn(RegionId) -> Option<(f64, Basis)>,
    note: impl Fn(Basis, f64) -> Note,
    trace: &mut impl Trace,
) -> Vec<Vec<Member>> {
    let mut known = Vec::new();
    let mut unknown = Vec::new();
    for member in inside {
        if let Some((score, basis)) = score(member.region) {
            known.push((Scored { member: *member, score }, basis));
        } else {
            unknown.push(*member);
        }
    }
    // Stable: of equals the one listed first is first.
    known.sort_by(|(a, _), (b, _)| a.score.total_cmp(&b.score));
    for (scored, basis) in &known {
        trace.kept(Stage::Rank, scored.member.region, || note(*basis, scored.score));
    }
    let within = match tolerance {
        Tolerance::Exact => 0.0,
        Tolerance::Millis(limit) | Tolerance::Kilometres(limit) => limit,
    };
    let mut groups: Vec<Vec<Member>> = Vec::new();
    let mut nearest = f64::NEG_INFINITY;
    for (scored, _) in known {
        match groups.last_mut() {
            Some(group) if scored.score - nearest <= within => group.push(scored.member),
            _ => {
                nearest = scored.score;
                groups.push(vec![scored.member]);
            }
        }
    }
    groups.extend(in_config_order(&unknown, trace, |_| Note::Unlocated));
    groups
}

/// The most specific entry that holds, then the next wider, then `*`, then the rest as listed.
fn by_geo(
    topology: &Topology,
    service: &Service,
    place: &Place,
    inside: &[Member],
    trace: &mut impl Trace,
) -> Vec<Vec<Member>> {
    let mut rest = inside.to_vec();
    let mut groups = Vec::new();
    for entry in service.geo.iter().filter(|entry| place.is_in(&entry.place, &topology.groups)) {
        for listed in &entry.groups {
            let (group, others): (Vec<_>, Vec<_>) =
                rest.into_iter().partition(|member| listed.contains(&member.region));
            rest = others;
            for member in &group {
                trace.kept(Stage::Rank, member.region, || Note::Geo(entry.place));
            }
            groups.push(group);
        }
    }
    groups.extend(in_config_order(&rest, trace, position(service)));
    groups
}

/// `[[geo.network]] regions`: these first, in this order, each alone.
fn put_first(place: &Place, groups: &mut Vec<Vec<Member>>, trace: &mut impl Trace) {
    let mut first = Vec::new();
    for region in &place.first {
        for group in groups.iter_mut() {
            let found = group.iter().position(|member| member.region == *region);
            first.extend(found.map(|index| vec![group.remove(index)]));
        }
        if first.last().is_some_and(|group| group[0].region == *region) {
            trace.kept(Stage::Rank, *region, || Note::NetworkFirst);
        }
    }
    groups.splice(0..0, first);
}

/// Weight 0 drops out, unless all are 0.
fn weigh(
    topology: &Topology,
    number: usize,
    group: Vec<Member>,
    trace: &mut impl Trace,
) -> Box<[RankedRegion]> {
    let all_zero = group.iter().all(|member| member.weight.0 == 0);
    let mut weighed = Vec::with_capacity(group.len());
    for Member { region, weight } in group {
        let weight = if all_zero { 1.0 } else { f64::from(weight.0) };
        if weight == 0.0 {
            trace.dropped(Stage::TieGroups, region, || Why::NoWeight);
            continue;
        }
        trace.kept(Stage::TieGroups, region, || Note::TieGroup(number));
        weighed.push(RankedRegion {
            region,
            weight,
            hash: Hash::of(topology.region(region).name.as_bytes()),
        });
    }
    weighed.into_boxed_slice()
}
