//! Tokens that the node no longer knows, or that may no longer do what they did.

use reqwest::Method;
use serde_json::{Value, json};

use super::browser::Browser;
use super::shown::{TWO, says, url};
use crate::harness::folder::{Folder, tokens};
use crate::harness::node::TestNode;

const DIALOG: &str = "document.querySelector('dialog')?.textContent";

const NO_LONGER_VALID: &str = "The token you typed is no longer valid; type it again.";

/// The button that acts on the first region.
const ACT: &str = "#tab-panel .row .act";

const SUBMIT: &str = "dialog button[type=submit]";

async fn reload(node: &TestNode) {
    let (status, reply) = node.api.call(Method::POST, "/v1/reload", None).await;
    assert_eq!(status, 200, "{reply}");
}

async fn kept(browser: &Browser) -> Value {
    browser.run("return sessionStorage.getItem('portolan.token');", json!([])).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_token_that_is_no_longer_valid_is_dropped_and_asked_for_where_it_is_needed() {
    let Some(browser) = Browser::start().await else { return };
    let (old, new) = (tokens(&[("old", "operator")]), tokens(&[("new", "operator")]));
    let folder = Folder::new(TWO);
    folder.without_landlock();
    folder.reconfigure("socket = \"control.sock\"\n", &old);
    let node = TestNode::start(folder).await;
    browser.open(&url(node.control())).await;
    browser.until(&says("All well")).await;
    browser
        .run("sessionStorage.setItem('portolan.token', 'secret of old'); location.reload();", json!([]))
        .await;
    browser.until("document.querySelector('nav')?.textContent.includes('token old')").await;

    // The page reads on without it, and nothing lies over what it shows.
    node.folder.reconfigure(&old, &new);
    reload(&node).await;
    browser.until("document.querySelector('nav').textContent.includes('Token')").await;
    assert_eq!(kept(&browser).await, Value::Null);
    node.api.override_with(json!({"target": "region/two", "action": "drain"})).await;
    browser.until(&says("All clients are served")).await;
    assert_eq!(browser.run(&format!("return {DIALOG} ?? null;"), json!([])).await, Value::Null);

    // It is told where the change was tried, and the change goes on from there.
    browser.click(ACT).await;
    browser.until("document.querySelector('.plan h3, .plan .bad')").await;
    browser.click(".actions [value=up]").await;
    browser.until(&format!("!document.querySelector('{SUBMIT}').disabled")).await;
    browser.click(SUBMIT).await;
    browser.until(&format!("{DIALOG}.includes({})", json!(NO_LONGER_VALID))).await;
    assert_eq!(browser.inaccessible().await, json!([]));
    browser.write("dialog input[type=password]", "secret of new\u{e007}").await;
    browser.until(&format!("document.querySelector({})", json!(SUBMIT))).await;
    browser.click(SUBMIT).await;
    browser.until(&format!("{DIALOG}.includes('region/one is forced up by token new')")).await;
    browser.click("dialog footer button").await;
    browser.until("document.querySelector('#tab-panel .row').textContent.includes('forced up')").await;

    // One that the node stopped knowing while the dialog is open is refused when it is sent.
    browser.click("[aria-label=regions] [aria-posinset='1'] .act").await;
    browser.until("document.querySelector('.actions')").await;
    browser.run("const { fetch } = window;
                 window.fetch = (path, options) => (options.method === 'GET' ? new Promise(() => {}) : fetch(path, options));", json!([])).await;
    node.folder.reconfigure(&new, &old);
    reload(&node).await;
    browser.click(SUBMIT).await;
    browser.until(&format!("{DIALOG}.includes({})", json!(NO_LONGER_VALID))).await;
    assert_eq!(kept(&browser).await, Value::Null);
    let made = node.api.get("/v1/overrides").await;
    assert_eq!(made.as_array().map(Vec::len), Some(2), "it was not made: {made}");
    node.stop().await;
    browser.end().await;
}

/// Where reads need a token as well, it is asked for at once.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_that_reads_need_a_token_for_says_that_the_old_one_is_not_valid() {
    let Some(browser) = Browser::start().await else { return };
    let folder = Folder::new(TWO);
    folder.without_landlock();
    let read = format!("read = \"token\"\n{}", tokens(&[("eyes", "viewer")]));
    folder.reconfigure("socket = \"control.sock\"\n", &read);
    let node = TestNode::start(folder).await;
    browser.open(&url(node.control())).await;
    browser.until(&format!("{DIALOG}?.includes('answers only to those who have a token')")).await;
    browser
        .run("sessionStorage.setItem('portolan.token', 'secret of nobody'); location.reload();", json!([]))
        .await;
    browser.until(&format!("{DIALOG}?.includes({})", json!(NO_LONGER_VALID))).await;
    browser.write("dialog input[type=password]", "secret of eyes\u{e007}").await;
    browser.until(&says("All well")).await;
    browser.until("!document.querySelector('dialog')").await;
    node.stop().await;
    browser.end().await;
}

/// The token is still good for reads, so it is kept.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_token_that_has_become_a_viewers_says_so() {
    let Some(browser) = Browser::start().await else { return };
    let (more, less) = (tokens(&[("ops", "operator")]), tokens(&[("ops", "viewer")]));
    let folder = Folder::new(TWO);
    folder.without_landlock();
    folder.reconfigure("socket = \"control.sock\"\n", &more);
    let node = TestNode::start(folder).await;
    browser.open(&url(node.control())).await;
    browser.until(&says("All well")).await;
    browser
        .run("sessionStorage.setItem('portolan.token', 'secret of ops'); location.reload();", json!([]))
        .await;
    browser.until("document.querySelector('nav')?.textContent.includes('token ops')").await;
    browser.click(ACT).await;
    browser.until("document.querySelector('.plan h3')").await;
    node.folder.reconfigure(&more, &less);
    reload(&node).await;
    browser.click(SUBMIT).await;
    browser
        .until(&format!("{DIALOG}.includes('The token you typed has the role viewer. Changes need ')"))
        .await;
    assert_eq!(kept(&browser).await, json!("secret of ops"));
    node.stop().await;
    browser.end().await;
}
