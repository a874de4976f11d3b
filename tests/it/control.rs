//! The control API under requests that are too large, too many, too slow, or from somewhere else.

use std::net::SocketAddr;

use portolan::net::limits::{FdBudget, Serving};
use portolan::node::demo::{self, Demo};
use reqwest::Method;
use serde_json::{Value, json};
use tokio::net::TcpStream;

use crate::harness::binary::{PROGRAM, Served, clean, program, run};
use crate::harness::folder::{Folder, tokens};
use crate::harness::http::{Api, raw};
use crate::harness::node::TestNode;
use crate::harness::region::{Break, NEAREST, Three};
use crate::harness::until;

const ONE: &str = "\
[region.one]\nendpoint = [{ name = \"a\", address = \"192.0.2.1\" }]
[region.two]\nendpoint = [{ name = \"a\", address = \"192.0.2.2\" }]
[[service]]\nname = \"www.example.test.\"\nregions = [\"one\", \"two\"]
";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn requests_larger_than_anything_sensible_are_refused() {
    let node = TestNode::with(ONE).await;
    let drain = |key: &str, value: &str| {
        let mut body = json!({"target": "region/one", "action": "drain"});
        body[key] = value.into();
        body
    };
    let most = "r".repeat(1024);
    for (body, status, expected) in [
        (drain("for", "18446744073709551615s"), 400, "at most 366 days"),
        (drain("for", "8785h"), 400, "at most 366 days"),
        (drain("for", "8784h"), 200, ""),
        (drain("reason", &format!("{most}r")), 400, "1025 bytes long: at most 1024"),
        (drain("reason", &most), 200, ""),
        (drain("reason", &"r".repeat(100_000)), 413, "at most 16384 bytes"),
    ] {
        let (got, reply) = node.api.call(Method::POST, "/v1/overrides", Some(body)).await;
        assert_eq!(got, status, "{reply}");
        assert!(reply["detail"].as_str().unwrap_or_default().contains(expected), "{reply}");
    }
    assert_eq!(node.api.get("/v1/overrides").await.as_array().map(Vec::len), Some(1));
    let long = format!("GET /livez HTTP/1.1\r\nHost: localhost\r\nX: {}\r\n\r\n", "x".repeat(40_000));
    let reply = raw(node.control(), &long).await;
    assert!(reply.starts_with("HTTP/1.1 431 "), "{reply}");
    assert_eq!(node.api.text("/livez").await, "ok\n");
    node.stop().await;
}

/// A request with these header lines over TCP.
async fn status_of(control: SocketAddr, request: &str, headers: &str) -> (u16, Value) {
    let reply = raw(control, &format!("{request}\r\n{headers}Connection: close\r\n\r\n")).await;
    let (head, body) = reply.split_once("\r\n\r\n").unwrap_or((&reply, ""));
    let status = head.split(' ').nth(1).and_then(|status| status.parse().ok()).expect("a status");
    (status, serde_json::from_str(body).unwrap_or_default())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn only_names_of_the_node_and_its_own_pages_are_served() {
    let folder = Folder::new(ONE);
    folder
        .reconfigure("socket = \"control.sock\"", "socket = \"control.sock\"\nhosts = [\"lb.example.com\"]");
    let node = TestNode::start(folder).await;
    let control = node.control();
    let get = "GET /v1/overrides HTTP/1.1";
    for (request, headers, expected, detail) in [
        (get, "Host: 127.0.0.1\r\n", 200, ""),
        (get, "Host: 192.0.2.7:8053\r\n", 200, ""),
        (get, "Host: [2001:db8::1]:8053\r\n", 200, ""),
        (get, "Host: localhost:8053\r\n", 200, ""),
        (get, "Host: LocalHost.\r\n", 200, ""),
        (get, "Host: lb.example.com:8053\r\n", 200, ""),
        (get, "Host: test\r\n", 200, "the node's name"),
        (get, "Host: evil.example\r\n", 421, "`evil.example` is not a name of this node"),
        (get, "Host: localhost.evil.example\r\n", 421, "hosts"),
        ("GET http://evil.example/v1/overrides HTTP/1.1", "Host: localhost\r\n", 421, "evil.example"),
        ("GET /livez HTTP/1.1", "Host: evil.example\r\n", 421, ""),
        (get, "", 400, "exactly one Host"),
        (get, "Host: localhost\r\nHost: localhost\r\n", 400, "exactly one Host"),
        (get, "Host: local host\r\n", 400, "valid Host"),
        (get, "Host:\r\n", 400, "valid Host"),
        ("GET /livez HTTP/1.0", "", 200, "health checks of balancers"),
        (get, "Host: localhost:1\r\nOrigin: http://localhost:1\r\n", 200, ""),
        (get, "Host: localhost:1\r\nOrigin: http://localhost:2\r\n", 403, "http://localhost:2"),
        (get, "Host: localhost:1\r\nOrigin: https://evil.example\r\n", 403, "https://evil.example"),
        (get, "Host: localhost\r\nOrigin: null\r\n", 403, "null"),
        (
            "POST /v1/reload HTTP/1.1",
            "Host: localhost\r\nOrigin: http://evil.example\r\n",
            403,
            "evil.example",
        ),
        ("POST /v1/reload HTTP/1.1", "Host: localhost\r\n", 401, "need a token"),
    ] {
        let (status, problem) = status_of(control, request, headers).await;
        assert_eq!(status, expected, "{request} {headers}: {problem}");
        if expected != 200 {
            let found = problem["detail"].as_str().unwrap_or_default();
            assert!(found.contains(detail), "{request} {headers}: {problem}");
        }
    }
    let (status, _) = node.api.call(Method::POST, "/v1/reload", None).await;
    assert_eq!(status, 200, "the socket needs no token");
    node.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn reads_need_a_token_if_the_config_says_so() {
    let folder = Folder::new(ONE);
    let tokens = tokens(&[("eve", "viewer")]);
    folder.reconfigure("socket = \"control.sock\"", &format!("{tokens}read = \"token\""));
    let node = TestNode::start(folder).await;
    let stranger = Api::tcp(node.control());
    let (wrong, eve) = (stranger.with_token("guess"), stranger.with_token("secret of eve"));
    let status = async |api: &Api, path: &str| {
        api.request(Method::GET, path).send().await.expect("an answer").status().as_u16()
    };
    for path in
        ["/v1/status", "/v1/explain?name=www.example.test&client=::1", "/v1/events", "/metrics", "/no"]
    {
        let open = if path == "/no" { 404 } else { 200 };
        let all = [status(&stranger, path).await, status(&wrong, path).await, status(&eve, path).await];
        assert_eq!(all, [401, 401, open], "{path}");
        assert_eq!(status(&node.api, path).await, open, "the socket needs no token: {path}");
    }
    for path in ["/livez", "/readyz", "/"] {
        assert_eq!([status(&stranger, path).await, status(&wrong, path).await], [200, 200], "{path}");
    }
    node.folder.reconfigure("read = \"token\"", "read = \"anyone\"");
    assert_eq!(node.api.call(Method::POST, "/v1/reload", None).await.0, 200);
    let all = [status(&stranger, "/v1/status").await, status(&wrong, "/v1/status").await];
    assert_eq!(all, [200, 401], "a reload opens reads, but a wrong token is always an error");
    node.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_flood_of_idle_connections_leaves_probes_and_operators_alone() {
    const OPEN_FILES: usize = 400;
    assert!(FdBudget::claim(Serving::Dns).limit > OPEN_FILES as u64 * 2, "this side needs files, too");
    let three = Three::start();
    let folder = Folder::new(&[three.config(&[]), NEAREST.into()].concat());
    let mut limited = clean(std::process::Command::new("sh"));
    limited.arg("-c").arg(format!("ulimit -n {OPEN_FILES}; exec {PROGRAM} \"$@\"")).arg("sh");
    let mut served = Served::spawn_by(limited, folder);
    let [control] = served.addresses(["control"]).await;
    served.ready().await;
    let mut idle = Vec::new();
    for _ in 0..OPEN_FILES + 100 {
        idle.push(TcpStream::connect(control).await.expect("the kernel accepts it"));
    }
    three.eu.fail(Break::Refuse);
    let api = served.api();
    until("eu is down", async || (api.region("eu").await["verdict"] == "down").then_some(())).await;
    assert_eq!(Api::tcp(control).text("/livez").await, "ok\n", "a client that asks is served");
    three.eu.heal();
    until("eu is up", async || (api.region("eu").await["verdict"] == "up").then_some(())).await;
    drop(idle);
    assert_eq!(served.stop().await, Some(0));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn event_streams_are_limited_and_leave_room_for_requests() {
    let node = TestNode::with(ONE).await;
    let over_tcp = Api::tcp(node.control());
    let stream = |api: &Api| api.request(Method::GET, "/v1/events").header("accept", "text/event-stream");
    let mut open = Vec::new();
    let refused = loop {
        let response = stream(&over_tcp).send().await.expect("an answer");
        if response.status() != 200 {
            break response;
        }
        open.push(response);
        assert!(open.len() < 1000, "there is no limit");
    };
    assert_eq!(refused.status(), 503);
    let problem: Value = refused.json().await.expect("a problem");
    let expected = format!("{} event streams are open", open.len());
    assert!(problem["detail"].as_str().expect("a text").contains(&expected), "{problem}");
    assert_eq!(over_tcp.get("/v1/overrides").await, json!([]));
    assert_eq!(stream(&node.api).send().await.expect("an answer").status(), 200, "the socket has its own");
    open.pop();
    let again = async || (stream(&over_tcp).send().await.expect("an answer").status() == 200).then_some(());
    until("a stream that ends makes room", again).await;
    node.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn problems_speak_http_and_name_what_is_allowed() {
    let node = TestNode::with(&[ONE, "[safety]\nmin_regions = 2\n"].concat()).await;
    let explain = "/v1/explain?name=www.example.test&client=192.0.2.1";
    for (method, path, status, expected) in [
        (
            Method::GET,
            format!("{explain}&typ=AAAA"),
            400,
            "unknown query parameter `typ`: this path takes `name`, `type`, `client` and `at`",
        ),
        (Method::GET, format!("{explain}&client=192.0.2.2"), 400, "`client` is there twice"),
        (Method::GET, "/v1/explain?name=www.example.test".into(), 400, "`client` is missing"),
        (Method::GET, "/v1/status?verbose=1".into(), 400, "this path takes no query parameters"),
        (Method::GET, "/v1/events?follow".into(), 400, "this path takes no query parameters"),
        (Method::POST, "/v1/reload?now=1".into(), 400, "this path takes no query parameters"),
        (Method::DELETE, "/v1/overrides/1?force=true".into(), 400, "takes `override_safety`"),
        (Method::DELETE, "/v1/overrides/1?override_safety=yes".into(), 400, "true or false"),
    ] {
        let (got, problem) = node.api.call(method, &path, None).await;
        assert_eq!(got, status, "{path}: {problem}");
        let detail = problem["detail"].as_str().expect("a text");
        assert!(detail.contains(expected), "{path}: {detail}");
    }
    let drain = json!({"target": "region/one", "action": "drain"});
    let over_tcp = Api::tcp(node.control());
    for (api, status, expected) in [
        (&node.api, 409, "; set `override_safety` to do it anyway"),
        (&over_tcp, 401, "`Authorization: Bearer TOKEN`"),
    ] {
        let (got, problem) = api.call(Method::POST, "/v1/overrides", Some(drain.clone())).await;
        let detail = problem["detail"].as_str().expect("a text");
        assert_eq!(got, status, "{detail}");
        assert!(detail.contains(expected) && !detail.contains("--"), "{detail}");
    }
    let response = over_tcp.request(Method::POST, "/v1/reload").send().await.expect("an answer");
    assert_eq!(response.headers()["www-authenticate"], "Bearer");
    let response =
        over_tcp.request(Method::POST, "/v1/status").bearer_auth("x").send().await.expect("an answer");
    assert_eq!(response.status(), 401, "a wrong token is reported before anything else");
    node.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn metrics_come_in_the_format_that_the_scraper_asks_for() {
    let node = TestNode::with(ONE).await;
    let scrape = async |accept: &str| {
        let request = node.api.request(Method::GET, "/metrics");
        let request = if accept.is_empty() { request } else { request.header("accept", accept) };
        let response = request.send().await.expect("an answer");
        let kind = response.headers()["content-type"].to_str().expect("a text").to_owned();
        (kind, response.text().await.expect("text"))
    };
    let prometheus =
        "application/openmetrics-text;version=1.0.0;q=0.5,text/plain;version=0.0.4;q=0.3,*/*;q=0.1";
    for accept in ["", "*/*", "application/openmetrics-text", prometheus] {
        let (kind, text) = scrape(accept).await;
        assert_eq!(kind, "application/openmetrics-text; version=1.0.0; charset=utf-8", "{accept}");
        assert!(
            text.contains("# TYPE portolan_dns_queries counter\n") && text.ends_with("# EOF\n"),
            "{text}"
        );
    }
    let other_order = "text/plain;version=0.0.4;q=0.9, application/openmetrics-text;q=0.2";
    for accept in ["text/plain;version=0.0.4", "text/plain", other_order] {
        let (kind, text) = scrape(accept).await;
        assert_eq!(kind, "text/plain; version=0.0.4; charset=utf-8", "{accept}");
        assert!(text.contains("# TYPE portolan_dns_queries_total counter\n"), "{text}");
        assert!(text.contains("# HELP portolan_dns_queries_total "), "{text}");
        assert!(text.contains("# TYPE portolan_epoch gauge\n") && !text.contains("# EOF"), "{text}");
    }
    node.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_demo_needs_a_token_over_tcp() {
    let demo = Demo::start().await.expect("a demo");
    let control = demo.node.control_address.expect("it has one");
    let over_tcp = Api::tcp(control);
    let socket = Api::socket(&demo::socket(control.port()));
    let heal = json!({"target": "eu-west"});
    for (api, status) in [(&over_tcp, 401), (&over_tcp.with_token(&demo.token), 200), (&socket, 200)] {
        assert_eq!(api.call(Method::POST, "/v1/demo", Some(heal.clone())).await.0, status);
        assert_eq!(api.call(Method::POST, "/v1/reload", None).await.0, status);
    }
    assert_eq!(over_tcp.get("/v1/overrides").await, json!([]), "reads need none");
    demo.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_that_is_ready_says_where_its_page_is() {
    let served = Served::start(Folder::new(ONE)).await;
    let ready = served.logged("it is ready", |line| line["message"] == "ready").await;
    let [control] = served.addresses(["control"]).await;
    assert_eq!(ready["page"], format!("http://{control}/"));
    assert!(Api::tcp(control).text("/").await.contains("<title>Portolan"));
    let folder = Folder::new(ONE);
    folder.reconfigure("listen = \"127.0.0.1:0\"\nsocket", "listen = false\nsocket");
    let served = Served::start(folder).await;
    let ready = served.logged("it is ready", |line| line["message"] == "ready").await;
    assert_eq!(ready.get("page"), None, "{ready}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn metrics_have_a_listener_of_their_own() {
    let folder = Folder::new(ONE);
    folder.reconfigure("[control]", "[control]\nread = \"token\"\nmetrics = \"127.0.0.1:0\"");
    let mut served = Served::start(folder).await;
    let [control, metrics_address] = served.addresses(["control", "metrics"]).await;
    let [control, metrics] = [control, metrics_address].map(Api::tcp);
    assert!(metrics.text("/metrics").await.contains("portolan_epoch 1\n"));
    for (method, path, status) in [
        (Method::GET, "/v1/status", 404),
        (Method::GET, "/livez", 404),
        (Method::POST, "/v1/reload", 404),
        (Method::POST, "/metrics", 405),
    ] {
        assert_eq!(metrics.call(method, path, None).await.0, status, "{path}");
    }
    let (status, _) = status_of(metrics_address, "GET /metrics HTTP/1.1", "Host: evil.example\r\n").await;
    assert_eq!(status, 421, "pages of other names read nothing here either");
    assert_eq!(control.call(Method::GET, "/metrics", None).await.0, 401);
    assert_eq!(served.stop().await, Some(0));
}

/// Writes a new certificate and its key, and returns both in one text.
fn certify(folder: &Folder) -> String {
    let made = rcgen::generate_simple_self_signed(["127.0.0.1".to_owned()]).expect("a certificate");
    let (cert, key) = (made.cert.pem(), made.signing_key.serialize_pem());
    folder.write("c.pem", &cert);
    folder.write_secret("k.pem", &key);
    cert + &key
}

/// A self-signed certificate as `openssl req -x509` makes it unless told otherwise: that of an authority.
fn certify_an_authority(folder: &Folder) {
    let mut params = rcgen::CertificateParams::new(["127.0.0.1".to_owned()]).expect("a name");
    params.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
    let key = rcgen::KeyPair::generate().expect("a key");
    folder.write("c.pem", params.self_signed(&key).expect("a certificate").pem());
    folder.write("k.pem", key.serialize_pem());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_command_line_says_what_is_wrong_with_tls() {
    let plain = TestNode::with(ONE).await;
    let folder = Folder::new(ONE);
    folder.reconfigure("[control]", "[control]\ntls = { cert = \"c.pem\", key = \"k.pem\" }");
    folder.write("first.pem", certify(&folder));
    let node = TestNode::start(folder).await;
    let control = node.control();
    let failed = |address: &str, trusted: &str, expected: &str| {
        let mut command = program();
        command.args(["--control", address, "status"]);
        command.env("SSL_CERT_FILE", node.folder.path(trusted)).env_remove("SSL_CERT_DIR");
        let done = run(command);
        assert_eq!(done.code, Some(3), "{done:?}");
        assert!(done.stderr.contains(expected) && !done.stderr.contains("is it running"), "{done:?}");
    };
    let speaks_tls =
        format!("{control} does not answer in HTTP; if it speaks TLS, use --control https://{control}\n");
    failed(&control.to_string(), "first.pem", &speaks_tls);
    let other = format!("https://{}", plain.control());
    failed(
        &other,
        "first.pem",
        &format!("if it speaks plain HTTP, use --control http://{}\n", plain.control()),
    );

    let reload = async || assert_eq!(node.api.call(Method::POST, "/v1/reload", None).await.0, 200);
    let control = format!("https://{control}");
    certify(&node.folder);
    reload().await;
    failed(&control, "first.pem", ": set SSL_CERT_FILE to a PEM file with its authority");
    certify_an_authority(&node.folder);
    reload().await;
    failed(&control, "c.pem", "that of an authority (CA:TRUE), which clients refuse: make one with CA:FALSE");
    certify(&node.folder);
    node.folder.reconfigure("k.pem\" }", "k.pem\", client_ca = \"first.pem\" }");
    reload().await;
    failed(
        &control,
        "c.pem",
        "wants a client certificate, which this command does not send: use the control socket",
    );
    node.stop().await;
    plain.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_api_speaks_tls_with_certificates_that_a_reload_replaces() {
    let folder = Folder::new(ONE);
    folder.reconfigure("[control]", "[control]\ntls = { cert = \"c.pem\", key = \"k.pem\" }");
    let first = certify(&folder);
    folder.write("first.pem", &first);
    let node = TestNode::start(folder).await;
    let control = node.control();
    let status = |trusted: &str| {
        let mut command = program();
        command.arg("--control").arg(format!("https://{control}")).arg("status");
        command.env("SSL_CERT_FILE", node.folder.path(trusted)).env_remove("SSL_CERT_DIR");
        run(command)
    };
    let reload = async || assert_eq!(node.api.call(Method::POST, "/v1/reload", None).await.0, 200);
    let done = status("first.pem");
    assert!(done.code == Some(0) && done.stdout.contains("test "), "{done:?}");
    let plain = raw(control, "GET /livez HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n").await;
    assert!(!plain.contains("200 OK"), "{plain}");

    let second = certify(&node.folder);
    assert_eq!(status("c.pem").code, Some(3), "not before a reload");
    reload().await;
    assert_eq!((status("c.pem").code, status("first.pem").code), (Some(0), Some(3)));

    node.folder.reconfigure("k.pem\" }", "k.pem\", client_ca = \"first.pem\" }");
    reload().await;
    assert_eq!(status("c.pem").code, Some(3), "a client without a certificate");
    let over_tls = async |identity: &str| {
        let client = reqwest::Client::builder()
            .no_proxy()
            .tls_certs_only([reqwest::Certificate::from_pem(second.as_bytes()).expect("a certificate")])
            .identity(reqwest::Identity::from_pem(identity.as_bytes()).expect("an identity"));
        let client = client.build().expect("a client");
        client
            .post(format!("https://{control}/v1/reload"))
            .send()
            .await
            .map(|response| response.status().as_u16())
    };
    assert_eq!(over_tls(&first).await.expect("an answer"), 401);
    let last = node.api.get("/v1/audit").await.as_array().and_then(|all| all.last().cloned());
    let last = last.expect("an entry");
    assert!(last["who"].as_str().expect("a text").starts_with("certificate CN="), "{last}");
    assert!(over_tls(&second).await.is_err(), "a certificate of nobody that clients may come from");
    node.stop().await;
}
