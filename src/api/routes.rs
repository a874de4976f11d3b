//! The routes.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::{Duration, Instant};

use axum::extract::rejection::JsonRejection;
use axum::extract::{Path, State};
use axum::http::{HeaderMap, StatusCode, Uri, header};
use axum::response::sse::{self, KeepAlive, Sse};
use axum::response::{IntoResponse, Response};
use axum::routing::{MethodRouter, get};
use axum::{Extension, Json, Router, middleware};
use futures_util::{Stream, StreamExt as _, stream};
use hickory_proto::rr::RecordType;

use super::access::{Access, Bearer, guard};
use super::audit::{Auditor, Made};
use super::body::read_whole;
use super::certificates;
use super::connections::Admission;
use super::dto;
use super::explain::{Question, RequestQuestion, client_address, explain, explain_request};
use super::exposition::Exposition;
use super::forecast::Forecasts;
use super::identity::Users;
use super::load::Loads;
use super::metrics::{Metrics, Seen};
use super::operations::operations;
use super::parameters::{self, parameters, parameters_and_all};
use super::problem::Problem;
use super::reload::Reloads;
use super::status::View;
use super::traffic::{Traffic, totals_of};
use crate::config::{self, Role};
use crate::engine::{Handle, Next};
use crate::model::Unix;
use crate::net::clock::Clock;
use crate::net::handshakes::Handshakes;
use crate::net::limits::Files;
use crate::net::managed::AllManaged;
use crate::prepare::ReloadError;
use crate::standing::Action;
use crate::state::{OverrideRequest, timestamp};
use crate::supervise::{BEAT, Supervisor};

/// What the routes need.
#[derive(Clone, Debug)]
pub struct Api {
    /// The engine.
    pub engine: Handle,
    /// Asks the node for reloads.
    pub reloads: Reloads,
    /// `[node] name`
    pub node_name: Arc<str>,
    /// When the program started.
    pub started: Instant,
    /// What `/metrics` reports.
    pub metrics: Metrics,
    /// The files that the process may have open.
    pub files: Files,
    /// How much the proxy's backends work on.
    pub loads: Loads,
    /// How far away the proxy's clients are.
    pub handshakes: Arc<Handshakes>,
    /// The certificates that the node obtains itself.
    pub certificates: AllManaged,
    /// Makes forecasts.
    pub forecasts: Forecasts,
    /// Who asks; `None` on a node that does not answer DNS.
    pub traffic: Option<Traffic>,
}

/// The routes for a listener that allows what `access` says, and those of `extra`; only `/metrics` if it is for that.
pub fn router(api: Api, access: Access, extra: Router) -> Router {
    let auditor = Auditor::new(Arc::clone(&api.engine.audit));
    if let Access::Metrics(_) = access {
        return guarded(Router::new().route("/metrics", get(metrics)).with_state(api), access, auditor);
    }
    let mut routes = Router::new();
    for (operation, handler) in operations() {
        let handler: MethodRouter<Api> = if operation.forbids_parameters() {
            handler.route_layer(middleware::from_fn(parameters::none))
        } else {
            handler
        };
        routes = routes.route(operation.path, handler);
    }
    guarded(routes.with_state(api).merge(extra), access, auditor)
}

/// Applies to all routes what is true of every request.
fn guarded(routes: Router, access: Access, auditor: Auditor) -> Router {
    routes
        .fallback(|| async { Problem::new(StatusCode::NOT_FOUND, "there is nothing at this path") })
        .method_not_allowed_fallback(|| async {
            Problem::new(StatusCode::METHOD_NOT_ALLOWED, "this path does not support this method")
        })
        // The last layer runs first.
        .layer(middleware::from_fn(read_whole))
        .layer(middleware::from_fn_with_state((access, Users::default(), auditor), guard))
}

/// Must answer without the engine, which may be what is not alive.
pub(super) async fn livez(State(api): State<Api>) -> Response {
    match api.engine.supervisor.failure() {
        None => "ok\n".into_response(),
        Some(why) => (StatusCode::SERVICE_UNAVAILABLE, format!("{why}\n")).into_response(),
    }
}

pub(super) async fn readyz(State(api): State<Api>) -> Response {
    if let Some(why) = api.engine.supervisor.failure() {
        (StatusCode::SERVICE_UNAVAILABLE, format!("{why}\n")).into_response()
    } else if *api.engine.ready.borrow() {
        "ok\n".into_response()
    } else {
        (StatusCode::SERVICE_UNAVAILABLE, "waiting for the first result of every check\n").into_response()
    }
}

