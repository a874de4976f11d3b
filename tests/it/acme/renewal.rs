//! Orders, failures and renewals, against a server that misbehaves as it is told to.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

use rcgen::{CertificateParams, KeyPair, date_time_ymd};

use super::server::{Mode, Server};
use super::{certificate, failure, folder, handshake, issued, listener, reload};
use crate::harness::node::TestNode;
use crate::harness::resolver::Resolver;
use crate::harness::until;

const NAMES: &str = "\"www.example.test\"";

/// A node with a certificate for `www.example.test` by HTTP challenge; the server knows where it is.
async fn node(server: &Server) -> TestNode {
    let folder = folder(&server.directory(), NAMES, "contact = \"mailto:ops@example.test\"");
    folder.write("ca.pem", &server.ca);
    // The first attempt waits for the listener's address.
    let node = TestNode::start(folder).await;
    server.set(|_, at| at.http = Some(listener(&node, "web")));
    node
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_certificate_is_obtained_shown_and_kept() {
    let server = Server::start(Mode::Broken).await;
    let node = node(&server).await;
    let why = failure(&node).await;
    assert!(why.contains("it answered 500"), "{why}");
    // There is no other certificate to show, either.
    handshake(listener(&node, "secure"), "www.example.test", &server.issuer()).await.unwrap_err();
    let status = node.api.get("/v1/status").await;
    let alarm = status["alarms"].as_array().unwrap().iter().filter_map(|it| it.as_str()).collect::<String>();
    assert!(alarm.contains("there is no certificate for www.example.test"), "{alarm}");
    assert!(alarm.contains("it answered 500"), "{alarm}");
    let file = status["certificates"][0]["file"].as_str().unwrap().to_owned();
    let sample =
        |name: &str, more: &str| format!("portolan_proxy_certificate_{name}{{certificate=\"{file}\"{more}}}");
    assert_eq!(node.api.metric(&sample("failing", "")).await, Some(1.0));
    assert_eq!(node.api.metric(&sample("missing_total", "")).await, Some(1.0));
    assert_eq!(node.api.metric(&sample("orders_total", ",result=\"failed\"")).await, Some(1.0));
    assert_eq!(node.api.events("alarm").await.len(), 1);

    server.set(|mode, _| *mode = Mode::Good);
    reload(&node).await;
    let shown = issued(&node).await;
    assert!(shown["error"].is_null() && shown["expires"] == "4001-01-01T00:00:00.000Z", "{shown}");
    handshake(listener(&node, "secure"), "www.example.test", &server.issuer()).await.unwrap();
    assert_eq!(node.api.metric(&sample("failing", "")).await, Some(0.0));
    assert!(node.api.metric(&sample("expiry_timestamp_seconds", "")).await > Some(6e10));
    until("the failure is over", async || (!node.api.events("all_clear").await.is_empty()).then_some(()))
        .await;
    assert_eq!(node.api.get("/v1/status").await.get("challenges"), None, "it is hidden again");
    assert_eq!(fs::metadata(&file).unwrap().permissions().mode() & 0o777, 0o600);

    // Without the server, it comes from the disk.
    let issuer = server.issuer();
    drop(server);
    let node = node.restart().await;
    handshake(listener(&node, "secure"), "www.example.test", &issuer).await.unwrap();
    node.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_name_and_its_wildcard_are_proved_by_dns() {
    let server = Server::start(Mode::Broken).await;
    let folder =
        folder(&server.directory(), "\"example.test\", \"*.example.test\"", "challenge = \"dns-01\"");
    folder.write("ca.pem", &server.ca);
    let node = TestNode::start(folder).await;
    failure(&node).await;
    server.set(|mode, at| (*mode, at.dns) = (Mode::Good, Some(node.dns)));
    reload(&node).await;
    issued(&node).await;
    for name in ["example.test", "any.example.test"] {
        handshake(listener(&node, "secure"), name, &server.issuer()).await.unwrap();
    }
    node.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn servers_that_are_slow_or_lose_nonces_are_waited_for() {
    for mode in [Mode::BadNonce, Mode::Processing(2)] {
        let server = Server::start(Mode::Broken).await;
        let node = node(&server).await;
        failure(&node).await;
        server.set(|it, _| *it = mode);
        reload(&node).await;
        issued(&node).await;
        node.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_server_does_wrong_is_reported_and_not_used() {
    for (mode, expected) in [
        (Mode::Invalid, "www.example.test: the proof is not there (unauthorized)"),
        (Mode::WrongKey, "the key is not that of this certificate"),
        (Mode::WrongName, "the certificate from the server is not for www.example.test"),
        (Mode::Expired, "the certificate from the server has expired"),
        (Mode::Garbage, "the certificate from the server cannot be used"),
        (Mode::Huge, "its response has more than 262144 bytes"),
        (Mode::OtherName, "a proof of another name"),
        (Mode::BadToken, "the server's token is not base64url"),
    ] {
        let server = Server::start(Mode::Broken).await;
        let node = node(&server).await;
        failure(&node).await;
        server.set(|it, _| *it = mode);
        reload(&node).await;
        let fits = |it: &serde_json::Value| it["error"].as_str().is_some_and(|why| why.contains(expected));
        let shown = certificate(&node, expected, fits).await;
        assert!(shown["expires"].is_null(), "{mode:?}: {shown}");
        let certs = fs::read_dir(node.folder.path("state/certs")).into_iter().flatten().flatten();
        let kept = certs.filter(|it| it.path().extension().is_some_and(|it| it == "pem")).count();
        assert_eq!(kept, 0, "{mode:?}");
        until("challenges are hidden", async || {
            node.api.get("/v1/status").await.get("challenges").is_none().then_some(())
        })
        .await;
        node.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_that_wants_to_be_left_alone_is_not_asked_again_by_a_reload() {
    let server = Server::start(Mode::RateLimited(7200)).await;
    let node = node(&server).await;
    let why = failure(&node).await;
    assert_eq!(why, "too many certificates already (rateLimited)");
    let next = async || {
        let shown = certificate(&node, "a next attempt", |it| it["next"].is_string()).await;
        shown["next"].as_str().unwrap().parse::<jiff::Timestamp>().unwrap()
    };
    let asked = next().await;
    assert!(asked.duration_since(jiff::Timestamp::now()).as_secs() > 7000, "{asked}");
    reload(&node).await;
    assert!(next().await.duration_since(asked).as_secs().abs() < 60);
    assert_eq!(server.seen("/order/1") + server.seen("/order"), 1);
    node.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_old_certificate_is_shown_until_there_is_a_new_one() {
    let server = Server::start(Mode::Good).await;
    let node = first(&server).await;
    let file = issued(&node).await["file"].as_str().unwrap().to_owned();
    let folder = node.stop().await;
    let old = replace(&file);
    server.set(|mode, _| *mode = Mode::Broken);

    let node = TestNode::start(folder).await;
    server.set(|_, at| at.http = Some(listener(&node, "web")));
    let why = failure(&node).await;
    assert!(why.contains("it answered 500"), "{why}");
    let secure = listener(&node, "secure");
    handshake(secure, "www.example.test", &old).await.expect("the old one");
    server.set(|mode, _| *mode = Mode::Good);
    reload(&node).await;
    certificate(&node, "it is renewed", |it| it["expires"] == "4001-01-01T00:00:00.000Z").await;
    handshake(secure, "www.example.test", &server.issuer()).await.expect("the new one");
    handshake(secure, "www.example.test", &old).await.expect_err("not the old one");
    assert_eq!(server.seen("/account"), 1, "the account is kept");
    node.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_server_is_where_the_resolvers_of_the_config_say() {
    let (server, resolver) = (Server::start(Mode::Good).await, Resolver::with(&["127.0.0.1"]).await);
    let folder = folder(&server.directory_by_name(), NAMES, "");
    folder.write("ca.pem", &server.ca);
    folder.reconfigure("[node]\n", &format!("[node]\nresolver = \"{}\"\n", resolver.address));
    let node = TestNode::start(folder).await;
    server.set(|_, at| at.http = Some(listener(&node, "web")));
    let why = failure(&node).await;
    let expected = "no account: acme.example.test cannot be resolved: 127.0.0.1 is not public; list its network in `[node] private_networks` to use it";
    assert_eq!(why, expected);
    assert_eq!(server.seen("/account"), 0);
    node.folder.reconfigure("[node]\n", "[node]\nprivate_networks = [\"127.0.0.0/8\"]\n");
    reload(&node).await;
    issued(&node).await;
    node.stop().await;
}

/// A node that has tried in vain once, and is to try again.
pub(super) async fn first(server: &Server) -> TestNode {
    server.set(|mode, _| *mode = Mode::Broken);
    let node = node(server).await;
    failure(&node).await;
    server.set(|mode, _| *mode = Mode::Good);
    reload(&node).await;
    node
}

/// Puts a certificate in place that must be renewed. Returns its authority, which is itself.
fn replace(file: &str) -> String {
    let mut params = CertificateParams::new(vec!["www.example.test".to_owned()]).unwrap();
    // Two thirds of its life are over.
    (params.not_before, params.not_after) = (date_time_ymd(1971, 1, 1), date_time_ymd(2049, 1, 1));
    let key = KeyPair::generate().unwrap();
    let cert = params.self_signed(&key).unwrap().pem();
    fs::write(file, format!("{}{cert}", key.serialize_pem())).unwrap();
    cert
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_cannot_be_written_is_not_shown_and_not_ordered_again() {
    let server = Server::start(Mode::Broken).await;
    let node = node(&server).await;
    let failing = certificate(&node, "the order fails", |it| it["error"].is_string()).await;
    let file = failing["file"].as_str().unwrap().to_owned();
    fs::create_dir_all(Path::new(&file).join("full")).unwrap();
    server.set(|mode, _| *mode = Mode::Good);
    reload(&node).await;
    let fits =
        |it: &serde_json::Value| it["error"].as_str().is_some_and(|why| why.contains("cannot be written"));
    let shown = certificate(&node, "the write fails", fits).await;
    assert!(shown["expires"].is_null(), "{shown}");
    handshake(listener(&node, "secure"), "www.example.test", &server.issuer()).await.unwrap_err();
    fs::remove_dir_all(&file).unwrap();
    reload(&node).await;
    issued(&node).await;
    assert_eq!(server.seen("/finalize"), 1);
    handshake(listener(&node, "secure"), "www.example.test", &server.issuer()).await.unwrap();
    node.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_reload_adds_and_removes_certificates() {
    let server = Server::start(Mode::Good).await;
    let node = first(&server).await;
    issued(&node).await;
    node.folder.reconfigure("\"www.example.test\"", "\"api.example.test\"");
    reload(&node).await;
    certificate(&node, "the new one", |it| it["names"][0] == "api.example.test" && it["expires"].is_string())
        .await;
    handshake(listener(&node, "secure"), "api.example.test", &server.issuer()).await.unwrap();
    node.folder.reconfigure("\"api.example.test\"", "\"www.example.test\"");
    reload(&node).await;
    issued(&node).await;
    assert_eq!(server.seen("/finalize"), 2, "the first is still on the disk");
    node.stop().await;
}
