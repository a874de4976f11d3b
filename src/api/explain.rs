//! `explain`: why a client gets the answer it gets.
//!
//! The answer is the one that [`answer::handle`] gives to this very question; the stages are what
//! [`Compiled::choose`](crate::steer::Compiled::choose) recorded while it made the choice.

mod conditions;
mod edits;
mod evidence;
mod pool;
mod request;
mod sticky;
#[cfg(test)]
mod tests;

use std::collections::HashSet;
use std::net::{IpAddr, SocketAddr};
use std::str::FromStr as _;
use std::time::Duration;

use axum::http::StatusCode;
use hickory_proto::op::{Edns, Message, MessageType, OpCode, Query};
use hickory_proto::rr::rdata::opt::{ClientSubnet, EdnsCode, EdnsOption};
use hickory_proto::rr::{Name as WireName, Record, RecordType};

use evidence::Evidence;
pub use request::{RequestQuestion, explain_request};

use super::parameters::listed;
use super::{dto, problem::Problem};
use crate::answer::{self, AnswerKind, Arrival, Outcome, Reply, Transport};
use crate::geo::{Located, Source};
use crate::model::{
    Family, FenceRule, Name, PlaceKey, RegionId, Service, ServiceId, Subject, Target, Topology, Unix,
};
use crate::snapshot::Snapshot;
use crate::standing::{Action, Cause, Override, Standing};
use crate::state::CheckStatus;
use crate::steer::{Answer, Choice, DropReason, Entry, Note, Recording, Stage, SteeringRequest};
use crate::wire::{rcode_name, record_text};

/// The query to explain.
#[derive(Clone, Debug)]
pub struct Question {
    /// The name asked for.
    pub name: Name,
    /// The type.
    pub rtype: RecordType,
    /// The client's address.
    pub client: IpAddr,
    /// When it asks: shares change with time.
    pub at: Unix,
}

/// Explains an answer. `checks` and `overrides` are cited as reasons; offline there are none.
///
/// # Errors
/// If the name is not in any zone.
pub fn explain(
    snapshot: &Snapshot,
    checks: &[CheckStatus],
    overrides: &[Override],
    question: &Question,
) -> Result<dto::Explain, Problem> {
    let (reply, outcome) = ask(snapshot, question)?;
    let located = snapshot.plan.geo.locate(question.client);
    let service = match outcome {
        Outcome::Answered { kind: AnswerKind::Dynamic { service, .. }, .. } => Some(service),
        _ => None,
    };
    let topology = &snapshot.plan.topology;
    let recorded = service.and_then(|id| {
        let family = answer::family(topology.service(id), question.rtype.into())?;
        let first = record_choice(snapshot, question, id, family, &located);
        // HTTPS answers have addresses of both families, each chosen by itself.
        let other = (question.rtype == RecordType::HTTPS && family == Family::V4)
            .then(|| record_choice(snapshot, question, id, Family::V6, &located));
        Some((topology.service(id), first, other))
    });
    let checks = Evidence::of(checks);
    let named = snapshot.plan.zones.find(question.name.as_wire()).node();
    let (choice, stages) = recorded.map_or((None, Vec::new()), |(service, (choice, recording), other)| {
        let stages = |recording| {
            let standing = &snapshot.standing;
            stages(&Context { topology, standing, checks: &checks, overrides, service }, recording)
        };
        let first = stages(&recording);
        match other {
            Some((other, recording)) => (Some(both(choice, other)), of_both(first, stages(&recording))),
            None => (Some(choice), first),
        }
    });
    let region = choice.and_then(|choice| choice.region);
    Ok(dto::Explain {
        name: question.name.to_string(),
        rtype: question.rtype.to_string(),
        client: question.client,
        kind: kind(outcome, &rcode(&reply), named.is_some_and(|it| !it.services().is_empty())),
        service: service.map(|id| topology.service(id).name.to_string()),
        location: location(&snapshot.plan.geo_sources, &located),
        scope: scope(&reply),
        epoch: snapshot.epoch,
        stages,
        region: region.map(|id| topology.region(id).name.clone()),
        instead: choice.and_then(instead),
        answer: dto::Answer {
            rcode: rcode(&reply),
            ttl: least_ttl(&reply.answers).or_else(|| least_ttl(&reply.authorities)),
            records: reply.answers.iter().map(record_text).collect(),
            authority: reply.authorities.iter().map(record_text).collect(),
        },
    })
}

fn least_ttl(records: &[Record]) -> Option<u32> {
    records.iter().map(|record| record.ttl).min()
}

