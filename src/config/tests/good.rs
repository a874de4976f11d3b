//! What valid configs are read as.

use std::time::Duration;

use http::uri::{Authority, PathAndQuery};
use rustls::pki_types::ServerName;

use super::super::*;
use super::{ZONE, load_with, reported};
use crate::model::{
    AllDown, AllowedClients, Assertion, Condition, Country, Endpoint, EndpointRef, Expect, Fence, FenceRule,
    Fraction, GeoEntry, Group, HttpProbe, Identity, KeyPrefix, Kind, LatencyRow, Location, Member, Millis,
    Point, Probe, ProbeId, Rank, Reach, RegionId, Rules, Service, ServiceKind, Share, Startup, StatusRange,
    Steering, Subdivision, SuspectSelf, TcpLimits, Thresholds, TlsProbe, Ttl, Weight,
};

/// A config that uses nearly every table.
pub(super) const FULL: &str = r#"
version = 1

[node]
name      = "ns1"
state_dir = "/var/lib/portolan"
user = "portolan"
landlock = false
resolver = ["192.0.2.53", "[2001:db8::53]:5353"]
private_networks = ["10.0.0.0/8", "fd00::/8"]
[log]
format = "json"
level  = "debug"

[dns]
listen  = ["0.0.0.0:53", "[::]:53"]
workers = 4
ecs     = false
key_prefix = { v4 = 22, v6 = 48 }
identity = { hostname = "ns1.gslb.test" }
cookies = { secret_file = "cookies.secret" }
rate_limit = { responses_per_second = 50, slip = 3, window = "1m", v4_prefix = 28, exempt = ["10.0.0.0/8", "2001:db8::/32"] }
allow = ["10.0.0.0/8", "2001:db8::/32"]
proxy_protocol_from = ["10.0.0.10/32", "2001:db8::10/128"]
tcp = { connections = 2000, per_prefix = 100, idle = "5s" }
query_log = { to = "queries.log", sample = "1%" }

[control]
listen = "127.0.0.1:8054"
socket = "run/control.sock"
hosts  = ["ns1.gslb.test."]
read   = "token"
metrics = "127.0.0.1:9153"
group = "operators"
tls   = { cert = "c.pem", key = "k.pem", client_ca = "ca.pem" }
token = [{ name = "ci", role = "operator", sha256 = "000102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1F" }]

[geo]
database = ["city.mmdb", "builtin"]
[[geo.network]]
prefix   = "10.20.0.0/16"
location = { country = "de", lat = 52.5, lon = 13.4, continent = "EU", subdivision = "DE-BE" }
[[geo.network]]
prefix  = "198.51.100.0/24"
regions = ["us-east", "eu-west"]

[group.eea]
places = ["country:DE", "net:203.0.113.0/24", "group:nordic"]
[group.nordic]
places = ["country:SE"]

[latency]
file  = "latency.csv"
table = [{ from = "country:IN", region = "eu-west", ms = 140 }]

[probe.edge]
kind     = "https"
port     = 8443
host     = "www.example.com"
path     = "/health/ready?deep=1"
expect   = { status = [200, "3xx", "410-420"], body = "ready", json = [{ path = "$.checks.db.status", equals = "healthy" }, { path = "$.n", equals = 3 }] }
interval = "10s"
timeout  = "3s"
fall     = 4
clear    = 2
rise     = 5
hold     = "1m"
startup  = { grace = "90s" }
slow     = "800ms"

[probe.port443]
kind = "tcp"
port = 443

[region.eu-west]
location = { country = "IE", lat = 53.35, lon = -6.26 }
capacity = 40000
healthy_when = { fraction = "50%" }
require  = ["lb2", "endpoint/us-east/lb1"]
[[region.eu-west.endpoint]]
name    = "lb1"
address = ["192.0.2.10", "2001:db8::10"]
weight  = 30
probe   = ["port443", "edge"]
[[region.eu-west.endpoint]]
name    = "lb2"
address = "192.0.2.11"
probe   = []
[region.us-east]
location = { country = "US", lat = 38.95, lon = -77.45 }
endpoint = [{ name = "lb1", address = ["192.0.2.20", "2001:db8::20"], probe = ["edge"] }]

[[zone]]
origin = "gslb.test."
file   = "zones/gslb.test.zone"
dnssec = false

