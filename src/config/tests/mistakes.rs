//! Diagnostics of invalid configs: every error at its location.

use super::super::Severity;
use super::{check, load_with, reported, reported_with};

#[test]
fn keys_and_types() {
    check(&[
        ("dnss = 1", "2:1: unknown key `dnss`; did you mean `dns`?"),
        (
            "[dns]\nlisten = [\"[::]:53\"]\nworker = 1",
            "4:1: unknown key `worker` in `dns`; did you mean `workers`?",
        ),
        ("[log]\nzzzzzzz = 1", "3:1: unknown key `zzzzzzz` in `log`"),
        ("[dns]", "2:1: `listen` is missing in `dns`"),
        ("dns = 3", "2:7: expected a table, found integer 3"),
        (
            "[log]\nlevel = \"inform\"",
            "3:9: expected \"error\", \"warn\", \"info\", \"debug\" or \"trace\", found \"inform\"; did you mean `info`?",
        ),
        ("[log]\nformat = false", "3:10: expected \"json\" or \"text\", found false"),
        ("[dns]\nlisten = [\"[::]:53\"]\necs = \"yes\"", "4:7: expected true or false, found \"yes\""),
        ("[safety]\nmin_regions = -1", "3:15: expected an integer from 0 to 65535, found integer -1"),
        (
            "[safety]\nsuspect_self = { share = \"0%\", min = 0, anchors = [\"192.0.2.1:53\", \"tcp:a:1\"], at_most = \"2h\" }",
            "3:26: expected a share above 0% and up to 100%, found \"0%\"\n3:38: expected an integer from 1 to 4294967295, found integer 0\n3:52: \"192.0.2.1:53\" is not a valid anchor: write tcp:ADDRESS:PORT\n3:68: \"tcp:a:1\" is not a valid anchor: write tcp:ADDRESS:PORT\n3:90: expected a duration from 1s to 1h, found \"2h\"",
        ),
        (
            "region.r = { endpoint = [{ name = \"a\", address = \"::1\" }], capacity = 0 }",
            "2:71: expected an integer of at least 1, found integer 0",
        ),
        ("probe.p = 1979-01-01", "2:11: expected a table, found a date or time"),
        (
            "probe.\"a b\" = { kind = \"http\" }",
            "2:7: \"a b\" is not a valid name: 1 to 63 letters, digits, `-`, `_` or `.`",
        ),
        (
            "group.g = { places = [] }",
            "2:22: expected a list of places such as [\"country:DE\"], found an empty list",
        ),
    ]);
}

