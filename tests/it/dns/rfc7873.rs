//! RFC 7873 and RFC 9018: DNS cookies.

use std::sync::Arc;

use hickory_proto::op::Message;
use hickory_proto::rr::rdata::opt::{EdnsCode, EdnsOption};
use portolan::answer::Transport;
use portolan::wire::cookie::{Secret, Secrets};

use super::{Running, Server, query, text, with_edns};

const COOKIE: u16 = 10;
const CLIENT: &[u8; 8] = b"client-1";

/// One of each lane: a static address, a denial, an alias, ANY, an error.
const ASKED: [&str; 6] = [
    "www.example. A",
    "gone.example. A",
    "www.example. MX",
    "alias.example. A",
    "www.example. ANY",
    "elsewhere.test. A",
];

fn server() -> Running {
    let mut running = Server::new(&[("example.", "www A 192.0.2.1\nalias CNAME www\n")]).start();
    let cookies = Some(Secrets { current: Secret([7; 16]), other: None });
    Arc::get_mut(&mut running.0.plan).expect("no other reference").cookies = cookies;
    running
}

/// Adds a COOKIE option to a query.
fn with_cookie(asked: &str, data: &[u8]) -> Message {
    let mut message = with_edns(query(asked), 1232);
    let options = message.edns.as_mut().expect("just added").options_mut();
    options.insert(EdnsOption::Unknown(COOKIE, data.to_vec()));
    message
}

/// The data of a reply's COOKIE option.
fn cookie(reply: &Message) -> Option<Vec<u8>> {
    match reply.edns.as_ref()?.option(EdnsCode::from(COOKIE))? {
        EdnsOption::Unknown(COOKIE, data) => Some(data.clone()),
        other => panic!("{other:?}"),
    }
}

/// What a server grants to a client cookie.
fn granted(server: &Running) -> Vec<u8> {
    cookie(&server.exchange(&with_cookie("www.example. A", CLIENT), Transport::Udp)).expect("a cookie")
}

#[test]
fn section_5_2_1_clients_without_cookies_get_none() {
    for asked in ASKED {
        for message in [query(asked), with_edns(query(asked), 1232)] {
            assert_eq!(cookie(&server().exchange(&message, Transport::Udp)), None, "{asked}");
        }
    }
}

#[test]
fn section_5_2_3_and_4_the_answer_is_the_same_with_a_cookie() {
    let server = server();
    let valid = granted(&server);
    let (mut forged, mut foreign) = (valid.clone(), valid.clone());
    forged[23] ^= 1;
    foreign.extend([0; 16]);
    for transport in [Transport::Udp, Transport::Tcp] {
        for asked in ASKED {
            let plain = server.exchange(&with_edns(query(asked), 1232), transport);
            for presented in [&CLIENT[..], &valid, &forged, &foreign] {
                let reply = server.exchange(&with_cookie(asked, presented), transport);
                assert_eq!(text(&reply), text(&plain), "{asked}");
                assert_eq!(cookie(&reply), Some(valid.clone()), "{asked} with {presented:02x?}");
            }
        }
    }
}

#[test]
fn rfc_9018_section_4_a_server_cookie_is_16_bytes_of_version_1() {
    let granted = granted(&server());
    assert_eq!(granted.len(), 24);
    assert_eq!(&granted[..12], b"client-1\x01\0\0\0");
    assert_eq!(granted[12..16], 1_700_000_000_u32.to_be_bytes());
}

#[test]
fn section_5_2_2_malformed_cookies_are_a_format_error() {
    for length in [0, 1, 7, 9, 15, 41, 100] {
        let message = with_cookie("www.example. A", &vec![1; length]);
        server().check_message(&message, "FORMERR\nedns 1232");
    }
}

#[test]
fn section_5_4_a_cookie_may_be_asked_for_without_a_question() {
    let server = server();
    let valid = granted(&server);
    let ask = |data: &[u8]| {
        let mut message = with_cookie("www.example. A", data);
        message.queries.clear();
        server.exchange(&message, Transport::Udp)
    };
    for (presented, rcode) in [(&CLIENT[..], "NOERROR"), (&valid, "NOERROR"), (&[1; 24], "BADCOOKIE")] {
        let reply = ask(presented);
        assert_eq!(text(&reply), format!("{rcode}\nedns 1232\n"));
        assert_eq!(reply.queries, []);
        let granted = cookie(&reply).expect("a cookie");
        assert_eq!((&granted[..8], granted.len()), (&presented[..8], 24));
    }
    assert_eq!(cookie(&ask(CLIENT)), Some(valid));
}

#[test]
fn section_5_4_other_messages_without_a_question_are_a_format_error() {
    let mut message = with_edns(query("www.example. A"), 1232);
    message.queries.clear();
    server().check_message(&message, "FORMERR\nedns 1232");
    message.edns = None;
    server().check_message(&message, "FORMERR");
    // A question that only the count denies is not skipped.
    let mut bytes = with_cookie("www.example. A", CLIENT).to_vec().unwrap();
    bytes[5] = 0;
    let reply = server().raw(&bytes, Transport::Udp).0.unwrap();
    assert_eq!(text(&Message::from_vec(&reply).unwrap()), "FORMERR\n");
}

#[test]
fn servers_without_secrets_ignore_cookies() {
    let mut server = server();
    Arc::get_mut(&mut server.0.plan).expect("no other reference").cookies = None;
    for asked in ASKED {
        let reply = server.exchange(&with_cookie(asked, CLIENT), Transport::Udp);
        assert_eq!(cookie(&reply), None, "{asked}");
        assert_eq!(text(&reply), text(&server.exchange(&with_edns(query(asked), 1232), Transport::Udp)));
    }
    let mut message = with_cookie("www.example. A", CLIENT);
    message.queries.clear();
    server.check_message(&message, "FORMERR\nedns 1232");
}