[policy.nearby]
rank      = "latency"
tolerance = "15ms"
share     = "hash"
answers   = 2
ttl       = "20s"
all_down  = { last_good = "10m" }
spill     = false

[[service]]
name    = "WWW.gslb.test."
type    = "address"
policy  = "nearby"
regions = ["eu-west", { region = "us-east", weight = 3 }]
all_down = { fallback = ["203.0.113.9", "2001:db8::9"] }
fence   = [{ region = "eu-west", only = ["group:eea"] }, { region = "us-east", except = ["net:192.0.2.0/25"] }]

[[service]]
name    = "geo.gslb.test"
regions = ["eu-west", "us-east"]
rank    = "geo"
[service.geo]
"*" = ["us-east"]
"continent:EU" = [["us-east", "eu-west"]]
"net:198.51.0.0/16" = ["us-east"]
"group:nordic" = ["eu-west"]
"group:eea" = ["eu-west", "us-east"]
"net:198.51.100.0/24" = ["eu-west"]
"country:CA" = ["us-east"]
"region:US-CA" = ["us-east"]
"asn:64500" = ["us-east"]

[journal]
retention = { age = "30d" }

[safety]
min_regions = 2
suspect_self = { share = "50%", min = 4, anchors = ["tcp:192.0.2.250:53", "tcp:[2001:db8::53]:53"], at_most = "1m" }
"#;

pub(super) const LATENCY: &str =
    "# measured\nplace, region, ms\n\nasn:64500,us-east,12.5\n net:192.0.2.128/25 , eu-west , 7\n";

const EU: RegionId = RegionId(0);
const US: RegionId = RegionId(1);

pub(super) fn full() -> Config {
    let files: &[(&str, &[u8])] =
        &[("latency.csv", LATENCY.as_bytes()), ("zones/gslb.test.zone", ZONE.as_bytes())];
    load_with(FULL, files).unwrap_or_else(|reported| panic!("{reported}"))
}

fn country(code: &str) -> Country {
    code.parse().expect("a country code")
}

#[test]
fn the_node() {
    let config = full();
    let warnings = super::without(&config.warnings.to_string(), "`capacity` is only displayed");
    assert_eq!(warnings.trim(), "");
    assert_eq!(config.file, Path::new("conf/p.toml"));
    let resolvers =
        vec!["192.0.2.53:53".parse().expect("it is"), "[2001:db8::53]:5353".parse().expect("it is")];
    let node = Node {
        name: Some("ns1".into()),
        state_dir: Some("/var/lib/portolan".into()),
        user: Some("portolan".into()),
        landlock: false,
        resolvers,
        destinations: ["10.0.0.0/8", "fd00::/8"]
            .map(|it| it.parse::<IpNet>().expect("a network"))
            .into_iter()
            .collect(),
    };
    assert_eq!(config.node, node);
    assert_eq!(config.log, Log { format: Some(LogFormat::Json), level: LogLevel::Debug });
    let suspect_self = SuspectSelf {
        share: Fraction::from_percent(50.0).expect("a share"),
        min: 4,
        anchors: vec![
            "192.0.2.250:53".parse().expect("a socket"),
            "[2001:db8::53]:53".parse().expect("a socket"),
        ],
        at_most: Duration::from_secs(60),
    };
    assert_eq!(config.retention, Some(Duration::from_secs(30 * 86_400)));
    assert_eq!(config.safety, Rules { min_regions: 2, suspect_self: Some(suspect_self) });
    let origins: Vec<_> = config.zones.iter().map(|zone| zone.origin.to_string()).collect();
    assert_eq!(origins, ["gslb.test."]);
}

#[test]
fn the_server_reveals_only_the_configured_identity() {
    let identity = |text: &str| {
        let dns = format!("version = 1\ndns = {{ listen = [\"[::]:53\"], {text} }}\n");
        load_with(&dns, &[])
            .unwrap_or_else(|reported| panic!("{reported}"))
            .dns
            .expect("a name server")
            .identity
    };
    assert_eq!(identity("ecs = true"), Identity::default());
    let quiet = identity("identity = { version = \"9\", hostname = \"a\", nsid = false }");
    assert_eq!(
        (quiet.version.as_deref(), quiet.hostname.as_deref(), quiet.nsid),
        (Some("9"), Some("a"), None)
    );
    assert_eq!(identity("identity = { nsid = \"b\" }").nsid.as_deref(), Some("b"));
}

