//! Types that the scanner does not read, each a list of fields (IANA's registry names the RFC of each).

use std::net::Ipv4Addr;
use std::str::FromStr as _;

use domain::base::iana::{Rtype, SecurityAlgorithm};
use domain::base::name::ToName as _;
use domain::base::scan::Symbol;
use domain::base::{CharStr, Name as DomainName};
use domain::rdata::dnssec::RtypeBitmapBuilder;
use domain::utils::{base16, base64};

use super::location;
use super::tokens::{FieldError, Token};

/// The text form of a field.
#[derive(Clone, Copy)]
enum Field {
    U8,
    U16,
    U32,
    /// A name, relative to the current origin.
    Name,
    Ipv4,
    /// Four groups of four hexadecimal digits between colons (RFC 6742 §2.1.2).
    Locator,
    /// This many pairs of hexadecimal digits between hyphens (RFC 7043 §3.2).
    Pairs(usize),
    /// A number or a mnemonic of a certificate's type (RFC 4398 §2.1).
    Certificate,
    /// A number or a mnemonic of a DNSSEC algorithm.
    Algorithm,
    /// One string without a length byte.
    Text,
    /// Character strings to the end, at least one.
    Strings,
    /// Hexadecimal to the end.
    Hex,
    /// Base 64 to the end.
    Base64,
    /// Types to the end, as a bitmap (RFC 4034 §4.1.2).
    Types,
    /// All of a LOC record (RFC 1876 §3).
    Location,
}

