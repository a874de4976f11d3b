//! Books and their sums, compared with plain maps.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use proptest::prelude::*;

use super::networks::{Entry, Networks, SETS, Secret, WAYS};
use super::{Book, Meter, Network, Totals};
use crate::geo::{Index, NetworkOverride};
use crate::model::{Country, Location, RegionId, ServiceId, Topology, sample};

const SECRET: u64 = 0x5bd1_e995_7b7d_159b;

/// Regions `a` to `c`, and services by their names and regions.
fn topology(services: &[(&str, &[u16])]) -> Arc<Topology> {
    let service = |(name, regions): &(&str, &[u16])| {
        sample::service(name, &regions.iter().map(|region| RegionId(*region)).collect::<Vec<_>>())
    };
    Arc::new(Topology {
        regions: ["a", "b", "c"].map(sample::region).into(),
        services: services.iter().map(service).collect(),
        ..Topology::default()
    })
}

/// Places by prefix and country.
fn geo(networks: &[(&str, &str)]) -> Arc<Index> {
    let network = |(prefix, country): &(&str, &str)| NetworkOverride {
        prefix: prefix.parse().unwrap(),
        location: Some(Location { country: Some(country.parse().unwrap()), ..Location::default() }),
        first: Box::default(),
    };
    let networks: Vec<NetworkOverride> = networks.iter().map(network).collect();
    Arc::new(Index::compile(&[], &networks, &[]))
}

/// A plan, as far as it is counted.
struct World {
    topology: Arc<Topology>,
    geo: Arc<Index>,
}

impl World {
    fn new(services: &[(&str, &[u16])], networks: &[(&str, &str)]) -> Self {
        Self { topology: topology(services), geo: geo(networks) }
    }

    fn count(&self, book: &Book, service: u32, region: Option<u16>, client: &str) {
        self.count_of(book, service, region, client.parse().unwrap(), None);
    }

    fn count_of(&self, book: &Book, service: u32, region: Option<u16>, client: IpAddr, subnet: Option<u8>) {
        let answers = book.turn_to(&self.topology, &self.geo);
        book.count(&answers, &self.geo, (ServiceId(service), region.map(RegionId)), (client, subnet));
    }

    fn totals(&self, meter: &Meter) -> Totals {
        meter.totals(&self.topology)
    }

    /// What every service answered, as "www.test. a DE 3"; "-" stands for no region and "ZZ" for no country.
    fn shown(&self, totals: &Totals) -> Vec<String> {
        let mut all = Vec::new();
        for (id, service) in (0..).map(ServiceId).zip(&self.topology.services) {
            for row in totals.service(id) {
                let region = row.region.map_or("-", |id| &self.topology.region(id).name);
                for (country, count) in &row.countries {
                    let country = country.map_or("ZZ".into(), |it| it.to_string());
                    all.push(format!("{} {region} {country} {count}", service.name));
                }
                let counted: u64 = row.countries.iter().map(|(_, count)| count).sum();
                assert_eq!(row.answers, counted + row.other);
            }
        }
        all
    }
}

const TWO: [(&str, &str); 2] = [("10.1.0.0/16", "DE"), ("10.2.0.0/16", "US")];

#[test]
fn answers_are_counted_by_service_region_and_country() {
    let world = World::new(&[("www.test.", &[0, 1]), ("api.test.", &[1])], &TWO);
    let meter = Meter::new(SECRET);
    let (one, two) = (meter.book(), meter.book());
    world.count(&one, 0, Some(0), "10.1.0.1");
    world.count(&one, 0, Some(0), "10.1.0.1");
    world.count(&two, 0, Some(0), "10.1.9.1");
    world.count(&two, 0, Some(1), "10.2.0.1");
    world.count(&two, 0, None, "10.2.0.1");
    world.count(&one, 1, Some(1), "192.0.2.1");
    world.count_of(&one, 1, Some(1), "10.2.0.0".parse().unwrap(), Some(16));
    let totals = world.totals(&meter);
    assert_eq!(
        world.shown(&totals),
        ["www.test. a DE 3", "www.test. b US 1", "www.test. - US 1", "api.test. b ZZ 1", "api.test. b US 1"]
    );
    assert_eq!((totals.answers(), totals.with_subnet, totals.removed), (7, 1, 0));
    let code = |code: &str| Some(code.parse::<Country>().unwrap());
    assert_eq!(totals.countries(ServiceId(0)), [(code("DE"), 3), (code("US"), 2)]);
    assert_eq!(totals.all_countries(), [(None, 1), (code("DE"), 3), (code("US"), 3)]);
    let networks: Vec<_> =
        totals.networks.iter().map(|it| format!("{:?} {}+{}", it.network, it.answers, it.error)).collect();
    assert_eq!(
        networks,
        [
            "10.1.0.0/24 2+0",
            "10.2.0.0/24 2+0",
            "10.1.9.0/24 1+0",
            "192.0.2.0/24 1+0",
            "10.2.0.0/16 (client subnet) 1+0",
        ]
    );
}

