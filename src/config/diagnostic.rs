//! Diagnostics: what is wrong in a file, and where.

use std::collections::BTreeMap;
use std::fmt;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// Whether a config with this diagnostic can be used.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Severity {
    /// The config is rejected.
    Error,
    /// The config works, but probably not as intended.
    Warning,
}

impl fmt::Display for Severity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Error => "error",
            Self::Warning => "warning",
        })
    }
}

/// One problem and its location.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Diagnostic {
    /// Whether the config is rejected.
    pub severity: Severity,
    /// The file as named on the command line, or relative to the config file's folder.
    pub file: PathBuf,
    /// Line, from 1; a file that cannot be read is reported at 1:1.
    pub line: usize,
    /// Column in characters, from 1.
    pub column: usize,
    /// The column after the last affected character, in the same line; at least `column + 1`.
    pub end_column: usize,
    /// What is wrong, in lowercase and without a full stop.
    pub message: String,
    /// What to do about it.
    pub help: Option<String>,
}

impl Diagnostic {
    /// Place, message and help in one line, for a list of diagnostics of one severity.
    #[must_use]
    pub fn sentence(&self) -> String {
        let Self { file, line, column, message, .. } = self;
        let help = self.help.as_ref().map(|help| format!(" ({help})")).unwrap_or_default();
        format!("{}:{line}:{column}: {message}{help}", file.display())
    }
}

impl fmt::Display for Diagnostic {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { file, line, column, severity, message, .. } = self;
        write!(f, "{}:{line}:{column}: {severity}: {message}", file.display())?;
        match &self.help {
            Some(help) => write!(f, "\n  help: {help}"),
            None => Ok(()),
        }
    }
}

/// The most errors, and the most warnings, that are shown to people: more have few causes, and nobody reads them.
pub const MOST_SHOWN: usize = 100;

/// A location in a file; the fields are those of [`Diagnostic`].
#[derive(Clone, Debug, PartialEq, Eq)]
#[allow(missing_docs, reason = "described at Diagnostic")]
pub struct Spot {
    pub file: Arc<Path>,
    pub line: usize,
    pub column: usize,
    pub end_column: usize,
}

impl Spot {
    /// An error at this location, found after the config was read.
    #[must_use]
    pub fn error(&self, message: String, help: String) -> Diagnostic {
        self.diagnostic(Severity::Error, message, help)
    }

    /// A warning at this location.
    #[must_use]
    pub fn warning(&self, message: String, help: String) -> Diagnostic {
        self.diagnostic(Severity::Warning, message, help)
    }

    fn diagnostic(&self, severity: Severity, message: String, help: String) -> Diagnostic {
        Diagnostic {
            severity,
            file: self.file.to_path_buf(),
            line: self.line,
            column: self.column,
            end_column: self.end_column,
            message,
            help: Some(help),
        }
    }
}

/// Everything that is wrong in a config and the files it names, ordered by file (the config first), line and column.
/// Displays as lines of `FILE:LINE:COL: error|warning: message`, each followed by its help, if any; errors first, and
/// only the first [`MOST_SHOWN`].
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Diagnostics {
    list: Vec<Diagnostic>,
    sources: BTreeMap<PathBuf, Arc<str>>,
}

impl Diagnostics {
    /// Sorts the list and removes duplicates.
    pub(super) fn new(first: &Path, mut list: Vec<Diagnostic>, sources: BTreeMap<PathBuf, Arc<str>>) -> Self {
        list.sort_by(|a, b| {
            let by_file = (a.file != first, &a.file).cmp(&(b.file != first, &b.file));
            by_file.then_with(|| (a.line, a.column, a.severity).cmp(&(b.line, b.column, b.severity)))
        });
        let mut kept: Vec<Diagnostic> = Vec::with_capacity(list.len());
        for it in list {
            let is_beside = |other: &&Diagnostic| {
                (&other.file, other.line, other.column) == (&it.file, it.line, it.column)
            };
            if !kept.iter().rev().take_while(is_beside).any(|other| *other == it) {
                kept.push(it);
            }
        }
        Self { list: kept, sources }
    }

    /// Adds diagnostics found later; `first` is the config file.
    pub fn add(&mut self, first: &Path, more: Vec<Diagnostic>) {
        let mut list = std::mem::take(&mut self.list);
        list.extend(more);
        *self = Self::new(first, list, std::mem::take(&mut self.sources));
    }

    /// Every diagnostic, in order.
    pub fn iter(&self) -> std::slice::Iter<'_, Diagnostic> {
        self.list.iter()
    }

    /// The number of diagnostics.
    #[must_use]
    pub fn len(&self) -> usize {
        self.list.len()
    }

    /// Whether there are no diagnostics.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.list.is_empty()
    }

    /// Whether any of them is an error.
    #[must_use]
    pub fn has_errors(&self) -> bool {
        self.list.iter().any(|it| it.severity == Severity::Error)
    }

    /// The text of a file that was read, to show the line of a diagnostic.
    #[must_use]
    pub fn source(&self, file: &Path) -> Option<&str> {
        self.sources.get(file).map(|text| &**text)
    }
}