/// The fields of a record type.
#[derive(Clone, Copy)]
pub(super) struct Fields(&'static [Field]);

impl Fields {
    /// The fields of a type that this module reads.
    pub(super) fn of(mnemonic: &str) -> Option<Self> {
        use Field::*;
        const KNOWN: [(&str, &[Field]); 18] = [
            ("AFSDB", &[U16, Name]),
            ("CERT", &[Certificate, U16, Algorithm, Base64]),
            ("CSYNC", &[U32, U16, Types]),
            ("DHCID", &[Base64]),
            ("DLV", &[U16, Algorithm, U8, Hex]),
            ("EUI48", &[Pairs(6)]),
            ("EUI64", &[Pairs(8)]),
            ("KX", &[U16, Name]),
            ("L32", &[U16, Ipv4]),
            ("L64", &[U16, Locator]),
            ("LOC", &[Location]),
            ("LP", &[U16, Name]),
            ("NID", &[U16, Locator]),
            ("PX", &[U16, Name, Name]),
            ("RT", &[U16, Name]),
            ("SMIMEA", &[U8, U8, U8, Hex]),
            ("SPF", &[Strings]),
            ("URI", &[U16, U16, Text]),
        ];
        KNOWN.iter().find(|(name, _)| name.eq_ignore_ascii_case(mnemonic)).map(|(_, fields)| Self(fields))
    }

    /// Encodes the tokens as record data in wire format.
    pub(super) fn encode(self, tokens: &[Token<'_>], origin: &str) -> Result<Vec<u8>, FieldError> {
        let mut wire = Vec::new();
        let mut next = 0;
        for field in self.0 {
            let rest = &tokens[next..];
            let takes = field.tokens(rest.len());
            let here = rest.get(..takes).filter(|tokens| !tokens.is_empty());
            let here = here.ok_or_else(|| (tokens.len(), super::tokens::INCOMPLETE.to_owned()))?;
            field.write(here, origin, &mut wire).map_err(|(token, why)| (next + token, why))?;
            next += takes;
        }
        match tokens.len() {
            length if length > next => Err((next, super::tokens::TRAILING.to_owned())),
            _ => Ok(wire),
        }
    }
}

impl Field {
    /// How many of the remaining tokens it takes.
    fn tokens(self, left: usize) -> usize {
        match self {
            Self::Strings | Self::Hex | Self::Base64 | Self::Types | Self::Location => left,
            _ => 1,
        }
    }

    /// Writes the data of at least one token.
    fn write(self, tokens: &[Token<'_>], origin: &str, wire: &mut Vec<u8>) -> Result<(), FieldError> {
        let text = tokens[0].text;
        let expected = |what: &str| (0, format!("expected {what}"));
        match self {
            Self::U8 => wire.push(text.parse().map_err(|_| expected("a number of at most 255"))?),
            Self::U16 => wire.extend(number(text).ok_or_else(|| expected(NUMBER_16))?.to_be_bytes()),
            Self::U32 => {
                let number: u32 = text.parse().map_err(|_| expected("a number of at most 4294967295"))?;
                wire.extend(number.to_be_bytes());
            }
            Self::Name => wire.extend(name(text, origin).ok_or_else(|| expected("a domain name"))?),
            Self::Ipv4 => {
                wire.extend(Ipv4Addr::from_str(text).map_err(|_| expected("IPv4 address"))?.octets());
            }
            Self::Locator => {
                wire.extend(locator(text).ok_or_else(|| expected("four groups of hexadecimal digits"))?);
            }
            Self::Pairs(count) => {
                let pairs = pairs(text, count);
                wire.extend(
                    pairs.ok_or_else(|| (0, format!("expected {count} pairs of hexadecimal digits")))?,
                );
            }
            Self::Certificate => {
                let number = certificate(text).ok_or_else(|| expected("a type of certificate"))?;
                wire.extend(number.to_be_bytes());
            }
            Self::Algorithm => {
                let by_name =
                    || SecurityAlgorithm::from_mnemonic(text.as_bytes()).map(SecurityAlgorithm::to_int);
                let number = text.parse().ok().or_else(by_name);
                wire.push(number.ok_or_else(|| expected("a DNSSEC algorithm"))?);
            }
            Self::Text => wire.extend(octets(text).ok_or_else(|| expected("a text"))?),
            Self::Strings => strings(tokens, wire)?,
            Self::Hex => {
                wire.extend(base16::decode_vec(&joined(tokens)).map_err(|_| expected("hexadecimal digits"))?);
            }
            Self::Base64 => {
                let data: Vec<u8> = base64::decode(&joined(tokens)).map_err(|_| expected("base 64"))?;
                wire.extend(data);
            }
            Self::Types => types(tokens, wire)?,
            Self::Location => wire.extend(location::encode(tokens)?),
        }
        Ok(())
    }
}

const NUMBER_16: &str = "a number of at most 65535";

fn number(text: &str) -> Option<u16> {
    text.parse().ok()
}

fn joined(tokens: &[Token<'_>]) -> String {
    tokens.iter().map(|token| token.text).collect()
}

/// A name in uncompressed wire format, with its case preserved.
fn name(text: &str, origin: &str) -> Option<Vec<u8>> {
    // A last dot that is escaped is part of the last label.
    let is_absolute = text.strip_suffix('.').is_some_and(|before| {
        before.bytes().rev().take_while(|byte| *byte == b'\\').count().is_multiple_of(2)
    });
    let absolute = match text {
        "@" => origin.to_owned(),
        _ if is_absolute => text.to_owned(),
        _ if origin == "." => format!("{text}."),
        _ => format!("{text}.{origin}"),
    };
    let name: DomainName<Vec<u8>> = absolute.parse().ok()?;
    Some(name.to_vec().as_slice().to_vec())
}

/// The bytes of a token without quotes and escapes.
fn octets(text: &str) -> Option<Vec<u8>> {
    let inner = unquoted(text);
    let mut chars = inner.chars();
    let mut octets = Vec::with_capacity(inner.len());
    while let Some(symbol) = Symbol::from_chars(&mut chars).ok()? {
        octets.push(symbol.into_octet().ok()?);
    }
    Some(octets)
}

fn unquoted(text: &str) -> &str {
    text.strip_prefix('"').and_then(|rest| rest.strip_suffix('"')).unwrap_or(text)
}

fn strings(tokens: &[Token<'_>], wire: &mut Vec<u8>) -> Result<(), FieldError> {
    for (index, token) in tokens.iter().enumerate() {
        let expected = || (index, "expected a string of at most 255 bytes".to_owned());
        let string = octets(token.text).and_then(|octets| CharStr::from_octets(octets).ok());
        let string = string.ok_or_else(expected)?;
        wire.push(string.len() as u8);
        wire.extend_from_slice(string.as_slice());
    }
    Ok(())
}

fn types(tokens: &[Token<'_>], wire: &mut Vec<u8>) -> Result<(), FieldError> {
    let mut builder = RtypeBitmapBuilder::new_vec();
    for (index, token) in tokens.iter().enumerate() {
        let rtype = Rtype::from_str(token.text).map_err(|_| (index, "expected a record type".to_owned()))?;
        let Ok(()) = builder.add(rtype);
    }
    wire.extend_from_slice(builder.finalize().as_octets());
    Ok(())
}

fn locator(text: &str) -> Option<Vec<u8>> {
    let groups: Vec<_> = text.split(':').collect();
    let is_written_so = groups.len() == 4 && groups.iter().all(|group| (1..=4).contains(&group.len()));
    is_written_so.then_some(())?;
    let groups = groups.into_iter().map(|group| u16::from_str_radix(group, 16).ok().map(u16::to_be_bytes));
    Some(groups.collect::<Option<Vec<_>>>()?.concat())
}

fn pairs(text: &str, count: usize) -> Option<Vec<u8>> {
    let pairs = text.split('-').map(|pair| base16::decode_vec(pair).ok().filter(|bytes| bytes.len() == 1));
    let bytes = pairs.collect::<Option<Vec<_>>>()?.concat();
    (bytes.len() == count).then_some(bytes)
}

fn certificate(text: &str) -> Option<u16> {
    const MNEMONICS: [(&str, u16); 10] = [
        ("PKIX", 1),
        ("SPKI", 2),
        ("PGP", 3),
        ("IPKIX", 4),
        ("ISPKI", 5),
        ("IPGP", 6),
        ("ACPKIX", 7),
        ("IACPKIX", 8),
        ("URI", 253),
        ("OID", 254),
    ];
    let by_name =
        || MNEMONICS.iter().find(|(name, _)| name.eq_ignore_ascii_case(text)).map(|(_, number)| *number);
    number(text).or_else(by_name)
}
