//! Binding the sockets of listeners, by protocol.
//!
//! The UDP sockets of one address share its port by `SO_REUSEPORT`, one for each worker. That would let a second
//! server of the same user join them unnoticed and take half of the queries, so a socket without sharing is
//! tried before those with it.

use std::fmt;
use std::io;
use std::net::{IpAddr, SocketAddr, TcpListener, UdpSocket};

use nix::libc;
use nix::sys::socket::{setsockopt, sockopt};
use socket2::{Domain, Protocol, Socket, Type};

use super::tcp_options;
use super::udp::{RECEIVE_PATIENCE, SEND_PATIENCE};
use crate::model::TcpOptions;

/// Bytes of datagrams that may wait in one UDP socket, about 10 ms of work at full speed. The kernel doubles it
/// for its own bookkeeping and caps it at `net.core.rmem_max`.
const RECEIVE_BUFFER: usize = 2 << 20;

/// Bytes of answers that one UDP socket may have on their way; capped at `net.core.wmem_max`.
const SEND_BUFFER: usize = 1 << 20;

/// A TCP listener.
#[derive(Debug)]
pub struct Tcp {
    /// What it is bound to; the port is the one that the kernel chose if 0 was asked for.
    pub address: SocketAddr,
    /// Non-blocking, in listening state.
    pub listener: TcpListener,
}

/// The TCP listeners of one address, among which the kernel distributes connections.
#[derive(Debug)]
pub struct TcpShared {
    /// What they are bound to; the port is the one that the kernel chose if 0 was asked for.
    pub address: SocketAddr,
    /// Non-blocking, in listening state, one per worker.
    pub listeners: Vec<TcpListener>,
}

/// The UDP sockets of one address.
#[derive(Debug)]
pub struct Udp {
    /// What they are bound to; the port is the one that the kernel chose if 0 was asked for.
    pub address: SocketAddr,
    /// Blocking, one per worker. Bound to a wildcard address, each reports the address that was asked.
    pub sockets: Vec<UdpSocket>,
}

/// Why a listener cannot be bound, and what to change.
#[derive(Debug)]
pub struct BindError {
    /// The address as configured.
    pub address: SocketAddr,
    /// "TCP" or "UDP".
    pub protocol: &'static str,
    /// The setting that contains the address, such as `[dns] listen`.
    pub setting: &'static str,
    /// The kernel's error.
    pub source: io::Error,
}

impl fmt::Display for BindError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { address, protocol, setting, source } = self;
        match source.kind() {
            io::ErrorKind::AddrInUse => write!(
                f,
                "{address} is in use: another server is listening there ({protocol}); stop it or change {setting}"
            ),
            io::ErrorKind::PermissionDenied => {
                let program = std::env::current_exe().unwrap_or_else(|_| "portolan".into());
                write!(
                    f,
                    "no permission to listen on {address}: ports below 1024 are privileged; give the binary \
                     CAP_NET_BIND_SERVICE (setcap cap_net_bind_service=+ep {}) or run it by systemd with \
                     AmbientCapabilities=CAP_NET_BIND_SERVICE",
                    program.display()
                )
            }
            io::ErrorKind::AddrNotAvailable => write!(
                f,
                "{} is not an address of this host: add it to an interface or change {setting}",
                address.ip()
            ),
            _ => write!(f, "cannot listen on {address} ({protocol}): {source}"),
        }
    }
}

impl std::error::Error for BindError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        Some(&self.source)
    }
}

impl Tcp {
    /// Binds a listener to the address in `setting`.
    ///
    /// # Errors
    /// If the address is in use, not an address of this host, or not permitted.
    pub fn bind(address: SocketAddr, setting: &'static str) -> Result<Self, BindError> {
        Self::with(address, setting, &TcpOptions::default())
    }

    fn with(address: SocketAddr, setting: &'static str, options: &TcpOptions) -> Result<Self, BindError> {
        let failed = |source| BindError { address, protocol: "TCP", setting, source };
        let listener = tcp_listener(address, Sharing::Alone, options).map_err(failed)?;
        let address = listener.local_addr().map_err(failed)?;
        Ok(Self { address, listener })
    }
}

impl TcpShared {
    /// Binds `workers` listeners (at least one) to the address in `setting`.
    ///
    /// # Errors
    /// If the address is in use, not an address of this host, or not permitted.
    pub fn bind(
        address: SocketAddr,
        workers: usize,
        setting: &'static str,
        options: &TcpOptions,
    ) -> Result<Self, BindError> {
        let failed = |source| BindError { address, protocol: "TCP", setting, source };
        let Tcp { address, listener: alone } = Tcp::with(address, setting, options)?;
        if workers <= 1 {
            return Ok(Self { address, listeners: vec![alone] });
        }
        drop(alone);
        let listeners: io::Result<_> =
            (0..workers).map(|_| tcp_listener(address, Sharing::Workers, options)).collect();
        Ok(Self { address, listeners: listeners.map_err(failed)? })
    }
}

impl Udp {
    /// Binds `workers` sockets (at least one) to the address in `setting`.
    ///
    /// # Errors
    /// If the address is in use, not an address of this host, or not permitted.
    pub fn bind(address: SocketAddr, workers: usize, setting: &'static str) -> Result<Self, BindError> {
        let failed = |source| BindError { address, protocol: "UDP", setting, source };
        let alone = udp_socket(address, Sharing::Alone).map_err(failed)?;
        let address = alone.local_addr().map_err(failed)?;
        if workers <= 1 {
            return Ok(Self { address, sockets: vec![alone] });
        }
        drop(alone);
        let sockets: io::Result<_> = (0..workers).map(|_| udp_socket(address, Sharing::Workers)).collect();
        Ok(Self { address, sockets: sockets.map_err(failed)? })
    }
}

