//! Requests over HTTP/2 to backends.

use std::rc::Rc;

use http::{Method, Request, Response, StatusCode};
use hyper::body::Incoming;

use super::body::Connection;
use super::exchange::{Failed, exchange};
use super::headers;
use super::request_body::{RequestBody, Upload};
use crate::proxy::pools::{Backend, WorkerPool};
use crate::proxy::streams::Processed;
use crate::proxy::upstream::Failure;

/// How often a request goes to another connection of the same backend because one has ended before it took it.
const MOST_MOVES: usize = 2;

/// Sends a request over a stream of a connection that has room. `is_repeatable` if it may be sent again although the backend
/// may have seen it.
///
/// # Errors
/// The failure, and the request if the backend has not processed it.
pub(super) async fn try_send(
    pool: &Rc<WorkerPool>,
    backend: &Rc<Backend>,
    mut request: Request<RequestBody>,
    is_repeatable: bool,
) -> Result<(Response<Incoming>, Connection), Failed> {
    let upload = request.body().upload();
    let (head, body) = request.into_parts();
    request = Request::from_parts(head.clone(), body);
    let again = || Some(Request::from_parts(head.clone(), body_again(upload.as_ref())?));
    let mut moves = 0;
    loop {
        let slot = match backend.stream(pool).await {
            Ok(slot) => slot,
            Err(failure) => return Err((failure, Some(request))),
        };
        if head.method == Method::CONNECT && !slot.allows_tunnels() {
            return Err((Failure::NoTunnels, None));
        }
        let (failure, unsent) = match exchange(slot.send(request), upload.clone(), pool).await {
            Ok(response) => {
                if let Some(upload) = &upload {
                    upload.is_answered();
                }
                let framing = headers::framing(&head.method, response.status(), response.headers());
                if framing.is_none() || response.status() == StatusCode::SWITCHING_PROTOCOLS {
                    return Err((Failure::unclear_framing(), None));
                }
                return Ok((response, Connection::Stream { _slot: slot }));
            }
            Err(failed) => failed,
        };
        let fate = Fate::of(&failure, unsent.is_some());
        let unsent = match fate {
            Fate::Refused | Fate::Moved => unsent.or_else(again),
            Fate::Lost if is_repeatable && slot.is_reused => again(),
            Fate::Lost | Fate::Failed => None,
        };
        // An idle connection may have ended while the request was on its way. A new one that ends is another matter.
        let goes_on = slot.is_reused && moves < MOST_MOVES && matches!(fate, Fate::Moved | Fate::Lost);
        match unsent {
            Some(unsent) if goes_on => request = unsent,
            unsent => return Err((failure, unsent)),
        }
        // What it may have seen once is sent once more at most.
        moves += if fate == Fate::Lost { MOST_MOVES } else { 1 };
    }
}

/// What became of a request that failed.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Fate {
    /// The backend refused it.
    Refused,
    /// The connection ended without having taken it.
    Moved,
    /// The connection ended.
    Lost,
    /// Anything else.
    Failed,
}

impl Fate {
    fn of(failure: &Failure, is_unsent: bool) -> Self {
        let processed = |error: &(dyn std::error::Error + 'static)| {
            error.downcast_ref::<hyper::Error>().map_or(Processed::Maybe, Processed::of)
        };
        match failure {
            _ if is_unsent => Self::Moved,
            Failure::Refused(error) if processed(&**error) == Processed::GoneAway => Self::Moved,
            Failure::Refused(_) => Self::Refused,
            Failure::Reset(error) if processed(&**error) == Processed::Maybe => Self::Lost,
            _ => Self::Failed,
        }
    }
}

/// The body once more, if it can be repeated.
fn body_again(upload: Option<&Rc<Upload>>) -> Option<RequestBody> {
    match upload {
        Some(upload) => upload.again(),
        None => Some(RequestBody::empty()),
    }
}
