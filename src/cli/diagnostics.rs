//! Errors and warnings about a config, for people, editors and programs.
//!
//! ```text
//! portolan.toml:3:9: error: expected "json" or "text", found "jsom"; did you mean `json`?
//!   |
//! 3 | level = "jsom"
//!   |         ^^^^^^
//! ```

use std::borrow::Cow;
use std::io::Write as _;
use std::iter::Enumerate;
use std::ops::Range;
use std::path::Path;
use std::str::Lines;

use annotate_snippets::renderer::Style;
use annotate_snippets::{AnnotationKind, Group, Level, Renderer, Snippet};
use serde::Serialize;

use super::styled::{Look, has_colours};
use super::terminal::{escaped, in_place};
use crate::config::{Diagnostic, Diagnostics, MOST_SHOWN, Severity};

/// Prints them to standard error: errors, then warnings, then their number.
pub(super) fn print(diagnostics: &Diagnostics) {
    let stderr = std::io::stderr();
    let colours = has_colours(&stderr);
    // The exit code tells what a stderr that takes nothing cannot.
    write!(stderr.lock(), "{}{}", rendered(diagnostics, colours), summary(diagnostics)).ok();
}

/// How many there are, as a line; empty if there are none.
fn summary(diagnostics: &Diagnostics) -> String {
    let Some(counts) = counts(diagnostics) else { return String::new() };
    let of = |severity| diagnostics.iter().filter(|it| it.severity == severity).count();
    let is_cut = of(Severity::Error).max(of(Severity::Warning)) > MOST_SHOWN;
    let shown = if is_cut {
        format!("; {MOST_SHOWN} of each are shown, all by `check --json`")
    } else {
        String::new()
    };
    format!("{counts}{shown}\n")
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
        let mut lines = SourceLines { diagnostics, file: None, rest: "".lines().enumerate() };
        for it in diagnostics.iter().filter(|it| it.severity == severity).take(MOST_SHOWN) {
            text += &one(it, lines.line(it), colours);
        }
    }
    text
}

/// The lines that diagnostics are about, in their order, so that each file is gone through once.
struct SourceLines<'d> {
    diagnostics: &'d Diagnostics,
    file: Option<&'d Path>,
    /// The lines of that file from the last one returned on.
    rest: Enumerate<Lines<'d>>,
}

