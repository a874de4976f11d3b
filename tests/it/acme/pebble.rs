//! Pebble, the test server of Let's Encrypt, which asks this node's own DNS.

use std::net::TcpListener;
use std::process::{Child, Command, Stdio};

use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair};
use serde_json::{Value, json};

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

/// The key of an external account, as Pebble has it in its example, and one that it does not have.
const MAC_KEY: &str = "zWNDZM6eQGHWpSRTPal5eIUYFTu7EajVIoguysqZ9wG44nMEtx3MUAsUDkMTQ12W";
const OTHER_MAC_KEY: &str = "b10lLJs8l1GPIzsLP0s6pMt8O0XVGnfTaCeROxQM0BIt2XrJMDHJZBM5NuQmQJQH";

/// Obtains a certificate from Pebble.
async fn obtain(names: &str, keys: &str) {
    if let Some((node, _pebble)) = start(names, keys, json!({})).await {
        obtained(&node).await;
        node.stop().await;
    }
}

async fn obtained(node: &TestNode) {
    issued(node).await;
    let is_planned = |it: &Value| it["error"].is_null() && it["next"].is_string();
    certificate(node, "nothing fails, and the renewal is planned", is_planned).await;
}

/// A node, and Pebble with more settings than it needs, which the node is about to ask. `None` if it is not installed.
async fn start(names: &str, keys: &str, settings: Value) -> Option<(TestNode, Pebble)> {
    if !is_installed("pebble") {
        skipped("pebble is not installed (Debian package pebble)");
        return None;
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
    folder.write_secret("eab.key", OTHER_MAC_KEY);

    let node = TestNode::start(folder).await;
    let why = failure(&node).await;
    assert!(why.contains("refused"), "nothing listens there yet: {why}");
    let path = |name: &str| node.folder.path(name).display().to_string();
    let mut config = json!({ "pebble": {
        "listenAddress": format!("127.0.0.1:{port}"), "managementListenAddress": format!("127.0.0.1:{management}"),
        "certificate": path("pebble.pem"), "privateKey": path("pebble.key"),
        "httpPort": listener(&node, "web").port(), "tlsPort": free_port(),
    } });
    let settings = settings.as_object().cloned().unwrap_or_default();
    config["pebble"].as_object_mut().expect("an object").extend(settings);
    node.folder.write("pebble.json", config.to_string());
    let mut command = clean(Command::new("pebble"));
    command.args(["-strict", "-config", &path("pebble.json"), "-dnsserver", &node.dns.to_string()]);
    command.env("PEBBLE_VA_NOSLEEP", "1").env("PEBBLE_WFE_NONCEREJECT", "0");
    let pebble = Pebble(command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().expect("it starts"));
    until("it listens", async || tokio::net::TcpStream::connect(("127.0.0.1", port)).await.ok()).await;
    reload(&node).await;
    Some((node, pebble))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn pebble_finds_the_proof_by_http() {
    obtain("\"www.example.test\", \"api.example.test\"", "challenge = \"http-01\"").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn pebble_finds_the_proof_by_dns() {
    obtain("\"example.test\", \"*.example.test\"", "challenge = \"dns-01\"").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn pebble_binds_the_account_to_one_that_it_knows() {
    let settings =
        json!({ "externalAccountBindingRequired": true, "externalAccountMACKeys": { "kid-1": MAC_KEY } });
    let keys = "eab = { kid = \"kid-1\", key_file = \"eab.key\" }";
    let Some((node, _pebble)) = start("\"www.example.test\"", keys, settings).await else { return };
    let refuses =
        |it: &Value| it["error"].as_str().is_some_and(|why| why.contains("external account binding"));
    let shown = certificate(&node, "another key is refused", refuses).await;
    let why = shown["error"].as_str().unwrap_or_default();
    assert!(why.starts_with("no account bound to the external account `kid-1`: "), "{why}");
    let alarms = node.api.get("/v1/status").await["alarms"].to_string();
    assert!(alarms.contains(why), "{alarms}");

    node.folder.write_secret("eab.key", format!("{MAC_KEY}\n"));
    reload(&node).await;
    obtained(&node).await;
    let account = node.api.events("issued").await;
    assert_eq!(account.len(), 1, "{account:?}");
    let ca = account[0]["fields"]["ca"].as_str().unwrap_or_default();
    assert!(ca.starts_with("CN=Pebble Intermediate CA "), "{ca}");
    node.stop().await;
}
