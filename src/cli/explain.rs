//! `portolan explain`

mod request;

use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;

use anyhow::{Result, anyhow};
use serde::Serialize;

use super::client::{Client, ClientError, Purpose};
use super::completions::services;
use super::node::{NodeOptions, Reach, Selection};
use super::say_styled;
use super::styled::{Look, Styled};
use crate::api::dto::{self, ExplainKind, Instead, StageName};
use crate::api::{self, Question};
use crate::health::State;
use crate::model::Rules;
use crate::net::clock::Clock;
use crate::prepare::{Origin, prepare, world};
use crate::snapshot::Snapshot;
use crate::state;

#[derive(Debug, clap::Args)]
pub(super) struct Arguments {
    /// The name to ask for, or the URL of a request to the proxy
    #[arg(value_name = "NAME|URL", add = services())]
    name: String,
    /// The record type [default: A]
    #[arg(value_name = "TYPE")]
    rtype: Option<String>,
    /// The client's address
    #[arg(long, value_name = "IP")]
    client: String,
    /// Evaluate at this time: shares change with time (RFC 3339)
    #[arg(long, value_name = "TIME")]
    at: Option<String>,
    /// A header of the request, with a URL; may be repeated
    #[arg(short = 'H', long = "header", value_name = "NAME: VALUE")]
    headers: Vec<String>,
    /// The method of the request, with a URL [default: GET]
    #[arg(short = 'X', long, value_name = "METHOD")]
    method: Option<String>,
    /// The proxy's listener, with a URL [default: the one that fits its scheme and port]
    #[arg(long, value_name = "NAME")]
    listener: Option<String>,
    /// As JSON
    #[arg(long)]
    json: bool,
    /// Explain a config offline, as if every probe succeeded, instead of asking a running node
    #[arg(short, long, value_name = "FILE")]
    config: Option<PathBuf>,
    #[command(flatten)]
    reach: Reach,
}

/// What an explanation of a config takes for granted.
const ASSUMED: &str = "every probe succeeds and there are no overrides";

/// The JSON of an explanation.
#[derive(Serialize)]
struct Explanation<'a, T> {
    /// Whether a config was explained rather than what a node does now.
    offline: bool,
    /// Where the node listens that was asked.
    #[serde(skip_serializing_if = "Option::is_none")]
    node: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    assumed: Option<&'static str>,
    #[serde(flatten)]
    explained: &'a T,
}

pub(super) fn run(arguments: &Arguments, selection: &Selection) -> Result<ExitCode> {
    let config = selection.typed_config(arguments.config.as_deref());
    if config.is_some() && selection.typed_control(&arguments.reach).is_some() {
        let why = "-c explains a config without a node, but --control names one: leave one of them out";
        return Err(ClientError::Usage(why.into()).into());
    }
    if arguments.name.contains("://") {
        let (explained, asked) = request::explain(arguments, config.as_deref(), selection)?;
        return print(arguments, config.as_deref(), asked, &explained, request::text);
    }
    if !arguments.headers.is_empty() || arguments.method.is_some() || arguments.listener.is_some() {
        return Err(ClientError::Usage("-H, -X and --listener go with a URL, not with a name".into()).into());
    }
    let (explained, asked) = explain_name(arguments, config.as_deref(), selection)?;
    print(arguments, config.as_deref(), asked, &explained, text)
}

/// The explanation, and where the node listens that was asked.
fn explain_name(
    arguments: &Arguments,
    config: Option<&Path>,
    selection: &Selection,
) -> Result<(dto::Explain, Option<String>)> {
    let (rtype, at) = (arguments.rtype.as_deref(), arguments.at.as_deref());
    let question =
        Question::parse(&arguments.name, rtype, &arguments.client, at).map_err(ClientError::Usage)?;
    if let Some(config) = config {
        return Ok((api::explain(&assume(config)?, &[], &[], &question)?, None));
    }
    let mut query = vec![("name", arguments.name.as_str()), ("client", arguments.client.as_str())];
    query.extend(rtype.map(|rtype| ("type", rtype)));
    query.extend(at.map(|at| ("at", at)));
    let client = connect(arguments, selection)?;
    Ok((client.explain(&query)?, Some(client.place().to_string())))
}

/// Prints what was explained, of a config or of a node, as text or JSON.
fn print<T: Serialize>(
    arguments: &Arguments,
    config: Option<&Path>,
    asked: Option<String>,
    explained: &T,
    text: fn(&T) -> Styled,
) -> Result<ExitCode> {
    if arguments.json {
        let assumed = config.map(|_| ASSUMED);
        let explanation = Explanation { offline: config.is_some(), node: asked, assumed, explained };
        say!("{}", serde_json::to_string_pretty(&explanation)?);
        return Ok(ExitCode::SUCCESS);
    }
    let mut lines = Lines::default();
    if let Some(config) = config {
        lines.add("offline", format!("{}: no node was asked; assumed: {ASSUMED}", config.display()));
    }
    if let Some(asked) = asked {
        lines.add("node", asked);
    }
    lines.0.push(text(explained));
    say_styled(&lines.text());
    Ok(ExitCode::SUCCESS)
}

fn connect(arguments: &Arguments, selection: &Selection) -> Result<Client> {
    let node = NodeOptions { reach: arguments.reach.clone(), config: None };
    Client::new(&selection.node(&node), Purpose::Read)
}

