//! Reads any message, also a hostile one, at a cost that its length bounds.
//!
//! The reader only moves forward: names behind the question are skipped, and the first pointer ends a name wherever it
//! leads (RFC 1035 §4.1.4). If pointers were followed, a message of 64 KB could make thousands of records share one name
//! that takes thousands of steps to read.

use super::MAX_ENTRIES;
use super::common;
use super::edns::Request;
use super::header::{Counts, HEADER, Header};
use super::query::{Content, Fault, Query};
use super::question::{MAX_NAME, Question};
use super::tsig::{self, Tsig};
use crate::zone::rtype;

impl<'a> Query<'a> {
    /// Reads a message. `None` if it deserves no reply: shorter than a header, or itself a response.
    #[inline]
    #[must_use]
    pub fn read(message: &'a [u8]) -> Option<Self> {
        let (header, counts) = Header::read(message)?;
        match common::read(header, counts, &message[HEADER..]) {
            None => Some(Self::sections(header, counts, message)),
            query => query,
        }
    }

    /// Like [`Query::read`], but always by the complete decoder: the reference that tests compare it with.
    #[must_use]
    pub fn decode(message: &'a [u8]) -> Option<Self> {
        let (header, counts) = Header::read(message)?;
        Some(Self::sections(header, counts, message))
    }

    /// The sections of messages that get an error are read, too: RFC 6891 §7 wants an OPT record in the reply to any
    /// message that has one.
    fn sections(header: Header, counts: Counts, message: &'a [u8]) -> Self {
        let mut sections = Sections::default();
        let is_whole = sections.read(&message[HEADER..], counts).is_some();
        let Sections { question, edns, tsig, is_malformed } = sections;
        let content = match question {
            // RFC 6891 §6.1.3: "If a responder does not implement the VERSION level of the request, then it MUST
            // respond with RCODE=BADVERS."
            _ if edns.is_some_and(|edns| edns.version != 0) => Content::Fault(Fault::Version, question),
            _ if header.opcode != 0 => Content::Fault(Fault::Opcode, question),
            Some(question) if is_whole && !is_malformed && has_counts_of_a_query(counts, &question) => {
                tsig.map_or(Content::Question(question), |tsig| Content::Signed(tsig, question))
            }
            // RFC 7873 §5.4: without a question, a client asks for a server cookie only.
            None if is_whole
                && !is_malformed
                && counts.is_additional_only()
                && edns.is_some_and(|edns| edns.cookie.is_some()) =>
            {
                Content::Cookie
            }
            // RFC 9619 §4: "a DNS message with OPCODE = 0 and QDCOUNT > 1 MUST be treated as an incorrectly
            // formatted message".
            _ => Content::Fault(Fault::Malformed, question),
        };
        Self { header, content, edns }
    }
}

/// Only IXFR queries have records before the additional section: the client's SOA record (RFC 1995 §3).
fn has_counts_of_a_query(counts: Counts, question: &Question<'_>) -> bool {
    let authorities = u16::from(question.qtype == rtype::IXFR);
    counts.questions == 1 && counts.answers == 0 && counts.authorities <= authorities
}

/// What the sections of a message hold.
#[derive(Default)]
struct Sections<'a> {
    question: Option<Question<'a>>,
    edns: Option<Request>,
    tsig: Option<Tsig<'a>>,
    is_malformed: bool,
}

impl<'a> Sections<'a> {
    /// Continues after malformed parts. `None` if the sections cannot be read to their end, or need not be because there
    /// are too many entries.
    fn read(&mut self, bytes: &'a [u8], counts: Counts) -> Option<()> {
        let mut rest = Rest(bytes);
        if counts.questions == 1 {
            let question = Question::read(bytes)?;
            self.question = Some(question);
            rest.take(question.wire.len())?;
        }
        if counts.total() > MAX_ENTRIES {
            return None;
        }
        if counts.questions != 1 {
            for _ in 0..counts.questions {
                rest.skip_question()?;
            }
        }
        for _ in 0..u32::from(counts.answers) + u32::from(counts.authorities) {
            // RFC 6891 §6.1.1, RFC 8945 §5.2: they belong to the additional section.
            self.is_malformed |= matches!(rest.record()?.rtype, rtype::OPT | rtype::TSIG);
        }
        for behind in (0..counts.additionals).rev() {
            let record = rest.record()?;
            match record.rtype {
                rtype::OPT => self.opt(&record),
                rtype::TSIG if behind == 0 => self.tsig(&record),
                // RFC 8945 §5.2: several of them, or one in any other position, are a format error.
                rtype::TSIG => self.is_malformed = true,
                // SIG(0) among them, which a server need not check (RFC 2931 §3.1).
                _ => {}
            }
        }
        Some(())
    }

