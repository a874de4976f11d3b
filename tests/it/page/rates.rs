//! Requests of backends, and how many of them fail.

use serde_json::json;

use super::browser::Browser;
use super::shown::{is_quiet_and_alone, says, url};
use crate::harness::node::TestNode;
use crate::proxy::backend::{Backend, Manner};
use crate::proxy::{address, client};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn backends_show_their_requests_and_failures() {
    let Some(browser) = Browser::start().await else { return };
    let (good, bad) = (Backend::start("good").await, Backend::start("bad").await);
    bad.behave(Manner::Status(503));
    let node = TestNode::with(&format!(
        "[proxy.listener.web]\nlisten = \"127.0.0.1:0\"\npool = \"api\"\n\
         [proxy.pool.api]\nbackend = [\"{}\", \"{}\"]\nprobe = []\nbalance = \"round-robin\"\nretry = {{ tries = 1 }}\n",
        good.address, bad.address
    ))
    .await;
    let page = url(node.control());
    browser.open(&page).await;
    browser.until(&says("All well")).await;
    browser.click("#tab-proxy").await;
    let row = |backend: &Backend| {
        let named = format!("it.textContent.includes('{}')", backend.address);
        format!("[...document.querySelectorAll('[aria-label=pools] .row')].find((it) => {named})")
    };
    browser.until(&format!("{}?.textContent.includes('0/s')", row(&good))).await;
    let client = client();
    for _ in 0..40 {
        client.get(format!("http://{}/", address(&node))).send().await.expect("an answer");
    }
    browser.until(&format!("{}.textContent.includes('✕ 100% failed')", row(&bad))).await;
    for (backend, has_errors) in [(&good, false), (&bad, true)] {
        let drawn = format!(
            "const paths = (name) => [...{}.querySelectorAll('.requests ' + name)].map((it) => it.getAttribute('d').length > 0);
             return [paths('.area'), paths('.failed')];",
            row(backend)
        );
        let expected = json!([[true], if has_errors { json!([true]) } else { json!([]) }]);
        assert_eq!(browser.run(&drawn, json!([])).await, expected, "{}", backend.address);
    }
    assert_eq!(browser.inaccessible().await, json!([]));
    browser.run(&format!("{}.querySelector('.main').click();", row(&bad)), json!([])).await;
    let facts = "[...document.querySelectorAll('dialog .facts div')].map((it) => it.textContent)";
    browser.until(&format!("{facts}.includes('Requests20') && {facts}.includes('Server errors20')")).await;
    // Nothing is probed, so no time to connect is shown.
    browser.until("document.querySelectorAll('dialog .history canvas').length === 1").await;
    assert_eq!(browser.inaccessible().await, json!([]));
    is_quiet_and_alone(&browser, &page).await;
    node.stop().await;
    browser.end().await;
}
