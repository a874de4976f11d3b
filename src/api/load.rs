//! How much the backends of the proxy work on.

use std::collections::HashMap;
use std::fmt;
use std::net::SocketAddr;
use std::sync::Arc;

use super::dto;

/// What the pools of the proxy work on at one moment.
#[derive(Debug, Default)]
pub struct Load {
    /// Requests that wait for a backend with room, by pool.
    pub waiting: HashMap<String, u32>,
    /// By pool and address. Those that never worked on anything may be missing.
    pub backends: HashMap<(String, SocketAddr), dto::Load>,
}

/// Asks the proxy, which the API does not know.
#[derive(Clone)]
pub struct Loads(pub Arc<dyn Fn() -> Load + Send + Sync>);

impl fmt::Debug for Loads {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Loads")
    }
}