/// A config with every address up and no override.
fn assume(config: &Path) -> Result<Snapshot> {
    let prepared = prepare(&Origin::File(config.to_owned()));
    let plan = prepared.map_err(|e| anyhow!("{}", e.to_string().trim_end()))?.plan;
    let standing = state::assume(&world(&plan, Rules::default()), &[], Clock::unix(), &|_, _| State::Up);
    Ok(Snapshot { plan, standing: Arc::new(standing), challenges: <_>::default(), epoch: 0 })
}

/// The lines of an explanation.
#[derive(Default)]
struct Lines(Vec<Styled>);

impl Lines {
    /// Adds a line. Without a label it belongs to the line before.
    fn add(&mut self, label: &str, value: impl Into<Styled>) {
        let mut line = Styled::new(Look::Heading, format!("{label:<11}"));
        line.push(" ");
        line.append(value.into().in_one_line());
        self.0.push(line);
    }

    fn text(self) -> Styled {
        Styled::joined(self.0, "\n")
    }
}

/// The explanation as text.
fn text(e: &dto::Explain) -> Styled {
    let mut lines = Lines::default();
    lines.add("question", format!("{} {}", e.name, e.rtype));
    lines.add("client", format!("{}: {}", e.client, place(&e.location)));
    if let Some(service) = e.service.as_ref().filter(|service| **service != e.name) {
        lines.add("service", format!("{service}, {}", way_to(service, &e.name)));
    }
    if e.service.is_none() {
        lines.add("service", unchosen(e.kind));
    }
    let mut family = None;
    for stage in e.stages.iter().filter(|stage| says_something(stage)) {
        if stage.family != family {
            family = stage.family;
            lines.add("hints", family.map(|family| family.to_string()).unwrap_or_default());
        }
        lines.add(&stage.stage.to_string(), kept(stage));
        for dropped in &stage.dropped {
            let not_used = format!("{} not used: {}", dropped.region, dropped.why);
            lines.add("", Styled::new(Look::Dim, not_used));
        }
    }
    lines.add("answer", answer(e));
    let records = if e.kind == ExplainKind::Referral { &e.answer.authority } else { &e.answer.records };
    for record in records {
        lines.add("", record.clone());
    }
    lines.text()
}

/// How a name leads to a service with another name.
fn way_to(service: &str, name: &str) -> &'static str {
    let covered = service.strip_prefix('*').is_some_and(|suffix| name.ends_with(suffix));
    if covered { "a wildcard that covers it" } else { "where its CNAME leads" }
}

/// Why no service decides.
fn unchosen(kind: ExplainKind) -> &'static str {
    match kind {
        ExplainKind::NoName => "none: there is no such name",
        ExplainKind::NoData => "none: the name has no record of this type",
        ExplainKind::Unsteered => "yes, but not for this type, which is the same for every client",
        ExplainKind::Referral => "none: other name servers answer for this part of the zone",
        ExplainKind::Static | ExplainKind::Dynamic => "none: a record of the zone, the same for every client",
    }
}

/// A fence that drops no region is not worth a line.
fn says_something(stage: &dto::Stage) -> bool {
    stage.stage != StageName::Fence || !stage.dropped.is_empty()
}

fn kept(stage: &dto::Stage) -> String {
    let regions = stage.kept.iter().map(|kept| match kept.note.as_str() {
        "" => kept.region.clone(),
        note => format!("{} ({note})", kept.region),
    });
    let regions: Vec<String> = regions.collect();
    if regions.is_empty() { "no region".into() } else { regions.join(", ") }
}

fn place(location: &dto::Location) -> String {
    let parts = [&location.subdivision, &location.country, &location.continent];
    // A subdivision's code begins with its country's.
    let skip_country = location.subdivision.is_some();
    let names: Vec<&str> = parts
        .into_iter()
        .enumerate()
        .filter(|(index, _)| !(*index == 1 && skip_country))
        .filter_map(|(_, part)| part.as_deref())
        .collect();
    if names.is_empty() {
        return format!("place unknown, like all of {}", location.prefix);
    }
    let mut text = names.join(", ");
    if let (Some(lat), Some(lon)) = (location.lat, location.lon) {
        write!(text, " at {lat:.2}, {lon:.2}").expect("a String takes everything");
    }
    write!(text, " by {}, like all of {}", location.source, location.prefix)
        .expect("a String takes everything");
    text
}

fn answer(e: &dto::Explain) -> String {
    let mut text = e.answer.rcode.clone();
    match (&e.region, e.answer.records.is_empty()) {
        (Some(region), false) => write!(text, " from {region}"),
        (Some(region), true) => write!(text, " without records: {region} has none of this type"),
        (None, _) if let Some(what) = &e.instead => {
            let what = match what {
                Instead::Fallback => "the fallback",
                Instead::Cname => "the CNAME",
                Instead::Servfail => "the failure",
            };
            write!(text, ", {what} that all_down names: no region can serve this client")
        }
        (None, true) if e.kind == ExplainKind::Referral => write!(text, ", a referral"),
        (None, true) if e.answer.rcode == "NOERROR" => write!(text, " without records"),
        _ => Ok(()),
    }
    .expect("a String takes everything");
    if let Some(ttl) = e.answer.ttl {
        write!(text, ", for {ttl} s").expect("a String takes everything");
    }
    match e.scope {
        0 => write!(text, "; valid for every client"),
        bits => write!(text, "; valid for the client's /{bits} (ECS scope)"),
    }
    .expect("a String takes everything");
    write!(text, "; epoch {}", e.epoch).expect("a String takes everything");
    text
}
