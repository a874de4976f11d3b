//! A region fails and its clients move elsewhere, it recovers and they return; and what happens when all fail.

use std::net::IpAddr;

use hickory_proto::op::ResponseCode;
use serde_json::Value;

use crate::harness::client::{Client, outcome, query};
use crate::harness::http::{Api, named};
use crate::harness::node::TestNode;
use crate::harness::region::{
    AMERICAN, ASIAN, Break, DUBLIN, GERMAN, HOST, NEAREST, Region, SINGAPORE, Three, VIRGINIA,
};
use crate::harness::until;

const WWW: &str = "www.example.test.";

/// One kind of failure.
struct Way {
    how: Break,
    /// The state, by its name in metrics.
    state: &'static str,
    /// Text that the evidence of the withdrawal must contain.
    evidence: &'static str,
    /// Keys of every probe.
    probe: &'static [(&'static str, &'static str)],
    /// Whether the region that fails speaks HTTPS.
    https: bool,
}

/// Where a German, an American and an Asian client are sent.
async fn sent(client: &mut Client) -> [IpAddr; 3] {
    let mut found = Vec::new();
    for place in [GERMAN, AMERICAN, ASIAN] {
        found.push(client.address(WWW, place).await);
    }
    found.try_into().expect("three")
}

/// Waits until the German client is sent to a region, and checks that the others keep theirs meanwhile.
async fn german_at(client: &mut Client, wanted: &Region, others: [IpAddr; 2]) {
    until(&format!("the German client is sent to {}", wanted.name), async || {
        let [german, american, asian] = sent(client).await;
        assert_eq!([american, asian], others, "only the failing region's clients may move");
        (german == wanted.ip()).then_some(())
    })
    .await;
}

/// The latest transition of a region to this state.
async fn transition(api: &Api, subject: &str, to: &str) -> Value {
    until(&format!("{subject} is reported {to}"), async || {
        let events = api.events("transition").await;
        let mut latest = events.into_iter().rev();
        latest.find(|event| event["fields"]["subject"] == subject && event["fields"]["to"] == to)
    })
    .await
}

fn assert_evidence(event: &Value, expected: &str) {
    let evidence = event["fields"]["evidence"].as_str().expect("a text");
    assert!(evidence.contains(expected), "expected {expected:?} in {evidence:?}");
}

