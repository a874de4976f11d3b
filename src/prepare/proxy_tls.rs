//! The TLS of the balancer, from the files that `[proxy]` names.

use std::io;
use std::sync::Arc;

use rustls::ServerConfig;
use rustls::server::ProducesTickets;

use super::acme::Acme;
use super::pem::Pem;
use super::{acme, tickets};
use crate::config::{
    CertificateFiles, CertificateSource, ClientCertificates, Config, Diagnostic, PoolTls, ProxyTls, Source,
};
use crate::model::{Http, Pool, Protocol, Unix};
use crate::net::certificates::{BySni, Certified, Shown};
use crate::net::server_tls::{Clients, listener_config};
use crate::net::tls::Trust;
use crate::snapshot::{self, Certificate, PoolIdentity, Tls};

/// The protocols of HTTP, the preferred one first.
const HTTP: [&[u8]; 2] = [b"h2", b"http/1.1"];

/// The TLS, the certificates that the node obtains itself, and warnings.
pub(super) type Ready = (Tls, Vec<Acme>, Vec<Diagnostic>);

/// Reads the files. `kept` are the certificates by ACME of the config before.
///
/// # Errors
/// A diagnostic for each that is of no use, where the config names it.
pub(super) fn prepare(
    config: &Config,
    read: &dyn Fn(&Source<'_>) -> io::Result<Vec<u8>>,
    now: Unix,
    kept: &[Acme],
) -> Result<Ready, Vec<Diagnostic>> {
    let pem = Pem { what: "TLS of the proxy", read };
    let mut work = Work { pem: &pem, now, certificates: Vec::new(), wrong: Vec::new(), warnings: Vec::new() };
    let tls = &config.proxy_tls;
    let managed = acme::prepare(config, read, kept);
    let managed = managed.map(|(managed, warnings)| {
        work.warnings.extend(warnings);
        managed
    });
    let managed = managed.map_err(|wrong| work.wrong.extend(wrong)).unwrap_or_default();
    let listeners = work.listeners(config, tls, &managed, read);
    let mut trust = Trust::new();
    // They have the same order.
    let pools = tls.pools.iter().zip(&config.topology.pools);
    let pool = |(tls, pool): (&Option<PoolTls>, &Pool)| {
        Some(Arc::new(work.pool(tls.as_ref()?, pool.http, &mut trust)?))
    };
    let pools = pools.map(pool).collect();
    if !work.wrong.is_empty() {
        return Err(work.wrong);
    }
    let certificates = work.certificates.into();
    let managed = managed.into_iter().map(|(_, acme)| acme).collect();
    Ok((Tls { listeners: listeners.into(), pools, certificates }, managed, work.warnings))
}

struct Work<'a> {
    pem: &'a Pem<'a>,
    now: Unix,
    certificates: Vec<Certificate>,
    wrong: Vec<Diagnostic>,
    warnings: Vec<Diagnostic>,
}

