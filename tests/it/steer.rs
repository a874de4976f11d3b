//! Table-driven tests of steering: where clients are sent, depending on what is down.

use std::collections::HashMap;
use std::net::IpAddr;
use std::time::Duration;

use portolan::geo::{Index, NetworkOverride as Network};
use portolan::health::{Severity, State};
use portolan::model::{
    AllDown, Condition, Due, Endpoint, EndpointRef, Family, Fence, FenceRule, Fraction, GeoEntry, Group,
    KeyPrefix, Km, LatencyRow, Location, Member, Millis, PlaceKey, Point, Rank, Reach, Region, RegionId,
    Rule, Rules, Service, ServiceId, ServiceKind, Share, Steering, Target, Topology, Ttl, TtlRange, Unix,
    Weight,
};
use portolan::safety::{self, Refusal, Unserved};
use portolan::standing::{Action, AddressStanding, Dues, HeldFor, Inputs, Override, PoolPast, Standing};
use portolan::steer::{Answer, Choice, Compiled, NoTrace, Note, Stage, SteeringRequest};

const DISTANCE: Rank = Rank::Distance(Km(0.0));
const LATENCY: Rank = Rank::Latency(Millis(0.0));

const AP: RegionId = RegionId(0);
const EU: RegionId = RegionId(1);
const US: RegionId = RegionId(2);

/// Everything needed for a choice, modified case by case.
struct World {
    topology: Topology,
    networks: Vec<Network>,
    nets: Vec<ipnet::IpNet>,
    /// Addresses that are not up.
    states: HashMap<IpAddr, State>,
    overrides: Vec<Override>,
    rules: Rules,
    previous: Option<Standing>,
    /// When regions may change without an operator, if they do.
    dues: HashMap<RegionId, Due>,
    now: Unix,
}

fn location(country: &str, continent: &str, lat: f32, lon: f32) -> Location {
    Location {
        country: Some(country.parse().unwrap()),
        continent: Some(continent.parse().unwrap()),
        point: Some(Point { lat, lon }),
        ..Location::default()
    }
}

/// Two balancers, each with an IPv4 and an IPv6 address: `192.0.2.(10 n + i)` and `2001:db8::(10 n + i)`.
fn region(number: u8, name: &str, location: Location) -> Region {
    let endpoint = |index: u8| Endpoint {
        name: format!("lb{index}"),
        reach: Reach::Addresses(vec![
            format!("192.0.2.{}", 10 * number + index).parse().unwrap(),
            format!("2001:db8::{}", 10 * number + index).parse().unwrap(),
        ]),
        weight: Weight(100),
        healthy_when: Condition::ALWAYS,
    };
    let own = |index| Condition::Endpoint(EndpointRef { region: RegionId(u16::from(number) - 1), index });
    Region {
        name: name.into(),
        location,
        capacity: None,
        healthy_when: Condition::Any(vec![own(0), own(1)]),
        endpoints: vec![endpoint(1), endpoint(2)],
    }
}

impl World {
    /// Clients in 10.1.0.0/16 and 2001:db8:1::/48 are in Germany, 10.2/16 in the United States, 10.3/16 in India.
    fn new(rank: Rank) -> Self {
        let germany = location("DE", "EU", 50.1, 8.7);
        let states = location("US", "NA", 40.7, -74.0);
        let india = location("IN", "AS", 28.6, 77.2);
        let network = |prefix: &str, location: &Location| Network {
            prefix: prefix.parse().unwrap(),
            location: Some(*location),
            first: Box::default(),
        };
        let service = Service {
            name: "www.example.test.".parse().unwrap(),
            kind: ServiceKind::ADDRESS,
            members: [EU, US, AP].map(|region| Member { region, weight: Weight(1) }).into(),
            steering: Steering {
                rank,
                share: Share::Weighted,
                answers: 1,
                ttl: Ttl(30).into(),
                all_down: AllDown::All,
            },
            fences: Vec::new(),
        };
        Self {
            topology: Topology {
                regions: vec![
                    region(1, "ap-south", location("IN", "AS", 19.1, 72.9)),
                    region(2, "eu-west", location("IE", "EU", 53.4, -6.3)),
                    region(3, "us-east", location("US", "NA", 39.0, -77.5)),
                ],
                services: vec![service],
                ..Topology::default()
            },
            networks: vec![
                network("10.1.0.0/16", &germany),
                network("2001:db8:1::/48", &germany),
                network("10.2.0.0/16", &states),
                network("10.3.0.0/16", &india),
            ],
            nets: Vec::new(),
            states: HashMap::new(),
            overrides: Vec::new(),
            rules: Rules { min_regions: 0, ..Rules::default() },
            previous: None,
            dues: HashMap::new(),
            now: Unix(Duration::from_secs(1_800_000_000)),
        }
    }

    fn service(&mut self) -> &mut Service {
        &mut self.topology.services[0]
    }

    /// Reduces each region to its first endpoint, so that none has to be drawn.
    fn single_endpoints(&mut self) {
        for region in &mut self.topology.regions {
            region.endpoints.truncate(1);
            let Condition::Any(own) = &mut region.healthy_when else { panic!("it is any") };
            own.truncate(1);
        }
    }

    /// Sets every address of a region, or only those of a family.
    fn set(&mut self, region: RegionId, family: Option<Family>, state: State) -> &mut Self {
        for address in self.topology.region(region).endpoints.iter().flat_map(|e| e.listed()) {
            if family.is_none_or(|family| family.has(*address)) {
                self.states.insert(*address, state);
            }
        }
        self
    }

    fn down(&mut self, region: RegionId) -> &mut Self {
        self.set(region, None, State::Down(Severity::Hard))
    }

    fn set_override(&mut self, target: &str, action: Action, share: &str) -> &mut Self {
        self.overrides.push(Override {
            id: self.overrides.len() as u64 + 1,
            target: target.parse::<Target>().unwrap(),
            action: match action {
                Action::Drain(_) => Action::Drain(Fraction::parse(share).unwrap()),
                action => action,
            },
            created: self.now,
            until: None,
            reason: None,
            by: None,
        });
        self
    }