    fn opt(&mut self, record: &Raw<'_>) {
        // RFC 6891 §6.1.1: "If a query message with more than one OPT RR is received, a FORMERR (RCODE=1)
        // MUST be returned."
        if self.edns.is_some() || record.owner != [0] {
            self.is_malformed = true;
            return;
        }
        let request = Request::read(record.class, record.ttl, record.data);
        self.is_malformed |= request.is_err();
        self.edns = Some(request.unwrap_or_else(|bare| bare));
    }

    fn tsig(&mut self, record: &Raw<'a>) {
        let labels = record.owner.len().saturating_sub(2);
        let is_readable = record.pointer.is_none_or(|pointer| {
            self.question.is_some_and(|question| tsig::is_in_question(pointer, labels, &question))
        });
        self.tsig = Tsig::read(record.owner, record.class, record.data).filter(|_| is_readable);
        self.is_malformed |= self.tsig.is_none();
    }
}

/// A record of a query, undecoded.
struct Raw<'a> {
    /// Its labels, and then the root or a pointer.
    owner: &'a [u8],
    /// Where the pointer leads, from the start of the message, if the owner ends with one.
    pointer: Option<u16>,
    rtype: u16,
    class: u16,
    ttl: [u8; 4],
    data: &'a [u8],
}

/// The bytes that are not read yet.
struct Rest<'a>(&'a [u8]);

