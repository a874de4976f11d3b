//! The description of the config for editors, as a JSON Schema, and for people, as a config with every key.

use std::fmt::Write as _;

use serde_json::{Map, Value, json};

use super::ROOT;
use super::keys::{Given, Key, Keys, Shape};

/// The config as a JSON Schema (draft 7, which editors support best). [`load`](super::load) rejects everything that
/// the schema rejects, and more.
#[must_use]
pub fn schema() -> Value {
    let Value::Object(root) = fields(&ROOT) else { unreachable!("a table's schema is an object") };
    let mut schema = Map::from_iter([
        ("$schema".into(), json!("http://json-schema.org/draft-07/schema#")),
        ("title".into(), json!("portolan.toml")),
    ]);
    schema.extend(root);
    Value::Object(schema)
}

fn fields(keys: &Keys) -> Value {
    let properties = keys.known.iter().map(|key| (key.name.to_owned(), property(key)));
    let needed = keys.known.iter().filter(|key| matches!(key.given, Given::Required(_)));
    let needed: Vec<_> = needed.map(|key| key.name).collect();
    let mut schema = json!({
        "type": "object",
        "properties": properties.collect::<Map<_, _>>(),
        "additionalProperties": false,
    });
    if !needed.is_empty() {
        schema["required"] = json!(needed);
    }
    schema
}

fn property(key: &Key) -> Value {
    let mut schema = of(&key.shape);
    schema["description"] = json!(key.about);
    if let Given::Default(value) = key.given {
        schema["default"] = example(value);
    }
    schema
}

// Patterns that match whatever the readers accept, so that editors mark slips of the kind that they mark best.
const A_NUMBER_WITH_A_UNIT: &str = "[0-9]\\s*[A-Za-zµμ:]";
const AN_ADDRESS: &str = "^([0-9.]+|[0-9A-Fa-f:]+(:[0-9.]+)?)$";
const AN_ADDRESS_WITH_A_PORT: &str = "^([0-9.]+|\\[[0-9A-Fa-f:.]+(%[0-9]+)?\\]):[0-9]+$";
const A_PREFIX: &str = "^[0-9A-Fa-f:.]+/[0-9]+$";

fn written(pattern: &str) -> Value {
    json!({ "type": "string", "pattern": pattern })
}

fn of(shape: &Shape) -> Value {
    let list = |item: &Shape, least: u64| json!({ "type": "array", "items": of(item), "minItems": least });
    match *shape {
        Shape::Text => json!({ "type": "string" }),
        Shape::Time => written(A_NUMBER_WITH_A_UNIT),
        Shape::Address => written(AN_ADDRESS),
        Shape::AddressPort => written(AN_ADDRESS_WITH_A_PORT),
        Shape::Prefix => written(A_PREFIX),
        Shape::Boolean => json!({ "type": "boolean" }),
        Shape::False => json!({ "const": false }),
        Shape::Integer(from, u64::MAX) => json!({ "type": "integer", "minimum": from }),
        Shape::Integer(from, to) => json!({ "type": "integer", "minimum": from, "maximum": to }),
        Shape::Number(from, to) => json!({ "type": "number", "minimum": from, "maximum": to }),
        Shape::Words(words) => json!({ "enum": words }),
        Shape::Json => json!({}),
        Shape::List(item) => list(item, 1),
        Shape::OneOrMany(item) => json!({ "anyOf": [of(item), list(item, 1)] }),
        Shape::Any(item) => json!({ "anyOf": [of(item), list(item, 0)] }),
        Shape::Either(shapes) => json!({ "anyOf": shapes.iter().map(of).collect::<Vec<_>>() }),
        Shape::Fields(keys) => fields(keys),
        Shape::Named(keys) => json!({ "type": "object", "additionalProperties": fields(keys) }),
        Shape::Map(value) => {
            json!({ "type": "object", "additionalProperties": of(value), "minProperties": 1 })
        }
    }
}

