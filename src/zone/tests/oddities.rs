//! What is served with a warning.

use super::*;

#[track_caller]
fn warned(text: &str, expected: &[&str]) -> Zone {
    let zone = read(&zone(text)).unwrap_or_else(|errors| panic!("{errors:?}"));
    assert_eq!(messages(&zone.warnings), expected, "{text}");
    zone
}

#[test]
fn oddities_are_served_with_a_warning() {
    let text =
        "x 5 A 192.0.2.1\nx 3 A 192.0.2.2\nx 3 A 192.0.2.2\nsub NS ns.sub\nx MX 10 A\nx MX 10 a\nx MX 9 a\n";
    let zone = read(&zone(text)).unwrap();
    assert_eq!(
        messages(&zone.warnings),
        [
            "z:6:1: the TTLs of this A RRset differ; the smallest is served (RFC 2181 §5.2)",
            "z:7:1: this record is a duplicate; it is served once (RFC 2181 §5)",
            "z:8:1: no address for the name server ns.sub.example. of sub.example.",
            "z:10:1: this record is a duplicate; it is served once (RFC 2181 §5)",
        ]
    );
    let set = &zone.names[&name("x.example.")][0];
    assert_eq!((set.ttl, set.rdata.len()), (Ttl(3), 2));
}

#[test]
fn records_of_other_zones_are_ignored() {
    let zone = warned(
        "x.test. A 192.0.2.1\nexample2. CNAME ns\nx A 192.0.2.1\n",
        &[
            "z:5:1: x.test. lies outside the zone example.; the record is ignored",
            "z:6:1: example2. lies outside the zone example.; the record is ignored",
        ],
    );
    assert_eq!(zone.names.len(), 3);
}

#[test]
fn name_servers_and_mail_servers_are_no_aliases() {
    warned(
        "@ NS alias\n@ MX 10 alias\n@ MX 20 ns\nsub NS alias\nalias CNAME ns\n",
        &[
            "z:3:1: the NS of example. names an alias, alias.example. (RFC 2181 §10.3)",
            "z:6:1: the MX of example. names an alias, alias.example. (RFC 2181 §10.3)",
            "z:8:1: the NS of sub.example. names an alias, alias.example. (RFC 2181 §10.3)",
        ],
    );
}

#[test]
fn a_wildcard_does_not_redirect() {
    warned(
        "*.x DNAME ns\n",
        &["z:5:1: the DNAME redirects nothing but names below *.x.example. itself (RFC 6672 §3.3)"],
    );
}

#[test]
fn name_servers_within_the_zone_exist() {
    warned(
        concat!(
            "a NS none\n",
            "b NS ns.b\n",
            // Nobody here knows what these have.
            "c NS ns.d\nc NS ns.example.net.\nc NS x.wild\nc NS x.redirected\n",
            "d NS ns\n*.wild A 192.0.2.1\nredirected DNAME example.net.\n",
        ),
        &[
            "z:5:1: no address for the name server none.example. of a.example.",
            "z:6:1: no address for the name server ns.b.example. of b.example.",
        ],
    );
}

#[test]
fn records_without_effect_are_reported() {
    warned(
        concat!(
            "sub NS ns\nsub DNAME example.net.\n",
            "s SVCB 1 . no-default-alpn\nt HTTPS 1 x.y no-default-alpn port=1\nu HTTPS 1 . no-default-alpn alpn=h2\n",
            "v HTTPS 1 . port=2\n",
        ),
        &[
            "z:6:1: the DNAME at sub.example. has no effect beside its delegation (RFC 6672 §2.3)",
            "z:7:1: no-default-alpn without alpn: clients ignore this record (RFC 9460 §7.1.1)",
            "z:8:1: no-default-alpn without alpn: clients ignore this record (RFC 9460 §7.1.1)",
        ],
    );
}
