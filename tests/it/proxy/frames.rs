//! HTTP/2 spoken frame by frame, with the mistakes that RFC 9113 names, and floods of frames.

use std::net::SocketAddr;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::time::timeout;

use super::backend::Backend;
use super::{address, node};
use crate::harness::PATIENCE;

pub(super) const DATA: u8 = 0;
pub(super) const HEADERS: u8 = 1;
const PRIORITY: u8 = 2;
pub(super) const RST_STREAM: u8 = 3;
pub(super) const SETTINGS: u8 = 4;
const PUSH_PROMISE: u8 = 5;
const PING: u8 = 6;
pub(super) const GOAWAY: u8 = 7;
pub(super) const WINDOW_UPDATE: u8 = 8;
const CONTINUATION: u8 = 9;

const ACK: u8 = 1;
const END_STREAM: u8 = 1;
const END_HEADERS: u8 = 4;
pub(super) const WHOLE: u8 = END_STREAM | END_HEADERS;

const PROTOCOL_ERROR: u32 = 1;
const FLOW_CONTROL_ERROR: u32 = 3;
const STREAM_CLOSED: u32 = 5;
const FRAME_SIZE_ERROR: u32 = 6;
const REFUSED_STREAM: u32 = 7;
const COMPRESSION_ERROR: u32 = 9;

/// GET http://a/ by HPACK's static table and a literal.
pub(super) const GET: &[u8] = &[0x82, 0x86, 0x84, 0x41, 1, b'a'];
/// The same as POST.
const POST: &[u8] = &[0x83, 0x86, 0x84, 0x41, 1, b'a'];

pub(super) fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let length = (payload.len() as u32).to_be_bytes();
    [&length[1..], &[kind, flags], &stream.to_be_bytes(), payload].concat()
}

/// A header as a literal that is not indexed.
pub(super) fn literal(name: &str, value: &str) -> Vec<u8> {
    [&[0, name.len() as u8], name.as_bytes(), &[value.len() as u8], value.as_bytes()].concat()
}

/// A connection that has exchanged settings.
pub(super) struct Connection(TcpStream);

/// A frame that came.
#[derive(Debug)]
pub(super) struct Frame {
    pub(super) kind: u8,
    flags: u8,
    pub(super) stream: u32,
    pub(super) payload: Vec<u8>,
}

/// What the server does about a mistake.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Reaction {
    /// It closes the connection with this error.
    Goaway(u32),
    /// It resets the stream, and the connection goes on.
    Reset(u32),
    /// It answers the request.
    Answer(u16),
    /// It closes the connection.
    Closed,
}

