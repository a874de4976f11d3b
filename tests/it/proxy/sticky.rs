//! Clients that stay with a backend by a cookie.

use std::net::SocketAddr;

use reqwest::Method;
use serde_json::Value;

use super::backend::{Backend, Manner};
use super::{address, client, config, drain, header, reload, shown};
use crate::harness::folder::Folder;
use crate::harness::node::TestNode;
use crate::harness::until;

const SECRET: &str = "e5e973e5a6b2a43f48e7dc849e37bfcfe5e973e5a6b2a43f48e7dc849e37bfcf";
const OTHER: &str = "445536bcd2513298075a5d379663c962445536bcd2513298075a5d379663c962";

const STICKY: &str =
    "sticky = { secret_file = \"sticky.secret\" }\nretry = { tries = 3, on = [\"connect\", \"reset\"] }";

fn folder(backends: &[&Backend], pool: &str) -> Folder {
    let addresses: Vec<SocketAddr> = backends.iter().map(|it| it.address).collect();
    let folder = Folder::new(&config(&addresses, pool));
    folder.write_secret("sticky.secret", SECRET);
    folder
}

/// Sends a request with these cookies; returns what the backend saw and the cookie that was set.
async fn send(node: &TestNode, cookies: &str) -> (Value, Option<String>) {
    let mut request = client().get(format!("http://{}/", address(node)));
    if !cookies.is_empty() {
        request = request.header("cookie", cookies);
    }
    let response = request.send().await.unwrap();
    let set = set_cookie(&response);
    (shown(response).await, set)
}

fn set_cookie(response: &reqwest::Response) -> Option<String> {
    let mut fields = response.headers().get_all("set-cookie").iter();
    let field = fields.next()?.to_str().unwrap().split(';').next().unwrap().to_owned();
    assert!(fields.next().is_none(), "one cookie at most");
    Some(field)
}

/// What explain says about the cookies of a request, and the backend that it gets.
async fn explained(node: &TestNode, cookies: &str) -> (bool, String, Option<String>) {
    let query = [
        ("url", "http://a/"),
        ("client", "127.0.0.1"),
        ("listener", "web"),
        ("header", &format!("cookie: {cookies}")),
    ];
    let response = node.api.request(Method::GET, "/v1/explain").query(&query).send().await.unwrap();
    let explained: Value = response.json().await.unwrap();
    let pool = &explained["outcome"]["pool"];
    let sticky = &pool["sticky"];
    let chosen = pool["chosen"]["address"].as_str().map(str::to_owned);
    (sticky["valid"].as_bool().unwrap(), sticky["note"].as_str().unwrap().to_owned(), chosen)
}

#[tokio::test]
async fn a_client_stays_until_its_backend_is_drained() {
    let (one, two) = (Backend::start("one").await, Backend::start("two").await);
    let node = TestNode::start(folder(&[&one, &two], STICKY)).await;
    let (first, cookie) = send(&node, "").await;
    let cookie = cookie.expect("a client without a cookie gets one");
    let name = first["backend"].as_str().unwrap();
    let (own, other) = if name == "one" { (&one, &two) } else { (&two, &one) };
    for _ in 0..10 {
        let (seen, set) = send(&node, &format!("a=b; {cookie}; c=d")).await;
        assert_eq!((seen["backend"].as_str(), set), (Some(name), None));
        assert_eq!(header(&seen, "cookie"), ["a=b; c=d"]);
        // Clients without a cookie still take turns.
        send(&node, "").await;
    }
    let (seen, _) = send(&node, &cookie).await;
    assert!(header(&seen, "cookie").is_empty());
    let (valid, note, chosen) = explained(&node, &cookie).await;
    assert_eq!(
        (valid, note, chosen),
        (true, format!("it names {}", own.address), Some(own.address.to_string()))
    );
    drain(&node, own).await;
    let note = format!("it names {}, which is not in use: the response sets another", own.address);
    assert_eq!(explained(&node, &cookie).await, (true, note, Some(other.address.to_string())));
    let (seen, set) = send(&node, &cookie).await;
    assert_ne!(seen["backend"].as_str(), Some(name));
    let (seen, again) = send(&node, &set.expect("a new cookie")).await;
    assert_eq!((seen["backend"].as_str() != Some(name), again), (true, None));
    assert_eq!(node.api.metric("portolan_proxy_sticky_kept_total{pool=\"api\"}").await, Some(12.0));
    assert_eq!(node.api.metric("portolan_proxy_sticky_moved_total{pool=\"api\"}").await, Some(1.0));
    node.stop().await;
}

