//! RFC 2181 §9 and RFC 9471: truncation.

use std::fmt::Write;

use portolan::answer::Transport;
use portolan::model::AllDown;

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
fn section_9_an_rrset_is_written_whole_or_not_at_all() {
    let mut text = String::from("to CNAME some\n");
    for number in 0..40 {
        writeln!(text, "some A 192.0.2.{number}").unwrap();
    }
    let server = Server::new(&[("example.", &text)])
        .service("dynamic.example.", &["192.0.2.1"; 40].map(|it| it), AllDown::All)
        .start();
    let (header_and_question, edns, record) = (12 + 18, 11, 16);
    let whole = header_and_question + 40 * record + edns;
    for payload in 512..=1232 {
        let reply = server.exchange(&with_edns(query("some.example. A"), payload), Transport::Udp);
        let fits = usize::from(payload) >= whole;
        assert_eq!((reply.metadata.truncation, reply.answers.len()), (!fits, if fits { 40 } else { 0 }));
        assert!(reply.to_vec().unwrap().len() <= usize::from(payload));
    }
    // What came before it stays.
    let reply = server.exchange(&query("to.example. A"), Transport::Udp);
    assert!(reply.metadata.truncation);
    assert_eq!(reply.answers.len(), 1);
    let reply = server.exchange(&query("dynamic.example. A"), Transport::Udp);
    assert_eq!((reply.metadata.truncation, reply.answers.len()), (true, 0));
}

#[test]
fn every_answer_fits_over_tcp() {
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
fn rfc9471_a_referral_has_all_its_glue() {
    let mut text = String::new();
    for number in 0..40 {
        writeln!(text, "sub NS ns{number}.sub\nns{number}.sub A 198.51.100.{number}").unwrap();
    }
    let server = Server::new(&[("example.", &text)]).start();
    let reply = server.exchange(&query("x.sub.example. A"), Transport::Tcp);
    assert_eq!((reply.authorities.len(), reply.additionals.len()), (40, 40));
    let cut = server.exchange(&with_edns(query("x.sub.example. A"), 1232), Transport::Udp);
    assert!(cut.metadata.truncation);
}

#[test]
fn a_referral_that_does_not_fit_sets_tc() {
    let reply = server().exchange(&with_edns(query("x.sub.example. A"), 1232), Transport::Udp);
    assert!(reply.metadata.truncation && !reply.metadata.authoritative);
}
