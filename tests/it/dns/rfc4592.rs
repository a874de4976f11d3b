//! RFC 4592: wildcards. The zone of §2.2.1, and its queries.

use portolan::model::AllDown;

use super::Server;

fn server() -> super::Running {
    let text = "
*.example. 3600 TXT \"this is a wildcard\"
*.example. 3600 MX 10 host1.example.
sub.*.example. 3600 TXT \"this is not a wildcard\"
host1.example. 3600 A 192.0.2.1
_ssh._tcp.host1.example. 3600 SRV 0 0 22 host1.example.
_ssh._tcp.host2.example. 3600 SRV 0 0 22 host1.example.
subdel.example. 3600 NS ns.example.com.
subdel.example. 3600 NS ns.example.net.
";
    Server::new(&[("example.", text)]).service("*.dyn.example.", &["192.0.2.80"], AllDown::All).start()
}

const SOA: &str = "NS example. 60 SOA ns.example. h.example. 7 3600 600 86400 60";

#[test]
fn section_2_2_1_names_that_do_not_exist_are_synthesised() {
    let server = server();
    server.check(
        "host3.example. MX",
        "NOERROR aa
         AN host3.example. 3600 MX 10 host1.example.
         AR host1.example. 3600 A 192.0.2.1",
    );
    server.check("host3.example. A", &format!("NOERROR aa\n{SOA}"));
    server.check("foo.bar.example. TXT", "NOERROR aa\nAN foo.bar.example. 3600 TXT this is a wildcard");
}

#[test]
fn section_2_2_1_names_that_exist_are_not() {
    let server = server();
    server.check("host1.example. MX", &format!("NOERROR aa\n{SOA}"));
    server.check("sub.*.example. MX", &format!("NOERROR aa\n{SOA}"));
    server.check("_telnet._tcp.host1.example. SRV", &format!("NXDOMAIN aa\n{SOA}"));
    server.check(
        "host.subdel.example. A",
        "NOERROR
         NS subdel.example. 3600 NS ns.example.com.
         NS subdel.example. 3600 NS ns.example.net.",
    );
    server.check("ghost.*.example. MX", &format!("NXDOMAIN aa\n{SOA}"));
}

#[test]
fn section_2_1_1_a_wildcard_can_be_asked_for_by_name() {
    server().check("*.example. TXT", "NOERROR aa\nAN *.example. 3600 TXT this is a wildcard");
}

#[test]
fn section_2_2_2_empty_non_terminals_block_the_wildcard() {
    server().check("_tcp.host2.example. TXT", &format!("NOERROR aa\n{SOA}"));
    server().check("host2.example. TXT", &format!("NOERROR aa\n{SOA}"));
}

#[test]
fn a_service_can_be_a_wildcard() {
    server().check("any.dyn.example. A", "NOERROR aa\nAN any.dyn.example. 30 A 192.0.2.80");
    server().check("a.b.dyn.example. A", "NOERROR aa\nAN a.b.dyn.example. 30 A 192.0.2.80");
    server().check("dyn.example. A", &format!("NOERROR aa\n{SOA}"));
}
