//! Generated worlds: written as config text, loaded as by a node, queried as by a resolver.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use hickory_proto::op::{Edns, Message, MessageType, OpCode, Query};
use hickory_proto::rr::rdata::opt::{ClientSubnet, EdnsCode, EdnsOption};
use hickory_proto::rr::{Name, RecordType};
use ipnet::IpNet;
use portolan::answer::{AnswerKind, Arrival, Outcome, Reply, Transport, handle};
use portolan::config::{self, Source};
use portolan::forecast::{CountryDemand, Demand, Forecast, Shares};
use portolan::geo::Index;
use portolan::health::{Severity, State};
use portolan::model::{EndpointRef, Family, KeyPrefix, RegionId, Rules, ServiceId, Unix};
use portolan::snapshot::{Plan, Snapshot};
use portolan::standing::Override;
use portolan::steer::{NoTrace, SteeringRequest};
use portolan::{prepare, state};
use proptest::prelude::*;

use super::some_of;

const ZONE: &str = "$TTL 300\n@ 600 SOA ns h 7 3600 600 86400 60\n@ NS ns\nns A 192.0.2.53\n";
const START: Duration = Duration::from_secs(1_800_000_000);

/// A region as the config writes it.
#[derive(Clone, Debug)]
pub(super) struct Region {
    pub(super) name: String,
    /// The lines of its table.
    pub(super) body: String,
}

/// A service as the config writes it.
#[derive(Clone, Debug)]
pub(super) struct Service {
    pub(super) name: String,
    pub(super) body: String,
}

/// The content of a config, and the regions that are down.
#[derive(Clone, Debug)]
pub(super) struct World {
    pub(super) regions: Vec<Region>,
    pub(super) services: Vec<Service>,
    pub(super) networks: Vec<(IpNet, String)>,
    pub(super) latency: Vec<String>,
    pub(super) down: Vec<String>,
    pub(super) overrides: Vec<Override>,
}

const REGIONS: [&str; 5] = ["ap-south", "eu-west", "sa-east", "us-east", "us-west"];
const LOCATIONS: [&str; 4] = [
    "{ country = \"DE\", lat = 50.1, lon = 8.7 }",
    "{ country = \"US\", lat = 40.7, lon = -74.0 }",
    "{ country = \"IN\", lat = 28.6, lon = 77.2 }",
    "{ country = \"BR\" }",
];
const PLACES: [&str; 6] =
    ["country:DE", "continent:EU", "country:US", "group:nearby", "net:10.1.0.0/17", "net:2001:db8:1::/48"];

/// Networks are close together, so that they nest and adjoin each other.
fn any_prefix() -> impl Strategy<Value = IpNet> {
    prop_oneof![
        3 => (0..4_u8, any::<u8>(), any::<u8>(), 9..=32_u8).prop_map(|(b, c, d, length)| {
            IpNet::new(Ipv4Addr::new(10, b, c & 0xc1, d).into(), length).expect("a length that fits").trunc()
        }),
        1 => (0..4_u16, any::<u16>(), 30..=80_u8).prop_map(|(a, b, length)| {
            let address = Ipv6Addr::new(0x2001, 0xdb8, a, b & 0xc001, 0, 0, 0, 0);
            IpNet::new(address.into(), length).expect("a length that fits").trunc()
        }),
    ]
}

/// A client in or near the networks; sometimes an IPv4-mapped IPv6 address.
pub(super) fn any_client() -> impl Strategy<Value = IpAddr> {
    let v4 = (0..5_u8, any::<u8>(), any::<u8>()).prop_map(|(b, c, d)| Ipv4Addr::new(10, b, c & 0xc3, d));
    let v6 = (0..5_u16, any::<u16>(), any::<u16>())
        .prop_map(|(a, b, c)| Ipv6Addr::new(0x2001, 0xdb8, a, b & 0xc003, c, 0, 0, 1));
    prop_oneof![
        4 => v4.clone().prop_map(IpAddr::V4),
        2 => v6.prop_map(IpAddr::V6),
        1 => v4.prop_map(|v4| IpAddr::V6(v4.to_ipv6_mapped())),
    ]
}

