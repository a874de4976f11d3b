//! Routes whose requests need the consent of a service.

mod changes;
mod hostile;
mod protocols;

use std::net::SocketAddr;
use std::sync::{Arc, Mutex};

use serde_json::Value;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpListener;

use super::backend::{Backend, Manner};
use super::{address, client, header, raw, shown};
use crate::harness::node::TestNode;

/// A service that answers every question with these bytes, and the questions that it got.
struct Service {
    address: SocketAddr,
    questions: Arc<Mutex<Vec<String>>>,
    connections: Arc<Mutex<usize>>,
}

impl Service {
    async fn saying(answer: &'static str) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (questions, connections): (Arc<Mutex<Vec<String>>>, Arc<Mutex<usize>>) = Default::default();
        let (asked, opened) = (Arc::clone(&questions), Arc::clone(&connections));
        tokio::spawn(async move {
            while let Ok((mut stream, _)) = listener.accept().await {
                *opened.lock().unwrap() += 1;
                let asked = Arc::clone(&asked);
                tokio::spawn(async move {
                    let mut bytes = vec![0; 16 * 1024];
                    while let Ok(read @ 1..) = stream.read(&mut bytes).await {
                        asked.lock().unwrap().push(String::from_utf8_lossy(&bytes[..read]).into_owned());
                        stream.write_all(answer.as_bytes()).await.ok();
                    }
                });
            }
        });
        Self { address, questions, connections }
    }

    fn questions(&self) -> Vec<String> {
        self.questions.lock().unwrap().clone()
    }
}

/// A config whose requests for `/open` go to this backend at once, and all others with consent.
fn config(backend: SocketAddr, auth: &str) -> String {
    let edits = "headers = { request = { remove = \"authorization\" } }";
    let route =
        format!("{{ path = \"/open\", pool = \"api\" }}, {{ pool = \"api\", auth = {{ {auth} }}, {edits} }}");
    format!(
        "[proxy]\nworkers = 1\n[proxy.listener.web]\nlisten = \"127.0.0.1:0\"\nroute = [{route}]\n\
         [proxy.pool.api]\nbackend = [\"{}\"]\nprobe = []\n[proxy.pool.auth]\nbackend = [\"127.0.0.1:1\"]\nprobe = []\n",
        backend
    )
}

async fn node(backend: &Backend, auth: &str) -> TestNode {
    TestNode::with(&config(backend.address, auth)).await
}

fn forward(service: &Service, more: &str) -> String {
    format!("forward = \"http://{}/verify?a=b\"{more}", service.address)
}

#[tokio::test]
async fn a_request_goes_on_with_the_headers_of_the_answer() {
    let one = Backend::start("one").await;
    let service = Service::saying("HTTP/1.1 204 No Content\r\nX-User: ann\r\nX-Secret: s\r\n\r\n").await;
    let node = node(&one, &forward(&service, ", headers = [\"x-user\", \"x-role\"]")).await;
    for method in ["POST", "PROPFIND"] {
        let sent = client()
            .request(method.parse().unwrap(), format!("http://{}/items?q=1", address(&node)))
            .header("authorization", "Bearer t")
            .header("x-user", "mallory")
            .header("x-role", "admin")
            .header("x-forwarded-uri", "/open")
            .header("x-forwarded-for", "192.0.2.1")
            .body("text")
            .send();
        let seen: Value = shown(sent.await.unwrap()).await;
        assert_eq!((seen["target"].as_str(), seen["body"].as_str()), (Some("/items?q=1"), Some("text")));
        assert_eq!(header(&seen, "x-user"), ["ann"]);
        for absent in ["x-role", "x-secret", "authorization"] {
            assert!(header(&seen, absent).is_empty(), "{absent}");
        }
    }
    let questions = service.questions();
    assert_eq!((questions.len(), *service.connections.lock().unwrap()), (2, 1), "the connection is kept");
    for (question, method) in questions.iter().zip(["POST", "PROPFIND"]) {
        let question = question.to_lowercase();
        assert!(question.starts_with("get /verify?a=b http/1.1\r\n"), "{question}");
        let host = format!("host: {}", service.address);
        let forwarded_host = format!("x-forwarded-host: {}", address(&node));
        let method = format!("x-forwarded-method: {}", method.to_lowercase());
        for line in [
            &*host,
            &*forwarded_host,
            &*method,
            "authorization: bearer t",
            "x-forwarded-uri: /items?q=1",
            "x-forwarded-for: 127.0.0.1",
            "x-forwarded-proto: http",
        ] {
            assert!(question.lines().any(|it| it == line), "{line} in {question}");
        }
        assert!(!question.contains("content-length") && !question.contains("/open"), "{question}");
    }
    // Other routes ask nobody.
    assert_eq!(client().get(format!("http://{}/open", address(&node))).send().await.unwrap().status(), 200);
    assert_eq!(service.questions().len(), 2);
    node.stop().await;
}

