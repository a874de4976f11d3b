//! Strangers who attack the name server.

use std::io;
use std::time::Duration;

use hickory_proto::rr::RecordType;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpStream, UdpSocket};
use tokio::time::timeout;

use super::connection::{HOLD, byte_by_byte, half_closed, idle_after};
use super::crowd::{Crowd, Victim};
use crate::harness::Numbers;
use crate::harness::client::{query, typed, with_id};

/// The largest datagram that arrives whole on an ordinary network.
const DATAGRAM: usize = 1457;

/// The largest message over TCP.
const MESSAGE: usize = 65_535;

/// Datagrams of one attack.
const BURST: u16 = 10;

/// Queries in one write of a flood over TCP.
const PIPELINED: usize = 200;

const OFTEN: Duration = Duration::from_millis(50);
const SOMETIMES: Duration = Duration::from_millis(250);
const SELDOM: Duration = Duration::from_secs(1);

pub(super) fn join(crowd: &mut Crowd, victim: &Victim) {
    crowd.add("pointer bombs over UDP", 1, SOMETIMES, victim, bombs_over_udp);
    crowd.add("pointer bombs over TCP", 2, SOMETIMES, victim, bombs_over_tcp);
    crowd.add("random names", 1, OFTEN, victim, random_names);
    crowd.add("amplification: ANY, TXT, MX", 1, OFTEN, victim, amplification);
    crowd.add("mutated queries over UDP", 1, OFTEN, victim, mutated);
    crowd.add("mutated queries over TCP", 1, SOMETIMES, victim, mutated_over_tcp);
    crowd.add("queries from echo and chargen", 1, SOMETIMES, victim, chatty_ports);
    crowd.add("idle DNS connections", 150, SELDOM, victim, |it: Victim| idle_after(it.dns, &[]));
    crowd.add("DNS queries byte by byte", 20, SELDOM, victim, dripped);
    crowd.add("DNS queries without their end", 20, SELDOM, victim, without_end);
    crowd.add("DNS clients that never read", 4, SELDOM, victim, deaf);
    crowd.add("DNS connections closed at once", 1, OFTEN, victim, closed_at_once);
    crowd.add("half-closed DNS connections", 1, SOMETIMES, victim, whole_query);
}

pub(super) fn framed(message: &[u8]) -> Vec<u8> {
    let length = u16::try_from(message.len()).expect("a DNS message");
    [&length.to_be_bytes()[..], message].concat()
}

/// A query with as many additional records as fit. The name of each is a pointer to the pointer before it, up to the last
/// offset that a pointer can express, and the first leads to the longest name there is.
pub(super) fn bomb(length: usize) -> Vec<u8> {
    const HEADER: usize = 12;
    const RECORD: usize = 12;
    const FURTHEST: usize = 0x3fff;
    let question = [b"\x01a".repeat(126), vec![0, 0, 1, 0, 1]].concat();
    let records = (length - HEADER - question.len()) / RECORD;
    let count = u16::try_from(records).expect("a DNS message");
    let mut message = [&[0, 7, 0, 0, 0, 1, 0, 0, 0, 0][..], &count.to_be_bytes(), &question].concat();
    let mut target = HEADER;
    for _ in 0..records {
        let pointer = 0xc000 | u16::try_from(target).expect("at most the furthest");
        if message.len() <= FURTHEST {
            target = message.len();
        }
        message.extend_from_slice(&pointer.to_be_bytes());
        message.extend_from_slice(&[0, 16, 0, 1, 0, 0, 0, 0, 0, 0]);
    }
    message
}

/// The same with so many questions instead of records.
fn question_bomb(length: usize) -> Vec<u8> {
    let mut message = bomb(length);
    let (questions, records) = (message[4..6].to_vec(), message[10..12].to_vec());
    message[4..6].copy_from_slice(&records);
    message[10..12].copy_from_slice(&questions);
    message
}

async fn connected_udp(victim: &Victim) -> io::Result<UdpSocket> {
    let socket = UdpSocket::bind("127.0.0.1:0").await?;
    socket.connect(victim.dns).await?;
    Ok(socket)
}

