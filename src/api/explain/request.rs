//! `explain` for the proxy: which listener, route, pool and backend a request gets.
//!
//! Every decision is asked of the function that the proxy asks: [`Listener::find`], [`route::choose_pool`] and
//! [`Picker::pick`](crate::pick::Picker::pick).

use std::net::IpAddr;

use axum::http::header::HOST;
use axum::http::uri::Authority;
use axum::http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode, Uri};

use super::super::dto;
use super::super::problem::Problem;
use super::conditions::conditions;
use super::edits::edits;
use super::pool::Explained;
use super::{client_address, listed};
use crate::model::{PoolId, Protocol, RouteAction, Weight};
use crate::pick::{Hash, client_key};
use crate::route::{self, Head, Listener, WhyNot};
use crate::snapshot::Snapshot;
use crate::standing::Override;
use crate::state::CheckStatus;

/// The request to explain.
#[derive(Clone, Debug)]
pub struct RequestQuestion {
    /// With scheme and host.
    url: Uri,
    method: Method,
    /// With exactly one Host.
    headers: HeaderMap,
    /// The host that it names.
    authority: Authority,
    client: IpAddr,
    /// The listener to use instead of the one that fits.
    listener: Option<String>,
}

impl RequestQuestion {
    /// Reads a question; the method is GET if it is not given, and each header is `name: value`.
    ///
    /// # Errors
    /// A sentence about the part that cannot be read, or for which the proxy would refuse the request.
    pub fn parse(
        url: &str,
        method: Option<&str>,
        headers: &[String],
        client: &str,
        listener: Option<&str>,
    ) -> Result<Self, String> {
        let (uri, named) = parse_url(url)?;
        let mut fields = HeaderMap::new();
        for line in headers {
            let (name, value) = header(line)?;
            fields.append(name, value);
        }
        let hosts: Vec<&HeaderValue> = fields.get_all(HOST).iter().collect();
        let authority = match hosts[..] {
            [] => named,
            [host] => Authority::try_from(host.as_bytes())
                .map_err(|_| format!("`{}` is not a valid host", String::from_utf8_lossy(host.as_bytes())))?,
            _ => return Err("a request has one Host header".into()),
        };
        if authority.as_str().contains('@') {
            return Err("the host must not contain user information: the proxy refuses such requests".into());
        }
        let host = HeaderValue::from_str(authority.as_str());
        fields.insert(HOST, host.map_err(|_| format!("`{authority}` is not a valid host"))?);
        Ok(Self {
            url: uri,
            method: parse_method(method.unwrap_or("GET"))?,
            headers: fields,
            authority,
            client: client_address(client)?,
            listener: listener.map(Into::into),
        })
    }

    fn is_tls(&self) -> bool {
        self.url.scheme_str() == Some("https")
    }

    fn port(&self) -> u16 {
        self.url.port_u16().unwrap_or_else(|| if self.is_tls() { 443 } else { 80 })
    }

    /// Whether a client that follows the URL may arrive at a listener, as far as scheme and port say.
    fn fits(&self, listener: &Listener) -> bool {
        let is_understood = match listener.protocol {
            // What is encrypted means nothing to a listener for HTTP without TLS.
            Protocol::Http => listener.tls.is_some() == self.is_tls(),
            // It passes one for TCP without TLS.
            Protocol::Tcp => listener.tls.is_none() || self.is_tls(),
            Protocol::TlsPassthrough => self.is_tls(),
            // A URL leads to TCP first.
            Protocol::Udp => false,
        };
        is_understood && listener.addresses.iter().any(|it| it.port() == self.port())
    }
}

fn parse_url(text: &str) -> Result<(Uri, Authority), String> {
    let why = || format!("`{text}` is not a valid URL: write one such as http://www.example.com/path");
    let url: Uri = text.parse().map_err(|_| why())?;
    if !matches!(url.scheme_str(), Some("http" | "https")) {
        return Err(why());
    }
    let authority = url.authority().filter(|it| !it.host().is_empty()).ok_or_else(why)?.clone();
    Ok((url, authority))
}

