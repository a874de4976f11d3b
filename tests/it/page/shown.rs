//! What the page shows and does, in Chromium.

use std::net::SocketAddr;

use portolan::node::demo::switch::{Break, Target};
use portolan::node::demo::{Demo, region_address};
use serde_json::{Value, json};

use super::browser::Browser;
use crate::harness::client::{Client, query};
use crate::harness::folder::{Folder, tokens};
use crate::harness::node::TestNode;
use crate::harness::until;

/// The region, by its number in the order of names, whose tint Germany has; `null` while it has none.
pub(super) const GERMANY: &str = "document.querySelector('[data-country=DE]')?.getAttribute('fill')";

const HEADLINE: &str = "document.querySelector('h1')?.textContent";

pub(super) fn url(address: SocketAddr) -> String {
    format!("http://{address}/")
}

pub(super) fn control(demo: &Demo) -> SocketAddr {
    demo.node.control_address.expect("it has one")
}

pub(super) fn says(headline: &str) -> String {
    format!("{HEADLINE} === {}", json!(headline))
}

pub(super) fn germany_is_of(region: &str) -> String {
    let number = ["ap-south", "eu-west", "us-east"].iter().position(|it| *it == region).expect("a region");
    format!("{GERMANY} === 'url(#tint-{number})'")
}

/// Nothing was said on the console, and nothing asked of another server.
pub(super) async fn is_quiet_and_alone(browser: &Browser, page: &str) {
    assert_eq!(browser.complaints().await, Vec::<String>::new());
    let own = page.trim_end_matches('/').to_owned();
    assert_eq!(browser.origins().await.into_iter().collect::<Vec<_>>(), [own]);
}

