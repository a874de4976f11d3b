//! From the question's name to its answer (RFC 1034 §4.3.2).

use super::asker::Asker;
use super::general::{Current, General, Resolved, Step};
use super::reply::Scratch;
use super::{AnswerKind, Outcome, additional, services};
use crate::model::Ttl;
use crate::snapshot::Snapshot;
use crate::wire::edns::ExtendedError;
use crate::wire::{LowerName, Question, ResponseCode, Section, Writer};
use crate::zone::{Found, MAX_ALIASES, Node, Served, Zones, rtype};

/// How long the answer to an ANY query may be cached, in seconds (RFC 8482 §4.2 leaves it open).
pub(super) const ANY_TTL: Ttl = Ttl(3600);
/// RFC 8482 §4.2: HINFO with CPU "RFC8482" and an empty OS.
const ANY_HINFO: &[u8] = b"\x07RFC8482\x00";

/// Looks up a name for a question.
pub(super) fn find<'a>(zones: &'a Zones, question: &Question<'_>, name: &[u8]) -> Found<'a> {
    if question.qtype == rtype::DS { zones.find_in_parent(name) } else { zones.find(name) }
}

/// Writes the answer to a question, given what was found for its name.
pub(super) fn answer<'a>(
    snapshot: &'a Snapshot,
    question: &Question<'_>,
    found: Found<'a>,
    asker: &Asker,
    scratch: &mut Scratch,
    mut writer: Writer<'_>,
) -> Outcome {
    let writer = &mut writer;
    let mut general = General { snapshot, question, asker, scratch, writer, steered: None };
    let Resolved { rcode, authoritative, kind, scope } = general.run(found);
    let (kind, scope) = match general.steered {
        None => (kind, scope),
        Some((steered, before)) => (steered, before.max(scope)),
    };
    match (rcode, kind) {
        (ResponseCode::Refused, _) => writer.explain(ExtendedError::NOT_AUTHORITATIVE),
        (ResponseCode::ServFail, AnswerKind::Dynamic { .. }) => writer.explain(ExtendedError::ALL_DOWN),
        _ => {}
    }
    writer.finish(rcode, authoritative, scope);
    Outcome::Answered { rcode: rcode.into(), kind, truncated: writer.is_truncated() }
}

impl<'a> General<'a, '_, '_> {
    fn run(&mut self, found: Found<'a>) -> Resolved {
        let name = self.question.name();
        let mut current = match self.step(&Current::Question, name, found) {
            Step::Done(resolved) => return resolved,
            Step::Alias(target) => target,
        };
        self.scratch.seen.clear();
        self.scratch.seen.extend(LowerName::of(name));
        // At most MAX_ALIASES names, so a linear search is cheap.
        while self.scratch.seen.len() < MAX_ALIASES {
            let Some(name) = LowerName::of(current.wire(self.question)) else { break };
            // A chain that returns to a name would never end.
            if self.scratch.seen.iter().any(|seen| seen.as_wire() == name.as_wire()) {
                break;
            }
            let found = find(&self.snapshot.plan.zones, self.question, name.as_wire());
            // A target in none of our zones is for the resolver to look up.
            if matches!(found, Found::Outside) {
                break;
            }
            let step = self.step(&current, name.as_wire(), found);
            self.scratch.seen.push(name);
            match step {
                // RFC 1035 §4.1.1: AA "corresponds to the name which matches the query name, or the first owner
                // name in the answer section", which is the alias, wherever it leads.
                Step::Done(resolved) if resolved.kind == AnswerKind::Referral => {
                    return Resolved { authoritative: true, ..resolved };
                }
                Step::Done(resolved) => return resolved,
                Step::Alias(target) => current = target,
            }
        }
        Resolved::of(ResponseCode::NoError, AnswerKind::Static)
    }