#[test]
fn places() {
    check(&[
        (
            "group.g.places = [\"DE\"]",
            "2:19: \"DE\" is not a valid place; places start with net:, asn:, region:, country:, group:, continent: or are \"*\"",
        ),
        (
            "group.g.places = [\"contry:DE\"]",
            "2:19: \"contry\" is not a kind of place; did you mean `country`?",
        ),
        (
            "group.g.places = [\"country:UK\", \"country:ZZ\", \"region:UK-ENG\"]",
            "2:19: ISO 3166-1 has no country UK; did you mean `GB`?\n2:33: ISO 3166-1 has no country ZZ\n2:47: ISO 3166-1 has no country UK; did you mean `GB`?",
        ),
        (
            "group.g.places = [\"country:DEU\"]",
            "2:19: \"DEU\" is not a country code of two letters (ISO 3166-1)",
        ),
        (
            "group.g.places = [\"continent:Europe\"]",
            "2:19: \"Europe\" is not a continent: one of AF, AN, AS, EU, NA, OC, SA",
        ),
        (
            "group.g.places = [\"region:California\"]",
            "2:19: \"California\" is not a subdivision such as US-CA (ISO 3166-2)",
        ),
        ("group.g.places = [\"asn:AS64500\"]", "2:19: \"AS64500\" is not an AS number from 0 to 4294967295"),
        (
            "group.g.places = [\"net:10.20.0.1/16\"]",
            "2:19: 10.20.0.1/16 has host bits set; write 10.20.0.0/16",
        ),
        (
            "group.g.places = [\"net:10.20.0.1\"]",
            "2:19: \"10.20.0.1\" is not a valid prefix such as 192.0.2.0/24; write 10.20.0.1/32",
        ),
        ("group.g.places = [\"group:eaa\"]", "2:19: group `eaa` is not defined; did you mean `eea`?"),
        ("group.g.places = [\"country:de\", \"country:DE\"]", "2:33: this place is listed twice"),
        ("group.g.places = [\"group:g\"]", "2:19: group `g` contains itself: g → g"),
        (
            "group.a.places = [\"group:b\"]\ngroup.b.places = [\"asn:1\", \"group:c\"]\ngroup.c.places = [\"group:a\"]",
            "2:19: group `a` contains itself: a → b → c → a",
        ),
        ("geo.database = []", "2:16: expected \"builtin\" or a list of .mmdb files, found an empty list"),
        (
            "geo.network = [{ prefix = \"10.0.0.0/8\" }]",
            "2:16: `geo.network` needs `location`, `regions` or both",
        ),
        (
            "geo.network = [{ prefix = \"10.0.0.0/8\", regions = [\"est\", \"east\", \"east\"] }]",
            "2:52: region `est` is not defined; did you mean `east`?\n2:67: region `east` is listed twice",
        ),
        (
            "[[geo.network]]\nprefix = \"10.0.0.0/8\"\nregions = [\"east\"]\n[[geo.network]]\nprefix = \"10.0.0.0/8\"\nregions = [\"west\"]",
            "5:1: network 10.0.0.0/8 is described twice",
        ),
        (
            "geo.network = [{ prefix = \"::/0\", location = \"eu-west-1\" }]",
            "2:46: expected a table such as { country = \"IE\", lat = 53.35, lon = -6.26 }, found \"eu-west-1\"",
        ),
        (
            "geo.network = [{ prefix = \"::/0\", location = {} }]",
            "2:46: an empty location; write at least `country`, or `lat` and `lon`",
        ),
        (
            "geo.network = [{ prefix = \"::/0\", location = { lat = 91, lon = -180.5 } }]",
            "2:54: expected a number from -90 to 90, found integer 91\n2:64: expected a number from -180 to 180, found float -180.5",
        ),
        (
            "geo.network = [{ prefix = \"::/0\", location = { lat = 91 } }]",
            "2:46: `lat` needs `lon` beside it\n2:54: expected a number from -90 to 90, found integer 91",
        ),
        (
            "geo.network = [{ prefix = \"::/0\", location = { lat = nan, lon = 1 } }]",
            "2:54: expected a number from -90 to 90, found float nan",
        ),
        (
            "geo.network = [{ prefix = \"::/0\", location = { country = \"DE\", subdivision = \"US-CA\" } }]",
            "2:78: subdivision of US in a location of DE",
        ),
        (
            "latency.table = [{ from = \"*\", region = \"est\", ms = 0 }]",
            "2:41: region `est` is not defined; did you mean `east`?\n2:53: expected milliseconds above 0, found integer 0",
        ),
    ]);
}

