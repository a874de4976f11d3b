//! HTTP through the proxy, in the lane of plain HTTP/1.1 and on the general path: whatever a client and a backend send,
//! each side gets whole messages, and where both are valid, the two ways do the same.

use std::net::SocketAddr;
use std::sync::{Arc, LazyLock, Mutex, PoisonError};

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};

use crate::http1::{Message, Reading, Side};
use crate::proxied::{RUNTIME, say, start};

/// After it a connection is still in the lane.
const TO_LANE: &[u8] = b"GET /usual HTTP/1.1\r\nHost: a\r\n\r\n";
/// After it a connection is on the general path for good.
const TO_GENERAL: &[u8] = b"GET /usual HTTP/1.1\r\nHost: a\r\nTE: trailers\r\n\r\n";
/// The last request of a connection.
const LAST: &[u8] = b"GET /usual HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n";

/// What the backend says to `/usual`.
const USUAL: &[u8] = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok";

/// Between what the client and what the backend sends.
const SEPARATOR: &[u8] = b"\n----\n";

/// A backend that says to each request what it is told to.
struct Backend {
    address: SocketAddr,
    shared: Arc<Mutex<Shared>>,
}

#[derive(Default)]
struct Shared {
    reply: Vec<u8>,
    seen: Vec<Message>,
    /// Bytes that were not a request.
    strange: Vec<Vec<u8>>,
}

/// There is one backend, whose script is that of one exchange.
static TURN: Mutex<()> = Mutex::new(());

static NODE: LazyLock<(Backend, SocketAddr)> = LazyLock::new(|| {
    RUNTIME.block_on(async {
        let backend = Backend::start().await;
        let node = start(&format!(
            "[proxy]\nworkers = 1\n[proxy.listener.web]\nlisten = \"127.0.0.1:0\"\npool = \"api\"\n\
             [proxy.pool.api]\nbackend = [\"{}\"]\nprobe = []\n",
            backend.address
        ))
        .await;
        (backend, node)
    })
});

impl Backend {
    async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let address = listener.local_addr().expect("an address");
        let shared: Arc<Mutex<Shared>> = Arc::default();
        let serving = Arc::clone(&shared);
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                tokio::spawn(converse(stream, Arc::clone(&serving)));
            }
        });
        Self { address, shared }
    }
}

async fn converse(mut stream: TcpStream, shared: Arc<Mutex<Shared>>) {
    let mut received = Vec::new();
    loop {
        match Message::read(&received, Side::Request) {
            Reading::Whole(message, length) => {
                received.drain(..length);
                let is_usual = message.start.split(' ').nth(1) == Some("/usual");
                let reply = {
                    let shared = shared.lock().expect("no panic");
                    if is_usual { USUAL.to_vec() } else { shared.reply.clone() }
                };
                let keeps = is_usual || keeps(&reply, side(&message));
                if !is_usual {
                    shared.lock().expect("no panic").seen.push(message);
                }
                if stream.write_all(&reply).await.is_err() || !keeps {
                    // Were it closed with bytes unread, the response might be lost.
                    stream.shutdown().await.ok();
                    tokio::io::copy(&mut stream, &mut tokio::io::sink()).await.ok();
                    return;
                }
            }
            Reading::Part => match stream.read_buf(&mut received).await {
                Ok(1..) => {}
                _ => return,
            },
            Reading::Malformed => return shared.lock().expect("no panic").strange.push(received),
        }
    }
}

/// How the response to a request is read.
fn side(request: &Message) -> Side {
    if request.start.starts_with("HEAD ") { Side::ResponseToHead } else { Side::Response }
}

/// Whether these bytes are one plain and valid response.
fn is_plain_response(reply: &[u8], side: Side) -> bool {
    let is_whole = matches!(Message::read(reply, side), Reading::Whole(it, length) if length == reply.len() && it.is_plain_response());
    is_whole && !names_close(reply)
}

/// Whether a backend may keep the connection after this response.
fn keeps(reply: &[u8], side: Side) -> bool {
    is_plain_response(reply, Side::Response) && is_plain_response(reply, side)
}

