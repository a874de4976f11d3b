//! Who may make changes: everyone who can open the socket (its file mode decides), and over TCP the bearers of a
//! token.

use axum::extract::{Request, State};
use axum::http::{Method, StatusCode, header};
use axum::middleware::Next;
use axum::response::{IntoResponse as _, Response};
use sha2::{Digest as _, Sha256};
use subtle::ConstantTimeEq as _;
use tokio::sync::watch;

use super::problem::Problem;
use crate::config::{Role, Token};

/// What a listener of the API allows.
#[derive(Clone, Debug)]
pub enum Access {
    /// Everything; overrides and events name this as the author, such as "socket".
    Open(&'static str),
    /// Reads, and writes with one of these tokens, which a reload may change.
    Tokens(watch::Receiver<Vec<Token>>),
}

/// The client of a request and its role.
#[derive(Clone, Debug)]
pub(super) struct Bearer {
    pub(super) role: Role,
    /// The author that overrides and events name.
    pub(super) by: String,
}

/// Passes reads, and writes with the required role. Handlers find the [`Bearer`] among the extensions.
pub(super) async fn guard(State(access): State<Access>, mut request: Request, next: Next) -> Response {
    match permit(&access, &request) {
        Ok(bearer) => {
            request.extensions_mut().insert(bearer);
            next.run(request).await
        }
        Err(problem) => problem.into_response(),
    }
}

/// Authenticates a request.
fn permit(access: &Access, request: &Request) -> Result<Bearer, Problem> {
    let tokens = match access {
        Access::Open(way) => return Ok(Bearer { role: Role::Admin, by: (*way).into() }),
        Access::Tokens(tokens) => tokens.borrow(),
    };
    if matches!(*request.method(), Method::GET | Method::HEAD | Method::OPTIONS) {
        return Ok(Bearer { role: Role::Viewer, by: "a reader".into() });
    }
    let header = request.headers().get(header::AUTHORIZATION).and_then(|value| value.to_str().ok());
    let Some(secret) = header.and_then(|value| value.strip_prefix("Bearer ")) else {
        return Err(Problem::new(
            StatusCode::UNAUTHORIZED,
            "changes over TCP need a token: use --token or PORTOLAN_TOKEN, or use the control socket on the node",
        ));
    };
    let digest: [u8; 32] = Sha256::digest(secret.as_bytes()).into();
    // Every token is compared, each in constant time.
    let found = tokens
        .iter()
        .fold(None, |found, token| if bool::from(token.sha256.ct_eq(&digest)) { Some(token) } else { found });
    match found {
        None => Err(Problem::new(StatusCode::UNAUTHORIZED, "this token is not valid: see [control] token")),
        Some(token) if token.role >= Role::Operator => {
            Ok(Bearer { role: token.role, by: format!("token {}", token.name) })
        }
        Some(token) => Err(Problem::new(
            StatusCode::FORBIDDEN,
            format!("token `{}` has the role viewer: changes need operator or admin", token.name),
        )),
    }
}