pub(super) async fn metrics(State(api): State<Api>, headers: HeaderMap) -> Result<Response, Problem> {
    let format = Exposition::accepted(&headers);
    let now = Clock::unix();
    let snapshot = api.engine.snapshots.load_full();
    let seen = Seen {
        checks: api.engine.checks().await?,
        hosts: api.engine.hosts().await?,
        overrides: api.engine.overrides().await?,
        engine_alarms: [api.engine.alarms().await?, certificates::alarms(&api.certificates, now)].concat(),
        certificates: Vec::clone(&api.certificates.load()),
        traffic: totals_of(api.traffic, &snapshot).await,
        snapshot,
        transitions: api.engine.transitions(),
        ejections: api.engine.ejections(),
        reloads: api.engine.reloads(),
        journal_fails: api.engine.journal_fails(),
        now,
    };
    let text = api
        .metrics
        .scrape(seen)
        .map_err(|e| Problem::new(StatusCode::INTERNAL_SERVER_ERROR, e.to_string()))?;
    Ok(([(header::CONTENT_TYPE, format.content_type())], format.of(text)).into_response())
}

pub(super) async fn get_status(State(api): State<Api>) -> Result<Json<dto::Status>, Problem> {
    let checks = api.engine.checks().await?;
    let hosts = api.engine.hosts().await?;
    let overrides = api.engine.overrides().await?;
    let snapshot = api.engine.snapshots.load_full();
    let node = dto::Node {
        name: api.node_name.to_string(),
        version: env!("CARGO_PKG_VERSION").into(),
        epoch: snapshot.epoch,
        ready: *api.engine.ready.borrow(),
        uptime_s: api.started.elapsed().as_secs(),
    };
    let now = Clock::unix();
    let alarms = [api.engine.alarms().await?, certificates::alarms(&api.certificates, now)].concat();
    let view = View::new(&snapshot, &checks, &hosts, &overrides, now);
    let certificates = certificates::shown(&api.certificates);
    let status = view.status(node, (&api.files).into(), alarms, &(api.loads.0)());
    Ok(Json(dto::Status { certificates, ..status }))
}

pub(super) async fn get_regions(State(api): State<Api>) -> Result<Json<Vec<dto::Region>>, Problem> {
    let checks = api.engine.checks().await?;
    let hosts = api.engine.hosts().await?;
    let overrides = api.engine.overrides().await?;
    let snapshot = api.engine.snapshots.load_full();
    Ok(Json(View::new(&snapshot, &checks, &hosts, &overrides, Clock::unix()).regions()))
}

pub(super) async fn get_handshakes(State(api): State<Api>) -> Json<Vec<dto::Handshakes>> {
    Json(api.handshakes.networks().into_iter().map(Into::into).collect())
}

pub(super) async fn get_whoami(Extension(Bearer { role, by, .. }): Extension<Bearer>) -> Json<dto::Whoami> {
    Json(dto::Whoami { by, role: role.into() })
}

pub(super) async fn get_services(State(api): State<Api>) -> Result<Json<Vec<dto::Service>>, Problem> {
    let overrides = api.engine.overrides().await?;
    let snapshot = api.engine.snapshots.load_full();
    Ok(Json(View::new(&snapshot, &[], &[], &overrides, Clock::unix()).services()))
}

pub(super) async fn get_explain(State(api): State<Api>, uri: Uri) -> Result<Response, Problem> {
    if parameters::has(&uri, "url") {
        return get_explain_request(&api, &uri).await.map(IntoResponse::into_response);
    }
    let [name, rtype, client, at] = parameters(&uri, ["name", "type", "client", "at"])?;
    let name = name.ok_or_else(|| missing("name"))?;
    let client = client.ok_or_else(|| missing("client"))?;
    let question =
        Question::parse(&name, rtype.as_deref(), &client, at.as_deref()).map_err(Problem::bad_request)?;
    let checks = api.engine.checks().await?;
    let overrides = api.engine.overrides().await?;
    let explained = explain(&api.engine.snapshots.load(), &checks, &overrides, &question)?;
    Ok(Json(explained).into_response())
}