    fn standing(&self, compiled: &Compiled) -> Standing {
        let topology = &self.topology;
        let addresses = |at: EndpointRef| -> Box<[AddressStanding]> {
            let listed = topology.endpoint(at).listed().iter();
            let state = |address| self.states.get(address).copied().unwrap_or(State::Up);
            listed.map(|address| self.address(*address, state(address))).collect()
        };
        let inputs = Inputs {
            topology,
            addresses: &addresses,
            backend_addresses: &|_| Box::default(),
            pool_past: &|_| PoolPast::default(),
            overrides: &self.overrides,
            previous: &|id| self.previous.as_ref().map(|previous| previous.region(id)),
            now: self.now,
        };
        let due = |at: EndpointRef| self.dues.get(&at.region).copied().unwrap_or(Due::NEVER);
        let mut standing = Standing {
            regions: topology.region_ids().map(|id| inputs.region(id)).collect(),
            services: inputs.services(),
            dues: Dues {
                regions: topology.region_ids().map(|id| inputs.due(id, &due)).collect(),
                services: inputs.service_dues(),
                failing: Box::default(),
            },
            ..Standing::default()
        };
        standing.held = safety::hold(&self.rules, compiled.region_sets(), &standing, &[]);
        standing
    }

    /// The standing of an address that served last when the previous standing did.
    fn address(&self, address: IpAddr, state: State) -> AddressStanding {
        let before = self.previous.iter().flat_map(|it| &it.regions).flat_map(|it| it.endpoints.iter());
        let before = before.flat_map(|it| &it.addresses).find(|it| it.address == address);
        let served_until =
            before.and_then(|it| if it.used.serves() { Some(self.now) } else { it.served_until });
        let served_until = served_until.filter(|_| !state.serves());
        AddressStanding { served_until, ..AddressStanding::observed(address, state) }
    }

    fn compile(&self) -> Ready<'_> {
        let geo = Index::compile(&[], &self.networks, &self.nets);
        let compiled = Compiled::new(&self.topology, &geo, KeyPrefix::default());
        let standing = self.standing(&compiled);
        Ready { world: self, geo, compiled, standing }
    }

    /// Where a client is sent: the region's name, or `nodata`, `servfail` or `fallback` without a region.
    fn sends(&self, client: &str) -> String {
        self.compile().sends(client, Family::V4)
    }
}

/// A world whose plan is compiled.
struct Ready<'a> {
    world: &'a World,
    geo: Index,
    compiled: Compiled,
    standing: Standing,
}

/// Whether the rules permit an operator's change from one to the other.
fn permit(rules: &Rules, before: &Ready<'_>, after: &Ready<'_>) -> Result<(), Refusal> {
    safety::permit(rules, after.compiled.region_sets(), &before.standing, &after.standing)
}

impl Ready<'_> {
    /// The regions that are held for any clients, without duplicates.
    fn held(&self) -> Vec<RegionId> {
        let mut held: Vec<RegionId> = self.standing.held.iter().map(|it| it.region).collect();
        held.sort_unstable();
        held.dedup();
        held
    }

    fn unserved(&self) -> Vec<Unserved> {
        safety::unserved(&self.world.topology, self.compiled.region_sets(), &self.standing)
    }

    fn choose(&self, client: IpAddr, family: Family, now: Unix) -> (Choice, Vec<IpAddr>) {
        let request = SteeringRequest { service: ServiceId(0), client, family, unix: now, draw: 7 };
        let mut addresses = Vec::new();
        let topology = &self.world.topology;
        let choice = self.compiled.choose(topology, &self.standing, &request, &mut addresses, &mut NoTrace);
        let place = self.geo.locate(client).place;
        let (explained, recording) =
            self.compiled.explain(topology, &self.standing, place, &request, &mut Vec::new());
        assert_eq!(choice, explained, "explain reports another choice");
        let winners = recording.entries.iter().filter(|e| matches!(e.verdict, Ok(Note::Won { .. })));
        assert_eq!(
            winners.map(|e| e.region).collect::<Vec<_>>(),
            choice.region.into_iter().collect::<Vec<_>>()
        );
        (choice, addresses)
    }

    fn at(&self, client: &str, family: Family) -> (Choice, Vec<IpAddr>) {
        self.choose(client.parse().unwrap(), family, self.world.now)
    }

    fn sends(&self, client: &str, family: Family) -> String {
        let (choice, addresses) = self.at(client, family);
        assert!(addresses.iter().all(|address| family.has(*address)));
        match (choice.answer, choice.region) {
            (Answer::Servfail, _) => "servfail".into(),
            (Answer::NoData, _) => "nodata".into(),
            (Answer::Endpoints, Some(region)) => self.world.topology.region(region).name.clone(),
            (Answer::Endpoints, None) => "fallback".into(),
            (Answer::Alias, _) => "alias".into(),
        }
    }
}

const GERMAN: &str = "10.1.2.3";
const AMERICAN: &str = "10.2.2.3";
const INDIAN: &str = "10.3.2.3";
const NOWHERE: &str = "10.9.2.3";

/// 10,000 clients, each in its own /24.
fn clients() -> impl Iterator<Item = IpAddr> {
    (0..10_000_u32).map(|n| IpAddr::V4((0x0a01_0005 + (n << 8)).into()))
}

#[test]
fn ranks_order_regions_by_place() {
    for (rank, client, expected) in [
        (Rank::Priority, AMERICAN, "eu-west"),
        (DISTANCE, GERMAN, "eu-west"),
        (DISTANCE, AMERICAN, "us-east"),
        (DISTANCE, INDIAN, "ap-south"),
        (DISTANCE, NOWHERE, "eu-west"),
        (LATENCY, AMERICAN, "us-east"),
        (LATENCY, INDIAN, "ap-south"),
        (LATENCY, NOWHERE, "eu-west"),
        (DISTANCE, "2001:db8:1::1", "eu-west"),
        (DISTANCE, "::ffff:10.2.2.3", "us-east"),
    ] {
        assert_eq!(World::new(rank.clone()).sends(client), expected, "{rank:?} for {client}");
    }
}

#[test]
fn the_next_region_takes_over_from_one_that_is_down() {
    let mut world = World::new(Rank::Priority);
    assert_eq!(world.sends(GERMAN), "eu-west");
    assert_eq!(world.down(EU).sends(GERMAN), "us-east");
    assert_eq!(world.down(US).sends(GERMAN), "ap-south");
    world.states.clear();
    assert_eq!(world.sends(GERMAN), "eu-west");
}

