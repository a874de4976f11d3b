//! Endpoints by host name: their addresses come from resolvers, and change while the node runs.

use std::net::IpAddr;

use hickory_proto::op::ResponseCode;
use hickory_proto::rr::RecordType;
use serde_json::Value;

use crate::harness::binary::portolan_at;
use crate::harness::client::{Client, outcome, typed};
use crate::harness::folder::Folder;
use crate::harness::node::TestNode;
use crate::harness::region::{Break, GERMAN, Region, VIRGINIA};
use crate::harness::resolver::{Resolver, Response};
use crate::harness::tool::Tool;
use crate::harness::until;

/// A folder whose config asks this resolver.
fn folder(resolver: &Resolver, rest: &str) -> Folder {
    let folder = Folder::new(rest);
    let line = format!(
        "state_dir = \"state\"\nresolver = \"{}\"\nprivate_networks = [\"127.0.0.0/8\"]",
        resolver.address
    );
    folder.reconfigure("state_dir = \"state\"", &line);
    folder
}

fn ips(addresses: &[&str]) -> Vec<IpAddr> {
    addresses.iter().map(|text| text.parse().expect("an address")).collect()
}

async fn ask(client: &mut Client, name: &str, rtype: RecordType) -> (ResponseCode, Vec<IpAddr>) {
    outcome(&client.exchange(&typed(name, rtype, Some(GERMAN))).await)
}

/// Waits until a name has exactly these addresses of a type.
async fn until_answered(client: &mut Client, name: &str, rtype: RecordType, expected: &[&str]) {
    let expected = ips(expected);
    until("it is answered", async || {
        let (code, found) = ask(client, name, rtype).await;
        (code == ResponseCode::NoError && found == expected).then_some(())
    })
    .await;
}

/// How many events contain this text.
fn count_events(node: &TestNode, text: &str) -> usize {
    let done = portolan_at(&node.folder, &["events"]);
    done.stdout.lines().filter(|line| line.contains(text)).count()
}

/// Reloads the config, after which resolvers are asked at once.
async fn reload(node: &TestNode) {
    node.node.reloads.reload("the test".into()).await.expect("a good config");
}

