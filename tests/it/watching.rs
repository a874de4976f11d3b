//! Commands that go on printing while the node runs, and what they leave out.

use std::io::{BufRead as _, BufReader};
use std::process::Command;

use serde_json::{Value, json};

use crate::harness::binary::{portolan, portolan_at, program};
use crate::harness::node::TestNode;
use crate::harness::until;

const REGIONS: &str = "\
[region.eu]\nendpoint = [{ name = \"lb1\", address = \"192.0.2.1\" }]
[region.us]\nendpoint = [{ name = \"lb1\", address = \"192.0.2.2\" }]
[[service]]\nname = \"www.example.test.\"\nregions = [\"eu\", \"us\"]
";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn events_begin_at_the_moment_that_is_asked_for() {
    let node = TestNode::with(REGIONS).await;
    // Until an event has another time than the first one.
    let drain = async || {
        node.api.override_with(json!({"target": "region/us", "action": "drain", "share": "5%"})).await;
        let all = node.api.get("/v1/events").await.as_array().expect("a list").clone();
        (all.last()?["at"] != all.first()?["at"]).then_some(all)
    };
    let all = until("an event is later than the first", drain).await;
    let last = all.last().expect("an event")["at"].as_str().expect("a text").to_owned();
    // Written alike, times compare like texts.
    let later: Vec<_> = all.iter().filter(|event| event["at"].as_str() >= Some(&*last)).cloned().collect();
    assert!(!later.is_empty() && later.len() < all.len());
    let listed = |since: &str| {
        let done = portolan_at(&node.folder, &["events", "--json", "--since", since]);
        assert_eq!((done.code, &*done.stderr), (Some(0), ""), "{done:?}");
        done.stdout.lines().map(|line| serde_json::from_str(line).expect("JSON")).collect::<Vec<Value>>()
    };
    assert_eq!(listed("1h"), all);
    assert_eq!(listed(&last), later);
    assert_eq!(listed("0s"), Vec::<Value>::new());

    let mut command: Command = program();
    command.arg("--control").arg(node.folder.socket());
    command.args(["events", "--follow", "--json", "--since", &last]);
    let mut child = command.spawn().expect("it starts");
    let mut lines = BufReader::new(child.stdout.take().expect("a pipe")).lines();
    let mut next = || -> Value {
        let line = lines.next().expect("a line").expect("UTF-8");
        serde_json::from_str(&line).expect("JSON")
    };
    for expected in &later {
        assert_eq!(next(), *expected);
    }
    node.api.override_with(json!({"target": "region/us", "action": "drain", "share": "7%"})).await;
    let event = next();
    assert!(event["message"].as_str().expect("a text").contains("7%"), "{event}");
    node.stop().await;
    assert_eq!(child.wait().expect("our child").code(), Some(3));

    for (since, expected) in [
        ("yesterday", "write a time ago, such as 45s or 1h30m, or a moment, such as 2026-11-29T10:00:00Z"),
        ("2026-11-29T10:00:00", "say in which time zone"),
        ("2999-01-01T00:00:00Z", "that is in the future"),
    ] {
        let done = portolan(&["events", "--since", since]);
        assert!(done.code == Some(2) && done.stderr.contains(expected), "{done:?}");
    }
}
