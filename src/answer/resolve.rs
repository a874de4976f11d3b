//! From the question's name to what answers it (RFC 1034 §4.3.2).

use std::net::IpAddr;

use super::dynamic::Scratch;
use super::{Kind, additional, dynamic};
use crate::model::{Ttl, Unix};
use crate::snapshot::Snapshot;
use crate::wire::{CLASS_IN, ExtendedError, LowerName, Owner, Question, ResponseCode, Section, Writer};
use crate::zone::{Found, MAX_ALIASES, Node, Served, rtype};

/// What of the asker matters to an answer.
pub(super) struct Asker {
    /// Its address, or the one its resolver gives for it.
    pub(super) client: IpAddr,
    pub(super) dnssec_ok: bool,
    pub(super) now: Unix,
    pub(super) draw: u64,
}

/// What the records written amount to.
pub(super) struct Resolved {
    pub(super) rcode: ResponseCode,
    pub(super) authoritative: bool,
    pub(super) kind: Kind,
    /// For how many bits of the client's address the answer holds; 0: for everybody.
    pub(super) scope: u8,
}

/// How long the answer to an ANY query may be cached, in seconds (RFC 8482 §4.2 leaves it open).
const ANY_TTL: Ttl = Ttl(3600);
/// RFC 8482 §4.2: HINFO with CPU "RFC8482" and an empty OS.
const ANY_HINFO: &[u8] = b"\x07RFC8482\x00";

/// Why a question is not even looked up.
pub(super) fn refusal(question: &Question<'_>) -> Option<(ResponseCode, ExtendedError)> {
    match question.qtype {
        _ if question.class != CLASS_IN => Some((ResponseCode::Refused, ExtendedError::NOT_SUPPORTED)),
        rtype::AXFR | rtype::IXFR => Some((ResponseCode::Refused, ExtendedError::PROHIBITED)),
        // Types of pseudo-records, which no name owns (RFC 9824 §3.5 has it for NXNAME).
        rtype::OPT | rtype::TKEY | rtype::TSIG | rtype::NXNAME => {
            Some((ResponseCode::FormErr, ExtendedError::INVALID_QUERY_TYPE))
        }
        // RFC 1035's obsolete queries.
        rtype::MAILA | rtype::MAILB => Some((ResponseCode::NotImp, ExtendedError::NOT_SUPPORTED)),
        _ => None,
    }
}

/// The name that is being looked up: the question's, or an alias's target.
pub(super) enum Current<'a> {
    Question,
    /// Out of a CNAME's data.
    Target(&'a [u8]),
    /// Made by a DNAME.
    Made(Box<[u8]>),
}

impl Current<'_> {
    pub(super) fn owner(&self) -> Owner<'_> {
        self.owner_from(0)
    }

    /// The part of the name from a byte on.
    fn owner_from(&self, offset: usize) -> Owner<'_> {
        match self {
            Self::Question => Owner::Question(offset),
            Self::Target(wire) => Owner::Name(&wire[offset..]),
            Self::Made(wire) => Owner::Name(&wire[offset..]),
        }
    }

    /// Its length on the wire.
    fn length(&self, question: &Question<'_>) -> usize {
        match self {
            Self::Question => question.name().len(),
            Self::Target(wire) => wire.len(),
            Self::Made(wire) => wire.len(),
        }
    }

    /// Its bytes in the case in which they were written.
    fn wire<'s>(&'s self, question: &'s Question<'_>) -> &'s [u8] {
        match self {
            Self::Question => question.wire,
            Self::Target(wire) => wire,
            Self::Made(wire) => wire,
        }
    }
}

/// One answer being made.
pub(super) struct Resolver<'a, 'r, 'b> {
    pub(super) snapshot: &'a Snapshot,
    pub(super) question: &'r Question<'r>,
    pub(super) asker: &'r Asker,
    pub(super) scratch: &'r mut Scratch,
    pub(super) writer: &'r mut Writer<'b>,
    /// What made the first alias that was chosen, and for how many bits of the client's address those hold.
    passed: Option<(Kind, u8)>,
}