/// A value from the description, which is TOML.
fn example(toml: &str) -> Value {
    let table: toml::Table =
        toml::from_str(&format!("it = {toml}")).expect("the description's values are TOML");
    serde_json::to_value(&table["it"]).expect("the description has no dates")
}

const HEAD: &str = "\
# Every config key. This file is itself a valid config once the files that it names exist. The value shown is the
# default, unless the line says \"required\" or gives another default. Paths are relative to this file; durations
# are written as \"250ms\", \"5s\", \"10m\", \"1h30m\" or \"7d\", shares as \"25%\".
";

/// The column where comments begin, unless the line is longer.
const COMMENT_COLUMN: usize = 46;

/// A config with every key: its default or an example, and its meaning.
#[must_use]
pub fn reference() -> String {
    let mut text = HEAD.to_owned();
    section(&mut text, "", &ROOT);
    text
}

fn section(text: &mut String, path: &str, keys: &Keys) {
    let below =
        |key: &Key| if path.is_empty() { key.name.to_owned() } else { format!("{path}.{}", key.name) };
    for key in keys.known.iter().filter(|key| inner(key).is_none()) {
        let (value, remark) = match key.given {
            Given::Required(value) => (value, "; required".to_owned()),
            Given::Default(value) => (value, String::new()),
            Given::Otherwise(value, otherwise) => (value, format!("; default: {otherwise}")),
            Given::Instead(value, of) => (value, format!("; only {of}")),
        };
        let hidden = if matches!(key.given, Given::Instead(..)) { "# " } else { "" };
        line(text, &format!("{hidden}{} = {value}", key.name), &format!("{}{remark}", key.about));
        parts(text, key.name, &key.shape);
    }
    for (key, (inner, kind)) in keys.known.iter().filter_map(|key| Some((key, inner(key)?))) {
        let (name, remark) = match key.given {
            Given::Required(name) => (name, "; required".to_owned()),
            Given::Otherwise(name, "as shown there") => (name, String::new()),
            Given::Otherwise(name, otherwise) => (name, format!("; default: {otherwise}")),
            Given::Default(_) | Given::Instead(..) => unreachable!("a section is always shown"),
        };
        let path = below(key);
        let (header, path) = match kind {
            SectionKind::One => (format!("[{path}]"), path),
            SectionKind::Many => (format!("[[{path}]]"), path),
            SectionKind::Named => (format!("[{path}.{name}]"), format!("{path}.{name}")),
        };
        text.push('\n');
        line(text, &header, &format!("{}{remark}", key.about));
        section(text, &path, inner);
    }
}

/// How the reference shows a table of keys.
enum SectionKind {
    One,
    Many,
    Named,
}

/// The keys of a value that is shown as its own section.
fn inner(key: &Key) -> Option<(&'static Keys, SectionKind)> {
    match key.shape {
        Shape::Fields(keys) => Some((keys, SectionKind::One)),
        Shape::List(Shape::Fields(keys)) => Some((keys, SectionKind::Many)),
        Shape::Named(keys) => Some((keys, SectionKind::Named)),
        _ => None,
    }
}

/// Comments on the keys of a table that may be nested in a value.
fn parts(text: &mut String, name: &str, shape: &Shape) {
    match shape {
        Shape::Fields(keys) => {
            for key in keys.known {
                let value = match key.given {
                    Given::Required(value)
                    | Given::Default(value)
                    | Given::Otherwise(value, _)
                    | Given::Instead(value, _) => value,
                };
                line(text, &format!("# {name}: {{ {} = {value} }}", key.name), key.about);
            }
        }
        Shape::List(item) | Shape::OneOrMany(item) | Shape::Any(item) => parts(text, name, item),
        Shape::Either(shapes) => shapes.iter().for_each(|shape| parts(text, name, shape)),
        _ => {}
    }
}

fn line(text: &mut String, left: &str, comment: &str) {
    let _ = writeln!(text, "{left:<COMMENT_COLUMN$} # {comment}");
}
