//! Requests that are sent again.

use super::backend::{Backend, Manner};
use super::{address, client, config, node, raw, shown};
use crate::harness::node::TestNode;

#[tokio::test]
async fn the_only_backend_is_tried_again() {
    let one = Backend::start("one").await;
    one.behave(Manner::CloseNext);
    let node = node(&[&one], "retry = { tries = 2, on = [\"reset\"] }").await;
    shown(client().get(format!("http://{}/", address(&node))).send().await.unwrap()).await;
    assert_eq!(one.requests(), 2);
    node.stop().await;
}

#[tokio::test]
async fn the_last_response_is_the_backends_own() {
    let one = Backend::start("one").await;
    one.behave(Manner::Status(503));
    let node = node(&[&one], "retry = { tries = 3, on = [\"503\"] }").await;
    let response = client().get(format!("http://{}/", address(&node))).send().await.unwrap();
    assert_eq!(response.status(), 503);
    assert_eq!(response.text().await.unwrap(), "503 of one");
    assert_eq!(one.requests(), 3);
    node.stop().await;
}

#[tokio::test]
async fn tries_count_every_request_that_a_backend_gets() {
    let one = Backend::start("one").await;
    let node = node(&[&one], "retry = { tries = 1 }").await;
    let client = client();
    let url = format!("http://{}/", address(&node));
    // Several idle connections.
    let both = futures_of(&client, &url, 4).await;
    assert_eq!(both, 4);
    let before = one.requests();
    one.behave(Manner::Close);
    let response = client.get(&url).send().await.unwrap();
    assert_eq!(response.status(), 502);
    // A connection that was idle may have been closed meanwhile, so the request is sent once more over a new one.
    assert_eq!(one.requests() - before, 2);
    node.stop().await;
}

#[tokio::test]
async fn a_post_is_not_sent_again_although_it_has_no_body() {
    let one = Backend::start("one").await;
    let node = node(&[&one], "retry = { tries = 3, on = [\"reset\", \"503\"] }\npassive = false").await;
    for (manner, status) in [(Manner::Close, 502), (Manner::Status(503), 503)] {
        one.behave(manner);
        // In the lane, and on the general path.
        for header in ["", "TE: trailers\r\n"] {
            for (method, sent) in [("POST", 1), ("PUT", 3)] {
                let before = one.requests();
                let request = format!(
                    "{method} / HTTP/1.1\r\nHost: a\r\nConnection: close\r\nContent-Length: 0\r\n{header}\r\n"
                );
                let answer = raw(address(&node), request.as_bytes()).await;
                assert!(answer.starts_with(&format!("HTTP/1.1 {status} ")), "{answer}");
                assert_eq!(one.requests() - before, sent, "{method} {status} {header}");
            }
        }
    }
    node.stop().await;
}

#[tokio::test]
async fn failed_connects_are_retried_whatever_the_budget() {
    let (dead, alive) = (Backend::start("dead").await, Backend::start("alive").await);
    let node = node(&[&dead, &alive], "retry = { budget = \"1%\" }\npassive = false").await;
    dead.kill().await;
    for _ in 0..60 {
        let response = client().get(format!("http://{}/", address(&node))).send().await.unwrap();
        assert_eq!(shown(response).await["backend"], "alive");
    }
    // More than the budget has, which is ten retries at least.
    assert!(node.api.metric("portolan_proxy_retries_total{pool=\"api\"}").await >= Some(30.0));
    node.stop().await;
}

#[tokio::test]
async fn what_was_sent_over_an_idle_connection_is_not_sent_again_if_it_has_a_body() {
    let one = Backend::start("one").await;
    let node = node(&[&one], "retry = { tries = 3, on = [\"reset\"] }\npassive = false").await;
    for te in ["", "trailers"] {
        one.behave(Manner::Show);
        let client = client();
        let post = || {
            let request = client.post(format!("http://{}/", address(&node))).body("once");
            if te.is_empty() { request } else { request.header("te", te) }
        };
        shown(post().send().await.unwrap()).await;
        let (before, connections) = (one.requests(), one.connections());
        one.behave(Manner::Close);
        assert_eq!(post().send().await.unwrap().status(), 502);
        assert_eq!((one.requests() - before, one.connections() - connections), (1, 0), "{te}");
    }
    node.stop().await;
}

#[tokio::test]
async fn what_failed_is_not_tried_again_while_there_is_another() {
    let (one, two) = (Backend::start("one").await, Backend::start("two").await);
    // A client always begins with the same backend.
    let text = config(&[one.address, two.address], "retry = { on = [\"reset\"] }\npassive = false");
    let node = TestNode::with(&text.replace("round-robin", "ip-hash")).await;
    for (dead, alive) in [(&one, "two"), (&two, "one")] {
        dead.behave(Manner::Close);
        for _ in 0..3 {
            let response = client().get(format!("http://{}/", address(&node))).send().await.unwrap();
            assert_eq!(shown(response).await["backend"], alive);
        }
        dead.behave(Manner::Show);
    }
    node.stop().await;
}

/// Sends requests at once; returns how many were answered.
async fn futures_of(client: &reqwest::Client, url: &str, count: usize) -> usize {
    let mut requests = tokio::task::JoinSet::new();
    for _ in 0..count {
        let request = client.post(url).body(vec![b'a'; 1 << 20]).send();
        requests.spawn(async move { shown(request.await.unwrap()).await });
    }
    requests.join_all().await.len()
}
