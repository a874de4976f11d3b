//! What backends learn of clients, requests and traces.

use std::collections::BTreeSet;

use super::backend::Backend;
use super::{address, client, config, header, shown};
use crate::harness::node::TestNode;

const PARENT: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";

async fn node(one: &Backend, proxy: &str) -> TestNode {
    TestNode::with(&config(&[one.address], "").replacen("[proxy]\n", &format!("[proxy]\n{proxy}\n"), 1)).await
}

#[tokio::test]
async fn claims_of_strangers_are_replaced() {
    let one = Backend::start("one").await;
    let node =
        node(&one, "identity = { headers = [\"forwarded\", \"x-forwarded\"], trace = \"100%\" }").await;
    let mut ids = BTreeSet::new();
    for _ in 0..3 {
        let request = client()
            .get(format!("http://{}/", address(&node)))
            .header("forwarded", "for=192.0.2.9")
            .header("x-request-id", "mine")
            .header("traceparent", PARENT)
            .header("tracestate", "a=b");
        let seen = shown(request.send().await.unwrap()).await;
        let expected = format!("for=127.0.0.1;host=\"{}\";proto=http", address(&node));
        assert_eq!(
            (header(&seen, "forwarded"), header(&seen, "x-forwarded-for")),
            (vec![expected], vec!["127.0.0.1".into()])
        );
        assert_eq!(header(&seen, "tracestate"), [""; 0]);
        let (id, trace) = (header(&seen, "x-request-id"), header(&seen, "traceparent"));
        assert!(
            id.len() == 1 && id[0].len() == 32 && id[0].bytes().all(|it| it.is_ascii_hexdigit()),
            "{id:?}"
        );
        assert!(trace.len() == 1 && trace[0].ends_with("-01") && !trace[0].contains("4bf92f35"), "{trace:?}");
        ids.insert(id);
        ids.insert(trace);
    }
    assert_eq!(ids.len(), 6);
    node.stop().await;
}

#[tokio::test]
async fn what_trusted_hops_say_is_continued() {
    let one = Backend::start("one").await;
    let identity = "trusted = [\"127.0.0.0/8\"]\nidentity = { headers = \"forwarded\", trace = \"0%\" }";
    let node = node(&one, identity).await;
    let request = |id: &str| {
        client()
            .get(format!("http://{}/", address(&node)))
            .header("forwarded", "for=192.0.2.9")
            .header("x-forwarded-for", "192.0.2.9")
            .header("x-request-id", id)
            .header("tracestate", "a=b")
    };
    let seen = shown(request("mine").header("traceparent", PARENT).send().await.unwrap()).await;
    let expected = format!("for=192.0.2.9, for=127.0.0.1;host=\"{}\";proto=http", address(&node));
    assert_eq!(header(&seen, "forwarded"), [expected]);
    assert_eq!(header(&seen, "x-forwarded-for"), ["192.0.2.9"]);
    assert_eq!(
        (header(&seen, "x-request-id"), header(&seen, "tracestate")),
        (vec!["mine".into()], vec!["a=b".into()])
    );
    let trace = header(&seen, "traceparent");
    assert!(
        trace.len() == 1 && trace[0].starts_with(&PARENT[..36]) && trace[0].ends_with("-01"),
        "{trace:?}"
    );
    assert_ne!(trace[0], PARENT, "the parent is another");

    let seen = shown(request(&"long".repeat(40)).header("traceparent", "broken").send().await.unwrap()).await;
    assert_eq!(header(&seen, "x-request-id")[0].len(), 32);
    assert_eq!(header(&seen, "tracestate"), [""; 0]);
    assert!(header(&seen, "traceparent")[0].ends_with("-00"), "{seen}");
    node.stop().await;
}

#[tokio::test]
async fn ids_and_traces_can_be_off() {
    let one = Backend::start("one").await;
    let node = node(&one, "trusted = [\"127.0.0.0/8\"]\nidentity = { request_id = false }").await;
    let request = client().get(format!("http://{}/", address(&node))).header("traceparent", PARENT);
    let seen = shown(request.send().await.unwrap()).await;
    assert_eq!((header(&seen, "x-request-id"), header(&seen, "traceparent")), (vec![], vec![PARENT.into()]));
    node.stop().await;
}
