//! Commands that go on printing while the node runs, and what they leave out.

use std::fs;
use std::io::{BufRead as _, BufReader};
use std::process::{Child, Command};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::{Value, json};

use crate::harness::binary::{Served, portolan, portolan_at, program};
use crate::harness::folder::Folder;
use crate::harness::node::TestNode;
use crate::harness::screen::{collect, terminal, written};
use crate::harness::until;

const REGIONS: &str = "\
[region.eu]\nendpoint = [{ name = \"lb1\", address = \"192.0.2.1\" }]
[region.us]\nendpoint = [{ name = \"lb1\", address = \"192.0.2.2\" }]
[[service]]\nname = \"www.example.test.\"\nregions = [\"eu\", \"us\"]
";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn events_begin_at_the_moment_that_is_asked_for() {
    let node = TestNode::with(REGIONS).await;
    // Until an event has another time than the first one.
    let drain = async || {
        node.api.override_with(json!({"target": "region/us", "action": "drain", "share": "5%"})).await;
        let all = node.api.get("/v1/events").await.as_array().expect("a list").clone();
        (all.last()?["at"] != all.first()?["at"]).then_some(all)
    };
    let all = until("an event is later than the first", drain).await;
    let last = all.last().expect("an event")["at"].as_str().expect("a text").to_owned();
    // Written alike, times compare like texts.
    let later: Vec<_> = all.iter().filter(|event| event["at"].as_str() >= Some(&*last)).cloned().collect();
    assert!(!later.is_empty() && later.len() < all.len());
    let listed = |since: &str| {
        let done = portolan_at(&node.folder, &["events", "--json", "--since", since]);
        assert_eq!((done.code, &*done.stderr), (Some(0), ""), "{done:?}");
        done.stdout.lines().map(|line| serde_json::from_str(line).expect("JSON")).collect::<Vec<Value>>()
    };
    assert_eq!(listed("1h"), all);
    assert_eq!(listed(&last), later);
    assert_eq!(listed("0s"), Vec::<Value>::new());

    let mut command: Command = program();
    command.arg("--control").arg(node.folder.socket());
    command.args(["events", "--follow", "--json", "--since", &last]);
    let mut child = command.spawn().expect("it starts");
    let mut lines = BufReader::new(child.stdout.take().expect("a pipe")).lines();
    let mut next = || -> Value {
        let line = lines.next().expect("a line").expect("UTF-8");
        serde_json::from_str(&line).expect("JSON")
    };
    for expected in &later {
        assert_eq!(next(), *expected);
    }
    node.api.override_with(json!({"target": "region/us", "action": "drain", "share": "7%"})).await;
    let event = next();
    assert!(event["message"].as_str().expect("a text").contains("7%"), "{event}");
    node.stop().await;
    assert_eq!(child.wait().expect("our child").code(), Some(3));

    for (since, expected) in [
        ("yesterday", "write a time ago, such as 45s or 1h30m, or a moment, such as 2026-11-29T10:00:00Z"),
        ("2026-11-29T10:00:00", "say in which time zone"),
        ("2999-01-01T00:00:00Z", "that is in the future"),
    ] {
        let done = portolan(&["events", "--since", since]);
        assert!(done.code == Some(2) && done.stderr.contains(expected), "{done:?}");
    }
}

fn watch(folder: &Folder, options: &[&str]) -> Command {
    let mut command = program();
    command
        .arg("--control")
        .arg(folder.socket())
        .args(["status", "--watch", "--every", "100ms"])
        .args(options);
    command.env("TERM", "xterm").env_remove("NO_COLOR");
    command
}

async fn interrupted(mut child: Child) -> Option<i32> {
    kill(Pid::from_raw(child.id().cast_signed()), Signal::SIGINT).expect("it runs");
    until("it ends", async || child.try_wait().expect("our child")).await.code()
}

/// The lines of everything drawn, without what is for the terminal.
fn lines(drawn: &str) -> Vec<String> {
    let mut plain = String::new();
    let mut rest = drawn.chars();
    while let Some(c) = rest.next() {
        match c {
            // The cursor goes to the first line.
            '\u{1b}' if rest.by_ref().skip(1).find(char::is_ascii_alphabetic) == Some('H') => {
                plain.push('\n')
            }
            '\u{1b}' => {}
            '\r' => {}
            c => plain.push(c),
        }
    }
    plain.lines().map(str::to_owned).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn status_is_drawn_in_place_and_survives_a_restart_of_the_node() {
    for has_colours in [true, false] {
        let mut served = Served::start(Folder::new(REGIONS)).await;
        let (master, slave) = terminal(48, 30);
        let mut command = watch(&served.folder, &[]);
        command.stdout(slave);
        if !has_colours {
            command.env("NO_COLOR", "1");
        }
        let child = command.spawn().expect("it starts");
        drop(command);
        let shown = collect(master);
        let text = written(&shown, "REGION").await;
        assert!(text.starts_with("\u{1b}[?1049h\u{1b}[?25l"), "{text:?}");
        served.api().override_with(json!({"target": "region/us", "action": "drain"})).await;
        written(&shown, ", drain").await;
        assert_eq!(served.stop().await, Some(0));
        written(&shown, "lost the node at ").await;
        let mut served = Served::start(served.into_folder()).await;
        written(&shown, "the node answers again at ").await;
        assert_eq!(interrupted(child).await, Some(0));
        let text = written(&shown, "\u{1b}[?1049l").await;
        assert!(text.ends_with("\u{1b}[?7h\u{1b}[?25h\u{1b}[?1049l"), "{text:?}");
        let longest = lines(&text).iter().map(|line| line.chars().count()).max();
        assert_eq!(longest, Some(48), "{text:?}");
        assert_eq!(text.contains("\u{1b}[3"), has_colours, "{text:?}");
        assert_eq!(text.matches("\u{1b}[2J").count(), 1, "it is never cleared again, which would flicker");
        assert_eq!(served.stop().await, Some(0));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_watcher_that_is_suspended_gives_the_terminal_back_meanwhile() {
    const ENTER: &str = "\u{1b}[?1049h";
    const LEAVE: &str = "\u{1b}[?1049l";
    let mut served = Served::start(Folder::new(REGIONS)).await;
    let (master, slave) = terminal(48, 30);
    let mut command = watch(&served.folder, &[]);
    command.stdout(slave);
    let child = command.spawn().expect("it starts");
    drop(command);
    let shown = collect(master);
    written(&shown, "REGION").await;
    let watcher = Pid::from_raw(child.id().cast_signed());
    let state = async || {
        let stat = fs::read_to_string(format!("/proc/{watcher}/stat")).expect("it runs");
        stat.rsplit_once(") ").and_then(|(_, rest)| rest.chars().next())
    };
    kill(watcher, Signal::SIGTSTP).expect("it runs");
    until("it is stopped", async || (state().await == Some('T')).then_some(())).await;
    let text = written(&shown, LEAVE).await;
    assert!(text.ends_with(LEAVE), "{text:?}");
    kill(watcher, Signal::SIGCONT).expect("it is stopped");
    let again = [LEAVE, ENTER].concat();
    until("it draws again", async || {
        let text = shown.lock().expect("nobody panics").clone();
        text.split_once(&again).is_some_and(|(_, after)| after.contains("REGION")).then_some(())
    })
    .await;
    assert_eq!(interrupted(child).await, Some(0));
    assert_eq!(served.stop().await, Some(0));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn elsewhere_each_change_is_a_block() {
    let mut served = Served::start(Folder::new(REGIONS)).await;
    let start = |options: &[&str]| {
        let mut child = watch(&served.folder, options).spawn().expect("it starts");
        let shown = collect(child.stdout.take().expect("a pipe"));
        (child, shown)
    };
    let ((blocks, shown), (objects, documents)) = (start(&[]), start(&["--json"]));
    written(&shown, "SERVICE").await;
    written(&documents, "}\n").await;
    // Until what changes by itself has changed, for both.
    let api = served.api();
    until("time passes", async || {
        (api.get("/v1/status").await["node"]["uptime_s"].as_u64()? >= 3).then_some(())
    })
    .await;
    api.override_with(json!({"target": "region/us", "action": "drain"})).await;
    let text = written(&shown, ", drain").await;
    assert_eq!(text.matches("REGION ").count(), 2, "{text}");
    written(&documents, "\"usable\":\"no\"").await;
    assert_eq!(served.stop().await, Some(0));
    written(&shown, "lost the node at ").await;
    let mut served = Served::start(served.into_folder()).await;
    let text = written(&shown, "the node answers again at ").await;
    assert!(!text.contains('\u{1b}'), "{text:?}");
    assert_eq!((interrupted(blocks).await, interrupted(objects).await), (Some(0), Some(0)));
    let documents = documents.lock().expect("nobody panics").clone();
    for line in documents.lines() {
        let status: Value = serde_json::from_str(line).expect("one object in a line");
        assert_eq!(status["node"]["name"], "test");
    }
    assert_eq!(served.stop().await, Some(0));

    for (arguments, expected) in [
        (&["status", "--every", "1s"][..], "--watch"),
        (&["status", "--watch", "--every", "1ms"], "write at least 100ms"),
    ] {
        let done = portolan(arguments);
        assert!(done.code == Some(2) && done.stderr.contains(expected), "{done:?}");
    }
    let nowhere = portolan(&["--control", "127.0.0.1:1", "status", "--watch"]);
    assert_eq!(nowhere.code, Some(3), "{nowhere:?}");
}
