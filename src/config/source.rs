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
            // As much as one may have after it is decompressed.
            Self::GeoDatabase => 512 * MIB,
        }
    }

    /// The request for a file of this kind.
    #[must_use]
    pub const fn at(self, path: &Path) -> Source<'_> {
        Source { path, limit: self.limit(), within: None }
    }
}

impl fmt::Display for FileKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Config => "config file",
            Self::Zone => "zone file",
            Self::Latency => "latency file",
            Self::Pem => "PEM file",
            Self::GeoDatabase => "geo database",
        })
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
