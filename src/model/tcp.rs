//! Limits of DNS over TCP.

use std::time::Duration;

/// How many connections clients may have open, and for how long.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TcpLimits {
    /// Connections open at a time, over all addresses, at least 1; `None`: as many as the file descriptors allow, but
    /// no more than [`TcpLimits::USUAL_CONNECTIONS`].
    pub connections: Option<usize>,
    /// Of these, connections of one client prefix (IPv4 /24, IPv6 /48), at least 1; `None`: a quarter.
    pub per_prefix: Option<usize>,
    /// How long a connection may be without a query.
    pub idle: Duration,
}

impl TcpLimits {
    /// Connections where the config does not say. With their buffers they take about 100 MB at worst.
    pub const USUAL_CONNECTIONS: usize = 1024;
}

impl Default for TcpLimits {
    /// RFC 7766 §6.2.3 wants the idle time to be "on the order of a few seconds".
    fn default() -> Self {
        Self { connections: None, per_prefix: None, idle: Duration::from_secs(10) }
    }
}