#[test]
fn counts_stay_with_their_names_over_a_reload() {
    let before = World::new(&[("www.test.", &[0, 1]), ("api.test.", &[1])], &TWO);
    let meter = Meter::new(SECRET);
    let (busy, idle) = (meter.book(), meter.book());
    for (service, region) in [(0, 0), (0, 1), (0, 1), (1, 1)] {
        before.count(&busy, service, Some(region), "10.1.0.1");
        before.count(&idle, service, Some(region), "10.2.0.1");
    }
    // The same numbers mean other services and regions, and the places have changed.
    let after = World::new(&[("new.test.", &[0]), ("www.test.", &[2, 1])], &[("10.1.0.0/16", "FR")]);
    after.count(&busy, 1, Some(1), "10.1.0.1");
    after.count(&busy, 1, Some(2), "10.1.0.1");
    let totals = after.totals(&meter);
    assert_eq!(
        after.shown(&totals),
        ["www.test. c FR 1", "www.test. b DE 2", "www.test. b FR 1", "www.test. b US 2"],
        "one writer has not answered since"
    );
    assert_eq!((totals.answers(), totals.removed), (10, 4));
    // Back again: what was removed does not come back.
    before.count(&busy, 0, Some(0), "10.1.0.1");
    before.count(&idle, 0, Some(0), "10.1.0.1");
    let totals = before.totals(&meter);
    assert_eq!(totals.answers(), 12);
    assert_eq!(totals.removed, 3);
}

#[test]
fn the_country_of_a_network_is_that_of_each_address_if_it_has_several() {
    let world = World::new(&[("www.test.", &[0])], &[("10.1.0.0/25", "DE"), ("10.1.0.128/25", "FR")]);
    let meter = Meter::new(SECRET);
    let book = meter.book();
    for client in ["10.1.0.1", "10.1.0.129", "10.1.0.2", "10.1.0.130"] {
        world.count(&book, 0, Some(0), client);
    }
    let totals = world.totals(&meter);
    assert_eq!(world.shown(&totals), ["www.test. a DE 2", "www.test. a FR 2"]);
    assert_eq!(totals.networks.len(), 1);
}

#[test]
fn networks_are_shown_as_they_were_asked_for() {
    for (address, subnet, expected) in [
        ("192.0.2.77", None, "192.0.2.0/24"),
        ("192.0.2.0", Some(24), "192.0.2.0/24 (client subnet)"),
        ("192.0.2.77", Some(32), "192.0.2.0/24 (client subnet)"),
        ("192.0.0.0", Some(20), "192.0.0.0/20 (client subnet)"),
        ("0.0.0.0", Some(0), "0.0.0.0/0 (client subnet)"),
        ("2001:db8:1:2::3", None, "2001:db8:1::/48"),
        ("2001:db8:1:2::", Some(64), "2001:db8:1::/48 (client subnet)"),
        ("2001:db8::", Some(32), "2001:db8::/32 (client subnet)"),
        ("ffff:ffff:ffff::", Some(48), "ffff:ffff:ffff::/48 (client subnet)"),
        ("255.255.255.255", None, "255.255.255.0/24"),
    ] {
        let network = Network::of(address.parse().unwrap(), subnet);
        assert_eq!(format!("{network:?}"), expected);
    }
}

