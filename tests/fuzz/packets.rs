//! Whatever bytes arrive, the reply belongs to them, can be decoded, and is useless for amplification.

use hickory_proto::op::{Message, MessageType};
use portolan::answer::{AnswerKind, Outcome, Transport};
use portolan::wire::{MAX_UDP_PAYLOAD, MIN_UDP_PAYLOAD, Query};

use crate::fixture::ask_fixture;

const HEADER: usize = 12;

/// Answers a message over UDP and TCP and checks both replies.
pub(crate) fn answer(message: &[u8]) {
    let udp = exchange(message, Transport::Udp);
    let tcp = exchange(message, Transport::Tcp);
    if let (Some(udp), Some(tcp)) = (udp, tcp)
        && !udp.metadata.truncation
    {
        assert_eq!(udp.metadata, tcp.metadata, "what fits is the same over both");
        assert_eq!(udp.answers, tcp.answers);
        assert_eq!(udp.authorities, tcp.authorities);
    }
}

/// The reply to a message, decoded; `None` if it is dropped.
pub(crate) fn exchange(message: &[u8], transport: Transport) -> Option<Message> {
    assert_eq!(Query::read(message), Query::decode(message), "read straight or decoded");
    let [(general, expected), (reply, outcome)] = ask_fixture(message, transport);
    assert_eq!(outcome, expected, "by either path");
    let deserves_none = message.len() < HEADER || message[2] & 0x80 != 0;
    let Outcome::Answered { rcode, kind, truncated } = outcome else {
        assert!(deserves_none, "dropped");
        assert!(reply.is_empty());
        return None;
    };
    assert!(!deserves_none, "a reply to a message that must be dropped");
    belongs_to(&reply, message);
    is_no_longer_than_allowed(reply.len(), kind, message, transport);
    let decoded = decode(reply, message);
    assert_eq!(decoded, decode(general, message), "by either path");
    assert_eq!(decoded.metadata.message_type, MessageType::Response);
    assert_eq!((rcode, truncated), (decoded.metadata.response_code.into(), decoded.metadata.truncation));
    assert!(!truncated || transport == Transport::Udp, "nothing in the fixture is too large for TCP");
    Some(decoded)
}

/// Id, opcode, RD and question are the query's.
fn belongs_to(reply: &[u8], message: &[u8]) {
    const OPCODE_AND_RD: u8 = 0x79;
    assert_eq!(reply[..2], message[..2], "the id");
    assert_eq!(reply[2] & OPCODE_AND_RD, message[2] & OPCODE_AND_RD, "opcode and RD");
    let question = match Query::read(message).and_then(|query| query.question().copied()) {
        Some(question) => question.wire,
        None => &[],
    };
    assert_eq!(reply[4..6], u16::from(!question.is_empty()).to_be_bytes(), "QDCOUNT");
    assert!(reply[HEADER..].starts_with(question), "the question");
    assert!(message[HEADER..].starts_with(question));
}

/// An error is never longer than the query plus its extended error (RFC 8914) and a server cookie, and an answer never
/// longer than the client accepts.
fn is_no_longer_than_allowed(length: usize, kind: AnswerKind, message: &[u8], transport: Transport) {
    if kind == AnswerKind::Refused {
        const REASON: usize = 6;
        const SERVER_COOKIE: usize = 16;
        let has_cookie = Query::read(message).and_then(|query| query.edns?.cookie).is_some();
        let more = REASON + if has_cookie { SERVER_COOKIE } else { 0 };
        assert!(length <= message.len() + more, "an error of {length} bytes for {} bytes", message.len());
    }
    // A query that the independent decoder cannot read may still be answered, within the general bound.
    let payload = match Message::from_vec(message) {
        Ok(query) => query.edns.map_or(0, |edns| edns.max_payload()),
        Err(_) => MAX_UDP_PAYLOAD,
    };
    if transport == Transport::Udp {
        let limit = payload.clamp(MIN_UDP_PAYLOAD, MAX_UDP_PAYLOAD);
        assert!(length <= usize::from(limit), "{length} bytes for a client that takes {limit}");
    }
}

/// Reads a reply with an independent decoder. That one does not support a client subnet of FAMILY 0: the option, the
/// last of the last record, is changed to an unknown one.
fn decode(mut reply: Vec<u8>, message: &[u8]) -> Message {
    const FAMILY_0: &[u8] = &[0, 8, 0, 4, 0, 0, 0, 0];
    const UNKNOWN: [u8; 2] = 65_001_u16.to_be_bytes();
    let subnet = Query::read(message).and_then(|query| query.edns).and_then(|edns| edns.subnet);
    if subnet.is_some_and(|subnet| subnet.family == 0) {
        assert!(reply.ends_with(FAMILY_0), "FAMILY 0 is repeated");
        let option = reply.len() - FAMILY_0.len();
        reply[option..option + UNKNOWN.len()].copy_from_slice(&UNKNOWN);
    }
    Message::from_vec(&reply).unwrap_or_else(|error| panic!("{error} in {reply:02x?}"))
}
