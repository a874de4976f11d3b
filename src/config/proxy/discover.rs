//! `discover` of a pool, and the files of backends that it may name.

use std::net::SocketAddr;

use serde_json::Value as Json;

use crate::model::{Backend, BackendReach, Discover, Weight};

use super::super::source::FileKind;
use super::super::table::{Table, Value};
use super::super::text;
use super::backend::{MOST_BACKENDS, place};

const WHAT: &str =
    "a source such as \"dns:api.internal:8080\", \"dns+srv:_api._tcp.internal\" or \"file:backends.txt\"";

/// Reads `discover` of a pool.
pub(super) fn read(pool: &Table<'_>) -> Option<Discover> {
    let value = pool.get("discover")?;
    let written = value.text(WHAT)?;
    let Some((scheme, rest)) = written.split_once(':') else { return value.expected(WHAT) };
    match scheme {
        "dns" => match value.parsed(WHAT, |_| place(rest))? {
            (BackendReach::Resolved(name), port) => {
                value.report.host(value.span.clone(), &name);
                Some(Discover::Host { name, port })
            }
            (BackendReach::Address(_), _) => {
                value.fail(format!("{rest} needs no discovery: list it in `backend`"))
            }
        },
        "dns+srv" => {
            let name = value.parsed(WHAT, |_| text::domain(rest))?;
            value.report.host(value.span.clone(), &name);
            Some(Discover::Services(name))
        }
        "file" if !rest.is_empty() => Some(file(&value, rest)),
        _ => value.expected(WHAT),
    }
}

/// What is wrong with a file now may be mended while the node runs.
fn file(value: &Value<'_>, name: &str) -> Discover {
    let path = value.report.resolve(name);
    let content = value.report.load(&FileKind::Backends.at(&path)).map_err(|error| error.why());
    if let Err(why) = content.and_then(|text| backends(&text).map(drop)) {
        value.report.warning(
            value.span.clone(),
            format!("{} {}: {why}", FileKind::Backends, path.display()),
            "until it is mended, the pool has only what `backend` lists",
        );
    }
    Discover::File(path)
}

/// Reads a file of backends: a JSON list such as that of `backend`, or lines such as `10.0.0.1:8080 weight=3 backup`, in
/// which `#` begins a comment.
///
/// # Errors
/// What is wrong with it, as a clause.
pub fn backends(content: &str) -> Result<Vec<Backend>, String> {
    let found =
        if content.trim_start().starts_with('[') { from_json(content)? } else { from_lines(content)? };
    for (index, backend) in found.iter().enumerate() {
        if found[..index].iter().any(|other| other.name == backend.name) {
            return Err(format!("backend {} is listed twice", backend.name));
        }
        if index >= MOST_BACKENDS {
            return Err(format!("at most {MOST_BACKENDS} backends, found {}", found.len()));
        }
    }
    Ok(found)
}

fn from_lines(content: &str) -> Result<Vec<Backend>, String> {
    let mut found = Vec::new();
    for (number, line) in (1..).zip(content.lines()) {
        let line = line.split('#').next().unwrap_or_default();
        let mut words = line.split_whitespace();
        let Some(address) = words.next() else { continue };
        let at = |why: String| format!("line {number}: {why}");
        let (mut weight, mut backup) = (Weight(1), false);
        for word in words {
            match word.split_once('=') {
                Some(("weight", number)) => weight = parse_weight(number.parse().ok()).map_err(at)?,
                None if word == "backup" => backup = true,
                _ => {
                    return Err(at(format!(
                        "expected weight=NUMBER or backup, found {:?}",
                        text::shortened(word)
                    )));
                }
            }
        }
        found.push(backend(address, weight, backup).map_err(at)?);
    }
    Ok(found)
}

