use bytes::{Buf as _, BytesMut};
use http::{Method, StatusCode};
use proptest::prelude::*;

use super::chunks::{self, Chunks, Malformed, Piece};
use super::request::{self, Received};
use super::response;
use super::upload::Body;
use crate::proxy::http::headers::Framing;

/// Whether a head is understood, is not there yet, or is left to hyper.
fn kind(head: &[u8]) -> &'static str {
    match request::read(head) {
        Received::Part => "part",
        Received::Request(_) => "request",
        Received::Other => "other",
    }
}

#[test]
fn only_plain_requests_are_understood() {
    let cases: [(&str, &[u8]); 32] = [
        ("request", b"GET / HTTP/1.1\r\nHost: a\r\n\r\n"),
        ("request", b"GET / HTTP/1.1\r\nHost: a\r\n\r\nGET /next HTTP/1.1\r\n"),
        ("request", b"\r\nGET / HTTP/1.1\r\nHost: a\r\n\r\n"),
        ("request", b"POST /a?b HTTP/1.1\r\nhost: a\r\ncontent-length: 12\r\nconnection: Keep-Alive\r\n\r\n"),
        ("request", b"DELETE /a HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n"),
        ("part", b""),
        ("part", b"G"),
        ("part", b"GET / HTTP/1.1\r\nHost: a\r\n"),
        ("part", b"PRI * HTTP/"),
        ("other", b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"),
        ("other", b"\x16\x03\x01\x02\x00"),
        ("other", b"GET / HTTP/1.0\r\nHost: a\r\n\r\n"),
        ("other", b"CONNECT a:1 HTTP/1.1\r\nHost: a:1\r\n\r\n"),
        ("other", b"BREW / HTTP/1.1\r\nHost: a\r\n\r\n"),
        ("other", b"OPTIONS * HTTP/1.1\r\nHost: a\r\n\r\n"),
        ("other", b"GET http://a/ HTTP/1.1\r\nHost: a\r\n\r\n"),
        ("other", b"GET / HTTP/1.1\r\n\r\n"),
        ("other", b"GET / HTTP/1.1\r\nHost: a\r\nHost: a\r\n\r\n"),
        ("other", b"GET / HTTP/1.1\r\nHost: a\r\nX: 1\r\n 2\r\n\r\n"),
        ("other", b"GET / HTTP/1.1\r\nHost: a\r\nX : 1\r\n\r\n"),
        ("other", b"GET / HTTP/1.1\r\nHost: a\rX: 1\r\n\r\n"),
        ("request", b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: Chunked\r\n\r\n"),
        ("other", b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: gzip, chunked\r\n\r\n"),
        ("other", b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\nContent-Length: 4\r\n\r\n"),
        ("other", b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 4\r\nContent-Length: 4\r\n\r\n"),
        ("other", b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: +4\r\n\r\n"),
        ("other", b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 4, 4\r\n\r\n"),
        ("other", b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 99999999999999999999\r\n\r\n"),
        ("other", b"GET / HTTP/1.1\r\nHost: a\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\r\n"),
        ("other", b"GET / HTTP/1.1\r\nHost: a\r\nConnection: close, x\r\nX: 1\r\n\r\n"),
        ("other", b"POST / HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\nContent-Length: 4\r\n\r\n"),
        ("other", b"GET / HTTP/1.1\r\nHost: a\r\nTE: trailers\r\n\r\n"),
    ];
    for (expected, head) in cases {
        assert_eq!(kind(head), expected, "{}", String::from_utf8_lossy(head));
    }
}

#[test]
fn a_request_is_taken_apart_and_written_anew() {
    let text =
        b"POST /a?b=c HTTP/1.1\r\nHost: a\r\nX-A:  1 \r\nx-b: 2\r\nX-a: 3\r\nContent-Length: 4\r\n\r\nbody";
    let Received::Request(asked) = request::read(text) else { panic!("it is understood") };
    assert!(matches!(asked.body, Body::Length(4)), "{asked:?}");
    assert_eq!((asked.is_last, asked.length), (false, text.len() - 4));
    let (parts, ()) = asked.head.into_parts();
    let mut written = Vec::new();
    request::write(&parts, &asked.body, &mut written);
    let expected =
        "POST /a?b=c HTTP/1.1\r\nhost: a\r\nx-a: 1\r\nx-a: 3\r\nx-b: 2\r\ncontent-length: 4\r\n\r\n";
    assert_eq!(String::from_utf8_lossy(&written), expected);
}

#[test]
fn the_framing_of_a_response_is_clear_or_refused() {
    type Expected = Option<(Framing, bool)>;
    let cases: [(&Method, &str, Expected); 18] = [
        (&Method::GET, "200 OK\r\nContent-Length: 3", Some((Framing::Length(3), true))),
        (
            &Method::GET,
            "200 OK\r\nContent-Length: 3\r\nConnection: x, Close",
            Some((Framing::Length(3), false)),
        ),
        (&Method::GET, "200 OK\r\nTransfer-Encoding: Chunked", Some((Framing::Chunked, true))),
        (&Method::GET, "200 OK\r\nX: 1", Some((Framing::UntilClose, false))),
        (&Method::HEAD, "200 OK\r\nContent-Length: 3", Some((Framing::None, true))),
        (&Method::HEAD, "200 OK\r\nTransfer-Encoding: chunked", Some((Framing::None, true))),
        (&Method::GET, "204 No Content\r\nX: 1", Some((Framing::None, true))),
        (&Method::GET, "304 Not Modified\r\nContent-Length: 3", Some((Framing::None, true))),
        (
            &Method::GET,
            "100 Continue\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 1",
            Some((Framing::Length(1), true)),
        ),
        (&Method::GET, "200 OK\r\nContent-Length: 3\r\nContent-Length: 3", None),
        (&Method::GET, "200 OK\r\nContent-Length: 3, 3", None),
        (&Method::GET, "200 OK\r\nContent-Length: -3", None),
        (&Method::GET, "200 OK\r\nContent-Length: 18446744073709551616", None),
        (&Method::GET, "200 OK\r\nContent-Length: ", None),
        (&Method::GET, "200 OK\r\nTransfer-Encoding: gzip, chunked", None),
        (&Method::GET, "200 OK\r\nTransfer-Encoding: identity", None),
        (&Method::GET, "200 OK\r\nTransfer-Encoding: chunked\r\nContent-Length: 3", None),
        (&Method::GET, "200 OK\r\nTransfer-Encoding: chunked\r\nTransfer-Encoding: chunked", None),
    ];
    for (method, text, expected) in cases {
        let mut received = BytesMut::from(format!("HTTP/1.1 {text}\r\n\r\nabc").as_bytes());
        let found = response::take(&mut received, method).ok().flatten();
        assert_eq!(found.as_ref().map(|it| (it.framing, it.keeps)), expected, "{method} {text}");
        if found.is_some() {
            assert_eq!(&received[..], b"abc");
        }
    }
    let mut old =
        BytesMut::from(&b"HTTP/1.0 200 Fine\r\nConnection: keep-alive\r\nContent-Length: 0\r\n\r\n"[..]);
    let old = response::take(&mut old, &Method::GET).unwrap().unwrap();
    assert_eq!((old.keeps, old.head.status(), &old.reason[..]), (true, StatusCode::OK, &b"Fine"[..]));
}

/// What a body in chunks contains, when it comes in these pieces; and what is left behind it.
fn decode(pieces: &[&[u8]]) -> Result<(Vec<u8>, Vec<u8>), Malformed> {
    let (mut chunks, mut received, mut data) = (Chunks::new(), BytesMut::new(), Vec::new());
    let mut pieces = pieces.iter();
    loop {
        match chunks.next(&mut received)? {
            Piece::Data(length) => {
                data.extend_from_slice(&received[..length]);
                received.advance(length);
            }
            Piece::Wait => received.extend_from_slice(pieces.next().ok_or(Malformed)?),
            Piece::End => return Ok((data, received.to_vec())),
        }
    }
}

#[test]
fn chunks_are_taken_apart() {
    let long = format!("1;{}\r\na\r\n0\r\n\r\n", "x".repeat(20_000));
    let many = format!("1;{0}\r\na\r\n1;{0}\r\na\r\n0\r\n\r\n", "x".repeat(10_000));
    let trailers = format!("0\r\nX: {}\r\n\r\n", "x".repeat(20_000));
    let cases: [(&str, Option<&str>); 15] = [
        ("0\r\n\r\nnext", Some("")),
        ("3\r\nabc\r\n0\r\n\r\nnext", Some("abc")),
        ("3;name=value\r\nabc\r\n1\r\nd\r\n0;x\r\nTrailer: 1\r\n\r\nnext", Some("abcd")),
        ("03\r\nabc\r\n00\r\n\r\nnext", Some("abc")),
        ("3\r\nabc\r\n", None),
        ("3\r\nabcd\r\n0\r\n\r\n", None),
        ("3\nabc\n0\n\n", None),
        ("-3\r\nabc\r\n0\r\n\r\n", None),
        ("0x3\r\nabc\r\n0\r\n\r\n", None),
        ("\r\n", None),
        ("fffffffffffffffff\r\n", None),
        ("0\r\nbad trailer\r\n\r\n", None),
        (&long, None),
        (&many, None),
        (&trailers, None),
    ];
    for (text, expected) in cases {
        let decoded = decode(&[text.as_bytes()]).ok();
        let expected = expected.map(|it| (it.as_bytes().to_vec(), b"next".to_vec()));
        assert_eq!(decoded, expected, "{text:.60}");
    }
}

proptest! {
    #[test]
    fn chunks_arrive_whole_however_they_are_cut(
        data in prop::collection::vec(prop::collection::vec(any::<u8>(), 1..50), 0..6),
        cut in 1_usize..20,
    ) {
        let mut text = Vec::new();
        for chunk in &data {
            chunks::write_size(chunk.len(), &mut text);
            text.extend_from_slice(chunk);
            text.extend_from_slice(chunks::DATA_END);
        }
        text.extend_from_slice(chunks::LAST);
        let pieces: Vec<&[u8]> = text.chunks(cut).collect();
        let whole = data.concat();
        prop_assert_eq!(decode(&pieces), Ok((whole, Vec::new())));
    }

    #[test]
    fn nothing_received_makes_the_lane_panic(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
        request::read(&bytes);
        for start in [&b""[..], b"HTTP/1.1 200 OK\r\n"] {
            let mut received = BytesMut::from(start);
            received.extend_from_slice(&bytes);
            drop(response::take(&mut received, &Method::GET));
        }
        drop(decode(&[&bytes]));
    }
}
