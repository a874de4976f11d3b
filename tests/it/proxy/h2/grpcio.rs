//! Calls between a client and a server of gRPC's own implementation.

use std::net::SocketAddr;
use std::process::{Child, Command, Stdio};

use super::super::{address, config};
use super::H2;
use crate::harness::binary::{PYTHON, clean, run};
use crate::harness::node::TestNode;
use crate::harness::skipped;

const SCRIPT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/it/proxy/h2/grpcio.py");

/// A server, which ends with the test.
struct Server(Child);

impl Drop for Server {
    fn drop(&mut self) {
        self.0.kill().ok();
        self.0.wait().ok();
    }
}

fn is_installed() -> bool {
    let importing = Command::new(PYTHON).args(["-c", "import grpc"]).stderr(Stdio::null()).status();
    let is_there = importing.is_ok_and(|status| status.success());
    if !is_there {
        skipped("gRPC for Python is not installed (Debian package python3-grpcio)");
    }
    is_there
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn calls_of_all_kinds_pass() {
    if !is_installed() {
        return;
    }
    let mut command = clean(Command::new(PYTHON));
    command.args([SCRIPT, "serve"]).stdin(Stdio::piped()).stdout(Stdio::piped());
    let mut server = Server(command.spawn().expect("it starts"));
    let output = server.0.stdout.take().expect("a pipe");
    let reading = tokio::task::spawn_blocking(move || {
        let mut line = String::new();
        std::io::BufRead::read_line(&mut std::io::BufReader::new(output), &mut line).map(|_| line)
    });
    let port: u16 = reading.await.expect("no panic").expect("a line").trim().parse().expect("a port");
    let backend = SocketAddr::from(([127, 0, 0, 1], port));
    let unused = std::net::TcpListener::bind("127.0.0.1:0").and_then(|it| it.local_addr()).expect("a port");
    let routes = "route = [{ path = \"/down.Echo\", pool = \"down\" }]\npool = \"api\"";
    let down = format!("{H2}\n[proxy.pool.down]\nbackend = [\"{unused}\"]\nprobe = []\n{H2}");
    let text = config(&[backend], &down).replacen("pool = \"api\"", routes, 1);
    let node = TestNode::with(&text).await;
    let mut command = clean(Command::new(PYTHON));
    command.args([SCRIPT, "call", &address(&node).to_string()]);
    let done = tokio::task::spawn_blocking(move || run(command)).await.expect("no panic");
    assert_eq!((done.code, done.stdout.trim()), (Some(0), "all calls are well"), "{done:?}");
    node.stop().await;
}
