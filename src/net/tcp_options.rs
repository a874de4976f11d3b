//! Options of TCP sockets, and what the kernel knows of them.

use std::io;
use std::os::fd::AsFd;
use std::time::Duration;

use nix::libc;
use nix::sys::socket::{getsockopt, setsockopt, sockopt};
use socket2::{SockRef, Socket, TcpKeepalive};

use crate::model::{Liveness, TcpOptions};

#[derive(Clone, Copy)]
struct FastOpen;
nix::setsockopt_impl!(
    FastOpen,
    libc::IPPROTO_TCP,
    libc::TCP_FASTOPEN,
    libc::c_int,
    sockopt::SetStruct<'_, libc::c_int>
);

#[derive(Clone, Copy)]
struct DeferAccept;
nix::setsockopt_impl!(
    DeferAccept,
    libc::IPPROTO_TCP,
    libc::TCP_DEFER_ACCEPT,
    libc::c_int,
    sockopt::SetStruct<'_, libc::c_int>
);

#[derive(Clone, Copy)]
struct TcpInfo;
nix::getsockopt_impl!(
    TcpInfo,
    libc::IPPROTO_TCP,
    libc::TCP_INFO,
    libc::tcp_info,
    sockopt::GetStruct<libc::tcp_info>
);

/// Probes without a reply after which a silent peer counts as gone.
const PROBES: u32 = 3;

/// The options of a listener that must be set before it listens. Its connections inherit them.
pub(super) fn prepare(socket: &Socket, options: &TcpOptions) -> io::Result<()> {
    if let Some(bytes) = options.mss {
        socket.set_tcp_mss(bytes)?;
    }
    if let Some(time) = options.defer_accept {
        setsockopt(socket, DeferAccept, &(time.as_secs() as libc::c_int))?;
    }
    if let Some(connections) = options.fast_open {
        setsockopt(socket, FastOpen, &(connections as libc::c_int))?;
    }
    keep_alive(socket, options.liveness)
}

/// Notices peers that are gone.
///
/// # Errors
/// Those of the socket.
pub fn keep_alive(socket: &impl AsFd, liveness: Liveness) -> io::Result<()> {
    let fd = socket.as_fd();
    let socket = SockRef::from(&fd);
    if let Some(silence) = liveness.keepalive {
        let interval = (silence / PROBES).max(Duration::from_secs(1));
        let keepalive = TcpKeepalive::new().with_time(silence).with_interval(interval).with_retries(PROBES);
        socket.set_tcp_keepalive(&keepalive)?;
    }
    if let Some(time) = liveness.user_timeout {
        socket.set_tcp_user_timeout(Some(time))?;
    }
    Ok(())
}

/// The connections that wait to be accepted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct AcceptQueue {
    /// How many wait.
    pub waiting: u32,
    /// How many may wait.
    pub limit: u32,
}

/// The queue of a listening socket.
///
/// # Errors
/// Those of the socket.
pub fn accept_queue(listener: &impl AsFd) -> io::Result<AcceptQueue> {
    let info = getsockopt(listener, TcpInfo)?;
    // For a listening socket, the kernel fills these fields with its queue (tcp_get_info in net/ipv4/tcp.c).
    Ok(AcceptQueue { waiting: info.tcpi_unacked, limit: info.tcpi_sacked })
}

/// The round-trip time of a connection as the kernel has measured it: that of the handshake, right after the accept.
///
/// # Errors
/// Those of the socket.
pub fn round_trip(connection: &impl AsFd) -> io::Result<Duration> {
    Ok(Duration::from_micros(getsockopt(connection, TcpInfo)?.tcpi_rtt.into()))
}

#[cfg(test)]
mod tests {
    use std::net::TcpStream;

    use super::*;
    use crate::net::listen::TcpShared;

    nix::getsockopt_impl!(
        FastOpen,
        libc::IPPROTO_TCP,
        libc::TCP_FASTOPEN,
        libc::c_int,
        sockopt::GetStruct<libc::c_int>
    );
    nix::getsockopt_impl!(
        DeferAccept,
        libc::IPPROTO_TCP,
        libc::TCP_DEFER_ACCEPT,
        libc::c_int,
        sockopt::GetStruct<libc::c_int>
    );

    #[test]
    fn connections_inherit_the_options_of_their_listener() {
        let options = TcpOptions {
            backlog: 7,
            fast_open: Some(16),
            defer_accept: Some(Duration::from_secs(1)),
            mss: Some(1200),
            liveness: Liveness {
                keepalive: Some(Duration::from_secs(30)),
                user_timeout: Some(Duration::from_secs(20)),
            },
        };
        let shared = TcpShared::bind("127.0.0.1:0".parse().unwrap(), 1, "listen", &options).unwrap();
        let listener = &shared.listeners[0];
        listener.set_nonblocking(false).unwrap();
        assert_eq!(getsockopt(listener, FastOpen).unwrap(), 16);
        assert_eq!(getsockopt(listener, DeferAccept).unwrap(), 1);
        assert_eq!(accept_queue(listener).unwrap(), AcceptQueue { waiting: 0, limit: 7 });
        let mut client = TcpStream::connect(shared.address).unwrap();
        // It is accepted once it has sent something.
        io::Write::write_all(&mut client, b"x").unwrap();
        let (connection, _) = listener.accept().unwrap();
        let socket = SockRef::from(&connection);
        assert!(socket.keepalive().unwrap());
        assert_eq!(socket.tcp_keepalive_time().unwrap(), Duration::from_secs(30));
        assert_eq!(socket.tcp_keepalive_interval().unwrap(), Duration::from_secs(10));
        assert_eq!(socket.tcp_keepalive_retries().unwrap(), PROBES);
        assert_eq!(socket.tcp_user_timeout().unwrap(), Some(Duration::from_secs(20)));
        assert!(socket.tcp_mss().unwrap() <= 1200);
    }

    #[test]
    fn connections_that_wait_are_counted() {
        let options = TcpOptions { backlog: 16, ..TcpOptions::default() };
        let shared = TcpShared::bind("127.0.0.1:0".parse().unwrap(), 1, "listen", &options).unwrap();
        let listener = &shared.listeners[0];
        let clients: Vec<_> = (0..3).map(|_| TcpStream::connect(shared.address).unwrap()).collect();
        assert_eq!(accept_queue(listener).unwrap(), AcceptQueue { waiting: 3, limit: 16 });
        let (connection, _) = listener.accept().unwrap();
        assert_eq!(accept_queue(listener).unwrap().waiting, 2);
        let measured = round_trip(&connection).unwrap();
        assert!(!measured.is_zero() && measured < Duration::from_secs(1), "{measured:?}");
        drop(clients);
    }
}
