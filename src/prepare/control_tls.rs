//! The TLS of the API, from the files that `[control] tls` names.

use std::io;
use std::sync::Arc;

use rustls::ServerConfig;

use super::pem::Pem;
use crate::config::{ControlTls, Diagnostic, Source};
use crate::net::server_tls::server_config;

/// Reads the files.
///
/// # Errors
/// A diagnostic for each that is of no use, where the config names it.
pub(super) fn prepare(
    tls: &ControlTls,
    read: &dyn Fn(&Source<'_>) -> io::Result<Vec<u8>>,
) -> Result<Arc<ServerConfig>, Vec<Diagnostic>> {
    let pem = Pem { what: "TLS of the API", read };
    let (chain, key) = (pem.certificates(&tls.cert), pem.key(&tls.key));
    let clients = tls.client_ca.as_ref().map(|file| pem.authorities(file)).transpose();
    let (chain, key, clients) = match (chain, key, clients) {
        (Ok(chain), Ok(key), Ok(clients)) => (chain, key, clients),
        (chain, key, clients) => {
            return Err([chain.err(), key.err(), clients.err()].into_iter().flatten().collect());
        }
    };
    server_config(chain, key, clients).map_err(|error| {
        let why = format!("cannot be used with the key {}: {error}", tls.key.path.display());
        vec![pem.wrong(&tls.cert, &why)]
    })
}
