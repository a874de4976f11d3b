//! Backends that are discovered while requests go on.

use std::collections::BTreeSet;
use std::net::SocketAddr;

use serde_json::Value;

use super::backend::Backend;
use super::{address, client, drain, metric, shown};
use crate::harness::folder::Folder;
use crate::harness::node::TestNode;
use crate::harness::resolver::{Resolver, Response};
use crate::harness::until;

/// A config whose pool `api` has no backend but what is discovered. `resolver` belongs in its `[node]`.
fn folder(discover: &str, resolver: Option<SocketAddr>) -> Folder {
    let folder = Folder::new(&format!(
        "[proxy]\nworkers = 1\n[proxy.listener.web]\nlisten = \"127.0.0.1:0\"\npool = \"api\"\n\
         [proxy.pool.api]\ndiscover = \"{discover}\"\nprobe = []\nbalance = \"round-robin\"\n"
    ));
    if let Some(resolver) = resolver {
        let keys = format!("[node]\nresolver = [\"{resolver}\"]\nprivate_networks = [\"127.0.0.0/8\"]\n");
        folder.reconfigure("[node]\n", &keys);
    }
    folder
}

/// The backends that answer a few requests, none of which fails.
async fn answering(node: &TestNode) -> BTreeSet<String> {
    let (mut names, client) = (BTreeSet::new(), client());
    for _ in 0..4 {
        let seen = shown(client.get(format!("http://{}/", address(node))).send().await.unwrap()).await;
        names.insert(seen["backend"].as_str().unwrap().to_owned());
    }
    names
}

async fn until_answering(node: &TestNode, expected: &[&str]) {
    let expected: BTreeSet<String> = expected.iter().map(|it| (*it).to_owned()).collect();
    until("these backends answer", async || (answering(node).await == expected).then_some(())).await;
}

async fn alarms(node: &TestNode) -> Vec<String> {
    let status: Value = node.api.get("/v1/status").await;
    let about_pool = |it: &&Value| it.as_str().is_some_and(|it| it.starts_with("the backends of pool `api`"));
    let alarms = status["alarms"].as_array().unwrap().iter().filter(about_pool);
    alarms.map(|it| it.as_str().unwrap().to_owned()).collect()
}

async fn until_alarm(node: &TestNode, why: &str) {
    let what = format!("an alarm about {why}");
    until(&what, async || alarms(node).await.iter().any(|it| it.contains(why)).then_some(())).await;
}

#[tokio::test]
async fn the_addresses_of_a_host_are_followed_and_survive_failures_and_a_restart() {
    let one = Backend::start("one").await;
    let two = one.beside("two", [127, 0, 0, 2]).await;
    let three = one.beside("three", [127, 0, 0, 3]).await;
    let resolver = Resolver::with(&["127.0.0.1", "127.0.0.2"]).await;
    let source = format!("dns:api.internal:{}", one.address.port());
    let node = TestNode::start(folder(&source, Some(resolver.address))).await;
    until_answering(&node, &["one", "two"]).await;
    // Each address is a target of its own.
    drain(&node, &one).await;
    assert_eq!(answering(&node).await, ["two".to_owned()].into());
    resolver.respond_with_addresses(&["127.0.0.2", "127.0.0.3"]);
    until_answering(&node, &["two", "three"]).await;
    let gone = || async { metric(&node, "portolan_proxy_requests_total", one.address).await };
    until("counters of an address that is gone are dropped", async || gone().await.is_none().then_some(()))
        .await;
    for (response, why) in [
        (Response::Failure, "Server Failure"),
        (Response::NoSuchName, "Non-Existent Domain"),
        (Response::Addresses(vec![]), "it has no address"),
        (Response::Addresses(vec!["10.0.0.1".parse().unwrap()]), "10.0.0.1 is not public"),
    ] {
        resolver.respond_with(response);
        until_alarm(&node, why).await;
        assert_eq!(answering(&node).await, ["two".to_owned(), "three".to_owned()].into());
    }
    let node = node.restart().await;
    until_alarm(&node, "2 are in use").await;
    assert_eq!(answering(&node).await, ["two".to_owned(), "three".to_owned()].into());
    resolver.respond_with_addresses(&["127.0.0.3"]);
    until_answering(&node, &["three"]).await;
    assert_eq!(alarms(&node).await, [""; 0]);
    drop((two, three));
    node.stop().await;
}

#[tokio::test]
async fn srv_records_give_ports_and_backups() {
    let (one, two, three) =
        (Backend::start("one").await, Backend::start("two").await, Backend::start("three").await);
    let record = |priority, backend: &Backend| (priority, 1, backend.address.port(), "app.internal.");
    let here = "127.0.0.1".parse().unwrap();
    let services = |records| Response::Services(records, here);
    let resolver =
        Resolver::start(services(vec![record(10, &one), record(10, &two), record(20, &three)])).await;
    let node = TestNode::start(folder("dns+srv:_api._tcp.internal", Some(resolver.address))).await;
    until_answering(&node, &["one", "two"]).await;
    drain(&node, &one).await;
    drain(&node, &two).await;
    until_answering(&node, &["three"]).await;
    let (root, nothing) = ((0, 0, 0, "."), vec![]);
    for records in [nothing, vec![root]] {
        resolver.respond_with(services(records));
        until_alarm(&node, "_api._tcp.internal. has no SRV record; 3 are in use").await;
        assert_eq!(answering(&node).await, ["three".to_owned()].into());
    }
    node.stop().await;
}

#[tokio::test]
async fn a_file_is_followed_and_a_malformed_one_changes_nothing() {
    let (one, two) = (Backend::start("one").await, Backend::start("two").await);
    let folder = folder("file:backends.txt", None);
    folder.write("backends.txt", format!("{} # the first\n", one.address));
    let node = TestNode::start(folder).await;
    until_answering(&node, &["one"]).await;
    node.folder
        .write("backends.txt", format!("[\"{}\", {{ \"address\": \"{}\" }}]", one.address, two.address));
    until_answering(&node, &["one", "two"]).await;
    for (content, why) in
        [("10.0.0.1", "line 1: "), ("", "the file lists no backend"), ("[", "not valid JSON")]
    {
        node.folder.write("backends.txt", content);
        until_alarm(&node, why).await;
        assert_eq!(answering(&node).await, ["one".to_owned(), "two".to_owned()].into());
    }
    std::fs::remove_file(node.folder.path("backends.txt")).unwrap();
    until_alarm(&node, "no such file; 2 are in use").await;
    node.folder.write("backends.txt", format!("{} weight=2", two.address));
    until_answering(&node, &["two"]).await;
    assert_eq!(alarms(&node).await, [""; 0]);
    // A reload keeps what was discovered, without a gap.
    super::reload(&node).await;
    assert_eq!(answering(&node).await, ["two".to_owned()].into());
    node.stop().await;
}
