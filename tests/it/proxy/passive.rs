//! Backends whose requests fail are ejected, and return.

use std::net::SocketAddr;

use serde_json::Value;

use super::backend::{Backend, Manner};
use super::{address, client, config, metric, node};
use crate::harness::binary::{program, run};
use crate::harness::node::TestNode;
use crate::harness::until;

/// Sends requests one by one; returns the status of each.
async fn statuses(node: &TestNode, count: usize) -> Vec<u16> {
    let client = client();
    let mut statuses = Vec::new();
    for _ in 0..count {
        let response = client.get(format!("http://{}/", address(node))).send().await.expect("a response");
        statuses.push(response.status().as_u16());
        response.bytes().await.expect("a body");
    }
    statuses
}

/// Sends requests until the backend has been ejected so often.
async fn ejected(node: &TestNode, backend: SocketAddr, times: usize) {
    until("it is ejected", async || {
        statuses(node, 4).await;
        (metric(node, "portolan_proxy_ejections_total", backend).await == Some(times as f64)).then_some(())
    })
    .await;
    until("workers know", async || {
        let is_ejected = metric(node, "portolan_proxy_ejected", backend).await == Some(1.0);
        is_ejected.then_some(())
    })
    .await;
}

async fn returned(node: &TestNode, backend: SocketAddr) {
    until("it returns", async || {
        (metric(node, "portolan_proxy_ejected", backend).await == Some(0.0)).then_some(())
    })
    .await;
}

#[tokio::test]
async fn a_backend_that_misbehaves_gets_no_more_requests() {
    let cases = [
        (Manner::Close, "passive = { failures = 3, eject = \"1h\" }", 502, "no response"),
        (Manner::Status(500), "passive = { failures = 3, eject = \"1h\", on = \"5xx\" }", 500, "HTTP 500"),
        (
            Manner::Hang,
            "passive = { failures = 2, eject = \"1h\" }\ntimeout = { read = \"100ms\" }",
            504,
            "no response within 100ms",
        ),
        (
            Manner::Status(503),
            "passive = { failures = 1000, eject = \"1h\", on = \"5xx\", errors = \"40%\", requests = 10 }",
            503,
            "requests failed, the last: HTTP 503",
        ),
    ];
    for (manner, pool, status, evidence) in cases {
        let (good, bad) = (Backend::start("good").await, Backend::start("bad").await);
        let node = node(&[&good, &bad], pool).await;
        bad.behave(manner);
        assert!(statuses(&node, 2).await.contains(&status), "{pool}");
        ejected(&node, bad.address, 1).await;
        let before = bad.requests();
        assert_eq!(statuses(&node, 10).await, [200; 10], "{pool}");
        assert_eq!(bad.requests(), before, "{pool}");
        let events = node.api.events("ejected").await;
        let found = events[0]["fields"]["evidence"].as_str().expect("a text");
        assert!(found.contains(evidence), "{found}");
        node.stop().await;
    }
}

#[tokio::test]
async fn a_dead_backend_is_tried_only_a_few_times() {
    let (good, bad) = (Backend::start("good").await, Backend::start("bad").await);
    // Nothing about it in the config, and no probe.
    let node = node(&[&good, &bad], "").await;
    let bad = bad.kill().await;
    ejected(&node, bad, 1).await;
    let failures = metric(&node, "portolan_proxy_failures_total", bad).await;
    assert_eq!(statuses(&node, 10).await, [200; 10]);
    assert_eq!(metric(&node, "portolan_proxy_failures_total", bad).await, failures);
    node.stop().await;
}

#[tokio::test]
async fn a_dead_backend_of_a_tcp_listener_is_ejected() {
    let (good, bad) = (Backend::start("good").await, Backend::start("bad").await);
    let config = config(&[good.address, bad.address], "");
    let node =
        TestNode::with(&config.replace("pool = \"api\"\n", "protocol = \"tcp\"\npool = \"api\"\n")).await;
    let bad = bad.kill().await;
    ejected_by_connections(&node, bad).await;
    node.stop().await;
}

#[tokio::test]
async fn a_success_ends_a_row_of_failures() {
    let (good, bad) = (Backend::start("good").await, Backend::start("bad").await);
    let node = node(&[&good, &bad], "passive = { failures = 3, eject = \"1h\" }").await;
    for _ in 0..4 {
        for manner in [Manner::Close, Manner::Close, Manner::Show] {
            bad.behave(manner);
            let before = bad.requests();
            statuses(&node, 2).await;
            assert!(bad.requests() > before, "it is in use");
        }
    }
    assert_eq!(node.api.events("ejected").await.len(), 0);
    bad.behave(Manner::Close);
    ejected(&node, bad.address, 1).await;
    node.stop().await;
}

#[tokio::test]
async fn a_connection_ends_a_row_of_failed_ones() {
    let (good, mut bad) = (Backend::start("good").await, Backend::start("bad").await);
    let text = config(&[good.address, bad.address], "passive = { failures = 2, eject = \"1h\" }");
    let node =
        TestNode::with(&text.replace("pool = \"api\"\n", "protocol = \"tcp\"\npool = \"api\"\n")).await;
    let connect = async || {
        let response = client().get(format!("http://{}/", address(&node))).send().await;
        assert_eq!(response.expect("a response").status(), 200);
    };
    for failures in 1..=3 {
        until("it has a connection", async || {
            connect().await;
            (bad.connections() > 0).then_some(())
        })
        .await;
        let at = bad.kill().await;
        until("it is missed once", async || {
            connect().await;
            let failed = metric(&node, "portolan_proxy_failures_total", at).await;
            (failed == Some(f64::from(failures))).then_some(())
        })
        .await;
        bad = Backend::at("bad", at).await;
    }
    assert_eq!(node.api.events("ejected").await.len(), 0);
    node.stop().await;
}

