//! Takes from the process what a node never needs, by Landlock: executing programs, and writing anywhere but to its
//! state and its socket.
//!
//! An attacker who runs code in the node can then neither leave a file behind nor start a program. Reading is not
//! restricted, because a reload may name any file. Nor are connections, because a reload may change where probes go.

use std::fmt;
use std::path::{Path, PathBuf};

use landlock::{
    ABI, Access as _, AccessFs, BitFlags, LandlockStatus, PathBeneath, PathFd, Ruleset, RulesetAttr as _,
    RulesetCreatedAttr as _, RulesetStatus, make_bitflags,
};
use tracing::{info, warn};

use super::control::{create_folder, default_sockets};
use super::privileges::create_state_dir;
use crate::config::{Config, Control};
use crate::model::{LogTarget, QueryLogTarget};

/// The newest rights that are handled; kernels from Linux 6.10 know them all, others enforce those that they know.
const NEWEST: ABI = ABI::V5;

/// What the journal does in its folder.
const STORE: BitFlags<AccessFs> = make_bitflags!(AccessFs::{
    ReadFile | ReadDir | WriteFile | Truncate | MakeReg | MakeDir | RemoveFile
});

/// What the control socket needs in its folder: it is created, and removed at the end.
const SOCKET: BitFlags<AccessFs> = make_bitflags!(AccessFs::{MakeSock | RemoveFile});

/// What is in force.
#[derive(Debug)]
pub enum Sandbox {
    /// Nothing: `[node] landlock = false`.
    Off,
    /// Nothing: the kernel has no Landlock, or it is not enabled.
    Unavailable,
    /// Everything, or what an older kernel knows of it.
    InForce {
        /// Whether the kernel knows all of it.
        whole: bool,
        /// Where files can be written.
        stores: Vec<PathBuf>,
        /// Where sockets can be created.
        sockets: Vec<PathBuf>,
    },
    /// Nothing, for this reason.
    Failed(String),
}

impl Sandbox {
    /// Restricts this thread and those that it starts from now on, for good; so it must be the only one. What the rules
    /// name must exist, so the state directory and the folder of the socket are created if they are missing.
    #[must_use]
    pub fn enter(config: &Config) -> Self {
        if !config.node.landlock {
            return Self::Off;
        }
        match restrict(config) {
            Ok(sandbox) => sandbox,
            Err(why) => Self::Failed(format!("{why:#}")),
        }
    }

    /// Logs what is in force.
    pub fn log(&self) {
        match self {
            Self::Failed(_) => warn!("{self}"),
            Self::Off | Self::Unavailable | Self::InForce { .. } => info!("{self}"),
        }
    }
}

impl fmt::Display for Sandbox {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Off => f.write_str("Landlock is off: see [node] landlock"),
            Self::Unavailable => {
                f.write_str("Landlock is off: this kernel does not have it or has not enabled it")
            }
            Self::Failed(why) => write!(f, "Landlock is off: {why}"),
            Self::InForce { whole, stores, sockets } => {
                let extent = if *whole { "" } else { ", as far as this kernel can" };
                write!(f, "Landlock is in force{extent}: nothing can be executed, no file written")?;
                let shown = |folders: &[PathBuf]| -> Vec<String> {
                    folders.iter().map(|folder| folder.display().to_string()).collect()
                };
                match &shown(stores)[..] {
                    [] => {}
                    folders => write!(f, " except in {}", folders.join(" and "))?,
                }
                match &shown(sockets)[..] {
                    [] => f.write_str(", no socket created"),
                    folders => write!(f, ", no socket created except in {}", folders.join(" and ")),
                }
            }
        }
    }
}

