//! Databases of every schema, intact and damaged; the index over them; the embedded database.

use std::io::{self, Read as _};
use std::net::IpAddr;

use ipnet::IpNet;
use mmdb_writer::{IpVersion, Value, Writer};

use super::*;
use crate::model::{Continent, Country, Location, Point, Subdivision};

const CITY: &[u8] = include_bytes!("../../tests/data/mmdb/GeoIP2-City-Test.mmdb");
const ASN: &[u8] = include_bytes!("../../tests/data/mmdb/GeoLite2-ASN-Test.mmdb");
const ANONYMOUS: &[u8] = include_bytes!("../../tests/data/mmdb/GeoIP2-Anonymous-IP-Test.mmdb");
const NO_V4_TREE: &[u8] = include_bytes!("../../tests/data/mmdb/MaxMind-DB-no-ipv4-search-tree.mmdb");
const CORRUPT_TREE: &[u8] = include_bytes!("../../tests/data/mmdb/corrupt-search-tree.mmdb");
const CYCLIC: &[u8] = include_bytes!("../../tests/data/mmdb/cyclic-data-structure.mmdb");
const DEEP: &[u8] = include_bytes!("../../tests/data/mmdb/deep-nesting.mmdb");

fn at(text: &str) -> IpAddr {
    text.parse().unwrap()
}

fn net(text: &str) -> IpNet {
    text.parse().unwrap()
}

fn country(code: &str) -> Option<Country> {
    Some(code.parse().unwrap())
}

fn subdivision(code: &str) -> Option<Subdivision> {
    Some(code.parse().unwrap())
}

fn database(records: &[(&str, Value)]) -> Database {
    let mut writer = Writer::builder("Test").ip_version(IpVersion::V6).build();
    for (prefix, value) in records {
        writer.insert_value(net(prefix), value.clone()).unwrap();
    }
    Database::read(&writer.to_bytes().unwrap()).unwrap()
}

fn read_one(value: Value) -> Location {
    // The second record keeps the database valid if the first one has no place.
    let known = Value::map([("country_code", "FR")]);
    *database(&[("192.0.2.0/24", value), ("198.51.100.0/24", known)]).lookup(at("192.0.2.1"))
}

#[test]
fn nested_records_are_read() {
    let city = Database::read(CITY).unwrap();
    assert_eq!(city.kind(), "GeoIP2-City");
    let london = city.lookup(at("81.2.69.142"));
    assert_eq!((london.country, london.continent), (country("GB"), Some(Continent::EU)));
    assert_eq!(london.subdivision, subdivision("ENG"));
    assert_eq!(london.point, Some(Point { lat: 51.5142, lon: -0.0931 }));
    assert_eq!(city.lookup(at("::ffff:81.2.69.142")), london, "mapped is IPv4");
    assert_eq!(city.lookup(at("2a02:cf40::1")).country, country("NO"));
    assert_eq!(city.lookup(at("127.0.0.1")), &Location::default());
    assert_eq!(city.location(0), &Location::default());
}

#[test]
fn asn_records_are_read() {
    let asn = Database::read(ASN).unwrap();
    assert_eq!(asn.lookup(at("89.160.20.112")), &Location { asn: Some(29518), ..Location::default() });
    for value in [
        Value::map([("asn", "AS64500")]),
        Value::map([("asn", Value::U32(64500))]),
        Value::map([("as_number", Value::U64(64500))]),
        Value::map([("autonomous_system_number", "64500")]),
    ] {
        assert_eq!(read_one(value.clone()).asn, Some(64500), "{value:?}");
    }
    for value in
        [Value::map([("asn", "")]), Value::map([("asn", Value::U64(1 << 40))]), Value::map([("asn", "0")])]
    {
        assert_eq!(read_one(value.clone()).asn, None, "{value:?}");
    }
}

