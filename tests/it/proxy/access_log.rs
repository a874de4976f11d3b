//! The access log.

use std::fs;

use serde_json::{Value, json};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use super::backend::{self, Backend, Gated, Manner};
use super::{address, client, config, raw, shown};
use crate::harness::folder::Folder;
use crate::harness::node::TestNode;
use crate::harness::until;

fn logging(backends: &[std::net::SocketAddr], log: &str, pool: &str) -> Folder {
    let proxy = format!("[proxy]\naccess_log = {{ to = \"access.log\", {log} }}\n");
    Folder::new(&config(backends, pool).replacen("[proxy]\n", &proxy, 1))
}

/// The lines of the log, once there are so many.
async fn lines(folder: &Folder, count: usize) -> Vec<String> {
    until("the lines are written", async || {
        let text = fs::read_to_string(folder.path("access.log")).unwrap_or_default();
        let lines: Vec<String> = text.lines().map(Into::into).collect();
        (lines.len() >= count).then_some(lines)
    })
    .await
}

async fn entries(folder: &Folder, count: usize) -> Vec<Value> {
    lines(folder, count).await.iter().map(|line| serde_json::from_str(line).expect(line)).collect()
}

#[tokio::test]
async fn a_line_says_what_happened_to_a_request() {
    let one = Backend::start("one").await;
    let node = TestNode::start(logging(&[one.address], "format = \"json\"", "")).await;
    let host = address(&node).to_string();
    let request =
        client().post(format!("http://{host}/a%0a?b=c")).header("x-request-id", "mine").body("12345");
    let seen = shown(request.send().await.unwrap()).await;
    let entry = entries(&node.folder, 1).await.remove(0);
    let id = super::header(&seen, "x-request-id").remove(0);
    for (name, expected) in [
        ("client", json!("127.0.0.1")),
        ("listener", json!("web")),
        ("method", json!("POST")),
        ("version", json!("HTTP/1.1")),
        ("host", json!(host)),
        ("path", json!("/a%0a")),
        ("query", json!("b=c")),
        ("status", json!(200)),
        ("received", json!(5)),
        ("sent", json!(seen.to_string().len())),
        ("route", json!(1)),
        ("pool", json!("api")),
        ("backend", json!(one.address.to_string())),
        ("attempts", json!(1)),
        ("request_id", json!(id)),
        ("ended", json!("complete")),
    ] {
        assert_eq!(entry[name], expected, "{name} of {entry}");
    }
    assert!(entry["first_byte_ms"].as_f64() <= entry["total_ms"].as_f64(), "{entry}");
    node.stop().await;
}

#[tokio::test]
async fn a_line_counts_all_parts_of_a_response_and_its_time_to_the_end() {
    let head = "HTTP/1.1 200 OK\r\nContent-Length: 12\r\n\r\nfirst";
    let chunks = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nfirst\r\n";
    for (begin, end) in [(head, "and all"), (chunks, "7\r\nand all\r\n0\r\n\r\n")] {
        let one = Gated::start(begin, end).await;
        let node = TestNode::start(logging(&[one.address], "format = \"json\"", "")).await;
        for (count, method) in (1..).zip(["GET", "PROPFIND"]) {
            let mut stream = TcpStream::connect(address(&node)).await.unwrap();
            let request = format!("{method} / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n");
            stream.write_all(request.as_bytes()).await.unwrap();
            let mut answer = Vec::new();
            while !answer.windows(5).any(|it| it == b"first") {
                assert!(stream.read_buf(&mut answer).await.unwrap() > 0);
            }
            one.release();
            stream.read_to_end(&mut answer).await.unwrap();
            let entry = entries(&node.folder, count).await.pop().unwrap();
            assert_eq!((&entry["sent"], &entry["ended"]), (&json!(12), &json!("complete")), "{entry}");
            assert!(entry["first_byte_ms"].as_f64() < entry["total_ms"].as_f64(), "{entry}");
        }
        node.stop().await;
    }
}

