//! Hedging: slow requests go to another backend, too.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use reqwest::{Method, Response, StatusCode};
use serde_json::Value;
use tokio::io::AsyncWriteExt as _;
use tokio::net::TcpStream;
use tokio::sync::Semaphore;
use tokio::task::{JoinHandle, JoinSet};
use tokio::time::Instant;

use super::backend::{Backend, Manner};
use super::{address, client, config, metric, reload, shown};
use crate::harness::folder::Folder;
use crate::harness::node::TestNode;
use crate::harness::until;

/// A config whose pool sends all clients of these tests to one backend first.
fn hashed(backends: &[&Backend], pool: &str) -> String {
    let addresses: Vec<SocketAddr> = backends.iter().map(|it| it.address).collect();
    config(&addresses, pool).replace("round-robin", "ip-hash")
}

fn get(node: &TestNode) -> JoinHandle<Response> {
    let url = format!("http://{}/", address(node));
    tokio::spawn(async move { client().get(url).send().await.expect("a response") })
}

async fn name(response: Response) -> Value {
    shown(response).await["backend"].clone()
}

/// The backend that gets requests first, and the other one; found by one request.
async fn in_order<'a>(node: &TestNode, backends: [&'a Backend; 2]) -> [&'a Backend; 2] {
    shown(get(node).await.unwrap()).await;
    let [one, two] = backends;
    if one.requests() == 1 { [one, two] } else { [two, one] }
}

async fn arrived(backend: &Backend, count: u64) {
    until("so many requests arrived", async || (backend.requests() == count).then_some(())).await;
}

async fn counter(node: &TestNode, name: &str) -> Option<f64> {
    node.api.metric(&format!("portolan_proxy_{name}_total{{pool=\"api\"}}")).await
}

/// Waits until no request is with a backend, and no connection to it open.
async fn forgotten(node: &TestNode, backend: &Backend) {
    until("nothing is left of the request", async || {
        let in_flight = metric(node, "portolan_proxy_in_flight", backend.address).await;
        (in_flight == Some(0.0) && backend.open() == 0).then_some(())
    })
    .await;
}

#[tokio::test]
async fn one_backend_that_hangs_keeps_no_client_waiting_and_takes_no_other_turns() {
    let (one, two) = (Backend::start("one").await, Backend::start("two").await);
    one.behave(Manner::Hang);
    let keys = "hedge = \"10ms\"\npassive = false";
    let folder = Folder::new(&config(&[one.address, two.address], keys).replacen(
        "[proxy]\n",
        "[proxy]\naccess_log = { to = \"access.log\" }\n",
        1,
    ));
    let node = TestNode::start(folder).await;
    let client = client();
    for _ in 0..6 {
        let response = client.get(format!("http://{}/", address(&node))).send().await.unwrap();
        assert_eq!(name(response).await, "two");
    }
    assert_eq!((one.requests(), two.requests()), (3, 6));
    assert_eq!((counter(&node, "hedges").await, counter(&node, "hedges_won").await), (Some(3.0), Some(3.0)));
    assert_eq!(counter(&node, "retries").await, Some(0.0));
    // What was given up is closed, and held against nobody.
    forgotten(&node, &one).await;
    assert_eq!(metric(&node, "portolan_proxy_failures_total", one.address).await, Some(0.0));
    let log = until("the log is written", async || {
        let text = std::fs::read_to_string(node.folder.path("access.log")).unwrap_or_default();
        (text.lines().count() == 6).then_some(text)
    })
    .await;
    for line in log.lines() {
        let line: Value = serde_json::from_str(line).unwrap();
        assert_eq!(line["backend"], two.address.to_string(), "{line}");
    }
    let attempts: u64 = log
        .lines()
        .map(|line| serde_json::from_str::<Value>(line).unwrap()["attempts"].as_u64().unwrap())
        .sum();
    assert_eq!(attempts, 9);
    node.stop().await;
}

#[tokio::test]
async fn the_first_response_wins_whoever_was_asked_first() {
    let (one, two) = (Backend::start("one").await, Backend::start("two").await);
    let permits = Arc::new(Semaphore::new(0));
    one.behave(Manner::Wait(Arc::clone(&permits)));
    two.behave(Manner::Hang);
    let node = super::node(&[&one, &two], "hedge = \"10ms\"\npassive = false").await;
    for count in 1..=2 {
        let request = get(&node);
        arrived(&one, count).await;
        arrived(&two, count).await;
        permits.add_permits(1);
        assert_eq!(name(request.await.unwrap()).await, "one");
    }
    assert_eq!((counter(&node, "hedges").await, counter(&node, "hedges_won").await), (Some(2.0), Some(1.0)));
    forgotten(&node, &two).await;
    node.stop().await;
}

