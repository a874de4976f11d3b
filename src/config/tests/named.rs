//! Errors in services that answer the host names of endpoints, and in CNAMEs.

use super::mistakes::check_services;
use super::{check, reported};

/// Regions whose endpoints have host names: `r` also has addresses, `n` has none.
const NAMED: &str = "[region.r]\nendpoint = [{ name = \"a\", host = \"a.test\", address = \"192.0.2.7\" }]\n\
     [region.n]\nendpoint = [{ name = \"a\", host = \"n.test\" }]\n";

#[test]
fn services_of_names() {
    let cases = [
        ("type = \"cname\"\nregions = [\"r\", \"n\"]", ""),
        ("type = \"srv\"\nsrv = { port = 443 }\nregions = [\"r\", \"n\"]", ""),
        ("type = \"mx\"\nregions = [\"r\", \"n\"]\nanswers = 2", ""),
        ("type = \"cname\"\nregions = [\"r\"]\nall_down = { cname = \"b.test\" }", ""),
        ("regions = [\"r\"]\nall_down = { cname = \"b.test\" }", ""),
        ("regions = [\"r\"]\nhttps = {}", ""),
        ("regions = [\"r\"]\nhttps = { alpn = \"h2\", port = 8443, priority = 2 }", ""),
        (
            "type = \"cname\"\nregions = [\"r\", \"east\"]",
            "5:17: endpoint `lb1` of region `east` has no `host`, which type = \"cname\" needs",
        ),
        ("regions = [\"n\"]", ""),
        ("type = \"srv\"\nregions = [\"r\"]", "2:1: `srv` is missing in `service`"),
        (
            "type = \"srv\"\nregions = [\"r\"]\nsrv = { priority = 1 }",
            "6:7: `port` is missing in `service.srv`",
        ),
        (
            "type = \"srv\"\nregions = [\"r\"]\nsrv = { port = 0 }",
            "6:16: expected an integer from 1 to 65535, found integer 0",
        ),
        (
            "type = \"mx\"\nregions = [\"r\"]\nsrv = { port = 25 }",
            "6:1: `srv` has no meaning with type = \"mx\"",
        ),
        (
            "type = \"cname\"\nregions = [\"r\"]\nhttps = {}",
            "6:1: `https` has no meaning with type = \"cname\"",
        ),
        ("regions = [\"r\"]\nmx = {}", "5:1: `mx` has no meaning with type = \"address\""),
        (
            "type = \"cname\"\nregions = [\"r\"]\nanswers = 2",
            "6:1: a CNAME leads to one name: type = \"cname\" needs `answers` = 1",
        ),
        (
            "type = \"cname\"\nregions = [\"r\"]\nall_down = { fallback = \"192.0.2.1\" }",
            "6:12: `fallback` gives addresses, but this type answers names: use { cname = \"lb.example.net\" }",
        ),
        (
            "regions = [\"r\"]\nhttps = {}\nall_down = { cname = \"b.test\" }",
            "6:12: a CNAME cannot stand beside HTTPS (RFC 1034 §3.6.2): use { fallback = [\"203.0.113.9\"] }",
        ),
        (
            "regions = [\"r\"]\nall_down = { cname = \"WWW.gslb.test.\" }",
            "5:12: this `cname` leads back to the service itself",
        ),
        (
            "regions = [\"r\"]\nall_down = { cname = \"192.0.2.1\" }",
            "5:22: 192.0.2.1 is an address, not a name",
        ),
        (
            "regions = [\"r\"]\nall_down = { cname = \"b.test\", last_good = \"1m\" }",
            "5:12: expected \"all\", \"servfail\", { last_good = \"10m\" }, { fallback = [\"203.0.113.9\"] } or { cname = \"lb.example.net\" }",
        ),
        ("regions = [\"r\"]\nhttps = { alpn = [\"h2\", \"h2\"] }", "5:25: protocol \"h2\" is listed twice"),
        (
            "regions = [\"r\"]\nhttps = { priority = 0 }",
            "5:22: expected an integer from 1 to 65535, found integer 0",
        ),
    ];
    let cases = cases.map(|(text, expected)| (format!("{text}\n{NAMED}"), expected));
    let cases: Vec<_> = cases.iter().map(|(text, expected)| (text.as_str(), *expected)).collect();
    check_services(&cases);
    check(&[
        (
            "region.x.endpoint = [{ name = \"a\", host = \"*.test\" }]",
            "2:43: *.test. is not the name of a host",
        ),
        ("region.x.endpoint = [{ name = \"a\", host = \"::1\" }]", "2:43: ::1 is an address, not a name"),
        (
            "region.x.endpoint = [{ name = \"a\", host = \"x.gslb.test\" }]\n[[service]]\nname = \"x.gslb.test\"\nregions = [\"x\"]",
            "4:8: endpoint `a` of region `x` leads back to the service itself through its host x.gslb.test.",
        ),
        ("node.resolver = \"192.0.2.53:0\"", "2:17: 192.0.2.53:0 has no port to ask at"),
        ("node.resolver = \"ns.test\"", "2:17: \"ns.test\" is not a valid IP address"),
        (
            "node.private_networks = [\"10.0.0.1/8\", \"ten\"]",
            "2:26: 10.0.0.1/8 has host bits set; write 10.0.0.0/8\n2:40: \"ten\" is not a valid prefix such as 192.0.2.0/24",
        ),
        (
            "node.private_networks = [\"10.0.0.0/8\", \"8.8.8.0/24\"]",
            "2:40: warning: 8.8.8.0/24 is public, so listing it has no effect\n  help: public addresses are always used; remove it",
        ),
        (
            "node.resolver = [\"192.0.2.53\", \"192.0.2.53:53\"]",
            "2:32: resolver 192.0.2.53:53 is listed twice",
        ),
        (
            "region.x.endpoint = [{ name = \"a\", host = \"a.test\", weight = 65536 }]\n[[service]]\nname = \"x.gslb.test\"\ntype = \"srv\"\nsrv.port = 1\nregions = [\"x\"]",
            "7:12: endpoint `a` of region `x` has the weight 65536; in SRV records there are at most 65535",
        ),
        (
            "region.x.endpoint = [{ name = \"a\", host = \"X.gslb.test\" }]\n[[service]]\nname = \"x.gslb.test\"\ntype = \"mx\"\nregions = [\"x\"]",
            "6:12: endpoint `a` of region `x` leads back to the service itself",
        ),
    ]);
}

