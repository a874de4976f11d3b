//! The description of the config agrees with the readers, and the files generated from it are up to date.

use std::path::{Path, PathBuf};
use std::sync::LazyLock;

use serde_json::json;
use toml::{Table, Value};

use super::super::keys::{Given, Key, Keys, Shape};
use super::super::{Config, ControlTls, ROOT, Refused, Spot, load, reference, schema, text};

/// Loads a config whose files all exist.
fn load_text(text: &str) -> Result<Config, Refused> {
    static PEM: LazyLock<String> = LazyLock::new(|| {
        let key = rcgen::generate_simple_self_signed(["probe.test".to_owned()]).expect("a certificate");
        key.cert.pem()
    });
    load(Path::new("p.toml"), &|source| {
        Ok(match source.path.to_str().expect("test paths are UTF-8") {
            "p.toml" => text.as_bytes().to_vec(),
            "ca.pem" => PEM.as_bytes().to_vec(),
            "sticky.secret" => b"e5e973e5a6b2a43f48e7dc849e37bfcf".to_vec(),
            "latency.csv" => b"place,region,ms\n".to_vec(),
            _ => b"$TTL 300\n@ SOA ns1 admin 1 3600 600 86400 60\n@ NS ns1\nns1 A 192.0.2.53\n".to_vec(),
        })
    })
}

/// Why the schema rejects a config, if it does.
fn refuses(instance: &serde_json::Value) -> Option<String> {
    static COMPILED: LazyLock<(boon::Schemas, boon::SchemaIndex)> = LazyLock::new(|| {
        let (mut schemas, mut compiler) = (boon::Schemas::new(), boon::Compiler::new());
        compiler.add_resource("config.json", schema()).expect("a JSON document");
        let index = compiler.compile("config.json", &mut schemas).expect("a JSON Schema");
        (schemas, index)
    });
    let (schemas, index) = &*COMPILED;
    schemas.validate(instance, *index).err().map(|error| error.to_string())
}

fn json_of(toml: &str) -> serde_json::Value {
    serde_json::to_value(toml::from_str::<Table>(toml).expect("TOML")).expect("no dates")
}

fn repository(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(path)
}

/// Compares generated text with a file in the repository, or writes the file if UPDATE is set.
fn up_to_date(path: &str, made: &str) {
    let path = repository(path);
    if std::env::var_os("UPDATE").is_some() {
        std::fs::write(&path, made).expect("the repository can be written");
    }
    let kept = std::fs::read_to_string(&path).unwrap_or_default();
    assert!(kept == made, "{} is not up to date: UPDATE=1 cargo test described", path.display());
}

#[test]
fn the_schema_in_deploy_is_up_to_date() {
    up_to_date("deploy/portolan.schema.json", &format!("{:#}\n", schema()));
}

#[test]
fn the_reference_in_deploy_is_up_to_date_and_valid() {
    let reference = reference();
    up_to_date("deploy/portolan.reference.toml", &reference);
    let config = load_text(&reference).unwrap_or_else(|reported| panic!("{reported}"));
    // It has every key, that one included.
    let warnings = super::without(&config.warnings.to_string(), "`capacity` is only displayed");
    assert_eq!(warnings.trim(), "");
}

#[test]
fn the_schema_accepts_valid_configs() {
    let demo = std::fs::read_to_string(repository("src/node/demo/dns.toml")).expect("the demo's config");
    let demo = demo.replace("@DNS@", "5300").replace("@CONTROL@", "8053").replace("@REGION@", "18080");
    let example = std::fs::read_to_string(repository("deploy/portolan.toml")).expect("the example");
    for text in [demo, example, reference()] {
        assert_eq!(refuses(&json_of(&text)), None, "of:\n{text}");
    }
}

/// A key and the path to it in the reference: names, and 0 for lists.
struct Found {
    steps: Vec<String>,
    key: Key,
}

/// Every key that the reference shows as `key = value` or as a section.
fn found_keys(keys: &Keys, above: &[String], into: &mut Vec<Found>) {
    for key in keys.known {
        let steps: Vec<String> = above.iter().cloned().chain([key.name.to_owned()]).collect();
        let with = |more: &str| steps.iter().cloned().chain([more.to_owned()]).collect::<Vec<_>>();
        match (key.shape, key.given) {
            (Shape::Fields(keys), _) => found_keys(keys, &steps, into),
            (Shape::List(Shape::Fields(keys)), _) => found_keys(keys, &with("0"), into),
            (Shape::Named(keys), Given::Otherwise(name, _)) => found_keys(keys, &with(name), into),
            _ => {}
        }
        into.push(Found { steps, key: *key });
    }
}

fn all_keys() -> Vec<Found> {
    let mut found = Vec::new();
    found_keys(&ROOT, &[], &mut found);
    found
}

/// The table of the reference that contains the last step of a path.
fn holder<'a>(root: &'a mut Table, steps: &[String]) -> &'a mut Table {
    let mut table = root;
    for step in &steps[..steps.len() - 1] {
        if step == "0" {
            continue;
        }
        table = match table.get_mut(step).unwrap_or_else(|| panic!("{steps:?} is not in the reference")) {
            Value::Table(inner) => inner,
            Value::Array(items) => items[0].as_table_mut().expect("a list of tables"),
            other => panic!("{steps:?}: {other}"),
        };
    }
    table
}

/// The reference with one value changed or removed.
fn with(found: &Found, value: Option<Value>) -> String {
    let mut root: Table = toml::from_str(&reference()).expect("the reference is TOML");
    let table = holder(&mut root, &found.steps);
    match value {
        Some(value) => table.insert(found.key.name.to_owned(), value),
        None => table.remove(found.key.name),
    };
    toml::to_string(&root).expect("TOML")
}

