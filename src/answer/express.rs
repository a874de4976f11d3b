//! The express lane: the simplest answers, which most queries get, without the general path's bookkeeping.
//!
//! It decides nothing. It receives the result of the name lookup, regions are chosen by the same `choose` as on the
//! general path, and header and OPT record are written by the same code. It returns `None` for everything else, which
//! leaves the query to the general path. Tests check that both produce the same message for any query.

use std::net::IpAddr;

use super::asker::Asker;
use super::{AnswerKind, Outcome, debug, services};
use crate::model::{Family, ServiceId, Ttl};
use crate::snapshot::Snapshot;
use crate::steer::{Answer, NoTrace, SteeringRequest};
use crate::wire::edns::Response;
use crate::wire::{CLASS_ANY, CLASS_IN, Counts, HEADER, Header, Question, ResponseCode, Status};
use crate::zone::{Found, Node, Served, rtype};

/// A pointer to the question's name, which owns every answer of this lane (RFC 1035 §4.1.4).
const OWNER: [u8; 2] = [0xc0, HEADER as u8];

/// One answer being built.
pub(super) struct Express<'a, 'r> {
    pub(super) snapshot: &'a Snapshot,
    pub(super) header: Header,
    pub(super) question: &'r Question<'r>,
    pub(super) edns: Option<&'r Response<'r>>,
    pub(super) asker: &'r Asker,
    /// The largest size of the reply, in bytes.
    pub(super) limit: usize,
    pub(super) addresses: &'r mut Vec<IpAddr>,
    pub(super) bytes: &'r mut Vec<u8>,
}

impl Express<'_, '_> {
    /// Answers the question, whose name was found; `None` if it is for the general path.
    pub(super) fn answer(mut self, found: Found<'_>) -> Option<Outcome> {
        match found {
            // The type ANY is answered with a record that no zone has, the class ANY without authority.
            _ if self.question.qtype == rtype::ANY || self.question.class == CLASS_ANY => None,
            Found::Node { zone, node } => self.node(zone, node),
            Found::Wildcard { zone, node, .. } if !self.may_be_debug() => self.node(zone, node),
            Found::NoName { zone } if !self.may_be_debug() => {
                self.deny(zone, zone.negative_ttl, ResponseCode::NXDomain, 0, AnswerKind::Negative)
            }
            _ => None,
        }
    }

    fn may_be_debug(&self) -> bool {
        self.snapshot.plan.debug_names && debug::is_of_service(self.question.name())
    }

    fn node(&mut self, zone: &Served, node: &Node) -> Option<Outcome> {
        let qtype = self.question.qtype;
        if let Some((id, family)) = services::answering(&self.snapshot.plan.topology, node, qtype) {
            return match (qtype, family) {
                (rtype::A, Family::V4) | (rtype::AAAA, Family::V6) => self.steer(zone, id, family),
                _ => None,
            };
        }
        match node.rrset(qtype) {
            Some(set) if is_self_contained(qtype) => {
                let length = set.rdata.iter().map(|data| RECORD + data.len()).sum();
                self.start(ResponseCode::NoError, set.rdata.len(), 0, length)?;
                for data in &set.rdata {
                    record(self.bytes, qtype, set.ttl, data);
                }
                self.finish(ResponseCode::NoError, 0, AnswerKind::Static)
            }
            None if node.rrset(rtype::CNAME).is_none() => {
                self.deny(zone, zone.negative_ttl, ResponseCode::NoError, 0, AnswerKind::Negative)
            }
            _ => None,
        }
    }

    fn steer(&mut self, zone: &Served, service: ServiceId, family: Family) -> Option<Outcome> {
        let Snapshot { plan, standing, .. } = self.snapshot;
        let &Asker { client, now, draw, .. } = self.asker;
        let request = SteeringRequest { service, client, family, unix: now, draw };
        let choice = plan.steering.choose(&plan.topology, standing, &request, self.addresses, &mut NoTrace);
        let kind = AnswerKind::Dynamic { service, region: choice.region };
        match choice.answer {
            Answer::Endpoints => {
                let data = if family == Family::V4 { 4 } else { 16 };
                let count = self.addresses.len();
                self.start(ResponseCode::NoError, count, 0, count * (RECORD + data))?;
                for address in &*self.addresses {
                    match address {
                        IpAddr::V4(v4) => record(self.bytes, rtype::A, choice.ttl, &v4.octets()),
                        IpAddr::V6(v6) => record(self.bytes, rtype::AAAA, choice.ttl, &v6.octets()),
                    }
                }
                self.finish(ResponseCode::NoError, choice.scope, kind)
            }
            Answer::NoData => {
                let ttl = zone.negative_ttl.min(choice.ttl);
                self.deny(zone, ttl, ResponseCode::NoError, choice.scope, kind)
            }
            Answer::Alias | Answer::Servfail => None,
        }
    }

    /// The zone's SOA in the authority section (RFC 2308 §3).
    fn deny(
        &mut self,
        zone: &Served,
        ttl: Ttl,
        rcode: ResponseCode,
        scope: u8,
        kind: AnswerKind,
    ) -> Option<Outcome> {
        let denial = &self.snapshot.plan.denials[zone.number];
        self.start(rcode, 0, 1, denial.length())?;
        denial.write(self.bytes, self.question.name().len() - zone.origin.as_wire().len(), ttl);
        self.finish(rcode, scope, kind)
    }