fn kind(outcome: Outcome, rcode: &str, is_service: bool) -> dto::ExplainKind {
    match outcome {
        Outcome::Answered { kind: AnswerKind::Dynamic { .. }, .. } => dto::ExplainKind::Dynamic,
        Outcome::Answered { kind: AnswerKind::Referral, .. } => dto::ExplainKind::Referral,
        _ if is_service => dto::ExplainKind::Unsteered,
        Outcome::Answered { kind: AnswerKind::Negative, .. } if rcode == "NXDOMAIN" => {
            dto::ExplainKind::NoName
        }
        Outcome::Answered { kind: AnswerKind::Negative, .. } => dto::ExplainKind::NoData,
        Outcome::Answered { .. } | Outcome::Limited | Outcome::Dropped => dto::ExplainKind::Static,
    }
}

/// Asks as a resolver that forwards the client's whole address.
fn ask(snapshot: &Snapshot, question: &Question) -> Result<(Message, Outcome), Problem> {
    let internal = |why: String| Problem::new(StatusCode::INTERNAL_SERVER_ERROR, why);
    let name = WireName::from_str(&question.name.to_string()).map_err(|e| internal(e.to_string()))?;
    let mut query = Message::new(0, MessageType::Query, OpCode::Query);
    query.add_query(Query::query(name, question.rtype));
    let mut edns = Edns::new();
    edns.set_max_payload(1232);
    let bits = if question.client.is_ipv4() { 32 } else { 128 };
    edns.options_mut().insert(EdnsOption::Subnet(ClientSubnet::new(question.client, bits, 0)));
    query.set_edns(edns);
    let bytes = query.to_vec().map_err(|e| internal(e.to_string()))?;
    // Over TCP nothing is truncated. The peer is the client, in case ECS is turned off.
    let peer = SocketAddr::new(question.client, 0);
    let arrival = Arrival { peer, local: peer, transport: Transport::Tcp, encrypted: false, keepalive: None };
    let mut reply = Reply::new(0);
    let outcome = answer::handle(snapshot, &bytes, arrival, question.at, &mut reply);
    let message = Message::from_vec(&reply.bytes).map_err(|e| internal(e.to_string()))?;
    if rcode(&message) == "REFUSED" {
        let zones: Vec<_> = snapshot.plan.zones.iter().map(|zone| zone.origin.to_string()).collect();
        return Err(Problem::new(
            StatusCode::NOT_FOUND,
            format!(
                "{} is not in any zone of this node ({}): a query for it would be refused",
                question.name,
                zones.join(", ")
            ),
        ));
    }
    Ok((message, outcome))
}

fn rcode(reply: &Message) -> String {
    rcode_name(reply.metadata.response_code.into())
}

fn scope(reply: &Message) -> u8 {
    match reply.edns.as_ref().and_then(|edns| edns.option(EdnsCode::Subnet)) {
        Some(EdnsOption::Subnet(subnet)) => subnet.scope_prefix(),
        _ => 0,
    }
}

/// Makes the choice again and records why.
fn record_choice(
    snapshot: &Snapshot,
    question: &Question,
    service: ServiceId,
    family: Family,
    located: &Located<'_>,
) -> (Choice, Recording) {
    let plan = &snapshot.plan;
    let request = SteeringRequest { service, client: question.client, family, unix: question.at, draw: 0 };
    plan.steering.explain(&plan.topology, &snapshot.standing, located.place, &request, &mut Vec::new())
}

/// The choice for IPv4, unless only the one for IPv6 sends the client to a region.
fn both(one: Choice, other: Choice) -> Choice {
    if one.region.is_none() && other.region.is_some() { other } else { one }
}

/// The stages of the choices for IPv4 and IPv6: with their family if they differ.
fn of_both(v4: Vec<dto::Stage>, v6: Vec<dto::Stage>) -> Vec<dto::Stage> {
    if v4 == v6 {
        return v4;
    }
    let of = |family, stages: Vec<dto::Stage>| {
        stages.into_iter().map(move |stage| dto::Stage { family: Some(family), ..stage })
    };
    of(dto::Family::V4, v4).chain(of(dto::Family::V6, v6)).collect()
}

/// What is answered instead of a region.
fn instead(choice: Choice) -> Option<dto::Instead> {
    match (choice.region, choice.answer) {
        (None, Answer::Endpoints) => Some(dto::Instead::Fallback),
        (None, Answer::Alias) => Some(dto::Instead::Cname),
        (None, Answer::Servfail) => Some(dto::Instead::Servfail),
        _ => None,
    }
}

