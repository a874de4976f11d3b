//! What `[dns]` and `[control]` are read as, and the mistakes in them.

use std::time::Duration;

use super::super::*;
use super::good::full;
use super::{check, load_with, reported};
use crate::model::{
    Fraction, Identity, KeyPrefix, LogTarget, QueryLog, QueryLogTarget, RateLimit, TcpLimits,
};

#[test]
fn the_name_server() {
    let dns = Dns {
        listen: vec!["0.0.0.0:53".parse().expect("an address"), "[::]:53".parse().expect("an address")],
        workers: 4,
        ecs: false,
        key_prefix: KeyPrefix { v4: 22, v6: 48 },
        debug_names: false,
        // The identity is also the NSID by default.
        identity: Identity {
            version: None,
            hostname: Some("ns1.gslb.test".into()),
            nsid: Some("ns1.gslb.test".into()),
        },
        cookies: Cookies::SecretFile {
            path: "conf/cookies.secret".into(),
            at: Spot { file: Path::new("conf/p.toml").into(), line: 21, column: 27, end_column: 43 },
        },
        rate_limit: Some(RateLimit {
            responses_per_second: 50,
            errors_per_second: 50,
            all_per_second: None,
            slip: 3,
            window: Duration::from_secs(60),
            prefix: KeyPrefix { v4: 28, v6: 56 },
            exempt: vec!["10.0.0.0/8".parse().expect("a prefix"), "2001:db8::/32".parse().expect("a prefix")],
        }),
        allow: ["10.0.0.0/8", "2001:db8::/32"]
            .map(|text| text.parse().expect("a prefix"))
            .into_iter()
            .collect(),
        proxies: ["10.0.0.10/32", "2001:db8::10/128"]
            .map(|text| text.parse().expect("a prefix"))
            .into_iter()
            .collect(),
        tcp: TcpLimits { connections: Some(2000), per_prefix: Some(100), idle: Duration::from_secs(5) },
        query_log: Some(QueryLog {
            to: QueryLogTarget::Json(LogTarget::File("conf/queries.log".into())),
            sample: Fraction::from_percent(1.0).expect("a share"),
        }),
    };
    assert_eq!(full().dns, Some(dns));
}

#[test]
fn the_api() {
    let token =
        Token { name: "ci".into(), role: Role::Operator, sha256: std::array::from_fn(|index| index as u8) };
    let file = |name: &str, columns: std::ops::Range<usize>| NamedFile {
        path: format!("conf/{name}").into(),
        at: Spot {
            file: Path::new("conf/p.toml").into(),
            line: 35,
            column: columns.start,
            end_column: columns.end,
        },
    };
    let control = Control {
        listen: Some("127.0.0.1:8054".parse().expect("an address")),
        socket: Some("conf/run/control.sock".into()),
        group: Some(NamedGroup {
            name: "operators".into(),
            at: Spot { file: Path::new("conf/p.toml").into(), line: 34, column: 9, end_column: 20 },
        }),
        hosts: vec!["ns1.gslb.test".into()],
        read: Read::Token,
        tokens: vec![token],
        tls: Some(ControlTls {
            cert: file("c.pem", 18..25),
            key: file("k.pem", 33..40),
            client_ca: Some(file("ca.pem", 54..62)),
        }),
        metrics: Some("127.0.0.1:9153".parse().expect("an address")),
    };
    assert_eq!(full().control, control);
}

