//! The API's listeners: a TCP address, a Unix socket, and a TCP address for metrics alone.

use std::fs::{self, Permissions};
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::os::unix::fs::{FileTypeExt as _, MetadataExt as _, PermissionsExt as _, chown};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use axum::Router;
use nix::unistd::{Gid, Group};
use socket2::{Domain, SockAddr, Socket, Type};
use tokio::net::{TcpListener, UnixListener};
use tokio::sync::watch;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tracing::warn;

use crate::api::{Access, Connections, Policy, Server};
use crate::config::{Control, NamedGroup};
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
    /// The URL of the page for browsers, if there is one.
    pub(super) page: Option<String>,
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
        let page = address.map(|address| page(address, control.tls.is_some()));
        let (metrics, metrics_address) = bind(control.metrics, "metrics")?;
        let group = control.group.as_ref().map(Members::of).transpose()?;
        let unix = match &control.socket {
            Some(path) if path == Path::new(Control::DEFAULT_SOCKET) => bind_default(group.as_ref())?,
            Some(path) => Some((path.clone(), bind_unix(path, group.as_ref())?)),
            None => None,
        };
        let socket = unix.as_ref().map(|(path, _)| Bound::at(path)).transpose()?;
        let (tasks, stop) = (TaskTracker::new(), CancellationToken::new());
        Ok(Self { address, page, metrics_address, tcp, metrics, unix, socket, tasks, stop })
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

/// The group that may use the socket.
#[derive(Debug)]
struct Members {
    name: String,
    gid: Gid,
}

impl Members {
    fn of(group: &NamedGroup) -> Result<Self> {
        let name = group.name.clone();
        let found = Group::from_name(&name).with_context(|| format!("cannot look up the group `{name}`"))?;
        let Some(found) = found else {
            bail!("{}: create it or change [control] group", no_such_group(&name))
        };
        Ok(Self { name, gid: found.gid })
    }

    /// Gives the socket to the group. The user that owns it stays the same.
    fn own(&self, path: &Path) -> Result<()> {
        let Self { name, gid } = self;
        let shown = path.display();
        chown(path, None, Some(gid.as_raw())).map_err(|e| match e.kind() {
            io::ErrorKind::PermissionDenied => anyhow::anyhow!(
                "this process may not give the socket {shown} to the group `{name}`: start the node as root, or as a \
                 user in this group (SupplementaryGroups={name} in the systemd unit), or remove [control] group"
            ),
            _ => anyhow::Error::new(e).context(format!("cannot give the socket {shown} to the group `{name}`")),
        })
    }

    /// Why the group cannot get to the socket, or could replace it by one of its own; as a sentence.
    fn obstacle(&self, path: &Path) -> Option<String> {
        let Self { name, gid } = self;
        let folder = fs::canonicalize(
            path.parent().filter(|it| !it.as_os_str().is_empty()).unwrap_or_else(|| Path::new(".")),
        );
        let folder = folder.ok()?;
        let allows = |folder: &Path, right: u32| {
            let found = fs::metadata(folder).ok()?;
            let shift = if found.gid() == gid.as_raw() { 3 } else { 0 };
            Some((found.mode() & (right << shift) != 0, found.mode()))
        };
        for folder in folder.ancestors() {
            if let Some((false, mode)) = allows(folder, SEARCH) {
                let (folder, mode) = (folder.display(), mode & 0o7777);
                return Some(format!(
                    "the group `{name}` cannot reach the control socket: the mode of {folder} is {mode:04o}; \
                     let the group search it (chmod o+x {folder})"
                ));
            }
        }
        let (true, mode) = allows(&folder, WRITE)? else { return None };
        (mode & STICKY == 0).then(|| {
            let (folder, mode) = (folder.display(), mode & 0o7777);
            format!(
                "the group `{name}` can replace the control socket: the mode of {folder} is {mode:04o}; \
                 take that from it (chmod go-w {folder})"
            )
        })
    }
}

/// Rights of a folder, as in the mode of others.
const SEARCH: u32 = 0o1;
const WRITE: u32 = 0o2;
/// In such a folder only the owner of a file may remove it.
const STICKY: u32 = 0o1000;

/// Why no socket can be given to this group: this host does not have it. A failed lookup is left to the start.
pub(crate) fn unknown_group(name: &str) -> Option<String> {
    matches!(Group::from_name(name), Ok(None)).then(|| no_such_group(name))
}

fn no_such_group(name: &str) -> String {
    format!("there is no group `{name}`")
}

