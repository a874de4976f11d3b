//! The query log: lines of JSON, and dnstap for the readers of others.

use std::fs;
use std::io::{Read as _, Write as _};
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::net::UnixListener;
use std::path::Path;
use std::process::Command;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::{Value, json};

use crate::harness::binary::{Killed, Served, clean, is_installed, run};
use crate::harness::client::{Client, query};
use crate::harness::folder::Folder;
use crate::harness::node::TestNode;
use crate::harness::region::{GERMAN, NEAREST};
use crate::harness::tool::Tool;
use crate::harness::{skipped, until};
use crate::overrides::REGIONS;

const DROPPED: &str = "portolan_dns_query_log_dropped_total";

/// A config whose `[dns]` has these lines, too.
fn folder(dns: &str) -> Folder {
    let folder = Folder::new(&[REGIONS, NEAREST].concat());
    folder.reconfigure("workers = 1\n", &format!("workers = 1\n{dns}\n"));
    folder
}

/// The entries of the log, once there are so many.
async fn entries(folder: &Folder, count: usize) -> Vec<Value> {
    let lines = until("the lines are written", async || {
        let text = fs::read_to_string(folder.path("queries.log")).unwrap_or_default();
        let lines: Vec<String> = text.lines().map(Into::into).collect();
        (lines.len() >= count && text.ends_with('\n')).then_some(lines)
    });
    let lines = lines.await;
    assert_eq!(lines.len(), count, "{lines:#?}");
    lines.iter().map(|line| serde_json::from_str(line).expect(line)).collect()
}

