//! Reloads that change who is asked: they apply to the next request, also of connections that are open.

use std::net::SocketAddr;

use http_body_util::{BodyExt as _, Empty};
use hyper::Request;
use hyper::body::Bytes;
use hyper::client::conn::{http1, http2};
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};

use super::super::reload;
use super::{Backend, Service, address, config, forward, node};

const YES: &str = "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n";
const NO: &str = "HTTP/1.1 403 No\r\nContent-Length: 0\r\n\r\n";

/// A connection of a client, over HTTP/1.1 and over HTTP/2.
enum Open {
    One(http1::SendRequest<Empty<Bytes>>),
    Two(http2::SendRequest<Empty<Bytes>>),
}

impl Open {
    async fn both(to: SocketAddr) -> [Self; 2] {
        let stream = async || TokioIo::new(TcpStream::connect(to).await.unwrap());
        let (one, driver) = http1::handshake(stream().await).await.unwrap();
        tokio::spawn(driver);
        let (two, driver) = http2::handshake(TokioExecutor::new(), stream().await).await.unwrap();
        tokio::spawn(driver);
        [Self::One(one), Self::Two(two)]
    }

    /// The status of the response to another request.
    async fn status(&mut self) -> u16 {
        let request = |target| Request::get(target).header("host", "a").body(Empty::new()).unwrap();
        let response = match self {
            Self::One(sender) => {
                sender.ready().await.unwrap();
                sender.send_request(request("/x")).await
            }
            Self::Two(sender) => sender.send_request(request("http://a/x")).await,
        };
        let response = response.expect("the connection goes on");
        let status = response.status().as_u16();
        response.into_body().collect().await.unwrap();
        status
    }
}

#[tokio::test]
async fn open_connections_ask_whom_the_config_names_now() {
    let one = Backend::start("one").await;
    let (yes, no) = (Service::saying(YES).await, Service::saying(NO).await);
    let asking = |service: &Service| config(one.address, &forward(service, ""));
    let silent = asking(&yes).replacen(&format!("auth = {{ {} }}, ", forward(&yes, "")), "", 1);
    assert_ne!(silent, asking(&yes));
    let node = crate::harness::node::TestNode::with(&silent).await;
    let mut connections = Open::both(address(&node)).await;
    let mut asked = (0, 0);
    for (text, status, more) in [
        (silent.clone(), 200, (0, 0)),
        (asking(&no), 403, (0, 2)),
        (asking(&yes), 200, (2, 0)),
        (silent, 200, (0, 0)),
        (asking(&no), 403, (0, 2)),
    ] {
        node.folder.configure(&text);
        reload(&node).await;
        for connection in &mut connections {
            assert_eq!(connection.status().await, status, "{text}");
        }
        asked = (asked.0 + more.0, asked.1 + more.1);
        assert_eq!((yes.questions().len(), no.questions().len()), asked, "{text}");
    }
    assert_eq!(one.requests(), 6);
    node.stop().await;
}

#[tokio::test]
async fn a_question_that_was_asked_before_a_reload_is_answered_by_whom_it_went_to() {
    let one = Backend::start("one").await;
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let before = format!("forward = \"http://{}/\"", listener.local_addr().unwrap());
    let no = Service::saying(NO).await;
    let node = node(&one, &before).await;
    for mut connection in Open::both(address(&node)).await {
        let asking = tokio::spawn(async move { (connection.status().await, connection) });
        let (mut stream, _) = listener.accept().await.unwrap();
        assert!(stream.read(&mut [0; 4096]).await.unwrap() > 0);
        node.folder.configure(&config(one.address, &forward(&no, "")));
        reload(&node).await;
        stream.write_all(YES.as_bytes()).await.unwrap();
        let (status, mut connection) = asking.await.unwrap();
        assert_eq!((status, connection.status().await), (200, 403));
        node.folder.configure(&config(one.address, &before));
        reload(&node).await;
    }
    node.stop().await;
}
