//! TCP listeners.

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::timeout;

use super::address;
use crate::harness::PATIENCE;
use crate::harness::node::TestNode;

/// A config with a TCP listener for these backends.
fn config(backends: &[String], pool: &str) -> String {
    let backends: Vec<String> = backends.iter().map(|it| format!("\"{it}\"")).collect();
    format!(
        "[proxy]\nworkers = 1\n[proxy.listener.db]\nlisten = \"127.0.0.1:0\"\nprotocol = \"tcp\"\npool = \"db\"\n\
         [proxy.pool.db]\nbackend = [{}]\nprobe = []\n{pool}\n",
        backends.join(", ")
    )
}

#[tokio::test]
async fn bytes_go_both_ways_and_each_side_may_end_first() {
    let backend = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let at = backend.local_addr().unwrap().to_string();
    let node = TestNode::with(&config(&[at], "")).await;
    let exchange = async {
        let mut client = TcpStream::connect(address(&node)).await.unwrap();
        let (mut server, _) = backend.accept().await.unwrap();
        client.write_all(b"ping").await.unwrap();
        let mut read = [0; 4];
        server.read_exact(&mut read).await.unwrap();
        assert_eq!(&read, b"ping");
        // The client has nothing more to say, and still listens.
        client.shutdown().await.unwrap();
        assert_eq!(server.read(&mut read).await.unwrap(), 0);
        let long = vec![7; 3 << 20];
        server.write_all(&long).await.unwrap();
        drop(server);
        let mut received = Vec::new();
        client.read_to_end(&mut received).await.unwrap();
        assert!(received == long, "{} of {} bytes", received.len(), long.len());
    };
    timeout(PATIENCE, exchange).await.expect("everything arrives");
    for (direction, bytes) in [("in", 4.0), ("out", f64::from(3 << 20))] {
        let metric = format!("portolan_proxy_bytes_total{{listener=\"db\",direction=\"{direction}\"}}");
        assert_eq!(node.api.metric(&metric).await, Some(bytes), "{direction}");
    }
    node.stop().await;
}

#[tokio::test]
async fn a_backend_that_refuses_is_replaced_by_another() {
    let closed = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let dead = closed.local_addr().unwrap().to_string();
    drop(closed);
    let backend = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let alive = backend.local_addr().unwrap().to_string();
    let node = TestNode::with(&config(&[dead, alive], "balance = \"round-robin\"\npassive = false")).await;
    for _ in 0..4 {
        let exchange = async {
            let mut client = TcpStream::connect(address(&node)).await.unwrap();
            let (mut server, _) = backend.accept().await.unwrap();
            server.write_all(b"hello").await.unwrap();
            drop(server);
            let mut received = String::new();
            client.read_to_string(&mut received).await.unwrap();
            assert_eq!(received, "hello");
        };
        timeout(PATIENCE, exchange).await.expect("the other backend serves");
    }
    assert_eq!(node.api.metric("portolan_proxy_retries_total{pool=\"db\"}").await, Some(4.0));
    node.stop().await;
}

#[tokio::test]
async fn connections_that_are_silent_for_too_long_are_closed() {
    let backend = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let at = backend.local_addr().unwrap().to_string();
    let node = TestNode::with(&config(&[at], "timeout = { idle = \"100ms\" }")).await;
    let exchange = async {
        let mut client = TcpStream::connect(address(&node)).await.unwrap();
        let _server = backend.accept().await.unwrap();
        assert_eq!(client.read(&mut [0]).await.unwrap_or(0), 0);
    };
    timeout(PATIENCE, exchange).await.expect("it is closed");
    node.stop().await;
}