#[test]
fn geo_data_and_latencies() {
    let config = full();
    let databases = config.geo.databases.iter().map(|it| (it.source.clone(), it.at.line, it.at.column));
    let city = GeoSource::File("conf/city.mmdb".into());
    assert_eq!(databases.collect::<Vec<_>>(), [(city, 39, 13), (GeoSource::Builtin, 39, 26)]);
    let location = &config.geo.networks[0].location.expect("a location");
    let subdivision: Subdivision = "BE".parse().expect("a code");
    assert_eq!(
        *location,
        Location {
            continent: Some(crate::model::Continent::EU),
            country: Some(country("DE")),
            subdivision: Some(subdivision),
            point: Some(Point { lat: 52.5, lon: 13.4 }),
            asn: None
        }
    );
    assert_eq!(config.geo.networks[1].first[..], [US, EU]);
    assert_eq!(config.geo.networks[1].location, None);
    let groups = [
        ("eea", vec![PlaceKey::Country(country("DE")), net("203.0.113.0/24"), PlaceKey::Group(1)]),
        ("nordic", vec![PlaceKey::Country(country("SE"))]),
    ];
    assert_eq!(config.topology.groups, groups.map(|(name, places)| Group { name: name.into(), places }));
    // The file comes before the table, so that the table overrides it.
    let rows = [(PlaceKey::Asn(64500), US, 12.5), (net("192.0.2.128/25"), EU, 7.0)];
    let rows = rows.into_iter().chain([(PlaceKey::Country(country("IN")), EU, 140.0)]);
    let rows: Vec<_> = rows.map(|(from, region, millis)| LatencyRow { from, region, millis }).collect();
    assert_eq!(config.topology.latency, rows);
    let nets = ["192.0.2.0/25", "192.0.2.128/25", "198.51.0.0/16", "198.51.100.0/24", "203.0.113.0/24"];
    assert_eq!(config.nets(), nets.map(|net| net.parse().expect("a prefix")));
}

fn net(text: &str) -> PlaceKey {
    PlaceKey::Net(text.parse().expect("a prefix"))
}

#[test]
fn probes_of_every_kind() {
    let range = |first, last| StatusRange { first, last };
    let assertion = |path: &str, equals| Assertion { path: path.parse().expect("a JSONPath"), equals };
    let http = HttpProbe {
        host: Some(Authority::from_static("www.example.com")),
        path: PathAndQuery::from_static("/health/ready?deep=1"),
        expect: Expect {
            status: vec![range(200, 200), range(300, 399), range(410, 420)],
            body: Some("ready".into()),
            json: vec![assertion("$.checks.db.status", "healthy".into()), assertion("$.n", 3.into())],
        },
    };
    let server_name = Some(ServerName::try_from("www.example.com").expect("a name"));
    let edge = Probe {
        name: "edge".into(),
        kind: Kind::Https { port: 8443, http, tls: TlsProbe { server_name, authorities: None } },
        port_is_given: true,
        interval: Duration::from_secs(10),
        timeout: Duration::from_secs(3),
        thresholds: Thresholds {
            fall: 4,
            clear: 2,
            rise: 5,
            hold: Duration::from_secs(60),
            startup: Some(Startup { grace: Duration::from_secs(90) }),
            slow: Some(Duration::from_millis(800)),
        },
    };
    let topology = full().topology;
    assert_eq!(topology.probes[0], edge);
    assert_eq!(
        (topology.probes[1].name.as_str(), &topology.probes[1].kind),
        ("port443", &Kind::Tcp { port: 443 })
    );
}

