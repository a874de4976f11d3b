//! Clients that others wrote.

use std::net::SocketAddr;
use std::process::Command;

use super::super::address;
use super::super::backend::Backend;
use super::certificates::Authority;
use super::node;
use crate::harness::binary::{clean, is_installed, run};
use crate::harness::node::TestNode;
use crate::harness::skipped;

fn installed(name: &str) -> bool {
    let is_there = is_installed(name);
    if !is_there {
        skipped(&format!("{name} is not installed (Debian package {name})"));
    }
    is_there
}

/// What `openssl s_client` reports about a connection that it closes at once.
async fn s_client(address: SocketAddr, arguments: &[String]) -> String {
    let mut command = clean(Command::new("openssl"));
    command.args(["s_client", "-connect", &address.to_string()]).args(arguments);
    tokio::task::spawn_blocking(move || run(command).stdout).await.expect("it ends")
}

fn words(text: &str) -> Vec<String> {
    text.split_whitespace().map(str::to_owned).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_name_that_a_client_asks_for_chooses_the_certificate() {
    if !installed("openssl") {
        return;
    }
    let (authority, backend) = (Authority::new("one"), Backend::start("one").await);
    let node = node(&authority, &backend).await;
    for (arguments, expected) in [
        ("-servername www.test", "www.test"),
        ("-servername WWW.Test", "www.test"),
        ("-servername a.test", "*.test"),
        ("-servername a.b.test", "www.test"),
        ("-servername other.example", "www.test"),
        ("-noservername", "www.test"),
    ] {
        for version in ["-tls1_2", "-tls1_3"] {
            let shown = s_client(address(&node), &words(&format!("{arguments} {version}"))).await;
            assert!(shown.contains(&format!("subject=CN = {expected}\n")), "{arguments} {version}: {shown}");
        }
    }
    let refused = s_client(address(&node), &words("-tls1_1 -cipher DEFAULT@SECLEVEL=0")).await;
    assert!(refused.contains("no peer certificate available"), "{refused}");
    node.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn openssl_resumes_its_sessions() {
    if !installed("openssl") {
        return;
    }
    let (authority, backend) = (Authority::new("one"), Backend::start("one").await);
    let node = node(&authority, &backend).await;
    let session = node.folder.path("session").display().to_string();
    // TLS 1.2: with TLS 1.3 the ticket comes after the handshake, when this client may have gone.
    let first =
        s_client(address(&node), &words(&format!("-tls1_2 -servername www.test -sess_out {session}"))).await;
    assert!(first.contains("New, TLSv1.2"), "{first}");
    let second =
        s_client(address(&node), &words(&format!("-tls1_2 -servername www.test -sess_in {session}"))).await;
    assert!(second.contains("Reused, TLSv1.2"), "{second}");
    let renamed =
        s_client(address(&node), &words(&format!("-tls1_2 -servername a.test -sess_in {session}"))).await;
    assert!(renamed.contains("New, TLSv1.2"), "a session is of one name: {renamed}");
    node.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn curl_speaks_both_versions_of_http() {
    if !installed("curl") {
        return;
    }
    let (authority, backend) = (Authority::new("one"), Backend::start("one").await);
    let node = node(&authority, &backend).await;
    for (arguments, expected) in [
        ("--http1.1", "200 1.1"),
        ("--http2", "200 2"),
        ("--http2 --tls-max 1.2", "200 2"),
        ("--http1.1 --tls-max 1.2", "200 1.1"),
    ] {
        let answer = curl(&node, arguments).await;
        let is_told = answer.contains(r#"["x-forwarded-proto","https"]"#);
        assert!(is_told && answer.ends_with(expected), "{arguments}: {answer}");
    }
    node.stop().await;
}

async fn curl(node: &TestNode, arguments: &str) -> String {
    let mut command = clean(Command::new("curl"));
    let port = address(node).port();
    command.args([
        "--silent",
        "--show-error",
        "--noproxy",
        "*",
        "--write-out",
        "%{http_code} %{http_version}",
    ]);
    command
        .args(["--resolve", &format!("www.test:{port}:127.0.0.1"), "--cacert"])
        .arg(node.folder.path("ca.pem"));
    command.args(words(arguments)).arg(format!("https://www.test:{port}/"));
    let done = tokio::task::spawn_blocking(move || run(command)).await.expect("it ends");
    assert_eq!(done.code, Some(0), "{arguments}: {done:?}");
    done.stdout
}
