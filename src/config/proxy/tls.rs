//! TLS of `[proxy]`: its certificates, and how listeners and pools use TLS. Certificates and keys are named here, and
//! read when the config is prepared.

use std::ops::RangeInclusive;
use std::time::Duration;

use http::HeaderName;
use rustls::pki_types::{ServerName, TrustAnchor};

use super::super::keys::Shape::{Boolean, Either, Fields, Text, Time};
use super::super::keys::{Keys, default, instead, key, otherwise, required};
use super::super::listen::named_file;
use super::super::probe::read_authorities;
use super::super::table::{Table, Value};
use super::super::{NamedFile, Spot, text};
use super::acme::{self, AcmeCertificate};
use crate::model;

pub(super) const CERTIFICATE: Keys = Keys {
    known: &[
        key(
            "cert",
            Text,
            otherwise("\"www.pem\"", "none, with `acme`"),
            "PEM file of a certificate, followed by those that lead to its authority",
        ),
        key(
            "key",
            Text,
            otherwise("\"www.key\"", "none, with `acme`"),
            "PEM file of its private key, to which not every user may have access",
        ),
        key(
            "acme",
            Either(&[Fields(&acme::ACME)]),
            instead("{ names = [\"www.example.com\"], terms_agreed = true }", "without `cert` and `key`"),
            "a certificate that the node obtains and renews itself, by ACME; it is kept in `state_dir`",
        ),
    ],
    later: &[],
};
pub(super) const TICKETS: Keys = Keys {
    known: &[
        key(
            "secret_file",
            Text,
            otherwise("\"tickets.secret\"", "a random secret per process"),
            "file with one or two secrets, a line each, of 64 hexadecimal digits; new tickets are made with the first. Nodes with the same secret resume each other's sessions",
        ),
        key(
            "rotate",
            Time,
            default("\"12h\""),
            "how long a key that is derived from the secret makes tickets; they are accepted for that time again",
        ),
    ],
    later: &[],
};
pub(super) const LISTENER_TLS: Keys = Keys {
    known: &[
        key(
            "client_ca",
            Text,
            required("\"clients.pem\""),
            "PEM file of the authorities of client certificates",
        ),
        key(
            "require",
            Boolean,
            default("true"),
            "whether clients without a certificate are refused; one that is not valid always is",
        ),
        key(
            "header",
            Text,
            otherwise("\"x-client-cert\"", "none"),
            "header that shows backends the client's certificate: Hash=SHA-256;Subject=\"…\"; what clients send in it is removed",
        ),
    ],
    later: &["alpn"],
};
pub(super) const POOL_TLS: Keys = Keys {
    known: &[
        key(
            "sni",
            Text,
            otherwise("\"api.internal\"", "the backend's host or address"),
            "name that is sent to backends and that their certificates must be for",
        ),
        key(
            "ca",
            Text,
            otherwise("\"ca.pem\"", "those of the system"),
            "PEM file of the authorities of backends' certificates",
        ),
        key(
            "cert",
            Text,
            otherwise("\"proxy.pem\"", "none"),
            "PEM file of the certificate that backends are shown",
        ),
        key("key", Text, otherwise("\"proxy.key\"", "none"), "PEM file of its private key"),
    ],
    later: &[],
};

/// Each is prepared anew by every reload.
const MOST_CERTIFICATES: usize = 10_000;
/// Tickets are accepted for up to twice as long, and for no more than 7 days (RFC 8446 §4.6.1).
const ROTATION: RangeInclusive<Duration> = Duration::from_secs(60)..=Duration::from_secs(259_200);
const DEFAULT_ROTATION: Duration = Duration::from_secs(43_200);

/// The TLS of `[proxy]`: files, which the config names but does not read.
#[derive(Clone, Debug, Default)]
pub struct ProxyTls {
    /// In the order of the config.
    pub certificates: Vec<CertificateSource>,
    /// The tickets by which clients resume sessions.
    pub tickets: Tickets,
    /// The names of the listeners with TLS, and what their clients must show.
    pub listeners: Vec<(String, Option<ClientCertificates>)>,
    /// By the position of the pool in the topology.
    pub pools: Vec<Option<PoolTls>>,
}

/// Where a certificate comes from.
#[derive(Clone, Debug, PartialEq)]
pub enum CertificateSource {
    /// Files, which somebody else renews.
    Files(CertificateFiles),
    /// The node obtains it itself.
    Acme(Box<AcmeCertificate>),
}

impl CertificateSource {
    /// Where the config has it.
    #[must_use]
    pub fn at(&self) -> &Spot {
        match self {
            Self::Files(files) => &files.cert.at,
            Self::Acme(acme) => &acme.at,
        }
    }

    /// What messages call it.
    #[must_use]
    pub fn shown(&self) -> String {
        match self {
            Self::Files(files) => files.cert.path.display().to_string(),
            Self::Acme(_) => "one by ACME".into(),
        }
    }
}

/// A certificate and its key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CertificateFiles {
    /// PEM file of the certificate and those that lead to its authority.
    pub cert: NamedFile,
    /// PEM file of its private key.
    pub key: NamedFile,
}

/// `tickets`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tickets {
    /// The file of secrets; `None` for a random one.
    pub secret: Option<NamedFile>,
    /// How long a key makes tickets, in whole seconds.
    pub rotate: Duration,
}

impl Default for Tickets {
    fn default() -> Self {
        Self { secret: None, rotate: DEFAULT_ROTATION }
    }
}

/// `tls` of a listener, as far as it concerns the certificates of clients.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClientCertificates {
    /// PEM file of their authorities.
    pub authorities: NamedFile,
    /// Whether clients without one are refused.
    pub is_required: bool,
}

