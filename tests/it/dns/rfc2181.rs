//! RFC 2181 §9 and RFC 9471: truncation.

use std::fmt::Write;

use portolan::answer::Transport;

use super::{Server, query, with_edns};

fn server() -> super::Running {
    let mut text = String::new();
    for number in 0..100 {
        writeln!(text, "many A 192.0.2.{number}").unwrap();
        writeln!(text, "sub NS ns{number}.sub\nns{number}.sub A 198.51.100.{number}").unwrap();
    }
    for number in 0..15 {
        writeln!(text, "mx MX {number} host{number}\nhost{number} AAAA 2001:db8::{number}").unwrap();
    }
    Server::new(&[("example.", &text)]).start()
}

#[test]
fn an_rrset_that_does_not_fit_sets_tc() {
    for (payload, limit) in
        [(None, 512), (Some(512), 512), (Some(100), 512), (Some(4096), 1232), (Some(700), 700)]
    {
        let plain = || query("many.example. A");
        let message = payload.map_or_else(plain, |payload| with_edns(plain(), payload));
        let reply = server().exchange(&message, Transport::Udp);
        assert!(reply.metadata.truncation, "{payload:?}");
        assert!(reply.to_vec().unwrap().len() <= limit, "{payload:?}");
        // Room for OPT is kept.
        assert_eq!(reply.edns.is_some(), payload.is_some());
    }
}

#[test]
fn the_message_never_exceeds_its_limit() {
    let server = server();
    for payload in 512..=1232 {
        let message = with_edns(query("many.example. A"), payload).to_vec().unwrap();
        let reply = server.raw(&message, Transport::Udp).0.unwrap();
        assert!(reply.len() <= usize::from(payload) && reply.len() + 16 > usize::from(payload), "{payload}");
    }
}

#[test]
fn tcp_holds_it_all() {
    let reply = server().exchange(&query("many.example. A"), Transport::Tcp);
    assert!(!reply.metadata.truncation);
    assert_eq!(reply.answers.len(), 100);
}

#[test]
fn additional_records_that_do_not_fit_are_left_out_without_tc() {
    let reply = server().exchange(&query("mx.example. MX"), Transport::Udp);
    assert!(!reply.metadata.truncation);
    assert_eq!(reply.answers.len(), 15);
    assert!((1..15).contains(&reply.additionals.len()), "{}", reply.additionals.len());
}

#[test]
fn rfc9471_glue_that_does_not_fit_sets_tc() {
    let mut text = String::new();
    for number in 0..12 {
        writeln!(text, "sub NS ns{number}.sub\nns{number}.sub A 198.51.100.{number}").unwrap();
        writeln!(text, "ns{number}.sub AAAA 2001:db8::{number}").unwrap();
        writeln!(text, "far NS ns{number}.sub").unwrap();
    }
    let server = Server::new(&[("example.", &text)]).start();
    let reply = server.exchange(&query("x.sub.example. A"), Transport::Udp);
    assert!(reply.metadata.truncation && !reply.metadata.authoritative);
    assert_eq!(reply.authorities.len(), 12);
    // The same servers are not below the other cut, so their addresses may be left out.
    let reply = server.exchange(&query("x.far.example. A"), Transport::Udp);
    assert!(!reply.metadata.truncation);
    assert!((1..24).contains(&reply.additionals.len()));
    let whole = server.exchange(&with_edns(query("x.sub.example. A"), 1232), Transport::Udp);
    assert!(!whole.metadata.truncation);
    assert_eq!(whole.additionals.len(), 24);
}

#[test]
fn a_referral_that_does_not_fit_sets_tc() {
    let reply = server().exchange(&with_edns(query("x.sub.example. A"), 1232), Transport::Udp);
    assert!(reply.metadata.truncation && !reply.metadata.authoritative);
}
