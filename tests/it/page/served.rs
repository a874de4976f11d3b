//! What the server says about the files of the page.

use portolan::node::demo::Demo;
use reqwest::Method;
use reqwest::header::HeaderMap;
use serde_json::json;

use crate::harness::folder::{Folder, tokens};
use crate::harness::http::{Api, raw};
use crate::harness::me;
use crate::harness::node::TestNode;

const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src 'self'; \
                      frame-ancestors 'none'; base-uri 'none'; form-action 'none'";

fn header<'a>(headers: &'a HeaderMap, name: &str) -> &'a str {
    headers.get(name).unwrap_or_else(|| panic!("no {name} in {headers:?}")).to_str().expect("text")
}

/// The paths that the page loads, such as "/page/0123456789abcdef/main.js".
fn files(index: &str) -> Vec<String> {
    let links = index.split('"').filter(|it| it.starts_with("page/"));
    links.map(|it| format!("/{it}")).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn browsers_are_told_what_to_allow_and_what_to_keep() {
    let node = TestNode::with("").await;
    for api in [Api::tcp(node.control()), node.api.clone()] {
        let index = api.text("/").await;
        let files = files(&index);
        assert!(files.len() > 5 && !index.contains('@'), "{index}");
        for path in files.iter().map(String::as_str).chain(["/"]) {
            let response = api.request(Method::GET, path).send().await.expect("an answer");
            assert_eq!(response.status(), 200, "{path}");
            let headers = response.headers().clone();
            for (name, expected) in [
                ("content-security-policy", POLICY),
                ("x-content-type-options", "nosniff"),
                ("x-frame-options", "DENY"),
                ("referrer-policy", "no-referrer"),
                ("cross-origin-resource-policy", "same-origin"),
            ] {
                assert_eq!(header(&headers, name), expected, "{path}");
            }
            let kept = if path == "/" { "no-cache" } else { "public, max-age=31536000, immutable" };
            assert_eq!(header(&headers, "cache-control"), kept, "{path}");
            let types = match path.rsplit_once('.').map_or("html", |(_, extension)| extension) {
                "js" => "text/javascript; charset=utf-8",
                "css" => "text/css; charset=utf-8",
                "svg" => "image/svg+xml",
                _ => "text/html; charset=utf-8",
            };
            assert_eq!(header(&headers, "content-type"), types, "{path}");
            let again = api.request(Method::GET, path).header("if-none-match", header(&headers, "etag"));
            let again = again.send().await.expect("an answer");
            assert_eq!(again.status(), 304, "{path}");
            assert_eq!(again.bytes().await.expect("no body").len(), 0, "{path}");
            let head = api.request(Method::HEAD, path).send().await.expect("an answer");
            assert_eq!(
                (head.status().as_u16(), header(head.headers(), "content-type")),
                (200, types),
                "{path}"
            );
        }
        let old = files[0].replacen("/page/", "/page/0", 1);
        for path in [old.as_str(), "/page/", "/page/0/main.js", "/index.html"] {
            let status = api.request(Method::GET, path).send().await.expect("an answer").status();
            assert_eq!(status, 404, "{path}");
        }
        let (status, problem) = api.call(Method::POST, "/", Some(json!({}))).await;
        assert_eq!(status, 405, "{problem}");
    }
    node.stop().await;
}

/// So that a token can be typed; what the page shows is still refused without one.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_page_needs_no_token_but_its_data_does() {
    let folder = Folder::new("");
    let tokens = tokens(&[("ops", "operator"), ("eyes", "viewer")]);
    folder.reconfigure("socket = \"control.sock\"\n", &format!("read = \"token\"\n{tokens}"));
    let node = TestNode::start(folder).await;
    let api = Api::tcp(node.control());
    for path in [String::from("/")].iter().chain(&files(&api.text("/").await)) {
        let response = api.request(Method::GET, path).send().await.expect("an answer");
        assert_eq!(response.status(), 200, "{path}");
    }
    for path in ["/v1/status", "/v1/whoami", "/page", "//"] {
        let response = api.request(Method::GET, path).send().await.expect("an answer");
        assert_eq!(response.status(), 401, "{path}");
    }
    for (name, role) in [("ops", "operator"), ("eyes", "viewer")] {
        let known = api.with_token(&format!("secret of {name}")).get("/v1/whoami").await;
        assert_eq!(known, json!({"by": format!("token {name}"), "role": role}));
    }
    assert_eq!(node.api.get("/v1/whoami").await, json!({"by": me(), "role": "admin"}));
    // Paths are taken as they are, so this is a path of the page that it does not have.
    let request = "GET /page/../v1/status HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n";
    let reply = raw(node.control(), request).await;
    assert!(reply.starts_with("HTTP/1.1 404 "), "{reply}");
    let elsewhere =
        raw(node.control(), "GET / HTTP/1.1\r\nHost: evil.example\r\nConnection: close\r\n\r\n").await;
    assert!(elsewhere.starts_with("HTTP/1.1 421 "), "{elsewhere}");
    node.stop().await;
}

/// A browser comes there by a port that `ssh -L` forwards, and shows pages of others as well.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn only_pages_of_the_node_change_anything_by_the_socket() {
    let node = TestNode::with("").await;
    for (host, origin, expected) in [
        ("localhost", None, 200),
        ("anything", None, 200),
        ("localhost:8053", Some("http://localhost:8053"), 200),
        ("127.0.0.1:8053", Some("http://127.0.0.1:8053"), 200),
        ("localhost:8053", Some("http://evil.example"), 403),
        ("localhost:8053", Some("null"), 403),
        ("evil.example:8053", Some("http://evil.example:8053"), 421),
    ] {
        let request = node.api.request(Method::POST, "/v1/reload").header("host", host);
        let request = origin.into_iter().fold(request, |request, origin| request.header("origin", origin));
        let status = request.send().await.expect("an answer").status();
        assert_eq!(status, expected, "{host} {origin:?}");
    }
    node.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn whoever_has_no_token_is_a_reader() {
    let demo = Demo::start().await.expect("a demo");
    let api = Api::tcp(demo.node.control_address.expect("it has one"));
    assert_eq!(api.get("/v1/whoami").await, json!({"by": "a reader", "role": "viewer"}));
    let known = api.with_token(&demo.token).get("/v1/whoami").await;
    assert_eq!(known, json!({"by": "token demo", "role": "admin"}));
    demo.stop().await;
}
