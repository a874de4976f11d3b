//! RFC 4892 and RFC 5001: which server this is.

use std::sync::Arc;

use hickory_proto::op::Message;
use hickory_proto::rr::DNSClass;
use hickory_proto::rr::rdata::opt::{EdnsCode, EdnsOption};
use portolan::answer::Transport;
use portolan::model::{Identity, MAX_IDENTITY};

use super::{Running, Server, query, text, with_edns};

fn server(identity: Identity) -> Running {
    let mut running = Server::new(&[("example.", "www A 192.0.2.1\n")]).start();
    Arc::get_mut(&mut running.0.plan).expect("no other reference").identity = identity;
    running
}

fn named() -> Running {
    let text = |text: &str| Some(text.to_owned());
    server(Identity { version: text("9"), hostname: text("ns1"), nsid: text("ns1.ams") })
}

fn chaos(asked: &str) -> Message {
    let mut message = query(asked);
    message.queries[0].set_query_class(DNSClass::CH);
    message
}

#[test]
fn chaos_txt_has_version_and_host_name() {
    for (asked, identity) in [
        ("version.bind. TXT", "9"),
        ("version.server. TXT", "9"),
        ("hostname.bind. TXT", "ns1"),
        ("ID.server. TXT", "ns1"),
        ("id.server. ANY", "ns1"),
    ] {
        let name = asked.split(' ').next().unwrap();
        let reply = named().exchange(&chaos(asked), Transport::Udp);
        assert_eq!(text(&reply), format!("NOERROR aa\nAN {name} 0 TXT {identity}\n"));
        assert_eq!(reply.answers[0].dns_class, DNSClass::CH);
    }
}

#[test]
fn other_chaos_questions_are_refused() {
    for asked in ["version.bind. A", "authors.bind. TXT", "bind. TXT", "www.example. A"] {
        named().check_message(&chaos(asked), "REFUSED");
    }
    named().check("version.bind. TXT", "REFUSED");
}

#[test]
fn what_is_not_configured_is_refused() {
    for asked in ["version.bind. TXT", "hostname.bind. TXT", "id.server. TXT"] {
        server(Identity::default()).check_message(&chaos(asked), "REFUSED");
    }
}

/// The option's data in the reply to a query, which may or may not ask for it.
fn nsid(server: &Running, asked: &str, wants: bool) -> Option<Vec<u8>> {
    let mut message = with_edns(query(asked), 512);
    if wants {
        message.edns.as_mut().unwrap().options_mut().insert(EdnsOption::Unknown(3, Vec::new()));
    }
    let reply = server.exchange(&message, Transport::Udp);
    assert!(reply.to_vec().unwrap().len() <= 512);
    match reply.edns.expect("OPT").option(EdnsCode::NSID) {
        Some(EdnsOption::NSID(id)) => Some(id.as_ref().to_vec()),
        _ => None,
    }
}

#[test]
fn rfc5001_section_2_clients_that_ask_get_the_identifier() {
    let server = named();
    for asked in ["www.example. A", "gone.example. A", "elsewhere.test. A"] {
        assert_eq!(nsid(&server, asked, true).as_deref(), Some(&b"ns1.ams"[..]));
        assert_eq!(nsid(&server, asked, false), None);
    }
    assert_eq!(nsid(&self::server(Identity::default()), "www.example. A", true), None);
}

#[test]
fn the_longest_identity_fits_beside_the_longest_question() {
    let text = Some("x".repeat(MAX_IDENTITY));
    let server = server(Identity { version: text.clone(), hostname: text.clone(), nsid: text });
    let long = format!("{0}.{0}.{0}.{1}.example. A", "a".repeat(63), "b".repeat(53));
    assert_eq!(nsid(&server, &long, true).map(|id| id.len()), Some(MAX_IDENTITY));
    let reply = server.exchange(&chaos("version.bind. TXT"), Transport::Udp);
    assert_eq!(reply.answers.len(), 1);
}
