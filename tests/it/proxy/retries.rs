//! Requests that are sent again.

use super::backend::{Backend, Manner};
use super::{address, client, node, shown};

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

/// Sends requests at once; returns how many were answered.
async fn futures_of(client: &reqwest::Client, url: &str, count: usize) -> usize {
    let mut requests = tokio::task::JoinSet::new();
    for _ in 0..count {
        let request = client.post(url).body(vec![b'a'; 1 << 20]).send();
        requests.spawn(async move { shown(request.await.unwrap()).await });
    }
    requests.join_all().await.len()
}
