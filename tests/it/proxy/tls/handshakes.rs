//! Handshakes that do not end.

use std::sync::Arc;

use tokio::io::AsyncWriteExt as _;
use tokio::net::TcpStream;

use super::super::address;
use super::super::backend::Backend;
use super::certificates::Authority;
use super::{BOTH, ask, client, connect, node};
use crate::harness::until;

#[tokio::test]
async fn a_hundred_half_open_handshakes_hinder_nobody() {
    let (authority, backend) = (Authority::new("one"), Backend::start("one").await);
    let node = node(&authority, &backend).await;
    // The start of a record with a ClientHello of 512 bytes.
    let begun = [22, 3, 1, 2, 0, 1, 0, 1, 252, 3, 3];
    let mut half_open = Vec::new();
    for number in 0..100 {
        let mut stream = TcpStream::connect(address(&node)).await.unwrap();
        if number % 2 == 0 {
            stream.write_all(&begun).await.unwrap();
        }
        half_open.push(stream);
    }
    let accepted = "portolan_proxy_connections_total{listener=\"web\"}";
    until("all are accepted", async || (node.api.metric(accepted).await >= Some(100.0)).then_some(())).await;
    let client = Arc::new(client(&authority, BOTH, None));
    for _ in 0..4 {
        let mut stream = connect(address(&node), "www.test", &client).await.unwrap();
        assert!(ask(&mut stream, "").await.unwrap().starts_with("HTTP/1.1 200"));
    }
    node.stop().await;
    drop(half_open);
}