impl Connection {
    pub(super) async fn open(to: SocketAddr) -> Self {
        let mut stream = TcpStream::connect(to).await.expect("a connection");
        let preface = [b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", &*frame(SETTINGS, 0, 0, &[])].concat();
        stream.write_all(&preface).await.expect("it takes a preface");
        Self(stream)
    }

    /// Sends bytes; whether the connection takes them.
    pub(super) async fn send(&mut self, bytes: &[u8]) -> bool {
        timeout(PATIENCE, self.0.write_all(bytes)).await.expect("it reads").is_ok()
    }

    /// The next frame; `None` at the end.
    pub(super) async fn next(&mut self) -> Option<Frame> {
        let reading = async {
            let mut head = [0; 9];
            self.0.read_exact(&mut head).await.ok()?;
            let length = u32::from_be_bytes([0, head[0], head[1], head[2]]);
            let mut payload = vec![0; length as usize];
            self.0.read_exact(&mut payload).await.ok()?;
            let stream = u32::from_be_bytes([head[5], head[6], head[7], head[8]]);
            Some(Frame { kind: head[3], flags: head[4], stream, payload })
        };
        timeout(PATIENCE, reading).await.expect("something comes")
    }

    /// What comes of the stream, or of the connection.
    pub(super) async fn reaction(&mut self, stream: u32) -> Reaction {
        let code = |payload: &[u8]| u32::from_be_bytes(payload.try_into().expect("4 bytes"));
        while let Some(frame) = self.next().await {
            match frame.kind {
                SETTINGS if frame.flags & ACK == 0 => {
                    self.send(&self::frame(SETTINGS, ACK, 0, &[])).await;
                }
                GOAWAY if code(&frame.payload[4..8]) != 0 => {
                    return Reaction::Goaway(code(&frame.payload[4..8]));
                }
                RST_STREAM if frame.stream == stream => return Reaction::Reset(code(&frame.payload)),
                HEADERS if frame.stream == stream => {
                    // The static table has 200 at 8 and 400 at 12.
                    return Reaction::Answer(match frame.payload[0] {
                        0x88 => 200,
                        0x8c => 400,
                        other => panic!("{other:#x} {frame:?}"),
                    });
                }
                _ => {}
            }
        }
        Reaction::Closed
    }
}

/// Mistakes on stream 1, and what the sections of RFC 9113 demand.
fn mistakes() -> Vec<(&'static str, Vec<u8>, Reaction)> {
    use Reaction::{Goaway, Reset};
    let get = |stream| frame(HEADERS, WHOLE, stream, GET);
    let with = |rest: &[u8]| frame(HEADERS, WHOLE, 1, &[GET, rest].concat());
    let post = |headers: &[u8]| frame(HEADERS, END_HEADERS, 1, &[POST, headers].concat());
    vec![
        ("§4.2 a frame too large", frame(DATA, 0, 1, &[0; 16_385]), Goaway(FRAME_SIZE_ERROR)),
        (
            "§4.3 headers that cannot be decoded",
            frame(HEADERS, WHOLE, 1, &[0xff; 8]),
            Goaway(COMPRESSION_ERROR),
        ),
        ("§5.1 DATA on an idle stream", frame(DATA, END_STREAM, 1, b"x"), Goaway(PROTOCOL_ERROR)),
        ("§5.1 RST_STREAM on an idle stream", frame(RST_STREAM, 0, 1, &[0; 4]), Goaway(PROTOCOL_ERROR)),
        (
            "§5.1 DATA after the end",
            [get(1), frame(DATA, END_STREAM, 1, b"x")].concat(),
            Goaway(STREAM_CLOSED),
        ),
        ("§5.1.1 an even stream", get(2), Goaway(PROTOCOL_ERROR)),
        ("§6.1 DATA on the connection", frame(DATA, 0, 0, b"x"), Goaway(PROTOCOL_ERROR)),
        ("§6.1 padding too long", [post(b""), frame(DATA, 8, 1, &[9, 0])].concat(), Goaway(PROTOCOL_ERROR)),
        ("§6.2 HEADERS on the connection", frame(HEADERS, WHOLE, 0, GET), Goaway(PROTOCOL_ERROR)),
        ("§6.3 PRIORITY of 4 bytes", frame(PRIORITY, 0, 1, &[0; 4]), Goaway(FRAME_SIZE_ERROR)),
        (
            "§6.4 RST_STREAM of 3 bytes",
            [get(1), frame(RST_STREAM, 0, 1, &[0; 3])].concat(),
            Goaway(FRAME_SIZE_ERROR),
        ),
        ("§6.5 SETTINGS of 5 bytes", frame(SETTINGS, 0, 0, &[0; 5]), Goaway(FRAME_SIZE_ERROR)),
        ("§6.5 SETTINGS of a stream", frame(SETTINGS, 0, 1, &[]), Goaway(PROTOCOL_ERROR)),
        ("§6.5 ACK with settings", frame(SETTINGS, ACK, 0, &[0; 6]), Goaway(FRAME_SIZE_ERROR)),
        (
            "§6.5.2 a window too large",
            frame(SETTINGS, 0, 0, &[0, 4, 0x80, 0, 0, 0]),
            Goaway(FLOW_CONTROL_ERROR),
        ),
        (
            "§6.6 PUSH_PROMISE of a client",
            frame(PUSH_PROMISE, END_HEADERS, 1, &[0, 0, 0, 2]),
            Goaway(PROTOCOL_ERROR),
        ),
        ("§6.7 PING of 7 bytes", frame(PING, 0, 0, &[0; 7]), Goaway(FRAME_SIZE_ERROR)),
        ("§6.7 PING of a stream", frame(PING, 0, 1, &[0; 8]), Goaway(PROTOCOL_ERROR)),
        ("§6.9 an increment of 0", frame(WINDOW_UPDATE, 0, 0, &[0; 4]), Goaway(PROTOCOL_ERROR)),
        (
            "§6.9.1 a window that overflows",
            frame(WINDOW_UPDATE, 0, 0, &[0x7f, 0xff, 0xff, 0xff]),
            Goaway(FLOW_CONTROL_ERROR),
        ),
        ("§6.10 CONTINUATION of nothing", frame(CONTINUATION, END_HEADERS, 1, GET), Goaway(PROTOCOL_ERROR)),
        (
            "§6.10 a frame between headers",
            [frame(HEADERS, END_STREAM, 1, GET), frame(PING, 0, 0, &[0; 8])].concat(),
            Goaway(PROTOCOL_ERROR),
        ),
        (
            "§8.1.1 a length that is wrong",
            [post(&literal("content-length", "5")), frame(DATA, END_STREAM, 1, b"x")].concat(),
            Reset(PROTOCOL_ERROR),
        ),
        ("§8.2.1 a name in capitals", with(&literal("X-A", "1")), Reset(PROTOCOL_ERROR)),
        ("§8.2.1 a value with a line end", with(&literal("x-a", "1\r\nx-b: 2")), Reset(PROTOCOL_ERROR)),
        ("§8.2.2 a header of a connection", with(&literal("connection", "close")), Reset(PROTOCOL_ERROR)),
        ("§8.2.2 TE with codings", with(&literal("te", "gzip")), Reset(PROTOCOL_ERROR)),
        ("§8.3 an unknown pseudo-header", with(&literal(":x", "1")), Reset(PROTOCOL_ERROR)),
        (
            "§8.3 a pseudo-header behind others",
            frame(HEADERS, WHOLE, 1, &[&literal("x-a", "1")[..], GET].concat()),
            Reset(PROTOCOL_ERROR),
        ),
        ("§8.3.1 no path", frame(HEADERS, WHOLE, 1, &[0x82, 0x86, 0x41, 1, b'a']), Reset(PROTOCOL_ERROR)),
        ("§8.3.1 two paths", with(&[0x84]), Reset(PROTOCOL_ERROR)),
    ]
}

#[tokio::test]
async fn mistakes_of_clients_are_answered_as_the_rfc_demands() {
    let one = Backend::start("one").await;
    let node = node(&[&one], "").await;
    let mut wrong = Vec::new();
    for (name, bytes, expected) in mistakes() {
        let mut connection = Connection::open(address(&node)).await;
        connection.send(&bytes).await;
        let found = connection.reaction(1).await;
        let is_right = match (expected, found) {
            // "An endpoint MAY treat a stream error as a connection error" (§5.4.2).
            (Reaction::Reset(expected), Reaction::Goaway(found)) => expected == found,
            // A malformed request may be answered before the stream is closed (§8.1.1).
            (Reaction::Reset(_), Reaction::Answer(status)) => status == 400,
            // The `h2` crate says PROTOCOL_ERROR where the RFC names a more precise error.
            (Reaction::Goaway(_), Reaction::Goaway(PROTOCOL_ERROR)) => true,
            (expected, found) => expected == found,
        };
        if !is_right {
            wrong.push(format!("{name}: {found:?} instead of {expected:?}"));
        }
        if matches!(found, Reaction::Reset(_) | Reaction::Answer(_)) {
            connection.send(&frame(HEADERS, WHOLE, 3, GET)).await;
            assert_eq!(connection.reaction(3).await, Reaction::Answer(200), "{name}: the others go on");
        }
    }
    assert_eq!(wrong, Vec::<String>::new());
    assert!(one.requests() < mistakes().len() as u64, "{} requests reached the backend", one.requests());
    node.stop().await;
}

#[tokio::test]
async fn what_is_allowed_is_answered() {
    let one = Backend::start("one").await;
    let node = node(&[&one], "").await;
    let padded = [&[3][..], GET, &[0; 3]].concat();
    let weighted = [&[0, 0, 0, 0, 15][..], GET].concat();
    let cut = GET.split_at(3);
    for (name, bytes) in [
        ("§4.1 a reserved bit", frame(HEADERS, WHOLE, 0x8000_0001, GET)),
        ("§5.5 an unknown frame", [frame(0xbe, 0xff, 7, b"x"), frame(HEADERS, WHOLE, 1, GET)].concat()),
        ("§6.2 padding", frame(HEADERS, WHOLE | 8, 1, &padded)),
        ("§6.2 a weight", frame(HEADERS, WHOLE | 0x20, 1, &weighted)),
        (
            "§6.3 PRIORITY of an idle stream",
            [frame(PRIORITY, 0, 5, &[0; 5]), frame(HEADERS, WHOLE, 1, GET)].concat(),
        ),
        (
            "§6.5.2 an unknown setting",
            [frame(SETTINGS, 0, 0, &[0xff, 0, 0, 0, 0, 1]), frame(HEADERS, WHOLE, 1, GET)].concat(),
        ),
        (
            "§6.10 CONTINUATION",
            [frame(HEADERS, END_STREAM, 1, cut.0), frame(CONTINUATION, END_HEADERS, 1, cut.1)].concat(),
        ),
        (
            "§8.1 trailers",
            [
                frame(HEADERS, END_HEADERS, 1, POST),
                frame(DATA, 0, 1, b"x"),
                frame(HEADERS, WHOLE, 1, &literal("x-trailer", "1")),
            ]
            .concat(),
        ),
    ] {
        let mut connection = Connection::open(address(&node)).await;
        connection.send(&bytes).await;
        assert_eq!(connection.reaction(1).await, Reaction::Answer(200), "{name}");
    }
    let mut connection = Connection::open(address(&node)).await;
    connection.send(&frame(PING, 0, 0, b"12345678")).await;
    loop {
        let frame = connection.next().await.expect("an answer");
        if frame.kind == PING {
            assert_eq!((frame.flags, &frame.payload[..]), (ACK, &b"12345678"[..]));
            break;
        }
    }
    node.stop().await;
}

#[tokio::test]
async fn more_streams_than_allowed_are_refused_and_the_others_answered() {
    const MOST_STREAMS: u32 = 128;
    let one = Backend::start("one").await;
    let node = node(&[&one], "").await;
    let mut connection = Connection::open(address(&node)).await;
    // Requests without an end, all at once.
    let open: Vec<u8> =
        (0..=MOST_STREAMS).flat_map(|it| frame(HEADERS, END_HEADERS, 1 + 2 * it, POST)).collect();
    connection.send(&open).await;
    let last = 1 + 2 * MOST_STREAMS;
    assert_eq!(connection.reaction(last).await, Reaction::Reset(REFUSED_STREAM));
    connection.send(&frame(DATA, END_STREAM, 1, b"x")).await;
    assert_eq!(connection.reaction(1).await, Reaction::Answer(200));
    drop(connection);
    node.stop().await;
}

/// Whether a client of its own is served.
async fn others_are_served(to: SocketAddr) {
    let mut connection = Connection::open(to).await;
    connection.send(&frame(HEADERS, WHOLE, 1, GET)).await;
    assert_eq!(connection.reaction(1).await, Reaction::Answer(200));
}

#[tokio::test]
async fn headers_without_end_are_cut_off() {
    let one = Backend::start("one").await;
    let node = node(&[&one], "").await;
    let mut connection = Connection::open(address(&node)).await;
    connection.send(&frame(HEADERS, END_STREAM, 1, GET)).await;
    let part = frame(CONTINUATION, 0, 1, &literal("x-a", &"v".repeat(100)).repeat(100));
    let mut sent = 0;
    // Far more than the headers that a request may have.
    while sent < 64 * 1024 * 1024 && connection.send(&part).await {
        sent += part.len();
    }
    assert!(sent < 64 * 1024 * 1024, "it is never cut off");
    assert_eq!(one.requests(), 0);
    others_are_served(address(&node)).await;
    node.stop().await;
}

#[tokio::test]
async fn requests_that_are_reset_at_once_are_cut_off() {
    const PAIRS: u32 = 20_000;
    let one = Backend::start("one").await;
    let node = node(&[&one], "").await;
    let mut connection = Connection::open(address(&node)).await;
    let mut sent = 0;
    while sent < PAIRS {
        let pair = |it| {
            [frame(HEADERS, WHOLE, 1 + 2 * it, GET), frame(RST_STREAM, 0, 1 + 2 * it, &[0, 0, 0, 8])].concat()
        };
        let pairs: Vec<u8> = (sent..sent + 100).flat_map(pair).collect();
        if !connection.send(&pairs).await {
            break;
        }
        sent += 100;
    }
    // ENHANCE_YOUR_CALM.
    let reaction = connection.reaction(0).await;
    assert!(matches!(reaction, Reaction::Goaway(11) | Reaction::Closed), "{reaction:?}");
    assert!(one.requests() < 1_000, "{} requests reached the backend", one.requests());
    others_are_served(address(&node)).await;
    node.stop().await;
}
