//! What a request is for.

use http::header::HOST;
use http::uri::{Authority, PathAndQuery};
use http::{Method, Request, StatusCode, Uri, Version};

use crate::model::PathEdit;

/// Why a request is refused before any route is looked at: a status and a sentence.
pub(super) type Refusal = (StatusCode, &'static str);

/// The host that a request names, as the client wrote it, with its port.
///
/// # Errors
/// If it names none, several, or different ones (RFC 9112 §3.2), or asks for a tunnel.
pub(super) fn authority<B>(request: &Request<B>) -> Result<Authority, Refusal> {
    const BAD: StatusCode = StatusCode::BAD_REQUEST;
    if request.method() == Method::CONNECT {
        return Err((StatusCode::NOT_IMPLEMENTED, "this proxy opens no tunnels\n"));
    }
    let mut hosts = request.headers().get_all(HOST).iter();
    let (header, None) = (hosts.next(), hosts.next()) else { return Err((BAD, "several Host headers\n")) };
    let header = match header.map(|it| Authority::try_from(it.as_bytes())) {
        Some(Ok(authority)) => Some(authority),
        Some(Err(_)) => return Err((BAD, "the Host header is not a valid host\n")),
        None => None,
    };
    let named = match (request.uri().authority(), header) {
        (Some(target), Some(header)) if !target.as_str().eq_ignore_ascii_case(header.as_str()) => {
            return Err((BAD, "the Host header and the target name different hosts\n"));
        }
        (Some(target), _) => target.clone(),
        (None, Some(header)) => header,
        (None, None) if request.version() == Version::HTTP_10 => Authority::from_static("-"),
        (None, None) => return Err((BAD, "no Host header\n")),
    };
    if named.as_str().contains('@') {
        return Err((BAD, "the host must not contain user information\n"));
    }
    Ok(named)
}

/// The path, rewritten, with the query as it is.
///
/// # Errors
/// If it is not valid, for example too long.
pub(super) fn rewritten(uri: &Uri, edit: &PathEdit) -> Result<PathAndQuery, Refusal> {
    let path = edit.apply(uri.path());
    let whole = match uri.query() {
        Some(query) => format!("{path}?{query}"),
        None => path,
    };
    whole.parse().map_err(|_| (StatusCode::BAD_REQUEST, "the path cannot be rewritten\n"))
}
