//! Datagrams in batches: one system call receives up to [`BATCH`] of them, one sends as many.
//!
//! ```text
//! receive ──▶ query(0), query(1), … ──▶ answer(0, …), answer(1, …) ──▶ flush
//! ```
//!
//! An answer leaves from the address that its query came to, also where the socket is bound to a wildcard. The
//! kernel takes one source address per call, so a batch goes out in one call per address asked: nearly always one.

use std::io::{self, IoSlice, IoSliceMut};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV4, SocketAddrV6, UdpSocket};
use std::ops::Range;
use std::os::fd::AsRawFd;
use std::time::Duration;

use nix::cmsg_space;
use nix::errno::Errno;
use nix::libc;
use nix::sys::socket::{
    ControlMessage, ControlMessageOwned, MsgFlags, MultiHeaders, RecvMsg, SockaddrStorage, recvmmsg, sendmmsg,
};

/// Datagrams in one system call.
pub const BATCH: usize = 64;

/// Bytes taken of a datagram; what is longer is left out. This is the most that fits an Ethernet frame, and an
/// odd number of cache lines, so that the heads of a batch do not all compete for the same lines of the cache.
pub const LONGEST: usize = 1472;

/// How long [`Wait::Patiently`] waits: the longest that a worker needs to notice that it should stop.
pub(super) const RECEIVE_PATIENCE: Duration = Duration::from_millis(100);

/// How long a full send buffer may hold a batch up before the datagram is given up.
pub(super) const SEND_PATIENCE: Duration = Duration::from_millis(20);

/// How long to wait for the first datagram of a batch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wait {
    /// A tenth of a second.
    Patiently,
    /// Only what is queued already.
    Not,
}

/// A socket with the memory for one batch in and one batch out. It belongs to the thread that made it.
#[derive(Debug)]
pub struct Exchange {
    socket: UdpSocket,
    address: SocketAddr,
    receiving: MultiHeaders<SockaddrStorage>,
    sending: MultiHeaders<SockaddrStorage>,
    /// [`BATCH`] times [`LONGEST`] bytes.
    space: Box<[u8]>,
    arrived: Vec<Arrived>,
    departing: Departing,
}

/// A datagram received.
#[derive(Clone, Copy, Debug)]
struct Arrived {
    /// Which [`LONGEST`] bytes of the space hold it.
    slot: usize,
    len: usize,
    peer: SocketAddr,
    to: SockaddrStorage,
    asked: Option<IpAddr>,
}

/// Answers to send, as the parallel lists that the system call takes.
#[derive(Debug, Default)]
struct Departing {
    /// All bytes, one answer behind the other.
    bytes: Vec<u8>,
    spans: Vec<Range<usize>>,
    to: Vec<Option<SockaddrStorage>>,
    from: Vec<Option<IpAddr>>,
}

impl Exchange {
    /// Takes a UDP socket of a [`Listener`](super::listen::Listener), and the listener's address.
    #[must_use]
    pub fn new(socket: UdpSocket, address: SocketAddr) -> Self {
        Self {
            socket,
            address,
            receiving: headers(address),
            sending: headers(address),
            space: vec![0; BATCH * LONGEST].into_boxed_slice(),
            arrived: Vec::with_capacity(BATCH),
            departing: Departing::default(),
        }
    }