#[test]
fn flat_records_are_read() {
    let expected = Location {
        country: country("US"),
        point: Some(Point { lat: 37.5, lon: -122.25 }),
        ..Location::default()
    };
    let dbip = Value::map([
        ("country_code", Value::from("US")),
        ("state1", Value::from("California")),
        ("latitude", Value::Float(37.5)),
        ("longitude", Value::Float(-122.25)),
    ]);
    assert_eq!(read_one(dbip), expected);
    let ipinfo = Value::map([("country", "US"), ("region", "California"), ("loc", "37.5,-122.25")]);
    assert_eq!(read_one(ipinfo), expected);
    let newer = Value::map([
        ("country", "United States"),
        ("country_code", "US"),
        ("continent", "North America"),
        ("continent_code", "NA"),
        ("region_code", "CA"),
        ("lat", "37.5"),
        ("lng", "-122.25"),
    ]);
    let expected = Location { continent: Some(Continent::NA), subdivision: subdivision("CA"), ..expected };
    assert_eq!(read_one(newer), expected);
}

#[test]
fn invalid_values_in_a_record_count_as_absent() {
    let point = |lat: f64, lon: f64| {
        read_one(Value::map([("latitude", Value::Double(lat)), ("longitude", Value::Double(lon))])).point
    };
    assert_eq!(point(90.0, 180.0), Some(Point { lat: 90.0, lon: 180.0 }));
    for (lat, lon) in [(90.5, 0.0), (0.0, -181.0), (f64::NAN, 1.0), (f64::INFINITY, 1.0), (0.0, 0.0)] {
        assert_eq!(point(lat, lon), None, "{lat} {lon}");
    }
    for value in [
        Value::map([("country_code", "ZZ")]),
        Value::map([("country_code", "-")]),
        Value::map([("country", Value::array([Value::from(1_u32)]))]),
        Value::map([("region", "Zug")]),
        Value::map([("region_code", "CA")]),
        Value::map([("loc", "somewhere")]),
        Value::map([("loc", Value::Bytes(vec![1, 2]))]),
        Value::map([("lat", Value::Bool(true))]),
        Value::map([("asn", Value::U128(1))]),
        Value::from("a record that is no map"),
        Value::array([Value::from(1_u32)]),
    ] {
        assert_eq!(read_one(value.clone()), Location::default(), "{value:?}");
    }
}

#[test]
fn a_leaf_above_the_ipv4_part_applies_to_all_of_ipv4() {
    let mut writer = Writer::builder("Test").ip_version(IpVersion::V6).build();
    writer.insert_value(net("::/1"), Value::map([("country_code", "CH")])).unwrap();
    let whole = Database::read(&writer.to_bytes().unwrap()).unwrap();
    assert_eq!(whole.lookup(at("192.0.2.1")).country, country("CH"));
    assert_eq!(whole.lookup(at("2a00::1")).country, country("CH"));
    assert_eq!(whole.lookup(at("fe80::1")).country, None);
}

#[test]
fn files_that_are_not_place_databases_are_rejected() {
    let error = Database::read(ANONYMOUS).unwrap_err();
    assert_eq!(error, GeoError::NoPlaces { kind: "GeoIP2-Anonymous-IP".into() });
    assert!(error.to_string().contains("has no places"), "{error}");
    for bytes in [&b""[..], b"PK\x03\x04", b"\xab\xcd\xefMaxMind.com", &CITY[..CITY.len() / 2]] {
        assert!(matches!(Database::read(bytes), Err(GeoError::NotMmdb(_))), "{} bytes", bytes.len());
    }
    let cut = &compress(CITY).unwrap()[..1000];
    assert!(matches!(Database::read(cut), Err(GeoError::Compression(_))));
    // A kilobyte of data that is 16 MiB.
    let bomb = compress(&vec![0; 16 << 20]).unwrap();
    let error = super::database::unpack(&bomb, (16 << 20) - 1).unwrap_err();
    assert_eq!(error, GeoError::Compression("it has more than 16777215 bytes".into()));
    assert_eq!(super::database::unpack(&bomb, 16 << 20).unwrap().len(), 16 << 20);
    assert!(matches!(Database::read(NO_V4_TREE), Err(GeoError::NoPlaces { .. })));
}

