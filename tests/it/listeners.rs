//! The listeners with real answers.

use std::fs;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use hickory_proto::op::{Message, MessageType, OpCode, Query, ResponseCode};
use hickory_proto::rr::{Name, RecordType};
use portolan::dns::{Counters, Server, Shared};
use portolan::geo::Index;
use portolan::model::{KeyPrefix, TcpLimits, Topology};
use portolan::snapshot::{Plan, Snapshot};
use portolan::standing::Standing;
use portolan::supervise::Supervisor;
use portolan::zone::{Zone, Zones};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpStream, UdpSocket};
use tokio::time::timeout;

use crate::harness::Numbers;

/// Far more than loopback ever needs; a test that waits this long has failed.
const PATIENCE: Duration = Duration::from_secs(10);

/// More than any test opens.
const CONNECTIONS: usize = 100;

/// Mutated queries, in addition to the fuzzing corpus.
const MUTATED: usize = 3_000;

/// Addresses of `many.example.`: too many for a datagram without EDNS.
const MANY: usize = 100;

fn snapshot() -> Snapshot {
    let mut text = "$TTL 300\n@ SOA ns h 7 3600 600 86400 60\n@ NS ns\nns A 192.0.2.53\n".to_owned();
    for n in 0..MANY {
        text.push_str(&format!("many A 192.0.2.{n}\n"));
    }
    let mut include = |_: &str| Err("nothing to include".to_owned());
    let origin = "example.".parse().expect("a name");
    let zone = Zone::read(&origin, &text, "zone", &mut include).expect("a zone");
    let zones = Zones::build(vec![zone], &[]).expect("zones");
    let plan = Plan::compile(Topology::default(), zones, Index::default(), true, KeyPrefix::default());
    Snapshot {
        plan: Arc::new(plan),
        standing: Arc::new(Standing::default()),
        challenges: <_>::default(),
        epoch: 1,
    }
}

fn query(id: u16, name: &str) -> Vec<u8> {
    let mut message = Message::new(id, MessageType::Query, OpCode::Query);
    message.add_query(Query::query(Name::from_ascii(name).expect("a name"), RecordType::A));
    message.to_vec().expect("a message")
}

async fn over_tcp(stream: &mut TcpStream) -> Message {
    let length = timeout(PATIENCE, stream.read_u16()).await.expect("in time").expect("a length");
    let mut bytes = vec![0; usize::from(length)];
    timeout(PATIENCE, stream.read_exact(&mut bytes)).await.expect("in time").expect("a message");
    Message::from_vec(&bytes).expect("a message")
}

#[tokio::test]
async fn answers_truncated_over_udp_are_whole_over_tcp_and_pipelined_queries_keep_their_order() {
    let server = Server::bind(&["127.0.0.1:0".parse().expect("an address")], 1).expect("a free port");
    let address = server.local_addrs()[0];
    let counters = Arc::new(Counters::default());
    let snapshots = Arc::new(ArcSwap::from_pointee(snapshot()));
    let shared = Shared { snapshots, counters: Arc::clone(&counters), supervisor: Supervisor::default() };
    let running = server.start(shared, &TcpLimits::default(), CONNECTIONS).expect("workers");

    let client = UdpSocket::bind("127.0.0.1:0").await.expect("a socket");
    client.send_to(&query(1, "many.example."), address).await.expect("sent");
    let mut bytes = [0; 4096];
    let length = timeout(PATIENCE, client.recv(&mut bytes)).await.expect("in time").expect("a datagram");
    let cut = Message::from_vec(&bytes[..length]).expect("a message");
    assert!(cut.metadata.truncation && length <= 512, "{length} bytes");

    let mut stream = TcpStream::connect(address).await.expect("a connection");
    let mut pipelined = Vec::new();
    for (id, name) in [(2, "many.example."), (3, "no.example."), (4, "elsewhere.test.")] {
        let query = query(id, name);
        pipelined.extend_from_slice(&(query.len() as u16).to_be_bytes());
        pipelined.extend_from_slice(&query);
    }
    stream.write_all(&pipelined).await.expect("sent");
    for (id, rcode, answers) in
        [(2, ResponseCode::NoError, MANY), (3, ResponseCode::NXDomain, 0), (4, ResponseCode::Refused, 0)]
    {
        let message = over_tcp(&mut stream).await;
        assert_eq!(
            (message.metadata.id, message.metadata.response_code, message.answers.len()),
            (id, rcode, answers)
        );
        assert!(!message.metadata.truncation);
    }

    running.stop().await;
    assert_eq!(timeout(PATIENCE, stream.read(&mut [0])).await.expect("in time").expect("closed"), 0);
    let totals = counters.totals();
    assert_eq!((totals.udp_queries, totals.tcp_queries, totals.truncated, totals.dropped), (1, 3, 1, 0));
    assert_eq!((totals.responses[0], totals.responses[3], totals.responses[5]), (2, 1, 1));
}