/// A service at the apex, whose endpoint has a host name.
const APEX: &str = r#"
[region.cdn]
endpoint = [{ name = "lb", host = "lb.elsewhere.example" }]
[[service]]
name = "example.test."
regions = ["cdn"]
"#;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_apex_has_the_addresses_of_a_host_and_keeps_the_last_good_ones() {
    let first = ["192.0.2.81", "2001:db8::80", "192.0.2.80"];
    let resolver = Resolver::with(&first).await;
    let node = TestNode::start(folder(&resolver, APEX)).await;
    let mut client = node.client().await;
    // Ready means that the resolver has been asked.
    let (v4, v6) = (ips(&["192.0.2.80", "192.0.2.81"]), ips(&["2001:db8::80"]));
    assert_eq!(ask(&mut client, "example.test.", RecordType::A).await, (ResponseCode::NoError, v4.clone()));
    assert_eq!(
        ask(&mut client, "example.test.", RecordType::AAAA).await,
        (ResponseCode::NoError, v6.clone())
    );
    if let Some(dig) = Tool::dig() {
        for (rtype, expected) in [("A", "192.0.2.80\n192.0.2.81"), ("AAAA", "2001:db8::80")] {
            assert_eq!(dig.ask(&node, &["example.test", rtype, "+short"]), expected);
        }
    }
    for rtype in [RecordType::SOA, RecordType::NS] {
        let reply = client.exchange(&typed("example.test.", rtype, Some(GERMAN))).await;
        assert_eq!(reply.answers.len(), 1, "{rtype} coexists with the addresses");
    }

    let internal = Response::Addresses(ips(&["10.0.0.9", "169.254.169.254", "fe80::1"]));
    let bad = [Response::NoSuchName, Response::Addresses(Vec::new()), Response::Failure, internal];
    for (number, response) in bad.into_iter().enumerate() {
        resolver.respond_with(response);
        reload(&node).await;
        until("the failure is reported", async || {
            (count_events(&node, "lb.elsewhere.example. cannot be resolved") == number + 1).then_some(())
        })
        .await;
        assert_eq!(ask(&mut client, "example.test.", RecordType::A).await.1, v4);
        assert_eq!(ask(&mut client, "example.test.", RecordType::AAAA).await.1, v6);
        resolver.respond_with_addresses(&first);
        reload(&node).await;
        until("it is over", async || {
            (count_events(&node, "lb.elsewhere.example. has 192.0.2.80, 192.0.2.81, 2001:db8::80")
                == number + 2)
                .then_some(())
        })
        .await;
    }

    // Without a reload it happens when the TTL expires: see the tests of the engine, where time can be paused.
    resolver.respond_with_addresses(&["192.0.2.90", "10.0.0.9"]);
    reload(&node).await;
    until_answered(&mut client, "example.test.", RecordType::A, &["192.0.2.90"]).await;
    assert_eq!(ask(&mut client, "example.test.", RecordType::AAAA).await, (ResponseCode::NoError, vec![]));
    node.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_start_without_a_resolver_uses_the_addresses_of_the_last_run() {
    let resolver = Resolver::with(&["192.0.2.81", "2001:db8::80", "192.0.2.80"]).await;
    let node = TestNode::start(folder(&resolver, APEX)).await;
    let (v4, v6) = (ips(&["192.0.2.80", "192.0.2.81"]), ips(&["2001:db8::80"]));
    resolver.respond_with(Response::Failure);
    let node = node.restart().await;
    let mut client = node.client().await;
    // Ready means that the resolver has been asked.
    assert_eq!(ask(&mut client, "example.test.", RecordType::A).await, (ResponseCode::NoError, v4));
    assert_eq!(ask(&mut client, "example.test.", RecordType::AAAA).await, (ResponseCode::NoError, v6));
    let alarm = node.api.get("/v1/status").await["alarms"][0].to_string();
    assert!(alarm.contains("lb.elsewhere.example. cannot be resolved since "), "{alarm}");
    assert!(alarm.contains("its last 3 known addresses are kept"), "{alarm}");

    resolver.respond_with_addresses(&["192.0.2.90"]);
    reload(&node).await;
    until_answered(&mut client, "example.test.", RecordType::A, &["192.0.2.90"]).await;
    resolver.respond_with(Response::Failure);
    let node = node.restart().await;
    let mut client = node.client().await;
    until_answered(&mut client, "example.test.", RecordType::A, &["192.0.2.90"]).await;

    // A host that the config no longer names is forgotten.
    let config = std::fs::read_to_string(node.folder.config()).expect("a config");
    node.folder.reconfigure("host = \"lb.elsewhere.example\"", "address = \"192.0.2.1\"");
    let node = node.restart().await;
    node.folder.write("portolan.toml", config);
    let node = node.restart().await;
    let forgotten = ask(&mut node.client().await, "example.test.", RecordType::A).await;
    assert_eq!(forgotten, (ResponseCode::ServFail, vec![]));
    node.stop().await;
}

