//! Gives up root once every socket is bound.

use std::ffi::CString;
use std::fs;
use std::os::unix::fs::{DirBuilderExt as _, chown};
use std::path::Path;

use anyhow::{Context as _, Result, bail};
use nix::sys::resource::{Resource, getrlimit, setrlimit};
use nix::unistd::{Gid, Uid, User, geteuid, initgroups, setgid, setuid};
use tracing::{info, warn};

use crate::config::Node;

/// Turns core dumps off: they would contain tokens and secrets.
pub(super) fn forbid_core_dumps() {
    let forbidden =
        getrlimit(Resource::RLIMIT_CORE).and_then(|(_, hard)| setrlimit(Resource::RLIMIT_CORE, 0, hard));
    if let Err(e) = forbidden {
        warn!("cannot turn core dumps off: {e}");
    }
}

/// Makes the whole process run as `user`, for good. The user gets a missing state directory and the control socket,
/// which root would own otherwise; a socket with a group of its own
/// keeps that group. Without a user, root is warned that it needs none of its privileges any more.
///
/// # Errors
/// If there is no such user, or this process may not become it.
pub(super) fn drop_to(node: &Node, socket: Option<&Path>, has_group: bool) -> Result<()> {
    let (user, state_dir) = (node.user.as_deref(), node.state_dir.as_deref());
    let Some(name) = user else {
        if geteuid().is_root() {
            warn!(
                "running as root: set [node] user, so that the node gives up root once its sockets are bound"
            );
        }
        return Ok(());
    };
    let user = User::from_name(name).with_context(|| format!("cannot look up the user `{name}`"))?;
    let Some(user) = user else { bail!("{}: create it or change [node] user", no_such(name)) };
    if geteuid() == user.uid {
        return Ok(());
    }
    if !geteuid().is_root() {
        bail!("only root can become `{name}`: start the node as root or as `{name}`, or remove [node] user");
    }
    if let Some(dir) = state_dir {
        create_state_dir(dir, Some(name))?;
    }
    if let Some(socket) = socket {
        let gid = (!has_group).then_some(user.gid);
        give(socket, user.uid, gid)
            .with_context(|| format!("cannot give {} to `{name}`", socket.display()))?;
    }
    become_user(&user).with_context(|| format!("cannot become `{name}`"))?;
    info!(user = name, "gave up root");
    Ok(())
}

/// Why a node cannot run as this user: this host does not have it. A failed lookup is left to the start.
pub(crate) fn unknown_user(name: &str) -> Option<String> {
    matches!(User::from_name(name), Ok(None)).then(|| no_such(name))
}

fn no_such(name: &str) -> String {
    format!("there is no user `{name}`")
}

/// Creates a missing state directory, which belongs to `user` if this is root.
pub(super) fn create_state_dir(dir: &Path, user: Option<&str>) -> Result<()> {
    if dir.exists() {
        return Ok(());
    }
    let shown = dir.display();
    let created = fs::DirBuilder::new().recursive(true).mode(0o700).create(dir);
    created.with_context(|| format!("cannot create the state directory {shown}"))?;
    if !geteuid().is_root() {
        return Ok(());
    }
    match user.map(User::from_name).transpose()?.flatten() {
        Some(user) => give(dir, user.uid, Some(user.gid))
            .with_context(|| format!("cannot give {shown} to `{}`", user.name)),
        None => Ok(()),
    }
}

fn give(path: &Path, uid: Uid, gid: Option<Gid>) -> Result<()> {
    Ok(chown(path, Some(uid.as_raw()), gid.map(Gid::as_raw))?)
}

/// The order matters: groups can be changed by root only. The C library does this for every thread.
fn become_user(user: &User) -> Result<()> {
    initgroups(&CString::new(user.name.as_str())?, user.gid)?;
    setgid(user.gid)?;
    setuid(user.uid)?;
    if !user.uid.is_root() && setuid(Uid::from_raw(0)).is_ok() {
        bail!("root could be regained");
    }
    Ok(())
}
