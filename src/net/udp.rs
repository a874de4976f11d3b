//! A UDP socket as an [`Exchange`]: one system call receives up to [`BATCH`] datagrams, one sends as many.
//!
//! An answer leaves from the address that its query came to, also where the socket is bound to a wildcard. The
//! kernel takes one source address per call, so a batch goes out in one call per address asked: nearly always one.

use std::io::{self, IoSlice, IoSliceMut};
use std::mem;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV4, SocketAddrV6, UdpSocket};
use std::os::fd::{AsRawFd, RawFd};
use std::time::Duration;

use nix::cmsg_space;
use nix::errno::Errno;
use nix::libc;
use nix::sys::socket::{
    ControlMessage, ControlMessageOwned, MsgFlags, MultiHeaders, RecvMsg, SockaddrIn, SockaddrIn6,
    SockaddrLike, recvmmsg, sendmmsg,
};

use super::exchange::{Datagram, Exchange, Wait};

/// Datagrams in one system call.
pub const BATCH: usize = 64;

/// Bytes read of a datagram; the rest is cut off. This is the most that fits an Ethernet frame, and an
/// odd number of cache lines, so that the heads of a batch do not all compete for the same lines of the cache.
pub const LONGEST: usize = 1472;

/// How long [`Wait::Patiently`] waits: the longest that a worker needs to notice that it should stop.
pub(super) const RECEIVE_PATIENCE: Duration = Duration::from_millis(100);

/// How long a full send buffer may delay a batch before a datagram is dropped.
pub(super) const SEND_PATIENCE: Duration = Duration::from_millis(20);

/// A socket with the memory for one batch in and one batch out. It belongs to the thread that made it.
#[derive(Debug)]
pub struct Socket {
    socket: UdpSocket,
    address: SocketAddr,
    headers: Headers,
    /// Bytes read of a datagram.
    longest: usize,
    /// [`BATCH`] times `longest` bytes.
    space: Box<[u8]>,
    arrived: Vec<Arrived>,
    /// One buffer for each of [`BATCH`] answers.
    departing: Box<[PendingAnswer]>,
    /// How many of them hold answers to send.
    ready: usize,
}

/// What the kernel fills in and reads, by the family of the socket: addresses are copied several times per
/// datagram, and one that holds either family is eight times as long as one of IPv4.
#[derive(Debug)]
enum Headers {
    V4(Both<SockaddrIn>),
    V6(Both<SockaddrIn6>),
}

#[derive(Debug)]
struct Both<S> {
    receiving: MultiHeaders<S>,
    sending: MultiHeaders<S>,
    /// The recipients.
    to: Vec<Option<S>>,
}

/// A received datagram and its position in the space.
#[derive(Clone, Copy, Debug)]
struct Arrived {
    /// Which part of the space holds it.
    slot: usize,
    len: usize,
    peer: SocketAddr,
    /// The address it came to, where the socket is bound to a wildcard.
    asked: Option<IpAddr>,
}

/// An answer to send.
#[derive(Debug)]
struct PendingAnswer {
    bytes: Vec<u8>,
    to: SocketAddr,
    from: Option<IpAddr>,
}

impl Socket {
    /// Takes one of the sockets of a [`Udp`](super::listen::Udp), and its address.
    #[must_use]
    pub fn new(socket: UdpSocket, address: SocketAddr) -> Self {
        Self::with_longest(socket, address, LONGEST)
    }

    /// The same, but `longest` bytes are read of a datagram. Memory is used as far as datagrams fill it.
    #[must_use]
    pub fn with_longest(socket: UdpSocket, address: SocketAddr, longest: usize) -> Self {
        Self {
            socket,
            address,
            headers: Headers::new(address),
            longest,
            space: vec![0; BATCH * longest].into_boxed_slice(),
            arrived: Vec::with_capacity(BATCH),
            departing: (0..BATCH)
                .map(|_| PendingAnswer { bytes: Vec::new(), to: address, from: None })
                .collect(),
            ready: 0,
        }
    }

