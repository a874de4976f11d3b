//! PROXY protocol, from hops before the proxy and to backends behind it.

use std::net::SocketAddr;

use serde_json::Value;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::timeout;

use super::backend::Backend;
use super::{address, header};
use crate::harness::PATIENCE;
use crate::harness::node::TestNode;

/// An HTTP listener that waits for PROXY headers of these hops.
async fn node(backend: &Backend, trusted: &str) -> TestNode {
    TestNode::with(&format!(
        "[proxy]\nworkers = 1\ntrusted = [\"{trusted}\"]\n\
         [proxy.listener.web]\nlisten = \"127.0.0.1:0\"\nproxy_protocol = true\npool = \"api\"\n\
         [proxy.pool.api]\nbackend = [\"{}\"]\nprobe = []\n",
        backend.address
    ))
    .await
}

/// What comes back on a connection that begins with `announced`, sent in segments of this many bytes. The request claims
/// another hop.
async fn get(node: &TestNode, announced: &[u8], segment: usize) -> String {
    let request =
        b"GET / HTTP/1.1\r\nHost: a.test\r\nX-Forwarded-For: 203.0.113.9\r\nConnection: close\r\n\r\n";
    let bytes = [announced, request].concat();
    let exchange = async {
        let mut stream = TcpStream::connect(address(node)).await.unwrap();
        stream.set_nodelay(true).unwrap();
        for piece in bytes.chunks(segment) {
            // It may be closed already.
            stream.write_all(piece).await.ok();
            tokio::task::yield_now().await;
        }
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer).await.ok();
        String::from_utf8_lossy(&answer).into_owned()
    };
    timeout(PATIENCE, exchange).await.expect("the connection is closed")
}

/// The hops that the backend sees.
fn hops(response: &str) -> Vec<String> {
    let (head, body) = response.split_once("\r\n\r\n").unwrap_or_else(|| panic!("{response:?}"));
    assert!(head.starts_with("HTTP/1.1 200"), "{response}");
    let body: Value = serde_json::from_str(body).expect("JSON");
    header(&body, "x-forwarded-for")
}

fn version_2(command: u8, family: u8, block: &[u8]) -> Vec<u8> {
    let length = (block.len() as u16).to_be_bytes();
    [b"\r\n\r\n\0\r\nQUIT\n".as_slice(), &[command, family], &length, block].concat()
}

#[tokio::test]
async fn the_client_is_the_one_that_a_trusted_hop_announces() {
    let backend = Backend::start("a").await;
    let node = node(&backend, "127.0.0.0/8").await;
    let v4 = [192, 0, 2, 7, 198, 51, 100, 1, 0, 5, 1, 187];
    let mut v6 = [0; 36];
    (v6[0], v6[1], v6[2], v6[3], v6[15]) = (0x20, 1, 0x0d, 0xb8, 7);
    let with_tlvs = [v4.as_slice(), b"\x04\0\x02\0\0"].concat();
    for (announced, expected) in [
        (b"PROXY TCP4 192.0.2.7 198.51.100.1 5 443\r\n".to_vec(), "192.0.2.7"),
        (b"PROXY TCP6 2001:db8::7 2001:db8::1 5 443\r\n".to_vec(), "2001:db8::7"),
        (version_2(0x21, 0x11, &v4), "192.0.2.7"),
        (version_2(0x21, 0x11, &with_tlvs), "192.0.2.7"),
        (version_2(0x21, 0x21, &v6), "2001:db8::7"),
        // The announced client is trusted itself, so the headers may come from a hop.
        (b"PROXY TCP4 127.0.0.9 198.51.100.1 5 443\r\n".to_vec(), "203.0.113.9, 127.0.0.9"),
        // The hop speaks for itself, or does not know.
        (version_2(0x20, 0x00, b""), "203.0.113.9, 127.0.0.1"),
        (version_2(0x21, 0x31, &[0; 216]), "203.0.113.9, 127.0.0.1"),
        (b"PROXY UNKNOWN\r\n".to_vec(), "203.0.113.9, 127.0.0.1"),
    ] {
        for segment in [1 << 16, 1] {
            assert_eq!(hops(&get(&node, &announced, segment).await), [expected], "{announced:?}");
        }
    }
    node.stop().await;
}

