//! RFC 1035: messages. Header, case, compression.

use hickory_proto::op::{Message, OpCode};
use hickory_proto::rr::DNSClass;
use portolan::answer::{Outcome, Transport};

use super::{Server, query, text};

fn server() -> super::Running {
    Server::new(&[("example.", "www A 192.0.2.1\nmx MX 1 www\n")]).start()
}

#[test]
fn section_4_1_1_rd_is_copied_and_recursion_is_not_offered() {
    let mut message = query("www.example. A");
    message.metadata.recursion_desired = true;
    message.metadata.checking_disabled = true;
    message.metadata.authentic_data = true;
    server().check_message(&message, "NOERROR aa rd\nAN www.example. 300 A 192.0.2.1");
}

#[test]
fn section_4_1_1_other_opcodes_are_not_implemented() {
    for opcode in [OpCode::Status, OpCode::Notify, OpCode::Update, OpCode::Unknown(9)] {
        let mut message = query("www.example. A");
        message.metadata.op_code = opcode;
        let reply = server().exchange(&message, Transport::Udp);
        assert_eq!(text(&reply), "NOTIMP\n");
        assert_eq!(reply.metadata.op_code, opcode);
    }
}

#[test]
fn section_3_2_4_other_classes_are_refused() {
    for class in [DNSClass::CH, DNSClass::HS, DNSClass::NONE] {
        let mut message = query("www.example. TXT");
        message.queries[0].set_query_class(class);
        server().check_message(&message, "REFUSED");
    }
}

/// Records are of class IN, and such an answer is not authoritative.
#[test]
fn section_6_2_any_class_is_answered_from_the_only_one() {
    let check = |asked: &str, expected: &str| {
        let mut message = query(asked);
        message.queries[0].set_query_class(DNSClass::ANY);
        server().check_message(&message, expected);
        let reply = server().exchange(&message, Transport::Udp);
        let records = reply.answers.iter().chain(&reply.authorities);
        assert!(records.map(|record| record.dns_class).all(|class| class == DNSClass::IN), "{asked}");
    };
    let soa = "NS example. 60 SOA ns.example. h.example. 7 3600 600 86400 60";
    check("www.example. A", "NOERROR\nAN www.example. 300 A 192.0.2.1");
    check("www.example. TXT", &format!("NOERROR\n{soa}"));
    check("gone.example. A", &format!("NXDOMAIN\n{soa}"));
    check("www.example. ANY", "NOERROR\nAN www.example. 3600 HINFO RFC8482");
    for refused in ["example. AXFR", "elsewhere.test. A", "version.bind. TXT"] {
        check(refused, "REFUSED");
    }
}

#[test]
fn transfers_are_refused() {
    server().check("example. AXFR", "REFUSED");
    server().check("example. IXFR", "REFUSED");
}

#[test]
fn replies_and_fragments_of_headers_get_no_reply() {
    let server = server();
    let bytes = query("www.example. A").to_vec().unwrap();
    for length in 0..12 {
        assert_eq!(server.raw(&bytes[..length], Transport::Udp).1, Outcome::Dropped);
    }
    let reply = server.raw(&bytes, Transport::Udp).0.unwrap();
    assert_eq!(server.raw(&reply, Transport::Udp).1, Outcome::Dropped);
}

#[test]
fn truncated_queries_are_a_format_error() {
    let server = server();
    let bytes = super::with_edns(query("www.example. A"), 1232).to_vec().unwrap();
    for length in 12..bytes.len() {
        let reply = server.raw(&bytes[..length], Transport::Udp).0.unwrap();
        let reply = Message::from_vec(&reply).unwrap();
        assert_eq!(text(&reply), "FORMERR\n", "{length} bytes");
    }
}

#[test]
fn section_2_3_3_case_is_ignored_and_kept() {
    server().check("wWw.ExAmPlE. A", "NOERROR aa\nAN wWw.ExAmPlE. 300 A 192.0.2.1");
    let reply = server().exchange(&query("wWw.ExAmPlE. A"), Transport::Udp);
    assert_eq!(reply.queries[0].name().to_string(), "wWw.ExAmPlE.");
}

#[test]
fn section_4_1_4_names_are_compressed() {
    let message = query("mx.example. MX");
    let (reply, _) = server().raw(&message.to_vec().unwrap(), Transport::Udp);
    let reply = reply.unwrap();
    // Header, question, then owner (pointer), type, class, TTL, length, preference, "www" and a pointer;
    // then the address of www by a pointer to it.
    assert_eq!(reply.len(), 12 + (12 + 4) + (2 + 10 + 2 + 4 + 2) + (2 + 10 + 4));
    assert_eq!(
        text(&Message::from_vec(&reply).unwrap()),
        "NOERROR aa\nAN mx.example. 300 MX 1 www.example.\nAR www.example. 300 A 192.0.2.1\n"
    );
}

#[test]
fn a_compressed_question_is_a_format_error() {
    // The name is a pointer to the header's id, which reads as a root label.
    let message = [0, 0, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0xc0, 0, 0, 1, 0, 1];
    let reply = server().raw(&message, Transport::Udp).0.unwrap();
    assert_eq!(text(&Message::from_vec(&reply).unwrap()), "FORMERR\n");
}

#[test]
fn section_2_3_4_names_have_at_most_255_octets() {
    let message = |labels: &[usize]| {
        let mut bytes = vec![0, 9, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0];
        for length in labels {
            bytes.push(*length as u8);
            bytes.extend(std::iter::repeat_n(b'a', *length));
        }
        bytes.extend(b"\x07example\x00\x00\x01\x00\x01");
        bytes
    };
    for (labels, expected) in [
        (
            &[63, 63, 63, 53][..],
            "NXDOMAIN aa\nNS example. 60 SOA ns.example. h.example. 7 3600 600 86400 60\n",
        ),
        (&[63, 63, 63, 54], "FORMERR\n"),
        (&[64], "FORMERR\n"),
    ] {
        let reply = server().raw(&message(labels), Transport::Udp).0.unwrap();
        assert_eq!(text(&Message::from_vec(&reply).unwrap()), expected, "{labels:?}");
    }
}

#[test]
fn names_of_many_labels_are_answered_within_the_limit() {
    let asked = format!("{}example. A", "a.".repeat(119));
    server().check(&asked, "NXDOMAIN aa\nNS example. 60 SOA ns.example. h.example. 7 3600 600 86400 60");
}
