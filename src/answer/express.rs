//! The express lane: the plainest answers, which most queries get, without the general path's bookkeeping.
//!
//! It decides nothing. It is handed what was found for the name, regions are chosen by the same `choose` as on the
//! general path, and whatever is not plain is left to that path by returning `None`. Tests hold both to the same
//! message, whatever is asked.

use std::net::IpAddr;

use super::resolve::Asker;
use super::{Kind, Outcome, answering, debug, scope_within};
use crate::model::{Family, ServiceId, Ttl};
use crate::snapshot::Snapshot;
use crate::steer::{Answer, Asked, NoTrace};
use crate::wire::{
    CLASS_IN, ClientSubnet, Edns, HEADER, MAX_UDP_PAYLOAD, OPTION_SUBNET, Query, Question, ResponseCode,
};
use crate::zone::{Found, Node, Served, rtype};

/// A pointer to the question's name, which owns every answer of this lane (RFC 1035 §4.1.4).
const OWNER: [u8; 2] = [0xc0, HEADER as u8];
/// QR and AA; every answer of this lane is authoritative.
const RESPONSE: u8 = 0x84;

/// One answer being made.
struct Lane<'a, 'r> {
    snapshot: &'a Snapshot,
    query: &'r Query<'r>,
    question: &'r Question<'r>,
    asker: &'r Asker,
    limit: usize,
    addresses: &'r mut Vec<IpAddr>,
    bytes: &'r mut Vec<u8>,
}

/// Answers a query whose question's name was found, unless it is for the general path.
pub(super) fn answer(
    snapshot: &Snapshot,
    query: &Query<'_>,
    found: Found<'_>,
    asker: &Asker,
    limit: u16,
    addresses: &mut Vec<IpAddr>,
    bytes: &mut Vec<u8>,
) -> Option<Outcome> {
    let question = query.question.as_ref()?;
    // A record of ANY is made, and what the server says of itself is not written here.
    if question.qtype == rtype::ANY || query.edns.as_ref().is_some_and(|edns| edns.nsid || edns.keepalive) {
        return None;
    }
    let limit = usize::from(limit);
    let mut lane = Lane { snapshot, query, question, asker, limit, addresses, bytes };
    match found {
        Found::Node { zone, node } => lane.node(zone, node),
        Found::Wildcard { zone, node, .. } if !lane.may_be_debug() => lane.node(zone, node),
        Found::NoName { zone } if !lane.may_be_debug() => {
            lane.deny(zone, zone.negative_ttl, ResponseCode::NXDomain, 0, Kind::Negative)
        }
        _ => None,
    }
}

impl Lane<'_, '_> {
    fn may_be_debug(&self) -> bool {
        self.snapshot.plan.debug_names && debug::is_of_service(self.question.name())
    }

