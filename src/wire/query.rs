//! What a query asks.

use hickory_proto::rr::Name;
use hickory_proto::serialize::binary::{BinDecodable, BinDecoder, DecodeError};

use super::common;
use super::edns::Request;
use super::header::{Counts, HEADER, Header};
use crate::zone::rtype;

/// A message that gets a reply, as far as it could be understood.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Query<'a> {
    /// Its header, which the reply's is made from.
    pub header: Header,
    /// What it asks.
    pub content: Content<'a>,
    /// What its OPT record says, if it has one.
    pub edns: Option<Request>,
}

/// What a message asks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Content<'a> {
    /// One question.
    Question(Question<'a>),
    /// Nothing that can be answered; and the question to repeat in the reply, if one could be read.
    Fault(Fault, Option<Question<'a>>),
}

/// Why a message cannot be answered, whatever it asks. The first that applies counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// It has another version of EDNS than 0.
    Version,
    /// Its opcode is another than QUERY.
    Opcode,
    /// It is cut short, has not exactly one question, or its OPT record is malformed, misplaced or one of several.
    Malformed,
}

/// A question.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Question<'a> {
    /// Name, type and class as received; the name is uncompressed and has at most 255 bytes.
    pub wire: &'a [u8],
    /// QTYPE.
    pub qtype: u16,
    /// QCLASS.
    pub class: u16,
}

/// Bytes of a question behind its name.
const TYPE_AND_CLASS: usize = 4;

impl<'a> Question<'a> {
    /// Reads the question that `wire` begins with. `None` if it is cut short, or its name is malformed or compressed,
    /// which nothing before it could justify.
    pub(super) fn read(wire: &'a [u8]) -> Option<Self> {
        let wire = wire.get(..name_length(wire)? + TYPE_AND_CLASS)?;
        let [type_high, type_low, class_high, class_low] = *wire.last_chunk()?;
        let qtype = u16::from_be_bytes([type_high, type_low]);
        Some(Self { wire, qtype, class: u16::from_be_bytes([class_high, class_low]) })
    }

    /// The name as received.
    #[must_use]
    pub fn name(&self) -> &'a [u8] {
        &self.wire[..self.wire.len() - TYPE_AND_CLASS]
    }
}

/// A name in uncompressed wire format, ASCII letters lowercased, kept without allocation.
#[derive(Clone, Debug)]
pub struct LowerName {
    bytes: [u8; 255],
    length: u8,
}

impl LowerName {
    /// Lowercases one name in uncompressed wire format; what is behind its end is ignored. `None` if it has
    /// no end within 255 bytes.
    #[must_use]
    pub fn of(wire: &[u8]) -> Option<Self> {
        let length = name_length(wire)?;
        let mut bytes = [0; 255];
        bytes[..length].copy_from_slice(&wire[..length]);
        // Length bytes are at most 63 and letters start at 65, so lowercasing leaves them alone.
        bytes.make_ascii_lowercase();
        Some(Self { bytes, length: length as u8 })
    }

    /// The bytes, root label included.
    #[must_use]
    pub fn as_wire(&self) -> &[u8] {
        &self.bytes[..usize::from(self.length)]
    }
}

/// Bytes of the uncompressed name that `wire` begins with; `None` if it has no end within 255 (RFC 1035 §2.3.4).
fn name_length(wire: &[u8]) -> Option<usize> {
    let mut end = 0;
    loop {
        match *wire.get(end)? {
            0 => break,
            length @ 1..=63 => end += usize::from(length) + 1,
            _ => return None,
        }
    }
    (end < 255).then_some(end + 1)
}

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

    /// As [`Query::read`], but always by the decoder for any message: the reference that tests compare it with.
    #[must_use]
    pub fn decode(message: &'a [u8]) -> Option<Self> {
        let (header, counts) = Header::read(message)?;
        Some(Self::sections(header, counts, message))
    }

    /// The question, even if it cannot be answered.
    #[must_use]
    pub fn question(&self) -> Option<&Question<'a>> {
        match &self.content {
            Content::Question(question) => Some(question),
            Content::Fault(_, question) => question.as_ref(),
        }
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
    /// Reads on after what is malformed, as far as the message can be decoded at all.
    fn read(&mut self, message: &'a [u8], counts: Counts) -> Result<(), DecodeError> {
        let mut decoder = BinDecoder::new(message).clone(HEADER as u16);
        if counts.questions == 1 {
            self.question = Question::read(&message[HEADER..]);
            let Some(question) = self.question else { return Ok(()) };
            decoder.read_slice(question.wire.len())?;
        } else {
            // RFC 9619 §4: "a DNS message with OPCODE = 0 and QDCOUNT > 1 MUST be treated as an incorrectly
            // formatted message". No question at all is allowed for cookies only (RFC 7873 §5.4), which are not
            // supported.
            self.is_malformed = true;
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