#[test]
fn a_measured_latency_takes_precedence_over_an_estimate() {
    let mut world = World::new(LATENCY);
    let row = |from: PlaceKey, region, millis| LatencyRow { from, region, millis };
    let country = |code: &str| PlaceKey::Country(code.parse().unwrap());
    world.topology.latency = vec![
        row(country("DE"), EU, 80.0),
        row(PlaceKey::Any, US, 5.0),
        row(country("DE"), US, 70.0),
        row(PlaceKey::Net("10.1.7.0/24".parse().unwrap()), US, 200.0),
    ];
    world.nets = vec!["10.1.7.0/24".parse().unwrap()];
    assert_eq!(world.sends(GERMAN), "us-east", "70 ms against 80 ms, though Dublin is nearer");
    assert_eq!(world.sends("10.1.7.1"), "eu-west", "the prefix's own row has 200 ms");
    assert_eq!(world.sends(INDIAN), "us-east", "5 ms for all others");
}

#[test]
fn geo_entries_widen_until_a_region_serves() {
    let mut world = World::new(Rank::Geo(Vec::new()));
    world.topology.groups =
        vec![Group { name: "dach".into(), places: vec![PlaceKey::Country("DE".parse().unwrap())] }];
    let entry = |place, groups: &[&[RegionId]]| GeoEntry {
        place,
        groups: groups.iter().map(|group| group.to_vec()).collect(),
    };
    world.service().steering.rank = Rank::Geo(vec![
        entry(PlaceKey::Group(0), &[&[AP]]),
        entry(PlaceKey::Continent("EU".parse().unwrap()), &[&[EU]]),
        entry(PlaceKey::Any, &[&[US]]),
    ]);
    assert_eq!(world.sends(GERMAN), "ap-south", "the group is the most specific");
    assert_eq!(world.sends(AMERICAN), "us-east", "by *");
    assert_eq!(world.sends(NOWHERE), "us-east", "by *");
    assert_eq!(world.down(AP).sends(GERMAN), "eu-west", "the next wider entry");
    assert_eq!(world.down(EU).sends(GERMAN), "us-east", "then *");
    world.states.clear();
    assert_eq!(world.down(US).sends(AMERICAN), "eu-west", "then the rest in their order");
}

#[test]
fn fences_apply_whatever_is_down() {
    let mut world = World::new(DISTANCE);
    let europe = || vec![PlaceKey::Continent("EU".parse().unwrap())];
    world.service().fences = vec![
        Fence { region: EU, rule: FenceRule::Only(europe()) },
        Fence { region: US, rule: FenceRule::Except(europe()) },
    ];
    assert_eq!(world.sends(GERMAN), "eu-west");
    assert_eq!(world.sends(NOWHERE), "us-east", "a client without a location is not in Europe");
    assert_eq!(world.down(EU).sends(GERMAN), "ap-south", "never us-east");
    assert_eq!(world.down(AP).sends(GERMAN), "eu-west", "all down: as if up, within the fence");
    world.service().members.retain(|member| member.region == US);
    assert_eq!(world.sends(GERMAN), "nodata", "no region is left for this client");
}

#[test]
fn a_networks_own_regions_come_first() {
    let mut world = World::new(DISTANCE);
    world.networks.push(Network {
        prefix: "10.1.2.0/24".parse().unwrap(),
        location: None,
        first: [AP, US].into(),
    });
    assert_eq!(world.sends(GERMAN), "ap-south");
    assert_eq!(world.sends("10.1.3.3"), "eu-west", "only that network");
    assert_eq!(world.down(AP).sends(GERMAN), "us-east");
    assert_eq!(world.down(US).sends(GERMAN), "eu-west", "the others follow");
}

#[test]
fn weights_are_shares_of_clients_and_losing_a_region_moves_only_its_own() {
    let mut world = World::new(Rank::None);
    for (member, weight) in world.service().members.iter_mut().zip([5, 3, 2]) {
        member.weight = Weight(weight);
    }
    let count = |world: &World| -> Vec<RegionId> {
        let ready = world.compile();
        clients().map(|client| ready.choose(client, Family::V4, world.now).0.region.unwrap()).collect()
    };
    let before = count(&world);
    for (region, share) in [(EU, 0.5), (US, 0.3), (AP, 0.2)] {
        let found = before.iter().filter(|chosen| **chosen == region).count() as f64 / 10_000.0;
        assert!((found - share).abs() < 0.02, "{region:?} has {found} of the clients instead of {share}");
    }
    let after = count(world.down(US));
    assert!(before.iter().zip(&after).all(|(before, after)| before == after || *before == US));
    assert!(!after.contains(&US));

    world.states.clear();
    let reduced = count(world.set(EU, None, State::Degraded));
    let found = reduced.iter().filter(|chosen| **chosen == EU).count() as f64 / 10_000.0;
    assert!((found - 2.5 / 7.5).abs() < 0.02, "degraded keeps half its weight, not {found}");
    assert!(before.iter().zip(&reduced).all(|(before, after)| before == after || *before == EU));
}

#[test]
fn weight_0_is_never_chosen_unless_all_weights_are_0() {
    let mut world = World::new(Rank::None);
    let members = &mut world.service().members;
    members[0].weight = Weight(0);
    let ready = world.compile();
    assert!(clients().all(|c| ready.choose(c, Family::V4, world.now).0.region != Some(EU)));
    for member in &mut world.service().members {
        member.weight = Weight(0);
    }
    let ready = world.compile();
    assert!(clients().any(|c| ready.choose(c, Family::V4, world.now).0.region == Some(EU)));
}

#[test]
fn both_families_of_a_client_go_to_one_region() {
    let world = World::new(Rank::None);
    let ready = world.compile();
    for client in clients().take(500) {
        let of = |family| ready.choose(client, family, world.now).0.region;
        assert_eq!(of(Family::V4), of(Family::V6), "{client}");
    }
}

#[test]
fn a_family_that_is_down_differs_from_one_that_is_missing() {
    let mut world = World::new(Rank::Priority);
    world.set(EU, Some(Family::V4), State::Down(Severity::Soft));
    let ready = world.compile();
    assert_eq!(ready.sends(GERMAN, Family::V4), "us-east", "configured but down: the next region");
    assert_eq!(ready.sends(GERMAN, Family::V6), "eu-west");

    world.states.clear();
    for endpoint in &mut world.topology.regions[usize::from(EU.0)].endpoints {
        let v4 = endpoint.listed().iter().copied().filter(|address| Family::V4.has(*address));
        endpoint.reach = Reach::Addresses(v4.collect());
    }
    let ready = world.compile();
    assert_eq!(ready.sends(GERMAN, Family::V6), "nodata", "none configured: the region stays the same");
    assert_eq!(ready.sends(GERMAN, Family::V4), "eu-west");
    world.down(EU);
    assert_eq!(world.compile().sends(GERMAN, Family::V6), "us-east");
}

