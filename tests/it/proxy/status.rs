//! What `status` and `explain` show of limits, and of who decides about requests.

use serde_json::{Value, json};
use tokio::task::JoinHandle;

use super::backend::{Backend, Manner};
use super::{address, client, node};
use crate::harness::binary::{Done, program, run};
use crate::harness::node::TestNode;
use crate::harness::until;

/// What the command line prints about a node, in one line.
async fn printed(node: &TestNode, arguments: &[&str]) -> String {
    let mut command = program();
    command.arg("--control").arg(node.folder.socket()).args(arguments);
    let Done { stdout, stderr, .. } = tokio::task::spawn_blocking(move || run(command)).await.unwrap();
    assert_eq!(stderr, "");
    stdout.split_whitespace().collect::<Vec<_>>().join(" ")
}

async fn pool(node: &TestNode) -> Value {
    node.api.get("/v1/status").await["pools"][0].clone()
}

fn get(node: &TestNode) -> JoinHandle<()> {
    let url = format!("http://{}/", address(node));
    tokio::spawn(async move { drop(client().get(url).send().await) })
}

#[tokio::test]
async fn status_shows_how_much_of_the_limits_is_used() {
    let one = Backend::start("one").await;
    one.behave(Manner::Hang);
    let node = node(&[&one], "limits = { requests = 2, connections = 3, pending = 7, wait = \"10m\" }").await;
    assert_eq!(pool(&node).await["limits"], json!({ "requests": 2, "connections": 3, "pending": 7 }));
    let requests: Vec<_> = (0..3).map(|_| get(&node)).collect();
    until("two are with the backend, and one waits", async || {
        let pool = pool(&node).await;
        let load = &pool["backends"][0]["addresses"][0]["load"];
        (load["requests"] == 2 && load["connections"] == 2 && pool["waiting"] == 1).then_some(())
    })
    .await;
    let text = printed(&node, &["status"]).await;
    assert!(text.contains("api serves round-robin; 1 of 7 requests wait"), "{text}");
    assert!(text.contains("2 of 2 requests, 2 of 3 connections: no probe: always up"), "{text}");
    requests.iter().for_each(JoinHandle::abort);
    until("nothing is left", async || {
        let pool = pool(&node).await;
        let load = &pool["backends"][0]["addresses"][0]["load"];
        (load["requests"] == 0 && load["connections"] == 0 && pool["waiting"] == 0).then_some(())
    })
    .await;
    node.stop().await;
}

#[tokio::test]
async fn without_limits_only_json_has_the_load() {
    let one = Backend::start("one").await;
    let node = node(&[&one], "retry = { tries = 1 }").await;
    let found = pool(&node).await;
    assert_eq!((&found["limits"], &found["waiting"]), (&Value::Null, &json!(0)));
    let (backend, address) = (&found["backends"][0], &found["backends"][0]["addresses"][0]);
    assert_eq!((&backend["probed"], &address["probed"]), (&json!(false), &json!(false)));
    assert_eq!((&address["verdict"], &address["since"]), (&json!("up"), &Value::Null));
    let none = json!({ "requests": 0, "connections": 0, "total": 0, "failures": 0, "server_errors": 0 });
    assert_eq!(found["backends"][0]["addresses"][0]["load"], none);
    // What requests come to is counted.
    for (manner, total, failures, server_errors) in [
        (Manner::Show, 1, 0, 0),
        (Manner::Status(404), 2, 0, 0),
        (Manner::Status(503), 3, 0, 1),
        (Manner::Close, 4, 1, 1),
    ] {
        one.behave(manner);
        get(&node).await.expect("it ends");
        let counts = until("it is counted", async || {
            let load = pool(&node).await["backends"][0]["addresses"][0]["load"].clone();
            (load["total"] == total && load["requests"] == 0).then_some(load)
        });
        let load = counts.await;
        assert_eq!(
            (&load["failures"], &load["server_errors"]),
            (&json!(failures), &json!(server_errors)),
            "{load}"
        );
    }
    let text = printed(&node, &["status"]).await;
    assert!(text.contains(&format!("{} 127.0.0.1 not probed no probe: always up", one.address)), "{text}");
    node.stop().await;
}

#[tokio::test]
async fn explain_names_who_decides_about_a_request() {
    let one = Backend::start("one").await;
    let node = TestNode::with(&format!(
        "[proxy]\nworkers = 1\n[proxy.listener.web]\nlisten = \"127.0.0.1:0\"\nroute = [\n\
         {{ path = \"/open\", pool = \"api\" }},\n\
         {{ path = \"/ours\", pool = \"api\", auth = {{ pool = \"asked\", path = \"/verify\" }} }},\n\
         {{ pool = \"api\", auth = {{ forward = \"http://127.0.0.1:9/may?a=b\" }} }},\n]\n\
         [proxy.pool.api]\nbackend = [\"{0}\"]\nprobe = []\n[proxy.pool.asked]\nbackend = [\"{0}\"]\nprobe = []\n",
        one.address
    ))
    .await;
    for (path, expected) in [
        ("/open", None),
        ("/ours", Some("auth pool asked decides first, asked for /verify")),
        ("/else", Some("auth pool 127.0.0.1:9 decides first, asked for /may?a=b")),
    ] {
        let url = format!("http://127.0.0.1:{}{path}", address(&node).port());
        let text = printed(&node, &["explain", &url, "--client", "192.0.2.1", "--listener", "web"]).await;
        match expected {
            Some(expected) => assert!(text.contains(&format!("{expected} ")), "{text}"),
            None => assert!(!text.contains("auth") && text.contains("pool api"), "{text}"),
        }
    }
    node.stop().await;
}
