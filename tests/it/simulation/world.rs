//! Generated worlds: regions with several families, fences, hosts and probes that come and go with reloads.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::sync::Arc;
use std::time::Duration;

use portolan::geo::{Index, NetworkOverride as Network};
use portolan::model::{
    AllDown, Condition, Endpoint, EndpointRef, Fence, FenceRule, Fraction, KeyPrefix, Kind, Km, Location,
    Member, Name, PlaceKey, Point, Probe, ProbeId, Rank, Reach, Region, RegionId, Rules, Service,
    ServiceKind, Share, Steering, SuspectSelf, Thresholds, Topology, Ttl, TtlRange, Weight,
};
use portolan::prepare;
use portolan::snapshot::Plan;
use portolan::state::World;
use portolan::zone::Zones;

use crate::harness::Numbers;

/// The random numbers of a run, which follow from its seed.
pub(super) struct Dice(pub(super) Numbers);

impl Dice {
    pub(super) fn roll(&mut self) -> u64 {
        self.0.next()
    }

    pub(super) fn below(&mut self, n: usize) -> usize {
        (self.roll() % n as u64) as usize
    }

    pub(super) fn one_in(&mut self, n: usize) -> bool {
        self.below(n) == 0
    }

    pub(super) fn of<'a, T>(&mut self, choices: &'a [T]) -> &'a T {
        &choices[self.below(choices.len())]
    }
}

/// Where clients are: two places that fences and distances tell apart.
pub(super) const NETWORKS: [&str; 2] = ["10.0.0.0/10", "10.64.0.0/10"];

const REGIONS: [&str; 5] = ["ap-south", "eu-west", "sa-east", "us-east", "us-west"];
const PROBES: [&str; 2] = ["edge", "ready"];

/// Up to five regions under names that stay the same from one world to the next.
pub(super) fn topology(dice: &mut Dice) -> Topology {
    let count = 2 + dice.below(REGIONS.len() - 1);
    let regions: Vec<Region> = (0..count).map(|number| region(dice, number)).collect();
    let services = (0..1 + dice.below(3)).map(|number| service(dice, number, count)).collect();
    let probes = PROBES.map(|name| probe(dice, name)).into();
    let mut topology = Topology { regions, services, probes, ..Topology::default() };
    if dice.one_in(4) {
        // One region requires another, or one of its endpoints.
        let needed = match dice.below(2) {
            0 => Condition::Region(RegionId(1)),
            _ => Condition::Endpoint(EndpointRef { region: RegionId(1), index: 0 }),
        };
        let own = topology.regions[0].healthy_when.clone();
        topology.regions[0].healthy_when = Condition::All(vec![own, needed]);
    }
    topology
}

/// An address of each family.
pub(super) fn both(number: u8) -> [IpAddr; 2] {
    let v6 = Ipv6Addr::from_bits((0x2001_0db8 << 96) | u128::from(number));
    [IpAddr::V4(Ipv4Addr::new(192, 0, 2, number)), IpAddr::V6(v6)]
}

/// Addresses of IPv4, of IPv6 or of both.
fn addresses(dice: &mut Dice, number: u8) -> Vec<IpAddr> {
    let [v4, v6] = both(number);
    match dice.below(5) {
        0 => vec![v4],
        1 => vec![v6],
        _ => vec![v4, v6],
    }
}

fn region(dice: &mut Dice, number: usize) -> Region {
    let id = RegionId(number as u16);
    let count = 1 + dice.below(3);
    let endpoints: Vec<Endpoint> = (0..count).map(|index| endpoint(dice, number, index)).collect();
    let point = Some(Point { lat: 10.0 * number as f32, lon: 30.0 * number as f32 });
    Region {
        name: REGIONS[number].into(),
        location: Location { point, ..Location::default() },
        capacity: None,
        healthy_when: healthy_when(dice, id, &endpoints),
        endpoints,
    }
}

/// As the config builds it: over the endpoints with a weight above 0.
fn healthy_when(dice: &mut Dice, id: RegionId, endpoints: &[Endpoint]) -> Condition {
    let all_zero = endpoints.iter().all(|it| it.weight.0 == 0);
    let counted = endpoints.iter().enumerate().filter(|(_, it)| all_zero || it.weight.0 > 0);
    let own = |index: usize| Condition::Endpoint(EndpointRef { region: id, index: index as u16 });
    let own: Vec<Condition> = counted.map(|(index, _)| own(index)).collect();
    match dice.below(5) {
        0 => Condition::All(own),
        1 => Condition::AtLeast(2.min(own.len()), own),
        2 => Condition::Fraction(Fraction::parse("50%").unwrap(), own),
        _ => Condition::Any(own),
    }
}

fn endpoint(dice: &mut Dice, number: usize, index: usize) -> Endpoint {
    let reach = match dice.below(8) {
        0 => Reach::Resolved(format!("lb{index}.{}.example.net.", REGIONS[number]).parse::<Name>().unwrap()),
        _ => Reach::Addresses(addresses(dice, (number * 10 + index + 1) as u8)),
    };
    let probes = *dice.of::<&[u16]>(&[&[], &[0], &[0], &[0, 1], &[1]]);
    Endpoint {
        name: format!("lb{index}"),
        reach,
        weight: Weight(*dice.of(&[0, 1, 100, 100])),
        healthy_when: Condition::checks(probes.iter().map(|id| ProbeId(*id))),
    }
}

