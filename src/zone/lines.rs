//! A master file's logical lines: parentheses join physical lines, strings and comments hide parentheses
//! (RFC 1035 §5.1). Splitting the text first gives every record its line number and lets reading continue after an
//! error.

use super::dialect::column;

/// A logical line.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Line<'a> {
    /// The text, including its line feeds.
    pub(super) text: &'a str,
    /// The number of its first physical line, from 1.
    pub(super) number: usize,
    /// Why it cannot be scanned.
    pub(super) fault: Option<Fault>,
}

/// A logical line that does not end as it should.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Fault {
    /// The physical line, from 1.
    pub(super) line: usize,
    /// The column in characters, from 1.
    pub(super) column: usize,
    /// The error message.
    pub(super) message: &'static str,
}

/// A place that may turn out to be a fault. Its column is counted only then.
#[derive(Clone, Copy)]
struct Mark {
    line: usize,
    byte: usize,
}

impl Mark {
    fn fault(self, text: &str, message: &'static str) -> Fault {
        Fault { line: self.line, column: column(text, self.byte), message }
    }
}

/// Splits a text into logical lines.
pub(super) struct Lines<'a> {
    rest: &'a str,
    number: usize,
}

impl<'a> Lines<'a> {
    pub(super) fn of(text: &'a str) -> Self {
        Self { rest: text, number: 1 }
    }
}

impl<'a> Iterator for Lines<'a> {
    type Item = Line<'a>;

    fn next(&mut self) -> Option<Line<'a>> {
        if self.rest.is_empty() {
            return None;
        }
        let (end, fault) = extent(self.rest, self.number);
        let (text, rest) = self.rest.split_at(end);
        let line = Line { text, number: self.number, fault };
        self.number += text.bytes().filter(|byte| *byte == b'\n').count();
        self.rest = rest;
        Some(line)
    }
}

/// Where the first logical line of `text` ends, which starts on physical line `number`.
fn extent(text: &str, mut number: usize) -> (usize, Option<Fault>) {
    let bytes = text.as_bytes();
    let mut open: Vec<Mark> = Vec::new();
    let mut quote: Option<Mark> = None;
    let mut fault = None;
    let mut comment = false;
    let mut index = 0;
    while index < bytes.len() {
        let here = Mark { line: number, byte: index };
        match bytes[index] {
            b'\n' => {
                if let Some(start) = quote {
                    return (index + 1, Some(start.fault(text, UNCLOSED_QUOTE)));
                }
                if open.is_empty() {
                    return (index + 1, fault);
                }
                comment = false;
                number += 1;
            }
            _ if comment => {}
            // An escaped character is never special; an escaped line feed is the scanner's to refuse.
            b'\\' if bytes.get(index + 1).is_some_and(|next| *next != b'\n') => index += 1,
            b'"' => {
                let is_glued =
                    quote.is_some() && bytes.get(index + 1).is_some_and(|next| continues_token(*next));
                let message = "there is no space after this quoted string";
                fault = fault.or_else(|| is_glued.then(|| here.fault(text, message)));
                quote = if quote.is_some() { None } else { Some(here) };
            }
            _ if quote.is_some() => {}
            b';' => comment = true,
            b'(' => open.push(here),
            b')' => {
                open.pop();
            }
            _ => {}
        }
        index += 1;
    }
    let unclosed = quote
        .map(|start| start.fault(text, UNCLOSED_QUOTE))
        .or_else(|| open.first().map(|open| open.fault(text, "this parenthesis is never closed")));
    (text.len(), unclosed.or(fault))
}

const UNCLOSED_QUOTE: &str = "this quoted string is not closed on its line";

/// Whether a byte continues the preceding token.
fn continues_token(byte: u8) -> bool {
    !byte.is_ascii_whitespace() && !b"\"();".contains(&byte)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cut(text: &str) -> Vec<(usize, &str)> {
        Lines::of(text).map(|line| (line.number, line.text)).collect()
    }

    #[test]
    fn parentheses_join_lines_unless_quoted_escaped_or_commented() {
        assert_eq!(
            cut("a ( b\n c ) d\ne \"(\" ; (\nf \\( g\nh"),
            [(1, "a ( b\n c ) d\n"), (3, "e \"(\" ; (\n"), (4, "f \\( g\n"), (5, "h")]
        );
        assert_eq!(cut("a ( ; )\n)\nb\n"), [(1, "a ( ; )\n)\n"), (3, "b\n")]);
        assert_eq!(cut("\n\na\n"), [(1, "\n"), (2, "\n"), (3, "a\n")]);
    }

    #[test]
    fn what_is_not_closed_is_reported_where_it_opens() {
        let faults = |text| Lines::of(text).filter_map(|line| line.fault).collect::<Vec<_>>();
        let at = |line, column, message| Fault { line, column, message };
        assert_eq!(faults("a\nb (\nc"), [at(2, 3, "this parenthesis is never closed")]);
        let quote = "this quoted string is not closed on its line";
        assert_eq!(faults("a \"x\\\"\nb \"y\" \"z"), [at(1, 3, quote), at(2, 7, quote)]);
        assert_eq!(faults("a \"x\" (y)\n"), []);
        assert_eq!(faults("a TXT \"日本\" (\nb"), [at(1, 12, "this parenthesis is never closed")]);
        assert_eq!(faults("a (\n\"ä\" \"z"), [at(2, 5, quote)]);
        let glued = "there is no space after this quoted string";
        assert_eq!(faults("a \"ä\"z\n"), [at(1, 5, glued)]);
        assert_eq!(faults("a (\n\"x\"\"y\"z) \"(\"\nb\n"), [at(2, 6, glued)]);
    }
}
