//! What an operator alerts on.

use reqwest::Method;
use serde_json::json;

use crate::harness::node::TestNode;
use crate::harness::region::{AMERICAN, ASIAN, Break, GERMAN, NEAREST, Region, Three};
use crate::harness::until;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn answers_are_counted_by_service_and_region() {
    let three = Three::start();
    let node = TestNode::with(&[three.config(&[]), NEAREST.into()].concat()).await;
    let mut client = node.client().await;
    let counted = async || {
        let mut counts = Vec::new();
        for region in ["eu", "us", "ap"] {
            let sample =
                format!("portolan_answers_total{{service=\"www.example.test.\",region=\"{region}\"}}");
            counts.push(node.api.metric(&sample).await);
        }
        counts
    };
    for from in [GERMAN, GERMAN, AMERICAN] {
        client.address("www.example.test.", from).await;
    }
    // A worker adds to the counters after its answer is sent, and other clients of this name do not exist.
    until("all are counted", async || (counted().await == [Some(2.0), Some(1.0), Some(0.0)]).then_some(()))
        .await;
    assert_eq!(node.api.call(Method::POST, "/v1/reload", None).await.0, 200);
    client.address("www.example.test.", ASIAN).await;
    until("they go on after a reload", async || {
        (counted().await == [Some(2.0), Some(1.0), Some(1.0)]).then_some(())
    })
    .await;
    node.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn alarms_overrides_reloads_and_unserved_services_are_counted() {
    let only = Region::start("eu", 1);
    let service = |name: &str| format!("[[service]]\nname = \"{name}.example.test.\"\nregions = [\"eu\"]\n");
    let config = [only.config("{ country = \"IE\" }", &[]), service("www"), service("api")].concat();
    let node = TestNode::with(&config).await;
    let counted = async || {
        let mut values = Vec::new();
        for name in [
            "portolan_alarms",
            "portolan_overrides",
            "portolan_services_unserved",
            "portolan_reloads_total{result=\"applied\"}",
            "portolan_reloads_total{result=\"failed\"}",
        ] {
            values.push(node.api.metric(name).await.unwrap_or_else(|| panic!("no {name}")));
        }
        values
    };
    let version = format!("portolan_build_info{{version=\"{}\"}}", env!("CARGO_PKG_VERSION"));
    assert_eq!((node.api.metric(&version).await, counted().await), (Some(1.0), vec![0.0; 5]));
    let applied =
        async || node.api.metric("portolan_config_applied_timestamp_seconds").await.expect("it is there");
    let started = applied().await;
    assert!(started > 1.7e9, "{started}");

    node.api.override_with(json!({"target": "region/eu", "action": "up"})).await;
    assert_eq!(counted().await, [0.0, 1.0, 0.0, 0.0, 0.0]);
    node.api.restore(1).await;
    only.fail(Break::Refuse);
    until("it is down", async || (node.api.region("eu").await["verdict"] == "down").then_some(())).await;
    assert_eq!(counted().await, [1.0, 0.0, 2.0, 0.0, 0.0]);

    assert_eq!(node.api.call(Method::POST, "/v1/reload", None).await.0, 200);
    node.folder.reconfigure("workers = 1", "workers = \"one\"");
    assert_eq!(node.api.call(Method::POST, "/v1/reload", None).await.0, 422);
    assert_eq!(counted().await[3..], [1.0, 1.0]);
    let reloaded = node.api.events("reload").await[0]["at"].as_str().expect("a time").to_owned();
    let reloaded: jiff::Timestamp = reloaded.parse().expect("RFC 3339");
    assert_eq!(applied().await, reloaded.as_second() as f64);
    node.stop().await;
}