fn from_json(content: &str) -> Result<Vec<Backend>, String> {
    let list: Vec<Json> =
        serde_json::from_str(content).map_err(|error| format!("not valid JSON: {error}"))?;
    let read = |(number, item): (usize, &Json)| {
        let at = |why: String| format!("backend {number}: {why}");
        let nothing = serde_json::Map::new();
        let (address, table) = match item {
            Json::String(address) => (Some(address.as_str()), &nothing),
            Json::Object(table) => (table.get("address").and_then(Json::as_str), table),
            _ => (None, &nothing),
        };
        let address = address.ok_or_else(|| at("expected an address or a table with `address`".into()))?;
        if let Some(unknown) =
            table.keys().find(|key| !["address", "weight", "backup"].contains(&key.as_str()))
        {
            return Err(at(format!("unknown key `{}`", text::shortened(unknown))));
        }
        let weight = table.get("weight").map_or(Ok(Weight(1)), |it| parse_weight(it.as_u64())).map_err(at)?;
        let backup = table.get("backup").map_or(Some(false), Json::as_bool);
        let backup = backup.ok_or_else(|| at("`backup` is true or false".into()))?;
        backend(address, weight, backup).map_err(at)
    };
    (1..).zip(&list).map(read).collect()
}

fn parse_weight(number: Option<u64>) -> Result<Weight, String> {
    let weight = number.and_then(|it| u32::try_from(it).ok()).filter(|it| *it <= Weight::MAX.0);
    weight.map(Weight).ok_or_else(|| format!("a weight is an integer from 0 to {}", Weight::MAX.0))
}

fn backend(address: &str, weight: Weight, backup: bool) -> Result<Backend, String> {
    match place(address)? {
        (BackendReach::Address(ip), port) => Ok(Backend {
            name: SocketAddr::new(ip, port).to_string(),
            reach: BackendReach::Address(ip),
            port,
            weight,
            backup,
        }),
        (BackendReach::Resolved(_), _) => {
            Err(format!("{:?} is not an ADDRESS:PORT: a file lists no hosts", text::shortened(address)))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(content: &str) -> Result<Vec<String>, String> {
        let shown =
            |it: Backend| format!("{} {}{}", it.name, it.weight.0, if it.backup { " backup" } else { "" });
        backends(content).map(|found| found.into_iter().map(shown).collect())
    }

    #[test]
    fn lines_and_json_say_the_same() {
        let expected =
            Ok(vec!["10.0.0.1:80 1".into(), "10.0.0.2:80 3".into(), "[2001:db8::1]:80 0 backup".into()]);
        let lines =
            "# all\n10.0.0.1:80\n\n  10.0.0.2:80\tweight=3 # large\r\n[2001:db8::1]:80 backup weight=0";
        assert_eq!(read(lines), expected);
        let json = r#" ["10.0.0.1:80", {"address": "10.0.0.2:80", "weight": 3},
                        {"address": "[2001:db8:0::1]:80", "backup": true, "weight": 0}]"#;
        assert_eq!(read(json), expected);
        assert_eq!((read(""), read("[]")), (Ok(vec![]), Ok(vec![])));
    }

    #[test]
    fn slips_are_named_with_their_place() {
        for (content, why) in [
            (
                "10.0.0.1:80\n10.0.0.2",
                "line 2: \"10.0.0.2\" is not an address or host with a port; write \"10.0.0.2:80\" with the port you mean",
            ),
            ("app.internal:80", "line 1: \"app.internal:80\" is not an ADDRESS:PORT: a file lists no hosts"),
            ("10.0.0.1:80 weight=-1", "line 1: a weight is an integer from 0 to 1000000"),
            ("10.0.0.1:80 Backup", "line 1: expected weight=NUMBER or backup, found \"Backup\""),
            ("10.0.0.1:80\n10.0.0.1:80", "backend 10.0.0.1:80 is listed twice"),
            ("[\"10.0.0.1:80\", 1]", "backend 2: expected an address or a table with `address`"),
            ("[{\"address\": \"10.0.0.1:80\", \"port\": 1}]", "backend 1: unknown key `port`"),
            ("[{\"address\": \"10.0.0.1:80\", \"backup\": 1}]", "backend 1: `backup` is true or false"),
        ] {
            assert_eq!(read(content), Err(why.into()));
        }
        assert!(read("[\"10.0.0.1:80\"").unwrap_err().starts_with("not valid JSON: "));
        let many: String = (0..1025).map(|it| format!("10.0.{}.{}:80\n", it / 250, it % 250 + 1)).collect();
        assert_eq!(read(&many), Err("at most 1024 backends, found 1025".into()));
    }
}
