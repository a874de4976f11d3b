//! RFC 4035 §3.1.4: DS records belong to the parent's side of a cut.

use super::{Server, query, with_edns};

const DS: &str = "60485 8 2 0000000000000000000000000000000000000000000000000000000000000000";

fn parent() -> String {
    format!("sub NS ns.sub\nsub DS {DS}\nns.sub A 192.0.2.61\nplain NS ns.elsewhere.test.\n")
}

#[test]
fn section_3_1_4_1_ds_is_answered_by_the_parent() {
    let alone = Server::new(&[("example.", &parent())]).start();
    let both = Server::new(&[("example.", &parent()), ("sub.example.", "")]).start();
    for server in [alone, both] {
        server.check("sub.example. DS", &format!("NOERROR aa\nAN sub.example. 300 DS {DS}"));
        server.check(
            "plain.example. DS",
            "NOERROR aa\nNS example. 60 SOA ns.example. h.example. 7 3600 600 86400 60",
        );
    }
}

#[test]
fn section_3_1_4_1_a_child_without_its_parent_denies() {
    let server = Server::new(&[("sub.example.", "")]).start();
    let soa = "ns.sub.example. h.sub.example. 7 3600 600 86400 60";
    server.check("sub.example. DS", &format!("NOERROR aa\nNS sub.example. 60 SOA {soa}"));
}

#[test]
fn below_the_cut_ds_is_referred_like_other_types() {
    let server = Server::new(&[("example.", &parent())]).start();
    server.check(
        "x.sub.example. DS",
        "NOERROR\nNS sub.example. 300 NS ns.sub.example.\nAR ns.sub.example. 300 A 192.0.2.61",
    );
}

#[test]
fn section_3_1_4_a_referral_has_ds_for_clients_that_set_do() {
    let server = Server::new(&[("example.", &parent())]).start();
    let mut message = with_edns(query("x.sub.example. A"), 1232);
    message.edns.as_mut().unwrap().set_dnssec_ok(true);
    server.check_message(
        &message,
        &format!(
            "NOERROR
             edns 1232 do
             NS sub.example. 300 NS ns.sub.example.
             NS sub.example. 300 DS {DS}
             AR ns.sub.example. 300 A 192.0.2.61"
        ),
    );
}

#[test]
fn section_3_1_4_1_a_zone_above_answers_even_if_it_does_not_delegate_the_child() {
    let text = format!("{}*.wild CNAME sub\n", parent());
    let children = ["deep.sub.example.", "c.uncut.example.", "a.wild.example."].map(|origin| (origin, ""));
    let server = Server::new(&[&[("example.", &*text)], &children[..]].concat()).start();
    // Not NXDOMAIN and no alias: caches would apply that to all types of the child's apex (RFC 2308 §5).
    for apex in ["c.uncut.example.", "a.wild.example."] {
        server.check(
            &format!("{apex} DS"),
            "NOERROR aa\nNS example. 60 SOA ns.example. h.example. 7 3600 600 86400 60",
        );
    }
    server.check(
        "deep.sub.example. DS",
        "NOERROR\nNS sub.example. 300 NS ns.sub.example.\nAR ns.sub.example. 300 A 192.0.2.61",
    );
    // Everything else is the child's.
    server.check(
        "c.uncut.example. NS",
        "NOERROR aa\nAN c.uncut.example. 300 NS ns.c.uncut.example.\nAR ns.c.uncut.example. 300 A 192.0.2.53",
    );
}

#[test]
fn section_3_1_4_1_the_parent_answers_after_aliases_too() {
    let text = format!("{}alias CNAME sub\n", parent());
    let server = Server::new(&[("example.", &text), ("sub.example.", "")]).start();
    server.check(
        "alias.example. DS",
        &format!("NOERROR aa\nAN alias.example. 300 CNAME sub.example.\nAN sub.example. 300 DS {DS}"),
    );
}

#[test]
fn section_2_5_types_allowed_beside_an_alias_are_answered() {
    let text = "a CNAME b\na NSEC b CNAME NSEC\nb TXT x\n";
    let server = Server::new(&[("example.", text)]).start();
    server.check("a.example. NSEC", "NOERROR aa\nAN a.example. 300 NSEC b.example. CNAME NSEC");
    server.check("a.example. TXT", "NOERROR aa\nAN a.example. 300 CNAME b.example.\nAN b.example. 300 TXT x");
}
