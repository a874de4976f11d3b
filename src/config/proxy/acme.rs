//! `acme` of a certificate: the node obtains and renews it itself (RFC 8555).

use rustls::pki_types::{ServerName, TrustAnchor};

use super::super::keys::Shape::{Boolean, Fields, List, Text, Words};
use super::super::keys::{Keys, default, key, otherwise, required};
use super::super::listen::named_file;
use super::super::probe::read_authorities;
use super::super::table::{At, Value};
use super::super::{NamedFile, Spot, text};

pub(super) const ACME: Keys = Keys {
    known: &[
        key(
            "names",
            List(&Text),
            required("[\"www.example.com\"]"),
            "names that the certificate is for; wildcards such as \"*.example.com\" need `challenge = \"dns-01\"`",
        ),
        key(
            "terms_agreed",
            Boolean,
            required("true"),
            "that you agree to the terms of service of the authority",
        ),
        key(
            "challenge",
            Words(&["http-01", "dns-01"]),
            default("\"http-01\""),
            "how the node proves that it controls the names: at port 80 of each, or by a record in a zone of this node",
        ),
        key(
            "contact",
            Text,
            otherwise("\"mailto:ops@example.com\"", "none"),
            "where the authority writes to about the account",
        ),
        key("directory", Text, default(DIRECTORY_SHOWN), "URL of the authority's ACME directory"),
        key(
            "ca",
            Text,
            otherwise("\"acme-ca.pem\"", "those of the system"),
            "PEM file of the authorities that the ACME server itself must have a certificate of",
        ),
        key(
            "eab",
            Fields(&EAB),
            otherwise("{ kid = \"kid-1\", key_file = \"eab.key\" }", "none"),
            "the account at the authority to bind to (RFC 8555 §7.3.4)",
        ),
    ],
    later: &[],
};
const EAB: Keys = Keys {
    known: &[
        key("kid", Text, required("\"kid-1\""), "identifier of the key, from the authority"),
        key(
            "key_file",
            Text,
            required("\"eab.key\""),
            "file with the key as base64url, to which not every user may have access",
        ),
    ],
    later: &[],
};

const DIRECTORY: &str = "https://acme-v02.api.letsencrypt.org/directory";
const DIRECTORY_SHOWN: &str = "\"https://acme-v02.api.letsencrypt.org/directory\"";
/// Names of one certificate: authorities accept no more, and one that cannot be proved fails all.
const MOST_NAMES: usize = 100;

/// A certificate that the node obtains itself.
#[derive(Clone, Debug, PartialEq)]
pub struct AcmeCertificate {
    /// Where the config has it.
    pub at: Spot,
    /// In lower case without a final dot; wildcards begin with `*.`. At least one.
    pub names: Vec<String>,
    /// How they are proved.
    pub challenge: AcmeChallenge,
    /// A URL.
    pub contact: Option<String>,
    /// The URL of the directory, which begins with `https://`.
    pub directory: String,
    /// Who certifies the ACME server, at least one; `None`: those of the system.
    pub authorities: Option<Vec<TrustAnchor<'static>>>,
    /// The account at the authority to bind to.
    pub external_account: Option<ExternalAccount>,
}

/// How names are proved.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AcmeChallenge {
    /// By a response at port 80.
    Http,
    /// By a TXT record.
    Dns,
}

/// `eab`
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ExternalAccount {
    /// The identifier of the key.
    pub kid: String,
    /// The file that holds the key.
    pub key: NamedFile,
}

pub(super) fn read(value: &Value<'_>) -> Option<AcmeCertificate> {
    let table = value.table("proxy.certificate.acme", &ACME)?;
    let challenge = table.get("challenge").and_then(|value| {
        value.choice(&[("http-01", AcmeChallenge::Http), ("dns-01", AcmeChallenge::Dns)], &[])
    });
    let challenge = challenge.unwrap_or(AcmeChallenge::Http);
    let names = table.need("names").map(|value| read_names(&value, challenge));
    if let Some(value) = table.need("terms_agreed")
        && value.boolean() == Some(false)
    {
        value.fail::<()>("the authority issues nothing unless you agree to its terms of service");
    }
    let contact = table
        .get("contact")
        .and_then(|value| value.parsed("a URL such as \"mailto:ops@example.com\"", contact));
    let directory = table.get("directory").map(|value| value.parsed("a URL", directory));
    let external_account = table.get("eab").and_then(|value| read_external(&value));
    Some(AcmeCertificate {
        at: value.report.spot(value.span.clone()),
        names: names?.into_iter().map(|name| name.value).collect(),
        challenge,
        contact,
        directory: directory.unwrap_or_else(|| Some(DIRECTORY.into()))?,
        authorities: table.get("ca").and_then(|value| read_authorities(&value)),
        external_account,
    })
}

fn read_names(value: &Value<'_>, challenge: AcmeChallenge) -> Vec<At<String>> {
    let items = value.items("a list of names such as [\"www.example.com\"]").unwrap_or_default();
    if items.len() > MOST_NAMES {
        value.fail::<()>(format!("at most {MOST_NAMES} names, found {}", items.len()));
    }
    let mut names: Vec<At<String>> = Vec::new();
    for item in &items {
        let Some(name) = item.parsed("a name such as \"www.example.com\"", certificate_name) else {
            continue;
        };
        if name.starts_with("*.") && challenge == AcmeChallenge::Http {
            item.fail::<()>("a wildcard cannot be proved by \"http-01\": set `challenge = \"dns-01\"`");
        }
        if names.iter().any(|other| other.value == name) {
            item.fail::<()>(format!("`{name}` is listed twice"));
        }
        names.push(item.at(name));
    }
    names
}

/// A host name, or `*.` before one, as certificates have it.
fn certificate_name(text: &str) -> Result<String, String> {
    let base = text.strip_prefix("*.").unwrap_or(text);
    text::target(base)?;
    match text::host(base)? {
        ServerName::DnsName(_) if base.trim_end_matches('.').contains('.') => {
            Ok(text.trim_end_matches('.').to_ascii_lowercase())
        }
        _ => Err(format!("{:?} is not a name that authorities certify", text::shortened(text))),
    }
}

fn contact(text: &str) -> Result<String, String> {
    let is_plain = text.bytes().all(|byte| byte.is_ascii_graphic());
    let is_url = text.split_once(':').is_some_and(|(scheme, rest)| !scheme.is_empty() && !rest.is_empty());
    if is_plain && is_url {
        return Ok(text.to_owned());
    }
    Err(format!("{:?} is not a URL such as \"mailto:ops@example.com\"", text::shortened(text)))
}

fn directory(text: &str) -> Result<String, String> {
    let uri = text.parse::<http::Uri>().ok().filter(|uri| uri.scheme_str() == Some("https"));
    match uri.and_then(|uri| uri.host().map(|host| !host.is_empty())) {
        Some(true) => Ok(text.to_owned()),
        _ => Err(format!("{:?} is not a URL that begins with https://", text::shortened(text))),
    }
}

fn read_external(value: &Value<'_>) -> Option<ExternalAccount> {
    let table = value.table("proxy.certificate.acme.eab", &EAB)?;
    let kid = table.need("kid").and_then(|value| Some(value.text("an identifier")?.to_owned()));
    let key = table.need("key_file").and_then(|value| named_file(&value, "the path of a file"));
    Some(ExternalAccount { kid: kid?, key: key? })
}
