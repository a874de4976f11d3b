//! Bodies are read whole before a request is handled, with limits on their size and time.

use std::error::Error;
use std::time::Duration;

use axum::body::{Body, Bytes, to_bytes};
use axum::extract::Request;
use axum::http::StatusCode;
use axum::middleware::Next;
use axum::response::{IntoResponse as _, Response};
use http_body_util::LengthLimitError;
use tokio::time::timeout;

use super::problem::Problem;

/// The most bytes of a request's body: an override with the longest reason and target has a fifth of them.
const LARGEST: usize = 16 << 10;

/// How long a client may take to send a body.
const PATIENCE: Duration = Duration::from_secs(10);

/// Replaces the body of a request by what it contains.
pub(super) async fn read_whole(request: Request, next: Next) -> Response {
    let (head, body) = request.into_parts();
    match read(body).await {
        Ok(bytes) => next.run(Request::from_parts(head, Body::from(bytes))).await,
        Err(problem) => problem.into_response(),
    }
}

/// Reads a body.
///
/// # Errors
/// 413 if it is too large, 408 if it takes too long, 400 if it cannot be read.
pub(super) async fn read(body: Body) -> Result<Bytes, Problem> {
    Err(match timeout(PATIENCE, to_bytes(body, LARGEST)).await {
        Ok(Ok(bytes)) => return Ok(bytes),
        Ok(Err(error)) if error.source().is_some_and(|source| source.is::<LengthLimitError>()) => {
            let detail = format!("the body of a request may have at most {LARGEST} bytes");
            Problem::new(StatusCode::PAYLOAD_TOO_LARGE, detail)
        }
        Ok(Err(error)) => Problem::new(StatusCode::BAD_REQUEST, format!("the body cannot be read: {error}")),
        Err(_) => Problem::new(
            StatusCode::REQUEST_TIMEOUT,
            format!("the body did not arrive within {} seconds", PATIENCE.as_secs()),
        ),
    })
}

#[cfg(test)]
mod tests {
    use axum::routing::post;
    use axum::{Router, middleware};
    use futures_util::stream;
    use hyper::service::Service as _;
    use hyper_util::service::TowerToHyperService;
    use tokio::time::Instant;

    use super::*;

    async fn status(body: Body) -> u16 {
        let echo = post(|body: Bytes| async { body });
        let router = Router::new().route("/", echo).layer(middleware::from_fn(read_whole));
        let request = Request::post("/").body(body).expect("a request");
        TowerToHyperService::new(router).call(request).await.expect("infallible").status().as_u16()
    }

    #[tokio::test(start_paused = true)]
    async fn bodies_are_limited_in_size_and_time() {
        assert_eq!(status(Body::from(vec![b'x'; LARGEST])).await, 200);
        assert_eq!(status(Body::from(vec![b'x'; LARGEST + 1])).await, 413);
        let start = Instant::now();
        assert_eq!(status(Body::from_stream(stream::pending::<Result<Bytes, std::io::Error>>())).await, 408);
        assert!((PATIENCE..PATIENCE * 2).contains(&start.elapsed()), "{:?}", start.elapsed());
    }
}
