//! Runs every command of the documentation, and compares what it prints with what the page says.
//!
//! Times, the user, ports that the system chooses and widths of columns may differ, and a line `...` stands for any lines. A
//! command that only reads is repeated until it prints what the page says: what it waits for may take a moment.
//! `UPDATE=1 cargo test --test it transcripts` writes into the pages what the commands print.

use std::fs;
use std::path::Path;
use std::sync::LazyLock;
use std::time::Duration;

use regex::Regex;
use tokio::time::Instant;

use super::host::Host;
use super::page::{self, Kind, Page, Part};
use crate::harness::{PATIENCE, me};

/// How long what a page says is waited for before it is taken to be out of date.
const UPDATE_AFTER: Duration = Duration::from_secs(15);

/// How a node names the users of its socket.
const USER: &str = r#"\b(user [^\s",)]+|uid \d+)"#;

/// Who uses it in the pages, whoever runs the commands.
const WRITTEN_USER: &str = "user olga";

/// Commands that change nothing, so that they can be repeated.
const READS: [&str; 11] = [
    "dig ",
    "kdig ",
    "curl -s http",
    "curl -s -H",
    "portolan status",
    "portolan explain",
    "portolan events",
    "portolan overrides",
    "portolan check",
    "portolan plan",
    "tail ",
];