impl<'a> IntoIterator for &'a Diagnostics {
    type Item = &'a Diagnostic;
    type IntoIter = std::slice::Iter<'a, Diagnostic>;

    fn into_iter(self) -> Self::IntoIter {
        self.iter()
    }
}

impl fmt::Display for Diagnostics {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let of = |severity| self.list.iter().filter(move |it| it.severity == severity);
        let errors_first = of(Severity::Error).chain(of(Severity::Warning));
        errors_first.take(MOST_SHOWN).try_for_each(|it| writeln!(f, "{it}"))?;
        match self.list.len().saturating_sub(MOST_SHOWN) {
            0 => Ok(()),
            more => writeln!(f, "and {more} more"),
        }
    }
}

impl std::error::Error for Diagnostics {}

/// A text with the positions of its lines.
pub(super) struct Lines<'a> {
    pub(super) text: &'a str,
    /// Where each line starts, in bytes.
    starts: Vec<usize>,
}

impl<'a> Lines<'a> {
    pub(super) fn new(text: &'a str) -> Self {
        let ends = text.match_indices('\n').map(|(end, _)| end + 1);
        Self { text, starts: std::iter::once(0).chain(ends).collect() }
    }

    /// Line, column and end column (all from 1, in characters) of a range of bytes; a range over several
    /// lines is cut at the end of its first line.
    pub(super) fn position(&self, span: Range<usize>) -> (usize, usize, usize) {
        let start = self.text.floor_char_boundary(span.start);
        let end = self.text.ceil_char_boundary(span.end.min(self.text.len())).max(start);
        let line = self.starts.partition_point(|line_start| *line_start <= start);
        let column = self.text[self.starts[line - 1]..start].chars().count() + 1;
        let shown = self.text[start..end].lines().next().unwrap_or_default().chars().count();
        (line, column, column + shown.max(1))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn positions_count_characters_and_stay_in_their_line() {
        let text = "a\nöü = \"x\"\n[t]\nb";
        let at = |needle: &str| text.find(needle).expect("in the text");
        for (span, expected) in [
            (0..1, (1, 1, 2)),
            (at("ü")..at("ü") + 2, (2, 2, 3)),
            (at("\"x\"")..at("[t]") + 3, (2, 6, 9)),
            (text.len()..text.len(), (4, 2, 3)),
            (900..901, (4, 2, 3)),
        ] {
            assert_eq!(Lines::new(text).position(span.clone()), expected, "{span:?}");
        }
    }

    #[test]
    fn only_the_first_are_displayed() {
        let at = |line| Diagnostic {
            severity: Severity::Error,
            file: "p.toml".into(),
            line,
            column: 1,
            end_column: 2,
            message: "wrong".into(),
            help: None,
        };
        let shown = |count| {
            let list = (1..=count).map(at).collect();
            Diagnostics::new(Path::new("p.toml"), list, BTreeMap::new()).to_string()
        };
        assert_eq!(shown(MOST_SHOWN).lines().count(), MOST_SHOWN);
        let most = shown(MOST_SHOWN + 7);
        assert_eq!(most.lines().count(), MOST_SHOWN + 1);
        assert!(most.ends_with("\nand 7 more\n"), "{most}");
    }

    #[test]
    fn errors_are_displayed_first() {
        let at = |line, severity| Diagnostic {
            severity,
            file: "p.toml".into(),
            line,
            column: 1,
            end_column: 2,
            message: "wrong".into(),
            help: Some("write it right".into()),
        };
        let list = vec![at(1, Severity::Warning), at(2, Severity::Error), at(3, Severity::Warning)];
        let shown = Diagnostics::new(Path::new("p.toml"), list.clone(), BTreeMap::new()).to_string();
        let heads: Vec<_> = shown.lines().filter(|line| line.starts_with("p.toml")).collect();
        let expected =
            ["p.toml:2:1: error: wrong", "p.toml:1:1: warning: wrong", "p.toml:3:1: warning: wrong"];
        assert_eq!(heads, expected);
        assert_eq!(list[0].sentence(), "p.toml:1:1: wrong (write it right)");
    }

    #[test]
    fn duplicates_are_removed_and_the_config_comes_first() {
        let at = |file: &str, line, message: &str| Diagnostic {
            severity: Severity::Error,
            file: file.into(),
            line,
            column: 1,
            end_column: 2,
            message: message.into(),
            help: None,
        };
        let list =
            vec![at("a.zone", 3, "z"), at("p.toml", 9, "y"), at("p.toml", 2, "x"), at("p.toml", 9, "y")];
        let all = Diagnostics::new(Path::new("p.toml"), list, BTreeMap::new());
        assert_eq!(all.to_string(), "p.toml:2:1: error: x\np.toml:9:1: error: y\na.zone:3:1: error: z\n");
    }
}
