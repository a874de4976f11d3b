//! What RFC 1035 §5.1 or other name servers allow but the scanner (of `domain` 0.12) does not: `@` for the origin in
//! data and directives, which it takes for a label; tabs and bytes beyond ASCII in strings; TTLs with units ("1h30m", as
//! in BIND, Knot and NSD); types whose text form it does not know or reads in part only. Such a line is rewritten before
//! it is scanned.

use std::borrow::Cow;
use std::fmt::Write as _;
use std::ops::Range;

use super::fields::Fields;
use super::tokens::{FieldError, Token, Tokens, escaped};
use crate::model::Ttl;

/// A logical line in a form that the scanner accepts.
#[derive(Debug)]
pub(super) struct Plain<'a> {
    /// The line as it was written.
    written: &'a str,
    pub(super) text: Cow<'a, str>,
    /// Where pieces of `text` begin, and where they begin in `written`; empty if nothing was changed.
    pieces: Vec<(usize, usize)>,
}

impl<'a> Plain<'a> {
    /// Rewrites a line for the scanner, given the current origin.
    ///
    /// # Errors
    /// If the TTL is out of range, or data of a type that this module reads is malformed: the byte, and a message.
    pub(super) fn of(written: &'a str, origin: impl Fn() -> String) -> Result<Self, FieldError> {
        let head = Head::of(written);
        head.check_ttl()?;
        let plain = match head.fields() {
            Some(fields) => Some(head.encoded(written, fields, &origin())?),
            None => head.spelled_out(written, origin),
        };
        let (text, pieces) = match plain {
            Some((text, pieces)) => (Cow::Owned(text), pieces),
            None => (Cow::Borrowed(written), Vec::new()),
        };
        Ok(Self { written, text, pieces })
    }

    /// The position of a byte of `text` in the line as written: line and column, from 1.
    pub(super) fn place(&self, byte: usize) -> (usize, usize) {
        let piece = self.pieces.iter().rev().find(|(now, _)| *now <= byte);
        place(self.written, piece.map_or(byte, |(now, before)| before + byte - now))
    }
}

/// Line and column, from 1, of a byte of a logical line, or of the line's end if the byte lies beyond it.
pub(super) fn place(line: &str, byte: usize) -> (usize, usize) {
    let before = &line[..line.floor_char_boundary(byte.min(line.trim_end().len()))];
    (before.matches('\n').count() + 1, column(before, before.len()))
}

/// The column, in characters from 1, of a byte in its physical line.
pub(super) fn column(text: &str, byte: usize) -> usize {
    let before = &text[..byte];
    let start = before.rfind('\n').map_or(0, |feed| feed + 1);
    before[start..].chars().count() + 1
}

/// A text, and its [`Plain::pieces`].
type Put = (String, Vec<(usize, usize)>);

/// Owner, TTL, class and type, or a directive and its argument.
struct Head<'a> {
    tokens: [Option<Token<'a>>; 4],
    /// The index of the TTL among them.
    ttl: Option<usize>,
    /// The index of the type among them.
    rtype: Option<usize>,
    /// The tokens after them.
    data: Tokens<'a>,
}

impl<'a> Head<'a> {
    fn of(line: &'a str) -> Self {
        let mut head = Self { tokens: [None; 4], ttl: None, rtype: None, data: Tokens::of(line) };
        let has_owner = !line.starts_with([' ', '\t', '\r']);
        for index in 0..head.tokens.len() {
            let Some(token) = head.data.next() else { break };
            head.tokens[index] = Some(token);
            if index == 0 && has_owner {
                if token.text.starts_with('$') && !token.text.eq_ignore_ascii_case("$TTL") {
                    break;
                }
            } else if is_ttl(token.text) {
                head.ttl = head.ttl.or(Some(index));
            } else if !is_class(token.text) {
                head.rtype = Some(index);
                break;
            }
        }
        head
    }

    /// The fields of its data, if this module reads its type.
    fn fields(&self) -> Option<Fields> {
        let fields = Fields::of(self.tokens[self.rtype?]?.text)?;
        // RFC 3597 §5: data of every type may be written as `\#`.
        let is_encoded = self.data.clone().next().is_some_and(|token| token.text == "\\#");
        (!is_encoded).then_some(fields)
    }

