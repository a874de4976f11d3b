//! Writes a reply, section by section, into the buffer that is sent.

use hickory_proto::op::ResponseCode;

use super::edns::{ExtendedError, Response};
use super::header::{Counts, HEADER, Status};
use super::names::{self, Names};
use super::query::{Content, Query};
use super::{CLASS_ANY, CLASS_IN};
use crate::model::Ttl;
use crate::zone::{RRset, rtype};

/// Sections of records in the order in which they must be written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Section {
    /// The records asked for. If they do not fit, TC is set.
    Answer,
    /// SOA of a negative answer, NS of a referral. If they do not fit, TC is set.
    Authority,
    /// Glue that a referral requires. If it does not fit, TC is set (RFC 9471 §3).
    Glue,
    /// Optional addresses. They are left out if they do not fit (RFC 2181 §9).
    Additional,
}

/// The owner of records.
#[derive(Clone, Copy, Debug)]
pub enum Owner<'a> {
    /// The question's name from this byte on, with the case of the question.
    Question(usize),
    /// A name in uncompressed wire format.
    Name(&'a [u8]),
}

/// A reply being written. Records are added section by section, in the order of [`Section`].
pub struct Writer<'b> {
    bytes: &'b mut Vec<u8>,
    query: &'b Query<'b>,
    /// The OPT record, which is written last.
    edns: Option<Response<'b>>,
    names: Names,
    /// Where the question ends and records begin.
    records_start: usize,
    counts: Counts,
    truncated: bool,
    limit: usize,
    /// The limit for everything before the OPT record.
    room: usize,
}

/// Bytes of a record between its owner and its data: type, class, TTL, length.
const FIXED: usize = 10;
/// Bytes of a SOA record's data behind its names.
const SOA_NUMBERS: usize = 20;

impl<'b> Writer<'b> {
    /// Starts a reply of at most `limit` bytes in `bytes`, which is emptied. It repeats the question and will end
    /// with the OPT record, if there is one. That much is written whatever the limit; 512 bytes always hold it.
    #[must_use]
    pub fn start(
        bytes: &'b mut Vec<u8>,
        query: &'b Query<'b>,
        limit: u16,
        edns: Option<Response<'b>>,
    ) -> Self {
        bytes.clear();
        // Overwritten by `finish`.
        bytes.extend_from_slice(&[0; HEADER]);
        let mut counts = Counts::default();
        let mut name = 0;
        if let Some(question) = query.question() {
            bytes.extend_from_slice(question.wire);
            counts.questions = 1;
            name = question.name().len();
        }
        let limit = usize::from(limit);
        Self {
            records_start: bytes.len(),
            bytes,
            query,
            names: Names::new(name),
            counts,
            truncated: false,
            limit,
            room: limit.saturating_sub(edns.as_ref().map_or(0, Response::length)),
            edns,
        }
    }

    /// Adds the reason for the answer, for clients with EDNS, if there is room.
    pub fn explain(&mut self, error: ExtendedError) {
        if let Some(edns) = &mut self.edns {
            edns.error = Some(error);
        }
    }

    /// Removes all records.
    pub fn clear(&mut self) {
        self.bytes.truncate(self.records_start);
        self.names.forget(0);
        self.counts = Counts { questions: self.counts.questions, ..Counts::default() };
        self.truncated = false;
    }

    /// Removes all records and sets TC, so that the client asks again over TCP.
    pub fn truncate(&mut self) {
        self.clear();
        self.truncated = true;
    }

    /// Whether something that had to be in the reply did not fit.
    #[must_use]
    pub fn is_truncated(&self) -> bool {
        self.truncated
    }

    /// Adds an RRset.
    pub fn rrset(&mut self, section: Section, owner: Owner<'_>, set: &RRset) {
        self.records(section, owner, set.rtype, set.ttl, &set.rdata);
    }

