//! Parts that end or stall, and what an operator sees of it. The parts fail by faults that debug builds inject.

#![cfg(debug_assertions)]

use std::fs;
use std::os::unix::net::UnixDatagram;
use std::path::Path;
use std::time::Duration;

use nix::sys::signal::Signal;
use reqwest::Method;
use serde_json::{Value, json};
use tokio::net::{TcpStream, UnixStream};
use tokio::task::{JoinSet, spawn_blocking};

use crate::harness::PATIENCE;
use crate::harness::binary::{Served, program, run};
use crate::harness::client::{Client, outcome, query};
use crate::harness::folder::Folder;
use crate::harness::http::Api;
use crate::harness::region::{Break, GERMAN, NEAREST, Region, Three};
use crate::harness::resolver::Resolver;
use crate::harness::until;

/// Requests to a blocked API, far more than it has threads.
const REQUESTS: usize = 64;

const LIVEZ: &str = "/livez";
const READYZ: &str = "/readyz";

/// A node whose faults are files in its folder.
struct Faulty {
    served: Served,
    three: Three,
}

impl Faulty {
    async fn start() -> Self {
        Self::start_with(&[]).await
    }

    async fn start_with(environment: &[(&str, &str)]) -> Self {
        Self::start_by(environment, |_| (), "").await
    }

    async fn start_by(environment: &[(&str, &str)], adapt: impl FnOnce(&Folder), config: &str) -> Self {
        let three = Three::start();
        let folder = Folder::new(&[&three.config(&[]), NEAREST, config].concat());
        adapt(&folder);
        folder.reconfigure("[control]", "[control]\nmetrics = \"127.0.0.1:0\"");
        let mut program = program();
        program.env("PORTOLAN_FAULTS", folder.path(""));
        // Fewer than checks, so that they can block all of them.
        program.env("TOKIO_WORKER_THREADS", "2");
        program.envs(environment.iter().copied());
        let served = Served::spawn_by(program, folder);
        served.ready().await;
        Self { served, three }
    }

    /// A node that resolves the host of an endpoint, too.
    async fn start_resolving(resolver: &Resolver) -> Self {
        let host = "[region.far]\nendpoint = [{ name = \"lb1\", host = \"lb.elsewhere.example\" }]\n\
                    [[service]]\nname = \"far.example.test.\"\nregions = [\"far\"]\n";
        let of_resolver = format!("[node]\nresolver = \"{}\"", resolver.address);
        Self::start_by(&[], |folder| folder.reconfigure("[node]", &of_resolver), host).await
    }

    /// Waits until the process ends, and checks that it says why.
    async fn ends_because_of(&mut self, why: &str) {
        let expected = format!("{why}: the process ends, so that it can be started again");
        self.served.logged(&expected, |line| line["message"] == expected.as_str()).await;
        assert_eq!(self.served.ended().await, Some(1), "{why}");
        // A process that the watchdog ends after a while leaves it behind.
        assert!(!self.served.folder.socket().exists(), "{why}: the socket is removed");
    }

    fn inject(&self, fault: &str) {
        self.served.folder.write(fault, "");
    }

    fn end(&self, fault: &str) {
        fs::remove_file(self.served.folder.path(fault)).expect("it is injected");
    }
}

async fn sent_to(client: &mut Client, region: &Region) {
    until(&format!("clients are sent to {}", region.name), async || {
        (client.address("www.example.test.", GERMAN).await == region.ip()).then_some(())
    })
    .await;
}

async fn fails_over(client: &mut Client, three: &Three) {
    three.eu.fail(Break::Refuse);
    sent_to(client, &three.us).await;
    three.eu.heal();
    sent_to(client, &three.eu).await;
}

/// Waits for an answer of this path whose status is `status`, and returns its text.
async fn answers(api: &Api, path: &str, status: u16) -> String {
    until(&format!("{path} is {status}"), async || {
        let response = api.request(Method::GET, path).send().await.expect("an answer");
        if response.status() != status {
            return None;
        }
        response.text().await.ok()
    })
    .await
}