fn location(sources: &[String], located: &Located<'_>) -> dto::Location {
    let location = &located.place.location;
    let round = |degrees: f32| (f64::from(degrees) * 1e4).round() / 1e4;
    dto::Location {
        country: location.country.map(|country| country.to_string()),
        continent: location.continent.map(|continent| continent.to_string()),
        subdivision: location.country.zip(location.subdivision).map(|(c, s)| format!("{c}-{s}")),
        lat: location.point.map(|point| round(point.lat)),
        lon: location.point.map(|point| round(point.lon)),
        source: match located.place.source {
            Source::Nowhere => "no database".into(),
            Source::Override(prefix) => format!("geo.network {prefix}"),
            Source::Database(index) => sources.get(usize::from(index)).cloned().unwrap_or_default(),
        },
        prefix: located.prefix.to_string(),
    }
}

/// What the texts of a stage are made from.
struct Context<'a> {
    topology: &'a Topology,
    standing: &'a Standing,
    checks: &'a Evidence<'a>,
    overrides: &'a [Override],
    service: &'a Service,
}

fn stages(known: &Context<'_>, recording: &Recording) -> Vec<dto::Stage> {
    let always = [Stage::Fence, Stage::Rank, Stage::TieGroups, Stage::Eligible, Stage::Share];
    let has_entries = |stage| recording.entries.iter().any(|entry| entry.stage == stage);
    let all = always.into_iter().chain([Stage::Ttl].into_iter().filter(|stage| has_entries(*stage)));
    let name = |id: RegionId| known.topology.region(id).name.clone();
    let stage = |stage: Stage| {
        // What `geo.network` puts first is recorded last, after its place without that.
        let is_put_first = |entry: &Entry| entry.verdict == Ok(Note::NetworkFirst);
        let all = || recording.entries.iter().filter(move |entry| entry.stage == stage);
        let put_first: HashSet<RegionId> =
            all().filter(|entry| is_put_first(entry)).map(|entry| entry.region).collect();
        let entries = || {
            let first = all().filter(|entry| is_put_first(entry));
            first.chain(all().filter(|entry| !put_first.contains(&entry.region)))
        };
        let all_kept: HashSet<RegionId> =
            entries().filter(|entry| entry.verdict.is_ok()).map(|entry| entry.region).collect();
        let kept = entries().filter_map(|Entry { region, verdict, .. }| {
            let note = note(known, *region, verdict.as_ref().ok()?);
            Some(dto::Kept { region: name(*region), note })
        });
        // A region may have an entry for each of several passes: what counts is that one kept it, else the first.
        let mut seen = HashSet::new();
        let dropped = entries().filter_map(|Entry { region, verdict, .. }| {
            let reason = verdict.as_ref().err()?;
            let is_new = seen.insert(*region) && !all_kept.contains(region);
            is_new.then(|| dto::Dropped { region: name(*region), why: why(known, *region, reason) })
        });
        dto::Stage { stage: stage.into(), family: None, kept: kept.collect(), dropped: dropped.collect() }
    };
    all.map(stage).collect()
}

fn note(known: &Context<'_>, region: RegionId, note: &Note) -> String {
    let because = || match evidence(known, region) {
        Some(evidence) => format!(": {evidence}"),
        None => String::new(),
    };
    let cited = |is_meant: fn(&Override) -> bool| cited(known, region, is_meant);
    match note {
        Note::Plain => String::new(),
        Note::Position(position) => format!("position {position} in the config"),
        Note::Kilometres(km) => format!("{km:.0} km"),
        Note::Measured(millis) => format!("{millis:.0} ms by the latency table"),
        Note::Estimated { millis, km } => format!("{millis:.0} ms estimated from {km:.0} km"),
        Note::Geo(place) => format!("geo entry {}", place_name(known.topology, place)),
        Note::NetworkFirst => "put first by geo.network".into(),
        Note::Unlocated => "distance unknown: the config's order".into(),
        Note::TieGroup(number) => format!("group {number}"),
        Note::Held(rule) => format!("fails, but {} holds it{}", rule.name(), because()),
        Note::Forced => format!("forced up by an operator{}", cited(|it| it.action == Action::Up)),
        Note::PartlyDrained => {
            format!("a drain keeps this client away{}, but nothing else serves", cited(is_partial))
        }
        Note::Unknown => "not probed yet, and nothing is known to be up".into(),
        Note::Degraded => format!("degraded, at half its weight{}", because()),
        Note::LastGood => format!("no region is usable: it served last, so last_good allows it{}", because()),
        Note::LastResort => format!("no region is usable: all_down allows the most promising{}", because()),
        Note::Won { among: 1 } => "alone in its group".into(),
        Note::Won { among } => format!("won the draw among {among}"),
        Note::MayChange(Duration::MAX) => "does not change by itself".into(),
        Note::MayChange(left) => format!("may change in {} s", left.as_secs()),
        Note::WindowEnds(left) => format!("shares are drawn again in {} s", left.as_secs()),
    }
}

