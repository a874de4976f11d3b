//! What the metrics say of requests.

use super::backend::{Backend, Manner};
use super::{address, client, config};
use crate::harness::node::TestNode;
use crate::harness::until;

/// What is counted once the responses have ended.
async fn counted(node: &TestNode, metric: &str, expected: f64) {
    until(metric, async || (node.api.metric(metric).await == Some(expected)).then_some(())).await;
}

#[tokio::test]
async fn requests_are_counted_by_route_and_their_bytes_and_times_are_known() {
    let one = Backend::start("one").await;
    let routes =
        "route = [{ path = \"/said\", respond = { status = 404, body = \"text\" } }, { pool = \"api\" }]";
    let text = config(&[one.address], "").replacen("pool = \"api\"", routes, 1);
    let node = TestNode::with(&text).await;
    let backend = format!("backend=\"{}\"", one.address);
    let mut sent = 0.0;
    // In the lane, and on the way that all else takes.
    for round in 1..=2 {
        let connection = if round == 1 { "keep-alive" } else { "keep-alive, x-other" };
        let send = async |path: &str| {
            let url = format!("http://{}{path}", address(&node));
            let request = client().post(url).header("connection", connection).body("12345");
            let response = request.send().await.unwrap();
            (response.status().as_u16(), response.bytes().await.unwrap().len())
        };
        for (path, manner, expected) in
            [("/said", Manner::Show, 404), ("/", Manner::Show, 200), ("/", Manner::Status(503), 503)]
        {
            one.behave(manner);
            let (status, length) = send(path).await;
            assert_eq!(status, expected);
            sent += length as f64;
        }
        let rounds = f64::from(round);
        counted(&node, "portolan_proxy_request_seconds_count{pool=\"api\"}", rounds * 2.0).await;
        for (metric, each) in [
            ("portolan_proxy_route_requests_total{listener=\"web\",route=\"1\"}", 1.0),
            ("portolan_proxy_route_requests_total{listener=\"web\",route=\"2\"}", 2.0),
            ("portolan_proxy_first_byte_seconds_count{pool=\"api\"}", 2.0),
            ("portolan_proxy_first_byte_seconds_bucket{le=\"+Inf\",pool=\"api\"}", 2.0),
            // The body of a request that no backend gets does not count.
            ("portolan_proxy_bytes_total{listener=\"web\",direction=\"in\"}", 10.0),
            (&format!("portolan_proxy_backend_responses_total{{pool=\"api\",{backend},class=\"2xx\"}}"), 1.0),
            (&format!("portolan_proxy_backend_responses_total{{pool=\"api\",{backend},class=\"5xx\"}}"), 1.0),
        ] {
            counted(&node, metric, rounds * each).await;
        }
        counted(&node, "portolan_proxy_bytes_total{listener=\"web\",direction=\"out\"}", sent).await;
    }
    node.stop().await;
}