fn any_region(number: usize) -> impl Strategy<Value = Region> {
    let endpoint = (any::<bool>(), prop::sample::select(vec![0, 1, 50, 100]));
    let point = (-8..9_i16, -17..19_i16);
    (point, prop::collection::vec(endpoint, 1..4)).prop_map(move |((lat, lon), endpoints)| {
        let mut body = format!("location = {{ lat = {}, lon = {} }}\nendpoint = [\n", lat * 10, lon * 10);
        for (index, (has_v6, weight)) in endpoints.into_iter().enumerate() {
            let host = number * 10 + index + 1;
            let v6 = if has_v6 { format!(", \"2001:db8::{host}\"") } else { String::new() };
            let _ = writeln!(
                body,
                "  {{ name = \"lb{index}\", address = [\"192.0.2.{host}\"{v6}], weight = {weight} }},"
            );
        }
        body.push_str("]\n");
        Region { name: REGIONS[number].into(), body }
    })
}

fn quoted(names: &[&str]) -> String {
    let names: Vec<_> = names.iter().map(|name| format!("\"{name}\"")).collect();
    format!("[{}]", names.join(", "))
}

fn any_service(number: usize, names: Vec<&'static str>) -> impl Strategy<Value = Service> {
    let members = some_of(&names, 1).prop_shuffle();
    members.prop_flat_map(move |members| {
        let some = || some_of(&members, 1).prop_shuffle();
        let fence =
            prop::option::weighted(0.3, (prop::sample::select(members.clone()), any_places(), any::<bool>()));
        (
            prop::collection::vec(prop::sample::select(vec![0, 1, 1, 3, 10]), members.len()),
            any_steering(),
            prop::collection::btree_map(prop::sample::select(PLACES.to_vec()), some(), 1..4),
            fence,
            Just(members),
        )
            .prop_map(move |(weights, steering, geo, fence, members)| {
                let listed: Vec<_> = members
                    .iter()
                    .zip(weights)
                    .map(|(region, weight)| format!("{{ region = \"{region}\", weight = {weight} }}"))
                    .collect();
                let mut body = format!("regions = [{}]\n{steering}", listed.join(", "));
                if steering.contains("\"geo\"") {
                    let entries: Vec<_> = geo
                        .iter()
                        .map(|(place, regions)| format!("\"{place}\" = {}", quoted(regions)))
                        .collect();
                    let _ = writeln!(body, "geo = {{ {} }}", entries.join(", "));
                }
                if let Some((region, places, only)) = fence {
                    let rule = if only { "only" } else { "except" };
                    let places = quoted(&places);
                    let _ = writeln!(body, "fence = [{{ region = \"{region}\", {rule} = {places} }}]");
                }
                Service { name: format!("s{number}.example."), body }
            })
    })
}

fn any_places() -> impl Strategy<Value = Vec<&'static str>> {
    some_of(&PLACES, 1)
}

/// All keys of a service but its members.
fn any_steering() -> impl Strategy<Value = String> {
    let rank = prop::sample::select(vec![
        "rank = \"priority\"\n",
        "rank = \"none\"\n",
        "rank = \"geo\"\n",
        "rank = \"distance\"\n",
        "rank = \"distance\"\ntolerance = \"6000km\"\n",
        "rank = \"latency\"\n",
        "rank = \"latency\"\ntolerance = \"60ms\"\n",
    ]);
    let share = prop::sample::select(vec!["weighted", "hash"]);
    let all_down = prop::sample::select(vec!["\"all\"", "\"servfail\"", "{ fallback = [\"203.0.113.9\"] }"]);
    (rank, share, 1..4_u8, 5..60_u8, all_down).prop_map(|(rank, share, answers, ttl, all_down)| {
        format!("{rank}share = \"{share}\"\nanswers = {answers}\nttl = \"{ttl}s\"\nall_down = {all_down}\n")
    })
}

fn any_network(names: Vec<&'static str>) -> impl Strategy<Value = (IpNet, String)> {
    let location =
        prop::sample::select(LOCATIONS.to_vec()).prop_map(|location| format!("location = {location}\n"));
    let first = some_of(&names, 1).prop_shuffle().prop_map(|names| format!("regions = {}\n", quoted(&names)));
    (any_prefix(), prop_oneof![3 => location, 1 => first])
}

fn any_latency(names: Vec<&'static str>) -> impl Strategy<Value = String> {
    let from = prop::sample::select([&PLACES[..], &["*"]].concat());
    (from, prop::sample::select(names), 1..300_u16)
        .prop_map(|(from, region, ms)| format!("{{ from = \"{from}\", region = \"{region}\", ms = {ms} }}"))
}

