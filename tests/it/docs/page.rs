//! The pages of the documentation: what is in them for [`transcripts`](super::transcripts) to run.
//!
//! Comments, which readers do not see, say how:
//!
//! ```text
//! <!-- host -->                 what follows runs on a new host
//! <!-- host: demo -->           the same, where the demo runs
//! <!-- setup: … -->             lines of shell that run before what follows
//! <!-- file: portolan.toml -->  the next block is this file
//! <!-- not run: WHY -->         the next block is not run
//! ```

use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};

/// A page, in parts whose texts together are the page.
pub(super) struct Page {
    pub(super) path: PathBuf,
    pub(super) parts: Vec<Part>,
}

pub(super) struct Part {
    /// The line that it begins at, from 1.
    pub(super) line: usize,
    pub(super) text: String,
    pub(super) kind: Kind,
}

pub(super) enum Kind {
    /// Text for readers alone.
    Prose,
    /// A new host; whether the demo runs there.
    Host {
        demo: bool,
    },
    Setup(String),
    File {
        name: String,
        content: String,
    },
    /// Commands, each with what it prints.
    Commands {
        indent: usize,
        commands: Vec<(String, String)>,
    },
}

/// All pages.
pub(super) fn all() -> Vec<Page> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let below = |folder: &str| fs::read_dir(root.join(folder)).expect("a folder");
    let docs = below("docs").map(|entry| entry.expect("an entry").path());
    let mut paths: Vec<PathBuf> = docs.filter(|path| path.extension().is_some_and(|it| it == "md")).collect();
    paths.push(root.join("README.md"));
    paths.sort();
    paths.into_iter().map(Page::read).collect()
}

impl Page {
    fn read(path: PathBuf) -> Self {
        let text = fs::read_to_string(&path).expect("a page is text");
        let mut lines = text.split_inclusive('\n').enumerate().peekable();
        let mut parts = Vec::new();
        let mut named: Option<String> = None;
        let mut is_left_out = false;
        while let Some((index, first)) = lines.next() {
            let mut text = first.to_owned();
            let trimmed = first.trim();
            let kind = if trimmed.starts_with("<!-- ") {
                while !text.trim_end().ends_with("-->") {
                    text += lines.next().expect("a comment ends").1;
                }
                let comment = text.trim().trim_start_matches("<!-- ").trim_end_matches("-->").trim();
                let (what, value) = comment.split_once(':').unwrap_or((comment, ""));
                match what {
                    "host" => Kind::Host { demo: value.trim() == "demo" },
                    "setup" => Kind::Setup(value.trim().to_owned()),
                    "file" => {
                        named = Some(value.trim().to_owned());
                        Kind::Prose
                    }
                    "not run" => {
                        is_left_out = true;
                        Kind::Prose
                    }
                    _ => Kind::Prose,
                }
            } else if let Some(language) = trimmed.strip_prefix("```") {
                let indent = first.len() - first.trim_start().len();
                let mut content = String::new();
                loop {
                    let (_, line) = lines.next().expect("a block ends");
                    text += line;
                    if line.trim() == "```" {
                        break;
                    }
                    content += line.get(indent..).unwrap_or("\n");
                }
                match (named.take(), language, std::mem::take(&mut is_left_out)) {
                    (Some(name), ..) => Kind::File { name, content },
                    (None, "console", false) => Kind::Commands { indent, commands: commands(&content) },
                    _ => Kind::Prose,
                }
            } else {
                Kind::Prose
            };
            parts.push(Part { line: index + 1, text, kind });
        }
        Self { path, parts }
    }
}

/// The commands of a block, and what they print. A command goes on after a backslash, and until its quotes end.
fn commands(block: &str) -> Vec<(String, String)> {
    let mut commands: Vec<(String, String)> = Vec::new();
    let mut continues = false;
    for line in block.lines() {
        if let Some(command) = line.strip_prefix("$ ") {
            commands.push((command.to_owned(), String::new()));
        } else {
            let (command, output) = commands.last_mut().expect("a block begins with a command");
            if continues {
                *command += "\n";
                *command += line;
            } else {
                *output += line;
                *output += "\n";
            }
        }
        continues = commands.last().is_some_and(|(command, output)| {
            let is_quoting = command.matches('\'').count() % 2 == 1;
            output.is_empty() && (is_quoting || command.ends_with('\\'))
        });
    }
    commands
}

/// The block of these commands and what they print.
pub(super) fn block(indent: usize, commands: &[(String, String)]) -> String {
    let mut text = String::from("```console\n");
    for (command, output) in commands {
        let _ = writeln!(text, "$ {command}");
        if !output.is_empty() {
            let _ = writeln!(text, "{}", output.trim_end());
        }
    }
    text += "```\n";
    let indented =
        |line: &str| if line.trim().is_empty() { line.to_owned() } else { format!("{:indent$}{line}", "") };
    text.split_inclusive('\n').map(indented).collect()
}