#[track_caller]
fn assert_has(entry: &Value, expected: Value) {
    for (name, value) in expected.as_object().expect("an object") {
        assert_eq!(entry[name], *value, "{name} of {entry:#}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_line_says_who_asked_what_and_what_the_answer_was() {
    let Some(dig) = Tool::dig() else { return };
    let node = TestNode::start(folder("query_log = { to = \"queries.log\" }")).await;
    let asked = |arguments: &[&str]| dig.ask(&node, arguments);
    asked(&["+subnet=10.1.7.0/24", "wWw.example.test", "A"]);
    let [entry] = &entries(&node.folder, 1).await[..] else { unreachable!() };
    let expected = json!({
        "client": "127.0.0.1", "server": node.dns.to_string(), "transport": "udp", "name": "www.example.test.",
        "class": "IN", "type": "A", "subnet": "10.1.7.0/24", "scope": 24, "outcome": "dynamic",
        "service": "www.example.test.", "region": "eu", "rcode": "NOERROR", "truncated": false,
    });
    assert_has(entry, expected);
    let answers = entry["answers"].as_array().expect("a list");
    assert!(
        !answers.is_empty()
            && answers.iter().all(|it| ["192.0.2.1", "192.0.2.11"].contains(&it.as_str().unwrap()))
    );
    assert!(entry["time"].as_str().is_some_and(|time| time.parse::<jiff::Timestamp>().is_ok()), "{entry}");
    assert!(entry["port"].is_u64() && entry["received"].is_u64() && entry["sent"].is_u64(), "{entry}");
    for (count, arguments, expected) in [
        (
            2,
            &["alias.example.test", "A", "+tcp"][..],
            json!({"transport": "tcp", "outcome": "dynamic", "subnet": null, "scope": null}),
        ),
        (
            3,
            &["static.example.test", "A"],
            json!({"outcome": "static", "service": null, "region": null, "answers": ["192.0.2.1"]}),
        ),
        (
            4,
            &["gone.example.test", "AAAA"],
            json!({"outcome": "negative", "rcode": "NXDOMAIN", "answers": []}),
        ),
        (
            5,
            &["www.example.org", "TYPE65280"],
            json!({"outcome": "refused", "rcode": "REFUSED", "type": "TYPE65280"}),
        ),
        (6, &["version.bind", "TXT", "CH"], json!({"outcome": "refused", "class": "CH", "type": "TXT"})),
        (
            7,
            &["+ednsopt=8:0001", "www.example.test", "A"],
            json!({"outcome": "refused", "rcode": "FORMERR", "subnet": null}),
        ),
    ] {
        asked(arguments);
        assert_has(&entries(&node.folder, count).await[count - 1], expected);
    }
    let client = node.client().await;
    client.send(b"\0\x01\x80").await;
    let nothing = json!({"outcome": "dropped", "name": null, "rcode": null, "answers": null, "received": 3, "sent": null});
    assert_has(&entries(&node.folder, 8).await[7], nothing);
    assert_eq!(node.api.metric(DROPPED).await, Some(0.0));
}

#[tokio::test]
async fn those_who_may_not_ask_and_those_who_ask_too_much_are_logged_as_such() {
    let log = "query_log = { to = \"queries.log\" }";
    let node = TestNode::start(folder(&format!("{log}\nallow = [\"10.0.0.0/8\"]"))).await;
    node.client().await.exchange(&query("www.example.test.", None)).await;
    assert_has(
        &entries(&node.folder, 1).await[0],
        json!({"outcome": "denied", "rcode": "REFUSED", "region": null}),
    );
    let limit = "rate_limit = { responses_per_second = 1, slip = 2 }";
    let node = TestNode::start(folder(&format!("{log}\n{limit}"))).await;
    let client = node.client().await;
    for _ in 0..100 {
        client.send(&query("static.example.test.", None).to_vec().expect("a query")).await;
    }
    let entries = entries(&node.folder, 100).await;
    for (outcome, rcode) in
        [("static", json!("NOERROR")), ("slipped", json!("NOERROR")), ("limited", json!(null))]
    {
        let entry = entries.iter().find(|it| it["outcome"] == outcome).expect(outcome);
        assert_has(entry, json!({"rcode": rcode, "truncated": rcode.as_str().map(|_| outcome == "slipped")}));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_sample_is_logged() {
    let node = TestNode::start(folder("query_log = { to = \"queries.log\", sample = \"50%\" }")).await;
    node.client().await.exchange_all(&vec![query("www.example.test.", None); 200]).await;
    let folder = node.stop().await;
    let count = fs::read_to_string(folder.path("queries.log")).expect("the log").lines().count();
    // The odds against it are 10^14 to 1.
    assert!((45..=155).contains(&count), "{count}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_log_is_rotated_and_survives_a_full_disk() {
    let node = TestNode::start(folder("query_log = { to = \"queries.log\" }")).await;
    let ask = async || {
        let reply = node.client().await.exchange(&query("www.example.test.", Some(GERMAN))).await;
        assert!(!reply.answers.is_empty());
    };
    ask().await;
    entries(&node.folder, 1).await;
    let mode = fs::metadata(node.folder.path("queries.log")).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o640, "whatever the umask is");
    fs::rename(node.folder.path("queries.log"), node.folder.path("queries.log.1")).unwrap();
    reload(&node).await;
    ask().await;
    entries(&node.folder, 1).await;
    // A disk that takes nothing.
    node.folder.reconfigure("queries.log", "/dev/full");
    reload(&node).await;
    ask().await;
    dropped(&node, 1.0).await;
    node.folder.reconfigure("/dev/full", "none/queries.log");
    let warnings = reload(&node).await["warnings"].to_string();
    assert!(
        warnings.contains("queries are not logged: cannot open ") && warnings.contains("No such file"),
        "{warnings}"
    );
    node.folder.reconfigure("query_log = { to = \"none/queries.log\" }", "");
    reload(&node).await;
    ask().await;
    let folder = node.stop().await;
    entries(&folder, 1).await;
}

async fn reload(node: &TestNode) -> Value {
    let (status, answer) = node.api.call(reqwest::Method::POST, "/v1/reload", None).await;
    assert_eq!(status, 200, "{answer}");
    answer
}

/// Waits until this many records are dropped.
async fn dropped(node: &TestNode, count: f64) {
    until("what is not written is counted", async || {
        (node.api.metric(DROPPED).await == Some(count)).then_some(())
    })
    .await;
}

/// A program that reads dnstap and writes it to a file.
fn capture(socket: &Path, file: &Path) -> Killed {
    let mut command = clean(Command::new("fstrm_capture"));
    command.args(["-t", "protobuf:dnstap.Dnstap", "-u"]).arg(socket).arg("-w").arg(file);
    Killed(command.spawn().expect("fstrm_capture"))
}

/// What another program makes of such a file: the message, the transport and the question of each record.
fn read(file: &Path) -> Vec<String> {
    let mut command = clean(Command::new("dnstap-read"));
    command.arg(file);
    let done = run(command);
    assert_eq!(done.code, Some(0), "{done:?}");
    let line = |line: &str| {
        let fields: Vec<_> = line.split_whitespace().collect();
        let [_, _, kind, _, _, _, transport, _, question] = &fields[..] else { panic!("{line}") };
        format!("{kind} {transport} {question}")
    };
    done.stdout.lines().map(line).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_reader_of_dnstap_may_come_late_and_go_early() {
    for (program, package) in [("fstrm_capture", "fstrm-bin"), ("dnstap-read", "bind9-dnsutils")] {
        if !is_installed(program) {
            return skipped(&format!("{program} is not installed (Debian package {package})"));
        }
    }
    let mut node = Served::start(folder("query_log = { dnstap = \"tap.sock\" }")).await;
    let mut client = node.client().await;
    client.exchange(&query("www.example.test.", None)).await;
    node.logged("there is no reader", |line| {
        let error = line["error"].as_str().unwrap_or_default();
        line["message"] == "cannot write the query log: records are dropped"
            && error.starts_with("no reader of dnstap at ")
            && error.ends_with("tap.sock: No such file or directory (os error 2)")
    })
    .await;
    let (socket, [first, second]) =
        (node.folder.path("tap.sock"), ["first.tap", "second.tap"].map(|name| node.folder.path(name)));
    let is_connected = |line: &Value| line["message"] == "connected to the reader of dnstap";
    let connected = async |times: usize, client: &mut Client| {
        until("it is connected", async || {
            client.exchange(&query("www.example.test.", None)).await;
            (node.log().iter().filter(|line| is_connected(line)).count() == times).then_some(())
        })
        .await;
    };
    let reader = capture(&socket, &first);
    connected(1, &mut client).await;
    drop(reader);
    fs::remove_file(&socket).expect("it was killed");
    let before = node.api().metric(DROPPED).await;
    until("the reader is missed", async || {
        client.exchange(&query("www.example.test.", None)).await;
        (node.api().metric(DROPPED).await > before).then_some(())
    })
    .await;
    let mut reader = capture(&socket, &second);
    connected(2, &mut client).await;
    client.exchange(&query("gone.example.test.", None)).await;
    client.over_tcp(&query("static.example.test.", None)).await;
    client.send(b"\0\x01\x80").await;
    until("all have arrived", async || {
        (node.api().metric("portolan_dns_dropped_total").await == Some(1.0)).then_some(())
    })
    .await;
    assert_eq!(node.stop().await, Some(0));
    kill(Pid::from_raw(reader.0.id().cast_signed()), Signal::SIGTERM).expect("it runs");
    until("the reader has written its file", async || reader.0.try_wait().expect("our child")).await;
    let read = read(&second);
    for expected in [
        "AR UDP www.example.test/IN/A",
        "AR UDP gone.example.test/IN/A",
        "AR TCP static.example.test/IN/A",
        "AQ UDP ?/?/?",
    ] {
        assert!(read.iter().any(|line| line == expected), "{expected} is not in {read:#?}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_reader_of_dnstap_that_is_stuck_keeps_nobody_waiting() {
    let folder = folder("query_log = { dnstap = \"tap.sock\" }");
    let listener = UnixListener::bind(folder.path("tap.sock")).expect("a free path");
    let node = TestNode::start(folder).await;
    let mut client = node.client().await;
    // Accepts the stream and reads none of it.
    client.exchange(&query("www.example.test.", None)).await;
    let accepted = tokio::task::spawn_blocking(move || {
        let (mut stream, _) = listener.accept().expect("a connection");
        stream.read_exact(&mut [0; 42]).expect("READY");
        stream.write_all(b"\0\0\0\0\0\0\0\x04\0\0\0\x01").expect("a writer");
        stream
    });
    let _stream = accepted.await.expect("no panic");
    let long = format!("{}.www.example.test.", vec!["x".repeat(60); 3].join("."));
    let queries = vec![query(&long, None); 500];
    until("the queue is full", async || {
        // Each has its answer.
        client.exchange_all(&queries).await;
        node.api.metric(DROPPED).await.filter(|dropped| *dropped > 0.0)
    })
    .await;
    // Nor the end of the node.
    node.stop().await;
}
