//! HTTP/2 backends that mean harm: none costs more than its own requests.

use reqwest::StatusCode;

use super::super::{address, client, config};
use super::backend::{
    CONTINUATION, DATA, END_HEADERS, END_STREAM, Frames, HEADERS, Manner, OK, PING, SETTINGS, Server, listen,
};
use super::{H2, node, post};
use crate::harness::node::TestNode;

/// Frames of a flood.
const FLOOD: usize = 20_000;

/// Answers the first request in this way, and returns the status and the body that the client got.
async fn answered(misbehave: impl AsyncFnOnce(&mut Frames, u32)) -> (StatusCode, Option<String>) {
    let (listener, at) = listen().await;
    let node = TestNode::with(&config(&[at], H2)).await;
    let url = format!("http://{}/", address(&node));
    let sent = tokio::spawn(async move {
        let response = client().get(url).send().await.unwrap();
        (response.status(), response.text().await.ok())
    });
    let mut frames = Frames::accept(&listener).await;
    let stream = frames.request().await.unwrap();
    misbehave(&mut frames, stream).await;
    let answered = sent.await.unwrap();
    drop(frames);
    node.stop().await;
    answered
}

#[tokio::test]
async fn floods_of_control_frames_are_read_or_end_the_connection() {
    for (kind, payload) in [(SETTINGS, &[][..]), (PING, &[0; 8])] {
        let (status, body) = answered(async |frames, stream| {
            for _ in 0..FLOOD {
                if !frames.send(kind, 0, 0, payload).await {
                    break;
                }
                // What the proxy acknowledges is read, or both would wait for each other.
                if frames.next().await.is_none() {
                    break;
                }
            }
            frames.respond(stream, "after").await;
        })
        .await;
        let is_well = status == 200 && body.as_deref() == Some("after");
        assert!(is_well || status == 502, "{kind}: {status} {body:?}");
    }
}

#[tokio::test]
async fn heads_without_an_end_are_refused() {
    // Without END_HEADERS, each CONTINUATION adds to the same head: `x: ` and 100 bytes.
    let mut field = vec![0, 1, b'x', 100];
    field.extend_from_slice(&[b'a'; 100]);
    let (status, _) = answered(async |frames, stream| {
        frames.send(HEADERS, 0, stream, OK).await;
        for _ in 0..FLOOD {
            if !frames.send(CONTINUATION, 0, stream, &field).await {
                break;
            }
        }
    })
    .await;
    assert_eq!(status, 502);
    let one = Server::start(Manner::LongHead(15_000)).await;
    let node = node(&[&one], "").await;
    assert_eq!(post(&node, "x").await.status(), 200);
    one.behave(Manner::LongHead(100_000));
    assert_eq!(post(&node, "x").await.status(), 502);
    node.stop().await;
}

#[tokio::test]
async fn malformed_responses_are_bad_gateways() {
    let literal = |name: &str, value: &str| {
        let mut field = vec![0, name.len() as u8];
        field.extend_from_slice(name.as_bytes());
        field.push(value.len() as u8);
        field.extend_from_slice(value.as_bytes());
        field
    };
    for (name, head) in [
        ("upper case", [OK, &literal("X-Upper", "1")].concat()),
        ("a field of the connection", [OK, &literal("connection", "x")].concat()),
        ("chunks", [OK, &literal("transfer-encoding", "chunked")].concat()),
        ("a line break", [OK, &literal("x", "a\r\nset-cookie: b")].concat()),
        ("a zero", [OK, &literal("x", "a\0b")].concat()),
        ("no status", literal("x", "1")),
        ("two lengths", [OK, &literal("content-length", "1"), &literal("content-length", "2")].concat()),
        ("a change of protocol", literal(":status", "101")),
    ] {
        let (status, _) = answered(async |frames, stream| {
            frames.send(HEADERS, END_HEADERS, stream, &head).await;
            frames.send(DATA, END_STREAM, stream, b"x").await;
        })
        .await;
        assert_eq!(status, 502, "{name}");
    }
}

#[tokio::test]
async fn a_body_of_another_length_is_not_passed_on_as_whole() {
    let head = [OK, &[0x0f, 0x0d, 2, b'1', b'0']].concat();
    let (status, body) = answered(async |frames, stream| {
        frames.send(HEADERS, END_HEADERS, stream, &head).await;
        frames.send(DATA, END_STREAM, stream, b"abc").await;
    })
    .await;
    assert_eq!((status, body), (StatusCode::OK, None));
}
