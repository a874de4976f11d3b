//! The query that nearly all resolvers send, read straight from its bytes.

use super::edns::Request;
use super::header::{Counts, Header};
use super::query::{Content, Query};
use super::question::Question;
use crate::zone::rtype;

/// The type of an OPT record, whose high byte is 0.
const OPT: u8 = rtype::OPT as u8;

/// Reads the sections of a query that has one question, perhaps an OPT record, and nothing else. `None` if they are
/// unusual in any way, which is for [`Query::decode`] to judge.
#[inline]
pub(super) fn read(header: Header, counts: Counts, sections: &[u8]) -> Option<Query<'_>> {
    let Counts { questions: 1, answers: 0, authorities: 0, additionals } = counts else { return None };
    if header.opcode != 0 {
        return None;
    }
    let question = Question::read(sections)?;
    let edns = match (additionals, &sections[question.wire.len()..]) {
        (0, []) => None,
        (1, record) => Some(opt(record)?),
        _ => return None,
    };
    Some(Query { header, content: Content::Question(question), edns })
}

/// Reads the OPT record that is all of `record` (RFC 6891 §6.1.2).
fn opt(record: &[u8]) -> Option<Request> {
    let (fixed, options) = record.split_first_chunk::<11>()?;
    let [0, 0, OPT, class_high, class_low, ttl @ .., length_high, length_low] = *fixed else { return None };
    if options.len() != usize::from(u16::from_be_bytes([length_high, length_low])) {
        return None;
    }
    let request = Request::read(u16::from_be_bytes([class_high, class_low]), ttl, options);
    request.ok().filter(|request| request.version == 0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::HEADER;

    /// Whether a message with these flags is read, given the low byte of each count.
    fn takes(flags: u8, counts: [u8; 4], rest: &[u8]) -> bool {
        let mut message = vec![7, 7, flags, 0];
        counts.iter().for_each(|count| message.extend_from_slice(&[0, *count]));
        message.extend_from_slice(rest);
        let Some((header, counts)) = Header::read(&message) else { return false };
        let query = read(header, counts, &message[HEADER..]);
        assert!(query.is_none() || query == Query::decode(&message), "{message:02x?}");
        query.is_some()
    }

    #[test]
    fn common_queries_are_read_and_others_left() {
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

        assert!(takes(0x06, [1, 0, 0, 0], plain), "AA and TC, which mean nothing");
        assert!(!takes(0x28, [1, 0, 0, 0], plain), "another opcode");
        assert!(!takes(0x80, [1, 0, 0, 0], plain), "a reply");
        assert!(!takes(1, [2, 0, 0, 0], plain), "two questions");
        assert!(!takes(1, [1, 1, 0, 0], plain), "an answer");
        assert!(!takes(1, [1, 0, 0, 1], plain), "a record that is missing");
        assert!(!takes(1, [1, 0, 0, 0], &[plain.as_slice(), b"x"].concat()), "bytes behind the end");
        assert!(!takes(1, [1, 0, 0, 0], &plain[..plain.len() - 1]), "cut short");
        assert!(!takes(1, [1, 0, 0, 0], b"\xc0\x0c\0\x01\0\x01"), "a pointer");
        let subnet = b"\0\x08\0\x04\0\x01\0\0".as_slice();
        assert!(!takes(1, [1, 0, 0, 1], &opt(&[subnet, subnet].concat())), "two subnets");
        let malformed = b"\0\x08\0\x07\0\x01\x18\x01\x0a\x01\x02";
        assert!(!takes(1, [1, 0, 0, 1], &opt(malformed)), "a malformed subnet");
    }
}
