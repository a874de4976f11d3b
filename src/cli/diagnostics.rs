//! Errors and warnings about a config, for people, editors and programs.
//!
//! ```text
//! portolan.toml:3:9: error: expected "json" or "text", found "jsom"; did you mean `json`?
//!   |
//! 3 | level = "jsom"
//!   |         ^^^^^^
//! ```

use std::io::{IsTerminal as _, Write as _};

use annotate_snippets::renderer::{AnsiColor, Style};
use annotate_snippets::{AnnotationKind, Group, Level, Renderer, Snippet};
use serde::Serialize;

use super::terminal::{escaped, in_place};
use crate::config::{Diagnostic, Diagnostics, Severity};

/// Prints all of them to standard error: errors, then warnings, then their number.
pub(super) fn print(diagnostics: &Diagnostics) {
    let stderr = std::io::stderr();
    let colours = stderr.is_terminal() && std::env::var_os("NO_COLOR").is_none_or(|it| it.is_empty());
    let counts = counts(diagnostics).map(|counts| format!("{counts}\n")).unwrap_or_default();
    // The exit code tells what a stderr that takes nothing cannot.
    write!(stderr.lock(), "{}{counts}", rendered(diagnostics, colours)).ok();
}

/// "3 errors and 1 warning"; `None` if there is nothing to count.
pub(super) fn counts(diagnostics: &Diagnostics) -> Option<String> {
    let of = |severity| match diagnostics.iter().filter(|it| it.severity == severity).count() {
        0 => None,
        1 => Some(format!("1 {severity}")),
        many => Some(format!("{many} {severity}s")),
    };
    let found: Vec<_> = [Severity::Error, Severity::Warning].into_iter().filter_map(of).collect();
    (!found.is_empty()).then(|| found.join(" and "))
}

fn rendered(diagnostics: &Diagnostics, colours: bool) -> String {
    let mut text = String::new();
    for severity in [Severity::Error, Severity::Warning] {
        for it in diagnostics.iter().filter(|it| it.severity == severity) {
            text += &one(it, diagnostics.source(&it.file), colours);
        }
    }
    text
}

/// The line that editors understand, then the source line with what is wrong marked, then the help.
fn one(it: &Diagnostic, source: Option<&str>, colours: bool) -> String {
    let (level, colour) = match it.severity {
        Severity::Error => (Level::ERROR, AnsiColor::Red),
        Severity::Warning => (Level::WARNING, AnsiColor::Yellow),
    };
    let (renderer, bold, colour) = if colours {
        (Renderer::styled(), Style::new().bold(), colour.on_default())
    } else {
        (Renderer::plain(), Style::new(), Style::new())
    };
    let place = format!("{}:{}:{}", escaped(&it.file.display().to_string()), it.line, it.column);
    let head = format!("{bold}{place}: {colour}{}:{colour:#} {}\n", it.severity, escaped(&it.message));
    // A position outside of its file has no line to show.
    let line = it.line.checked_sub(1).and_then(|before| source?.lines().nth(before)).map(in_place);
    let snippet = line.as_deref().map(|line| {
        let span = offset(line, it.column)..offset(line, it.end_column.max(it.column));
        Snippet::source(line).line_start(it.line).annotation(AnnotationKind::Primary.span(span))
    });
    let help = it.help.as_deref().map(|help| Level::HELP.message(escaped(help)));
    let body = Group::with_level(level).elements(snippet).elements(help);
    if body.is_empty() { head } else { head + &renderer.render(&[body]) + "\n" }
}

/// The byte at which a column of a line begins; columns count characters from 1.
fn offset(line: &str, column: usize) -> usize {
    line.char_indices().nth(column.saturating_sub(1)).map_or(line.len(), |(offset, _)| offset)
}

/// A diagnostic in the JSON of `check --json`.
#[derive(Debug, Serialize)]
struct Row<'a> {
    severity: String,
    file: String,
    line: usize,
    column: usize,
    end_column: usize,
    message: &'a str,
    help: Option<&'a str>,
}

impl<'a> From<&'a Diagnostic> for Row<'a> {
    fn from(it: &'a Diagnostic) -> Self {
        Self {
            severity: it.severity.to_string(),
            file: it.file.display().to_string(),
            line: it.line,
            column: it.column,
            end_column: it.end_column,
            message: &it.message,
            help: it.help.as_deref(),
        }
    }
}

/// All of them as a JSON array.
pub(super) fn json(diagnostics: &Diagnostics) -> serde_json::Result<String> {
    serde_json::to_string_pretty(&diagnostics.iter().map(Row::from).collect::<Vec<_>>())
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    fn loaded(text: &str) -> Diagnostics {
        crate::config::load(Path::new("p.toml"), &|_| Ok(text.as_bytes().to_vec()))
            .map_or_else(|refused| refused.diagnostics, |config| config.warnings)
    }

    #[test]
    fn errors_come_first_each_with_its_line_and_help() {
        let found = loaded(
            "version = 1\n[probe.p]\nkind = \"http\"\ntimeout = \"9s\"\n[log]\n\tlevel = \"ïnfo\" # ä\nformat = \"jsom\"\n",
        );
        insta::assert_snapshot!(rendered(&found, false), @r#"
        p.toml:6:10: error: expected "error", "warn", "info", "debug" or "trace", found "ïnfo"; did you mean `info`?
          |
        6 |     level = "ïnfo" # ä
          |             ^^^^^^
        p.toml:7:10: error: expected "json" or "text", found "jsom"; did you mean `json`?
          |
        7 | format = "jsom"
          |          ^^^^^^
        p.toml:2:8: warning: probe `p` is not used by any endpoint
          |
        2 | [probe.p]
          |        ^
          |
          = help: name it in an endpoint's `probe`, or remove it
        p.toml:4:1: warning: probe `p` may take 9s but runs every 5s
          |
        4 | timeout = "9s"
          | ^^^^^^^
          |
          = help: probes of an address never overlap, so slow ones stretch the interval; make `timeout` shorter than `interval`
        "#);
        let torn = rendered(&loaded("version = 1\n[log"), false);
        assert!(torn.ends_with("\n2 | [log\n  |     ^\n"), "{torn}");
        assert_eq!(counts(&found).as_deref(), Some("2 errors and 2 warnings"));
        let coloured = rendered(&found, true);
        assert!(coloured.starts_with("\x1b[1mp.toml:6:10: \x1b[31merror:\x1b[0m expected"), "{coloured:?}");
    }

    #[test]
    fn any_position_is_shown_or_skipped() {
        for source in ["", "\n", "a", "a\r\nb\r\n", "ä\tb\n\n"] {
            for (line, column, end_column) in
                [(1, 1, 2), (1, 2, 9), (2, 1, 2), (3, 1, 1), (9, 9, 3), (0, 0, 0)]
            {
                let it = Diagnostic {
                    severity: Severity::Error,
                    file: "f".into(),
                    line,
                    column,
                    end_column,
                    message: "wrong".into(),
                    help: None,
                };
                let shown = one(&it, Some(source), false);
                assert!(shown.starts_with(&format!("f:{line}:{column}: error: wrong\n")), "{shown}");
            }
        }
    }
}