#[test]
fn unknown_is_used_while_nothing_is_up() {
    let mut world = World::new(Rank::Priority);
    world.set(EU, None, State::Unknown);
    assert_eq!(world.sends(GERMAN), "us-east", "another region is known to be up");
    assert_eq!(world.down(US).down(AP).sends(GERMAN), "eu-west", "unknown is preferred to down");
    world.states.clear();
    for region in [AP, EU, US] {
        world.set(region, None, State::Unknown);
    }
    assert_eq!(world.sends(GERMAN), "eu-west", "at the start every region is unknown");
}

#[test]
fn operators_drain_and_force_regions_and_parts_of_them() {
    let mut world = World::new(Rank::Priority);
    assert_eq!(world.set_override("region/eu-west", Action::DRAIN, "100%").sends(GERMAN), "us-east");
    assert_eq!(
        world.set_override("region/eu-west", Action::Up, "100%").sends(GERMAN),
        "eu-west",
        "the later override wins"
    );
    assert_eq!(world.down(EU).sends(GERMAN), "eu-west", "forced up takes precedence over probes");

    let mut world = World::new(Rank::Priority);
    world.set_override("service/www.example.test/eu-west", Action::Down, "100%");
    assert_eq!(world.sends(GERMAN), "us-east");

    let mut world = World::new(Rank::Priority);
    world.set_override("endpoint/eu-west/lb1", Action::DRAIN, "100%");
    let ready = world.compile();
    let lb2: IpAddr = "192.0.2.22".parse().unwrap();
    assert!(clients().take(200).all(|c| ready.choose(c, Family::V4, world.now).1 == [lb2]));
    world.set_override("endpoint/eu-west/lb2", Action::DRAIN, "100%");
    assert_eq!(world.sends(GERMAN), "us-east", "both endpoints drained is the region drained");

    let mut world = World::new(Rank::Priority);
    world.set_override("region/eu-west", Action::DRAIN, "25%");
    let ready = world.compile();
    let away = |now| -> Vec<IpAddr> {
        clients().filter(|c| ready.choose(*c, Family::V4, now).0.region == Some(US)).collect()
    };
    let drained_share = away(world.now);
    assert!((drained_share.len() as f64 / 10_000.0 - 0.25).abs() < 0.02, "{} of 10000", drained_share.len());
    assert_eq!(
        drained_share,
        away(world.now.after(Duration::from_secs(3600))),
        "the same clients all the time"
    );
    world.service().steering.all_down = AllDown::Servfail;
    world.down(US).down(AP);
    let ready = world.compile();
    let sent = |c: IpAddr| ready.choose(c, Family::V4, world.now).0.region;
    assert!(
        drained_share.iter().all(|c| sent(*c) == Some(EU)),
        "no other region serves, so the drained one does"
    );
}

#[test]
fn overrides_expire() {
    let mut world = World::new(Rank::Priority);
    world.set_override("region/eu-west", Action::DRAIN, "100%");
    world.overrides[0].until = Some(world.now.after(Duration::from_secs(60)));
    assert_eq!(world.sends(GERMAN), "us-east");
    world.now = world.now.after(Duration::from_secs(60));
    assert_eq!(world.sends(GERMAN), "eu-west");
}

#[test]
fn safety_holds_soft_failures() {
    let soft = State::Down(Severity::Soft);
    let mut world = World::new(Rank::Priority);
    world.rules = Rules::default();
    world.set(US, None, soft).down(AP);
    assert_eq!(world.compile().held(), [], "eu-west serves");
    // Once nothing serves, every region that fails softly is held: clients stay where they are.
    world.set(EU, None, soft);
    let ready = world.compile();
    assert_eq!(ready.held(), [EU, US]);
    assert_eq!(ready.sends(GERMAN, Family::V4), "eu-west");
    // A hard failure is never held.
    world.set(EU, None, State::Down(Severity::Hard));
    let ready = world.compile();
    assert_eq!(ready.held(), [US]);
    assert_eq!(ready.sends(GERMAN, Family::V4), "us-east");
}

#[test]
fn a_brown_out_of_all_regions_does_not_stampede_to_one() {
    let mut world = World::new(DISTANCE);
    world.rules = Rules::default();
    for region in [AP, EU, US] {
        world.set(region, None, State::Down(Severity::Soft));
    }
    let ready = world.compile();
    let sent = [GERMAN, AMERICAN, INDIAN].map(|client| ready.sends(client, Family::V4));
    assert_eq!(sent, ["eu-west", "us-east", "ap-south"]);
}

#[test]
fn a_family_that_fails_softly_is_held_separately() {
    let mut world = World::new(Rank::Priority);
    world.rules = Rules::default();
    world.service().steering.all_down = AllDown::Servfail;
    world.down(US).down(AP).set(EU, Some(Family::V4), State::Down(Severity::Soft));
    let ready = world.compile();
    assert_eq!(ready.sends(GERMAN, Family::V4), "eu-west", "held for IPv4");
    assert_eq!(ready.sends(GERMAN, Family::V6), "eu-west");
    assert!(ready.standing.held.iter().all(|it| (it.region, it.family) == (EU, Family::V4)));
    // A family that fails hard is unserved separately.
    world.set(EU, Some(Family::V4), State::Down(Severity::Hard));
    let ready = world.compile();
    assert_eq!(ready.sends(GERMAN, Family::V4), "servfail");
    assert_eq!(ready.sends(GERMAN, Family::V6), "eu-west");
    let unserved = ready.unserved();
    assert_eq!(unserved, [Unserved { service: ServiceId(0), family: Family::V4 }]);
    assert_eq!(
        safety::alarm(&world.topology, &unserved).unwrap(),
        "no region can serve www.example.test. over IPv4: answered as all_down says"
    );
}

