//! The command line's client of a node's API.

use std::cell::Cell;
use std::convert::Infallible;
use std::fmt;
use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt as _;
use std::time::Duration;

use anyhow::{Context as _, Result};
use bytes::Bytes;
use jiff::Timestamp;
use nix::unistd::{Gid, Group, User, geteuid};
use reqwest::{Method, StatusCode};
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::mismatch;
use super::node::{Attempt, Chosen, Place, Why};
use crate::api::{NO_ANSWER, Problem, REFUSED_BY_SAFETY, dto};
use crate::state::DO_IT_ANYWAY;

/// How long a node may take to answer.
const TIMEOUT: Duration = Duration::from_secs(10);
/// A large config takes seconds to compile, and longer on a busy machine.
const RELOAD_TIMEOUT: Duration = Duration::from_secs(300);

/// A blocking client of a node's API.
pub(super) struct Client {
    runtime: tokio::runtime::Runtime,
    http: reqwest::Client,
    base: String,
    token: Option<String>,
    place: Place,
    /// The places tried before.
    skipped: Vec<Attempt>,
    /// The environment variable that chose the node.
    variable: Option<&'static str>,
    /// Which node is used, to be said with its first answer, if that may surprise.
    note: Cell<Option<String>>,
}

/// What a command does with the node.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Purpose {
    Read,
    Change,
}

/// Why a request to a node failed.
#[derive(Debug)]
pub(super) enum ClientError {
    /// No node can be used at any of these places; there is at least one. If an environment variable names them, which.
    Unreachable { attempts: Vec<Attempt>, variable: Option<&'static str> },
    /// Something answers, but cannot be used; a sentence says why and what to do.
    Mismatch(String),
    /// The connection broke after an answer.
    Gone { place: Place },
    /// A safety rule forbids it.
    RefusedBySafety(String),
    /// The node wants a token. This user may not use the socket, which was tried before, if there is one.
    NeedsToken { place: Place, denied: Option<Place> },
    /// The node refuses it.
    Refused(Problem),
    /// The command line is invalid.
    Usage(String),
}

impl fmt::Display for ClientError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unreachable { attempts, variable } => unreachable(attempts, *variable, f),
            Self::Gone { place } => {
                write!(f, "lost {place}: the node stopped or the connection broke")
            }
            Self::Mismatch(why) | Self::Usage(why) => f.write_str(why),
            // The API speaks of its own fields and headers.
            Self::RefusedBySafety(why) => {
                let why = why.strip_suffix(DO_IT_ANYWAY).unwrap_or(why);
                write!(f, "{why}; add --override-safety to do it anyway")
            }
            Self::NeedsToken { place, denied: Some(socket) } => {
                write!(f, "{}; {place} wants a token", denied(socket))
            }
            Self::NeedsToken { place, denied: None } => write!(
                f,
                "{place} wants a token: give it with --token or PORTOLAN_TOKEN; \
                 the control socket on the node, --control PATH, needs none"
            ),
            Self::Refused(problem) => problem.fmt(f),
        }
    }
}

/// A node behind a socket that this user may not use probably runs, so that comes first.
fn unreachable(attempts: &[Attempt], variable: Option<&str>, f: &mut fmt::Formatter<'_>) -> fmt::Result {
    if let Some(socket) = first_denied(attempts) {
        f.write_str(&denied(socket))?;
        let mut others = attempts.iter().filter(|it| !matches!(it.why, Why::Denied));
        return others.try_for_each(|Attempt { place, why }| write!(f, "; {place}: {why}"));
    }
    f.write_str("no node answers at ")?;
    for (index, Attempt { place, why }) in attempts.iter().enumerate() {
        let separator = if index == 0 { "" } else { "; nor at " };
        write!(f, "{separator}{place}: {why}")?;
    }
    f.write_str("; is it running?")?;
    if let Some(variable) = variable {
        // The demo tells its users to set it.
        write!(f, " {variable} selects it: unset the variable if that node or demo has ended;")?;
    }
    f.write_str(
        " --control selects another node (HOST:PORT or the path of its control socket), \
         -c the node of a config",
    )
}

fn first_denied(attempts: &[Attempt]) -> Option<&Place> {
    attempts.iter().find(|it| matches!(it.why, Why::Denied)).map(|it| &it.place)
}

/// What someone should know who may not use a socket, as a sentence.
fn denied(socket: &Place) -> String {
    let otherwise = "use sudo, or the node's TCP address with --control HOST:PORT";
    let Some(group) = group_of(socket) else {
        return format!(
            "permission denied at {socket}: only root and the user that runs the node may use this socket; {otherwise}"
        );
    };
    let user = User::from_uid(geteuid()).ok().flatten().map_or_else(|| "USER".into(), |user| user.name);
    format!(
        "permission denied at {socket}: only root, the user that runs the node and the group `{group}` may use this \
         socket; join the group by `sudo usermod -aG {group} {user}` and log in again, or {otherwise}"
    )
}

