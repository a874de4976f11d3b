//! Errors as problem documents (RFC 9457).

use std::fmt;

use axum::Json;
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::engine::NoAnswer;
use crate::prepare::ReloadError;
use crate::state::Rejection;

/// The `type` of a problem that a safety rule caused; the command line exits with 4 on it.
pub const REFUSED_BY_SAFETY: &str = "urn:portolan:refused-by-safety";

/// The `type` of a problem that the engine caused by not answering; the command line asks `/livez` on it.
pub const NO_ANSWER: &str = "urn:portolan:no-answer";

/// A problem document.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Problem {
    /// A URI that names the kind of problem; `about:blank` if the status is sufficient.
    #[serde(rename = "type", default = "about_blank")]
    pub kind: String,
    /// The kind in a few words, such as "not found".
    pub title: String,
    /// The HTTP status.
    pub status: u16,
    /// What happened and what to do.
    pub detail: String,
}

fn about_blank() -> String {
    "about:blank".into()
}

impl Problem {
    /// A problem whose kind is its status.
    #[must_use]
    pub fn new(status: StatusCode, detail: impl Into<String>) -> Self {
        let title = status.canonical_reason().unwrap_or("error").to_lowercase();
        Self { kind: about_blank(), title, status: status.as_u16(), detail: detail.into() }
    }

    /// The request makes no sense.
    #[must_use]
    pub fn bad_request(detail: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, detail)
    }

    /// A safety rule forbids the change.
    #[must_use]
    pub fn refused_by_safety(detail: impl Into<String>) -> Self {
        Self {
            kind: REFUSED_BY_SAFETY.into(),
            title: "refused by a safety rule".into(),
            ..Self::new(StatusCode::CONFLICT, detail)
        }
    }

    /// The engine does not answer.
    #[must_use]
    pub fn no_answer(detail: impl Into<String>) -> Self {
        Self {
            kind: NO_ANSWER.into(),
            title: "the engine does not answer".into(),
            ..Self::new(StatusCode::SERVICE_UNAVAILABLE, detail)
        }
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.detail)
    }
}

impl std::error::Error for Problem {}

impl From<NoAnswer> for Problem {
    fn from(why: NoAnswer) -> Self {
        Self::no_answer(why.to_string())
    }
}

impl From<ReloadError> for Problem {
    fn from(why: ReloadError) -> Self {
        match why {
            ReloadError::Stopped => NoAnswer::Stopped.into(),
            ReloadError::Late(_) | ReloadError::Waiting => Self::no_answer(why.to_string()),
            ReloadError::Elsewhere(_) => Self::bad_request(why.to_string()),
            ReloadError::Refused(_) | ReloadError::Crashed(_) => {
                Self::new(StatusCode::UNPROCESSABLE_ENTITY, why.to_string())
            }
        }
    }
}

impl From<Rejection> for Problem {
    fn from(why: Rejection) -> Self {
        match why {
            Rejection::NotFound(why) => Self::new(StatusCode::NOT_FOUND, why),
            Rejection::Invalid(why) => Self::bad_request(why),
            refused @ Rejection::Unsafe(_) => Self::refused_by_safety(refused.to_string()),
        }
    }
}

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        let status = StatusCode::from_u16(self.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        let head = [(header::CONTENT_TYPE, "application/problem+json")];
        let mut response = (status, head, Json(&self)).into_response();
        // For the audit log.
        response.extensions_mut().insert(self);
        if status == StatusCode::UNAUTHORIZED {
            // RFC 9110 §15.5.2 requires a challenge.
            response.headers_mut().insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
        }
        response
    }
}
