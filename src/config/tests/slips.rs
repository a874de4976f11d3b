//! Settings without effect, unused definitions, and typos.

use super::{ZONE, check, reported, reported_with};

/// Two regions and a service with every key, so that nothing is unused.
const USED: &str = r#"version = 1
safety.min_regions = 2
[probe.web]
kind = "http"
[group.eea]
places = ["country:DE"]
[group.in_group]
places = ["group:eea"]
[policy.p]
rank = "none"
[region.east]
endpoint = [{ name = "a", address = ["192.0.2.1", "2001:db8::1"], probe = "web" }]
[region.west]
endpoint = [{ name = "a", address = ["192.0.2.2", "2001:db8::2"], probe = "web" }]
require = ["endpoint/third/a"]
[region.third]
endpoint = [{ name = "a", address = "192.0.2.3", probe = "web" }]
[[zone]]
origin = "gslb.test."
file = "z.zone"
[[service]]
name = "www.gslb.test."
policy = "p"
regions = ["east", "west"]
fence = { region = "east", only = ["group:in_group", "country:DE"] }
[[service]]
name = "api.gslb.test."
regions = ["west", "east"]
"#;

#[test]
fn unused_or_ineffective_settings_are_warned_of() {
    let reported_with_zone = |text: &str| reported_with(text, &[("z.zone", ZONE.as_bytes())]);
    assert_eq!(reported_with_zone(USED), "");
    for (from, to, expected) in [
        (
            "probe = \"web\"",
            "",
            "p.toml:3:8: warning: probe `web` is not used by any endpoint or pool\n  help: name it in the `probe` of an endpoint or pool, or remove it",
        ),
        (
            "\"group:in_group\", ",
            "",
            "p.toml:7:8: warning: group `in_group` is not used by any fence, geo table or latency\n  help: name it as \"group:NAME\", or remove it",
        ),
        (
            "policy = \"p\"",
            "",
            "p.toml:9:9: warning: policy `p` is not used by any service\n  help: name it in a service's `policy`, or remove it",
        ),
        (
            "require = [\"endpoint/third/a\"]",
            "",
            "p.toml:16:9: warning: region `third` is not used by any service\n  help: name it in a service's `regions`, or remove it",
        ),
        (
            "2001:db8::2",
            "2001:db8::1",
            "p.toml:22:8: warning: its regions `east` and `west` have the same address 2001:db8::1\n  help: clients that steering moves from one to the other stay where they are; give each region its own addresses",
        ),
        (
            "min_regions = 2",
            "min_regions = 3",
            "p.toml:2:22: warning: `min_regions` = 3, but www.gslb.test. has 2 regions\n  help: neither soft failures nor operators can then withdraw a region of it; lower it, or give the service more regions",
        ),
        (
            "kind = \"http\"",
            "kind = \"http\"\ntimeout = \"2s\"\nslow = \"2s\"",
            "p.toml:6:1: warning: `slow` = 2s is never reached: probe `web` fails after 2s\n  help: make `slow` shorter than `timeout`",
        ),
        // Something may be unused or missing because of an error.
        (
            "[\"west\", \"east\"]",
            "[\"vest\"]",
            "p.toml:28:12: region `vest` is not defined; did you mean `west`?",
        ),
        (
            "[\"west\", \"east\"]",
            "[\"west\", \"east\"]\nall_down = { fallback = \"sorry.test\" }",
            "p.toml:29:25: \"sorry.test\" is not a valid IP address",
        ),
        ("policy = \"p\"", "policy = \"q\"", "p.toml:23:10: policy `q` is not defined; did you mean `p`?"),
    ] {
        assert!(USED.contains(from), "{from}");
        assert_eq!(reported_with_zone(&USED.replace(from, to)), expected, "with {to:?} for {from:?}");
    }
    // Services that answer host names separate clients, whatever the addresses.
    let of_names = USED
        .replace("192.0.2.2", "2001:db8::1")
        .replace("name = \"a\"", "name = \"a\", host = \"lb.test\"")
        .replace("\nregions", "\ntype = \"cname\"\nregions");
    assert_eq!(reported_with_zone(&of_names), "");
}

