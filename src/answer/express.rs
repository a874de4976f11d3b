//! The express lane: the common query, answered without a decoder and an encoder, a lock or an allocation.
//!
//! It decides nothing. Names are found by the same [`Zones::find`](crate::zone::Zones::find) and regions chosen
//! by the same `choose` as on the general path, and whatever is not plain is left to that path by returning
//! `None`. Tests hold both to the same message, whatever is asked.

use std::net::IpAddr;

use super::{Kind, Outcome, Peer, Reply, answering, client_of, debug, limit, scope_within};
use crate::model::{Family, ServiceId, Ttl, Unix};
use crate::snapshot::Snapshot;
use crate::steer::{Answer, Asked, NoTrace};
use crate::wire::{CLASS_IN, CommonQuery, Edns, HEADER, MAX_UDP_PAYLOAD, OPTION_SUBNET, ResponseCode};
use crate::zone::{Found, Node, Served, rtype};

/// A pointer to the question's name, which owns every answer of this lane (RFC 1035 §4.1.4).
const OWNER: [u8; 2] = [0xc0, HEADER as u8];
/// QR and AA; every answer of this lane is authoritative.
const RESPONSE: u8 = 0x84;

/// One answer being made.
struct Lane<'a, 'r> {
    snapshot: &'a Snapshot,
    query: CommonQuery<'r>,
    /// Length of the question's name.
    name_length: usize,
    client: IpAddr,
    now: Unix,
    draw: u64,
    limit: usize,
    addresses: &'r mut Vec<IpAddr>,
    bytes: &'r mut Vec<u8>,
}

/// Answers a message, unless it is for the general path.
pub(super) fn answer(
    snapshot: &Snapshot,
    message: &[u8],
    peer: Peer,
    now: Unix,
    reply: &mut Reply,
) -> Option<Outcome> {
    let draw = reply.draw();
    let Reply { bytes, scratch, name, .. } = reply;
    let (query, name_length) = CommonQuery::read(message, name)?;
    let name = &name[..name_length];
    if snapshot.plan.debug_names && debug::is_of_service(name) {
        return None;
    }
    let found = snapshot.plan.zones.find(name);
    let subnet = query.edns.and_then(|edns| edns.subnet).filter(|_| snapshot.plan.ecs);
    let client = client_of(subnet, peer);
    let limit = usize::from(limit(query.edns, peer.transport));
    let addresses = &mut scratch.addresses;
    Lane { snapshot, query, name_length, client, now, draw, limit, addresses, bytes }.run(found)
}

impl Lane<'_, '_> {
    fn run(&mut self, found: Found<'_>) -> Option<Outcome> {
        match found {
            Found::Node { zone, node } | Found::Wildcard { zone, node, .. } => self.node(zone, node),
            Found::NoName { zone } => {
                self.deny(zone, zone.negative_ttl, ResponseCode::NXDomain, 0, Kind::Negative)
            }
            _ => None,
        }
    }

    fn node(&mut self, zone: &Served, node: &Node) -> Option<Outcome> {
        let qtype = self.query.qtype;
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
        let asked = Asked { service, client: self.client, family, unix: self.now, draw: self.draw };
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
        denial.write(self.bytes, self.name_length - zone.origin.as_wire().len(), ttl);
        Some(self.finish(rcode, scope, kind))
    }