/// Opens a connection for each request.
async fn ejected_by_connections(node: &TestNode, backend: SocketAddr) {
    until("it is ejected", async || {
        let status =
            client().get(format!("http://{}/", address(node))).send().await.expect("a response").status();
        assert_eq!(status, 200);
        (metric(node, "portolan_proxy_ejected", backend).await == Some(1.0)).then_some(())
    })
    .await;
}

#[tokio::test]
async fn a_brown_out_of_all_is_no_worse_than_without_ejections() {
    let backends = [
        Backend::start("a").await,
        Backend::start("b").await,
        Backend::start("c").await,
        Backend::start("d").await,
    ];
    let node = node(&backends.each_ref(), "passive = { failures = 1, eject = \"1h\", on = \"5xx\" }").await;
    backends.iter().for_each(|it| it.behave(Manner::Status(503)));
    until("half of them is ejected", async || {
        assert_eq!(statuses(&node, 8).await, [503; 8], "the backends' own response");
        (node.api.events("ejected").await.len() == 2).then_some(())
    })
    .await;
    // However much fails, the others go on.
    assert_eq!(statuses(&node, 50).await, [503; 50]);
    assert_eq!(node.api.events("ejected").await.len(), 2);
    backends.iter().for_each(|it| it.behave(Manner::Show));
    assert_eq!(statuses(&node, 10).await, [200; 10]);
    node.stop().await;
}

#[tokio::test]
async fn a_flapping_backend_is_ejected_for_longer_each_time() {
    let (good, bad) = (Backend::start("good").await, Backend::start("bad").await);
    let node = node(&[&good, &bad], "passive = { failures = 1, eject = \"1s\", on = \"reset\" }").await;
    bad.behave(Manner::Close);
    for times in 1..=3 {
        ejected(&node, bad.address, times).await;
        returned(&node, bad.address).await;
    }
    let events = node.api.events("ejected").await;
    let messages: Vec<&str> = events.iter().map(|it| it["message"].as_str().expect("a text")).collect();
    for (message, time) in messages.iter().zip(["1s", "2s", "4s"]) {
        assert!(message.contains(&format!("ejected for {time}: a request failed: no response")), "{message}");
    }
    assert_eq!(node.api.events("returned").await.len(), 3);
    node.stop().await;
}

#[tokio::test]
async fn operators_see_ejections_and_end_them() {
    let (good, bad) = (Backend::start("good").await, Backend::start("bad").await);
    let node = node(&[&good, &bad], "passive = { failures = 3, eject = \"1h\" }").await;
    bad.behave(Manner::Close);
    ejected(&node, bad.address, 1).await;

    let socket = node.folder.socket();
    let ask = async |arguments: &[&str]| {
        let mut command = program();
        command.args(arguments).arg("--control").arg(&socket);
        tokio::task::spawn_blocking(move || run(command)).await.expect("no panic").stdout
    };
    let status = ask(&["status"]).await;
    let row = status.lines().find(|line| line.contains(&bad.address.to_string())).expect("a row").to_owned();
    assert!(row.contains("  not probed  ") && row.contains("ejected until 2"), "{row}");
    assert!(row.contains("3 consecutive requests failed, the last: no response"), "{row}");
    let explained = ask(&["explain", &format!("http://{}/", address(&node)), "--client", "127.0.0.1"]).await;
    assert!(explained.contains("not used: ejected until 2"), "{explained}");
    assert!(explained.contains("the only one in use"), "{explained}");
    let events = ask(&["events"]).await;
    assert!(events.contains("ejected for 3600s: 3 consecutive requests failed"), "{events}");

    bad.behave(Manner::Show);
    let target = format!("pool/api/{}", bad.address);
    node.api.override_with(serde_json::json!({ "target": target, "action": "up" })).await;
    returned(&node, bad.address).await;
    let before = bad.requests();
    assert_eq!(statuses(&node, 4).await, [200; 4]);
    assert!(bad.requests() > before);
    let events: Vec<Value> = node.api.events("returned").await;
    assert!(events[0]["message"].as_str().expect("a text").ends_with("an operator forced it up"));
    node.stop().await;
}

#[tokio::test]
async fn a_backend_that_fails_at_once_does_not_look_fast() {
    let (good, bad) = (Backend::start("good").await, Backend::start("bad").await);
    let text = config(&[good.address, bad.address], "passive = false").replace("round-robin", "least-time");
    let node = TestNode::with(&text).await;
    bad.behave(Manner::Close);
    let failed = statuses(&node, 60).await.iter().filter(|status| **status != 200).count();
    // It is explored once, and seldom after that.
    assert!((1..10).contains(&failed), "{failed} of 60");
    node.stop().await;
}

#[tokio::test]
async fn a_client_that_gives_up_does_not_make_a_backend_look_fast() {
    let (good, bad) = (Backend::start("good").await, Backend::start("bad").await);
    let config = config(&[good.address, bad.address], "").replace("round-robin", "least-time");
    let node = TestNode::with(&config).await;
    bad.behave(Manner::Hang);
    let client = client();
    for _ in 0..30 {
        let before = bad.requests();
        let hangs = until("it hangs", async || (bad.requests() > before).then_some(()));
        tokio::select! {
            response = client.get(format!("http://{}/", address(&node))).send() => {
                assert_eq!(response.expect("a response").status(), 200);
            }
            () = hangs => {}
        }
        until("the attempt has ended", async || {
            (metric(&node, "portolan_proxy_in_flight", bad.address).await == Some(0.0)).then_some(())
        })
        .await;
    }
    // It is explored once, and seldom after that.
    assert!(bad.requests() < 10, "{} of 30", bad.requests());
    node.stop().await;
}
