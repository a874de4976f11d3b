//! Backends over TLS.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::SeqCst};

use reqwest::Method;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::WebPkiClientVerifier;
use rustls::{HandshakeKind, RootCertStore, ServerConfig};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;

use super::super::{address, raw};
use super::certificates::{Authority, Identity};
use crate::harness::binary::Served;
use crate::harness::folder::Folder;
use crate::harness::node::TestNode;

/// A backend that answers each connection over TLS once, with the number of the handshake, and closes it.
struct Secure {
    address: SocketAddr,
    full: Arc<AtomicU64>,
    resumed: Arc<AtomicU64>,
    serving: JoinHandle<()>,
}

impl Drop for Secure {
    fn drop(&mut self) {
        self.serving.abort();
    }
}

impl Secure {
    /// With `clients`, it serves only who has a certificate of this authority.
    async fn start(identity: &Identity, clients: Option<&Authority>) -> Self {
        let builder =
            ServerConfig::builder_with_provider(Arc::new(rustls::crypto::aws_lc_rs::default_provider()))
                .with_safe_default_protocol_versions()
                .unwrap();
        let builder = match clients {
            None => builder.with_no_client_auth(),
            Some(authority) => {
                let mut roots = RootCertStore::empty();
                roots.add(CertificateDer::from_pem_slice(authority.pem().as_bytes()).unwrap()).unwrap();
                let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
                let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider).build();
                builder.with_client_cert_verifier(verifier.unwrap())
            }
        };
        let key = PrivateKeyDer::from_pem_slice(identity.key.as_bytes()).unwrap();
        let config = Arc::new(builder.with_single_cert(vec![identity.der()], key).unwrap());
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (full, resumed): (Arc<AtomicU64>, Arc<AtomicU64>) = Default::default();
        let counts = (Arc::clone(&full), Arc::clone(&resumed));
        let serving = tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let Ok(stream) = TlsAcceptor::from(Arc::clone(&config)).accept(stream).await else {
                    continue;
                };
                let is_resumed = stream.get_ref().1.handshake_kind() == Some(HandshakeKind::Resumed);
                (if is_resumed { &counts.1 } else { &counts.0 }).fetch_add(1, SeqCst);
                tokio::spawn(answer(stream));
            }
        });
        Self { address, full, resumed, serving }
    }

    fn handshakes(&self) -> (u64, u64) {
        (self.full.load(SeqCst), self.resumed.load(SeqCst))
    }
}

/// Answers one request and closes.
async fn answer(mut stream: TlsStream<TcpStream>) {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        let Ok(byte) = stream.read_u8().await else { return };
        head.push(byte);
    }
    let name = stream.get_ref().1.server_name().unwrap_or("nobody").to_owned();
    let answer =
        format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\nConnection: close\r\n\r\n{name}", name.len());
    stream.write_all(answer.as_bytes()).await.ok();
    stream.shutdown().await.ok();
}

/// A config whose listener is for HTTP and whose pool has these backends and keys.
fn config(backends: &[SocketAddr], pool: &str) -> String {
    let backends: Vec<String> = backends.iter().map(|it| format!("\"{it}\"")).collect();
    format!(
        "[proxy]\nworkers = 1\n[proxy.listener.web]\nlisten = \"127.0.0.1:0\"\npool = \"api\"\n\
         [proxy.pool.api]\nbackend = [{}]\nprobe = []\nbalance = \"round-robin\"\n{pool}\n",
        backends.join(", ")
    )
}

fn folder(authority: &Authority, backends: &[SocketAddr], pool: &str) -> Folder {
    let folder = Folder::new(&config(backends, pool));
    folder.write("ca.pem", authority.pem());
    folder
}

const REQUEST: &[u8] = b"GET / HTTP/1.1\r\nHost: www.test\r\nConnection: close\r\n\r\n";

const TLS: &str = "tls = { sni = \"api.internal\", ca = \"ca.pem\" }";

#[tokio::test]
async fn requests_and_bytes_go_over_tls_and_sessions_are_resumed() {
    let authority = Authority::new("one");
    let backend = Secure::start(&authority.issue(&["api.internal"]), None).await;
    let made = folder(&authority, &[backend.address], TLS);
    let tcp = "[proxy.listener.zdb]\nlisten = \"127.0.0.1:0\"\nprotocol = \"tcp\"\npool = \"api\"\n[proxy.pool.api]";
    made.reconfigure("[proxy.pool.api]", tcp);
    let node = TestNode::start(made).await;
    for (_, address) in &node.node.proxy_addresses {
        for _ in 0..3 {
            let answer = raw(*address, REQUEST).await;
            assert!(answer.contains("200 OK") && answer.ends_with("api.internal"), "{answer}");
        }
    }
    assert_eq!(backend.handshakes(), (1, 5));
    // What a reload prepares has no sessions yet.
    assert_eq!(node.api.call(Method::POST, "/v1/reload", None).await.0, 200);
    for _ in 0..2 {
        assert!(raw(address(&node), REQUEST).await.contains("200 OK"));
    }
    assert_eq!(backend.handshakes(), (2, 6));
    node.stop().await;
}