fn bind_tcp(address: SocketAddr, setting: &str) -> Result<std::net::TcpListener> {
    std::net::TcpListener::bind(address).map_err(|e| match e.kind() {
        io::ErrorKind::AddrInUse => anyhow::anyhow!(
            "{address} is in use: another program has the control API's address; stop it or change [control] {setting}"
        ),
        _ => anyhow::Error::new(e).context(format!("cannot listen at {address}: see [control] {setting}")),
    })
}

/// The URL of the page as a browser on this host can open it.
fn page(mut address: SocketAddr, has_tls: bool) -> String {
    match address.ip() {
        IpAddr::V4(ip) if ip.is_unspecified() => address.set_ip(Ipv4Addr::LOCALHOST.into()),
        IpAddr::V6(ip) if ip.is_unspecified() => address.set_ip(Ipv6Addr::LOCALHOST.into()),
        IpAddr::V4(_) | IpAddr::V6(_) => {}
    }
    let scheme = if has_tls { "https" } else { "http" };
    format!("{scheme}://{address}/")
}

/// The paths to try where the config names no socket: the default path, then one in the session's runtime folder.
pub(crate) fn default_sockets() -> impl Iterator<Item = PathBuf> {
    let in_session = std::env::var_os("XDG_RUNTIME_DIR").map(|dir| PathBuf::from(dir).join("portolan.sock"));
    [Some(Control::DEFAULT_SOCKET.into()), in_session].into_iter().flatten()
}

/// The default socket is a convenience: a node that can create none of them starts without a socket, unless it is to
/// be one of a group.
fn bind_default(group: Option<&Members>) -> Result<Option<(PathBuf, std::os::unix::net::UnixListener)>> {
    let mut last = None;
    for path in default_sockets() {
        match bind_unix(&path, group) {
            Ok(listener) => return Ok(Some((path, listener))),
            Err(e) if group.is_some() => return Err(e),
            Err(e) => last = Some(e),
        }
    }
    if let Some(e) = last {
        warn!("no control socket: {e:#}; set [control] socket to a path that this user may write");
    }
    Ok(None)
}

/// Creates the folder of a socket. One that is new, and whose socket is to have a group, can be searched by everyone and
/// written to by its owner only, whatever the umask, so that the mode of the socket says who may use it.
pub(super) fn create_folder(folder: &Path, has_group: bool) -> io::Result<()> {
    if folder.as_os_str().is_empty() || folder.is_dir() {
        return Ok(());
    }
    fs::create_dir_all(folder)?;
    if has_group { fs::set_permissions(folder, Permissions::from_mode(0o755)) } else { Ok(()) }
}

fn bind_unix(path: &Path, group: Option<&Members>) -> Result<std::os::unix::net::UnixListener> {
    let shown = path.display();
    if let Some(folder) = path.parent() {
        create_folder(folder, group.is_some())
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
    if let Err(error) = restrict(path, group) {
        fs::remove_file(path).ok();
        return Err(error);
    }
    socket.listen(BACKLOG).with_context(|| format!("cannot listen at {shown}"))?;
    Ok(socket.into())
}

/// Lets the owner of a new socket use it, and the group.
fn restrict(path: &Path, group: Option<&Members>) -> Result<()> {
    if let Some(group) = group {
        group.own(path)?;
        if let Some(why) = group.obstacle(path) {
            warn!("{why}");
        }
    }
    let mode = if group.is_some() { 0o660 } else { 0o600 };
    fs::set_permissions(path, Permissions::from_mode(mode))
        .with_context(|| format!("cannot set the mode of {}", path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_page_is_where_a_browser_on_this_host_can_open_it() {
        for (address, has_tls, expected) in [
            ("127.0.0.1:8053", false, "http://127.0.0.1:8053/"),
            ("192.0.2.1:443", true, "https://192.0.2.1:443/"),
            ("0.0.0.0:8053", false, "http://127.0.0.1:8053/"),
            ("[::]:8053", true, "https://[::1]:8053/"),
            ("[2001:db8::1]:8053", false, "http://[2001:db8::1]:8053/"),
        ] {
            assert_eq!(page(address.parse().unwrap(), has_tls), expected);
        }
    }

    #[test]
    fn a_stopping_node_leaves_the_socket_of_the_next_one() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("control.sock");
        let _first = bind_unix(&path, None).unwrap();
        let bound = Bound::at(&path).unwrap();
        // The first inode stays taken, as it does while its node runs.
        fs::rename(&path, folder.path().join("old.sock")).unwrap();
        let _second = bind_unix(&path, None).unwrap();
        bound.remove();
        assert!(path.exists(), "it belongs to the other node");
        Bound::at(&path).unwrap().remove();
        assert!(!path.exists());
    }
}
