//! The dashboard in `deploy/grafana`, and the alerts, in a real Prometheus that scrapes a real node: every panel has data.

use std::fs;
use std::net::{SocketAddr, TcpListener};
use std::path::Path;
use std::process::Command;

use serde_json::{Value, json};

use crate::alerts::{World, YEAR, act, becomes};
use crate::harness::binary::{Killed, clean, is_installed};
use crate::harness::http::Api;
use crate::harness::node::TestNode;
use crate::harness::region::Break;
use crate::harness::{skipped, until};

fn deployed(path: &str) -> std::path::PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("deploy").join(path)
}

fn dashboard() -> Value {
    let text = fs::read_to_string(deployed("grafana/portolan.json")).expect("it is text");
    serde_json::from_str(&text).expect("JSON")
}

/// The panels that show something: all but the headings.
fn panels(dashboard: &Value) -> Vec<&Value> {
    let panels = dashboard["panels"].as_array().expect("a list").iter();
    panels.filter(|panel| panel["type"] != "row").collect()
}

/// The queries with the titles of their panels, as Grafana would send them.
fn queries(dashboard: &Value) -> Vec<(String, String)> {
    let of_panel = |panel: &Value| {
        let title = panel["title"].as_str().expect("a title").to_owned();
        let targets = panel["targets"].as_array().expect("a list").clone();
        targets.into_iter().map(move |target| {
            let query = target["expr"].as_str().expect("a query");
            (title.clone(), query.replace("$instance", ".*").replace("$__rate_interval", "1m"))
        })
    };
    panels(dashboard).into_iter().flat_map(of_panel).collect()
}

#[test]
fn every_panel_uses_the_data_source_that_is_chosen() {
    let dashboard = dashboard();
    let variables = dashboard["templating"]["list"].as_array().expect("a list");
    assert!(variables.iter().any(|it| it["name"] == "datasource" && it["type"] == "datasource"));
    let mut ids = Vec::new();
    for panel in panels(&dashboard) {
        let targets = panel["targets"].as_array().expect("a list");
        assert!(!targets.is_empty(), "{}", panel["title"]);
        for part in targets.iter().chain([panel]) {
            assert_eq!(part["datasource"]["uid"], "${datasource}", "{}", panel["title"]);
        }
        let about = panel["description"].as_str().expect("a description");
        assert!(about.ends_with('.'), "{about}");
        ids.push(panel["id"].as_u64().expect("an id"));
    }
    let count = ids.len();
    ids.sort_unstable();
    ids.dedup();
    assert!(count > 20 && ids.len() == count, "{count} panels");
}

/// A Prometheus that scrapes one node and evaluates the alerts.
struct Prometheus {
    api: Api,
    _process: Killed,
}

impl Prometheus {
    async fn start(folder: &Path, node: SocketAddr) -> Self {
        // Nothing else takes the port unless the kernel gives the same random one away.
        let address = TcpListener::bind("127.0.0.1:0").and_then(|it| it.local_addr()).expect("a free port");
        let config = json!({
            "global": { "scrape_interval": "250ms", "scrape_timeout": "250ms", "evaluation_interval": "250ms" },
            "rule_files": [deployed("prometheus/alerts.yml")],
            "scrape_configs": [{ "job_name": "portolan", "static_configs": [{ "targets": [node] }] }],
        });
        // JSON is YAML.
        fs::write(folder.join("prometheus.yml"), config.to_string()).expect("a file in the temporary folder");
        let mut command = clean(Command::new("prometheus"));
        command.arg(format!("--config.file={}", folder.join("prometheus.yml").display()));
        command.arg(format!("--storage.tsdb.path={}", folder.join("data").display()));
        command.arg(format!("--web.listen-address={address}")).args(["--log.level=error"]);
        let started = Self { api: Api::tcp(address), _process: Killed(command.spawn().expect("it starts")) };
        until("Prometheus is ready", async || {
            let asked = started.api.request(reqwest::Method::GET, "/-/ready").send().await;
            asked.is_ok_and(|response| response.status() == 200).then_some(())
        })
        .await;
        started
    }

    /// The numbers that a query gives now.
    async fn query(&self, query: &str) -> Vec<f64> {
        let request = self.api.request(reqwest::Method::GET, "/api/v1/query").query(&[("query", query)]);
        let reply: Value = request.send().await.expect("an answer").json().await.expect("JSON");
        assert_eq!(reply["status"], "success", "{query}: {reply}");
        let found = reply["data"]["result"].as_array().expect("a list").iter();
        found.map(|it| it["value"][1].as_str().expect("text").parse().expect("a number")).collect()
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_panel_has_data_and_every_alert_is_evaluated() {
    if !is_installed("prometheus") {
        return skipped("prometheus is not installed");
    }
    let world = World::start().await;
    let node = TestNode::start(world.folder(YEAR)).await;
    let scratch = tempfile::tempdir().expect("a temporary folder");
    let prometheus = Prometheus::start(scratch.path(), node.control()).await;
    world.three.ap.fail(Break::Refuse);
    becomes(&node.api, "portolan_region_up{region=\"ap\"}", 0.0).await;
    world.three.ap.heal();
    becomes(&node.api, "portolan_region_up{region=\"ap\"}", 1.0).await;
    for (panel, query) in queries(&dashboard()) {
        until(&format!("{panel} has data: {query}"), async || {
            let found = prometheus.query(&query).await;
            if found.iter().any(|value| !value.is_nan()) {
                return Some(());
            }
            act(&node).await;
            None
        })
        .await;
    }
    let rules = until("every rule has been evaluated", async || {
        let rules = prometheus.api.get("/api/v1/rules").await["data"]["groups"].clone();
        let all = rules
            .as_array()
            .expect("a list")
            .iter()
            .flat_map(|it| it["rules"].as_array().expect("a list").clone());
        let all: Vec<Value> = all.collect();
        all.iter().all(|rule| rule["health"] != "unknown").then_some(all)
    })
    .await;
    for rule in rules {
        let name = &rule["name"];
        assert_eq!((&rule["health"], &rule["state"]), (&json!("ok"), &json!("inactive")), "{name}: {rule}");
    }
    let found = prometheus.query("sum(up{job=\"portolan\"})").await;
    assert_eq!(found, [1.0], "it reads what the node writes");
    node.stop().await;
}