/// What differs from run to run, and what stands for it.
static VARYING: LazyLock<Vec<(Regex, &str)>> = LazyLock::new(|| {
    let of = |pattern: &str, instead| (Regex::new(pattern).expect("a pattern"), instead);
    vec![
        of(r"\d{4}-\d\d-\d\d[T ]\d\d:\d\d:\d\d(\.\d+)?Z", "TIME"),
        of(r"\b\d\d:\d\d:\d\dZ", "TIME"),
        of(r"\b(\d+(\.\d+)? ?(ms|s|m|h|d))+\b", "SPAN"),
        of(r"\bepoch\W+\d+", "EPOCH"),
        of(r"\bid: \d+", "ID"),
        of(r#""port":\d+"#, "PORT"),
        of(r"\d+ consecutive failures", "FAILURES"),
        // On a busy machine a first probe may time out.
        of(r"first probe succeeded|\d+ consecutive (fast )?successes( over SPAN)?", "SUCCESSES"),
        of(r#""(uptime_s|last_probe_s|rtt_ms|at|since|until|open|limit|saturation)": ?[^,}]+"#, "VALUE"),
        of(USER, "USER"),
        of(r"\s+", " "),
    ]
});

/// What commands print that a page leaves out.
const LEFT_OUT: [&str; 12] = [
    "; <<>>",
    ";; global",
    ";; Got",
    ";; WARNING",
    "; COOKIE",
    ";; Query time",
    ";; SERVER",
    ";; WHEN",
    ";; MSG",
    "(1 server found)",
    "portolan: using the node at",
    "files: ",
];

/// What a page shows of an output.
fn shown(output: &str) -> String {
    let lines = output.lines().filter(|line| !LEFT_OUT.iter().any(|it| line.starts_with(it)));
    lines.collect::<Vec<_>>().join("\n")
}

/// The lines of an output as they are compared.
fn comparable(output: &str) -> Vec<String> {
    let plain = |line: &str| {
        let replaced = |line: String, (from, to): &(Regex, &str)| from.replace_all(&line, *to).into_owned();
        VARYING.iter().fold(line.to_owned(), replaced).trim().to_owned()
    };
    shown(output).lines().map(plain).filter(|line| !line.is_empty()).collect()
}

/// Whether lines are as expected, of which `...` stands for any.
fn agree(expected: &[String], actual: &[String]) -> bool {
    match expected {
        [] => actual.is_empty(),
        [any, rest @ ..] if any == "..." => (0..=actual.len()).any(|skipped| agree(rest, &actual[skipped..])),
        [first, rest @ ..] => actual.first() == Some(first) && agree(rest, &actual[1..]),
    }
}

/// What the command prints, at last.
fn run(host: &mut Host, command: &str, expected: &str, patience: Duration) -> Result<(), String> {
    let until = Instant::now() + patience;
    loop {
        let actual = host.run(command);
        if agree(&comparable(expected), &comparable(&actual)) {
            return Ok(());
        }
        if Instant::now() > until || !READS.iter().any(|it| command.starts_with(it)) {
            return Err(actual);
        }
    }
}

/// Runs what is in a page; `None` where there can be no host. Returns the text that the page should have.
fn run_page(page: &Page, is_update: bool) -> Option<String> {
    let mut host: Option<Host> = None;
    let mut updated = String::new();
    let patience = if is_update { UPDATE_AFTER } else { PATIENCE };
    for Part { line, text, kind } in &page.parts {
        let at = format!("{}:{line}", page.path.display());
        let on = |host: &mut Option<Host>| host.take().unwrap_or_else(|| panic!("{at} is on no host"));
        match kind {
            Kind::Prose => {}
            Kind::Host { demo } => {
                let mut new = Host::start()?;
                if *demo {
                    new.run("portolan demo &");
                    let waits = "until grep -q ^Ctrl-C background.log; do kill -0 $! || cat background.log; sleep 0.05; done";
                    assert_eq!(new.run(waits), "", "the demo starts");
                    new.run(
                        "export PORTOLAN_CONTROL=$(sed -n 's/.*export PORTOLAN_CONTROL=//p' background.log)",
                    );
                }
                host = Some(new);
            }
            Kind::Setup(lines) => {
                let mut its = on(&mut host);
                for line in lines.lines() {
                    assert_eq!(its.run(line), "", "{at}: {line}");
                }
                host = Some(its);
            }
            Kind::File { name, content } => {
                // A page may show a file without running anything.
                if let Some(host) = &host {
                    host.write(name, content);
                }
            }
            Kind::Commands { indent, commands } => {
                let mut its = on(&mut host);
                let mut outputs = Vec::new();
                for (command, expected) in commands {
                    let output = match run(&mut its, command, expected, patience) {
                        Ok(()) => expected.clone(),
                        Err(actual) if is_update => shown(&actual).replace(&me(), WRITTEN_USER),
                        Err(actual) => panic!(
                            "{at}: `{command}` prints\n{actual}\ninstead of\n{expected}\nIn the background:\n{}",
                            its.run("tail -n 20 background.log")
                        ),
                    };
                    outputs.push((command.clone(), output));
                }
                updated += &page::block(*indent, &outputs);
                host = Some(its);
                continue;
            }
        }
        updated += text;
    }
    Some(updated)
}

fn check(name: &str) {
    let is_update = std::env::var_os("UPDATE").is_some();
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(name);
    let page = page::all().into_iter().find(|page| page.path == path).expect("the page is there");
    let Some(updated) = run_page(&page, is_update) else { return };
    if is_update {
        fs::write(&path, updated).expect("the page can be written");
    }
}

/// A test for each page that has commands.
macro_rules! pages {
    ($($test:ident: $page:literal,)*) => {
        $(#[test] fn $test() { check($page); })*
        const RUN: &[&str] = &[$($page),*];
    };
}

pages! {
    the_readme: "README.md",
    name_servers: "docs/name-servers.md",
    the_proxy: "docs/proxy.md",
    both_tiers: "docs/two-tiers.md",
    drills: "docs/drills.md",
    the_api: "docs/api.md",
}

#[test]
fn every_page_with_commands_is_run() {
    for page in page::all() {
        let has_commands = page.parts.iter().any(|part| matches!(part.kind, Kind::Commands { .. }));
        let is_run = RUN.iter().any(|name| page.path.ends_with(name));
        assert!(!has_commands || is_run, "{} has commands that no test runs", page.path.display());
    }
}