/// The fuzzing corpus, and queries with bytes changed, added and cut off.
fn packets() -> Vec<Vec<u8>> {
    let corpora = ["packets", "edns"].map(|target| {
        Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fuzz/__fuzz__").join(target).join("corpus")
    });
    let files = corpora.iter().flat_map(|corpus| fs::read_dir(corpus).expect("a corpus"));
    let mut packets: Vec<_> =
        files.map(|file| fs::read(file.expect("a file").path()).expect("readable")).collect();
    let mut random = Numbers(4711);
    for _ in 0..MUTATED {
        let mut packet = query(random.next() as u16, "many.example.");
        for _ in 0..=random.next() % 4 {
            let (at, byte) = (random.next() as usize % packet.len(), random.next() as u8);
            match random.next() % 4 {
                0 => packet[at] = byte,
                1 => packet[at] ^= 1 << (byte & 7),
                2 => packet.insert(at, byte),
                _ => packet.truncate(at.max(1)),
            }
        }
        packets.push(packet);
    }
    packets
}

#[tokio::test]
async fn no_packet_keeps_a_server_from_answering_the_next() {
    let server = Server::bind(&["127.0.0.1:0".parse().expect("an address")], 1).expect("a free port");
    let address = server.local_addrs()[0];
    let counters = Arc::new(Counters::default());
    let snapshots = Arc::new(ArcSwap::from_pointee(snapshot()));
    let shared = Shared { snapshots, counters: Arc::clone(&counters), supervisor: Supervisor::default() };
    let running = server.start(shared, &TcpLimits::default(), CONNECTIONS).expect("workers");

    let (noise, client) = (UdpSocket::bind("127.0.0.1:0").await, UdpSocket::bind("127.0.0.1:0").await);
    let (noise, client) = (noise.expect("a socket"), client.expect("a socket"));
    let packets = packets();
    for (index, lot) in packets.chunks(50).enumerate() {
        for packet in lot {
            noise.send_to(packet, address).await.expect("sent");
        }
        // One worker: this is answered after all of them.
        client.send_to(&query(index as u16, "ns.example."), address).await.expect("sent");
        let mut bytes = [0; 512];
        let length = timeout(PATIENCE, client.recv(&mut bytes)).await.expect("in time").expect("a datagram");
        let reply = Message::from_vec(&bytes[..length]).expect("a message");
        assert_eq!((reply.metadata.id, reply.answers.len()), (index as u16, 1));

        // A message without a reply ends its connection, so each is sent on its own.
        for packet in lot {
            let mut stream = TcpStream::connect(address).await.expect("a connection");
            let framed = [&(packet.len() as u16).to_be_bytes()[..], packet].concat();
            stream.write_all(&framed).await.expect("sent");
        }
        let mut stream = TcpStream::connect(address).await.expect("a connection");
        let last = query(index as u16, "ns.example.");
        stream.write_all(&[&(last.len() as u16).to_be_bytes()[..], &last].concat()).await.expect("sent");
        assert_eq!(over_tcp(&mut stream).await.answers.len(), 1);
    }
    let totals = counters.totals();
    assert_eq!(totals.panics, 0);
    assert!(totals.udp_queries as usize >= packets.len(), "{} were read", totals.udp_queries);
    running.stop().await;
}
