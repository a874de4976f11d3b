//! RFC 8482: minimal answers to ANY.

use portolan::model::AllDown;

use super::Server;

#[test]
fn section_4_2_any_is_answered_with_hinfo_or_the_alias() {
    let server = Server::new(&[("example.", "a A 192.0.2.1\na TXT x\nalias CNAME a\nx.ent A 192.0.2.1\n")])
        .service("www.example.", &["192.0.2.80"], AllDown::All)
        .start();
    server.check("a.example. ANY", "NOERROR aa\nAN a.example. 3600 HINFO RFC8482");
    server.check("www.example. ANY", "NOERROR aa\nAN www.example. 3600 HINFO RFC8482");
    server.check("alias.example. ANY", "NOERROR aa\nAN alias.example. 300 CNAME a.example.");
    let soa = "NS example. 60 SOA ns.example. h.example. 7 3600 600 86400 60";
    server.check("ent.example. ANY", &format!("NOERROR aa\n{soa}"));
    server.check("none.example. ANY", &format!("NXDOMAIN aa\n{soa}"));
}
