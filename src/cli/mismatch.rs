//! Why a program that answers cannot be used: TLS on one side only, or certificates that do not satisfy the other side.

use std::error::Error;
use std::io;

use rustls::{AlertDescription, CertificateError, InvalidMessage};

use super::node::Place;

/// The causes of an error, the outermost first. Those within an [`io::Error`] are not among its sources.
pub(super) fn causes<'e>(
    error: &'e (dyn Error + 'static),
) -> impl Iterator<Item = &'e (dyn Error + 'static)> {
    std::iter::successors(Some(error), |&error| {
        match error.downcast_ref::<io::Error>().and_then(io::Error::get_ref) {
            Some(inner) => Some(inner as &(dyn Error + 'static)),
            None => error.source(),
        }
    })
}

/// What to do about a request that failed although something answered at `place`, as a sentence; `None` if the error is
/// of another kind.
pub(super) fn sentence(place: &Place, error: &(dyn Error + 'static)) -> Option<String> {
    let bare = place.to_string();
    let bare = bare.trim_start_matches("https://");
    if causes(error).filter_map(|it| it.downcast_ref::<hyper::Error>()).any(hyper::Error::is_parse) {
        return Some(match place {
            Place::Url(url) if url.starts_with("http://") => {
                format!("{place} does not answer in HTTP; if it speaks TLS, use --control https://{bare}")
            }
            _ => format!("{place} does not answer in HTTP: is it a Portolan node?"),
        });
    }
    match causes(error).find_map(|it| it.downcast_ref::<rustls::Error>())? {
        rustls::Error::InvalidMessage(InvalidMessage::InvalidContentType) => Some(format!(
            "{place} does not answer in TLS; if it speaks plain HTTP, use --control http://{bare}"
        )),
        rustls::Error::InvalidCertificate(problem) => Some(format!("{place}: {}", untrusted(problem))),
        rustls::Error::AlertReceived(AlertDescription::CertificateRequired) => Some(format!(
            "{place} wants a client certificate, which this command does not send: \
             use the control socket on the node, --control PATH"
        )),
        other => Some(format!("{place}: the TLS connection failed: {other}")),
    }
}

fn untrusted(problem: &CertificateError) -> String {
    match problem {
        CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. } => {
            format!("its certificate is for another name ({problem}): use that name in --control")
        }
        CertificateError::Expired | CertificateError::ExpiredContext { .. } => {
            format!("its certificate has expired ({problem})")
        }
        // The verifier has no public name for it. Trusting such a certificate would not help.
        other if other.to_string().contains("CaUsedAsEndEntity") => {
            "its certificate is that of an authority (CA:TRUE), which clients refuse: \
             make one with CA:FALSE, as by `openssl req -x509 -addext basicConstraints=CA:FALSE`"
                .into()
        }
        other => format!(
            "its certificate is not trusted ({other}): set SSL_CERT_FILE to a PEM file with its authority, \
             or with the certificate if it is self-signed"
        ),
    }
}
