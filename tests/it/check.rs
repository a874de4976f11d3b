//! `portolan check` and the start of `portolan serve`, as users see them.

use std::path::Path;
use std::process::{Command, Output};

use serde_json::{Value, json};

const ZONE: &str = "@ 300 SOA ns1 admin 1 3600 600 86400 60\n@ 300 NS ns1\nns1 300 A 192.0.2.53\n";

/// Two regions and a service, without warnings.
const GOOD: &str = r#"version = 1
geo.database = "places.mmdb"
dns.listen = ["127.0.0.1:0"]
control = { listen = false, socket = false }
zone = [{ origin = "gslb.test", file = "gslb.test.zone" }]
[probe.ready]
kind = "http"
[region.east]
endpoint = [{ name = "lb1", address = "192.0.2.1", probe = "ready" }]
[region.west]
endpoint = [{ name = "lb1", address = "192.0.2.2", probe = "ready" }]
[[service]]
name = "www.gslb.test"
regions = ["east", "west"]
"#;

/// Ten errors in eight tables.
const TEN: &str = r#"version = 1
[log]
level = "inform"
[dns]
listen = ["127.0.0.1:5300", "0.0.0.0:5300"]
worker = 4
[group.a]
places = ["group:b"]
[group.b]
places = ["group:a", "country:UK"]
[probe.ready]
kind = "http"
interval = 5
[region.east]
endpoint = [{ name = "lb1", address = ["192.0.2.1"], probe = ["raedy"] }]
[[zone]]
origin = "gslb.test"
file = "none.zone"
[[service]]
name = "www.gslb.test"
regions = ["east"]
fence = [{ region = "east", except = ["*"] }]
[cluster]
quorum = 1
"#;

/// Runs `portolan` in the folder of a config, which it is told of.
fn portolan(config: &str, arguments: &[&str]) -> Output {
    beside(config, &[arguments, &["-c", "p.toml"]].concat())
}

/// Runs `portolan` in the folder of a config.
fn beside(config: &str, arguments: &[&str]) -> Output {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let data = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/mmdb/GeoIP2-City-Test.mmdb");
    std::fs::copy(data, folder.path().join("places.mmdb")).expect("copied");
    std::fs::write(folder.path().join("gslb.test.zone"), ZONE).expect("written");
    std::fs::write(folder.path().join("p.toml"), config).expect("written");
    Command::new(env!("CARGO_BIN_EXE_portolan"))
        .args(arguments)
        .current_dir(folder.path())
        .output()
        .expect("the program runs")
}

fn stdout(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).into_owned()
}