#[tokio::test]
async fn the_service_knows_the_client_whatever_backends_are_told() {
    let one = Backend::start("one").await;
    let service = Service::saying("HTTP/1.1 204 No Content\r\n\r\n").await;
    let identity = "[proxy]\nidentity = { headers = \"forwarded\" }\n";
    let text = config(one.address, &forward(&service, "")).replacen("[proxy]\n", identity, 1);
    let node = TestNode::with(&text).await;
    let request = client().get(format!("http://{}/x", address(&node))).header("x-forwarded-for", "192.0.2.1");
    let seen = shown(request.send().await.unwrap()).await;
    assert!(header(&seen, "x-forwarded-for").is_empty(), "{seen}");
    let question = service.questions().concat();
    assert!(question.contains("\r\nx-forwarded-for: 127.0.0.1\r\n"), "{question}");
    node.stop().await;
}

#[tokio::test]
async fn any_other_answer_is_the_clients() {
    let one = Backend::start("one").await;
    let cases = [
        ("HTTP/1.1 401 No\r\nWWW-Authenticate: Basic\r\nContent-Length: 5\r\n\r\nlogin", 401, "login"),
        (
            "HTTP/1.1 302 Found\r\nWWW-Authenticate: Basic\r\nLocation: /l\r\nContent-Length: 0\r\n\r\n",
            302,
            "",
        ),
        (
            "HTTP/1.1 403 No\r\nWWW-Authenticate: Basic\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nno\r\n0\r\n\r\n",
            403,
            "no",
        ),
    ];
    for (answer, status, body) in cases {
        let service = Service::saying(answer).await;
        let node = node(&one, &forward(&service, "")).await;
        let request = "GET /x HTTP/1.1\r\nHost: a\r\nConnection: close\r\n";
        for upgrade in ["", "Connection: upgrade\r\nUpgrade: websocket\r\n"] {
            let answer = raw(address(&node), format!("{request}{upgrade}\r\n").as_bytes()).await;
            assert!(answer.starts_with(&format!("HTTP/1.1 {status} ")) && answer.ends_with(body), "{answer}");
            assert!(answer.contains("www-authenticate: Basic"), "{answer}");
        }
        let denied = node.api.metric("portolan_proxy_auth_denied_total{listener=\"web\"}").await;
        assert_eq!((one.requests(), denied), (0, Some(2.0)));
        node.stop().await;
    }
}

#[tokio::test]
async fn without_an_answer_no_request_passes() {
    let one = Backend::start("one").await;
    let hangs = Backend::start("hangs").await;
    hangs.behave(Manner::Hang);
    let closes = Backend::start("closes").await;
    closes.behave(Manner::Close);
    let endless = Service::saying("HTTP/1.1 200 OK\r\nContent-Length: 9999999\r\n\r\n").await;
    let switches =
        Service::saying("HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: x\r\n\r\n")
            .await;
    let short = ", timeout = \"200ms\"";
    let cases = [
        format!("forward = \"http://{}/\"{short}", hangs.address),
        format!("forward = \"http://{}\"", closes.address),
        forward(&endless, short),
        forward(&switches, short),
        // Nobody listens there.
        "pool = \"auth\", path = \"/verify\"".into(),
    ];
    for auth in cases {
        let node = node(&one, &auth).await;
        let response = client().get(format!("http://{}/x", address(&node))).send().await.unwrap();
        assert_eq!(response.status(), 503, "{auth}");
        assert_eq!(response.text().await.unwrap(), "it is not known now whether you may do this\n");
        let failed = node.api.metric("portolan_proxy_auth_failed_total{listener=\"web\"}").await;
        assert_eq!((one.requests(), failed), (0, Some(1.0)), "{auth}");
        node.stop().await;
    }
}