impl<'d> SourceLines<'d> {
    /// The line of a diagnostic; `None` if its position is outside of its file.
    fn line(&mut self, it: &'d Diagnostic) -> Option<&'d str> {
        if self.file != Some(&it.file) {
            self.file = Some(&it.file);
            self.rest = self.diagnostics.source(&it.file).unwrap_or_default().lines().enumerate();
        }
        let before = it.line.checked_sub(1)?;
        loop {
            // Several diagnostics may be about one line.
            let mut next = self.rest.clone();
            let (number, line) = next.next()?;
            if number >= before {
                return (number == before).then_some(line);
            }
            self.rest = next;
        }
    }
}

/// The part of a line around what is wrong, and that mark's bytes in it. The renderer's columns have 16 bits, and nobody
/// reads much more than a screen is wide.
fn window(line: &str, columns: Range<usize>) -> (Cow<'_, str>, Range<usize>) {
    const WIDTH: usize = 120;
    const BEFORE: usize = 60;
    let length = line.chars().count();
    if length <= WIDTH {
        return (line.into(), offset(line, columns.start)..offset(line, columns.end));
    }
    // Columns count from 1.
    let first = columns.start.saturating_sub(1 + BEFORE).min(length - WIDTH);
    let middle: String = line.chars().skip(first).take(WIDTH).collect();
    let [left, right] = [first > 0, first + WIDTH < length].map(|is_cut| if is_cut { "…" } else { "" });
    let [start, end] =
        [columns.start, columns.end].map(|column| left.len() + offset(&middle, column.saturating_sub(first)));
    (format!("{left}{middle}{right}").into(), start..end)
}

/// The line that editors understand, then the source line with what is wrong marked, then the help.
fn one(it: &Diagnostic, line: Option<&str>, colours: bool) -> String {
    let (level, look) = match it.severity {
        Severity::Error => (Level::ERROR, Look::Bad),
        Severity::Warning => (Level::WARNING, Look::Doubtful),
    };
    let (renderer, bold, colour) = if colours {
        (Renderer::styled(), Look::Heading.style(), look.style())
    } else {
        (Renderer::plain(), Style::new(), Style::new())
    };
    let place = format!("{}:{}:{}", escaped(&it.file.display().to_string()), it.line, it.column);
    let head = format!("{bold}{place}: {colour}{}:{colour:#} {}\n", it.severity, escaped(&it.message));
    let line = line.map(in_place);
    let snippet = line.as_deref().map(|line| {
        let (line, span) = window(line, it.column..it.end_column.max(it.column));
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

/// All of them, for JSON.
pub(super) fn rows(diagnostics: &Diagnostics) -> impl Serialize {
    diagnostics.iter().map(Row::from).collect::<Vec<_>>()
}

#[cfg(test)]
mod tests {
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
        p.toml:2:8: warning: probe `p` is not used by any endpoint or pool
          |
        2 | [probe.p]
          |        ^
          |
          = help: name it in the `probe` of an endpoint or pool, or remove it
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
    fn what_others_wrote_is_escaped_in_every_part() {
        let text = "a\u{1b}[2Jb\u{9b}2Jc\u{202e}d";
        let it = Diagnostic {
            severity: Severity::Error,
            file: text.into(),
            line: 1,
            column: 1,
            end_column: 2,
            message: text.into(),
            help: Some(text.into()),
        };
        let shown = one(&it, Some(text), false);
        let escaped = r"a\u001b[2Jb\u009b2Jc\u202ed";
        assert_eq!(shown.matches(escaped).count(), 3, "the file, the message and the help: {shown}");
        assert!(!shown.contains(['\u{1b}', '\u{9b}', '\u{202e}']), "{shown:?}");
    }

    #[test]
    fn long_lines_are_cut_around_the_mistake() {
        let text = format!("version = 1\nnode = {{ name = \"{}\", bogus = 1 }}\n", "ä".repeat(100_000));
        let found = loaded(&text);
        let it = found.iter().find(|it| it.message.contains("bogus")).expect("an unknown key far behind");
        assert!(it.column > 65_535, "{it}");
        let shown = rendered(&found, false);
        assert!(shown.lines().all(|line| line.chars().count() < 300), "{shown}");
        let wide = |column: usize| Diagnostic { column, end_column: column + 3, ..it.clone() };
        let line = format!("{}log{}", "ä".repeat(100_000), "b".repeat(100_000));
        let far = one(&wide(100_001), Some(&line), false);
        let (shown, marks) = far.trim_end().rsplit_once('\n').expect("two lines");
        let shown = shown.lines().last().expect("a line");
        let at = |line: &str, what: &str| line.find(what).map(|byte| line[..byte].chars().count());
        assert_eq!(at(shown, "log"), at(marks, "^^^"), "{far}");
        assert!(shown.contains("…ä") && shown.ends_with("b…"), "{far}");
        for column in [1, 2, 60, 61, 119, 120, 121, 200_000, 200_003, 200_004, 300_000] {
            assert!(one(&wide(column), Some(&line), false).lines().count() > 2, "{column}");
        }
    }

    #[test]
    fn many_mistakes_are_counted_and_the_first_shown() {
        let text = format!("version = 1\n{}", "[[service]]\nname = 1\n".repeat(50_000));
        let found = loaded(&text);
        assert!(found.len() >= 50_000, "{}", found.len());
        let shown = rendered(&found, false);
        assert_eq!(shown.matches("p.toml:").count(), MOST_SHOWN, "{shown}");
        assert_eq!(shown.matches("name = 1").count(), MOST_SHOWN / 2, "each with its line");
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
                let shown = one(&it, source.lines().nth(line.wrapping_sub(1)), false);
                assert!(shown.starts_with(&format!("f:{line}:{column}: error: wrong\n")), "{shown}");
            }
        }
    }
}
