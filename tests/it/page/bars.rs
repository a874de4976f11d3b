//! The bars of "What changed": what was known at each moment, and what operators decided.

use serde_json::{Value, json};

use super::browser::Browser;
use super::shown::{says, url};
use crate::harness::node::TestNode;
use crate::harness::region::{NEAREST, Three};

/// Seconds after noon as a time.
fn at(seconds: u32) -> String {
    format!("2026-11-29T12:{:02}:{:02}Z", seconds / 60, seconds % 60)
}

fn transition(time: u32, region: &str, from: &str, to: &str) -> Value {
    json!({"event": "transition", "at": at(time), "fields": {"subject": format!("region/{region}"), "from": from, "to": to}})
}

fn overridden(event: &str, time: u32, number: u64, target: &str, action: &str, share: &str) -> Value {
    let number = number.to_string();
    json!({"event": event, "at": at(time),
           "fields": {"number": number, "target": target, "action": action, "share": share, "by": "socket"}})
}

fn of_node(event: &str, time: u32) -> Value {
    json!({"event": event, "at": at(time), "fields": {}})
}

/// The status, ten minutes after noon, of a node that has run for so many seconds.
fn status(uptime: u32, verdict: &str, since: u32, change: &Value) -> Value {
    let endpoint = |name: &str| json!({"name": name, "override": null, "addresses": []});
    let mut region = json!({"name": "eu", "verdict": verdict, "probed": true, "since": at(since), "override": null,
                            "endpoints": [endpoint("lb1"), endpoint("lb2")]});
    for (name, value) in change.as_object().into_iter().flatten() {
        region[name] = value.clone();
    }
    json!({"node": {"uptime_s": uptime}, "regions": [region], "services": [], "pools": []})
}

/// What a bar shows of some events and a status: states and overrides with the seconds after noon from and until when, `null` for what
/// lasts.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn bars_show_only_what_is_known() {
    let Some(browser) = Browser::start().await else { return };
    let node = TestNode::with("").await;
    browser.open(&url(node.control())).await;
    browser.until(&says("All well")).await;
    let none = json!({});
    let (up, down) = (transition(2, "eu", "unknown", "up"), transition(100, "eu", "up", "down"));
    let start = of_node("node_started", 0);
    let drained = |event, time| overridden(event, time, 1, "region/eu", "drain", "100%");
    let of_endpoint = |time, number, name, action| overridden("override", time, number, name, action, "100%");
    let in_force = |target: &str, action: &str, time| json!({"id": 1, "target": target, "action": action, "share": "100%", "created": at(time), "by": "socket"});
    for (about, events, status, states, overrides) in [
        (
            "nothing is known before the first result",
            json!([start, up]),
            status(600, "up", 2, &none),
            json!([["up", 2, null]]),
            json!([]),
        ),
        (
            "nor before the node started, if its verdict is one that it saved",
            json!([of_node("node_started", 300)]),
            status(300, "up", 300, &none),
            json!([["up", 300, null]]),
            json!([]),
        ),
        (
            "nor where it does not say when it started",
            json!([]),
            status(120, "up", 481, &none),
            json!([["up", 481, null]]),
            json!([]),
        ),
        (
            "an older node tells no starts and stops",
            json!([up, transition(500, "eu", "unknown", "up")]),
            status(120, "up", 500, &none),
            json!([["up", 500, null]]),
            json!([]),
        ),
        (
            "nothing is known while it did not run",
            json!([
                start,
                up,
                down,
                of_node("node_stopped", 200),
                transition(201, "us", "up", "down"),
                of_node("node_started", 300)
            ]),
            status(300, "down", 300, &none),
            json!([["up", 2, 100], ["down", 100, 200], ["down", 300, null]]),
            json!([]),
        ),
        (
            "a run that broke off is known until its last event",
            json!([
                start,
                up,
                down,
                transition(120, "us", "up", "down"),
                overridden("expire", 250, 1, "region/us", "drain", "100%"),
                of_node("node_started", 300),
                transition(400, "eu", "down", "up")
            ]),
            status(300, "up", 400, &none),
            json!([["up", 2, 100], ["down", 100, 120], ["down", 300, 400], ["up", 400, null]]),
            json!([]),
        ),
        (
            "a run without a transition had what the next one began with",
            json!([
                start,
                up,
                of_node("node_stopped", 50),
                of_node("node_started", 60),
                of_node("node_stopped", 150),
                of_node("node_started", 200)
            ]),
            status(400, "up", 200, &none),
            json!([["up", 2, 50], ["up", 60, 150], ["up", 200, null]]),
            json!([]),
        ),
        (
            "unless that began with nothing",
            json!([
                start,
                up,
                of_node("node_stopped", 50),
                of_node("node_started", 60),
                of_node("node_stopped", 150),
                of_node("node_started", 200),
                transition(202, "eu", "unknown", "up")
            ]),
            status(400, "up", 202, &none),
            json!([["up", 2, 50], ["up", 202, null]]),
            json!([]),
        ),
        (
            "a region without probes has no states",
            json!([start]),
            status(600, "up", 0, &json!({"probed": false, "since": null})),
            json!([]),
            json!([]),
        ),
        (
            "an override has a time of its own, above what probes find",
            json!([start, up, drained("override", 30), drained("restore", 90), down]),
            status(600, "down", 100, &none),
            json!([["up", 2, 100], ["down", 100, null]]),
            json!([["drain", 30, 90]]),
        ),
        (
            "one takes the place of another",
            json!([
                start,
                up,
                drained("override", 30),
                overridden("override", 60, 2, "region/eu", "up", "100%"),
                overridden("expire", 90, 2, "region/eu", "up", "100%")
            ]),
            status(600, "up", 2, &none),
            json!([["up", 2, null]]),
            json!([["drain", 30, 60], ["up", 60, 90]]),
        ),
        (
            "one that is older than the events is in the status",
            json!([transition(500, "eu", "down", "up")]),
            status(600, "up", 500, &json!({"override": in_force("region/eu", "down", 40)})),
            json!([["up", 500, null]]),
            json!([["down", 40, null]]),
        ),
        (
            "it is known once, and not while the node did not run",
            json!([
                start,
                up,
                drained("override", 30),
                of_node("node_stopped", 200),
                of_node("node_started", 300)
            ]),
            status(300, "up", 300, &json!({"override": in_force("region/eu", "drain", 30)})),
            json!([["up", 2, 200], ["up", 300, null]]),
            json!([["drain", 30, 200], ["drain", 300, null]]),
        ),
        (
            "one that was not saved is gone with its run",
            json!([
                start,
                up,
                drained("override", 30),
                of_node("node_stopped", 200),
                of_node("node_started", 300)
            ]),
            status(300, "up", 300, &none),
            json!([["up", 2, 200], ["up", 300, null]]),
            json!([["drain", 30, 200]]),
        ),
        (
            "those of all of its endpoints are one of the region",
            json!([
                start,
                up,
                of_endpoint(30, 1, "endpoint/eu/lb1", "drain"),
                of_endpoint(60, 2, "endpoint/eu/lb2", "down"),
                overridden("restore", 90, 1, "endpoint/eu/lb1", "drain", "100%")
            ]),
            status(600, "up", 2, &none),
            json!([["up", 2, null]]),
            json!([["drain", 60, 90]]),
        ),
        (
            "that of another region is not",
            json!([start, up, overridden("override", 30, 1, "region/us", "drain", "100%")]),
            status(600, "up", 2, &none),
            json!([["up", 2, null]]),
            json!([]),
        ),
    ] {
        let script = format!(
            "const {{ histories }} = await import(new URL('panels/history.js', document.querySelector('script[type=module]').src));
             const noon = Date.parse('2026-11-29T12:00:00Z');
             const time = (at) => (Number.isFinite(at) ? (at - noon) / 1000 : null);
             const [{{ states, overrides }}] = histories({events}, {status}, noon + 600_000);
             return [states.map(({{ state, start, end }}) => [state, time(start), time(end)]),
                     overrides.map(({{ action, start, end }}) => [action, time(start), time(end)])];"
        );
        assert_eq!(browser.run_async(&script).await, json!([states, overrides]), "{about}");
    }
    node.stop().await;
    browser.end().await;
}