/// The page hears of it by an event; it does not wait until it would ask again by itself.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_region_that_fails_loses_its_countries_on_the_map() {
    let Some(browser) = Browser::start().await else { return };
    let demo = Demo::start().await.expect("a demo");
    let page = url(control(&demo));
    let mut dns = Client::of(demo.node.dns_addresses[0]).await;
    browser.open(&page).await;
    browser.until(&says("All well")).await;
    browser.until(&germany_is_of("eu-west")).await;
    browser.until("document.querySelector('[data-region=eu-west]').classList.contains('region')").await;
    // How far what is shown has jumped since the page was opened (Layout Instability API).
    browser
        .run(
            "window.moved = 0;
             new PerformanceObserver((list) => list.getEntries().forEach(({ value }) => { window.moved += value; }))
               .observe({ type: 'layout-shift', buffered: true });",
            json!([]),
        )
        .await;
    // From its next request for the status on, the page asks for nothing by itself.
    browser
        .run(
            "const { fetch, setTimeout } = window;
             window.setTimeout = (act, time) => (time >= 3000 ? 0 : setTimeout(act, time));
             window.fetch = (path, ...rest) => { window.asked ||= path === 'v1/status'; return fetch(path, ...rest); };",
            json!([]),
        )
        .await;
    browser.until("window.asked").await;

    demo.turn(Target::named("eu-west").expect("a region"), Some(Break::Refuse));
    until("DNS answers another region", async || {
        let address = dns.address("www.demo.test.", "84.128.0.0/24").await;
        (address == region_address("us-east")).then_some(())
    })
    .await;
    browser.until(&says("eu-west is down")).await;
    browser.until(&germany_is_of("us-east")).await;
    browser.until("document.querySelector('[data-region=eu-west]').classList.contains('away')").await;
    browser.until("document.title.includes('eu-west is down')").await;
    let told = browser.until("[...document.querySelectorAll('.events .row')].map((it) => it.textContent).find((it) => it.includes('region/eu-west up -> down'))").await;
    assert!(told.as_str().expect("text").contains("connection refused"), "{told}");
    assert_eq!(browser.inaccessible().await, json!([]));

    demo.turn(Target::named("eu-west").expect("a region"), None);
    browser.until(&says("All well")).await;
    browser.until(&germany_is_of("eu-west")).await;
    let moved = browser.run("return window.moved;", json!([])).await;
    assert!(moved.as_f64() < Some(0.05), "the layout shifted by {moved}");
    is_quiet_and_alone(&browser, &page).await;
    demo.stop().await;
    browser.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_asks_is_shown_and_weighs_the_map() {
    let Some(browser) = Browser::start().await else { return };
    let demo = Demo::start().await.expect("a demo");
    let page = url(control(&demo));
    let mut dns = Client::of(demo.node.dns_addresses[0]).await;
    browser.open(&page).await;
    browser
        .until("document.querySelector('.basis')?.textContent === 'by the addresses of each country'")
        .await;
    browser.click("#tab-traffic").await;
    browser
        .until("document.querySelector('.traffic')?.textContent.includes('Nobody has asked for it.')")
        .await;
    let german = query("www.demo.test.", Some("84.128.0.0/24"));
    let american = query("www.demo.test.", Some("8.8.8.0/24"));
    dns.exchange_all(&[vec![german; 900], vec![american; 300]].concat()).await;

    let rows = "[...document.querySelectorAll('.traffic tbody tr')].map((row) => row.textContent.replace(/\\s+/g, ' '))";
    let is_there = |what: &str| format!("{rows}.some((row) => {what})");
    browser
        .until(&is_there("row.includes('Germany') && row.includes('eu-west') && row.endsWith('900')"))
        .await;
    browser.until(&is_there("row.includes('84.128.0.0/24') && row.includes('client subnet')")).await;
    browser.until("document.querySelector('.traffic .total').textContent.includes('1,200 in all, 100% of them for client subnets')").await;
    assert_eq!(browser.inaccessible().await, json!([]));
    // Whatever makes the page ask for the map again.
    demo.turn(Target::named("ap-south").expect("a region"), Some(Break::Refuse));
    browser
        .until("document.querySelector('.basis')?.textContent === 'by the queries of the last hour'")
        .await;
    let shares = "[...document.querySelectorAll('.legend li')].map((it) => it.querySelector('.name').textContent + it.querySelector('.share').textContent)";
    browser.until(&format!("{shares}.includes('eu-west75%') && {shares}.includes('us-east25%')")).await;
    let widths = browser.until("[...document.querySelectorAll('.lines path')].map((line) => line.style.getPropertyValue('--width'))").await;
    let widths = widths.as_array().expect("a list");
    assert_eq!(widths.len(), 2, "a line from each country that asked: {widths:?}");
    assert!(widths[0] == "11px" && widths[1].as_str().is_some_and(|it| it.starts_with("9.98")), "{widths:?}");
    is_quiet_and_alone(&browser, &page).await;
    demo.stop().await;
    browser.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_region_is_drained_and_restored_from_the_page() {
    let Some(browser) = Browser::start().await else { return };
    let demo = Demo::start().await.expect("a demo");
    let page = url(control(&demo));
    browser.open(&page).await;
    browser.until(&germany_is_of("eu-west")).await;
    let act = "document.querySelector('[aria-label=\"regions\"] [aria-posinset=\"3\"] .act')";
    assert_eq!(browser.until(&format!("{act}.textContent.trim()")).await, "Act on region/eu-west");
    browser.click("[aria-label=regions] [aria-posinset='3'] .act").await;
    // Whom it moves is shown before anything is done, and to everyone who may read.
    browser.until("document.querySelector('.plan h3')?.textContent.startsWith('It moves ')").await;
    let moves = browser.until("document.querySelector('.plan .countries').textContent").await;
    assert!(moves.as_str().expect("text").contains("eu-west → us-east"), "{moves}");
    assert_eq!(browser.inaccessible().await, json!([]));
    browser.write("dialog input[placeholder='new kernel']", "a drill").await;

    // Without a token nothing is done, and a wrong one is refused.
    browser.click("dialog button[type=submit]").await;
    browser.write("dialog input[type=password]", "wrong\u{e007}").await;
    browser.until("document.querySelector('#token-error').textContent.includes('not valid')").await;
    assert_eq!(demo.node.engine.overrides().await.expect("the engine runs"), []);
    let refused = browser.complaints().await;
    assert!(
        refused.len() == 1 && refused[0].contains("/v1/whoami") && refused[0].contains("401"),
        "{refused:?}"
    );
    browser.run("document.querySelector('dialog input[type=password]').select()", json!([])).await;
    browser.write("dialog input[type=password]", &format!("{}\u{e007}", demo.token)).await;

    // The form is as it was.
    let reason = "document.querySelector('dialog input[placeholder=\"new kernel\"]')?.value";
    assert_eq!(browser.until(reason).await, "a drill");
    browser.click("dialog button[type=submit]").await;
    browser.until("document.querySelector('dialog [role=status]')?.textContent.includes('region/eu-west is drained by token demo')").await;
    browser.click("dialog footer button").await;
    browser.until(&germany_is_of("us-east")).await;
    browser.until(&says("All clients are served")).await;
    let made = demo.node.engine.overrides().await.expect("the engine runs");
    assert_eq!((made[0].reason.as_deref(), made[0].by.as_deref()), (Some("a drill"), Some("token demo")));

    // The token is in the session, and nowhere else.
    let places = browser
        .run("return [sessionStorage.getItem('portolan.token'), JSON.stringify(localStorage), location.href, document.cookie];", json!([]))
        .await;
    assert_eq!(places, json!([demo.token, "{}", page, ""]));

    browser.click("#tab-attention").await;
    browser.until("document.querySelector('#tab-panel .row')?.textContent.includes('by token demo until restored (a drill)')").await;
    browser.click("#tab-panel .row .act").await;
    browser
        .until("document.querySelector('.plan .countries')?.textContent.includes('us-east → eu-west')")
        .await;
    browser.click("dialog button[type=submit]").await;
    browser.until("document.querySelector('dialog [role=status]')?.textContent.includes('is removed')").await;
    browser.click("dialog footer button").await;
    browser.until(&germany_is_of("eu-west")).await;
    browser.until(&says("All well")).await;
    is_quiet_and_alone(&browser, &page).await;
    demo.stop().await;
    browser.end().await;
}

pub(super) const TWO: &str = "\
[region.one]\nlocation = { country = \"IE\", lat = 53.35, lon = -6.26 }\nendpoint = [{ name = \"a\", address = \"192.0.2.1\", probe = [] }]
[region.two]\nendpoint = [{ name = \"a\", address = \"192.0.2.2\", probe = [] }]
[[service]]\nname = \"www.example.test.\"\nregions = [\"one\", \"two\"]
[proxy.listener.web]\nlisten = \"127.0.0.1:0\"\nroute = [{ host = \"a.example\", pool = \"none\" }, { pool = \"web\" }]
[proxy.pool.web]\nbackend = [\"192.0.2.3:80\"]\nprobe = []
[proxy.pool.none]\nbackend = [\"192.0.2.4:80\"]\nprobe = []
";

/// Also with a region that has no place, and with `read = "token"`.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn answers_and_requests_are_explained_once_a_token_is_typed() {
    let Some(browser) = Browser::start().await else { return };
    let folder = Folder::new(TWO);
    folder.without_landlock();
    let read = format!("read = \"token\"\n{}", tokens(&[("ops", "operator"), ("eyes", "viewer")]));
    folder.reconfigure("socket = \"control.sock\"\n", &read);
    let node = TestNode::start(folder).await;
    let page = url(node.control());
    browser.open(&page).await;
    browser.until(&says("This node needs a token")).await;
    assert_eq!(browser.inaccessible().await, json!([]));
    browser.write("dialog input[type=password]", "secret of eyes\u{e007}").await;
    browser.until("document.querySelector('.legend')?.textContent.includes('no place')").await;
    browser.complaints().await;

    browser.click("#tab-explain").await;
    browser.write("#client", "10.1.2.3\u{e007}").await;
    browser.until("document.querySelector('.explanation .verdict')?.textContent === 'Sent to one'").await;
    let dropped = browser
        .until("[...document.querySelectorAll('.stages .dropped')].map((it) => it.textContent).join('; ')")
        .await;
    assert!(dropped.as_str().expect("text").contains("two a higher-ranked group is available"), "{dropped}");
    browser.until("document.querySelector('.records').textContent.includes('192.0.2.1')").await;
    browser.until("document.querySelector('.explained .course')").await;
    assert_eq!(browser.inaccessible().await, json!([]));
    // It is asked for again when something changes.
    node.api.override_with(json!({"target": "region/one", "action": "down"})).await;
    browser.until("document.querySelector('.explanation .verdict').textContent === 'Sent to two'").await;

    browser.write(".question .wide input", "http://b.example/").await;
    browser.click(".question button").await;
    browser
        .until("document.querySelector('.explanation .verdict')?.textContent.includes('192.0.2.3:80')")
        .await;
    let skipped = browser.until("document.querySelector('.stages .dropped').textContent").await;
    assert!(skipped.as_str().expect("text").starts_with("route 1 "), "{skipped}");
    browser.click("#tab-proxy").await;
    browser
        .until("document.querySelector('.listeners')?.textContent.includes('web http at 127.0.0.1:')")
        .await;
    assert_eq!(browser.inaccessible().await, json!([]));

    // A viewer may see whom it moves, but the change needs another token.
    browser.click("#tab-regions").await;
    browser.click("#tab-panel .row .act").await;
    browser.click("dialog button[type=submit]").await;
    browser.write("dialog input[type=password]", "secret of eyes\u{e007}").await;
    browser.until("document.querySelector('#token-error').textContent.includes('role viewer')").await;
    is_quiet_and_alone(&browser, &page).await;
    node.stop().await;
    browser.end().await;
}

/// A safety rule that forbids a change is shown before it is tried; it can be overridden deliberately.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_safety_rule_is_shown_before_the_change() {
    let Some(browser) = Browser::start().await else { return };
    let folder = Folder::new(TWO);
    folder.without_landlock();
    folder.reconfigure("socket = \"control.sock\"\n", &tokens(&[("ops", "operator"), ("chief", "admin")]));
    let node = TestNode::start(folder).await;
    node.api.override_with(json!({"target": "region/two", "action": "drain"})).await;
    browser.open(&url(node.control())).await;
    browser.until(&says("All clients are served")).await;
    browser
        .run("sessionStorage.setItem('portolan.token', 'secret of chief'); location.reload();", json!([]))
        .await;
    browser.until("document.querySelector('nav').textContent.includes('token chief')").await;
    browser.click("#tab-panel .row .act").await;
    browser
        .until("document.querySelector('.plan .bad')?.textContent.startsWith('A safety rule forbids it.')")
        .await;
    browser
        .until("document.querySelector('.plan').textContent.includes('would then answer with one, two')")
        .await;
    browser.until("document.querySelector('dialog button[type=submit]').disabled").await;
    assert_eq!(browser.inaccessible().await, json!([]));
    browser.click(".safety input").await;
    browser.click("dialog button[type=submit]").await;
    browser
        .until(
            "document.querySelector('dialog [role=status]')?.textContent.includes('region/one is drained')",
        )
        .await;
    node.stop().await;
    browser.end().await;
}

/// A status with this many regions of a hundred endpoints each, and ten times as many services.
fn large(regions: usize) -> Value {
    let address = |region: usize, endpoint: usize| {
        json!({"address": format!("10.0.{region}.{endpoint}"), "verdict": "up", "since": "2026-11-29T12:00:00Z", "failures": 0,
               "evidence": "first probe succeeded", "rtt_ms": 1.5, "last_probe_s": 1.0, "probes": []})
    };
    let endpoint = |region: usize, endpoint: usize| {
        json!({"name": format!("lb{endpoint}"), "verdict": "up", "weight": 100, "host": null, "override": null,
               "addresses": [address(region, endpoint)]})
    };
    let name = |region: usize| format!("region-{region:03}");
    let region = |index: usize| {
        json!({"name": name(index), "verdict": "up", "since": "2026-11-29T12:00:00Z", "usable": "yes", "held": null, "override": null,
               "capacity": null, "endpoints": (0..100).map(|it| endpoint(index, it)).collect::<Vec<_>>()})
    };
    let member = |index: usize| json!({"name": name(index), "weight": 1, "usable": "yes", "held": null, "override": null});
    let service = |index: usize| {
        json!({"name": format!("service-{index:04}.example.test."), "type": "address", "rank": "latency",
               "regions": (0..3).map(member).collect::<Vec<_>>()})
    };
    json!({"node": {"name": "large", "version": "1", "epoch": 1, "ready": true, "uptime_s": 1}, "alarms": [], "pools": [], "listeners": [],
           "regions": (0..regions).map(region).collect::<Vec<_>>(),
           "services": (0..10 * regions).map(service).collect::<Vec<_>>()})
}

/// Ten thousand addresses and a thousand services: only the rows in view exist.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn large_nodes_have_few_elements() {
    let Some(browser) = Browser::start().await else { return };
    let node = TestNode::with("").await;
    browser.open(&url(node.control())).await;
    browser.until(&says("All well")).await;
    // What the node answers is replaced by a large status.
    browser
        .run(
            "const status = JSON.stringify(arguments[0]);
             const { fetch } = window;
             window.fetch = (path, ...rest) => path === 'v1/status' ? Promise.resolve(new Response(status)) : fetch(path, ...rest);",
            json!([large(100)]),
        )
        .await;
    browser.until("document.querySelector('.about').textContent.includes('large')").await;
    let rows = "document.querySelectorAll('#tab-panel .row').length";
    let last = "document.querySelector('#tab-panel .row:last-child .name').textContent";
    let bottom =
        "const rows = document.querySelector('#tab-panel .rows'); rows.scrollTop = rows.scrollHeight;";
    browser.write("#tab-panel input[type=search]", "lb").await;
    browser
        .until("document.querySelector('#tab-panel .row')?.getAttribute('aria-setsize') === '10100'")
        .await;
    browser.run(bottom, json!([])).await;
    browser.until(&format!("{last} === 'lb99 10.0.99.99'")).await;
    let count = browser.run(&format!("return {rows};"), json!([])).await;
    assert!(count.as_u64() < Some(60), "{count} rows of regions");
    // The keyboard reaches the rows beyond the view.
    browser.run("document.querySelector('#tab-panel .row:first-child button').focus()", json!([])).await;
    browser.write("#tab-panel .row:first-child button", &"\u{e013}".repeat(20)).await;
    browser.click("#tab-services").await;
    browser.until("document.querySelector('#tab-panel .row')?.getAttribute('aria-setsize') === '1000'").await;
    browser.run(bottom, json!([])).await;
    browser.until(&format!("{last} === 'service-0999.example.test'")).await;
    let count = browser.run(&format!("return {rows};"), json!([])).await;
    assert!(count.as_u64() < Some(60), "{count} rows of services");
    node.stop().await;
    browser.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn it_fits_a_phone_in_light_and_dark() {
    let Some(browser) = Browser::start().await else { return };
    let node = TestNode::with(TWO).await;
    for scheme in ["light", "dark"] {
        browser.prefer(scheme).await;
        for (width, height) in [(390, 844), (1440, 900)] {
            browser.resize(width, height).await;
            browser.open(&url(node.control())).await;
            browser.until(&germany_is_served()).await;
            for tab in ["regions", "services", "traffic", "proxy", "attention", "explain"] {
                browser.click(&format!("#tab-{tab}")).await;
                assert_eq!(browser.inaccessible().await, json!([]), "{tab} in {scheme} at {width}");
                let wide = browser.run("return document.documentElement.scrollWidth;", json!([])).await;
                assert_eq!(wide, json!(width), "{tab} is wider than the screen");
            }
        }
    }
    node.stop().await;
    browser.end().await;
}

/// At common widths, with a badge on one of the tabs.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn all_tabs_and_buttons_are_in_view_at_every_width() {
    let Some(browser) = Browser::start().await else { return };
    let node = TestNode::with(TWO).await;
    node.api.override_with(json!({"target": "region/two", "action": "drain"})).await;
    browser.open(&url(node.control())).await;
    browser.until("document.querySelector('.badge')").await;
    for (width, height) in [(390, 844), (800, 600), (1024, 768), (1280, 800), (1440, 900)] {
        browser.resize(width, height).await;
        browser.until(&format!("innerWidth === {width}")).await;
        let cut_off = "
            const isCut = (it) => {
              const box = it.getBoundingClientRect();
              const around = it.parentElement.getBoundingClientRect();
              return box.left < around.left - 1 || box.right > around.right + 1 || box.bottom > around.bottom + 1
                || box.right > innerWidth || it.scrollWidth > it.clientWidth + 1;
            };
            return [...document.querySelectorAll('[role=tab], nav button, .chips button')].filter(isCut).map((it) => it.textContent.trim());";
        assert_eq!(browser.run(cut_off, json!([])).await, json!([]), "cut off at {width}");
        let wide = browser.run("return document.documentElement.scrollWidth;", json!([])).await;
        assert_eq!(wide, json!(width), "the page is wider than the screen");
    }
    node.stop().await;
    browser.end().await;
}

/// What has no probes has no verdict, and none since when.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_not_probed_says_so() {
    let Some(browser) = Browser::start().await else { return };
    let node = TestNode::with(TWO).await;
    browser.open(&url(node.control())).await;
    browser.until(&says("All well")).await;
    let rows = "[...document.querySelectorAll('#tab-panel .row .what')].map((it) => it.textContent.replace(/\\s+/g, ' ').trim()).join('; ')";
    let regions = "one not probed; a 192.0.2.1 not probed; two not probed; a 192.0.2.2 not probed";
    browser.until(&format!("{rows} === {}", json!(regions))).await;
    browser.click("#tab-panel [aria-posinset='2'] .main").await;
    let headline = "document.querySelector('dialog .headline').textContent.replace(/\\s+/g, '')";
    browser.until(&format!("{headline} === '○notprobed'")).await;
    assert_eq!(browser.inaccessible().await, json!([]));
    browser.click("dialog header button").await;
    browser.click("#tab-proxy").await;
    let pools =
        "none least-connections; 192.0.2.4:80 not probed; web least-connections; 192.0.2.3:80 not probed";
    browser.until(&format!("{rows} === {}", json!(pools))).await;
    let drained = json!({"target": "region/two", "action": "drain"});
    node.api.override_with(drained).await;
    browser.click("#tab-regions").await;
    browser.until(&format!("{rows}.includes('two not probed, drained')")).await;
    let status = node.api.get("/v1/status").await;
    for region in status["regions"].as_array().expect("a list") {
        let (endpoint, address) = (&region["endpoints"][0], &region["endpoints"][0]["addresses"][0]);
        for it in [region, endpoint, address] {
            assert_eq!((&it["verdict"], &it["probed"]), (&json!("up"), &json!(false)), "{it}");
        }
        assert_eq!((&region["since"], &address["since"]), (&Value::Null, &Value::Null));
    }
    node.stop().await;
    browser.end().await;
}

fn germany_is_served() -> String {
    format!("{GERMANY}?.startsWith('url(#tint-')")
}

/// The page says that it no longer hears from the node, and goes on by itself when it does.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_that_stops_and_starts_again_is_noticed() {
    let Some(browser) = Browser::start().await else { return };
    let folder = Folder::new(TWO);
    folder.without_landlock();
    let node = TestNode::start(folder).await;
    let control = node.control();
    browser.open(&url(control)).await;
    browser.until(&says("All well")).await;
    let folder = node.stop().await;
    browser.until(&says("The node does not answer")).await;
    assert_eq!(browser.inaccessible().await, json!([]));
    folder.reconfigure("listen = \"127.0.0.1:0\"\nsocket", &format!("listen = \"{control}\"\nsocket"));
    let node = TestNode::start(folder).await;
    browser.until(&says("All well")).await;
    node.api.override_with(json!({"target": "region/one", "action": "drain"})).await;
    browser.until(&says("All clients are served")).await;
    node.stop().await;
    browser.end().await;
}

