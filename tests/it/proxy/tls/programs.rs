//! Programs that others wrote, as clients: curl, nghttp2's, wrk, and Python's. A test whose program is not installed is
//! skipped.

use std::fs;
use std::io::{BufRead as _, BufReader};
use std::net::SocketAddr;
use std::process::{Command, Stdio};

use super::super::backend::{Backend, Manner};
use super::certificates::Authority;
use super::folder;
use crate::harness::binary::{Done, PYTHON, clean, is_installed, run};
use crate::harness::node::TestNode;
use crate::harness::skipped;

/// A node that speaks TLS and plain HTTP, and what clients need.
struct World {
    node: TestNode,
    backend: Backend,
    encrypted: SocketAddr,
    clear: SocketAddr,
}

impl World {
    /// `None` where the program is not installed.
    async fn for_program(program: &str, package: &str) -> Option<Self> {
        if !is_installed(program) {
            skipped(&format!("{program} is not installed (Debian package {package})"));
            return None;
        }
        let backend = Backend::start("one").await;
        Some(Self::before(backend.address, backend).await)
    }

    async fn before(address: SocketAddr, backend: Backend) -> Self {
        let authority = Authority::new("authority");
        let clear = "tls = true\n[proxy.listener.clear]\nlisten = \"127.0.0.1:0\"\npool = \"api\"";
        let folder = folder(&authority, address, "", clear);
        folder.write("body", body());
        let node = TestNode::start(folder).await;
        let at = |name: &str| {
            let all = &node.node.proxy_addresses;
            all.iter().find(|it| &*it.0 == name).expect("a listener").1
        };
        let (encrypted, clear) = (at("web"), at("clear"));
        Self { node, backend, encrypted, clear }
    }

    fn path(&self, name: &str) -> String {
        self.node.folder.path(name).to_str().expect("UTF-8").to_owned()
    }

    /// The URLs of both listeners.
    fn urls(&self) -> [String; 2] {
        [format!("http://{}/", self.clear), format!("https://www.test:{}/", self.encrypted.port())]
    }

    /// Runs a program to completion; it must succeed.
    async fn run(&self, program: &str, arguments: &[&str]) -> Done {
        let mut command = clean(Command::new(program));
        command.args(arguments).env("HOME", self.node.folder.path(""));
        let done = tokio::task::spawn_blocking(move || run(command)).await.expect("no panic");
        assert_eq!(done.code, Some(0), "{program} {arguments:?}: {done:?}");
        done
    }
}

/// More than any buffer holds at once.
fn body() -> Vec<u8> {
    (0..400_000_u32).map(|it| b'a' + (it % 23) as u8).collect()
}

