//! RFC 9619: one question.

use portolan::answer::Transport;

use super::{Server, query, text};
use hickory_proto::op::Message;

#[test]
fn section_4_more_than_one_question_is_a_format_error() {
    let server = Server::new(&[("example.", "")]).start();
    let mut message = query("example. SOA");
    message.add_query(message.queries[0].clone());
    server.check_message(&message, "FORMERR");
}

#[test]
fn section_4_the_count_alone_decides() {
    let server = Server::new(&[("example.", "")]).start();
    let mut bytes = query("example. SOA").to_vec().unwrap();
    for count in [[0, 0], [0, 2], [255, 255]] {
        bytes[4..6].copy_from_slice(&count);
        let reply = server.raw(&bytes, Transport::Udp).0.unwrap();
        assert_eq!(reply.len(), 12);
        assert_eq!(text(&Message::from_vec(&reply).unwrap()), "FORMERR\n");
    }
}
