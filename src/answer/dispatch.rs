//! Dispatches a decoded message to the module that answers it.

use super::asker::Asker;
use super::express::Express;
use super::rate_limit::{self, Subject, Verdict};
use super::refusal::Refusal;
use super::{Arrival, Outcome, Reply, Transport, challenge, identity, walk};
use crate::model::Unix;
use crate::snapshot::{Plan, Snapshot};
use crate::wire::cookie::Proof;
use crate::wire::edns::{Request, Response};
use crate::wire::{CLASS_CH, Content, MAX_UDP_PAYLOAD, MIN_UDP_PAYLOAD, Query, Writer};

/// The path that produces an answer.
#[derive(Clone, Copy, PartialEq)]
pub(super) enum Lane {
    /// The express lane if it supports the question, otherwise the general path.
    Express,
    /// Always the general path.
    General,
}

pub(super) fn answer(
    lane: Lane,
    snapshot: &Snapshot,
    query: &Query<'_>,
    arrival: &Arrival,
    now: Unix,
    reply: &mut Reply,
) -> Outcome {
    let draw = reply.draw();
    let plan = &*snapshot.plan;
    let limit = limit(query.edns.as_ref(), arrival.transport);
    let edns = query.edns.as_ref().map(|request| options(request, plan, arrival, now));
    let question = match Refusal::check(&query.content) {
        Ok(question) => question,
        Err(refusal) => {
            if let Some(outcome) = limited(plan, query, edns, Subject::ERROR, arrival, now, reply) {
                return outcome;
            }
            let granted = edns.and_then(|edns| edns.cookie);
            let granted = granted.filter(|_| matches!(query.content, Content::Cookie));
            let refusal = granted.map_or(refusal, Refusal::with_cookie);
            return refusal.write(Writer::start(&mut reply.bytes, query, limit, edns));
        }
    };
    if question.class == CLASS_CH {
        if let Some(outcome) = limited(plan, query, edns, Subject::ERROR, arrival, now, reply) {
            return outcome;
        }
        let writer = Writer::start(&mut reply.bytes, query, limit, edns);
        return identity::answer(&plan.identity, question, writer);
    }
    let asker = Asker::of(query, arrival, plan.ecs, now, draw);
    let found = walk::find(&plan.zones, question, question.name());
    if plan.rate_limit.is_some() {
        let subject = Subject::of(question, &found);
        if let Some(outcome) = limited(plan, query, edns, subject, arrival, now, reply) {
            return outcome;
        }
    }
    reply.client = asker.client();
    let Reply { bytes, scratch, .. } = reply;
    if lane == Lane::Express && !challenge::concern(snapshot, question.name()) {
        let (header, edns, limit) = (query.header, edns.as_ref(), usize::from(limit));
        let addresses = &mut scratch.addresses;
        let express = Express { snapshot, header, question, edns, asker: &asker, limit, addresses, bytes };
        if let Some(outcome) = express.answer(found) {
            return outcome;
        }
    }
    let writer = Writer::start(bytes, query, limit, edns);
    walk::answer(snapshot, question, found, &asker, scratch, writer)
}

/// What replaces the response if the client has had too many; `None` if it has not.
#[inline(never)]
fn limited(
    plan: &Plan,
    query: &Query<'_>,
    edns: Option<Response<'_>>,
    subject: Subject,
    arrival: &Arrival,
    now: Unix,
    reply: &mut Reply,
) -> Option<Outcome> {
    let rules = plan.rate_limit.as_ref()?;
    let cookie = edns.and_then(|edns| edns.cookie);
    if arrival.transport == Transport::Tcp || cookie.is_some_and(|cookie| cookie.proof == Proof::Valid) {
        return None;
    }
    match reply.limiter().count(rules, arrival.peer.ip(), subject, now) {
        Verdict::Send => None,
        Verdict::Slip => {
            // The identifier would make it longer than the query.
            let edns = edns.map(|edns| Response { nsid: None, ..edns });
            let writer = Writer::start(&mut reply.bytes, query, MIN_UDP_PAYLOAD, edns);
            Some(rate_limit::slip(writer, cookie.is_some()))
        }
        Verdict::Drop => {
            reply.bytes.clear();
            Some(Outcome::Limited)
        }
    }
}

/// The largest size of the reply, in bytes.
fn limit(edns: Option<&Request>, transport: Transport) -> u16 {
    match (transport, edns) {
        (Transport::Tcp, _) => u16::MAX,
        (Transport::Udp, None) => MIN_UDP_PAYLOAD,
        // RFC 6891 §6.2.3: "Values lower than 512 MUST be treated as equal to 512."
        (Transport::Udp, Some(edns)) => edns.payload.clamp(MIN_UDP_PAYLOAD, MAX_UDP_PAYLOAD),
    }
}

/// The OPT record of the reply: the options that the client asks for and may receive.
fn options<'a>(request: &'a Request, plan: &'a Plan, arrival: &Arrival, now: Unix) -> Response<'a> {
    let cookie = request.cookie.as_ref().zip(plan.cookies.as_ref());
    Response {
        dnssec_ok: request.dnssec_ok,
        nsid: plan.identity.nsid.as_deref().filter(|_| request.nsid).map(str::as_bytes),
        cookie: cookie.map(|(cookie, secrets)| secrets.grant(cookie, arrival.peer.ip(), now)),
        keepalive: arrival.keepalive.filter(|_| request.keepalive),
        subnet: request.subnet.as_ref().filter(|_| plan.ecs),
        ..Response::default()
    }
}
