//! Types that the scanner does not read, each a list of fields (IANA's registry names the RFC of each).

use std::net::{IpAddr, Ipv4Addr};
use std::str::FromStr as _;

use domain::base::Name as DomainName;
use domain::base::iana::{Rtype, SecurityAlgorithm};
use domain::base::name::ToName as _;
use domain::rdata::dnssec::RtypeBitmapBuilder;
use domain::utils::{base16, base64};

use super::tokens::{FieldError, Token};
use super::{location, parameters};

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
    /// Prefixes to the end, perhaps none (RFC 3123 §5).
    Prefixes,
    /// SvcParams to the end, perhaps none (RFC 9460 §2.1).
    Parameters,
}

/// The fields of a record type.
#[derive(Clone, Copy)]
pub(super) struct Fields(&'static [Field]);

impl Fields {
    /// The fields of a type that this module reads.
    pub(super) fn of(mnemonic: &str) -> Option<Self> {
        use Field::*;
        const KNOWN: [(&str, &[Field]); 22] = [
            ("AFSDB", &[U16, Name]),
            ("APL", &[Prefixes]),
            ("CERT", &[Certificate, U16, Algorithm, Base64]),
            ("CSYNC", &[U32, U16, Types]),
            ("DHCID", &[Base64]),
            ("DLV", &[U16, Algorithm, U8, Hex]),
            ("EUI48", &[Pairs(6)]),
            ("EUI64", &[Pairs(8)]),
            ("HTTPS", &[U16, Name, Parameters]),
            ("KEY", &[U16, U8, Algorithm, Base64]),
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
            ("SVCB", &[U16, Name, Parameters]),
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
            let here = rest.get(..takes).filter(|tokens| !tokens.is_empty() || field.may_be_absent());
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
            Self::Strings
            | Self::Hex
            | Self::Base64
            | Self::Types
            | Self::Location
            | Self::Prefixes
            | Self::Parameters => left,
            _ => 1,
        }
    }

    fn may_be_absent(self) -> bool {
        matches!(self, Self::Prefixes | Self::Parameters)
    }

    /// Writes the data of its tokens: at least one, unless it may be absent.
    fn write(self, tokens: &[Token<'_>], origin: &str, wire: &mut Vec<u8>) -> Result<(), FieldError> {
        let text = tokens.first().map_or("", |token| token.text);
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
            Self::Text => wire.extend(tokens[0].octets().ok_or_else(|| expected("a text"))?),
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
            Self::Prefixes => prefixes(tokens, wire)?,
            Self::Parameters => parameters::encode(tokens, wire)?,
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

fn strings(tokens: &[Token<'_>], wire: &mut Vec<u8>) -> Result<(), FieldError> {
    for (index, token) in tokens.iter().enumerate() {
        let octets =
            token.octets().ok_or_else(|| (index, "this escape is not \\DDD, 000 to 255".to_owned()))?;
        let too_long = || (index, format!("{} bytes, but a string has at most 255", octets.len()));
        wire.push(u8::try_from(octets.len()).map_err(|_| too_long())?);
        wire.extend_from_slice(&octets);
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

/// RFC 3123 §4: family, prefix length, negation with the length of the address, and the address without the zeros at its end.
fn prefixes(tokens: &[Token<'_>], wire: &mut Vec<u8>) -> Result<(), FieldError> {
    const NEGATION: u8 = 0x80;
    for (index, token) in tokens.iter().enumerate() {
        let expected = || (index, "expected a prefix such as 1:192.0.2.0/24 or !2:2001:db8::/32".to_owned());
        let (negation, text) = token.text.strip_prefix('!').map_or((0, token.text), |rest| (NEGATION, rest));
        let (family, prefix) = text.split_once(':').ok_or_else(expected)?;
        let (address, length) = prefix.split_once('/').ok_or_else(expected)?;
        let length: u8 = length.parse().map_err(|_| expected())?;
        let (family, octets): (u16, Vec<u8>) = match (family, address.parse()) {
            ("1", Ok(IpAddr::V4(v4))) => (1, v4.octets().into()),
            ("2", Ok(IpAddr::V6(v6))) => (2, v6.octets().into()),
            _ => return Err(expected()),
        };
        if usize::from(length) > 8 * octets.len() {
            return Err(expected());
        }
        let kept = octets.iter().rposition(|octet| *octet != 0).map_or(0, |last| last + 1);
        wire.extend(family.to_be_bytes());
        wire.extend([length, negation | kept as u8]);
        wire.extend(&octets[..kept]);
    }
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
