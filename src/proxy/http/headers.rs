//! The headers that a proxy removes and adds.

use std::net::IpAddr;

use http::header::{
    AGE, AUTHORIZATION, CACHE_CONTROL, CONNECTION, CONTENT_ENCODING, CONTENT_LENGTH, CONTENT_RANGE,
    CONTENT_TYPE, COOKIE, EXPECT, HOST, LOCATION, MAX_FORWARDS, PROXY_AUTHORIZATION, SET_COOKIE, TE, TRAILER,
    TRANSFER_ENCODING, UPGRADE, VIA,
};
use http::request::Parts;
use http::uri::{Authority, Scheme};
use http::{HeaderMap, HeaderName, HeaderValue, Method, Request, StatusCode, Uri, Version};
use hyper::body::{Body, Bytes, Frame};
use smallvec::SmallVec;

use super::identity::{self, Ids, X_FORWARDED_PROTO, identify};
use super::target::{self, Refusal};
use crate::model::{ClientHeaders, Edits};

const KEEP_ALIVE: HeaderName = HeaderName::from_static("keep-alive");
const PROXY_CONNECTION: HeaderName = HeaderName::from_static("proxy-connection");

const HTTP2_SETTINGS: HeaderName = HeaderName::from_static("http2-settings");

/// The protocol that a request asks to upgrade to, if it does and may (RFC 9110 §7.8). An upgrade to HTTP/2 is ignored:
/// the requests that follow it would reach the backend past all routes.
pub(super) fn upgrade<B>(request: &Request<B>) -> Option<HeaderValue> {
    let headers = request.headers();
    let is_named = headers.get_all(CONNECTION).iter().any(|it| names(it, "upgrade"));
    let (true, Version::HTTP_11) = (is_named, request.version()) else { return None };
    let mut asked = headers.get_all(UPGRADE).iter();
    let (Some(protocol), None) = (asked.next(), asked.next()) else { return None };
    let is_http = |protocol: &str| {
        let protocol = protocol.trim().as_bytes();
        protocol.eq_ignore_ascii_case(b"h2c")
            || protocol.get(..4).is_some_and(|it| it.eq_ignore_ascii_case(b"http"))
    };
    let is_http = protocol.to_str().is_ok_and(|list| list.split(',').any(is_http));
    (!is_http).then(|| protocol.clone())
}

/// Whether a list of names contains one, in any case.
fn names(list: &HeaderValue, name: &str) -> bool {
    let list = list.to_str().unwrap_or_default();
    list.split(',').any(|it| it.trim().eq_ignore_ascii_case(name))
}

/// Which headers that the proxy acts on a message has. To look at each name once costs less than to ask for every one of
/// them.
#[derive(Default)]
struct Present {
    connection: bool,
    /// Others that concern one connection only.
    hop_by_hop: bool,
    expect: bool,
    cookie: bool,
    /// What only trusted hops may say.
    claims: bool,
}

impl Present {
    fn among(headers: &HeaderMap) -> Self {
        let mut present = Self::default();
        for name in headers.keys() {
            match name.as_str() {
                "connection" => present.connection = true,
                "http2-settings" | "keep-alive" | "proxy-connection" | "te" | "transfer-encoding"
                | "upgrade" => {
                    present.hop_by_hop = true;
                }
                "expect" => present.expect = true,
                "cookie" => present.cookie = true,
                name if identity::is_claim(name) => present.claims = true,
                _ => {}
            }
        }
        present
    }
}

/// Removes what concerns one connection only (RFC 9110 §7.6.1): what `Connection` names, and what is known to.
pub(super) fn remove_hop_by_hop(headers: &mut HeaderMap) {
    let present = Present::among(headers);
    remove_present_hop_by_hop(headers, &present);
}

fn remove_present_hop_by_hop(headers: &mut HeaderMap, present: &Present) {
    if present.connection {
        let named: SmallVec<[HeaderName; 2]> = headers
            .get_all(CONNECTION)
            .iter()
            .filter(|it| !matches!(it.as_bytes(), b"keep-alive" | b"close"))
            .filter_map(|it| it.to_str().ok())
            .flat_map(|it| it.split(','))
            .filter_map(|it| it.trim().parse().ok())
            // It concerns the message, whatever a peer says: without it, nobody would know where the body ends.
            .filter(|name| *name != CONTENT_LENGTH)
            .collect();
        remove_all(headers, &named);
        headers.remove(CONNECTION);
    }
    if present.hop_by_hop {
        remove_all(headers, &[HTTP2_SETTINGS, KEEP_ALIVE, PROXY_CONNECTION, TE, TRANSFER_ENCODING, UPGRADE]);
    }
}

