//! The general path: the state of one answer being built, and what its parts share.

use super::AnswerKind;
use super::asker::Asker;
use super::reply::Scratch;
use crate::model::Ttl;
use crate::snapshot::Snapshot;
use crate::wire::{Owner, Question, ResponseCode, Section, Writer};
use crate::zone::{Served, rtype};

/// One answer being built.
pub(super) struct General<'a, 'r, 'b> {
    pub(super) snapshot: &'a Snapshot,
    pub(super) question: &'r Question<'r>,
    pub(super) asker: &'r Asker,
    pub(super) scratch: &'r mut Scratch,
    pub(super) writer: &'r mut Writer<'b>,
    /// The kind of the first alias that steering chose, and for how many bits of the client's address all of them hold.
    pub(super) steered: Option<(AnswerKind, u8)>,
}

/// The name that is being looked up: the question's, or an alias's target.
pub(super) enum Current<'a> {
    Question,
    /// The target of a CNAME, borrowed from its data.
    Target(&'a [u8]),
    /// Synthesised by a DNAME.
    Made(Box<[u8]>),
}

/// The result of a step.
pub(super) enum Step<'a> {
    Done(Resolved),
    Alias(Current<'a>),
}

/// Properties of the records written.
pub(super) struct Resolved {
    pub(super) rcode: ResponseCode,
    pub(super) authoritative: bool,
    pub(super) kind: AnswerKind,
    /// For how many bits of the client's address the answer holds; 0: for everybody.
    pub(super) scope: u8,
}

impl General<'_, '_, '_> {
    /// RFC 2308 §3: the SOA in the authority section says for how long a denial may be kept.
    pub(super) fn deny(&mut self, at: &Current<'_>, zone: &Served, ttl: Ttl) {
        let apex = at.length(self.question) - zone.origin.as_wire().len();
        self.writer.records(Section::Authority, at.owner_from(apex), rtype::SOA, ttl, &zone.soa().rdata);
    }

    /// Records that steering chose an alias on the way.
    pub(super) fn pass_alias(&mut self, kind: AnswerKind, scope: u8) {
        let (kind, before) = self.steered.unwrap_or((kind, 0));
        self.steered = Some((kind, before.max(scope)));
    }
}

impl Current<'_> {
    pub(super) fn owner(&self) -> Owner<'_> {
        self.owner_from(0)
    }

    /// The part of the name from a byte on.
    pub(super) fn owner_from(&self, offset: usize) -> Owner<'_> {
        match self {
            Self::Question => Owner::Question(offset),
            Self::Target(wire) => Owner::Name(&wire[offset..]),
            Self::Made(wire) => Owner::Name(&wire[offset..]),
        }
    }

    /// The length of the name on the wire, in bytes.
    pub(super) fn length(&self, question: &Question<'_>) -> usize {
        match self {
            Self::Question => question.name().len(),
            Self::Target(wire) => wire.len(),
            Self::Made(wire) => wire.len(),
        }
    }

    /// The name in its original case, possibly followed by other bytes.
    pub(super) fn wire<'s>(&'s self, question: &'s Question<'_>) -> &'s [u8] {
        match self {
            Self::Question => question.wire,
            Self::Target(wire) => wire,
            Self::Made(wire) => wire,
        }
    }
}

impl Resolved {
    /// An authoritative answer that holds for everybody.
    pub(super) fn of(rcode: ResponseCode, kind: AnswerKind) -> Self {
        Self { rcode, authoritative: true, kind, scope: 0 }
    }
}
