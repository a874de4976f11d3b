//! Rules of the code base that the compiler does not enforce.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

/// The most lines of a file below src.
const FILE_LINES: usize = 500;

/// Files that are longer, each because it is one table.
const LONG_FILES: [&str; 1] = ["src/config/tests/mistakes.rs"];

/// The most lines of a function below src, from `fn` to its closing brace.
const FUNCTION_LINES: usize = 70;

/// Functions that are longer, each because it is one list.
const LONG_FUNCTIONS: [&str; 3] = [
    "src/config/mod.rs: decode",
    "src/config/tests/mistakes.rs: places",
    "src/config/tests/named.rs: services_of_names",
];

/// One row of the table in `src/lib.rs`: a module and what it may import.
#[derive(Debug)]
struct Row {
    module: String,
    /// The modules that the row names explicitly.
    named: BTreeSet<String>,
    /// Those and the modules that "core", "all above" and "everything but cli" stand for.
    allowed: BTreeSet<String>,
}

/// Reads the rows `| [`module`] | what lives there | may import |`. A row with a bold first cell begins a section;
/// text in parentheses is a remark for readers.
fn table(source: &str) -> Vec<Row> {
    let mut written: Vec<(&str, &str, String)> = Vec::new();
    let mut section = "";
    for line in source.lines().filter_map(|line| line.strip_prefix("//! | ")) {
        let cells: Vec<&str> = line.trim_end_matches('|').split(" | ").map(str::trim).collect();
        let first = cells[0].trim_matches(['*', '[', ']', '`']);
        if cells[0].starts_with("**") {
            section = first;
        } else if cells[0].starts_with('[') {
            let imports = cells.last().expect("a split has an element");
            written.push((section, first, without_remarks(imports)));
        }
    }
    let modules: Vec<&str> = written.iter().map(|(_, module, _)| *module).collect();
    let core: Vec<&str> =
        written.iter().filter(|(section, ..)| *section == "core").map(|row| row.1).collect();
    let row = |(at, (_, module, imports)): (usize, &(&str, &str, String))| {
        let mut row = Row { module: (*module).into(), named: BTreeSet::new(), allowed: BTreeSet::new() };
        for import in imports.split(',').map(str::trim).filter(|import| !["", "–"].contains(import)) {
            let (import, but) = import.split_once(" but ").unwrap_or((import, ""));
            let meant = match import {
                "core" => &core[..],
                "all above" => &modules[..at],
                "everything" => &modules[..],
                one => {
                    row.named.insert(one.into());
                    &[one]
                }
            };
            row.allowed.extend(meant.iter().filter(|name| **name != but).map(|name| (*name).to_owned()));
        }
        row
    };
    written.iter().enumerate().map(row).collect()
}

fn without_remarks(cell: &str) -> String {
    let pieces = cell.split('(').map(|piece| piece.split_once(')').map_or(piece, |(_, after)| after));
    pieces.collect()
}

/// Violations of the table by the imports of `sources`: edges that it does not allow, and edges that it names but
/// nothing uses.
fn wrong_edges(rows: &[Row], sources: &[(PathBuf, String)]) -> Vec<String> {
    let mut wrong = Vec::new();
    let mut unused: BTreeMap<&str, BTreeSet<String>> =
        rows.iter().map(|row| (row.module.as_str(), row.named.clone())).collect();
    for (path, text) in sources {
        let Some(module) = module_of(path) else { continue };
        let Some(row) = rows.iter().find(|row| row.module == module) else {
            wrong.push(format!("{}: {module} is not in the table", path.display()));
            continue;
        };
        for (number, line) in text.lines().enumerate() {
            for import in imports(line).filter(|import| *import != module) {
                if !row.allowed.contains(import) {
                    wrong.push(format!(
                        "{}:{}: {module} may not import {import}",
                        path.display(),
                        number + 1
                    ));
                }
                if let Some(unused) = unused.get_mut(module) {
                    unused.remove(import);
                }
            }
        }
    }
    for (module, unused) in unused {
        wrong.extend(unused.iter().map(|import| format!("{module} may import {import}, but does not")));
    }
    wrong
}

/// The module that a file belongs to; `None` for `lib.rs` and `main.rs`.
fn module_of(path: &Path) -> Option<&str> {
    let name = path.strip_prefix("src").expect("below src").components().next()?.as_os_str().to_str()?;
    (!name.ends_with(".rs")).then_some(name)
}

/// Every `crate::module` that a line of code names; comments and doc links do not count.
fn imports(line: &str) -> impl Iterator<Item = &str> {
    let code = line.split("//").next().unwrap_or_default();
    code.split("crate::")
        .skip(1)
        .map(|rest| rest.split(|c: char| !c.is_ascii_alphanumeric() && c != '_').next().unwrap_or_default())
}