#[test]
fn probes() {
    check(&[
        ("probe.p = {}", "2:11: `kind` is missing in `probe.p`"),
        (
            "probe.p = { kind = \"htttp\" }",
            "2:20: expected \"tcp\", \"tls\", \"http\" or \"https\", found \"htttp\"; did you mean `http`?",
        ),
        (
            "probe.p = { kind = \"tcp\" }\nregion.r.endpoint = [{ name = \"a\", address = \"::1\", probe = [\"p\", \"web\"] }]",
            "2:11: `port` is missing in `probe.p`, which an endpoint uses",
        ),
        (
            "probe.p = { kind = \"http\", port = 65536 }",
            "2:35: expected an integer from 1 to 65535, found integer 65536",
        ),
        (
            "probe.p = { kind = \"tcp\", port = 1, host = \"a\", path = \"/\" }",
            "2:37: `host` has no meaning for kind \"tcp\"\n2:49: `path` has no meaning for kind \"tcp\"",
        ),
        ("probe.p = { kind = \"tls\", expect = {} }", "2:27: `expect` has no meaning for kind \"tls\""),
        (
            "probe.p = { kind = \"http\", interval = 5 }",
            "2:39: expected a duration such as \"5s\" (units: ms, s, m, h, d), found integer 5",
        ),
        (
            "probe.p = { kind = \"http\", interval = \"5\" }",
            "2:39: expected a duration such as \"5s\" (units: ms, s, m, h, d), found \"5\"",
        ),
        (
            "probe.p = { kind = \"http\", interval = \"10ms\" }",
            "2:39: expected a duration from 100ms to 24h, found \"10ms\"",
        ),
        (
            "probe.p = { kind = \"http\", fall = 0 }",
            "2:35: expected an integer from 1 to 1000, found integer 0",
        ),
        (
            "probe.p = { kind = \"http\", host = \"a.test:80\" }",
            "2:35: \"a.test:80\" is not a valid host name: write a name or an address, without a port",
        ),
        (
            "probe.p = { kind = \"http\", path = \"health\" }",
            "2:35: \"health\" is not a valid path: it starts with `/` and has no spaces and no `#`",
        ),
        (
            "probe.p = { kind = \"http\", host = \"[2001:db8::1\" }",
            "2:35: \"[2001:db8::1\" is not a valid host name: write a name or an address, without a port",
        ),
        (
            "probe.p = { kind = \"http\", path = \"/a\\\\b<c>\" }",
            "2:35: \"/a\\\\b<c>\" is not a valid path: invalid uri character",
        ),
        ("probe.p = { kind = \"http\", startup = {} }", "2:38: `grace` is missing in `probe.p.startup`"),
        (
            "probe.p = { kind = \"http\", expect = { status = [] } }",
            "2:48: expected a list of statuses such as [200, \"3xx\"], found an empty list",
        ),
        (
            "probe.p = { kind = \"http\", expect = { status = [99, \"6xx\", \"399-200\"] } }",
            "2:49: expected a status such as 200, \"2xx\" or \"200-399\", found integer 99\n2:53: expected a status such as 200, \"2xx\" or \"200-399\", found \"6xx\"\n2:60: expected a status such as 200, \"2xx\" or \"200-399\", found \"399-200\"",
        ),
        ("probe.p = { kind = \"https\", ca = \"notes.txt\" }", "2:34: no certificate in notes.txt"),
    ]);
}

#[test]
fn paths_of_assertions() {
    check(&[
        (
            "probe.p = { kind = \"http\", expect = { json = [{ path = \"$[\", equals = 1 }, { path = \"$.a\" }] } }",
            "2:56: \"$[\" is not a valid JSONPath (RFC 9535) such as $.status\n2:76: `equals` is missing in `probe.p.expect.json`",
        ),
        (
            "probe.p = { kind = \"http\", expect = { json = [{ path = \"$[?@[?@[?@[?@[?@]]]]]\", equals = 1 }] } }",
            "2:56: \"$[?@[?@[?@[?@[?@]]]]]\" has more than 4 filters (?)",
        ),
        (
            "probe.p = { kind = \"http\", expect = { json = [{ path = \"$.a[?match(@, $.b)]\", equals = 1 }, { path = \"$.a[?search(@, '(')]\", equals = 1 }] } }",
            "2:56: \"$.a[?match(@, $.b)]\" takes a pattern from the document: write it as text in the path\n2:102: \"(\" is not a valid regular expression (RFC 9485), or is too large",
        ),
    ]);
}

