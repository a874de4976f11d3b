//! Steering as resolvers see it: client subnets in, shares, families and scopes out.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr};

use hickory_proto::op::{Message, ResponseCode};
use hickory_proto::rr::RecordType;
use hickory_proto::rr::rdata::opt::{EdnsCode, EdnsOption};
use serde_json::json;

use crate::harness::Numbers;
use crate::harness::client::{outcome, query, scope, typed, with_id};
use crate::harness::folder::Folder;
use crate::harness::node::TestNode;

/// Regions 1 to 4: each has an address of each family that ends in its number.
const REGIONS: &str = "\
[region.one]\nlocation = { country = \"IE\", lat = 53.35, lon = -6.26 }
endpoint = [{ name = \"lb1\", address = [\"192.0.2.1\", \"2001:db8::1\"] }]
[region.two]\nlocation = { country = \"US\", lat = 38.95, lon = -77.45 }
endpoint = [{ name = \"lb1\", address = [\"192.0.2.2\", \"2001:db8::2\"] }]
[region.three]\nlocation = { country = \"SG\", lat = 1.35, lon = 103.8 }
endpoint = [{ name = \"lb1\", address = [\"192.0.2.3\", \"2001:db8::3\"] }]
[region.four]\nlocation = { country = \"BR\", lat = -23.5, lon = -46.6 }
endpoint = [{ name = \"lb1\", address = [\"192.0.2.4\", \"2001:db8::4\"] }]
";

/// A window so long that no client's ends while a test runs.
const LASTING: &str = "ttl = \"2147483647s\"";

fn service(name: &str, more: &str) -> String {
    format!("[[service]]\nname = \"{name}.example.test.\"\n{more}\n{LASTING}\n")
}

fn config() -> String {
    let four = "regions = [\"one\", \"two\", \"three\", \"four\"]";
    let weights = [("one", 1), ("two", 2), ("three", 3), ("four", 4)]
        .map(|(region, weight)| format!("{{ region = \"{region}\", weight = {weight} }}"))
        .join(", ");
    [
        REGIONS.to_owned(),
        service("weighted", &format!("regions = [{weights}]\nrank = \"none\"")),
        service("hash", &format!("regions = [{weights}]\nrank = \"none\"\nshare = \"hash\"")),
        service("random", &format!("regions = [{weights}]\nrank = \"none\"\nshare = \"random\"")),
        service("nearest", &format!("{four}\nrank = \"distance\"")),
        service("near", &format!("{four}\nrank = \"distance\"\ntolerance = \"3000km\"")),
        service("first", four),
    ]
    .concat()
}

/// The number of the region, from the only address of a reply.
fn region(reply: &Message) -> u8 {
    match outcome(reply) {
        (ResponseCode::NoError, addresses) if addresses.len() == 1 => match addresses[0] {
            IpAddr::V4(address) => address.octets()[3],
            IpAddr::V6(address) => address.octets()[15],
        },
        other => panic!("{other:?}"),
    }
}

fn prefix(number: u32) -> String {
    let [_, a, b, c] = (number << 8).to_be_bytes();
    // Numbers are below 2^16: 16.a.b.0/24 and up.
    assert_eq!(c, 0);
    format!("16.{a}.{b}.0/24")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn shares_are_the_weights_over_10_000_prefixes() {
    const CLIENTS: u32 = 10_000;
    let node = TestNode::with(&config()).await;
    let mut client = node.client().await;
    for name in ["weighted.example.test.", "hash.example.test."] {
        let queries: Vec<_> = (0..CLIENTS).map(|n| query(name, Some(&prefix(n)))).collect();
        let mut counts: BTreeMap<u8, u32> = BTreeMap::new();
        for reply in client.exchange_all(&queries).await {
            *counts.entry(region(&reply)).or_default() += 1;
        }
        for (number, percent) in [(1, 10.0), (2, 20.0), (3, 30.0), (4, 40.0)] {
            let found = f64::from(counts[&number]) * 100.0 / f64::from(CLIENTS);
            assert!((found - percent).abs() <= 2.0, "{name} region {number}: {found}% instead of {percent}%");
        }
    }
    node.stop().await;
}

/// Clients of both families, some of them in networks of the config.
fn some_clients() -> Vec<String> {
    let placed = (0..300).map(|n| format!("10.{}.{}.0/24", n % 3 + 1, n / 3));
    let v4 = (0..300).map(prefix).chain(placed);
    let v6 = (0..500).map(|n| format!("2a00:{n:x}::/56"));
    v4.chain(v6).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_client_is_sent_to_one_region_in_both_families_and_over_both_transports() {
    let node = TestNode::with(&config()).await;
    let mut client = node.client().await;
    for name in ["weighted.example.test.", "hash.example.test.", "nearest.example.test."] {
        let ask = |rtype| -> Vec<_> {
            some_clients().iter().map(|client| typed(name, rtype, Some(client))).collect()
        };
        let (four, six) = (ask(RecordType::A), ask(RecordType::AAAA));
        let (a, aaaa) = (client.exchange_all(&four).await, client.exchange_all(&six).await);
        for ((a, aaaa), place) in a.iter().zip(&aaaa).zip(some_clients()) {
            assert_eq!((region(a), scope(a)), (region(aaaa), scope(aaaa)), "{name} for {place}");
        }
        for (asked, over_udp) in four.iter().zip(&a).step_by(100) {
            let over_tcp = client.over_tcp(asked).await;
            assert_eq!((region(&over_tcp), scope(&over_tcp)), (region(over_udp), scope(over_udp)));
        }
    }
    node.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn losing_a_region_moves_only_its_clients_and_they_return() {
    let node = TestNode::with(&config()).await;
    let mut client = node.client().await;
    for name in ["weighted.example.test.", "hash.example.test.", "near.example.test."] {
        let queries: Vec<_> = some_clients().iter().map(|client| query(name, Some(client))).collect();
        let mut sent =
            async || -> Vec<u8> { client.exchange_all(&queries).await.iter().map(region).collect() };
        let before = sent().await;
        for (lost, target) in [(1, "region/one"), (3, "region/three")] {
            let id = node.api.override_with(json!({"target": target, "action": "down"})).await;
            let without = sent().await;
            for ((before, without), place) in before.iter().zip(&without).zip(some_clients()) {
                assert_ne!(*without, lost, "{name}: {place} is sent to a region that is gone");
                assert!(
                    before == without || *before == lost,
                    "{name}: {place} had nothing to do with {lost}"
                );
            }
            assert!(before.contains(&lost), "{name}: no client was sent to {lost}, so this tests nothing");
            node.api.restore(id).await;
            assert_eq!(sent().await, before, "{name}");
        }
    }
    node.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_scope_is_as_wide_as_the_answer_holds() {
    let node = TestNode::with(&config()).await;
    let mut client = node.client().await;
    for (name, place, expected) in [
        // geo.network covers the whole /16.
        ("nearest.example.test.", "10.1.7.0/24", 16),
        ("nearest.example.test.", "10.1.7.9/32", 16),
        ("nearest.example.test.", "2001:db8:1:2300::/56", 48),
        // A share is drawn with the key prefix.
        ("weighted.example.test.", "10.1.7.0/24", 24),
        ("weighted.example.test.", "10.1.7.9/32", 24),
        ("weighted.example.test.", "2001:db8:1:2300::/56", 56),
        // A random share is drawn without it.
        ("random.example.test.", "10.1.7.0/24", 0),
        // Every client is sent to the first, wherever it is.
        ("first.example.test.", "10.1.7.0/24", 0),
        // No client has a location.
        ("static.example.test.", "10.1.7.0/24", 0),
        ("nearest.example.test.", "0.0.0.0/0", 0),
    ] {
        let reply = client.exchange(&query(name, Some(place))).await;
        assert_eq!(scope(&reply), Some(expected), "{name} for {place}");
    }
    node.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn clients_in_one_scope_get_the_same_answer() {
    let node = TestNode::with(&config()).await;
    let mut client = node.client().await;
    let mut numbers = Numbers(7);
    // Inside and outside the networks of the small database.
    let known: [u32; 4] = [0x5102_4500, 0xd8a0_5300, 0x5991_9b00, 0xca2e_2400];
    let places: Vec<u32> = (0..400)
        .map(|n: usize| {
            let random = numbers.next() as u32;
            if n.is_multiple_of(2) { random } else { known[n / 2 % known.len()] | (random & 0x3ff) }
        })
        .collect();
    let host = |bits: u32| format!("{}/32", Ipv4Addr::from_bits(bits));
    let mut widths = BTreeMap::new();
    for name in ["nearest.example.test.", "near.example.test.", "weighted.example.test."] {
        let queries: Vec<_> = places.iter().map(|place| query(name, Some(&host(*place)))).collect();
        let replies = client.exchange_all(&queries).await;
        let neighbours: Vec<u32> = places
            .iter()
            .zip(&replies)
            .map(|(place, reply)| {
                let width = scope(reply).expect("a scope");
                *widths.entry(width).or_insert(0) += 1;
                let same = u32::MAX.checked_shl(32 - u32::from(width)).unwrap_or(0);
                (place & same) | (numbers.next() as u32 & !same)
            })
            .collect();
        let queries: Vec<_> = neighbours.iter().map(|place| query(name, Some(&host(*place)))).collect();
        for ((place, neighbour), (reply, other)) in
            places.iter().zip(&neighbours).zip(replies.iter().zip(client.exchange_all(&queries).await))
        {
            let (place, neighbour) = (host(*place), host(*neighbour));
            assert_eq!(
                (region(reply), scope(reply)),
                (region(&other), scope(&other)),
                "{name}: {place} and {neighbour} are within one scope"
            );
        }
    }
    assert!(widths.len() > 5, "scopes differ from place to place: {widths:?}");
    node.stop().await;
}

/// A query with these bytes as its client subnet option.
fn with_option(bytes: &[u8]) -> Message {
    let mut message = query("nearest.example.test.", Some("10.1.0.0/24"));
    let options = message.edns.as_mut().expect("it has EDNS").options_mut();
    options.remove(EdnsCode::Subnet);
    options.insert(EdnsOption::Unknown(8, bytes.to_vec()));
    message
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_subnet_is_echoed_only_if_sent_and_a_malformed_one_is_a_format_error() {
    let node = TestNode::with(&config()).await;
    let mut client = node.client().await;
    let plain = client.exchange(&query("nearest.example.test.", None)).await;
    assert!(plain.edns.is_none() && plain.answers.len() == 1, "{plain:?}");
    let mut with_edns = query("nearest.example.test.", Some("10.1.0.0/24"));
    with_edns.edns.as_mut().expect("it has EDNS").options_mut().remove(EdnsCode::Subnet);
    let reply = client.exchange(&with_edns).await;
    assert!(reply.edns.is_some() && scope(&reply).is_none(), "{reply:?}");

    let good = with_option(&[0, 1, 24, 0, 10, 1, 0]);
    assert_eq!(client.exchange(&good).await.metadata.response_code, ResponseCode::NoError);
    let malformed: &[&[u8]] = &[
        &[],
        &[0, 1, 24],
        &[0, 1, 24, 0, 10, 1],
        &[0, 1, 24, 0, 10, 1, 0, 0],
        &[0, 1, 33, 0, 10, 1, 0, 0, 0],
        &[0, 1, 20, 0, 10, 1, 1],
        &[0, 1, 24, 24, 10, 1, 0],
        &[0, 9, 24, 0, 10, 1, 0],
    ];
    for option in malformed {
        let asked = with_option(option);
        for reply in [client.exchange(&asked).await, client.over_tcp(&asked).await] {
            assert_eq!(reply.metadata.response_code, ResponseCode::FormErr, "{option:?}");
            assert!(reply.answers.is_empty() && scope(&reply).is_none(), "{option:?}");
        }
    }
    // A header alone is answered; what is shorter cannot be.
    client.send(&[1, 2, 3]).await;
    client.send(&with_id(&good, 77)).await;
    let next = Message::from_vec(&client.receive().await).expect("a message");
    assert_eq!(next.metadata.id, 77, "the fragment got no reply");
    node.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_client_that_a_proxy_names_is_steered_and_may_be_refused() {
    let folder = Folder::new(&config());
    let proxied = "workers = 1\nproxy_protocol_from = [\"127.0.0.1/32\"]\nallow = [\"10.0.0.0/14\"]";
    folder.reconfigure("workers = 1", proxied);
    let node = TestNode::start(folder).await;
    let client = node.client().await;
    for (address, expected) in [("10.1.0.7", 1), ("10.2.0.7", 2), ("10.3.0.7", 3)] {
        let header = format!("PROXY TCP4 {address} 127.0.0.1 4660 53\r\n");
        let reply = client.through_proxy(&header, &query("nearest.example.test.", None)).await;
        assert_eq!(region(&reply.expect("an answer")), expected, "{address}");
    }
    for header in ["PROXY TCP4 192.0.2.7 127.0.0.1 4660 53\r\n", "PROXY UNKNOWN\r\n", ""] {
        let reply = client.through_proxy(header, &query("nearest.example.test.", None)).await;
        assert_eq!(reply, None, "{header}");
    }
    node.stop().await;
}
