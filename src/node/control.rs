//! The API's listeners: a TCP address, a Unix socket, and a TCP address for metrics alone.

use std::fs::{self, Permissions};
use std::io;
use std::net::SocketAddr;
use std::os::unix::fs::{FileTypeExt as _, MetadataExt as _, PermissionsExt as _};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use axum::Router;
use socket2::{Domain, SockAddr, Socket, Type};
use tokio::net::{TcpListener, UnixListener};
use tokio::sync::watch;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tracing::warn;

use crate::api::{Access, Connections, Policy, Server};
use crate::config::Control;
use crate::net::limits::Files;
use crate::supervise::Supervisor;

/// How long a stop waits for requests in flight, which the server itself ends sooner unless they block its threads.
const STOP_WITHIN: Duration = Duration::from_secs(1);

/// Connections to the socket that the kernel queues until they are accepted, as in the standard library.
const BACKLOG: i32 = 128;

/// The listeners, bound and later served.
#[derive(Debug)]
pub(super) struct ControlListeners {
    /// The TCP address that was bound.
    pub(super) address: Option<SocketAddr>,
    /// The TCP address for metrics that was bound.
    pub(super) metrics_address: Option<SocketAddr>,
    tcp: Option<std::net::TcpListener>,
    metrics: Option<std::net::TcpListener>,
    unix: Option<(PathBuf, std::os::unix::net::UnixListener)>,
    /// Removed when the node stops.
    socket: Option<Bound>,
    tasks: TaskTracker,
    stop: CancellationToken,
}

impl ControlListeners {
    pub(super) fn bind(control: &Control) -> Result<Self> {
        let bind = |address: Option<SocketAddr>, setting| {
            let listener = address.map(|address| bind_tcp(address, setting)).transpose()?;
            let address = listener.as_ref().map(std::net::TcpListener::local_addr).transpose()?;
            anyhow::Ok((listener, address))
        };
        let (tcp, address) = bind(control.listen, "listen")?;
        let (metrics, metrics_address) = bind(control.metrics, "metrics")?;
        let unix = match &control.socket {
            Some(path) if path == Path::new(Control::DEFAULT_SOCKET) => bind_default()?,
            Some(path) => Some((path.clone(), bind_unix(path)?)),
            None => None,
        };
        let socket = unix.as_ref().map(|(path, _)| Bound::at(path)).transpose()?;
        let (tasks, stop) = (TaskTracker::new(), CancellationToken::new());
        Ok(Self { address, metrics_address, tcp, metrics, unix, socket, tasks, stop })
    }

    /// The path of the Unix socket, if there is one.
    pub(super) fn socket_path(&self) -> Option<&Path> {
        self.socket.as_ref().map(|socket| socket.path.as_path())
    }

    /// Serves the socket with everything allowed, because its file mode guards it, and TCP as the policy says. Together
    /// they have at most the connections that the API's share of `files` allows.
    pub(super) fn serve(
        &mut self,
        router: impl Fn(Access) -> Router,
        policy: watch::Receiver<Policy>,
        files: &Files,
        supervisor: &Supervisor,
    ) -> Result<()> {
        let listeners = [self.tcp.is_some(), self.metrics.is_some(), self.unix.is_some()];
        let budget = files.budget.api / listeners.into_iter().filter(|is_there| *is_there).count().max(1);
        if let Some(listener) = self.metrics.take() {
            listener.set_nonblocking(true)?;
            let server = self.server(router(Access::Metrics(policy.clone())), budget, files, None);
            let listener = TcpListener::from_std(listener)?;
            let part = supervisor.part("the metrics listener");
            self.tasks.spawn(async move {
                let _part = part;
                server.serve_tcp(listener).await;
            });
        }
        if let Some(listener) = self.tcp.take() {
            listener.set_nonblocking(true)?;
            let server = self.server(router(Access::Tcp(policy.clone())), budget, files, Some(policy));
            let listener = TcpListener::from_std(listener)?;
            let part = supervisor.part("the control API's TCP listener");
            self.tasks.spawn(async move {
                let _part = part;
                server.serve_tcp(listener).await;
            });
        }
        if let Some((_, listener)) = self.unix.take() {
            listener.set_nonblocking(true)?;
            let server = self.server(router(Access::Socket), budget, files, None);
            let listener = UnixListener::from_std(listener)?;
            let part = supervisor.part("the control API's socket");
            self.tasks.spawn(async move {
                let _part = part;
                server.serve_unix(listener).await;
            });
        }
        Ok(())
    }

    /// Each listener has connections of its own, so that nobody over TCP shuts out the operators at the socket.
    fn server(
        &self,
        router: Router,
        budget: usize,
        files: &Files,
        policy: Option<watch::Receiver<Policy>>,
    ) -> Server {
        let (stop, tasks) = (self.stop.clone(), self.tasks.clone());
        let occupancy = Arc::clone(&files.api);
        Server { router, connections: Connections::within(budget), occupancy, policy, stop, tasks }
    }

    pub(super) async fn stop(self) {
        self.stop.cancel();
        self.tasks.close();
        // Requests that block their threads are left behind.
        timeout(STOP_WITHIN, self.tasks.wait()).await.ok();
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

fn bind_tcp(address: SocketAddr, setting: &str) -> Result<std::net::TcpListener> {
    std::net::TcpListener::bind(address).map_err(|e| match e.kind() {
        io::ErrorKind::AddrInUse => anyhow::anyhow!(
            "{address} is in use: another program has the control API's address; stop it or change [control] {setting}"
        ),
        _ => anyhow::Error::new(e).context(format!("cannot listen at {address}: see [control] {setting}")),
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
    if let Ok(found) = fs::symlink_metadata(path) {
        if !found.file_type().is_socket() {
            bail!("{shown} is not a socket, so it is left alone: remove it or change [control] socket");
        }
        match UnixStream::connect(path) {
            // Left behind by a node that was killed.
            Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => {
                fs::remove_file(path).with_context(|| format!("cannot remove the stale socket {shown}"))?;
            }
            _ => bail!("{shown} is in use: another node listens on it; stop it or change [control] socket"),
        }
    }
    // Nobody can connect before `listen`, so the socket is never open to others, whatever the umask.
    let socket = Socket::new(Domain::UNIX, Type::STREAM, None)?;
    let address = SockAddr::unix(path).with_context(|| format!("cannot bind {shown}"))?;
    socket.bind(&address).with_context(|| format!("cannot bind {shown}"))?;
    fs::set_permissions(path, Permissions::from_mode(0o600))
        .with_context(|| format!("cannot set the mode of {shown}"))?;
    socket.listen(BACKLOG).with_context(|| format!("cannot listen at {shown}"))?;
    Ok(socket.into())
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