#[test]
fn regions() {
    check(&[
        ("region.r = {}", "2:12: `endpoint` is missing in `region.r`"),
        ("region.r.endpoint = []", "2:21: expected a list of endpoints, found an empty list"),
        (
            "region.r.endpoint = [{ }]",
            "2:22: `name` is missing in `region.r.endpoint`\n2:22: `address` is missing in `region.r.endpoint`",
        ),
        (
            "[[region.r.endpoint]]\nname = \"a\"\naddress = [\"0.0.0.0\", \"x\", \"::1\", \"::1\"]",
            "4:12: 0.0.0.0 cannot be connected to\n4:23: \"x\" is not a valid IP address\n4:35: address ::1 is listed twice",
        ),
        (
            "region.r.endpoint = [{ name = \"a\", address = \"::ffff:192.0.2.1\" }]",
            "2:46: ::ffff:192.0.2.1 is an IPv4-mapped address; write 192.0.2.1",
        ),
        (
            "region.r.endpoint = [{ name = \"a\", address = \"::1\" }, { name = \"a\", address = \"::2\" }]",
            "2:64: endpoint `a` is defined twice",
        ),
        (
            "region.r.endpoint = [{ name = \"a\", address = \"::1\", weight = 1000001, probe = [\"wep\", \"web\", \"web\"] }]",
            "2:62: expected an integer from 0 to 1000000, found integer 1000001\n2:80: probe `wep` is not defined; did you mean `web`?\n2:94: probe `web` is listed twice",
        ),
        (
            "[region.r]\nendpoint = [{ name = \"a\", address = \"::1\" }]\nhealthy_when = { at_least = 2 }",
            "4:29: at least 2 endpoints must be up, but the region has 1",
        ),
        (
            "[region.r]\nendpoint = [{ name = \"a\", address = \"::1\" }]\nhealthy_when = { fraction = \"0%\" }",
            "4:29: expected a share above 0% and up to 100%, found \"0%\"",
        ),
        (
            "[region.r]\nendpoint = [{ name = \"a\", address = \"::1\" }]\nhealthy_when = \"most\"",
            "4:16: expected \"any\", \"all\", { at_least = 2 } or { fraction = \"50%\" }, found \"most\"",
        ),
        (
            "[region.r]\nendpoint = [{ name = \"lb7\", address = \"::1\" }]\nrequire = [\"lb8\", \"endpoint/est/lb1\", \"endpoint/east/lb2\", \"east/lb1\", \"lb7\", \"lb7\"]",
            "4:12: endpoint `lb8` is not defined in region `r`; did you mean `lb7`?\n4:19: region `est` is not defined; did you mean `east`?\n4:39: endpoint `lb2` is not defined in region `east`; did you mean `lb1`?\n4:60: \"east/lb1\" is not a valid endpoint: write NAME or endpoint/REGION/NAME\n4:79: this is listed twice",
        ),
    ]);
}

/// Like [`check`], for a service in line 2 whose keys start in line 4.
pub(super) fn check_services(cases: &[(&str, &str)]) {
    let service = |keys: &str| format!("[[service]]\nname = \"www.gslb.test\"\n{keys}");
    let whole: Vec<_> = cases.iter().map(|(keys, expected)| (service(keys), *expected)).collect();
    let cases: Vec<_> = whole.iter().map(|(snippet, expected)| (snippet.as_str(), *expected)).collect();
    check(&cases);
}

#[test]
fn services_and_policies() {
    check_services(&[
        ("", "2:1: `regions` is missing in `service`"),
        ("regions = []", "4:11: expected a list of regions, found an empty list"),
        (
            "regions = [\"est\", \"east\", { region = \"east\" }]",
            "4:12: region `est` is not defined; did you mean `east`?\n4:27: region `east` is listed twice",
        ),
        (
            "regions = [{ region = \"east\", weight = -1 }]",
            "4:40: expected an integer from 0 to 1000000, found integer -1",
        ),
        ("regions = [\"east\"]\npolicy = \"nearby\"", "5:10: policy `nearby` is not defined"),
        (
            "regions = [\"east\"]\nrank = \"random\"",
            "5:8: expected \"priority\", \"distance\", \"latency\", \"geo\" or \"none\", found \"random\"",
        ),
        ("regions = [\"east\"]\nanswers = 0", "5:11: expected an integer from 1 to 64, found integer 0"),
        (
            "regions = [\"east\"]\nttl = 30",
            "5:7: expected a duration such as \"5s\" (units: ms, s, m, h, d), found integer 30",
        ),
        ("regions = [\"east\"]\nttl = \"1500ms\"", "5:7: a TTL is a whole number of seconds"),
        ("regions = [\"east\"]\nttl = { max = \"10s\" }", "5:7: `min` is missing in `service.ttl`"),
        ("regions = [\"east\"]\nttl = { max = \"10s\", min = \"11s\" }", "5:28: `min` is more than `max`"),
        (
            "regions = [\"east\"]\nall_down = \"some\"",
            "5:12: expected \"all\", \"servfail\", { last_good = \"10m\" }, { fallback = [\"203.0.113.9\"] } or { cname = \"lb.example.net\" }, found \"some\"",
        ),
        (
            "regions = [\"east\"]\nall_down = { fallback = [] }",
            "5:25: expected a list of addresses such as [\"203.0.113.9\"], found an empty list",
        ),
        (
            "regions = [\"east\", \"west\"]\nrank = \"distance\"",
            "4:20: region `west` has no `lat` and `lon`, which rank = \"distance\" needs",
        ),
        (
            "regions = [\"east\"]\nrank = \"latency\"\ntolerance = \"15 apples\"",
            "6:13: expected a tolerance such as \"15ms\" or \"300km\", found \"15 apples\"",
        ),
        (
            "regions = [\"east\"]\nrank = \"latency\"\ntolerance = \"-3km\"",
            "6:13: expected a tolerance such as \"15ms\" or \"300km\", found \"-3km\"",
        ),
    ]);
    check(&[
        (
            "service = [{ name = \"a..b\", regions = [\"east\"] }]",
            "2:21: \"a..b\" is not a valid domain name: empty label",
        ),
        (
            "service = [{ name = \"www.gslb.test\", regions = [\"east\"] }, { name = \"WWW.gslb.test.\", regions = [\"east\"] }]",
            "2:69: a service at www.gslb.test. answers A already; services of one name need a `type` each",
        ),
    ]);
}