fn parse_method(text: &str) -> Result<Method, String> {
    match Method::from_bytes(text.as_bytes()) {
        Ok(Method::CONNECT) => Err("the proxy opens no tunnels: it refuses CONNECT".into()),
        Ok(method) => Ok(method),
        Err(_) => Err(format!("`{text}` is not a valid method: write one such as POST")),
    }
}

fn header(line: &str) -> Result<(HeaderName, HeaderValue), String> {
    let parsed = line.split_once(':').and_then(|(name, value)| {
        let name = name.trim().parse::<HeaderName>().ok()?;
        Some((name, HeaderValue::from_bytes(value.trim().as_bytes()).ok()?))
    });
    parsed.ok_or_else(|| format!("`{line}` is not a valid header: write it as 'x-canary: 1'"))
}

/// Explains what the proxy does with a request. `checks` and `overrides` are cited as reasons; offline there are none.
///
/// # Errors
/// If the config has no proxy, or no listener with the requested name.
pub fn explain_request(
    snapshot: &Snapshot,
    checks: &[CheckStatus],
    overrides: &[Override],
    question: &RequestQuestion,
) -> Result<dto::ExplainRequest, Problem> {
    let (listener, note) = listener(&snapshot.plan.proxy, question)?;
    let nothing = HeaderMap::new();
    let head = head(question, listener.protocol, &nothing);
    let skipped = skipped(listener, &head);
    let route = listener.find(&head);
    let text = |value: &HeaderValue| String::from_utf8_lossy(value.as_bytes()).into_owned();
    let outcome = match route.map(|route| &route.action) {
        None => dto::RequestOutcome::Unrouted,
        Some(RouteAction::Redirect { status, to }) => {
            let edit = route.and_then(|route| route.edits.path.as_ref());
            let to = to.of(&head, edit).map(|to| text(&to)).unwrap_or_default();
            dto::RequestOutcome::Redirect { status: status.as_u16(), to }
        }
        Some(RouteAction::Respond { status, body }) => {
            dto::RequestOutcome::Respond { status: status.as_u16(), body: body.clone() }
        }
        Some(RouteAction::Forward(pools)) => {
            let name = |id| Hash::of(snapshot.plan.topology.pool(id).name.as_bytes());
            let id = route::choose_pool(pools, name, client_key(question.client));
            let (client, method, headers) = (question.client, head.method, head.headers);
            let explained = Explained { snapshot, checks, overrides, id, client, method, headers };
            dto::RequestOutcome::Forward {
                split: split(snapshot, pools),
                pool: Box::new(explained.pool(listener.protocol)),
            }
        }
    };
    let fields = question.headers.iter().map(|(name, value)| format!("{name}: {}", text(value)));
    Ok(dto::ExplainRequest {
        url: question.url.to_string(),
        method: question.method.to_string(),
        headers: fields.collect(),
        client: question.client,
        epoch: snapshot.epoch,
        listener: dto::RequestListener {
            name: listener.name.clone(),
            protocol: listener.protocol.name().into(),
            addresses: listener.addresses.to_vec(),
            note,
        },
        route: route.map(|route| dto::MatchedRoute {
            number: skipped.len() + 1,
            conditions: conditions(&route.when),
            auth: route.auth.as_ref().map(|auth| {
                let pool = &snapshot.plan.topology.pool(auth.pool).name;
                format!("pool {pool} decides first, asked for {}", auth.target)
            }),
            edits: edits(&route.edits, &question.url),
        }),
        skipped,
        outcome,
    })
}

