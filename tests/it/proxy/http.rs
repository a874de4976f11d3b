//! HTTP listeners.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::SeqCst};

use http_body_util::{BodyExt as _, Full};
use hyper::body::Bytes;
use hyper_util::rt::{TokioExecutor, TokioIo};
use reqwest::Method;
use serde_json::json;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use super::backend::{Backend, Manner};
use super::{address, client, config, header, node, raw, shown};
use crate::harness::folder::Folder;
use crate::harness::node::TestNode;
use crate::harness::until;

#[tokio::test]
async fn a_request_reaches_a_backend_as_one_of_the_proxy() {
    let one = Backend::start("one").await;
    let node = node(&[&one], "").await;
    let url = format!("http://{}/a/b?c=d", address(&node));
    let request = client()
        .request(Method::PUT, url)
        .header("connection", "x-mine")
        .header("x-mine", "of one hop")
        .header("keep-alive", "timeout=5")
        .header("proxy-connection", "keep-alive")
        .header("http2-settings", "AAMAAABk")
        .header("x-forwarded-for", "203.0.113.9")
        .header("forwarded", "for=203.0.113.9")
        .header("x-real-ip", "203.0.113.9")
        .header("x-kept", "yes")
        .body("content");
    let response = request.send().await.unwrap();
    assert_eq!(response.headers().get("x-backend").unwrap(), "one");
    assert_eq!(response.headers().get("x-private"), None, "it concerns one hop");
    let seen = shown(response).await;
    assert_eq!(
        (&seen["method"], &seen["target"], &seen["body"]),
        (&json!("PUT"), &json!("/a/b?c=d"), &json!("content"))
    );
    for (name, expected) in [
        ("x-mine", &[][..]),
        ("keep-alive", &[]),
        ("proxy-connection", &[]),
        ("http2-settings", &[]),
        ("connection", &[]),
        ("x-kept", &["yes"]),
        ("x-forwarded-for", &["127.0.0.1"]),
        ("x-real-ip", &["127.0.0.1"]),
        ("x-forwarded-proto", &["http"]),
        ("forwarded", &[]),
        ("via", &["1.1 portolan"]),
        ("content-length", &["7"]),
    ] {
        assert_eq!(header(&seen, name), expected, "{name}");
    }
    let host = address(&node).to_string();
    assert_eq!((header(&seen, "host"), header(&seen, "x-forwarded-host")), (vec![host.clone()], vec![host]));
    node.stop().await;
}

#[tokio::test]
async fn what_a_trusted_hop_says_of_the_client_is_kept() {
    let one = Backend::start("one").await;
    let rest = config(&[one.address], "").replacen("[proxy]\n", "[proxy]\ntrusted = [\"127.0.0.0/8\"]\n", 1);
    let node = TestNode::with(&rest).await;
    let request = client()
        .get(format!("http://{}/", address(&node)))
        .header("x-forwarded-for", "203.0.113.9")
        .header("x-forwarded-proto", "https")
        .header("x-real-ip", "203.0.113.9");
    let seen = shown(request.send().await.unwrap()).await;
    assert_eq!(header(&seen, "x-forwarded-for"), ["203.0.113.9, 127.0.0.1"]);
    assert_eq!(header(&seen, "x-forwarded-proto"), ["https"]);
    assert_eq!(header(&seen, "x-real-ip"), ["203.0.113.9"]);
    node.stop().await;
}

#[tokio::test]
async fn connections_to_backends_are_kept() {
    let one = Backend::start("one").await;
    let node = node(&[&one], "").await;
    let client = client();
    for _ in 0..50 {
        let response = client.get(format!("http://{}/", address(&node))).send().await.unwrap();
        shown(response).await;
    }
    assert_eq!((one.connections(), one.requests()), (1, 50));
    node.stop().await;
}

#[tokio::test]
async fn long_bodies_stream_both_ways() {
    let one = Backend::start("one").await;
    one.behave(Manner::Echo);
    let node = node(&[&one], "").await;
    let long: Vec<u8> = (0..20_u32 << 20).map(|index| (index % 251) as u8).collect();
    let request = client().post(format!("http://{}/", address(&node))).body(long.clone());
    let echoed = request.send().await.unwrap().bytes().await.unwrap();
    assert!(echoed == long, "{} of {} bytes", echoed.len(), long.len());
    node.stop().await;
}

