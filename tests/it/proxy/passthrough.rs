//! TLS that passes through, encrypted.

use std::net::SocketAddr;
use std::process::Command;
use std::sync::Arc;

use rustls::pki_types::PrivateKeyDer;
use rustls::{ClientConfig, ClientConnection, RootCertStore, ServerConfig};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;
use tokio::time::timeout;
use tokio_rustls::TlsAcceptor;

use super::address;
use crate::harness::binary::{clean, is_installed, run};
use crate::harness::node::TestNode;
use crate::harness::{PATIENCE, skipped};

/// A listener that sends `one.test` and what is below `two.test` to two pools.
fn config(one: SocketAddr, two: SocketAddr, rest: &str) -> String {
    format!(
        "[proxy]\nworkers = 1\n[proxy.listener.tls]\nlisten = \"127.0.0.1:0\"\nprotocol = \"tls-passthrough\"\n\
         route = [{{ host = \"one.test\", pool = \"one\" }}, {{ host = \"*.two.test\", pool = \"two\" }}]\n\
         [proxy.pool.one]\nbackend = [\"{one}\"]\nprobe = []\n{rest}\n\
         [proxy.pool.two]\nbackend = [\"{two}\"]\nprobe = []\n"
    )
}

/// A server that greets each client with `name` over TLS.
async fn tls_backend(name: &'static str) -> (SocketAddr, JoinHandle<()>) {
    let made = rcgen::generate_simple_self_signed([name.to_owned()]).unwrap();
    let key = PrivateKeyDer::try_from(made.signing_key.serialize_der()).unwrap();
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let config = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![made.cert.der().clone()], key)
        .unwrap();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let acceptor = TlsAcceptor::from(Arc::new(config));
    let serving = tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let Ok(mut stream) = acceptor.accept(stream).await else { continue };
            stream.write_all(format!("this is {name}\n").as_bytes()).await.ok();
            stream.shutdown().await.ok();
        }
    });
    (address, serving)
}

/// The ClientHello of a client that connects to this host.
fn client_hello(host: &'static str) -> Vec<u8> {
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(RootCertStore::empty())
        .with_no_client_auth();
    let mut client = ClientConnection::new(Arc::new(config), host.try_into().unwrap()).unwrap();
    let mut bytes = Vec::new();
    client.write_tls(&mut bytes).unwrap();
    bytes
}

async fn rejected(node: &TestNode, reason: &str) -> Option<f64> {
    let name = format!("portolan_proxy_rejected_total{{listener=\"tls\",reason=\"{reason}\"}}");
    node.api.metric(&name).await
}

/// What a client gets that sends these bytes.
async fn answer(node: &TestNode, bytes: &[u8]) -> Vec<u8> {
    let exchange = async {
        let mut stream = TcpStream::connect(address(node)).await.unwrap();
        stream.write_all(bytes).await.unwrap();
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer).await.ok();
        answer
    };
    timeout(PATIENCE, exchange).await.expect("the connection is closed")
}

#[tokio::test(flavor = "multi_thread")]
async fn the_host_of_the_client_hello_decides_on_the_pool() {
    if !is_installed("openssl") {
        return skipped("openssl is not installed");
    }
    let ((one, _serving), (two, _serving_too)) = (tls_backend("one").await, tls_backend("two").await);
    let node = TestNode::with(&config(one, two, "")).await;
    let at = address(&node).to_string();
    for (version, host, expected) in [
        ("-tls1_3", "one.test", "this is one"),
        ("-tls1_2", "ONE.test", "this is one"),
        ("-tls1_3", "www.two.test", "this is two"),
        ("-tls1_2", "a.b.two.test", "this is two"),
        ("-tls1_3", "two.test", "unrecognized name"),
        ("-tls1_2", "three.test", "unrecognized name"),
    ] {
        let mut command = clean(Command::new("openssl"));
        command.args(["s_client", "-connect", &at, "-servername", host, version, "-ign_eof"]);
        let done = tokio::task::spawn_blocking(|| run(command)).await.unwrap();
        assert!((done.stdout.clone() + &done.stderr).contains(expected), "{host}: {done:?}");
    }
    let mut command = clean(Command::new("openssl"));
    command.args(["s_client", "-connect", &at, "-noservername", "-ign_eof"]);
    let done = tokio::task::spawn_blocking(|| run(command)).await.unwrap();
    assert!(
        done.stderr.contains("missing extension") || done.stderr.contains("alert number 109"),
        "{done:?}"
    );
    assert_eq!(rejected(&node, "unknown_host").await, Some(2.0));
    assert_eq!(rejected(&node, "no_host").await, Some(1.0));
    node.stop().await;
}

#[tokio::test]
async fn the_backend_gets_every_byte_however_the_hello_arrives() {
    let backend = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let one = backend.local_addr().unwrap();
    let node = TestNode::with(&config(one, one, "send_proxy = \"v1\"")).await;
    let hello = client_hello("one.test");
    let (head, message) = hello.split_at(5);
    let record = |part: &[u8]| [&head[..3], &(part.len() as u16).to_be_bytes(), part].concat();
    let in_records: Vec<u8> = message.chunks(90).flat_map(record).collect();
    let exchange = async {
        for (bytes, segment) in [(&hello, 3), (&in_records, 50), (&in_records, 1 << 16)] {
            let mut client = TcpStream::connect(address(&node)).await.unwrap();
            client.set_nodelay(true).unwrap();
            let from = client.local_addr().unwrap();
            for piece in bytes.chunks(segment) {
                client.write_all(piece).await.unwrap();
                tokio::task::yield_now().await;
            }
            client.shutdown().await.unwrap();
            let (mut server, _) = backend.accept().await.unwrap();
            let mut received = Vec::new();
            server.read_to_end(&mut received).await.unwrap();
            let (ip, to) = (from.ip(), address(&node).port());
            let header = format!("PROXY TCP4 {ip} {ip} {} {to}\r\n", from.port());
            assert!(received == [header.as_bytes(), bytes].concat(), "{segment}: {received:?}");
        }
    };
    timeout(PATIENCE, exchange).await.expect("everything arrives");
    node.stop().await;
}

#[tokio::test]
async fn what_is_not_tls_is_closed_and_counted() {
    let (one, _serving) = tls_backend("one").await;
    let node = TestNode::with(&config(one, one, "")).await;
    // A fatal alert: unrecognized_name.
    assert_eq!(answer(&node, &client_hello("three.test")).await, [21, 3, 3, 0, 2, 2, 112]);
    answer(&node, b"GET / HTTP/1.1\r\nHost: one.test\r\n\r\n").await;
    answer(&node, &[0xff; 5000]).await;
    let mut endless = vec![22, 3, 1, 0x40, 0, 1, 0, 0xff, 0xff];
    endless.resize(5 + 0x4000, 0);
    endless.extend([22, 3, 1, 0x40, 0]);
    endless.resize(40_000, 0);
    answer(&node, &endless).await;
    for (reason, expected) in
        [("unknown_host", 1.0), ("not_tls", 2.0), ("client_hello_too_long", 1.0), ("no_host", 0.0)]
    {
        assert_eq!(rejected(&node, reason).await, Some(expected), "{reason}");
    }
    node.stop().await;
}
