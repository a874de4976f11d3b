//! Starts and stops of a node are events.

use std::io::{BufRead as _, BufReader};

use nix::sys::signal::Signal;
use serde_json::{Value, json};

use crate::harness::binary::{Served, program};
use crate::harness::folder::Folder;
use crate::harness::node::TestNode;
use crate::harness::region::{Break, Region};

const VERSION: &str = env!("CARGO_PKG_VERSION");

const ONE: &str = "[region.eu]\nendpoint = [{ name = \"lb1\", address = \"192.0.2.7\" }]\n";

/// What the events of starts and stops say.
async fn lives(served: &Served) -> Vec<String> {
    let all = served.api().get("/v1/events").await;
    let all = all.as_array().expect("a list").iter();
    let of_node = all.filter(|event| event["event"].as_str().is_some_and(|name| name.starts_with("node_")));
    of_node.map(|event| event["message"].as_str().expect("a text").to_owned()).collect()
}

/// Waits until the journal has all events so far.
async fn written(served: &Served) {
    // A change is confirmed before the events that wait with it are written, but after those that waited for the one before.
    let api = served.api();
    let id = api.override_with(json!({"target": "region/eu", "action": "up"})).await;
    api.restore(id).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_start_says_how_the_run_before_ended() {
    let mut served = Served::start(Folder::new(ONE)).await;
    let mut expected = vec![format!("node started with version {VERSION}")];
    assert_eq!(lives(&served).await, expected);
    for (signal, stop, start, how, level) in [
        (Signal::SIGTERM, Some("node stopped by SIGTERM"), "after a clean stop", "clean", "INFO"),
        (Signal::SIGKILL, None, "after an unclean stop", "unclean", "WARN"),
        (Signal::SIGINT, Some("node stopped by SIGINT"), "after a clean stop", "clean", "INFO"),
    ] {
        written(&served).await;
        served.signal(signal);
        assert_eq!(served.ended().await, stop.map(|_| 0));
        served = Served::start(served.into_folder()).await;
        expected.extend(stop.map(str::to_owned));
        expected.push(format!("node started with version {VERSION} {start}"));
        assert_eq!(lives(&served).await, expected);
        let line = served.logged("its start", |line| line["message"] == "node_started").await;
        assert_eq!((&line["last_stop"], &line["level"]), (&json!(how), &json!(level)));
    }
    let stops = served.api().events("node_stopped").await;
    assert_eq!(stops[1]["fields"], json!({"by": "SIGINT"}));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stop_before_the_first_results_is_a_stop() {
    let eu = Region::start("eu", 1);
    eu.fail(Break::Hang);
    let config = eu.config("{ country = \"IE\" }", &[("timeout", "\"600s\""), ("interval", "\"601s\"")]);
    let mut served = Served::spawn(Folder::new(&config));
    served.logged("it waits", |line| line.get("dns").is_some()).await;
    assert_eq!(served.stop().await, Some(0));
    let again = Served::spawn(served.into_folder());
    let line = again.logged("its start", |line| line["message"] == "node_started").await;
    assert_eq!(line["last_stop"], "clean");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_a_journal_nothing_is_said_of_the_run_before() {
    let folder = Folder::new(ONE);
    folder.reconfigure("state_dir = \"state\"\n", "");
    let node = TestNode::start(folder).await.restart().await;
    let starts = node.api.events("node_started").await;
    assert_eq!(starts.iter().map(|it| &it["fields"]).collect::<Vec<_>>(), [&json!({"version": VERSION})]);
    node.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn whoever_follows_the_events_reads_the_stop() {
    let mut served = Served::start(Folder::new(ONE)).await;
    let mut command = program();
    command.arg("--control").arg(served.folder.socket()).args(["events", "--follow", "--json"]);
    let mut child = command.spawn().expect("it starts");
    let mut lines = BufReader::new(child.stdout.take().expect("a pipe")).lines();
    let mut next =
        || lines.next().map(|line| serde_json::from_str::<Value>(&line.expect("UTF-8")).expect("JSON"));
    assert_eq!(next().expect("a line")["event"], "node_started");
    assert_eq!(served.stop().await, Some(0));
    assert_eq!(next().expect("a line")["event"], "node_stopped");
    assert_eq!(next(), None);
    assert_eq!(child.wait().expect("our child").code(), Some(3));
}