fn restrict(config: &Config) -> anyhow::Result<Sandbox> {
    let state = config.node.state_dir.clone();
    if let Some(dir) = &state {
        create_state_dir(dir, config.node.user.as_deref())?;
    }
    let stores: Vec<PathBuf> = state.into_iter().chain(log_folders(config)).collect();
    let sockets = socket_folders(&config.control);
    let everything = AccessFs::from_all(NEWEST);
    let mut rules = Ruleset::default()
        .handle_access(everything)?
        .create()?
        .add_rule(PathBeneath::new(PathFd::new("/")?, AccessFs::ReadFile | AccessFs::ReadDir))?;
    for dir in &stores {
        rules = rules.add_rule(PathBeneath::new(PathFd::new(dir)?, STORE))?;
    }
    for folder in &sockets {
        rules = rules.add_rule(PathBeneath::new(PathFd::new(folder)?, SOCKET))?;
    }
    let status = rules.restrict_self()?;
    Ok(match (status.landlock, status.ruleset) {
        (LandlockStatus::NotEnabled | LandlockStatus::NotImplemented, _)
        | (_, RulesetStatus::NotEnforced) => Sandbox::Unavailable,
        (_, ruleset) => Sandbox::InForce { whole: ruleset == RulesetStatus::FullyEnforced, stores, sockets },
    })
}

/// The folders of the query log and the access log that exist, and those set aside for logs.
fn log_folders(config: &Config) -> impl Iterator<Item = PathBuf> {
    let queries = config.dns.as_ref().and_then(|dns| match &dns.query_log.as_ref()?.to {
        QueryLogTarget::Json(target) => Some(target),
        QueryLogTarget::Dnstap(_) => None,
    });
    let requests = config.proxy.as_ref().and_then(|proxy| Some(&proxy.access_log.as_ref()?.to));
    let folder = |target: &LogTarget| match target {
        LogTarget::File(path) => Some(folder_of(path)).filter(|folder| folder.is_dir()),
        LogTarget::Stdout => None,
    };
    // What the unit has set aside for logs, so that a reload can begin one there.
    let set_aside = std::env::var_os("LOGS_DIRECTORY").unwrap_or_default();
    let set_aside: Vec<PathBuf> =
        std::env::split_paths(&set_aside).filter(|folder| folder.is_dir()).collect();
    let folders: Vec<PathBuf> = queries.into_iter().chain(requests).filter_map(folder).collect();
    folders.into_iter().chain(set_aside)
}

/// The folder that a file is in.
fn folder_of(path: &Path) -> PathBuf {
    match path.parent() {
        Some(folder) if !folder.as_os_str().is_empty() => folder.to_owned(),
        _ => ".".into(),
    }
}

/// The folders in which the control socket may be created; of those to try, the ones that exist or can be created.
fn socket_folders(control: &Control) -> Vec<PathBuf> {
    let paths: Vec<PathBuf> = match &control.socket {
        Some(path) if path == Path::new(Control::DEFAULT_SOCKET) => default_sockets().collect(),
        Some(path) => vec![path.clone()],
        None => Vec::new(),
    };
    // A folder that cannot be created is reported when the socket is bound.
    paths
        .iter()
        .map(|path| folder_of(path))
        .filter(|folder| create_folder(folder, control.group.is_some()).is_ok())
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_in_force_is_a_sentence() {
        let folders = |folders: &[&str]| folders.iter().map(PathBuf::from).collect();
        let in_force = |stores: &[&str], sockets: &[&str]| {
            let (stores, sockets) = (folders(stores), folders(sockets));
            Sandbox::InForce { whole: true, stores, sockets }.to_string()
        };
        for (store, sockets, expected) in [
            (&[][..], &[][..], "no file written, no socket created"),
            (&["/state"], &["/run"], "no file written except in /state, no socket created except in /run"),
            (
                &["/state", "/log"],
                &["/run", "/tmp"],
                "no file written except in /state and /log, no socket created except in /run and /tmp",
            ),
        ] {
            let expected = format!("Landlock is in force: nothing can be executed, {expected}");
            assert_eq!(in_force(store, sockets), expected);
        }
    }
}