    /// Writes header and question. `None` if records of `length` bytes do not fit beside them.
    fn start(&mut self, rcode: ResponseCode, answers: usize, authorities: u8, length: usize) -> Option<()> {
        let question = self.query.question;
        let opt = self.query.edns.map_or(0, |edns| OPT + self.subnet_length(edns));
        if HEADER + question.len() + length + opt > self.limit {
            return None;
        }
        let [answers_high, answers_low] = (answers as u16).to_be_bytes();
        let flags = [RESPONSE | u8::from(self.query.recursion_desired), rcode.low()];
        let [id_high, id_low] = self.query.id;
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
        if let Some(edns) = self.query.edns {
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
            if let Some(subnet) = edns.subnet.filter(|_| self.snapshot.plan.ecs) {
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

    /// Bytes of the client subnet option in the reply.
    fn subnet_length(&self, edns: Edns) -> usize {
        let subnet = edns.subnet.filter(|_| self.snapshot.plan.ecs);
        subnet.map_or(0, |subnet| SUBNET + subnet.address_bytes().len())
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
    use crate::answer::Transport;
    use crate::geo::Index;
    use crate::model::{KeyPrefix, Topology};
    use crate::snapshot::Plan;
    use crate::standing::Standing;
    use crate::zone::{Zone, Zones};

    const ZONE: &str = "$TTL 60\n@ SOA ns h 1 2 3 4 5\n@ NS ns\nns A 192.0.2.1\n*.w TXT x\nalias CNAME ns\n";

    /// Whether the lane answers a query that ends in `question` and `opt`.
    fn takes(flags: u8, counts: [u8; 4], rest: &[u8]) -> bool {
        let origin = "example.".parse().unwrap();
        let zone = Zone::read(&origin, ZONE, "zone", &mut |_| Err(String::new())).unwrap();
        let zones = Zones::build(vec![zone], []).unwrap();
        let plan = Plan::compile(Topology::default(), zones, Index::default(), true, KeyPrefix::default());
        let snapshot = Snapshot { plan: Arc::new(plan), standing: Arc::new(Standing::default()), epoch: 1 };
        let peer = Peer { address: "192.0.2.9:53".parse().unwrap(), transport: Transport::Udp };
        let mut message = vec![7, 7, flags, 0];
        counts.iter().for_each(|count| message.extend_from_slice(&[0, *count]));
        message.extend_from_slice(rest);
        answer(&snapshot, &message, peer, Unix::default(), &mut Reply::new(1)).is_some()
    }

    /// Which queries need no decoder; that they are answered right is held by tests that ask by both paths.
    #[test]
    fn the_common_is_taken_and_the_odd_is_left() {
        let plain = b"\x02nS\x07example\0\0\x01\0\x01";
        let opt = |options: &[u8]| {
            let length = options.len() as u8;
            [plain.as_slice(), b"\0\0\x29\x04\xd0\0\0\0\0\0", &[length], options].concat()
        };
        let asked = |name: &[u8], tail: &[u8]| takes(1, [1, 0, 0, 0], &[name, tail].concat());
        assert!(takes(0, [1, 0, 0, 0], plain), "without RD");
        assert!(asked(b"\x02nS\x07example\0", b"\0\x01\0\x01"), "an address");
        assert!(asked(b"\x02ns\x07example\0", b"\0\x1c\0\x01"), "no such type");
        assert!(asked(b"\x01x\x01w\x07example\0", b"\0\x10\0\x01"), "a wildcard");
        assert!(asked(b"\x04none\x07example\0", b"\0\x01\0\x01"), "no such name");
        assert!(takes(1, [1, 0, 0, 1], &opt(b"")), "EDNS");
        assert!(takes(1, [1, 0, 0, 1], &opt(b"\0\x08\0\x07\0\x01\x18\0\x0a\x01\x02")), "a client subnet");
        assert!(takes(1, [1, 0, 0, 1], &opt(b"\0\x0a\0\x08cookie!!")), "a cookie");

        assert!(!takes(0x28, [1, 0, 0, 0], plain), "another opcode");
        assert!(!takes(1, [2, 0, 0, 0], plain), "two questions");
        assert!(!takes(1, [1, 1, 0, 0], plain), "an answer");
        assert!(!takes(1, [1, 0, 0, 1], plain), "a record that is not there");
        assert!(!takes(1, [1, 0, 0, 0], &[plain.as_slice(), b"x"].concat()), "bytes behind the end");
        assert!(
            !takes(1, [1, 0, 0, 1], &opt(b"\0\x08\0\x07\0\x01\x18\x01\x0a\x01\x02")),
            "a malformed subnet"
        );
        assert!(!takes(1, [1, 0, 0, 1], &opt(b"\0\x03\0\0")), "an option that wants an answer");
        assert!(!asked(b"\x05alias\x07example\0", b"\0\x01\0\x01"), "an alias");
        assert!(!asked(b"\x07example\0", b"\0\x02\0\x01"), "names to compress");
        assert!(!asked(b"\x02ns\x07example\0", b"\0\xff\0\x01"), "ANY");
        assert!(!asked(b"\x02ns\x07example\0", b"\0\x01\0\x03"), "another class");
        assert!(!asked(b"\x02ns\x04test\0", b"\0\x01\0\x01"), "somebody else's name");
    }
}