async fn bombs_over_udp(victim: Victim) -> io::Result<()> {
    let socket = connected_udp(&victim).await?;
    for _ in 0..BURST {
        socket.send(&bomb(DATAGRAM)).await?;
        socket.send(&question_bomb(DATAGRAM)).await?;
    }
    Ok(())
}

async fn bombs_over_tcp(victim: Victim) -> io::Result<()> {
    let bombs = [bomb(MESSAGE), question_bomb(MESSAGE)].map(|bomb| framed(&bomb));
    half_closed(victim.dns, &bombs.concat()).await
}

async fn random_names(victim: Victim) -> io::Result<()> {
    let socket = connected_udp(&victim).await?;
    for id in 0..BURST {
        let name = format!("{:x}.{:x}.example.test.", fastrand::u64(..), fastrand::u64(..));
        socket.send(&with_id(&query(&name, Some("203.0.113.0/24")), id)).await?;
    }
    Ok(())
}

async fn amplification(victim: Victim) -> io::Result<()> {
    let socket = connected_udp(&victim).await?;
    for rtype in [RecordType::ANY, RecordType::TXT, RecordType::MX] {
        socket.send(&with_id(&typed("big.example.test.", rtype, Some("203.0.113.0/24")), 1)).await?;
    }
    Ok(())
}

/// A query with some bytes changed, added or cut off.
fn mutant() -> Vec<u8> {
    let mut random = Numbers(fastrand::u64(..));
    let mut packet = with_id(&query("www.example.test.", Some("10.1.2.0/24")), random.next() as u16);
    for _ in 0..=random.next() % 4 {
        let (at, byte) = (random.next() as usize % packet.len(), random.next() as u8);
        match random.next() % 4 {
            0 => packet[at] = byte,
            1 => packet[at] ^= 1 << (byte & 7),
            2 => packet.insert(at, byte),
            _ => packet.truncate(at.max(1)),
        }
    }
    packet
}

async fn mutated(victim: Victim) -> io::Result<()> {
    let socket = connected_udp(&victim).await?;
    socket.send(&[]).await?;
    for _ in 0..BURST {
        socket.send(&mutant()).await?;
    }
    Ok(())
}

async fn mutated_over_tcp(victim: Victim) -> io::Result<()> {
    half_closed(victim.dns, &framed(&mutant())).await
}

/// Only root may send from these ports; others send nothing here.
async fn chatty_ports(victim: Victim) -> io::Result<()> {
    for address in ["127.0.10.1:7", "127.0.10.1:19"] {
        let Ok(socket) = UdpSocket::bind(address).await else { continue };
        socket.send_to(&with_id(&query("www.example.test.", None), 1), victim.dns).await?;
    }
    Ok(())
}

async fn dripped(victim: Victim) -> io::Result<()> {
    byte_by_byte(victim.dns, &[], &framed(&bomb(DATAGRAM))).await
}

async fn without_end(victim: Victim) -> io::Result<()> {
    let message = framed(&bomb(MESSAGE));
    idle_after(victim.dns, &message[..message.len() - 1]).await
}

/// Pipelines queries until nothing moves any more.
async fn deaf(victim: Victim) -> io::Result<()> {
    let mut stream = TcpStream::connect(victim.dns).await?;
    let queries = framed(&with_id(&typed("big.example.test.", RecordType::TXT, None), 1)).repeat(PIPELINED);
    while let Ok(Ok(())) = timeout(SELDOM, stream.write_all(&queries)).await {}
    timeout(HOLD, stream.read_exact(&mut [0])).await.ok();
    Ok(())
}

async fn closed_at_once(victim: Victim) -> io::Result<()> {
    let stream = TcpStream::connect(victim.dns).await?;
    // Dropped like this it ends by RST.
    stream.set_zero_linger()
}

async fn whole_query(victim: Victim) -> io::Result<()> {
    half_closed(victim.dns, &framed(&with_id(&query("www.example.test.", None), 1))).await
}
