//! LOC records: RFC 1876 §3 as text, §2 as data.

use super::tokens::{FieldError, Token};

/// 2^31 is the equator and the prime meridian.
const MIDDLE: u32 = 1 << 31;
const SECOND: u32 = 1_000;
const MINUTE: u32 = 60 * SECOND;
const DEGREE: u32 = 60 * MINUTE;
/// Altitudes count centimetres from 100 km below the reference spheroid.
const LOWEST: i64 = -10_000_000;
/// Nine times 10^9 centimetres: the largest size that the data can express.
const LARGEST: u64 = 9_000_000_000;

/// Encodes the tokens of a LOC record.
pub(super) fn encode(tokens: &[Token<'_>]) -> Result<Vec<u8>, FieldError> {
    let mut reader = Reader { tokens, next: 0 };
    let latitude = reader.angle(90, 'N', 'S')?;
    let longitude = reader.angle(180, 'E', 'W')?;
    let altitude = reader.altitude()?;
    // The defaults of RFC 1876 §3: one metre, ten kilometres, ten metres.
    let precisions = [reader.size(0x12)?, reader.size(0x16)?, reader.size(0x13)?];
    if reader.next < tokens.len() {
        return Err((reader.next, super::tokens::TRAILING.to_owned()));
    }
    const VERSION: u8 = 0;
    let mut wire = vec![VERSION];
    wire.extend(precisions);
    wire.extend([latitude, longitude, altitude].into_iter().flat_map(u32::to_be_bytes));
    Ok(wire)
}

struct Reader<'a> {
    tokens: &'a [Token<'a>],
    next: usize,
}

impl<'a> Reader<'a> {
    fn take(&mut self) -> Result<&'a str, FieldError> {
        let token = self.tokens.get(self.next);
        let token = token.ok_or_else(|| (self.next, super::tokens::INCOMPLETE.to_owned()))?;
        self.next += 1;
        Ok(token.text)
    }

    fn expected<T>(&self, what: impl std::fmt::Display) -> Result<T, FieldError> {
        Err((self.next - 1, format!("expected {what}")))
    }

    /// Degrees up to a maximum, optional minutes and seconds, and a direction.
    fn angle(&mut self, most: u32, plus: char, minus: char) -> Result<u32, FieldError> {
        let mut angle = self.part(most + 1, 0)? * DEGREE;
        for (unit, decimals) in [(MINUTE, 0), (1, 3)] {
            if let Some(signed) = self.direction(angle, most, plus, minus) {
                return Ok(signed);
            }
            angle += self.part(60, decimals)? * unit;
        }
        self.direction(angle, most, plus, minus).map_or_else(
            || {
                self.take()?;
                self.expected(format_args!("{plus} or {minus}, and at most {most} degrees"))
            },
            Ok,
        )
    }

    /// A number below a bound with a limited number of decimals, in units of the last one.
    fn part(&mut self, below: u32, decimals: usize) -> Result<u32, FieldError> {
        let scale = 10_u64.pow(decimals as u32);
        match fixed(self.take()?, decimals) {
            Some(value) if value < u64::from(below) * scale => Ok(value as u32),
            _ => self.expected(format_args!("a number below {below}, or a direction")),
        }
    }

    /// The angle with its direction, if a direction is next and the angle does not exceed the maximum.
    fn direction(&mut self, angle: u32, most: u32, plus: char, minus: char) -> Option<u32> {
        let text = self.tokens.get(self.next).filter(|_| angle <= most * DEGREE)?.text;
        let is = |letter: char| text.len() == 1 && text.starts_with([letter, letter.to_ascii_lowercase()]);
        let signed = match () {
            () if is(plus) => MIDDLE + angle,
            () if is(minus) => MIDDLE - angle,
            () => return None,
        };
        self.next += 1;
        Some(signed)
    }

    fn altitude(&mut self) -> Result<u32, FieldError> {
        let text = self.take()?;
        let (is_negative, rest) = text.strip_prefix('-').map_or((false, text), |rest| (true, rest));
        let centimetres = fixed(metres(rest), 2).and_then(|value| i64::try_from(value).ok());
        let above = centimetres.map(|value| if is_negative { -value } else { value } - LOWEST);
        match above.and_then(|above| u32::try_from(above).ok()) {
            Some(altitude) => Ok(altitude),
            None => self.expected("an altitude such as 10m"),
        }
    }

    /// A size in centimetres as one decimal digit and a power of ten; the default if none is written.
    fn size(&mut self, default: u8) -> Result<u8, FieldError> {
        if self.next == self.tokens.len() {
            return Ok(default);
        }
        let text = self.take()?;
        let Some(mut base) = fixed(metres(text), 2).filter(|size| *size <= LARGEST) else {
            return self.expected("a size such as 10m");
        };
        let mut exponent = 0;
        while base > 9 {
            base /= 10;
            exponent += 1;
        }
        Ok((base as u8) << 4 | exponent)
    }
}

