//! A change that is looked at before it is made is shown on the map.

use portolan::node::demo::Demo;
use serde_json::json;

use super::browser::Browser;
use super::shown::{GERMANY, control, germany_is_of, is_quiet_and_alone, says, url};
use crate::harness::node::TestNode;

/// The button that acts on `region/eu-west`.
const ACT: &str = "[aria-label=regions] [aria-posinset='3'] .act";

const PREVIEW: &str = "document.querySelector('.preview').textContent";

fn is_outlined(country: &str) -> String {
    format!("document.querySelector('.moving [data-country={country}]')")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_map_shows_whom_a_change_would_move() {
    let Some(browser) = Browser::start().await else { return };
    let demo = Demo::start().await.expect("a demo");
    let page = url(control(&demo));
    for scheme in ["dark", "light"] {
        browser.prefer(scheme).await;
        browser.open(&page).await;
        browser.until(&says("All well")).await;
        browser.until(&germany_is_of("eu-west")).await;
        browser.click(ACT).await;
        browser.until(&format!("{PREVIEW}.includes('With region/eu-west drained, ')")).await;
        browser.until(&germany_is_of("us-east")).await;
        browser.until(&is_outlined("DE")).await;
        for country in ["US", "IN"] {
            let shown = browser.run(&format!("return {};", is_outlined(country)), json!([])).await;
            assert!(shown.is_null(), "{country} stays where it is");
        }
        let strokes = "[...new Set([...document.querySelectorAll('.lines path.moves')].map((it) => it.getAttribute('stroke')))].sort()";
        browser.until(&format!("{strokes}.join() === 'var(--region-0),var(--region-2)'")).await;
        let legend = "[...document.querySelectorAll('.legend li')].map((it) => it.textContent.replace(/\\s+/g, ' ').trim())";
        browser.until(&format!("{legend}.some((it) => /^eu-west ?\\d+% → 0%$/.test(it))")).await;
        browser.until("document.querySelector('[data-region=eu-west]').classList.contains('away')").await;
        assert_eq!(browser.inaccessible().await, json!([]), "{scheme}");

        browser.write("dialog select", "50").await;
        browser.until(&format!("{PREVIEW}.includes('drained for 50% of its clients')")).await;
        browser.until(&format!("{GERMANY} === 'url(#tint-1x5-2x5)'")).await;
        browser.click(".chart-panel header button").await;
        let rows = "[...document.querySelectorAll('.table-frame tr.moves')].map((it) => it.textContent.replace(/\\s+/g, ' '))";
        browser
            .until(&format!("{rows}.some((it) => /^Germany.*eu-west → eu-west 50%, us-east 50%/.test(it))"))
            .await;
        browser.click(".chart-panel header button").await;

        // It ends with the dialog, and the focus is where it was.
        browser.write("dialog input[placeholder='new kernel']", "\u{e00c}").await;
        browser.until(&germany_is_of("eu-west")).await;
        browser.until(&format!("!{} && {PREVIEW} === ''", is_outlined("DE"))).await;
        browser.until(&format!("document.activeElement.matches({})", json!(ACT))).await;
    }
    assert_eq!(demo.node.engine.overrides().await.expect("the engine runs"), []);
    is_quiet_and_alone(&browser, &page).await;
    demo.stop().await;
    browser.end().await;
}

/// From the preview of a change to the change, no country gets another colour.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_preview_lasts_until_the_change_is_on_the_map() {
    let Some(browser) = Browser::start().await else { return };
    let demo = Demo::start().await.expect("a demo");
    let page = url(control(&demo));
    browser.open(&page).await;
    let login = "sessionStorage.setItem('portolan.token', arguments[0]); location.reload();";
    browser.run(login, json!([demo.token])).await;
    browser.until("document.querySelector('nav').textContent.includes('token demo')").await;
    browser.until(&germany_is_of("eu-west")).await;
    browser.click(ACT).await;
    browser.until(&is_outlined("DE")).await;
    browser
        .run(
            "const germany = document.querySelector('[data-country=DE]');
             window.fills = [];
             new MutationObserver(() => window.fills.push(germany.getAttribute('fill')))
               .observe(germany, { attributes: true, attributeFilter: ['fill'] });",
            json!([]),
        )
        .await;
    browser.click("dialog button[type=submit]").await;
    browser.until("document.querySelector('dialog [role=status]')?.textContent.includes('is drained')").await;
    browser.until(&format!("!{} && {PREVIEW} === ''", is_outlined("DE"))).await;
    browser.until(&germany_is_of("us-east")).await;
    assert_eq!(browser.run("return window.fills;", json!([])).await, json!([]));
    browser.click("dialog footer button").await;
    browser.until(&says("All clients are served")).await;
    // Restoring is shown, too.
    browser.click(ACT).await;
    browser.until(&germany_is_of("eu-west")).await;
    browser.until(&format!("{PREVIEW}.includes('With region/eu-west restored, ')")).await;
    browser.click("dialog header button").await;
    browser.until(&germany_is_of("us-east")).await;
    demo.stop().await;
    browser.end().await;
}

