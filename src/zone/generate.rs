//! `$GENERATE range owner [ttl] [class] type data`, as BIND defines it: one record for each number of a range.

use std::fmt::Write as _;

use super::dialect;
use super::tokens::{FieldError, Token, Tokens};

/// A `$GENERATE` directive. `$` in owner and data stands for the number, `$$` for `$`, and
/// `${offset,width,base}` for the number plus the offset in that base, with zeros in front.
#[derive(Debug)]
pub(super) struct Template<'a> {
    start: u32,
    stop: u32,
    step: u32,
    owner: Token<'a>,
    /// TTL, class and type.
    middle: Vec<&'a str>,
    data: Token<'a>,
}

/// The largest width of a number, in characters. More than a label or a string needs (nibbles take two each).
const MAX_WIDTH: usize = 128;

impl<'a> Template<'a> {
    /// Reads the directive's line.
    ///
    /// # Errors
    /// The byte of what is malformed, and a message.
    pub(super) fn of(line: &'a str) -> Result<Self, FieldError> {
        let incomplete =
            || (line.trim_end().len(), "expected $GENERATE range owner [ttl] [class] type data".to_owned());
        let tokens: Vec<_> = Tokens::of(line).skip(1).collect();
        let [span, owner, behind @ ..] = &tokens[..] else { return Err(incomplete()) };
        let is_type = |token: &Token<'_>| !dialect::is_ttl(token.text) && !dialect::is_class(token.text);
        let rtype = behind.iter().position(is_type).ok_or_else(incomplete)?;
        let (middle, data) = behind.split_at(rtype + 1);
        let data = match data {
            [] => return Err(incomplete()),
            [data] => *data,
            [_, excess, ..] => {
                return Err((
                    excess.start,
                    "data of several fields needs quotes around all of it".to_owned(),
                ));
            }
        };
        let (start, stop, step) = range(span.text)
            .ok_or_else(|| (span.start, "expected a range such as 1-100 or 0-200/2".to_owned()))?;
        let middle = middle.iter().map(|token| token.text).collect();
        let template = Self { start, stop, step, owner: *owner, middle, data };
        for token in [template.owner, template.data] {
            substitute(token.text, start).map_err(|why| (token.start, why))?;
        }
        Ok(template)
    }

    /// How many lines it makes.
    pub(super) fn count(&self) -> usize {
        ((self.stop - self.start) / self.step) as usize + 1
    }

    /// The lines, one for each number.
    pub(super) fn lines(&self) -> impl Iterator<Item = String> {
        // BIND takes quotes around the data as a means to write several fields, not as part of it.
        let inner = self.data.text.strip_prefix('"').and_then(|rest| rest.strip_suffix('"'));
        let data = inner.map_or_else(|| self.data.text.to_owned(), |inner| inner.replace("\\\"", "\""));
        let middle = self.middle.join(" ");
        (self.start..=self.stop).step_by(self.step as usize).filter_map(move |number| {
            let (owner, data) = (substitute(self.owner.text, number).ok()?, substitute(&data, number).ok()?);
            Some(format!("{owner} {middle} {data}\n"))
        })
    }
}

/// `start-stop` or `start-stop/step`.
fn range(text: &str) -> Option<(u32, u32, u32)> {
    // As in BIND, numbers have 31 bits.
    let number = |text: &str| text.parse::<u32>().ok().filter(|number| *number <= i32::MAX.cast_unsigned());
    let (range, step) = text.split_once('/').unwrap_or((text, "1"));
    let (start, stop) = range.split_once('-')?;
    let (start, stop, step) = (number(start)?, number(stop)?, number(step)?);
    (start <= stop && step > 0).then_some((start, stop, step))
}

/// The text for one number.
fn substitute(text: &str, number: u32) -> Result<String, String> {
    let mut made = String::with_capacity(text.len() + 8);
    let mut rest = text;
    while let Some(at) = rest.find(['\\', '$']) {
        made.push_str(&rest[..at]);
        let is_escape = rest.as_bytes()[at] == b'\\';
        rest = &rest[at + 1..];
        if is_escape {
            // What it escapes is not special.
            let end = rest.chars().next().map_or(0, char::len_utf8);
            made.push('\\');
            made.push_str(&rest[..end]);
            rest = &rest[end..];
        } else if let Some(after) = rest.strip_prefix('$') {
            made.push_str("\\$");
            rest = after;
        } else if let Some(after) = rest.strip_prefix('{') {
            let (modifier, after) = after.split_once('}').ok_or("this ${ has no }")?;
            modified(modifier, number, &mut made).ok_or_else(|| {
                format!("${{{modifier}}} is not an offset, a width of at most {MAX_WIDTH} and one of d, o, x, X, n and N")
            })?;
            rest = after;
        } else {
            let _ = write!(made, "{number}");
        }
    }
    made.push_str(rest);
    Ok(made)
}