#[tokio::test]
async fn curl() {
    let Some(world) = World::for_program("curl", "curl").await else { return };
    world.backend.behave(Manner::Echo);
    let (authority, sent, got) = (world.path("ca.pem"), world.path("body"), world.path("got"));
    let resolve = format!("www.test:{}:127.0.0.1", world.encrypted.port());
    let upload = ["--data-binary", &format!("@{sent}")].map(str::to_owned);
    let mut requests = 0;
    for (url, protocol, version) in world.urls().iter().zip([0, 1]).flat_map(|(url, is_encrypted)| {
        let second = ["--http2-prior-knowledge", "--http2"][is_encrypted];
        [(url, "--http1.1", "1.1"), (url, second, "2")]
    }) {
        for headers in [
            &["Expect:"][..],
            &["Expect: 100-continue"],
            &["Transfer-Encoding: chunked", "Expect:"],
            &["Transfer-Encoding: chunked", "Expect: 100-continue"],
        ] {
            // HTTP/2 has no chunks.
            if version == "2" && headers[0].starts_with("Transfer") {
                continue;
            }
            let mut arguments =
                vec!["-sS", "--cacert", &authority, "--resolve", &resolve, protocol, "-o", &got, "-w"];
            arguments.push("%{http_version} %{http_code} %{num_connects}\\n");
            arguments.extend(headers.iter().flat_map(|it| ["-H", it]));
            arguments.extend(upload.iter().map(String::as_str));
            arguments.push(url);
            // Twice over one connection; before 8.0, curl fails at that with prior knowledge of HTTP/2.
            let is_again = protocol != "--http2-prior-knowledge";
            if is_again {
                arguments.extend(["-o", &got, url]);
            }
            let done = world.run("curl", &arguments).await;
            let again = if is_again { format!("{version} 200 0\n") } else { String::new() };
            assert_eq!(
                done.stdout,
                format!("{version} 200 1\n{again}"),
                "{url} {protocol} {headers:?} {}",
                done.stderr
            );
            assert!(fs::read(&got).expect("a file") == body(), "{url} {protocol} {headers:?}");
            requests += 1 + u64::from(is_again);
        }
        // HEAD, and a range that the backend does not know.
        let arguments = ["-sS", "--cacert", &authority, "--resolve", &resolve, protocol, "-I", url];
        let head = world.run("curl", &arguments).await;
        assert!(head.stdout.starts_with(&format!("HTTP/{version} 200")), "{}", head.stdout);
        requests += 1;
    }
    assert_eq!(world.backend.requests(), requests);
    world.node.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn h2load() {
    const REQUESTS: u64 = 3_000;
    let Some(world) = World::for_program("h2load", "nghttp2-client").await else { return };
    let body = world.path("body");
    let [clear, _] = world.urls();
    let encrypted = format!("https://{}/", world.encrypted);
    let count = REQUESTS.to_string();
    let mut expected = 0;
    for (url, rest) in [
        (&clear, &["-c", "20", "-m", "100"][..]),
        (&encrypted, &["-c", "20", "-m", "100"]),
        (&clear, &["-c", "100", "-m", "1"]),
        (&clear, &["-c", "50", "--h1"]),
        (&encrypted, &["-c", "20", "--h1"]),
    ] {
        let arguments = [&["-n", &count][..], rest, &[url.as_str()]].concat();
        let done = world.run("h2load", &arguments).await;
        let line = format!(
            "requests: {REQUESTS} total, {REQUESTS} started, {REQUESTS} done, {REQUESTS} succeeded, 0 failed, 0 errored, 0 timeout"
        );
        assert!(done.stdout.contains(&line), "{arguments:?} {}", done.stdout);
        assert!(done.stdout.contains(&format!("status codes: {REQUESTS} 2xx, 0 3xx")), "{}", done.stdout);
        expected += REQUESTS;
        assert_eq!(world.backend.requests(), expected, "{arguments:?}");
    }
    // Uploads that need windows to be opened.
    world.backend.behave(Manner::Echo);
    let done = world.run("h2load", &["-n", "60", "-c", "3", "-m", "10", "-d", &body, &encrypted]).await;
    assert!(done.stdout.contains("60 succeeded, 0 failed"), "{}", done.stdout);
    let echoed = format!("({}) data", 60 * self::body().len());
    assert!(done.stdout.contains(&echoed), "{echoed} {}", done.stdout);
    world.node.stop().await;
}

#[tokio::test]
async fn nghttp() {
    let Some(world) = World::for_program("nghttp", "nghttp2-client").await else { return };
    world.backend.behave(Manner::Echo);
    let body = world.path("body");
    for url in [format!("http://{}/", world.clear), format!("https://{}/", world.encrypted)] {
        let done = world.run("nghttp", &["-nvm", "20", &url]).await;
        assert_eq!(done.stdout.matches(":status: 200").count(), 20, "{}", done.stdout);
        let done = world.run("nghttp", &["-d", &body, &url]).await;
        assert!(done.stdout.as_bytes() == self::body(), "{} bytes", done.stdout.len());
        // With trailers, and padding.
        let done = world.run("nghttp", &["-v", "-b", "64", "--trailer", "x-end: 1", "-d", &body, &url]).await;
        assert!(done.stdout.contains(":status: 200"), "{}", &done.stdout[..2_000]);
    }
    assert_eq!(world.backend.requests(), 44);
    world.node.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn wrk() {
    let Some(world) = World::for_program("wrk", "wrk").await else { return };
    for url in [format!("http://{}/", world.clear), format!("https://{}/", world.encrypted)] {
        let before = world.backend.requests();
        let done = world.run("wrk", &["-t", "1", "-c", "40", "-d", "1s", "--timeout", "30s", &url]).await;
        assert!(
            !done.stdout.contains("Socket errors") && !done.stdout.contains("Non-2xx"),
            "{}",
            done.stdout
        );
        let line = done.stdout.lines().find(|line| line.contains(" requests in ")).expect("a sum");
        let answered: u64 = line.split_whitespace().next().expect("a word").parse().expect("a number");
        let seen = world.backend.requests() - before;
        // When the time is over, requests of each connection are on their way, as when the run before ended.
        assert!(answered > 0 && (answered..=answered + 80).contains(&seen), "{answered} of {seen}");
    }
    world.node.stop().await;
}

/// Requests of all kinds over one connection.
const HTTP_CLIENT: &str = r#"
import http.client, json, ssl, sys
host, clear, encrypted, authority = sys.argv[1], int(sys.argv[2]), int(sys.argv[3]), sys.argv[4]
context = ssl.create_default_context(cafile=authority)
context.check_hostname = False
body = bytes(range(256)) * 300
for connection in [http.client.HTTPConnection(host, clear), http.client.HTTPSConnection(host, encrypted, context=context)]:
    connection.connect()
    socket = connection.sock
    for turn in range(25):
        connection.request("POST", "/x", body)
        assert connection.getresponse().read() == body
        connection.request("PUT", "/x", iter([body, b"", b"more"]), encode_chunked=True)
        assert connection.getresponse().read() == body + b"more"
        connection.request("GET", "/x?" + "q" * 8000)
        response = connection.getresponse()
        assert (response.status, response.read()) == (200, b""), response.status
        connection.request("HEAD", "/x")
        assert connection.getresponse().read() == b""
        connection.request("DELETE", "/x", headers={"X-%d" % it: "v" for it in range(60)})
        assert connection.getresponse().read() == b""
        assert connection.sock is socket, "the connection was closed"
print("fine")
"#;

#[tokio::test]
async fn http_client_of_python() {
    let Some(world) = World::for_program(PYTHON, "python3").await else { return };
    world.backend.behave(Manner::Echo);
    let (clear, encrypted) = (world.clear.port().to_string(), world.encrypted.port().to_string());
    let arguments = ["-c", HTTP_CLIENT, "127.0.0.1", &clear, &encrypted, &world.path("ca.pem")];
    let done = world.run(PYTHON, &arguments).await;
    assert_eq!(done.stdout, "fine\n", "{}", done.stderr);
    assert_eq!(world.backend.requests(), 250);
    world.node.stop().await;
}

/// A server of WebSockets that sends back what it gets. It prints its port.
const WEBSOCKET_SERVER: &str = r#"
import asyncio, websockets
async def echo(socket):
    async for message in socket:
        await socket.send(message)
async def serve():
    async with websockets.serve(echo, "127.0.0.1", 0, max_size=None, subprotocols=["chat"]) as server:
        print(server.sockets[0].getsockname()[1], flush=True)
        await asyncio.Future()
asyncio.run(serve())
"#;

const WEBSOCKET_CLIENT: &str = r#"
import asyncio, ssl, sys, websockets
context = ssl.create_default_context(cafile=sys.argv[3])
context.check_hostname = False
async def talk(url):
    tls = {"ssl": context, "server_hostname": "www.test"} if url.startswith("wss") else {}
    async with websockets.connect(url, max_size=None, subprotocols=["other", "chat"], **tls) as socket:
        assert socket.subprotocol == "chat"
        for message in ["text", b"bytes", "x" * 300_000, bytes(200_000), ""]:
            await socket.send(message)
            assert await socket.recv() == message
        await socket.send(iter(["in ", "parts"]))
        assert await socket.recv() == "in parts"
        await (await socket.ping(b"ping"))
        await asyncio.gather(*[socket.send(str(it)) for it in range(100)])
        assert sorted([int(await socket.recv()) for _ in range(100)]) == list(range(100))
        await socket.close(4000, "enough")
        assert (socket.close_code, socket.close_reason) == (4000, "enough")
async def all():
    await asyncio.gather(*[talk(url) for url in sys.argv[1:3] for _ in range(15)])
    print("fine")
asyncio.run(all())
"#;

#[tokio::test]
async fn websockets_of_python() {
    let mut trial = Command::new(PYTHON);
    let has = trial.args(["-c", "import websockets"]).stderr(Stdio::null()).status();
    if !has.is_ok_and(|status| status.success()) {
        return skipped("websockets of Python are not installed (Debian package python3-websockets)");
    }
    let mut server = clean(Command::new(PYTHON));
    let mut server = server.args(["-c", WEBSOCKET_SERVER]).spawn().expect("it starts");
    let mut line = String::new();
    BufReader::new(server.stdout.take().expect("a pipe")).read_line(&mut line).expect("its port");
    let address: SocketAddr = ([127, 0, 0, 1], line.trim().parse().expect("a port")).into();
    let world = World::before(address, Backend::start("none").await).await;
    let urls = [format!("ws://{}/x", world.clear), format!("wss://{}/x", world.encrypted)];
    let arguments = ["-c", WEBSOCKET_CLIENT, &urls[0], &urls[1], &world.path("ca.pem")];
    let done = world.run(PYTHON, &arguments).await;
    assert_eq!(done.stdout, "fine\n", "{}", done.stderr);
    server.kill().ok();
    server.wait().ok();
    world.node.stop().await;
}