#[tokio::test]
async fn a_dead_backend_costs_no_client_an_error() {
    let (one, two) = (Backend::start("one").await, Backend::start("two").await);
    let node = node(&[&one, &two], "").await;
    let client = client();
    let url = format!("http://{}/", address(&node));
    for _ in 0..4 {
        shown(client.get(&url).send().await.unwrap()).await;
    }
    assert_eq!((one.requests(), two.requests()), (2, 2));
    one.kill().await;
    // More retries than the budget allows: those after a failed connect do not use it.
    for _ in 0..30 {
        for method in [Method::GET, Method::POST] {
            let response = client.request(method, &url).send().await.unwrap();
            assert_eq!(shown(response).await["backend"], "two");
        }
    }
    node.stop().await;
}

#[tokio::test]
async fn what_a_backend_may_have_done_is_not_done_again() {
    let (one, two) = (Backend::start("one").await, Backend::start("two").await);
    one.behave(Manner::Close);
    let node = node(&[&one, &two], "retry = { on = [\"connect\", \"reset\"] }").await;
    let client = client();
    let url = format!("http://{}/", address(&node));
    // Idempotent requests are sent again, to the other backend.
    for _ in 0..4 {
        let response = client.get(&url).send().await.unwrap();
        assert_eq!(shown(response).await["backend"], "two");
    }
    let (mut failed, before) = (0, two.requests());
    for _ in 0..4 {
        let response = client.post(&url).body("once").send().await.unwrap();
        failed += u64::from(response.status() == 502);
    }
    assert_eq!((failed, two.requests() - before), (2, 2));
    node.stop().await;
}

#[tokio::test]
async fn a_backend_that_hangs_is_given_up() {
    let one = Backend::start("one").await;
    one.behave(Manner::Hang);
    let node = node(&[&one], "timeout = { read = \"200ms\" }").await;
    let response = client().get(format!("http://{}/", address(&node))).send().await.unwrap();
    assert_eq!(response.status(), 504);
    assert_eq!(response.text().await.unwrap(), "the backend did not answer in time\n");
    node.stop().await;
}

#[tokio::test]
async fn an_unavailable_backend_is_passed_over_if_the_pool_says_so() {
    let (one, two) = (Backend::start("one").await, Backend::start("two").await);
    one.behave(Manner::Status(503));
    let node = node(&[&one, &two], "retry = { on = [\"503\"] }").await;
    let client = client();
    for _ in 0..6 {
        let response = client.get(format!("http://{}/", address(&node))).send().await.unwrap();
        assert_eq!(shown(response).await["backend"], "two");
    }
    two.behave(Manner::Status(503));
    let response = client.get(format!("http://{}/", address(&node))).send().await.unwrap();
    assert_eq!(response.status(), 503);
    assert!(response.text().await.unwrap().starts_with("503 of "), "it is the backend's own");
    node.stop().await;
}

#[tokio::test]
async fn routes_answer_redirect_and_forward() {
    let (one, two) = (Backend::start("one").await, Backend::start("two").await);
    let rest = format!(
        "[proxy]\nworkers = 1\n[proxy.listener.web]\nlisten = \"127.0.0.1:0\"\nroute = [\n\
         {{ path = \"/old/\", redirect = {{ status = 301, to = \"https://www.example.test/new/\" }} }},\n\
         {{ path = {{ exact = \"/robots.txt\" }}, respond = {{ status = 200, body = \"none\" }} }},\n\
         {{ host = \"two.example.test\", pool = \"two\" }},\n\
         {{ header = {{ \"x-canary\" = \"1\" }}, pool = \"two\" }},\n\
         {{ path = \"/v1\", pool = \"one\" }},\n]\n\
         [proxy.pool.one]\nbackend = [\"{}\"]\nprobe = []\n[proxy.pool.two]\nbackend = [\"{}\"]\nprobe = []\n",
        one.address, two.address
    );
    let node = TestNode::with(&rest).await;
    let client =
        reqwest::Client::builder().no_proxy().redirect(reqwest::redirect::Policy::none()).build().unwrap();
    let url = format!("http://{}", address(&node));
    let get = |path: &str| client.get(format!("{url}{path}"));

    let moved = get("/old/x").send().await.unwrap();
    assert_eq!(
        (moved.status().as_u16(), moved.headers()["location"].to_str().unwrap()),
        (301, "https://www.example.test/new/")
    );
    assert_eq!(get("/robots.txt").send().await.unwrap().text().await.unwrap(), "none");
    let response = get("/x").header("host", "TWO.example.test:80").send().await.unwrap();
    assert_eq!(shown(response).await["backend"], "two");
    let response = get("/v1/x").header("x-canary", "1").send().await.unwrap();
    assert_eq!(shown(response).await["backend"], "two");
    assert_eq!(shown(get("/v1/x").send().await.unwrap()).await["backend"], "one");
    let unmatched = get("/v10").send().await.unwrap();
    assert_eq!(unmatched.status(), 404);
    assert_eq!(unmatched.text().await.unwrap(), "no route matches this request\n");
    node.stop().await;
}

