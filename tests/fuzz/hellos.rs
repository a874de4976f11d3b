//! What clients of a TLS passthrough send first: the backend of the host gets every byte of it, or nobody gets any.

use std::net::SocketAddr;
use std::sync::{LazyLock, Mutex, PoisonError};

use rustls::server::Acceptor;

use crate::proxied::{RUNTIME, Sink, say, start};

/// There is one backend.
static TURN: Mutex<()> = Mutex::new(());

static NODE: LazyLock<(Sink, SocketAddr)> = LazyLock::new(|| {
    RUNTIME.block_on(async {
        let sink = Sink::start().await;
        let node = start(&format!(
            "[proxy]\nworkers = 1\n[proxy.listener.tls]\nlisten = \"127.0.0.1:0\"\nprotocol = \"tls-passthrough\"\n\
             route = [{{ host = \"a.test\", pool = \"api\" }}]\n[proxy.pool.api]\nbackend = [\"{}\"]\nprobe = []\n",
            sink.address
        ))
        .await;
        (sink, node)
    })
});

/// The first byte is the size of the pieces, the others are what the client sends.
pub(crate) fn send(bytes: &[u8]) {
    let Some((piece, bytes)) = bytes.split_first() else { return };
    let _turn = TURN.lock().unwrap_or_else(PoisonError::into_inner);
    let (sink, node) = &*NODE;
    let piece = if *piece == 0 { usize::MAX } else { usize::from(*piece) };
    RUNTIME.block_on(async {
        let received = say(*node, &[bytes], piece, true).await;
        // The backend says nothing: all that comes back is an alert.
        assert!(received.is_empty() || (received.len() == 7 && received[0] == 21), "{received:02x?}");
        let seen = sink.take();
        match host(bytes) {
            Some(host) if host.eq_ignore_ascii_case("a.test") => assert_eq!(seen, [bytes], "{host}"),
            host => assert!(seen.is_empty(), "{host:?}"),
        }
    });
}

/// The host that a whole ClientHello names.
fn host(mut bytes: &[u8]) -> Option<String> {
    let mut acceptor = Acceptor::default();
    while !bytes.is_empty() {
        acceptor.read_tls(&mut bytes).ok()?;
        match acceptor.accept() {
            Ok(None) => {}
            Ok(Some(accepted)) => return accepted.client_hello().server_name().map(str::to_owned),
            Err(_) => return None,
        }
    }
    None
}
