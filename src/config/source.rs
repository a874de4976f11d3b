//! The files that a config consists of: what the loader is asked for.

use std::fmt;
use std::io;
use std::path::Path;

/// A file to read.
#[derive(Clone, Copy, Debug)]
pub struct Source<'a> {
    /// Its path.
    pub path: &'a Path,
    /// The most bytes that it may have.
    pub limit: u64,
    /// The folder that it must not lie outside of, not even through symbolic links.
    pub within: Option<&'a Path>,
    /// Whether other users than its owner and group must have no access to it.
    pub is_secret: bool,
}

/// What a file is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FileKind {
    /// The config itself.
    Config,
    /// A zone, with all that it includes.
    Zone,
    /// Round-trip times.
    Latency,
    /// Certificates.
    Pem,
    /// A private key.
    Key,
    /// Secrets, a line each.
    Secret,
    /// Backends of a pool.
    Backends,
    /// A geo database.
    GeoDatabase,
}

const MIB: u64 = 1 << 20;

impl FileKind {
    /// The most bytes that such a file may have: more than one in use has, and not enough to fill the memory.
    #[must_use]
    pub const fn limit(self) -> u64 {
        match self {
            // 100,000 services take 10 MiB.
            Self::Config => 32 * MIB,
            // Five million records.
            Self::Zone => 256 * MIB,
            // A million rows take 30 MiB.
            Self::Latency => 64 * MIB,
            // The authorities of an operating system take 250 KiB.
            Self::Pem => 4 * MIB,
            // The largest take a few KiB.
            Self::Key => MIB,
            // Two lines, and room for blanks.
            Self::Secret => 1024,
            // A thousand backends take 60 KiB as JSON.
            Self::Backends => MIB,
            // As much as one may have after it is decompressed.
            Self::GeoDatabase => 512 * MIB,
        }
    }

    /// The request for a file of this kind.
    #[must_use]
    pub const fn at(self, path: &Path) -> Source<'_> {
        Source {
            path,
            limit: self.limit(),
            within: None,
            is_secret: matches!(self, Self::Key | Self::Secret),
        }
    }
}

impl fmt::Display for FileKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Config => "config file",
            Self::Zone => "zone file",
            Self::Latency => "latency file",
            Self::Pem => "PEM file",
            Self::Key => "private key",
            Self::Secret => "secret file",
            Self::Backends => "file of backends",
            Self::GeoDatabase => "geo database",
        })
    }
}

/// Why a loader refuses a file that it could read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unfit {
    /// It is not a regular file but this, with an article.
    Irregular(&'static str),
    /// It has more bytes than this.
    TooLarge(u64),
    /// It lies outside the folder that it has to be in.
    Outside,
    /// It is secret, but its mode gives every user access.
    Exposed(u32),
}

/// Permissions of other users than the owner and the group.
const OTHERS: u32 = 0o007;

impl Unfit {
    /// Checks the mode of a file that contains a secret. Its group may have access: a node that does not run as root
    /// often shares secrets with other programs that way.
    ///
    /// # Errors
    /// [`Self::Exposed`]
    pub fn unless_private(mode: u32) -> Result<(), Self> {
        if mode & OTHERS == 0 { Ok(()) } else { Err(Self::Exposed(mode & 0o777)) }
    }
}

impl fmt::Display for Unfit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Irregular(kind) => write!(f, "is {kind}, not a file"),
            Self::TooLarge(limit) => write!(f, "has more than {limit} bytes"),
            Self::Outside => f.write_str("lies outside the folder of the zone file"),
            Self::Exposed(mode) => write!(f, "its mode {mode:03o} gives every user access"),
        }
    }
}

impl std::error::Error for Unfit {}

impl From<Unfit> for io::Error {
    fn from(unfit: Unfit) -> Self {
        Self::other(unfit)
    }
}

/// Why a file cannot be read, as a clause about it.
#[must_use]
pub fn why_unreadable(error: &io::Error) -> String {
    match error.kind() {
        io::ErrorKind::NotFound => "no such file".into(),
        io::ErrorKind::IsADirectory => "is a folder, not a file".into(),
        io::ErrorKind::PermissionDenied => "may not be read (permission denied)".into(),
        // A loader refuses with a clause of its own.
        _ if error.get_ref().is_some() => error.to_string(),
        _ => format!("cannot be read: {error}"),
    }
}

/// What to do about a file that the config names and that cannot be read.
#[must_use]
pub fn how_to_fix(error: &io::Error) -> &'static str {
    if let Some(unfit) = error.get_ref().and_then(|inner| inner.downcast_ref::<Unfit>()) {
        return match unfit {
            Unfit::Irregular(_) => "name a regular file",
            Unfit::TooLarge(_) => "is it the right file?",
            Unfit::Outside => "move it to that folder",
            Unfit::Exposed(_) => "`chmod 640` or `600`, and replace it: anyone may have copied it",
        };
    }
    match error.kind() {
        io::ErrorKind::NotFound => "a relative path starts at the folder of the config file",
        io::ErrorKind::IsADirectory => "name a regular file",
        io::ErrorKind::PermissionDenied => "let the user that runs the node read it",
        _ => "check the file and its disk",
    }
}
