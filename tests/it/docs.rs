//! Checks that the README and SECURITY.md are correct.
//!
//! `UPDATE=1 cargo test --test it docs` updates the list of metrics.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;

use reqwest::Method;

use crate::harness::binary::portolan;
use crate::harness::folder::Folder;
use crate::harness::node::TestNode;
use crate::harness::region::{Break, GERMAN, NEAREST, Three};
use crate::harness::resolver::Resolver;
use crate::harness::until;

fn readme() -> String {
    fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("README.md")).expect("the README is text")
}

/// The rest of the fenced block that contains `start`, from there on.
fn block(readme: &str, start: &str) -> String {
    let from = readme.find(start).unwrap_or_else(|| panic!("no block begins with {start:?}"));
    readme[from..].split("```").next().expect("a block ends").to_owned()
}

#[test]
fn the_readmes_config_passes_check() {
    let readme = readme();
    let folder = Folder::new("");
    folder.write("portolan.toml", block(&readme, "version = 1\n"));
    folder.write("gslb.example.com.zone", block(&readme, "$ORIGIN gslb.example.com."));
    let config = folder.path("portolan.toml");
    let done = portolan(&["check", "-c", config.to_str().expect("UTF-8")]);
    assert_eq!(done.code, Some(0), "{}", done.stderr);
    assert_eq!(done.stderr, "", "no warnings either");
}

#[test]
fn the_readmes_proxy_passes_check() {
    let readme = readme();
    let (_, section) = readme.split_once("## Balance within a region").expect("the section");
    let folder = Folder::new("");
    folder.write("portolan.toml", block(section, "version = 1\n"));
    let config = folder.path("portolan.toml");
    let done = portolan(&["check", "-c", config.to_str().expect("UTF-8")]);
    assert_eq!((done.code, done.stderr), (Some(0), String::new()));
    assert!(done.stdout.contains("2 listeners, 3 pools"), "{}", done.stdout);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_readmes_override_is_accepted() {
    let region =
        |name: &str| format!("[region.{name}]\nendpoint = [{{ name = \"a\", address = \"192.0.2.1\" }}]\n");
    let node = TestNode::with(&region("eu-west")).await;
    let body = serde_json::from_str(&block(&readme(), "{\n  \"target\"")).expect("JSON");
    node.api.override_with(body).await;
    let region = node.api.region("eu-west").await;
    assert_eq!((&region["override"]["share"], &region["override"]["by"]), (&"25%".into(), &"socket".into()));
    node.stop().await;
}

/// The text of every Rust file below a folder.
fn code_below(folder: &Path, all: &mut String) {
    for entry in fs::read_dir(folder).expect("a folder") {
        let path = entry.expect("an entry").path();
        if path.is_dir() {
            code_below(&path, all);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            all.push_str(&fs::read_to_string(path).expect("it is text"));
        }
    }
}

#[test]
fn every_threat_names_tests_that_exist() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let text = fs::read_to_string(root.join("SECURITY.md")).expect("it is text");
    let mut code = String::new();
    code_below(&root.join("src"), &mut code);
    code_below(&root.join("tests"), &mut code);
    let tests: BTreeSet<&str> = code
        .split("fn ")
        .zip(code.split("fn ").skip(1))
        .filter(|(before, _)| before.rsplit('}').next().is_some_and(|between| between.contains("#[")))
        .filter_map(|(_, after)| after.split_once('(').map(|(name, _)| name))
        .collect();
    let rows = text.lines().filter(|line| line.starts_with("| ") && !line.starts_with("| worst case"));
    let mut named = 0;
    for row in rows {
        let cells: Vec<&str> = row.split(" | ").collect();
        assert_eq!(cells.len(), 3, "{row}");
        let tests_named: Vec<&str> = cells[2].split('`').skip(1).step_by(2).collect();
        assert!(!tests_named.is_empty() || cells[1].starts_with("nothing"), "no test shows: {row}");
        for test in tests_named {
            assert!(tests.contains(test), "there is no test {test}");
            named += 1;
        }
    }
    assert!(named > 40, "{named} tests");
}

/// A table with one row for each metric of a scrape: name, type, labels, help.
fn table(scrape: &str) -> String {
    let mut help = BTreeMap::new();
    let mut kinds = BTreeMap::new();
    let mut labels = BTreeMap::new();
    for line in scrape.lines() {
        let words: Vec<&str> = line.splitn(4, ' ').collect();
        match words[..] {
            ["#", "HELP", name, text] => drop(help.insert(name, text.trim_end_matches('.'))),
            ["#", "TYPE", name, kind] => drop(kinds.insert(name, kind)),
            [sample, ..] if !sample.starts_with('#') => {
                let (name, pairs) = sample.split_once('{').unwrap_or((sample, ""));
                let keys = pairs.split(',').filter_map(|pair| pair.split_once('=')).map(|(key, _)| key);
                let name = name.strip_suffix("_total").unwrap_or(name);
                labels.entry(name).or_insert_with(|| keys.collect::<Vec<_>>().join(", "));
            }
            _ => {}
        }
    }
    let mut table = String::from("| metric | type | labels | meaning |\n|---|---|---|---|\n");
    for (name, kind) in kinds {
        let total = if kind == "counter" { "_total" } else { "" };
        let labels = labels.get(name).map_or("", String::as_str);
        table += &format!("| `{name}{total}` | {kind} | {labels} | {} |\n", help[name]);
    }
    table
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_list_of_metrics_matches_a_scrape() {
    let three = Three::start();
    let resolver = Resolver::with(&["192.0.2.9"]).await;
    let far =
        "[region.far]\nendpoint = [{ name = \"lb\", host = \"lb.elsewhere.example\", probe = \"ap\" }]\n";
    let folder = Folder::new(&[&three.config(&[]), NEAREST, far].concat());
    let asked = format!("state_dir = \"state\"\nresolver = \"{}\"", resolver.address);
    folder.reconfigure("state_dir = \"state\"", &asked);
    let node = TestNode::start(folder).await;
    // Every family has a sample once something has changed.
    three.ap.fail(Break::Refuse);
    until("ap is down", async || (node.api.region("ap").await["verdict"] == "down").then_some(())).await;
    node.client().await.address("www.example.test.", GERMAN).await;
    let scrape = node.api.request(Method::GET, "/metrics").send().await.expect("an answer");
    let table = table(&scrape.text().await.expect("text"));
    node.stop().await;

    let (begin, end) = ("<!-- metrics: made by tests/it/docs.rs -->\n", "<!-- end of metrics -->");
    let readme = readme();
    let (before, rest) = readme.split_once(begin).expect("the mark before the list");
    let (listed, after) = rest.split_once(end).expect("the mark after the list");
    if std::env::var_os("UPDATE").is_some() {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("README.md");
        fs::write(path, format!("{before}{begin}{table}{end}{after}")).expect("the README can be written");
    } else {
        assert_eq!(listed, table, "UPDATE=1 cargo test --test it docs");
    }
}