#[test]
fn a_database_that_would_fill_the_memory_is_rejected() {
    use super::database::UNPACKED_MAX;
    let mut bomb = Vec::new();
    zstd::stream::copy_encode(io::repeat(0).take(UNPACKED_MAX + 1), &mut bomb, 1).unwrap();
    assert!(bomb.len() < 1 << 20, "{}", bomb.len());
    assert_eq!(
        Database::read(&bomb).unwrap_err().to_string(),
        "the compressed database cannot be unpacked: it has more than 536870912 bytes"
    );
}

#[test]
fn damaged_databases_are_rejected() {
    for (name, bytes) in [("tree", CORRUPT_TREE), ("cyclic", CYCLIC), ("deep", DEEP)] {
        assert!(Database::read(bytes).is_err(), "{name}");
    }
}

#[test]
fn a_tree_with_too_many_leaves_is_rejected() {
    // Every node but the last leads to the next one on both sides: 2^24 leaves out of 24 nodes.
    let mut bytes = Vec::new();
    for node in 1..24_u32 {
        bytes.extend_from_slice(&node.to_be_bytes()[1..]);
        bytes.extend_from_slice(&node.to_be_bytes()[1..]);
    }
    bytes.extend_from_slice(&[0, 0, 24, 0, 0, 24]);
    let mut writer = Writer::builder("Test").ip_version(IpVersion::V4).build();
    writer.insert_value(net("0.0.0.0/1"), Value::map([("country_code", "FR")])).unwrap();
    let whole = writer.to_bytes().unwrap();
    bytes.extend_from_slice(&whole[6..]);
    // Change the node count in the metadata from 1 to 24. The value follows directly after its key.
    let key = b"node_count";
    let value = bytes.windows(key.len()).position(|window| window == key).unwrap() + key.len();
    assert_eq!(bytes[value..value + 2], [0xc1, 1], "a u32 of one byte");
    bytes[value + 1] = 24;
    let corrupt = GeoError::Corrupt("its search tree has a cycle or shared nodes".into());
    assert_eq!(Database::read(&bytes).unwrap_err(), corrupt);
}

#[test]
fn damage_anywhere_never_panics() {
    let mut refused = 0;
    for position in (0..CITY.len()).step_by(41) {
        for flip in [0x01, 0x80, 0xff] {
            let mut bytes = CITY.to_vec();
            bytes[position] ^= flip;
            refused += usize::from(Database::read(&bytes).is_err());
        }
    }
    assert!(refused > 0);
    for length in (0..CITY.len()).step_by(397) {
        assert!(Database::read(&CITY[..length]).is_err(), "cut to {length}");
    }
}