#[test]
fn a_flood_of_networks_neither_displaces_those_that_ask_the_most_nor_grows_memory() {
    let world = World::new(&[("www.test.", &[0])], &[]);
    let meter = Meter::new(SECRET);
    let book = meter.book();
    let heavy: IpAddr = Ipv4Addr::new(192, 0, 2, 1).into();
    const FLOOD: u32 = 200_000;
    for number in 0..FLOOD {
        let spoofed = Ipv6Addr::from_bits(0x2001 << 112 | u128::from(number) << 80);
        world.count_of(&book, 0, Some(0), spoofed.into(), Some(48));
        if number.is_multiple_of(100) {
            world.count_of(&book, 0, Some(0), heavy, None);
        }
    }
    let totals = world.totals(&meter);
    assert_eq!(totals.answers(), u64::from(FLOOD + FLOOD / 100));
    let first = totals.networks[0];
    assert_eq!(first.network, Network::of(heavy, None));
    assert!(first.answers > u64::from(FLOOD) / 100 * 9 / 10, "{first:?}");
    assert!(totals.networks.iter().skip(1).all(|it| it.answers < 10), "{:?}", totals.networks[1]);
    // The error is that of the share of a set.
    let bound = u64::from(FLOOD) / (SETS * WAYS) as u64 * 2;
    assert!(totals.networks.iter().all(|it| it.error <= bound), "{bound}");
}

#[test]
fn combinations_that_find_no_room_are_counted_without_their_country() {
    // Every combination of two letters is a country.
    let letters = || b'A'..=b'Z';
    let codes: Vec<String> = letters()
        .flat_map(|one| letters().map(move |two| String::from_utf8(vec![one, two]).unwrap()))
        .collect();
    let prefixes: Vec<String> =
        (0..codes.len()).map(|at| format!("10.{}.{}.0/24", at / 256, at % 256)).collect();
    let networks: Vec<(&str, &str)> = prefixes.iter().zip(&codes).map(|(a, b)| (&**a, &**b)).collect();
    let names: Vec<String> = (0..300).map(|at| format!("n{at}.test.")).collect();
    let services: Vec<(&str, &[u16])> = names.iter().map(|name| (&**name, &[0_u16][..])).collect();
    let world = World::new(&services, &networks);
    let meter = Meter::new(SECRET);
    let book = meter.book();
    for service in 0..300 {
        for at in 0..codes.len() {
            let client = Ipv4Addr::new(10, (at / 256) as u8, (at % 256) as u8, 1);
            world.count_of(&book, service, Some(0), client.into(), None);
        }
    }
    let totals = world.totals(&meter);
    assert_eq!(totals.answers(), 300 * 676);
    let rows = |service: u32| totals.service(ServiceId(service))[0].clone();
    for service in 0..300 {
        assert_eq!(rows(service).answers, 676);
    }
    let other: u64 = (0..300).map(|service| rows(service).other).sum();
    assert!(other >= 300 * 676 - super::answers::MOST_SLOTS as u64, "{other}");
    assert_eq!(rows(0).other, 0, "the first to come have room");
}

#[test]
fn what_is_recent_is_told_from_what_was_before() {
    let world = World::new(&[("www.test.", &[0, 1])], &TWO);
    let meter = Meter::new(SECRET);
    let book = meter.book();
    let at = |seconds: u64| Duration::from_secs(seconds);
    let shown = |seconds: u64| {
        let measured = meter.measured(&world.topology, at(seconds));
        let period = |it: &super::Period| (it.length.as_secs(), world.shown(&it.totals).join(", "));
        (period(&measured.minute), period(&measured.hour))
    };
    world.count(&book, 0, Some(0), "10.1.0.1");
    let one = "www.test. a DE 1".to_owned();
    assert_eq!(shown(5), ((5, one.clone()), (5, one.clone())));
    // The first sum may come late.
    for seconds in (9..=60).step_by(10) {
        meter.sample(&world.topology, at(seconds));
    }
    world.count(&book, 0, Some(1), "10.2.0.1");
    let both = "www.test. a DE 1, www.test. b US 1".to_owned();
    assert_eq!(shown(65), ((65, both.clone()), (65, both.clone())));
    for seconds in (70..=130).step_by(10) {
        meter.sample(&world.topology, at(seconds));
    }
    assert_eq!(shown(131), ((61, String::new()), (131, both.clone())), "the first is over a minute old");
    world.count(&book, 0, Some(0), "10.2.9.1");
    for seconds in (140..=4210).step_by(10) {
        meter.sample(&world.topology, at(seconds));
    }
    assert_eq!(shown(4211), ((61, String::new()), (3601, String::new())), "all are over an hour old");
    world.count(&book, 0, Some(1), "10.2.0.1");
    let measured = meter.measured(&world.topology, at(4212));
    let networks = |of: &Totals| -> Vec<String> {
        of.networks.iter().map(|it| format!("{:?} {}", it.network, it.answers)).collect()
    };
    assert_eq!(networks(&measured.hour.totals), ["10.2.0.0/24 1"]);
    assert_eq!(networks(&measured.total), ["10.2.0.0/24 2", "10.1.0.0/24 1", "10.2.9.0/24 1"]);
    // The services are those of another config by now.
    let other = World::new(&[("api.test.", &[0]), ("www.test.", &[1])], &TWO);
    other.count(&book, 1, Some(1), "10.1.0.1");
    let measured = meter.measured(&other.topology, at(4213));
    assert_eq!(other.shown(&measured.minute.totals), ["www.test. b DE 1", "www.test. b US 1"]);
    assert_eq!((measured.minute.totals.removed, measured.total.removed), (0, 2));
}

