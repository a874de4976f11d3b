//! The raw tokens of one logical line (RFC 1035 §5.1), quotes and escapes included.

/// A token.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Token<'a> {
    /// As written, quotes included.
    pub(super) text: &'a str,
    /// The offset of its first byte in the line.
    pub(super) start: usize,
}

/// Why data cannot be read: the index of the token, from 0, and a message.
pub(super) type FieldError = (usize, String);

/// Splits a logical line into tokens.
#[derive(Clone)]
pub(super) struct Tokens<'a> {
    line: &'a str,
    at: usize,
}

impl<'a> Tokens<'a> {
    pub(super) fn of(line: &'a str) -> Self {
        Self { line, at: 0 }
    }
}

impl<'a> Iterator for Tokens<'a> {
    type Item = Token<'a>;

    fn next(&mut self) -> Option<Token<'a>> {
        let bytes = self.line.as_bytes();
        loop {
            match bytes.get(self.at)? {
                b' ' | b'\t' | b'\r' | b'\n' | b'(' | b')' => self.at += 1,
                b';' => self.at += bytes[self.at..].iter().take_while(|byte| **byte != b'\n').count(),
                _ => break,
            }
        }
        let start = self.at;
        let is_quoted = bytes[start] == b'"';
        self.at += usize::from(is_quoted);
        while let Some(byte) = bytes.get(self.at) {
            match byte {
                b'"' if is_quoted => {
                    self.at += 1;
                    break;
                }
                b'\\' => self.at += 1,
                b' ' | b'\t' | b'\r' | b'\n' | b'(' | b')' | b';' | b'"' if !is_quoted => break,
                _ => {}
            }
            self.at += 1;
        }
        // An escape may be the last byte, and what it escapes may have several.
        self.at = self.at.min(bytes.len());
        while !self.line.is_char_boundary(self.at) {
            self.at += 1;
        }
        Some(Token { text: &self.line[start..self.at], start })
    }
}

/// The message for a record that is too short.
pub(super) const INCOMPLETE: &str = "the record ends before its data is complete";
/// The message for a record that is too long.
pub(super) const TRAILING: &str = "there is more on this line than the record holds";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quotes_escapes_comments_and_parentheses() {
        let texts = |line| Tokens::of(line).map(|token| token.text).collect::<Vec<_>>();
        assert_eq!(
            texts("a ( 1h\tIN ; x \"y\n TXT \"b;c d\"\\\"e )\n"),
            ["a", "1h", "IN", "TXT", "\"b;c d\"", "\\\"e"]
        );
        assert_eq!(texts("a\\ b\\;c\"d\\\"\""), ["a\\ b\\;c", "\"d\\\"\""]);
        assert_eq!(texts("a\\"), ["a\\"]);
        assert_eq!(texts("a\\\u{e9} \"\u{e9}"), ["a\\\u{e9}", "\"\u{e9}"]);
        assert_eq!(texts(" ; nothing\n"), [""; 0]);
        assert_eq!(Tokens::of("  (a").map(|token| token.start).collect::<Vec<_>>(), [3]);
    }
}
