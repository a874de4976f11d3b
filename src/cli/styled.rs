//! Text whose parts look different on a terminal, tables of it, and who gets colours.

use std::env;
use std::io::IsTerminal;
use std::sync::OnceLock;

use annotate_snippets::renderer::{AnsiColor, Style};
use clap::ColorChoice;
use unicode_width::{UnicodeWidthChar as _, UnicodeWidthStr as _};

use super::terminal::{escaped, in_one_line};
use crate::api::dto::Verdict;

/// What `--color` says.
static CHOICE: OnceLock<ColorChoice> = OnceLock::new();

/// Applies `--color` to everything that is printed from now on.
pub(super) fn choose(choice: ColorChoice) {
    // It is called once.
    CHOICE.set(choice).ok();
}

/// Whether what is written to `stream` has colours.
pub(super) fn has_colours(stream: &impl IsTerminal) -> bool {
    match CHOICE.get() {
        Some(ColorChoice::Always) => true,
        Some(ColorChoice::Never) => false,
        Some(ColorChoice::Auto) | None => {
            // https://no-color.org
            let no_color = env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
            stream.is_terminal() && !no_color && env::var_os("TERM").is_none_or(|term| term != "dumb")
        }
    }
}

/// How a part of a text looks.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Look {
    #[default]
    Plain,
    Heading,
    /// What is not often read.
    Dim,
    Good,
    /// Neither good nor bad: degraded, held, drained or forced by an operator.
    Doubtful,
    Bad,
}

impl Look {
    pub(super) fn style(self) -> Style {
        match self {
            Self::Plain => Style::new(),
            Self::Heading => Style::new().bold(),
            Self::Dim => Style::new().dimmed(),
            Self::Good => AnsiColor::Green.on_default(),
            Self::Doubtful => AnsiColor::Yellow.on_default(),
            Self::Bad => AnsiColor::Red.on_default(),
        }
    }
}

impl From<Verdict> for Look {
    fn from(verdict: Verdict) -> Self {
        match verdict {
            Verdict::Up => Self::Good,
            Verdict::Degraded => Self::Doubtful,
            Verdict::Down => Self::Bad,
            Verdict::Unknown | Verdict::Unobserved => Self::Plain,
        }
    }
}

/// Text in parts, each with its look. The parts may be by others: they are escaped when the text is shown.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Styled(Vec<(Look, String)>);

impl From<&str> for Styled {
    fn from(text: &str) -> Self {
        Self::new(Look::Plain, text)
    }
}

impl From<String> for Styled {
    fn from(text: String) -> Self {
        Self::new(Look::Plain, text)
    }
}

impl Styled {
    pub(super) fn new(look: Look, text: impl Into<String>) -> Self {
        Self(vec![(look, text.into())])
    }

    /// The texts with `separator` between them.
    pub(super) fn joined(texts: impl IntoIterator<Item = Self>, separator: &str) -> Self {
        let mut all = Self::default();
        for (index, text) in texts.into_iter().enumerate() {
            if index > 0 {
                all.push(separator);
            }
            all.append(text);
        }
        all
    }

    pub(super) fn push(&mut self, text: &str) {
        self.add(Look::Plain, text);
    }

    pub(super) fn add(&mut self, look: Look, text: &str) {
        self.0.push((look, text.to_owned()));
    }

    pub(super) fn append(&mut self, mut text: Self) {
        self.0.append(&mut text.0);
    }

    /// The same on one line: line feeds are escaped, too.
    pub(super) fn in_one_line(&self) -> Self {
        Self(self.0.iter().map(|(look, text)| (*look, in_one_line(text).into_owned())).collect())
    }

    pub(super) fn lines(&self) -> Vec<Self> {
        let mut lines = vec![Self::default()];
        for (look, text) in &self.0 {
            for (index, part) in text.split('\n').enumerate() {
                if index > 0 {
                    lines.push(Self::default());
                }
                lines.last_mut().expect("there is always one").add(*look, part);
            }
        }
        lines
    }

    /// How many columns of a terminal it takes, on one line.
    fn width(&self) -> usize {
        self.0.iter().map(|(_, text)| escaped(text).width()).sum()
    }

    /// As much of a line as fits into so many columns, with an ellipsis if that is not all.
    pub(super) fn clipped(&self, columns: usize) -> Self {
        if self.width() <= columns {
            return self.clone();
        }
        let mut room = columns.saturating_sub(1);
        let mut clipped = Self::default();
        for (look, text) in &self.0 {
            let text = escaped(text);
            let fits = |c: &char| {
                let left = room.checked_sub(c.width().unwrap_or(0));
                room = left.unwrap_or(room);
                left.is_some()
            };
            let kept: String = text.chars().take_while(fits).collect();
            clipped.add(*look, &kept);
            if kept.len() < text.len() {
                break;
            }
        }
        clipped.push("…");
        clipped
    }