    /// Takes a datagram to anyone, to be sent by [`flush`](Exchange::flush), from one of this socket's addresses.
    ///
    /// # Panics
    /// If [`BATCH`] datagrams have been taken and not been sent.
    pub fn queue(&mut self, bytes: &[u8], to: SocketAddr, from: SocketAddr) {
        let datagram = &mut self.departing[self.ready];
        datagram.bytes.clear();
        datagram.bytes.extend_from_slice(bytes);
        datagram.to = to;
        datagram.from = self.address.ip().is_unspecified().then_some(from.ip());
        self.ready += 1;
    }
}

/// Whether the service of a port answers whatever it is sent: no client asks from there, so the address is forged, and an
/// answer would be the first of an endless exchange between two servers. Port 0 cannot be answered at all.
#[must_use]
pub fn answers_anything(port: u16) -> bool {
    const ECHO: u16 = 7;
    const DAYTIME: u16 = 13;
    const QUOTE_OF_THE_DAY: u16 = 17;
    const CHARGEN: u16 = 19;
    matches!(port, 0 | ECHO | DAYTIME | QUOTE_OF_THE_DAY | CHARGEN)
}

impl Exchange for Socket {
    fn receive(&mut self, wait: Wait) -> io::Result<usize> {
        self.arrived.clear();
        let flags = match wait {
            // It waits for the first datagram only; the others must have arrived already.
            Wait::Patiently => MsgFlags::MSG_WAITFORONE,
            Wait::Not => MsgFlags::MSG_DONTWAIT,
        };
        // For a socket bound to a wildcard, the kernel reports the address asked and must be given it for the answer.
        let wildcard = self.address.ip().is_unspecified();
        let (fd, arrived) = (self.socket.as_raw_fd(), &mut self.arrived);
        let space = self.space.chunks_exact_mut(self.longest);
        let received = match &mut self.headers {
            Headers::V4(both) => receive(fd, &mut both.receiving, flags, space, |slot, message| {
                let peer = SocketAddrV4::from(message.address?);
                Arrived::new(slot, message, peer.into(), wildcard).map(|new| arrived.push(new))
            }),
            Headers::V6(both) => receive(fd, &mut both.receiving, flags, space, |slot, message| {
                let peer = SocketAddrV6::from(message.address?);
                Arrived::new(slot, message, peer.into(), wildcard).map(|new| arrived.push(new))
            }),
        };
        match received {
            Ok(true) => {}
            // The kernel writes into the headers how much of them it used. They are used again, so after a datagram
            // with less control data the next would have too little space.
            Ok(false) => self.headers = Headers::new(self.address),
            Err(Errno::EAGAIN | Errno::EINTR) => {}
            Err(error) => return Err(error.into()),
        }
        if wildcard {
            // Answers from the same address become neighbours, and leave in one call.
            self.arrived.sort_unstable_by_key(|arrived| (arrived.asked, arrived.slot));
        }
        Ok(self.arrived.len())
    }

    fn query(&self, index: usize) -> Datagram<'_> {
        let Arrived { slot, len, peer, asked } = self.arrived[index];
        let local = asked.map_or(self.address, |ip| SocketAddr::new(ip, self.address.port()));
        Datagram { bytes: &self.space[slot * self.longest..][..len], peer, local }
    }

    fn answer(&mut self, index: usize, bytes: &mut Vec<u8>) {
        let Arrived { peer, asked, .. } = self.arrived[index];
        let answer = &mut self.departing[self.ready];
        mem::swap(&mut answer.bytes, bytes);
        (answer.to, answer.from) = (peer, asked);
        self.ready += 1;
    }

    fn flush(&mut self) -> usize {
        let fd = self.socket.as_raw_fd();
        let mut refused = 0;
        for run in self.departing[..self.ready].chunk_by(|one, next| one.from == next.from) {
            refused += match &mut self.headers {
                Headers::V4(both) => send_v4(fd, both, run),
                Headers::V6(both) => send_v6(fd, both, run),
            };
        }
        self.ready = 0;
        refused
    }
}