#[test]
fn common_typos_get_a_suggestion() {
    let listen = |text: &str| format!("dns.listen = [{text:?}]");
    let no_address = |text: &str, hint: &str| format!("2:15: {text:?} is not an address with a port{hint}");
    let ipv6 = |address: &str| format!("; an IPv6 address needs brackets: write {address:?}");
    for (text, hint) in [
        ("::1:53", ipv6("[::1]:53")),
        (":::53", ipv6("[::]:53")),
        ("2001:db8::5:5353", ipv6("[2001:db8::5]:5353")),
        ("::1", "; write \"[::1]:53\" with the port you mean".into()),
        ("2001:db8::1", "; write \"[2001:db8::1]:53\" with the port you mean".into()),
        (":53", "; write \"0.0.0.0:53\" or \"[::]:53\"".into()),
        ("*:5353", "; write \"0.0.0.0:5353\" or \"[::]:5353\"".into()),
        ("localhost:53", "; write \"127.0.0.1:53\" or \"[::1]:53\"".into()),
        ("ns1.test:53", String::new()),
        ("127.0.0.1:99999", String::new()),
    ] {
        assert_eq!(reported(&listen(text)), no_address(text, &hint), "of {text}");
    }
    check(&[
        (
            "[[service]]\nname = \"www.gslb.test\"\nregions = [\"east\"]\nmin_regions = 2\nanycast = true",
            "5:1: unknown key `min_regions` in `service`; it belongs to `safety`\n6:1: unknown key `anycast` in `service`",
        ),
        (
            "region.x = { hold = \"1s\", endpoint = [{ name = \"a\", address = \"::1\" }] }",
            "2:14: unknown key `hold` in `region.x`; it belongs to `probe.NAME`",
        ),
        (
            "[safety]\nall_down = \"all\"",
            "3:1: unknown key `all_down` in `safety`; it belongs to `policy.NAME` or `service`",
        ),
        ("preference = 1", "2:1: unknown key `preference`; it belongs to `service.mx`"),
        (
            "region.x.endpoint = [{ name = \"a\", address = [\"192.0.2.1:80\", \"[::1]:443\", \"lb.test\", \"192.0.2.l\"] }]",
            "2:47: \"192.0.2.1:80\" is not a valid IP address: write 192.0.2.1, and the port in its probe\n\
             2:63: \"[::1]:443\" is not a valid IP address: write ::1, and the port in its probe\n\
             2:76: \"lb.test\" is not a valid IP address: write a name as `host`\n2:87: \"192.0.2.l\" is not a valid IP address",
        ),
        (
            "region.x.endpoint = [{ name = \"a\", host = \"lb a.test\" }]",
            "2:43: \"lb a.test\" is not a valid domain name: it contains a space",
        ),
        ("log.level = “info”", "2:13: “ is not a quotation mark in TOML: write \" before and after the text"),
        (
            "log = { level = ‘info’ }",
            "2:17: ‘ is not a quotation mark in TOML: write \" before and after the text",
        ),
        ("[log]\r\n\tlevel\t=\t\"info\"\t# CRLF and tabs\r\n", ""),
    ]);
}

#[test]
fn the_path_of_a_probe_is_not_its_name() {
    let expected = "is a path, not the name of a probe\n  help: define [probe.health] with `kind = \"http\"` and `path = \"/healthz\"`, and write `probe = [\"health\"]`";
    for (text, at) in [
        (
            "proxy.pool.api = { backend = [\"192.0.2.1:80\"], probe = \"/healthz\" }",
            "p.toml:2:56: \"/healthz\"",
        ),
        (
            "region.r.endpoint = [{ name = \"a\", address = \"::1\", probe = [\"/healthz\"] }]",
            "p.toml:2:62: \"/healthz\"",
        ),
    ] {
        let reported = reported_with(&format!("version = 1\n{text}"), &[]);
        assert!(reported.contains(&format!("{at} {expected}")), "{reported}");
    }
}