/// What served keeps serving while there is no result; what only an override made serve does not outlast it.
#[test]
fn overrides_do_not_end_what_served_nor_prolong_what_they_forced() {
    let [first, second] = ["192.0.2.21", "192.0.2.22"].map(|it| it.parse::<IpAddr>().unwrap());
    let sends = |forced: [bool; 2], served: bool| {
        let mut world = World::new(Rank::Priority);
        let own = [0, 1].map(|index| Condition::Endpoint(EndpointRef { region: EU, index }));
        let needed = if served { 2 } else { 1 };
        world.topology.regions[usize::from(EU.0)].healthy_when = Condition::AtLeast(needed, own.into());
        if !served {
            world.states.extend([first, second].map(|it| (it, State::Unknown)));
        }
        for force in forced {
            world.overrides.clear();
            if force {
                world.set_override("endpoint/eu-west/lb1", Action::Up, "");
            }
            world.previous = Some(world.compile().standing);
            world.states.insert(second, State::Unknown);
        }
        world.sends(GERMAN)
    };
    assert_eq!(sends([false, true], true), "eu-west");
    assert_eq!(sends([true, true], true), "eu-west", "the override is the same as before");
    assert_eq!(sends([false, false], false), "us-east");
    assert_eq!(sends([true, false], false), "us-east");
}

/// A region that has IPv6 addresses only does nothing for IPv4 clients, but IPv6 clients can use IPv4 addresses.
#[test]
fn safety_counts_only_regions_that_can_serve_the_family() {
    let only = |family: Family, region: RegionId, world: &mut World| {
        for endpoint in &mut world.topology.regions[usize::from(region.0)].endpoints {
            let listed = endpoint.listed().iter().copied().filter(|address| family.has(*address)).collect();
            endpoint.reach = Reach::Addresses(listed);
        }
    };
    let v6_only = |region, world: &mut World| only(Family::V6, region, world);
    // Too few regions serve over IPv4: the only other one is held, but not the one without addresses.
    let mut world = World::new(Rank::Priority);
    world.rules = Rules { min_regions: 2, ..Rules::default() };
    v6_only(EU, &mut world);
    world.set(EU, None, State::Down(Severity::Soft));
    world.set(US, Some(Family::V4), State::Down(Severity::Soft));
    let ready = world.compile();
    assert!(ready.standing.held.iter().all(|it| (it.region, it.family) == (US, Family::V4)));
    assert_eq!(ready.sends(GERMAN, Family::V4), "us-east");
    assert_eq!(ready.sends(GERMAN, Family::V6), "us-east");
    // Held for IPv6, it gets all of its clients: the region is chosen once per client.
    world.set(US, None, State::Down(Severity::Soft));
    let ready = world.compile();
    assert_eq!([Family::V4, Family::V6].map(|family| ready.sends(GERMAN, family)), ["nodata", "eu-west"]);
    // The last region with IPv4 addresses may not be drained.
    let mut world = World::new(Rank::Priority);
    v6_only(EU, &mut world);
    world.down(AP);
    let mut drained = World::new(Rank::Priority);
    v6_only(EU, &mut drained);
    drained.down(AP).set_override("region/us-east", Action::DRAIN, "100%");
    let refusal = permit(&Rules::default(), &world.compile(), &drained.compile()).unwrap_err();
    assert_eq!(
        refusal.explain(&world.topology, drained.compile().compiled.region_sets()),
        "min_regions = 1 forbids this, because none of ap-south, us-east would be usable for www.example.test."
    );
    // The last one with IPv6 addresses may be.
    let mut drained = World::new(Rank::Priority);
    only(Family::V4, EU, &mut drained);
    drained.down(AP).set_override("region/us-east", Action::DRAIN, "100%");
    let mut world = World::new(Rank::Priority);
    only(Family::V4, EU, &mut world);
    world.down(AP);
    assert_eq!(permit(&Rules::default(), &world.compile(), &drained.compile()), Ok(()));
    // And in a brown-out, nobody is sent to an address that fails while another one serves.
    world.rules = Rules::default();
    world.set(US, None, State::Down(Severity::Soft));
    let ready = world.compile();
    assert_eq!((ready.held(), ready.sends(AMERICAN, Family::V6)), (vec![], "nodata".into()));
}

#[test]
fn safety_counts_for_each_set_of_clients_that_fences_define() {
    let mut world = World::new(Rank::Priority);
    world.rules = Rules::default();
    let europe = vec![PlaceKey::Continent("EU".parse().unwrap())];
    world.service().fences = vec![
        Fence { region: US, rule: FenceRule::Except(europe.clone()) },
        Fence { region: AP, rule: FenceRule::Except(europe) },
    ];
    // Germans have only eu-west: its soft failure is held for them alone.
    world.set(EU, None, State::Down(Severity::Soft));
    let ready = world.compile();
    assert_eq!(ready.sends(GERMAN, Family::V4), "eu-west");
    assert_eq!(ready.sends(AMERICAN, Family::V4), "us-east");
    world.states.clear();
    let before = world.compile();
    let mut drained = World::new(Rank::Priority);
    drained.service().fences.clone_from(&world.topology.services[0].fences);
    drained.set_override("region/eu-west", Action::DRAIN, "100%");
    let after = drained.compile();
    let refusal = permit(&world.rules, &before, &after).unwrap_err();
    assert_eq!(refusal.regions, [EU]);
}

#[test]
fn endpoints_are_drawn_by_name() {
    let shared = |names: &[u8]| {
        let mut world = World::new(Rank::Priority);
        world.service().steering.share = Share::Hash;
        let endpoint = |index: u8| Endpoint {
            name: format!("lb{index}"),
            reach: Reach::Addresses(vec![format!("192.0.2.{}", 100 + index).parse().unwrap()]),
            weight: Weight(100),
            healthy_when: Condition::ALWAYS,
        };
        let region = &mut world.topology.regions[usize::from(EU.0)];
        region.endpoints = names.iter().map(|index| endpoint(*index)).collect();
        let own = (0..names.len())
            .map(|index| Condition::Endpoint(EndpointRef { region: EU, index: index as u16 }));
        region.healthy_when = Condition::Any(own.collect());
        let ready = world.compile();
        clients().take(600).map(|c| ready.choose(c, Family::V4, world.now).1[0]).collect::<Vec<_>>()
    };
    let before = shared(&[1, 2, 3, 4]);
    assert_eq!(before, shared(&[4, 2, 1, 3]), "the order in the config moves nobody");
    let gone: IpAddr = "192.0.2.101".parse().unwrap();
    let moved = |after: &[IpAddr]| {
        before.iter().zip(after).filter(|(before, after)| **before != gone && before != after).count()
    };
    assert_eq!(moved(&shared(&[2, 3, 4])), 0, "losing an endpoint moves only its own clients");
    let joined = moved(&shared(&[5, 1, 2, 3, 4]));
    assert!((60..180).contains(&joined), "a fifth endpoint takes a fifth: {joined} of 600");
}

