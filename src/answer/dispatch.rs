//! Dispatches a decoded message to the module that answers it.

use super::asker::Asker;
use super::express::Express;
use super::refusal::Refusal;
use super::{Arrival, Outcome, Reply, Transport, identity, walk};
use crate::model::Unix;
use crate::snapshot::{Plan, Snapshot};
use crate::wire::edns::{Request, Response};
use crate::wire::{CLASS_CH, MAX_UDP_PAYLOAD, MIN_UDP_PAYLOAD, Query, Writer};

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
    let Reply { bytes, scratch, .. } = reply;
    let plan = &*snapshot.plan;
    let limit = limit(query.edns.as_ref(), arrival.transport);
    let edns = query.edns.as_ref().map(|request| options(request, plan, arrival));
    let question = match Refusal::check(&query.content) {
        Ok(question) => question,
        Err(refusal) => return refusal.write(Writer::start(bytes, query, limit, edns)),
    };
    if question.class == CLASS_CH {
        return identity::answer(&plan.identity, question, Writer::start(bytes, query, limit, edns));
    }
    let asker = Asker::of(query, arrival, plan.ecs, now, draw);
    let found = walk::find(&plan.zones, question, question.name());
    if lane == Lane::Express {
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
fn options<'a>(request: &'a Request, plan: &'a Plan, arrival: &Arrival) -> Response<'a> {
    Response {
        dnssec_ok: request.dnssec_ok,
        nsid: plan.identity.nsid.as_deref().filter(|_| request.nsid).map(str::as_bytes),
        keepalive: arrival.keepalive.filter(|_| request.keepalive),
        subnet: request.subnet.as_ref().filter(|_| plan.ecs),
        ..Response::default()
    }
}