#[test]
fn tolerances_fit_their_rank() {
    check_services(&[
        (
            "regions = [\"east\"]\nrank = \"latency\"\ntolerance = \"300km\"",
            "6:13: rank = \"latency\" takes a tolerance in time such as \"15ms\"",
        ),
        (
            "regions = [\"east\"]\ntolerance = \"300km\"",
            "5:13: `tolerance` has no meaning with rank = \"priority\"",
        ),
    ]);
    let service = |keys: &str| {
        format!("service = [{{ name = \"www.gslb.test\", regions = [\"east\"], policy = \"p\" {keys} }}]")
    };
    let near = "policy.p = { rank = \"distance\", tolerance = \"300km\" }\n";
    check(&[
        // Reported once, where it is written, although a service inherits it.
        (
            &format!("policy.p = {{ rank = \"distance\", tolerance = \"5ms\" }}\n{}", service("")),
            "2:45: rank = \"distance\" takes a tolerance in kilometres such as \"300km\"",
        ),
        (
            &format!("policy.p = {{ tolerance = \"5ms\" }}\n{}", service("")),
            "2:26: `tolerance` has no meaning with rank = \"priority\"",
        ),
        (
            &format!("{near}{}", service(", rank = \"latency\"")),
            "3:80: rank = \"latency\" takes a tolerance in time such as \"15ms\"",
        ),
        // A rank that takes no tolerance ignores the policy's.
        (&format!("{near}{}", service(", rank = \"priority\"")), ""),
        (&format!("{near}{}", service(", rank = \"latency\", tolerance = \"5ms\"")), ""),
    ]);
}

#[test]
fn geo_tables_and_fences() {
    check_services(&[
        ("regions = [\"east\"]\nrank = \"geo\"", "5:1: rank = \"geo\" needs the table `geo`"),
        (
            "regions = [\"east\"]\ngeo = { \"*\" = [\"east\"] }",
            "5:1: warning: `geo` is not used\n  help: write rank = \"geo\" in the service or its policy",
        ),
        ("regions = [\"east\"]\nrank = \"geo\"\ngeo = {}", "6:7: `geo` is empty"),
        (
            "regions = [\"east\"]\nrank = \"geo\"\ngeo = { \"*\" = [\"west\"], \"country:DE\" = [\"est\"] }",
            "6:16: region `west` is not among the service's `regions`\n6:41: region `est` is not defined; did you mean `east`?",
        ),
        (
            "regions = [\"east\", \"west\"]\nrank = \"geo\"\ngeo = { \"*\" = [\"west\", [\"east\", \"west\"]] }",
            "6:33: region `west` is listed twice",
        ),
        (
            "regions = [\"east\"]\nrank = \"geo\"\ngeo = { \"country:DE\" = [\"east\"], \"country:de\" = [\"east\"], \"moon\" = [\"east\"] }",
            "6:34: place `country:de` is described twice\n6:59: \"moon\" is not a valid place; places start with net:, asn:, region:, country:, group:, continent: or are \"*\"",
        ),
        (
            "regions = [\"east\"]\nfence = [{ region = \"west\", only = [\"*\"] }]",
            "5:21: region `west` is not among the service's `regions`",
        ),
        (
            "regions = [\"east\"]\nfence = [{ region = \"east\" }]",
            "5:10: a fence needs `only` or `except`, and not both",
        ),
        (
            "regions = [\"east\"]\nfence = [{ region = \"east\", only = [\"asn:1\"] }, { region = \"east\", only = [\"asn:2\"] }]",
            "5:49: this region has such a fence already; put all places into one list",
        ),
        (
            "regions = [\"east\"]\nfence = [{ region = \"east\", only = [\"group:eaa\"] }]",
            "5:37: group `eaa` is not defined; did you mean `eea`?",
        ),
    ]);
}

