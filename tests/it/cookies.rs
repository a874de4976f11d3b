//! DNS cookies and rate limits of a whole node, over real sockets and with the usual tools.

use std::fs::{self, Permissions};
use std::net::SocketAddr;
use std::os::unix::fs::PermissionsExt as _;

use hickory_proto::op::{Edns, Message, MessageType, OpCode, ResponseCode};
use hickory_proto::rr::rdata::opt::{EdnsCode, EdnsOption};
use reqwest::Method;
use tokio::net::UdpSocket;
use tokio::time::timeout;

use crate::harness::client::{outcome, query};
use crate::harness::folder::Folder;
use crate::harness::node::TestNode;
use crate::harness::tool::Tool;
use crate::harness::{PATIENCE, until};

const COOKIE: u16 = 10;
const CLIENT: &[u8] = b"client-1";

/// A node with more keys in `[dns]`, and the files that they name.
async fn node(dns: &str, files: &[(&str, &str)]) -> TestNode {
    let folder = Folder::new("");
    folder.reconfigure("workers = 1", &format!("workers = 1\n{dns}"));
    files.iter().for_each(|(name, content)| write_secret(&folder, name, content));
    TestNode::start(folder).await
}

fn write_secret(folder: &Folder, name: &str, content: &str) {
    folder.write(name, content);
    fs::set_permissions(folder.path(name), Permissions::from_mode(0o600)).expect("its own file");
}

/// Asks for a server cookie without a question (RFC 7873 §5.4): the code, which says whether the one presented is
/// valid, and the one granted.
async fn renew(node: &TestNode, presented: &[u8]) -> (ResponseCode, Vec<u8>) {
    let mut message = Message::new(0, MessageType::Query, OpCode::Query);
    let mut edns = Edns::new();
    edns.options_mut().insert(EdnsOption::Unknown(COOKIE, presented.to_vec()));
    message.set_edns(edns);
    let reply = node.client().await.exchange(&message).await;
    match reply.edns.as_ref().and_then(|edns| edns.option(EdnsCode::from(COOKIE))) {
        Some(EdnsOption::Unknown(COOKIE, data)) => (reply.metadata.response_code, data.clone()),
        other => panic!("{other:?}"),
    }
}

async fn reload(node: &TestNode) -> u16 {
    node.api.call(Method::POST, "/v1/reload", None).await.0
}

