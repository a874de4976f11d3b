//! Certificates of servers: which one a client gets, and what is written in them.

use std::collections::HashMap;
use std::fmt::Write as _;
use std::sync::Arc;
use std::time::Duration;

use rustls::crypto::{CryptoProvider, aws_lc_rs};
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;
use rustls::{Error, InconsistentKeys};
use sha2::{Digest as _, Sha256};
use x509_parser::extensions::GeneralName;
use x509_parser::objects::{oid_registry, oid2abbrev};
use x509_parser::prelude::{FromDer as _, X509Certificate};
use x509_parser::time::ASN1Time;
use x509_parser::x509::X509Name;

use super::managed::Managed;
use crate::model::Unix;

/// A certificate with its key.
#[derive(Clone, Debug)]
pub struct Certified {
    /// What handshakes need.
    pub key: Arc<CertifiedKey>,
    /// The DNS names that it is for, in lower case; a wildcard begins with `*.`.
    pub names: Vec<String>,
    /// When it begins to be valid.
    pub not_before: Unix,
    /// When it expires.
    pub not_after: Unix,
    /// The authority that issued it, as RFC 4514 writes its name.
    pub issuer: String,
}

impl Certified {
    /// Joins a certificate, which those that lead to its authority follow, and its key.
    ///
    /// # Errors
    /// A clause about the certificate.
    pub fn new(chain: Vec<CertificateDer<'static>>, key: PrivateKeyDer<'static>) -> Result<Self, String> {
        let provider: CryptoProvider = aws_lc_rs::default_provider();
        let key = CertifiedKey::from_der(chain, key, &provider).map_err(|error| match error {
            Error::InconsistentKeys(InconsistentKeys::KeyMismatch) => {
                "the key is not that of this certificate".to_owned()
            }
            error => format!("cannot be used with the key: {error}"),
        })?;
        let first = key.end_entity_cert().map_err(|error| error.to_string())?;
        let (_, parsed) = X509Certificate::from_der(first)
            .map_err(|error| format!("the first certificate in it is not valid: {error}"))?;
        let names = names(&parsed);
        let validity = parsed.validity();
        let (not_before, not_after) = (unix(validity.not_before), unix(validity.not_after));
        let issuer = distinguished(parsed.issuer());
        Ok(Self { key: Arc::new(key), names, not_before, not_after, issuer })
    }
}

fn names(certificate: &X509Certificate<'_>) -> Vec<String> {
    let Ok(Some(names)) = certificate.subject_alternative_name() else { return Vec::new() };
    let dns = |name: &GeneralName<'_>| match name {
        GeneralName::DNSName(name) => Some(name.trim_end_matches('.').to_ascii_lowercase()),
        _ => None,
    };
    names.value.general_names.iter().filter_map(dns).collect()
}

/// 1970 for what is earlier.
fn unix(time: ASN1Time) -> Unix {
    Unix(Duration::from_secs(time.timestamp().try_into().unwrap_or(0)))
}

/// Chooses a certificate by the name that a client asks for.
#[derive(Debug)]
pub struct BySni {
    exact: HashMap<String, Shown>,
    /// By what follows `*.`.
    wildcard: HashMap<String, Shown>,
    /// The first that there is is for clients that ask for no name or an unknown one.
    all: Box<[Shown]>,
}

/// A certificate that clients may be shown.
#[derive(Clone, Debug)]
pub enum Shown {
    /// The same until a reload.
    Fixed(Certified),
    /// The node obtains and renews it. Until there is one, its names have none.
    Managed(Arc<Managed>),
}

impl Shown {
    fn names(&self) -> &[String] {
        match self {
            Self::Fixed(certified) => &certified.names,
            Self::Managed(managed) => &managed.names,
        }
    }

    fn key(&self) -> Option<Arc<CertifiedKey>> {
        match self {
            Self::Fixed(certified) => Some(Arc::clone(&certified.key)),
            Self::Managed(managed) => managed.key(),
        }
    }

    fn is_there(&self) -> bool {
        match self {
            Self::Fixed(_) => true,
            Self::Managed(managed) => managed.current().is_some(),
        }
    }
}

/// A name for which there are several certificates: their positions, and the name.
pub type Ambiguous = (usize, usize, String);

impl BySni {
    /// Of several certificates for one name, the first is used; the others are returned. `None` without a certificate.
    #[must_use]
    pub fn new(certificates: &[Shown]) -> Option<(Self, Vec<Ambiguous>)> {
        certificates.first()?;
        let mut found = Self { exact: HashMap::new(), wildcard: HashMap::new(), all: certificates.into() };
        let mut owners: HashMap<&str, usize> = HashMap::new();
        let mut ambiguous = Vec::new();
        for (index, certificate) in certificates.iter().enumerate() {
            for name in certificate.names() {
                let owner = *owners.entry(name).or_insert(index);
                if owner != index {
                    ambiguous.push((owner, index, name.clone()));
                    continue;
                }
                let key = certificate.clone();
                match name.strip_prefix("*.") {
                    Some(parent) => found.wildcard.insert(parent.to_owned(), key),
                    None => found.exact.insert(name.clone(), key),
                };
            }
        }
        Some((found, ambiguous))
    }

    /// A wildcard stands for one label (RFC 9525 §6.3).
    fn find(&self, name: &str) -> Option<&Shown> {
        let wildcard = || self.wildcard.get(name.split_once('.')?.1);
        self.exact.get(name).or_else(wildcard)
    }
}

impl ResolvesServerCert for BySni {
    fn resolve(&self, hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        // rustls has lowercased it.
        let found = hello.server_name().and_then(|name| self.find(name.trim_end_matches('.')));
        // The names of one that is not there yet fail, and are not shown another one.
        found.or_else(|| self.all.iter().find(|it| it.is_there())).or_else(|| self.all.first())?.key()
    }
}

