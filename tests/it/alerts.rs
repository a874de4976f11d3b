//! The alerts in `deploy/prometheus`: each fires for a node that fails in its way, and none for a healthy one. The rules
//! are those that people load; the samples are those of real nodes, continued by `promtool` for as long as the rules want.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, SystemTime};

use portolan::net::clock::Clock;
use rcgen::{CertificateParams, KeyPair};
use reqwest::Method;
use serde_json::{Value, json};
use tokio::net::{TcpSocket, TcpStream};

use crate::harness::binary::{Reader, Served, clean, is_installed, program, run};
use crate::harness::client::query;
use crate::harness::folder::Folder;
use crate::harness::http::Api;
use crate::harness::node::TestNode;
use crate::harness::region::{Break, GERMAN, NEAREST, Three};
use crate::harness::resolver::{Resolver, Response};
use crate::harness::{skipped, until};

/// Queries, requests and the like between two scrapes.
const ACTS: usize = 20;

/// The minutes for which samples are continued, and when alerts are looked at.
const MINUTES: usize = 60;

fn rules() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("deploy/prometheus/alerts.yml")
}

/// Whether `promtool` is missing; that is said.
fn has_no_promtool() -> bool {
    let missing = !is_installed("promtool");
    if missing {
        skipped("promtool is not installed");
    }
    missing
}

fn promtool(arguments: &[&str]) {
    let mut command = clean(Command::new("promtool"));
    command.args(arguments);
    let done = run(command);
    assert_eq!(done.code, Some(0), "{}{}", done.stdout, done.stderr);
}

/// The names of all alerts.
fn names() -> BTreeSet<String> {
    let text = fs::read_to_string(rules()).expect("it is text");
    text.lines().filter_map(|line| line.trim().strip_prefix("- alert: ")).map(str::to_owned).collect()
}

/// What a node reported, twice, and whether it was still there at the end.
struct Seen {
    before: String,
    after: String,
    is_up: bool,
}

async fn scrape(api: &Api) -> String {
    let response = api.request(Method::GET, "/metrics").header("accept", "text/plain").send();
    response.await.expect("an answer").text().await.expect("text")
}

fn samples(scrape: &str) -> impl Iterator<Item = (&str, f64)> {
    let samples = scrape.lines().filter(|line| !line.starts_with('#'));
    samples
        .map(|line| line.rsplit_once(' ').expect("a sample"))
        .map(|(name, value)| (name, value.parse().expect("a number")))
}

impl Seen {
    /// The samples as series for promtool: gauges stay as they were, counters grow on as they did between the scrapes.
    /// There the time starts at 0, so moments are moved.
    fn series(&self) -> Vec<Value> {
        let counters: BTreeSet<&str> = self
            .after
            .lines()
            .filter_map(|line| line.strip_prefix("# TYPE ")?.strip_suffix(" counter"))
            .collect();
        let now = Clock::unix().0.as_secs_f64();
        let before: std::collections::BTreeMap<&str, f64> = samples(&self.before).collect();
        let series = |(sample, value): (&str, f64)| {
            let (name, labels) = sample.split_once('{').unwrap_or((sample, "}"));
            let step = if counters.contains(name) {
                value - before.get(sample).copied().unwrap_or(0.0)
            } else {
                0.0
            };
            let value = if name.ends_with("_timestamp_seconds") { value - now } else { value };
            let comma = if labels == "}" { "" } else { "," };
            let series = format!("{name}{{job=\"portolan\",instance=\"ns1\"{comma}{labels}");
            json!({ "series": series, "values": format!("{value}+{step}x{MINUTES}") })
        };
        let mut all: Vec<Value> = samples(&self.after).filter(|_| self.is_up).map(series).collect();
        let up = u8::from(self.is_up);
        all.push(json!({ "series": "up{job=\"portolan\",instance=\"ns1\"}", "values": format!("{up}+0x{MINUTES}") }));
        all
    }

    /// A test for promtool: of the alerts that `selected` matches, exactly these fire.
    fn test(&self, selected: &str, firing: &[&str]) -> Value {
        let fires = |name: &&str| json!({ "labels": format!("{{alertname=\"{name}\"}}"), "value": 1 });
        json!({
            "interval": "1m",
            "input_series": self.series(),
            "promql_expr_test": [{
                "expr": format!("group by (alertname) (ALERTS{{{selected}}})"),
                "eval_time": "40m",
                "exp_samples": firing.iter().map(fires).collect::<Vec<_>>(),
            }],
        })
    }
}