/// The rectangles of a class in the bar of a region.
fn rectangles(region: &str, class: &str) -> String {
    format!("[...document.querySelectorAll('[data-subject=\"region/{region}\"] {class}')]")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn bars_begin_with_the_node_and_hatch_what_operators_decide() {
    let Some(browser) = Browser::start().await else { return };
    let three = Three::start();
    let node = TestNode::with(&[three.config(&[]), NEAREST.into()].concat()).await;
    browser.open(&url(node.control())).await;
    browser.until(&says("All well")).await;
    browser.until(&format!("{}.length === 1", rectangles("eu", ".span.up"))).await;
    // The node has run for much less than the 15 minutes that are shown.
    let width = |class| format!("Number({}[0]?.getAttribute('width'))", rectangles("eu", class));
    browser.until(&format!("{} < {} / 2", width(".span.up"), width(".span.unknown"))).await;

    let id = node.api.override_with(json!({"target": "region/eu", "action": "drain"})).await;
    browser
        .until(&format!(
            "{}[0]?.getAttribute('fill') === 'url(#overridden-drain)'",
            rectangles("eu", ".overridden")
        ))
        .await;
    let said = "[...document.querySelectorAll('.timeline [aria-label=\"States over time\"] li')].map((it) => it.textContent)";
    browser
        .until(&format!(
            "{said}.some((it) => /^eu: up from \\S+Z until now; drained from \\S+Z until now$/.test(it))"
        ))
        .await;
    let legend =
        "[...document.querySelectorAll('.bars-legend li')].map((it) => it.textContent.trim()).join()";
    let meanings = "up,degraded,down,drained,forced up,forced down,not known";
    browser.until(&format!("{legend} === {}", json!(meanings))).await;
    assert_eq!(browser.inaccessible().await, json!([]));
    node.api.override_with(json!({"target": "region/us", "action": "down"})).await;
    node.api.restore(id).await;
    browser
        .until(&format!(
            "{}[0]?.getAttribute('fill') === 'url(#overridden-down)'",
            rectangles("us", ".overridden")
        ))
        .await;
    browser.until(&format!("{said}.some((it) => /^eu: .*; drained from \\S+Z until \\S+Z$/.test(it))")).await;
    node.stop().await;
    browser.end().await;
}