#[test]
fn several_endpoints_are_answered_in_the_order_of_their_draws() {
    let mut world = World::new(Rank::Priority);
    world.service().steering.answers = 2;
    world.topology.regions[usize::from(EU.0)].endpoints[0].weight = Weight(900);
    let ready = world.compile();
    let heavy: IpAddr = "192.0.2.21".parse().unwrap();
    let first = clients().filter(|c| ready.choose(*c, Family::V4, world.now).1[0] == heavy).count();
    assert!((8_800..9_200).contains(&first), "{first} of 10,000 for a weight of 900 in 1,000");
    let (choice, addresses) = ready.at(GERMAN, Family::V4);
    assert_eq!((addresses.len(), choice.scope), (2, 24), "the order depends on the client's prefix");
}

#[test]
fn scopes_narrow_only_for_the_service_concerned() {
    let scope = |target: &str, share: &str| {
        let mut world = World::new(Rank::Priority);
        world.single_endpoints();
        let mut other = world.topology.services[0].clone();
        other.name = "other.example.test.".parse().unwrap();
        world.topology.services.push(other);
        world.set_override(target, Action::DRAIN, share);
        world.compile().at(GERMAN, Family::V4).0.scope
    };
    assert_eq!(scope("region/us-east", "100%"), 0, "a full drain is the same for every client");
    assert_eq!(scope("service/other.example.test/eu-west", "25%"), 0, "another service's");
    assert_eq!(scope("service/www.example.test/eu-west", "100%"), 0);
    assert_eq!(scope("service/www.example.test/eu-west", "25%"), 24);
    assert_eq!(scope("region/eu-west", "25%"), 24);
}

#[test]
fn operators_cannot_withdraw_the_last_region() {
    let mut world = World::new(Rank::Priority);
    let permit =
        |before: &World, after: &World| permit(&Rules::default(), &before.compile(), &after.compile());
    world.down(US).down(AP);
    let mut drained = World::new(Rank::Priority);
    drained.down(US).down(AP).set_override("region/eu-west", Action::DRAIN, "100%");
    assert_eq!(permit(&world, &drained).unwrap_err().remaining, 0);
    let mut partly = World::new(Rank::Priority);
    partly.down(US).down(AP).set_override("region/eu-west", Action::DRAIN, "50%");
    assert_eq!(permit(&world, &partly), Ok(()));
    drained.states.clear();
    assert_eq!(permit(&World::new(Rank::Priority), &drained), Ok(()));
}

#[test]
fn a_region_without_a_result_is_none_that_operators_may_rely_on() {
    let mut world = World::new(Rank::Priority);
    world.down(AP).set(US, None, State::Unknown);
    let mut drained = World::new(Rank::Priority);
    drained.down(AP).set(US, None, State::Unknown).set_override("region/eu-west", Action::DRAIN, "100%");
    let refusal = permit(&Rules::default(), &world.compile(), &drained.compile()).unwrap_err();
    assert_eq!((refusal.needed, refusal.remaining), (1, 0));
}

#[test]
fn safety_counts_the_regions_that_operators_leave_to_a_service() {
    let rules = Rules::default();
    let mut before = World::new(Rank::Priority);
    before.rules = rules.clone();
    before.down(US).set_override("service/www.example.test/eu-west", Action::DRAIN, "100%");
    let mut after = World::new(Rank::Priority);
    after.rules = rules.clone();
    after.down(US).set_override("service/www.example.test/eu-west", Action::DRAIN, "100%");
    after.set_override("region/ap-south", Action::DRAIN, "100%");
    let (before, after) = (before.compile(), after.compile());
    let refusal = permit(&rules, &before, &after).unwrap_err();
    assert_eq!((refusal.service, refusal.remaining), (Some(ServiceId(0)), 0));
    assert_eq!(
        refusal.explain(&after.world.topology, after.compiled.region_sets()),
        "min_regions = 1 forbids this, because none of ap-south, eu-west, us-east would be usable for www.example.test."
    );
    assert_eq!(before.unserved(), []);
    assert_eq!(after.unserved().len(), 2, "both families");
    assert_eq!(
        safety::alarm(&after.world.topology, &after.unserved()).unwrap(),
        "no region can serve www.example.test.: answered as all_down says"
    );
}

#[test]
fn safety_holds_the_last_regions_of_a_service() {
    let mut world = World::new(Rank::Priority);
    world.rules = Rules::default();
    world.service().steering.all_down = AllDown::Servfail;
    world.down(US).set(AP, None, State::Down(Severity::Soft));
    assert_eq!(world.sends(GERMAN), "eu-west");
    // Its set of clients still has eu-west, but the service does not.
    world.set_override("service/www.example.test/eu-west", Action::DRAIN, "100%");
    let ready = world.compile();
    assert_eq!(ready.sends(GERMAN, Family::V4), "ap-south");
    assert_eq!(ready.held(), [AP]);
    assert!(ready.standing.held.iter().all(|it| matches!(it.scope, HeldFor::Service(ServiceId(0), _))));
    assert_eq!(ready.standing.held_anywhere(AP), Some(Rule::MinRegions));
    assert_eq!(ready.unserved(), []);
}

#[test]
fn all_down_is_a_policy() {
    let mut world = World::new(DISTANCE);
    for region in [AP, EU, US] {
        world.down(region);
    }
    assert_eq!(world.sends(AMERICAN), "us-east", "all: as if up");
    world.set_override("region/us-east", Action::DRAIN, "100%");
    assert_eq!(world.sends(AMERICAN), "eu-west", "but not a region that an operator withdrew");
    world.set_override("region/eu-west", Action::DRAIN, "100%").set_override(
        "region/ap-south",
        Action::DRAIN,
        "100%",
    );
    assert_eq!(world.sends(AMERICAN), "us-east", "unless no other is left");

    world.service().steering.all_down = AllDown::Servfail;
    assert_eq!(world.sends(AMERICAN), "servfail");
    world.service().steering.all_down = AllDown::Fallback(vec!["203.0.113.9".parse().unwrap()]);
    assert_eq!(world.sends(AMERICAN), "fallback");
    assert_eq!(world.compile().sends(AMERICAN, Family::V6), "nodata");
}