/// On a phone, the dialog leaves the map in view.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_map_is_above_the_dialog_on_a_phone() {
    let Some(browser) = Browser::start().await else { return };
    let demo = Demo::start().await.expect("a demo");
    browser.resize(390, 844).await;
    browser.open(&url(control(&demo))).await;
    browser.until(&germany_is_of("eu-west")).await;
    browser.click(ACT).await;
    browser.until(&is_outlined("DE")).await;
    let edges = "const box = (name) => document.querySelector(name).getBoundingClientRect();
                 return [box('.chart').top >= 0, box('.chart').bottom <= box('dialog').top,
                         box('dialog').bottom <= innerHeight, document.documentElement.scrollWidth];";
    assert_eq!(browser.run(edges, json!([])).await, json!([true, true, true, 390]));
    assert_eq!(browser.inaccessible().await, json!([]));
    demo.stop().await;
    browser.end().await;
}

const SERVICES: &str = "\
[region.one]\nendpoint = [{ name = \"a\", address = \"192.0.2.1\", probe = [] }]
[region.two]\nendpoint = [{ name = \"a\", address = \"192.0.2.2\", probe = [] }]
[[service]]\nname = \"first.example.test.\"\nregions = [\"two\", \"one\"]
[[service]]\nname = \"second.example.test.\"\nregions = [\"one\", \"two\"]
";

/// The map can show each service whose clients would move.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_change_that_moves_clients_of_another_service_says_so() {
    let Some(browser) = Browser::start().await else { return };
    let node = TestNode::with(SERVICES).await;
    browser.open(&url(node.control())).await;
    browser.until(&format!("{GERMANY} === 'url(#tint-1)'")).await;
    browser.click("[aria-label=regions] [aria-posinset='1'] .act").await;
    let other =
        "With region/one drained, clients of second.example.test would move, but none of first.example.test.";
    browser.until(&format!("{PREVIEW}.includes({})", json!(other))).await;
    browser.until(&format!("!{}", is_outlined("DE"))).await;
    browser.click(".plan header button").await;
    browser.until(&is_outlined("DE")).await;
    browser.until(&format!("{GERMANY} === 'url(#tint-1)'")).await;
    let chosen = "document.querySelector('.choice select').value === 'second.example.test.'";
    browser.until(chosen).await;
    assert_eq!(browser.inaccessible().await, json!([]));
    // Acting on a service shows that one.
    browser.click("dialog header button").await;
    browser.click("#tab-services").await;
    browser.click("[aria-label=services] [aria-posinset='1'] .act").await;
    browser.until(&format!("{GERMANY} === 'url(#tint-0)'")).await;
    browser
        .until(&format!(
            "{PREVIEW}.includes('With service/first.example.test./two drained, 100% of all clients would move')"
        ))
        .await;
    node.stop().await;
    browser.end().await;
}