    /// Receives a batch in place of the last one and returns its size: 0 if the wait was for nothing.
    ///
    /// # Errors
    /// What the kernel says, other than that nothing came or that a signal did.
    pub fn receive(&mut self, wait: Wait) -> io::Result<usize> {
        self.arrived.clear();
        let flags = match wait {
            // The first is waited for, the others must be there.
            Wait::Patiently => MsgFlags::MSG_WAITFORONE,
            Wait::Not => MsgFlags::MSG_DONTWAIT,
        };
        // Bound to a wildcard, the kernel tells the address asked, and wants to be told it.
        let wildcard = self.address.ip().is_unspecified();
        let mut space = self.space.chunks_exact_mut(LONGEST);
        let mut slices: [[IoSliceMut<'_>; 1]; BATCH] =
            std::array::from_fn(|_| [IoSliceMut::new(space.next().unwrap_or_default())]);
        let mut unmarked = false;
        match recvmmsg(self.socket.as_raw_fd(), &mut self.receiving, slices.iter_mut(), flags, None) {
            Ok(messages) => {
                for (slot, message) in messages.enumerate() {
                    match Arrived::new(slot, &message, wildcard) {
                        Some(arrived) => self.arrived.push(arrived),
                        None => unmarked = true,
                    }
                }
            }
            Err(Errno::EAGAIN | Errno::EINTR) => {}
            Err(error) => return Err(error.into()),
        }
        if unmarked {
            // The kernel writes into the headers how much it used of them, and they are used again: one datagram
            // with less to say would leave no room for the next.
            self.receiving = headers(self.address);
        }
        if wildcard {
            // Neighbours that were asked at the same address go out together.
            self.arrived.sort_unstable_by_key(|arrived| (arrived.asked, arrived.slot));
        }
        Ok(self.arrived.len())
    }

    /// A datagram of the batch and who sent it.
    ///
    /// # Panics
    /// If `index` is not below what [`receive`](Self::receive) returned.
    #[must_use]
    pub fn query(&self, index: usize) -> (&[u8], SocketAddr) {
        let Arrived { slot, len, peer, .. } = self.arrived[index];
        (&self.space[slot * LONGEST..][..len], peer)
    }

    /// Lays an answer to a datagram of the batch ready for [`flush`](Self::flush).
    ///
    /// # Panics
    /// If `index` is not below what [`receive`](Self::receive) returned, or on more than [`BATCH`] answers.
    pub fn answer(&mut self, index: usize, bytes: &[u8]) {
        let Arrived { to, asked, .. } = self.arrived[index];
        let departing = &mut self.departing;
        assert!(departing.spans.len() < BATCH, "one answer to each datagram");
        let start = departing.bytes.len();
        departing.bytes.extend_from_slice(bytes);
        departing.spans.push(start..departing.bytes.len());
        departing.to.push(Some(to));
        departing.from.push(asked);
    }

    /// Sends what was laid ready. Returns how many of the answers the kernel would not take; they are gone.
    pub fn flush(&mut self) -> usize {
        let mut refused = 0;
        let mut start = 0;
        while let Some(from) = self.departing.from.get(start).copied() {
            let same = self.departing.from[start..].iter().take_while(|next| **next == from).count();
            let run = start..start + same;
            start = run.end;
            refused += match from {
                None => self.send(run, &[]),
                Some(IpAddr::V4(ip)) => self.send(run, &[ControlMessage::Ipv4PacketInfo(&source_v4(ip))]),
                Some(IpAddr::V6(ip)) => self.send(run, &[ControlMessage::Ipv6PacketInfo(&source_v6(ip))]),
            };
        }
        self.departing.clear();
        refused
    }

    /// Sends answers of one source address; returns how many were refused.
    fn send(&mut self, run: Range<usize>, source: &[ControlMessage<'_>]) -> usize {
        let Departing { bytes, spans, to, .. } = &self.departing;
        let slices: [[IoSlice<'_>; 1]; BATCH] =
            std::array::from_fn(|at| [IoSlice::new(spans.get(at).map_or(&[], |span| &bytes[span.clone()]))]);
        let mut refused = 0;
        let mut next = run.start;
        while next < run.end {
            let rest = next..run.end;
            let (slices, to) = (slices[rest.clone()].iter(), &to[rest]);
            match sendmmsg(self.socket.as_raw_fd(), &mut self.sending, slices, to, source, MsgFlags::empty())
            {
                Ok(sent) => next += sent.count(),
                Err(Errno::EINTR) => {}
                // The first of the rest is at fault: no route, a firewall's no, a full buffer. The others may pass.
                Err(_) => {
                    next += 1;
                    refused += 1;
                }
            }
        }
        refused
    }
}

impl Departing {
    fn clear(&mut self) {
        self.bytes.clear();
        self.spans.clear();
        self.to.clear();
        self.from.clear();
    }
}

impl Arrived {
    /// `None` for what cannot be answered: without a sender, or without the address asked where it is needed.
    fn new(slot: usize, message: &RecvMsg<'_, '_, SockaddrStorage>, wildcard: bool) -> Option<Self> {
        let to = message.address?;
        let peer = to_std(&to)?;
        let asked = if wildcard { Some(message.cmsgs().ok()?.find_map(asked_address)?) } else { None };
        Some(Self { slot, len: message.bytes, peer, to, asked })
    }
}

/// Headers for a batch, with room for the one control message that a wildcard needs.
fn headers(address: SocketAddr) -> MultiHeaders<SockaddrStorage> {
    let control = match address {
        _ if !address.ip().is_unspecified() => None,
        SocketAddr::V4(_) => Some(cmsg_space!(libc::in_pktinfo)),
        SocketAddr::V6(_) => Some(cmsg_space!(libc::in6_pktinfo)),
    };
    MultiHeaders::preallocate(BATCH, control)
}

fn to_std(address: &SockaddrStorage) -> Option<SocketAddr> {
    match (address.as_sockaddr_in(), address.as_sockaddr_in6()) {
        (Some(v4), _) => Some(SocketAddrV4::from(*v4).into()),
        (_, Some(v6)) => Some(SocketAddrV6::from(*v6).into()),
        _ => None,
    }
}

fn asked_address(message: ControlMessageOwned) -> Option<IpAddr> {
    match message {
        // The local address: the destination's, except for a broadcast, which nobody can answer from.
        ControlMessageOwned::Ipv4PacketInfo(info) => {
            Some(Ipv4Addr::from(u32::from_be(info.ipi_spec_dst.s_addr)).into())
        }
        ControlMessageOwned::Ipv6PacketInfo(info) => Some(Ipv6Addr::from(info.ipi6_addr.s6_addr).into()),
        _ => None,
    }
}

/// Interface 0 lets the routing table choose, as it does for any other socket.
fn source_v4(ip: Ipv4Addr) -> libc::in_pktinfo {
    libc::in_pktinfo {
        ipi_ifindex: 0,
        ipi_spec_dst: libc::in_addr { s_addr: u32::from(ip).to_be() },
        ipi_addr: libc::in_addr { s_addr: 0 },
    }
}

fn source_v6(ip: Ipv6Addr) -> libc::in6_pktinfo {
    libc::in6_pktinfo { ipi6_addr: libc::in6_addr { s6_addr: ip.octets() }, ipi6_ifindex: 0 }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;
    use crate::net::listen::Listener;

    /// Far more than loopback ever needs; a test that waits this long has failed.
    const PATIENCE: Duration = Duration::from_secs(10);

    fn exchange(address: &str) -> (Exchange, u16) {
        let Listener { address, mut udp, .. } = Listener::bind(address.parse().unwrap(), 1).unwrap();
        let socket = udp.remove(0);
        socket.set_read_timeout(Some(PATIENCE)).unwrap();
        (Exchange::new(socket, address), address.port())
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
    fn echo(exchange: &mut Exchange, mut count: usize) {
        while count > 0 {
            let batch = exchange.receive(Wait::Patiently).unwrap();
            assert_ne!(batch, 0, "{count} datagrams never came");
            for index in 0..batch {
                let bytes = exchange.query(index).0.to_vec();
                exchange.answer(index, &bytes);
            }
            assert_eq!(exchange.flush(), 0);
            count -= batch;
        }
    }

    #[test]
    fn a_batch_goes_back_to_those_who_sent_it() {
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
        echo(&mut exchange, asked.len());
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
    fn what_is_too_long_is_cut_and_what_is_empty_arrives() {
        let (mut exchange, port) = exchange("127.0.0.1:0");
        let client = client("127.0.0.1");
        client.send_to(&[7; LONGEST + 1], ("127.0.0.1", port)).unwrap();
        client.send_to(&[], ("127.0.0.1", port)).unwrap();
        echo(&mut exchange, 2);
        assert_eq!(received(&client).0, [7; LONGEST]);
        assert_eq!(received(&client).0, []);
    }

    #[test]
    fn one_answer_that_cannot_leave_holds_up_no_other() {
        let (mut exchange, port) = exchange("127.0.0.1:0");
        let client = client("127.0.0.1");
        for n in 0..3 {
            client.send_to(&[n], ("127.0.0.1", port)).unwrap();
        }
        let (mut count, mut refused) = (0, 0);
        while count < 3 {
            count += exchange.receive(Wait::Patiently).unwrap();
            for index in 0..exchange.arrived.len() {
                let first = exchange.query(index).0[0];
                // No datagram is that long: EMSGSIZE.
                let len = if first == 1 { 70_000 } else { 1 };
                exchange.answer(index, &vec![first; len]);
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