#[test]
fn a_region_whose_host_is_not_resolved_yet_gives_neither_answers_nor_denials() {
    let mut world = World::new(DISTANCE);
    for endpoint in &mut world.topology.regions[usize::from(US.0)].endpoints {
        endpoint.reach = Reach::Resolved("lb.example.net.".parse().unwrap());
    }
    assert_eq!(world.sends(AMERICAN), "eu-west", "the next has addresses");
    world.down(EU).down(AP);
    assert_eq!(world.sends(AMERICAN), "eu-west", "all: as if up, of those with addresses");
    world.set_override("region/us-east", Action::Up, "100%");
    assert_eq!(world.sends(AMERICAN), "eu-west", "forced up, it still has no address");
    world.set_override("region/eu-west", Action::Down, "100%").set_override(
        "region/ap-south",
        Action::Down,
        "100%",
    );
    assert_eq!(world.sends(AMERICAN), "servfail", "not a denial that resolvers would cache");
}

#[test]
fn last_good_is_the_region_that_was_up_last_for_a_limited_time() {
    let mut world = World::new(DISTANCE);
    world.service().steering.all_down = AllDown::LastGood(Duration::from_secs(600));
    let lose = |world: &mut World, region: RegionId| {
        world.previous = Some(world.compile().standing);
        world.now = world.now.after(Duration::from_secs(120));
        world.down(region);
    };
    for region in [US, AP, EU] {
        lose(&mut world, region);
    }
    assert_eq!(world.sends(AMERICAN), "eu-west", "us-east has been down for four minutes longer");
    world.previous = Some(world.compile().standing);
    world.now = world.now.after(Duration::from_secs(601));
    assert_eq!(world.sends(AMERICAN), "us-east", "after that: as if up");
}

#[test]
fn last_good_ignores_what_operators_drained_and_what_was_never_good() {
    let mut world = World::new(Rank::Priority);
    world.service().steering.all_down = AllDown::LastGood(Duration::from_secs(600));
    // us-east fails, and a little later eu-west; ap-south is healthy, but drained.
    world.set_override("region/ap-south", Action::DRAIN, "100%");
    for (seconds, region) in [(0, US), (67, EU)] {
        world.previous = Some(world.compile().standing);
        world.now = world.now.after(Duration::from_secs(seconds));
        world.down(region);
    }
    world.previous = Some(world.compile().standing);
    world.now = world.now.after(Duration::from_secs(65));
    assert_eq!(world.sends(AMERICAN), "eu-west");
    // Only addresses that served: the second endpoint of eu-west never did.
    let mut world = World::new(Rank::Priority);
    world.service().steering.all_down = AllDown::LastGood(Duration::from_secs(600));
    world.down(US).down(AP);
    let dead: Vec<IpAddr> = world.topology.region(EU).endpoints[1].listed().to_vec();
    world.states.extend(dead.iter().map(|address| (*address, State::Down(Severity::Hard))));
    world.previous = Some(world.compile().standing);
    world.now = world.now.after(Duration::from_secs(60));
    world.down(EU);
    let ready = world.compile();
    for client in clients().take(100) {
        let (choice, addresses) = ready.choose(client, Family::V4, world.now);
        assert_eq!((choice.region, &*addresses), (Some(EU), &["192.0.2.21".parse::<IpAddr>().unwrap()][..]));
    }
}

#[test]
fn tolerance_makes_tie_groups() {
    let mut world = World::new(DISTANCE);
    world.service().steering.rank = Rank::Distance(Km(6_000.0));
    let ready = world.compile();
    let sent: Vec<_> = (0..64).map(|n| ready.sends(&format!("10.1.{n}.1"), Family::V4)).collect();
    assert!(sent.iter().any(|to| to == "eu-west") && sent.iter().any(|to| to == "us-east"), "{sent:?}");
}

#[test]
fn windows_move_weighted_clients_and_leave_hashed_ones() {
    let moved = |share| {
        let mut world = World::new(Rank::None);
        world.service().steering.share = share;
        let ready = world.compile();
        let later = world.now.after(Duration::from_secs(30));
        let at = |client, now| ready.choose(client, Family::V4, now).0.region;
        clients().filter(|client| at(*client, world.now) != at(*client, later)).count()
    };
    assert_eq!(moved(Share::Hash), 0);
    // Of three equal regions two thirds of the clients draw another one.
    assert!((6_000..7_300).contains(&moved(Share::Weighted)), "{}", moved(Share::Weighted));

    // Each client's window begins at a moment of its own: within a third of it a third of them moves.
    let world = World::new(Rank::None);
    let ready = world.compile();
    let soon = world.now.after(Duration::from_secs(10));
    let at = |client, now| ready.choose(client, Family::V4, now).0.region;
    let moved = clients().filter(|client| at(*client, world.now) != at(*client, soon)).count();
    assert!((1_800..2_700).contains(&moved), "{moved}");
}

#[test]
fn several_answers_are_several_endpoints() {
    let mut world = World::new(Rank::Priority);
    world.service().steering.answers = 2;
    let (_, addresses) = world.compile().at(GERMAN, Family::V4);
    assert_eq!(addresses.len(), 2);
    world.states.insert("192.0.2.21".parse().unwrap(), State::Down(Severity::Hard));
    let (_, addresses) = world.compile().at(GERMAN, Family::V4);
    assert_eq!(addresses, ["192.0.2.22".parse::<IpAddr>().unwrap()]);

    let mut world = World::new(Rank::Priority);
    let third = Endpoint {
        name: "lb3".into(),
        reach: Reach::Addresses(vec!["192.0.2.23".parse().unwrap()]),
        ..world.topology.regions[1].endpoints[0].clone()
    };
    world.topology.regions[1].endpoints.push(third);
    world.service().steering.answers = 2;
    let ready = world.compile();
    for client in clients().take(200) {
        let (_, addresses) = ready.choose(client, Family::V4, world.now);
        assert!(addresses.len() == 2 && addresses[0] != addresses[1], "{addresses:?}");
    }
}

#[test]
fn scopes_are_as_wide_as_the_answer_allows() {
    let mut world = World::new(DISTANCE);
    world.single_endpoints();
    let scope = |world: &World, client| world.compile().at(client, Family::V4).0.scope;
    assert_eq!(scope(&world, INDIAN), 16, "all of 10.3.0.0/16 is in India, 10.2.0.0/16 is not");
    assert_eq!(scope(&world, GERMAN), 15, "10.0.0.0/16 has no location, but its order is the same");
    world.networks.push(Network {
        prefix: "10.1.2.128/25".parse().unwrap(),
        location: None,
        first: [AP].into(),
    });
    assert_eq!(scope(&world, "10.1.2.3"), 25, "its neighbour within the /24 is sent elsewhere");
    assert_eq!(scope(&world, "10.1.200.3"), 17);
    let two_endpoints = World::new(DISTANCE);
    assert_eq!(scope(&two_endpoints, "10.1.200.3"), 24, "endpoints are drawn by the /24");
    world.service().steering.rank = Rank::Priority;
    world.networks.clear();
    assert_eq!(scope(&world, GERMAN), 0, "the same for all clients");
}

