//! Forecasts agree with choices: of the clients of a country, each region is chosen for the share that is forecast.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr};
use std::time::Duration;

use ipnet::IpNet;
use portolan::model::{Fraction, Unix};
use portolan::standing::{Action, Override};
use proptest::prelude::*;
use proptest::sample::Index;

use super::shares::is_fair;
use super::world::{Node, World, any_world};

const CASES: u32 = 48;
/// The clients of a country that are asked for, evenly spread over its addresses.
const CLIENTS: u32 = 4000;

/// Countries and their networks, which are large enough for each client to have a share key of its own.
const COUNTRIES: [(&str, &str, &str); 3] = [
    ("DE", "10.0.0.0/9", "location = { country = \"DE\", lat = 50.1, lon = 8.7 }\n"),
    ("IN", "11.0.0.0/9", "location = { country = \"IN\", lat = 28.6, lon = 77.2 }\n"),
    ("US", "12.0.0.0/10", "location = { country = \"US\", lat = 40.7, lon = -74.0 }\n"),
];

fn networks() -> Vec<(IpNet, String)> {
    let network = |(_, prefix, body): &(_, &str, &str)| (prefix.parse().expect("a prefix"), (*body).into());
    COUNTRIES.iter().map(network).collect()
}

/// Drains, most of them partial, and forced states, of regions and of regions within a service.
fn any_overrides() -> impl Strategy<Value = Vec<(Index, Option<Index>, Action)>> {
    let percent = |percent: u8| Fraction::from_percent(f64::from(percent)).expect("up to 100 %");
    let action = prop_oneof![
        4 => (1..=99_u8).prop_map(move |share| Action::Drain(percent(share))),
        1 => prop::sample::select(vec![Action::DRAIN, Action::Up, Action::Down]),
    ];
    let service = prop::option::weighted(0.4, any::<Index>());
    prop::collection::vec((any::<Index>(), service, action), 0..4)
}

/// The world with these overrides, and only the networks of the countries.
fn with(world: &World, overrides: &[(Index, Option<Index>, Action)]) -> World {
    let mut set: BTreeMap<String, Action> = BTreeMap::new();
    for (region, service, action) in overrides {
        let region = &region.get(&world.regions).name;
        let target = match service.map(|service| service.get(&world.services)) {
            Some(service) => format!("service/{}/{region}", service.name),
            None => format!("region/{region}"),
        };
        set.insert(target, *action);
    }
    let one = |(id, (target, action)): (u64, (String, Action))| Override {
        id,
        target: target.parse().expect("a target"),
        action,
        created: Unix(Duration::ZERO),
        until: None,
        reason: None,
        by: None,
    };
    let overrides = (1..).zip(set).map(one).collect();
    World { networks: networks(), overrides, ..world.clone() }
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(CASES) })]

    #[test]
    fn forecasts_are_the_shares_of_choices(world in any_world(), overrides in any_overrides()) {
        let world = with(&world, &overrides);
        let node = Node::start(&world);
        for service in &world.services {
            let forecast = node.forecast(&service.name);
            prop_assert_eq!(forecast.len(), COUNTRIES.len());
            for (country, prefix, _) in COUNTRIES {
                let expected = &forecast[country];
                let sum: f64 = expected.values().sum();
                prop_assert!(sum < 1.0 + 1e-9, "{:?}", expected);
                let IpNet::V4(net) = prefix.parse().expect("a prefix") else { unreachable!() };
                let stride = (1 << (32 - net.prefix_len())) / CLIENTS;
                let client = |number: u32| Ipv4Addr::from_bits(net.network().to_bits() + number * stride + 1);
                let counts = node.sent(&service.name, (0..CLIENTS).map(|it| IpAddr::V4(client(it))));
                // Without a name: those who get no region.
                let mut expected = expected.clone();
                expected.insert(String::new(), (1.0 - sum).max(0.0));
                for region in counts.keys().chain(expected.keys()) {
                    let count = counts.get(region).copied().unwrap_or(0);
                    let share = expected.get(region).copied().unwrap_or(0.0);
                    prop_assert!(
                        is_fair(count, CLIENTS as usize, share),
                        "{} of {} clients of {} get {:?} of {}, forecast {}",
                        count, CLIENTS, country, region, service.name, share
                    );
                }
            }
        }
    }
}