fn stderr(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

#[test]
fn ten_mistakes_are_ten_errors() {
    let output = portolan(TEN, &["check"]);
    let heads =
        stderr(&output).lines().filter(|line| line.starts_with("p.toml:")).collect::<Vec<_>>().join("\n");
    insta::assert_snapshot!(heads, @r#"
    p.toml:3:9: error: expected "error", "warn", "info", "debug" or "trace", found "inform"; did you mean `info`?
    p.toml:5:29: error: 0.0.0.0:5300 overlaps the listener 127.0.0.1:5300
    p.toml:6:1: error: unknown key `worker` in `dns`; did you mean `workers`?
    p.toml:8:11: error: group `a` contains itself: a → b → a
    p.toml:10:22: error: ISO 3166-1 has no country UK; did you mean `GB`?
    p.toml:13:12: error: expected a duration such as "5s" (units: ms, s, m, h, d), found integer 5
    p.toml:15:63: error: probe `raedy` is not defined; did you mean `ready`?
    p.toml:18:8: error: zone file none.zone: no such file
    p.toml:22:10: error: the fences leave no client that may be sent to region `east`
    p.toml:23:2: error: `cluster` is not supported yet
    "#);
    assert!(stderr(&output).ends_with("10 errors\n"), "{}", stderr(&output));
    assert!(stderr(&output).contains("\n6 | worker = 4\n  | ^^^^^^\n"), "{}", stderr(&output));
    assert_eq!((output.status.code(), stdout(&output).as_str()), (Some(1), ""));
    // `serve` reports the same.
    let serve = portolan(TEN, &["serve"]);
    assert_eq!((serve.status.code(), stderr(&serve)), (Some(1), stderr(&output)));
}

#[test]
fn the_same_as_json() {
    let output = portolan(TEN, &["check", "--json"]);
    assert_eq!((output.status.code(), stderr(&output).as_str()), (Some(1), ""));
    let rows: Vec<Value> = serde_json::from_slice(&output.stdout).expect("a JSON array");
    assert_eq!(rows.len(), 10);
    let with_zones = portolan(TEN, &["check", "--json", "--delegation"]);
    let report: Value = serde_json::from_slice(&with_zones.stdout).expect("a JSON object");
    assert_eq!((with_zones.status.code(), report), (Some(1), json!({"diagnostics": rows, "zones": []})));
    assert_eq!(
        rows[0],
        json!({
            "severity": "error",
            "file": "p.toml",
            "line": 3,
            "column": 9,
            "end_column": 17,
            "message": "expected \"error\", \"warn\", \"info\", \"debug\" or \"trace\", found \"inform\"; did you mean `info`?",
            "help": null,
        })
    );
}

#[test]
fn a_state_directory_that_cannot_be_created_is_warned_of() {
    for (state_dir, expected) in [
        ("state/of/the/node", None),
        ("/tmp", None),
        ("p.toml", Some("state_dir p.toml: p.toml is a file")),
        ("p.toml/below/it", Some("p.toml is a file")),
    ] {
        let output = portolan(&format!("{GOOD}[node]\nstate_dir = {state_dir:?}\n"), &["check"]);
        assert_eq!(output.status.code(), Some(0), "{state_dir}: {}", stderr(&output));
        let warnings = stderr(&output);
        match expected {
            None => assert_eq!(warnings, "", "{state_dir}"),
            Some(why) => assert!(
                warnings.starts_with("p.toml:16:13: warning: the current user cannot write to ")
                    && warnings.contains(why),
                "{state_dir}: {warnings}"
            ),
        }
    }
}

/// `serve` would not start.
#[test]
fn a_user_that_this_host_does_not_have_is_an_error() {
    let config = format!("{GOOD}[node]\nuser = \"nosuch\"\n");
    let output = portolan(&config, &["check"]);
    let errors = stderr(&output);
    assert!(errors.starts_with("p.toml:16:8: error: there is no user `nosuch`\n"), "{errors}");
    assert!(errors.contains("= help: create it with `useradd --system nosuch`"), "{errors}");
    assert_eq!((output.status.code(), stdout(&output).as_str()), (Some(1), ""));
    let output = portolan(&config, &["check", "--json"]);
    assert_eq!(output.status.code(), Some(1));
    assert!(stdout(&output).contains("there is no user `nosuch`"), "{}", stdout(&output));
    let output = portolan(&config.replace("nosuch", "root"), &["check"]);
    assert_eq!((output.status.code(), stderr(&output).as_str()), (Some(0), ""));
}

/// `serve` does not start, and says the same.
#[test]
fn a_group_that_this_host_does_not_have_is_an_error() {
    let config = GOOD.replace("socket = false", "socket = \"s.sock\", group = \"nosuch\"");
    for command in ["check", "serve"] {
        let output = portolan(&config, &[command]);
        let errors = stderr(&output);
        assert!(errors.starts_with("p.toml:4:56: error: there is no group `nosuch`\n"), "{errors}");
        assert!(
            errors.contains("= help: create it with `groupadd --system nosuch`, or change `group`"),
            "{errors}"
        );
        assert_eq!((output.status.code(), stdout(&output).as_str()), (Some(1), ""));
    }
    let output = portolan(&config.replace("nosuch", "daemon"), &["check"]);
    assert_eq!((output.status.code(), stderr(&output).as_str()), (Some(0), ""));
}

#[test]
fn warnings_are_counted_and_not_errors() {
    let output = portolan(GOOD, &["check"]);
    assert_eq!((output.status.code(), stderr(&output).as_str()), (Some(0), ""));
    assert_eq!(stdout(&output), "p.toml is fine: 1 zone, 1 service, 2 regions\n");
    let named = beside(GOOD, &["check", "p.toml"]);
    assert_eq!((named.status.code(), stdout(&named)), (Some(0), stdout(&output)));
    let both = beside(GOOD, &["check", "p.toml", "-c", "p.toml"]);
    assert_eq!(both.status.code(), Some(2), "{}", stderr(&both));
    let odd = GOOD.replace("kind = \"http\"", "kind = \"tcp\"\nport = 80");
    let output = portolan(&odd, &["check"]);
    assert_eq!(output.status.code(), Some(0));
    assert_eq!(stdout(&output), "p.toml is fine: 1 zone, 1 service, 2 regions; 2 warnings\n");
    let warnings = stderr(&output);
    assert!(
        warnings.contains("p.toml:9:9: warning: region `east` is probed by TCP handshakes alone\n"),
        "{warnings}"
    );
    assert!(warnings.contains("\n  = help: a balancer completes handshakes"), "{warnings}");
    assert!(warnings.ends_with("2 warnings\n"), "{warnings}");
    let output = portolan(GOOD, &["check", "--json"]);
    assert_eq!((output.status.code(), stdout(&output).as_str()), (Some(0), "[]\n"));
}

fn printed_by_proxy(arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_portolan"))
        .args(["proxy", "--print-config"])
        .args(arguments)
        .output()
        .expect("the program runs")
}

#[test]
fn the_config_that_proxy_prints_is_fine() {
    for arguments in [
        &["--listen", "127.0.0.1:8080", "--to", "10.0.0.1:80,10.0.0.2:80"][..],
        &[
            "--listen",
            "0.0.0.0:8080",
            "[::]:8080",
            "--to",
            "[2001:db8::1]:80",
            "localhost:80",
            "--probe",
            "/ready",
        ],
        &["--tcp", "--listen", "127.0.0.1:5432", "--to", "10.0.0.1:5432", "--balance", "round-robin"],
    ] {
        let printed = printed_by_proxy(arguments);
        assert_eq!((printed.status.code(), stderr(&printed).as_str()), (Some(0), ""), "{arguments:?}");
        // The built-in database takes long to compile without optimisation.
        let config = format!("geo.database = \"places.mmdb\"\n{}", stdout(&printed));
        let checked = portolan(&config, &["check"]);
        let fine = "p.toml is fine: 0 zones, 0 services, 0 regions, 1 listener, 1 pool\n";
        assert_eq!((stdout(&checked).as_str(), stderr(&checked).as_str()), (fine, ""), "{arguments:?}");
    }
}

#[test]
fn proxy_says_what_is_wrong_with_its_arguments() {
    for (arguments, expected) in [
        (
            &["--listen", "8080", "--to", "10.0.0.1:80"][..],
            "--listen: \"8080\" is not an address with a port",
        ),
        (
            &["--listen", "[::]:80", "--to", "10.0.0.1"],
            "--to: \"10.0.0.1\" is not an address or host with a port",
        ),
        (
            &["--listen", "[::]:80", "--to", "10.0.0.1:80", "--balance", "fair"],
            "[possible values: round-robin",
        ),
        (&["--listen", "[::]:80"], "--to <ADDR>"),
    ] {
        let refused = printed_by_proxy(arguments);
        assert_eq!((refused.status.code(), stdout(&refused).as_str()), (Some(2), ""), "{arguments:?}");
        assert!(stderr(&refused).contains(expected), "{}", stderr(&refused));
    }
}