/// The most bytes of a subject that is shown to backends; longer ones are left out. Most have less than a hundred.
const MAX_SUBJECT: usize = 1024;

/// A client's certificate as a header shows it: `Hash=…;Subject="…"`, the SHA-256 of the certificate and its subject
/// (RFC 4514), in which all but harmless ASCII is escaped.
#[must_use]
pub fn shown(certificate: &CertificateDer<'_>) -> String {
    let mut text = String::from("Hash=");
    for byte in Sha256::digest(certificate) {
        let _ = write!(text, "{byte:02x}");
    }
    let subject =
        X509Certificate::from_der(certificate).ok().map(|(_, parsed)| distinguished(parsed.subject()));
    if let Some(subject) = subject.filter(|it| !it.is_empty() && it.len() <= MAX_SUBJECT) {
        let _ = write!(text, ";Subject=\"{subject}\"");
    }
    text
}

/// As RFC 4514 §2.1 has it: the last relative name comes first.
fn distinguished(name: &X509Name<'_>) -> String {
    let names: Vec<_> = name.iter().collect();
    let mut text = String::new();
    for (index, name) in names.into_iter().rev().enumerate() {
        for (part, attribute) in name.iter().enumerate() {
            text.push_str(match (index, part) {
                (0, 0) => "",
                (_, 0) => ",",
                _ => "+",
            });
            let oid = attribute.attr_type();
            match oid2abbrev(oid, oid_registry()) {
                Ok(abbreviation) => text.push_str(abbreviation),
                Err(_) => text.push_str(&oid.to_id_string()),
            }
            text.push('=');
            escape(attribute.attr_value().data, &mut text);
        }
    }
    text
}

fn escape(value: &[u8], text: &mut String) {
    for byte in value {
        match byte {
            b'a'..=b'z'
            | b'A'..=b'Z'
            | b'0'..=b'9'
            | b' '
            | b'-'
            | b'.'
            | b'_'
            | b'@'
            | b':'
            | b'/'
            | b'*'
            | b'\'' => {
                text.push(char::from(*byte));
            }
            _ => {
                let _ = write!(text, "\\{byte:02X}");
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use rcgen::{CertificateParams, DnType, KeyPair};

    use super::*;

    fn certified(names: &[&str]) -> Certified {
        let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
        let made = rcgen::generate_simple_self_signed(names).unwrap();
        let key = PrivateKeyDer::try_from(made.signing_key.serialize_der()).unwrap();
        Certified::new(vec![made.cert.der().clone()], key).unwrap()
    }

    #[test]
    fn exact_names_come_before_wildcards_and_unknown_ones_get_none() {
        let all = [
            certified(&["first.test", "10.0.0.1"]),
            certified(&["*.A.test"]),
            certified(&["b.a.test", "*.b.a.test"]),
            certified(&["*.a.test", "c.test"]),
        ];
        let shown: Vec<Shown> = all.iter().cloned().map(Shown::Fixed).collect();
        let (by_sni, ambiguous) = BySni::new(&shown).unwrap();
        assert_eq!(ambiguous, [(1, 3, "*.a.test".to_owned())]);
        for (name, expected) in [
            ("first.test", Some(0)),
            ("x.a.test", Some(1)),
            ("b.a.test", Some(2)),
            ("x.b.a.test", Some(2)),
            ("x.y.a.test", None),
            ("a.test", None),
            ("c.test", Some(3)),
            ("10.0.0.1", None),
            ("", None),
        ] {
            let found = by_sni.find(name).and_then(Shown::key);
            let index = found.map(|it| all.iter().position(|one| Arc::ptr_eq(&one.key, &it)).unwrap());
            assert_eq!(index, expected, "{name}");
        }
        assert!(BySni::new(&[]).is_none());
    }

    #[test]
    fn a_key_of_another_certificate_is_refused() {
        let [one, other] =
            [(); 2].map(|()| rcgen::generate_simple_self_signed(["a.test".to_owned()]).unwrap());
        let key = PrivateKeyDer::try_from(other.signing_key.serialize_der()).unwrap();
        let error = Certified::new(vec![one.cert.der().clone()], key).unwrap_err();
        assert_eq!(error, "the key is not that of this certificate");
    }

    #[test]
    fn a_subject_cannot_pretend_to_be_another() {
        let shown_of = |parts: &[(DnType, &str)]| {
            let mut params = CertificateParams::new(Vec::new()).unwrap();
            params.distinguished_name = rcgen::DistinguishedName::new();
            for (kind, value) in parts {
                params.distinguished_name.push(kind.clone(), *value);
            }
            let certificate = params.self_signed(&KeyPair::generate().unwrap()).unwrap();
            let text = shown(certificate.der());
            let (hash, subject) = text.strip_prefix("Hash=").unwrap().split_at(64);
            assert!(hash.bytes().all(|it| it.is_ascii_hexdigit()), "{text}");
            subject.to_owned()
        };
        for (parts, expected) in [
            (&[][..], ""),
            (
                &[(DnType::OrganizationName, "Example Org"), (DnType::CommonName, "client.test")],
                ";Subject=\"CN=client.test,O=Example Org\"",
            ),
            (
                &[(DnType::CommonName, "x\",O=admin;\r\né")],
                ";Subject=\"CN=x\\22\\2CO\\3Dadmin\\3B\\0D\\0A\\C3\\A9\"",
            ),
            (&[(DnType::CommonName, &*"x".repeat(2000))], ""),
        ] {
            assert_eq!(shown_of(parts), expected);
        }
    }
}