/// A status of two regions, a service and a pool in which all is well, with this merged into its parts.
fn status(regions: &Value, pool: &Value, alarms: &Value) -> Value {
    let merged = |mut base: Value, change: &Value| {
        for (name, value) in change.as_object().into_iter().flatten() {
            base[name] = value.clone();
        }
        base
    };
    let address = |address: &str, change: &Value| {
        let usual = json!({"address": address, "verdict": "up", "since": "2026-11-29T12:00:00Z", "evidence": "first probe succeeded",
                           "failures": 0, "rtt_ms": 1.0, "last_probe_s": 1.0, "probes": []});
        merged(usual, &change["address"])
    };
    let region = |index: usize, name: &str| {
        let change = &regions[index];
        let endpoint = json!({"name": "lb1", "verdict": "up", "weight": 100, "host": null, "override": null,
                              "addresses": [address("192.0.2.1", change)]});
        let usual = json!({"name": name, "verdict": "up", "since": "2026-11-29T12:00:00Z", "usable": "yes", "held": null, "override": null,
                           "capacity": null, "endpoints": [endpoint]});
        merged(usual, &change["region"])
    };
    let backend = json!({"name": "10.0.0.1:80", "verdict": "up", "weight": 1, "backup": false, "used": true, "ejected": [], "lookup": null,
                         "override": null, "addresses": [address("10.0.0.1", pool)]});
    let pools = merged(
        json!({"name": "web", "balance": "two-choices", "serves": true, "panic": null, "waiting": 0}),
        &json!({"backends": [backend]}),
    );
    json!({"node": {"name": "ns1", "version": "1", "epoch": 1, "ready": true, "uptime_s": 1}, "alarms": alarms,
           "regions": [region(0, "east"), region(1, "west")], "pools": [merged(pools, &pool["pool"])], "listeners": [],
           "services": [{"name": "www.example.com.", "type": "address", "rank": "priority", "regions": []}]})
}