async fn get_explain_request(api: &Api, uri: &Uri) -> Result<Json<dto::ExplainRequest>, Problem> {
    let names = ["url", "client", "method", "listener"];
    let ([url, client, method, listener], headers) = parameters_and_all(uri, names, "header")?;
    let url = url.ok_or_else(|| missing("url"))?;
    let client = client.ok_or_else(|| missing("client"))?;
    let question = RequestQuestion::parse(&url, method.as_deref(), &headers, &client, listener.as_deref())
        .map_err(Problem::bad_request)?;
    let checks = api.engine.checks().await?;
    let overrides = api.engine.overrides().await?;
    explain_request(&api.engine.snapshots.load(), &checks, &overrides, &question).map(Json)
}

fn missing(parameter: &str) -> Problem {
    Problem::bad_request(format!("the query parameter `{parameter}` is missing"))
}

impl Question {
    /// Reads a question; type A and now are the defaults.
    ///
    /// # Errors
    /// A sentence about the part that cannot be read.
    pub fn parse(name: &str, rtype: Option<&str>, client: &str, at: Option<&str>) -> Result<Self, String> {
        let at = match at {
            None => Clock::unix(),
            Some(text) => moment(text)?,
        };
        Ok(Self {
            name: name.parse().map_err(|e| format!("`{name}` is not a valid domain name: {e}"))?,
            rtype: record_type(rtype.unwrap_or("A"))?,
            client: client_address(client)?,
            at,
        })
    }
}

/// Reads a moment.
///
/// # Errors
/// How to write one.
pub(super) fn moment(text: &str) -> Result<Unix, String> {
    text.parse::<jiff::Timestamp>()
        .ok()
        .and_then(|at| u64::try_from(at.as_millisecond()).ok())
        .map(|millis| Unix(Duration::from_millis(millis)))
        .ok_or_else(|| format!("`{text}` is not a valid time: write it as 2026-11-20T12:00:00Z"))
}

/// A mnemonic, or `TYPE` and a number (RFC 3597 §5).
fn record_type(text: &str) -> Result<RecordType, String> {
    let upper = text.to_uppercase();
    let number = upper.strip_prefix("TYPE").and_then(|number| number.parse::<u16>().ok());
    match number {
        Some(number) => Ok(RecordType::from(number)),
        None => upper
            .parse()
            .map_err(|_| format!("`{text}` is not a valid record type: write it as AAAA, MX or TYPE65")),
    }
}

pub(super) async fn get_overrides(State(api): State<Api>) -> Result<Json<Vec<dto::Override>>, Problem> {
    Ok(Json(api.engine.overrides().await?.iter().map(Into::into).collect()))
}

pub(super) async fn post_override(
    State(api): State<Api>,
    Extension(Bearer { role, by, .. }): Extension<Bearer>,
    request: Result<Json<dto::OverrideRequest>, JsonRejection>,
) -> Result<(Extension<Made>, Json<dto::Applied>), Problem> {
    let Json(request) = request.map_err(|e| Problem::bad_request(e.body_text()))?;
    may_override_safety(request.override_safety, role)?;
    let request = OverrideRequest {
        target: request
            .target
            .parse()
            .map_err(|e: crate::model::TargetError| Problem::bad_request(e.to_string()))?,
        action: action(request.action, request.share).map_err(Problem::bad_request)?,
        lasts: match request.lasts {
            None => None,
            Some(text) => Some(config::parse_duration(&text).map_err(Problem::bad_request)?),
        },
        reason: request.reason,
        override_safety: request.override_safety,
        by,
    };
    let applied = api.engine.put_override(request).await??;
    Ok((Extension(Made::set(&applied)), Json(applied.into())))
}

/// Overriding safety rules requires the role admin, or the control socket.
fn may_override_safety(asks: bool, role: Role) -> Result<(), Problem> {
    if asks && role < Role::Admin {
        return Err(Problem::new(
            StatusCode::FORBIDDEN,
            "overriding safety rules requires the role admin, or the control socket on the node",
        ));
    }
    Ok(())
}

/// The action of a request. A share goes with a drain only.
pub(super) fn action(action: dto::Action, share: Option<dto::Share>) -> Result<Action, String> {
    match (action, share) {
        (dto::Action::Drain, share) => Ok(Action::Drain(share.unwrap_or(dto::Share::WHOLE).0)),
        (dto::Action::Up, None | Some(dto::Share::WHOLE)) => Ok(Action::Up),
        (dto::Action::Down, None | Some(dto::Share::WHOLE)) => Ok(Action::Down),
        (action, Some(_)) => Err(format!("a share goes with drain, not with {action}")),
    }
}

