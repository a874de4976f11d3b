//! WebSocket over HTTP/2 (RFC 8441): an extended CONNECT means the same as the upgrade of HTTP/1.1, which all routes see.

use aws_lc_rs::digest::{SHA1_FOR_LEGACY_USE_ONLY, digest};
use data_encoding::BASE64;
use http::header::{
    CONNECTION, CONTENT_LENGTH, SEC_WEBSOCKET_ACCEPT, SEC_WEBSOCKET_KEY, TRANSFER_ENCODING, UPGRADE,
};
use http::request::Parts;
use http::{HeaderValue, Method, Request, Response, StatusCode, Version};
use hyper::ext::Protocol;

use super::body::ResponseBody;
use super::reply;

const WEBSOCKET: &str = "websocket";
/// RFC 6455 §1.3.
const GUID: &[u8] = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11";

/// Whether a request is an extended CONNECT for a WebSocket.
pub(super) fn is_tunnel<B>(request: &Request<B>) -> bool {
    let protocol = request.extensions().get::<Protocol>();
    *request.method() == Method::CONNECT && protocol.is_some_and(|it| it.as_str() == WEBSOCKET)
}

/// Makes an extended CONNECT an upgrade. Its response is to be given to [`tunnelled`].
pub(super) fn as_upgrade<B>(request: &mut Request<B>) {
    request.extensions_mut().remove::<Protocol>();
    *request.method_mut() = Method::GET;
    *request.version_mut() = Version::HTTP_11;
    let headers = request.headers_mut();
    headers.insert(CONNECTION, HeaderValue::from_static("upgrade"));
    headers.insert(UPGRADE, HeaderValue::from_static(WEBSOCKET));
    let key: [u8; 16] = std::array::from_fn(|_| fastrand::u8(..));
    if let Ok(key) = HeaderValue::try_from(BASE64.encode(&key)) {
        headers.insert(SEC_WEBSOCKET_KEY, key);
    }
}

/// Makes the response to an upgrade that of an extended CONNECT.
pub(super) fn tunnelled(mut response: Response<ResponseBody>) -> Response<ResponseBody> {
    match response.status() {
        StatusCode::SWITCHING_PROTOCOLS => {
            *response.status_mut() = StatusCode::OK;
            for name in [CONNECTION, UPGRADE, SEC_WEBSOCKET_ACCEPT, CONTENT_LENGTH, TRANSFER_ENCODING] {
                response.headers_mut().remove(name);
            }
            response
        }
        // The client would take it for a WebSocket.
        status if status.is_success() => {
            reply::text(StatusCode::BAD_GATEWAY, "the backend did not begin a WebSocket\n")
        }
        _ => response,
    }
}

/// Makes a prepared upgrade an extended CONNECT, for HTTP/2 backends. Returns its key, if it is for a WebSocket.
pub(super) fn as_connect(head: &mut Parts) -> Option<HeaderValue> {
    let protocol = head.headers.get(UPGRADE)?;
    if !protocol.as_bytes().eq_ignore_ascii_case(WEBSOCKET.as_bytes()) || head.method != Method::GET {
        return None;
    }
    let key = head.headers.remove(SEC_WEBSOCKET_KEY)?;
    head.method = Method::CONNECT;
    head.extensions.insert(Protocol::from_static(WEBSOCKET));
    Some(key)
}

/// Makes the response to an extended CONNECT that of an upgrade with this key.
pub(super) fn switched<B>(response: &mut Response<B>, key: &HeaderValue) {
    *response.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
    let headers = response.headers_mut();
    headers.remove(CONTENT_LENGTH);
    headers.insert(CONNECTION, HeaderValue::from_static("upgrade"));
    headers.insert(UPGRADE, HeaderValue::from_static(WEBSOCKET));
    // RFC 6455 §4.2.2.
    let hash = digest(&SHA1_FOR_LEGACY_USE_ONLY, &[key.as_bytes(), GUID].concat());
    if let Ok(accept) = HeaderValue::try_from(BASE64.encode(hash.as_ref())) {
        headers.insert(SEC_WEBSOCKET_ACCEPT, accept);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_example_of_the_rfc_is_accepted() {
        let mut response = Response::new(());
        switched(&mut response, &HeaderValue::from_static("dGhlIHNhbXBsZSBub25jZQ=="));
        assert_eq!(response.status(), 101);
        assert_eq!(response.headers()[SEC_WEBSOCKET_ACCEPT], "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=");
    }
}
