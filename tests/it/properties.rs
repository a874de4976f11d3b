//! Properties of whole plans, built from generated config text and queried through `answer::handle`.

mod forecast;
mod shares;
mod world;

use std::net::IpAddr;

use ipnet::IpNet;
use proptest::prelude::*;
use proptest::sample::{Index, subsequence};

use world::{Node, World, any_client, any_world};

/// Plans are cheap, so there are many; each is queried for many clients.
const CASES: u32 = 64;
const CLIENTS: usize = 40;

/// A moment within the first day of a node's life.
fn any_moment() -> impl Strategy<Value = u64> {
    0..86_400_u64
}

/// The same items in another order.
fn shuffled<T: Clone + std::fmt::Debug>(items: &[T]) -> impl Strategy<Value = Vec<T>> + use<T> {
    Just(items.to_vec()).prop_shuffle()
}

/// A world, and the same one written in another order.
fn any_two_texts() -> impl Strategy<Value = (World, World)> {
    any_world().prop_flat_map(|world| {
        let regions = shuffled(&world.regions);
        let services = shuffled(&world.services);
        let networks = shuffled(&world.networks);
        (Just(world), regions, services, networks).prop_map(|(world, regions, services, networks)| {
            let other = World { regions, services, networks, ..world.clone() };
            (world, other)
        })
    })
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(CASES) })]

    #[test]
    fn nodes_of_one_config_agree(
        (world, other) in any_two_texts(),
        asked in prop::collection::vec((any_client(), any_moment()), CLIENTS),
    ) {
        let nodes = [Node::start(&world), Node::start(&world), Node::start(&other)];
        for (client, moment) in asked {
            for service in &world.services {
                for rtype in ["A", "AAAA"] {
                    let [first, same, other] =
                        nodes.each_ref().map(|node| node.ask(&service.name, rtype, client, moment));
                    prop_assert_eq!(&first, &same, "{} {} for {}", service.name, rtype, client);
                    prop_assert_eq!(&first, &other, "{} {} for {}, in another order", service.name, rtype, client);
                }
            }
        }
    }

    #[test]
    fn a_scope_holds_for_every_address_in_it(
        world in any_world(),
        clients in prop::collection::vec((any_client(), any::<Index>(), any::<u128>()), CLIENTS),
    ) {
        let node = Node::start(&world);
        for (client, service, inside) in clients {
            let service = service.get(&world.services);
            let answer = node.ask(&service.name, "A", client, 0);
            let scope = IpNet::new(client, answer.scope).expect("a scope is a prefix length of its family").trunc();
            for other in world.neighbours(scope, inside) {
                let theirs = node.ask(&service.name, "A", other, 0);
                prop_assert_eq!(
                    (&answer.region, &answer.records), (&theirs.region, &theirs.records),
                    "{} of {} and {} in {}", service.name, client, other, scope
                );
            }
        }
    }

    #[test]
    fn losing_a_region_moves_only_its_clients(
        world in any_world(),
        lost in any::<Index>(),
        clients in prop::collection::vec((any_client(), any_moment()), CLIENTS),
    ) {
        let up = World { down: Vec::new(), ..world };
        let lost = lost.get(&up.regions).name.clone();
        let before = Node::start(&up);
        let after = Node::start(&World { down: vec![lost.clone()], ..up.clone() });
        for (client, moment) in clients {
            for service in &up.services {
                let [before, after] =
                    [&before, &after].map(|node| node.ask(&service.name, "A", client, moment));
                if before.region.as_ref() != Some(&lost) {
                    prop_assert_eq!(before, after, "{} for {}", service.name, client);
                }
            }
        }
    }

    #[test]
    fn a_shorter_subnet_is_answered_for_its_first_address(
        world in any_world(),
        clients in prop::collection::vec((any_client(), 1..=128_u8), CLIENTS),
    ) {
        let node = Node::start(&world);
        for (client, source) in clients {
            let longest = if client.is_ipv4() { 32 } else { 128 };
            let subnet = IpNet::new(client, source.min(longest)).expect("a length that fits").trunc();
            for service in &world.services {
                let whole = node.ask_for(&service.name, "A", subnet, 0);
                let address: IpAddr = subnet.network();
                let first = node.ask(&service.name, "A", address, 0);
                prop_assert_eq!(whole, first, "{} for {}", service.name, subnet);
            }
        }
    }
}

/// A sublist of at least `least` items.
fn some_of<T: Clone + std::fmt::Debug + 'static>(
    items: &[T],
    least: usize,
) -> impl Strategy<Value = Vec<T>> + use<T> {
    subsequence(items.to_vec(), least..=items.len())
}