#[tokio::test]
async fn what_changes_something_or_has_a_body_goes_to_one_backend_at_a_time() {
    let (one, two) = (Backend::start("one").await, Backend::start("two").await);
    one.behave(Manner::Hang);
    two.behave(Manner::Hang);
    let node = super::node(&[&one, &two], "hedge = \"5ms\"\ntimeout = { read = \"300ms\" }").await;
    for (method, body, attempts) in [
        ("GET", None, 2),
        ("HEAD", None, 2),
        ("OPTIONS", None, 2),
        ("POST", None, 1),
        ("PUT", None, 1),
        ("DELETE", None, 1),
        ("GET", Some("body"), 1),
    ] {
        let before = one.requests() + two.requests();
        let mut request = client().request(method.parse().unwrap(), format!("http://{}/", address(&node)));
        if let Some(body) = body {
            request = request.body(body);
        }
        assert_eq!(request.send().await.unwrap().status(), StatusCode::GATEWAY_TIMEOUT, "{method}");
        assert_eq!(one.requests() + two.requests() - before, attempts, "{method} {body:?}");
    }
    node.stop().await;
}

#[tokio::test]
async fn hedges_are_attempts_of_the_request() {
    let all = [Backend::start("a").await, Backend::start("b").await, Backend::start("c").await];
    all.iter().for_each(|it| it.behave(Manner::Hang));
    for (tries, most) in [(2, 2), (3, 3), (9, 3)] {
        let keys =
            format!("hedge = \"5ms\"\ntimeout = {{ read = \"300ms\" }}\nretry = {{ tries = {tries} }}");
        let node = super::node(&[&all[0], &all[1], &all[2]], &keys).await;
        let before: u64 = all.iter().map(Backend::requests).sum();
        assert_eq!(get(&node).await.unwrap().status(), StatusCode::GATEWAY_TIMEOUT);
        assert_eq!(all.iter().map(Backend::requests).sum::<u64>() - before, most, "of {tries}");
        node.stop().await;
    }
}

#[tokio::test]
async fn backends_that_are_all_slow_get_little_more_than_the_budget_allows() {
    const REQUESTS: u64 = 80;
    let (one, two) = (Backend::start("one").await, Backend::start("two").await);
    one.behave(Manner::Hang);
    two.behave(Manner::Hang);
    let keys = "hedge = \"5ms\"\ntimeout = { read = \"1s\" }\nretry = { budget = \"20%\" }";
    let node = super::node(&[&one, &two], keys).await;
    let mut requests = JoinSet::new();
    for _ in 0..REQUESTS {
        requests.spawn(get(&node));
    }
    for response in requests.join_all().await {
        assert_eq!(response.unwrap().status(), StatusCode::GATEWAY_TIMEOUT);
    }
    let hedges = one.requests() + two.requests() - REQUESTS;
    assert!((1..=REQUESTS / 5).contains(&hedges), "{hedges} hedges");
    assert_eq!(counter(&node, "hedges").await, Some(hedges as f64));
    node.stop().await;
}

#[tokio::test]
async fn a_backend_that_fails_meanwhile_leaves_the_request_to_the_others() {
    let all = [Backend::start("hangs").await, Backend::start("closes").await, Backend::start("shows").await];
    all[0].behave(Manner::Hang);
    all[1].behave(Manner::Close);
    let keys =
        "hedge = \"10ms\"\nretry = { tries = 3, on = [\"reset\"], budget = \"100%\" }\npassive = false";
    let node = super::node(&[&all[0], &all[1], &all[2]], keys).await;
    for _ in 0..4 {
        assert_eq!(name(get(&node).await.unwrap()).await, "shows");
    }
    // A reset counts although the request went on.
    let failures = metric(&node, "portolan_proxy_failures_total", all[1].address).await;
    assert_eq!(failures, Some(all[1].requests() as f64));
    assert!(failures > Some(0.0));
    node.stop().await;
}