/// Where a step leads.
pub(super) enum Step<'a> {
    Done(Resolved),
    Alias(Current<'a>),
}

/// What there is at a name, for a question.
pub(super) fn find<'a>(snapshot: &'a Snapshot, question: &Question<'_>, name: &[u8]) -> Found<'a> {
    let zones = &snapshot.plan.zones;
    if question.qtype == rtype::DS { zones.find_in_parent(name) } else { zones.find(name) }
}

/// Writes the answer to a question, given what was found for its name.
pub(super) fn resolve<'a>(
    snapshot: &'a Snapshot,
    question: &Question<'_>,
    found: Found<'a>,
    asker: &Asker,
    scratch: &mut Scratch,
    writer: &mut Writer<'_>,
) -> Resolved {
    let mut resolver = Resolver { snapshot, question, asker, scratch, writer, passed: None };
    let resolved = resolver.run(found);
    match resolver.passed {
        None => resolved,
        Some((kind, scope)) => Resolved { kind, scope: scope.max(resolved.scope), ..resolved },
    }
}

fn done(rcode: ResponseCode, kind: Kind) -> Resolved {
    Resolved { rcode, authoritative: true, kind, scope: 0 }
}

impl<'a> Resolver<'a, '_, '_> {
    fn run(&mut self, found: Found<'a>) -> Resolved {
        let name = self.question.name();
        let mut current = match self.step(&Current::Question, name, found) {
            Step::Done(resolved) => return resolved,
            Step::Alias(target) => target,
        };
        self.scratch.seen.clear();
        self.scratch.seen.extend(LowerName::of(name));
        // Names are at most MAX_ALIASES, so that looking through them is cheap.
        while self.scratch.seen.len() < MAX_ALIASES {
            let Some(name) = LowerName::of(current.wire(self.question)) else { break };
            // A chain that comes by twice goes round for ever.
            if self.scratch.seen.iter().any(|seen| seen.as_wire() == name.as_wire()) {
                break;
            }
            let found = find(self.snapshot, self.question, name.as_wire());
            // What is not ours to answer is the resolver's to look up.
            if matches!(found, Found::Outside) {
                break;
            }
            let step = self.step(&current, name.as_wire(), found);
            self.scratch.seen.push(name);
            match step {
                // RFC 1035 §4.1.1: AA "corresponds to the name which matches the query name, or the first owner
                // name in the answer section", which is the alias, wherever it leads.
                Step::Done(resolved) if resolved.kind == Kind::Referral => {
                    return Resolved { authoritative: true, ..resolved };
                }
                Step::Done(resolved) => return resolved,
                Step::Alias(target) => current = target,
            }
        }
        done(ResponseCode::NoError, Kind::Static)
    }

    /// Notes that an alias was chosen on the way.
    pub(super) fn pass(&mut self, kind: Kind, scope: u8) {
        let (kind, before) = self.passed.unwrap_or((kind, 0));
        self.passed = Some((kind, before.max(scope)));
    }

