//! `client` of a listener.

/// `[proxy.listener.NAME] client`: what each client may use: an IPv4 address, or the /64 of an IPv6 one.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ClientLimits {
    /// Connections open at a time; `None`: as many as the node may have.
    pub connections: Option<usize>,
    /// Requests per second, from 1 to 10,000; `None`: any number.
    pub requests_per_second: Option<u32>,
    /// Requests at once after a pause, at least 1.
    pub burst: u32,
}
