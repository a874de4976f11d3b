//! The house rules that a compiler does not know.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

const CORE: &str = "pick geo health latency standing safety state steer zone wire snapshot answer config";

/// The table in `src/lib.rs`: room → rooms it may import.
fn allowed() -> BTreeMap<&'static str, BTreeSet<&'static str>> {
    let core = || CORE.split(' ').chain(["model"]).collect::<BTreeSet<_>>();
    let rooms = |names: &'static str| names.split_whitespace().collect::<BTreeSet<_>>();
    let with = |mut base: BTreeSet<&'static str>, more: &'static str| {
        base.extend(more.split_whitespace());
        base
    };
    BTreeMap::from([
        ("model", rooms("")),
        ("pick", rooms("model")),
        ("geo", rooms("model")),
        ("health", rooms("model")),
        ("latency", rooms("model geo")),
        ("standing", rooms("model pick health")),
        ("safety", rooms("model health standing")),
        ("state", rooms("model health standing safety")),
        ("steer", rooms("model pick geo latency standing")),
        ("zone", rooms("model")),
        ("wire", rooms("model zone")),
        ("snapshot", rooms("model pick geo health latency standing safety steer zone wire")),
        ("answer", rooms("model pick geo health latency standing safety steer zone wire snapshot")),
        ("config", rooms("model zone geo")),
        ("net", rooms("model")),
        ("probe", rooms("model health net")),
        ("journal", rooms("model health standing")),
        ("prepare", with(core(), "net probe")),
        ("engine", with(core(), "net probe journal prepare")),
        ("dns", rooms("model zone wire answer snapshot net engine")),
        ("api", with(core(), "prepare engine net")),
        ("node", with(core(), "net probe journal prepare engine dns api")),
        ("cli", with(core(), "prepare engine node api")),
    ])
}

fn rust_files(folder: &Path, into: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(folder).expect("the source folder is readable") {
        let path = entry.expect("the source folder is readable").path();
        if path.is_dir() {
            rust_files(&path, into);
        } else if path.extension().is_some_and(|ext| ext == "rs") {
            into.push(path);
        }
    }
}

fn sources() -> Vec<(PathBuf, String)> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut files = Vec::new();
    rust_files(&root.join("src"), &mut files);
    files.sort();
    files
        .into_iter()
        .map(|path| {
            let text = fs::read_to_string(&path).expect("sources are UTF-8");
            (path.strip_prefix(root).expect("below the root").to_path_buf(), text)
        })
        .collect()
}

/// Every `crate::room` a line of code names; comments and doc links do not count.
fn imports(line: &str) -> impl Iterator<Item = &str> {
    let code = line.split("//").next().unwrap_or_default();
    code.split("crate::")
        .skip(1)
        .map(|rest| rest.split(|c: char| !c.is_ascii_alphanumeric() && c != '_').next().unwrap_or_default())
}

#[test]
fn rooms_import_only_what_the_table_allows() {
    let allowed = allowed();
    let mut wrong = Vec::new();
    for (path, text) in sources() {
        let room = path.components().nth(1).expect("a room").as_os_str().to_str().expect("UTF-8").to_owned();
        if room.ends_with(".rs") {
            continue;
        }
        let Some(may) = allowed.get(room.as_str()) else {
            wrong.push(format!("{room}/ is not in the table"));
            continue;
        };
        for (number, line) in text.lines().enumerate() {
            for import in imports(line).filter(|import| *import != room && !may.contains(import)) {
                wrong.push(format!("{}:{}: {room} may not import {import}", path.display(), number + 1));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn files_stay_readable() {
    const LINES: usize = 800;
    let long: Vec<_> = sources()
        .into_iter()
        .filter(|(_, text)| text.lines().count() > LINES)
        .map(|(path, text)| format!("{} has {} lines", path.display(), text.lines().count()))
        .collect();
    assert!(long.is_empty(), "over {LINES} lines: {}", long.join(", "));
}

#[test]
fn unsafe_lives_in_net_alone() {
    let elsewhere: Vec<_> = sources()
        .into_iter()
        .filter(|(path, text)| !path.starts_with("src/net") && text.contains("allow(unsafe_code"))
        .map(|(path, _)| path.display().to_string())
        .collect();
    assert!(elsewhere.is_empty(), "unsafe is allowed in {elsewhere:?}");
}
