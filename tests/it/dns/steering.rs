//! Dynamic names on the wire.

use portolan::answer::{AnswerKind, Outcome, Transport};
use portolan::model::{AllDown, RegionId, ServiceId};

use super::{Server, query};

fn server(all_down: AllDown, down: bool) -> super::Running {
    let mut server = Server::new(&[("example.", "@ TXT beside\nalias CNAME www\n")])
        .service("www.example.", &["192.0.2.80", "2001:db8::80"], all_down.clone())
        .service("example.", &["192.0.2.90"], all_down);
    server.down = down;
    server.start()
}

#[test]
fn answers_are_the_addresses_of_the_region() {
    let server = server(AllDown::All, false);
    server.check("www.example. A", "NOERROR aa\nAN www.example. 30 A 192.0.2.80");
    server.check("www.example. AAAA", "NOERROR aa\nAN www.example. 30 AAAA 2001:db8::80");
    let (_, outcome) = server.raw(&query("www.example. A").to_vec().unwrap(), Transport::Udp);
    let kind = AnswerKind::Dynamic { service: ServiceId(0), region: Some(RegionId(0)) };
    assert_eq!(outcome, Outcome::Answered { rcode: 0, kind, truncated: false });
}

#[test]
fn a_service_at_the_apex_coexists_with_the_zones_own_records() {
    let server = server(AllDown::All, false);
    server.check("example. A", "NOERROR aa\nAN example. 30 A 192.0.2.90");
    server.check("example. TXT", "NOERROR aa\nAN example. 300 TXT beside");
    server
        .check("example. NS", "NOERROR aa\nAN example. 300 NS ns.example.\nAR ns.example. 300 A 192.0.2.53");
}

#[test]
fn servfail_removes_records_already_written() {
    server(AllDown::Servfail, true).check("www.example. A", "SERVFAIL");
    server(AllDown::Servfail, true).check("alias.example. A", "SERVFAIL");
}

#[test]
fn the_fallback_is_answered_when_all_regions_are_down() {
    let fallback = AllDown::Fallback(vec!["203.0.113.9".parse().unwrap()]);
    server(fallback, true).check("www.example. A", "NOERROR aa\nAN www.example. 30 A 203.0.113.9");
}
