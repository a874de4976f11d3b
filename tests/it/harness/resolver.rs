//! A resolver with one answer for every name, which tests can change.

use std::net::{IpAddr, SocketAddr};

use hickory_proto::op::{Message, MessageType, OpCode, ResponseCode};
use hickory_proto::rr::rdata::SRV;
use hickory_proto::rr::{Name, RData, Record, RecordType};
use tokio::net::UdpSocket;
use tokio::sync::watch;
use tokio::task::JoinSet;

/// The response to every query.
#[derive(Clone, Debug)]
pub(crate) enum Response {
    /// These addresses, with a TTL of 1 s.
    Addresses(Vec<IpAddr>),
    /// These SRV records (priority, weight, port, target), and this address for every target.
    Services(Vec<(u16, u16, u16, &'static str)>, IpAddr),
    /// NXDOMAIN.
    NoSuchName,
    /// SERVFAIL.
    Failure,
}

/// Runs on a loopback address until it is dropped.
pub(crate) struct Resolver {
    pub(crate) address: SocketAddr,
    response: watch::Sender<Response>,
    _task: JoinSet<()>,
}

impl Resolver {
    pub(crate) async fn start(response: Response) -> Self {
        let socket = UdpSocket::bind("127.0.0.1:0").await.expect("a free port");
        let address = socket.local_addr().expect("an address");
        let (response, now) = watch::channel(response);
        let mut task = JoinSet::new();
        task.spawn(async move {
            let mut bytes = vec![0; 4096];
            // A client that is gone before the answer arrives causes an error here.
            loop {
                let Ok((length, asker)) = socket.recv_from(&mut bytes).await else { continue };
                let query = Message::from_vec(&bytes[..length]).expect("a query");
                let response = now.borrow().clone();
                socket.send_to(&reply(&query, &response), asker).await.ok();
            }
        });
        Self { address, response, _task: task }
    }

    pub(crate) async fn with(addresses: &[&str]) -> Self {
        Self::start(all(addresses)).await
    }

    pub(crate) fn respond_with(&self, response: Response) {
        self.response.send_replace(response);
    }

    pub(crate) fn respond_with_addresses(&self, addresses: &[&str]) {
        self.respond_with(all(addresses));
    }
}

fn all(addresses: &[&str]) -> Response {
    Response::Addresses(addresses.iter().map(|text| text.parse().expect("an address")).collect())
}

fn reply(query: &Message, response: &Response) -> Vec<u8> {
    let question = query.queries.first().expect("a question").clone();
    let mut reply = Message::new(query.metadata.id, MessageType::Response, OpCode::Query);
    reply.metadata.recursion_available = true;
    match response {
        Response::Failure => reply.metadata.response_code = ResponseCode::ServFail,
        Response::NoSuchName => reply.metadata.response_code = ResponseCode::NXDomain,
        Response::Services(records, address) => {
            let name = || question.name().clone();
            match (question.query_type(), address) {
                (RecordType::SRV, _) => {
                    for (priority, weight, port, target) in records {
                        let target = Name::from_ascii(target).expect("a name");
                        let srv = SRV::new(*priority, *weight, *port, target);
                        reply.add_answer(Record::from_rdata(name(), 1, RData::SRV(srv)));
                    }
                }
                (RecordType::A, IpAddr::V4(v4)) => {
                    reply.add_answer(Record::from_rdata(name(), 1, RData::A((*v4).into())));
                }
                _ => {}
            }
        }
        Response::Addresses(addresses) => {
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