#[test]
fn regions_and_their_endpoints() {
    let regions = full().topology.regions;
    let endpoint = |name: &str, addresses: &[&str], weight, probes: &[u16]| Endpoint {
        name: name.into(),
        reach: Reach::Addresses(addresses.iter().map(|it| it.parse().expect("an address")).collect()),
        weight: Weight(weight),
        healthy_when: Condition::checks(probes.iter().map(|id| ProbeId(*id))),
    };
    let eu = &regions[0];
    assert_eq!((eu.name.as_str(), eu.capacity), ("eu-west", Some(40_000)));
    assert_eq!(eu.location.country, Some(country("IE")));
    assert_eq!(eu.location.continent, Some(crate::model::Continent::EU));
    let endpoint_at = |region, index| Condition::Endpoint(EndpointRef { region, index });
    let own = vec![endpoint_at(EU, 0), endpoint_at(EU, 1)];
    let half = Condition::Fraction(Fraction::from_percent(50.0).expect("a share"), own);
    assert_eq!(eu.healthy_when, Condition::All(vec![half, endpoint_at(EU, 1), endpoint_at(US, 0)]));
    let endpoints = [
        endpoint("lb1", &["192.0.2.10", "2001:db8::10"], 30, &[1, 0]),
        endpoint("lb2", &["192.0.2.11"], 100, &[]),
    ];
    assert_eq!(eu.endpoints, endpoints);
    assert_eq!(regions[1].healthy_when, Condition::Any(vec![endpoint_at(US, 0)]));
    assert_eq!(regions[1].endpoints, [endpoint("lb1", &["192.0.2.20", "2001:db8::20"], 100, &[0])]);
}

#[test]
fn a_service_over_its_policy() {
    let services = full().topology.services;
    let expected = Service {
        name: "www.gslb.test.".parse().expect("a name"),
        kind: ServiceKind::ADDRESS,
        members: vec![Member { region: EU, weight: Weight(1) }, Member { region: US, weight: Weight(3) }],
        steering: Steering {
            rank: Rank::Latency(Millis(15.0)),
            share: Share::Hash,
            answers: 2,
            ttl: Ttl(20).into(),
            all_down: AllDown::Fallback(
                ["203.0.113.9", "2001:db8::9"].map(|it| it.parse().expect("an address")).into(),
            ),
        },
        fences: vec![
            Fence { region: EU, rule: FenceRule::Only(vec![PlaceKey::Group(0)]) },
            Fence { region: US, rule: FenceRule::Except(vec![net("192.0.2.0/25")]) },
        ],
    };
    assert_eq!(services[0], expected);
}

#[test]
fn a_geo_table_is_sorted_by_how_specific_its_keys_are() {
    let california: Subdivision = "CA".parse().expect("a code");
    let expected = [
        (net("198.51.100.0/24"), vec![vec![EU]]),
        (net("198.51.0.0/16"), vec![vec![US]]),
        (PlaceKey::Asn(64500), vec![vec![US]]),
        (PlaceKey::Subdivision(country("US"), california), vec![vec![US]]),
        (PlaceKey::Country(country("CA")), vec![vec![US]]),
        // Groups keep the order written.
        (PlaceKey::Group(1), vec![vec![EU]]),
        (PlaceKey::Group(0), vec![vec![EU], vec![US]]),
        (PlaceKey::Continent(crate::model::Continent::EU), vec![vec![US, EU]]),
        (PlaceKey::Any, vec![vec![US]]),
    ];
    let expected = expected.map(|(place, groups)| GeoEntry { place, groups });
    assert_eq!(full().topology.services[1].steering.rank, Rank::Geo(expected.into()));
}