    /// The line with its data as `\#`, on one physical line.
    fn encoded(&self, line: &str, fields: Fields, origin: &str) -> Result<Put, FieldError> {
        let tokens: Vec<_> = self.data.clone().collect();
        let start_of = |index: usize| tokens.get(index).map_or(line.len(), |token: &Token<'_>| token.start);
        let data = fields.encode(&tokens, origin).map_err(|(token, why)| (start_of(token), why))?;
        let (mut text, mut pieces) = (String::new(), Vec::new());
        if line.starts_with([' ', '\t', '\r']) {
            text.push(' ');
        }
        for (index, token) in self.tokens.iter().flatten().enumerate() {
            pieces.push((text.len(), token.start));
            match seconds(token.text).filter(|_| self.ttl == Some(index)) {
                Some(seconds) => text.push_str(&seconds.to_string()),
                None => text.push_str(token.text),
            }
            text.push(' ');
        }
        pieces.push((text.len(), start_of(0)));
        let _ = write!(text, "\\# {} ", data.len());
        data.iter().for_each(|byte| {
            let _ = write!(text, "{byte:02x}");
        });
        text.push('\n');
        Ok((text, pieces))
    }

    /// RFC 2181 §8: a TTL has 31 bits. The scanner takes any that fits 32 bits; what does not, it takes for a type.
    fn check_ttl(&self) -> Result<(), FieldError> {
        let Some(token) = self.ttl.and_then(|index| self.tokens[index]) else { return Ok(()) };
        let ttl = token.text.parse().ok().or_else(|| seconds(token.text));
        match ttl {
            Some(ttl) if ttl > Ttl::MAX.0 => Err((token.start, ttl_too_large())),
            _ => Ok(()),
        }
    }

    /// The line with everything replaced that the scanner does not read; `None` if there is nothing to replace.
    fn spelled_out(&self, line: &str, origin: impl Fn() -> String) -> Option<Put> {
        let (mut text, mut pieces, mut taken) = (String::new(), Vec::new(), 0);
        for (token, new) in self.heading(&origin).into_iter().chain(self.replacements(&origin)) {
            pieces.push((text.len(), taken));
            text.push_str(&line[taken..token.start]);
            pieces.push((text.len(), token.start));
            text.push_str(&new);
            taken = token.start + token.text.len();
        }
        if taken == 0 {
            return None;
        }
        pieces.push((text.len(), taken));
        text.push_str(&line[taken..]);
        Some((text, pieces))
    }

    /// The TTL in seconds, if it has units, or the origin that a directive names by `@`.
    fn heading(&self, origin: &impl Fn() -> String) -> Option<(Token<'a>, String)> {
        if let Some(ttl) = self.ttl.and_then(|index| self.tokens[index]) {
            return Some((ttl, seconds(ttl.text)?.to_string()));
        }
        let directive = self.tokens[0]?.text;
        // `$ORIGIN name` and `$INCLUDE file name`: a directive ends the head.
        let before = match () {
            () if directive.eq_ignore_ascii_case("$ORIGIN") => 0,
            () if directive.eq_ignore_ascii_case("$INCLUDE") => 1,
            () => return None,
        };
        let name = self.data.clone().nth(before).filter(|token| token.text == "@")?;
        Some((name, origin()))
    }

    /// The tokens of the data that the scanner does not read, each with its replacement.
    fn replacements(&self, origin: &impl Fn() -> String) -> Vec<(Token<'a>, String)> {
        let rtype = self.rtype.and_then(|index| self.tokens[index]);
        let Some(layout) = rtype.and_then(|token| Layout::of(token.text)) else { return Vec::new() };
        let replacement = |(index, token): (usize, Token<'a>)| {
            let new = if token.text == "@" && layout.names.contains(&index) {
                origin()
            } else if layout.strings.contains(&index) {
                escaped(token.text)?
            } else if layout.times.contains(&index) {
                seconds(token.text)?.to_string()
            } else {
                return None;
            };
            Some((token, new))
        };
        self.data.clone().enumerate().filter_map(replacement).collect()
    }
}

/// Which tokens of a type's data are names, strings and times, counted from 0.
#[derive(Clone)]
struct Layout {
    names: &'static [usize],
    strings: Range<usize>,
    times: Range<usize>,
}

impl Layout {
    /// The layout of a type that the scanner reads, if it has any of them.
    fn of(mnemonic: &str) -> Option<Self> {
        const NONE: Range<usize> = 0..0;
        let names = |names| Some(Self { names, strings: NONE, times: NONE });
        let strings = |strings| Some(Self { names: &[], strings, times: NONE });
        match &*mnemonic.to_ascii_uppercase() {
            "CNAME" | "DNAME" | "MB" | "MD" | "MF" | "MG" | "MR" | "NS" | "NSEC" | "PTR" => names(&[0]),
            "MX" => names(&[1]),
            "MINFO" | "RP" => names(&[0, 1]),
            "SRV" | "IPSECKEY" => names(&[3]),
            "RRSIG" => names(&[7]),
            // Flags, services and a regular expression before the name (RFC 3403 §4.1).
            "NAPTR" => Some(Self { names: &[5], strings: 2..5, times: NONE }),
            // After MNAME, RNAME and SERIAL: REFRESH, RETRY, EXPIRE and MINIMUM (RFC 1035 §3.3.13).
            "SOA" => Some(Self { names: &[0, 1], strings: NONE, times: 3..7 }),
            "HINFO" | "TXT" => strings(0..usize::MAX),
            "CAA" => strings(2..3),
            _ => None,
        }
    }
}

/// The message for a TTL that is out of range.
pub(super) fn ttl_too_large() -> String {
    format!("a TTL is a number of seconds, at most {} (RFC 2181 §8)", Ttl::MAX.0)
}

/// Whether a token before the type is meant as a TTL: no type and no class begins with a digit.
pub(super) fn is_ttl(text: &str) -> bool {
    text.starts_with(|first: char| first.is_ascii_digit())
}

pub(super) fn is_class(text: &str) -> bool {
    ["IN", "CH", "HS", "CS"].iter().any(|class| class.eq_ignore_ascii_case(text))
        || text.get(..5).is_some_and(|start| start.eq_ignore_ascii_case("CLASS"))
}

/// A duration with units, such as "1h30m", in seconds; `None` for anything else, including plain numbers.
fn seconds(text: &str) -> Option<u32> {
    let (mut total, mut number): (u32, Option<u32>) = (0, None);
    for byte in text.bytes() {
        if let b'0'..=b'9' = byte {
            number = Some(number.unwrap_or(0).checked_mul(10)?.checked_add(u32::from(byte - b'0'))?);
            continue;
        }
        let unit = match byte.to_ascii_lowercase() {
            b's' => 1,
            b'm' => 60,
            b'h' => 3_600,
            b'd' => 86_400,
            b'w' => 604_800,
            _ => return None,
        };
        total = total.checked_add(number.take()?.checked_mul(unit)?)?;
    }
    // Digits after the last unit would be ambiguous.
    (number.is_none() && !text.is_empty()).then_some(total)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn units_are_as_in_other_name_servers() {
        for (text, expected) in [
            ("30s", Some(30)),
            ("5M", Some(300)),
            ("1h30m", Some(5_400)),
            ("1w2D", Some(777_600)),
            ("0s", Some(0)),
            ("300", None),
            ("1h30", None),
            ("h", None),
            ("1y", None),
            ("", None),
            ("7102w", None),
            ("4294967296s", None),
        ] {
            assert_eq!(seconds(text), expected, "{text}");
        }
    }

    #[test]
    fn only_what_the_scanner_does_not_read_is_replaced() {
        let put = |line| Plain::of(line, || "example.".to_owned()).unwrap().text.into_owned();
        for (line, expected) in [
            ("a 1h A 192.0.2.1\n", "a 3600 A 192.0.2.1\n"),
            ("1h A 192.0.2.1\n", "1h A 192.0.2.1\n"),
            ("1h 1h A 192.0.2.1\n", "1h 3600 A 192.0.2.1\n"),
            (" IN 1h TXT 1h \"1h\" ; 1h\n", " IN 3600 TXT 1h \"1h\" ; 1h\n"),
            ("a ( 1m\n IN\n) CAA 0 issue \"x\"\n", "a ( 60\n IN\n) CAA 0 issue \"x\"\n"),
            ("$TTL 1d ; a day\n", "$TTL 86400 ; a day\n"),
            ("@ SOA 1h 2h 3 4h ( 5m\n 6 7W )\n", "@ SOA 1h 2h 3 14400 ( 300\n 6 4233600 )\n"),
            ("$ORIGIN 1h\n", "$ORIGIN 1h\n"),
            ("$ORIGIN @\n", "$ORIGIN example.\n"),
            ("$INCLUDE @ @ ; @\n", "$INCLUDE @ example. ; @\n"),
            ("@ 1h MX ( 10\n @ )\n", "@ 3600 MX ( 10\n example. )\n"),
            ("@ TXT @ \"\t\"\n", "@ TXT @ \"\\009\"\n"),
            ("a 1h EUI48 ( 00-00-5e-00-53-2a )\n", "a 3600 EUI48 \\# 6 00005e00532a\n"),
            (" EUI48 \\# 6 00005e00532a\n", " EUI48 \\# 6 00005e00532a\n"),
        ] {
            assert_eq!(put(line), expected);
        }
    }

    #[test]
    fn positions_are_those_of_the_line_as_written() {
        let line = "a 1h30m IN ( \n  A 1h )\n";
        let plain = Plain::of(line, String::new).unwrap();
        for (word, place) in [("a", (1, 1)), ("5400", (1, 3)), ("IN", (1, 9)), ("A", (2, 3)), ("1h", (2, 5))]
        {
            assert_eq!(plain.place(plain.text.find(word).unwrap()), place, "{word}");
        }
        assert_eq!(Plain::of("a A x\n", String::new).unwrap().place(4), (1, 5));
        assert_eq!(place("a ( b\n c )\n", 100), (2, 5));
        let line = "a TXT \"ä\" (\n\"日本\" x )\n";
        let bytes = [0, 7, 8, 9, 11].into_iter().chain(line.find('本')).chain(line.find('x'));
        let columns: Vec<_> = bytes.map(|byte| place(line, byte)).collect();
        assert_eq!(columns, [(1, 1), (1, 8), (1, 8), (1, 9), (1, 11), (2, 3), (2, 6)], "in characters");
    }
}
