//! What is wrong in a config, for people, editors and programs.
//!
//! ```text
//! portolan.toml:3:9: error: expected "json" or "text", found "jsom"; did you mean `json`?
//!    ,-[3:9]
//!  3 | level = "jsom"
//!    :         ^^^^^^
//!    `----
//! ```

use std::fmt;
use std::io::IsTerminal as _;

use miette::{
    GraphicalReportHandler, GraphicalTheme, LabeledSpan, MietteError, MietteSpanContents, SourceCode,
    SourceSpan, SpanContents, ThemeCharacters, ThemeStyles,
};
use serde::Serialize;

use crate::config::{Diagnostic, Diagnostics, Severity};

/// Prints all of them to standard error: errors, then warnings, then how many there are.
pub(super) fn print(diagnostics: &Diagnostics) {
    let stderr = std::io::stderr();
    let colours = stderr.is_terminal() && std::env::var_os("NO_COLOR").is_none_or(|it| it.is_empty());
    eprint!("{}", rendered(diagnostics, colours));
    if let Some(counts) = counts(diagnostics) {
        eprintln!("{counts}");
    }
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

/// The line that editors understand, the lines concerned and the help.
fn one(it: &Diagnostic, source: Option<&str>, colours: bool) -> String {
    let (bold, colour, end) = match (colours, it.severity) {
        (false, _) => ("", "", ""),
        (true, Severity::Error) => ("\x1b[1m", "\x1b[31m", "\x1b[0m"),
        (true, Severity::Warning) => ("\x1b[1m", "\x1b[33m", "\x1b[0m"),
    };
    let place = format!("{}:{}:{}", it.file.display(), it.line, it.column);
    let head = format!("{bold}{place}: {colour}{}:{end} {}\n", it.severity, it.message);
    let styles = if colours { ThemeStyles::ansi() } else { ThemeStyles::none() };
    let handler =
        GraphicalReportHandler::new_themed(GraphicalTheme { characters: ThemeCharacters::ascii(), styles })
            .with_wrap_lines(false);
    let mut below = String::new();
    // A position outside of its file has no line to show.
    let text = it.line.checked_sub(1).and_then(|before| source?.lines().nth(before));
    let line = text.map(|text| {
        // What is missing behind the end of the line is marked there, under a blank.
        let is_behind = it.column > text.chars().count();
        Line { text: format!("{text}{}", if is_behind { " " } else { "" }), number: it.line }
    });
    handler.render_report(&mut below, &Shown { it, line }).expect("a string takes everything");
    // The head takes the place of miette's own first line, which is empty but for a mark.
    let below = below.split_once('\n').map_or("", |(_, below)| below);
    head + below
}

/// A diagnostic as miette wants it.
#[derive(Debug)]
struct Shown<'a> {
    it: &'a Diagnostic,
    line: Option<Line>,
}

/// The line that is shown, by itself.
#[derive(Debug)]
struct Line {
    text: String,
    number: usize,
}

impl SourceCode for Line {
    fn read_span<'a>(
        &'a self,
        _: &SourceSpan,
        _: usize,
        _: usize,
    ) -> Result<Box<dyn SpanContents<'a> + 'a>, MietteError> {
        let whole = SourceSpan::from(0..self.text.len());
        Ok(Box::new(MietteSpanContents::new(self.text.as_bytes(), whole, self.number - 1, 0, 1)))
    }
}

impl fmt::Display for Shown<'_> {
    /// Nothing: the message stands in the head.
    fn fmt(&self, _: &mut fmt::Formatter<'_>) -> fmt::Result {
        Ok(())
    }
}

impl std::error::Error for Shown<'_> {}

impl miette::Diagnostic for Shown<'_> {
    fn severity(&self) -> Option<miette::Severity> {
        Some(match self.it.severity {
            Severity::Error => miette::Severity::Error,
            Severity::Warning => miette::Severity::Warning,
        })
    }

    fn help(&self) -> Option<Box<dyn fmt::Display + '_>> {
        self.it.help.as_ref().map(|help| Box::new(help) as Box<dyn fmt::Display>)
    }

    fn source_code(&self) -> Option<&dyn SourceCode> {
        self.line.as_ref().map(|line| line as &dyn SourceCode)
    }

    fn labels(&self) -> Option<Box<dyn Iterator<Item = LabeledSpan> + '_>> {
        let line = &self.line.as_ref()?.text;
        let offset = |column: usize| {
            let at = line.char_indices().nth(column.saturating_sub(1));
            at.map_or(line.len(), |(offset, _)| offset)
        };
        let start = offset(self.it.column).min(line.len().saturating_sub(1));
        let end = offset(self.it.end_column);
        Some(Box::new(std::iter::once(LabeledSpan::new(None, start, end.saturating_sub(start).max(1)))))
    }
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
        let said = loaded(
            "version = 1\n[probe.p]\nkind = \"http\"\ntimeout = \"9s\"\n[log]\n\tlevel = \"ïnfo\" # ä\nformat = \"jsom\"\n",
        );
        insta::assert_snapshot!(rendered(&said, false), @r#"
        p.toml:6:10: error: expected "error", "warn", "info", "debug" or "trace", found "ïnfo"; did you mean `info`?
           ,----
         6 |     level = "ïnfo" # ä
           :             ^^^^^^
           `----
        p.toml:7:10: error: expected "json" or "text", found "jsom"; did you mean `json`?
           ,----
         7 | format = "jsom"
           :          ^^^^^^
           `----
        p.toml:2:8: warning: probe `p` is not used by any endpoint
           ,----
         2 | [probe.p]
           :        ^
           `----
          help: name it in an endpoint's `probe`, or remove it
        p.toml:4:1: warning: probe `p` may take 9s but runs every 5s
           ,----
         4 | timeout = "9s"
           : ^^^^^^^
           `----
          help: probes of an address never overlap, so slow ones stretch the interval; make `timeout` shorter than `interval`
        "#);
        let torn = rendered(&loaded("version = 1\n[log"), false);
        assert!(torn.ends_with("\n 2 | [log \n   :     ^\n   `----\n"), "{torn}");
        assert_eq!(counts(&said).as_deref(), Some("2 errors and 2 warnings"));
        let coloured = rendered(&said, true);
        assert!(coloured.starts_with("\x1b[1mp.toml:6:10: \x1b[31merror:\x1b[0m expected"), "{coloured:?}");
    }

    #[test]
    fn any_position_is_shown_or_passed_over() {
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