pub(super) async fn delete_override(
    State(api): State<Api>,
    Extension(Bearer { role, by, .. }): Extension<Bearer>,
    Path(id): Path<String>,
    uri: Uri,
) -> Result<(Extension<Made>, Json<dto::Applied>), Problem> {
    let [override_safety] = parameters(&uri, ["override_safety"])?;
    let id: u64 =
        id.parse().map_err(|_| Problem::bad_request(format!("`{id}` is not a valid override number")))?;
    let override_safety = match override_safety.as_deref() {
        None | Some("false") => false,
        Some("true") => true,
        Some(_) => return Err(Problem::bad_request("`override_safety` is either true or false")),
    };
    may_override_safety(override_safety, role)?;
    let applied = api.engine.remove_override(id, by, override_safety).await??;
    Ok((Extension(Made::removed(&applied)), Json(applied.into())))
}

pub(super) async fn reload(
    State(api): State<Api>,
    Extension(Bearer { by, .. }): Extension<Bearer>,
) -> Result<(Extension<Made>, Json<dto::Reloaded>), Problem> {
    let reload = api.reloads.reload(by);
    let reloaded = unless_stalled(&api, reload, "the reload waits until it runs again").await?;
    let made = Made::reloaded(&reloaded.before, &reloaded.after);
    Ok((Extension(made), Json(reloaded.into())))
}

/// What comes of reading a config, unless a part of the node has stalled or ended: then the error ends with `meanwhile`.
pub(super) async fn unless_stalled<R>(
    api: &Api,
    work: impl Future<Output = Result<R, ReloadError>>,
    meanwhile: &str,
) -> Result<R, Problem> {
    tokio::select! {
        result = work => Ok(result?),
        why = failed(&api.engine.supervisor) => Err(Problem::no_answer(format!("{why}; {meanwhile}"))),
    }
}

/// Waits until a part of the node has stalled or ended.
async fn failed(supervisor: &Supervisor) -> String {
    loop {
        if let Some(why) = supervisor.failure() {
            return why;
        }
        tokio::time::sleep(BEAT).await;
    }
}

/// The kept events as an array, or with `Accept: text/event-stream` those and all that follow as a stream.
pub(super) async fn get_events(
    State(api): State<Api>,
    Extension(admission): Extension<Arc<Admission>>,
    headers: HeaderMap,
) -> Result<Response, Problem> {
    let accept = headers.get(header::ACCEPT).and_then(|value| value.to_str().ok()).unwrap_or_default();
    let is_stream = accept.contains("text/event-stream");
    if is_stream && let Err(count) = admission.become_stream() {
        let detail = format!("{count} event streams are open, and no more are allowed: try again later");
        return Err(Problem::new(StatusCode::SERVICE_UNAVAILABLE, detail));
    }
    let history = &api.engine.history;
    if is_stream {
        let seen = history.resume(last_seen(&headers));
        Ok(Sse::new(event_stream(api.engine, seen)).keep_alive(KeepAlive::default()).into_response())
    } else {
        let kept = history.all();
        Ok(Json(kept.iter().filter_map(|event| dto::Event::of(event)).collect::<Vec<_>>()).into_response())
    }
}

/// The id of the last event that a reconnecting reader has seen (HTML Living Standard, server-sent events).
fn last_seen(headers: &HeaderMap) -> Option<u64> {
    headers.get("last-event-id")?.to_str().ok()?.parse().ok()
}

/// All events after this one, and those that happen.
fn event_stream(engine: Handle, seen: u64) -> impl Stream<Item = Result<sse::Event, Infallible>> {
    let events = stream::unfold((engine, seen), |(engine, seen)| async move {
        let (event, seen) = match engine.history.next(seen).await {
            Next::Event(record) => (dto::Event::of(&record), record.id),
            Next::Missed(until) => (Some(missed(until, engine.snapshots.load().epoch)), until),
        };
        Some((event, (engine, seen)))
    });
    events.filter_map(async |event| {
        let event = event?;
        let message = sse::Event::default().id(event.id.to_string()).event(event.event.to_string());
        Some(Ok(message.json_data(&event).unwrap_or_default()))
    })
}

/// Says that events up to this one are missing, so that a reader that cannot do without them can look elsewhere.
fn missed(until: u64, epoch: u64) -> dto::Event {
    dto::Event {
        id: until,
        at: timestamp(Clock::unix()),
        epoch,
        event: dto::EventName::Missed,
        message:
            "events before this are missing: they were no longer kept when this reader came back or caught up"
                .into(),
        fields: <_>::default(),
    }
}
