use std::fs;
use std::io::{Read as _, Write as _};
use std::net::Shutdown;
use std::os::unix::net::{UnixListener, UnixStream};
use std::thread;
use std::time::Duration;

use proptest::prelude::*;
use prost::Message as _;
use serde_json::Value;
use tempfile::TempDir;

use super::message::{Dnstap, Kind, Message};
use super::stream::{Stream, append_frame, contents};
use super::*;
use crate::model::Identity;
use crate::net::record_log::{Output, Writer};

/// What is written, in memory.
#[derive(Clone, Default)]
struct Kept(std::sync::Arc<std::sync::Mutex<Vec<u8>>>);

impl Output for Kept {
    fn check(&mut self) {}

    fn write(&mut self, records: &[u8]) -> std::io::Result<()> {
        self.0.lock().expect("no panic").extend_from_slice(records);
        Ok(())
    }
}

/// What a recorder makes of this.
fn recorded(arrival: Arrival, query: &[u8], fate: Fate, reply: Option<&[u8]>) -> Dnstap {
    let kept = Kept::default();
    let (writer, queue) = Writer::start("query log", kept.clone(), <_>::default()).expect("a thread");
    let mut recorder = Recorder::new(&queue);
    drop(queue);
    let identity = Identity { nsid: Some("ns1".into()), ..Identity::default() };
    let plan = Plan { identity, ..Plan::default() };
    let now = Unix(Duration::new(1_764_380_000, 123_456_789));
    // The second time in what the first has left.
    recorder.record(&plan, &arrival, now, &[0xff; 100], (Fate::Denied, Some(&[0xff; 200])));
    recorder.record(&plan, &arrival, now, query, (fate, reply));
    drop(recorder);
    writer.finish();
    let frames = kept.0.lock().expect("no panic");
    let last = contents(&frames).nth(1).expect("two frames");
    Dnstap::decode(last).expect("a message")
}

fn arrival(peer: &str, transport: Transport) -> Arrival {
    let (peer, local) = (peer.parse().expect("an address"), "192.0.2.53:53".parse().expect("an address"));
    Arrival { peer, local, transport, encrypted: false, keepalive: None }
}

#[test]
fn a_record_has_all_that_dnstap_knows() {
    let record = recorded(
        arrival("[::ffff:198.51.100.7]:4321", Transport::Tcp),
        b"query",
        Fate::Answered(AnswerKind::Negative),
        Some(b"reply"),
    );
    let message = Message {
        r#type: Kind::AuthResponse.into(),
        socket_family: Some(SocketFamily::Inet.into()),
        socket_protocol: Some(SocketProtocol::Tcp.into()),
        query_address: Some(vec![198, 51, 100, 7]),
        response_address: Some(vec![192, 0, 2, 53]),
        query_port: Some(4321),
        response_port: Some(53),
        query_time_sec: Some(1_764_380_000),
        query_time_nsec: Some(123_456_789),
        query_message: Some(b"query".into()),
        response_time_sec: Some(1_764_380_000),
        response_time_nsec: Some(123_456_789),
        response_message: Some(b"reply".into()),
    };
    let expected = Dnstap {
        identity: Some(b"ns1".into()),
        version: Some(concat!("portolan ", env!("CARGO_PKG_VERSION")).into()),
        extra: Some(b"outcome=negative".into()),
        message: Some(message),
        r#type: 1,
    };
    assert_eq!(record, expected);
}