#[test]
fn the_first_database_wins_and_later_ones_fill_gaps() {
    let flat = |code: &str, more: &[(&'static str, Value)]| {
        Value::map([("country_code", Value::from(code))].into_iter().chain(more.iter().cloned()))
    };
    let point = [("latitude", Value::Double(46.5)), ("longitude", Value::Double(7.0))];
    let first = database(&[("192.0.2.0/24", flat("CH", &[])), ("198.51.100.0/24", flat("DE", &[]))]);
    let second = database(&[
        ("192.0.2.0/25", flat("CH", &[&point[..], &[("region_code", Value::from("VD"))]].concat())),
        ("192.0.2.128/25", flat("FR", &point)),
        ("203.0.113.0/24", flat("FR", &point)),
    ]);
    let asn = database(&[
        ("0.0.0.0/1", Value::map([("asn", "AS1")])),
        ("192.0.2.0/23", Value::map([("asn", "AS2")])),
    ]);
    let index = Index::compile(&[first, second, asn], &[], &[]);

    let Located { place, prefix, .. } = index.locate(at("192.0.2.77"));
    assert_eq!(prefix, net("192.0.2.0/25"));
    assert_eq!(place.source, Source::Database(0));
    let expected = Location {
        continent: Some(Continent::EU),
        country: country("CH"),
        subdivision: subdivision("VD"),
        point: Some(Point { lat: 46.5, lon: 7.0 }),
        asn: Some(2),
    };
    assert_eq!(place.location, expected);

    let place = index.locate(at("192.0.2.200")).place;
    assert_eq!(place.location.country, country("CH"), "the second database contradicts");
    assert_eq!(place.location.point, centre_of("CH".parse().unwrap()), "and its coordinates do not count");

    let place = index.locate(at("203.0.113.9")).place;
    assert_eq!((place.location.country, place.source), (country("FR"), Source::Database(1)));
    assert_eq!(place.location.asn, None);

    let place = index.locate(at("10.0.0.1")).place;
    assert_eq!((place.location.asn, place.location.country), (Some(1), None));
    assert_eq!(place.source, Source::Database(2));
    assert_eq!(index.locate(at("240.0.0.1")).id, PlaceId(0));
}

#[test]
fn overrides_and_nets_take_precedence_over_databases() {
    let berlin = Location {
        country: country("DE"),
        point: Some(Point { lat: 52.5, lon: 13.4 }),
        ..Location::default()
    };
    let entry = |prefix: &str, location: Option<Location>, first: &[u16]| NetworkOverride {
        prefix: net(prefix),
        location,
        first: first.iter().map(|region| RegionId(*region)).collect(),
    };
    let overrides = [
        entry("10.20.30.0/24", None, &[1, 0]),
        entry("10.20.0.0/16", Some(berlin), &[]),
        entry("10.20.30.128/25", Some(Location { country: country("JP"), ..Location::default() }), &[]),
        entry("81.2.69.0/24", None, &[2]),
    ];
    let nets = [net("10.0.0.0/8"), net("10.20.30.7/24"), net("10.20.30.0/24")];
    let index = Index::compile(&[Database::read(CITY).unwrap()], &overrides, &nets);

    let Located { place, prefix, id } = index.locate(at("10.20.99.1"));
    assert_eq!((place.location.country, place.location.point), (country("DE"), berlin.point));
    assert_eq!(place.location.continent, Some(Continent::EU), "follows from the country");
    assert_eq!(
        (place.source, &*place.nets),
        (Source::Override(net("10.20.0.0/16")), &[net("10.0.0.0/8")][..])
    );
    assert!(prefix.contains(&at("10.20.99.1")) && !prefix.contains(&at("10.20.30.1")), "{prefix}");
    assert_eq!(index.place(id), place);

    let Located { place, prefix, .. } = index.locate(at("10.20.30.1"));
    assert_eq!(prefix, net("10.20.30.0/25"));
    assert_eq!(
        place.location.country,
        country("DE"),
        "a longer override without location leaves the shorter one's"
    );
    assert_eq!(&*place.first, [RegionId(1), RegionId(0)]);
    assert_eq!(&*place.nets, [net("10.20.30.0/24"), net("10.0.0.0/8")], "longest first, host bits gone");

    let Located { place, prefix, .. } = index.locate(at("10.20.30.200"));
    assert_eq!(prefix, net("10.20.30.128/25"));
    assert_eq!(place.location.country, country("JP"));
    assert_eq!(place.location.point, centre_of("JP".parse().unwrap()));
    assert_eq!(&*place.first, [RegionId(1), RegionId(0)], "and one without regions leaves the shorter one's");

    let place = index.locate(at("81.2.69.142")).place;
    assert_eq!(
        (place.location.country, place.source),
        (country("GB"), Source::Database(0)),
        "the database's location"
    );
    assert_eq!(&*place.first, [RegionId(2)]);
    assert_eq!(index.places()[0], Place::default());
    assert!(index.memory_bytes() > index.ranges().memory_bytes());
}

#[test]
fn an_index_split_by_another_has_its_places_in_parts() {
    let index = |networks: &[(&str, &str)]| {
        let network = |(prefix, code): &(&str, &str)| NetworkOverride {
            prefix: net(prefix),
            location: Some(Location { country: country(code), ..Location::default() }),
            first: Box::default(),
        };
        Index::compile(&[], &networks.iter().map(network).collect::<Vec<_>>(), &[])
    };
    let one = index(&[("10.1.0.0/16", "DE"), ("10.2.0.0/16", "US")]);
    let other = index(&[("10.1.128.0/17", "FR"), ("10.2.0.0/15", "FR")]);
    let split = one.split_by(&other);
    let id = |address: &str| split.locate(at(address)).id;
    let code = |address: &str| split.locate(at(address)).place.location.country;
    assert_eq!([code("10.1.0.1"), code("10.1.128.1"), code("10.2.0.1")], ["DE", "DE", "US"].map(country));
    assert_eq!([code("10.3.0.1"), code("10.9.0.1"), code("2001:db8::1")], [None; 3]);
    assert_ne!(id("10.1.0.1"), id("10.1.128.1"));
    assert_ne!(id("10.3.0.1"), id("10.9.0.1"));
    assert_eq!(id("10.9.0.1"), PlaceId(0), "what neither knows is the unknown place");
    let same = one.split_by(&one);
    assert_eq!(same.places().len(), one.places().len());
}

#[test]
fn an_empty_index_locates_no_one() {
    for index in [Index::default(), Index::compile(&[], &[], &[])] {
        let found = index.locate(at("192.0.2.1"));
        assert_eq!((found.id, found.prefix), (PlaceId(0), net("0.0.0.0/0")));
        assert_eq!(found.place, &Place::default());
        assert_eq!(index.locate(at("2001:db8::1")).prefix, net("::/0"));
        assert_eq!(index.locate(at("::ffff:192.0.2.1")).prefix, net("0.0.0.0/0"), "mapped is IPv4");
    }
}

#[test]
fn the_builtin_database_knows_the_world() {
    let builtin = builtin().unwrap();
    let index = Index::compile(&[builtin], &[], &[]);
    // Unicast addresses of institutions that stay where they are.
    for (address, expected) in [
        ("130.237.28.40", "SE"),      // Stockholm University
        ("129.132.19.216", "CH"),     // ETH Zürich
        ("133.11.0.1", "JP"),         // University of Tokyo
        ("18.9.22.169", "US"),        // MIT
        ("143.107.0.1", "BR"),        // University of São Paulo
        ("166.111.4.100", "CN"),      // Tsinghua University
        ("137.158.154.1", "ZA"),      // University of Cape Town
        ("130.102.0.1", "AU"),        // University of Queensland
        ("2001:6b0:e:2::1", "SE"),    // SUNET
        ("2001:67c:10ec::1", "CH"),   // ETH Zürich
        ("2001:200:0:8803::1", "JP"), // WIDE
    ] {
        let location = index.locate(at(address)).place.location;
        assert_eq!(location.country, country(expected), "{address}");
        let point = location.point.unwrap();
        let centre = centre_of(expected.parse().unwrap()).unwrap();
        assert!(point.distance_km(centre) < 4_500.0, "{address} is far from the middle of {expected}");
    }
    assert_eq!(index.locate(at("127.0.0.1")).id, PlaceId(0));
    let countries: std::collections::BTreeSet<_> =
        index.places().iter().filter_map(|place| place.location.country).collect();
    assert!(countries.len() > 240, "{}", countries.len());
    assert!(countries.iter().all(|country| continent_of(*country).is_some()));
}

#[test]
fn country_centres_are_the_means_of_the_builtin_positions() {
    let builtin = builtin().unwrap();
    let mut sums = std::collections::BTreeMap::<Country, ([f64; 3], f64)>::new();
    for (first, last, index) in builtin.ranges().iter() {
        let (IpAddr::V4(first), IpAddr::V4(last)) = (first, last) else { continue };
        let Location { country: Some(country), point: Some(point), .. } = *builtin.location(index) else {
            continue;
        };
        let count = f64::from(last.to_bits() - first.to_bits()) + 1.0;
        let (lat, lon) = (f64::from(point.lat).to_radians(), f64::from(point.lon).to_radians());
        let (sum, total) = sums.entry(country).or_default();
        for (axis, part) in sum.iter_mut().zip([lat.cos() * lon.cos(), lat.cos() * lon.sin(), lat.sin()]) {
            *axis += part * count;
        }
        *total += count;
    }
    let large: Vec<_> = sums.into_iter().filter(|(_, (_, total))| *total > 100_000.0).collect();
    assert!(large.len() > 100, "{}", large.len());
    for (country, ([x, y, z], _)) in large {
        let lat = z.atan2(x.hypot(y)).to_degrees() as f32;
        let mean = Point { lat, lon: y.atan2(x).to_degrees() as f32 };
        let off = centre_of(country).unwrap().distance_km(mean);
        assert!(off < 25.0, "{country} is {off} km off its mean {mean:?}");
    }
}

#[test]
fn a_reduced_database_agrees_with_its_source_and_is_reproducible() {
    let source = Database::read(CITY).unwrap();
    let bytes = build(&[Database::read(CITY).unwrap()]).unwrap();
    assert_eq!(bytes, build(&[Database::read(CITY).unwrap()]).unwrap());
    let packed = compress(&bytes).unwrap();
    let reduced = Database::read(&packed).unwrap();
    assert_eq!(reduced.built(), source.built());

    let (source, reduced) = (Index::compile(&[source], &[], &[]), Index::compile(&[reduced], &[], &[]));
    let sampling = Sampling { v4: 500, v6: 500, seed: 3 };
    let rows = compare(&source, &reduced, sampling);
    assert_eq!(
        rows.iter().map(|row| (row.v4, row.draw, row.count)).collect::<Vec<_>>(),
        [
            (true, Draw::Addresses, 500),
            (true, Draw::Ranges, 500),
            (false, Draw::Addresses, 500),
            (false, Draw::Ranges, 500),
        ]
    );
    for row in &rows {
        assert!(row.country > 0.97 && row.p50_km < 25.0 && row.p50_km <= row.p95_km, "{row:?}");
    }
    assert_eq!(compare(&source, &reduced, sampling), rows, "the same seed draws the same");
    let itself = compare(&source, &source, sampling);
    assert!(itself.iter().all(|row| row.country == 1.0 && row.p99_km == 0.0), "{itself:?}");
    let nowhere = compare(&source, &Index::default(), sampling);
    assert!(nowhere.is_empty() || nowhere.iter().all(|row| row.country == 0.0), "{nowhere:?}");
    assert!(matches!(build(&[Database::read(ASN).unwrap()]), Err(GeoError::NoPlaces { .. })));
}

#[test]
fn reducing_merges_nearby_places_and_keeps_borders() {
    let spot = |code: &str, lat: f64, lon: f64| {
        Value::map([
            ("country_code", Value::from(code)),
            ("latitude", Value::Double(lat)),
            ("longitude", Value::Double(lon)),
        ])
    };
    let source = database(&[
        ("10.0.0.0/25", spot("DE", 52.50, 13.40)),
        ("10.0.0.128/25", spot("DE", 52.40, 13.05)), // Potsdam: not worth a prefix
        ("10.0.1.0/32", spot("PL", 52.35, 14.55)),   // one address, but another country
        ("10.0.1.1/32", spot("DE", 52.34, 14.55)),
        ("11.0.0.0/9", spot("DE", 48.14, 11.58)),  // Munich: worth one
        ("11.128.0.0/9", spot("DE", 53.55, 9.99)), // Hamburg
    ]);
    let reduced = Database::read(&build(&[source]).unwrap()).unwrap();
    let find = |address: &str| *reduced.lookup(at(address));
    assert_eq!(find("10.0.0.1"), find("10.0.0.200"));
    assert_eq!(reduced.ranges().lookup(at("10.0.0.1")).1, 24);
    assert_eq!(find("10.0.1.0").country, country("PL"));
    assert_eq!(find("10.0.1.1").country, country("DE"));
    assert_eq!(find("10.0.1.2").country, None);
    assert_eq!(find("11.1.0.0").point, Some(Point { lat: 48.25, lon: 11.5 }));
    assert_eq!(find("11.200.0.0").point, Some(Point { lat: 53.5, lon: 10.0 }));
}
