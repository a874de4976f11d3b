//! Reads any message, with a complete decoder.

use hickory_proto::rr::Name;
use hickory_proto::serialize::binary::{BinDecodable, BinDecoder, DecodeError};

use super::common;
use super::edns::Request;
use super::header::{Counts, HEADER, Header};
use super::query::{Content, Fault, Query};
use super::question::Question;
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

    /// The sections of messages of other opcodes are read, too: RFC 6891 §7 wants an OPT record in the reply to any
    /// message that has one.
    fn sections(header: Header, counts: Counts, message: &'a [u8]) -> Self {
        let mut sections = Sections::default();
        let is_whole = sections.read(message, counts).is_ok();
        let Sections { question, edns, is_malformed } = sections;
        let content = match question {
            // RFC 6891 §6.1.3: "If a responder does not implement the VERSION level of the request, then it MUST
            // respond with RCODE=BADVERS."
            _ if edns.is_some_and(|edns| edns.version != 0) => Content::Fault(Fault::Version, question),
            _ if header.opcode != 0 => Content::Fault(Fault::Opcode, question),
            Some(question) if is_whole && !is_malformed => Content::Question(question),
            None if is_whole && !is_malformed && edns.is_some_and(|edns| edns.cookie.is_some()) => {
                Content::Cookie
            }
            _ => Content::Fault(Fault::Malformed, question),
        };
        Self { header, content, edns }
    }
}

/// What the sections of a message hold.
#[derive(Default)]
struct Sections<'a> {
    question: Option<Question<'a>>,
    edns: Option<Request>,
    is_malformed: bool,
}

impl<'a> Sections<'a> {
    /// Continues after malformed parts, as far as the message can be decoded at all.
    fn read(&mut self, message: &'a [u8], counts: Counts) -> Result<(), DecodeError> {
        let mut decoder = BinDecoder::new(message).clone(HEADER as u16);
        if counts.questions == 1 {
            self.question = Question::read(&message[HEADER..]);
            let Some(question) = self.question else { return Ok(()) };
            decoder.read_slice(question.wire.len())?;
        } else {
            // RFC 9619 §4: "a DNS message with OPCODE = 0 and QDCOUNT > 1 MUST be treated as an incorrectly
            // formatted message".
            self.is_malformed = counts.questions > 1;
            for _ in 0..counts.questions {
                Name::read(&mut decoder)?;
                decoder.read_slice(4)?;
            }
        }
        for _ in 0..u32::from(counts.answers) + u32::from(counts.authorities) {
            // RFC 6891 §6.1.1: an OPT record belongs to the additional section.
            self.is_malformed |= record(&mut decoder)?.rtype == rtype::OPT;
        }
        for _ in 0..counts.additionals {
            let record = record(&mut decoder)?;
            if record.rtype == rtype::OPT {
                self.opt(&record);
            }
        }
        Ok(())
    }

    fn opt(&mut self, record: &Raw<'_>) {
        // RFC 6891 §6.1.1: "If a query message with more than one OPT RR is received, a FORMERR (RCODE=1)
        // MUST be returned."
        if self.edns.is_some() || !record.at_root {
            self.is_malformed = true;
            return;
        }
        let request = Request::read(record.class, record.ttl.to_be_bytes(), record.data);
        self.is_malformed |= request.is_err();
        self.edns = Some(request.unwrap_or_else(|bare| bare));
    }
}

/// A record of a query, undecoded.
struct Raw<'a> {
    at_root: bool,
    rtype: u16,
    class: u16,
    ttl: u32,
    data: &'a [u8],
}

fn record<'a>(decoder: &mut BinDecoder<'a>) -> Result<Raw<'a>, DecodeError> {
    let at_root = Name::read(decoder)?.is_root();
    let rtype = decoder.read_u16()?.unverified(/* compared with OPT */);
    let class = decoder.read_u16()?.unverified(/* the payload of an OPT */);
    let ttl = decoder.read_u32()?.unverified(/* the flags of an OPT */);
    let length = decoder.read_u16()?.unverified(/* checked by the slice */);
    let data = decoder.read_slice(usize::from(length))?.unverified(/* the options of an OPT */);
    Ok(Raw { at_root, rtype, class, ttl, data })
}
