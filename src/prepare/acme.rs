//! Certificates that the node obtains itself: what is kept of them, and what the node needs for it.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustls::ClientConfig;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use sha2::{Digest as _, Sha256};

use crate::config::{
    AcmeCertificate, AcmeChallenge, CertificateSource, Config, Diagnostic, FileKind, Node, Source,
    how_to_fix, why_unreadable,
};
use crate::model::{Name, Proof, Protocol, Token};
use crate::net::certificates::Certified;
use crate::net::managed::Managed;
use crate::net::resolver::Resolver;
use crate::net::tls::Trust;

/// The folder in the state directory.
const FOLDER: &str = "certs";
/// What HTTP challenges are asked at (RFC 8555 §8.3).
const HTTP_PORT: u16 = 80;
/// Bytes of a digest that names a file: too many for two to be equal by chance.
const DIGEST: usize = 8;

/// A certificate to be obtained, and all that this takes.
#[derive(Clone, Debug)]
pub struct Acme {
    /// What the config says.
    pub settings: AcmeCertificate,
    /// Where handshakes find it. A reload that keeps the names keeps this.
    pub managed: Arc<Managed>,
    /// How the ACME server's own certificate is verified.
    pub client: Arc<ClientConfig>,
    /// Who is asked where the ACME server is, if the config names resolvers; else the system is.
    pub resolver: Option<Arc<Resolver>>,
    /// The key of the external account, if there is one.
    pub external_key: Option<Vec<u8>>,
    /// The file of the account.
    pub account: PathBuf,
}

impl Acme {
    /// Whether the same is to be obtained in the same way.
    #[must_use]
    pub fn is_same(&self, other: &Self) -> bool {
        let same = |it: &AcmeCertificate| AcmeCertificate { at: self.settings.at.clone(), ..it.clone() };
        same(&self.settings) == same(&other.settings)
            && Arc::ptr_eq(&self.managed, &other.managed)
            && self.external_key == other.external_key
            && self.resolver == other.resolver
    }
}

/// What a PEM file of a private key and the certificates for it contains.
///
/// # Errors
/// Why it is of no use, as a clause.
pub fn parse(pem: &[u8]) -> Result<Certified, String> {
    let key = PrivateKeyDer::from_pem_slice(pem).map_err(|error| format!("no private key: {error}"))?;
    let chain: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(pem).collect();
    Certified::new(chain.map_err(|error| format!("not a valid certificate: {error}"))?, key)
}

/// The certificates, by their position among all of the config, and warnings.
type Ready = (Vec<(usize, Acme)>, Vec<Diagnostic>);

