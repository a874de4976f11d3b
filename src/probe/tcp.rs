//! The TCP handshake, which every kind begins with and kind `tcp` consists of.

use std::io::{self, ErrorKind};
use std::net::SocketAddr;

use nix::errno::Errno;
use tokio::net::TcpStream;

use super::outcome::{LocalFault, Progress, Trouble, hard};
use crate::health::Phase;

/// Connects. The connection closes by RST, so that thousands of looks a second leave no sockets in TIME_WAIT
/// on either side.
pub(super) async fn connect(address: SocketAddr, progress: &mut Progress) -> Result<TcpStream, Trouble> {
    let stream = TcpStream::connect(address).await.map_err(trouble)?;
    progress.completed();
    if let Err(error) = stream.set_zero_linger() {
        // A peer may have reset the connection already. The next phase will say so if it matters.
        tracing::trace!(%address, %error, "connection will close by FIN");
    }
    Ok(stream)
}

fn trouble(error: io::Error) -> Trouble {
    let clause = match error.kind() {
        _ if is_local(&error) => return Trouble::Local(LocalFault(error)),
        ErrorKind::ConnectionRefused => "connect refused".to_owned(),
        ErrorKind::ConnectionReset => "connect reset".to_owned(),
        ErrorKind::NetworkUnreachable => "connect: network unreachable".to_owned(),
        ErrorKind::HostUnreachable => "connect: host unreachable".to_owned(),
        // The kernel gave up on its own before the probe's timeout did.
        ErrorKind::TimedOut => "connect timed out".to_owned(),
        _ => format!("connect: {error}"),
    };
    hard(Phase::Connect, clause).into()
}

/// Whether connecting failed for want of something on this node.
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
    fn what_the_target_did_is_told_from_what_this_node_lacks() {
        for (code, expected) in [
            (Errno::ECONNREFUSED, Some("connect refused")),
            (Errno::ECONNRESET, Some("connect reset")),
            (Errno::ENETUNREACH, Some("connect: network unreachable")),
            (Errno::EHOSTUNREACH, Some("connect: host unreachable")),
            (Errno::ETIMEDOUT, Some("connect timed out")),
            (Errno::EMFILE, None),
            (Errno::EADDRNOTAVAIL, None),
            (Errno::EPERM, None),
        ] {
            match (trouble(io::Error::from_raw_os_error(code as i32)), expected) {
                (Trouble::Target(failure), Some(reason)) => {
                    assert_eq!((failure.severity, failure.reason.as_str()), (Severity::Hard, reason));
                }
                (Trouble::Local(_), None) => {}
                (other, _) => panic!("{code}: {other:?}"),
            }
        }
    }
}
