//! Strangers who attack the control API over TCP, without a token.

use std::io;
use std::time::Duration;

use tokio::io::AsyncWriteExt as _;
use tokio::net::TcpStream;
use tokio::time::{sleep, timeout};

use super::connection::{HOLD, byte_by_byte, half_closed, idle_after, whole};
use super::crowd::{Crowd, Victim};

/// Requests that one client sends without reading a reply: their replies exceed what sockets buffer.
const PIPELINED: usize = 200;

const OFTEN: Duration = Duration::from_millis(100);
const SOMETIMES: Duration = Duration::from_millis(300);
const SELDOM: Duration = Duration::from_secs(1);

pub(super) fn join(crowd: &mut Crowd, victim: &Victim) {
    crowd.add("idle API connections", 60, SELDOM, victim, |it: Victim| idle_after(it.control, &[]));
    crowd.add("API requests byte by byte", 10, SELDOM, victim, head_byte_by_byte);
    crowd.add("API bodies byte by byte", 10, SELDOM, victim, body_byte_by_byte);
    crowd.add("API requests with a large head", 1, SOMETIMES, victim, large_head);
    crowd.add("API requests with a large body", 1, SOMETIMES, victim, large_body);
    crowd.add("event streams that nobody reads", 20, SELDOM, victim, subscriber);
    crowd.add("API clients that never read", 2, SELDOM, victim, deaf);
    crowd.add("reads of everything", 1, SELDOM, victim, reads);
    crowd.add("changes without a token", 1, OFTEN, victim, changes);
    crowd.add("API requests of other sites", 1, OFTEN, victim, other_sites);
    crowd.add("smuggled and broken requests", 1, OFTEN, victim, broken);
}

async fn head_byte_by_byte(victim: Victim) -> io::Result<()> {
    let head = b"GET /v1/status HTTP/1.1\r\nHost: localhost\r\nX: xxxxxxxxxxxxxxxxxxxxxxxxxxx";
    byte_by_byte(victim.control, &[], head).await
}

async fn body_byte_by_byte(victim: Victim) -> io::Result<()> {
    let head = "POST /v1/overrides HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n\
                Content-Length: 16000\r\n\r\n{\"target\": \"";
    byte_by_byte(victim.control, head.as_bytes(), &[b'x'; 16_000]).await
}

async fn large_head(victim: Victim) -> io::Result<()> {
    let many = "X: y\r\n".repeat(10_000);
    for headers in [format!("X: {}\r\n", "x".repeat(1 << 20)), many] {
        whole(victim.control, format!("GET /livez HTTP/1.1\r\nHost: localhost\r\n{headers}\r\n").as_bytes())
            .await?;
    }
    Ok(())
}

async fn large_body(victim: Victim) -> io::Result<()> {
    let head = "POST /v1/overrides HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n";
    let body = "[".repeat(1 << 20);
    for length in
        ["Content-Length: 1048576", "Content-Length: 18446744073709551615", "Transfer-Encoding: chunked"]
    {
        whole(victim.control, format!("{head}{length}\r\n\r\nfffffff\r\n{body}").as_bytes()).await?;
    }
    Ok(())
}

async fn subscriber(victim: Victim) -> io::Result<()> {
    let mut stream = TcpStream::connect(victim.control).await?;
    let subscribe = "GET /v1/events HTTP/1.1\r\nHost: localhost\r\nAccept: text/event-stream\r\n\r\n";
    stream.write_all(subscribe.as_bytes()).await.ok();
    sleep(HOLD * 2).await;
    Ok(())
}

async fn deaf(victim: Victim) -> io::Result<()> {
    let mut stream = TcpStream::connect(victim.control).await?;
    let requests = "GET /v1/status HTTP/1.1\r\nHost: localhost\r\n\r\n".repeat(PIPELINED);
    timeout(HOLD, stream.write_all(requests.as_bytes())).await.ok();
    sleep(HOLD).await;
    Ok(())
}

async fn reads(victim: Victim) -> io::Result<()> {
    for path in [
        "/v1/status",
        "/v1/regions",
        "/v1/services",
        "/v1/explain?name=www.example.test&client=10.1.2.3",
        "/v1/map",
        "/v1/events",
        "/v1/handshakes",
        "/v1/overrides",
        "/metrics",
    ] {
        let text = format!("GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n");
        whole(victim.control, text.as_bytes()).await?;
    }
    let plan = r#"{"target": "region/eu", "action": "drain"}"#;
    let head = "Host: localhost\r\nConnection: close\r\nContent-Type: application/json";
    let length = plan.len();
    let text = format!("POST /v1/plan HTTP/1.1\r\n{head}\r\nContent-Length: {length}\r\n\r\n{plan}");
    whole(victim.control, text.as_bytes()).await?;
    Ok(())
}

async fn changes(victim: Victim) -> io::Result<()> {
    let body = r#"{"target": "region/eu", "action": "drain", "override_safety": true}"#;
    let head = "HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\nContent-Type: application/json\r\n";
    let length = body.len();
    for token in ["", "Authorization: Bearer guess\r\n"] {
        let text = format!("POST /v1/overrides {head}{token}Content-Length: {length}\r\n\r\n{body}");
        whole(victim.control, text.as_bytes()).await?;
        whole(victim.control, format!("POST /v1/reload {head}{token}Content-Length: 0\r\n\r\n").as_bytes())
            .await?;
    }
    Ok(())
}

async fn other_sites(victim: Victim) -> io::Result<()> {
    for header in ["Host: evil.example", "Host: localhost\r\nOrigin: https://evil.example"] {
        let text = format!("POST /v1/reload HTTP/1.1\r\n{header}\r\nConnection: close\r\n\r\n");
        whole(victim.control, text.as_bytes()).await?;
    }
    Ok(())
}

async fn broken(victim: Victim) -> io::Result<()> {
    for text in [
        "GET /livez HTTP/1.1\r\nHost: localhost\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        "GET /livez HTTP/9.9\r\n\r\n",
        "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
        "\x16\x03\x01\x02\x00\x01\x00\x01\x7c\x03\x03 a TLS handshake, cut off",
        "GET http://evil.example/v1/status HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n",
        "GET /v1/status?x=%00%ff HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n",
    ] {
        let exchange = half_closed(victim.control, text.as_bytes());
        timeout(SELDOM, exchange).await.unwrap_or(Ok(()))?;
    }
    Ok(())
}
