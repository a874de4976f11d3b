//! The query that nearly all resolvers send, read straight from its bytes.

use super::{ClientSubnet, Edns, HEADER, OPTION_KEEPALIVE, OPTION_NSID, OPTION_SUBNET, Query, Question};
use crate::zone::rtype;

/// The type of an OPT record, whose high byte is 0.
const OPT: u8 = rtype::OPT as u8;

/// Reads a query of one question, perhaps with an OPT record, and nothing else. `None` if it is odd in any way,
/// which is for [`Query::decode`] to judge.
pub(super) fn read(message: &[u8]) -> Option<Query<'_>> {
    let (header, rest) = message.split_first_chunk::<HEADER>()?;
    // QR, OPCODE, AA and TC are 0, as are the counts of answers and authorities; RA, Z, AD, CD and RCODE say
    // nothing in a query.
    let [id_high, id_low, flags @ (0 | 1), _, 0, 1, 0, 0, 0, 0, 0, additionals @ (0 | 1)] = *header else {
        return None;
    };
    let question = Question::read(rest)?;
    let edns = match (additionals, &rest[question.wire.len()..]) {
        (0, []) => None,
        (1, rest) => Some(opt(rest)?),
        _ => return None,
    };
    Some(Query {
        id: u16::from_be_bytes([id_high, id_low]),
        opcode: 0,
        recursion_desired: flags == 1,
        question: Some(question),
        edns,
        fault: None,
    })
}

/// Reads the OPT record that is all of `record` (RFC 6891 §6.1.2).
fn opt(record: &[u8]) -> Option<Edns> {
    let (fixed, mut options) = record.split_first_chunk::<11>()?;
    let [0, 0, OPT, payload @ .., _, 0, flags, _, length_high, length_low] = *fixed else { return None };
    if options.len() != usize::from(u16::from_be_bytes([length_high, length_low])) {
        return None;
    }
    let (payload, dnssec_ok) = (u16::from_be_bytes(payload), flags & 0x80 != 0);
    let mut edns = Edns { payload, version: 0, dnssec_ok, subnet: None, nsid: false, keepalive: false };
    while !options.is_empty() {
        let ([code_high, code_low, length_high, length_low], rest) = options.split_first_chunk()?;
        let length = usize::from(u16::from_be_bytes([*length_high, *length_low]));
        let (data, rest) = rest.split_at_checked(length)?;
        match u16::from_be_bytes([*code_high, *code_low]) {
            OPTION_NSID => edns.nsid = true,
            OPTION_KEEPALIVE => edns.keepalive = data.is_empty(),
            OPTION_SUBNET if edns.subnet.is_none() => edns.subnet = Some(ClientSubnet::parse(data)?),
            OPTION_SUBNET => return None,
            _ => {}
        }
        options = rest;
    }
    Some(edns)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Whether a message is read, given the low byte of each count.
    fn takes(flags: u8, counts: [u8; 4], rest: &[u8]) -> bool {
        let mut message = vec![7, 7, flags, 0];
        counts.iter().for_each(|count| message.extend_from_slice(&[0, *count]));
        message.extend_from_slice(rest);
        let query = read(&message);
        assert!(query.is_none() || query == Query::decode(&message), "{message:02x?}");
        query.is_some()
    }

    #[test]
    fn the_common_is_taken_and_the_odd_is_left() {
        let plain = b"\x02nS\x07example\0\0\x01\0\x01";
        let opt = |options: &[u8]| {
            let length = options.len() as u8;
            [plain.as_slice(), b"\0\0\x29\x04\xd0\0\0\x80\0\0", &[length], options].concat()
        };
        assert!(takes(0, [1, 0, 0, 0], plain), "without RD");
        assert!(takes(1, [1, 0, 0, 0], b"\0\0\xff\0\x03"), "the root, ANY, CHAOS");
        assert!(takes(1, [1, 0, 0, 1], &opt(b"")), "EDNS");
        assert!(takes(1, [1, 0, 0, 1], &opt(b"\0\x08\0\x07\0\x01\x18\0\x0a\x01\x02")), "a client subnet");
        assert!(takes(1, [1, 0, 0, 1], &opt(b"\0\x0a\0\x08cookie!!")), "a cookie");
        assert!(takes(1, [1, 0, 0, 1], &opt(b"\0\x03\0\0\0\x0b\0\0")), "NSID and edns-tcp-keepalive");
        assert!(takes(1, [1, 0, 0, 1], &opt(b"\0\x0b\0\x02\0\x01")), "edns-tcp-keepalive with data");

        assert!(!takes(0x28, [1, 0, 0, 0], plain), "another opcode");
        assert!(!takes(0x80, [1, 0, 0, 0], plain), "a reply");
        assert!(!takes(1, [2, 0, 0, 0], plain), "two questions");
        assert!(!takes(1, [1, 1, 0, 0], plain), "an answer");
        assert!(!takes(1, [1, 0, 0, 1], plain), "a record that is not there");
        assert!(!takes(1, [1, 0, 0, 0], &[plain.as_slice(), b"x"].concat()), "bytes behind the end");
        assert!(!takes(1, [1, 0, 0, 0], &plain[..plain.len() - 1]), "cut short");
        assert!(!takes(1, [1, 0, 0, 0], b"\xc0\x0c\0\x01\0\x01"), "a pointer");
        let subnet = b"\0\x08\0\x04\0\x01\0\0".as_slice();
        assert!(!takes(1, [1, 0, 0, 1], &opt(&[subnet, subnet].concat())), "two subnets");
        let malformed = b"\0\x08\0\x07\0\x01\x18\x01\x0a\x01\x02";
        assert!(!takes(1, [1, 0, 0, 1], &opt(malformed)), "a malformed subnet");
    }
}