/// `tls` of a pool.
#[derive(Clone, Debug, PartialEq)]
pub struct PoolTls {
    /// Where the config sets it.
    pub at: Spot,
    /// The name to send and verify; `None`: each backend's own.
    pub server_name: Option<ServerName<'static>>,
    /// The authorities to trust, at least one; `None`: those of the system.
    pub authorities: Option<Vec<TrustAnchor<'static>>>,
    /// What backends are shown.
    pub certificate: Option<CertificateFiles>,
}

fn pem_file(value: &Value<'_>) -> Option<NamedFile> {
    named_file(value, "the path of a PEM file")
}

pub(super) fn read_certificates(proxy: &Table<'_>) -> Vec<CertificateSource> {
    let Some(value) = proxy.get("certificate") else { return Vec::new() };
    let items = value.items("a list of certificates such as [{ cert = \"www.pem\", key = \"www.key\" }]");
    let items = items.unwrap_or_default();
    if items.len() > MOST_CERTIFICATES {
        value.fail::<()>(format!("at most {MOST_CERTIFICATES} certificates, found {}", items.len()));
    }
    let read = |item: &Value<'_>| {
        let table = item.table("proxy.certificate", &CERTIFICATE)?;
        if let Some(value) = table.get("acme") {
            table.refuse(&["cert", "key"], "with `acme`");
            return acme::read(&value).map(|acme| CertificateSource::Acme(Box::new(acme)));
        }
        if !table.has("cert") || !table.has("key") {
            table.report.absent(table.span.clone(), "a certificate needs `cert` and `key`, or `acme`");
        }
        let file = |key| table.get(key).and_then(|value| pem_file(&value));
        let (cert, key) = (file("cert"), file("key"));
        Some(CertificateSource::Files(CertificateFiles { cert: cert?, key: key? }))
    };
    items.iter().filter_map(read).collect()
}

pub(super) fn read_tickets(proxy: &Table<'_>) -> Tickets {
    let table = proxy.get("tickets").and_then(|value| value.table("proxy.tickets", &TICKETS));
    let Some(table) = table else { return Tickets::default() };
    let rotate = table.get("rotate").and_then(|value| {
        let rotate = value.duration(ROTATION)?;
        if rotate.subsec_nanos() > 0 { value.fail("expected whole seconds") } else { Some(rotate) }
    });
    Tickets {
        secret: table.get("secret_file").and_then(|value| named_file(&value, "the path of a file")),
        rotate: rotate.unwrap_or(DEFAULT_ROTATION),
    }
}

/// The table of a `tls` that may also be `true` or `false`. Inside is `None` for `true`.
fn open<'a>(value: &Value<'a>, name: String, keys: &'static Keys) -> Option<Option<Table<'a>>> {
    match value.as_boolean() {
        Some(is_on) => is_on.then_some(None),
        None if value.is_table() => value.table(name, keys).map(Some),
        None => value.expected("true, false or a table"),
    }
}

/// What the core knows of a listener's `tls`, and the files.
pub(super) type OfListener = (model::ListenerTls, Option<ClientCertificates>);

pub(super) fn of_listener(listener: &Table<'_>, has_certificate: bool) -> Option<OfListener> {
    let value = listener.get("tls")?;
    let table = open(&value, listener.path("tls"), &LISTENER_TLS)?;
    if !has_certificate {
        listener.report.error_with_help(
            value.span.clone(),
            "TLS needs a certificate, but [proxy] has none",
            "add [[proxy.certificate]] with `cert` and `key`",
        );
    }
    let Some(table) = table else { return Some((model::ListenerTls::default(), None)) };
    let authorities = table.need("client_ca").and_then(|value| pem_file(&value));
    let is_required = table.get("require").and_then(|value| value.boolean()).unwrap_or(true);
    let client_header = table.get("header").and_then(|value| read_header(&value));
    let clients = authorities.map(|authorities| ClientCertificates { authorities, is_required });
    Some((model::ListenerTls { client_header }, clients))
}

/// Only names that begin with `x-`, so that no header which HTTP itself needs can be replaced.
fn read_header(value: &Value<'_>) -> Option<HeaderName> {
    value.parsed("the name of a header such as \"x-client-cert\"", |text| {
        let name = text.parse::<HeaderName>().ok();
        name.filter(|name| name.as_str().starts_with("x-")).ok_or_else(|| {
            format!("{:?} is not a valid name here: it must begin with \"x-\"", text::shortened(text))
        })
    })
}

pub(super) fn of_pool(pool: &Table<'_>) -> Option<PoolTls> {
    let value = pool.get("tls")?;
    let at = pool.report.spot(value.span.clone());
    let Some(table) = open(&value, pool.path("tls"), &POOL_TLS)? else {
        return Some(PoolTls { at, server_name: None, authorities: None, certificate: None });
    };
    let file = |key| table.get(key).and_then(|value| pem_file(&value));
    let (cert, key) = (file("cert"), file("key"));
    for (present, absent) in [("cert", "key"), ("key", "cert")] {
        if table.has(present) && !table.has(absent) {
            table.report.error(table.key_span(present), format!("`{present}` needs `{absent}`"));
        }
    }
    Some(PoolTls {
        at,
        server_name: table.get("sni").and_then(|value| value.parsed("a host name", text::host)),
        authorities: table.get("ca").and_then(|value| read_authorities(&value)),
        certificate: cert.zip(key).map(|(cert, key)| CertificateFiles { cert, key }),
    })
}
