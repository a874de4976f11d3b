//! What routes change of requests and responses.

use reqwest::redirect::Policy;
use serde_json::{Value, json};

use super::backend::{Backend, Manner};
use super::{address, client, header, raw, shown};
use crate::harness::node::TestNode;

/// A node with these routes and the pool `api` of one backend.
async fn node(backend: &Backend, routes: &str) -> TestNode {
    TestNode::with(&format!(
        "[proxy]\nworkers = 1\n[proxy.listener.web]\nlisten = \"127.0.0.1:0\"\nroute = [\n{routes}\n]\n\
         [proxy.pool.api]\nbackend = [\"{}\"]\nprobe = []\n",
        backend.address
    ))
    .await
}

#[tokio::test]
async fn paths_and_hosts_are_rewritten() {
    let one = Backend::start("one").await;
    let node = node(
        &one,
        "{ path = \"/v1/\", rewrite = { prefix = \"/\", host = \"api.internal:81\" }, pool = \"api\" },\n\
         { path = \"/files\", rewrite = { regex = \"^/files/([^/]+)/([^/]+)\", to = \"/${2}of$1\" }, pool = \"api\" },\n\
         { pool = \"api\" },",
    )
    .await;
    let client = client();
    for (asked, expected, host) in [
        ("/v1/users/%7ea?b=%20c", "/users/~a?b=%20c", "api.internal:81"),
        ("/v1/", "/", "api.internal:81"),
        ("/files/a/b/c?", "/bofa/c?", ""),
        ("/files", "/files", ""),
        ("/files/%2E%2e/v1/x/../y", "/y", "api.internal:81"),
        ("/other/../%61", "/a", ""),
    ] {
        // Written by hand, because clients normalize.
        let request = format!("GET {asked} HTTP/1.1\r\nHost: www.test\r\nConnection: close\r\n\r\n");
        let answer = raw(address(&node), request.as_bytes()).await;
        let seen: Value = serde_json::from_str(answer.split_once("\r\n\r\n").unwrap().1).expect(&answer);
        // A route that rewrites nothing leaves the path as it was sent.
        let expected = if asked.starts_with("/other") { asked } else { expected };
        assert_eq!(seen["target"], expected, "{asked}");
        let host = if host.is_empty() { "www.test" } else { host };
        assert_eq!(header(&seen, "host"), [host], "{asked}");
        assert_eq!(header(&seen, "x-forwarded-host"), ["www.test"], "{asked}");
    }
    let seen = shown(client.get(format!("http://{}/v1/x", address(&node))).send().await.unwrap()).await;
    assert_eq!(seen["target"], "/x");

    let url = format!("/v1/explain?url=http://www.test:{}/v1/a?b=c&client=192.0.2.1", address(&node).port());
    let explained = node.api.get(&url).await;
    let edits =
        json!({ "path": "/a?b=c", "host": "api.internal:81", "request_headers": [], "response_headers": [] });
    assert_eq!(explained["route"]["edits"], edits, "{explained}");
    node.stop().await;
}

#[tokio::test]
async fn headers_are_edited() {
    let one = Backend::start("one").await;
    let edits = "headers = { request = { remove = \"cookie\", set = { x-a = \"1\" }, add = { x-b = \"2\" } }, \
                 response = { remove = [\"x-backend\"], set = { content-type = \"text/x\" }, add = { x-c = \"3\" } } }";
    let node = node(
        &one,
        &format!(
            "{{ path = \"/own\", respond = {{ status = 204 }}, {edits} }},\n\
             {{ path = \"/gone\", redirect = {{ to = \"/\" }}, {edits} }},\n{{ pool = \"api\", {edits} }},"
        ),
    )
    .await;
    let client = reqwest::Client::builder().no_proxy().redirect(Policy::none()).build().unwrap();
    let get = async |path: &str| {
        let request = client.get(format!("http://{}{path}", address(&node)));
        request.header("x-a", "0").header("x-b", "0").header("cookie", "c").send().await.unwrap()
    };
    let response = get("/").await;
    let headers = response.headers().clone();
    assert_eq!(
        (headers.get("x-backend"), &headers["x-c"], &headers["content-type"]),
        (None, &"3".parse().unwrap(), &"text/x".parse().unwrap())
    );
    let seen = shown(response).await;
    for (name, expected) in [("x-a", &["1"][..]), ("x-b", &["0", "2"]), ("cookie", &[])] {
        assert_eq!(header(&seen, name), expected, "{name}");
    }
    // The proxy's own responses, too.
    one.behave(Manner::Close);
    for (path, status) in [("/own", 204), ("/gone", 308), ("/", 502)] {
        let response = get(path).await;
        assert_eq!(
            (response.status().as_u16(), &response.headers()["x-c"]),
            (status, &"3".parse().unwrap()),
            "{path}"
        );
    }
    let url = format!("/v1/explain?url=http://www.test:{}/&client=192.0.2.1", address(&node).port());
    let edits = node.api.get(&url).await["route"]["edits"].clone();
    assert_eq!(edits["request_headers"], json!(["remove cookie", "set x-a: 1", "add x-b: 2"]));
    assert_eq!(
        edits["response_headers"],
        json!(["remove x-backend", "set content-type: text/x", "add x-c: 3"])
    );
    node.stop().await;
}

#[tokio::test]
async fn headers_are_removed_then_set_then_added() {
    let one = Backend::start("one").await;
    let edits = "headers = { request = { remove = [\"x-a\", \"x-b\"], set = { x-b = \"1\", x-c = \"1\" }, add = { x-a = \"2\", x-b = \"2\", x-c = \"2\" } } }";
    let node = node(&one, &format!("{{ pool = \"api\", {edits} }}")).await;
    let request = client().get(format!("http://{}/", address(&node)));
    let seen =
        shown(request.header("x-a", "0").header("x-b", "0").header("x-c", "0").send().await.unwrap()).await;
    for (name, expected) in [("x-a", &["2"][..]), ("x-b", &["1", "2"]), ("x-c", &["1", "2"])] {
        assert_eq!(header(&seen, name), expected, "{name}");
    }
    node.stop().await;
}

#[tokio::test]
async fn redirects_keep_what_they_should() {
    let one = Backend::start("one").await;
    let node = node(
        &one,
        "{ path = \"/old/\", rewrite = { prefix = \"/new/\" }, redirect = { status = 302, to = \"https://www.test{uri}\" } },\n\
         { path = \"/same\", redirect = { to = \"{uri}\" } },\n\
         { method = \"POST\", redirect = { scheme = \"https\", host = \"b.test\", port = 8443 } },\n\
         { redirect = { scheme = \"https\" } },\n{ path = \"/never\", pool = \"api\" },",
    )
    .await;
    for (request, location) in [
        ("GET /old/x?y=%20z", "https://www.test/new/x?y=%20z"),
        ("GET //same", "https://a.test//same"),
        ("GET /x/..//b.test/../../same", "/same"),
        ("GET /a/./b?c", "https://a.test/a/./b?c"),
        ("POST /a?b", "https://b.test:8443/a?b"),
    ] {
        let whole = format!(
            "{request} HTTP/1.1\r\nHost: a.test:8080\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"
        );
        let answer = raw(address(&node), whole.as_bytes()).await;
        let found = answer.lines().find_map(|line| line.strip_prefix("location: "));
        assert!(found == Some(location) || request.contains(".."), "{request}: {answer}");
        assert!(!found.unwrap_or_default().starts_with("//"), "{request}: {answer}");
    }
    node.stop().await;
}
