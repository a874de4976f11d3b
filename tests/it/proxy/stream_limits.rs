//! The limits of requests over HTTP/2, where each stream is on its own: whoever breaks one loses that stream, and whoever
//! breaks many the connection.

use bytes::Bytes;
use h2::SendStream;
use h2::client::{ResponseFuture, SendRequest};
use http::Request;

use super::backend::{Backend, Manner};
use super::frames::{
    Connection, DATA, GET, HEADERS, RST_STREAM, Reaction, SETTINGS, WHOLE, WINDOW_UPDATE, frame, literal,
};
use super::h2::connect;
use super::request_limits::{count, endless, node};
use super::{address, config};
use crate::harness::node::TestNode;

const REFUSED_STREAM: u32 = 7;
const ENHANCE_YOUR_CALM: u32 = 11;

/// The number of a client's stream.
fn number(index: u32) -> u32 {
    1 + 2 * index
}

/// Begins a POST with a body.
async fn begin(
    client: &SendRequest<Bytes>,
    header: Option<(&str, &str)>,
) -> (ResponseFuture, SendStream<Bytes>) {
    let mut request = Request::post("http://www.test/");
    if let Some((name, value)) = header {
        request = request.header(name, value);
    }
    let mut client = client.clone().ready().await.unwrap();
    client.send_request(request.body(()).unwrap(), false).unwrap()
}

async fn status(response: ResponseFuture) -> u16 {
    response.await.unwrap().status().as_u16()
}

#[tokio::test]
async fn a_body_that_is_too_long_ends_its_stream_alone() {
    let one = Backend::start("one").await;
    one.behave(Manner::Echo);
    let node = node(one.address, "body = \"1KiB\"").await;
    let client = connect(address(&node)).await;
    let (fits, mut sent) = begin(&client, None).await;
    sent.send_data(vec![0; 1024].into(), false).unwrap();
    let (announced, _unsent) = begin(&client, Some(("content-length", "1025"))).await;
    assert_eq!(status(announced).await, 413);
    let (grows, mut more) = begin(&client, None).await;
    more.send_data(vec![0; 1024].into(), false).unwrap();
    more.send_data(vec![0; 1].into(), false).unwrap();
    assert_eq!(status(grows).await, 413);
    sent.send_data(Bytes::new(), true).unwrap();
    assert_eq!(status(fits).await, 200);
    assert_eq!(count(&node, "too_large").await, Some(2.0));
    node.stop().await;
}

#[tokio::test]
async fn who_sends_a_stream_too_slowly_gets_408_but_for_calls_of_grpc() {
    let one = Backend::start("one").await;
    one.behave(Manner::Echo);
    let node = node(one.address, "upload = 1000, grace = \"1s\"").await;
    let client = connect(address(&node)).await;
    let (call, mut message) = begin(&client, Some(("content-type", "application/grpc"))).await;
    message.send_data(Bytes::from_static(b"abc"), false).unwrap();
    let (slow, mut sent) = begin(&client, None).await;
    sent.send_data(Bytes::from_static(b"abc"), false).unwrap();
    assert_eq!(status(slow).await, 408);
    message.send_data(Bytes::from_static(b"def"), true).unwrap();
    assert_eq!(status(call).await, 200);
    assert_eq!(count(&node, "slow_uploads").await, Some(1.0));
    node.stop().await;
}

#[tokio::test]
async fn who_takes_a_stream_too_slowly_loses_it_alone_although_it_never_stops() {
    let at = endless().await;
    let routes = "route = [{ path = \"/ok\", respond = { status = 200, body = \"ok\" } }, { pool = \"api\" }]\n\
                  limits = { download = 1000000000, grace = \"1s\" }\n";
    let node = TestNode::with(&config(&[at], "").replacen("pool = \"api\"\n", routes, 1)).await;
    let mut connection = Connection::open(address(&node)).await;
    connection.send(&frame(WINDOW_UPDATE, 0, 0, &[0x7f, 0, 0, 0])).await;
    connection.send(&frame(HEADERS, WHOLE, 1, GET)).await;
    let reset = loop {
        let next = connection.next().await.expect("the connection goes on");
        match next.kind {
            // As slowly as HTTP/2 allows: a byte for each frame.
            DATA => assert!(connection.send(&frame(WINDOW_UPDATE, 0, 1, &[0, 0, 0, 1])).await),
            RST_STREAM => break next.stream,
            _ => {}
        }
    };
    assert_eq!((reset, count(&node, "slow_downloads").await), (1, Some(1.0)));
    // GET /ok of http://a
    connection.send(&frame(HEADERS, WHOLE, 3, b"\x82\x86\x04\x03/ok\x41\x01a")).await;
    assert_eq!(connection.reaction(3).await, Reaction::Answer(200));
    node.stop().await;
}

#[tokio::test]
async fn the_streams_of_a_connection_are_limited() {
    let one = Backend::start("one").await;
    one.behave(Manner::Hang);
    let node = node(one.address, "streams = 3").await;
    let mut connection = Connection::open(address(&node)).await;
    let settings = connection.next().await.unwrap();
    // SETTINGS_MAX_CONCURRENT_STREAMS (RFC 9113 §6.5.2).
    let most = settings.payload.chunks(6).find(|it| it[..2] == [0, 3]);
    assert_eq!((settings.kind, most), (SETTINGS, Some(&[0, 3, 0, 0, 0, 3][..])));
    let four: Vec<u8> = (0..4).flat_map(|index| frame(HEADERS, WHOLE, number(index), GET)).collect();
    connection.send(&four).await;
    assert_eq!(connection.reaction(number(3)).await, Reaction::Reset(REFUSED_STREAM));
    node.stop().await;
}

/// What a connection of its own answers to a last request, after this many of which each is faulty.
async fn after(node: &TestNode, faults: u32, fault: impl Fn(u32) -> Vec<u8>) -> Reaction {
    let mut connection = Connection::open(address(node)).await;
    // All at once, so that the proxy reads all before it begins any.
    let mut bytes: Vec<u8> = (0..faults).flat_map(|index| fault(number(index))).collect();
    bytes.extend(frame(HEADERS, WHOLE, number(faults), GET));
    connection.send(&bytes).await;
    connection.reaction(number(faults)).await
}

#[tokio::test]
async fn resets_before_the_request_is_begun_are_limited() {
    const MOST: u32 = 50;
    let one = Backend::start("one").await;
    let node = node(one.address, "").await;
    let reset =
        |stream| [frame(HEADERS, WHOLE, stream, GET), frame(RST_STREAM, 0, stream, &[0, 0, 0, 8])].concat();
    assert_eq!(after(&node, MOST, reset).await, Reaction::Answer(200));
    assert_eq!(after(&node, MOST + 1, reset).await, Reaction::Goaway(ENHANCE_YOUR_CALM));
    assert_eq!(one.requests(), 1);
    node.stop().await;
}

#[tokio::test]
async fn streams_that_break_the_rules_are_limited() {
    const MOST: u32 = 128;
    let one = Backend::start("one").await;
    let node = node(one.address, "").await;
    let faulty = |stream| frame(HEADERS, WHOLE, stream, &[GET, &literal("connection", "close")].concat());
    assert_eq!(after(&node, MOST, faulty).await, Reaction::Answer(200));
    assert_eq!(after(&node, MOST + 1, faulty).await, Reaction::Goaway(ENHANCE_YOUR_CALM));
    assert_eq!(one.requests(), 1);
    node.stop().await;
}