    /// Writes header and question. `None` if records of `length` bytes do not fit beside them.
    fn start(&mut self, rcode: ResponseCode, answers: usize, authorities: u16, length: usize) -> Option<()> {
        let question = self.question.wire;
        if HEADER + question.len() + length > self.limit {
            return None;
        }
        let status = Status { rcode, authoritative: true, truncated: false };
        let additionals = u16::from(self.edns.is_some());
        let counts = Counts { questions: 1, answers: answers as u16, authorities, additionals };
        self.bytes.clear();
        self.bytes.extend_from_slice(&self.header.reply(status, counts));
        self.bytes.extend_from_slice(question);
        Some(())
    }

    /// Writes the OPT record, if the query had one. `None` if it does not fit.
    fn finish(&mut self, rcode: ResponseCode, scope: u8, kind: AnswerKind) -> Option<Outcome> {
        if let Some(edns) = self.edns {
            edns.write(self.bytes, rcode, scope);
            if self.bytes.len() > self.limit {
                return None;
            }
        }
        Some(Outcome::Answered { rcode: rcode.into(), kind, truncated: false })
    }
}

/// Bytes of a record before its data: owner, type, class, TTL, length.
const RECORD: usize = 12;

/// Whether records of a type have no names in them that could be compressed or need addresses added.
fn is_self_contained(qtype: u16) -> bool {
    matches!(qtype, rtype::A | rtype::AAAA | rtype::TXT | rtype::CAA | rtype::TLSA)
}

fn record(bytes: &mut Vec<u8>, rtype: u16, ttl: Ttl, data: &[u8]) {
    let mut fixed = [0; RECORD];
    fixed[..2].copy_from_slice(&OWNER);
    fixed[2..4].copy_from_slice(&rtype.to_be_bytes());
    fixed[4..6].copy_from_slice(&CLASS_IN.to_be_bytes());
    fixed[6..10].copy_from_slice(&ttl.0.to_be_bytes());
    fixed[10..].copy_from_slice(&(data.len() as u16).to_be_bytes());
    bytes.extend_from_slice(&fixed);
    bytes.extend_from_slice(data);
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::answer::walk;
    use crate::geo::Index;
    use crate::model::{KeyPrefix, Topology, Unix};
    use crate::snapshot::Plan;
    use crate::standing::Standing;
    use crate::zone::{Zone, Zones};

    const ZONE: &str = "$TTL 60\n@ SOA ns h 1 2 3 4 5\n@ NS ns\nns A 192.0.2.1\n*.w TXT x\nalias CNAME ns\n";

    /// The tests that compare both paths check that its answers are correct.
    #[test]
    fn simple_answers_are_taken_and_others_left() {
        let origin = "example.".parse().unwrap();
        let zone = Zone::read(&origin, ZONE, "zone", &mut |_| Err(String::new())).unwrap();
        let zones = Zones::build(vec![zone], []).unwrap();
        let plan = Plan::compile(Topology::default(), zones, Index::default(), true, KeyPrefix::default());
        let plan = Arc::new(Plan { debug_names: true, ..plan });
        let snapshot =
            Snapshot { plan, standing: Arc::new(Standing::default()), challenges: <_>::default(), epoch: 1 };
        let asker = Asker {
            client: "192.0.2.9".parse().unwrap(),
            subnet: None,
            dnssec_ok: false,
            now: Unix::default(),
            draw: 0,
        };
        let takes_edns = |name: &[u8], qtype: u8, edns: Option<&Response<'_>>| {
            let wire = [name, &[0, qtype, 0, 1]].concat();
            let question = Question { wire: &wire, qtype: qtype.into(), class: CLASS_IN };
            let found = walk::find(&snapshot.plan.zones, &question, question.name());
            let (header, question, asker) = (Header::default(), &question, &asker);
            let (mut addresses, mut bytes) = (Vec::new(), Vec::new());
            let (snapshot, addresses, bytes) = (&snapshot, &mut addresses, &mut bytes);
            let limit = 512;
            let lane = Express { snapshot, header, question, edns, asker, limit, addresses, bytes };
            lane.answer(found).is_some()
        };
        let takes = |name, qtype| takes_edns(name, qtype, None);
        assert!(takes(b"\x02nS\x07example\0", 1), "an address");
        assert!(takes(b"\x02ns\x07example\0", 28), "no such type");
        assert!(takes(b"\x01x\x01w\x07example\0", 16), "a wildcard");
        assert!(takes(b"\x04none\x07example\0", 1), "no such name");

        assert!(!takes(b"\x05alias\x07example\0", 1), "an alias");
        assert!(!takes(b"\x07example\0", 2), "names to compress");
        assert!(!takes(b"\x02ns\x07example\0", 255), "ANY");
        assert!(!takes(b"\x02ns\x04test\0", 1), "somebody else's name");
        assert!(!takes(b"\x09_PORTOLAN\x02ns\x07example\0", 16), "perhaps a debug name");
        let edns = Response { nsid: Some(b"ns1"), ..Response::default() };
        assert!(takes_edns(b"\x02ns\x07example\0", 1, Some(&edns)), "EDNS");
        let longest = Response { nsid: Some(&[b'x'; 500]), ..Response::default() };
        assert!(!takes_edns(b"\x02ns\x07example\0", 1, Some(&longest)), "what does not fit");
    }
}
