//! Overrides: over the socket and over TCP, with an expiry, across a restart, and within the safety rules.

use hickory_proto::op::ResponseCode;
use reqwest::Method;
use serde_json::{Value, json};

use crate::harness::binary::{Done, portolan, portolan_at, program, run};
use crate::harness::client::{outcome, query};
use crate::harness::folder::{Folder, tokens};
use crate::harness::http::Api;
use crate::harness::node::TestNode;
use crate::harness::region::{ASIAN, Break, GERMAN, NEAREST, Three};
use crate::harness::{me, until};

/// Three regions without probes, which are always up, on purpose.
pub(crate) const REGIONS: &str = "\
[region.eu]\nlocation = { country = \"IE\", lat = 53.35, lon = -6.26 }
endpoint = [{ name = \"lb1\", address = \"192.0.2.1\", probe = [] }, { name = \"lb2\", address = \"192.0.2.11\", probe = [] }]
[region.us]\nlocation = { country = \"US\", lat = 38.95, lon = -77.45 }
endpoint = [{ name = \"lb1\", address = \"192.0.2.2\", probe = [] }]
[region.ap]\nlocation = { country = \"SG\", lat = 1.35, lon = 103.8 }
endpoint = [{ name = \"lb1\", address = \"192.0.2.3\", probe = [] }]
";

/// A service with only one of them.
const ONLY: &str = "[[service]]\nname = \"only.example.test.\"\nregions = [\"eu\"]\n\n";

fn config() -> String {
    [REGIONS, NEAREST].concat()
}

/// The last octet of the address that a German client of the usual name gets.
async fn german(node: &TestNode) -> u8 {
    match node.client().await.address("www.example.test.", GERMAN).await {
        std::net::IpAddr::V4(address) => address.octets()[3],
        other => panic!("{other}"),
    }
}

#[track_caller]
fn assert_done(done: &Done, code: i32, stdout: &str, stderr: &str) {
    assert_eq!(done.code, Some(code), "{done:?}");
    assert!(done.stdout.contains(stdout), "expected {stdout:?} in {done:?}");
    assert!(done.stderr.contains(stderr), "expected {stderr:?} in {done:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn overrides_and_events_name_who_made_them() {
    let folder = Folder::new(&config());
    folder.reconfigure("socket = \"control.sock\"", &tokens(&HOLDERS));
    let node = TestNode::start(folder).await;
    let olga = Api::tcp(node.control()).with_token("secret of olga");
    let id = olga.override_with(json!({"target": "region/us", "action": "down"})).await;
    node.api.override_with(json!({"target": "region/ap", "action": "down"})).await;
    let by = |list: &Value| -> Vec<Value> {
        list.as_array().expect("a list").iter().map(|it| it["by"].clone()).collect()
    };
    let me = me();
    assert_eq!(by(&olga.get("/v1/overrides").await), ["token olga", &*me]);
    assert_eq!(olga.region("us").await["override"]["by"], "token olga");
    node.api.restore(id).await;
    let (status, reply) = olga.call(Method::POST, "/v1/reload", None).await;
    assert_eq!(status, 200, "{reply}");
    node.folder.reconfigure("workers = 1", "workers = \"one\"");
    assert_eq!(olga.call(Method::POST, "/v1/reload", None).await.0, 422);
    node.folder.reconfigure("workers = \"one\"", "workers = 1");
    for (event, expected, text) in [
        ("override", &["token olga", &*me][..], "override 1 by token olga: down region/us"),
        ("restore", &[&*me], &*format!("override 1 removed by {me}: down region/us")),
        ("reload", &["token olga"], "config reloaded by token olga"),
        ("reload_failed", &["token olga"], "config not reloaded by token olga, the one before still applies"),
    ] {
        let reported = node.api.events(event).await;
        let by: Vec<&Value> = reported.iter().map(|it| &it["fields"]["by"]).collect();
        assert_eq!(by, expected, "{event}");
        assert!(reported[0]["message"].as_str().expect("a text").starts_with(text), "{reported:?}");
    }
    let node = node.restart().await;
    assert_eq!(by(&node.api.get("/v1/overrides").await), [&*me], "it is kept with the override");
    let listed = portolan_at(&node.folder, &["overrides"]);
    assert!(listed.stdout.contains("BY") && listed.stdout.contains(&me), "{listed:?}");
    let audit = node.api.get("/v1/audit").await;
    let who: Vec<&Value> = audit.as_array().expect("a list").iter().map(|it| &it["who"]).collect();
    assert_eq!(who, ["token olga", &*me, &*me, "token olga", "token olga"], "the audit log names the same");

    let folder = node.stop().await;
    let db = rusqlite::Connection::open(folder.path("state/portolan.db")).expect("a journal");
    db.execute("UPDATE override SET said_by = 'socket'", []).expect("what an earlier version stored");
    drop(db);
    let node = TestNode::start(folder).await;
    assert_eq!(by(&node.api.get("/v1/overrides").await), ["socket"]);
    node.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_reload_removes_and_adds_tokens() {
    let folder = Folder::new(&config());
    folder.reconfigure("socket = \"control.sock\"", &tokens(&HOLDERS));
    let node = TestNode::start(folder).await;
    let tcp = Api::tcp(node.control());
    let statuses = async || {
        let drain = json!({"target": "region/us", "action": "drain"});
        let mut statuses = Vec::new();
        for secret in ["secret of olga", "secret of ada"] {
            let api = tcp.with_token(secret);
            statuses.push(api.call(Method::POST, "/v1/overrides", Some(drain.clone())).await.0);
        }
        statuses
    };
    assert_eq!(statuses().await, [200, 200]);
    let (all, none) = (tokens(&HOLDERS), "socket = \"control.sock\"".to_owned());
    let fewer = all.replace("operator", "viewer");
    for (from, to, expected) in
        [(&all, &fewer, [403, 200]), (&fewer, &none, [401, 401]), (&none, &all, [200, 200])]
    {
        node.folder.reconfigure(from, to);
        let (status, reply) = node.api.call(Method::POST, "/v1/reload", None).await;
        assert_eq!((status, &reply["warnings"]), (200, &json!([])), "{reply}");
        assert_eq!(statuses().await, expected, "with {to}");
    }
    node.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn status_names_what_withdraws_a_region() {
    let node = TestNode::with(&config()).await;
    let us = || {
        let status = portolan_at(&node.folder, &["status"]);
        let row = status.stdout.lines().find(|line| line.trim_start().starts_with("us "));
        row.unwrap_or_else(|| panic!("{status:?}")).split_whitespace().collect::<Vec<_>>().join(" ")
    };
    node.api.override_with(json!({"target": "region/us", "action": "drain", "share": "25%"})).await;
    assert!(us().ends_with("override 1 drain 25%") && !us().contains(", drained"), "{}", us());
    node.api.override_with(json!({"target": "endpoint/us/lb1", "action": "down"})).await;
    assert!(
        us().contains("not probed, forced down")
            && us().ends_with("lb1: override 2 down; override 1 drain 25%"),
        "{}",
        us()
    );
    node.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn clients_leave_drained_targets_and_return_to_restored_ones() {
    let node = TestNode::with(&config()).await;
    let at_home = |last| matches!(last, 1 | 11);
    assert!(at_home(german(&node).await));
    for (target, drained) in [
        ("region/eu", 2),
        ("service/www.example.test/eu", 2),
        ("endpoint/eu/lb1", 11),
        ("endpoint/eu/lb2", 1),
    ] {
        let done = portolan_at(&node.folder, &["drain", target, "--reason", "new kernel"]);
        assert_done(&done, 0, &format!("drain {target}, until restored"), "");
        assert_eq!(german(&node).await, drained, "{target}");
        let listed = portolan_at(&node.folder, &["overrides"]);
        assert_done(&listed, 0, target, "");
        assert_done(&listed, 0, "new kernel", "");
        let event = node.api.events("override").await.pop().expect("an event");
        let fields = &event["fields"];
        let reported = (&fields["target"], &fields["action"], &fields["reason"]);
        assert_eq!(reported, (&target.into(), &"drain".into(), &"new kernel".into()));

        assert_done(&portolan_at(&node.folder, &["restore", target]), 0, "removed override", "");
        assert!(at_home(german(&node).await), "{target}");
        assert_eq!(node.api.events("restore").await.pop().expect("an event")["fields"]["target"], target);
    }
    assert_done(&portolan_at(&node.folder, &["overrides"]), 0, "no overrides", "");
    node.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_override_never_changes_the_verdict() {
    let three = Three::start();
    let node = TestNode::with(&[three.config(&[]), NEAREST.into()].concat()).await;
    let mut client = node.client().await;
    let mut german_at = async |region: &crate::harness::region::Region| {
        until("the German client moves", async || {
            (client.address("www.example.test.", GERMAN).await == region.ip()).then_some(())
        })
        .await;
    };
    assert_done(&portolan_at(&node.folder, &["force", "region/eu", "down"]), 0, "down region/eu", "");
    german_at(&three.us).await;
    let region = node.api.region("eu").await;
    assert_eq!((&region["verdict"], &region["usable"]), (&"up".into(), &"no".into()));
    assert_eq!(region["override"]["action"], "down");

    three.eu.fail(Break::Refuse);
    until("its fall is seen", async || (node.api.region("eu").await["verdict"] == "down").then_some(()))
        .await;
    assert_done(&portolan_at(&node.folder, &["force", "region/eu", "up"]), 0, "up region/eu", "");
    german_at(&three.eu).await;
    let region = node.api.region("eu").await;
    assert_eq!((&region["verdict"], &region["usable"]), (&"down".into(), &"yes".into()));

    assert_done(&portolan_at(&node.folder, &["restore", "region/eu"]), 0, "removed override", "");
    german_at(&three.us).await;
    node.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_drain_keeps_a_share_of_clients_away_and_always_the_same() {
    let node = TestNode::with(&config()).await;
    let queries: Vec<_> =
        (0..=255).map(|third| query("www.example.test.", Some(&format!("10.1.{third}.0/24")))).collect();
    let mut client = node.client().await;
    let mut moved = async || -> Vec<bool> {
        let replies = client.exchange_all(&queries).await;
        replies
            .iter()
            .map(|reply| outcome(reply).1 == ["192.0.2.2".parse::<std::net::IpAddr>().unwrap()])
            .collect()
    };
    assert!(moved().await.iter().all(|moved| !moved));
    let mut before = vec![false; queries.len()];
    for (share, least, most) in [("25%", 40, 90), ("75%", 165, 220), ("100%", 256, 256)] {
        let done = portolan_at(&node.folder, &["drain", "region/eu", "--share", share]);
        assert_done(&done, 0, "drain region/eu", "");
        let now = moved().await;
        let count = now.iter().filter(|moved| **moved).count();
        assert!((least..=most).contains(&count), "{share}: {count} of 256 are kept away");
        let back = before.iter().zip(&now).filter(|(before, now)| **before && !**now).count();
        assert_eq!(back, 0, "a larger share includes the clients of a smaller one");
        before = now;
    }
    node.stop().await;
}

const HOLDERS: [(&str, &str); 3] = [("eve", "viewer"), ("olga", "operator"), ("ada", "admin")];

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn changes_over_tcp_need_a_token_with_the_right_role() {
    let folder = Folder::new(&[&config(), ONLY].concat());
    folder.reconfigure("socket = \"control.sock\"", &tokens(&HOLDERS));
    let node = TestNode::start(folder).await;
    let open = Api::tcp(node.control());
    let drain = json!({"target": "region/eu", "action": "drain"});
    let unsafe_drain = json!({"target": "region/eu", "action": "drain", "override_safety": true});
    let cases = [
        (None, &drain, 401, "need a token"),
        (Some("guess"), &drain, 401, "not valid"),
        (Some("secret of eve"), &drain, 403, "viewer"),
        (Some("secret of olga"), &unsafe_drain, 403, "requires the role admin"),
        (Some("secret of olga"), &drain, 409, "min_regions = 1 forbids this"),
        (Some("secret of ada"), &unsafe_drain, 200, ""),
    ];
    for (token, body, status, detail) in cases {
        let api = token.map_or_else(|| open.clone(), |token| open.with_token(token));
        let (got, reply) = api.call(Method::POST, "/v1/overrides", Some(body.clone())).await;
        assert_eq!(got, status, "{token:?}: {reply}");
        assert!(reply["detail"].as_str().unwrap_or_default().contains(detail), "{reply}");
    }
    assert_eq!(open.get("/v1/overrides").await.as_array().map(Vec::len), Some(1), "reads need nothing");
    for (token, status) in [(None, 401), (Some("secret of eve"), 403), (Some("secret of olga"), 200)] {
        let api = token.map_or_else(|| open.clone(), |token| open.with_token(token));
        let (reload, _) = api.call(Method::POST, "/v1/reload", None).await;
        let (delete, _) = api.call(Method::DELETE, "/v1/overrides/1", None).await;
        assert_eq!((reload, delete), (status, status), "{token:?}");
    }
    node.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_command_line_sends_tokens() {
    let folder = Folder::new(&config());
    folder.reconfigure("socket = \"control.sock\"", &tokens(&HOLDERS));
    let node = TestNode::start(folder).await;
    let control = node.control().to_string();
    let drain = ["--control", &control, "drain", "region/us"];
    let refused = portolan(&drain);
    assert_done(&refused, 1, "", "wants a token: give it with --token or PORTOLAN_TOKEN");
    assert!(!refused.stderr.contains("Bearer"), "{refused:?}");
    let mut without = program();
    without.args(drain).env("PORTOLAN_TOKEN", "");
    assert_eq!(run(without).stderr, refused.stderr, "a variable set to nothing counts as not set");
    assert_done(&portolan(&[&drain[..], &["--token", "secret of eve"]].concat()), 1, "", "viewer");
    assert_done(&portolan(&[&drain[..], &["--token", "secret of olga"]].concat()), 0, "drain region/us", "");
    let mut restore = program();
    restore.args(["restore", "region/us"]);
    restore.env("PORTOLAN_CONTROL", format!("http://{control}")).env("PORTOLAN_TOKEN", "secret of olga");
    assert_done(&run(restore), 0, "removed override", "");
    node.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn overrides_survive_a_restart_and_removed_ones_do_not() {
    let node = TestNode::with(&config()).await;
    let kept =
        node.api.override_with(json!({"target": "region/eu", "action": "drain", "reason": "works"})).await;
    let gone = node.api.override_with(json!({"target": "region/ap", "action": "down"})).await;
    node.api.restore(gone).await;
    let before = node.api.get("/v1/overrides").await;
    assert_eq!(before[0]["id"], kept);

    let node = node.restart().await;
    assert_eq!(node.api.get("/v1/overrides").await, before);
    assert_eq!(german(&node).await, 2, "from the first answer on");
    let next = node.api.override_with(json!({"target": "region/ap", "action": "drain"})).await;
    assert!(next > gone, "ids are never reused: {next} after {gone}");
    assert_done(&portolan_at(&node.folder, &["restore", "region/eu"]), 0, "removed override", "");
    assert_done(&portolan_at(&node.folder, &["restore", "region/ap"]), 0, "removed override", "");

    let node = node.restart().await;
    assert_eq!(node.api.get("/v1/overrides").await, json!([]));
    assert!(matches!(german(&node).await, 1 | 11));
    node.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_a_state_dir_the_reply_warns() {
    let folder = Folder::new(&config());
    folder.reconfigure("state_dir = \"state\"\n", "");
    let node = TestNode::start(folder).await;
    let done = portolan_at(&node.folder, &["drain", "region/eu"]);
    assert_done(
        &done,
        0,
        "drain region/eu",
        "warning: this holds until the next restart only: [node] state_dir is not set",
    );
    node.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_override_ends_when_it_expires() {
    let node = TestNode::with(&config()).await;
    let done = portolan_at(&node.folder, &["drain", "region/eu", "--for", "1h"]);
    assert_done(&done, 0, "drain region/eu, until 2", "");
    assert_eq!(german(&node).await, 2);
    // A later override replaces the earlier one, including its end.
    assert_done(&portolan_at(&node.folder, &["drain", "region/eu", "--for", "700ms"]), 0, "until", "");
    until("the drain runs out", async || node.api.events("expire").await.pop()).await;
    assert_eq!(node.api.get("/v1/overrides").await, json!([]));
    assert!(matches!(german(&node).await, 1 | 11));
    let node = node.restart().await;
    assert_eq!(node.api.get("/v1/overrides").await, json!([]), "it does not return");
    node.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn exit_codes_tell_the_outcome() {
    let node = TestNode::with(&[&config(), ONLY].concat()).await;
    let cases: &[(&[&str], i32, &str, &str)] = &[
        (&["drain", "region/us"], 0, "override 1: drain region/us, until restored (epoch ", ""),
        (&["restore", "region/us"], 0, "removed override 1: drain region/us (epoch ", ""),
        (&["restore", "region/us"], 1, "", "there is no override of region/us; current overrides: none"),
        (&["drain", "region/mars"], 1, "", "there is no region `mars`; the regions are"),
        (
            &["drain", "endpoint/eu/lb9"],
            1,
            "",
            "region `eu` has no endpoint `lb9`; its endpoints are lb1, lb2",
        ),
        (&["drain", "service/only.example.test/us"], 1, "", "does not use region `us`; it uses eu"),
        (&["drain", "service/nobody.test/us"], 1, "", "there is no service `nobody.test.`"),
        (
            &["drain", "lb1"],
            2,
            "",
            "`lb1` is not one target: write which of endpoint/ap/lb1, endpoint/eu/lb1, endpoint/us/lb1",
        ),
        (&["drain", "mars"], 1, "", "there is no region `mars`; the regions are"),
        (&["drain", "us"], 0, "drain region/us, until restored (epoch ", ""),
        (&["plan", "--restore", "us"], 0, "restoring region/us would move", ""),
        (&["restore", "us"], 0, "drain region/us (epoch ", ""),
        (&["restore", "us"], 1, "", "there is no override of region/us; current overrides: none"),
        (&["plan", "--drain", "us"], 0, "draining region/us would move", ""),
        (&["restore", "eu/lb1"], 2, "", "`eu/lb1` is not a valid target: did you mean endpoint/eu/lb1?"),
        (
            &["drain", "region/us", "--for", "7 weeks ago"],
            2,
            "",
            "(units: ms, s, m, h, d), found \"7 weeks ago\"",
        ),
        (&["drain", "region/us", "--for", "400d"], 2, "", "an override may last at most 366 days"),
        (
            &["drain", "region/us", "--share", "half"],
            2,
            "",
            "write a percentage from 0% to 100%, such as 25%",
        ),
        (&["drain"], 2, "", "<TARGET>"),
        (&["force", "region/us", "sideways"], 2, "", "sideways"),
        (&["sink"], 2, "", "sink"),
        (
            &["drain", "region/eu"],
            4,
            "",
            "portolan: min_regions = 1 forbids this, because eu is the only region of only.example.test. and would not \
             be usable; all_down = \"all\" would then answer with eu; add --override-safety to do it anyway\n",
        ),
        (&["force", "region/eu", "down"], 4, "", "; add --override-safety to do it anyway\n"),
        (&["drain", "service/only.example.test/eu"], 4, "", "min_regions"),
        (&["force", "region/eu", "down", "--override-safety"], 0, "down region/eu", ""),
    ];
    for (arguments, code, stdout, stderr) in cases {
        assert_done(&portolan_at(&node.folder, arguments), *code, stdout, stderr);
    }
    // The only region of the service is forced down, so it is never answered.
    let reply = node.client().await.exchange(&query("only.example.test.", Some(ASIAN))).await;
    let (code, addresses) = outcome(&reply);
    assert_eq!((code, addresses.len()), (ResponseCode::ServFail, 0));

    let folder = node.stop().await;
    let stopped = portolan_at(&folder, &["drain", "region/us"]);
    assert_done(&stopped, 3, "", "no node answers at");
    assert_done(&stopped, 3, "", "--control selects another node");
    assert!(!folder.socket().exists(), "a node that stops removes its socket");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn draining_the_last_endpoint_is_refused() {
    let node = TestNode::with(&[&config(), ONLY].concat()).await;
    assert_done(&portolan_at(&node.folder, &["drain", "endpoint/eu/lb1"]), 0, "drain endpoint/eu/lb1", "");
    let last = portolan_at(&node.folder, &["drain", "endpoint/eu/lb2"]);
    assert_done(&last, 4, "", "eu is the only region of only.example.test. and would not be usable");
    assert_eq!(node.api.get("/v1/overrides").await.as_array().map(Vec::len), Some(1));
    assert_eq!(node.api.region("eu").await["override"], Value::Null);
    node.stop().await;
}

/// What follows the events must not believe that an override lasts which ended while the node was stopped.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_override_that_ended_while_the_node_was_stopped_is_reported_at_the_start() {
    let node = TestNode::with(&config()).await;
    let drain = |target: &str| json!({"target": target, "action": "drain", "for": "1h", "reason": "kernel"});
    let id = node.api.override_with(drain("region/us")).await;
    node.api.override_with(drain("region/ap")).await;
    let set = node.api.events("override").await[0].clone();
    let folder = node.stop().await;
    // It was made ten seconds ago and ended five seconds ago.
    let db = rusqlite::Connection::open(folder.path("state/portolan.db")).expect("a journal");
    let earlier =
        "UPDATE override SET created = created - 10000, until = created - 5000 WHERE target = 'region/us'";
    db.execute(earlier, []).expect("it is there");
    let until: i64 =
        db.query_row("SELECT until FROM override WHERE target = 'region/us'", [], |row| row.get(0)).unwrap();
    drop(db);

    let node = TestNode::start(folder).await;
    let expired = node.api.events("expire").await;
    let [event] = &expired[..] else { panic!("one event: {expired:?}") };
    assert!(event["id"].as_u64() > set["id"].as_u64(), "{event}");
    let ended = jiff::Timestamp::from_millisecond(until).expect("a time");
    assert_eq!(event["at"], format!("{ended:.3}"));
    assert_eq!(event["message"], format!("override {id} expired: drain region/us"));
    assert_eq!(event["fields"]["until"], event["at"]);
    assert_eq!(node.api.get("/v1/overrides").await.as_array().expect("a list").len(), 1);

    let node = node.restart().await;
    assert_eq!(node.api.events("expire").await, expired, "it is reported once");
    let folder = node.stop().await;
    let db = rusqlite::Connection::open(folder.path("state/portolan.db")).expect("a journal");
    let left: i64 = db.query_row("SELECT count(*) FROM override", [], |row| row.get(0)).expect("a number");
    assert_eq!(left, 1);
}