/// Every function of a file with its number of lines. As rustfmt indents them, a function that begins and ends on
/// different lines ends at the first brace below it with its own indentation.
fn functions(text: &str) -> Vec<(&str, usize)> {
    let lines: Vec<&str> = text.lines().collect();
    let mut found = Vec::new();
    for (first, line) in lines.iter().enumerate() {
        let code = line.trim_start();
        let Some((before, after)) = code.split_once("fn ") else { continue };
        let name = after.split(['(', '<']).next().unwrap_or_default();
        let is_item = before
            .split_whitespace()
            .all(|word| ["pub", "pub(crate)", "pub(super)", "const", "async", "unsafe"].contains(&word));
        if !is_item || line.ends_with(['}', ';']) {
            continue;
        }
        let indent = &line[..line.len() - code.len()];
        let length = lines[first..].iter().position(|line| line.strip_prefix(indent) == Some("}"));
        found.push((name, length.map_or(0, |length| length + 1)));
    }
    found
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

#[test]
fn imports_match_the_table() {
    let rows = table(include_str!("../../src/lib.rs"));
    let sources = sources();
    let known: BTreeSet<&str> = sources.iter().filter_map(|(path, _)| module_of(path)).collect();
    let listed: BTreeSet<&str> = rows.iter().map(|row| row.module.as_str()).collect();
    assert_eq!(listed, known, "rows of the table and folders of src");
    let wrong = wrong_edges(&rows, &sources);
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn the_table_is_parsed() {
    let rows = table(
        "//! | module | what lives there | may import |\n//! |---|---|---|\n//! | **core** | | |\n\
         //! | [`a`] | a | – |\n//! | [`b`] | an arrow → and | a |\n//! | [`c`] | c | all above but a |\n\
         //! | **shells** | | |\n//! | [`d`] | d | core (its reads), e |\n//! | [`e`] | e | everything but d |\n",
    );
    let shown = |names: &BTreeSet<String>| names.iter().cloned().collect::<Vec<_>>().join(" ");
    let rows: Vec<_> = rows
        .iter()
        .map(|row| [&row.module, &shown(&row.named), &shown(&row.allowed)].map(String::clone))
        .collect();
    assert_eq!(
        rows,
        [["a", "", ""], ["b", "a", "a"], ["c", "", "b"], ["d", "e", "a b c e"], ["e", "", "a b c e"]]
    );
}

#[test]
fn missing_and_unused_edges_are_found() {
    let rows = table("//! | [`a`] | x | – |\n//! | [`b`] | x | a |\n//! | [`c`] | x | a, b |\n");
    let source = |path: &str, text: &str| (PathBuf::from(path), text.to_owned());
    let sources = [
        source("src/lib.rs", "use crate::c;"),
        source("src/a/mod.rs", "use crate::a::X;\n// crate::c\nuse crate::b::Y;\n"),
        source("src/c/x.rs", "fn f(x: crate::a::X) {}\n"),
        source("src/d/mod.rs", ""),
    ];
    let expected = [
        "src/a/mod.rs:3: a may not import b",
        "src/d/mod.rs: d is not in the table",
        "b may import a, but does not",
        "c may import b, but does not",
    ];
    assert_eq!(wrong_edges(&rows, &sources), expected);
}

#[test]
fn files_stay_readable() {
    let long: BTreeMap<String, usize> = sources()
        .into_iter()
        .map(|(path, text)| (path.display().to_string(), text.lines().count()))
        .filter(|(_, lines)| *lines > FILE_LINES)
        .collect();
    let found: Vec<&str> = long.keys().map(String::as_str).collect();
    assert_eq!(found, LONG_FILES, "files of more than {FILE_LINES} lines, and the exceptions: {long:?}");
}

#[test]
fn functions_stay_readable() {
    let mut long = BTreeMap::new();
    for (path, text) in sources() {
        for (name, lines) in functions(&text).into_iter().filter(|(_, lines)| *lines > FUNCTION_LINES) {
            long.insert(format!("{}: {name}", path.display()), lines);
        }
    }
    let found: Vec<&str> = long.keys().map(String::as_str).collect();
    assert_eq!(
        found, LONG_FUNCTIONS,
        "functions of more than {FUNCTION_LINES} lines, and the exceptions: {long:?}"
    );
}

#[test]
fn functions_are_measured_from_their_first_line_to_their_brace() {
    let text = "fn one() {}\npub(crate) async fn two<T>(\n    x: T,\n) {\n    if x {\n    }\n}\n\
                impl A {\n    fn three(&self) -> B;\n    \
                const fn four() {\n        let f = |fn_| {\n        };\n    }\n}\ntype F = fn (u8) -> u8;\n";
    assert_eq!(functions(text), [("two", 6), ("four", 4)]);
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