    /// Answers at one name, or finds an alias there.
    fn step(&mut self, at: &Current<'a>, name: &[u8], found: Found<'a>) -> Step<'a> {
        if !self.snapshot.challenges.is_empty()
            && let Some(step) = self.challenge(at, name, &found)
        {
            return step;
        }
        match found {
            Found::Outside => {
                let refused = Resolved {
                    authoritative: false,
                    ..Resolved::of(ResponseCode::Refused, AnswerKind::Refused)
                };
                Step::Done(refused)
            }
            Found::Node { zone, node } => self.node(at, zone, node),
            Found::Wildcard { zone, node, .. } => match self.debug(at, zone, name) {
                Some(step) => step,
                None => self.node(at, zone, node),
            },
            Found::Undelegated { zone } => {
                self.deny(at, zone, zone.negative_ttl);
                Step::Done(Resolved::of(ResponseCode::NoError, AnswerKind::Negative))
            }
            // DS belongs to the parent's side of the cut (RFC 4035 §3.1.4.1).
            Found::Delegation { zone, cut, offset: 0 } if self.question.qtype == rtype::DS => {
                self.data(at, zone, cut)
            }
            Found::Delegation { zone, cut, offset } => self.referral(at, &name[offset..], zone, cut),
            Found::Dname { node, offset, .. } => self.dname(at, node, offset),
            Found::NoName { zone } => {
                if let Some(step) = self.debug(at, zone, name) {
                    return step;
                }
                self.deny(at, zone, zone.negative_ttl);
                Step::Done(Resolved::of(ResponseCode::NXDomain, AnswerKind::Negative))
            }
        }
    }

    fn node(&mut self, at: &Current<'a>, zone: &'a Served, node: &'a Node) -> Step<'a> {
        let topology = &self.snapshot.plan.topology;
        if let Some((id, family)) = services::answering(topology, node, self.question.qtype) {
            return self.dynamic(at, zone, id, topology.service(id), family);
        }
        // RFC 4035 §2.5: RRSIG and NSEC may exist beside a CNAME, and are then answered themselves.
        if let Some(set) = node.rrset(rtype::CNAME)
            && node.rrset(self.question.qtype).is_none()
        {
            self.writer.rrset(Section::Answer, at.owner(), set);
            // RFC 8482 §4.2: an alias may answer ANY by itself.
            if self.question.qtype == rtype::ANY {
                return Step::Done(Resolved::of(ResponseCode::NoError, AnswerKind::Static));
            }
            return Step::Alias(Current::Target(&set.rdata[0]));
        }
        let exists = !node.services().is_empty() || !node.rrsets.is_empty();
        if self.question.qtype == rtype::ANY && exists {
            self.write_any(at, ANY_TTL);
            return Step::Done(Resolved::of(ResponseCode::NoError, AnswerKind::Static));
        }
        self.data(at, zone, node)
    }

    /// The answer to ANY at a name that is not an alias.
    pub(super) fn write_any(&mut self, at: &Current<'_>, ttl: Ttl) {
        self.writer.records(Section::Answer, at.owner(), rtype::HINFO, ttl.min(ANY_TTL), [ANY_HINFO]);
    }

    /// The RRset asked for, or a denial.
    fn data(&mut self, at: &Current<'a>, zone: &'a Served, node: &'a Node) -> Step<'a> {
        let Some(set) = node.rrset(self.question.qtype) else {
            self.deny(at, zone, zone.negative_ttl);
            return Step::Done(Resolved::of(ResponseCode::NoError, AnswerKind::Negative));
        };
        self.writer.rrset(Section::Answer, at.owner(), set);
        let owner = &at.wire(self.question)[..at.length(self.question)];
        additional::addresses(&self.snapshot.plan.zones, owner, set, self.writer);
        Step::Done(Resolved::of(ResponseCode::NoError, AnswerKind::Static))
    }

    /// A referral to the name servers of the cut, whose name is `below`.
    fn referral(&mut self, at: &Current<'_>, below: &[u8], zone: &'a Served, cut: &'a Node) -> Step<'a> {
        let owner = at.owner_from(at.length(self.question) - below.len());
        if let Some(servers) = cut.rrset(rtype::NS) {
            self.writer.rrset(Section::Authority, owner, servers);
            // RFC 4035 §3.1.4: DS accompanies the NS RRset for clients that set DO.
            if let Some(set) = cut.rrset(rtype::DS).filter(|_| self.asker.dnssec_ok) {
                self.writer.rrset(Section::Authority, owner, set);
            }
            additional::glue(zone, below, servers, self.writer);
        }
        let referral =
            Resolved { authoritative: false, ..Resolved::of(ResponseCode::NoError, AnswerKind::Referral) };
        Step::Done(referral)
    }

    /// The DNAME, and the CNAME synthesised from it for the name asked for (RFC 6672 §3.2).
    fn dname(&mut self, at: &Current<'a>, node: &'a Node, offset: usize) -> Step<'a> {
        let Some(set) = node.rrset(rtype::DNAME) else {
            return Step::Done(Resolved::of(ResponseCode::ServFail, AnswerKind::Refused));
        };
        self.writer.rrset(Section::Answer, at.owner_from(offset), set);
        let Some(target) = set.substitute(at.wire(self.question), offset) else {
            return Step::Done(Resolved::of(ResponseCode::YXDomain, AnswerKind::Static));
        };
        self.writer.records(Section::Answer, at.owner(), rtype::CNAME, set.ttl, [&target]);
        // RFC 6672 §3.2 would look up the target even then. An answer that has what was asked for, but denies the name
        // that the CNAME leads to, may confuse caches; Knot, NSD and BIND end here, too.
        if matches!(self.question.qtype, rtype::CNAME | rtype::ANY) {
            return Step::Done(Resolved::of(ResponseCode::NoError, AnswerKind::Static));
        }
        Step::Alias(Current::Made(target))
    }
}