fn tcp_listener(address: SocketAddr, sharing: Sharing, options: &TcpOptions) -> io::Result<TcpListener> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
    if sharing == Sharing::Workers {
        socket.set_reuse_port(true)?;
    }
    // Lets a restarted server listen while connections of its predecessor are in TIME_WAIT; two servers still cannot
    // listen at once.
    socket.set_reuse_address(true)?;
    bind_socket(&socket, address)?;
    tcp_options::prepare(&socket, options)?;
    socket.listen(options.backlog as i32)?;
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

/// Ignores ICMP messages about the path MTU. A forged message could make answers leave in fragments, the second of
/// which an attacker can replace in a resolver's cache; answers are small enough for any path.
fn ignore_path_mtu(socket: &Socket, address: SocketAddr) -> io::Result<()> {
    if address.is_ipv6() {
        setsockopt(socket, Ipv6MtuDiscover, &libc::IPV6_PMTUDISC_OMIT)?;
    } else {
        setsockopt(socket, IpMtuDiscover, &libc::IP_PMTUDISC_OMIT)?;
    }
    Ok(())
}

/// A smaller buffer than requested is not an error: it only holds less of a burst.
fn enlarge_buffers(socket: &Socket) {
    let asked =
        socket.set_recv_buffer_size(RECEIVE_BUFFER).and_then(|()| socket.set_send_buffer_size(SEND_BUFFER));
    if let Err(error) = asked {
        tracing::debug!(%error, "socket buffers stay at the system's default");
    }
}

fn bind_socket(socket: &Socket, address: SocketAddr) -> io::Result<()> {
    if address.is_ipv6() {
        // `[::]` and `0.0.0.0` are listeners of their own, so that no IPv4 address appears as ::ffff:a.b.c.d.
        socket.set_only_v6(true)?;
    }
    socket.bind(&address.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tcp(address: &str) -> Result<Tcp, BindError> {
        Tcp::bind(address.parse().unwrap(), "[dns] listen")
    }

    fn udp(address: SocketAddr, workers: usize) -> Result<Udp, BindError> {
        Udp::bind(address, workers, "[dns] listen")
    }

    #[test]
    fn port_0_is_one_port_for_all_workers() {
        let Udp { address, sockets } = udp("127.0.0.1:0".parse().unwrap(), 3).unwrap();
        assert_ne!(address.port(), 0);
        assert_eq!(sockets.len(), 3);
        for socket in &sockets {
            assert_eq!(socket.local_addr().unwrap(), address);
        }
        let Tcp { address, listener } = tcp("127.0.0.1:0").unwrap();
        assert_ne!(address.port(), 0);
        assert_eq!(listener.local_addr().unwrap(), address);
    }

    #[test]
    fn a_second_server_is_refused_whatever_the_first_allows() {
        // An address used by this test alone: nothing else takes the port when it is released.
        let first = tcp("127.0.77.1:0").unwrap();
        let text = |protocol, address: SocketAddr| {
            format!(
                "{address} is in use: another server is listening there ({protocol}); stop it or change [dns] listen"
            )
        };
        let error = tcp(&first.address.to_string()).unwrap_err();
        assert_eq!(error.to_string(), text("TCP", first.address));
        // These share their port with each other.
        let first = udp("127.0.77.1:0".parse().unwrap(), 2).unwrap();
        let address = first.address;
        for workers in [1, 2] {
            assert_eq!(udp(address, workers).unwrap_err().to_string(), text("UDP", address));
        }
        drop(first);
        udp(address, 2).unwrap();
    }

    #[test]
    fn a_wildcard_and_one_of_its_addresses_exclude_each_other() {
        let first = udp("0.0.0.0:0".parse().unwrap(), 2).unwrap();
        let one = SocketAddr::new(IpAddr::from([127, 0, 0, 1]), first.address.port());
        assert_eq!(udp(one, 1).unwrap_err().source.kind(), io::ErrorKind::AddrInUse);
        let first = tcp("0.0.0.0:0").unwrap();
        let one = format!("127.0.0.1:{}", first.address.port());
        assert_eq!(tcp(&one).unwrap_err().source.kind(), io::ErrorKind::AddrInUse);
    }

    #[test]
    fn both_families_share_a_port() {
        if UdpSocket::bind("[::1]:0").is_err() {
            return; // a host without IPv6
        }
        // Some other process may hold the IPv4 port of one try, but not of all.
        let shared = (0..16).any(|_| {
            let udp_6 = udp("[::]:0".parse().unwrap(), 1).unwrap();
            let tcp_6 = tcp("[::]:0").unwrap();
            let unspecified = IpAddr::from([0, 0, 0, 0]);
            udp(SocketAddr::new(unspecified, udp_6.address.port()), 1).is_ok()
                && tcp(&format!("0.0.0.0:{}", tcp_6.address.port())).is_ok()
        });
        assert!(shared);
    }

    #[test]
    fn errors_say_what_to_change() {
        let address = "192.0.2.1:0".parse().unwrap();
        let text = |kind: io::ErrorKind| {
            BindError { address, protocol: "UDP", setting: "[dns] listen", source: kind.into() }.to_string()
        };
        let denied = text(io::ErrorKind::PermissionDenied);
        assert!(denied.contains("setcap cap_net_bind_service=+ep /"), "{denied}");
        assert!(denied.contains("AmbientCapabilities=CAP_NET_BIND_SERVICE"), "{denied}");
        for error in [tcp("192.0.2.1:0").unwrap_err(), udp(address, 1).unwrap_err()] {
            assert_eq!(
                error.to_string(),
                "192.0.2.1 is not an address of this host: add it to an interface or change [dns] listen"
            );
        }
    }
}
