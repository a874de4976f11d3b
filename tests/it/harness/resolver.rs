//! A resolver that knows one answer for every name, and gives another at a word.

use std::net::{IpAddr, SocketAddr};

use hickory_proto::op::{Message, MessageType, OpCode, ResponseCode};
use hickory_proto::rr::{RData, Record, RecordType};
use tokio::net::UdpSocket;
use tokio::sync::watch;
use tokio::task::JoinSet;

/// What it says.
#[derive(Clone, Debug)]
pub(crate) enum Says {
    /// These addresses, with a TTL of 1 s.
    Addresses(Vec<IpAddr>),
    /// That there is no such name.
    NoSuchName,
    /// That it cannot tell.
    Failure,
}

/// At work on a loopback address until it is dropped.
pub(crate) struct Resolver {
    pub(crate) address: SocketAddr,
    says: watch::Sender<Says>,
    _task: JoinSet<()>,
}

impl Resolver {
    pub(crate) async fn start(says: Says) -> Self {
        let socket = UdpSocket::bind("127.0.0.1:0").await.expect("a free port");
        let address = socket.local_addr().expect("an address");
        let (says, now) = watch::channel(says);
        let mut task = JoinSet::new();
        task.spawn(async move {
            let mut bytes = vec![0; 4096];
            // Whoever is gone before the answer comes makes the socket complain.
            loop {
                let Ok((length, asker)) = socket.recv_from(&mut bytes).await else { continue };
                let query = Message::from_vec(&bytes[..length]).expect("a query");
                let says = now.borrow().clone();
                socket.send_to(&reply(&query, &says), asker).await.ok();
            }
        });
        Self { address, says, _task: task }
    }

    pub(crate) async fn with(addresses: &[&str]) -> Self {
        Self::start(all(addresses)).await
    }

    pub(crate) fn say(&self, says: Says) {
        self.says.send_replace(says);
    }

    pub(crate) fn say_addresses(&self, addresses: &[&str]) {
        self.say(all(addresses));
    }
}

fn all(addresses: &[&str]) -> Says {
    Says::Addresses(addresses.iter().map(|text| text.parse().expect("an address")).collect())
}

fn reply(query: &Message, says: &Says) -> Vec<u8> {
    let question = query.queries.first().expect("a question").clone();
    let mut reply = Message::new(query.metadata.id, MessageType::Response, OpCode::Query);
    reply.metadata.recursion_available = true;
    match says {
        Says::Failure => reply.metadata.response_code = ResponseCode::ServFail,
        Says::NoSuchName => reply.metadata.response_code = ResponseCode::NXDomain,
        Says::Addresses(addresses) => {
            for address in addresses {
                let data = match (address, question.query_type()) {
                    (IpAddr::V4(v4), RecordType::A) => RData::A((*v4).into()),
                    (IpAddr::V6(v6), RecordType::AAAA) => RData::AAAA((*v6).into()),
                    _ => continue,
                };
                reply.add_answer(Record::from_rdata(question.name().clone(), 1, data));
            }
        }
    }
    reply.add_query(question);
    reply.to_vec().expect("a message")
}