#[tokio::test]
async fn a_failed_attempt_binds_the_client_to_the_next_backend() {
    let (one, two) = (Backend::start("one").await, Backend::start("two").await);
    let node = TestNode::start(folder(&[&one, &two], STICKY)).await;
    let (first, cookie) = send(&node, "").await;
    let cookie = cookie.unwrap();
    let (own, other) = if first["backend"] == "one" { (&one, &two) } else { (&two, &one) };
    own.behave(Manner::Close);
    let (seen, set) = send(&node, &cookie).await;
    let moved = set.expect("another backend answered");
    assert_ne!(seen["backend"], first["backend"]);
    // The old cookie still names a backend that is in use.
    own.behave(Manner::Show);
    assert_eq!(send(&node, &cookie).await.0["backend"], first["backend"]);
    assert_eq!(send(&node, &moved).await.0["backend"], seen["backend"]);
    // A backend that says that it cannot serve gets nobody bound to it.
    own.behave(Manner::Status(503));
    other.behave(Manner::Status(503));
    let response = client().get(format!("http://{}/", address(&node))).send().await.unwrap();
    assert_eq!((response.status().as_u16(), set_cookie(&response)), (503, None));
    node.stop().await;
}

#[tokio::test]
async fn cookies_outlive_a_restart_and_secrets_are_rotated_by_a_reload() {
    let (one, two) = (Backend::start("one").await, Backend::start("two").await);
    let node = TestNode::start(folder(&[&one, &two], STICKY)).await;
    let (first, cookie) = send(&node, "").await;
    let cookie = cookie.unwrap();
    let node = node.restart().await;
    for _ in 0..3 {
        let (seen, set) = send(&node, &cookie).await;
        assert_eq!((&seen["backend"], set), (&first["backend"], None));
    }
    node.folder.write_secret("sticky.secret", format!("{OTHER}\n{SECRET}\n"));
    reload(&node).await;
    let mut renewed = String::new();
    // Not by chance: without the cookie they would take turns.
    for _ in 0..3 {
        let (seen, set) = send(&node, &cookie).await;
        assert_eq!(seen["backend"], first["backend"]);
        renewed = set.expect("signed with the new secret");
    }
    node.folder.write_secret("sticky.secret", OTHER);
    reload(&node).await;
    let (seen, set) = send(&node, &renewed).await;
    assert_eq!((&seen["backend"], set), (&first["backend"], None));
    let (valid, note, _) = explained(&node, &cookie).await;
    assert_eq!(
        (valid, &*note),
        (false, "it was signed with another secret or for another pool: the response sets one")
    );
    node.stop().await;
}

#[tokio::test]
async fn a_backend_that_is_full_gets_not_even_its_own_clients() {
    let (one, two) = (Backend::start("one").await, Backend::start("two").await);
    let node =
        TestNode::start(folder(&[&one, &two], &format!("{STICKY}\nlimits = {{ requests = 1 }}"))).await;
    let (first, cookie) = send(&node, "").await;
    let cookie = cookie.unwrap();
    let own = if first["backend"] == "one" { &one } else { &two };
    own.behave(Manner::Hang);
    let before = own.requests();
    let request = client().get(format!("http://{}/", address(&node))).header("cookie", &cookie);
    let hanging = tokio::spawn(request.send());
    until("it is full", async || (own.requests() > before).then_some(())).await;
    let (seen, set) = send(&node, &cookie).await;
    assert_ne!(seen["backend"], first["backend"]);
    assert!(set.is_some(), "the other backend has the client now");
    hanging.abort();
    node.stop().await;
}

#[tokio::test]
async fn forged_doubled_and_oversized_cookies_are_ignored_and_removed() {
    let (one, two) = (Backend::start("one").await, Backend::start("two").await);
    let node = TestNode::start(folder(&[&one, &two], STICKY)).await;
    let cookie = send(&node, "").await.1.unwrap();
    let forged = cookie.replace(['0', '1', '2', '3'], "4");
    let large = format!("portolan-api={}", "0".repeat(8000));
    for bad in [&forged, &large, &format!("{cookie}; {cookie}"), "portolan-api=", "portolan-api=\u{e9}"] {
        let (seen, set) = send(&node, &format!("{bad}; portolan-web={}", "1".repeat(64))).await;
        assert!(set.is_some(), "{bad}");
        assert_eq!(header(&seen, "cookie"), [format!("portolan-web={}", "1".repeat(64))], "{bad}");
        assert!(!explained(&node, bad).await.0);
    }
    assert_eq!(node.api.metric("portolan_proxy_sticky_invalid_total{pool=\"api\"}").await, Some(5.0));
    node.stop().await;
}

#[tokio::test]
async fn a_cookie_is_secure_if_a_trusted_hop_says_that_the_client_came_over_tls() {
    let one = Backend::start("one").await;
    let text = config(&[one.address], STICKY);
    for (trusted, is_secure) in [("", false), ("\ntrusted = [\"127.0.0.0/8\"]", true)] {
        let folder = Folder::new(&text.replace("workers = 1", &format!("workers = 1{trusted}")));
        folder.write_secret("sticky.secret", SECRET);
        let node = TestNode::start(folder).await;
        let request =
            client().get(format!("http://{}/", address(&node))).header("x-forwarded-proto", "https");
        let response = request.send().await.unwrap();
        let field = response.headers()["set-cookie"].to_str().unwrap();
        assert_eq!(field.ends_with("; SameSite=Lax; Secure"), is_secure, "{field}");
        node.stop().await;
    }
}
