//! RFC 8914: extended errors.

use hickory_proto::op::{Message, OpCode};
use hickory_proto::rr::rdata::opt::{EdnsCode, EdnsOption};
use hickory_proto::rr::{DNSClass, RecordType};
use portolan::answer::Transport;
use portolan::model::AllDown;

use super::{Server, query, with_edns};

/// INFO-CODE and EXTRA-TEXT of the reply to a message.
fn error(message: &Message) -> Option<(u16, String)> {
    let mut server = Server::new(&[("example.", "www A 192.0.2.1\n")]).service(
        "down.example.",
        &["192.0.2.2"],
        AllDown::Servfail,
    );
    server.down = true;
    let reply = server.start().exchange(message, Transport::Udp);
    match reply.edns?.option(EdnsCode::from(15)) {
        Some(EdnsOption::Unknown(_, data)) => {
            let (code, text) = data.split_at(2);
            Some((u16::from_be_bytes([code[0], code[1]]), String::from_utf8(text.to_vec()).unwrap()))
        }
        _ => None,
    }
}

fn code(asked: &str) -> Option<u16> {
    error(&with_edns(query(asked), 1232)).map(|(code, _)| code)
}

#[test]
fn errors_have_a_reason() {
    assert_eq!(code("www.elsewhere.test. A"), Some(20));
    assert_eq!(code("example. AXFR"), Some(18));
    let down = error(&with_edns(query("down.example. A"), 1232));
    assert_eq!(down, Some((0, "no region is up".to_owned())));
    let mut message = with_edns(query("www.example. A"), 1232);
    message.metadata.op_code = OpCode::Notify;
    assert_eq!(error(&message), Some((21, String::new())));
    for class in [DNSClass::CH, DNSClass::HS] {
        let mut message = with_edns(query("www.example. TXT"), 1232);
        message.queries[0].set_query_class(class);
        assert_eq!(error(&message), Some((21, String::new())));
    }
    // RFC 9824 §3.5: NXNAME cannot be queried.
    let mut message = with_edns(query("www.example. A"), 1232);
    message.queries[0].set_query_type(RecordType::Unknown(128));
    assert_eq!(error(&message), Some((30, String::new())));
}

#[test]
fn answers_have_no_reason() {
    for asked in ["www.example. A", "www.example. TXT", "gone.example. A"] {
        assert_eq!(code(asked), None);
    }
    assert_eq!(error(&query("www.elsewhere.test. A")), None);
}