/// Removes the headers with these names. Most are not there, and comparing names costs less than hashing them.
pub(super) fn remove_all(headers: &mut HeaderMap, names: &[HeaderName]) {
    for name in names {
        if headers.keys().any(|it| it == name) {
            headers.remove(name);
        }
    }
}

/// Who sends a request, and how.
pub(super) struct Sender<'a> {
    /// Its address, as [`shown`] writes it.
    pub(super) shown: &'a HeaderValue,
    /// Whether what it says about the hops before it is believed.
    pub(super) is_trusted: bool,
    /// Whether it sends over TLS.
    pub(super) is_encrypted: bool,
    /// Its certificate, in the header that shows it to backends.
    pub(super) certificate: Option<&'a (HeaderName, HeaderValue)>,
    /// All headers that show backends certificates.
    pub(super) certificate_headers: &'a [HeaderName],
    /// What backends learn of it.
    pub(super) headers: &'a ClientHeaders,
    /// Where new ids come from.
    pub(super) ids: &'a Ids,
}

/// Makes the request that a backend gets of the one that a client sent.
///
/// # Errors
/// If the path, rewritten, is not valid.
pub(super) fn prepare<B>(
    request: &mut Request<B>,
    authority: &Authority,
    sender: &Sender<'_>,
    edits: &Edits,
) -> Result<(), Refusal> {
    let present = Present::among(request.headers());
    let accepts_trailers =
        present.hop_by_hop && request.headers().get_all(TE).iter().any(|it| names(it, "trailers"));
    let upgrade = if present.hop_by_hop { upgrade(request) } else { None };
    let received = request.version();
    let headers = request.headers_mut();
    remove_present_hop_by_hop(headers, &present);
    if present.expect {
        // The proxy itself asks the client to go on.
        headers.remove(EXPECT);
    }
    if let Some(protocol) = upgrade {
        headers.append(CONNECTION, HeaderValue::from_static("upgrade"));
        headers.insert(UPGRADE, protocol);
    }
    if accepts_trailers {
        headers.append(CONNECTION, HeaderValue::from_static("te"));
        headers.insert(TE, HeaderValue::from_static("trailers"));
    }
    if present.cookie {
        join_cookies(headers);
    }
    identify(headers, authority, sender, present.claims);
    headers.append(VIA, via(received));
    if let Some(host) = &edits.host {
        headers.insert(HOST, host.clone());
    }
    edits.request.apply(headers);
    let path = match &edits.path {
        None => request.uri().path_and_query().cloned(),
        Some(edit) => Some(target::rewritten(request.uri(), edit)?),
    };
    *request.uri_mut() = path.map_or_else(|| Uri::from_static("/"), Uri::from);
    if *request.method() == Method::OPTIONS && request.uri().path() == "*" {
        *request.uri_mut() = Uri::from_static("*");
    }
    *request.version_mut() = Version::HTTP_11;
    Ok(())
}

/// Whether the client sent a prepared request over TLS, to this proxy or to a trusted one before it.
pub(super) fn is_secure(headers: &HeaderMap) -> bool {
    headers.get(X_FORWARDED_PROTO).is_some_and(|it| it.as_bytes().eq_ignore_ascii_case(b"https"))
}

/// Makes one header of the cookies that HTTP/2 allows to be several (RFC 9113 §8.2.3).
fn join_cookies(headers: &mut HeaderMap) {
    let mut cookies = headers.get_all(COOKIE).iter();
    if let (Some(_), Some(_)) = (cookies.next(), cookies.next()) {
        let all: Vec<&[u8]> = headers.get_all(COOKIE).iter().map(HeaderValue::as_bytes).collect();
        if let Some(joined) = joined(&all, b"; ") {
            headers.insert(COOKIE, joined);
        }
    }
}

/// Says how a body of unknown length ends. For GET, hyper would otherwise send none.
pub(super) fn frame(head: &mut Parts, body: &impl Body) {
    if !body.is_end_stream() && body.size_hint().exact().is_none() {
        head.headers.insert(TRANSFER_ENCODING, HeaderValue::from_static("chunked"));
    }
}