#[test]
fn a_cname_excludes_all_other_data() {
    let alias = "all_down = { cname = \"b.test\" }";
    let at = |name: &str, keys: &str| {
        format!("[[service]]\nname = \"{name}\"\nregions = [\"r\"]\n{keys}\n{NAMED}")
    };
    let two = |one: &str, other: &str| {
        let at = |keys: &str| format!("[[service]]\nname = \"w.gslb.test\"\nregions = [\"r\"]\n{keys}\n");
        at(one) + &at(other) + NAMED
    };
    let beside = "beside which no CNAME may stand (RFC 1034 §3.6.2)";
    let cname = "w.gslb.test. has two services, but one of them answers a CNAME, beside which nothing else may stand (RFC 1034 §3.6.2)";
    let cases = [
        (at("ns1.gslb.test", alias), format!("3:8: the zone gslb.test. has A records of its own at ns1.gslb.test., {beside}")),
        (at("ns1.gslb.test", "type = \"cname\""), format!("3:8: the zone gslb.test. has A records of its own at ns1.gslb.test., {beside}")),
        (at("gslb.test", alias), "3:8: gslb.test. is the apex of its zone, where no CNAME may stand beside SOA and NS (RFC 1034 §3.6.2)".into()),
        (at("alias.gslb.test", "type = \"mx\""), "3:8: the zone gslb.test. has a CNAME of its own at alias.gslb.test.".into()),
        (at("ns1.gslb.test", "type = \"mx\""), String::new()),
        (at("gslb.test", "type = \"mx\""), String::new()),
        (at("gslb.test", "https = {}"), String::new()),
        (two("", "type = \"mx\""), String::new()),
        (two("type = \"srv\"\nsrv.port = 1", "https = {}"), String::new()),
        (
            two("type = \"mx\"", "type = \"mx\""),
            "7:8: a service at w.gslb.test. answers MX already; services of one name need a `type` each".into(),
        ),
        (two("https = {}", "type = \"cname\""), format!("7:8: {cname}")),
        (two(alias, "type = \"srv\"\nsrv.port = 1"), format!("7:8: {cname}")),
    ];
    for (text, expected) in cases {
        assert_eq!(reported(&text), expected, "of {text}");
    }
}