    /// Adds the records of one RRset, given their data in uncompressed wire format: all of them or none.
    pub fn records(
        &mut self,
        section: Section,
        owner: Owner<'_>,
        rtype: u16,
        ttl: Ttl,
        data: impl IntoIterator<Item: AsRef<[u8]>>,
    ) {
        if self.truncated {
            return;
        }
        let (start, known) = (self.bytes.len(), self.names.count());
        let mut count = 0;
        for data in data {
            self.record(owner, rtype, ttl, data.as_ref());
            if self.bytes.len() > self.room {
                self.bytes.truncate(start);
                self.names.forget(known);
                self.truncated = section != Section::Additional;
                return;
            }
            count += 1;
        }
        match section {
            Section::Answer => self.counts.answers += count,
            Section::Authority => self.counts.authorities += count,
            Section::Glue | Section::Additional => self.counts.additionals += count,
        }
    }

    /// Completes the reply, which holds for `scope` bits of the client's address.
    pub fn finish(&mut self, rcode: ResponseCode, authoritative: bool, scope: u8) {
        if let Some(edns) = &mut self.edns {
            edns.fit(self.limit.saturating_sub(self.bytes.len()));
            edns.write(self.bytes, rcode, scope);
            self.counts.additionals += 1;
        }
        // RFC 8945 §5.2.1: BADKEY goes with NOTAUTH, and the record is the last one.
        if let (ResponseCode::NotAuth, Content::Signed(tsig, _)) = (rcode, &self.query.content) {
            self.counts.additionals += tsig.reject(self.bytes, self.limit);
        }
        // RFC 1035 §6.2: an answer for all classes is authoritative only if it covers all of them.
        let is_of_one_class = self.query.question().is_none_or(|question| question.class != CLASS_ANY);
        let authoritative = authoritative && is_of_one_class;
        let status = Status { rcode, authoritative, truncated: self.truncated };
        self.bytes[..HEADER].copy_from_slice(&self.query.header.reply(status, self.counts));
    }

    fn record(&mut self, owner: Owner<'_>, rtype: u16, ttl: Ttl, data: &[u8]) {
        let class = match self.query.question() {
            Some(question) if question.class != CLASS_ANY => question.class,
            _ => CLASS_IN,
        };
        let mut fixed = [0; 2 + FIXED];
        fixed[2..4].copy_from_slice(&rtype.to_be_bytes());
        fixed[4..6].copy_from_slice(&class.to_be_bytes());
        fixed[6..10].copy_from_slice(&ttl.0.to_be_bytes());
        fixed[10..].copy_from_slice(&(data.len() as u16).to_be_bytes());
        match owner {
            // A pointer to the question keeps the case in which it was asked.
            Owner::Question(offset) => {
                fixed[..2].copy_from_slice(&names::to_question(offset).to_be_bytes());
                self.bytes.extend_from_slice(&fixed);
            }
            Owner::Name(name) => {
                self.name(name);
                self.bytes.extend_from_slice(&fixed[2..]);
            }
        }
        self.data(rtype, data);
    }

    /// Only names in the data of types that RFC 1035 defines may be compressed (RFC 3597 §4).
    fn data(&mut self, rtype: u16, data: &[u8]) {
        let start = self.bytes.len();
        match rtype {
            rtype::NS | rtype::CNAME | rtype::PTR => self.name(data),
            rtype::MX => {
                let (preference, exchange) = data.split_at(data.len().min(2));
                self.bytes.extend_from_slice(preference);
                self.name(exchange);
            }
            rtype::SOA => {
                let (names, numbers) = data.split_at(data.len().saturating_sub(SOA_NUMBERS));
                let (primary, mailbox) = names.split_at(names::length(names));
                self.name(primary);
                self.name(mailbox);
                self.bytes.extend_from_slice(numbers);
            }
            _ => return self.bytes.extend_from_slice(data),
        }
        let length = (self.bytes.len() - start) as u16;
        self.bytes[start - 2..start].copy_from_slice(&length.to_be_bytes());
    }

    fn name(&mut self, name: &[u8]) {
        self.names.write(self.bytes, name);
    }
}