#[test]
fn a_book_without_a_writer_is_used_again() {
    let world = World::new(&[("www.test.", &[0])], &TWO);
    let meter = Meter::new(SECRET);
    world.count(&meter.book(), 0, Some(0), "10.1.0.1");
    let again = meter.book();
    world.count(&again, 0, Some(0), "10.1.0.1");
    assert_eq!(world.shown(&world.totals(&meter)), ["www.test. a DE 2"]);
    assert_eq!(meter.books().len(), 1);
}

#[test]
fn readers_see_whole_entries_while_writers_count() {
    let world = World::new(&[("www.test.", &[0, 1])], &TWO);
    let meter = Meter::new(SECRET);
    let books = [meter.book(), meter.book()];
    let done = AtomicBool::new(false);
    const EACH: u32 = 60_000;
    std::thread::scope(|scope| {
        let writers = [0_u32, 1].map(|which| {
            let (world, book) = (&world, &books[which as usize]);
            scope.spawn(move || {
                for number in 0..EACH {
                    let client = Ipv4Addr::from_bits(number.wrapping_mul(2_654_435_761) | which);
                    world.count_of(book, 0, Some((number % 2) as u16), client.into(), None);
                }
            })
        });
        scope.spawn(|| {
            let mut before = 0;
            while !done.load(Ordering::Relaxed) {
                let totals = world.totals(&meter);
                let answers = totals.answers();
                assert!(answers >= before, "{answers} after {before}");
                before = answers;
                // Each network asks hardly ever, so little is certain of any.
                assert!(totals.networks.iter().all(|it| it.answers < 100));
            }
        });
        for writer in writers {
            writer.join().unwrap();
        }
        done.store(true, Ordering::Relaxed);
    });
    assert_eq!(world.totals(&meter).answers(), u64::from(2 * EACH));
}

#[test]
fn entries_are_read_whole_while_they_are_replaced() {
    let networks = Networks::new(Secret::new(SECRET));
    let first_set = |it: &Network| Secret::new(SECRET).set(it.key()) == 0;
    let all = (1_u32..).map(|number| Network::of(Ipv4Addr::from_bits(number << 8).into(), None));
    // One more than a set has room for, so that each loses its entry before it asks again.
    let rivals: Vec<Network> = all.filter(first_set).take(WAYS + 1).collect();
    let done = AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            for _ in 0..200_000 {
                for rival in &rivals {
                    let _ = networks.count(*rival);
                }
            }
            done.store(true, Ordering::Relaxed);
        });
        while !done.load(Ordering::Relaxed) {
            let entries = networks.read().next().expect("there are sets");
            for Entry { key, count, error } in entries.into_iter().filter(|entry| entry.key != 0) {
                assert_eq!(count, error + 1, "{:?}", Network::from_key(key));
            }
        }
    });
}

/// One thing that happens: an answer of a writer, or a reload to one of the worlds.
#[derive(Clone, Copy, Debug)]
enum Happening {
    Answer { writer: usize, service: u32, region: Option<u16>, network: u8, host: u8, subnet: bool },
    Reload(usize),
}

