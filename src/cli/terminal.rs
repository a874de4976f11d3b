//! Makes text that others wrote safe to print. Reasons of overrides, answers of probed targets and records of other
//! name servers may contain characters that move the cursor, rewrite the screen or reorder what is read.

use std::borrow::Cow;
use std::fmt::Write as _;

/// The text with every character that a terminal would act on written as `\u009b`. Line feeds stay. Within a JSON
/// string, the only place in JSON where such characters can be, that notation means the same character.
pub(super) fn escaped(text: &str) -> Cow<'_, str> {
    replaced(text, |c| c != '\n' && is_invisible(c))
}

/// The same for a line of the log with its colours: the formatter has escaped the ESC of others already.
pub(super) fn escaped_but_colours(line: &str) -> Cow<'_, str> {
    replaced(line, |c| c != '\n' && c != '\u{1b}' && is_invisible(c))
}

/// The same for a value that belongs on one line: a line feed is escaped, too, so that it cannot begin a line that
/// looks like another one of the output.
pub(super) fn in_one_line(text: &str) -> Cow<'_, str> {
    replaced(text, is_invisible)
}

/// The same for a source line in which columns are counted: each such character but a tab becomes one visible one.
pub(super) fn in_place(line: &str) -> String {
    line.chars().map(|c| if c != '\t' && is_invisible(c) { char::REPLACEMENT_CHARACTER } else { c }).collect()
}

fn replaced(text: &str, is_wrong: impl Fn(char) -> bool) -> Cow<'_, str> {
    if !text.contains(&is_wrong) {
        return Cow::Borrowed(text);
    }
    let mut safe = String::with_capacity(text.len() + 16);
    for c in text.chars() {
        if is_wrong(c) {
            write!(safe, "\\u{:04x}", u32::from(c)).expect("a String takes everything");
        } else {
            safe.push(c);
        }
    }
    Cow::Owned(safe)
}

/// Control characters (C0, DEL, C1), separators of lines and paragraphs, and what changes the direction of text
/// (Unicode Standard Annex 9 §2).
fn is_invisible(c: char) -> bool {
    c.is_control()
        || matches!(c, '\u{61c}' | '\u{200e}' | '\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_terminal_acts_on_is_escaped() {
        for (text, expected) in [
            ("Zürich, 東京, ✓", "Zürich, 東京, ✓"),
            ("\x1b[2J\u{9b}2J\x7f\r\t", r"\u001b[2J\u009b2J\u007f\u000d\u0009"),
            ("a\u{202e}b\u{2069}c\u{61c}d\u{200f}", r"a\u202eb\u2069c\u061cd\u200f"),
            ("\u{2028}\u{2029}", r"\u2028\u2029"),
        ] {
            assert_eq!((escaped(text), in_one_line(text)), (expected.into(), expected.into()));
        }
        assert_eq!((escaped("a\nb"), in_one_line("a\nb")), ("a\nb".into(), r"a\u000ab".into()));
        let coloured = "\u{1b}[32m INFO\u{1b}[0m a\u{9b}b\u{202e}\n";
        assert_eq!(escaped_but_colours(coloured), "\u{1b}[32m INFO\u{1b}[0m a\\u009bb\\u202e\n");
    }

    #[test]
    fn json_keeps_its_meaning() {
        let text = "\x1b \u{9b} \u{202e} \x7f \n \"";
        let json = serde_json::to_string_pretty(&[text]).unwrap();
        assert_eq!(serde_json::from_str::<[String; 1]>(&escaped(&json)).unwrap(), [text]);
        assert!(!escaped(&json).contains(|c| c != '\n' && is_invisible(c)));
    }
}