#[tokio::test]
async fn a_line_says_how_a_request_ended() {
    let (one, two) = (Backend::start("one").await, Backend::start("two").await);
    let (torn, serving) = backend::saying(b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nhalf").await;
    let routes = format!(
        "route = [{{ path = \"/torn\", pool = \"torn\" }}, {{ path = \"/dead\", pool = \"dead\" }}, {{ path = \"/own\", respond = {{ status = 410 }} }}]\n\
         pool = \"api\"\n[proxy.pool.torn]\nbackend = [\"{torn}\"]\nprobe = []\n[proxy.pool.dead]\nbackend = [\"{}\"]\nprobe = []\n",
        two.kill().await
    );
    let folder = logging(&[one.address], "", "timeout = { read = \"200ms\" }");
    let text = fs::read_to_string(folder.config()).unwrap().replacen("pool = \"api\"\n", &routes, 1);
    fs::write(folder.config(), text).unwrap();
    let node = TestNode::start(folder).await;
    let ask = async |method: &str, path: &str| {
        let request = format!("{method} {path} HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n");
        raw(address(&node), request.as_bytes()).await
    };
    let mut count = 0;
    let mut entry = async || {
        count += 1;
        let entry = entries(&node.folder, count).await.pop().unwrap();
        (entry["status"].clone(), entry["ended"].as_str().unwrap().to_owned(), entry["attempts"].clone())
    };
    for (method, path, manner, expected) in [
        ("HEAD", "/", Manner::Show, (json!(200), "complete", json!(1))),
        ("GET", "/", Manner::Status(204), (json!(204), "complete", json!(1))),
        ("GET", "/own", Manner::Show, (json!(410), "complete", json!(0))),
        ("GET", "/", Manner::Close, (json!(502), "backend_gone", json!(1))),
        ("GET", "/", Manner::Hang, (json!(504), "backend_timeout", json!(1))),
        ("GET", "/torn", Manner::Show, (json!(200), "backend_gone", json!(1))),
        ("GET", "/dead", Manner::Show, (json!(502), "connect_failed", json!(2))),
    ] {
        one.behave(manner);
        ask(method, path).await;
        assert_eq!(entry().await, (expected.0, expected.1.to_owned(), expected.2), "{method} {path}");
    }
    // The client goes before the response.
    one.behave(Manner::Hang);
    let before = one.requests();
    let mut stream = TcpStream::connect(address(&node)).await.unwrap();
    stream.write_all(b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 9\r\n\r\nabc").await.unwrap();
    until("the request is with the backend", async || (one.requests() > before).then_some(())).await;
    drop(stream);
    let (_, ended, _) = entry().await;
    assert_eq!(ended, "client_gone");
    node.stop().await;
    serving.abort();
}

async fn reload(node: &TestNode) {
    let (status, body) = node.api.call(reqwest::Method::POST, "/v1/reload", None).await;
    assert_eq!(status, 200, "{body}");
}

#[tokio::test]
async fn a_share_of_the_requests_is_logged() {
    let one = Backend::start("one").await;
    let node = TestNode::start(logging(&[one.address], "sample = \"50%\"", "")).await;
    let client = client();
    for _ in 0..200 {
        shown(client.get(format!("http://{}/", address(&node))).send().await.unwrap()).await;
    }
    let folder = node.stop().await;
    let count = lines(&folder, 1).await.len();
    // The odds against it are 10^14 to 1.
    assert!((45..=155).contains(&count), "{count}");
}

#[tokio::test]
async fn the_log_is_rotated_and_survives_a_full_disk() {
    let one = Backend::start("one").await;
    let node = TestNode::start(logging(&[one.address], "format = \"clf\"", "")).await;
    let url = format!("http://{}/x", address(&node));
    shown(client().get(&url).send().await.unwrap()).await;
    let first = lines(&node.folder, 1).await.remove(0);
    assert!(first.starts_with("127.0.0.1 - - [") && first.contains("] \"GET /x HTTP/1.1\" 200 "), "{first}");
    fs::rename(node.folder.path("access.log"), node.folder.path("access.log.1")).unwrap();
    reload(&node).await;
    shown(client().get(&url).send().await.unwrap()).await;
    lines(&node.folder, 1).await;
    // A disk that takes nothing.
    let text = fs::read_to_string(node.folder.config()).unwrap().replacen("access.log", "/dev/full", 1);
    fs::write(node.folder.config(), text).unwrap();
    reload(&node).await;
    shown(client().get(&url).send().await.unwrap()).await;
    until("the line is counted", async || {
        let dropped = node.api.metric("portolan_proxy_access_log_dropped_total").await;
        (dropped == Some(1.0)).then_some(())
    })
    .await;
    let folder = node.stop().await;
    assert_eq!(lines(&folder, 1).await.len(), 1);
}
