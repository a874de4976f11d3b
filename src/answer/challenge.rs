//! `_acme-challenge.NAME` TXT: the proofs that ACME servers ask for (RFC 8555 §8.4), beside what the zone has.

use super::AnswerKind;
use super::general::{Current, General, Resolved, Step};
use super::walk::ANY_TTL;
use crate::model::{ChallengesAt, Ttl};
use crate::snapshot::Snapshot;
use crate::wire::{LowerName, ResponseCode, Section};
use crate::zone::{Found, rtype};

/// How long the answers may be cached, in seconds: a second attempt must not meet what resolvers kept of the first.
const TTL: Ttl = Ttl(5);

/// Whether challenges matter for a name in wire format.
pub(super) fn concern(snapshot: &Snapshot, name: &[u8]) -> bool {
    !snapshot.challenges.is_empty()
        && LowerName::of(name).is_some_and(|name| snapshot.challenges.at(name.as_wire()).is_some())
}

impl<'a> General<'a, '_, '_> {
    /// The answer at a name, if challenges change it.
    pub(super) fn challenge(&mut self, at: &Current<'a>, name: &[u8], found: &Found<'a>) -> Option<Step<'a>> {
        let (zone, node) = match *found {
            Found::Node { zone, node } => (zone, Some(node)),
            Found::Wildcard { zone, .. } | Found::NoName { zone } => (zone, None),
            _ => return None,
        };
        let done = |kind| Some(Step::Done(Resolved::of(ResponseCode::NoError, kind)));
        let name = LowerName::of(name)?;
        match (self.snapshot.challenges.at(name.as_wire())?, self.question.qtype) {
            (ChallengesAt::Values(values), rtype::TXT) => {
                let texts = values.iter().map(|value| [&[value.len() as u8], value.as_bytes()].concat());
                let of_zone = node.and_then(|node| node.rrset(rtype::TXT));
                let texts = texts.chain(of_zone.iter().flat_map(|set| &set.rdata).map(|data| data.to_vec()));
                self.writer.records(Section::Answer, at.owner(), rtype::TXT, TTL, texts);
                done(AnswerKind::Static)
            }
            // What the zone has at the name is not changed otherwise.
            _ if node.is_some() => None,
            (ChallengesAt::Values(_), rtype::ANY) => {
                self.write_any(at, TTL.min(ANY_TTL));
                done(AnswerKind::Static)
            }
            _ => {
                self.deny(at, zone, zone.negative_ttl.min(TTL));
                done(AnswerKind::Negative)
            }
        }
    }
}