#[tokio::test]
async fn a_trusted_hop_without_a_header_is_closed_and_counted() {
    let backend = Backend::start("a").await;
    let node = node(&backend, "127.0.0.0/8").await;
    let oversize = version_2(0x21, 0x11, &[0; 5000]);
    for (bytes, reason) in [
        (b"".as_slice(), "proxy_header_absent"),
        (b"PROXY TCP4 192.0.2.7 5 443\r\n", "proxy_header_malformed"),
        (&oversize, "proxy_header_malformed"),
        (&version_2(0x21, 0x13, &[0; 12]), "proxy_header_malformed"),
    ] {
        let name = format!("portolan_proxy_rejected_total{{listener=\"web\",reason=\"{reason}\"}}");
        let before = node.api.metric(&name).await.unwrap();
        assert_eq!(get(&node, bytes, 1 << 16).await, "", "{reason}");
        assert_eq!(node.api.metric(&name).await, Some(before + 1.0), "{reason}");
    }
    assert_eq!(backend.requests(), 0);
    node.stop().await;
}

#[tokio::test]
async fn nobody_else_is_believed() {
    let backend = Backend::start("a").await;
    let node = node(&backend, "10.0.0.0/8").await;
    assert_eq!(hops(&get(&node, b"", 1 << 16).await), ["127.0.0.1"]);
    let answer = get(&node, b"PROXY TCP4 10.0.0.7 198.51.100.1 5 443\r\n", 1 << 16).await;
    assert!(!answer.contains("HTTP/1.1 200"), "{answer}");
    assert_eq!(backend.requests(), 1);
    node.stop().await;
}

#[tokio::test]
async fn backends_get_the_header_first() {
    let backend = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let at = backend.local_addr().unwrap();
    let config = |version: &str| {
        format!(
            "[proxy]\nworkers = 1\ntrusted = [\"127.0.0.0/8\"]\n\
             [proxy.listener.db]\nlisten = \"127.0.0.1:0\"\nprotocol = \"tcp\"\nproxy_protocol = true\npool = \"db\"\n\
             [proxy.pool.db]\nbackend = [\"{at}\"]\nprobe = []\nsend_proxy = \"{version}\"\n"
        )
    };
    let announced = b"PROXY TCP6 2001:db8::7 2001:db8::1 5 443\r\n".as_slice();
    let mut addresses = [0; 36];
    (addresses[0], addresses[1], addresses[2], addresses[3], addresses[15]) = (0x20, 1, 0x0d, 0xb8, 7);
    (addresses[16], addresses[17], addresses[18], addresses[19], addresses[31]) = (0x20, 1, 0x0d, 0xb8, 1);
    (addresses[33], addresses[34], addresses[35]) = (5, 1, 187);
    for (version, header) in [("v1", announced.to_vec()), ("v2", version_2(0x21, 0x21, &addresses))] {
        let node = TestNode::with(&config(version)).await;
        // What the hop announces is passed on; without a client it is the hop itself.
        let own = |from: SocketAddr| {
            let to = address(&node);
            match version {
                "v1" => format!("PROXY TCP4 127.0.0.1 127.0.0.1 {} {}\r\n", from.port(), to.port()).into(),
                _ => {
                    let (from, to) = (from.port().to_be_bytes(), to.port().to_be_bytes());
                    version_2(0x21, 0x11, &[&[127, 0, 0, 1, 127, 0, 0, 1], &from[..], &to].concat())
                }
            }
        };
        let exchange = async {
            for is_named in [true, false] {
                let mut client = TcpStream::connect(address(&node)).await.unwrap();
                let sent = if is_named { announced } else { b"PROXY UNKNOWN\r\n" };
                client.write_all(&[sent, b"hello"].concat()).await.unwrap();
                client.shutdown().await.unwrap();
                let (mut server, _) = backend.accept().await.unwrap();
                let mut received = Vec::new();
                server.read_to_end(&mut received).await.unwrap();
                let first = if is_named { header.clone() } else { own(client.local_addr().unwrap()) };
                assert_eq!(received, [&first[..], b"hello"].concat(), "{version}");
            }
        };
        timeout(PATIENCE, exchange).await.expect("everything arrives");
        node.stop().await;
    }
}
