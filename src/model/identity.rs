//! What a server says of itself to those who ask.

/// Bytes that each part of an [`Identity`] has at most: with the longest question it still fits the shortest reply.
pub const MAX_IDENTITY: usize = 128;

/// What a server says of itself; without a part it refuses to say it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Identity {
    /// What runs here: CHAOS TXT `version.bind` and `version.server`; 1 to [`MAX_IDENTITY`] bytes.
    pub version: Option<String>,
    /// Which of several servers this is: CHAOS TXT `hostname.bind` and `id.server` (RFC 4892); 1 to
    /// [`MAX_IDENTITY`] bytes.
    pub hostname: Option<String>,
    /// The same in the EDNS option NSID (RFC 5001); 1 to [`MAX_IDENTITY`] bytes.
    pub nsid: Option<String>,
}