#[test]
fn omitted_keys_have_the_defaults_of_the_reference() {
    let text = r#"
        version = 1
        [dns]
        listen = ["127.0.0.1:5300"]
        [probe.http]
        kind = "http"
        [probe.https]
        kind = "https"
        host = "www.example.com"
        [probe.tls]
        kind = "tls"
        host = "www.example.com"
        [region.one]
        endpoint = [{ name = "lb1", address = ["192.0.2.1"], probe = ["http", "https", "tls"] }]
        [[zone]]
        origin = "gslb.test."
        file = "z.zone"
        [[service]]
        name = "www.gslb.test."
        regions = ["one"]
    "#;
    let config =
        load_with(text, &[("z.zone", ZONE.as_bytes())]).unwrap_or_else(|reported| panic!("{reported}"));
    assert!(config.warnings.is_empty(), "{}", config.warnings);
    assert_eq!(config.node, Node::default());
    assert_eq!(config.log, Log { format: None, level: LogLevel::Info });
    let dns = config.dns.expect("a name server");
    assert_eq!((dns.workers, dns.ecs, dns.key_prefix), (0, true, KeyPrefix { v4: 24, v6: 56 }));
    assert_eq!(
        (dns.tcp, dns.tcp.idle, dns.allow),
        (TcpLimits::default(), Duration::from_secs(10), AllowedClients::default())
    );
    assert_eq!(config.control.listen, Some("127.0.0.1:8053".parse().expect("an address")));
    assert_eq!(config.control.socket.as_deref(), Some(Path::new("/run/portolan/control.sock")));
    let databases = config.geo.databases.iter().map(|it| (&it.source, it.at.line, it.at.column));
    assert_eq!(databases.collect::<Vec<_>>(), [(&GeoSource::Builtin, 1, 1)]);
    assert!(config.geo.networks.is_empty());
    assert_eq!((config.safety, config.retention), (Rules::default(), None));
    let thresholds =
        Thresholds { fall: 3, clear: 1, rise: 2, hold: Duration::from_secs(30), startup: None, slow: None };
    let ports = config.topology.probes.iter().map(|probe| {
        assert_eq!((probe.interval, probe.timeout), (Duration::from_secs(5), Duration::from_secs(2)));
        assert_eq!(probe.thresholds, thresholds);
        probe.kind.port()
    });
    assert_eq!(ports.collect::<Vec<_>>(), [80, 443, 443]);
    let status = vec![StatusRange { first: 200, last: 399 }];
    let expect = Expect { status, body: None, json: Vec::new() };
    assert_eq!(
        config.topology.probes[0].kind,
        Kind::Http { port: 80, http: HttpProbe { host: None, path: PathAndQuery::from_static("/"), expect } }
    );
    assert_eq!(
        config.topology.regions[0].healthy_when,
        Condition::Any(vec![Condition::Endpoint(EndpointRef { region: EU, index: 0 })])
    );
    assert_eq!(config.topology.regions[0].endpoints[0].weight, Weight(100));
    assert_eq!(config.topology.services[0].members, [Member { region: RegionId(0), weight: Weight(1) }]);
    let steering = Steering {
        rank: Rank::Priority,
        share: Share::Weighted,
        answers: 1,
        ttl: Ttl(30).into(),
        all_down: AllDown::All,
    };
    assert_eq!(config.topology.services[0].steering, steering);
}

#[test]
fn without_dns_there_is_no_name_server_and_control_may_be_off() {
    let config = load_with("version = 1\n[control]\nlisten = false\nsocket = false", &[]);
    let config = config.unwrap_or_else(|reported| panic!("{reported}"));
    assert_eq!(config.dns, None);
    assert_eq!(config.control, Control { listen: None, socket: None, ..Control::default() });
}

#[test]
fn all_equivalent_forms_are_accepted() {
    for snippet in [
        "policy.p = { rank = \"distance\", tolerance = \"300km\" }",
        "policy.p = { rank = \"distance\", tolerance = \"0ms\" }",
        "policy.p = { tolerance = 0, all_down = \"servfail\", ttl = \"0s\" }",
        "probe.p = { kind = \"http\", expect = { status = 204 } }",
        "probe.p = { kind = \"tls\", host = \"192.0.2.1\" }",
        "region.r = { endpoint = [{ name = \"a\", address = [\"::1\"], probe = [] }], require = [] }",
        "region.r = { endpoint = [{ name = \"a\", address = \"::1\" }], healthy_when = { at_least = 1 } }",
        "service = [{ name = \"*.gslb.test\", regions = [\"east\"] }]",
        "service = [{ name = \"gslb.test\", regions = [\"east\"], rank = \"distance\" }]",
        "dns = { listen = [\"127.0.0.1:0\", \"127.0.0.1:0\", \"[::1]:53\", \"127.0.0.1:53\"] }",
    ] {
        assert_eq!(reported(snippet), "", "of {snippet}");
    }
}

#[test]
fn an_ipv6_host_is_written_with_or_without_brackets() {
    for host in ["2001:db8::1", "[2001:db8::1]", "[2001:0db8::0001]"] {
        let text = format!("version = 1\nprobe.p = {{ kind = \"https\", host = \"{host}\" }}");
        let config = load_with(&text, &[]).unwrap_or_else(|reported| panic!("{reported}"));
        let Kind::Https { http, tls, .. } = &config.topology.probes[0].kind else { panic!("kind is https") };
        assert_eq!(http.host, Some(Authority::from_static("[2001:db8::1]")), "RFC 3986 §3.2.2: in brackets");
        assert_eq!(tls.server_name, Some(ServerName::try_from("2001:db8::1").expect("an address")));
    }
}
