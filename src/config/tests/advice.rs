//! Warnings about services and probes that work, but probably not as intended.

use super::{ZONE, all_reported, check, reported, without_unused};

/// A service in `WORLD`.
fn service(rank: &str, members: &str) -> String {
    format!("[[service]]\nname = \"www.gslb.test\"\nregions = [{members}]\n{rank}")
}

#[test]
fn a_weight_of_zero() {
    let help = "  help: to keep clients away from a region, remove it from `regions`, or drain it while the node runs";
    let members = "{ region = \"east\", weight = 0 }, \"west\"";
    for (rank, warning) in [
        ("", "the weight 0 of region `east` has no effect: with rank = \"priority\" regions never tie"),
        ("rank = \"none\"", "region `east` never serves: it ties with the others, and its weight is 0"),
        (
            "rank = \"latency\"",
            "region `east` has weight 0: it takes every client where it is alone, and none where it ties with others",
        ),
    ] {
        assert_eq!(reported(&service(rank, members)), format!("4:12: warning: {warning}\n{help}"));
    }
    let all = "{ region = \"east\", weight = 0 }, { region = \"west\", weight = 0 }";
    assert_eq!(reported(&service("rank = \"none\"", all)), "", "all regions then have an equal share");
}

#[test]
fn a_region_that_lacks_a_family_of_the_others() {
    let both = "region.both.endpoint = [{ name = \"a\", address = [\"192.0.2.9\", \"2001:db8::9\"] }]\n";
    let with = |rank: &str, regions: &str| reported(&format!("{both}{}", service(rank, regions)));
    assert_eq!(
        with("rank = \"none\"", "\"east\", \"both\""),
        "4:8: warning: its region `east` has no IPv6 address, but `both` does\n  \
         help: clients that are sent to `east` get no AAAA records; give it an address of that family"
    );
    assert_eq!(with("", "\"east\", \"both\""), "", "a fixed order");
    assert_eq!(with("rank = \"none\"", "\"east\", \"west\""), "", "none has IPv6");
    assert_eq!(
        with("rank = \"none\"", "{ region = \"east\", weight = 0 }, \"both\"").lines().count(),
        2,
        "no family"
    );
}

#[test]
fn a_certificate_for_an_address() {
    let help = "name what the certificate is for in `host`: hardly any certificate is for an address";
    for kind in ["tls", "https"] {
        assert_eq!(
            reported(&format!("probe.p = {{ kind = \"{kind}\" }}")),
            format!(
                "2:13: warning: probe `p` verifies that the certificate is for the address of the endpoint\n  help: {help}"
            )
        );
        assert_eq!(reported(&format!("probe.p = {{ kind = \"{kind}\", host = \"www.test\" }}")), "");
    }
}

#[test]
fn endpoints_of_weight_zero_do_not_count() {
    let region = |need: &str, weights: [u8; 3]| {
        let endpoint = |(index, weight)| {
            format!("{{ name = \"lb{index}\", address = \"192.0.2.{index}\", weight = {weight} }}")
        };
        let endpoints: Vec<_> = (1..).zip(weights).map(endpoint).collect();
        format!(
            "region.r = {{ healthy_when = {{ at_least = {need} }}, endpoint = [{}] }}",
            endpoints.join(", ")
        )
    };
    check(&[
        (&region("2", [1, 0, 1]), ""),
        (&region("3", [0, 0, 0]), ""),
        (
            &region("2", [1, 0, 0]),
            "2:42: at least 2 endpoints must be up, but only 1 of the region's 3 count: those of weight 0 do not",
        ),
        (&region("4", [1, 1, 1]), "2:42: at least 4 endpoints must be up, but the region has 3"),
    ]);
}