fn value_of(toml: &str) -> Value {
    toml::from_str::<Table>(&format!("it = {toml}")).expect("the description's values are TOML")["it"].clone()
}

/// A loaded config as text, without source locations.
fn essence(text: &str) -> String {
    let Config { node, log, dns, proxy, mut control, geo, safety, topology, .. } =
        load_text(text).unwrap_or_else(|reported| panic!("{reported}of:\n{text}"));
    if let Some(ControlTls { cert, key, client_ca }) = &mut control.tls {
        let nowhere = Spot { file: Path::new("").into(), line: 0, column: 0, end_column: 0 };
        [cert, key].into_iter().chain(client_ca).for_each(|file| file.at = nowhere.clone());
    }
    let databases: Vec<_> = geo.databases.iter().map(|it| &it.source).collect();
    format!("{node:?}{log:?}{dns:?}{proxy:?}{control:?}{databases:?}{:?}{safety:?}{topology:?}", geo.networks)
}

#[test]
fn every_documented_default_applies_to_a_missing_key() {
    let mut seen = 0;
    for found in all_keys() {
        let Given::Default(value) = found.key.given else { continue };
        let written = essence(&with(&found, Some(value_of(value))));
        assert_eq!(written, essence(&with(&found, None)), "without {:?}", found.steps);
        seen += 1;
    }
    assert!(seen > 20, "only {seen} keys have a default");
}

#[test]
fn missing_required_keys_are_reported() {
    for found in all_keys() {
        let text = with(&found, None);
        let is_required = matches!(found.key.given, Given::Required(_));
        let missing = format!("`{}` is missing", found.key.name);
        let is_missed = load_text(&text).is_err_and(|reported| reported.to_string().contains(&missing));
        assert_eq!(is_missed, is_required, "{:?}", found.steps);
        assert_eq!(refuses(&json_of(&text)).is_some(), is_required, "{:?}", found.steps);
    }
}

#[test]
fn documented_choices_are_those_that_the_readers_accept() {
    for found in all_keys() {
        let Shape::Words(words) = found.key.shape else { continue };
        for word in words {
            let about = found.key.about;
            let is_named = words.len() == 1 || about.contains(&format!("\"{word}\""));
            assert!(is_named, "{word:?} is not in the description of {:?}", found.steps);
            let reported =
                load_text(&with(&found, Some(Value::from(*word)))).err().map(|reported| reported.to_string());
            assert!(!reported.unwrap_or_default().contains("expected"), "{:?} = {word:?}", found.steps);
        }
        let reported =
            load_text(&with(&found, Some(Value::from("-")))).expect_err("no such word").to_string();
        let expected = format!("expected {}, found", text::either(words.iter().copied()));
        assert!(reported.contains(&expected), "{:?}: {reported}", found.steps);
    }
}

#[test]
fn the_schema_rejects_nothing_that_the_readers_accept() {
    let odd = [
        "true",
        "false",
        "-1",
        "0",
        "7",
        "1.5",
        "99999999",
        "\"?\"",
        "\"\"",
        "[]",
        "[[1]]",
        "{}",
        "{ x = 1 }",
    ];
    let mut refused = 0;
    for found in all_keys() {
        for value in odd {
            let text = with(&found, Some(value_of(value)));
            if let Some(why) = refuses(&json_of(&text)) {
                refused += 1;
                assert!(
                    load_text(&text).is_err(),
                    "{:?} = {value} is fine, but the schema says {why}",
                    found.steps
                );
            }
        }
        let beside = Found { key: Key { name: "unheard", ..found.key }, steps: found.steps };
        let text = with(&beside, Some(Value::from(1)));
        assert!(refuses(&json_of(&text)).is_some(), "an unknown key beside {:?}", beside.steps);
        let reported = load_text(&text).expect_err("an unknown key").to_string();
        assert!(reported.contains("unknown key `unheard`"), "{reported}");
    }
    assert!(refused > 300, "only {refused}");
    assert!(refuses(&json!({ "version": 2 })).is_some());
}

/// Editors mark a slip while it is typed.
#[test]
fn the_schema_knows_how_durations_addresses_and_networks_are_written() {
    let good = "version = 1\n[dns]\nlisten = [\"192.0.2.1:53\", \"[::]:53\"]\nallow = [\"10.0.0.0/8\", \"2001:db8::/32\"]\n\
                [probe.p]\nkind = \"tcp\"\nport = 1\ninterval = \"1h 30 minutes\"\n\
                [region.r]\nendpoint = [{ name = \"e\", address = [\"192.0.2.1\", \"2001:db8::10\"] }]\n";
    assert_eq!(refuses(&json_of(good)), None);
    assert_eq!(load_text(good).err().map(|refused| refused.to_string()), None);
    for (from, to) in [
        ("192.0.2.1:53", "192.0.2.1"),
        ("192.0.2.1:53", "localhost:53"),
        ("[::]:53", "::"),
        ("10.0.0.0/8", "10.0.0.0"),
        ("1h 30 minutes", "5"),
        ("1h 30 minutes", "soon"),
        ("\"192.0.2.1\"", "\"lb.example.net\""),
        ("\"192.0.2.1\"", "\"192.0.2.1:80\""),
    ] {
        let slip = good.replace(from, to);
        assert!(refuses(&json_of(&slip)).is_some(), "{to}");
        assert!(load_text(&slip).is_err(), "{to}");
    }
}
