//! Heads of responses: as backends send them, and as clients get them.

use std::mem::MaybeUninit;
use std::time::UNIX_EPOCH;

use bytes::{Buf as _, Bytes, BytesMut};
use http::header::{CONNECTION, DATE, TRANSFER_ENCODING};
use http::{HeaderMap, HeaderName, HeaderValue, Method, Response, StatusCode};

use super::request::{MOST_HEADERS, part, write_header, write_headers};
use crate::net::clock::Clock;
use crate::proxy::http::headers::{self, Framing};
use crate::proxy::upstream::Failure;

/// The head of a backend's response.
#[derive(Debug)]
pub(super) struct Answered {
    pub(super) head: Response<()>,
    /// The phrase behind the status.
    pub(super) reason: Bytes,
    pub(super) framing: Framing,
    /// Whether the backend keeps the connection open after the body.
    pub(super) keeps: bool,
}

/// Why the response of a backend cannot be used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Malformed {
    /// It is not HTTP/1.
    NotHttp,
    /// It has more headers, or a longer head, than the proxy takes.
    TooLarge,
    /// Where its body ends is not clear.
    Framing,
}

/// Takes the head of a response to a request with this method from what a backend has sent; `None` if it is not there
/// yet.
///
/// # Errors
/// If it is malformed.
pub(super) fn take(received: &mut BytesMut, method: &Method) -> Result<Option<Answered>, Malformed> {
    loop {
        let Some((answered, length)) = read(received, method)? else { return Ok(None) };
        received.advance(length);
        match answered.head.status().as_u16() {
            101 => return Ok(Some(answered)),
            // Interim responses concern the connection to the backend.
            100..200 => {}
            _ => return Ok(Some(answered)),
        }
    }
}

fn read(received: &[u8], method: &Method) -> Result<Option<(Answered, usize)>, Malformed> {
    let mut headers = [const { MaybeUninit::uninit() }; MOST_HEADERS];
    let mut parsed = httparse::Response::new(&mut []);
    let config = httparse::ParserConfig::default();
    let length = match config.parse_response_with_uninit_headers(&mut parsed, received, &mut headers) {
        Ok(httparse::Status::Complete(length)) => length,
        Ok(httparse::Status::Partial) => return Ok(None),
        Err(httparse::Error::TooManyHeaders) => return Err(Malformed::TooLarge),
        Err(_) => return Err(Malformed::NotHttp),
    };
    let whole = &received[..length];
    let (Some(code), Some(reason), Some(version)) = (parsed.code, parsed.reason, parsed.version) else {
        return Err(Malformed::NotHttp);
    };
    let status = StatusCode::from_u16(code).map_err(|_| Malformed::NotHttp)?;
    let owned = Bytes::copy_from_slice(whole);
    let mut map = HeaderMap::with_capacity(parsed.headers.len());
    for header in &*parsed.headers {
        let name = HeaderName::from_bytes(header.name.as_bytes()).map_err(|_| Malformed::NotHttp)?;
        let value = HeaderValue::from_maybe_shared(part(&owned, whole, header.value));
        map.append(name, value.map_err(|_| Malformed::NotHttp)?);
    }
    let is_1_1 = version == 1;
    let framing = headers::framing(method, status, &map).ok_or(Malformed::Framing)?;
    if !is_1_1 && map.contains_key(TRANSFER_ENCODING) {
        return Err(Malformed::Framing);
    }
    let keeps = keeps(is_1_1, &map) && framing != Framing::UntilClose;
    let reason = Bytes::copy_from_slice(reason.as_bytes());
    let mut head = Response::new(());
    *head.status_mut() = status;
    *head.headers_mut() = map;
    Ok(Some((Answered { head, reason, framing, keeps }, length)))
}

/// Whether a connection stays open (RFC 9112 §9.3).
fn keeps(is_1_1: bool, headers: &HeaderMap) -> bool {
    let mut keeps = is_1_1;
    for option in
        headers.get_all(CONNECTION).iter().filter_map(|it| it.to_str().ok()).flat_map(|it| it.split(','))
    {
        match option.trim() {
            option if option.eq_ignore_ascii_case("close") => return false,
            option if option.eq_ignore_ascii_case("keep-alive") => keeps = true,
            _ => {}
        }
    }
    keeps
}

impl From<Malformed> for Failure {
    fn from(malformed: Malformed) -> Self {
        match malformed {
            Malformed::NotHttp => Self::Malformed("it is not valid HTTP/1".into()),
            Malformed::TooLarge => Self::Malformed("its head is too large".into()),
            Malformed::Framing => Self::unclear_framing(),
        }
    }
}

/// How a response is written.
pub(super) struct Writing<'a> {
    /// The phrase behind the status; `None` for the usual one.
    pub(super) reason: Option<&'a [u8]>,
    pub(super) is_chunked: bool,
    /// Whether the connection is closed after it.
    pub(super) is_last: bool,
}

/// Writes the head of a response.
pub(super) fn write<B>(head: &Response<B>, writing: &Writing<'_>, to: &mut Vec<u8>) {
    let status = head.status();
    to.extend_from_slice(b"HTTP/1.1 ");
    to.extend_from_slice(status.as_str().as_bytes());
    to.push(b' ');
    let usual = status.canonical_reason().unwrap_or("<none>").as_bytes();
    to.extend_from_slice(writing.reason.unwrap_or(usual));
    to.extend_from_slice(b"\r\n");
    write_headers(head.headers(), to);
    if writing.is_chunked {
        to.extend_from_slice(b"transfer-encoding: chunked\r\n");
    }
    if writing.is_last {
        to.extend_from_slice(b"connection: close\r\n");
    }
    if !head.headers().contains_key(DATE) {
        let now = httpdate::fmt_http_date(UNIX_EPOCH + Clock::unix().0);
        write_header("date", now.as_bytes(), to);
    }
    to.extend_from_slice(b"\r\n");
}
