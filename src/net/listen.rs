//! Binding the sockets of a listener.
//!
//! One address of `[dns] listen` is one TCP listener and as many UDP sockets as there are workers. The UDP
//! sockets share the port by `SO_REUSEPORT`, which would let a second server of the same user join them
//! unnoticed and take half of the queries. So the TCP listener, which shares with nobody, is bound first, and a
//! UDP socket that shares with nobody is tried before those that do.

use std::fmt;
use std::io;
use std::net::{IpAddr, SocketAddr, TcpListener, UdpSocket};

use nix::libc;
use nix::sys::socket::{setsockopt, sockopt};
use socket2::{Domain, Protocol, Socket, Type};

use super::udp::{RECEIVE_PATIENCE, SEND_PATIENCE};

/// TCP handshakes completed and not yet accepted, per listener; the kernel caps it at `net.core.somaxconn`.
const BACKLOG: i32 = 1024;

/// Bytes of datagrams that may wait in one UDP socket, about 10 ms of work at full speed. The kernel doubles it
/// for its own books and caps it at `net.core.rmem_max`.
const RECEIVE_BUFFER: usize = 2 << 20;

/// Bytes of answers that one UDP socket may have on their way; capped at `net.core.wmem_max`.
const SEND_BUFFER: usize = 1 << 20;

/// Port 0 asks for any port that is free for TCP and UDP alike. The kernel picks it for TCP; UDP may have it taken.
const TRIES_FOR_ANY_PORT: usize = 16;

/// The sockets of one address.
#[derive(Debug)]
pub struct Listener {
    /// What they are bound to; the port is the one chosen where 0 was asked for.
    pub address: SocketAddr,
    /// Non-blocking, in listening state.
    pub tcp: TcpListener,
    /// Blocking, one per worker. Bound to a wildcard address, each reports the address that was asked.
    pub udp: Vec<UdpSocket>,
}

/// Why an address cannot be listened at, with what to change.
#[derive(Debug)]
pub struct BindError {
    /// The address as configured.
    pub address: SocketAddr,
    /// Which of the two sockets failed: "TCP" or "UDP".
    pub protocol: &'static str,
    /// What the kernel said.
    pub source: io::Error,
}

impl fmt::Display for BindError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { address, protocol, source } = self;
        match source.kind() {
            io::ErrorKind::AddrInUse => write!(
                f,
                "{address} is in use: another server is listening there ({protocol}); stop it or change [dns] listen"
            ),
            io::ErrorKind::PermissionDenied => {
                let program = std::env::current_exe().unwrap_or_else(|_| "portolan".into());
                write!(
                    f,
                    "no permission to listen at {address}: ports below 1024 are privileged; give the binary \
                     CAP_NET_BIND_SERVICE (setcap cap_net_bind_service=+ep {}) or run it by systemd with \
                     AmbientCapabilities=CAP_NET_BIND_SERVICE",
                    program.display()
                )
            }
            io::ErrorKind::AddrNotAvailable => write!(
                f,
                "{} is not an address of this host: add it to an interface or change [dns] listen",
                address.ip()
            ),
            _ => write!(f, "cannot listen at {address} ({protocol}): {source}"),
        }
    }
}

impl std::error::Error for BindError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        Some(&self.source)
    }
}

impl Listener {
    /// Binds TCP and `workers` UDP sockets (at least one) to `address`. Port 0 finds one port for all of them.
    ///
    /// # Errors
    /// If the address is taken, not of this host, or not allowed.
    pub fn bind(address: SocketAddr, workers: usize) -> Result<Self, BindError> {
        let mut tries = if address.port() == 0 { TRIES_FOR_ANY_PORT } else { 1 };
        loop {
            tries -= 1;
            match Self::bind_once(address, workers) {
                Err(error) if tries > 0 && error.source.kind() == io::ErrorKind::AddrInUse => {}
                result => return result,
            }
        }
    }

    fn bind_once(address: SocketAddr, workers: usize) -> Result<Self, BindError> {
        let failed = |protocol| move |source| BindError { address, protocol, source };
        let tcp = tcp_listener(address).map_err(failed("TCP"))?;
        let bound = tcp.local_addr().map_err(failed("TCP"))?;
        udp_socket(bound, Sharing::Alone).map_err(failed("UDP"))?;
        let sharing = if workers > 1 { Sharing::Workers } else { Sharing::Alone };
        let udp = (0..workers.max(1))
            .map(|_| udp_socket(bound, sharing))
            .collect::<io::Result<Vec<_>>>()
            .map_err(failed("UDP"))?;
        Ok(Self { address: bound, tcp, udp })
    }
}

fn tcp_listener(address: SocketAddr) -> io::Result<TcpListener> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
    // Lets a restarted server listen while connections of its predecessor are still in TIME_WAIT. It does not
    // let two servers listen at once.
    socket.set_reuse_address(true)?;
    bind_socket(&socket, address)?;
    socket.listen(BACKLOG)?;
    socket.set_nonblocking(true)?;
    Ok(socket.into())
}

/// Whether other sockets of the same user may be bound to the same address.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Sharing {
    Alone,
    Workers,
}