/// The headline and the detail below it, for what a status says.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_first_line_says_what_is_wrong() {
    let Some(browser) = Browser::start().await else { return };
    let node = TestNode::with("").await;
    browser.open(&url(node.control())).await;
    browser.until(&says("All well")).await;
    let refused = json!({"verdict": "down", "evidence": "3 consecutive failures: connection refused"});
    let down = json!({"region": {"verdict": "down", "usable": "no"}, "address": refused});
    let held = json!({"region": {"verdict": "down", "held": "min_regions"}, "address": refused});
    let drained = json!({"region": {"usable": "no", "override": {"id": 1, "target": "region/east", "action": "drain", "share": "25%",
        "created": "2026-11-29T12:00:00Z", "until": null, "reason": "new kernel", "by": "token ci"}}});
    let slow = json!({"region": {"verdict": "degraded", "usable": "reduced"}, "address": {"verdict": "degraded", "evidence": "3 slow results"}});
    let (well, none) = (json!({}), json!([]));
    for (regions, pool, alarms, headline, detail) in [
        (json!([]), &well, &none, "All well", "2 regions for www.example.com, 1 pool"),
        (
            json!([down]),
            &well,
            &none,
            "east is down",
            "3 consecutive failures: connection refused · every client is still served",
        ),
        (
            json!([well, down]),
            &json!({"address": refused}),
            &none,
            "west is down",
            "3 consecutive failures: connection refused · every client is still served · 1 more finding",
        ),
        (
            json!([down, down]),
            &well,
            &json!(["no region of www.example.com. serves"]),
            "Every region is down",
            "3 consecutive failures: connection refused · 2 more findings",
        ),
        (
            json!([held]),
            &well,
            &json!(["region/east fails, but min_regions holds it"]),
            "region/east fails, but min_regions holds it",
            "2 regions for www.example.com, 1 pool",
        ),
        (
            json!([drained]),
            &well,
            &none,
            "All clients are served",
            "region/east is drained for 25% of its clients: by token ci until restored (new kernel)",
        ),
        (json!([slow]), &well, &none, "All clients are served", "east is degraded: 3 slow results"),
        (
            json!([]),
            &json!({"address": refused}),
            &none,
            "All clients are served",
            "pool/web/10.0.0.1:80 is down: 3 consecutive failures: connection refused",
        ),
        (
            json!([]),
            &json!({"address": refused, "pool": {"serves": false}}),
            &json!(["no backend of pool `web` serves"]),
            "No backend of pool `web` serves",
            "2 regions for www.example.com, 1 pool",
        ),
    ] {
        let status = status(&regions, pool, alarms);
        let script = "
            const health = await import(new URL('health.js', document.querySelector('script[type=module]').src));
            const found = health.findings(status, Date.parse('2026-11-29T12:00:10Z'));
            const { headline, detail } = health.summary({ link: { state: 'live' }, status, findings: found });
            return [headline, detail];";
        let said = browser.run_async(&format!("const status = {status}; {script}")).await;
        assert_eq!(said, json!([headline, detail]), "{regions} {pool} {alarms}");
    }
    node.stop().await;
    browser.end().await;
}
