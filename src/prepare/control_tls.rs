//! The TLS of the API, from the files that `[control] tls` names.

use std::io;
use std::sync::Arc;

use rustls::pki_types::pem::{self, PemObject as _};
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::{RootCertStore, ServerConfig};

use crate::config::{ControlTls, Diagnostic, FileKind, NamedFile, Source, how_to_fix, why_unreadable};
use crate::net::server_tls::server_config;

/// Reads the files.
///
/// # Errors
/// A diagnostic for each that is of no use, where the config names it.
pub(super) fn prepare(
    tls: &ControlTls,
    read: &dyn Fn(&Source<'_>) -> io::Result<Vec<u8>>,
) -> Result<Arc<ServerConfig>, Vec<Diagnostic>> {
    let content = |kind: FileKind, file: &NamedFile| {
        read(&kind.at(&file.path))
            .map_err(|error| wrong_for(file, &why_unreadable(&error), how_to_fix(&error)))
    };
    let chain = content(FileKind::Pem, &tls.cert).and_then(|pem| certificates(&tls.cert, &pem));
    let key = content(FileKind::Key, &tls.key).and_then(|pem| {
        PrivateKeyDer::from_pem_slice(&pem).map_err(|error| match error {
            pem::Error::NoItemsFound => wrong(&tls.key, "no private key in it"),
            error => wrong(&tls.key, &format!("not a valid PEM file: {error}")),
        })
    });
    let clients =
        tls.client_ca.as_ref().map(|file| authorities(file, &content(FileKind::Pem, file)?)).transpose();
    let (chain, key, clients) = match (chain, key, clients) {
        (Ok(chain), Ok(key), Ok(clients)) => (chain, key, clients),
        (chain, key, clients) => {
            return Err([chain.err(), key.err(), clients.err()].into_iter().flatten().collect());
        }
    };
    server_config(chain, key, clients).map_err(|error| {
        let why = format!("cannot be used with the key {}: {error}", tls.key.path.display());
        vec![wrong(&tls.cert, &why)]
    })
}

fn certificates(file: &NamedFile, pem: &[u8]) -> Result<Vec<CertificateDer<'static>>, Diagnostic> {
    let all: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(pem).collect();
    let all = all.map_err(|error| wrong(file, &format!("not a valid PEM file: {error}")))?;
    if all.is_empty() { Err(wrong(file, "no certificate in it")) } else { Ok(all) }
}

fn authorities(file: &NamedFile, pem: &[u8]) -> Result<RootCertStore, Diagnostic> {
    let mut store = RootCertStore::empty();
    for (number, certificate) in (1..).zip(certificates(file, pem)?) {
        store.add(certificate).map_err(|error| {
            wrong(file, &format!("certificate {number} is not a valid authority: {error}"))
        })?;
    }
    Ok(store)
}

fn wrong(file: &NamedFile, why: &str) -> Diagnostic {
    wrong_for(
        file,
        why,
        "name PEM files: a certificate with its chain, its private key, and the authorities of clients",
    )
}

fn wrong_for(file: &NamedFile, why: &str, help: &str) -> Diagnostic {
    file.at.error(format!("TLS of the API: {}: {why}", file.path.display()), help.into())
}