#[test]
fn fences_that_exclude_everybody() {
    let nobody =
        |place: &str| format!("{place}: the fences leave no client that may be sent to region `east`");
    let east = |only: &str, except: &str| {
        format!(
            "regions = [\"east\", \"west\"]\nfence = [{{ region = \"east\", only = {only} }},\n{{ region = \"east\", except = {except} }}]"
        )
    };
    check_services(&[
        ("regions = [\"east\"]\nfence = [{ region = \"east\", except = [\"*\"] }]", &nobody("5:10")),
        (&east("[\"country:DE\", \"region:US-CA\"]", "[\"continent:EU\", \"country:US\"]"), &nobody("6:1")),
        (&east("[\"net:192.0.2.0/24\"]", "[\"net:192.0.0.0/16\"]"), &nobody("6:1")),
        (&east("[\"group:eea\"]", "[\"continent:EU\"]"), &nobody("6:1")),
        (&east("[\"country:DE\", \"country:US\"]", "[\"continent:EU\"]"), ""),
        (&east("[\"net:192.0.0.0/16\"]", "[\"net:192.0.2.0/24\"]"), ""),
        (&east("[\"country:US\"]", "[\"region:US-CA\"]"), ""),
    ]);
}

#[test]
fn fences_that_leave_gaps_between_them() {
    let two = |east: &str, west: &str| {
        format!(
            "regions = [\"east\", \"west\"]\nfence = [{{ region = \"east\", {east} }}, {{ region = \"west\", {west} }}]"
        )
    };
    let gap = |whom: &str| {
        format!(
            "5:1: warning: fences leave no region to {whom}\n  help: they get no address; leave a region without a fence, or say all_down = {{ fallback = […] }}, which is for them too"
        )
    };
    let fallback = "\nall_down = { fallback = [\"203.0.113.9\"] }";
    check_services(&[
        (
            &two("only = [\"group:eea\"]", "except = [\"continent:EU\", \"country:US\", \"country:CA\"]"),
            &gap("clients in AD, AL, AT, AX, BA and 48 more countries"),
        ),
        (&two("except = [\"country:DE\"]", "except = [\"group:eea\"]"), &gap("clients in DE")),
        (&two("only = [\"group:eea\"]", "only = [\"*\"]"), ""),
        (&two("only = [\"country:DE\"]", "except = [\"country:FR\"]"), &gap("clients in FR")),
        // A network may admit some clients of a country, and a fallback serves the others.
        (&two("only = [\"net:192.0.2.0/24\"]", "except = [\"country:FR\"]"), ""),
        (&format!("{}{fallback}", two("except = [\"country:DE\"]", "except = [\"group:eea\"]")), ""),
        // The fence of a single region is intended.
        ("regions = [\"east\"]\nfence = { region = \"east\", only = [\"group:eea\"] }", ""),
    ]);
    let all = reported(&format!(
        "[[service]]\nname = \"www.gslb.test\"\n{}",
        two("only = [\"continent:EU\"]", "only = [\"continent:NA\"]")
    ));
    assert!(all.contains("more countries, nor to clients that cannot be located\n"), "{all}");
}

#[test]
fn a_fallback_should_have_the_families_of_the_regions() {
    check_services(&[
        (
            "regions = [\"east\"]\nall_down = { fallback = [\"2001:db8::1\"] }",
            "5:12: warning: `fallback` has no IPv4 address, but the regions do\n  help: while all are down A has no answer; add an address of that family",
        ),
        ("regions = [\"east\"]\nall_down = { fallback = [\"2001:db8::1\", \"203.0.113.9\"] }", ""),
    ]);
}

#[test]
fn services_need_a_place_in_a_zone() {
    check(&[
        (
            "service = [{ name = \"www.example.com\", regions = [\"east\"] }]",
            "2:21: www.example.com. lies in none of the zones gslb.test.",
        ),
        (
            "service = [{ name = \"www\", regions = [\"east\"] }]",
            "2:21: www. lies in none of the zones gslb.test.; write the whole name, such as www.gslb.test.",
        ),
        (
            "service = [{ name = \"alias.gslb.test\", regions = [\"east\"] }]",
            "2:21: the zone gslb.test. has a CNAME of its own at alias.gslb.test.",
        ),
        ("[[zone]]\norigin = \"gslb.test\"\nfile = \"z.zone\"", "20:10: zone gslb.test. is defined twice"),
    ]);
}

