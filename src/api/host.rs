//! Which sites a request may come from. A browser may send requests here on behalf of any page that it shows: from
//! pages whose name resolves to this node's address (DNS rebinding, seen by the `Host`), and from pages of other sites
//! (cross-site requests, seen by the `Origin`).

use std::net::IpAddr;

use axum::extract::Request;
use axum::http::uri::Authority;
use axum::http::{HeaderMap, HeaderName, HeaderValue, StatusCode, Version, header};

use super::problem::Problem;

/// Passes requests to an address, to `localhost` or to one of `names`, from no page or from a page of this very server.
///
/// # Errors
/// 400 for a missing, repeated or malformed `Host`, 421 for another name, 403 for another origin.
pub(super) fn check(names: &[String], request: &Request) -> Result<(), Problem> {
    let Some(host) = host(request)? else { return Ok(()) };
    // RFC 9112 §3.2.2: the target in absolute form counts, the Host is ignored. Here both must be good.
    for authority in request.uri().authority().into_iter().chain([&host]) {
        if !is_ours(names, authority.host()) {
            let host = authority.host();
            let detail = format!(
                "`{host}` is not a name of this node: use its address or `localhost`, or add the name to `hosts` of [control]"
            );
            return Err(Problem::new(StatusCode::MISDIRECTED_REQUEST, detail));
        }
    }
    let Some(origin) = only(request.headers(), header::ORIGIN)? else { return Ok(()) };
    let origin = origin.to_str().unwrap_or("?");
    let site = origin.split_once("://").map(|(_, site)| site);
    if site.is_some_and(|site| site.eq_ignore_ascii_case(host.as_str())) {
        return Ok(());
    }
    Err(Problem::new(
        StatusCode::FORBIDDEN,
        format!("requests from pages of other sites are refused: the origin is {origin}, this is {host}"),
    ))
}

/// The host that a request names. Requests of HTTP/1.0 may leave it out, as some health checks of balancers do; browsers
/// never do.
fn host(request: &Request) -> Result<Option<Authority>, Problem> {
    let value = match only(request.headers(), header::HOST)? {
        Some(value) => value,
        None if request.version() == Version::HTTP_10 => return Ok(None),
        // RFC 9112 §3.2: 400 for HTTP/1.1 without a Host, with several, or with an invalid one.
        None => return Err(Problem::bad_request("a request must have exactly one Host header")),
    };
    match Authority::try_from(value.as_bytes()) {
        Ok(authority) if !authority.as_str().contains('@') => Ok(Some(authority)),
        _ => Err(Problem::bad_request(
            "the value is not a valid Host: write a name or an address, and a port if needed",
        )),
    }
}

fn only(headers: &HeaderMap, name: HeaderName) -> Result<Option<&HeaderValue>, Problem> {
    let mut values = headers.get_all(&name).iter();
    match (values.next(), values.next()) {
        (_, Some(_)) if name == header::HOST => {
            Err(Problem::bad_request("a request must have exactly one Host header"))
        }
        (_, Some(_)) => Err(Problem::bad_request("a request must not have several Origin headers")),
        (value, None) => Ok(value),
    }
}

/// An address cannot be rebound; a name is good if the operator says so.
fn is_ours(names: &[String], host: &str) -> bool {
    let bare = host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(host);
    if bare.parse::<IpAddr>().is_ok() {
        return true;
    }
    let name = host.strip_suffix('.').unwrap_or(host);
    name.eq_ignore_ascii_case("localhost") || names.iter().any(|known| name.eq_ignore_ascii_case(known))
}
