//! The audit log: every request for a change is an entry, with what came of it. `GET /v1/audit` shows them.

use std::sync::Arc;

use axum::body::{Body, Bytes};
use axum::extract::{MatchedPath, Request, State};
use axum::http::{Method, StatusCode, Uri};
use axum::middleware::Next;
use axum::response::{IntoResponse as _, Response};
use axum::{Extension, Json};
use serde_json::Value;
use tokio::sync::Semaphore;

use super::access::Bearer;
use super::body;
use super::dto::{self, AuditAction, AuditResult, AuditState};
use super::identity::Peer;
use super::parameters::parameters;
use super::problem::Problem;
use super::routes::Api;
use crate::engine::{Applied, AuditLog, InForce};
use crate::model::{AuditKind, AuditRecord, Unix};

/// Changes handled at once; further ones wait.
const CHANGES_AT_ONCE: usize = 64;

/// Entries of a reply, unless the request says otherwise.
const USUAL_ENTRIES: usize = 1000;

/// Who asks without a token that is valid.
const STRANGER: &str = "no token";

/// Records what is asked of a listener.
#[derive(Clone, Debug)]
pub(super) struct Auditor {
    log: Arc<AuditLog>,
    changes: Arc<Semaphore>,
}

/// What a handler says about the change that it made.
#[derive(Clone, Debug, Default)]
pub(super) struct Made {
    target: Option<String>,
    before: Option<AuditState>,
    after: Option<AuditState>,
}

impl Made {
    /// An override was set.
    pub(super) fn set(applied: &Applied) -> Self {
        let target = Some(applied.subject.target.to_string());
        Self {
            target,
            before: applied.replaced.as_ref().map(state_of),
            after: Some(state_of(&applied.subject)),
        }
    }

    /// An override was removed.
    pub(super) fn removed(applied: &Applied) -> Self {
        let target = Some(applied.subject.target.to_string());
        Self { target, before: Some(state_of(&applied.subject)), after: None }
    }

    /// The config was read again.
    pub(super) fn reloaded(before: &InForce, after: &InForce) -> Self {
        let state = |it: &InForce| AuditState {
            epoch: Some(it.epoch),
            config: Some(it.digest.to_string()),
            ..AuditState::default()
        };
        Self { target: None, before: Some(state(before)), after: Some(state(after)) }
    }
}

fn state_of(it: &crate::standing::Override) -> AuditState {
    AuditState { overridden: Some(it.into()), ..AuditState::default() }
}

/// What a request asks for.
struct Asked {
    action: AuditAction,
    target: Option<String>,
    parameters: Option<Value>,
    reason: Option<String>,
}

impl Auditor {
    pub(super) fn new(log: Arc<AuditLog>) -> Self {
        Self { log, changes: Arc::new(Semaphore::new(CHANGES_AT_ONCE)) }
    }

    /// Runs a request for a change, and records it. Once begun it goes on even if the client leaves, so that nothing
    /// happens that the log does not have.
    pub(super) async fn run(&self, who: String, request: Request, next: Next) -> Response {
        let permit = Arc::clone(&self.changes).acquire_owned().await;
        let auditor = self.clone();
        let change = tokio::spawn(async move {
            let _permit = permit;
            let (request, asked, whence) = match auditor.read(request).await {
                Ok(read) => read,
                Err((problem, asked, whence)) => {
                    let response = problem.into_response();
                    auditor.add(AuditKind::Refusal, who, &whence, asked, &response);
                    return response;
                }
            };
            let response = next.run(request).await;
            let kind =
                if response.status().is_client_error() { AuditKind::Refusal } else { AuditKind::Change };
            auditor.add(kind, who, &whence, asked, &response);
            response
        });
        match change.await {
            Ok(response) => response,
            Err(error) => match error.try_into_panic() {
                Ok(panic) => std::panic::resume_unwind(panic),
                Err(_) => Problem::no_answer("the node is stopping").into_response(),
            },
        }
    }

    /// Records a change that was refused before it was looked at. What a stranger wants changed is not read.
    pub(super) async fn refuse(&self, who: Option<String>, problem: Problem, request: Request) -> Response {
        let response = problem.into_response();
        let Some(who) = who else {
            let (whence, asked) = (peer(&request), asked(&request, None));
            let nothing = Asked { target: None, parameters: None, ..asked };
            self.add(AuditKind::Stranger, STRANGER.into(), &whence, nothing, &response);
            return response;
        };
        let (asked, whence) = match self.read(request).await {
            Ok((_, asked, whence)) | Err((_, asked, whence)) => (asked, whence),
        };
        self.add(AuditKind::Refusal, who, &whence, asked, &response);
        response
    }

    /// Reads the body of a request.
    async fn read(&self, request: Request) -> Result<(Request, Asked, Peer), (Problem, Asked, Peer)> {
        let whence = peer(&request);
        let (head, body) = request.into_parts();
        match body::read(body).await {
            Ok(bytes) => {
                let request = Request::from_parts(head, Body::from(bytes.clone()));
                let asked = asked(&request, Some(&bytes));
                Ok((request, asked, whence))
            }
            Err(problem) => {
                let asked = asked(&Request::from_parts(head, Body::empty()), None);
                Err((problem, asked, whence))
            }
        }
    }

