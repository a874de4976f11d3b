//! RFC 1034: concepts. The algorithm of §4.3.2, aliases and referrals.

use super::Server;
use portolan::model::AllDown;

fn server() -> super::Running {
    let example = "
a A 192.0.2.1
a A 192.0.2.2
t TXT \"text\"
alias CNAME a
far CNAME www.elsewhere.test.
away CNAME x.sub
cross CNAME a.example.org.
gone CNAME none
loop1 CNAME loop2
loop2 CNAME loop1
*.round CNAME x.round
l1 CNAME l2
l2 CNAME l3
l3 CNAME l4
l4 CNAME l5
l5 CNAME l6
l6 CNAME l7
l7 CNAME l8
l8 CNAME l9
l9 CNAME a
shop CNAME www
m MX 10 a
m MX 20 mail.example.org.
s SRV 1 2 443 a
sub NS ns.sub
sub NS ns.other
sub NS ns.elsewhere.test.
ns.sub A 192.0.2.61
ns.sub AAAA 2001:db8::61
ns.other A 192.0.2.62
self NS self
self A 192.0.2.63
";
    Server::new(&[("example.", example), ("example.org.", "a A 192.0.2.9\nmail A 192.0.2.25\n")])
        .service("www.example.", &["192.0.2.80"], AllDown::All)
        .start()
}

#[test]
fn section_4_3_2_exact_match() {
    let server = server();
    server.check(
        "a.example. A",
        "NOERROR aa
         AN a.example. 300 A 192.0.2.1
         AN a.example. 300 A 192.0.2.2",
    );
    server.check("t.example. TXT", "NOERROR aa\nAN t.example. 300 TXT text");
    server.check(
        "example. SOA",
        "NOERROR aa
         AN example. 600 SOA ns.example. h.example. 7 3600 600 86400 60",
    );
    server.check(
        "example. NS",
        "NOERROR aa
         AN example. 300 NS ns.example.
         AR ns.example. 300 A 192.0.2.53",
    );
}

#[test]
fn section_4_3_2_step_2_names_in_no_zone_are_refused() {
    server().check("www.elsewhere.test. A", "REFUSED");
    server().check(". NS", "REFUSED");
}

#[test]
fn section_3_6_2_aliases_are_followed_within_the_zones_served() {
    let server = server();
    server.check(
        "alias.example. A",
        "NOERROR aa
         AN alias.example. 300 CNAME a.example.
         AN a.example. 300 A 192.0.2.1
         AN a.example. 300 A 192.0.2.2",
    );
    server.check("alias.example. CNAME", "NOERROR aa\nAN alias.example. 300 CNAME a.example.");
    server.check(
        "cross.example. A",
        "NOERROR aa
         AN cross.example. 300 CNAME a.example.org.
         AN a.example.org. 300 A 192.0.2.9",
    );
    server.check("far.example. A", "NOERROR aa\nAN far.example. 300 CNAME www.elsewhere.test.");
    // Into a delegation: the referral follows the alias, and AA refers to the alias's owner (RFC 1035 §4.1.1).
    server.check(
        "away.example. A",
        "NOERROR aa
         AN away.example. 300 CNAME x.sub.example.
         NS sub.example. 300 NS ns.sub.example.
         NS sub.example. 300 NS ns.other.example.
         NS sub.example. 300 NS ns.elsewhere.test.
         AR ns.sub.example. 300 A 192.0.2.61
         AR ns.sub.example. 300 AAAA 2001:db8::61
         AR ns.other.example. 300 A 192.0.2.62",
    );
    server.check(
        "shop.example. A",
        "NOERROR aa
         AN shop.example. 300 CNAME www.example.
         AN www.example. 30 A 192.0.2.80",
    );
}

