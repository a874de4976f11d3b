//! Dynamic names of every kind, over real sockets.

use hickory_proto::op::Message;
use hickory_proto::rr::RecordType;
use serde_json::json;

use crate::harness::client::{Client, query, typed};
use crate::harness::node::TestNode;
use crate::harness::region::{Break, DUBLIN, GERMAN, Region, VIRGINIA};
use crate::harness::until;

/// The answer section as text, in order.
fn records(reply: &Message) -> Vec<String> {
    reply.answers.iter().map(ToString::to_string).collect()
}

async fn ask(client: &mut Client, name: &str, rtype: RecordType) -> Vec<String> {
    records(&client.exchange(&typed(name, rtype, Some(GERMAN))).await)
}

/// The TTL of an answer, or of what says that there is none.
async fn ttl(client: &mut Client, rtype: RecordType) -> u32 {
    let reply = client.exchange(&typed("www.example.test.", rtype, Some(GERMAN))).await;
    reply.answers.iter().chain(&reply.authorities).map(|record| record.ttl).min().expect("a record")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_computed_ttl_follows_what_may_change() {
    let (eu, us) = (Region::start("eu", 1), Region::start("us", 2));
    // 501 failures, one each 100 ms: 50 s at least.
    let slowly = [("fall", "501")];
    let node = TestNode::with(&format!(
        "{}{}[[service]]\nname = \"www.example.test.\"\nregions = [\"eu\", \"us\"]\nttl = {{ max = \"50s\", min = \"1s\" }}\n",
        eu.config(DUBLIN, &slowly),
        us.config(VIRGINIA, &slowly),
    ))
    .await;
    let mut client = node.client().await;
    assert_eq!(ttl(&mut client, RecordType::A).await, 50, "nothing but successes");
    assert_eq!(ttl(&mut client, RecordType::AAAA).await, 50, "a denial lasts as long");
    let epoch = node.api.get("/v1/status").await["node"]["epoch"].clone();

    eu.fail(Break::Refuse);
    until("failures bring it down sooner", async || {
        (ttl(&mut client, RecordType::A).await < 50).then_some(())
    })
    .await;
    assert!(node.api.get("/v1/status").await["node"]["epoch"].as_u64() > epoch.as_u64());
    assert!(ttl(&mut client, RecordType::AAAA).await < 50);
    let path = "/v1/explain?name=www.example.test&client=10.1.0.1";
    let told = node.api.get(path).await;
    let stage = told["stages"].as_array().expect("stages").iter().find(|stage| stage["stage"] == "ttl");
    let kept = &stage.unwrap_or_else(|| panic!("{told}"))["kept"];
    assert_eq!(kept[0]["region"], "eu");
    assert!(kept[0]["note"].as_str().expect("a note").starts_with("may change in "), "{kept}");
    assert_eq!(kept.as_array().map(Vec::len), Some(1), "us was not consulted: {kept}");

    eu.heal();
    until("successes wipe failures", async || (ttl(&mut client, RecordType::A).await == 50).then_some(()))
        .await;
    let drain = json!({"target": "endpoint/us/lb1", "action": "drain", "for": "10m"});
    node.api.override_with(drain).await;
    assert_eq!(ttl(&mut client, RecordType::A).await, 50, "us is not consulted");
    let drain = json!({"target": "region/eu", "action": "drain", "for": "20s", "override_safety": true});
    let id = node.api.override_with(drain).await;
    let kept = ttl(&mut client, RecordType::A).await;
    assert!((1..=20).contains(&kept), "{kept}: the override ends then");
    node.api.restore(id).await;
    assert_eq!(client.exchange(&query("www.example.test.", Some(GERMAN))).await.answers[0].ttl, 50);
    node.stop().await;
}
