//! Responses of the proxy's own.

use http::header::{CONTENT_TYPE, LOCATION};
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

/// A redirect.
pub(super) fn redirect(status: StatusCode, to: HeaderValue) -> Response<ResponseBody> {
    let mut response = Response::new(ResponseBody::of(String::new()));
    *response.status_mut() = status;
    response.headers_mut().insert(LOCATION, to);
    response
}
