//! Who may do what: everyone who can open the socket may do everything (its file mode decides who can), and over TCP
//! tokens decide.

use std::sync::Arc;

use axum::extract::{Request, State};
use axum::http::{HeaderMap, Method, StatusCode, header};
use axum::middleware::Next;
use axum::response::{IntoResponse as _, Response};
use rustls::ServerConfig;
use sha2::{Digest as _, Sha256};
use subtle::ConstantTimeEq as _;
use tokio::sync::watch;

use super::audit::{Auditor, peer};
use super::identity::Users;
use super::problem::Problem;
use super::{host, page};
use crate::config::{Read, Role, Token};

/// What a listener of the API allows.
#[derive(Clone, Debug)]
pub enum Access {
    /// Everything.
    Socket,
    /// What the policy allows, which a reload may change.
    Tcp(watch::Receiver<Policy>),
    /// Reads without a token, under the names of the policy: for a listener that has nothing but metrics.
    Metrics(watch::Receiver<Policy>),
}

/// What is allowed over TCP.
#[derive(Clone, Debug)]
pub struct Policy {
    /// Tokens that permit changes, or only reads.
    pub tokens: Vec<Token>,
    /// Who may read.
    pub read: Read,
    /// The names under which this node may be addressed, besides `localhost` and addresses.
    pub hosts: Vec<String>,
    /// How to speak TLS; `None` without it.
    pub tls: Option<Arc<ServerConfig>>,
}

/// The client of a request and its role.
#[derive(Clone, Debug)]
pub(super) struct Bearer {
    pub(super) role: Role,
    /// The author that overrides, events and the audit log name.
    pub(super) by: String,
    /// Whether it is anyone, without a token.
    pub(super) is_anonymous: bool,
}

/// Why a request is refused.
struct Refusal {
    problem: Problem,
    /// The holder of the token that it has.
    by: Option<String>,
}

impl From<Problem> for Refusal {
    fn from(problem: Problem) -> Self {
        Self { problem, by: None }
    }
}

/// Passes what is allowed, and records changes. Handlers find the [`Bearer`] among the extensions.
pub(super) async fn guard(
    State((access, users, auditor)): State<(Access, Users, Auditor)>,
    mut request: Request,
    next: Next,
) -> Response {
    match permit(&access, &request) {
        Ok(mut bearer) => {
            if !bearer.is_anonymous {
                bearer.by = users.who(&peer(&request), &bearer.by).await;
            }
            let by = bearer.by.clone();
            request.extensions_mut().insert(bearer);
            if is_read(&request) { next.run(request).await } else { auditor.run(by, request, next).await }
        }
        Err(Refusal { problem, .. }) if is_read(&request) => problem.into_response(),
        Err(Refusal { problem, by }) => {
            let who = users.who_is_refused(&peer(&request), by.as_deref()).await;
            auditor.refuse(who, problem, request).await
        }
    }
}

fn permit(access: &Access, request: &Request) -> Result<Bearer, Refusal> {
    let reader = || Bearer { role: Role::Viewer, by: "a reader".into(), is_anonymous: true };
    let policy = match access {
        Access::Socket => {
            // A port of this user's may be forwarded to the socket, and then every page in a browser reaches it.
            if request.headers().contains_key(header::ORIGIN) {
                host::check(&[], request)?;
            }
            return Ok(Bearer { role: Role::Admin, by: "socket".into(), is_anonymous: false });
        }
        Access::Metrics(policy) => {
            host::check(&policy.borrow().hosts, request)?;
            return Ok(reader());
        }
        Access::Tcp(policy) => policy.borrow(),
    };
    host::check(&policy.hosts, request)?;
    let path = request.uri().path();
    // The page has nothing secret in it, and is where a token is typed.
    if matches!(path, "/livez" | "/readyz") || page::is_part(path) {
        return Ok(reader());
    }
    let token = bearer(&policy.tokens, request.headers())?;
    let is_read = is_read(request);
    match token {
        Some(token) if is_read || token.role >= Role::Operator => {
            Ok(Bearer { role: token.role, by: format!("token {}", token.name), is_anonymous: false })
        }
        Some(token) => Err(Refusal {
            problem: Problem::new(
                StatusCode::FORBIDDEN,
                format!("token `{}` has the role viewer: changes need operator or admin", token.name),
            ),
            by: Some(format!("token {}", token.name)),
        }),
        None if is_read && policy.read == Read::Anyone => Ok(reader()),
        None => {
            let what = if is_read { "reads" } else { "changes" };
            let detail = format!(
                "{what} over TCP need a token: send `Authorization: Bearer TOKEN`, or use the control socket on the node"
            );
            Err(Problem::new(StatusCode::UNAUTHORIZED, detail).into())
        }
    }
}

/// Whether a request changes nothing. A plan is asked for by POST.
fn is_read(request: &Request) -> bool {
    matches!(*request.method(), Method::GET | Method::HEAD | Method::OPTIONS)
        || request.uri().path() == "/v1/plan"
}

/// The token of a request, if it has one.
///
/// # Errors
/// If the token is unknown: it may have been replaced, so the sender must be told rather than treated as anonymous.
fn bearer<'a>(tokens: &'a [Token], headers: &HeaderMap) -> Result<Option<&'a Token>, Problem> {
    let header = headers.get(header::AUTHORIZATION).map(|value| value.as_bytes());
    let Some((scheme, secret)) = header.and_then(|value| value.split_at_checked(b"Bearer ".len())) else {
        return Ok(None);
    };
    if !scheme.eq_ignore_ascii_case(b"Bearer ") {
        return Ok(None);
    }
    let digest: [u8; 32] = Sha256::digest(secret).into();
    // Every token is compared, each in constant time.
    let found = tokens
        .iter()
        .fold(None, |found, token| if bool::from(token.sha256.ct_eq(&digest)) { Some(token) } else { found });
    match found {
        Some(token) => Ok(Some(token)),
        None => Err(Problem::new(StatusCode::UNAUTHORIZED, "this token is not valid: see [control] token")),
    }
}