impl Work<'_> {
    fn listeners(
        &mut self,
        config: &Config,
        tls: &ProxyTls,
        managed: &[(usize, Acme)],
        read: &dyn Fn(&Source<'_>) -> io::Result<Vec<u8>>,
    ) -> Vec<(String, Arc<ServerConfig>)> {
        let shown = |(index, source): (usize, &CertificateSource)| match source {
            CertificateSource::Files(files) => self.certificate(files).map(Shown::Fixed),
            CertificateSource::Acme(_) => {
                let (_, acme) = managed.iter().find(|(it, _)| *it == index)?;
                Some(Shown::Managed(Arc::clone(&acme.managed)))
            }
        };
        let loaded: Vec<Option<Shown>> = tls.certificates.iter().enumerate().map(shown).collect();
        let tickets = tickets::prepare(&tls.tickets, read).map_err(|wrong| self.wrong.push(wrong)).ok();
        let Some(loaded) = loaded.into_iter().collect::<Option<Vec<Shown>>>() else { return Vec::new() };
        let Some((by_sni, ambiguous)) = BySni::new(&loaded) else { return Vec::new() };
        for (used, other, name) in ambiguous {
            let (used, other) = (&tls.certificates[used], &tls.certificates[other]);
            let message = format!(
                "TLS of the proxy: {}: it is for {name}, but clients that ask for that get {}",
                other.shown(),
                used.shown(),
            );
            let help = "the first of several certificates for a name is used";
            self.warnings.push(other.at().warning(message, help.into()));
        }
        let (by_sni, tickets) = (Arc::new(by_sni), tickets.map(Arc::new));
        let listener = |(name, clients): &(String, Option<ClientCertificates>)| {
            let (certificates, tickets) = (Arc::clone(&by_sni), tickets.clone()?);
            self.listener(config, name, clients.as_ref(), certificates, tickets)
        };
        tls.listeners.iter().filter_map(listener).collect()
    }

    fn listener(
        &mut self,
        config: &Config,
        name: &str,
        clients: Option<&ClientCertificates>,
        certificates: Arc<BySni>,
        tickets: Arc<dyn ProducesTickets>,
    ) -> Option<(String, Arc<ServerConfig>)> {
        let mut listeners = config.proxy.iter().flat_map(|proxy| &proxy.listeners);
        let alpn: &[&[u8]] = match listeners.find(|it| it.name == name)?.protocol {
            Protocol::Http => &HTTP,
            Protocol::Tcp | Protocol::TlsPassthrough | Protocol::Udp => &[],
        };
        let asked = match clients {
            None => None,
            Some(ClientCertificates { authorities, is_required }) => {
                let authorities = self.kept(self.pem.authorities(authorities))?;
                Some(Clients { authorities, is_required: *is_required })
            }
        };
        match listener_config(certificates, asked, alpn, tickets) {
            Ok(made) => Some((name.to_owned(), made)),
            Err(error) => {
                // Only authorities can be the reason.
                let file = clients.map(|clients| &clients.authorities);
                self.wrong.extend(file.map(|file| self.pem.wrong(file, &error.to_string())));
                None
            }
        }
    }

    fn pool(&mut self, pool: &PoolTls, http: Http, trust: &mut Trust) -> Option<snapshot::PoolTls> {
        let shown = match &pool.certificate {
            Some(files) => Some(self.certificate(files)?.key),
            None => None,
        };
        let chain = shown.as_ref().map(|key| key.cert.clone()).unwrap_or_default();
        let alpn: &[&[u8]] = match http {
            Http::H1 => &[],
            Http::H2 => &[b"h2"],
        };
        let client = match trust.client_config_with(pool.authorities.as_deref(), alpn, shown) {
            Ok(client) => client,
            Err(error) => {
                let help = "install the system's certificates, or name the authorities to trust in `ca`";
                let message = format!("this pool cannot verify certificates: {error}");
                self.wrong.push(pool.at.error(message, help.into()));
                return None;
            }
        };
        let (server_name, authorities) = (pool.server_name.clone(), pool.authorities.clone());
        Some(snapshot::PoolTls { client, identity: PoolIdentity { server_name, authorities, chain } })
    }

    fn certificate(&mut self, files: &CertificateFiles) -> Option<Certified> {
        // Both are read, so that one run shows what is wrong with either.
        let chain = self.kept(self.pem.certificates(&files.cert));
        let key = self.kept(self.pem.key(&files.key));
        let certified = Certified::new(chain?, key?).map_err(|why| self.pem.wrong(&files.cert, &why));
        let certified = self.kept(certified)?;
        let certificate = Certificate {
            file: files.cert.path.display().to_string(),
            not_before: certified.not_before,
            not_after: certified.not_after,
        };
        if let Some(alarm) = certificate.alarm(self.now) {
            let help = "renew it, and reload the config: `portolan reload`";
            self.warnings.push(files.cert.at.warning(alarm, help.into()));
        }
        if !self.certificates.contains(&certificate) {
            self.certificates.push(certificate);
        }
        Some(certified)
    }

    fn kept<T>(&mut self, result: Result<T, Diagnostic>) -> Option<T> {
        result.map_err(|wrong| self.wrong.push(wrong)).ok()
    }
}
