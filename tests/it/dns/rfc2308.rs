//! RFC 2308: negative answers.

use portolan::model::AllDown;

use super::Server;

const SOA: &str = "ns.example. h.example. 7 3600 600 86400 60";

fn server() -> super::Running {
    let text = "a A 192.0.2.1\nx.ent TXT x\ngone CNAME none\nempty CNAME a\n";
    Server::new(&[("example.", text), ("example.org.", "to CNAME none.example.\n")])
        .service("www.example.", &["192.0.2.80"], AllDown::All)
        .start()
}

#[test]
fn section_2_1_name_error_has_the_soa_with_the_smaller_ttl() {
    server().check("none.example. A", &format!("NXDOMAIN aa\nNS example. 60 SOA {SOA}"));
    server().check("x.a.example. A", &format!("NXDOMAIN aa\nNS example. 60 SOA {SOA}"));
}

#[test]
fn section_2_1_name_error_after_an_alias() {
    server().check(
        "gone.example. A",
        &format!("NXDOMAIN aa\nAN gone.example. 300 CNAME none.example.\nNS example. 60 SOA {SOA}"),
    );
    // RFC 6604 §3: the RCODE is that of the last name; the SOA is its zone's.
    server().check(
        "to.example.org. A",
        &format!("NXDOMAIN aa\nAN to.example.org. 300 CNAME none.example.\nNS example. 60 SOA {SOA}"),
    );
}

#[test]
fn section_2_2_no_data() {
    for asked in ["a.example. AAAA", "ent.example. A", "www.example. TXT", "example. MX"] {
        server().check(asked, &format!("NOERROR aa\nNS example. 60 SOA {SOA}"));
    }
    server().check(
        "empty.example. TXT",
        &format!("NOERROR aa\nAN empty.example. 300 CNAME a.example.\nNS example. 60 SOA {SOA}"),
    );
}

#[test]
fn no_data_of_a_service_is_cached_no_longer_than_its_ttl() {
    server().check("www.example. AAAA", &format!("NOERROR aa\nNS example. 30 SOA {SOA}"));
}
