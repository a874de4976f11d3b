//! The API's listeners: a TCP address and a Unix socket.

use std::fs::{self, Permissions};
use std::io;
use std::net::SocketAddr;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use axum::Router;
use tokio::net::{TcpListener, UnixListener};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;
use tracing::warn;

use crate::api::Access;
use crate::config::Control;
use crate::supervise::Supervisor;

/// How long requests in flight may take once the node stops; event streams never end by themselves.
const GRACE: Duration = Duration::from_millis(500);

/// The listeners, bound and later served.
#[derive(Debug)]
pub(super) struct ControlListeners {
    /// The TCP address that was bound.
    pub(super) address: Option<SocketAddr>,
    tcp: Option<std::net::TcpListener>,
    unix: Option<(PathBuf, std::os::unix::net::UnixListener)>,
    /// Removed when the node stops.
    socket: Option<Bound>,
    tasks: JoinSet<io::Result<()>>,
    stop: CancellationToken,
}

impl ControlListeners {
    pub(super) fn bind(control: &Control) -> Result<Self> {
        let tcp = control.listen.map(bind_tcp).transpose()?;
        let address = tcp.as_ref().map(std::net::TcpListener::local_addr).transpose()?;
        let unix = match &control.socket {
            Some(path) if path == Path::new(Control::DEFAULT_SOCKET) => bind_default()?,
            Some(path) => Some((path.clone(), bind_unix(path)?)),
            None => None,
        };
        let socket = unix.as_ref().map(|(path, _)| Bound::at(path)).transpose()?;
        Ok(Self { address, tcp, unix, socket, tasks: JoinSet::new(), stop: CancellationToken::new() })
    }

    /// The path of the Unix socket, if there is one.
    pub(super) fn socket_path(&self) -> Option<&Path> {
        self.socket.as_ref().map(|socket| socket.path.as_path())
    }

    /// Serves the socket with everything allowed, because its file mode guards it, and TCP with `over_tcp`.
    pub(super) fn serve(
        &mut self,
        router: impl Fn(Access) -> Router,
        over_tcp: Access,
        supervisor: &Supervisor,
    ) -> Result<()> {
        if let Some(listener) = self.tcp.take() {
            listener.set_nonblocking(true)?;
            let stopped = self.stop.clone().cancelled_owned();
            let serve = axum::serve(TcpListener::from_std(listener)?, router(over_tcp));
            let part = supervisor.part("the control API's TCP listener");
            self.tasks.spawn(async move {
                let _part = part;
                serve.with_graceful_shutdown(stopped).await
            });
        }
        if let Some((_, listener)) = self.unix.take() {
            listener.set_nonblocking(true)?;
            let stopped = self.stop.clone().cancelled_owned();
            let serve = axum::serve(UnixListener::from_std(listener)?, router(Access::Open("socket")));
            let part = supervisor.part("the control API's socket");
            self.tasks.spawn(async move {
                let _part = part;
                serve.with_graceful_shutdown(stopped).await
            });
        }
        Ok(())
    }

    pub(super) async fn stop(mut self) {
        self.stop.cancel();
        let all = async { while self.tasks.join_next().await.is_some() {} };
        if tokio::time::timeout(GRACE, all).await.is_err() {
            self.tasks.abort_all();
        }
    }
}

/// Removes the socket of a node that fails to start, too.
impl Drop for ControlListeners {
    fn drop(&mut self) {
        if let Some(socket) = &self.socket {
            socket.remove();
        }
    }
}

/// The identity of a socket that this node created: another node may have created one at the same path since.
#[derive(Debug, PartialEq)]
struct Bound {
    path: PathBuf,
    device: u64,
    inode: u64,
}

impl Bound {
    fn at(path: &Path) -> io::Result<Self> {
        let found = fs::symlink_metadata(path)?;
        Ok(Self { path: path.to_owned(), device: found.dev(), inode: found.ino() })
    }

    fn remove(&self) {
        if Self::at(&self.path).is_ok_and(|now| now == *self) {
            // It may be gone already, which is fine.
            fs::remove_file(&self.path).ok();
        }
    }
}

fn bind_tcp(address: SocketAddr) -> Result<std::net::TcpListener> {
    std::net::TcpListener::bind(address).map_err(|e| match e.kind() {
        io::ErrorKind::AddrInUse => anyhow::anyhow!(
            "{address} is in use: another program has the control API's address; stop it or change [control] listen"
        ),
        _ => anyhow::Error::new(e).context(format!("cannot listen at {address}: see [control] listen")),
    })
}

/// The paths to try where the config names no socket: the default path, then one in the session's runtime folder.
pub(crate) fn default_sockets() -> impl Iterator<Item = PathBuf> {
    let in_session = std::env::var_os("XDG_RUNTIME_DIR").map(|dir| PathBuf::from(dir).join("portolan.sock"));
    [Some(Control::DEFAULT_SOCKET.into()), in_session].into_iter().flatten()
}

/// The default socket is a convenience: a node that can create none of them starts without a socket.
fn bind_default() -> Result<Option<(PathBuf, std::os::unix::net::UnixListener)>> {
    let mut last = None;
    for path in default_sockets() {
        match bind_unix(&path) {
            Ok(listener) => return Ok(Some((path, listener))),
            Err(e) => last = Some(e),
        }
    }
    if let Some(e) = last {
        warn!("no control socket: {e:#}; set [control] socket to a path that this user may write");
    }
    Ok(None)
}

fn bind_unix(path: &Path) -> Result<std::os::unix::net::UnixListener> {
    let shown = path.display();
    if let Some(folder) = path.parent() {
        fs::create_dir_all(folder)
            .with_context(|| format!("cannot create the folder of the socket {shown}"))?;
    }
    if path.exists() {
        if UnixStream::connect(path).is_ok() {
            bail!("{shown} is in use: another node listens on it; stop it or change [control] socket");
        }
        // Left behind by a node that was killed.
        fs::remove_file(path).with_context(|| format!("cannot remove the stale socket {shown}"))?;
    }
    let listener =
        std::os::unix::net::UnixListener::bind(path).with_context(|| format!("cannot bind {shown}"))?;
    fs::set_permissions(path, Permissions::from_mode(0o600))
        .with_context(|| format!("cannot set the mode of {shown}"))?;
    Ok(listener)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stopping_node_leaves_the_socket_of_the_next_one() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("control.sock");
        let _first = bind_unix(&path).unwrap();
        let bound = Bound::at(&path).unwrap();
        // The first inode stays taken, as it does while its node runs.
        fs::rename(&path, folder.path().join("old.sock")).unwrap();
        let _second = bind_unix(&path).unwrap();
        bound.remove();
        assert!(path.exists(), "it belongs to the other node");
        Bound::at(&path).unwrap().remove();
        assert!(!path.exists());
    }
}