fn udp_socket(address: SocketAddr, sharing: Sharing) -> io::Result<UdpSocket> {
    let socket = Socket::new(Domain::for_address(address), Type::DGRAM, Some(Protocol::UDP))?;
    if sharing == Sharing::Workers {
        socket.set_reuse_port(true)?;
    }
    // Before the bind, so that no datagram can come in without it.
    match address.ip() {
        IpAddr::V4(ip) if ip.is_unspecified() => setsockopt(&socket, sockopt::Ipv4PacketInfo, &true)?,
        IpAddr::V6(ip) if ip.is_unspecified() => setsockopt(&socket, sockopt::Ipv6RecvPacketInfo, &true)?,
        _ => {}
    }
    ignore_path_mtu(&socket, address)?;
    socket.set_read_timeout(Some(RECEIVE_PATIENCE))?;
    socket.set_write_timeout(Some(SEND_PATIENCE))?;
    enlarge_buffers(&socket);
    bind_socket(&socket, address)?;
    Ok(socket.into())
}

#[derive(Clone, Copy)]
struct IpMtuDiscover;
nix::setsockopt_impl!(
    IpMtuDiscover,
    libc::IPPROTO_IP,
    libc::IP_MTU_DISCOVER,
    libc::c_int,
    sockopt::SetStruct<'_, libc::c_int>
);

#[derive(Clone, Copy)]
struct Ipv6MtuDiscover;
nix::setsockopt_impl!(
    Ipv6MtuDiscover,
    libc::IPPROTO_IPV6,
    libc::IPV6_MTU_DISCOVER,
    libc::c_int,
    sockopt::SetStruct<'_, libc::c_int>
);

/// A forged ICMP message could make answers go out in fragments, and a resolver's cache be poisoned by the second
/// one. Answers are small enough for any path, so what ICMP says of it is not believed.
fn ignore_path_mtu(socket: &Socket, address: SocketAddr) -> io::Result<()> {
    if address.is_ipv6() {
        setsockopt(socket, Ipv6MtuDiscover, &libc::IPV6_PMTUDISC_OMIT)?;
    } else {
        setsockopt(socket, IpMtuDiscover, &libc::IP_PMTUDISC_OMIT)?;
    }
    Ok(())
}

/// A smaller buffer than asked for serves as well, only with less patience in a burst: no error.
fn enlarge_buffers(socket: &Socket) {
    let asked =
        socket.set_recv_buffer_size(RECEIVE_BUFFER).and_then(|()| socket.set_send_buffer_size(SEND_BUFFER));
    if let Err(error) = asked {
        tracing::debug!(%error, "socket buffers stay at the system's default");
    }
}

fn bind_socket(socket: &Socket, address: SocketAddr) -> io::Result<()> {
    if address.is_ipv6() {
        // `[::]` and `0.0.0.0` are listened at apart, so that no IPv4 address appears as ::ffff:a.b.c.d.
        socket.set_only_v6(true)?;
    }
    socket.bind(&address.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    const ANY_PORT: &str = "127.0.0.1:0";

    fn bind(address: &str, workers: usize) -> Listener {
        Listener::bind(address.parse().unwrap(), workers).unwrap()
    }

    #[test]
    fn all_sockets_of_an_address_have_one_port() {
        let listener = bind(ANY_PORT, 3);
        assert_ne!(listener.address.port(), 0);
        assert_eq!(listener.tcp.local_addr().unwrap(), listener.address);
        assert_eq!(listener.udp.len(), 3);
        for socket in &listener.udp {
            assert_eq!(socket.local_addr().unwrap(), listener.address);
        }
    }

    #[test]
    fn a_second_server_is_refused_whatever_the_first_allows() {
        // An address of its own: nobody else takes the port when it is given back.
        let first = bind("127.0.77.1:0", 2);
        let error = Listener::bind(first.address, 2).unwrap_err();
        assert_eq!(error.protocol, "TCP");
        assert_eq!(
            error.to_string(),
            format!(
                "{} is in use: another server is listening there (TCP); stop it or change [dns] listen",
                first.address
            )
        );
        // Its UDP sockets would let others in: those of a server that has no TCP are noticed too.
        let Listener { address, tcp, udp } = first;
        drop(tcp);
        assert_eq!(Listener::bind(address, 2).unwrap_err().protocol, "UDP");
        drop(udp);
        Listener::bind(address, 2).unwrap();
    }

    #[test]
    fn a_wildcard_and_one_of_its_addresses_exclude_each_other() {
        let first = bind("0.0.0.0:0", 2);
        let one = SocketAddr::new(IpAddr::from([127, 0, 0, 1]), first.address.port());
        assert_eq!(Listener::bind(one, 1).unwrap_err().source.kind(), io::ErrorKind::AddrInUse);
    }

    #[test]
    fn both_families_share_a_port() {
        if UdpSocket::bind("[::1]:0").is_err() {
            return; // a host without IPv6
        }
        // Some other process may hold the IPv4 port of one try, but not of all.
        let shared = (0..TRIES_FOR_ANY_PORT).any(|_| {
            let six = bind("[::]:0", 1);
            Listener::bind(SocketAddr::new(IpAddr::from([0, 0, 0, 0]), six.address.port()), 1).is_ok()
        });
        assert!(shared);
    }

    #[test]
    fn errors_say_what_to_change() {
        let text = |kind: io::ErrorKind| {
            BindError { address: "192.0.2.1:53".parse().unwrap(), protocol: "UDP", source: kind.into() }
                .to_string()
        };
        let denied = text(io::ErrorKind::PermissionDenied);
        assert!(denied.contains("setcap cap_net_bind_service=+ep /"), "{denied}");
        assert!(denied.contains("AmbientCapabilities=CAP_NET_BIND_SERVICE"), "{denied}");
        let elsewhere = Listener::bind("192.0.2.1:0".parse().unwrap(), 1).unwrap_err().to_string();
        assert_eq!(
            elsewhere,
            "192.0.2.1 is not an address of this host: add it to an interface or change [dns] listen"
        );
    }
}