#[test]
fn cookies_are_on_and_limits_off_unless_configured() {
    let dns = |text: &str| {
        let dns = format!("version = 1\ndns = {{ listen = [\"127.0.0.1:53\"]{text} }}\n");
        let config = load_with(&dns, &[]).unwrap_or_else(|reported| panic!("{reported}"));
        config.dns.expect("a name server")
    };
    assert_eq!((dns("").cookies, dns("").rate_limit), (Cookies::OwnSecret, None));
    assert_eq!(dns(", cookies = true").cookies, Cookies::OwnSecret);
    assert_eq!(dns(", cookies = false").cookies, Cookies::Off);
    assert_eq!(dns(", rate_limit = false").rate_limit, None);
    assert_eq!(dns(", rate_limit = {}").rate_limit, Some(RateLimit::default()));
    let limit = dns(", rate_limit = { errors_per_second = 5, all_per_second = 900 }").rate_limit;
    assert_eq!(
        limit,
        Some(RateLimit { errors_per_second: 5, all_per_second: Some(900), ..RateLimit::default() })
    );
}

#[test]
fn mistakes_in_listeners() {
    check(&[
        (
            "dns = { listen = [\"0.0.0.0:8053\"], rate_limit = false }",
            "2:19: 0.0.0.0:8053 conflicts with the API, which listens on 127.0.0.1:8053\n  help: give the API another `listen` in [control]",
        ),
        ("dns = { listen = [\"0.0.0.0:8053\"], rate_limit = false }\ncontrol.listen = false", ""),
        ("dns = { listen = \"127.0.0.1:5353\" }", ""),
        (
            "dns.listen = []",
            "2:14: expected a list of addresses such as [\"0.0.0.0:53\", \"[::]:53\"], found an empty list",
        ),
        (
            "dns.listen = [\"::\"]",
            "2:15: \"::\" is not an address with a port; write \"[::]:53\" with the port you mean",
        ),
        (
            "dns.listen = [\"localhost:53\"]",
            "2:15: \"localhost:53\" is not an address with a port; write \"127.0.0.1:53\" or \"[::1]:53\"",
        ),
        (
            "dns.listen = [\"0.0.0.0:53\", \"127.0.0.1:53\"]",
            "2:29: 127.0.0.1:53 overlaps the listener 0.0.0.0:53",
        ),
        ("dns.listen = [\"[::1]:53\", \"[::1]:53\"]", "2:27: [::1]:53 is listened on twice"),
        (
            "dns.listen = [\"127.0.0.1:53\"]\ncontrol.listen = \"127.0.0.1:53\"",
            "3:18: 127.0.0.1:53 is listened on twice",
        ),
        (
            "dns.listen = [\"[::ffff:127.0.0.1]:53\"]",
            "2:15: ::ffff:127.0.0.1 is an IPv4-mapped address; write 127.0.0.1",
        ),
        (
            "[dns]\nlisten = [\"[::]:53\"]\ntcp = { connections = 0, per_prefix = 65536, idle = \"999ms\" }",
            "4:23: expected an integer from 1 to 65535, found integer 0\n4:39: expected an integer from 1 to 65535, found integer 65536\n4:53: expected a duration from 1s to 10m, found \"999ms\"",
        ),
        (
            "[dns]\nlisten = [\"[::]:53\"]\ntcp = { connections = 10, per_prefix = 11 }",
            "4:40: `per_prefix` exceeds `connections`, which is 10",
        ),
        (
            "[dns]\nlisten = [\"[::]:53\"]\nallow = [\"10.0.0.1/8\", \"10.0.0.0\", 1]",
            "4:10: 10.0.0.1/8 has host bits set; write 10.0.0.0/8\n4:24: \"10.0.0.0\" is not a valid prefix such as 192.0.2.0/24; write 10.0.0.0/32\n4:36: expected a prefix such as \"10.0.0.0/8\", found integer 1",
        ),
        (
            "[dns]\nlisten = [\"[::]:53\"]\nallow = []",
            "4:9: expected a list of prefixes such as [\"10.0.0.0/8\"], found an empty list",
        ),
        (
            "[dns]\nlisten = [\"[::1]:53\"]\nproxy_protocol_from = [\"10.0.0.10\", \"::/0\"]",
            "4:24: \"10.0.0.10\" is not a valid prefix such as 192.0.2.0/24; write 10.0.0.10/32\n4:37: warning: ::/0 makes a proxy of every TCP client, and each may claim any address\n  help: list only the addresses of your proxies",
        ),
        (
            "dns = { listen = [\"[::]:53\"], key_prefix = { v4 = 33, v6 = 129 } }",
            "2:51: expected an integer from 0 to 32, found integer 33\n2:60: expected an integer from 0 to 128, found integer 129",
        ),
        (
            "dns = { listen = [\"[::]:53\"], identity = { version = \"\", nsid = true } }",
            "2:54: expected a text, found \"\"\n2:65: expected a text, found true",
        ),
    ]);
}