fn service(dice: &mut Dice, number: usize, regions: usize) -> Service {
    let first = dice.below(regions);
    let length = 1 + dice.below(regions);
    let members = (0..length).map(|n| Member {
        region: RegionId(((first + n) % regions) as u16),
        weight: Weight(*dice.of(&[0, 1, 1, 3])),
    });
    let members: Vec<Member> = members.collect();
    let fence = dice.one_in(3).then(|| {
        let places = vec![PlaceKey::Net(NETWORKS[dice.below(2)].parse().unwrap())];
        let rule = if dice.one_in(2) { FenceRule::Only(places) } else { FenceRule::Except(places) };
        Fence { region: dice.of(&members).region, rule }
    });
    let fallback = vec!["203.0.113.9".parse().unwrap()];
    Service {
        name: format!("s{number}.example.test.").parse().unwrap(),
        kind: ServiceKind::ADDRESS,
        members,
        steering: Steering {
            rank: dice
                .of(&[Rank::Priority, Rank::Distance(Km(0.0)), Rank::Distance(Km(5_000.0)), Rank::None])
                .clone(),
            share: *dice.of(&[Share::Weighted, Share::Hash]),
            answers: 1 + dice.below(3),
            ttl: *dice.of(&[Ttl(30).into(), TtlRange { max: Ttl(60), min: Ttl(0) }]),
            all_down: dice
                .of(&[
                    AllDown::All,
                    AllDown::Servfail,
                    AllDown::LastGood(Duration::from_secs(600)),
                    AllDown::Fallback(fallback),
                ])
                .clone(),
        },
        fences: fence.into_iter().collect(),
    }
}

fn probe(dice: &mut Dice, name: &str) -> Probe {
    Probe {
        name: name.into(),
        kind: Kind::Tcp { port: 80 },
        port_is_given: true,
        interval: Duration::from_secs(5),
        timeout: Duration::from_secs(2),
        thresholds: Thresholds {
            fall: 1 + dice.below(4) as u32,
            clear: 1 + dice.below(2) as u32,
            rise: 1 + dice.below(3) as u32,
            hold: Duration::from_secs(30),
            startup: None,
            slow: dice.one_in(2).then_some(Duration::from_millis(800)),
        },
    }
}

pub(super) fn rules(dice: &mut Dice) -> Rules {
    let suspect_self = dice.one_in(3).then(|| SuspectSelf {
        share: Fraction::parse("80%").unwrap(),
        min: 3,
        anchors: if dice.one_in(2) { vec!["192.0.2.250:53".parse().unwrap()] } else { Vec::new() },
        at_most: Duration::from_secs(60),
    });
    Rules { min_regions: dice.below(3), suspect_self }
}

/// Lists the endpoints of a region in another order.
pub(super) fn reordered(dice: &mut Dice, before: &Topology) -> Topology {
    let mut topology = before.clone();
    let region = RegionId(dice.below(topology.regions.len()) as u16);
    let count = topology.region(region).endpoints.len();
    topology.regions[usize::from(region.0)].endpoints.reverse();
    for it in &mut topology.regions {
        renumber(&mut it.healthy_when, region, count);
    }
    topology
}

fn renumber(condition: &mut Condition, region: RegionId, count: usize) {
    match condition {
        Condition::All(parts)
        | Condition::Any(parts)
        | Condition::AtLeast(_, parts)
        | Condition::Fraction(_, parts) => {
            parts.iter_mut().for_each(|part| renumber(part, region, count));
        }
        Condition::Not(part) => renumber(part, region, count),
        Condition::Endpoint(at) if at.region == region => at.index = (count - 1) as u16 - at.index,
        Condition::Endpoint(_) | Condition::Check(_) | Condition::Region(_) => {}
    }
}

/// Changes only the definition of probes, which must not withdraw anything: a probe is renamed, or an endpoint gets an
/// additional one.
pub(super) fn reworded(dice: &mut Dice, before: &Topology) -> Topology {
    let mut topology = before.clone();
    match dice.below(3) {
        0 => topology.probes.iter_mut().for_each(|probe| probe.name += "x"),
        1 => {
            let region = dice.below(topology.regions.len());
            for endpoint in &mut topology.regions[region].endpoints {
                endpoint.healthy_when = match endpoint.healthy_when.probes()[..] {
                    [] => continue,
                    [one] => Condition::checks([one, ProbeId(1 - one.0)]),
                    _ => endpoint.healthy_when.clone(),
                };
            }
        }
        _ => {
            let mut new = probe(dice, &format!("extra{}", topology.probes.len()));
            new.thresholds = topology.probes[0].thresholds;
            topology.probes.push(new);
            let id = ProbeId(topology.probes.len() as u16 - 1);
            let region = dice.below(topology.regions.len());
            for endpoint in &mut topology.regions[region].endpoints {
                let probes = endpoint.healthy_when.probes();
                if !probes.is_empty() && !probes.contains(&id) {
                    endpoint.healthy_when = Condition::checks(probes.into_iter().chain([id]));
                }
            }
        }
    }
    topology
}

pub(super) fn plan(topology: Topology) -> Arc<Plan> {
    let network = |prefix: &str, lat, lon| Network {
        prefix: prefix.parse().unwrap(),
        location: Some(Location { point: Some(Point { lat, lon }), ..Location::default() }),
        first: Box::default(),
    };
    let networks = [network(NETWORKS[0], 0.0, 0.0), network(NETWORKS[1], 20.0, 60.0)];
    let nets = NETWORKS.map(|prefix| prefix.parse().unwrap());
    let geo = Index::compile(&[], &networks, &nets);
    Arc::new(Plan::compile(topology, Zones::default(), geo, true, KeyPrefix::default()))
}

pub(super) fn world(plan: &Plan, rules: &Rules) -> World {
    prepare::world(plan, rules.clone())
}
