//! `portolan explain URL`: what the proxy does with a request.

use std::path::Path;

use anyhow::Result;

use super::super::client::ClientError;
use super::super::node::Selection;
use super::super::styled::{Look, Styled};
use super::{Arguments, Lines, assume, connect};
use crate::api::dto::{
    ExplainRequest, RequestBackend, RequestOutcome, RequestPool, RouteCondition, RouteEdits, SkippedRoute,
    SplitPool,
};
use crate::api::{self, RequestQuestion};

/// Routes for other hosts that are listed one by one; more are only counted.
const OTHER_HOSTS_SHOWN: usize = 3;

pub(super) fn explain(
    arguments: &Arguments,
    config: Option<&Path>,
    selection: &Selection,
) -> Result<(ExplainRequest, Option<String>)> {
    if arguments.rtype.is_some() || arguments.at.is_some() {
        let why = "a record type and --at go with a name, not with a URL";
        return Err(ClientError::Usage(why.into()).into());
    }
    let Arguments { name: url, headers, client, .. } = arguments;
    let (method, listener) = (arguments.method.as_deref(), arguments.listener.as_deref());
    let question = RequestQuestion::parse(url, method, headers, client, listener);
    let question = question.map_err(ClientError::Usage)?;
    if let Some(config) = config {
        return Ok((api::explain_request(&assume(config)?, &[], &[], &question)?, None));
    }
    let mut query = vec![("url", url.as_str()), ("client", client.as_str())];
    query.extend(headers.iter().map(|header| ("header", header.as_str())));
    query.extend(method.map(|method| ("method", method)));
    query.extend(listener.map(|listener| ("listener", listener)));
    let client = connect(arguments, selection)?;
    Ok((client.explain_request(&query)?, Some(client.place().to_string())))
}

/// The explanation as text.
pub(super) fn text(e: &ExplainRequest) -> Styled {
    let mut lines = Lines::default();
    lines.add("request", format!("{} {}", e.method, e.url));
    for header in &e.headers {
        lines.add("", header.clone());
    }
    lines.add("client", format!("{}, the address that the proxy sees; epoch {}", e.client, e.epoch));
    let addresses: Vec<String> = e.listener.addresses.iter().map(ToString::to_string).collect();
    lines.add(
        "listener",
        format!("{} ({}) at {}", e.listener.name, e.listener.protocol, addresses.join(", ")),
    );
    if let Some(note) = &e.listener.note {
        lines.add("", note.clone());
    }
    for (index, skipped) in skipped(&e.skipped).into_iter().enumerate() {
        lines.add(if index == 0 { "passed over" } else { "" }, Styled::new(Look::Dim, skipped));
    }
    match &e.route {
        Some(route) => lines.add("route", format!("{}, for {}", route.number, route.conditions)),
        None => lines.add("route", "none matches"),
    }
    if let Some(auth) = e.route.as_ref().and_then(|route| route.auth.clone()) {
        lines.add("auth", auth);
    }
    for (label, value) in e.route.iter().flat_map(|route| edits(&route.edits)) {
        lines.add(label, value);
    }
    match &e.outcome {
        RequestOutcome::Forward { split, pool } => forwarded(split, pool, &mut lines),
        RequestOutcome::Redirect { status, to } => lines.add("answer", format!("{status}, redirect to {to}")),
        RequestOutcome::Respond { status, body } if body.is_empty() => {
            lines.add("answer", format!("{status}, without a body"));
        }
        RequestOutcome::Respond { status, body } => lines.add("answer", format!("{status}, {body}")),
        RequestOutcome::Unrouted if e.listener.protocol != "http" => {
            lines.add("answer", "none: the connection is closed");
        }
        RequestOutcome::Unrouted => lines.add("answer", "404, no route matches this request"),
    }
    lines.text()
}

/// What the route changes, with labels.
fn edits(edits: &RouteEdits) -> Vec<(&'static str, String)> {
    let host = edits.host.as_ref().map(|host| format!("host {host}"));
    let rewritten = edits.path.clone().into_iter().chain(host).collect::<Vec<_>>().join(", ");
    let all = [
        ("rewritten", rewritten),
        ("to backend", edits.request_headers.join(", ")),
        ("to client", edits.response_headers.join(", ")),
    ];
    all.into_iter().filter(|(_, value)| !value.is_empty()).collect()
}

/// The routes passed over; where many are for other hosts, those are counted.
fn skipped(all: &[SkippedRoute]) -> Vec<String> {
    let is_host = |it: &&SkippedRoute| it.condition == RouteCondition::Host;
    let others = all.iter().filter(is_host).count();
    let is_counted = others > OTHER_HOSTS_SHOWN;
    let listed = all.iter().filter(|it| !(is_counted && is_host(it)));
    let mut lines: Vec<String> = listed.map(|it| format!("route {}: {}", it.number, it.why)).collect();
    if is_counted {
        lines.push(format!("{others} routes for other hosts"));
    }
    lines
}

fn forwarded(split: &[SplitPool], pool: &RequestPool, lines: &mut Lines) {
    if !split.is_empty() {
        let pools = split.iter().map(|it| format!("{} (weight {})", it.pool, it.weight));
        let pools: Vec<String> = pools.collect();
        lines.add("split", format!("{}; this client stays with {}", pools.join(", "), pool.name));
    }
    lines.add("pool", format!("{}, {}", pool.name, pool.balance));
    let is_weighted = pool.backends.iter().any(|it| it.weight != pool.backends[0].weight);
    for (index, it) in pool.backends.iter().enumerate() {
        lines.add(if index == 0 { "backends" } else { "" }, backend(it, is_weighted));
    }
    if let Some(sticky) = &pool.sticky {
        let valid = if sticky.valid { "valid" } else { "not valid" };
        lines.add("cookie", format!("{} ({valid}): {}", sticky.cookie, sticky.note));
    }
    let candidates: Vec<String> = pool.candidates.iter().map(|it| it.address.to_string()).collect();
    match &pool.chosen {
        Some(chosen) => lines.add("goes to", format!("{}: {}", chosen.address, pool.how)),
        None if candidates.is_empty() => lines.add("goes to", pool.how.clone()),
        None => lines.add("goes to", format!("one of {}: {}", candidates.join(", "), pool.how)),
    }
    if let Some(hedge) = &pool.hedge {
        lines.add("hedge", hedge.clone());
    }
}

fn backend(it: &RequestBackend, is_weighted: bool) -> Styled {
    let mut text = Styled::from(format!("{} (", it.name));
    text.add(it.verdict.into(), &it.verdict.to_string());
    let weight = if is_weighted { format!(", weight {}", it.weight) } else { String::new() };
    text.push(&format!("{weight})"));
    match (it.used, it.note.as_str()) {
        (true, "") => {}
        (true, note) => text.push(&format!(": {note}")),
        (false, note) => text.push(&format!(" not used: {note}")),
    }
    text
}