impl<'a> Rest<'a> {
    fn take(&mut self, length: usize) -> Option<&'a [u8]> {
        let (taken, rest) = self.0.split_at_checked(length)?;
        self.0 = rest;
        Some(taken)
    }

    fn array<const N: usize>(&mut self) -> Option<[u8; N]> {
        let (taken, rest) = self.0.split_first_chunk()?;
        self.0 = rest;
        Some(*taken)
    }

    /// Skips a name and returns where the pointer at its end leads, if there is one.
    fn skip_name(&mut self) -> Option<Option<u16>> {
        let mut length = 0;
        loop {
            let [label] = self.array()?;
            length += 1 + usize::from(label & 0x3f);
            match label {
                0 => return Some(None),
                1..=0x3f if length < MAX_NAME => _ = self.take(label.into())?,
                0xc0.. => return self.array().map(|[low]| Some(u16::from_be_bytes([label & 0x3f, low]))),
                _ => return None,
            }
        }
    }

    fn skip_question(&mut self) -> Option<()> {
        self.skip_name()?;
        self.array::<4>().map(|_| ())
    }

    fn record(&mut self) -> Option<Raw<'a>> {
        let from_owner = self.0;
        let pointer = self.skip_name()?;
        let owner = &from_owner[..from_owner.len() - self.0.len()];
        let rtype = u16::from_be_bytes(self.array()?);
        let class = u16::from_be_bytes(self.array()?);
        let ttl = self.array()?;
        let length = u16::from_be_bytes(self.array()?);
        Some(Raw { owner, pointer, rtype, class, ttl, data: self.take(length.into())? })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NAME: &[u8] = b"\x03www\x07example\0";
    const A: &[u8] = b"\0\x01\0\x01";
    /// An OPT record without options.
    const OPT: &[u8] = b"\0\0\x29\x04\xd0\0\0\0\0\0\0";

    fn message(opcode: u8, counts: [u16; 4], parts: &[&[u8]]) -> Vec<u8> {
        let counts = counts.map(u16::to_be_bytes);
        [&[7, 7, opcode << 3, 0], counts.as_flattened(), &parts.concat()].concat()
    }

    /// The fault of a query with these counts, and whether an OPT record was read.
    fn fault(counts: [u16; 4], parts: &[&[u8]]) -> (Option<Fault>, bool) {
        let message = message(0, counts, parts);
        let query = Query::read(&message).unwrap();
        assert_eq!(Some(query), Query::decode(&message));
        match query.content {
            Content::Question(_) | Content::Signed(..) | Content::Cookie => (None, query.edns.is_some()),
            Content::Fault(fault, _) => (Some(fault), query.edns.is_some()),
        }
    }

    fn question(qtype: u16) -> Vec<u8> {
        [NAME, &qtype.to_be_bytes(), &A[2..]].concat()
    }

    /// A record of this type without data, whose owner is a pointer to this byte of the message.
    fn record(owner: u16, rtype: u16) -> Vec<u8> {
        [&(0xc000 | owner).to_be_bytes()[..], &rtype.to_be_bytes(), &[0, 1, 0, 0, 0, 0, 0, 0]].concat()
    }

    #[test]
    fn a_query_has_one_question_and_neither_answers_nor_authorities() {
        let (a, record) = (question(rtype::A), record(12, rtype::A));
        assert_eq!(fault([1, 0, 0, 1], &[&a, OPT]), (None, true));
        assert_eq!(fault([1, 0, 0, 2], &[&a, OPT, &record]), (None, true), "a record of no meaning");
        let malformed = (Some(Fault::Malformed), true);
        assert_eq!(fault([1, 1, 0, 1], &[&a, &record, OPT]), malformed, "an answer");
        assert_eq!(fault([1, 0, 1, 1], &[&a, &record, OPT]), malformed, "an authority");
        assert_eq!(fault([0, 0, 0, 1], &[OPT]), malformed, "no question");
        assert_eq!(fault([2, 0, 0, 1], &[&a, &a, OPT]), malformed, "two questions");
        assert_eq!(fault([2, 0, 0, 0], &[&a, &a]), (Some(Fault::Malformed), false));
    }

    #[test]
    fn ixfr_has_the_clients_soa_among_the_authorities() {
        let (ixfr, soa) = (question(rtype::IXFR), record(12, rtype::SOA));
        assert_eq!(fault([1, 0, 1, 1], &[&ixfr, &soa, OPT]), (None, true));
        assert_eq!(fault([1, 0, 2, 0], &[&ixfr, &soa, &soa]).0, Some(Fault::Malformed));
        assert_eq!(fault([1, 1, 0, 0], &[&ixfr, &soa]).0, Some(Fault::Malformed));
    }

    /// A decoder that followed them would find the root, the name that the OPT record must have, or nothing at all.
    #[test]
    fn pointers_are_not_followed() {
        let a = question(rtype::A);
        let end_of_name = 24;
        let itself = (HEADER + a.len()) as u16;
        for owner in [0, end_of_name, 12, itself, 0x3fff] {
            let pointing = record(owner, rtype::A);
            assert_eq!(fault([1, 0, 0, 2], &[&a, &pointing, OPT]), (None, true), "to {owner}");
            let opt = record(owner, rtype::OPT);
            assert_eq!(fault([1, 0, 0, 1], &[&a, &opt]), (Some(Fault::Malformed), false), "to {owner}");
        }
    }

    #[test]
    fn names_end_within_255_bytes_and_have_no_other_kind_of_label() {
        let a = question(rtype::A);
        let rest = &record(0, rtype::A)[2..];
        let of = |name: &[u8]| fault([1, 0, 0, 1], &[&a, name, rest]).0;
        let longest = b"\x01a".repeat(127);
        assert_eq!(of(&[&longest[..], b"\0"].concat()), None, "255 bytes");
        assert_eq!(of(&[&longest[2..], b"\xc0\x0c"].concat()), None, "254 bytes and a pointer");
        assert_eq!(of(&[&longest[..], b"\x01a\0"].concat()), Some(Fault::Malformed), "257 bytes");
        for label in [b"\x40", b"\x80"] {
            assert_eq!(of(&[label, &[0; 100][..]].concat()), Some(Fault::Malformed), "{label:02x?}");
        }
        for cut in [&b"\x03ww"[..], b"\x03www", b"\xc0"] {
            assert_eq!(fault([1, 0, 0, 1], &[&a, cut]).0, Some(Fault::Malformed), "{cut:02x?}");
        }
    }

    #[test]
    fn entries_beyond_the_limit_are_not_read() {
        let a = question(rtype::A);
        let most = MAX_ENTRIES as u16;
        let records = record(12, rtype::A).repeat(usize::from(most));
        let before_opt = &records[..records.len() / usize::from(most) * usize::from(most - 2)];
        assert_eq!(fault([1, 0, 0, most - 1], &[&a, before_opt, OPT]), (None, true));
        assert_eq!(fault([1, 0, 0, most], &[&a, OPT, &records]), (Some(Fault::Malformed), false));
        // The sum counts, and it does not wrap.
        for counts in [[1, 0xffff, 0xffff, 0xffff], [0xffff, 0, 0, 1], [1, most / 2, most / 2, 0]] {
            assert_eq!(fault(counts, &[&a, OPT]), (Some(Fault::Malformed), false), "{counts:?}");
        }
        // An UPDATE may have as many records as it likes, and is not implemented.
        let update = message(5, [1, 0, 100, 1], &[&a, &record(12, rtype::A).repeat(100), OPT]);
        let query = Query::read(&update).unwrap();
        assert!(matches!(query.content, Content::Fault(Fault::Opcode, Some(_))) && query.edns.is_none());
    }
}
