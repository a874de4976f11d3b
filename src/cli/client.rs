//! The command line's client of a node's API.

use std::convert::Infallible;
use std::fmt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context as _, Result};
use reqwest::{Method, StatusCode};
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::api::{Problem, REFUSED_BY_SAFETY, dto};
use crate::config::{self, Control};
use crate::node::default_sockets;

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
    /// The address or socket as operators write it.
    place: String,
}

/// Why a request to a node failed.
#[derive(Debug)]
pub(super) enum ClientError {
    /// No node answers there.
    Unreachable { place: String, why: String },
    /// The connection broke after an answer.
    Gone { place: String },
    /// A safety rule forbids it.
    RefusedBySafety(String),
    /// The node refuses it.
    Refused(Problem),
    /// The command line is invalid.
    Usage(String),
}

impl fmt::Display for ClientError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unreachable { place, why } => write!(
                f,
                "no node answers at {place}: {why}; is it running? --control selects another node \
                 (HOST:PORT or the path of its control socket)"
            ),
            Self::Gone { place } => {
                write!(f, "lost {place}: the node stopped or the connection broke")
            }
            Self::Usage(why) => f.write_str(why),
            // The API speaks of its own fields and headers.
            Self::RefusedBySafety(why) => write!(f, "{why}: add --override-safety"),
            Self::Refused(problem) if problem.status == StatusCode::UNAUTHORIZED.as_u16() => {
                write!(f, "{problem}; --token or PORTOLAN_TOKEN sends a token")
            }
            Self::Refused(problem) => problem.fmt(f),
        }
    }
}

impl std::error::Error for ClientError {}

enum Server {
    Socket(PathBuf),
    Url(String),
}

impl Server {
    /// `--control`, else the config's socket, else the default ones.
    fn find(control: Option<&str>, config: Option<&Path>) -> Result<Self> {
        if let Some(control) = control {
            return Self::parse(control);
        }
        if let Some(config) = config {
            let control = config::load_control(config, &|path| std::fs::read(path))?;
            return match (control.socket, control.listen) {
                (Some(socket), _) if socket.exists() => Ok(Self::Socket(socket)),
                (_, Some(listen)) => {
                    let scheme = if control.tls.is_some() { "https" } else { "http" };
                    Ok(Self::Url(format!("{scheme}://{listen}")))
                }
                (Some(socket), None) => Ok(Self::Socket(socket)),
                (None, None) => {
                    Err(ClientError::Usage("this config has no control API: see [control]".into()).into())
                }
            };
        }
        let found = default_sockets().find(|socket| socket.exists());
        Ok(found.map_or_else(|| Self::Url(format!("http://{}", Control::DEFAULT_LISTEN)), Self::Socket))
    }

    fn parse(control: &str) -> Result<Self> {
        if control.starts_with("http://") || control.starts_with("https://") {
            Ok(Self::Url(control.trim_end_matches('/').to_owned()))
        } else if control.contains('/') || Path::new(control).exists() {
            Ok(Self::Socket(control.into()))
        } else if control
            .rsplit_once(':')
            .is_some_and(|(host, port)| !host.is_empty() && port.parse::<u16>().is_ok())
        {
            Ok(Self::Url(format!("http://{control}")))
        } else {
            let why = format!(
                "`{control}` is not a valid node: write HOST:PORT, an http(s) URL or the path of a socket"
            );
            Err(ClientError::Usage(why).into())
        }
    }
}

impl Client {
    /// Finds the node to talk to; sends nothing yet.
    pub(super) fn new(control: Option<&str>, token: Option<&str>, config: Option<&Path>) -> Result<Self> {
        let place = Server::find(control, config)?;
        let builder = reqwest::Client::builder().connect_timeout(TIMEOUT).no_proxy();
        let (builder, base, place) = match place {
            Server::Socket(path) => {
                let shown = path.display().to_string();
                (builder.unix_socket(path), "http://localhost".to_owned(), shown)
            }
            Server::Url(url) => {
                let shown = url.trim_start_matches("http://").to_owned();
                (builder, url, shown)
            }
        };
        Ok(Self {
            runtime: tokio::runtime::Builder::new_current_thread().enable_all().build()?,
            http: builder.build().context("cannot set up the HTTP client")?,
            base,
            token: token.map(str::to_owned),
            place,
        })
    }