/// What a listener sees of a request; `nothing` are the headers of a listener that sees none.
fn head<'a>(question: &'a RequestQuestion, protocol: Protocol, nothing: &'a HeaderMap) -> Head<'a> {
    match protocol {
        Protocol::Http => Head {
            host: question.authority.host(),
            path: question.url.path(),
            query: question.url.query(),
            method: &question.method,
            headers: &question.headers,
        },
        // The listener sees the host of the ClientHello, and nothing of what is encrypted.
        Protocol::TlsPassthrough => Head {
            host: question.authority.host(),
            path: "/",
            query: None,
            method: &Method::GET,
            headers: nothing,
        },
        // The listener does not see what the bytes mean.
        Protocol::Tcp | Protocol::Udp => {
            Head { host: "", path: "/", query: None, method: &Method::GET, headers: nothing }
        }
    }
}

/// The routes before the one that a request takes.
fn skipped(listener: &Listener, head: &Head<'_>) -> Vec<dto::SkippedRoute> {
    let skipped = |it: route::Skipped<'_>| dto::SkippedRoute {
        number: it.route + 1,
        condition: (&it.why).into(),
        why: it.why.to_string(),
    };
    listener.explain(head).into_iter().map(skipped).collect()
}

/// The pools of a route that has several.
fn split(snapshot: &Snapshot, pools: &[(PoolId, Weight)]) -> Vec<dto::SplitPool> {
    let pool = |(id, weight): &(PoolId, Weight)| dto::SplitPool {
        pool: snapshot.plan.topology.pool(*id).name.clone(),
        weight: weight.0,
    };
    if pools.len() > 1 { pools.iter().map(pool).collect() } else { Vec::new() }
}

/// The listener where a request arrives, and what does not fit.
fn listener<'a>(
    plan: &'a route::Plan,
    question: &RequestQuestion,
) -> Result<(&'a Listener, Option<String>), Problem> {
    let not_found = |why: String| Err(Problem::new(StatusCode::NOT_FOUND, why));
    let all = plan.listeners();
    let names = |of: &[&Listener]| {
        let names: Vec<String> = of.iter().map(|it| format!("`{}`", it.name)).collect();
        listed(&names)
    };
    let is_http = |it: &&&Listener| it.protocol == Protocol::Http;
    let Some(default) = all.iter().find(|it| is_http(&it)).or_else(|| all.first()) else {
        return not_found("no proxy is configured here: there is no [proxy.listener.NAME]".into());
    };
    let scheme = question.url.scheme_str().unwrap_or_default();
    let port = question.port();
    if let Some(name) = &question.listener {
        let Some(named) = plan.listener(name) else {
            let known: Vec<&Listener> = all.iter().collect();
            return not_found(format!("there is no listener `{name}`: the config has {}", names(&known)));
        };
        let note = format!("it does not listen for {scheme} at port {port}, the URL's");
        return Ok((named, (!question.fits(named)).then_some(note)));
    }
    let fitting: Vec<&Listener> = all.iter().filter(|it| question.fits(it)).collect();
    match fitting.iter().find(is_http).or_else(|| fitting.first()) {
        None => {
            let note = format!(
                "no listener takes {scheme} at port {port}, the URL's: explained as if the request came here"
            );
            Ok((default, Some(note)))
        }
        Some(chosen) => {
            let others: Vec<&Listener> =
                fitting.iter().filter(|it| it.name != chosen.name).copied().collect();
            let note = || format!("port {port} is also that of {}", names(&others));
            Ok((chosen, (!others.is_empty()).then(note)))
        }
    }
}

impl From<&WhyNot<'_>> for dto::RouteCondition {
    fn from(why: &WhyNot<'_>) -> Self {
        match why {
            WhyNot::Host { .. } => Self::Host,
            WhyNot::Path { .. } => Self::Path,
            WhyNot::Method { .. } => Self::Method,
            WhyNot::Header { .. } => Self::Header,
            WhyNot::Cookie { .. } => Self::Cookie,
            WhyNot::Query { .. } => Self::Query,
        }
    }
}
