//! `discover` of a pool.

use std::path::PathBuf;

use super::Name;

/// `[proxy.pool.NAME] discover`: where the backends of a pool are found while the node runs. Each address is a backend of
/// its own.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Discover {
    /// All addresses of a host, at this port.
    Host {
        /// The host.
        name: Name,
        /// The port of each of its addresses.
        port: u16,
    },
    /// The targets of the SRV records of this name (RFC 2782): those with the lowest priority, the others as backups.
    Services(Name),
    /// A file, a backend per line or a JSON list.
    File(PathBuf),
}

/// An SRV record.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServiceRecord {
    /// The lowest is used first.
    pub priority: u16,
    /// Its share among those of its priority.
    pub weight: u16,
    /// The port of the target.
    pub port: u16,
    /// The host.
    pub target: Name,
}