async fn fails_and_comes_back(way: Way) {
    let eu = if way.https { Region::start_tls("eu", 1) } else { Region::start("eu", 1) };
    let Three { us, ap, .. } = Three::start();
    let folder = crate::harness::folder::Folder::new("");
    let mut probe = way.probe.to_vec();
    let host = format!("{HOST:?}");
    if let Some(certificate) = &eu.certificate {
        folder.write("ca.pem", certificate);
        probe.extend([("kind", "\"https\""), ("ca", "\"ca.pem\""), ("host", &*host)]);
    }
    let regions = [
        eu.config(DUBLIN, &probe),
        us.config(VIRGINIA, way.probe),
        ap.config(SINGAPORE, way.probe),
        NEAREST.into(),
    ];
    folder.configure(&regions.concat());
    let node = TestNode::start(folder).await;
    let mut client = node.client().await;
    let others = [us.ip(), ap.ip()];
    assert_eq!(sent(&mut client).await, [eu.ip(), us.ip(), ap.ip()]);

    eu.fail(way.how);
    german_at(&mut client, &us, others).await;
    let event = transition(&node.api, "region/eu", "down").await;
    assert_eq!(event["fields"]["from"], "up");
    let of_address = transition(&node.api, "endpoint/eu/lb1 127.0.1.1", "down").await;
    for event in [&event, &of_address] {
        assert_evidence(event, "3 consecutive failures: ");
        assert_evidence(event, way.evidence);
    }
    let region = node.api.region("eu").await;
    assert_eq!((&region["verdict"], &region["usable"]), (&"down".into(), &"no".into()));
    let evidence = region["endpoints"][0]["addresses"][0]["evidence"].as_str().expect("a text").to_owned();
    assert!(evidence.contains(way.evidence), "{evidence}");
    let sample = format!("portolan_transitions_total{{region=\"eu\",to=\"{}\"}}", way.state);
    assert!(node.api.metric(&sample).await >= Some(1.0), "{sample}");
    assert_eq!(node.api.metric("portolan_region_up{region=\"eu\"}").await, Some(0.0));

    eu.heal();
    german_at(&mut client, &eu, others).await;
    let event = transition(&node.api, "region/eu", "up").await;
    assert_evidence(&event, "consecutive successes over");
    assert_eq!(sent(&mut client).await, [eu.ip(), us.ip(), ap.ip()]);
    node.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_closed_port() {
    fails_and_comes_back(Way {
        how: Break::Refuse,
        state: "down_hard",
        evidence: "connection refused",
        probe: &[],
        https: false,
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn connections_that_are_reset() {
    fails_and_comes_back(Way {
        how: Break::Reset,
        state: "down_soft",
        evidence: "reset",
        probe: &[],
        https: false,
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_hang() {
    fails_and_comes_back(Way {
        how: Break::Hang,
        state: "down_soft",
        evidence: "timeout after 500ms in response",
        probe: &[("timeout", "\"500ms\"")],
        https: false,
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_bad_status() {
    fails_and_comes_back(Way {
        how: Break::Unavailable,
        state: "down_soft",
        evidence: "status 503, expected 200",
        probe: &[],
        https: false,
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_bad_document() {
    fails_and_comes_back(Way {
        how: Break::Document,
        state: "down_soft",
        evidence: "$.checks.database.status",
        probe: &[],
        https: false,
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_certificate_for_another_name() {
    fails_and_comes_back(Way {
        how: Break::Certificate,
        state: "down_hard",
        evidence: "tls",
        probe: &[],
        https: true,
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_slow_region_is_degraded_and_keeps_its_clients() {
    let three = Three::start();
    let slow = [("slow", "\"250ms\""), ("timeout", "\"5s\"")];
    let node = TestNode::with(&[three.config(&slow), NEAREST.into()].concat()).await;
    let mut client = node.client().await;
    let all = [three.eu.ip(), three.us.ip(), three.ap.ip()];
    for (how, verdict, usable, evidence) in
        [(Some(Break::Slow), "degraded", "reduced", "slower than 250ms: "), (None, "up", "yes", "fast")]
    {
        match how {
            Some(how) => three.eu.fail(how),
            None => three.eu.heal(),
        }
        until(&format!("eu is {verdict}"), async || {
            assert_eq!(sent(&mut client).await, all);
            let region = node.api.region("eu").await;
            assert_ne!(region["verdict"], "down");
            (region["verdict"] == verdict && region["usable"] == usable).then_some(())
        })
        .await;
        let event = transition(&node.api, "region/eu", verdict).await;
        assert_evidence(&event, evidence);
    }
    node.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_two_probes_the_one_that_decides_is_cited() {
    let (eu, us) = (Region::start("eu", 1), Region::start("us", 2));
    eu.fail(Break::Hang);
    let config = [
        eu.probe(&[("timeout", "\"30s\"")]),
        format!(
            "[probe.tcp]\nkind = \"tcp\"\nport = {}\ninterval = \"100ms\"\n\n\
             [region.eu]\nlocation = {DUBLIN}\n\
             endpoint = [{{ name = \"lb1\", address = \"{}\", probe = [\"tcp\", \"eu\"] }}]\n\n",
            eu.address.port(),
            eu.ip()
        ),
        us.config(VIRGINIA, &[]),
        "[[service]]\nname = \"www.example.test.\"\nregions = [\"eu\", \"us\"]\n".into(),
    ];
    let node = TestNode::with(&config.concat()).await;
    let subjects = ["endpoint/eu/lb1 127.0.1.1", "region/eu"];
    let evidence_of = async |to: &str| {
        let mut found = Vec::new();
        for subject in subjects {
            let event = transition(&node.api, subject, to).await;
            found.push(event["fields"]["evidence"].as_str().expect("a text").to_owned());
        }
        found
    };
    let first = "tcp: first probe succeeded";
    assert_eq!(evidence_of("up").await, [first.to_owned(), format!("lb1 {first}")], "eu is not probed yet");
    let address = async || node.api.region("eu").await["endpoints"][0]["addresses"][0].clone();
    assert_eq!(address().await["evidence"], "first probe succeeded");

    eu.fail(Break::Unavailable);
    for evidence in evidence_of("down").await {
        let (before, after) = evidence.split_once("eu: 3 consecutive failures: ").expect("the probe eu");
        assert!(matches!(before, "" | "lb1 ") && after.contains("status 503"), "{evidence}");
    }
    let cited = "consecutive failures: status 503, expected 200";
    let shown = address().await["evidence"].as_str().expect("a text").to_owned();
    assert!(shown.contains(cited), "{shown}");
    let explained = node.api.get("/v1/explain?name=www.example.test&type=A&client=10.1.0.1").await;
    let stages = explained["stages"].as_array().expect("a list").iter();
    let dropped = stages.flat_map(|it| it["dropped"].as_array().expect("a list"));
    let why: Vec<&str> = dropped.filter_map(|it| it["why"].as_str()).collect();
    assert!(why.iter().any(|it| it.starts_with("down: lb1 127.0.1.1: ") && it.contains(cited)), "{why:?}");

    eu.heal();
    let is_back = async || (address().await["verdict"] == "up").then_some(());
    until("it is up again", is_back).await;
    for evidence in evidence_of("up").await {
        assert!(evidence.contains("eu: ") && evidence.contains("consecutive successes over"), "{evidence}");
    }
    node.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_endpoint_that_fails_leaves_the_answers_of_its_region() {
    let (one, two) = (Region::start("one", 1), Region::start("two", 2));
    let config = format!(
        "{}{}[region.eu]\nlocation = {DUBLIN}\nendpoint = [\n\
         {{ name = \"lb1\", address = [\"{}\"], probe = [\"one\"] }},\n\
         {{ name = \"lb2\", address = [\"{}\"], probe = [\"two\"] }},\n]\n\
         [[service]]\nname = \"{WWW}\"\nregions = [\"eu\"]\nanswers = 2\nttl = \"1s\"\n",
        one.probe(&[]),
        two.probe(&[]),
        one.ip(),
        two.ip()
    );
    let node = TestNode::with(&config).await;
    let mut client = node.client().await;
    let mut answered = async || {
        let (_, mut addresses) = outcome(&client.exchange(&query(WWW, Some(GERMAN))).await);
        addresses.sort();
        addresses
    };
    assert_eq!(answered().await, [one.ip(), two.ip()]);
    for (broken, left) in [(&one, two.ip()), (&two, one.ip())] {
        broken.fail(Break::Refuse);
        until("the other is answered alone", async || (answered().await == [left]).then_some(())).await;
        assert_eq!(node.api.region("eu").await["verdict"], "up", "any healthy endpoint is enough");
        broken.heal();
        until("both are answered", async || (answered().await.len() == 2).then_some(())).await;
    }
    node.stop().await;
}

/// One service per policy: its name, the policy, and what must be answered once all is down.
fn policies(three: &Three) -> [(&'static str, &'static str, ResponseCode, Vec<IpAddr>); 5] {
    let fine = ResponseCode::NoError;
    [
        ("all", "\"all\"", fine, vec![three.eu.ip()]),
        ("servfail", "\"servfail\"", ResponseCode::ServFail, vec![]),
        ("fallback", "{ fallback = [\"203.0.113.9\"] }", fine, vec!["203.0.113.9".parse().expect("one")]),
        ("nothing", "{ fallback = [\"2001:db8::9\"] }", fine, vec![]),
        ("last", "{ last_good = \"10m\" }", fine, vec![three.eu.ip()]),
    ]
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn when_every_region_is_down_the_policy_answers() {
    let three = Three::start();
    let mut config = three.config(&[]);
    for (name, policy, ..) in policies(&three) {
        config += &NEAREST.replace("www.", &format!("{name}."));
        config += &format!("all_down = {policy}\n");
    }
    let node = TestNode::with(&config).await;
    let mut client = node.client().await;
    let is_down = |region: &Value| region["verdict"] == "down";

    for region in [&three.eu, &three.us, &three.ap] {
        for (name, ..) in policies(&three) {
            let name = format!("{name}.example.test.");
            client.address(&name, GERMAN).await;
        }
        region.fail(Break::Refuse);
        until("it is down", async || is_down(&node.api.region(region.name).await).then_some(())).await;
    }
    for (name, _, code, addresses) in policies(&three) {
        let reply = client.exchange(&query(&format!("{name}.example.test."), Some(GERMAN))).await;
        assert_eq!(outcome(&reply), (code, addresses), "{name}");
    }
    for (name, expected) in [
        ("all", "no region is usable: all_down allows the most promising: "),
        ("last", "no region is usable: it served last, so last_good allows it: "),
    ] {
        let path = format!("/v1/explain?name={name}.example.test&client=10.1.0.1");
        let explained = node.api.get(&path).await;
        let stages = explained["stages"].as_array().expect("stages");
        let eligible = stages.iter().find(|stage| stage["stage"] == "eligible").expect("a stage");
        let note = eligible["kept"][0]["note"].as_str().expect("a note");
        assert!(note.starts_with(expected), "{name}: {note}");
    }
    let alarms = node.api.get("/v1/status").await["alarms"].to_string();
    assert!(
        alarms.contains("no region can serve") && alarms.contains("answered as all_down says"),
        "{alarms}"
    );

    three.ap.heal();
    until("the only region left serves everybody", async || {
        let mut served = 0;
        for (name, ..) in policies(&three) {
            let reply = client.exchange(&query(&format!("{name}.example.test."), Some(GERMAN))).await;
            served += usize::from(outcome(&reply).1 == [three.ap.ip()]);
        }
        (served == policies(&three).len()).then_some(())
    })
    .await;
    assert_eq!(node.api.get("/v1/status").await["alarms"], Value::Array(Vec::new()));
    let over = node.api.events("all_clear").await;
    let over = over.iter().filter_map(|it| it["message"].as_str());
    let over: Vec<&str> = over.filter(|it| it.starts_with("regions can serve ")).collect();
    assert!(over.len() == 1 && over[0].ends_with(" again"), "one alarm and one all-clear: {over:?}");
    node.stop().await;
}

const HELD: &str = "portolan_safety_held{rule=\"min_regions\"}";

/// Checks how status, metrics, alarms and explain report a region that safety rules hold in service.
async fn assert_held(node: &TestNode, name: &str, count: f64) {
    let region = node.api.region(name).await;
    assert_eq!((&region["held"], &region["verdict"]), (&"min_regions".into(), &"down".into()));
    let services = node.api.get("/v1/services").await;
    assert_eq!(named(&services[0]["regions"], name)["held"], "min_regions");
    assert_eq!(node.api.metric(HELD).await, Some(count));
    let alarms = node.api.get("/v1/status").await["alarms"].to_string();
    assert!(alarms.contains(&format!("region/{name} fails, but min_regions holds it")), "{alarms}");
    let explained = node.api.get(&format!("/v1/explain?name={WWW}&client=10.1.0.1")).await;
    // If another region serves the client, the held one comes first or last.
    assert!(
        count < 2.0 || explained["stages"].to_string().contains("fails, but min_regions holds it"),
        "{explained}"
    );
    let events = node.api.events("held").await;
    let is_meant = |it: &&Value| it["fields"]["region"] == name && it["fields"]["rule"] == "min_regions";
    assert!(events.iter().find(is_meant).is_some(), "{events:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn safety_holds_the_last_region_in_while_it_fails_softly() {
    let three = Three::start();
    let node = TestNode::with(&[&three.config(&[]), NEAREST, "[safety]\nmin_regions = 1\n"].concat()).await;
    let mut client = node.client().await;
    let mut all_at = async |region: &Region| {
        until(&format!("all are sent to {}", region.name), async || {
            (sent(&mut client).await == [region.ip(); 3]).then_some(())
        })
        .await;
    };

    three.us.fail(Break::Document);
    until("us is down", async || (node.api.region("us").await["usable"] == "no").then_some(())).await;
    three.ap.fail(Break::Unavailable);
    all_at(&three.eu).await;
    assert_eq!(node.api.metric(HELD).await, Some(0.0));
    three.eu.fail(Break::Unavailable);
    until("all are held, and everybody is sent home", async || {
        let home = [&three.eu, &three.us, &three.ap].map(Region::ip);
        (sent(&mut node.client().await).await == home).then_some(())
    })
    .await;
    assert_held(&node, "eu", 3.0).await;

    // A hard failure is never held: Germans are sent to the next region that is.
    three.eu.fail(Break::Refuse);
    until("eu is released", async || {
        let released = node.api.events("released").await.pop()?;
        (released["fields"]["region"] == "eu").then_some(())
    })
    .await;
    assert_held(&node, "us", 2.0).await;

    // A held region stays held until it recovers.
    three.us.heal();
    until("us serves", async || (node.api.region("us").await["verdict"] == "up").then_some(())).await;
    assert_eq!(node.api.region("us").await["held"], Value::Null);
    assert_held(&node, "ap", 1.0).await;
    three.ap.heal();
    until("nothing is held", async || (node.api.metric(HELD).await == Some(0.0)).then_some(())).await;
    assert_eq!(node.api.region("ap").await["held"], Value::Null);
    node.stop().await;
}