#[test]
fn a_record_without_a_reply_has_nothing_of_the_one_before() {
    let record = recorded(arrival("[2001:db8::1]:53", Transport::Udp), b"", Fate::Limited, None);
    let message = record.message.expect("a message");
    assert_eq!(message.r#type(), Kind::AuthQuery);
    assert_eq!(message.socket_family(), SocketFamily::Inet6);
    assert_eq!(message.query_message.as_deref(), Some(&[][..]));
    assert_eq!((message.response_message, message.response_time_sec), (None, None));
    assert_eq!(record.extra.as_deref(), Some(&b"outcome=limited"[..]));
}

fn json(record: &Dnstap) -> (String, Value) {
    let mut lines = Vec::new();
    line::append(&mut lines, record);
    let text = String::from_utf8(lines).expect("UTF-8");
    let value = serde_json::from_str(&text).expect("JSON");
    (text, value)
}

#[test]
fn a_line_names_what_has_no_name() {
    let mut query = b"\0\x01\0\0\0\x01\0\0\0\0\0\0\x05wWw a\x04tEST\0\xff\x00\x00\x04".to_vec();
    let udp = arrival("198.51.100.7:4321", Transport::Udp);
    let line = json(&recorded(udp, &query, Fate::Answered(AnswerKind::Refused), None)).1;
    assert_eq!(line["name"], r"www\ a.test.");
    assert_eq!((&line["type"], &line["class"]), (&"TYPE65280".into(), &"HS".into()));
    assert_eq!(line["time"], "2025-11-29T01:33:20.123Z");
    let end = query.len();
    query[end - 4..].copy_from_slice(&[0, 16, 0x12, 0x34]);
    let line = json(&recorded(udp, &query, Fate::Answered(AnswerKind::Refused), None)).1;
    assert_eq!((&line["type"], &line["class"]), (&"TXT".into(), &"CLASS4660".into()));
}

proptest! {
    #[test]
    fn nothing_forges_a_line(query: Vec<u8>, labels in prop::collection::vec(any::<[u8; 7]>(), 1..5), reply: Vec<u8>) {
        let mut named = b"\0\x01\0\0\0\x01\0\0\0\0\0\0".to_vec();
        for label in labels {
            named.push(7);
            named.extend(label);
        }
        named.extend(b"\0\0\x01\0\x01");
        for query in [&query, &named] {
            let record = recorded(arrival("198.51.100.7:4321", Transport::Udp), query, Fate::Dropped, Some(&reply));
            let (text, line) = json(&record);
            let content = text.strip_suffix('\n').expect("an end");
            prop_assert!(content.bytes().all(|byte| (b' '..=b'~').contains(&byte)), "{}", text);
            prop_assert_eq!(&line["received"], query.len());
        }
    }
}

#[test]
fn frames_are_read_up_to_one_that_is_cut_short() {
    let mut frames = Vec::new();
    for content in ["one", "", "three"] {
        append_frame(&mut frames, |frame| frame.extend_from_slice(content.as_bytes()));
    }
    assert_eq!(contents(&frames).collect::<Vec<_>>(), [&b"one"[..], b"", b"three"]);
    assert_eq!(contents(&frames[..frames.len() - 1]).count(), 2);
}

/// A control frame with its escape.
fn control(kind: u32, content_type: &str) -> Vec<u8> {
    let mut content = kind.to_be_bytes().to_vec();
    if !content_type.is_empty() {
        content.extend([0, 0, 0, 1]);
        append_frame(&mut content, |content| content.extend_from_slice(content_type.as_bytes()));
    }
    let mut frame = vec![0; 4];
    append_frame(&mut frame, |frame| frame.extend(content));
    frame
}

/// Runs a reader at a socket, and returns what a stream to it ends with and all that it has read.
fn with_reader(
    reader: impl FnOnce(UnixStream) -> Vec<u8> + Send + 'static,
    writer: impl FnOnce(Stream),
) -> (String, Vec<u8>) {
    let folder = TempDir::new().expect("a folder");
    let path = folder.path().join("tap.sock");
    let listener = UnixListener::bind(&path).expect("a socket");
    let reading = thread::spawn(move || reader(listener.accept().expect("a connection").0));
    let result = match Stream::connect(&path) {
        Ok(stream) => {
            writer(stream);
            "connected".into()
        }
        Err(error) => error.to_string(),
    };
    fs::remove_file(&path).expect("the socket");
    (result, reading.join().expect("no panic"))
}

const READY: &str = "\0\0\0\0\0\0\0\x22\0\0\0\x04\0\0\0\x01\0\0\0\x16protobuf:dnstap.Dnstap";
const START: &str = "\0\0\0\0\0\0\0\x22\0\0\0\x02\0\0\0\x01\0\0\0\x16protobuf:dnstap.Dnstap";

#[test]
fn a_stream_shakes_hands_at_both_ends() {
    let reader = |mut stream: UnixStream| {
        let mut read = vec![0; READY.len()];
        stream.read_exact(&mut read).expect("READY");
        stream.write_all(&control(1, "protobuf:dnstap.Dnstap")).expect("a writer");
        let mut rest = vec![0; START.len() + 8 + 12];
        stream.read_exact(&mut rest).expect("START, a frame and STOP");
        stream.write_all(&control(5, "")).expect("a writer");
        read.extend(rest);
        stream.read_to_end(&mut read).expect("the end");
        read
    };
    let (result, read) = with_reader(reader, |mut stream| {
        let mut frames = Vec::new();
        append_frame(&mut frames, |frame| frame.extend_from_slice(b"data"));
        stream.write(&frames).expect("a reader");
        stream.finish();
    });
    let expected = format!("{READY}{START}\0\0\0\x04data\0\0\0\0\0\0\0\x04\0\0\0\x03");
    assert_eq!((&*result, read), ("connected", expected.into_bytes()));
}

#[test]
fn readers_of_something_else_are_refused() {
    for (answer, expected) in [
        (control(1, ""), "connected"),
        (control(1, "protobuf:other.Other"), "the reader does not accept protobuf:dnstap.Dnstap"),
        (control(5, ""), "the reader sent control frame 5 instead of 1"),
        (b"HTTP/1.1 400 Bad Request\r\n\r\n".to_vec(), "the reader does not speak Frame Streams"),
        (b"\0\0\0\0\xff\xff\xff\xff".to_vec(), "the reader does not speak Frame Streams"),
        (b"\0\0\0\0\0\0\0\x03".to_vec(), "the reader does not speak Frame Streams"),
        (Vec::new(), "failed to fill whole buffer"),
    ] {
        let reader = move |mut stream: UnixStream| {
            let mut read = vec![0; READY.len()];
            stream.read_exact(&mut read).expect("READY");
            stream.write_all(&answer).expect("a writer");
            stream.shutdown(Shutdown::Write).expect("a writer");
            // The end, or a reset where something of the answer was left.
            stream.read_to_end(&mut Vec::new()).ok();
            read
        };
        let (result, read) = with_reader(reader, drop);
        assert_eq!((&*result, &*read), (expected, READY.as_bytes()));
    }
}
