//! Checks that the documentation is correct: what its pages say happens ([`transcripts`]), the list of metrics, and the
//! tests that SECURITY.md names.
//!
//! `UPDATE=1 cargo test --test it docs` updates the list of metrics.

mod host;
mod page;
mod transcripts;

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;

use regex::Regex;
use reqwest::Method;

use crate::harness::folder::Folder;
use crate::harness::node::TestNode;
use crate::harness::region::{Break, GERMAN, NEAREST, Region, Three};
use crate::harness::resolver::Resolver;
use crate::harness::until;

/// The page that lists the metrics.
const METRICS: &str = "docs/operations.md";

fn read(page: &str) -> String {
    fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join(page)).expect("a page is text")
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

/// The anchor of a heading, as GitHub makes it.
fn anchor(heading: &str) -> String {
    let text = heading.trim_start_matches('#').trim().to_lowercase();
    text.chars()
        .filter(|it| it.is_alphanumeric() || " -_".contains(*it))
        .map(|it| if it == ' ' { '-' } else { it })
        .collect()
}

#[test]
fn every_link_leads_somewhere() {
    let link = Regex::new(r"\]\(([^)\s]+)\)").expect("a pattern");
    let mut links = 0;
    for page in page::all() {
        let text = fs::read_to_string(&page.path).expect("a page is text");
        for found in link.captures_iter(&text) {
            let (path, heading) = found[1].split_once('#').unwrap_or((&found[1], ""));
            if path.starts_with("http") {
                continue;
            }
            let at = format!("{}: {}", page.path.display(), &found[0]);
            let target = if path.is_empty() { page.path.clone() } else { page.path.with_file_name(path) };
            assert!(target.exists(), "{at}");
            if !heading.is_empty() {
                let target = fs::read_to_string(&target).expect("a page is text");
                let mut headings = target.lines().filter(|line| line.starts_with('#'));
                assert!(headings.any(|it| anchor(it) == heading), "{at}");
            }
            links += 1;
        }
    }
    assert!(links > 20, "{links} links");
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
                let name =
                    name.strip_suffix("_total").or_else(|| name.strip_suffix("_count")).unwrap_or(name);
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

/// A scrape of a proxy that has served a request and ejected a backend, with a certificate of its own and one by ACME: its
/// metrics have no samples, and so no labels, elsewhere.
async fn of_a_proxy() -> String {
    let backend = Region::start("backend", 1);
    let address = backend.address;
    let folder = Folder::new(&format!(
        "[[proxy.certificate]]\ncert = \"www.pem\"\nkey = \"www.key\"\n\
         [[proxy.certificate]]\n\
         acme = {{ names = [\"api.test\"], directory = \"https://127.0.0.1:1/directory\", terms_agreed = true }}\n\
         [probe.up]\nkind = \"tcp\"\nport = {}\n\
         [proxy.listener.web]\nlisten = \"127.0.0.1:0\"\npool = \"api\"\n\
         [proxy.listener.udp]\nlisten = \"127.0.0.1:0\"\nprotocol = \"udp\"\npool = \"api\"\n\
         [proxy.listener.secure]\nlisten = \"127.0.0.1:0\"\ntls = true\npool = \"api\"\n\
         [proxy.listener.lost]\nlisten = \"127.0.0.1:0\"\npool = \"lost\"\n\
         [proxy.pool.api]\nbackend = [{{ address = \"{address}\" }}]\nprobe = \"up\"\n\
         [proxy.pool.lost]\nbackend = [\"127.0.0.1:1\", \"127.0.0.1:2\"]\nprobe = []\npassive = {{ failures = 1 }}\n",
        address.port()
    ));
    let issued = rcgen::generate_simple_self_signed(["www.test".to_owned()]).expect("a certificate");
    folder.write("www.pem", issued.cert.pem());
    folder.write_secret("www.key", issued.signing_key.serialize_pem());
    let node = TestNode::start(folder).await;
    let listener = |name: &str| {
        let found = node.node.proxy_addresses.iter().find(|(it, _)| **it == *name);
        format!("http://{}/", found.expect("the config has it").1)
    };
    for (name, status) in [("web", 200), ("lost", 502)] {
        let answered = reqwest::get(listener(name)).await.expect("an answer");
        assert_eq!(answered.status(), status);
        answered.bytes().await.expect("a body");
    }
    until("a backend is ejected", async || node.api.events("ejected").await.pop()).await;
    let scrape = node.api.request(Method::GET, "/metrics").send().await.expect("an answer");
    let scrape = scrape.text().await.expect("text");
    node.stop().await;
    scrape
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
    let scrape = scrape.text().await.expect("text");
    node.stop().await;
    let table = table(&[scrape, of_a_proxy().await].concat());

    let (begin, end) = ("<!-- metrics: made by tests/it/docs.rs -->\n", "<!-- end of metrics -->");
    let page = read(METRICS);
    let (before, rest) = page.split_once(begin).expect("the mark before the list");
    let (listed, after) = rest.split_once(end).expect("the mark after the list");
    if std::env::var_os("UPDATE").is_some() {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(METRICS);
        fs::write(path, format!("{before}{begin}{table}{end}{after}")).expect("the page can be written");
    } else {
        assert_eq!(listed, table, "UPDATE=1 cargo test --test it docs");
    }
}