/// Makes a prepared request one for HTTP/2 (RFC 9113 §8.2.2, §8.3.1).
pub(super) fn for_http2(head: &mut Parts, is_encrypted: bool) {
    let headers = &mut head.headers;
    for name in [CONNECTION, UPGRADE, TRANSFER_ENCODING] {
        headers.remove(name);
    }
    let host = headers.remove(HOST);
    let host = host.and_then(|it| Authority::try_from(it.as_bytes()).ok());
    let mut parts = std::mem::take(&mut head.uri).into_parts();
    parts.scheme = Some(if is_encrypted { Scheme::HTTPS } else { Scheme::HTTP });
    // Only HTTP/1.0 has requests without a host.
    parts.authority = Some(host.unwrap_or_else(|| Authority::from_static("-")));
    head.uri = Uri::from_parts(parts).unwrap_or_default();
    head.version = Version::HTTP_2;
}

/// What trailers must not contain (RFC 9110 §6.5.1): recipients may take them for headers that decide where a message ends,
/// who sent it, or what it is.
const NO_TRAILERS: [HeaderName; 22] = [
    AGE,
    AUTHORIZATION,
    CACHE_CONTROL,
    CONNECTION,
    CONTENT_ENCODING,
    CONTENT_LENGTH,
    CONTENT_RANGE,
    CONTENT_TYPE,
    COOKIE,
    EXPECT,
    HOST,
    KEEP_ALIVE,
    LOCATION,
    MAX_FORWARDS,
    PROXY_AUTHORIZATION,
    PROXY_CONNECTION,
    SET_COOKIE,
    TE,
    TRAILER,
    TRANSFER_ENCODING,
    UPGRADE,
    VIA,
];

/// A part of a body; trailers without what they must not contain.
pub(super) fn without_framing(frame: Frame<Bytes>) -> Frame<Bytes> {
    if !frame.is_trailers() {
        return frame;
    }
    frame.into_trailers().map_or_else(
        |other| other,
        |mut trailers| {
            for name in NO_TRAILERS {
                trailers.remove(name);
            }
            identity::remove_claims(&mut trailers);
            Frame::trailers(trailers)
        },
    )
}

/// An address as the value of a header.
pub(in crate::proxy) fn shown(address: IpAddr) -> HeaderValue {
    HeaderValue::try_from(address.to_string()).unwrap_or(HeaderValue::from_static("unknown"))
}

pub(super) fn joined(values: &[&[u8]], separator: &[u8]) -> Option<HeaderValue> {
    HeaderValue::from_bytes(&values.join(separator)).ok()
}

/// The entry of this proxy (RFC 9110 §7.6.3).
fn via(received: Version) -> HeaderValue {
    HeaderValue::from_static(match received {
        Version::HTTP_10 => "1.0 portolan",
        Version::HTTP_2 => "2 portolan",
        _ => "1.1 portolan",
    })
}

/// Where the body of a response ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Framing {
    /// There is none.
    None,
    /// After this many bytes.
    Length(u64),
    /// After the last chunk.
    Chunked,
    /// Where the backend closes the connection.
    UntilClose,
}

/// Where the body of a response ends (RFC 9112 §6.3); `None` if its headers do not say so clearly.
pub(super) fn framing(method: &Method, status: StatusCode, headers: &HeaderMap) -> Option<Framing> {
    if *method == Method::HEAD || matches!(status.as_u16(), 100..200 | 204 | 304) {
        return Some(Framing::None);
    }
    let mut codings = headers.get_all(TRANSFER_ENCODING).iter();
    let mut lengths = headers.get_all(CONTENT_LENGTH).iter();
    match (codings.next(), lengths.next()) {
        (Some(coding), None)
            if codings.next().is_none() && coding.as_bytes().eq_ignore_ascii_case(b"chunked") =>
        {
            Some(Framing::Chunked)
        }
        (None, Some(length)) if lengths.next().is_none() => {
            let length = length.as_bytes();
            let is_number = !length.is_empty() && length.iter().all(u8::is_ascii_digit);
            let number = is_number.then(|| std::str::from_utf8(length).ok()?.parse().ok()).flatten();
            number.map(Framing::Length)
        }
        (None, None) => Some(Framing::UntilClose),
        _ => None,
    }
}