#[test]
fn section_3_6_2_loops_and_long_chains_end() {
    let server = server();
    server.check(
        "loop1.example. A",
        "NOERROR aa
         AN loop1.example. 300 CNAME loop2.example.
         AN loop2.example. 300 CNAME loop1.example.",
    );
    server.check(
        "q.round.example. A",
        "NOERROR aa
         AN q.round.example. 300 CNAME x.round.example.
         AN x.round.example. 300 CNAME x.round.example.",
    );
    server.check(
        "x.round.example. A",
        "NOERROR aa
         AN x.round.example. 300 CNAME x.round.example.",
    );
    server.check(
        "l1.example. A",
        "NOERROR aa
         AN l1.example. 300 CNAME l2.example.
         AN l2.example. 300 CNAME l3.example.
         AN l3.example. 300 CNAME l4.example.
         AN l4.example. 300 CNAME l5.example.
         AN l5.example. 300 CNAME l6.example.
         AN l6.example. 300 CNAME l7.example.
         AN l7.example. 300 CNAME l8.example.
         AN l8.example. 300 CNAME l9.example.",
    );
}

#[test]
fn section_4_3_2_step_3b_referrals_with_glue_and_without_aa() {
    let referral = "NOERROR
         NS sub.example. 300 NS ns.sub.example.
         NS sub.example. 300 NS ns.other.example.
         NS sub.example. 300 NS ns.elsewhere.test.
         AR ns.sub.example. 300 A 192.0.2.61
         AR ns.sub.example. 300 AAAA 2001:db8::61
         AR ns.other.example. 300 A 192.0.2.62";
    for asked in ["sub.example. A", "sub.example. NS", "x.sub.example. TXT", "ns.sub.example. A"] {
        server().check(asked, referral);
    }
    server().check(
        "self.example. A",
        "NOERROR
         NS self.example. 300 NS self.example.
         AR self.example. 300 A 192.0.2.63",
    );
}

#[test]
fn section_4_3_2_step_6_additional_addresses() {
    let server = server();
    server.check(
        "m.example. MX",
        "NOERROR aa
         AN m.example. 300 MX 10 a.example.
         AN m.example. 300 MX 20 mail.example.org.
         AR a.example. 300 A 192.0.2.1
         AR a.example. 300 A 192.0.2.2
         AR mail.example.org. 300 A 192.0.2.25",
    );
    server.check(
        "s.example. SRV",
        "NOERROR aa
         AN s.example. 300 SRV 1 2 443 a.example.
         AR a.example. 300 A 192.0.2.1
         AR a.example. 300 A 192.0.2.2",
    );
}

#[test]
fn section_4_3_2_step_6_addresses_are_added_once() {
    // Ports of one host, and a wildcard's names.
    let text =
        "s SRV 1 1 1 a\ns SRV 1 1 2 A\nw SRV 1 1 1 x.w\nw SRV 1 1 2 y.w\na A 192.0.2.1\n*.w A 192.0.2.2\n";
    let server = Server::new(&[("example.", text)]).start();
    server.check(
        "s.example. SRV",
        "NOERROR aa
         AN s.example. 300 SRV 1 1 1 a.example.
         AN s.example. 300 SRV 1 1 2 A.example.
         AR a.example. 300 A 192.0.2.1",
    );
    server.check(
        "w.example. SRV",
        "NOERROR aa
         AN w.example. 300 SRV 1 1 1 x.w.example.
         AN w.example. 300 SRV 1 1 2 y.w.example.
         AR x.w.example. 300 A 192.0.2.2
         AR y.w.example. 300 A 192.0.2.2",
    );
}

#[test]
fn the_root_is_a_zone_like_any_other() {
    let server = Server::new(&[(".", "test NS ns.test\nns.test A 192.0.2.1\n")]).start();
    server.check(". NS", "NOERROR aa\nAN . 300 NS ns.\nAR ns. 300 A 192.0.2.53");
    server.check("none. A", "NXDOMAIN aa\nNS . 60 SOA ns. h. 7 3600 600 86400 60");
    server.check("x.test. A", "NOERROR\nNS test. 300 NS ns.test.\nAR ns.test. 300 A 192.0.2.1");
}
