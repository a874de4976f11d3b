//! Heads of requests, as far as the lane understands them, and as backends get them.

use std::mem::MaybeUninit;

use bytes::Bytes;
use http::header::{CONNECTION, CONTENT_LENGTH, EXPECT, HOST, TE, TRAILER, TRANSFER_ENCODING, UPGRADE};
use http::request::Parts;
use http::{HeaderMap, HeaderName, HeaderValue, Method, Request, Uri, Version};

use super::chunks::Chunks;
use super::upload::Body;
use crate::proxy::http::LARGEST_HEAD;

/// Headers of a request or response; hyper's limit for HTTP/1.1.
pub(in crate::proxy::http) const MOST_HEADERS: usize = 100;

/// What a client has sent so far.
#[derive(Debug)]
pub(super) enum Received {
    /// A part of a head.
    Part,
    /// A head that the lane understands.
    Request(Box<Asked>),
    /// Something else: hyper answers it.
    Other,
}

/// A request that the lane understands.
#[derive(Debug)]
pub(super) struct Asked {
    pub(super) head: Request<()>,
    /// Bytes of the head.
    pub(super) length: usize,
    /// The body that follows it.
    pub(super) body: Body,
    /// Whether the client wants the connection closed after the response.
    pub(super) is_last: bool,
}

/// What the framing of a request depends on, collected header by header.
#[derive(Default)]
struct Framing {
    hosts: usize,
    length: Option<u64>,
    is_chunked: bool,
    connection: Option<Connection>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Connection {
    KeepAlive,
    Close,
}

/// Reads the head of a request: HTTP/1.1, a usual method, a path, one host, and a body of one length, in chunks, or none. All else, valid or not,
/// is left to hyper.
pub(super) fn read(received: &[u8]) -> Received {
    let mut headers = [const { MaybeUninit::uninit() }; MOST_HEADERS];
    let mut parsed = httparse::Request::new(&mut []);
    match parsed.parse_with_uninit_headers(received, &mut headers) {
        Ok(httparse::Status::Complete(length)) if length <= LARGEST_HEAD => {
            understood(&received[..length], &parsed).map_or(Received::Other, Received::Request)
        }
        Ok(httparse::Status::Partial) => Received::Part,
        Ok(httparse::Status::Complete(_)) | Err(_) => Received::Other,
    }
}

fn understood(received: &[u8], parsed: &httparse::Request<'_, '_>) -> Option<Box<Asked>> {
    let (Some(method), Some(path), Some(1)) = (parsed.method, parsed.path, parsed.version) else {
        return None;
    };
    let method = usual(method)?;
    if !path.starts_with('/') {
        return None;
    }
    let owned = Bytes::copy_from_slice(received);
    let uri = Uri::from_maybe_shared(part(&owned, received, path.as_bytes())).ok()?;
    let mut framing = Framing::default();
    let mut headers = HeaderMap::with_capacity(parsed.headers.len() + ADDED_HEADERS);
    for header in &*parsed.headers {
        let name = HeaderName::from_bytes(header.name.as_bytes()).ok()?;
        framing.take(&name, header.value)?;
        headers.append(name, HeaderValue::from_maybe_shared(part(&owned, received, header.value)).ok()?);
    }
    let body = match (framing.length, framing.is_chunked) {
        (None | Some(0), false) => Body::Ended,
        (Some(length), false) => Body::Length(length),
        (None, true) => Body::Chunked(Chunks::new()),
        (Some(_), true) => return None,
    };
    if framing.hosts != 1 {
        return None;
    }
    let mut head = Request::new(());
    (*head.method_mut(), *head.uri_mut(), *head.version_mut()) = (method, uri, Version::HTTP_11);
    *head.headers_mut() = headers;
    let is_last = framing.connection == Some(Connection::Close);
    Some(Box::new(Asked { head, length: received.len(), body, is_last }))
}

/// Headers that the proxy adds to most requests; room for them is made at once.
const ADDED_HEADERS: usize = 6;

/// The methods that the lane knows the meaning of.
fn usual(method: &str) -> Option<Method> {
    Some(match method {
        "GET" => Method::GET,
        "HEAD" => Method::HEAD,
        "POST" => Method::POST,
        "PUT" => Method::PUT,
        "DELETE" => Method::DELETE,
        "PATCH" => Method::PATCH,
        "OPTIONS" => Method::OPTIONS,
        _ => return None,
    })
}

/// The part of `owned` that is at the place of `of` in `whole`, of which `owned` is a copy.
pub(super) fn part(owned: &Bytes, whole: &[u8], of: &[u8]) -> Bytes {
    let start = of.as_ptr() as usize - whole.as_ptr() as usize;
    owned.slice(start..start + of.len())
}

impl Framing {
    /// Takes a header into account; `None` if the lane does not understand it.
    fn take(&mut self, name: &HeaderName, value: &[u8]) -> Option<()> {
        if *name == HOST {
            self.hosts += 1;
        } else if *name == CONTENT_LENGTH {
            let length = digits(value)?;
            if self.length.replace(length).is_some() {
                return None;
            }
        } else if *name == CONNECTION {
            let connection = match value {
                value if value.eq_ignore_ascii_case(b"keep-alive") => Connection::KeepAlive,
                value if value.eq_ignore_ascii_case(b"close") => Connection::Close,
                _ => return None,
            };
            if self.connection.replace(connection).is_some() {
                return None;
            }
        } else if *name == TRANSFER_ENCODING {
            if !value.eq_ignore_ascii_case(b"chunked") || std::mem::replace(&mut self.is_chunked, true) {
                return None;
            }
        } else if [UPGRADE, EXPECT, TE, TRAILER].contains(name) {
            return None;
        }
        Some(())
    }
}

/// A number as `Content-Length` has it (RFC 9110 §8.6).
pub(super) fn digits(text: &[u8]) -> Option<u64> {
    let is_number = !text.is_empty() && text.iter().all(u8::is_ascii_digit);
    is_number.then(|| std::str::from_utf8(text).ok()?.parse().ok()).flatten()
}

/// Writes the head of a request.
pub(super) fn write(head: &Parts, body: &Body, to: &mut Vec<u8>) {
    to.extend_from_slice(head.method.as_str().as_bytes());
    to.push(b' ');
    let target = head.uri.path_and_query().map_or("/", |it| it.as_str());
    to.extend_from_slice(target.as_bytes());
    to.extend_from_slice(b" HTTP/1.1\r\n");
    write_headers(&head.headers, to);
    if let Body::Chunked(_) = body {
        write_header("transfer-encoding", b"chunked", to);
    }
    to.extend_from_slice(b"\r\n");
}

pub(super) fn write_headers(headers: &HeaderMap, to: &mut Vec<u8>) {
    for (name, value) in headers {
        write_header(name.as_str(), value.as_bytes(), to);
    }
}

pub(super) fn write_header(name: &str, value: &[u8], to: &mut Vec<u8>) {
    to.extend_from_slice(name.as_bytes());
    to.extend_from_slice(b": ");
    to.extend_from_slice(value);
    to.extend_from_slice(b"\r\n");
}