    /// What to print.
    pub(super) fn shown(&self, has_colours: bool) -> String {
        let mut shown = String::new();
        for (look, text) in &self.0 {
            let style = look.style();
            if has_colours && !text.is_empty() {
                shown += &format!("{style}{}{style:#}", escaped(text));
            } else {
                shown += &escaped(text);
            }
        }
        shown
    }
}

/// A table without lines, with one row a line.
pub(super) struct Table {
    rows: Vec<Vec<Styled>>,
    /// The columns from this one on are aligned to the right.
    numbers_from: usize,
}

impl Table {
    pub(super) fn new<const N: usize>(head: [&str; N]) -> Self {
        let head = head.map(|name| Styled::new(Look::Heading, name));
        Self { rows: vec![head.into()], numbers_from: usize::MAX }
    }

    /// The same with columns of numbers, from this one on.
    pub(super) fn with_numbers_from(self, column: usize) -> Self {
        Self { numbers_from: column, ..self }
    }

    pub(super) fn add<const N: usize>(&mut self, row: [&str; N]) {
        self.add_styled(row.map(Styled::from));
    }

    pub(super) fn add_styled<const N: usize>(&mut self, row: [Styled; N]) {
        self.rows.push(row.iter().map(Styled::in_one_line).collect());
    }

    pub(super) fn text(&self) -> Styled {
        let mut widths: Vec<usize> = Vec::new();
        for row in &self.rows {
            widths.resize(widths.len().max(row.len()), 0);
            for (width, cell) in widths.iter_mut().zip(row) {
                *width = cell.width().max(*width);
            }
        }
        let line = |row: &Vec<Styled>| {
            let mut line = Styled::default();
            // Spaces that nothing follows are left out.
            let mut spaces = 1;
            for (column, (cell, width)) in row.iter().zip(&widths).enumerate() {
                let room = width - cell.width();
                let (before, after) = if column < self.numbers_from { (0, room) } else { (room, 0) };
                spaces += before;
                if cell.width() > 0 {
                    line.push(&" ".repeat(spaces));
                    line.append(cell.clone());
                    spaces = 0;
                }
                spaces += after + 2;
            }
            line
        };
        Styled::joined(self.rows.iter().map(line), "\n")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_are_aligned_with_and_without_colours() {
        let mut table = Table::new(["NAME", "VERDICT", "NOTE", "N"]).with_numbers_from(3);
        table.add_styled(["eu".into(), Styled::new(Look::Bad, "down"), "a\nb\u{1b}".into(), "7".into()]);
        table.add_styled(["東京".into(), Styled::new(Look::Good, "up"), "".into(), "10".into()]);
        table.add(["", "unknown", "", ""]);
        let text = table.text();
        let expected = [
            " NAME  VERDICT  NOTE             N",
            r" eu    down     a\u000ab\u001b   7",
            " 東京  up                       10",
            "       unknown",
        ];
        assert_eq!(text.shown(false).lines().collect::<Vec<_>>(), expected.map(|line| line.to_owned()));
        let coloured = text.shown(true);
        assert!(
            coloured.contains("\u{1b}[31mdown\u{1b}[0m     a")
                && coloured.contains("\u{1b}[1mVERDICT\u{1b}[0m  ")
        );
        let bare = ["\u{1b}[0m", "\u{1b}[1m", "\u{1b}[31m", "\u{1b}[32m"]
            .iter()
            .fold(coloured, |text, code| text.replace(code, ""));
        assert_eq!(bare, text.shown(false));
    }

    #[test]
    fn lines_are_clipped_by_what_is_seen_of_them() {
        let mut line = Styled::from("eu ");
        line.add(Look::Bad, "down");
        line.push(" 東京");
        for (columns, expected) in [
            (12, "eu \u{1b}[31mdown\u{1b}[0m 東京"),
            (11, "eu \u{1b}[31mdown\u{1b}[0m 東…"),
            (10, "eu \u{1b}[31mdown\u{1b}[0m …"),
            (5, "eu \u{1b}[31md\u{1b}[0m…"),
            (0, "…"),
        ] {
            assert_eq!(line.clipped(columns).shown(true), expected, "{columns}");
        }
    }
}
