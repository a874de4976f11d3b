//! The PEM files that a config names.

use std::io;

use rustls::RootCertStore;
use rustls::pki_types::pem::{self, PemObject as _};
use rustls::pki_types::{CertificateDer, PrivateKeyDer};

use crate::config::{Diagnostic, FileKind, NamedFile, Source, how_to_fix, why_unreadable};

/// Reads them for one purpose.
pub(super) struct Pem<'a> {
    /// The purpose, for messages.
    pub(super) what: &'static str,
    pub(super) read: &'a dyn Fn(&Source<'_>) -> io::Result<Vec<u8>>,
}

const HELP: &str =
    "name PEM files: a certificate with its chain, its private key, and the authorities of clients";

impl Pem<'_> {
    /// The certificates in a file, at least one.
    pub(super) fn certificates(&self, file: &NamedFile) -> Result<Vec<CertificateDer<'static>>, Diagnostic> {
        let pem = self.content(FileKind::Pem, file)?;
        let all: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&pem).collect();
        let all = all.map_err(|error| self.wrong(file, &format!("not a valid PEM file: {error}")))?;
        if all.is_empty() { Err(self.wrong(file, "no certificate in it")) } else { Ok(all) }
    }

    /// The first private key in a file.
    pub(super) fn key(&self, file: &NamedFile) -> Result<PrivateKeyDer<'static>, Diagnostic> {
        let pem = self.content(FileKind::Key, file)?;
        PrivateKeyDer::from_pem_slice(&pem).map_err(|error| match error {
            pem::Error::NoItemsFound => self.wrong(file, "no private key in it"),
            error => self.wrong(file, &format!("not a valid PEM file: {error}")),
        })
    }

    /// The authorities in a file, at least one.
    pub(super) fn authorities(&self, file: &NamedFile) -> Result<RootCertStore, Diagnostic> {
        let mut store = RootCertStore::empty();
        for (number, certificate) in (1..).zip(self.certificates(file)?) {
            store.add(certificate).map_err(|error| {
                self.wrong(file, &format!("certificate {number} is not a valid authority: {error}"))
            })?;
        }
        Ok(store)
    }

    fn content(&self, kind: FileKind, file: &NamedFile) -> Result<Vec<u8>, Diagnostic> {
        (self.read)(&kind.at(&file.path))
            .map_err(|error| self.wrong_for(file, &why_unreadable(&error), how_to_fix(&error)))
    }

    /// An error where the config names a file.
    pub(super) fn wrong(&self, file: &NamedFile, why: &str) -> Diagnostic {
        self.wrong_for(file, why, HELP)
    }

    fn wrong_for(&self, file: &NamedFile, why: &str, help: &str) -> Diagnostic {
        file.at.error(format!("{}: {}: {why}", self.what, file.path.display()), help.into())
    }
}
