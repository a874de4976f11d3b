//! RFC 6672: DNAME.

use portolan::zone::Zone;

use super::Server;

fn server() -> super::Running {
    let long = "a".repeat(60);
    let text = format!(
        "d DNAME target\nd TXT own\nwww.target A 192.0.2.1\nout DNAME elsewhere.test.\n\
         grow DNAME {long}.{long}.{long}.target\nround DNAME sub.round2\nround2 DNAME round\nthere DNAME back\nback DNAME there\n"
    );
    Server::new(&[("example.", &text)]).start()
}

#[test]
fn section_3_2_names_below_are_redirected() {
    server().check(
        "www.d.example. A",
        "NOERROR aa
         AN d.example. 300 DNAME target.example.
         AN www.d.example. 300 CNAME www.target.example.
         AN www.target.example. 300 A 192.0.2.1",
    );
    server().check(
        "x.out.example. A",
        "NOERROR aa
         AN out.example. 300 DNAME elsewhere.test.
         AN x.out.example. 300 CNAME x.elsewhere.test.",
    );
}

#[test]
fn section_2_3_the_owner_itself_is_not() {
    server().check("d.example. TXT", "NOERROR aa\nAN d.example. 300 TXT own");
    server().check("d.example. DNAME", "NOERROR aa\nAN d.example. 300 DNAME target.example.");
}

#[test]
fn section_2_2_a_name_that_grows_too_long_is_yxdomain() {
    let label = "b".repeat(60);
    let target = "a".repeat(60);
    server().check(
        &format!("{label}.grow.example. A"),
        &format!(
            "YXDOMAIN aa
             AN grow.example. 300 DNAME {target}.{target}.{target}.target.example."
        ),
    );
}

#[test]
fn a_synthesised_cname_is_all_of_the_answer_to_cname_and_any() {
    server().check(
        "www.d.example. CNAME",
        "NOERROR aa
         AN d.example. 300 DNAME target.example.
         AN www.d.example. 300 CNAME www.target.example.",
    );
    server().check(
        "gone.d.example. ANY",
        "NOERROR aa
         AN d.example. 300 DNAME target.example.
         AN gone.d.example. 300 CNAME gone.target.example.",
    );
}

#[test]
fn section_2_3_an_apex_may_have_one() {
    let mut server = Server::new(&[("example.org.", "a A 192.0.2.1\n")]);
    let text =
        "$TTL 300\n@ SOA ns.example.org. h 7 3600 600 86400 60\n@ NS ns.example.org.\n@ DNAME example.org.\n";
    let origin = "example.".parse().expect("a name");
    let mut include = |_: &str| Err("nothing to include".to_owned());
    server.zones.push(Zone::read(&origin, text, "zone", &mut include).expect("a zone"));
    let server = server.start();
    server.check("example. DNAME", "NOERROR aa\nAN example. 300 DNAME example.org.");
    server.check(
        "a.example. A",
        "NOERROR aa
         AN example. 300 DNAME example.org.
         AN a.example. 300 CNAME a.example.org.
         AN a.example.org. 300 A 192.0.2.1",
    );
}

/// What the wildcard matches gets the record; only names below the literal `*` are redirected.
#[test]
fn section_3_3_a_wildcard_synthesises_dname_and_does_not_redirect() {
    let server = Server::new(&[("example.", "*.w DNAME elsewhere.test.\n")]).start();
    let soa = "NS example. 60 SOA ns.example. h.example. 7 3600 600 86400 60";
    server.check("x.w.example. DNAME", "NOERROR aa\nAN x.w.example. 300 DNAME elsewhere.test.");
    server.check("x.w.example. A", &format!("NOERROR aa\n{soa}"));
    server.check("a.x.w.example. A", &format!("NOERROR aa\n{soa}"));
    server.check(
        "a.*.w.example. A",
        "NOERROR aa
         AN *.w.example. 300 DNAME elsewhere.test.
         AN a.*.w.example. 300 CNAME a.elsewhere.test.",
    );
}

#[test]
fn redirection_loops_end_where_they_began() {
    server().check(
        "x.there.example. A",
        "NOERROR aa
         AN there.example. 300 DNAME back.example.
         AN x.there.example. 300 CNAME x.back.example.
         AN back.example. 300 DNAME there.example.
         AN x.back.example. 300 CNAME x.there.example.",
    );
    // This one produces a longer name with every round.
    let reply = server().exchange(&super::query("x.round.example. A"), portolan::answer::Transport::Tcp);
    assert_eq!(reply.answers.len(), 2 * 8);
}
