//! Responses of the proxy's own.

use std::time::Duration;

use http::header::{CONTENT_TYPE, LOCATION, RETRY_AFTER};
use http::{HeaderValue, Response, StatusCode};

use super::body::ResponseBody;

const PLAIN: HeaderValue = HeaderValue::from_static("text/plain; charset=utf-8");

/// A status with a line of text.
pub(super) fn text(status: StatusCode, text: impl Into<String>) -> Response<ResponseBody> {
    let mut response = Response::new(ResponseBody::of(text.into()));
    *response.status_mut() = status;
    response.headers_mut().insert(CONTENT_TYPE, PLAIN);
    response
}

/// All backends are busy.
pub(super) fn busy() -> Response<ResponseBody> {
    let mut response = text(StatusCode::SERVICE_UNAVAILABLE, "all backends are busy\n");
    // In seconds: most requests end sooner.
    response.headers_mut().insert(RETRY_AFTER, HeaderValue::from_static("1"));
    response
}

/// The response to a client that sent too many requests and may send another one after this time.
pub(super) fn too_many(wait: Duration) -> Response<ResponseBody> {
    let mut response = text(StatusCode::TOO_MANY_REQUESTS, "too many requests\n");
    let seconds = wait.as_millis().div_ceil(1000).max(1) as u64;
    response.headers_mut().insert(RETRY_AFTER, seconds.into());
    response
}

/// What an ACME server asks for (RFC 8555 §8.3).
pub(super) fn challenge(body: &str) -> Response<ResponseBody> {
    let mut response = text(StatusCode::OK, body);
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/octet-stream"));
    response
}

/// The response to a request whose body is longer than it may be.
pub(super) fn too_large() -> Response<ResponseBody> {
    text(StatusCode::PAYLOAD_TOO_LARGE, "the body of the request is too long\n")
}

/// A redirect; `None` if the request's URL cannot be redirected.
pub(super) fn redirect(status: StatusCode, to: Option<HeaderValue>) -> Response<ResponseBody> {
    let Some(to) = to else { return text(StatusCode::BAD_REQUEST, "this URL cannot be redirected\n") };
    let mut response = Response::new(ResponseBody::of(String::new()));
    *response.status_mut() = status;
    response.headers_mut().insert(LOCATION, to);
    response
}
