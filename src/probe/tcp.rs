//! The TCP handshake, which every kind begins with and kind `tcp` consists of.

use std::io::{self, ErrorKind};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};

use nix::errno::Errno;
use tokio::net::TcpStream;

use super::outcome::{LocalFault, Phase, Progress, Trouble, hard, soft};

/// Connects. The connection closes by RST, so that thousands of probes a second leave no sockets in TIME_WAIT
/// on either side.
pub(super) async fn connect(address: SocketAddr, progress: &mut Progress) -> Result<TcpStream, Trouble> {
    let stream = TcpStream::connect(address).await.map_err(|error| trouble(error, || has_route(address)))?;
    progress.completed();
    if let Err(error) = stream.set_zero_linger() {
        // A peer may have reset the connection already. If it matters, the next phase reports it.
        tracing::trace!(%address, %error, "connection will close by FIN");
    }
    Ok(stream)
}

fn trouble(error: io::Error, has_route: impl FnOnce() -> bool) -> Trouble {
    let clause = match error.kind() {
        _ if is_local(&error) => return Trouble::Local(LocalFault(error)),
        ErrorKind::ConnectionRefused => "connection refused".to_owned(),
        // A refused SYN is reported as refused: the handshake completed, then the peer closed the connection.
        ErrorKind::ConnectionReset => return soft(Phase::Connect, "connection reset").into(),
        // From a router on the path this is evidence about the target; from this node's own routing table it is not.
        ErrorKind::NetworkUnreachable if !has_route() => return Trouble::Local(LocalFault(error)),
        ErrorKind::NetworkUnreachable => "connect: network unreachable".to_owned(),
        ErrorKind::HostUnreachable => "connect: host unreachable".to_owned(),
        // The kernel gave up before the probe's timeout.
        ErrorKind::TimedOut => "connection timed out".to_owned(),
        _ => format!("connect: {error}"),
    };
    hard(Phase::Connect, clause).into()
}

/// Whether this node has a route to an address: connecting a UDP socket looks it up and sends nothing.
fn has_route(address: SocketAddr) -> bool {
    let any: IpAddr = match address {
        SocketAddr::V4(_) => Ipv4Addr::UNSPECIFIED.into(),
        SocketAddr::V6(_) => Ipv6Addr::UNSPECIFIED.into(),
    };
    let connected = UdpSocket::bind((any, 0)).and_then(|socket| socket.connect(address));
    !connected.is_err_and(|error| error.kind() == ErrorKind::NetworkUnreachable)
}

/// Whether connecting failed because this node lacks something.
fn is_local(error: &io::Error) -> bool {
    let Some(code) = error.raw_os_error() else { return false };
    matches!(
        Errno::from_raw(code),
        Errno::EMFILE
            | Errno::ENFILE
            | Errno::ENOBUFS
            | Errno::ENOMEM
            | Errno::EADDRNOTAVAIL
            | Errno::EAFNOSUPPORT
            | Errno::EAGAIN
            | Errno::EACCES
            | Errno::EPERM
            | Errno::EINVAL
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::health::Severity;

    #[test]
    fn failures_of_the_target_are_distinguished_from_faults_of_this_node() {
        for (code, expected) in [
            (Errno::ECONNREFUSED, Some((Severity::Hard, "connection refused"))),
            (Errno::ECONNRESET, Some((Severity::Soft, "connection reset"))),
            (Errno::ENETUNREACH, Some((Severity::Hard, "connect: network unreachable"))),
            (Errno::EHOSTUNREACH, Some((Severity::Hard, "connect: host unreachable"))),
            (Errno::ETIMEDOUT, Some((Severity::Hard, "connection timed out"))),
            (Errno::EMFILE, None),
            (Errno::EADDRNOTAVAIL, None),
            (Errno::EPERM, None),
        ] {
            match (trouble(io::Error::from_raw_os_error(code as i32), || true), expected) {
                (Trouble::Target(failure), Some(expected)) => {
                    assert_eq!((failure.severity, failure.reason.as_str()), expected);
                }
                (Trouble::Local(_), None) => {}
                (other, _) => panic!("{code}: {other:?}"),
            }
        }
    }

    #[test]
    fn a_missing_route_is_a_fault_of_this_node() {
        let unreachable = io::Error::from_raw_os_error(Errno::ENETUNREACH as i32);
        assert!(matches!(trouble(unreachable, || false), Trouble::Local(_)));
        assert!(has_route("127.0.0.1:9".parse().unwrap()));
    }
}
