//! Where a config comes from.

use std::cell::RefCell;
use std::io;
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use sha2::{Digest as _, Sha256};

use super::files;
use crate::config::{self, Config, Refused, Source};

/// Where a config is read from, at start and at every reload.
#[derive(Clone, Debug)]
pub enum Origin {
    /// A file.
    File(PathBuf),
    /// Text that is part of the program (the demo).
    Text {
        /// The config.
        toml: Arc<str>,
        /// The files that it names: their paths, as written in the config, and contents.
        files: Arc<[(PathBuf, Vec<u8>)]>,
    },
}

impl Origin {
    /// The config's path in diagnostics.
    #[must_use]
    pub fn path(&self) -> &Path {
        match self {
            Self::File(path) => path,
            Self::Text { .. } => Path::new("portolan.toml"),
        }
    }

    /// Reads and checks the config with its zones, and identifies it by the digest of all that was read. Databases that
    /// it names are not opened yet.
    pub(super) fn load(&self) -> Result<(Config, Arc<str>), Refused> {
        let digest = RefCell::new(Sha256::new());
        let config = config::load(self.path(), &|source| {
            let content = self.read(source)?;
            let mut digest = digest.borrow_mut();
            for part in [source.path.as_os_str().as_bytes(), &content] {
                digest.update((part.len() as u64).to_be_bytes());
                digest.update(part);
            }
            Ok(content)
        })?;
        Ok((config, data_encoding::HEXLOWER.encode(&digest.into_inner().finalize()).into()))
    }

    /// Reads a file that the config names.
    pub(super) fn read(&self, source: &Source<'_>) -> io::Result<Vec<u8>> {
        match self {
            Self::File(_) => files::read(source),
            Self::Text { toml, .. } if source.path == self.path() => Ok(toml.as_bytes().to_vec()),
            Self::Text { files, .. } => {
                let found = files.iter().find(|(name, _)| name == source.path);
                found.map(|(_, content)| content.clone()).ok_or_else(|| io::ErrorKind::NotFound.into())
            }
        }
    }
}