fn happening() -> impl Strategy<Value = Happening> {
    let answer = (0..3_usize, 0..2_u32, proptest::option::of(0..2_u16), 0..40_u8, any::<u8>(), any::<bool>());
    let answer = answer.prop_map(|(writer, service, region, network, host, subnet)| Happening::Answer {
        writer,
        service,
        region,
        network,
        host,
        subnet,
    });
    prop_oneof![20 => answer, 1 => (0..3_usize).prop_map(Happening::Reload)]
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(24) })]

    #[test]
    fn sums_over_writers_and_reloads_are_what_was_asked(
        happenings in proptest::collection::vec(happening(), 0..300)
    ) {
        let worlds = [
            World::new(&[("www.test.", &[0, 1]), ("api.test.", &[0, 1])], &TWO),
            World::new(&[("api.test.", &[1, 0]), ("www.test.", &[0, 1])], &[("10.1.0.0/16", "FR")]),
            World::new(&[("www.test.", &[0, 1]), ("new.test.", &[1, 0])], &[]),
        ];
        let meter = Meter::new(SECRET);
        let books = [meter.book(), meter.book(), meter.book()];
        let mut world = &worlds[0];
        let mut asked: BTreeMap<Network, u64> = BTreeMap::new();
        let (mut all, mut subnets) = (0, 0);
        // By service and region. Those of services that a writer's config lost are removed.
        let mut kept: Vec<BTreeMap<(String, Option<u16>), u64>> = vec![BTreeMap::new(); 3];
        let names = |world: &World| -> BTreeSet<String> {
            world.topology.services.iter().map(|it| it.name.to_string()).collect()
        };
        for it in happenings {
            match it {
                Happening::Reload(to) => world = &worlds[to],
                Happening::Answer { writer, service, region, network, host, subnet } => {
                    let client = IpAddr::from([10, network % 3, network, host]);
                    let subnet = subnet.then_some(24);
                    world.count_of(&books[writer], service, region, client, subnet);
                    let own = names(world);
                    kept[writer].retain(|(name, _), _| own.contains(name));
                    let name = world.topology.service(ServiceId(service)).name.to_string();
                    *kept[writer].entry((name, region)).or_default() += 1;
                    *asked.entry(Network::of(client, subnet)).or_default() += 1;
                    all += 1;
                    subnets += u64::from(subnet.is_some());
                }
            }
        }
        let totals = world.totals(&meter);
        prop_assert_eq!((totals.answers(), totals.with_subnet), (all, subnets));
        let own = names(world);
        let mut expected: BTreeMap<(String, Option<u16>), u64> = BTreeMap::new();
        for (key, count) in kept.into_iter().flatten().filter(|((name, _), _)| own.contains(name)) {
            *expected.entry(key).or_default() += count;
        }
        let mut found = BTreeMap::new();
        for (id, service) in (0..).map(ServiceId).zip(&world.topology.services) {
            for row in totals.service(id).into_iter().filter(|row| row.answers > 0) {
                found.insert((service.name.to_string(), row.region.map(|id| id.0)), row.answers);
            }
        }
        prop_assert_eq!(found, expected);
        for it in &totals.networks {
            let true_count = asked.get(&it.network).copied().unwrap_or(0);
            prop_assert!(it.answers <= true_count && true_count <= it.answers + it.error, "{:?} {}", it, true_count);
        }
    }

    /// With many more networks than entries, and several books.
    #[test]
    fn networks_are_within_their_errors(seed in any::<u64>()) {
        let world = World::new(&[("www.test.", &[0])], &[]);
        let meter = Meter::new(seed);
        let books = [meter.book(), meter.book()];
        let mut asked: BTreeMap<Network, u64> = BTreeMap::new();
        let mut state = seed;
        for _ in 0..30_000 {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            // Low numbers are much more frequent.
            let number = ((state >> 40) as u32 % 20_000 + 1).min((state >> 20) as u32 % 20_000 + 1);
            let client = IpAddr::V4(Ipv4Addr::from_bits(number << 8));
            world.count_of(&books[(state >> 63) as usize], 0, Some(0), client, None);
            *asked.entry(Network::of(client, None)).or_default() += 1;
        }
        let totals = world.totals(&meter);
        for it in &totals.networks {
            let true_count = asked[&it.network];
            prop_assert!(it.answers <= true_count && true_count <= it.answers + it.error, "{:?} {}", it, true_count);
        }
    }
}
