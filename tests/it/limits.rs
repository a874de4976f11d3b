//! Checks that `docs/limits.md` is correct and complete.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

/// Constants whose names sound like limits, but which limit nothing that comes from outside.
const NO_LIMITS: [&str; 11] = [
    "answer::debug::LONGEST",                  // of a string that this program makes
    "config::abuse::MOST_PER_SECOND",          // another name for one that is listed
    "config::advice::LONGEST_TTL",             // a warning
    "config::node::MOST_AGE",                  // the range of a key
    "config::steering::MOST_TOLERANCE",        // the range of a key
    "dns::query_log::stream::LONGEST_CONTROL", // of a protocol, as others have it
    "geo::reduce::SHARES_MAX",                 // of a database that this program makes
    "node::demo::happening::KEPT",             // of the demo, for its own terminal
    "pick::picker::MAX_WEIGHT",                // of a number that this program makes
    "pick::smooth::MAX_START",                 // a starting point
    "zone::location::LARGEST",                 // the range of a field
];

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).to_owned()
}

/// The file of a module.
fn source(module: &str) -> Option<String> {
    let path = root().join("src").join(module.replace("::", "/"));
    fs::read_to_string(path.with_extension("rs")).or_else(|_| fs::read_to_string(path.join("mod.rs"))).ok()
}

/// The expression that a path stands for: a constant, or the arm of a match. Constants of a type are found by their name
/// alone.
fn expression(path: &str) -> Option<String> {
    let (module, name) = path.rsplit_once("::")?;
    if let Some(text) = source(module) {
        let value = text.lines().filter(|line| line.contains("const ")).find_map(|line| {
            line.split_once(&format!("const {name}: "))?
                .1
                .split_once(" = ")?
                .1
                .split(';')
                .next()
                .map(str::to_owned)
        });
        return value;
    }
    let text = source(module.rsplit_once("::")?.0)?;
    let arm = text.lines().find_map(|line| line.trim().strip_prefix(&format!("Self::{name} => ")))?;
    arm.strip_suffix(',').map(str::to_owned)
}

/// Values of a constant, in bytes, milliseconds or pieces; two for a range.
fn values(module: &str, expression: &str) -> Vec<u64> {
    expression.split("..=").map(|side| value(module, side.trim())).collect()
}

/// Evaluates products, shifts, durations and names of other constants of the same file.
fn value(module: &str, text: &str) -> u64 {
    let text = text.split(" as ").next().unwrap_or(text).trim();
    if let Some((left, right)) = text.split_once(" << ") {
        return value(module, left) << value(module, right);
    }
    for (unit, millis) in [("secs", 1000), ("millis", 1)] {
        if let Some(inner) = text.strip_prefix(&format!("Duration::from_{unit}(")) {
            return value(module, inner.strip_suffix(')').expect("one call")) * millis;
        }
    }
    if let Some((left, right)) = text.split_once(" * ") {
        return value(module, left) * value(module, right);
    }
    match text.trim_end_matches(".0").replace('_', "").parse() {
        Ok(number) => number,
        Err(_) if text == "u16::MAX" => u16::MAX.into(),
        Err(_) => {
            let path = format!("{module}::{text}");
            let inner = expression(&path).unwrap_or_else(|| panic!("{path} is not in the source"));
            value(module, &inner)
        }
    }
}

/// The numbers of a limit as the table has it: "16 KiB", "1 s to 600 s", "3 of 8".
fn listed(limit: &str) -> Vec<u64> {
    let of_unit = |unit: &str| match unit {
        "KiB" => 1 << 10,
        "MiB" => 1 << 20,
        "s" => 1000,
        _ => 1,
    };
    let side = |side: &str| {
        let (number, unit) = side.split_once(' ').unwrap_or_else(|| panic!("{limit} has no unit"));
        number.parse::<u64>().unwrap_or_else(|_| panic!("{limit} is no number")) * of_unit(unit)
    };
    limit.split(" to ").map(side).collect()
}

/// The rows of all tables: the limit, and what the third cell names.
fn rows() -> Vec<(String, Vec<String>)> {
    let text = fs::read_to_string(root().join("docs/limits.md")).expect("it is text");
    let row = |line: &str| {
        let cells: Vec<&str> = line.trim_matches('|').split(" | ").map(str::trim).collect();
        assert!(cells.len() == 4 && cells.iter().all(|cell| !cell.is_empty()), "{line}");
        let named = cells[2].split('`').skip(1).step_by(2).map(str::to_owned);
        (cells[1].to_owned(), named.collect())
    };
    let lines = text.lines().filter(|line| line.starts_with("| ") && !line.starts_with("| what"));
    lines.map(row).collect()
}

#[test]
fn the_listed_limits_are_those_of_the_code() {
    let rows = rows();
    assert!(rows.len() > 50, "{} rows", rows.len());
    let reference = fs::read_to_string(root().join("deploy/portolan.reference.toml")).expect("it is text");
    for (limit, named) in rows {
        assert!(named.iter().any(|name| name.contains("::")), "{limit} names no constant");
        for name in named {
            let Some((module, _)) = name.rsplit_once("::") else {
                // A key: its table, then perhaps its own name.
                let key = name.rsplit(['.', ' ']).next().expect("a part").trim_matches(['[', ']']);
                assert!(reference.contains(key), "{name} is not in the reference");
                continue;
            };
            let expression = expression(&name).unwrap_or_else(|| panic!("{name} is not in the source"));
            let module =
                if source(module).is_some() { module } else { module.rsplit_once("::").expect("a type").0 };
            assert_eq!(values(module, &expression), listed(&limit), "{name} = {expression}");
        }
    }
}

#[test]
fn every_constant_that_sounds_like_a_limit_is_listed() {
    let listed: BTreeSet<String> = rows().into_iter().flat_map(|(_, named)| named).collect();
    let mut missing = Vec::new();
    let mut folders = vec![root().join("src")];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).expect("a folder") {
            let path = entry.expect("an entry").path();
            if path.is_dir() {
                folders.push(path);
            } else if !path.to_string_lossy().contains("tests") {
                missing.extend(limits_in(&path).into_iter().filter(|name| !listed.contains(name)));
            }
        }
    }
    missing.retain(|name| !NO_LIMITS.contains(&name.as_str()));
    assert_eq!(missing, [""; 0], "list them in docs/limits.md, or in NO_LIMITS if they limit nothing");
}

/// The numeric constants of a file that are not local to a function and sound like limits.
fn limits_in(path: &Path) -> Vec<String> {
    let module = path.strip_prefix(root().join("src")).expect("below src").with_extension("");
    let module = module.to_str().expect("UTF-8").replace('/', "::");
    let module = module.strip_suffix("::mod").unwrap_or(&module);
    let text = fs::read_to_string(path).expect("it is text");
    let code = text.split("#[cfg(test)]").next().unwrap_or_default();
    let constant = |line: &str| {
        if line.starts_with("    const") {
            return None;
        }
        let (before, rest) = line.split_once("const ")?;
        let (name, kind) = rest.split_once(": ")?;
        let is_declared = before.trim().is_empty() || before.trim().starts_with("pub");
        let sounds = ["MAX", "MOST", "LONGEST", "LARGEST", "QUEUE", "CAPACITY", "KEPT"];
        let is_number =
            ["u16", "u32", "u64", "usize", "i32", "f64", "Duration"].iter().any(|it| kind.starts_with(it));
        let sounds_so = sounds.iter().any(|part| name.split('_').any(|word| word == *part));
        (is_declared && is_number && sounds_so).then(|| format!("{module}::{name}"))
    };
    code.lines().filter_map(constant).collect()
}
