//! A change that is looked at before it is made is shown on the map.

use portolan::node::demo::Demo;
use serde_json::json;

use super::browser::Browser;
use super::shown::{GERMANY, control, germany_is_of, is_quiet_and_alone, says, url};
use crate::forecast::start;
use crate::harness::http::Api;
use crate::harness::node::TestNode;
use crate::harness::region::NEAREST;
use crate::overrides::REGIONS;

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

/// It hears of it, says so and shows no preview any more; the focus stays where it is.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_change_that_somebody_else_makes_meanwhile_is_not_offered_again() {
    let Some(browser) = Browser::start().await else { return };
    let demo = Demo::start().await.expect("a demo");
    let api = Api::tcp(control(&demo)).with_token(&demo.token);
    browser.open(&url(control(&demo))).await;
    let login = "sessionStorage.setItem('portolan.token', arguments[0]); location.reload();";
    browser.run(login, json!([demo.token])).await;
    browser.until("document.querySelector('nav')?.textContent.includes('token demo')").await;
    browser.until(&germany_is_of("eu-west")).await;
    browser.click(ACT).await;
    browser.until(&is_outlined("DE")).await;
    let note = "document.querySelector('dialog form [role=status]').textContent";
    let (submit, can_submit) =
        ("dialog button[type=submit]", "document.querySelector('dialog button[type=submit]').ariaDisabled");
    browser.run(&format!("document.querySelector('{submit}').focus();"), json!([])).await;
    let has_focus = format!("document.activeElement === document.querySelector('{submit}')");

    let id = api.override_with(json!({"target": "region/eu-west", "action": "drain"})).await;
    let already = "It is already drained by token demo until restored: nothing is left to do.";
    browser.until(&format!("{note} === {}", json!(already))).await;
    browser.until(&format!("{can_submit} === 'true' && {PREVIEW} === '' && !{}", is_outlined("DE"))).await;
    browser.until("document.querySelector('.plan').textContent.includes('It moves no clients')").await;
    browser.until(&has_focus).await;
    browser.click(submit).await;
    assert_eq!(browser.inaccessible().await, json!([]));
    let kept = demo.node.engine.overrides().await.expect("the engine runs");
    assert_eq!(kept.iter().map(|o| o.id).collect::<Vec<_>>(), [id], "it is not made once more");

    // Another time or reason is another change.
    browser.write("dialog input[placeholder='new kernel']", "a drill").await;
    browser
        .until(&format!(
            "{can_submit} === 'false' && {note}.endsWith('Only the time and the reason would change.')"
        ))
        .await;

    // Restoring as well, and the other way round.
    browser.click(".actions [value=restore]").await;
    browser.until(&format!("{PREVIEW}.includes('With region/eu-west restored, ')")).await;
    api.restore(id).await;
    browser.until(&format!("{note} === 'It has no override any more: nothing is left to do.'")).await;
    browser.until(&format!("{can_submit} === 'true' && {PREVIEW} === ''")).await;
    browser.click(".actions [value=drain]").await;
    browser.until(&format!("{PREVIEW}.includes('With region/eu-west drained, ')")).await;
    browser.until(&format!("{can_submit} === 'false' && {note} === ''")).await;
    demo.stop().await;
    browser.end().await;
}

/// What an override still does where clients are not sent anyway.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_change_that_moves_nobody_says_what_it_does() {
    let Some(browser) = Browser::start().await else { return };
    let demo = Demo::start().await.expect("a demo");
    let api = Api::tcp(control(&demo)).with_token(&demo.token);
    api.override_with(json!({"target": "region/eu-west", "action": "drain"})).await;
    browser.open(&url(control(&demo))).await;
    browser.until(&germany_is_of("us-east")).await;
    browser.click(ACT).await;
    browser.click(".actions [value=down]").await;
    let said = "It moves no clients between regions now. region/eu-west takes no new clients either way; \
                forced down, it is not used even when nothing else is left.";
    browser.until(&format!("document.querySelector('.plan').textContent === {}", json!(said))).await;
    demo.stop().await;
    browser.end().await;
}

/// Countries are listed by the clients that move, not by all that they have.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn countries_with_the_most_clients_that_move_come_first() {
    let Some(browser) = Browser::start().await else { return };
    let node = start(&[REGIONS, NEAREST].concat()).await;
    browser.open(&url(node.control())).await;
    browser.until(&format!("{GERMANY}?.startsWith('url(#tint-')")).await;
    // Of the United States, half of all clients, few move; of Germany, a quarter, all do.
    browser
        .run(
            "const { fetch } = window;
             window.fetch = async (path, options) => {
               const response = await fetch(path, options);
               if (path !== 'v1/plan') return response;
               const plan = await response.json();
               const share = (region, share) => ({ region, share });
               const germany = { country: 'DE', weight: 0.25, moved: 1, from: [share('eu', 1)], to: [share('us', 1)] };
               const states = { country: 'US', weight: 0.5, moved: 0.2, from: [share('us', 1)], to: [share('us', 0.8), share('eu', 0.2)] };
               Object.assign(plan.services[0], { countries: [germany, states], moved: 0.35 });
               for (const row of plan.map.countries) row.regions = { DE: germany, US: states }[row.country]?.to ?? row.regions;
               return new Response(JSON.stringify(plan));
             };",
            json!([]),
        )
        .await;
    browser.click("[aria-label=regions] [aria-posinset='3'] .act").await;
    let listed = "[...document.querySelectorAll('.plan .countries li')].map((it) => it.textContent.replace(/\\s+/g, ' ').trim())";
    browser
        .until(&format!(
            "{listed}.join('; ') === 'Germany 25% eu → us; United States 10% us → us 80%, eu 20%'"
        ))
        .await;
    browser.click(".chart-panel header button").await;
    let first = "[...document.querySelectorAll('.table-frame tbody th')].slice(0, 2).map((it) => it.textContent).join()";
    browser.until(&format!("{first} === 'Germany,United States'")).await;
    node.stop().await;
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
            "{PREVIEW}.includes('With service/first.example.test/two drained, 100% of all clients would move')"
        ))
        .await;
    node.stop().await;
    browser.end().await;
}
