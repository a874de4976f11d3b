//! What a node shows to ACME servers.

use std::time::Duration;

use hickory_proto::op::ResponseCode;
use hickory_proto::rr::RecordType;
use portolan::engine::ShowChallenge;
use portolan::model::{Proof, Token};
use reqwest::Method;
use serde_json::{Value, json};

use crate::harness::binary::{Served, portolan_at};
use crate::harness::client::{Client, typed};
use crate::harness::folder::{Folder, tokens};
use crate::harness::node::TestNode;
use crate::harness::{me, until};
use crate::proxy::raw;

const ZONE: &str = "\
$TTL 300
@ SOA ns hostmaster 7 3600 600 86400 60
@ NS ns
ns A 192.0.2.53
www A 192.0.2.1
*.wild TXT \"any\"
_acme-challenge.both TXT \"of the zone\"
_acme-challenge.alias CNAME elsewhere.test.
below NS ns.elsewhere.test.
moved DNAME elsewhere.test.
";

async fn node() -> TestNode {
    let folder = Folder::new("[proxy]\n");
    folder.write("example.test.zone", ZONE);
    TestNode::start(folder).await
}

/// The code of an answer, and its records with their TTLs.
async fn answer(client: &mut Client, name: &str, rtype: RecordType) -> (ResponseCode, Vec<String>) {
    let reply = client.exchange(&typed(name, rtype, None)).await;
    let records = reply.answers.iter().map(|record| format!("{} {}", record.ttl, record.data));
    (reply.metadata.response_code, records.collect())
}

