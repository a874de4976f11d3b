//! `limits` of a listener.

use std::time::Duration;

/// `[proxy.listener.NAME] limits`: how long requests may be, and how slowly they and their responses may move.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RequestLimits {
    /// Bytes of the body of a request; `None`: any number.
    pub body: Option<u64>,
    /// Bytes per second at which a client must at least send a body while a backend waits for it; 0: any number.
    pub upload: u32,
    /// Bytes per second at which a client must at least take a response while there is something to take; 0: any number.
    pub download: u32,
    /// How long a client may be slower than that.
    pub grace: Duration,
    /// Streams that a client may have open on an HTTP/2 connection.
    pub streams: u32,
}

impl Default for RequestLimits {
    fn default() -> Self {
        Self { body: None, upload: RATE, download: RATE, grace: GRACE, streams: STREAMS }
    }
}

/// Bytes per second: a hundredth of what the slowest mobile networks carry, but a body of 1 MB takes an attacker hours.
const RATE: u32 = 100;
/// As long as a client may send or take nothing at all.
const GRACE: Duration = Duration::from_secs(60);
/// Browsers want a hundred.
const STREAMS: u32 = 128;