#[tokio::test]
async fn a_drained_backend_gets_no_more_requests() {
    let (one, two) = (Backend::start("one").await, Backend::start("two").await);
    let node = node(&[&one, &two], "").await;
    let target = format!("pool/api/{}", one.address);
    let id = node.api.override_with(json!({ "target": target, "action": "drain" })).await;
    let client = client();
    for _ in 0..6 {
        let response = client.get(format!("http://{}/", address(&node))).send().await.unwrap();
        assert_eq!(shown(response).await["backend"], "two");
    }
    let last = json!({ "target": format!("pool/api/{}", two.address), "action": "drain" });
    let (status, refused) = node.api.call(Method::POST, "/v1/overrides", Some(last)).await;
    assert_eq!(status, 409, "{refused}");
    node.api.restore(id).await;
    let before = one.requests();
    for _ in 0..6 {
        shown(client.get(format!("http://{}/", address(&node))).send().await.unwrap()).await;
    }
    assert_eq!(one.requests() - before, 3);
    node.stop().await;
}

#[tokio::test]
async fn probes_find_what_a_backend_cannot_serve() {
    let (one, two) = (Backend::start("one").await, Backend::start("two").await);
    let probe = "[probe.up]\nkind = \"http\"\ninterval = \"200ms\"\ntimeout = \"150ms\"\nfall = 1\nrise = 1\nhold = \"0s\"\n";
    let rest = config(&[one.address, two.address], "").replace("probe = []", "probe = [\"up\"]") + probe;
    let node = TestNode::with(&rest).await;
    one.behave(Manner::Status(500));
    let client = client();
    until("requests go to the other alone", async || {
        let status = node.api.get("/v1/status").await;
        let backend = &status["pools"][0]["backends"][0];
        (backend["verdict"] == "down" && backend["used"] == false).then_some(())
    })
    .await;
    for _ in 0..6 {
        let response = client.get(format!("http://{}/", address(&node))).send().await.unwrap();
        assert_eq!(shown(response).await["backend"], "two");
    }
    node.stop().await;
}

#[tokio::test]
async fn a_reload_changes_routes_and_no_connection() {
    let (one, two) = (Backend::start("one").await, Backend::start("two").await);
    let folder = Folder::new(&config(&[one.address], ""));
    let node = TestNode::start(folder).await;
    let url = format!("http://{}/", address(&node));
    let stopping = Arc::new(AtomicBool::new(false));
    let load = {
        let (url, stopping) = (url.clone(), Arc::clone(&stopping));
        tokio::spawn(async move {
            let (client, mut sent) = (client(), 0_u64);
            while !stopping.load(SeqCst) {
                shown(client.get(&url).send().await.unwrap()).await;
                sent += 1;
            }
            sent
        })
    };
    for round in 0..20 {
        let backends = if round % 2 == 0 { [two.address] } else { [one.address] };
        node.folder.configure(&config(&backends, ""));
        let (status, reloaded) = node.api.call(Method::POST, "/v1/reload", None).await;
        assert_eq!(status, 200, "{reloaded}");
        let expected = if round % 2 == 0 { "two" } else { "one" };
        let response = client().get(&url).send().await.unwrap();
        assert_eq!(shown(response).await["backend"], expected);
    }
    stopping.store(true, SeqCst);
    assert!(load.await.expect("no request fails") > 0);
    node.stop().await;
}

#[tokio::test]
async fn http_2_with_prior_knowledge_is_understood() {
    let one = Backend::start("one").await;
    let node = node(&[&one], "").await;
    let stream = TcpStream::connect(address(&node)).await.unwrap();
    let (sender, connection) =
        hyper::client::conn::http2::handshake(TokioExecutor::new(), TokioIo::new(stream)).await.unwrap();
    tokio::spawn(connection);
    let uri = format!("http://{}/h2", address(&node));
    let mut streams = tokio::task::JoinSet::new();
    for index in 0..40 {
        let request = hyper::Request::post(&uri).body(Full::<Bytes>::from(format!("body {index}"))).unwrap();
        let mut sender = sender.clone();
        streams.spawn(async move {
            let response = sender.send_request(request).await.unwrap();
            let body = response.into_body().collect().await.unwrap().to_bytes();
            let seen: serde_json::Value = serde_json::from_slice(&body).unwrap();
            assert_eq!(seen["body"], format!("body {index}"));
            assert_eq!(header(&seen, "via"), ["2 portolan"]);
            assert_eq!(header(&seen, "host").len(), 1);
        });
    }
    while let Some(done) = streams.join_next().await {
        done.unwrap();
    }
    node.stop().await;
}