    fn add(&self, kind: AuditKind, who: String, whence: &Peer, asked: Asked, response: &Response) {
        let status = response.status();
        // There is nothing that could be changed.
        if status == StatusCode::METHOD_NOT_ALLOWED || status == StatusCode::NOT_FOUND && is_nowhere(&asked) {
            return;
        }
        let problem = response.extensions().get::<Problem>();
        let why = problem.map(|problem| match (kind, status) {
            // These sentences name what the stranger wrote, by which its requests would never be alike.
            (AuditKind::Stranger, StatusCode::MISDIRECTED_REQUEST) => {
                "the Host is not a name of this node".into()
            }
            (AuditKind::Stranger, StatusCode::FORBIDDEN) => "a page of another site asks".into(),
            _ => AuditRecord::text(problem.detail.clone()),
        });
        let made = response.extensions().get::<Made>().cloned().unwrap_or_default();
        let result = match status {
            _ if status.is_success() => AuditResult::Accepted,
            _ if status.is_server_error() => AuditResult::Failed,
            _ => AuditResult::Refused,
        };
        let from = match (whence.address, kind) {
            (None, _) => "socket".to_owned(),
            (Some(address), AuditKind::Stranger) => address.ip().to_canonical().to_string(),
            (Some(address), _) => address.to_string(),
        };
        self.log.record(AuditRecord { kind, why, ..entry(who, from, asked, result, made) });
    }
}

/// A request for a reload by a signal.
pub(super) fn signalled(made: Option<Made>, why: Option<(AuditResult, String)>) -> AuditRecord {
    let asked = Asked { action: AuditAction::Reload, target: None, parameters: None, reason: None };
    let result = why.as_ref().map_or(AuditResult::Accepted, |(result, _)| *result);
    let why = why.map(|(_, why)| AuditRecord::text(why));
    AuditRecord { why, ..entry("SIGHUP".into(), "signal".into(), asked, result, made.unwrap_or_default()) }
}

/// An entry about a change, without why.
fn entry(who: String, origin: String, asked: Asked, result: AuditResult, made: Made) -> AuditRecord {
    let json = |state: AuditState| serde_json::to_string(&state).unwrap_or_default();
    AuditRecord {
        id: 0,
        at: Unix::default(),
        last: Unix::default(),
        count: 0,
        kind: AuditKind::Change,
        who: AuditRecord::text(who),
        origin,
        action: asked.action.to_string(),
        target: made.target.or(asked.target).map(AuditRecord::text),
        parameters: asked.parameters.map(|parameters| short(&parameters)),
        reason: asked.reason.map(AuditRecord::text),
        result: result.to_string(),
        why: None,
        before: made.before.map(json),
        after: made.after.map(json),
    }
}

/// JSON of a limited length: a longer one becomes a text that begins like it.
fn short(value: &Value) -> String {
    let text = value.to_string();
    if text.len() <= AuditRecord::MAX_TEXT { text } else { Value::from(AuditRecord::text(text)).to_string() }
}

/// Whether the path leads nowhere.
fn is_nowhere(asked: &Asked) -> bool {
    asked.action == AuditAction::Other && asked.target.is_none()
}

pub(super) fn peer(request: &Request) -> Peer {
    request.extensions().get::<Peer>().cloned().unwrap_or_default()
}

/// What a request with this body asks for.
fn asked(request: &Request, body: Option<&Bytes>) -> Asked {
    let path = request.extensions().get::<MatchedPath>().map(MatchedPath::as_str);
    let action = match (request.method(), path) {
        (&Method::POST, Some("/v1/overrides")) => AuditAction::SetOverride,
        (&Method::DELETE, Some("/v1/overrides/{id}")) => AuditAction::RemoveOverride,
        (&Method::POST, Some("/v1/reload")) => AuditAction::Reload,
        (&Method::POST, Some("/v1/acme")) => AuditAction::ShowChallenge,
        _ => AuditAction::Other,
    };
    let parameters = body.filter(|it| !it.is_empty()).map(|bytes| {
        serde_json::from_slice(bytes).unwrap_or_else(|_| Value::from(String::from_utf8_lossy(bytes)))
    });
    let text = |name: &str| Some(parameters.as_ref()?.get(name)?.as_str()?.to_owned());
    let target = match action {
        AuditAction::SetOverride => text("target"),
        AuditAction::ShowChallenge => text("name"),
        AuditAction::RemoveOverride => {
            request.uri().path().rsplit('/').next().map(|number| format!("override {number}"))
        }
        AuditAction::Reload => None,
        AuditAction::Other => path.map(str::to_owned),
    };
    let reason = text("reason");
    let query = request.uri().query().map(|query| Value::from(format!("?{query}")));
    Asked { action, target, reason, parameters: parameters.or(query) }
}

/// `GET /v1/audit`. Names of users, addresses and reasons are not for everyone who may read.
pub(super) async fn get(
    State(api): State<Api>,
    Extension(bearer): Extension<Bearer>,
    uri: Uri,
) -> Result<Json<Vec<dto::AuditEntry>>, Problem> {
    if bearer.is_anonymous {
        return Err(Problem::new(
            StatusCode::UNAUTHORIZED,
            "the audit log needs a token, of any role: send `Authorization: Bearer TOKEN`, or use the control socket on the node",
        ));
    }
    let [since, limit] = parameters(&uri, ["since", "limit"])?;
    let since = since.map(|text| super::routes::moment(&text)).transpose().map_err(Problem::bad_request)?;
    let limit = limit.map_or(Ok(USUAL_ENTRIES), |text| {
        text.parse().map_err(|_| Problem::bad_request(format!("`{text}` is not a valid number of entries")))
    })?;
    Ok(Json(api.engine.audit.latest(since, limit).iter().map(|entry| (&**entry).into()).collect()))
}