/// The certificates of a config by ACME; `kept` are those of the config before.
pub(super) fn prepare(
    config: &Config,
    read: &dyn Fn(&Source<'_>) -> io::Result<Vec<u8>>,
    kept: &[Acme],
) -> Result<Ready, Vec<Diagnostic>> {
    let (mut prepared, mut wrong, mut warnings) = (Vec::new(), Vec::new(), Vec::new());
    let (mut names, mut trust): (Vec<&str>, _) = (Vec::new(), Trust::new());
    for (index, source) in config.proxy_tls.certificates.iter().enumerate() {
        let CertificateSource::Acme(settings) = source else { continue };
        wrong.extend(impossible(config, settings));
        warnings.extend(without_port(config, settings));
        for name in &settings.names {
            if names.contains(&name.as_str()) {
                let message = format!("another certificate by ACME is for `{name}`, too");
                wrong.push(settings.at.error(message, "let one certificate be for it".into()));
            }
            names.push(name);
        }
        let Some(state_dir) = &config.node.state_dir else { continue };
        match one(settings, &state_dir.join(FOLDER), read, (kept, &config.node), &mut trust) {
            Ok((acme, warning)) => {
                prepared.push((index, acme));
                warnings.extend(warning);
            }
            Err(diagnostic) => wrong.push(diagnostic),
        }
    }
    if wrong.is_empty() { Ok((prepared, warnings)) } else { Err(wrong) }
}

fn one(
    settings: &AcmeCertificate,
    folder: &Path,
    read: &dyn Fn(&Source<'_>) -> io::Result<Vec<u8>>,
    (kept, node): (&[Acme], &Node),
    trust: &mut Trust,
) -> Result<(Acme, Option<Diagnostic>), Diagnostic> {
    let client = trust.client_config(settings.authorities.as_deref(), &[b"http/1.1"]).map_err(|error| {
        let message = format!("the ACME server cannot be verified: {error}");
        let help = "install the system's certificates, or name the authorities to trust in `ca`";
        settings.at.error(message, help.into())
    })?;
    let resolver =
        (!node.resolvers.is_empty()).then(|| Resolver::new(&node.resolvers, node.destinations.clone()));
    let resolver = resolver.transpose().map_err(|why| {
        let message = format!("no resolver for the ACME server: {why}");
        settings.at.error(message, "name another in `resolver` of [node]".into())
    })?;
    let external_key = match &settings.external_account {
        None => None,
        Some(account) => {
            let text = read(&FileKind::Secret.at(&account.key.path)).map_err(|error| {
                let why = why_unreadable(&error);
                let message = format!("the key of `eab`: {}: {why}", account.key.path.display());
                account.key.at.error(message, how_to_fix(&error).into())
            })?;
            let key = data_encoding::BASE64URL_NOPAD.decode(text.trim_ascii()).ok();
            Some(key.filter(|key| !key.is_empty()).ok_or_else(|| {
                let message = format!("the key of `eab`: {}: not base64url", account.key.path.display());
                account.key.at.error(message, "write the key as the authority shows it, without `=`".into())
            })?)
        }
    };
    let kid = settings.external_account.as_ref().map_or("", |account| &account.kid);
    let contact = settings.contact.as_deref().unwrap_or_default();
    let account = folder.join(format!("account-{}.json", digest(&[&settings.directory, contact, kid])));
    let file = folder.join(file_name(settings));
    let (managed, warning) = match kept.iter().find(|it| it.managed.file == file) {
        Some(known) => (Arc::clone(&known.managed), None),
        None => {
            let (current, warning) = stored(settings, &file, read);
            (Arc::new(Managed::new(settings.names.clone(), file, current)), warning)
        }
    };
    let resolver = resolver.map(Arc::new);
    let acme = Acme { settings: settings.clone(), managed, client, resolver, external_key, account };
    Ok((acme, warning))
}

/// The certificate of an earlier run. One that is of no use is like none, but is reported.
fn stored(
    settings: &AcmeCertificate,
    file: &Path,
    read: &dyn Fn(&Source<'_>) -> io::Result<Vec<u8>>,
) -> (Option<Certified>, Option<Diagnostic>) {
    let found = match read(&FileKind::Key.at(file)) {
        Ok(pem) => parse(&pem),
        Err(error) if error.kind() == io::ErrorKind::NotFound => return (None, None),
        Err(error) => Err(why_unreadable(&error)),
    };
    match found {
        Ok(certified) => (Some(certified), None),
        Err(why) => {
            let message = format!("the certificate kept in {} cannot be used: {why}", file.display());
            (None, Some(settings.at.warning(message, "a running node obtains a new one".into())))
        }
    }
}

/// By names and authority, so that a certificate of a test server is not taken for one of another.
fn file_name(settings: &AcmeCertificate) -> String {
    let mut names: Vec<&str> = settings.names.iter().map(String::as_str).collect();
    names.sort_unstable();
    let first = settings.names.first().map_or("", |name| name).replace('*', "_");
    format!("{first}-{}.pem", digest(&[&settings.directory, &names.join(" ")]))
}

fn digest(parts: &[&str]) -> String {
    let digest = Sha256::digest(parts.join("\n"));
    digest[..DIGEST].iter().map(|byte| format!("{byte:02x}")).collect()
}

/// What the rest of the config makes impossible.
fn impossible(config: &Config, settings: &AcmeCertificate) -> Vec<Diagnostic> {
    let mut wrong = Vec::new();
    if config.node.state_dir.is_none() {
        let message = "a certificate by ACME must survive restarts, but there is no `state_dir`";
        wrong.push(settings.at.error(message.into(), "set `state_dir` in [node]".into()));
    }
    if settings.challenge == AcmeChallenge::Http {
        return wrong;
    }
    let help = "use \"http-01\", or add a zone that contains it";
    if config.dns.is_none() {
        let message = "\"dns-01\" needs [dns]: this node is no name server";
        wrong.push(settings.at.error(message.into(), help.into()));
        return wrong;
    }
    for name in &settings.names {
        let token = Token::parse("x").expect("a token");
        let proof = name.parse::<Name>().ok().and_then(|name| Proof::dns(&name, token));
        let why = match proof {
            Some(Proof::Dns { owner, .. }) => config.zones.can_hold_challenge(&owner).err(),
            _ => Some("it is too long".into()),
        };
        if let Some(why) = why {
            wrong.push(settings.at.error(format!("\"dns-01\" cannot prove `{name}`: {why}"), help.into()));
        }
    }
    wrong
}

fn without_port(config: &Config, settings: &AcmeCertificate) -> Option<Diagnostic> {
    if settings.challenge == AcmeChallenge::Dns {
        return None;
    }
    let listeners = config.proxy.iter().flat_map(|proxy| &proxy.listeners);
    let mut plain = listeners.filter(|it| it.protocol == Protocol::Http && it.tls.is_none());
    if plain.any(|it| it.addresses.iter().any(|address| address.port() == HTTP_PORT)) {
        return None;
    }
    let message = "\"http-01\" is asked at port 80, but no listener without `tls` listens there";
    let help = "add one with protocol \"http\", unless something before this node forwards that port to one";
    Some(settings.at.warning(message.into(), help.into()))
}