#[test]
fn unusual_settings_are_warned_of() {
    check(&[
        (
            "probe.p = { kind = \"http\", timeout = \"5s\" }",
            "2:28: warning: probe `p` may take 5s but runs every 5s\n  help: probes of an address never overlap, so slow ones stretch the interval; make `timeout` shorter than `interval`",
        ),
        (
            "probe.p = { kind = \"http\", interval = \"1s\" }",
            "2:28: warning: probe `p` may take 2s but runs every 1s\n  help: probes of an address never overlap, so slow ones stretch the interval; make `timeout` shorter than `interval`",
        ),
        (
            "region.r.endpoint = [{ name = \"a\", address = \"::1\", probe = [\"tcp\"] }]",
            "2:8: warning: region `r` is probed by TCP handshakes alone\n  help: a balancer completes handshakes while everything behind it is down; add a probe of kind http or https",
        ),
    ]);
    check_services(&[
        // Four times (3 × 5 s + 2 s).
        ("regions = [\"east\"]\nttl = \"68s\"", ""),
        ("regions = [\"east\"]\nttl = { max = \"10s\", min = \"0s\" }", ""),
        (
            "regions = [\"east\"]\nttl = { max = \"11s\", min = \"2s\" }",
            "5:7: warning: `max` = 11s is never reached: a region may be found down within 10s\n  help: no answer is kept for longer than 10s: lower `max`, or raise `fall` or `interval`",
        ),
        (
            "regions = [\"east\"]\nttl = \"69s\"",
            "5:7: warning: clients keep an answer for 1m9s, but a failure is noticed within 17s\n  help: shorten `ttl`, or clients stay with a failed region long after it was withdrawn",
        ),
    ]);
}

#[test]
fn unsupported_keys_are_distinguished_from_unknown_ones() {
    let service = "service = [{ name = \"www.gslb.test\", regions = [\"east\"], ";
    let mut cases: Vec<(String, String)> = Vec::new();
    for key in ["include", "alert", "cluster", "tsig"] {
        cases.push((format!("{key} = 1"), key.into()));
    }
    for key in ["tls", "transfer"] {
        cases.push((format!("dns = {{ listen = [\"[::]:53\"], {key} = 1 }}"), format!("dns.{key}")));
    }
    cases.push(("journal.retention = { age = \"1d\", size = 1 }".into(), "journal.retention.size".into()));
    for key in ["min_capacity", "max_withdrawals"] {
        cases.push((format!("safety.{key} = 1"), format!("safety.{key}")));
    }
    for kind in ["grpc", "dns", "udp", "icmp", "exec", "file"] {
        cases.push((format!("probe.p.kind = \"{kind}\""), kind.into()));
    }
    for key in ["path", "timeout"] {
        let text = format!("probe.p = {{ kind = \"http\", startup = {{ grace = \"1s\", {key} = 1 }} }}");
        cases.push((text, format!("probe.p.startup.{key}")));
    }
    cases.push((format!("{service}spill = true }}]"), "spill = true".into()));
    for (text, what) in cases {
        let reported = reported(&text);
        let (line, help) = reported.split_once('\n').unwrap_or((&reported, ""));
        let expected =
            if text.contains("p.kind") { "  help: use \"tcp\", \"tls\", \"http\" or \"https\"" } else { "" };
        assert_eq!(help, expected, "of {text}:\n{reported}");
        assert!(line.starts_with("2:"), "{line}");
        assert!(line.ends_with(&format!(": `{what}` is not supported yet")), "{line} does not say {what}");
    }
    let dnssec = "[[zone]]\norigin = \"sub.gslb.test\"\nfile = \"sub.zone\"\ndnssec = true";
    let reported = reported(dnssec);
    assert!(reported.ends_with("\n5:10: `dnssec = true` is not supported yet"), "{reported}");
}

