//! `POST /v1/acme`: shows the DNS challenge of an ACME client that runs elsewhere.

use std::ops::RangeInclusive;
use std::time::Duration;

use axum::extract::State;
use axum::extract::rejection::JsonRejection;
use axum::http::StatusCode;
use axum::{Extension, Json};

use super::access::Bearer;
use super::dto;
use super::problem::Problem;
use super::routes::Api;
use crate::config;
use crate::engine::ShowChallenge;
use crate::model::{LONGEST_TOKEN, Name, Proof, Token};
use crate::state::Rejection;

/// How long a challenge is shown unless the request says otherwise: many times what an ACME server needs.
const DEFAULT_TIME: Duration = Duration::from_secs(600);
/// How long it may be shown: what is forgotten must not stay for good.
const TIME: RangeInclusive<Duration> = Duration::from_secs(1)..=Duration::from_secs(86_400);

/// Serves the challenge from now on. Once this has responded, the ACME server can be told to look for it.
pub(super) async fn post(
    State(api): State<Api>,
    Extension(Bearer { by, .. }): Extension<Bearer>,
    request: Result<Json<dto::AcmeRequest>, JsonRejection>,
) -> Result<Json<dto::Challenge>, Problem> {
    let Json(request) = request.map_err(|e| Problem::bad_request(e.body_text()))?;
    let request = read(request, by).map_err(Problem::bad_request)?;
    match api.engine.show_challenge(request).await? {
        Ok(challenge) => {
            let shown = dto::Challenge::from(&challenge);
            tracing::info!(name = shown.name, by = shown.by, until = shown.until, "shows a DNS challenge");
            Ok(Json(shown))
        }
        Err(Rejection::NotFound(why)) => Err(Problem::new(StatusCode::NOT_FOUND, why)),
        Err(refused) => Err(Problem::new(StatusCode::CONFLICT, refused.to_string())),
    }
}

fn read(request: dto::AcmeRequest, by: String) -> Result<ShowChallenge, String> {
    let dto::AcmeRequest { name, token, lasts } = request;
    let parsed: Name = name.parse().map_err(|e| format!("`{name}` is not a valid domain name: {e}"))?;
    let value = Token::parse(&token).ok_or_else(|| {
        format!("the token is not base64url of 1 to {LONGEST_TOKEN} characters: letters, digits, `-`, `_`")
    })?;
    let proof = Proof::dns(&parsed, value).ok_or_else(|| format!("{parsed} is too long for a challenge"))?;
    let lasts = lasts.map_or(Ok(DEFAULT_TIME), |text| config::parse_duration(&text))?;
    if !TIME.contains(&lasts) {
        return Err("a challenge is shown for 1s to 24h".into());
    }
    Ok(ShowChallenge { proof, by, lasts })
}