    pub(super) fn status(&self) -> Result<dto::Status> {
        self.get("/v1/status", &[])
    }

    pub(super) fn explain(&self, query: &[(&str, &str)]) -> Result<dto::Explain> {
        self.get("/v1/explain", query)
    }

    pub(super) fn overrides(&self) -> Result<Vec<dto::Override>> {
        self.get("/v1/overrides", &[])
    }

    pub(super) fn events(&self) -> Result<Vec<dto::Event>> {
        self.get("/v1/events", &[])
    }

    pub(super) fn put_override(&self, request: &dto::OverrideRequest) -> Result<dto::Applied> {
        self.call(Method::POST, "/v1/overrides", &[], Some(request))
    }

    pub(super) fn remove_override(&self, id: u64, override_safety: bool) -> Result<dto::Applied> {
        let query: &[_] = if override_safety { &[("override_safety", "true")] } else { &[] };
        self.call::<(), _>(Method::DELETE, &format!("/v1/overrides/{id}"), query, None)
    }

    pub(super) fn reload(&self) -> Result<dto::Reloaded> {
        self.call_within::<(), _>(RELOAD_TIMEOUT, Method::POST, "/v1/reload", &[], None)
    }

    pub(super) fn post<B: Serialize, R: DeserializeOwned>(&self, path: &str, body: &B) -> Result<R> {
        self.call(Method::POST, path, &[], Some(body))
    }

    fn get<R: DeserializeOwned>(&self, path: &str, query: &[(&str, &str)]) -> Result<R> {
        self.call::<(), R>(Method::GET, path, query, None)
    }

    fn call<B: Serialize, R: DeserializeOwned>(
        &self,
        method: Method,
        path: &str,
        query: &[(&str, &str)],
        body: Option<&B>,
    ) -> Result<R> {
        self.call_within(TIMEOUT, method, path, query, body)
    }

    fn call_within<B: Serialize, R: DeserializeOwned>(
        &self,
        timeout: Duration,
        method: Method,
        path: &str,
        query: &[(&str, &str)],
        body: Option<&B>,
    ) -> Result<R> {
        self.runtime.block_on(async {
            let mut request = self.request(method, path).query(query).timeout(timeout);
            if let Some(body) = body {
                request = request.json(body);
            }
            let response = request.send().await.map_err(|e| self.unreachable(&e))?;
            let response = self.good(response).await?;
            response.json().await.with_context(|| format!("{} does not speak Portolan's API", self.place))
        })
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
                        let event = serde_json::from_slice(data);
                        print(
                            &event
                                .with_context(|| format!("{} does not speak Portolan's API", self.place))?,
                        );
                    }
                }
            }
            Err(ClientError::Gone { place: self.place.clone() }.into())
        })
    }

    fn request(&self, method: Method, path: &str) -> reqwest::RequestBuilder {
        let request = self.http.request(method, format!("{}{path}", self.base));
        match &self.token {
            Some(token) => request.bearer_auth(token),
            None => request,
        }
    }

    fn unreachable(&self, error: &reqwest::Error) -> ClientError {
        // The innermost cause is the one that explains the error.
        let mut cause: &dyn std::error::Error = error;
        while let Some(inner) = cause.source() {
            cause = inner;
        }
        let why = if error.is_timeout() { "it does not answer in time".into() } else { cause.to_string() };
        ClientError::Unreachable { place: self.place.clone(), why }
    }

    async fn good(&self, response: reqwest::Response) -> Result<reqwest::Response> {
        let status = response.status();
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
        } else {
            ClientError::Refused(problem).into()
        })
    }
}
