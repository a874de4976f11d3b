//! Sessions that clients resume.

use std::sync::Arc;

use reqwest::Method;
use rustls::{ClientConfig, HandshakeKind, SupportedProtocolVersion};

use super::super::address;
use super::super::backend::Backend;
use super::certificates::{Authority, Identity};
use super::{BOTH, OLDER, ask, client, connect, folder, node};
use crate::harness::node::TestNode;

/// How the handshake of a further connection of this client goes. The exchange brings the client new tickets.
async fn handshake(node: &TestNode, client: &Arc<ClientConfig>) -> HandshakeKind {
    let mut stream = connect(address(node), "www.test", client).await.unwrap();
    assert!(ask(&mut stream, "").await.unwrap().starts_with("HTTP/1.1 200"));
    stream.get_ref().1.handshake_kind().expect("a handshake")
}

const VERSIONS: [&[&SupportedProtocolVersion]; 2] = [BOTH, OLDER];

fn is_resumed(kind: HandshakeKind) -> bool {
    kind == HandshakeKind::Resumed
}

#[tokio::test]
async fn any_worker_resumes_a_session_also_after_a_reload() {
    let (authority, backend) = (Authority::new("one"), Backend::start("one").await);
    let node = node(&authority, &backend).await;
    for versions in VERSIONS {
        let client = Arc::new(client(&authority, versions, None));
        assert!(!is_resumed(handshake(&node, &client).await));
        // The kernel spreads the connections over both workers.
        for _ in 0..16 {
            assert!(is_resumed(handshake(&node, &client).await));
        }
        assert_eq!(node.api.call(Method::POST, "/v1/reload", None).await.0, 200);
        assert!(is_resumed(handshake(&node, &client).await));
    }
    let sample = "portolan_proxy_handshakes_total{listener=\"web\",version=\"1.2\",resumed=\"true\"}";
    assert_eq!(node.api.metric(sample).await, Some(17.0));
    node.stop().await;
}

#[tokio::test]
async fn nodes_with_one_secret_resume_each_others_sessions() {
    let (authority, backend) = (Authority::new("one"), Backend::start("one").await);
    let tickets = "tickets = { secret_file = \"tickets.secret\", rotate = \"1h\" }";
    let (ours, other) = ("0123456789abcdef".repeat(4), "f".repeat(64));
    let start = async |secrets: &str| {
        let folder = folder(&authority, backend.address, tickets, "tls = true");
        folder.write_secret("tickets.secret", secrets);
        TestNode::start(folder).await
    };
    let (one, two, stranger) = (start(&ours).await, start(&ours).await, start(&other).await);
    let (replacing, unconfigured) =
        (start(&format!("{other}\n{ours}\n")).await, node(&authority, &backend).await);
    for versions in VERSIONS {
        for (name, node, expected) in [
            ("one with the same secret", &two, true),
            ("one that makes new tickets with another secret", &replacing, true),
            ("one with another secret", &stranger, false),
            ("one without a file", &unconfigured, false),
        ] {
            let client = Arc::new(client(&authority, versions, None));
            assert!(!is_resumed(handshake(&one, &client).await));
            assert_eq!(is_resumed(handshake(node, &client).await), expected, "{name}");
        }
        let client = Arc::new(client(&authority, versions, None));
        assert!(!is_resumed(handshake(&replacing, &client).await));
        assert!(!is_resumed(handshake(&one, &client).await), "new tickets are of the first secret");
    }
    for node in [one, two, stranger, replacing, unconfigured] {
        node.stop().await;
    }
}

/// A session that began without a certificate must not open a listener that asks for one.
#[tokio::test]
async fn sessions_stand_for_no_certificate_of_a_client() {
    let (authority, backend) = (Authority::new("one"), Backend::start("one").await);
    let node = node(&authority, &backend).await;
    node.folder.write("clients.pem", authority.pem());
    let without: Vec<Arc<ClientConfig>> =
        VERSIONS.iter().map(|versions| Arc::new(client(&authority, versions, None))).collect();
    for client in &without {
        handshake(&node, client).await;
        assert!(is_resumed(handshake(&node, client).await));
    }
    node.folder.reconfigure("tls = true", "tls = { client_ca = \"clients.pem\" }");
    assert_eq!(node.api.call(Method::POST, "/v1/reload", None).await.0, 200);
    for client in &without {
        let refused = match connect(address(&node), "www.test", client).await {
            Ok(mut stream) => ask(&mut stream, "").await.is_err(),
            Err(_) => true,
        };
        assert!(refused);
    }
    let alice: Identity = authority.issue(&["alice"]);
    for versions in VERSIONS {
        let with = Arc::new(client(&authority, versions, Some(&alice)));
        for _ in 0..3 {
            assert!(!is_resumed(handshake(&node, &with).await), "each connection shows the certificate");
        }
    }
    node.stop().await;
}
