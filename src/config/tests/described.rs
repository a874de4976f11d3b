//! The description of the config says what the readers do, and the files made of it are up to date.

use std::path::{Path, PathBuf};
use std::sync::LazyLock;

use serde_json::json;
use toml::{Table, Value};

use super::super::keys::{Given, Key, Keys, Shape};
use super::super::{Config, ROOT, Refused, load, reference, schema, text};

/// Loads a config whose files are all there.
fn load_text(text: &str) -> Result<Config, Refused> {
    static PEM: LazyLock<String> = LazyLock::new(|| {
        let key = rcgen::generate_simple_self_signed(["probe.test".to_owned()]).expect("a certificate");
        key.cert.pem()
    });
    load(Path::new("p.toml"), &|path| {
        Ok(match path.to_str().expect("test paths are UTF-8") {
            "p.toml" => text.as_bytes().to_vec(),
            "ca.pem" => PEM.as_bytes().to_vec(),
            "latency.csv" => b"place,region,ms\n".to_vec(),
            _ => b"$TTL 300\n@ SOA ns1 admin 1 3600 600 86400 60\n@ NS ns1\nns1 A 192.0.2.53\n".to_vec(),
        })
    })
}

/// What the schema says against a config, if anything.
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

/// Compares with a file in the repository, or writes it where UPDATE is set.
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
fn the_reference_in_deploy_is_up_to_date_and_in_order() {
    let reference = reference();
    up_to_date("deploy/portolan.reference.toml", &reference);
    let config = load_text(&reference).unwrap_or_else(|said| panic!("{said}"));
    assert!(config.warnings.is_empty(), "{}", config.warnings);
}

#[test]
fn the_schema_accepts_configs_that_are_in_order() {
    let demo = std::fs::read_to_string(repository("src/node/demo.toml")).expect("the demo's config");
    let demo = demo.replace("@DNS@", "5300").replace("@CONTROL@", "8053").replace("@REGION@", "18080");
    let example = std::fs::read_to_string(repository("deploy/portolan.toml")).expect("the example");
    for text in [demo, example, reference()] {
        assert_eq!(refuses(&json_of(&text)), None, "of:\n{text}");
    }
}

/// A key and the steps to it in the reference: names, and 0 into lists.
struct Found {
    steps: Vec<String>,
    key: Key,
}

/// Every key that stands in the reference as `key = value` or as a section.
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

/// The table of the reference that holds the last of the steps.
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

/// The reference with one value changed or taken out.
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

/// What a config comes to, without where it stands.
fn essence(text: &str) -> String {
    let Config { node, log, dns, control, geo, safety, topology, .. } =
        load_text(text).unwrap_or_else(|said| panic!("{said}of:\n{text}"));
    let databases: Vec<_> = geo.databases.iter().map(|it| &it.source).collect();
    format!("{node:?}{log:?}{dns:?}{control:?}{databases:?}{:?}{safety:?}{topology:?}", geo.networks)
}

#[test]
fn every_default_is_what_holds_where_nothing_is_written() {
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
fn what_is_required_is_missed() {
    for found in all_keys() {
        let text = with(&found, None);
        let is_required = matches!(found.key.given, Given::Required(_));
        let missing = format!("`{}` is missing", found.key.name);
        let is_missed = load_text(&text).is_err_and(|said| said.to_string().contains(&missing));
        assert_eq!(is_missed, is_required, "{:?}", found.steps);
        assert_eq!(refuses(&json_of(&text)).is_some(), is_required, "{:?}", found.steps);
    }
}

#[test]
fn words_are_those_that_the_readers_know() {
    for found in all_keys() {
        let Shape::Words(words) = found.key.shape else { continue };
        for word in words {
            let about = found.key.about;
            let is_named = words.len() == 1 || about.contains(&format!("\"{word}\""));
            assert!(is_named, "{word:?} is not in what is said about {:?}", found.steps);
            let said = load_text(&with(&found, Some(Value::from(*word)))).err().map(|said| said.to_string());
            assert!(!said.unwrap_or_default().contains("expected"), "{:?} = {word:?}", found.steps);
        }
        let said = load_text(&with(&found, Some(Value::from("-")))).expect_err("no such word").to_string();
        let expected = format!("expected {}, found", text::either(words.iter().copied()));
        assert!(said.contains(&expected), "{:?}: {said}", found.steps);
    }
}

#[test]
fn the_schema_refuses_nothing_that_the_readers_take() {
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
        let said = load_text(&text).expect_err("an unknown key").to_string();
        assert!(said.contains("unknown key `unheard`"), "{said}");
    }
    assert!(refused > 300, "only {refused}");
    assert!(refuses(&json!({ "version": 2 })).is_some());
}
