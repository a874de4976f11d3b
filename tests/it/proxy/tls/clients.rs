//! Clients over TLS: what they and the backends get to see.

use std::sync::Arc;

use reqwest::Method;
use sha2::{Digest as _, Sha256};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpListener;
use tokio::time::timeout;

use super::super::backend::Backend;
use super::super::{address, counted, raw};
use super::certificates::{Authority, Identity};
use super::{BOTH, OLDER, ask, client, connect, folder, node, shown_by};
use crate::harness::PATIENCE;
use crate::harness::node::TestNode;

#[tokio::test]
async fn requests_upgrades_and_their_end_pass_through_tls_of_both_versions() {
    let (authority, backend) = (Authority::new("one"), Backend::start("one").await);
    let node = node(&authority, &backend).await;
    for (versions, version) in [(OLDER, "1.2"), (BOTH, "1.3")] {
        let client = Arc::new(client(&authority, versions, None));
        let mut stream = connect(address(&node), "www.test", &client).await.unwrap();
        // Without close_notify, reading to the end would be an error.
        let answer = ask(&mut stream, "").await.expect("an announced end");
        assert!(
            answer.starts_with("HTTP/1.1 200") && answer.contains(r#"["x-forwarded-proto","https"]"#),
            "{answer}"
        );

        let mut stream = connect(address(&node), "www.test", &client).await.unwrap();
        let upgrade = "GET / HTTP/1.1\r\nHost: www.test\r\nConnection: upgrade\r\nUpgrade: echo\r\n\r\n";
        let exchange = async {
            stream.write_all(upgrade.as_bytes()).await.unwrap();
            let mut head = Vec::new();
            while !head.ends_with(b"\r\n\r\n") {
                head.push(stream.read_u8().await.unwrap());
            }
            assert!(head.starts_with(b"HTTP/1.1 101"), "{}", String::from_utf8_lossy(&head));
            stream.write_all(b"hello").await.unwrap();
            stream.shutdown().await.unwrap();
            let mut echoed = String::new();
            stream.read_to_string(&mut echoed).await.expect("an announced end");
            assert_eq!(echoed, "hello");
        };
        timeout(PATIENCE, exchange).await.expect("the echo ends");
        let sample = format!(
            "portolan_proxy_handshakes_total{{listener=\"web\",version=\"{version}\",resumed=\"false\"}}"
        );
        assert!(node.api.metric(&sample).await >= Some(1.0), "{sample}");
    }
    // In the clear, there is nothing to hear.
    let plain = raw(address(&node), b"GET / HTTP/1.1\r\nHost: www.test\r\n\r\n").await;
    assert!(!plain.contains("HTTP"), "{plain}");
    let sample = "portolan_proxy_handshake_failures_total{listener=\"web\",reason=\"protocol\"}";
    counted(&node, sample, 1.0).await;
    node.stop().await;
}

#[tokio::test]
async fn a_reload_replaces_certificates_and_touches_no_connection() {
    let (authority, backend) = (Authority::new("one"), Backend::start("one").await);
    let node = node(&authority, &backend).await;
    let client = Arc::new(client(&authority, BOTH, None));
    let mut open = connect(address(&node), "www.test", &client).await.unwrap();
    let reload = async || node.api.call(Method::POST, "/v1/reload", None).await.0;

    let second = authority.issue(&["www.test"]);
    second.write(&node.folder, "www");
    assert_eq!(reload().await, 200);
    let new = connect(address(&node), "www.test", &client).await.unwrap();
    assert_eq!(*shown_by(&new), second.der());

    // A key that does not fit is refused, and what was there stays.
    node.folder.write("www.pem", authority.issue(&["www.test"]).cert);
    assert_eq!(reload().await, 422);
    let kept = connect(address(&node), "www.test", &client).await.unwrap();
    assert_eq!(*shown_by(&kept), second.der());

    assert_ne!(*shown_by(&open), second.der());
    assert!(ask(&mut open, "").await.unwrap().starts_with("HTTP/1.1 200"));
    node.stop().await;
}

#[tokio::test]
async fn backends_see_the_certificates_of_clients_and_nothing_that_clients_say_about_them() {
    let (authority, clients) = (Authority::new("servers"), Authority::new("clients"));
    let backend = Backend::start("one").await;
    let tls = "tls = { client_ca = \"clients.pem\", header = \"X-Client-Cert\" }";
    let plain = "[proxy.listener.zplain]\nlisten = \"127.0.0.1:0\"\npool = \"api\"";
    let made = folder(&authority, backend.address, "", &format!("{tls}\n{plain}"));
    made.write("clients.pem", clients.pem());
    let node = TestNode::start(made).await;
    let web = address(&node);

    let alice = clients.issue(&["alice"]);
    let digest: String = Sha256::digest(alice.der()).iter().map(|byte| format!("{byte:02x}")).collect();
    let known = Arc::new(client(&authority, BOTH, Some(&alice)));
    let forged = "x-client-cert: Hash=0\r\n";
    let mut stream = connect(web, "www.test", &known).await.unwrap();
    let answer = ask(&mut stream, forged).await.unwrap();
    let seen = format!(r#"["x-client-cert","Hash={digest};Subject=\"CN=alice\""]"#);
    assert!(answer.contains(&seen) && !answer.contains("Hash=0\""), "{answer}");

    // Whoever cannot show a certificate of that authority is refused, at the latest when reading.
    let mallory = Authority::new("others").issue(&["alice"]);
    let expired = clients.issue_for_years(&["alice"], (2001, 2002));
    for identity in [None, Some(&mallory), Some(&expired)] {
        for versions in [BOTH, OLDER] {
            let unknown = Arc::new(client(&authority, versions, identity));
            let refused = match connect(web, "www.test", &unknown).await {
                Ok(mut stream) => ask(&mut stream, "").await.is_err(),
                Err(_) => true,
            };
            assert!(refused);
        }
    }
    let sample = "portolan_proxy_handshake_failures_total{listener=\"web\",reason=\"client_certificate\"}";
    counted(&node, sample, 6.0).await;

    // Another listener of the same pool must not let a forged header pass.
    let (_, plain) = node.node.proxy_addresses.iter().find(|(name, _)| &**name == "zplain").unwrap();
    let request = format!("GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n{forged}\r\n");
    let answer = raw(*plain, request.as_bytes()).await;
    assert!(answer.contains("200 OK") && !answer.contains("x-client-cert"), "{answer}");

    node.folder.reconfigure("header = ", "require = false, header = ");
    assert_eq!(node.api.call(Method::POST, "/v1/reload", None).await.0, 200);
    let mut stream = connect(web, "www.test", &Arc::new(client(&authority, BOTH, None))).await.unwrap();
    let answer = ask(&mut stream, forged).await.unwrap();
    assert!(answer.contains("200 OK") && !answer.contains("x-client-cert"), "{answer}");
    let unknown = Arc::new(client(&authority, OLDER, Some(&mallory)));
    assert!(connect(web, "www.test", &unknown).await.is_err(), "one that is not valid is still refused");
    node.stop().await;
}

#[tokio::test]
async fn tcp_is_relayed_out_of_tls_and_either_side_may_end_first() {
    let authority = Authority::new("one");
    let backend = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let at = backend.local_addr().unwrap();
    let node = TestNode::start(folder(&authority, at, "", "protocol = \"tcp\"\ntls = true")).await;
    let exchange = async {
        let mut offering = client(&authority, BOTH, None);
        offering.alpn_protocols = vec![b"h2".to_vec()];
        let mut stream = connect(address(&node), "www.test", &Arc::new(offering)).await.unwrap();
        assert_eq!(stream.get_ref().1.alpn_protocol(), None);
        let (mut server, _) = backend.accept().await.unwrap();
        stream.write_all(b"ping").await.unwrap();
        let mut read = [0; 4];
        server.read_exact(&mut read).await.unwrap();
        assert_eq!(&read, b"ping");
        // The client has nothing more to say, and still listens.
        stream.shutdown().await.unwrap();
        assert_eq!(server.read(&mut read).await.unwrap(), 0);
        let long = vec![7; 3 << 20];
        server.write_all(&long).await.unwrap();
        drop(server);
        let mut received = Vec::new();
        stream.read_to_end(&mut received).await.expect("an announced end");
        assert!(received == long, "{} of {} bytes", received.len(), long.len());

        // A client that closes its direction without saying so has ended as well, and is still answered.
        let plain = Arc::new(client(&authority, BOTH, None));
        let mut stream = connect(address(&node), "www.test", &plain).await.unwrap();
        let (mut server, _) = backend.accept().await.unwrap();
        stream.write_all(b"last words").await.unwrap();
        let (mut tcp, mut tls) = stream.into_inner();
        tcp.shutdown().await.unwrap();
        let mut received = String::new();
        server.read_to_string(&mut received).await.expect("an end, not a reset");
        assert_eq!(received, "last words");
        server.write_all(b"farewell").await.unwrap();
        drop(server);
        let mut encrypted = Vec::new();
        tcp.read_to_end(&mut encrypted).await.unwrap();
        let mut rest = &encrypted[..];
        while !rest.is_empty() {
            tls.read_tls(&mut rest).unwrap();
            tls.process_new_packets().unwrap();
        }
        let mut received = String::new();
        std::io::Read::read_to_string(&mut tls.reader(), &mut received).expect("an announced end");
        assert_eq!(received, "farewell");
    };
    timeout(PATIENCE, exchange).await.expect("everything arrives");
    node.stop().await;
}

#[tokio::test]
async fn certificates_that_expire_raise_an_alarm() {
    let (authority, backend) = (Authority::new("one"), Backend::start("one").await);
    let folder = folder(&authority, backend.address, "", "tls = true");
    authority.issue_for_years(&["*.test"], (2001, 2002)).write(&folder, "any");
    let node = TestNode::start(folder).await;
    let (_, status) = node.api.call(Method::GET, "/v1/status", None).await;
    let any = node.folder.path("any.pem").display().to_string();
    let expected = format!("the certificate {any} expired at 2002-01-01T00:00:00Z");
    assert!(status["alarms"].as_array().unwrap().iter().any(|it| *it == expected), "{status}");
    for (file, expires) in [("any.pem", 1_009_843_200.0), ("www.pem", 64_092_211_200.0)] {
        let file = node.folder.path(file).display().to_string();
        let sample = format!("portolan_proxy_certificate_expiry_timestamp_seconds{{certificate=\"{file}\"}}");
        assert_eq!(node.api.metric(&sample).await, Some(expires), "{sample}");
    }
    // Expired or not, it is what the client gets: it is the client's to refuse.
    let client = Arc::new(client(&authority, BOTH, None));
    assert!(connect(address(&node), "a.test", &client).await.is_err());
    let sample = "portolan_proxy_handshake_failures_total{listener=\"web\",reason=\"alert\"}";
    counted(&node, sample, 1.0).await;
    node.stop().await;
}

#[tokio::test]
async fn explain_knows_which_listeners_take_https() {
    let (authority, backend) = (Authority::new("one"), Backend::start("one").await);
    let plain = "[proxy.listener.aplain]\nlisten = \"127.0.0.1:0\"\npool = \"api\"";
    let made = folder(&authority, backend.address, "", &format!("tls = true\n{plain}"));
    made.reconfigure(
        "listen = \"127.0.0.1:0\"\npool = \"api\"\ntls",
        "listen = \"127.0.0.1:8443\"\npool = \"api\"\ntls",
    );
    made.reconfigure(
        "[proxy.listener.aplain]\nlisten = \"127.0.0.1:0\"",
        "[proxy.listener.aplain]\nlisten = \"127.0.0.2:8443\"",
    );
    Identity::self_signed("www.test").write(&made, "www");
    for (url, listener) in [("https://www.test:8443/", "web"), ("http://www.test:8443/", "aplain")] {
        let config = made.config().display().to_string();
        let done =
            crate::harness::binary::portolan(&["explain", url, "--client", "192.0.2.1", "-c", &config]);
        assert!(done.code == Some(0) && done.stdout.contains(listener), "{url}: {done:?}");
    }
}
