//! RFC 6891: EDNS(0).

use hickory_proto::op::{Edns, Message, OpCode};
use hickory_proto::rr::Record;
use portolan::answer::Transport;

use super::{Server, query, text, with_edns};

fn server() -> super::Running {
    Server::new(&[("example.", "www A 192.0.2.1\n")]).start()
}

const ANSWER: &str = "AN www.example. 300 A 192.0.2.1";

#[test]
fn section_6_1_1_a_reply_has_opt_only_if_the_query_has() {
    server().check("www.example. A", &format!("NOERROR aa\n{ANSWER}"));
    server().check_message(
        &with_edns(query("www.example. A"), 4096),
        &format!("NOERROR aa\nedns 1232\n{ANSWER}"),
    );
    server().check_message(&with_edns(query("elsewhere.test. A"), 4096), "REFUSED\nedns 1232");
}

#[test]
fn section_6_1_4_do_is_copied() {
    let mut message = with_edns(query("www.example. A"), 1232);
    message.edns.as_mut().unwrap().set_dnssec_ok(true);
    server().check_message(&message, &format!("NOERROR aa\nedns 1232 do\n{ANSWER}"));
}

#[test]
fn section_6_1_1_two_opts_are_a_format_error() {
    let mut message = with_edns(query("www.example. A"), 1232);
    message.add_additional(Record::from(&Edns::new()));
    server().check_message(&message, "FORMERR\nedns 1232");
}

#[test]
fn section_6_1_1_opt_belongs_to_the_additional_section() {
    let mut message = query("www.example. A");
    message.add_answer(Record::from(&Edns::new()));
    server().check_message(&message, "FORMERR");
}

#[test]
fn section_6_1_3_other_versions_are_badvers() {
    let mut message = with_edns(query("www.example. A"), 1232);
    message.edns.as_mut().unwrap().set_version(1);
    let reply = server().exchange(&message, Transport::Udp);
    assert_eq!(text(&reply), "BADVERS\nedns 1232\n");
    assert_eq!(reply.version(), 0);
}

#[test]
fn section_6_1_3_badvers_comes_before_other_faults() {
    let mut message = with_edns(query("www.example. A"), 1232);
    message.edns.as_mut().unwrap().set_version(1);
    message.metadata.op_code = OpCode::Unknown(15);
    server().check_message(&message, "BADVERS\nedns 1232");
    message.metadata.op_code = OpCode::Query;
    message.queries.clear();
    server().check_message(&message, "BADVERS\nedns 1232");
}

#[test]
fn section_6_1_2_unknown_options_are_ignored() {
    use hickory_proto::rr::rdata::opt::EdnsOption;
    let mut message = with_edns(query("www.example. A"), 1232);
    message.edns.as_mut().unwrap().options_mut().insert(EdnsOption::Unknown(65001, vec![1, 2, 3]));
    server().check_message(&message, &format!("NOERROR aa\nedns 1232\n{ANSWER}"));
}

#[test]
fn options_longer_than_their_record_are_a_format_error() {
    let mut bytes = with_edns(query("www.example. A"), 1232).to_vec().unwrap();
    let length = bytes.len();
    // One option of 9 bytes in an OPT of 4.
    bytes[length - 1] = 4;
    bytes.extend([0, 10, 0, 9]);
    let reply = server().raw(&bytes, Transport::Udp).0.unwrap();
    assert_eq!(text(&Message::from_vec(&reply).unwrap()), "FORMERR\nedns 1232\n");
}

#[test]
fn section_7_errors_have_opt_as_well() {
    let mut message = with_edns(query("www.example. A"), 1232);
    for opcode in [OpCode::Status, OpCode::Notify, OpCode::Update, OpCode::Unknown(9)] {
        message.metadata.op_code = opcode;
        server().check_message(&message, "NOTIMP\nedns 1232");
    }
    message.metadata.op_code = OpCode::Query;
    message.add_query(message.queries[0].clone());
    server().check_message(&message, "FORMERR\nedns 1232");
    message.queries.clear();
    server().check_message(&message, "FORMERR\nedns 1232");
}

#[test]
fn bytes_after_the_message_are_ignored() {
    let mut bytes = with_edns(query("www.example. A"), 1232).to_vec().unwrap();
    bytes.extend(b"garbage");
    let reply = server().raw(&bytes, Transport::Udp).0.unwrap();
    assert_eq!(text(&Message::from_vec(&reply).unwrap()), format!("NOERROR aa\nedns 1232\n{ANSWER}\n"));
}
