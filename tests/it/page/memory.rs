//! A page that is open for long takes no more memory than one that was just opened.

use portolan::node::demo::Demo;
use serde_json::json;

use super::browser::Browser;
use super::shown::{control, germany_is_of, is_quiet_and_alone, says, url};
use crate::harness::http::Api;

/// How often the clients of Europe go elsewhere and come back, before memory is measured and until it is again.
const CHANGES: usize = 40;

/// What a change takes by chance, so that a page that keeps what it showed takes many times as much: an element is hundreds of bytes,
/// and each change shows hundreds of them.
const FEW_ELEMENTS: u64 = 500;
const FEW_BYTES: u64 = 3_000_000;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_no_longer_shown_is_not_kept() {
    let Some(browser) = Browser::start().await else { return };
    let demo = Demo::start().await.expect("a demo");
    let page = url(control(&demo));
    let api = Api::tcp(control(&demo)).with_token(&demo.token);
    browser.open(&page).await;
    browser.until(&says("All well")).await;
    // The page does not wait for as long as it would between two requests.
    let hurry = "const { setTimeout } = window;
                 window.setTimeout = (act, time) => setTimeout(act, time > 5000 ? time : time / 50);";
    browser.run(hurry, json!([])).await;
    let mut used = Vec::new();
    for _ in 0..2 {
        for _ in 0..CHANGES {
            browser.until(&germany_is_of("eu-west")).await;
            let id = api.override_with(json!({"target": "region/eu-west", "action": "drain"})).await;
            browser.until(&germany_is_of("us-east")).await;
            api.restore(id).await;
        }
        browser.until(&germany_is_of("eu-west")).await;
        browser.until(&says("All well")).await;
        used.push(browser.memory().await);
    }
    let [(elements, bytes), (elements_after, bytes_after)] = used[..] else { panic!("measured twice") };
    assert!(elements_after < elements + FEW_ELEMENTS, "{elements} elements, then {elements_after}");
    assert!(bytes_after < bytes + FEW_BYTES, "{bytes} bytes of objects, then {bytes_after}");
    is_quiet_and_alone(&browser, &page).await;
    demo.stop().await;
    browser.end().await;
}