fn metres(text: &str) -> &str {
    text.strip_suffix(['m', 'M']).unwrap_or(text)
}

/// A decimal number times ten to the power of `decimals`, which is how many it may have.
fn fixed(text: &str, decimals: usize) -> Option<u64> {
    let (whole, part) = text.split_once('.').unwrap_or((text, ""));
    let are_digits = |text: &str| text.bytes().all(|byte| byte.is_ascii_digit());
    if whole.is_empty() || part.len() > decimals || !are_digits(whole) || !are_digits(part) {
        return None;
    }
    format!("{whole}{part:0<decimals$}").parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::zone::tokens::Tokens;

    fn read(text: &str) -> Result<Vec<u8>, FieldError> {
        encode(&Tokens::of(text).collect::<Vec<_>>())
    }

    #[test]
    fn the_examples_of_rfc_1876_are_read() {
        // 42°21'54" is 152,514,000 thousandths of a second, 71°6'18" is 255,978,000.
        let expected = |size: [u8; 3], latitude: u32, longitude: u32, altitude: u32| {
            let numbers = [latitude, longitude, altitude].map(u32::to_be_bytes).concat();
            [&[0], &size[..], &numbers].concat()
        };
        assert_eq!(
            read("42 21 54 N 71 06 18 W -24m 30m"),
            Ok(expected([0x33, 0x16, 0x13], (1 << 31) + 152_514_000, (1 << 31) - 255_978_000, 9_997_600))
        );
        assert_eq!(
            read("52 14 05 N 00 08 50 E 10m"),
            Ok(expected([0x12, 0x16, 0x13], (1 << 31) + 188_045_000, (1 << 31) + 530_000, 10_001_000))
        );
        assert_eq!(
            read("32 7 19 S 116 2 25 E 10m"),
            Ok(expected([0x12, 0x16, 0x13], (1 << 31) - 115_639_000, (1 << 31) + 417_745_000, 10_001_000))
        );
        assert_eq!(
            read("42 N 71 w 0.5 0 2000m 1.25m"),
            Ok(expected([0, 0x25, 0x12], (1 << 31) + 151_200_000, (1 << 31) - 255_600_000, 10_000_050))
        );
        assert_eq!(read("1 2 3.004 N 0 E 0").unwrap()[4..8], ((1_u32 << 31) + 3_723_004).to_be_bytes());
    }

    #[test]
    fn invalid_locations_are_refused() {
        for (text, token) in [
            ("91 N 0 E 0", 0),
            ("90 0 1 N 0 E 0", 3),
            ("90 1 N 0 E 0", 2),
            ("1 60 N 0 E 0", 1),
            ("1 2 60 N 0 E 0", 2),
            ("1 2 3.0001 N 0 E 0", 2),
            ("1 2 3 E 0 E 0", 3),
            ("1 N 181 E 0", 2),
            ("1 N 1 E", 4),
            ("1 N 1 E -100001m", 4),
            ("1 N 1 E 0 90000001m", 5),
            ("1 N 1 E 0 1 1 1 1", 8),
            ("N 1 E 0", 0),
        ] {
            assert_eq!(read(text).unwrap_err().0, token, "{text}");
        }
    }
}
