//! The query that nearly all resolvers send, read straight from its bytes.

use super::query::lowercase;
use super::{CLASS_IN, ClientSubnet, Edns, HEADER, OPTION_SUBNET};
use crate::zone::rtype;

/// A query of one question of class IN, perhaps with an OPT record, and nothing else. What is odd in any way
/// is not read as one: [`Query`](super::Query) is for those.
#[derive(Clone, Copy, Debug)]
pub struct CommonQuery<'a> {
    /// Copied into the reply.
    pub id: [u8; 2],
    /// RD, copied into the reply.
    pub recursion_desired: bool,
    /// Name, type and class as received.
    pub question: &'a [u8],
    /// QTYPE: of a record that a zone can hold.
    pub qtype: u16,
    /// What its OPT record says, if it has one.
    pub edns: Option<Edns>,
}

/// Room for a name in wire format (RFC 1035 §2.3.4).
pub type NameSpace = [u8; 255];

/// QTYPE and QCLASS.
const QUESTION_TAIL: usize = 4;
/// Options that change nothing in a reply over UDP or TCP: DNS cookies (RFC 7873 §5.2.1 lets a server ignore
/// them) and padding (RFC 7830 §4: of clear text it says nothing).
const OPTIONS_WITHOUT_EFFECT: [u16; 2] = [10, 12];

impl<'a> CommonQuery<'a> {
    /// Reads a message and puts the question's name, ASCII letters lowercased, into `name`. Returns the query and
    /// the length of the name.
    #[must_use]
    pub fn read(message: &'a [u8], name: &mut NameSpace) -> Option<(Self, usize)> {
        let (header, rest) = message.split_first_chunk::<HEADER>()?;
        // QR, OPCODE, AA and TC are 0, as are the counts of answers and authorities; RA, Z, AD, CD and RCODE say
        // nothing in a query.
        let [id @ .., flags, _, 0, 1, 0, 0, 0, 0, 0, additionals @ (0 | 1)] = *header else { return None };
        if flags & !1 != 0 {
            return None;
        }
        let length = lowercase(rest, name)?;
        let (question, rest) = rest.split_at_checked(length + QUESTION_TAIL)?;
        let [type_high, type_low, class_high, class_low] = *question.last_chunk()?;
        let qtype = u16::from_be_bytes([type_high, type_low]);
        if u16::from_be_bytes([class_high, class_low]) != CLASS_IN || !is_of_data(qtype) {
            return None;
        }
        let edns = match (additionals, rest) {
            (0, []) => None,
            (1, rest) => Some(opt(rest)?),
            _ => return None,
        };
        Some((Self { id, recursion_desired: flags & 1 != 0, question, qtype, edns }, length))
    }
}

/// Whether a type is one that zones hold and answer by nothing but the name asked for: no OPT, no meta type
/// (RFC 6895 §3.1), and not DS, which the parent's side of a zone cut answers for.
fn is_of_data(qtype: u16) -> bool {
    !matches!(qtype, 0 | rtype::OPT | rtype::DS | 128..=255)
}

/// Reads the OPT record that is all of `record` (RFC 6891 §6.1.2).
fn opt(record: &[u8]) -> Option<Edns> {
    let (fixed, mut options) = record.split_first_chunk::<11>()?;
    let [0, 0, 41, payload @ .., _, 0, flags, _, length_high, length_low] = *fixed else { return None };
    if options.len() != usize::from(u16::from_be_bytes([length_high, length_low])) {
        return None;
    }
    let mut subnet = None;
    while !options.is_empty() {
        let ([code_high, code_low, length_high, length_low], rest) = options.split_first_chunk()?;
        let length = usize::from(u16::from_be_bytes([*length_high, *length_low]));
        let (data, rest) = rest.split_at_checked(length)?;
        match u16::from_be_bytes([*code_high, *code_low]) {
            OPTION_SUBNET if subnet.is_none() => subnet = Some(ClientSubnet::parse(data)?),
            code if OPTIONS_WITHOUT_EFFECT.contains(&code) => {}
            _ => return None,
        }
        options = rest;
    }
    let (payload, dnssec_ok) = (u16::from_be_bytes(payload), flags & 0x80 != 0);
    Some(Edns { payload, version: 0, dnssec_ok, subnet, nsid: false, keepalive: false })
}
