//! What a node may no longer do once it runs, even with code of an attacker.

#![cfg(debug_assertions)]

use std::fs;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};

use nix::unistd::{User, geteuid};
use serde_json::Value;

use crate::harness::binary::{Served, program};
use crate::harness::client::query;
use crate::harness::folder::Folder;
use crate::harness::region::{DUBLIN, Region};
use crate::harness::skipped;

/// Where the faults of these tests try to write to.
const INTRUDER: &str = "intruder";

/// A node whose faults are files in its folder, and a region for its probes.
struct Sandboxed {
    served: Served,
    _region: Region,
}

impl Sandboxed {
    async fn start(prepare: impl FnOnce(&Folder)) -> Self {
        let region = Region::start("eu", 46);
        let folder = Folder::new(&region.config(DUBLIN, &[]));
        prepare(&folder);
        let mut program = program();
        program.env("PORTOLAN_FAULTS", folder.path(""));
        let served = Served::spawn_by(program, folder);
        served.ready().await;
        Self { served, _region: region }
    }

    /// What this part of the node experiences that tries to write to `path`.
    async fn writes(&self, part: &str, path: &str) -> String {
        self.outcome(part, "write", &self.served.folder.path(path).display().to_string()).await
    }

    async fn outcome(&self, part: &str, what: &str, path: &str) -> String {
        let fault = format!("{part}.{what}");
        self.served.folder.write(&fault, path);
        // Whatever makes the parts work that only wait.
        self.served.api().text("/livez").await;
        self.served.client().await.exchange(&query("static.example.test.", None)).await;
        self.served.client().await.over_tcp(&query("static.example.test.", None)).await;
        let is_outcome = |line: &Value| line["at"] == part && line["path"] == path;
        let line = self.served.logged(&format!("{fault} has an outcome"), is_outcome).await;
        fs::remove_file(self.served.folder.path(&fault)).expect("it is injected");
        line["outcome"].as_str().expect("a text").to_owned()
    }

    /// Whether the kernel has Landlock; the log says what is in force either way.
    async fn is_in_force(&self) -> bool {
        let is_about_it =
            |line: &Value| line["message"].as_str().is_some_and(|it| it.starts_with("Landlock"));
        let line = self.served.logged("the log says what is in force", is_about_it).await;
        let message = line["message"].as_str().expect("a text");
        if !message.starts_with("Landlock is in force") {
            assert_eq!(message, "Landlock is off: this kernel does not have it or has not enabled it");
            skipped(message);
            return false;
        }
        let store = self.served.folder.path("state");
        assert!(message.contains(&format!("no file written except in {}", store.display())), "{message}");
        true
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_part_of_a_node_writes_outside_of_its_state_or_executes_anything() {
    let mut node = Sandboxed::start(|_| ()).await;
    if !node.is_in_force().await {
        return;
    }
    for part in ["Engine", "Probe", "Check", "UdpWorker", "TcpListener", "Api"] {
        assert_eq!(node.writes(part, INTRUDER).await, "Err(PermissionDenied)", "{part}");
        assert_eq!(node.writes(part, "portolan.toml").await, "Err(PermissionDenied)", "{part}");
        assert_eq!(node.writes(part, &format!("state/{part}")).await, "Ok(())", "{part}");
    }
    assert!(!node.served.folder.path(INTRUDER).exists());
    for part in ["Api", "UdpWorker"] {
        assert_eq!(node.outcome(part, "execute", "/bin/true").await, "Err(PermissionDenied)", "{part}");
    }
    // Threads that no fault reaches, such as the log's, are restricted, too: what Landlock needs is set with it.
    let tasks = fs::read_dir(format!("/proc/{}/task", node.served.pid())).expect("it runs");
    for task in tasks {
        let status = fs::read_to_string(task.expect("a thread").path().join("status")).expect("it runs");
        assert!(status.contains("NoNewPrivs:\t1"), "{status}");
    }
    // Reloads may read new files, and what a node keeps still survives.
    node.served
        .folder
        .write("new.zone", "$TTL 60\n@ SOA ns h 1 3600 600 604800 30\n@ NS ns\nns A 192.0.2.53\n");
    node.served.folder.reconfigure("file   = \"example.test.zone\"", "file   = \"new.zone\"");
    let api = node.served.api();
    let (status, reloaded) = api.call(reqwest::Method::POST, "/v1/reload", None).await;
    assert_eq!(status, 200, "{reloaded}");
    let drain = serde_json::json!({"target": "region/eu", "action": "drain", "override_safety": true});
    let (status, reply) = api.call(reqwest::Method::POST, "/v1/overrides", Some(drain)).await;
    assert_eq!((status, &reply["not_durable"]), (200, &Value::Null), "{reply}");
    assert_eq!(node.served.stop().await, Some(0));
    assert!(!node.served.folder.socket().exists(), "the socket is removed");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_landlock_these_attempts_succeed() {
    let node = Sandboxed::start(Folder::without_landlock).await;
    assert_eq!(node.writes("Api", INTRUDER).await, "Ok(())");
    let executed = node.outcome("Api", "execute", "/bin/true").await;
    assert!(executed.starts_with("Ok"), "{executed}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_that_gives_up_root_is_restricted_and_owns_its_state() {
    if !geteuid().is_root() {
        return skipped("only root can give it up");
    }
    let mut node = Sandboxed::start(|folder| {
        folder.reconfigure("[node]\n", "[node]\nuser = \"nobody\"\n");
        fs::set_permissions(folder.path(""), fs::Permissions::from_mode(0o777)).expect("it is ours");
    })
    .await;
    if !node.is_in_force().await {
        return;
    }
    assert_eq!(node.writes("Api", INTRUDER).await, "Err(PermissionDenied)");
    let nobody = User::from_name("nobody").expect("a user database").expect("it has nobody");
    let state = fs::metadata(node.served.folder.path("state")).expect("it exists");
    assert_eq!((state.uid(), state.mode() & 0o777), (nobody.uid.as_raw(), 0o700));
    assert_eq!(node.served.stop().await, Some(0));
}
