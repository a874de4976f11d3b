//! The header of a message (RFC 1035 §4.1.1): the query's is read here, the reply's written.

use hickory_proto::op::ResponseCode;

/// Bytes of a message's header.
pub const HEADER: usize = 12;

/// QR, in the first byte of flags: the message is a response.
const RESPONSE: u8 = 0x80;
/// RD, in the same byte.
const RECURSION_DESIRED: u8 = 0x01;

/// The header fields of a query that are copied into the reply's.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Header {
    /// The ID chosen by the client.
    pub id: u16,
    /// The opcode, 0 to 15; 0 is a standard query.
    pub opcode: u8,
    /// RD.
    pub recursion_desired: bool,
}

/// How many entries each section of a message has.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// QDCOUNT.
    pub questions: u16,
    /// ANCOUNT.
    pub answers: u16,
    /// NSCOUNT.
    pub authorities: u16,
    /// ARCOUNT; the OPT record counts.
    pub additionals: u16,
}

/// The header fields that describe a reply.
#[derive(Clone, Copy, Debug)]
pub struct Status {
    /// RCODE; the header has its lower 4 bits, the OPT record the rest.
    pub rcode: ResponseCode,
    /// AA.
    pub authoritative: bool,
    /// TC.
    pub truncated: bool,
}

impl Counts {
    /// Whether there is nothing but an additional section.
    pub(super) fn is_additional_only(self) -> bool {
        (self.questions, self.answers, self.authorities) == (0, 0, 0)
    }

    /// How many entries the message has.
    pub(super) fn total(self) -> u32 {
        [self.questions, self.answers, self.authorities, self.additionals].into_iter().map(u32::from).sum()
    }
}

impl Header {
    /// Reads the header that a query begins with. `None` if the message deserves no reply: it is shorter than a
    /// header, or a response itself.
    pub(super) fn read(message: &[u8]) -> Option<(Self, Counts)> {
        // AA, TC, RA, Z, AD, CD and RCODE mean nothing in a query.
        let [id @ .., flags, _, qd_high, qd_low, an_high, an_low, ns_high, ns_low, ar_high, ar_low] =
            *message.first_chunk::<HEADER>()?;
        if flags & RESPONSE != 0 {
            return None;
        }
        let header = Self {
            id: u16::from_be_bytes(id),
            opcode: flags >> 3 & 0x0f,
            recursion_desired: flags & RECURSION_DESIRED != 0,
        };
        let counts = Counts {
            questions: u16::from_be_bytes([qd_high, qd_low]),
            answers: u16::from_be_bytes([an_high, an_low]),
            authorities: u16::from_be_bytes([ns_high, ns_low]),
            additionals: u16::from_be_bytes([ar_high, ar_low]),
        };
        Some((header, counts))
    }

    /// The header of the reply. RA, Z, AD and CD are 0.
    #[inline]
    #[must_use]
    pub fn reply(self, status: Status, counts: Counts) -> [u8; HEADER] {
        let flags = RESPONSE
            | self.opcode << 3
            | u8::from(status.authoritative) << 2
            | u8::from(status.truncated) << 1
            | u8::from(self.recursion_desired);
        let flags = u16::from_be_bytes([flags, status.rcode.low()]);
        let Counts { questions, answers, authorities, additionals } = counts;
        let words = [self.id, flags, questions, answers, authorities, additionals].map(u16::to_be_bytes);
        let mut bytes = [0; HEADER];
        bytes.copy_from_slice(words.as_flattened());
        bytes
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reply_copies_id_opcode_and_rd_of_the_query() {
        let query = b"\x12\x34\x29\xff\0\x01\0\x02\0\x03\x01\x04rest";
        let (header, counts) = Header::read(query).unwrap();
        assert_eq!(header, Header { id: 0x1234, opcode: 5, recursion_desired: true });
        assert_eq!(counts, Counts { questions: 1, answers: 2, authorities: 3, additionals: 0x104 });
        let status = Status { rcode: ResponseCode::BADVERS, authoritative: false, truncated: true };
        assert_eq!(header.reply(status, counts), *b"\x12\x34\xab\0\0\x01\0\x02\0\x03\x01\x04");
        let status = Status { rcode: ResponseCode::NXDomain, authoritative: true, truncated: false };
        assert_eq!(Header::default().reply(status, Counts::default()), *b"\0\0\x84\x03\0\0\0\0\0\0\0\0");
    }

    #[test]
    fn responses_and_fragments_have_no_header_to_reply_to() {
        assert_eq!(Header::read(&[0; HEADER - 1]), None);
        assert_eq!(Header::read(b"\0\0\x80\0\0\0\0\0\0\0\0\0"), None);
    }
}