fn check(folder: &Path, tests: &[Value]) {
    let file = folder.join("alerts.test.yml");
    // JSON is YAML.
    let content = json!({ "rule_files": [rules()], "evaluation_interval": "1m", "tests": tests });
    fs::write(&file, content.to_string()).expect("a file in the temporary folder");
    promtool(&["test", "rules", file.to_str().expect("UTF-8")]);
}

/// What all nodes here depend on.
pub(crate) struct World {
    pub(crate) three: Three,
    resolver: Resolver,
}

impl World {
    pub(crate) async fn start() -> Self {
        Self { three: Three::start(), resolver: Resolver::with(&["127.0.3.1"]).await }
    }

    /// A config with something of everything that alerts are about.
    pub(crate) fn folder(&self, certificate_for: Duration) -> Folder {
        let (eu, us) = (self.three.eu.address, self.three.us.address);
        let rest = format!(
            "[region.far]\nendpoint = [{{ name = \"lb\", host = \"lb.elsewhere.example\", probe = \"ap\" }}]\n\
             [[service]]\nname = \"lone.example.test.\"\nregions = [\"eu\"]\nall_down = \"servfail\"\n\
             [safety]\nmin_regions = 1\n\
             [proxy]\nworkers = 1\ncertificate = [{{ cert = \"c.pem\", key = \"k.pem\" }}]\n\
             [proxy.listener.web]\nlisten = \"127.0.0.1:0\"\npool = \"one\"\n\
             [proxy.listener.other]\nlisten = \"127.0.0.1:0\"\npool = \"two\"\n\
             [proxy.listener.secure]\nlisten = \"127.0.0.1:0\"\npool = \"two\"\ntls = true\n\
             [proxy.pool.one]\nbackend = [\"{eu}\"]\nprobe = \"eu\"\n\
             [proxy.pool.two]\nbackend = [\"{eu}\", \"{us}\"]\nprobe = \"backends\"\npanic = \"60%\"\n",
        );
        // Without a port it is that of each backend.
        let probe = self.three.us.probe(&[]).replace("[probe.us]", "[probe.backends]");
        let probe = probe.replace(&format!("port = {}\n", us.port()), "");
        let folder = Folder::new(&[self.three.config(&[]), probe, NEAREST.into(), rest].concat());
        let resolver = self.resolver.address;
        let asked =
            format!("state_dir = \"state\"\nresolver = \"{resolver}\"\nprivate_networks = [\"127.0.0.0/8\"]");
        folder.reconfigure("state_dir = \"state\"", &asked);
        let (key, mut params) = (
            KeyPair::generate().expect("a key"),
            CertificateParams::new(vec!["www.test".into()]).expect("a name"),
        );
        params.not_after = (SystemTime::UNIX_EPOCH + Clock::unix().0 + certificate_for).into();
        folder.write("c.pem", params.self_signed(&key).expect("a certificate").pem());
        folder.write_secret("k.pem", key.serialize_pem());
        folder
    }
}

pub(crate) const YEAR: Duration = Duration::from_secs(365 * 86_400);

/// The sample about the host of that config.
pub(crate) const RESOLVED: &str = "portolan_host_resolved{host=\"lb.elsewhere.example.\"}";

/// What clients ask of a node: queries of both services, and requests to the proxy.
pub(crate) async fn act(node: &TestNode) {
    let mut client = node.client().await;
    let web = node.node.proxy_addresses.iter().find(|(name, _)| **name == *"web").expect("it listens").1;
    for _ in 0..ACTS {
        client.address("www.example.test.", GERMAN).await;
        client.exchange(&query("lone.example.test.", None)).await;
        // Whole, whatever its status.
        let response = Api::tcp(web).request(Method::GET, "/").send().await.expect("a response");
        response.bytes().await.expect("its body");
    }
}

/// What a node reports before and after its clients have asked something.
async fn seen(node: &TestNode) -> Seen {
    let before = scrape(&node.api).await;
    act(node).await;
    let count = |scrape: &str| {
        samples(scrape)
            .filter(|(name, _)| name.starts_with("portolan_dns_queries_total"))
            .map(|(_, it)| it)
            .sum::<f64>()
    };
    let after = until("they are counted", async || {
        let after = scrape(&node.api).await;
        (count(&after) >= count(&before) + 2.0 * ACTS as f64).then_some(after)
    })
    .await;
    Seen { before, after, is_up: true }
}

