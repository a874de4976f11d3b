//! What clients of gRPC get of the proxy's own responses.

use std::fmt::Write as _;

use http::header::CONTENT_TYPE;
use http::{HeaderName, HeaderValue, Request, Response, StatusCode, Version};

use super::body::ResponseBody;

const GRPC_STATUS: HeaderName = HeaderName::from_static("grpc-status");
const GRPC_MESSAGE: HeaderName = HeaderName::from_static("grpc-message");
const GRPC: &str = "application/grpc";

/// Whether a request, as it came from the client, is a call of gRPC, which there is only over HTTP/2.
pub(super) fn is_call<B>(request: &Request<B>) -> bool {
    let kind = request.headers().get(CONTENT_TYPE).and_then(|it| it.to_str().ok()).unwrap_or_default();
    let suffix =
        kind.get(..GRPC.len()).filter(|it| it.eq_ignore_ascii_case(GRPC)).map(|_| &kind[GRPC.len()..]);
    let is_grpc = suffix.is_some_and(|it| it.is_empty() || it.starts_with(['+', ';']));
    is_grpc && request.version() == Version::HTTP_2
}

/// Makes an error of the proxy's own the end of a call ("Trailers-Only"). What comes of a backend stays as it is.
pub(super) fn ended(response: Response<ResponseBody>) -> Response<ResponseBody> {
    let status = response.status();
    let is_own = matches!(response.body(), ResponseBody::Own(_));
    if !is_own || !(status.is_client_error() || status.is_server_error()) {
        return response;
    }
    let (mut head, body) = response.into_parts();
    let message = message(&body.own().unwrap_or_default());
    head.status = StatusCode::OK;
    head.headers.insert(CONTENT_TYPE, HeaderValue::from_static(GRPC));
    head.headers.insert(GRPC_STATUS, HeaderValue::from_static(code(status)));
    if let Ok(message) = HeaderValue::try_from(message) {
        head.headers.insert(GRPC_MESSAGE, message);
    }
    Response::from_parts(head, ResponseBody::of(String::new()))
}

/// The status of gRPC for one of HTTP, as its "HTTP to gRPC Status Code Mapping" has it.
fn code(status: StatusCode) -> &'static str {
    match status.as_u16() {
        400 => "13",                   // INTERNAL
        401 => "16",                   // UNAUTHENTICATED
        403 => "7",                    // PERMISSION_DENIED
        404 => "12",                   // UNIMPLEMENTED
        429 | 502 | 503 | 504 => "14", // UNAVAILABLE
        _ => "2",                      // UNKNOWN
    }
}

/// A line as `grpc-message` has it: percent-encoded but for printable ASCII.
fn message(text: &[u8]) -> String {
    let mut message = String::with_capacity(text.len());
    for byte in text.trim_ascii() {
        match byte {
            b'%' | 0..0x20 | 0x7f.. => {
                // Writing to memory cannot fail.
                let _ = write!(message, "%{byte:02X}");
            }
            _ => message.push(char::from(*byte)),
        }
    }
    message
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn calls_come_over_http2() {
        for (version, kind, expected) in [
            (Version::HTTP_2, "application/grpc", true),
            (Version::HTTP_2, "Application/gRPC+proto", true),
            (Version::HTTP_2, "application/grpc;charset=utf-8", true),
            (Version::HTTP_2, "application/grpc-web", false),
            (Version::HTTP_2, "application/json", false),
            (Version::HTTP_11, "application/grpc", false),
        ] {
            let request = Request::post("/").version(version).header(CONTENT_TYPE, kind).body(()).unwrap();
            assert_eq!(is_call(&request), expected, "{version:?} {kind}");
        }
    }
}