#[tokio::test]
async fn backends_that_are_not_who_they_should_be_are_refused_and_the_log_says_why() {
    let (authority, other) = (Authority::new("one"), Authority::new("other"));
    let plain = super::Backend::start("plain").await;
    for (what, identity, expected) in [
        (
            "another name",
            authority.issue(&["db.internal"]),
            "TLS: certificate not valid for name api.internal",
        ),
        (
            "an expired one",
            authority.issue_for_years(&["api.internal"], (2001, 2002)),
            "TLS: certificate expired",
        ),
        ("a self-signed one", Identity::self_signed("api.internal"), "TLS: unknown issuer"),
        ("one of another authority", other.issue(&["api.internal"]), "TLS: unknown issuer"),
    ] {
        let backend = Secure::start(&identity, None).await;
        check_refused(what, &authority, backend.address, TLS, expected).await;
        assert_eq!(backend.handshakes(), (0, 0), "{what}");
    }
    check_refused("no TLS at all", &authority, plain.address, TLS, "TLS: the answer is not TLS").await;
    // By default the name is the backend's own: here its address.
    let backend = Secure::start(&authority.issue(&["api.internal"]), None).await;
    let own = "tls = { ca = \"ca.pem\" }";
    let expected = "TLS: certificate not valid for name 127.0.0.1";
    check_refused("no address in it", &authority, backend.address, own, expected).await;
}

async fn check_refused(what: &str, authority: &Authority, backend: SocketAddr, tls: &str, expected: &str) {
    let folder = folder(authority, &[backend], &format!("{tls}\nretry = {{ tries = 2 }}"));
    let served = Served::start(folder).await;
    let line = served.logged("it has bound its sockets", |line| line.get("proxy").is_some()).await;
    let proxy = line["proxy"].as_str().expect("a text");
    let port = proxy.rsplit_once(':').expect("an address").1.trim_matches(|it: char| !it.is_ascii_digit());
    let proxy = SocketAddr::from(([127, 0, 0, 1], port.parse().expect("a port")));
    for _ in 0..3 {
        let answer = raw(proxy, REQUEST).await;
        assert!(answer.starts_with("HTTP/1.1 502"), "{what}: {answer}");
    }
    let is_it =
        |line: &serde_json::Value| line["message"] == "a backend is not used: the TLS handshake failed";
    let line = served.logged("the log says why", is_it).await;
    let found = (&line["pool"], &line["backend"], &line["why"]);
    assert_eq!(found, (&"api".into(), &backend.to_string().into(), &expected.into()), "{what}");
    assert_eq!(served.log().iter().filter(|line| is_it(line)).count(), 1, "not for each connection");
    let sample = format!("portolan_proxy_failures_total{{pool=\"api\",backend=\"{backend}\"}}");
    assert_eq!(served.api().metric(&sample).await, Some(6.0), "{what}: each is retried as a failed connect");
}

#[tokio::test]
async fn another_backend_replaces_one_whose_certificate_is_wrong() {
    let authority = Authority::new("one");
    let good = Secure::start(&authority.issue(&["api.internal"]), None).await;
    let bad = Secure::start(&authority.issue(&["db.internal"]), None).await;
    let node = TestNode::start(folder(&authority, &[bad.address, good.address], TLS)).await;
    for _ in 0..4 {
        assert!(raw(address(&node), REQUEST).await.ends_with("api.internal"));
    }
    node.stop().await;
}

#[tokio::test]
async fn backends_may_ask_for_a_certificate() {
    let (authority, clients) = (Authority::new("one"), Authority::new("clients"));
    let backend = Secure::start(&authority.issue(&["api.internal"]), Some(&clients)).await;
    let made = folder(&authority, &[backend.address], TLS);
    clients.issue(&["proxy.internal"]).write(&made, "proxy");
    let node = TestNode::start(made).await;
    assert!(raw(address(&node), REQUEST).await.starts_with("HTTP/1.1 502"));
    node.folder.reconfigure("ca = \"ca.pem\"", "ca = \"ca.pem\", cert = \"proxy.pem\", key = \"proxy.key\"");
    assert_eq!(node.api.call(Method::POST, "/v1/reload", None).await.0, 200);
    assert!(raw(address(&node), REQUEST).await.ends_with("api.internal"));
    node.stop().await;
}

/// A connection that was made in the clear, or to whoever was trusted before, must not be used after a reload that
/// says otherwise.
#[tokio::test]
async fn idle_connections_are_used_only_while_tls_stays_the_same() {
    let authority = Authority::new("one");
    let plain = super::Backend::start("plain").await;
    let node = TestNode::start(folder(&authority, &[plain.address], "")).await;
    let client = super::super::client();
    let get =
        async || client.get(format!("http://{}/", address(&node))).send().await.unwrap().status().as_u16();
    let reload = async || assert_eq!(node.api.call(Method::POST, "/v1/reload", None).await.0, 200);
    assert_eq!((get().await, plain.connections()), (200, 1));
    reload().await;
    assert_eq!((get().await, plain.connections()), (200, 1), "nothing has changed");
    node.folder.reconfigure("probe = []", "probe = []\ntls = { ca = \"ca.pem\" }");
    reload().await;
    assert_eq!((get().await, plain.requests()), (502, 2), "this backend does not speak TLS");
    node.stop().await;
}