/// Waits until a sample has a value.
pub(crate) async fn becomes(api: &Api, sample: &str, value: f64) {
    until(&format!("{sample} is {value}"), async || (api.metric(sample).await == Some(value)).then_some(()))
        .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_alert_fires_on_a_healthy_node_and_every_metric_exists() {
    if has_no_promtool() {
        return;
    }
    promtool(&["check", "rules", rules().to_str().expect("UTF-8")]);
    let world = World::start().await;
    let node = TestNode::start(world.folder(YEAR)).await;
    becomes(&node.api, RESOLVED, 1.0).await;
    let seen = seen(&node).await;
    node.stop().await;
    let folder = tempfile::tempdir().expect("a temporary folder");
    check(folder.path(), &[seen.test("", &[])]);

    let text = fs::read_to_string(rules()).expect("it is text");
    let known: BTreeSet<&str> =
        samples(&seen.after).map(|(name, _)| name.split('{').next().expect("a name")).collect();
    let named = text
        .split(|c: char| !c.is_ascii_alphanumeric() && c != '_')
        .filter(|word| word.starts_with("portolan_"));
    let missing: BTreeSet<_> = named.filter(|name| !known.contains(name)).collect();
    assert_eq!(missing, BTreeSet::new(), "no node has these metrics");
}

/// The alerts that some test here makes fire.
const SHOWN: [&[&str]; 5] = [
    REGION_FAILS,
    NODE_FAILS,
    ["PortolanSelfSuspicion"].as_slice(),
    ["PortolanProbeStale"].as_slice(),
    IS_FULL,
];

const REGION_FAILS: &[&str] = &[
    "PortolanAlarms",
    "PortolanDnsFailures",
    "PortolanPoolDown",
    "PortolanProxyErrors",
    "PortolanRegionDown",
    "PortolanServiceUnserved",
];

const NODE_FAILS: &[&str] = &[
    "PortolanCertificateExpires",
    "PortolanHostUnresolved",
    "PortolanJournalFailing",
    "PortolanPoolPanics",
    "PortolanReloadFailed",
    "PortolanSafetyHolds",
];

const IS_FULL: &[&str] = &["PortolanConnectionsNearLimit", "PortolanFilesNearLimit", "PortolanLogDropping"];

#[test]
fn every_alert_is_made_to_fire() {
    let mut shown: BTreeSet<String> = SHOWN.into_iter().flatten().map(|name| (*name).to_owned()).collect();
    shown.insert("PortolanDown".into());
    assert_eq!(names(), shown);
}

/// Of these alerts, all.
fn all_of(alerts: &[&str]) -> String {
    format!("alertstate=\"firing\",alertname=~\"{}\"", alerts.join("|"))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn they_fire_when_a_region_and_its_backends_fail() {
    if has_no_promtool() {
        return;
    }
    let world = World::start().await;
    let node = TestNode::start(world.folder(YEAR)).await;
    world.three.eu.fail(Break::Refuse);
    becomes(&node.api, "portolan_region_up{region=\"eu\"}", 0.0).await;
    let eu = world.three.eu.address;
    becomes(&node.api, &format!("portolan_backend_up{{pool=\"one\",backend=\"{eu}\"}}"), 0.0).await;
    let failing = seen(&node).await;
    node.stop().await;
    let gone = Seen { is_up: false, before: String::new(), after: String::new() };
    let folder = tempfile::tempdir().expect("a temporary folder");
    let down = gone.test("alertstate=\"firing\"", &["PortolanDown"]);
    check(folder.path(), &[failing.test(&all_of(REGION_FAILS), REGION_FAILS), down]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn they_fire_when_what_the_node_needs_fails() {
    if has_no_promtool() {
        return;
    }
    let world = World::start().await;
    let folder = world.folder(YEAR / 365);
    folder.reconfigure("min_regions = 1", "min_regions = 3");
    let node = TestNode::start(folder).await;
    becomes(&node.api, RESOLVED, 1.0).await;
    world.resolver.respond_with(Response::Failure);
    world.three.eu.fail(Break::Unavailable);
    fs::remove_file(node.folder.path("state/portolan.db")).expect("there is a journal");
    node.folder.reconfigure("workers = 1\n\n[control]", "workers = \"one\"\n\n[control]");
    assert_eq!(node.api.call(Method::POST, "/v1/reload", None).await.0, 422);
    for (sample, value) in [
        (RESOLVED, 0.0),
        ("portolan_proxy_panic{pool=\"two\"}", 1.0),
        ("portolan_safety_held{rule=\"min_regions\"}", 1.0),
        ("portolan_journal_failing", 1.0),
        ("portolan_config_reload_failing", 1.0),
    ] {
        becomes(&node.api, sample, value).await;
    }
    let failing = seen(&node).await;
    node.folder.reconfigure("workers = \"one\"", "workers = 1");
    assert_eq!(node.api.call(Method::POST, "/v1/reload", None).await.0, 200);
    assert_eq!(node.api.metric("portolan_config_reload_failing").await, Some(0.0), "a good config ends it");
    let folder = node.stop().await;
    check(&folder.path(""), &[failing.test(&all_of(NODE_FAILS), NODE_FAILS)]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_fires_when_everything_fails_at_once() {
    if has_no_promtool() {
        return;
    }
    let three = Three::start();
    let node = TestNode::with(&[three.config(&[]), NEAREST.into()].concat()).await;
    for region in [&three.eu, &three.us, &three.ap] {
        region.fail(Break::Refuse);
    }
    let after = until("it suspects itself", async || {
        let after = scrape(&node.api).await;
        after.contains("portolan_self_suspicion 1\n").then_some(after)
    })
    .await;
    let folder = node.stop().await;
    let seen = Seen { before: after.clone(), after, is_up: true };
    check(&folder.path(""), &[seen.test(&all_of(&["PortolanSelfSuspicion"]), &["PortolanSelfSuspicion"])]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_fires_when_a_probe_does_not_end() {
    if has_no_promtool() {
        return;
    }
    let three = Three::start();
    let node = TestNode::with(&[three.config(&[("timeout", "\"60s\"")]), NEAREST.into()].concat()).await;
    three.eu.fail(Break::Hang);
    let age = "portolan_probe_age_seconds{region=\"eu\",endpoint=\"lb1\",address=\"127.0.1.1\",probe=\"eu\"}";
    until("the last probe ended long ago", async || (node.api.metric(age).await > Some(10.5)).then_some(()))
        .await;
    let after = scrape(&node.api).await;
    let folder = node.stop().await;
    let seen = Seen { before: after.clone(), after, is_up: true };
    check(&folder.path(""), &[seen.test(&all_of(&["PortolanProbeStale"]), &["PortolanProbeStale"])]);
}

/// The files that a node may have open here: few enough to be used up.
const FILES: usize = 80;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn they_fire_when_files_are_used_up_and_nobody_reads_the_log() {
    if has_no_promtool() {
        return;
    }
    let three = Three::start();
    let mut limited = clean(Command::new("sh"));
    limited.args(["-c", &format!("ulimit -n {FILES} && exec \"$0\" \"$@\"")]).arg(program().get_program());
    let served = Served::spawn_by(limited, Folder::new(&[three.config(&[]), NEAREST.into()].concat()));
    served.ready().await;
    let (api, dns) = (served.api(), served.dns().await);
    served.set_reader(Reader::Gone);
    let before = scrape(&api).await;
    let body = json!({ "target": "region/ap", "action": "drain", "reason": "r".repeat(900) });
    until("lines of the log are dropped", async || {
        assert_eq!(api.call(Method::POST, "/v1/overrides", Some(body.clone())).await.0, 200);
        (api.metric("portolan_log_dropped_total").await > Some(0.0)).then_some(())
    })
    .await;
    // From several networks, since each has a quota.
    let mut open: Vec<TcpStream> = Vec::new();
    let limit = "portolan_connections_limit{listener=\"dns_tcp\"}";
    let limit = api.metric(limit).await.expect("a limit") as usize;
    for number in 0..limit {
        let socket = TcpSocket::new_v4().expect("a socket");
        let source = format!("127.0.{}.1:0", 100 + number % 8);
        socket.bind(source.parse().expect("an address")).expect("a loopback address");
        open.push(socket.connect(dns).await.expect("a connection"));
    }
    let after = until("the files are used up", async || {
        let after = scrape(&api).await;
        let value =
            |name: &str| samples(&after).find(|(sample, _)| *sample == name).map_or(0.0, |(_, value)| value);
        let is_full = value("portolan_open_files") > 0.8 * value("portolan_open_files_limit");
        let is_busy = value("portolan_connections{listener=\"dns_tcp\"}") > 0.9 * limit as f64;
        (is_full && is_busy && value("portolan_log_dropped_total") > 0.0).then_some(after)
    })
    .await;
    drop(open);
    let seen = Seen { before, after, is_up: true };
    check(&served.folder.path(""), &[seen.test(&all_of(IS_FULL), IS_FULL)]);
}