    /// One name: answered, or found to be an alias.
    fn step(&mut self, at: &Current<'a>, name: &[u8], found: Found<'a>) -> Step<'a> {
        match found {
            Found::Outside => {
                let refused = Resolved { authoritative: false, ..done(ResponseCode::Refused, Kind::Refused) };
                Step::Done(refused)
            }
            Found::Node { zone, node } => self.node(at, zone, node),
            Found::Wildcard { zone, node, .. } => match self.debug(at, zone, name) {
                Some(step) => step,
                None => self.node(at, zone, node),
            },
            // The parent's side of the cut owns DS and answers for it (RFC 4035 §3.1.4.1).
            Found::Delegation { zone, cut, offset: 0 } if self.question.qtype == rtype::DS => {
                self.data(at, zone, cut)
            }
            Found::Delegation { zone, cut, offset } => self.referral(at, &name[offset..], zone, cut),
            Found::Dname { node, offset, .. } => self.dname(at, node, offset),
            Found::NoName { zone } => {
                if let Some(step) = self.debug(at, zone, name) {
                    return step;
                }
                self.negative(at, zone, zone.negative_ttl);
                Step::Done(done(ResponseCode::NXDomain, Kind::Negative))
            }
        }
    }

    fn node(&mut self, at: &Current<'a>, zone: &'a Served, node: &'a Node) -> Step<'a> {
        let topology = &self.snapshot.plan.topology;
        if let Some((id, family)) = dynamic::answering(topology, node, self.question.qtype) {
            return self.dynamic(at, zone, id, topology.service(id), family);
        }
        // RFC 4035 §2.5: RRSIG and NSEC may stand beside a CNAME, and are then asked for themselves.
        if let Some(set) = node.rrset(rtype::CNAME)
            && node.rrset(self.question.qtype).is_none()
        {
            self.writer.rrset(Section::Answer, at.owner(), set);
            // RFC 8482 §4.2: an alias may answer ANY by itself.
            if self.question.qtype == rtype::ANY {
                return Step::Done(done(ResponseCode::NoError, Kind::Static));
            }
            return Step::Alias(Current::Target(&set.rdata[0]));
        }
        let exists = !node.services().is_empty() || !node.rrsets.is_empty();
        if self.question.qtype == rtype::ANY && exists {
            self.writer.records(Section::Answer, at.owner(), rtype::HINFO, ANY_TTL, [ANY_HINFO]);
            return Step::Done(done(ResponseCode::NoError, Kind::Static));
        }
        self.data(at, zone, node)
    }

    /// The RRset asked for, or that there is none.
    fn data(&mut self, at: &Current<'a>, zone: &'a Served, node: &'a Node) -> Step<'a> {
        let Some(set) = node.rrset(self.question.qtype) else {
            self.negative(at, zone, zone.negative_ttl);
            return Step::Done(done(ResponseCode::NoError, Kind::Negative));
        };
        self.writer.rrset(Section::Answer, at.owner(), set);
        let owner = &at.wire(self.question)[..at.length(self.question)];
        additional::addresses(&self.snapshot.plan.zones, owner, set, self.writer);
        Step::Done(done(ResponseCode::NoError, Kind::Static))
    }

    /// RFC 2308 §3: the SOA in the authority section says for how long a denial may be kept.
    pub(super) fn negative(&mut self, at: &Current<'_>, zone: &Served, ttl: Ttl) {
        let apex = at.length(self.question) - zone.origin.as_wire().len();
        self.writer.records(Section::Authority, at.owner_from(apex), rtype::SOA, ttl, &zone.soa().rdata);
    }

    /// To the name servers of the cut, whose name is `below`.
    fn referral(&mut self, at: &Current<'_>, below: &[u8], zone: &'a Served, cut: &'a Node) -> Step<'a> {
        let owner = at.owner_from(at.length(self.question) - below.len());
        if let Some(servers) = cut.rrset(rtype::NS) {
            self.writer.rrset(Section::Authority, owner, servers);
            // RFC 4035 §3.1.4: DS goes with the NS RRset for those who can use it.
            if let Some(set) = cut.rrset(rtype::DS).filter(|_| self.asker.dnssec_ok) {
                self.writer.rrset(Section::Authority, owner, set);
            }
            additional::glue(zone, below, servers, self.writer);
        }
        let referral = Resolved { authoritative: false, ..done(ResponseCode::NoError, Kind::Referral) };
        Step::Done(referral)
    }

    /// RFC 6672 §3.2: the DNAME, and the CNAME that it makes for the name asked for.
    fn dname(&mut self, at: &Current<'a>, node: &'a Node, offset: usize) -> Step<'a> {
        let Some(set) = node.rrset(rtype::DNAME) else {
            return Step::Done(done(ResponseCode::ServFail, Kind::Refused));
        };
        self.writer.rrset(Section::Answer, at.owner_from(offset), set);
        let Some(target) = set.substitute(at.wire(self.question), offset) else {
            return Step::Done(done(ResponseCode::YXDomain, Kind::Static));
        };
        self.writer.records(Section::Answer, at.owner(), rtype::CNAME, set.ttl, [&target]);
        Step::Alias(Current::Made(target))
    }
}
