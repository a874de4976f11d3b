//! Whole configs, through [`load`](super::load) and a loader with a handful of files.

mod advice;
mod alias;
mod described;
mod files;
mod good;
mod listen;
mod mistakes;
mod named;
mod proxy;
mod proxy_clients;
mod proxy_edits;
mod proxy_mistakes;
mod proxy_sockets;
mod slips;
mod torn;

use std::collections::BTreeMap;
use std::io;
use std::path::Path;

use super::{Config, Refused, load};

/// A zone with room for services, an alias and a delegation.
const ZONE: &str = "\
$ORIGIN gslb.test.
@      300 SOA ns1 admin 1 3600 600 86400 60
@      300 NS  ns1
ns1    300 A   192.0.2.53
alias  300 CNAME ns1
";

/// Loads `text` as `conf/p.toml` along with `files`, which are named as in the config.
fn load_with(text: &str, files: &[(&str, &[u8])]) -> Result<Config, Refused> {
    let named = files.iter().map(|(name, bytes)| (format!("conf/{name}"), *bytes));
    let files: BTreeMap<String, &[u8]> = named.chain([("conf/p.toml".into(), text.as_bytes())]).collect();
    load(Path::new("conf/p.toml"), &|source| {
        let name = source.path.to_str().expect("test paths are UTF-8");
        files.get(name).map(|bytes| bytes.to_vec()).ok_or_else(|| io::ErrorKind::NotFound.into())
    })
}

/// The diagnostics of a config, one per line as `FILE:LINE:COL: message`; only warnings state their severity. Those
/// about what most snippets have no room for, probes and `[dns]`, are left out.
fn reported_with(text: &str, files: &[(&str, &[u8])]) -> String {
    let reported = all_reported(text, files);
    without(&without(&reported, "has no probe: "), "this config answers no query: ")
}

/// The same with all of them.
fn all_reported(text: &str, files: &[(&str, &[u8])]) -> String {
    let reported = match load_with(text, files) {
        Ok(config) => config.warnings,
        Err(refused) => refused.diagnostics,
    };
    reported.to_string().trim_end().replace("conf/", "").replace(": error: ", ": ")
}

/// Two regions, a group, two probes and a zone, appended to a snippet that refers to them.
const WORLD: &str = r#"
[probe.tcp]
kind = "tcp"
port = 443
[probe.web]
kind = "https"
host = "www.test"
[group.eea]
places = ["country:DE", "country:FR"]
[region.east]
location = { country = "US", lat = 38.95, lon = -77.45 }
endpoint = [{ name = "lb1", address = ["192.0.2.1"], probe = ["web"] }]
[region.west]
endpoint = [{ name = "lb1", address = ["192.0.2.2"], probe = ["tcp", "web"] }]
[[zone]]
origin = "gslb.test."
file = "z.zone"
"#;

/// The diagnostics of a snippet that starts in line 2, above [`WORLD`].
fn reported(snippet: &str) -> String {
    let text = format!("version = 1\n{snippet}\n{WORLD}");
    let files: [(&str, &[u8]); 2] = [("z.zone", ZONE.as_bytes()), ("notes.txt", b"no certificate")];
    let reported = reported_with(&text, &files).replace("p.toml:", "");
    without_unused(&reported)
}

/// Removes warnings about unused names: few snippets use all of [`WORLD`].
fn without_unused(reported: &str) -> String {
    without(reported, "is not used by any ")
}

/// Removes the diagnostics that contain a text, each with its help.
fn without(reported: &str, text: &str) -> String {
    let mut lines = reported.lines().peekable();
    let mut kept = Vec::new();
    while let Some(line) = lines.next() {
        if line.contains(text) {
            lines.next_if(|line| line.starts_with("  help"));
        } else {
            kept.push(line);
        }
    }
    kept.join("\n")
}

/// Checks each snippet against its expected diagnostics.
fn check(cases: &[(&str, &str)]) {
    let results = cases.iter().map(|(snippet, expected)| (*snippet, reported(snippet), *expected));
    let wrong: Vec<_> = results
        .filter(|(_, found, expected)| found != expected)
        .map(|(snippet, found, expected)| {
            format!("of {snippet}\nit says:\n{found}\ninstead of:\n{expected}\n")
        })
        .collect();
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}
