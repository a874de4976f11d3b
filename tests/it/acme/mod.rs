//! Certificates by ACME, and the challenges of other ACME clients.

mod challenges;
mod mistakes;
mod pebble;
mod renewal;
mod server;
mod suggestions;

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;

use reqwest::Method;
use rustls::crypto::aws_lc_rs;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, RootCertStore};
use serde_json::Value;
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_rustls::TlsConnector;

use crate::harness::PATIENCE;
use crate::harness::folder::Folder;
use crate::harness::node::TestNode;
use crate::harness::until;

/// A folder with a zone whose names are at 127.0.0.1, a listener for HTTP, `web`, and one for TLS, `secure`. `keys` are of the
/// certificate.
fn folder(directory: &str, names: &str, keys: &str) -> Folder {
    let folder = Folder::new(&format!(
        "[[proxy.certificate]]\nacme = {{ names = [{names}], directory = \"{directory}\", ca = \"ca.pem\", \
         terms_agreed = true, {keys} }}\n\
         [proxy]\nworkers = 1\n\
         [proxy.listener.web]\nlisten = \"127.0.0.1:0\"\nroute = [{{ respond = {{ status = 404, body = \"routed\" }} }}]\n\
         [proxy.listener.secure]\nlisten = \"127.0.0.1:0\"\ntls = true\nroute = [{{ respond = {{ status = 200, body = \"fine\" }} }}]\n"
    ));
    folder.write(
        "example.test.zone",
        "$TTL 300\n@ SOA ns hostmaster 7 3600 600 86400 60\n@ NS ns\nns A 127.0.0.1\nwww A 127.0.0.1\napi A 127.0.0.1\n",
    );
    folder
}

/// The address of a listener.
fn listener(node: &TestNode, name: &str) -> SocketAddr {
    let found = node.node.proxy_addresses.iter().find(|(it, _)| **it == *name);
    found.expect("the config has it").1
}

/// Connects by TLS as a client that trusts this authority. Returns the certificate that it was shown.
async fn handshake(address: SocketAddr, name: &'static str, ca: &str) -> io::Result<CertificateDer<'static>> {
    let mut roots = RootCertStore::empty();
    roots.add(CertificateDer::from_pem_slice(ca.as_bytes()).expect("PEM")).expect("an authority");
    let config = ClientConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
        .with_safe_default_protocol_versions()
        .expect("versions")
        .with_root_certificates(roots)
        .with_no_client_auth();
    let connecting = async {
        let stream = TcpStream::connect(address).await?;
        let name = ServerName::try_from(name).expect("a name");
        TlsConnector::from(Arc::new(config)).connect(name, stream).await
    };
    let stream = timeout(PATIENCE, connecting).await.expect("the handshake ends")?;
    Ok(stream.get_ref().1.peer_certificates().expect("a certificate")[0].clone().into_owned())
}

/// What status says about the certificate once it fits.
async fn certificate(node: &TestNode, what: &str, fits: impl Fn(&Value) -> bool) -> Value {
    until(what, async || {
        let status = node.api.get("/v1/status").await;
        Some(status["certificates"][0].clone()).filter(&fits)
    })
    .await
}

async fn issued(node: &TestNode) -> Value {
    certificate(node, "a certificate is there", |it| it["expires"].is_string()).await
}

/// The text of the failure.
async fn failure(node: &TestNode) -> String {
    let failing = certificate(node, "the order fails", |it| it["error"].is_string()).await;
    failing["error"].as_str().expect("a text").to_owned()
}

async fn reload(node: &TestNode) {
    let (status, answer) = node.api.call(Method::POST, "/v1/reload", None).await;
    assert_eq!(status, 200, "{answer}");
}
