//! RFC 9460 §4.1: what goes with SVCB and HTTPS records.

use super::Server;

#[test]
fn section_4_1_addresses_and_further_records_of_targets_are_added() {
    let text = "
own HTTPS 1 . alpn=h2
own A 192.0.2.1
alias HTTPS 0 own
gone HTTPS 0 .
gone A 192.0.2.2
far SVCB 1 x.example.org. port=8443
";
    let server = Server::new(&[("example.", text), ("example.org.", "x AAAA 2001:db8::1\n")]).start();
    server.check(
        "own.example. HTTPS",
        "NOERROR aa
         AN own.example. 300 HTTPS 1 . alpn=h2,
         AR own.example. 300 A 192.0.2.1",
    );
    server.check(
        "alias.example. HTTPS",
        "NOERROR aa
         AN alias.example. 300 HTTPS 0 own.example.
         AR own.example. 300 HTTPS 1 . alpn=h2,
         AR own.example. 300 A 192.0.2.1",
    );
    // §2.5.1: "." in AliasMode "indicates that the service is not available".
    server.check("gone.example. HTTPS", "NOERROR aa\nAN gone.example. 300 HTTPS 0 .");
    server.check(
        "far.example. SVCB",
        "NOERROR aa
         AN far.example. 300 SVCB 1 x.example.org. port=8443
         AR x.example.org. 300 AAAA 2001:db8::1",
    );
}