/// Whether something like `close` stands in it.
fn names_close(reply: &[u8]) -> bool {
    reply.windows(5).any(|it| it.eq_ignore_ascii_case(b"close"))
}

/// The first byte is the size of the pieces. What follows is what a client sends, and what a backend says to it.
pub(crate) fn exchange(bytes: &[u8]) {
    let Some((piece, bytes)) = bytes.split_first() else { return };
    let piece = if *piece == 0 { usize::MAX } else { usize::from(*piece) };
    let _turn = TURN.lock().unwrap_or_else(PoisonError::into_inner);
    let cut = bytes.windows(SEPARATOR.len()).position(|it| it == SEPARATOR);
    let (request, reply) = match cut {
        Some(at) => (&bytes[..at], &bytes[at + SEPARATOR.len()..]),
        None => (bytes, USUAL),
    };
    let asked = plain_requests(request);
    let is_plain = asked.as_ref().is_some_and(|asked| asked.iter().all(|it| keeps(reply, side(it))));
    let both = [TO_LANE, TO_GENERAL].map(|first| one_way(first, request, reply, piece, is_plain));
    if is_plain {
        let asked = asked.expect("it is plain").len();
        assert_eq!(both[0].seen.len(), asked, "requests reach the backend: {both:#?}");
        assert_eq!(both[0].answers.len(), asked + 2, "each is answered: {both:#?}");
        assert_eq!(both[0], both[1]);
    }
}

/// What came of an exchange.
#[derive(Debug, PartialEq, Eq)]
struct Outcome {
    seen: Vec<Message>,
    answers: Vec<Message>,
}

/// The exchange over a connection that begins with `first`. If it `is_plain`, the client asks for the end of the connection;
/// else it ends its side.
fn one_way(first: &[u8], request: &[u8], reply: &[u8], piece: usize, is_plain: bool) -> Outcome {
    let (backend, node) = &*NODE;
    {
        let mut shared = backend.shared.lock().expect("no panic");
        *shared = Shared { reply: reply.to_vec(), ..Shared::default() };
    }
    let parts: &[&[u8]] = if is_plain { &[first, request, LAST] } else { &[first, request] };
    let received = RUNTIME.block_on(say(*node, parts, piece, !is_plain));
    let Shared { seen, strange, .. } = std::mem::take(&mut *backend.shared.lock().expect("no panic"));
    // What a client sent of a request before it went away is cut off.
    let is_cut = |bytes: &Vec<u8>| !matches!(Message::read(bytes, Side::Request), Reading::Malformed);
    assert!(strange.iter().all(is_cut), "a backend gets what is not a request: {strange:?}");
    // The first answer is the one to `first`.
    let side =
        |index: usize| index.checked_sub(1).and_then(|index| seen.get(index)).map_or(Side::Response, side);
    let mut answers = Vec::new();
    let mut rest = &received[..];
    loop {
        match Message::read(rest, side(answers.len())) {
            // What follows is of another protocol.
            Reading::Whole(message, _) if message.start.starts_with("HTTP/1.1 101 ") => break,
            Reading::Whole(message, length) => {
                rest = &rest[length..];
                answers.push(message);
            }
            Reading::Part => break,
            Reading::Malformed if !is_plain && may_be_skewed(request) => break,
            Reading::Malformed => panic!("a client gets what is not a response: {}", rest.escape_ascii()),
        }
    }
    Outcome {
        seen: seen.into_iter().map(Message::comparable).collect(),
        answers: answers.into_iter().map(Message::comparable).collect(),
    }
}

/// Whether answers of the proxy's own may stand between those of backends, so that it is not known which are those to HEAD.
fn may_be_skewed(request: &[u8]) -> bool {
    request.windows(5).any(|it| it == b"HEAD ")
}

/// The requests, if these bytes are nothing but requests that are plain and valid.
fn plain_requests(mut bytes: &[u8]) -> Option<Vec<Message>> {
    let mut found = Vec::new();
    while !bytes.is_empty() {
        let Reading::Whole(message, length) = Message::read(bytes, Side::Request) else { return None };
        if !message.is_plain_request() {
            return None;
        }
        bytes = &bytes[length..];
        found.push(message);
    }
    Some(found)
}
