//! Pools of the proxy, in `GET /v1/status`.

use std::net::{IpAddr, SocketAddr};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{Address, HostLookup, Override, Verdict};

/// A listener of the proxy.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Listener {
    /// Its name.
    pub name: String,
    /// http, tcp, udp or tls-passthrough
    pub protocol: String,
    /// Whether it speaks TLS itself.
    pub tls: bool,
    /// Where it listens, as the config says.
    pub addresses: Vec<SocketAddr>,
}

/// A pool of the proxy.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Pool {
    /// Its name.
    pub name: String,
    /// How a backend is chosen.
    pub balance: String,
    /// Whether a backend that is known to work can be chosen.
    pub serves: bool,
    /// Present while backends that fail are used, because too few are healthy.
    pub panic: Option<Panic>,
    /// How much its backends work on at a time; absent without limits.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub limits: Option<PoolLimits>,
    /// Requests that wait for a backend with room.
    #[serde(default)]
    pub waiting: u32,
    /// In the order of the config.
    pub backends: Vec<Backend>,
}

/// How much the backends of a pool work on at a time.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct PoolLimits {
    /// Requests, or connections of TCP listeners, of an address; absent without a limit.
    pub requests: Option<u32>,
    /// Connections to an address, idle ones included; absent without a limit.
    pub connections: Option<u32>,
    /// Requests that may wait.
    pub pending: u32,
}

/// What an address of a backend works on, and what its requests came to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Load {
    /// Requests, or connections of TCP listeners.
    pub requests: u32,
    /// Connections to it, idle ones included.
    pub connections: u32,
    /// Requests, or connections of TCP listeners, that it was chosen for since the node started.
    #[serde(default)]
    pub total: u64,
    /// Those of them that it did not take or answer.
    #[serde(default)]
    pub failures: u64,
    /// Its responses with a status from 500 on.
    #[serde(default)]
    pub server_errors: u64,
}

/// Too few addresses of a pool are healthy.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Panic {
    /// The addresses that are healthy.
    pub healthy: usize,
    /// The addresses that have a result and that no operator withdrew.
    pub of: usize,
}

/// An address that is ejected because its requests fail.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Ejected {
    /// The address.
    pub address: IpAddr,
    /// When it returns.
    pub until: String,
    /// Why it is ejected.
    pub evidence: String,
}

/// A backend of a pool.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Backend {
    /// `ADDRESS:PORT` or `HOST:PORT`.
    pub name: String,
    /// The best verdict of its addresses.
    pub verdict: Verdict,
    /// Whether its pool has probes.
    pub probed: bool,
    /// Its weight among the backends of the pool.
    pub weight: u32,
    /// Whether it serves only while no other backend does.
    pub backup: bool,
    /// Whether requests are sent to it.
    pub used: bool,
    /// Its addresses that are ejected because their requests fail, whatever probes find.
    pub ejected: Vec<Ejected>,
    /// The state of looking up its host; absent if its address is in the config.
    pub lookup: Option<HostLookup>,
    /// Its override.
    #[serde(rename = "override")]
    pub overridden: Option<Override>,
    /// Its address, or those that were looked up, sorted.
    pub addresses: Vec<Address>,
}