#[test]
fn mistakes_in_cookies_and_limits_and_the_query_log() {
    check(&[
        (
            "[dns]\nlisten = [\"[::1]:53\"]\nquery_log = { sample = \"0%\" }",
            "4:13: a query log needs `to` or `dnstap`, and not both\n4:24: expected a share above 0% and up to 100%, found \"0%\"",
        ),
        (
            "[dns]\nlisten = [\"[::1]:53\"]\nquery_log = { to = \"q.log\", dnstap = \"q.sock\" }",
            "4:13: a query log needs `to` or `dnstap`, and not both",
        ),
        (
            "dns = { listen = [\"[::]:53\"], cookies = \"on\", rate_limit = true }",
            "2:41: expected true, false or { secret_file = \"…\" }, found \"on\"\n2:60: expected false or a table such as { responses_per_second = 20 }, found true",
        ),
        (
            "dns = { listen = [\"[::]:53\"], cookies = { file = \"x\" } }",
            "2:41: `secret_file` is missing in `dns.cookies`\n2:43: unknown key `file` in `dns.cookies`; it belongs to `latency` or `zone`",
        ),
        (
            "dns = { listen = [\"[::]:53\"], rate_limit = { responses_per_second = 0, slip = 11, window = \"0s\", v4_prefix = 33, exempt = [\"10.0.0.1/8\"] } }",
            "2:69: expected an integer from 1 to 100000, found integer 0\n2:79: expected an integer from 0 to 10, found integer 11\n2:92: expected a duration from 1s to 1h, found \"0s\"\n2:110: expected an integer from 0 to 32, found integer 33\n2:124: 10.0.0.1/8 has host bits set; write 10.0.0.0/8",
        ),
    ]);
}

#[test]
fn mistakes_in_the_api() {
    check(&[
        ("control = { group = 7 }\n", "2:21: expected the name of a group, found integer 7"),
        ("control = { group = \"\" }", "2:21: expected the name of a group, found \"\""),
        (
            "control = { socket = false, group = \"ops\" }",
            "2:37: there is no socket for a group: `socket` is false",
        ),
        (
            "control.listen = true",
            "2:18: expected an address such as \"127.0.0.1:8053\", or false, found true",
        ),
        (
            "control = { tls = { cert = \"c.pem\", client_ca = 1 }, metrics = \"127.0.0.1:8053\" }",
            "2:19: `key` is missing in `control.tls`\n2:49: expected the path of a PEM file, found integer 1\n2:64: 127.0.0.1:8053 conflicts with the API, which listens on 127.0.0.1:8053\n  help: give the API another `listen` in [control]",
        ),
        (
            "control = { read = \"nobody\", hosts = [\"ns1:8053\"] }",
            "2:20: expected \"anyone\" or \"token\", found \"nobody\"\n2:39: \"ns1:8053\" is not a valid host name: write a name or an address, without a port",
        ),
        (
            "control.token = [{ name = \"ci\", role = \"root\", sha256 = \"00\" }]",
            "2:40: expected \"viewer\", \"operator\" or \"admin\", found \"root\"\n2:57: expected a SHA-256 in 64 hexadecimal digits",
        ),
    ]);
    let token = format!("{{ name = \"ci\", role = \"viewer\", sha256 = \"{}\" }}", "0".repeat(64));
    assert_eq!(reported(&format!("control.token = [{token},\n{token}]")), "3:1: token `ci` is defined twice");
}