    fn node(&mut self, zone: &Served, node: &Node) -> Option<Outcome> {
        let qtype = self.question.qtype;
        if let Some((id, family)) = answering(&self.snapshot.plan.topology, node, qtype) {
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
                Some(self.finish(ResponseCode::NoError, 0, Kind::Static))
            }
            None if node.rrset(rtype::CNAME).is_none() => {
                self.deny(zone, zone.negative_ttl, ResponseCode::NoError, 0, Kind::Negative)
            }
            _ => None,
        }
    }

    fn steer(&mut self, zone: &Served, service: ServiceId, family: Family) -> Option<Outcome> {
        let Snapshot { plan, standing, .. } = self.snapshot;
        let &Asker { client, now, draw, .. } = self.asker;
        let asked = Asked { service, client, family, unix: now, draw };
        let choice = plan.steering.choose(&plan.topology, standing, &asked, self.addresses, &mut NoTrace);
        let kind = Kind::Dynamic { service, region: choice.region };
        match choice.answer {
            Answer::Addresses => {
                let data = if family == Family::V4 { 4 } else { 16 };
                let count = self.addresses.len();
                self.start(ResponseCode::NoError, count, 0, count * (RECORD + data))?;
                for address in &*self.addresses {
                    match address {
                        IpAddr::V4(v4) => record(self.bytes, rtype::A, choice.ttl, &v4.octets()),
                        IpAddr::V6(v6) => record(self.bytes, rtype::AAAA, choice.ttl, &v6.octets()),
                    }
                }
                Some(self.finish(ResponseCode::NoError, choice.scope, kind))
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
        kind: Kind,
    ) -> Option<Outcome> {
        let denial = &self.snapshot.plan.denials[zone.number];
        self.start(rcode, 0, 1, denial.length())?;
        denial.write(self.bytes, self.question.name().len() - zone.origin.as_wire().len(), ttl);
        Some(self.finish(rcode, scope, kind))
    }

    /// Writes header and question. `None` if records of `length` bytes do not fit beside them.
    fn start(&mut self, rcode: ResponseCode, answers: usize, authorities: u8, length: usize) -> Option<()> {
        let question = self.question.wire;
        let opt = self.query.edns.as_ref().map_or(0, |edns| OPT + self.subnet_length(edns));
        if HEADER + question.len() + length + opt > self.limit {
            return None;
        }
        let [answers_high, answers_low] = (answers as u16).to_be_bytes();
        let flags = [RESPONSE | u8::from(self.query.recursion_desired), rcode.low()];
        let [id_high, id_low] = self.query.id.to_be_bytes();
        self.bytes.clear();
        self.bytes.extend_from_slice(&[
            id_high,
            id_low,
            flags[0],
            flags[1],
            0,
            1,
            answers_high,
            answers_low,
            0,
            authorities,
            0,
            u8::from(self.query.edns.is_some()),
        ]);
        self.bytes.extend_from_slice(question);
        Some(())
    }

    /// Writes the OPT record (RFC 6891 §6.1.2), if the query had one.
    fn finish(&mut self, rcode: ResponseCode, scope: u8, kind: Kind) -> Outcome {
        if let Some(edns) = &self.query.edns {
            let [payload_high, payload_low] = MAX_UDP_PAYLOAD.to_be_bytes();
            let length = self.subnet_length(edns) as u8;
            let flags = u8::from(edns.dnssec_ok) << 7;
            self.bytes.extend_from_slice(&[
                0,
                0,
                rtype::OPT as u8,
                payload_high,
                payload_low,
                0,
                0,
                flags,
                0,
                0,
                length,
            ]);
            if let Some(subnet) = self.subnet(edns) {
                let address = subnet.address_bytes();
                let [_, family] = subnet.family.to_be_bytes();
                let data = (SUBNET - 4 + address.len()) as u8;
                let scope = scope_within(subnet, scope);
                self.bytes.extend_from_slice(&[
                    0,
                    OPTION_SUBNET as u8,
                    0,
                    data,
                    0,
                    family,
                    subnet.source,
                    scope,
                ]);
                self.bytes.extend_from_slice(address);
            }
        }
        Outcome::Answered { rcode: rcode.into(), kind, truncated: false }
    }

    /// The client subnet that is in the reply.
    fn subnet<'e>(&self, edns: &'e Edns) -> Option<&'e ClientSubnet> {
        edns.subnet.as_ref().filter(|_| self.snapshot.plan.ecs)
    }

    /// Bytes of its option.
    fn subnet_length(&self, edns: &Edns) -> usize {
        self.subnet(edns).map_or(0, |subnet| SUBNET + subnet.address_bytes().len())
    }
}

/// Bytes of a record before its data: owner, type, class, TTL, length.
const RECORD: usize = 12;
/// Bytes of an OPT record without options.
const OPT: usize = 11;
/// Bytes of the client subnet option before its address (RFC 7871 §6).
const SUBNET: usize = 8;

/// Whether records of a type hold no names: nothing to compress, nothing to add addresses for.
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
    use crate::answer::resolve;
    use crate::geo::Index;
    use crate::model::{KeyPrefix, Topology, Unix};
    use crate::snapshot::Plan;
    use crate::standing::Standing;
    use crate::zone::{Zone, Zones};

    const ZONE: &str = "$TTL 60\n@ SOA ns h 1 2 3 4 5\n@ NS ns\nns A 192.0.2.1\n*.w TXT x\nalias CNAME ns\n";

    /// That the lane answers right is held by tests that ask by both paths.
    #[test]
    fn the_plain_is_taken_and_the_rest_is_left() {
        let origin = "example.".parse().unwrap();
        let zone = Zone::read(&origin, ZONE, "zone", &mut |_| Err(String::new())).unwrap();
        let zones = Zones::build(vec![zone], []).unwrap();
        let plan = Plan::compile(Topology::default(), zones, Index::default(), true, KeyPrefix::default());
        let plan = Arc::new(Plan { debug_names: true, ..plan });
        let snapshot = Snapshot { plan, standing: Arc::new(Standing::default()), epoch: 1 };
        let asker =
            Asker { client: "192.0.2.9".parse().unwrap(), dnssec_ok: false, now: Unix::default(), draw: 0 };
        let takes_edns = |name: &[u8], qtype: u8, edns| {
            let wire = [name, &[0, qtype, 0, 1]].concat();
            let question = Question { wire: &wire, qtype: qtype.into(), class: CLASS_IN };
            let query = Query {
                id: 7,
                opcode: 0,
                recursion_desired: false,
                question: Some(question),
                edns,
                fault: None,
            };
            let found = resolve::find(&snapshot, &question, question.name());
            let (mut addresses, mut bytes) = (Vec::new(), Vec::new());
            answer(&snapshot, &query, found, &asker, 512, &mut addresses, &mut bytes).is_some()
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
        let edns =
            Edns { payload: 1232, version: 0, dnssec_ok: false, subnet: None, nsid: false, keepalive: false };
        assert!(takes_edns(b"\x02ns\x07example\0", 1, Some(edns)), "EDNS");
        assert!(!takes_edns(b"\x02ns\x07example\0", 1, Some(Edns { nsid: true, ..edns })), "an identifier");
        assert!(!takes_edns(b"\x02ns\x07example\0", 1, Some(Edns { keepalive: true, ..edns })), "a timeout");
    }
}