#[tokio::test]
async fn a_server_error_does_not_win_while_another_backend_may_answer() {
    let (one, two) = (Backend::start("one").await, Backend::start("two").await);
    let keys = "hedge = \"10ms\"\ntimeout = { read = \"2s\" }";
    let node = TestNode::with(&hashed(&[&one, &two], keys)).await;
    let [first, second] = in_order(&node, [&one, &two]).await;
    let permits = Arc::new(Semaphore::new(0));
    first.behave(Manner::Wait(Arc::clone(&permits)));
    second.behave(Manner::Status(500));
    let request = get(&node);
    arrived(second, 1).await;
    let errors = format!(
        "portolan_proxy_backend_responses_total{{pool=\"api\",backend=\"{}\",class=\"5xx\"}}",
        second.address
    );
    permits.add_permits(1);
    shown(request.await.unwrap()).await;
    assert_eq!(node.api.metric(&errors).await, Some(1.0), "it is counted");
    assert_eq!(counter(&node, "hedges_won").await, Some(0.0));
    // But it is better than nothing.
    first.behave(Manner::Hang);
    let response = get(&node).await.unwrap();
    assert_eq!(response.status(), 500);
    assert!(response.text().await.unwrap().starts_with("500 of "));
    node.stop().await;
}

#[tokio::test]
async fn nothing_is_left_of_a_client_that_leaves() {
    let (one, two) = (Backend::start("one").await, Backend::start("two").await);
    one.behave(Manner::Hang);
    two.behave(Manner::Hang);
    let node = super::node(&[&one, &two], "hedge = \"10ms\"").await;
    let mut stream = TcpStream::connect(address(&node)).await.unwrap();
    stream.write_all(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n").await.unwrap();
    arrived(&one, 1).await;
    arrived(&two, 1).await;
    drop(stream);
    forgotten(&node, &one).await;
    forgotten(&node, &two).await;
    node.stop().await;
}

#[tokio::test]
async fn backends_work_on_no_more_than_they_may() {
    let (one, two) = (Backend::start("one").await, Backend::start("two").await);
    let keys = "hedge = \"10ms\"\nlimits = { requests = 1, wait = \"10m\" }";
    let node = TestNode::with(&hashed(&[&one, &two], keys)).await;
    let [first, second] = in_order(&node, [&one, &two]).await;
    first.behave(Manner::Hang);
    second.behave(Manner::Hang);
    let slow = get(&node);
    arrived(first, 2).await;
    arrived(second, 1).await;
    // Both are full now, with two attempts of one request.
    let waits = get(&node);
    until("it waits", async || {
        let pending = node.api.metric("portolan_proxy_pending{pool=\"api\"}").await;
        (pending == Some(1.0)).then_some(())
    })
    .await;
    assert_eq!((first.requests(), second.requests()), (2, 1));
    slow.abort();
    // Now it is the other's turn, which is hedged as well.
    arrived(first, 3).await;
    arrived(second, 2).await;
    waits.abort();
    forgotten(&node, first).await;
    node.stop().await;
}

#[tokio::test]
async fn a_reload_in_between_changes_nothing_for_requests_in_progress() {
    let (one, two) = (Backend::start("one").await, Backend::start("two").await);
    let permits = Arc::new(Semaphore::new(0));
    one.behave(Manner::Wait(Arc::clone(&permits)));
    two.behave(Manner::Hang);
    let hedged = hashed(&[&one, &two], "hedge = \"10ms\"\ntimeout = { read = \"400ms\" }");
    let node = TestNode::with(&hedged.replace("400ms", "1m")).await;
    let request = get(&node);
    arrived(&one, 1).await;
    arrived(&two, 1).await;
    node.folder.configure(&hedged.replace("hedge = \"10ms\"\n", ""));
    reload(&node).await;
    permits.add_permits(1);
    assert_eq!(name(request.await.unwrap()).await, "one");
    // From now on they go to one backend.
    one.behave(Manner::Hang);
    assert_eq!(get(&node).await.unwrap().status(), StatusCode::GATEWAY_TIMEOUT);
    assert_eq!(one.requests() + two.requests(), 3);
    // And back, although the connection has been with the lane meanwhile.
    let client = client();
    let url = format!("http://{}/", address(&node));
    assert_eq!(client.get(&url).send().await.unwrap().status(), StatusCode::GATEWAY_TIMEOUT);
    node.folder.configure(&hedged);
    reload(&node).await;
    assert_eq!(client.get(&url).send().await.unwrap().status(), StatusCode::GATEWAY_TIMEOUT);
    assert_eq!(one.requests() + two.requests(), 6);
    node.stop().await;
}

#[tokio::test]
async fn a_backend_that_a_reload_has_removed_gets_no_hedges() {
    let (one, two) = (Backend::start("one").await, Backend::start("two").await);
    let keys = "hedge = \"3s\"\ntimeout = { read = \"4s\" }";
    let node = TestNode::with(&hashed(&[&one, &two], keys)).await;
    let [first, second] = in_order(&node, [&one, &two]).await;
    first.behave(Manner::Hang);
    let request = get(&node);
    arrived(first, 2).await;
    node.folder.configure(&hashed(&[first], keys));
    reload(&node).await;
    assert_eq!(request.await.unwrap().status(), StatusCode::GATEWAY_TIMEOUT);
    assert_eq!(second.requests(), 0);
    node.stop().await;
}

#[tokio::test]
async fn a_client_that_is_bound_to_a_backend_stays_there() {
    let (one, two) = (Backend::start("one").await, Backend::start("two").await);
    let sticky = "sticky = { secret_file = \"sticky.secret\" }";
    let folder = Folder::new(&hashed(
        &[&one, &two],
        &format!("hedge = \"10ms\"\ntimeout = {{ read = \"300ms\" }}\n{sticky}"),
    ));
    folder.write_secret("sticky.secret", "e5".repeat(32));
    let node = TestNode::start(folder).await;
    one.behave(Manner::Hang);
    two.behave(Manner::Hang);
    let [mut first, mut second] = [&one, &two];
    let free = get(&node);
    arrived(&one, 1).await;
    arrived(&two, 1).await;
    free.await.unwrap();
    first.behave(Manner::Show);
    second.behave(Manner::Show);
    let response = get(&node).await.unwrap();
    let cookie = response.headers()["set-cookie"].to_str().unwrap().split(';').next().unwrap().to_owned();
    if name(response).await == "two" {
        std::mem::swap(&mut first, &mut second);
    }
    first.behave(Manner::Hang);
    let before = second.requests();
    let bound = client().get(format!("http://{}/", address(&node))).header("cookie", cookie);
    assert_eq!(bound.send().await.unwrap().status(), StatusCode::GATEWAY_TIMEOUT);
    assert_eq!(second.requests(), before);
    node.stop().await;
}

#[tokio::test]
async fn questions_about_requests_are_hedged_by_their_own_pool() {
    let (one, two) = (Backend::start("one").await, Backend::start("two").await);
    let backend = Backend::start("backend").await;
    one.behave(Manner::Hang);
    let node = TestNode::with(&format!(
        "[proxy]\nworkers = 1\n[proxy.listener.web]\nlisten = \"127.0.0.1:0\"\n\
         route = [{{ pool = \"api\", auth = {{ pool = \"auth\", path = \"/verify\" }} }}]\n\
         [proxy.pool.api]\nbackend = [\"{}\"]\nprobe = []\n\
         [proxy.pool.auth]\nbackend = [\"{}\", \"{}\"]\nprobe = []\nbalance = \"round-robin\"\nhedge = \"10ms\"\n",
        backend.address, one.address, two.address
    ))
    .await;
    for _ in 0..2 {
        let posted = client().post(format!("http://{}/", address(&node))).body("content").send().await;
        assert_eq!(name(posted.unwrap()).await, "backend");
    }
    assert_eq!((one.requests(), two.requests(), backend.requests()), (1, 2, 2));
    node.stop().await;
}

#[tokio::test]
async fn explain_says_when_another_backend_gets_a_request() {
    let (one, two) = (Backend::start("one").await, Backend::start("two").await);
    let node = super::node(&[&one, &two], "hedge = \"150ms\"").await;
    for (method, expected) in [
        ("GET", "without a response after 150ms, another backend gets the request, too"),
        ("PUT", "none: a PUT may change something"),
    ] {
        let query = [("url", "http://a/"), ("client", "127.0.0.1"), ("listener", "web"), ("method", method)];
        let response = node.api.request(Method::GET, "/v1/explain").query(&query).send().await.unwrap();
        let explained: Value = response.json().await.unwrap();
        assert_eq!(explained["outcome"]["pool"]["hedge"], expected);
    }
    node.stop().await;
}

/// Sends requests that a hedge answers, until so many have arrived at the backend that hangs.
async fn hedged(node: &TestNode, hanging: &Backend, count: u64) {
    while hanging.requests() < count {
        assert_eq!(name(get(node).await.unwrap()).await, "shows");
    }
}

#[tokio::test]
async fn a_backend_that_hangs_is_ejected_although_no_client_waits_for_it() {
    let (hangs, shows) = (Backend::start("hangs").await, Backend::start("shows").await);
    hangs.behave(Manner::Hang);
    let passive = "passive = { failures = 2, eject = \"10m\", longest = \"10m\" }";
    let keys = format!(
        "hedge = \"10ms\"\nretry = {{ budget = \"100%\" }}\n{passive}\ntimeout = {{ read = \"5s\" }}"
    );
    let node = super::node(&[&hangs, &shows], &keys).await;
    hedged(&node, &hangs, 5).await;
    // No more than eject it are waited for.
    until("the others are given up", async || (hangs.open() <= 2).then_some(())).await;
    assert_eq!(metric(&node, "portolan_proxy_in_flight", hangs.address).await, Some(2.0));
    let ejected = until("it is ejected", async || node.api.events("ejected").await.pop()).await;
    let why = "2 consecutive requests failed, the last: no response within 5s";
    assert_eq!(ejected["fields"]["evidence"], why);
    assert_eq!(ejected["fields"]["subject"], format!("pool/api/{}", hangs.address));
    assert_eq!(metric(&node, "portolan_proxy_failures_total", hangs.address).await, Some(2.0));
    forgotten(&node, &hangs).await;
    let before = hangs.requests();
    for _ in 0..4 {
        assert_eq!(name(get(&node).await.unwrap()).await, "shows");
    }
    assert_eq!(hangs.requests(), before);
    node.stop().await;
}

#[tokio::test]
async fn a_backend_that_answers_too_late_for_the_client_has_not_failed() {
    let (slow, shows) = (Backend::start("slow").await, Backend::start("shows").await);
    let permits = Arc::new(Semaphore::new(0));
    slow.behave(Manner::Wait(Arc::clone(&permits)));
    let keys = "hedge = \"10ms\"\nretry = { budget = \"100%\" }\npassive = { failures = 1 }";
    let node = super::node(&[&slow, &shows], keys).await;
    let answered = format!(
        "portolan_proxy_backend_responses_total{{pool=\"api\",backend=\"{}\",class=\"2xx\"}}",
        slow.address
    );
    for count in 1..=3 {
        hedged(&node, &slow, count).await;
        permits.add_permits(1);
        super::counted(&node, &answered, count as f64).await;
        forgotten(&node, &slow).await;
    }
    assert_eq!(metric(&node, "portolan_proxy_failures_total", slow.address).await, Some(0.0));
    assert_eq!(node.api.events("ejected").await, Vec::<Value>::new());
    node.stop().await;
}

#[tokio::test]
async fn a_backend_that_is_drained_finishes_the_hedges_that_it_has() {
    for (drain, may_finish) in [("1m", true), ("1s", false)] {
        let (one, two) = (Backend::start("one").await, Backend::start("two").await);
        let [slow, late] = [Arc::new(Semaphore::new(0)), Arc::new(Semaphore::new(0))];
        let keys = format!(
            "hedge = \"10ms\"\ndrain = \"{drain}\"\npassive = false\nretry = {{ budget = \"100%\" }}"
        );
        let node = TestNode::with(&hashed(&[&one, &two], &keys)).await;
        let [first, second] = in_order(&node, [&one, &two]).await;
        first.behave(Manner::Wait(Arc::clone(&slow)));
        second.behave(Manner::Wait(Arc::clone(&late)));
        let request = get(&node);
        arrived(first, 2).await;
        arrived(second, 1).await;
        super::drain(&node, second).await;
        let begun = Instant::now();
        if may_finish {
            // Longer than the other takes to end.
            until("it goes on", async || (begun.elapsed() > Duration::from_secs(3)).then_some(())).await;
            late.add_permits(1);
        } else {
            // Its time is over; the other attempt goes on.
            until("its connection ends", async || (second.open() == 0).then_some(())).await;
            slow.add_permits(1);
        }
        shown(request.await.unwrap()).await;
        let won = counter(&node, "hedges_won").await;
        assert_eq!(won, Some(if may_finish { 1.0 } else { 0.0 }), "drain {drain}");
        // From now on the other gets all, and no hedges go to what is drained.
        first.behave(Manner::Show);
        let before = second.requests();
        shown(get(&node).await.unwrap()).await;
        assert_eq!(second.requests(), before);
        node.stop().await;
    }
}