const OLD: &str = "e5e973e5a6b2a43f48e7dc849e37bfcf\n";
const NEW: &str = "445536bcd2513298075a5d379663c962\n";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nodes_that_share_a_secret_accept_each_others_cookies_while_it_changes() {
    const KEY: &str = "cookies = { secret_file = \"secret\" }";
    let one = node(KEY, &[("secret", OLD)]).await;
    let other = node(KEY, &[("secret", OLD)]).await;
    let (code, old) = renew(&one, CLIENT).await;
    assert_eq!(code, ResponseCode::NoError);
    assert_eq!(renew(&other, &old).await, (ResponseCode::NoError, old.clone()));
    // Both are told the new secret, then to use it, then to forget the old one. In between, they differ.
    for both in [format!("{OLD}{NEW}"), format!("{NEW}{OLD}")] {
        for node in [&one, &other] {
            write_secret(&node.folder, "secret", &both);
            assert_eq!(reload(node).await, 200);
            assert_eq!(renew(&one, &renew(&other, CLIENT).await.1).await.0, ResponseCode::NoError);
            assert_eq!(renew(&other, &renew(&one, CLIENT).await.1).await.0, ResponseCode::NoError);
        }
    }
    let (code, new) = renew(&one, &old).await;
    assert_eq!(code, ResponseCode::NoError);
    assert_ne!(new, old, "a cookie of the old secret is replaced");
    write_secret(&one.folder, "secret", NEW);
    assert_eq!(reload(&one).await, 200);
    assert_eq!(u16::from(renew(&one, &old).await.0), 23);
    assert_eq!(renew(&one, &new).await.0, ResponseCode::NoError);
    // A file that became unusable changes nothing.
    fs::set_permissions(one.folder.path("secret"), Permissions::from_mode(0o644)).expect("its own file");
    assert_ne!(reload(&one).await, 200);
    assert_eq!(renew(&one, &new).await.0, ResponseCode::NoError);
    one.stop().await;
    other.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_secret_of_a_process_survives_reloads() {
    let node = node("", &[]).await;
    let (_, granted) = renew(&node, CLIENT).await;
    assert_eq!(reload(&node).await, 200);
    assert_eq!(renew(&node, &granted).await.0, ResponseCode::NoError);
    node.stop().await;
}

/// The reply to one query from this address of the loopback network.
async fn ask_from(address: &str, server: SocketAddr, name: &str) -> Message {
    let socket = UdpSocket::bind((address, 0)).await.expect("an address of loopback");
    socket.connect(server).await.expect("loopback");
    let query = query(name, None).to_vec().expect("an encodable query");
    socket.send(&query).await.expect("a datagram sent");
    let mut bytes = [0; 512];
    let length = timeout(PATIENCE, socket.recv(&mut bytes)).await.expect("in time").expect("a datagram");
    Message::from_vec(&bytes[..length]).expect("a message")
}

const LIMITED: &str = "rate_limit = { responses_per_second = 1, slip = 2 }";

/// Many queries from one address; the limit of its prefix stays exceeded for the rest of a test.
const FLOOD: usize = 400;

async fn flood(node: &TestNode) {
    let client = node.client().await;
    let query = query("static.example.test.", None).to_vec().expect("an encodable query");
    for sent in 1..=FLOOD {
        client.send(&query).await;
        // Never more than the receive buffer holds.
        if sent % 50 == 0 {
            until("they are counted", async || {
                let queries = node.api.metric("portolan_dns_queries_total{transport=\"udp\"}").await?;
                (queries >= sent as f64).then_some(())
            })
            .await;
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_flood_is_limited_and_counted_and_others_are_served() {
    let node = node(LIMITED, &[]).await;
    flood(&node).await;
    let count = async |action: &str| {
        let sample = format!("portolan_dns_rate_limited_total{{action=\"{action}\"}}");
        node.api.metric(&sample).await.expect("a counter")
    };
    let (drop, slip) = (count("drop").await, count("slip").await);
    assert!(drop + slip > FLOOD as f64 / 2.0, "{drop} dropped, {slip} short");
    assert!((drop - slip).abs() <= 1.0 + FLOOD as f64 / 10.0, "{drop} dropped, {slip} short");
    assert_eq!(node.api.metric("portolan_dns_truncated_total").await, Some(slip));
    assert_eq!(node.api.metric("portolan_dns_dropped_total").await, Some(0.0));
    let reply = ask_from("127.0.99.1", node.dns, "static.example.test.").await;
    assert_eq!(outcome(&reply), (ResponseCode::NoError, vec!["192.0.2.1".parse().expect("an address")]));
    let reply = node.client().await.over_tcp(&query("static.example.test.", None)).await;
    assert_eq!(outcome(&reply).1.len(), 1, "TCP is not limited");
    node.stop().await;
}

/// Asks for the usual address, again if there is no reply.
fn ask(tool: &Tool, node: &TestNode, arguments: &[&str]) -> String {
    tool.ask(node, &[&["+retry=2", "+timeout=2", "static.example.test", "A"], arguments].concat())
}

const ANSWER: &str = "static.example.test. 300 IN A 192.0.2.1";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn dig_gets_a_cookie_that_it_finds_good() {
    let Some(dig) = Tool::dig() else { return };
    let with = node("", &[]).await;
    for transport in ["+notcp", "+tcp"] {
        let printed = ask(&dig, &with, &["+cookie=0123456789abcdef", transport]);
        assert!(printed.contains("COOKIE: 0123456789abcdef01000000"), "{printed}");
        assert!(printed.contains("(good)") && printed.contains(ANSWER), "{printed}");
        let printed = ask(&dig, &with, &["+nocookie", transport]);
        assert!(!printed.contains("COOKIE") && printed.contains(ANSWER), "{printed}");
        // Neither 8 bytes nor 16 to 40.
        let printed = ask(&dig, &with, &["+cookie=0123456789abcdef01", transport]);
        assert!(printed.contains("status: FORMERR"), "{printed}");
    }
    with.stop().await;
    let without = node("cookies = false", &[]).await;
    let printed = ask(&dig, &without, &["+cookie"]);
    assert!(!printed.contains("COOKIE") && printed.contains(ANSWER), "{printed}");
    without.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn dig_gets_its_answer_in_spite_of_a_flood_from_its_prefix() {
    let Some(dig) = Tool::dig() else { return };
    let node = node("rate_limit = { responses_per_second = 1, slip = 1 }", &[]).await;
    flood(&node).await;
    let printed = ask(&dig, &node, &["+cookie", "+showbadcookie"]);
    assert!(printed.contains("BADCOOKIE, retrying") && printed.contains("status: BADCOOKIE"), "{printed}");
    assert!(printed.contains(ANSWER) && printed.contains("(UDP)"), "{printed}");
    let printed = ask(&dig, &node, &["+nocookie"]);
    assert!(printed.contains("Truncated, retrying in TCP mode") && printed.contains(ANSWER), "{printed}");
    let printed = ask(&dig, &node, &["+nocookie", "+ignore"]);
    assert!(printed.contains("flags: qr tc;") && !printed.contains(ANSWER), "{printed}");
    node.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn kdig_gets_a_cookie_and_repeats_its_query_with_it() {
    let Some(kdig) = Tool::kdig() else { return };
    let node = node("rate_limit = { responses_per_second = 1, slip = 1 }", &[]).await;
    let printed = ask(&kdig, &node, &["+cookie=0123456789abcdef"]);
    assert!(printed.to_lowercase().contains("cookie: 0123456789abcdef01000000"), "{printed}");
    assert!(printed.contains(ANSWER), "{printed}");
    flood(&node).await;
    let printed = ask(&kdig, &node, &["+cookie", "+badcookie"]);
    assert!(printed.contains(ANSWER), "{printed}");
    node.stop().await;
}
