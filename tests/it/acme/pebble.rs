//! Pebble, the test server of Let's Encrypt, which asks this node's own DNS.

use std::net::TcpListener;
use std::process::{Child, Command, Stdio};

use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair};

use super::{certificate, failure, folder, issued, listener, reload};
use crate::harness::binary::{clean, is_installed};
use crate::harness::node::TestNode;
use crate::harness::{skipped, until};

struct Pebble(Child);

impl Drop for Pebble {
    fn drop(&mut self) {
        self.0.kill().ok();
        self.0.wait().ok();
    }
}

fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0").and_then(|it| it.local_addr()).expect("a free port").port()
}

/// Obtains a certificate from Pebble.
async fn obtain(names: &str, keys: &str) {
    if !is_installed("pebble") {
        return skipped("pebble is not installed (Debian package pebble)");
    }
    let (port, management) = (free_port(), free_port());
    let folder = folder(&format!("https://127.0.0.1:{port}/dir"), names, keys);
    let mut params = CertificateParams::new(Vec::new()).unwrap();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let key = KeyPair::generate().unwrap();
    folder.write("ca.pem", params.self_signed(&key).unwrap().pem());
    let issuer = Issuer::new(params, key);
    let key = KeyPair::generate().unwrap();
    let cert =
        CertificateParams::new(vec!["127.0.0.1".to_owned()]).unwrap().signed_by(&key, &issuer).unwrap();
    folder.write("pebble.pem", cert.pem());
    folder.write_secret("pebble.key", key.serialize_pem());

    let node = TestNode::start(folder).await;
    let why = failure(&node).await;
    assert!(why.contains("refused"), "nothing listens there yet: {why}");
    let path = |name: &str| node.folder.path(name).display().to_string();
    let config = serde_json::json!({ "pebble": {
        "listenAddress": format!("127.0.0.1:{port}"), "managementListenAddress": format!("127.0.0.1:{management}"),
        "certificate": path("pebble.pem"), "privateKey": path("pebble.key"),
        "httpPort": listener(&node, "web").port(), "tlsPort": free_port(),
    } });
    node.folder.write("pebble.json", config.to_string());
    let mut command = clean(Command::new("pebble"));
    command.args(["-strict", "-config", &path("pebble.json"), "-dnsserver", &node.dns.to_string()]);
    command.env("PEBBLE_VA_NOSLEEP", "1").env("PEBBLE_WFE_NONCEREJECT", "0");
    let _pebble = Pebble(command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().expect("it starts"));
    until("it listens", async || tokio::net::TcpStream::connect(("127.0.0.1", port)).await.ok()).await;
    reload(&node).await;
    issued(&node).await;
    let is_planned = |it: &serde_json::Value| it["error"].is_null() && it["next"].is_string();
    certificate(&node, "nothing fails, and the renewal is planned", is_planned).await;
    node.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn pebble_finds_the_proof_by_http() {
    obtain("\"www.example.test\", \"api.example.test\"", "challenge = \"http-01\"").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn pebble_finds_the_proof_by_dns() {
    obtain("\"example.test\", \"*.example.test\"", "challenge = \"dns-01\"").await;
}
