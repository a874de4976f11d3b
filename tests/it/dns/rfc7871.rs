//! RFC 7871: client subnet.

use hickory_proto::op::Message;
use hickory_proto::rr::rdata::opt::EdnsOption;
use portolan::answer::Transport;
use portolan::model::AllDown;

use super::{Server, query, text, with_edns, with_subnet};

fn build(ecs: bool) -> super::Running {
    let mut server = Server::new(&[("example.", "static A 192.0.2.1\nalias CNAME www\n")]).service(
        "www.example.",
        &["192.0.2.80", "192.0.2.81"],
        AllDown::All,
    );
    server.ecs = ecs;
    server.start()
}

/// A query with these bytes as its client subnet option.
fn with_bytes(option: &[u8]) -> Message {
    let mut message = with_edns(query("static.example. A"), 1232);
    message.edns.as_mut().unwrap().options_mut().insert(EdnsOption::Unknown(8, option.to_vec()));
    message
}

const STATIC: &str = "AN static.example. 300 A 192.0.2.1";

#[test]
fn section_7_2_1_the_option_is_repeated_and_static_data_has_scope_0() {
    let server = build(true);
    server.check_message(
        &with_subnet(query("static.example. A"), "203.0.113.0", 24),
        &format!("NOERROR aa\nedns 1232 203.0.113.0/24/0\n{STATIC}"),
    );
    server.check_message(
        &with_subnet(query("static.example. A"), "2001:db8:12::", 47),
        &format!("NOERROR aa\nedns 1232 2001:db8:12::/47/0\n{STATIC}"),
    );
}

#[test]
fn section_7_1_2_a_source_of_0_is_repeated_with_scope_0() {
    build(true).check_message(
        &with_subnet(query("static.example. A"), "0.0.0.0", 0),
        &format!("NOERROR aa\nedns 1232 0.0.0.0/0/0\n{STATIC}"),
    );
    // FAMILY 0 means the same without naming a family.
    let (reply, _) = build(true).raw(&with_bytes(&[0, 0, 0, 0]).to_vec().unwrap(), Transport::Udp);
    assert!(reply.unwrap().ends_with(&[0, 8, 0, 8, 0, 4, 0, 0, 0, 0]));
}

#[test]
fn section_7_2_2_without_the_option_there_is_none() {
    build(true).check_message(
        &with_edns(query("static.example. A"), 1232),
        &format!("NOERROR aa\nedns 1232\n{STATIC}"),
    );
}

#[test]
fn a_server_without_ecs_ignores_the_option() {
    build(false).check_message(
        &with_subnet(query("static.example. A"), "203.0.113.0", 24),
        &format!("NOERROR aa\nedns 1232\n{STATIC}"),
    );
}

#[test]
fn section_7_1_2_a_malformed_option_is_a_format_error_and_not_repeated() {
    let malformed: &[&[u8]] = &[
        &[],
        &[0, 1, 24],
        &[0, 1, 24, 0, 203, 0],
        &[0, 1, 24, 0, 203, 0, 113, 0],
        &[0, 1, 23, 0, 203, 0, 113],
        &[0, 1, 33, 0, 203, 0, 113, 0, 0],
        &[0, 1, 24, 24, 203, 0, 113],
        &[0, 2, 129, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0],
        &[0, 0, 8, 0, 203],
        &[0, 0, 0, 0, 203],
        &[0, 3, 0, 0],
    ];
    for option in malformed {
        let (reply, _) = build(true).raw(&with_bytes(option).to_vec().unwrap(), Transport::Udp);
        let reply = Message::from_vec(&reply.unwrap()).unwrap();
        assert_eq!(text(&reply), "FORMERR\nedns 1232\n", "{option:?}");
    }
}

#[test]
fn one_query_has_one_client() {
    let mut bytes = with_bytes(&[0, 1, 8, 0, 203]).to_vec().unwrap();
    let length = bytes.len();
    // Repeats the option: the OPT record, whose length precedes its 9 bytes of data, gets 9 more.
    bytes.extend_from_within(length - 9..);
    bytes[length - 10] += 9;
    let reply = build(true).raw(&bytes, Transport::Udp).0.unwrap();
    assert_eq!(text(&Message::from_vec(&reply).unwrap()), "FORMERR\nedns 1232\n");
}

/// Two regions share the clients of a service.
fn shared() -> super::Running {
    Server::new(&[("example.", "alias CNAME www\n")])
        .shared(
            "www.example.",
            &[&["192.0.2.80", "2001:db8::80"], &["192.0.2.81", "2001:db8::81"]],
            AllDown::All,
        )
        .start()
}

#[test]
fn section_7_2_1_a_dynamic_answer_holds_for_the_prefix_it_was_chosen_for() {
    for (asked, subnet, source, edns) in [
        ("www.example. A", "203.0.113.0", 24, "edns 1232 203.0.113.0/24/24"),
        ("alias.example. A", "203.0.113.0", 24, "edns 1232 203.0.113.0/24/24"),
        ("www.example. A", "203.0.113.7", 32, "edns 1232 203.0.113.7/32/24"),
        ("www.example. AAAA", "203.0.0.0", 16, "edns 1232 203.0.0.0/16/24"),
        ("www.example. A", "2001:db8:12:3400::", 56, "edns 1232 2001:db8:12:3400::/56/56"),
        ("www.example. A", "0.0.0.0", 0, "edns 1232 0.0.0.0/0/0"),
        ("www.example. TXT", "203.0.113.0", 24, "edns 1232 203.0.113.0/24/0"),
    ] {
        let reply = shared().exchange(&with_subnet(query(asked), subnet, source), Transport::Udp);
        assert_eq!(text(&reply).lines().nth(1), Some(edns), "{asked}");
    }
}

#[test]
fn an_ipv4_client_named_as_ipv6_is_served_as_ipv4() {
    let of = |subnet, source| {
        text(&shared().exchange(&with_subnet(query("www.example. A"), subnet, source), Transport::Udp))
    };
    for (mapped, plain) in [("::ffff:203.0.113.0", "203.0.113.0"), ("::ffff:203.0.7.0", "203.0.7.0")] {
        let (mapped, plain) = (of(mapped, 120), of(plain, 24));
        assert_eq!(mapped.lines().last(), plain.lines().last());
        let scope = |text: &str| text.lines().nth(1).and_then(|edns| edns.rsplit('/').next()?.parse().ok());
        assert_eq!((scope(&mapped), scope(&plain)), (Some(120), Some(24)));
    }
}

#[test]
fn section_7_2_1_the_client_named_is_the_client_served() {
    let server = shared();
    let answer = |message: &Message| {
        server
            .exchange(message, Transport::Udp)
            .answers
            .iter()
            .map(|answer| answer.data.to_string())
            .collect()
    };
    let answers: Vec<Vec<String>> = (0..64)
        .map(|third| answer(&with_subnet(query("www.example. A"), &format!("203.0.{third}.0"), 24)))
        .collect();
    let first = answers.iter().filter(|answer| **answer == ["192.0.2.80"]).count();
    let second = answers.iter().filter(|answer| **answer == ["192.0.2.81"]).count();
    assert!(first + second == 64 && first > 10 && second > 10, "{first} and {second} clients");
    // A query that reveals no address is served for the resolver that sends it, 198.51.100.7.
    let of_resolver: Vec<String> = answer(&query("www.example. A"));
    assert_eq!(answer(&with_subnet(query("www.example. A"), "0.0.0.0", 0)), of_resolver);
    assert_eq!(answer(&with_subnet(query("www.example. A"), "198.51.100.0", 24)), of_resolver);
}
