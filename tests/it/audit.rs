//! The audit log: who asked for which change, and what came of it.

use nix::sys::signal::Signal;
use reqwest::Method;
use serde_json::{Value, json};
use tokio::io::AsyncWriteExt as _;
use tokio::net::TcpStream;

use crate::harness::binary::{Served, portolan_at};
use crate::harness::disk::Small;
use crate::harness::folder::{Folder, tokens};
use crate::harness::http::{Api, raw};
use crate::harness::node::TestNode;
use crate::harness::region::{Break, NEAREST, Region, Three};
use crate::harness::{me, skipped, until};

const ONE: &str = "[region.eu]\nendpoint = [{ name = \"lb1\", address = \"192.0.2.1\" }]\n";

/// A folder with a config of one region and these holders of tokens.
fn folder(holders: &[(&str, &str)]) -> Folder {
    let folder = Folder::new(ONE);
    folder.reconfigure("socket = \"control.sock\"", &tokens(holders));
    folder
}

async fn audit(api: &Api) -> Vec<Value> {
    api.get("/v1/audit").await.as_array().expect("a list").clone()
}

/// Action, target, who, result.
fn summary(entry: &Value) -> [String; 4] {
    ["action", "target", "who", "result"].map(|key| entry[key].as_str().unwrap_or("-").to_owned())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_change_is_recorded_with_who_what_and_what_came_of_it() {
    let node = TestNode::start(folder(&[("ci", "operator"), ("eve", "viewer")])).await;
    let stranger = Api::tcp(node.control());
    let (ci, eve) = (stranger.with_token("secret of ci"), stranger.with_token("secret of eve"));
    let drain = json!({"target": "region/eu", "action": "drain", "share": "25%", "for": "1h", "reason": "new kernel"});
    let first = ci.override_with(drain.clone()).await;
    let second = node.api.override_with(json!({"target": "region/eu", "action": "up"})).await;
    let nobody = json!({"target": "region/nobody", "action": "drain"});
    for (api, method, path, body, expected) in [
        (&ci, Method::POST, "/v1/overrides", Some(nobody), 404),
        (&ci, Method::POST, "/v1/overrides", Some(json!({"target": 7})), 400),
        (&eve, Method::POST, "/v1/overrides", Some(drain.clone()), 403),
        (&eve, Method::POST, "/v1/plan", Some(json!({"target": "region/eu", "action": "up"})), 200),
        (&node.api, Method::DELETE, &format!("/v1/overrides/{second}"), None, 200),
        (&node.api, Method::DELETE, "/v1/overrides/99", None, 404),
        (&ci, Method::POST, "/v1/acme", Some(json!({"name": "www.example.test", "token": "abc"})), 200),
        (&ci, Method::POST, "/v1/reload", None, 200),
        (&ci, Method::POST, "/v1/nothing", None, 404),
        (&ci, Method::POST, "/v1/status", None, 405),
        (&stranger, Method::POST, "/v1/reload", None, 401),
    ] {
        let (status, reply) = api.call(method, path, body).await;
        assert_eq!(status, expected, "{path}: {reply}");
    }
    node.folder.reconfigure("workers = 1", "workers = \"one\"");
    assert_eq!(ci.call(Method::POST, "/v1/reload", None).await.0, 422);

    let all = audit(&node.api).await;
    let (removed, user) = (format!("override {second}"), me());
    let expected = [
        ["set_override", "region/eu", "token ci", "accepted"],
        ["set_override", "region/eu", &user, "accepted"],
        ["set_override", "region/nobody", "token ci", "refused"],
        ["set_override", "-", "token ci", "refused"],
        ["set_override", "region/eu", "token eve", "refused"],
        ["remove_override", "region/eu", &user, "accepted"],
        ["remove_override", "override 99", &user, "refused"],
        ["show_challenge", "www.example.test", "token ci", "accepted"],
        ["reload", "-", "token ci", "accepted"],
        ["reload", "-", "no token", "refused"],
        ["reload", "-", "token ci", "refused"],
    ];
    assert_eq!(all.iter().map(summary).collect::<Vec<_>>(), expected, "{all:#?}");
    assert!(!all[5]["target"].as_str().unwrap().contains(&removed), "the target says more than its number");

    let entry = &all[0];
    assert_eq!((&entry["parameters"], &entry["reason"]), (&drain, &json!("new kernel")));
    assert!(entry["from"].as_str().expect("a text").starts_with("127.0.0.1:"), "{entry}");
    assert_eq!((&entry["before"], &entry["after"]["override"]["id"]), (&Value::Null, &json!(first)));
    let entry = &all[1];
    assert_eq!(entry["from"], "socket");
    assert_eq!(entry["before"]["override"]["id"], first, "the override that was replaced");
    assert_eq!(all[5]["before"]["override"]["id"], second);
    assert!(all[4]["why"].as_str().expect("a sentence").contains("has the role viewer"), "{}", all[4]);
    assert_eq!(all[4]["parameters"], drain, "what was refused to somebody known");
    assert_eq!(all[9]["from"], "127.0.0.1", "{}", all[9]);
    assert!(all[10]["why"].as_str().expect("a sentence").contains("expected an integer"), "{}", all[10]);
    let (before, after) = (&all[8]["before"], &all[8]["after"]);
    assert_eq!(before["config"], after["config"], "the same files");
    assert_eq!(before["config"].as_str().expect("a digest").len(), 64);
    assert!(before["epoch"].as_u64() < after["epoch"].as_u64(), "{before} {after}");

    node.folder.reconfigure("workers = \"one\"", "workers = 1");
    node.folder
        .write("example.test.zone", "$TTL 300\n@ SOA ns h 8 3600 600 86400 60\n@ NS ns\nns A 192.0.2.53\n");
    assert_eq!(ci.call(Method::POST, "/v1/reload", None).await.0, 200);
    let last = audit(&node.api).await.pop().expect("an entry");
    assert_ne!(last["before"]["config"], last["after"]["config"], "a zone is a part of the config");
    node.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn it_survives_a_restart_and_is_shown_to_holders_of_tokens() {
    let node = TestNode::start(folder(&[("eve", "viewer")])).await;
    for target in ["region/eu", "endpoint/eu/lb1"] {
        node.api.override_with(json!({"target": target, "action": "up"})).await;
    }
    let before = audit(&node.api).await;
    let node = node.restart().await;
    assert_eq!(audit(&node.api).await, before);
    node.api.override_with(json!({"target": "region/eu", "action": "down"})).await;
    let all = audit(&node.api).await;
    assert!(all.len() == 3 && all[2]["id"].as_u64() > all[1]["id"].as_u64(), "{all:#?}");

    let stranger = Api::tcp(node.control());
    let (status, problem) = stranger.call(Method::GET, "/v1/audit", None).await;
    assert!(status == 401 && problem["detail"].as_str().expect("a text").contains("token"), "{problem}");
    let eve = stranger.with_token("secret of eve");
    assert_eq!(audit(&eve).await, all);
    let got = async |query: &str| eve.get(&format!("/v1/audit?{query}")).await;
    assert_eq!(got("limit=1").await, json!([all[2]]), "the latest");
    let at = all[2]["at"].as_str().expect("a time");
    assert_eq!(got(&format!("since={at}")).await, json!([all[2]]));
    assert_eq!(got("since=2100-01-01T00:00:00Z").await, json!([]));
    for query in ["limit=x", "since=yesterday", "until=now"] {
        let (status, problem) = eve.call(Method::GET, &format!("/v1/audit?{query}"), None).await;
        assert_eq!(status, 400, "{query}: {problem}");
    }

    let folder = &node.folder;
    let json = portolan_at(folder, &["audit", "--json", "--limit", "2"]);
    let lines: Vec<Value> = json.stdout.lines().map(|it| serde_json::from_str(it).expect("JSON")).collect();
    assert_eq!(lines, all[1..], "{json:?}");
    let text = portolan_at(folder, &["audit", "--since", "1h"]);
    assert_eq!(text.stdout.lines().count(), 3, "{text:?}");
    let line = text.stdout.lines().next().expect("a line");
    assert!(line.contains(&format!("accepted  {} (socket): force up region/eu, override 1", me())), "{line}");
    node.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn strangers_that_knock_a_thousand_times_make_one_entry() {
    let node = TestNode::start(folder(&[("ci", "operator")])).await;
    let stranger = Api::tcp(node.control());
    let ci = stranger.with_token("secret of ci");
    ci.override_with(json!({"target": "region/eu", "action": "up"})).await;
    for number in 0..1000 {
        let body =
            json!({"target": format!("region/{number}"), "action": "down", "reason": "x".repeat(1000)});
        assert_eq!(stranger.call(Method::POST, "/v1/overrides", Some(body)).await.0, 401);
    }
    // What they write makes no entries of their own.
    for number in 0..100 {
        for (host, origin, status) in [
            (format!("h{number}.example"), String::new(), "421"),
            ("localhost".into(), format!("Origin: http://o{number}.example\r\n"), "403"),
        ] {
            let request = format!(
                "POST /v1/reload HTTP/1.1\r\nHost: {host}\r\n{origin}Content-Length: 0\r\nConnection: close\r\n\r\n"
            );
            let reply = raw(node.control(), &request).await;
            assert!(reply.starts_with(&format!("HTTP/1.1 {status} ")), "{reply}");
        }
    }
    let guess = stranger.with_token("guess");
    assert_eq!(guess.call(Method::POST, "/v1/reload", None).await.0, 401);
    let shown = async |api: &Api| {
        let all = audit(api).await;
        let counts = all.iter().map(|entry| (entry["who"].clone(), entry["count"].clone()));
        counts.map(|(who, count)| format!("{who} {count}")).collect::<Vec<_>>()
    };
    // The minute of an entry may end meanwhile.
    let all = audit(&node.api).await;
    assert!((5..=10).contains(&all.len()), "{all:#?}");
    let knocks: u64 = all
        .iter()
        .filter(|it| it["action"] == "set_override" && it["who"] == "no token")
        .map(|it| it["count"].as_u64().expect("a number"))
        .sum();
    assert_eq!(knocks, 1000, "{all:#?}");
    assert!(all.iter().all(|it| it["who"] != "no token" || it["parameters"].is_null()), "{all:#?}");
    let before = shown(&node.api).await;
    let node = node.restart().await;
    assert_eq!(shown(&node.api).await, before, "the count is written, too");
    node.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_change_is_recorded_though_its_client_leaves_at_once() {
    let node = TestNode::start(folder(&[("ci", "operator")])).await;
    let body = json!({"target": "region/eu", "action": "down"}).to_string();
    for number in 1..=20 {
        let mut stream = TcpStream::connect(node.control()).await.expect("a connection");
        let request = format!(
            "POST /v1/overrides HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer secret of ci\r\n\
             Content-Type: application/json\r\nContent-Length: {}\r\n\r\n{body}",
            body.len()
        );
        stream.write_all(request.as_bytes()).await.expect("it is sent");
        stream.set_zero_linger().expect("an option");
        drop(stream);
        node.api.override_with(json!({"target": "endpoint/eu/lb1", "action": "up"})).await;
        // Whether or not the request arrived whole: what the events have, the log has.
        until("log and events agree", async || {
            let made = node.api.events("override").await.len();
            let recorded = audit(&node.api).await.len();
            (made == recorded && made >= number).then_some(())
        })
        .await;
    }
    node.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn refusals_of_safety_rules_and_signals_are_recorded() {
    let three = Three::start();
    let folder =
        Folder::new(&[three.config(&[]), NEAREST.into(), "[safety]\nmin_regions = 3\n".into()].concat());
    let mut served = Served::start(folder).await;
    let api = served.api();
    let drain = json!({"target": "region/eu", "action": "drain"});
    assert_eq!(api.call(Method::POST, "/v1/overrides", Some(drain)).await.0, 409);
    served.signal(Signal::SIGHUP);
    until("it has reloaded", async || (audit(&api).await.len() == 2).then_some(())).await;
    served.folder.reconfigure("min_regions = 3", "min_regions = \"three\"");
    served.signal(Signal::SIGHUP);
    until("it has tried again", async || (audit(&api).await.len() == 3).then_some(())).await;
    let all = audit(&api).await;
    assert_eq!(
        all.iter().map(summary).collect::<Vec<_>>(),
        [
            ["set_override", "region/eu", &me(), "refused"],
            ["reload", "-", "SIGHUP", "accepted"],
            ["reload", "-", "SIGHUP", "refused"],
        ]
    );
    assert!(all[0]["why"].as_str().expect("a sentence").contains("min_regions"), "{}", all[0]);
    assert_eq!(all[1]["from"], "signal");
    assert!(all[1]["before"]["epoch"].as_u64() < all[1]["after"]["epoch"].as_u64(), "{}", all[1]);
    assert!(all[2]["why"].as_str().expect("a sentence").contains("expected an integer"), "{}", all[2]);
    assert_eq!(served.stop().await, Some(0));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn on_a_full_disk_changes_still_work_and_are_recorded_once_there_is_room() {
    let only = Region::start("eu", 1);
    let folder = Folder::new(&only.config("{ country = \"IE\" }", &[]));
    let Some(disk) = Small::mount(&folder.path("state")) else {
        return skipped("this user cannot mount a small file system");
    };
    let mut served = Served::start(folder).await;
    disk.fill();
    let api = served.api();
    let drain = json!({"target": "region/eu", "action": "drain"});
    let (status, reply) = api.call(Method::POST, "/v1/overrides", Some(drain)).await;
    assert!(status == 200 && reply["not_durable"].is_string(), "{reply}");
    assert_eq!(api.call(Method::POST, "/v1/reload", None).await.0, 200);
    let all = audit(&api).await;
    assert_eq!(all.iter().map(|it| &it["action"]).collect::<Vec<_>>(), ["set_override", "reload"]);
    let is_alarm = |line: &Value| line["why"].as_str().is_some_and(|why| why.contains("disk is full"));
    served.logged("the alarm", is_alarm).await;

    disk.make_room();
    served.logged("it is over", |line| line["message"] == "all_clear").await;
    assert_eq!(served.stop().await, Some(0));
    let mut served = Served::start(served.into_folder()).await;
    assert_eq!(audit(&served.api()).await, all);
    assert_eq!(served.stop().await, Some(0));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_older_than_the_retention_is_forgotten_and_does_not_return() {
    let kept = async |node: &TestNode| {
        let events = node.api.get("/v1/events").await;
        (events.as_array().expect("a list").len(), audit(&node.api).await.len())
    };
    let is_forgotten = async |node: &TestNode| {
        until("all is forgotten", async || (kept(node).await == (0, 0)).then_some(())).await
    };
    let [none, hour, second] = ["", "1h", "1s"].map(|age| {
        let retention = format!("[journal]\nretention = {{ age = \"{age}\" }}\n");
        if age.is_empty() { "[geo]\n".into() } else { format!("{retention}[geo]\n") }
    });
    let folder = Folder::new(ONE);
    folder.reconfigure(&none, &hour);
    let node = TestNode::start(folder).await;
    node.api.override_with(json!({"target": "region/eu", "action": "up"})).await;
    node.api.override_with(json!({"target": "endpoint/eu/lb1", "action": "up", "for": "1s"})).await;
    // What ends an override looks for what is too old as well.
    until("it expires", async || node.api.events("expire").await.pop()).await;
    assert_eq!(kept(&node).await, (4, 2), "what is younger stays, the start included");

    // By a reload.
    node.folder.reconfigure(&hour, &second);
    assert_eq!(node.api.call(Method::POST, "/v1/reload", None).await.0, 200);
    is_forgotten(&node).await;
    let overrides = node.api.get("/v1/overrides").await;
    assert_eq!(overrides.as_array().map(Vec::len), Some(1), "what applies stays");
    node.folder.reconfigure(&second, &none);
    let node = node.restart().await;
    assert_eq!(kept(&node).await, (2, 0), "the stop and the start");

    // By a start, of what an earlier run left.
    node.api.override_with(json!({"target": "region/eu", "action": "down"})).await;
    let folder = node.stop().await;
    folder.reconfigure(&none, &second);
    let node = TestNode::start(folder).await;
    is_forgotten(&node).await;
    node.folder.reconfigure(&second, &none);
    let node = node.restart().await;
    assert_eq!(kept(&node).await, (2, 0), "the stop and the start");
    node.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_a_state_dir_it_is_kept_in_memory_and_expiry_is_no_entry() {
    let only = Region::start("eu", 1);
    let folder = Folder::new(&only.config("{ country = \"IE\" }", &[]));
    folder.reconfigure("state_dir = \"state\"\n", "");
    let node = TestNode::start(folder).await;
    only.fail(Break::Refuse);
    node.api.override_with(json!({"target": "region/eu", "action": "up", "for": "1s"})).await;
    until("it expires", async || node.api.events("expire").await.pop()).await;
    assert_eq!(audit(&node.api).await.len(), 1);
    let node = node.restart().await;
    assert_eq!(audit(&node.api).await, [json!(null); 0]);
    node.stop().await;
}