#[test]
fn an_endpoint_with_weight_0_takes_no_clients_and_does_not_count() {
    let mut world = World::new(Rank::Priority);
    world.topology.regions[1].endpoints[1].weight = Weight(0);
    let ready = world.compile();
    let lb1: IpAddr = "192.0.2.21".parse().unwrap();
    assert!(clients().take(100).all(|c| ready.choose(c, Family::V4, world.now).1 == [lb1]));
    world.states.insert(lb1, State::Down(Severity::Hard));
    world.states.insert("2001:db8::21".parse().unwrap(), State::Down(Severity::Hard));
    assert_eq!(world.sends(GERMAN), "us-east");
}

/// A world of `rank` whose TTL is computed between 5 and 60 seconds, and in which endpoints need no draw.
fn computed(rank: Rank) -> World {
    let mut world = World::new(rank);
    world.service().steering.ttl = TtlRange { max: Ttl(60), min: Ttl(5) };
    world.single_endpoints();
    world
}

fn after(seconds: u64) -> Due {
    Due::after(Duration::from_secs(seconds))
}

impl World {
    fn at(&self, seconds: u64) -> Due {
        Due::at(self.now.after(Duration::from_secs(seconds)))
    }

    fn ttl(&self, client: &str) -> u32 {
        self.compile().at(client, Family::V4).0.ttl.0
    }
}

#[test]
fn a_computed_ttl_is_the_least_time_to_a_change_of_what_was_consulted() {
    let mut world = computed(Rank::Priority);
    assert_eq!(world.ttl(GERMAN), 60, "nothing changes by itself");
    world.dues = HashMap::from([(EU, after(20)), (US, world.at(7)), (AP, after(40))]);
    assert_eq!(world.ttl(GERMAN), 20, "the groups behind the first were not consulted");
    world.down(EU);
    assert_eq!(world.ttl(GERMAN), 7, "the first was consulted, and so was the second");
    world.set(US, None, State::Unknown);
    assert_eq!(world.ttl(GERMAN), 7, "the third is next");
    world.dues = HashMap::from([(EU, after(20)), (US, after(30)), (AP, after(9))]);
    assert_eq!(world.ttl(GERMAN), 9);
    world.now = world.now.after(Duration::from_secs(100));
    world.dues = HashMap::from([(EU, world.at(0)), (US, after(30))]);
    assert_eq!(world.ttl(GERMAN), 5, "never below the minimum");
    world.service().steering.ttl = Ttl(30).into();
    assert_eq!(world.ttl(GERMAN), 30, "a fixed TTL does not depend on it");
}

#[test]
fn a_computed_ttl_ends_with_an_override() {
    let mut world = computed(Rank::Priority);
    for (seconds, target) in
        [(50, "region/eu-west"), (40, "endpoint/eu-west/lb1"), (30, "service/www.example.test./eu-west")]
    {
        world.set_override(target, Action::DRAIN, "100%");
        world.overrides.last_mut().unwrap().until = Some(world.now.after(Duration::from_secs(seconds)));
        assert_eq!(world.ttl(GERMAN), seconds as u32, "{target}");
    }
    world.overrides[2].target = "service/other.example.test./eu-west".parse().unwrap();
    assert_eq!(world.ttl(GERMAN), 40, "of another service");
}

#[test]
fn a_computed_ttl_ends_with_the_window_of_the_share() {
    let mut world = computed(Rank::None);
    let ready = world.compile();
    let mut moved = 0;
    for client in clients().take(200) {
        let (choice, _) = ready.choose(client, Family::V4, world.now);
        let kept = u64::from(choice.ttl.0);
        let region_in = |seconds| {
            ready.choose(client, Family::V4, world.now.after(Duration::from_secs(seconds))).0.region
        };
        if kept > 5 {
            assert_eq!(region_in(kept - 1), choice.region, "{client}: drawn anew before {kept} s are over");
            moved += usize::from(region_in(kept) != choice.region);
        }
    }
    assert!(moved > 80, "{moved} of 200 moved at once: two of three should");
    world.service().steering.share = Share::Hash;
    let ready = world.compile();
    assert!(clients().take(50).all(|client| ready.choose(client, Family::V4, world.now).0.ttl == Ttl(60)));
}

#[test]
fn a_computed_ttl_is_the_minimum_while_no_region_serves() {
    for all_down in [AllDown::All, AllDown::Servfail, AllDown::LastGood(Duration::from_secs(600))] {
        let mut world = computed(Rank::Priority);
        world.service().steering.all_down = all_down;
        world.previous = Some(world.compile().standing);
        for region in [EU, US, AP] {
            world.set(region, None, State::Down(Severity::Soft));
        }
        assert_eq!(world.ttl(GERMAN), 5);
        world.rules = Rules::default();
        assert_eq!(world.ttl(GERMAN), 5, "held in, until it fails hard");
    }
    let mut world = computed(Rank::Priority);
    world.set_override("region/eu-west", Action::DRAIN, "99.9%");
    for region in [US, AP] {
        world.down(region);
    }
    world.dues = HashMap::from([(EU, after(20)), (US, after(15))]);
    assert_eq!(world.ttl(GERMAN), 15, "drained in part, it serves all the same");
}

#[test]
fn explain_shows_what_determines_a_computed_ttl() {
    let mut world = computed(Rank::Priority);
    world.dues.insert(EU, after(20));
    let ttl_reasons = |world: &World| {
        let ready = world.compile();
        let client: IpAddr = GERMAN.parse().unwrap();
        let request =
            SteeringRequest { service: ServiceId(0), client, family: Family::V4, unix: world.now, draw: 0 };
        let place = ready.geo.locate(client).place;
        let (_, recording) =
            ready.compiled.explain(&world.topology, &ready.standing, place, &request, &mut Vec::new());
        let ttl = recording.entries.into_iter().filter(|entry| entry.stage == Stage::Ttl);
        ttl.map(|entry| (entry.region, entry.verdict)).collect::<Vec<_>>()
    };
    assert_eq!(ttl_reasons(&world), [(EU, Ok(Note::MayChange(Duration::from_secs(20))))]);
    world.service().steering.ttl = Ttl(30).into();
    assert_eq!(ttl_reasons(&world), []);
}