#[test]
fn listeners_that_strangers_may_reach_without_a_rate_limit() {
    let with = |listen: &str, rest: &str| reported(&format!("dns = {{ listen = [{listen}]{rest} }}"));
    for address in
        ["0.0.0.0:53", "[::]:53", "203.0.114.1:53", "100.128.0.1:53", "[2a00::1]:53", "172.32.0.1:53"]
    {
        let listen = format!("\"127.0.0.1:5300\", \"{address}\"");
        assert_eq!(
            with(&listen, ""),
            format!(
                "2:37: warning: strangers may reach {address}, and their responses are not limited\n  help: with a \
                 forged source address they could flood a victim; set `rate_limit = {{}}`, or false to keep it so"
            )
        );
        assert_eq!(with(&listen, ", rate_limit = {}"), "");
        assert_eq!(with(&listen, ", rate_limit = false"), "");
    }
    for address in
        ["127.0.0.2:53", "10.1.2.3:53", "172.16.0.1:53", "192.168.1.1:53", "169.254.1.1:53", "100.64.0.1:53"]
            .into_iter()
            .chain(["[::1]:53", "[fd00::1]:53", "[fe80::1]:53"])
    {
        assert_eq!(with(&format!("\"{address}\""), ""), "", "{address}");
    }
}

#[test]
fn an_api_that_strangers_can_read() {
    let token = "{ name = \"ci\", role = \"viewer\", sha256 = \"0000000000000000000000000000000000000000000000000000000000000000\" }";
    check(&[
        ("control.listen = \"[::1]:8054\"", ""),
        (
            "control.listen = \"0.0.0.0:8054\"",
            "2:9: warning: anyone who can reach 0.0.0.0:8054 can read status, events and metrics\n  \
             help: set `read` = \"token\", or listen on a loopback address\n\
             2:9: warning: tokens and replies cross the network to and from 0.0.0.0:8054 unencrypted\n  \
             help: set `tls`, or listen on a loopback address",
        ),
        (
            "control.read = \"token\"",
            "2:9: warning: reads over TCP need a token, but there is none\n  \
             help: define one with `[[control.token]]`; the socket needs none",
        ),
        (
            &format!(
                "[control]\nlisten = \"0.0.0.0:8054\"\nread = \"token\"\ntoken = [{token}]\ntls = {{ cert = \"c.pem\", key = \"k.pem\" }}"
            ),
            "",
        ),
    ]);
}

/// A config without warnings.
const QUIET: &str = "version = 1
dns.listen = [\"127.0.0.1:53\"]
probe.web = { kind = \"http\" }
region.east.endpoint = [{ name = \"lb1\", address = \"192.0.2.1\", probe = \"web\" }]
[[zone]]
origin = \"gslb.test.\"
file = \"z.zone\"
[[service]]
name = \"www.gslb.test.\"
regions = [\"east\"]
";

#[test]
fn a_config_that_watches_or_answers_nothing() {
    let reported = |text: &str| all_reported(text, &[("z.zone", ZONE.as_bytes())]);
    assert_eq!(reported(QUIET), "");
    let unprobed = "p.toml:4:27: warning: endpoint `lb1` has no probe: it counts as up whatever happens to it\n  \
                    help: name its probes in `probe`, or write `probe = []` if that is what you want";
    let listen = "dns.listen = [\"127.0.0.1:53\"]\n";
    for (from, to, expected) in [
        ("probe = \"web\"", "weight = 1", unprobed),
        ("address = \"192.0.2.1\", probe = \"web\"", "host = \"lb.test\"", unprobed),
        ("probe = \"web\"", "probe = []", ""),
        (
            listen,
            "",
            "p.toml:4:3: warning: this config answers no query: it has zones and services, but no [dns]\n  \
             help: add [dns] with `listen = [\"0.0.0.0:53\", \"[::]:53\"]`",
        ),
        (
            "region.east.endpoint",
            "region.east.capacity = 9\nregion.east.endpoint",
            "p.toml:4:13: warning: `capacity` is only displayed: it limits nothing\n  \
             help: give the region a smaller `weight` in the `regions` of services where it ties with others, \
             if it should get fewer clients",
        ),
    ] {
        let found = reported(&QUIET.replacen(from, to, 1));
        let found = without_unused(&found);
        assert_eq!(found, expected, "with {to:?} for {from:?}");
    }
    assert_eq!(
        reported("version = 1\n"),
        "p.toml:1:1: warning: this config answers no query: it has neither [dns] nor a zone\n  \
         help: add [dns] with `listen`, a [[zone]] and [[service]] entries"
    );
}