async fn post(node: &TestNode, body: Value) -> (u16, Value) {
    node.api.call(Method::POST, "/v1/acme", Some(body)).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_dns_challenge_is_answered_beside_what_the_zone_has() {
    let node = node().await;
    let mut client = node.client().await;
    let owner = "_acme-challenge.www.example.test.";
    assert_eq!(answer(&mut client, owner, RecordType::TXT).await, (ResponseCode::NXDomain, vec![]));

    for (name, token) in [
        ("www.example.test", "one"),
        ("*.WWW.example.test.", "two"),
        ("both.example.test", "three"),
        ("a.b.new.example.test", "four"),
        ("x.wild.example.test", "five"),
    ] {
        let (status, shown) = post(&node, json!({ "name": name, "token": token })).await;
        assert_eq!((status, &shown["value"]), (200, &token.into()), "{shown}");
    }
    let fine = |records: &[&str]| (ResponseCode::NoError, records.iter().map(|it| (*it).into()).collect());
    for (name, rtype, expected) in [
        (owner, RecordType::TXT, fine(&["5 one", "5 two"])),
        ("_ACME-challenge.WWW.example.test.", RecordType::TXT, fine(&["5 one", "5 two"])),
        (owner, RecordType::A, fine(&[])),
        ("_acme-challenge.both.example.test.", RecordType::TXT, fine(&["5 three", "5 of the zone"])),
        // Names above it exist, or resolvers would take it for missing, too (RFC 8020).
        ("_acme-challenge.a.b.new.example.test.", RecordType::TXT, fine(&["5 four"])),
        ("b.new.example.test.", RecordType::A, fine(&[])),
        ("new.example.test.", RecordType::TXT, fine(&[])),
        ("other.new.example.test.", RecordType::TXT, (ResponseCode::NXDomain, vec![])),
        ("_acme-challenge.x.wild.example.test.", RecordType::TXT, fine(&["5 five"])),
        ("y.wild.example.test.", RecordType::TXT, fine(&["300 any"])),
        ("www.example.test.", RecordType::A, fine(&["300 192.0.2.1"])),
    ] {
        assert_eq!(answer(&mut client, name, rtype).await, expected, "{name} {rtype}");
    }
    let status = node.api.get("/v1/status").await;
    assert_eq!(status["challenges"].as_array().map(Vec::len), Some(5), "{status}");
    assert_eq!(status["challenges"][0]["by"], me());

    let node = node.restart().await;
    let mut client = node.client().await;
    assert_eq!(answer(&mut client, owner, RecordType::TXT).await.0, ResponseCode::NXDomain);
    node.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_challenge_ends_by_itself() {
    let node = node().await;
    let mut client = node.client().await;
    post(&node, json!({ "name": "www.example.test", "token": "short", "for": "1s" })).await;
    until("it is gone", async || {
        let answer = answer(&mut client, "_acme-challenge.www.example.test.", RecordType::TXT).await;
        (answer.0 == ResponseCode::NXDomain).then_some(())
    })
    .await;
    assert_eq!(node.api.get("/v1/status").await.get("challenges"), None);
    node.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn challenges_that_nobody_would_find_are_refused() {
    let node = node().await;
    for (body, status, expected) in [
        (json!({ "name": "www.other.test", "token": "x" }), 404, "no zone of this node contains"),
        (json!({ "name": "a.below.example.test", "token": "x" }), 404, "delegates"),
        (json!({ "name": "a.moved.example.test", "token": "x" }), 404, "a DNAME"),
        (json!({ "name": "alias.example.test", "token": "x" }), 404, "is an alias"),
        (json!({ "name": "a..b", "token": "x" }), 400, "is not a valid domain name"),
        (json!({ "name": "www.example.test", "token": "a b" }), 400, "base64url"),
        (json!({ "name": "www.example.test", "token": "" }), 400, "base64url"),
        (json!({ "name": "www.example.test", "token": "x", "for": "25h" }), 400, "1s to 24h"),
        (json!({ "name": "www.example.test", "token": "x", "for": "0s" }), 400, "1s to 24h"),
        (json!({ "name": "www.example.test", "token": "x", "until": "x" }), 400, "until"),
        (json!({ "name": "www.example.test" }), 400, "token"),
    ] {
        let (got, problem) = post(&node, body.clone()).await;
        let detail = problem["detail"].as_str().unwrap_or_default();
        assert!(got == status && detail.contains(expected), "{body}: {got} {problem}");
    }
    assert_eq!(node.api.get("/v1/status").await.get("challenges"), None);
    node.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn only_operators_set_challenges_over_tcp() {
    let folder = Folder::new("");
    folder.reconfigure("socket = \"control.sock\"\n", &tokens(&[("vera", "viewer"), ("olga", "operator")]));
    let node = TestNode::start(folder).await;
    let over_tcp = crate::harness::http::Api::tcp(node.control());
    for (token, expected) in [(None, 401), (Some("vera"), 403), (Some("olga"), 200)] {
        let api =
            token.map_or_else(|| over_tcp.clone(), |name| over_tcp.with_token(&format!("secret of {name}")));
        let body = json!({ "name": "www.example.test", "token": "x" });
        assert_eq!(api.call(Method::POST, "/v1/acme", Some(body)).await.0, expected, "{token:?}");
    }
    node.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_command_line_sets_one() {
    let mut served = Served::start(Folder::new("")).await;
    let done = portolan_at(
        &served.folder,
        &["acme", "set", "static.example.test", "-LoqXcYV8q5ONbJQxbmR7SCTNo3tiAXDfowyjxAjEu", "--for", "5m"],
    );
    assert_eq!(done.code, Some(0), "{done:?}");
    let expected =
        "_acme-challenge.static.example.test. TXT \"-LoqXcYV8q5ONbJQxbmR7SCTNo3tiAXDfowyjxAjEu\" until 20";
    assert!(done.stdout.starts_with(expected), "{done:?}");
    let mut client = served.client().await;
    let shown = answer(&mut client, "_acme-challenge.static.example.test.", RecordType::TXT).await;
    assert_eq!(shown.1, ["5 -LoqXcYV8q5ONbJQxbmR7SCTNo3tiAXDfowyjxAjEu"]);
    let status = portolan_at(&served.folder, &["status"]).stdout;
    assert!(status.contains("CHALLENGE"), "{status}");

    let refused = portolan_at(&served.folder, &["acme", "set", "www.other.test", "x"]);
    assert_eq!(refused.code, Some(1), "{refused:?}");
    assert!(refused.stderr.contains("no zone of this node contains _acme-challenge.www.other.test."));
    served.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn only_the_exact_path_of_an_http_challenge_is_answered_before_routing() {
    let node = TestNode::with(
        "[proxy]\nworkers = 1\n[proxy.listener.web]\nlisten = \"127.0.0.1:0\"\n\
         client = { requests_per_second = 1 }\nroute = [{ respond = { status = 404, body = \"routed\" } }]\n",
    )
    .await;
    let proof = Proof::Http { token: Token::parse("abc_-1").expect("a token"), body: "abc_-1.thumb".into() };
    let request = ShowChallenge { proof: proof.clone(), by: "test".into(), lasts: Duration::from_secs(60) };
    node.node.engine.show_challenge(request).await.expect("an answer").expect("shown");
    let web = node.node.proxy_addresses[0].1;
    // The second goes the general way.
    for header in ["", "TE: trailers\r\n"] {
        let ask = async |method: &str, path: &str| {
            let head =
                format!("{method} {path} HTTP/1.1\r\nHost: any.test\r\n{header}Connection: close\r\n\r\n");
            raw(web, head.as_bytes()).await.to_ascii_lowercase()
        };
        for _ in 0..3 {
            // Not limited, either.
            let answer = ask("GET", "/.well-known/acme-challenge/abc_-1").await;
            assert!(answer.starts_with("http/1.1 200 ok\r\n"), "{answer}");
            assert!(answer.contains("content-type: application/octet-stream\r\n"), "{answer}");
            assert!(answer.ends_with("\r\n\r\nabc_-1.thumb"), "{answer}");
        }
        let head = ask("HEAD", "/.well-known/acme-challenge/abc_-1?x=y").await;
        assert!(head.starts_with("http/1.1 200 ok\r\n") && head.ends_with("\r\n\r\n"), "{head}");
        for (method, path) in [
            ("POST", "/.well-known/acme-challenge/abc_-1"),
            ("GET", "/.well-known/acme-challenge/abc_-12"),
            ("GET", "/.well-known/acme-challenge/"),
        ] {
            let answer = ask(method, path).await;
            let is_routed = answer.ends_with("routed") || answer.starts_with("http/1.1 429");
            assert!(is_routed, "{method} {path}: {answer}");
        }
    }
    node.node.engine.hide_challenge(proof).await.expect("an answer");
    let gone =
        raw(web, b"GET /.well-known/acme-challenge/abc_-1 HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n");
    assert!(!gone.await.contains("thumb"));
    node.stop().await;
}