#[test]
fn every_error_is_shown_in_one_run() {
    let text = r#"version = 2
[dns]
listen = ["0.0.0.0"]
worker = 4
[probe.web]
kind = "http"
interval = 5
[region.east]
location = { lat = 100, lon = 0 }
endpoint = [{ name = "lb1", address = ["192.0.2"], probe = ["wep"] }]
[[service]]
name = "www.gslb.test"
regions = ["east", "wset"]
rank = "geo"
answers = 65
[[zone]]
origin = "gslb.test"
file = "z.zone"
[cluster]
quorum = 1
"#;
    insta::assert_snapshot!(reported_with(text, &[]), @r#"
    p.toml:1:11: expected version 1 of the config's format, found integer 2
    p.toml:3:11: "0.0.0.0" is not an address with a port; write "0.0.0.0:53" with the port you mean
    p.toml:4:1: unknown key `worker` in `dns`; did you mean `workers`?
    p.toml:7:12: expected a duration such as "5s" (units: ms, s, m, h, d), found integer 5
    p.toml:9:20: expected a number from -90 to 90, found integer 100
    p.toml:10:40: "192.0.2" is not a valid IP address
    p.toml:10:61: probe `wep` is not defined; did you mean `web`?
    p.toml:13:20: region `wset` is not defined
    p.toml:14:1: rank = "geo" needs the table `geo`
    p.toml:15:11: expected an integer from 1 to 64, found integer 65
    p.toml:18:8: zone file z.zone: no such file
      help: a relative path starts at the folder of the config file
    p.toml:19:2: `cluster` is not supported yet
    "#);
    // A syntax error hides only what it may have swallowed.
    let reported = reported_with(&text.replace("[cluster]", "no TOML"), &[]);
    insta::assert_snapshot!(reported, @r#"
    p.toml:1:11: expected version 1 of the config's format, found integer 2
    p.toml:3:11: "0.0.0.0" is not an address with a port; write "0.0.0.0:53" with the port you mean
    p.toml:4:1: unknown key `worker` in `dns`; did you mean `workers`?
    p.toml:7:12: expected a duration such as "5s" (units: ms, s, m, h, d), found integer 5
    p.toml:9:20: expected a number from -90 to 90, found integer 100
    p.toml:10:40: "192.0.2" is not a valid IP address
    p.toml:10:61: probe `wep` is not defined; did you mean `web`?
    p.toml:13:20: region `wset` is not defined
    p.toml:15:11: expected an integer from 1 to 64, found integer 65
    p.toml:18:8: zone file z.zone: no such file
      help: a relative path starts at the folder of the config file
    p.toml:19:4: key with no value, expected `=`
    "#);
}

#[test]
fn a_syntax_error_causes_no_follow_up_errors() {
    for (text, expected) in [
        (
            "version = 1\n[dns]\nlisten = [\"[::]:53\"\n[log]\nlevel = \"info\"\n",
            "4:1: missing comma between array elements, expected `,`",
        ),
        (
            "version = 1\nversion = 1\nlog = {}\nlog = {}",
            "2:1: `version` is written twice\n4:1: `log` is written twice",
        ),
        (
            "[dns]\nlisten = \n",
            "2:10: a value is missing: write text, addresses and durations in quotes, as in \"5s\"",
        ),
        (
            "[node]\nname = nonsense\n",
            "2:8: this is not a valid value: write text, addresses and durations in quotes, as in \"5s\"",
        ),
        (
            "[dns]\nlisten = [127.0.0.1]\n",
            "2:16: this is not a valid value: write text, addresses and durations in quotes, as in \"5s\"",
        ),
        // The unclosed list above swallows the region.
        (
            "version = 1\ngeo.network = [{ prefix = \"::/0\", regions = [\"east\"] }\n[region.east]\nendpoint = []\n",
            "3:1: missing comma between array elements, expected `,`",
        ),
    ] {
        assert_eq!(reported_with(text, &[]).replace("p.toml:", ""), expected, "of:\n{text}");
    }
}

#[test]
fn diagnostics_carry_what_a_renderer_needs() {
    let reported =
        load_with("version = 1\n[log]\nlevel = \"ïnfo\"", &[]).expect_err("a bad level").diagnostics;
    let it = reported.iter().next().expect("one diagnostic");
    assert_eq!((it.severity, it.line, it.column, it.end_column), (Severity::Error, 3, 9, 15));
    let line = reported.source(&it.file).and_then(|text| text.lines().nth(it.line - 1));
    assert_eq!(line, Some("level = \"ïnfo\""));
}
