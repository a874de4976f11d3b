//! A running node whose proxy the targets talk to over loopback, and the backend behind it.

use std::net::SocketAddr;
use std::sync::{Arc, LazyLock, Mutex};
use std::time::Duration;

use portolan::node::{Node, Options};
use portolan::prepare::{Origin, prepare};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::runtime::Runtime;
use tokio::time::timeout;

/// The longest that an exchange may take.
const PATIENCE: Duration = Duration::from_secs(20);

/// Runs the node, its backends and their clients.
pub(crate) static RUNTIME: LazyLock<Runtime> = LazyLock::new(|| {
    tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().expect("a runtime")
});

/// Starts a node with this `[proxy]`, which has one listener, and returns where that listens. The node ends with the process.
pub(crate) async fn start(proxy: &str) -> SocketAddr {
    let folder = tempfile::tempdir().expect("a folder");
    let socket = folder.path().join("socket");
    let text = format!(
        "version = 1\n[node]\nlandlock = false\n[log]\nlevel = \"error\"\n[control]\nlisten = false\n\
         socket = {socket:?}\n{proxy}"
    );
    let config = folder.path().join("portolan.toml");
    std::fs::write(&config, text).expect("a file");
    let origin = Origin::File(config);
    let prepared = prepare(&origin).unwrap_or_else(|why| panic!("{why}"));
    let node = Node::start(origin, prepared, Options::default()).await.expect("a node");
    let address = node.proxy_addresses[0].1;
    std::mem::forget(node);
    address
}

/// Connects, sends bytes in pieces, and returns all that comes back until the connection is closed. If `then_ends`, nothing
/// follows them.
pub(crate) async fn say(to: SocketAddr, parts: &[&[u8]], piece: usize, then_ends: bool) -> Vec<u8> {
    let exchange = async {
        let stream = TcpStream::connect(to).await.expect("a connection");
        stream.set_nodelay(true).ok();
        let (mut reader, mut writer) = stream.into_split();
        let mut received = Vec::new();
        let sending = async {
            for part in parts {
                for piece in part.chunks(piece) {
                    if writer.write_all(piece).await.is_err() {
                        return;
                    }
                    tokio::task::yield_now().await;
                }
            }
            if then_ends {
                writer.shutdown().await.ok();
            }
        };
        let (_, _) = tokio::join!(sending, reader.read_to_end(&mut received));
        received
    };
    timeout(PATIENCE, exchange).await.expect("the proxy closes the connection")
}

/// A backend that keeps what each connection sent until it ended.
pub(crate) struct Sink {
    pub(crate) address: SocketAddr,
    seen: Arc<Mutex<Vec<Vec<u8>>>>,
}

impl Sink {
    pub(crate) async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let address = listener.local_addr().expect("an address");
        let seen: Arc<Mutex<Vec<Vec<u8>>>> = Arc::default();
        let sink = Arc::clone(&seen);
        tokio::spawn(async move {
            while let Ok((mut stream, _)) = listener.accept().await {
                let sink = Arc::clone(&sink);
                tokio::spawn(async move {
                    let mut received = Vec::new();
                    stream.read_to_end(&mut received).await.ok();
                    sink.lock().expect("no panic").push(received);
                });
            }
        });
        Self { address, seen }
    }

    pub(crate) fn take(&self) -> Vec<Vec<u8>> {
        std::mem::take(&mut self.seen.lock().expect("no panic"))
    }
}
