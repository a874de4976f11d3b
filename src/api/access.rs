//! Who may change something: everybody on the socket, whose file mode decides; over TCP, bearers of a token.

use axum::extract::{Request, State};
use axum::http::{Method, StatusCode, header};
use axum::middleware::Next;
use axum::response::{IntoResponse as _, Response};
use sha2::{Digest as _, Sha256};
use subtle::ConstantTimeEq as _;

use super::problem::Problem;
use crate::config::{Role, Token};

/// What a listener of the API allows.
#[derive(Clone, Debug)]
pub enum Access {
    /// Everything.
    Open,
    /// Reads; writes with one of these tokens.
    Tokens(Vec<Token>),
}

/// Lets reads through, and writes with the role they need. Handlers find the [`Role`] among the extensions.
pub(super) async fn guard(State(access): State<Access>, mut request: Request, next: Next) -> Response {
    match permit(&access, &request) {
        Ok(role) => {
            request.extensions_mut().insert(role);
            next.run(request).await
        }
        Err(problem) => problem.into_response(),
    }
}

/// What the bearer of a request may do.
fn permit(access: &Access, request: &Request) -> Result<Role, Problem> {
    let Access::Tokens(tokens) = access else { return Ok(Role::Admin) };
    if matches!(*request.method(), Method::GET | Method::HEAD | Method::OPTIONS) {
        return Ok(Role::Viewer);
    }
    let header = request.headers().get(header::AUTHORIZATION).and_then(|value| value.to_str().ok());
    let Some(secret) = header.and_then(|value| value.strip_prefix("Bearer ")) else {
        return Err(Problem::new(
            StatusCode::UNAUTHORIZED,
            "changes over TCP need a token: give --token or PORTOLAN_TOKEN, or use the control socket on the node",
        ));
    };
    let digest: [u8; 32] = Sha256::digest(secret.as_bytes()).into();
    // Every token is compared, each in constant time.
    let found = tokens
        .iter()
        .fold(None, |found, token| if bool::from(token.sha256.ct_eq(&digest)) { Some(token) } else { found });
    match found {
        None => {
            Err(Problem::new(StatusCode::UNAUTHORIZED, "this token is not known here: see [control] token"))
        }
        Some(token) if token.role >= Role::Operator => Ok(token.role),
        Some(token) => Err(Problem::new(
            StatusCode::FORBIDDEN,
            format!("token `{}` is a viewer's: changes need the role operator or admin", token.name),
        )),
    }
}
