//! A resolver: queries over real sockets, each sent once.

use std::collections::HashMap;
use std::net::{IpAddr, SocketAddr};

use hickory_proto::op::{Edns, Message, MessageType, OpCode, Query, ResponseCode};
use hickory_proto::rr::rdata::opt::{ClientSubnet, EdnsCode, EdnsOption};
use hickory_proto::rr::{Name, RecordType};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpStream, UdpSocket};
use tokio::time::timeout;

use super::PATIENCE;

/// Queries in flight at once; few enough for any socket buffer.
const WINDOW: usize = 32;

/// A query for an A record, with a client subnet if a client is given.
pub(crate) fn query(name: &str, client: Option<&str>) -> Message {
    typed(name, RecordType::A, client)
}

/// The same for any type. The client is `address/bits`.
pub(crate) fn typed(name: &str, rtype: RecordType, client: Option<&str>) -> Message {
    let mut message = Message::new(0, MessageType::Query, OpCode::Query);
    message.add_query(Query::query(Name::from_ascii(name).expect("a name"), rtype));
    if let Some(client) = client {
        let (address, bits) = client.split_once('/').expect("address/bits");
        let address: IpAddr = address.parse().expect("an address");
        let subnet = ClientSubnet::new(address, bits.parse().expect("bits"), 0);
        let mut edns = Edns::new();
        edns.set_max_payload(1232);
        edns.options_mut().insert(EdnsOption::Subnet(subnet));
        message.set_edns(edns);
    }
    message
}

/// The code of a reply and the addresses in its answer section.
pub(crate) fn outcome(reply: &Message) -> (ResponseCode, Vec<IpAddr>) {
    let addresses = reply.answers.iter().filter_map(|record| record.data.ip_addr());
    (reply.metadata.response_code, addresses.collect())
}

/// The scope of a reply's client subnet; `None` without one.
pub(crate) fn scope(reply: &Message) -> Option<u8> {
    match reply.edns.as_ref()?.option(EdnsCode::Subnet)? {
        EdnsOption::Subnet(subnet) => Some(subnet.scope_prefix()),
        _ => None,
    }
}

/// A client of one server.
pub(crate) struct Client {
    socket: UdpSocket,
    server: SocketAddr,
    last_id: u16,
}

impl Client {
    pub(crate) async fn of(server: SocketAddr) -> Self {
        let socket = UdpSocket::bind("127.0.0.1:0").await.expect("a free port");
        socket.connect(server).await.expect("loopback");
        Self { socket, server, last_id: 0 }
    }

    /// The only address in the answer.
    pub(crate) async fn address(&mut self, name: &str, client: &str) -> IpAddr {
        let reply = self.exchange(&query(name, Some(client))).await;
        match outcome(&reply) {
            (ResponseCode::NoError, addresses) if addresses.len() == 1 => addresses[0],
            other => panic!("{name} for {client}: {other:?}"),
        }
    }

    /// One query, sent once.
    pub(crate) async fn exchange(&mut self, message: &Message) -> Message {
        self.exchange_all(std::slice::from_ref(message)).await.remove(0)
    }

    /// Many queries, each sent once, several in flight at a time; replies in the order of the queries.
    pub(crate) async fn exchange_all(&mut self, messages: &[Message]) -> Vec<Message> {
        let mut replies = Vec::with_capacity(messages.len());
        for window in messages.chunks(WINDOW) {
            let mut waiting = HashMap::new();
            for (index, message) in window.iter().enumerate() {
                self.last_id = self.last_id.wrapping_add(1);
                self.send(&with_id(message, self.last_id)).await;
                waiting.insert(self.last_id, index);
            }
            let mut found: Vec<Option<Message>> = vec![None; window.len()];
            while !waiting.is_empty() {
                let reply = Message::from_vec(&self.receive().await).expect("a message");
                let index = waiting.remove(&reply.metadata.id).expect("an answer to something asked");
                assert_eq!(reply.queries, window[index].queries, "the question is repeated");
                found[index] = Some(reply);
            }
            replies.extend(found.into_iter().flatten());
        }
        replies
    }

    /// Sends without waiting for anything.
    pub(crate) async fn send(&self, bytes: &[u8]) {
        self.socket.send(bytes).await.expect("a datagram sent");
    }

    /// The next datagram.
    pub(crate) async fn receive(&self) -> Vec<u8> {
        let mut bytes = vec![0; 4096];
        let received = timeout(PATIENCE, self.socket.recv(&mut bytes)).await;
        let length = received.expect("an answer in time").expect("a datagram");
        bytes.truncate(length);
        bytes
    }

    /// One query over its own TCP connection.
    pub(crate) async fn over_tcp(&self, message: &Message) -> Message {
        let bytes = self.raw_over_tcp(&with_id(message, 4711)).await;
        Message::from_vec(&bytes).expect("a message")
    }

    /// One query over a TCP connection of its own that begins with a PROXY header; `None` if the server closes it.
    pub(crate) async fn through_proxy(&self, header: &str, message: &Message) -> Option<Message> {
        let bytes = with_id(message, 4711);
        let framed = [header.as_bytes(), &(bytes.len() as u16).to_be_bytes(), &bytes].concat();
        let exchange = async {
            let mut stream = TcpStream::connect(self.server).await.expect("a connection");
            stream.write_all(&framed).await.ok()?;
            let mut reply = vec![0; usize::from(stream.read_u16().await.ok()?)];
            stream.read_exact(&mut reply).await.expect("a message");
            Message::from_vec(&reply).ok()
        };
        timeout(PATIENCE, exchange).await.expect("an end in time")
    }

    /// One message, which may be malformed, over its own TCP connection.
    pub(crate) async fn raw_over_tcp(&self, bytes: &[u8]) -> Vec<u8> {
        let exchange = async {
            let mut stream = TcpStream::connect(self.server).await.expect("a connection");
            stream.write_u16(bytes.len() as u16).await.expect("sent");
            stream.write_all(bytes).await.expect("sent");
            let mut reply = vec![0; usize::from(stream.read_u16().await.expect("a length"))];
            stream.read_exact(&mut reply).await.expect("a message");
            reply
        };
        timeout(PATIENCE, exchange).await.expect("an answer in time")
    }
}

pub(crate) fn with_id(message: &Message, id: u16) -> Vec<u8> {
    let mut message = message.clone();
    message.metadata.id = id;
    message.to_vec().expect("an encodable query")
}
