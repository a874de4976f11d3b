//! Answers as the usual tools read them. A test whose tool is not installed is skipped.

use crate::harness::node::TestNode;
use crate::harness::region::{Break, DUBLIN, Region};
use crate::harness::tool::Tool;

const CONFIG: &str = "\
[region.eu]\nlocation = { country = \"IE\", lat = 53.35, lon = -6.26 }
endpoint = [{ name = \"lb1\", address = [\"192.0.2.1\", \"2001:db8::1\"] }]
[region.us]\nlocation = { country = \"US\", lat = 38.95, lon = -77.45 }
endpoint = [{ name = \"lb1\", address = [\"192.0.2.2\", \"2001:db8::2\"] }]
[[service]]\nname = \"www.example.test.\"\nregions = [\"eu\", \"us\"]\nrank = \"distance\"\n";

/// Questions, and the lines that must be printed. One half of 10.0.0.0/15 has no location and the other is in Germany:
/// both are sent to the same region. 10.3.0.0/16, next to 10.2.0.0/16, is not.
const ASKED: &[(&[&str], &[&str])] = &[
    (
        &["www.example.test", "A", "+subnet=10.1.7.0/24", "+nocookie"],
        &[
            "status: NOERROR",
            "flags: qr aa; QUERY: 1, ANSWER: 1",
            "CLIENT-SUBNET: 10.1.7.0/24/15",
            "www.example.test. 30 IN A 192.0.2.1",
        ],
    ),
    (
        &["www.example.test", "AAAA", "+subnet=10.2.7.0/24"],
        &[
            "status: NOERROR",
            "flags: qr aa;",
            "CLIENT-SUBNET: 10.2.7.0/24/16",
            "www.example.test. 30 IN AAAA 2001:db8::2",
        ],
    ),
    (
        &["alias.example.test", "A", "+subnet=10.2.7.0/24", "+tcp"],
        &[
            "alias.example.test. 300 IN CNAME www.example.test.",
            "www.example.test. 30 IN A 192.0.2.2",
            "(TCP)",
        ],
    ),
    (&["static.example.test", "A", "+noedns"], &["static.example.test. 300 IN A 192.0.2.1", "ADDITIONAL: 0"]),
    (&["wWw.eXample.test", "A", "+nosubnet"], &["wWw.eXample.test. 30 IN A"]),
    (
        &["example.test", "SOA"],
        &["example.test. 600 IN SOA ns.example.test. hostmaster.example.test. 7 3600 600 86400 60"],
    ),
    (&["www.example.test", "MX"], &["status: NOERROR", "ANSWER: 0, AUTHORITY: 1", "60 IN SOA"]),
    (&["gone.example.test", "A"], &["status: NXDOMAIN", "60 IN SOA"]),
    (&["www.elsewhere.invalid", "A"], &["status: REFUSED", "EDE: 20 (Not Authoritative)"]),
    (&["version.bind", "TXT", "CH"], &["status: REFUSED", "EDE: 21 (Not Supported)"]),
];

fn reads(tool: &Tool, node: &TestNode, own: impl Fn(&str) -> Option<String>) {
    for (arguments, expected) in ASKED {
        let printed = tool.ask(node, arguments);
        assert!(!printed.contains("WARNING") && !printed.contains("Warning"), "{arguments:?}:\n{printed}");
        for line in expected.iter().filter_map(|line| own(line)) {
            assert!(printed.contains(&line), "{arguments:?}: expected {line:?} in\n{printed}");
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn dig_reads_every_answer() {
    let Some(dig) = Tool::dig() else { return };
    let node = TestNode::with(CONFIG).await;
    reads(&dig, &node, |line| Some(line.to_owned()));
    let short = dig.ask(&node, &["www.example.test", "+subnet=10.1.0.0/16", "+short"]);
    assert_eq!(short, "192.0.2.1");
    node.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn kdig_reads_every_answer() {
    let Some(kdig) = Tool::kdig() else { return };
    let node = TestNode::with(CONFIG).await;
    // It prints headers in its own format and names in lowercase; records are the same.
    reads(&kdig, &node, |line| (line.contains(" IN ") && !line.starts_with("wWw")).then(|| line.to_owned()));
    node.stop().await;
}

/// The answers of each form of `all_down` for a region that never served: the key, the type asked for, the lines.
const ALL_DOWN: &[(&str, &str, &str, &[&str])] = &[
    ("all", "\"all\"", "A", &["status: NOERROR", "all.example.test. 30 IN A 127.0.1.1"]),
    ("last", "{ last_good = \"10m\" }", "A", &["last.example.test. 30 IN A 127.0.1.1"]),
    (
        "fallback",
        "{ fallback = [\"203.0.113.9\", \"2001:db8::9\"] }",
        "A",
        &["fallback.example.test. 30 IN A 203.0.113.9"],
    ),
    ("fallback", "", "AAAA", &["fallback.example.test. 30 IN AAAA 2001:db8::9"]),
    (
        "fallback",
        "",
        "HTTPS",
        &["fallback.example.test. 30 IN HTTPS 1 . alpn=\"h2\" ipv4hint=203.0.113.9 ipv6hint=2001:db8::9"],
    ),
    ("servfail", "\"servfail\"", "A", &["status: SERVFAIL", "ANSWER: 0, AUTHORITY: 0"]),
    (
        "cname",
        "{ cname = \"static.example.test\" }",
        "A",
        &["cname.example.test. 30 IN CNAME static.example.test.", "static.example.test. 300 IN A 192.0.2.1"],
    ),
];

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn dig_reads_every_form_of_all_down() {
    let Some(dig) = Tool::dig() else { return };
    let eu = Region::start("eu", 1);
    eu.fail(Break::Refuse);
    let services = ALL_DOWN.iter().filter(|(_, form, ..)| !form.is_empty()).map(|(name, form, ..)| {
        let https = if *name == "fallback" { "https = { alpn = \"h2\" }\n" } else { "" };
        format!(
            "[[service]]\nname = \"{name}.example.test.\"\nregions = [\"eu\"]\nall_down = {form}\n{https}"
        )
    });
    let node = TestNode::with(&(eu.config(DUBLIN, &[]) + &services.collect::<String>())).await;
    for (name, _, rtype, expected) in ALL_DOWN {
        let printed = dig.ask(&node, &[&format!("{name}.example.test"), rtype, "+nocookie"]);
        for line in *expected {
            assert!(printed.contains(line), "{name} {rtype}: expected {line:?} in\n{printed}");
        }
    }
    node.stop().await;
}