/// The group that may use a socket: its own, or that of the folder that hides it.
fn group_of(socket: &Place) -> Option<String> {
    let Place::Socket(path) = socket else { return None };
    let found = path.ancestors().find_map(|it| fs::metadata(it).ok())?;
    let needed = if found.is_dir() { 0o010 } else { 0o060 };
    let group = Group::from_gid(Gid::from_raw(found.gid()));
    group.ok()?.filter(|_| found.mode() & needed == needed).map(|group| group.name)
}

impl std::error::Error for ClientError {}

impl Client {
    /// Finds the node to talk to. A command that changes something reports which node an environment variable selected.
    pub(super) fn new(chosen: &Chosen, purpose: Purpose) -> Result<Self> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let (place, skipped) = runtime.block_on(chosen.find())?;
        let builder = reqwest::Client::builder().connect_timeout(TIMEOUT).no_proxy();
        let (builder, base) = match &place {
            Place::Socket(path) => (builder.unix_socket(path.clone()), "http://localhost".to_owned()),
            Place::Url(url) => (builder, url.clone()),
        };
        // Without TLS, a host need not have authorities that it trusts.
        let builder = if base.starts_with("https:") { builder } else { builder.tls_certs_only([]) };
        Ok(Self {
            runtime,
            http: builder.build().context("cannot set up the HTTP client")?,
            base,
            token: chosen.token.clone(),
            note: Cell::new(chosen.note(&place, &skipped, purpose)),
            place,
            skipped,
            variable: chosen.variable,
        })
    }

    /// Where the node listens.
    pub(super) fn place(&self) -> &Place {
        &self.place
    }

    pub(super) fn status(&self) -> Result<dto::Status> {
        self.get("/v1/status", &[])
    }

    /// Runs what uses the node more than once.
    pub(super) fn block_on<T>(&self, work: impl Future<Output = T>) -> T {
        self.runtime.block_on(work)
    }

    pub(super) async fn fetch_status(&self) -> Result<dto::Status> {
        let request = self.request(Method::GET, "/v1/status").timeout(TIMEOUT);
        self.read(&self.exchange(request).await?)
    }

    pub(super) fn explain(&self, query: &[(&str, &str)]) -> Result<dto::Explain> {
        self.get("/v1/explain", query)
    }

    pub(super) fn explain_request(&self, query: &[(&str, &str)]) -> Result<dto::ExplainRequest> {
        self.get("/v1/explain", query)
    }

    pub(super) fn traffic(&self) -> Result<dto::Traffic> {
        self.get("/v1/traffic", &[])
    }

    pub(super) fn overrides(&self) -> Result<Vec<dto::Override>> {
        self.get("/v1/overrides", &[])
    }

    pub(super) fn events(&self) -> Result<Vec<dto::Event>> {
        self.get("/v1/events", &[])
    }

    pub(super) fn audit(&self, since: Option<Timestamp>, limit: usize) -> Result<Vec<dto::AuditEntry>> {
        let (since, limit) = (since.map(|since| since.to_string()), limit.to_string());
        let since = since.as_deref().map(|since| ("since", since));
        let query: Vec<_> = since.into_iter().chain([("limit", limit.as_str())]).collect();
        self.get("/v1/audit", &query)
    }

    pub(super) fn put_override(&self, request: &dto::OverrideRequest) -> Result<dto::Applied> {
        self.call(TIMEOUT, Method::POST, "/v1/overrides", &[], Some(request))
    }

    pub(super) fn remove_override(&self, id: u64, override_safety: bool) -> Result<dto::Applied> {
        let query: &[_] = if override_safety { &[("override_safety", "true")] } else { &[] };
        self.call::<(), _>(TIMEOUT, Method::DELETE, &format!("/v1/overrides/{id}"), query, None)
    }

    pub(super) fn reload(&self) -> Result<dto::Reloaded> {
        self.call::<(), _>(RELOAD_TIMEOUT, Method::POST, "/v1/reload", &[], None)
    }

    /// A config takes as long as at a reload.
    pub(super) fn plan(&self, request: &dto::PlanRequest) -> Result<dto::Plan> {
        let timeout = if request.config.is_some() { RELOAD_TIMEOUT } else { TIMEOUT };
        self.call(timeout, Method::POST, "/v1/plan", &[], Some(request))
    }

    pub(super) fn post<B: Serialize, R: DeserializeOwned>(&self, path: &str, body: &B) -> Result<R> {
        self.call(TIMEOUT, Method::POST, path, &[], Some(body))
    }

    fn get<R: DeserializeOwned>(&self, path: &str, query: &[(&str, &str)]) -> Result<R> {
        self.call::<(), R>(TIMEOUT, Method::GET, path, query, None)
    }

    fn call<B: Serialize, R: DeserializeOwned>(
        &self,
        timeout: Duration,
        method: Method,
        path: &str,
        query: &[(&str, &str)],
        body: Option<&B>,
    ) -> Result<R> {
        let request = self.request(method, path).query(query).timeout(timeout);
        let request = match body {
            Some(body) => request.json(body),
            None => request,
        };
        self.read(&self.runtime.block_on(self.exchange(request))?)
    }

    /// The body of the response, if that is a success.
    async fn exchange(&self, request: reqwest::RequestBuilder) -> Result<Bytes> {
        let response = request.send().await.map_err(|e| self.unreachable(&e))?;
        let response = self.good(response).await?;
        Ok(response.bytes().await.map_err(|e| self.unreachable(&e))?)
    }

    fn read<R: DeserializeOwned>(&self, json: &[u8]) -> Result<R> {
        serde_json::from_slice(json).with_context(|| format!("{} does not speak Portolan's API", self.place))
    }

    /// Passes each event to `print` as it arrives, until the node goes away.
    pub(super) fn follow_events(&self, mut print: impl FnMut(&dto::Event)) -> Result<Infallible> {
        self.runtime.block_on(async {
            let request = self.request(Method::GET, "/v1/events").header("accept", "text/event-stream");
            let response = request.send().await.map_err(|e| self.unreachable(&e))?;
            let mut response = self.good(response).await?;
            let mut text = Vec::new();
            // An event stream ends only with its node.
            while let Ok(Some(chunk)) = response.chunk().await {
                text.extend_from_slice(&chunk);
                while let Some(end) = text.iter().position(|byte| *byte == b'\n') {
                    let line: Vec<u8> = text.drain(..=end).collect();
                    // The node writes each event's data on one line.
                    if let Some(data) = line.strip_prefix(b"data:") {
                        print(&self.read(data)?);
                    }
                }
            }
            Err(ClientError::Gone { place: self.place.clone() }.into())
        })
    }

    /// Adds to the sentence that the engine does not answer what the node knows about it.
    async fn with_failure(&self, detail: String) -> String {
        let response = self.request(Method::GET, "/livez").timeout(TIMEOUT).send().await;
        match response {
            Ok(response) if response.status() == StatusCode::SERVICE_UNAVAILABLE => {
                let failure = response.text().await.unwrap_or_default();
                if detail.contains(failure.trim_end()) {
                    detail
                } else {
                    format!("{detail} ({})", failure.trim_end())
                }
            }
            _ => detail,
        }
    }

    fn request(&self, method: Method, path: &str) -> reqwest::RequestBuilder {
        let request = self.http.request(method, format!("{}{path}", self.base));
        match &self.token {
            Some(token) => request.bearer_auth(token),
            None => request,
        }
    }

    fn unreachable(&self, error: &reqwest::Error) -> ClientError {
        if let Some(why) = mismatch::sentence(&self.place, error) {
            return ClientError::Mismatch(why);
        }
        // The innermost cause is the one that explains the error.
        let cause = mismatch::causes(error).last().unwrap_or(error);
        let why = match cause.downcast_ref::<io::Error>() {
            _ if error.is_timeout() => Why::Failed("it does not answer in time".into()),
            Some(error) => Why::from(error),
            None => Why::Failed(cause.to_string()),
        };
        let last = Attempt { place: self.place.clone(), why };
        let attempts = self.skipped.iter().cloned().chain([last]).collect();
        ClientError::Unreachable { attempts, variable: self.variable }
    }

    async fn good(&self, response: reqwest::Response) -> Result<reqwest::Response> {
        let status = response.status();
        let needs_token = status == StatusCode::UNAUTHORIZED && self.token.is_none();
        let denied = first_denied(&self.skipped).filter(|_| needs_token);
        // Where nothing answers, the error names every place that was tried, and that of a denied socket does so, too.
        if let Some(note) = self.note.take().filter(|_| denied.is_none()) {
            super::complain(&note);
        }
        if needs_token {
            // The node's own sentence speaks of HTTP headers.
            let (place, denied) = (self.place.clone(), denied.cloned());
            return Err(ClientError::NeedsToken { place, denied }.into());
        }
        if status.is_success() {
            return Ok(response);
        }
        let text = response.text().await.unwrap_or_default();
        let problem = serde_json::from_str(&text).unwrap_or_else(|_| {
            let from = &self.place;
            Problem::new(
                StatusCode::from_u16(status.as_u16()).unwrap_or(StatusCode::BAD_GATEWAY),
                format!("{from} answered {status}: is it a Portolan node?"),
            )
        });
        Err(if problem.kind == REFUSED_BY_SAFETY {
            ClientError::RefusedBySafety(problem.detail).into()
        } else if problem.kind == NO_ANSWER {
            ClientError::Refused(Problem { detail: self.with_failure(problem.detail).await, ..problem })
                .into()
        } else {
            ClientError::Refused(problem).into()
        })
    }
}