/// Whatever makes a part that panics notice that it should do its work.
async fn poke(served: &Served) {
    TcpStream::connect(served.dns().await).await.ok();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_part_that_panics_ends_the_process_with_a_sentence() {
    for (part, name) in [
        ("Engine", "the engine"),
        ("UdpWorker", "the UDP worker dns-0"),
        ("TcpListener", "a TCP listener"),
        ("Check", "the check endpoint/"),
    ] {
        let mut node = Faulty::start().await;
        assert_eq!(node.served.api().text(LIVEZ).await, "ok\n");
        node.inject(&format!("{part}.panic"));
        poke(&node.served).await;
        assert_eq!(node.served.ended().await, Some(1), "{part}");
        let panic = format!("panicked: a fault at {part}, for a test");
        node.served.logged("the panic is logged", |line| line["message"] == panic.as_str()).await;
        let is_reason = |line: &serde_json::Value| {
            let end = "panicked: the process ends, so that it can be started again";
            line["message"].as_str().is_some_and(|why| why.starts_with(name) && why.ends_with(end))
        };
        node.served.logged("the reason is logged", is_reason).await;
        assert!(!node.served.folder.socket().exists(), "the socket is removed");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_listener_of_the_api_that_panics_ends_the_process() {
    for (listener, name) in [
        ("control", "the control API's TCP listener"),
        ("metrics", "the metrics listener"),
        ("socket", "the control API's socket"),
    ] {
        let mut node = Faulty::start().await;
        node.inject("ApiListener.panic");
        if listener == "socket" {
            UnixStream::connect(node.served.folder.socket()).await.expect("it listens");
        } else {
            let [address] = node.served.addresses([listener]).await;
            TcpStream::connect(address).await.expect("it listens");
        }
        node.ends_because_of(&format!("{name} panicked")).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_task_that_panics_ends_the_process() {
    let mut node = Faulty::start().await;
    node.inject("Reload.panic");
    let reload = node.served.api().request(Method::POST, "/v1/reload");
    // The process may end before it answers.
    let asked = tokio::spawn(reload.send());
    node.ends_because_of("the task that reloads the config panicked").await;
    asked.await.expect("no panic").ok();

    let resolver = Resolver::with(&["127.0.1.1"]).await;
    let mut node = Faulty::start_resolving(&resolver).await;
    node.inject("Lookup.panic");
    // It looks up every host at once.
    node.served.signal(Signal::SIGHUP);
    node.ends_because_of("the task that resolves lb.elsewhere.example. panicked").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_probe_that_panics_leaves_its_target_unobserved() {
    let mut node = Faulty::start().await;
    node.inject("Probe.panic");
    until("it is unobserved, and the reason is shown", async || {
        let region = node.served.api().region("eu").await;
        let address = &region["endpoints"][0]["addresses"][0];
        let evidence = address["evidence"].as_str().expect("a text");
        (address["verdict"] == "unobserved" && evidence.contains("the probe panicked")).then_some(())
    })
    .await;
    let mut client = node.served.client().await;
    sent_to(&mut client, &node.three.eu).await;
    assert_eq!(node.served.api().text(LIVEZ).await, "ok\n");
    node.end("Probe.panic");
    fails_over(&mut client, &node.three).await;
    assert_eq!(node.served.stop().await, Some(0));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_journal_that_panics_raises_an_alarm_and_writes_again() {
    for fault in ["Journal.panic", "JournalSave.panic"] {
        let mut node = Faulty::start().await;
        node.inject(fault);
        let drain = json!({"target": "region/ap", "action": "drain"});
        let api = node.served.api();
        assert_eq!(api.call(Method::POST, "/v1/overrides", Some(drain)).await.0, 200);
        let is_alarm =
            |line: &serde_json::Value| line["why"].as_str().is_some_and(|why| why.contains("panicked"));
        node.served.logged("an alarm", is_alarm).await;
        fails_over(&mut node.served.client().await, &node.three).await;
        node.end(fault);
        node.served.logged("the all-clear", |line| line["message"] == "all_clear").await;
        let kept = async |api: &Api| {
            let audit = api.get("/v1/audit").await;
            (audit, api.events("override").await, api.events("transition").await)
        };
        let before = kept(&api).await;
        assert_eq!(before.0.as_array().map(Vec::len), Some(1), "{before:?}");
        assert_eq!(node.served.stop().await, Some(0));
        let mut served = Served::start(node.served.into_folder()).await;
        let after = kept(&served.api()).await;
        assert_eq!((&after.0, &after.1), (&before.0, &before.1), "{fault}: nothing was lost");
        assert!(after.2.starts_with(&before.2), "{fault}: {after:?}, not {before:?}");
        assert_eq!(served.stop().await, Some(0));
    }
}

/// DNS does not need the journal, so the process goes on without its thread, but says so.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_journal_whose_thread_panics_raises_an_alarm() {
    let mut node = Faulty::start().await;
    node.inject("JournalThread.panic");
    let alarm = "changes are not written to the journal: the journal's thread has ended";
    node.served.logged("an alarm", |line| line["why"] == alarm).await;
    fails_over(&mut node.served.client().await, &node.three).await;
    let api = node.served.api();
    assert_eq!(api.get("/v1/status").await["alarms"], json!([alarm]));
    let drain = json!({"target": "region/ap", "action": "drain"});
    let (status, reply) = api.call(Method::POST, "/v1/overrides", Some(drain)).await;
    let warning = "not durable yet: the journal's thread has ended";
    assert_eq!((status, &reply["not_durable"]), (200, &warning.into()), "{reply}");
    assert_eq!(node.served.stop().await, Some(0));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_part_that_stalls_shows_in_livez_and_readyz_and_recovers() {
    let mut node = Faulty::start().await;
    let api = node.served.api();
    for (part, sentence) in [
        ("Engine", "the engine has not run for "),
        ("Probe", "the runtime of the probes has not run for "),
        ("UdpWorker", "the UDP worker dns-0 has not run for "),
        ("TcpListener", "the runtime of DNS over TCP has not run for "),
    ] {
        let fault = format!("{part}.stall");
        node.inject(&fault);
        let why = answers(&api, LIVEZ, 503).await;
        assert!(why.starts_with(sentence), "{why}");
        assert!(answers(&api, READYZ, 503).await.starts_with(sentence));
        node.end(&fault);
        assert_eq!(answers(&api, LIVEZ, 200).await, "ok\n");
        assert_eq!(answers(&api, READYZ, 200).await, "ok\n");
    }
    fails_over(&mut node.served.client().await, &node.three).await;
    assert_eq!(node.served.stop().await, Some(0));
}

/// A client that waits for the engine learns within seconds that it does not answer; a change that the engine has not
/// taken by then is never made.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_api_answers_while_the_engine_does_not() {
    let mut node = Faulty::start().await;
    let api = node.served.api();
    node.inject("Engine.stall");
    answers(&api, LIVEZ, 503).await;
    let drain = json!({"target": "region/eu", "action": "drain"});
    let mut requests = JoinSet::new();
    for (path, request) in [
        ("/v1/status", api.request(Method::GET, "/v1/status")),
        ("/v1/regions", api.request(Method::GET, "/v1/regions")),
        ("/v1/services", api.request(Method::GET, "/v1/services")),
        ("/v1/overrides", api.request(Method::GET, "/v1/overrides")),
        ("/v1/explain", api.request(Method::GET, "/v1/explain?name=www.example.test&client=192.0.2.1")),
        ("/metrics", api.request(Method::GET, "/metrics")),
        ("a drain", api.request(Method::POST, "/v1/overrides").json(&drain)),
        ("a restore", api.request(Method::DELETE, "/v1/overrides/9")),
        ("a reload", api.request(Method::POST, "/v1/reload")),
    ] {
        requests.spawn(async move {
            let response = request.send().await.expect("an answer");
            (path, response.status(), response.json::<Value>().await.expect("a problem"))
        });
    }
    for (path, status, problem) in requests.join_all().await {
        let detail = problem["detail"].as_str().expect("a text");
        let is_expected = match path {
            "a reload" => detail.ends_with("; the reload waits until it runs again"),
            _ => detail == "the engine has not answered within 3 s; see /livez",
        };
        assert!(status == 503 && is_expected, "{path}: {status} {detail}");
        assert_eq!(problem["type"], "urn:portolan:no-answer");
    }
    let events = api.get("/v1/events").await;
    assert!(!events.as_array().expect("a list").is_empty(), "events need no engine");
    let mut status = program();
    status.arg("--control").arg(node.served.folder.socket()).arg("status");
    let status = spawn_blocking(move || run(status)).await.expect("it runs");
    let expected = "the engine has not answered within 3 s; see /livez (the engine has not run for ";
    assert!(status.code == Some(1) && status.stderr.contains(expected), "{}", status.stderr);

    node.end("Engine.stall");
    answers(&api, LIVEZ, 200).await;
    assert_eq!(api.get("/v1/overrides").await, json!([]));
    assert_eq!(node.served.stop().await, Some(0));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stall_that_lasts_ends_the_process() {
    let mut node = Faulty::start().await;
    node.inject("Engine.stall");
    assert_eq!(node.served.ended().await, Some(1));
    for (level, end) in [("WARN", " s"), ("ERROR", " s: the process ends, so that it can be started again")] {
        let is_it = |line: &Value| {
            let why = line["message"].as_str().unwrap_or_default();
            line["level"] == level && why.starts_with("the engine has not run for ") && why.ends_with(end)
        };
        node.served.logged(&format!("a line of level {level}"), is_it).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stop_ends_a_process_whose_engine_has_stalled() {
    let mut node = Faulty::start().await;
    node.inject("Engine.stall");
    answers(&node.served.api(), LIVEZ, 503).await;
    assert_eq!(node.served.stop().await, Some(1));
}

/// Whether the engine has not run for that long.
async fn stalled_for(api: &Api, seconds: u64) -> Option<()> {
    let why = answers(api, LIVEZ, 503).await;
    let mut numbers = why.split_whitespace().filter_map(|word| word.parse::<u64>().ok());
    numbers.next().filter(|silence| *silence >= seconds).map(drop)
}

/// The messages to a service manager.
struct Notified(UnixDatagram);

impl Notified {
    fn bind(path: &Path) -> Self {
        let socket = UnixDatagram::bind(path).expect("a socket in the temporary folder");
        socket.set_nonblocking(true).expect("an option");
        Self(socket)
    }

    /// The messages since the last call.
    fn received(&self) -> Vec<String> {
        let mut bytes = [0; 4096];
        let next = || {
            let length = self.0.recv(&mut bytes).ok()?;
            Some(String::from_utf8_lossy(&bytes[..length]).into_owned())
        };
        std::iter::from_fn(next).collect()
    }

    async fn until(&self, what: &str) {
        until(what, async || self.received().iter().any(|it| it.contains(what)).then_some(())).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn systemd_learns_that_the_node_is_ready_alive_and_stopping() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let path = folder.path().join("notify");
    let notified = Notified::bind(&path);
    let limit = Duration::from_secs(2).as_micros().to_string();
    let environment = [("NOTIFY_SOCKET", path.to_str().expect("UTF-8")), ("WATCHDOG_USEC", &*limit)];
    let mut node = Faulty::start_with(&environment).await;
    notified.until("READY=1").await;
    notified.until("WATCHDOG=1").await;
    node.inject("Engine.stall");
    answers(&node.served.api(), LIVEZ, 503).await;
    let api = node.served.api();
    until("the last message has been sent", async || stalled_for(&api, 7).await).await;
    notified.received();
    // A node that feeds the watchdog sends three messages meanwhile.
    until("the stall has lasted longer", async || stalled_for(&api, 10).await).await;
    assert_eq!(notified.received(), Vec::<String>::new(), "a stalled node does not feed the watchdog");
    node.end("Engine.stall");
    notified.until("WATCHDOG=1").await;
    node.served.signal(Signal::SIGTERM);
    notified.until("STOPPING=1").await;
    assert_eq!(node.served.ended().await, Some(0));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_blocked_api_delays_neither_probes_nor_failover_nor_a_stop() {
    let mut node = Faulty::start().await;
    let mut client = node.served.client().await;
    sent_to(&mut client, &node.three.eu).await;
    node.inject("Api.stall");
    let mut requests = JoinSet::new();
    for _ in 0..REQUESTS {
        let request = node.served.api().request(Method::GET, "/v1/status");
        requests.spawn(request.timeout(PATIENCE).send());
    }
    fails_over(&mut client, &node.three).await;
    fails_over(&mut client, &node.three).await;
    let reply = client.over_tcp(&query("static.example.test.", None)).await;
    assert_eq!(outcome(&reply).1.len(), 1);
    assert_eq!(node.served.stop().await, Some(0));
}