/// Two to five regions, one to four services, some networks; some regions are down.
pub(super) fn any_world() -> impl Strategy<Value = World> {
    (2..=REGIONS.len()).prop_flat_map(|count| {
        let names = REGIONS[..count].to_vec();
        let regions: Vec<_> = (0..count).map(|number| any_region(number).boxed()).collect();
        let services = (1..5_usize).prop_flat_map({
            let names = names.clone();
            move |count| {
                (0..count).map(|number| any_service(number, names.clone()).boxed()).collect::<Vec<_>>()
            }
        });
        let networks = prop::collection::vec(any_network(names.clone()), 0..12);
        let latency = prop::collection::vec(any_latency(names.clone()), 0..6);
        (regions, services, networks, latency, some_of(&names, 0)).prop_map(
            |(regions, services, mut networks, latency, down)| {
                networks.sort_by_key(|(prefix, _)| *prefix);
                networks.dedup_by_key(|(prefix, _)| *prefix);
                let down = down.into_iter().map(str::to_owned).collect();
                World { regions, services, networks, latency, down, overrides: Vec::new() }
            },
        )
    })
}

impl World {
    pub(super) fn text(&self) -> String {
        let mut text = String::from("version = 1\ndns.listen = [\"127.0.0.1:53\"]\n");
        if !self.latency.is_empty() {
            let _ = writeln!(text, "latency.table = [{}]", self.latency.join(", "));
        }
        text.push_str("group.nearby.places = [\"country:DE\", \"net:10.2.0.0/15\"]\n");
        text.push_str("[[zone]]\norigin = \"example.\"\nfile = \"zone\"\n");
        for (prefix, body) in &self.networks {
            let _ = write!(text, "[[geo.network]]\nprefix = \"{prefix}\"\n{body}");
        }
        for Region { name, body } in &self.regions {
            let _ = write!(text, "[region.{name}]\n{body}");
        }
        for Service { name, body } in &self.services {
            let _ = write!(text, "[[service]]\nname = \"{name}\"\n{body}");
        }
        text
    }

    /// Addresses in a prefix: its ends, a random one, and the ends of every network in it with their neighbours.
    pub(super) fn neighbours(&self, scope: IpNet, inside: u128) -> Vec<IpAddr> {
        let mut found = vec![scope.network(), scope.broadcast()];
        match scope {
            IpNet::V4(net) => {
                let host = inside as u32 & net.hostmask().to_bits();
                found.push(Ipv4Addr::from_bits(net.network().to_bits() | host).into());
            }
            IpNet::V6(net) => {
                let host = inside & net.hostmask().to_bits();
                found.push(Ipv6Addr::from_bits(net.network().to_bits() | host).into());
            }
        }
        for (prefix, _) in &self.networks {
            for edge in [prefix.network(), prefix.broadcast()] {
                match edge {
                    IpAddr::V4(edge) => {
                        let near = [-1, 0, 1].map(|by| edge.to_bits().wrapping_add_signed(by));
                        found.extend(near.map(|bits| IpAddr::V4(Ipv4Addr::from_bits(bits))));
                        let near = near.map(|bits| Ipv4Addr::from_bits(bits).to_ipv6_mapped());
                        let is_mapped =
                            matches!(scope, IpNet::V6(net) if net.network().to_ipv4_mapped().is_some());
                        found.extend(near.map(IpAddr::V6).into_iter().filter(|_| is_mapped));
                    }
                    IpAddr::V6(edge) => {
                        let near = [-1, 0, 1].map(|by| edge.to_bits().wrapping_add_signed(by));
                        found.extend(near.map(|bits| IpAddr::V6(Ipv6Addr::from_bits(bits))));
                    }
                }
            }
        }
        found.retain(|address| scope.contains(address));
        found
    }
}

/// The answer to a resolver.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Answer {
    pub(super) region: Option<String>,
    pub(super) rcode: u16,
    /// Records as text, with their TTLs, in the order of the reply.
    pub(super) records: Vec<String>,
    pub(super) scope: u8,
}

/// A name server started from a world's config text.
pub(super) struct Node(Snapshot);