/// Writes a number as `offset[,width[,base]]` wants it.
fn modified(modifier: &str, number: u32, made: &mut String) -> Option<()> {
    let mut parts = modifier.split(',');
    let offset: i32 = parts.next()?.parse().ok()?;
    let width: usize = parts.next().map_or(Some(0), |width| width.parse().ok())?;
    let base = parts.next().unwrap_or("d");
    if parts.next().is_some() || width > MAX_WIDTH {
        return None;
    }
    // Numbers have 31 bits, so that the sum has 32.
    let value = number.cast_signed().checked_add(offset)?;
    let _ = match base {
        "d" => write!(made, "{value:0width$}"),
        "o" => write!(made, "{value:0width$o}"),
        "x" => write!(made, "{value:0width$x}"),
        "X" => write!(made, "{value:0width$X}"),
        "n" => write!(made, "{}", nibbles(value, width)),
        "N" => write!(made, "{}", nibbles(value, width).to_uppercase()),
        _ => return None,
    };
    Some(())
}

/// Hexadecimal digits in reverse with dots between them, as in ip6.arpa; the width counts both.
fn nibbles(value: i32, width: usize) -> String {
    let mut value = value.cast_unsigned();
    let mut made = String::new();
    loop {
        let _ = write!(made, "{:x}", value & 0xf);
        value >>= 4;
        if made.len() < width || value != 0 {
            made.push('.');
        }
        if made.len() >= width && value == 0 {
            return made;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn made(line: &str) -> Result<Vec<String>, FieldError> {
        Template::of(line).map(|template| template.lines().collect())
    }

    /// What named-checkzone 9.18 makes of the same lines.
    #[test]
    fn every_number_makes_a_line() {
        for (line, expected) in [
            ("$GENERATE 1-2 h$ A 192.0.2.$\n", &["h1 A 192.0.2.1\n", "h2 A 192.0.2.2\n"][..]),
            (
                "$GENERATE 0-6/3 ${1,3,d}$$ 5 IN TXT ${2,5,x}${0,8,n}x ; comment\n",
                &[
                    "001\\$ 5 IN TXT 000020.0.0.0.x\n",
                    "004\\$ 5 IN TXT 000053.0.0.0.x\n",
                    "007\\$ 5 IN TXT 000086.0.0.0.x\n",
                ],
            ),
            ("$generate 10-10 q\\$ MX \"$ a\\\\$\"", &["q\\$ MX 10 a\\\\10\n"]),
            ("$GENERATE 254-254 ${0} TXT \"\\\"${0,0,X}\\\" ${-255}\"", &["254 TXT \"FE\" -1\n"]),
            ("$GENERATE 254-254 ${0,3,n} PTR ${0,6,N}.${0,7,n}.${9,4,o}", &["e.f PTR E.F.0..e.f.0.0.0407\n"]),
        ] {
            assert_eq!(made(line).unwrap(), expected, "{line}");
        }
    }

    #[test]
    fn counts_are_known_in_advance() {
        for (range, expected) in [("0-0", 1), ("0-255", 256), ("1-10/4", 3), ("0-2147483647", 1 << 31)] {
            assert_eq!(
                Template::of(&format!("$GENERATE {range} a A b")).unwrap().count(),
                expected,
                "{range}"
            );
        }
    }

    #[test]
    fn malformed_directives_are_refused_at_their_token() {
        for (line, at) in [
            ("$GENERATE 1-2 a A\n", 17),
            ("$GENERATE", 9),
            ("$GENERATE 2-1 a A b", 10),
            ("$GENERATE 1-2/0 a A b", 10),
            ("$GENERATE 1 a A b", 10),
            ("$GENERATE 1-2147483648 a A b", 10),
            ("$GENERATE 1-2 a 5 IN MX 1 b", 26),
            ("$GENERATE 1-2 a MX 1 b", 21),
            ("$GENERATE 1-2 a IN 5", 20),
            ("$GENERATE 1-2 ${0 A b", 14),
            ("$GENERATE 1-2 a A ${0,129}", 18),
            ("$GENERATE 1-2 a A ${0,1,y}", 18),
            ("$GENERATE 1-2 a A ${x}", 18),
            ("$GENERATE 1-2 a A ${2147483647}", 18),
        ] {
            assert_eq!(made(line).unwrap_err().0, at, "{line}");
        }
    }
}