#[tokio::test]
async fn connections_can_change_their_protocol() {
    let one = Backend::start("one").await;
    let node = node(&[&one], "").await;
    let mut stream = TcpStream::connect(address(&node)).await.unwrap();
    let request = "GET /chat HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: echo\r\n\r\n";
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(stream.read_u8().await.unwrap());
    }
    let head = String::from_utf8(head).unwrap().to_lowercase();
    assert!(head.starts_with("http/1.1 101 ") && head.contains("upgrade: echo"), "{head}");
    stream.write_all(b"hello").await.unwrap();
    stream.shutdown().await.unwrap();
    let mut echoed = String::new();
    stream.read_to_string(&mut echoed).await.unwrap();
    assert_eq!(echoed, "hello");
    node.stop().await;
}

#[tokio::test]
async fn a_response_without_a_body_has_none() {
    let one = Backend::start("one").await;
    let node = node(&[&one], "").await;
    let head = raw(address(&node), b"HEAD / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n").await;
    assert!(head.starts_with("HTTP/1.1 200 ") && head.ends_with("\r\n\r\n"), "{head}");
    assert!(head.to_lowercase().contains("content-length: "), "the length that GET would have: {head}");
    one.behave(Manner::Status(204));
    let empty = raw(address(&node), b"GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n").await;
    assert!(empty.starts_with("HTTP/1.1 204 ") && empty.ends_with("\r\n\r\n"), "{empty}");
    node.stop().await;
}

#[tokio::test]
async fn a_client_is_asked_for_its_body_once_it_is_wanted() {
    let one = Backend::start("one").await;
    let node = node(&[&one], "").await;
    let mut stream = TcpStream::connect(address(&node)).await.unwrap();
    let head = "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 4\r\nExpect: 100-continue\r\nConnection: close\r\n\r\n";
    stream.write_all(head.as_bytes()).await.unwrap();
    let mut go_on = [0; 25];
    stream.read_exact(&mut go_on).await.unwrap();
    assert_eq!(String::from_utf8_lossy(&go_on), "HTTP/1.1 100 Continue\r\n\r\n");
    stream.write_all(b"body").await.unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    assert!(answer.contains("\"body\":\"body\"") && !answer.contains("\"expect\""), "{answer}");
    node.stop().await;
}

#[tokio::test]
async fn a_stop_lets_requests_end() {
    let one = Backend::start("one").await;
    one.behave(Manner::Hang);
    let node = node(&[&one], "").await;
    let url = format!("http://{}/", address(&node));
    let request = tokio::spawn(async move { client().get(url).send().await.map(|it| it.status().as_u16()) });
    until("the request is with the backend", async || (one.requests() == 1).then_some(())).await;
    let at = address(&node);
    let stopping = tokio::spawn(node.stop());
    until("no new connections are taken", async || TcpStream::connect(at).await.is_err().then_some(())).await;
    drop(one);
    assert_eq!(request.await.unwrap().unwrap(), 502, "its own response, not a closed connection");
    stopping.await.unwrap();
}

#[tokio::test]
async fn empty_requests_of_http_1_0_are_answered() {
    let one = Backend::start("one").await;
    let node = node(&[&one], "").await;
    let answer = raw(address(&node), b"GET /old HTTP/1.0\r\n\r\n").await;
    assert!(answer.contains("\"target\":\"/old\"") && answer.contains("1.0 portolan"), "{answer}");
    node.stop().await;
}

#[tokio::test]
async fn a_node_that_locates_nobody_loads_no_geo_database() {
    let one = Backend::start("one").await;
    let folder = Folder::new("");
    let alone = "version = 1\n[control]\nlisten = false\nsocket = \"control.sock\"\n".to_owned();
    folder.write("portolan.toml", alone + &config(&[one.address], ""));
    let prepared = portolan::prepare::prepare(&portolan::prepare::Origin::File(folder.config()));
    let plan = prepared.unwrap_or_else(|why| panic!("{why}")).plan;
    assert!(plan.geo.memory_bytes() < 1 << 20, "{} bytes", plan.geo.memory_bytes());
}

#[tokio::test]
async fn listeners_that_a_reload_changes_need_a_restart() {
    let one = Backend::start("one").await;
    let node = node(&[&one], "").await;
    node.folder.reconfigure("[proxy.listener.web]", "[proxy.listener.other]");
    let (status, reply) = node.api.call(Method::POST, "/v1/reload", None).await;
    let expected = "[proxy.listener] listen has changed, but is read only at the start: restart the node";
    let warnings = reply["warnings"].as_array().expect("a list");
    assert!(warnings.contains(&json!(expected)), "{status} {reply}");
    node.stop().await;
}