impl Headers {
    /// Headers for a batch each way, with space for the one control message that a wildcard needs.
    fn new(address: SocketAddr) -> Self {
        fn both<S: SockaddrLike + Copy>(control: Option<Vec<u8>>) -> Both<S> {
            Both {
                receiving: MultiHeaders::preallocate(BATCH, control.clone()),
                sending: MultiHeaders::preallocate(BATCH, control),
                to: Vec::with_capacity(BATCH),
            }
        }
        let wildcard = address.ip().is_unspecified();
        match address {
            SocketAddr::V4(_) => Self::V4(both(wildcard.then(|| cmsg_space!(libc::in_pktinfo)))),
            SocketAddr::V6(_) => Self::V6(both(wildcard.then(|| cmsg_space!(libc::in6_pktinfo)))),
        }
    }
}

impl Arrived {
    /// `None` if it cannot be answered, because the address asked is needed and missing.
    fn new<S>(slot: usize, message: &RecvMsg<'_, '_, S>, peer: SocketAddr, wildcard: bool) -> Option<Self> {
        let asked = if wildcard { Some(message.cmsgs().ok()?.find_map(asked_address)?) } else { None };
        Some(Self { slot, len: message.bytes, peer, asked })
    }
}

/// Receives a batch into the parts of the space, and passes each datagram on with its slot. Returns whether all of them were
/// taken.
fn receive<'a, S: SockaddrLike + Copy>(
    fd: RawFd,
    headers: &mut MultiHeaders<S>,
    flags: MsgFlags,
    space: impl Iterator<Item = &'a mut [u8]>,
    mut take: impl FnMut(usize, &RecvMsg<'_, '_, S>) -> Option<()>,
) -> nix::Result<bool> {
    let mut slices: [[IoSliceMut<'_>; 1]; BATCH] = std::array::from_fn(|_| [IoSliceMut::new(&mut [])]);
    for (slice, space) in slices.iter_mut().zip(space) {
        *slice = [IoSliceMut::new(space)];
    }
    let mut complete = true;
    for (slot, message) in recvmmsg(fd, headers, slices.iter_mut(), flags, None)?.enumerate() {
        complete &= take(slot, &message).is_some();
    }
    Ok(complete)
}

fn send_v4(fd: RawFd, both: &mut Both<SockaddrIn>, run: &[PendingAnswer]) -> usize {
    let address = |to: SocketAddr| match to {
        SocketAddr::V4(to) => Some(SockaddrIn::from(to)),
        SocketAddr::V6(_) => None,
    };
    match run.first().and_then(|answer| answer.from) {
        Some(IpAddr::V4(ip)) => {
            // With interface 0 the routing table decides, as for any other socket.
            let source = libc::in_pktinfo {
                ipi_ifindex: 0,
                ipi_spec_dst: libc::in_addr { s_addr: u32::from(ip).to_be() },
                ipi_addr: libc::in_addr { s_addr: 0 },
            };
            send(fd, both, run, address, &[ControlMessage::Ipv4PacketInfo(&source)])
        }
        _ => send(fd, both, run, address, &[]),
    }
}

fn send_v6(fd: RawFd, both: &mut Both<SockaddrIn6>, run: &[PendingAnswer]) -> usize {
    let address = |to: SocketAddr| match to {
        SocketAddr::V6(to) => Some(SockaddrIn6::from(to)),
        SocketAddr::V4(_) => None,
    };
    match run.first().and_then(|answer| answer.from) {
        Some(IpAddr::V6(ip)) => {
            let source =
                libc::in6_pktinfo { ipi6_addr: libc::in6_addr { s6_addr: ip.octets() }, ipi6_ifindex: 0 };
            send(fd, both, run, address, &[ControlMessage::Ipv6PacketInfo(&source)])
        }
        _ => send(fd, both, run, address, &[]),
    }
}

/// Sends answers that leave from one address; returns how many were refused.
fn send<S: SockaddrLike + Copy>(
    fd: RawFd,
    both: &mut Both<S>,
    run: &[PendingAnswer],
    address: impl Fn(SocketAddr) -> Option<S>,
    source: &[ControlMessage<'_>],
) -> usize {
    let Both { sending, to, .. } = both;
    to.clear();
    to.extend(run.iter().map(|answer| address(answer.to)));
    let mut slices = [[IoSlice::new(&[])]; BATCH];
    for (slice, answer) in slices.iter_mut().zip(run) {
        *slice = [IoSlice::new(&answer.bytes)];
    }
    let mut refused = 0;
    let mut next = 0;
    while next < run.len() {
        let (slices, to) = (slices[next..run.len()].iter(), &to[next..]);
        match sendmmsg(fd, sending, slices, to, source, MsgFlags::empty()) {
            Ok(sent) => next += sent.count(),
            Err(Errno::EINTR) => {}
            // The first of the rest cannot be sent: no route, a firewall, a full buffer. The others may pass.
            Err(_) => {
                next += 1;
                refused += 1;
            }
        }
    }
    refused
}

fn asked_address(message: ControlMessageOwned) -> Option<IpAddr> {
    match message {
        // The local address: the one asked, except for broadcasts, which cannot be the source of an answer.
        ControlMessageOwned::Ipv4PacketInfo(info) => {
            Some(Ipv4Addr::from(u32::from_be(info.ipi_spec_dst.s_addr)).into())
        }
        ControlMessageOwned::Ipv6PacketInfo(info) => Some(Ipv6Addr::from(info.ipi6_addr.s6_addr).into()),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;
    use crate::net::listen::Udp;

    /// Far more than loopback ever needs; a test that waits this long has failed.
    const PATIENCE: Duration = Duration::from_secs(10);

    fn exchange(address: &str) -> (Socket, u16) {
        let Udp { address, mut sockets } = Udp::bind(address.parse().unwrap(), 1, "listen").unwrap();
        let socket = sockets.remove(0);
        socket.set_read_timeout(Some(PATIENCE)).unwrap();
        (Socket::new(socket, address), address.port())
    }

    fn client(address: &str) -> UdpSocket {
        let socket = UdpSocket::bind((address, 0)).unwrap();
        socket.set_read_timeout(Some(PATIENCE)).unwrap();
        socket
    }

    fn received(client: &UdpSocket) -> (Vec<u8>, SocketAddr) {
        let mut bytes = [0; 2 * LONGEST];
        let (len, from) = client.recv_from(&mut bytes).unwrap();
        (bytes[..len].to_vec(), from)
    }

    /// Sends everything back until `count` datagrams have been.
    fn echo(exchange: &mut Socket, mut count: usize) {
        while count > 0 {
            let batch = exchange.receive(Wait::Patiently).unwrap();
            assert_ne!(batch, 0, "{count} datagrams did not arrive");
            for index in 0..batch {
                let mut bytes = exchange.query(index).bytes.to_vec();
                exchange.answer(index, &mut bytes);
            }
            assert_eq!(exchange.flush(), 0);
            count -= batch;
        }
    }

    #[test]
    fn each_sender_of_a_batch_gets_its_answers() {
        let (mut exchange, port) = exchange("127.0.0.1:0");
        let clients: Vec<_> = (0..3).map(|_| client("127.0.0.1")).collect();
        // Twice more than a batch, so that headers and space are used again.
        for round in 0..2 * BATCH {
            for (number, client) in clients.iter().enumerate() {
                let text = format!("{number}:{}", "x".repeat(round));
                client.send_to(text.as_bytes(), ("127.0.0.1", port)).unwrap();
            }
            echo(&mut exchange, clients.len());
        }
        for (number, client) in clients.iter().enumerate() {
            for round in 0..2 * BATCH {
                let (bytes, from) = received(client);
                assert_eq!(String::from_utf8(bytes).unwrap(), format!("{number}:{}", "x".repeat(round)));
                assert_eq!(from.port(), port);
            }
        }
    }

    #[test]
    fn a_wildcard_answers_from_the_address_asked() {
        let (mut exchange, port) = exchange("0.0.0.0:0");
        let client = client("127.0.0.1");
        let asked: Vec<SocketAddr> =
            (0..100u8).map(|n| SocketAddr::from(([127, 0, 0, 1 + n % 3], port))).collect();
        for (n, address) in asked.iter().enumerate() {
            client.send_to(&[n as u8], address).unwrap();
        }
        let mut count = 0;
        while count < asked.len() {
            let batch = exchange.receive(Wait::Patiently).unwrap();
            assert_ne!(batch, 0, "{count} datagrams came");
            for index in 0..batch {
                let Datagram { bytes, peer, local } = exchange.query(index);
                assert_eq!((peer, local), (client.local_addr().unwrap(), asked[usize::from(bytes[0])]));
                let mut bytes = bytes.to_vec();
                exchange.answer(index, &mut bytes);
            }
            assert_eq!(exchange.flush(), 0);
            count += batch;
        }
        let mut seen = BTreeSet::new();
        for _ in &asked {
            let (bytes, from) = received(&client);
            assert_eq!(from, asked[usize::from(bytes[0])]);
            seen.insert(bytes[0]);
        }
        assert_eq!(seen.len(), asked.len());
    }

    #[test]
    fn a_v6_wildcard_answers_from_the_address_asked() {
        if UdpSocket::bind("[::1]:0").is_err() {
            return; // a host without IPv6
        }
        let (mut exchange, port) = exchange("[::]:0");
        let client = client("::1");
        for n in 0..5 {
            client.send_to(&[n], ("::1", port)).unwrap();
        }
        echo(&mut exchange, 5);
        for n in 0..5 {
            assert_eq!(received(&client), (vec![n], SocketAddr::from((Ipv6Addr::LOCALHOST, port))));
        }
    }

    #[test]
    fn long_datagrams_are_cut_and_empty_ones_arrive() {
        let (mut exchange, port) = exchange("127.0.0.1:0");
        let client = client("127.0.0.1");
        client.send_to(&[7; LONGEST + 1], ("127.0.0.1", port)).unwrap();
        client.send_to(&[], ("127.0.0.1", port)).unwrap();
        echo(&mut exchange, 2);
        assert_eq!(received(&client).0, [7; LONGEST]);
        assert!(received(&client).0.is_empty());
    }

    #[test]
    fn an_answer_that_cannot_be_sent_does_not_stop_others() {
        let (mut exchange, port) = exchange("127.0.0.1:0");
        let client = client("127.0.0.1");
        for n in 0..3 {
            client.send_to(&[n], ("127.0.0.1", port)).unwrap();
        }
        let (mut count, mut refused) = (0, 0);
        while count < 3 {
            count += exchange.receive(Wait::Patiently).unwrap();
            for index in 0..exchange.arrived.len() {
                let first = exchange.query(index).bytes[0];
                // No datagram is that long: EMSGSIZE.
                let len = if first == 1 { 70_000 } else { 1 };
                exchange.answer(index, &mut vec![first; len]);
            }
            refused += exchange.flush();
        }
        assert_eq!(refused, 1);
        assert_eq!(received(&client).0, [0]);
        assert_eq!(received(&client).0, [2]);
    }

    #[test]
    fn nothing_queued_is_an_empty_batch() {
        let (mut exchange, _) = exchange("127.0.0.1:0");
        assert_eq!(exchange.receive(Wait::Not).unwrap(), 0);
        assert_eq!(exchange.flush(), 0);
    }
}
