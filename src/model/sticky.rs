//! `sticky` of a pool.

use std::time::Duration;

use super::Secret;

/// `[proxy.pool.NAME] sticky`: a signed cookie that keeps a client with a backend.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sticky {
    /// The name of the cookie.
    pub cookie: String,
    /// How long it is valid; whole seconds, at least 1. It is renewed once half of that has passed.
    pub ttl: Duration,
    /// The first signs cookies, and all are accepted. Empty if the config names no file: then the process makes one up.
    pub secrets: Vec<Secret>,
}
