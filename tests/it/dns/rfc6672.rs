//! RFC 6672: DNAME.

use super::Server;

fn server() -> super::Running {
    let long = "a".repeat(60);
    let text = format!(
        "d DNAME target\nd TXT own\nwww.target A 192.0.2.1\nout DNAME elsewhere.test.\n\
         grow DNAME {long}.{long}.{long}.target\nround DNAME sub.round2\nround2 DNAME round\n"
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
fn redirections_in_a_circle_end() {
    let reply = server().exchange(&super::query("x.round.example. A"), portolan::answer::Transport::Tcp);
    assert_eq!(reply.answers.len(), 2 * 8);
}
