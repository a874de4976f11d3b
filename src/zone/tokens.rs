//! The raw tokens of one logical line (RFC 1035 §5.1), quotes and escapes included.

use std::fmt::Write as _;

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

impl Token<'_> {
    /// Its bytes without quotes and escapes (RFC 1035 §5.1); `None` if an escape is malformed. Characters beyond ASCII
    /// stand for their bytes in UTF-8.
    pub(super) fn octets(&self) -> Option<Vec<u8>> {
        let inner = self.text.strip_prefix('"').and_then(|rest| rest.strip_suffix('"')).unwrap_or(self.text);
        let mut octets = Vec::with_capacity(inner.len());
        let mut rest = inner.as_bytes();
        while let [first, behind @ ..] = rest {
            rest = behind;
            if *first != b'\\' {
                octets.push(*first);
                continue;
            }
            let (octet, length) = match rest {
                [a @ b'0'..=b'9', b @ b'0'..=b'9', c @ b'0'..=b'9', ..] => {
                    let number =
                        [a, b, c].iter().fold(0, |number, digit| 10 * number + u16::from(**digit - b'0'));
                    (u8::try_from(number).ok()?, 3)
                }
                [b'0'..=b'9', ..] | [] => return None,
                [other, ..] => (*other, 1),
            };
            octets.push(octet);
            rest = &rest[length..];
        }
        Some(octets)
    }
}

/// A string with every byte escaped that the scanner rejects (tabs, other control characters and whatever is not
/// ASCII); `None` if there is none.
pub(super) fn escaped(text: &str) -> Option<String> {
    let is_plain = |c: char| matches!(c, ' '..='~' | '\n');
    if text.chars().all(is_plain) {
        return None;
    }
    let mut all = String::with_capacity(2 * text.len());
    let mut is_escape = false;
    for c in text.chars() {
        if is_plain(c) {
            all.push(c);
            is_escape = c == '\\' && !is_escape;
            continue;
        }
        if std::mem::take(&mut is_escape) {
            // What follows brings its own.
            all.pop();
        }
        for byte in c.encode_utf8(&mut [0; 4]).bytes() {
            let _ = write!(all, "\\{byte:03}");
        }
    }
    Some(all)
}

/// The message for a record that is too short.
pub(super) const INCOMPLETE: &str = "the record ends before its data is complete";
/// The message for a record that is too long.
pub(super) const TRAILING: &str = "there is more on this line than the record holds";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn octets_are_what_quotes_and_escapes_stand_for() {
        let octets = |text| Token { text, start: 0 }.octets();
        for (text, expected) in [
            ("a\\b\\\\\\\"\\065\\255", Some(&b"ab\\\"A\xff"[..])),
            ("\"a b\\\"\"", Some(b"a b\"")),
            ("\u{e9}\\\u{e9}", Some(b"\xc3\xa9\xc3\xa9")),
            ("\"\"", Some(b"")),
            ("\\256", None),
            ("\\25", None),
            ("a\\", None),
        ] {
            assert_eq!(octets(text).as_deref(), expected, "{text}");
        }
    }

    #[test]
    fn only_what_the_scanner_rejects_is_escaped() {
        for (text, expected) in [
            ("\"a b\\065\"", None),
            ("\"a\tb\"", Some("\"a\\009b\"")),
            ("\u{e9}", Some("\\195\\169")),
            ("\\\u{e9}", Some("\\195\\169")),
            ("\\\\\u{e9}\u{7f}", Some("\\\\\\195\\169\\127")),
        ] {
            assert_eq!(escaped(text).as_deref(), expected, "{text}");
        }
    }

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