impl Node {
    pub(super) fn start(world: &World) -> Self {
        let text = world.text();
        let read = |source: &Source<'_>| match source.path.to_str() {
            Some("portolan.toml") => Ok(text.clone().into_bytes()),
            Some("zone") => Ok(ZONE.as_bytes().to_vec()),
            _ => Err(io::ErrorKind::NotFound.into()),
        };
        let config = config::load(Path::new("portolan.toml"), &read)
            .unwrap_or_else(|refused| panic!("{refused}of:\n{text}"));
        let geo = Index::compile(&[], &config.geo.networks, &config.nets());
        let plan = Arc::new(Plan::compile(config.topology, config.zones, geo, true, KeyPrefix::default()));
        let states = |at: EndpointRef, _: usize| {
            let is_down = world.down.contains(&plan.topology.region(at.region).name);
            if is_down { State::Down(Severity::Hard) } else { State::Up }
        };
        let assumed =
            state::assume(&prepare::world(&plan, Rules::default()), &world.overrides, Unix(START), &states);
        let standing = Arc::new(assumed);
        Self(Snapshot { plan, standing, challenges: <_>::default(), epoch: 1 })
    }

    /// Queries for one client, this many seconds after the start.
    pub(super) fn ask(&self, name: &str, rtype: &str, client: IpAddr, seconds: u64) -> Answer {
        self.ask_for(name, rtype, client.into(), seconds)
    }

    /// The share of the clients that each region is forecast to get, by country.
    pub(super) fn forecast(&self, name: &str) -> BTreeMap<String, BTreeMap<String, f64>> {
        let Snapshot { plan, standing, .. } = &self.0;
        let topology = &plan.topology;
        let service = self.service(name);
        let demand = Demand::new(&plan.geo, &plan.steering);
        let forecast = Forecast { plan, demand: &demand, service, family: Family::V4, unix: Unix(START) };
        let region = |(id, share): &(RegionId, f64)| (topology.region(*id).name.clone(), *share);
        let of_country = |shares: &Shares| shares.iter().map(region).collect();
        let shares = forecast.countries(standing);
        let countries = demand.countries.iter().zip(&shares).filter(|(country, _)| country.weight > 0.0);
        let located = |it: &CountryDemand| it.country.expect("it is located").to_string();
        countries.map(|(country, shares)| (located(country), of_country(shares))).collect()
    }

    /// How many of these clients each region is chosen for; without a name, those who get none.
    pub(super) fn sent(&self, name: &str, clients: impl Iterator<Item = IpAddr>) -> BTreeMap<String, usize> {
        let Snapshot { plan, standing, .. } = &self.0;
        let (service, family, unix) = (self.service(name), Family::V4, Unix(START));
        let mut counts: BTreeMap<Option<RegionId>, usize> = BTreeMap::new();
        let mut addresses = Vec::new();
        for client in clients {
            let request = SteeringRequest { service, client, family, unix, draw: 0 };
            let choice =
                plan.steering.choose(&plan.topology, standing, &request, &mut addresses, &mut NoTrace);
            *counts.entry(choice.region).or_default() += 1;
        }
        let name =
            |id: Option<RegionId>| id.map_or_else(String::new, |id| plan.topology.region(id).name.clone());
        counts.into_iter().map(|(id, count)| (name(id), count)).collect()
    }

    fn service(&self, name: &str) -> ServiceId {
        let name = name.parse().expect("a name");
        self.0.plan.topology.services_named(&name).next().expect("it has this service")
    }

    /// Queries for the clients of a prefix.
    pub(super) fn ask_for(&self, name: &str, rtype: &str, subnet: IpNet, seconds: u64) -> Answer {
        let mut query = Message::new(4711, MessageType::Query, OpCode::Query);
        let rtype: RecordType = rtype.parse().expect("a type");
        query.add_query(Query::query(Name::from_ascii(name).expect("a name"), rtype));
        let mut edns = Edns::new();
        edns.set_max_payload(1232);
        let option = ClientSubnet::new(subnet.addr(), subnet.prefix_len(), 0);
        edns.options_mut().insert(EdnsOption::Subnet(option));
        query.set_edns(edns);
        let peer: SocketAddr = "198.51.100.7:5353".parse().expect("an address");
        let arrival =
            Arrival { peer, local: peer, transport: Transport::Udp, encrypted: false, keepalive: None };
        let now = Unix(START + Duration::from_secs(seconds));
        let mut reply = Reply::new(1);
        let outcome = handle(&self.0, &query.to_vec().expect("an encodable query"), arrival, now, &mut reply);
        let Outcome::Answered { rcode, kind: AnswerKind::Dynamic { region, .. }, truncated: false } = outcome
        else {
            panic!("{outcome:?} for {name}")
        };
        let reply = Message::from_vec(&reply.bytes).expect("a decodable reply");
        let option = reply.edns.as_ref().and_then(|edns| edns.option(EdnsCode::Subnet));
        let Some(EdnsOption::Subnet(echoed)) = option else { panic!("the client subnet is not repeated") };
        Answer {
            region: region.map(|region| self.0.plan.topology.region(region).name.clone()),
            rcode,
            records: reply.answers.iter().map(|record| format!("{} {}", record.ttl, record.data)).collect(),
            scope: echoed.scope_prefix(),
        }
    }
}
