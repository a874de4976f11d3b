//! How a server identifies itself to clients that ask.

/// The maximum length of a part of an [`Identity`] in bytes: with the longest question it still fits in the smallest
/// reply.
pub const MAX_IDENTITY: usize = 128;

/// How a server identifies itself; queries for a part that is `None` are refused.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Identity {
    /// The software: CHAOS TXT `version.bind` and `version.server`; 1 to [`MAX_IDENTITY`] bytes.
    pub version: Option<String>,
    /// Which of several servers this is: CHAOS TXT `hostname.bind` and `id.server` (RFC 4892); 1 to
    /// [`MAX_IDENTITY`] bytes.
    pub hostname: Option<String>,
    /// The same in the EDNS option NSID (RFC 5001); 1 to [`MAX_IDENTITY`] bytes.
    pub nsid: Option<String>,
}