fn why(known: &Context<'_>, region: RegionId, why: &DropReason) -> String {
    let Context { topology, service, .. } = known;
    match why {
        DropReason::Fenced(fence) => match &service.fences[*fence].rule {
            FenceRule::Only(places) => format!("only for {}", place_names(topology, places)),
            FenceRule::Except(places) => format!("not for {}", place_names(topology, places)),
        },
        DropReason::NoWeight => "weight 0".into(),
        DropReason::Withdrawn(cause @ (Cause::Drained | Cause::ForcedDown)) => {
            let what = if *cause == Cause::Drained { "drained" } else { "forced down" };
            format!("{what} by an operator{}", cited(known, region, |it| it.action.withdraws()))
        }
        DropReason::Withdrawn(Cause::Probes(_)) => match evidence(known, region) {
            Some(evidence) => format!("down: {evidence}"),
            None => "down".into(),
        },
        DropReason::Unknown => "not probed yet, while others are known to be up".into(),
        DropReason::FamilyDown(Family::V4) => "its IPv4 addresses are down".into(),
        DropReason::FamilyDown(Family::V6) => "its IPv6 addresses are down".into(),
        DropReason::FamilyDown(Family::Host) => "its endpoints with names are down".into(),
        DropReason::PartlyDrained(share) => {
            let share = share * 100.0;
            let cited = cited(known, region, is_partial);
            format!("a drain keeps {share:.0}% of clients away, this one among them{cited}")
        }
        DropReason::LaterGroup => "a higher-ranked group is available".into(),
        DropReason::LostDraw => "lost the draw".into(),
    }
}

fn is_partial(o: &Override) -> bool {
    o.action.is_partial()
}

/// The matching overrides of a region, its endpoints and the region within the service: who set them and why.
fn cited(known: &Context<'_>, region: RegionId, is_meant: fn(&Override) -> bool) -> String {
    let name = &known.topology.region(region).name;
    let concerns = |target: &Target| match target {
        Target::Region(region) | Target::Endpoint { region, .. } => region == name,
        Target::Service { service, region } => *service == known.service.name && region == name,
        Target::Backend { .. } => false,
    };
    let cited = known.overrides.iter().filter(|o| concerns(&o.target) && is_meant(o)).map(citation);
    let cited: Vec<String> = cited.collect();
    if cited.is_empty() { String::new() } else { format!(": {}", cited.join(", ")) }
}

/// "override 3 by token ci (new kernel)"
fn citation(o: &Override) -> String {
    let by = o.by.as_ref().map(|by| format!(" by {by}")).unwrap_or_default();
    let reason = o.reason.as_ref().map(|reason| format!(" ({reason})")).unwrap_or_default();
    format!("override {}{by}{reason}", o.id)
}

/// Reads the address of a client.
pub(super) fn client_address(text: &str) -> Result<IpAddr, String> {
    text.parse().map_err(|_| format!("`{text}` is not a valid IP address: write one such as 192.0.2.1"))
}

/// The evidence of the check that decides about a region, or the host whose addresses it waits for.
fn evidence(known: &Context<'_>, region: RegionId) -> Option<String> {
    let Context { topology, standing, checks, .. } = known;
    if let Some(check) = checks.of_region(topology, standing, region)
        && let Subject::Address { region: its, endpoint, address } = &check.id.subject
    {
        let is_own = **its == *topology.region(region).name;
        let other = if is_own { String::new() } else { format!("region {its}: ") };
        return Some(format!("{other}{endpoint} {address}: {check}"));
    }
    let standing = standing.region(region);
    let endpoints = topology.region(region).endpoints.iter().zip(standing.endpoints.iter());
    let mut unresolved = endpoints.filter(|(_, standing)| standing.addresses.is_empty());
    unresolved.find_map(|(endpoint, _)| {
        let host = endpoint.resolved_host()?;
        Some(format!("{}: the addresses of {host} are not known yet", endpoint.name))
    })
}

fn place_names(topology: &Topology, places: &[PlaceKey]) -> String {
    places.iter().map(|place| place_name(topology, place)).collect::<Vec<_>>().join(", ")
}

fn place_name(topology: &Topology, place: &PlaceKey) -> String {
    match place {
        PlaceKey::Net(net) => format!("net:{net}"),
        PlaceKey::Asn(asn) => format!("asn:{asn}"),
        PlaceKey::Subdivision(country, subdivision) => format!("region:{country}-{subdivision}"),
        PlaceKey::Country(country) => format!("country:{country}"),
        PlaceKey::Group(group) => format!("group:{}", topology.groups[*group].name),
        PlaceKey::Continent(continent) => format!("continent:{continent}"),
        PlaceKey::Any => "*".into(),
    }
}
