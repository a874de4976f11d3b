//! Responses that come while the request is still being sent.

use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::timeout;

use super::{address, config};
use crate::harness::PATIENCE;
use crate::harness::node::TestNode;
use crate::harness::until;

/// A backend that answers 413 to the head of each request, and goes on as `rest` says.
async fn refusing(rest: Rest) -> (std::net::SocketAddr, tokio::task::JoinHandle<()>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let serving = tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            tokio::spawn(async move {
                let mut head = [0; 16];
                stream.read_exact(&mut head).await.ok();
                let connection = if rest == Rest::Close { "close" } else { "keep-alive" };
                let answer = format!(
                    "HTTP/1.1 413 No\r\nContent-Length: 9\r\nConnection: {connection}\r\n\r\ntoo large"
                );
                stream.write_all(answer.as_bytes()).await.ok();
                match rest {
                    Rest::Close => drop(stream),
                    Rest::Stall => std::future::pending().await,
                    Rest::Read => {
                        tokio::io::copy(&mut stream, &mut tokio::io::sink()).await.ok();
                    }
                }
            });
        }
    });
    (address, serving)
}

/// What a backend does once it has answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Rest {
    /// Closes the connection, which resets it.
    Close,
    /// Takes nothing more.
    Stall,
    /// Reads on.
    Read,
}

/// A client that sends all of a long body before it reads anything gets the whole response, and the end of the connection.
pub(super) async fn sends_all(node: &TestNode, before: &str) -> String {
    let mut stream = TcpStream::connect(address(node)).await.unwrap();
    let length = 8 << 20;
    let head = format!(
        "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: {length}\r\nConnection: close\r\n{before}\r\n"
    );
    stream.write_all(head.as_bytes()).await.unwrap();
    let piece = vec![b'a'; 64 << 10];
    let (mut reader, mut writer) = stream.split();
    let mut answer = Vec::new();
    let sending = async {
        for _ in 0..length / piece.len() {
            if writer.write_all(&piece).await.is_err() {
                break;
            }
        }
    };
    let exchange = async { tokio::join!(sending, reader.read_to_end(&mut answer)) };
    timeout(PATIENCE, exchange)
        .await
        .unwrap_or_else(|_| panic!("the connection does not end after {before:?}"))
        .1
        .ok();
    String::from_utf8_lossy(&answer).into_owned()
}

#[tokio::test]
async fn a_response_during_an_upload_reaches_the_client() {
    for rest in [Rest::Close, Rest::Stall, Rest::Read] {
        let (at, serving) = refusing(rest).await;
        let node = TestNode::with(&config(&[at], "")).await;
        // In the lane, and on the general path.
        for header in ["", "TE: trailers\r\n"] {
            let answer = sends_all(&node, header).await;
            let is_whole = answer.starts_with("HTTP/1.1 413 ") && answer.ends_with("too large");
            assert!(is_whole, "{rest:?} {header:?}: {answer}");
        }
        // Nothing is left of them.
        until("no request is in flight", async || {
            let sample = format!("portolan_proxy_in_flight{{pool=\"api\",backend=\"{at}\"}}");
            (node.api.metric(&sample).await == Some(0.0)).then_some(())
        })
        .await;
        timeout(PATIENCE + Duration::from_secs(1), node.stop()).await.expect("it stops");
        serving.abort();
    }
}

#[tokio::test]
async fn after_a_response_of_its_own_the_proxy_reads_on_and_resets_nothing() {
    let routes = "route = [{ respond = { status = 403, body = \"no\" } }]\n";
    let unused = std::net::SocketAddr::from(([127, 0, 0, 1], 1));
    let node = TestNode::with(&config(&[unused], "").replacen("pool = \"api\"\n", routes, 1)).await;
    for header in ["", "TE: trailers\r\n"] {
        let mut stream = TcpStream::connect(address(&node)).await.unwrap();
        let head = format!(
            "POST / HTTP/1.1\r\nHost: a\r\nConnection: close\r\nContent-Length: 100000\r\n{header}\r\n"
        );
        stream.write_all(head.as_bytes()).await.unwrap();
        let mut answer = Vec::new();
        while !answer.ends_with(b"no") {
            timeout(PATIENCE, stream.read_buf(&mut answer)).await.expect("a response").unwrap();
        }
        for _ in 0..100 {
            stream.write_all(&[b'a'; 1000]).await.unwrap();
        }
        let end = timeout(PATIENCE, stream.read_to_end(&mut answer)).await.expect("the end");
        assert_eq!(end.expect("an end, not a reset"), 0);
    }
    node.stop().await;
}