/// The endpoint of the resolved region, from the status.
async fn resolved_endpoint(node: &TestNode) -> Value {
    let status = node.api.get("/v1/status").await;
    let regions = status["regions"].as_array().expect("regions");
    let region = regions.iter().find(|region| region["name"] == "far").expect("it is there");
    region["endpoints"][0].clone()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn resolved_addresses_are_probed_individually() {
    let (eu, us) = (Region::start("eu", 61), Region::start("us", 62));
    let (eu_ip, us_ip) = (eu.ip().to_string(), us.ip().to_string());
    let (eu_ip, us_ip) = (eu_ip.as_str(), us_ip.as_str());
    // Nothing listens there.
    let dead = "127.0.61.9";
    let config = format!(
        "{}{}[region.far]\nendpoint = [{{ name = \"lb\", host = \"lb.elsewhere.example\", probe = [\"eu\"] }}]\n\
         [[service]]\nname = \"www.example.test.\"\nregions = [\"far\", \"us\"]\nttl = \"1s\"\n\
         [[service]]\nname = \"alone.example.test.\"\nregions = [\"far\"]\nall_down.fallback = \"192.0.2.99\"\n",
        eu.probe(&[]),
        us.config(VIRGINIA, &[]),
    );
    let resolver = Resolver::start(Response::NoSuchName).await;
    let node = TestNode::start(folder(&resolver, &config)).await;
    let mut client = node.client().await;
    until_answered(&mut client, "www.example.test.", RecordType::A, &[us_ip]).await;
    until_answered(&mut client, "alone.example.test.", RecordType::A, &["192.0.2.99"]).await;
    let endpoint = resolved_endpoint(&node).await;
    assert_eq!(
        (&endpoint["verdict"], &endpoint["resolved"]),
        (&"unknown".into(), &false.into()),
        "{endpoint}"
    );
    let alarm = node.api.get("/v1/status").await["alarms"][0].to_string();
    assert!(alarm.contains("lb.elsewhere.example. cannot be resolved since "), "{alarm}");
    assert!(alarm.ends_with("; it has no known address\""), "{alarm}");
    let done = portolan_at(&node.folder, &["explain", "www.example.test", "--client", "10.1.0.1"]);
    assert!(
        done.stdout.contains("lb: the addresses of lb.elsewhere.example. are not known yet"),
        "{}",
        done.stdout
    );

    resolver.respond_with_addresses(&[dead, eu_ip]);
    reload(&node).await;
    until_answered(&mut client, "www.example.test.", RecordType::A, &[eu_ip]).await;
    until("the other is known to be down", async || {
        let endpoint = resolved_endpoint(&node).await;
        let verdicts = endpoint["addresses"].as_array().expect("addresses").iter();
        let verdicts: Vec<_> = verdicts.map(|it| (it["address"].clone(), it["verdict"].clone())).collect();
        (verdicts == [(eu_ip.into(), "up".into()), (dead.into(), "down".into())]).then_some(())
    })
    .await;
    let done = portolan_at(&node.folder, &["status"]);
    assert!(
        done.stdout.contains("lb.elsewhere.example.") && done.stdout.contains("its 2 addresses"),
        "{}",
        done.stdout
    );

    // While it cannot be resolved, status, alarms and metrics say so, and its addresses are kept.
    const METRIC: &str = "portolan_host_resolved{host=\"lb.elsewhere.example.\"}";
    assert_eq!(
        (node.api.metric(METRIC).await, node.api.metric("portolan_alarms").await),
        (Some(1.0), Some(0.0))
    );
    resolver.respond_with(Response::Failure);
    reload(&node).await;
    until("its lookup fails", async || {
        let endpoint = resolved_endpoint(&node).await;
        let kept = endpoint["addresses"].as_array().expect("addresses").len();
        (endpoint["resolved"] == false && endpoint["lookup"]["error"].is_string()).then_some(kept)
    })
    .await;
    let endpoint = resolved_endpoint(&node).await;
    assert_eq!(endpoint["addresses"].as_array().expect("addresses").len(), 2, "{endpoint}");
    assert!(endpoint["lookup"]["failing_since"].is_string(), "{endpoint}");
    assert_eq!(
        (node.api.metric(METRIC).await, node.api.metric("portolan_alarms").await),
        (Some(0.0), Some(1.0))
    );
    let done = portolan_at(&node.folder, &["status"]);
    for expected in [
        "ALARM lb.elsewhere.example. cannot be resolved since ",
        "its last 2 known addresses are kept",
        "; kept: its 2 addresses:",
    ] {
        assert!(done.stdout.contains(expected), "expected {expected:?} in {}", done.stdout);
    }
    resolver.respond_with_addresses(&[dead, eu_ip]);
    reload(&node).await;
    until("it is over", async || {
        (node.api.metric(METRIC).await == Some(1.0)
            && resolved_endpoint(&node).await["lookup"]["error"].is_null())
        .then_some(())
    })
    .await;

    eu.fail(Break::Unavailable);
    until_answered(&mut client, "www.example.test.", RecordType::A, &[us_ip]).await;
    eu.heal();
    until_answered(&mut client, "www.example.test.", RecordType::A, &[eu_ip]).await;

    // The remaining address keeps its verdict: it is answered without interruption.
    let since = resolved_endpoint(&node).await["addresses"][0]["since"].clone();
    resolver.respond_with_addresses(&[eu_ip]);
    reload(&node).await;
    until("the other is gone", async || {
        (resolved_endpoint(&node).await["addresses"].as_array().expect("addresses").len() == 1).then_some(())
    })
    .await;
    assert_eq!(resolved_endpoint(&node).await["addresses"][0]["since"], since);
    resolver.respond_with_addresses(&[dead]);
    reload(&node).await;
    until_answered(&mut client, "www.example.test.", RecordType::A, &[us_ip]).await;
    node.stop().await;
}
