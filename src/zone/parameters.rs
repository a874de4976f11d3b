//! SvcParams of SVCB and HTTPS records (RFC 9460 §2.1 and appendix A). The scanner of `domain` 0.12 rejects a 9 or a z in
//! the name of a key and escapes in `alpn`, so all of them are read here.

use std::collections::BTreeMap;
use std::net::{Ipv4Addr, Ipv6Addr};
use std::str::FromStr;

use domain::utils::base64;

use super::tokens::{FieldError, Token};

/// SvcParamKeys (RFC 9460 §14.3.2).
const MANDATORY: u16 = 0;
pub(super) const ALPN: u16 = 1;
pub(super) const NO_DEFAULT_ALPN: u16 = 2;
const PORT: u16 = 3;
const IPV4HINT: u16 = 4;
const ECH: u16 = 5;
const IPV6HINT: u16 = 6;
const DOHPATH: u16 = 7;
const OHTTP: u16 = 8;

/// The keys with a name. Those of RFC 9461 (dohpath) and RFC 9540 (ohttp) are among them.
const NAMES: [(&str, u16); 9] = [
    ("mandatory", MANDATORY),
    ("alpn", ALPN),
    ("no-default-alpn", NO_DEFAULT_ALPN),
    ("port", PORT),
    ("ipv4hint", IPV4HINT),
    ("ech", ECH),
    ("ipv6hint", IPV6HINT),
    ("dohpath", DOHPATH),
    ("ohttp", OHTTP),
];

const EXPECTED_KEY: &str = "expected a key such as alpn or key65280, in lower case";

/// Encodes the parameters, in any order.
pub(super) fn encode(tokens: &[Token<'_>], wire: &mut Vec<u8>) -> Result<(), FieldError> {
    let mut parameters: BTreeMap<u16, (usize, Vec<u8>)> = BTreeMap::new();
    let mut index = 0;
    while let Some(token) = tokens.get(index) {
        let at = index;
        index += 1;
        let (name, inline) = match token.text.split_once('=') {
            Some((name, value)) => (name, Some(value)),
            None => (token.text, None),
        };
        let fail = |why: String| (at, why);
        let key = key(name).ok_or_else(|| fail(EXPECTED_KEY.to_owned()))?;
        // A quoted value is a token of its own, directly behind the `=`.
        let end = token.start + token.text.len();
        let quoted = tokens.get(index).filter(|next| inline == Some("") && next.start == end);
        index += usize::from(quoted.is_some());
        let value = quoted.copied().or_else(|| inline.map(|text| Token { text, start: token.start }));
        let octets = match value {
            Some(value) => {
                value.octets().ok_or_else(|| fail("this escape is not \\DDD, 000 to 255".to_owned()))?
            }
            None => Vec::new(),
        };
        // A key written as a number has the data itself as its value (RFC 9460 §2.1).
        let data = if name == name_of(key) { value_of(key, octets) } else { Ok(octets) };
        let data = data.map_err(|why| fail(format!("{name}: {why}")))?;
        if parameters.insert(key, (at, data)).is_some() {
            return Err(fail(format!("{name} is given twice (RFC 9460 §2.1)")));
        }
    }
    check_mandatory(&parameters)?;
    for (key, (_, data)) in parameters {
        let length =
            u16::try_from(data.len()).map_err(|_| (0, "a value has more than 65535 bytes".to_owned()))?;
        wire.extend([key, length].map(u16::to_be_bytes).as_flattened());
        wire.extend(data);
    }
    Ok(())
}

/// The keys of a record in wire format, which has been checked.
pub(super) fn keys(rdata: &[u8]) -> impl Iterator<Item = u16> {
    // The priority, and a name that ends with the root.
    let mut rest = rdata.get(2..).unwrap_or_default();
    while let [length, behind @ ..] = rest
        && *length > 0
    {
        rest = behind.get(usize::from(*length)..).unwrap_or_default();
    }
    rest = rest.get(1..).unwrap_or_default();
    std::iter::from_fn(move || {
        let [a, b, c, d, behind @ ..] = rest else { return None };
        rest = behind.get(usize::from(u16::from_be_bytes([*c, *d]))..).unwrap_or_default();
        Some(u16::from_be_bytes([*a, *b]))
    })
}

fn key(name: &str) -> Option<u16> {
    if let Some((_, key)) = NAMES.iter().find(|(known, _)| *known == name) {
        return Some(*key);
    }
    let digits = name.strip_prefix("key")?;
    let is_written_so =
        digits.bytes().all(|byte| byte.is_ascii_digit()) && (digits == "0" || !digits.starts_with('0'));
    digits.parse().ok().filter(|_| is_written_so)
}

/// The data of a key on the wire, from its value without quotes and escapes.
fn value_of(key: u16, octets: Vec<u8>) -> Result<Vec<u8>, String> {
    let is_empty = octets.is_empty();
    match key {
        MANDATORY | ALPN | PORT | IPV4HINT | ECH | IPV6HINT | DOHPATH if is_empty => {
            Err("a value is missing (RFC 9460 §2.1)".to_owned())
        }
        NO_DEFAULT_ALPN | OHTTP if !is_empty => Err("it has no value (RFC 9460 §2.1)".to_owned()),
        MANDATORY => mandatory(&text(octets)?),
        ALPN => alpn(&octets),
        PORT => {
            let port: u16 = one(&text(octets)?, "a port, 0 to 65535")?;
            Ok(port.to_be_bytes().into())
        }
        IPV4HINT => list(&text(octets)?, "IPv4 addresses", |address: Ipv4Addr| address.octets()),
        IPV6HINT => list(&text(octets)?, "IPv6 addresses", |address: Ipv6Addr| address.octets()),
        ECH => base64::decode(&text(octets)?).map_err(|_| "expected base 64".to_owned()),
        _ => Ok(octets),
    }
}

fn text(octets: Vec<u8>) -> Result<String, String> {
    String::from_utf8(octets).map_err(|_| "expected text".to_owned())
}

fn one<T: FromStr>(text: &str, what: &str) -> Result<T, String> {
    text.parse().map_err(|_| format!("expected {what}"))
}

fn list<T: FromStr, const N: usize>(
    text: &str,
    what: &str,
    octets: impl Fn(T) -> [u8; N],
) -> Result<Vec<u8>, String> {
    let items =
        text.split(',').map(|item| one(item, &format!("{what} with commas between them")).map(&octets));
    Ok(items.collect::<Result<Vec<_>, _>>()?.concat())
}

/// RFC 9460 §8: keys in ascending order, each once, and never `mandatory` itself.
fn mandatory(text: &str) -> Result<Vec<u8>, String> {
    let mut keys = text
        .split(',')
        .map(|name| key(name).ok_or_else(|| EXPECTED_KEY.to_owned()))
        .collect::<Result<Vec<_>, _>>()?;
    keys.sort_unstable();
    if keys.contains(&MANDATORY) {
        return Err("it must not name itself (RFC 9460 §8)".to_owned());
    }
    if keys.windows(2).any(|pair| pair[0] == pair[1]) {
        return Err("it names a key twice (RFC 9460 §8)".to_owned());
    }
    Ok(keys.into_iter().flat_map(u16::to_be_bytes).collect())
}

/// RFC 9460 appendix A.1: a list with commas between its items, in which `\` escapes a comma or itself.
fn alpn(octets: &[u8]) -> Result<Vec<u8>, String> {
    let mut items: Vec<Vec<u8>> = vec![Vec::new()];
    let mut rest = octets.iter();
    while let Some(octet) = rest.next() {
        match octet {
            b',' => items.push(Vec::new()),
            b'\\' => match rest.next() {
                Some(escaped @ (b',' | b'\\')) => items.last_mut().expect("one at least").push(*escaped),
                _ => {
                    return Err("a \\ in the list escapes a comma or a \\ (RFC 9460 appendix A.1)".to_owned());
                }
            },
            _ => items.last_mut().expect("one at least").push(*octet),
        }
    }
    let mut wire = Vec::with_capacity(octets.len() + 1);
    for item in items {
        match u8::try_from(item.len()) {
            Ok(length @ 1..) => wire.push(length),
            _ => return Err("a protocol has 1 to 255 bytes (RFC 9460 §7.1.1)".to_owned()),
        }
        wire.extend(item);
    }
    Ok(wire)
}

/// RFC 9460 §8: what is mandatory must be there.
fn check_mandatory(parameters: &BTreeMap<u16, (usize, Vec<u8>)>) -> Result<(), FieldError> {
    let Some((at, keys)) = parameters.get(&MANDATORY) else { return Ok(()) };
    let is_absent = |key: &u16| !parameters.contains_key(key);
    match keys.chunks_exact(2).map(|pair| u16::from_be_bytes([pair[0], pair[1]])).find(is_absent) {
        Some(key) => Err((*at, format!("mandatory: {} is missing (RFC 9460 §8)", name_of(key)))),
        None => Ok(()),
    }
}

fn name_of(key: u16) -> String {
    let known = NAMES.iter().find(|(_, number)| *number == key);
    known.map_or_else(|| format!("key{key}"), |(name, _)| (*name).to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::zone::tokens::Tokens;

    fn read(text: &str) -> Result<Vec<u8>, FieldError> {
        let tokens: Vec<_> = Tokens::of(text).collect();
        let mut wire = Vec::new();
        encode(&tokens, &mut wire).map(|()| wire)
    }

    /// The test vectors of RFC 9460 appendix D.2, from their parameters on.
    #[test]
    fn the_vectors_of_rfc_9460_are_read() {
        let v6 = |last: u16| [&b"\x20\x01\x0d\xb8\0\0\0\0\0\0\0\0\0\0"[..], &last.to_be_bytes()].concat();
        let v6_in = |middle: &[u8]| [&b"\x20\x01\x0d\xb8"[..], middle].concat();
        let cases: &[(&str, Vec<u8>)] = &[
            // Figures 2 and 3.
            ("", vec![]),
            ("port=53", b"\0\x03\0\x02\0\x35".to_vec()),
            // Figures 5 and 6.
            ("key667=hello", b"\x02\x9b\0\x05hello".to_vec()),
            ("key667=\"hello\\210qoo\"", b"\x02\x9b\0\x09hello\xd2qoo".to_vec()),
            // Figures 7 and 8.
            (
                "ipv6hint=\"2001:db8::1,2001:db8::53:1\"",
                [b"\0\x06\0\x20", &v6(1)[..], &v6_in(b"\0\0\0\0\0\0\0\0\0\x53\0\x01")].concat(),
            ),
            (
                "ipv6hint=\"2001:db8:122:344::192.0.2.33\"",
                [b"\0\x06\0\x10", &v6_in(b"\x01\x22\x03\x44\0\0\0\0\xc0\0\x02\x21")[..]].concat(),
            ),
            // Figure 9.
            (
                "alpn=h2,h3-19 mandatory=ipv4hint,alpn\n ipv4hint=192.0.2.1",
                b"\0\0\0\x04\0\x01\0\x04\0\x01\0\x09\x02h2\x05h3-19\0\x04\0\x04\xc0\0\x02\x01".to_vec(),
            ),
            // Figure 10, in both forms.
            ("alpn=\"f\\\\\\\\oo\\\\,bar,h2\"", b"\0\x01\0\x0c\x08f\\oo,bar\x02h2".to_vec()),
            ("alpn=f\\\\\\092oo\\092,bar,h2", b"\0\x01\0\x0c\x08f\\oo,bar\x02h2".to_vec()),
        ];
        for (text, expected) in cases {
            assert_eq!(read(text).as_ref(), Ok(expected), "{text}");
        }
    }

    #[test]
    fn keys_are_written_in_order_whatever_they_are_called() {
        for (text, expected) in [
            ("key999=x key65289=\"\" key65280", &b"\x03\xe7\0\x01x\xff\0\0\0\xff\x09\0\0"[..]),
            ("port=1 key1=\"\\002h2\"", b"\0\x01\0\x03\x02h2\0\x03\0\x02\0\x01"),
            ("no-default-alpn alpn=\"h2\"", b"\0\x01\0\x03\x02h2\0\x02\0\0"),
            (
                "ech=AQID ipv4hint=192.0.2.1,192.0.2.2",
                b"\0\x04\0\x08\xc0\0\x02\x01\xc0\0\x02\x02\0\x05\0\x03\x01\x02\x03",
            ),
            ("dohpath=/q{?dns} ohttp", b"\0\x07\0\x08/q{?dns}\0\x08\0\0"),
        ] {
            assert_eq!(read(text).as_deref(), Ok(expected), "{text}");
        }
    }

    /// Those of appendix D.3 first.
    #[test]
    fn invalid_parameters_are_refused_at_their_token() {
        for (text, at, why) in [
            ("key123=abc key123=def", 1, "key123 is given twice (RFC 9460 §2.1)"),
            ("mandatory", 0, "mandatory: a value is missing (RFC 9460 §2.1)"),
            ("alpn", 0, "alpn: a value is missing (RFC 9460 §2.1)"),
            ("port", 0, "port: a value is missing (RFC 9460 §2.1)"),
            ("ipv4hint", 0, "ipv4hint: a value is missing (RFC 9460 §2.1)"),
            ("ipv6hint", 0, "ipv6hint: a value is missing (RFC 9460 §2.1)"),
            ("no-default-alpn=abc", 0, "no-default-alpn: it has no value (RFC 9460 §2.1)"),
            ("port=1 mandatory=key123", 1, "mandatory: key123 is missing (RFC 9460 §8)"),
            ("mandatory=mandatory", 0, "mandatory: it must not name itself (RFC 9460 §8)"),
            ("mandatory=key123,key123 key123=abc", 0, "mandatory: it names a key twice (RFC 9460 §8)"),
            ("port=65536", 0, "port: expected a port, 0 to 65535"),
            ("alpn=h2 ipv4hint=192.0.2", 1, "ipv4hint: expected IPv4 addresses with commas between them"),
            ("alpn=h2,,h3", 0, "alpn: a protocol has 1 to 255 bytes (RFC 9460 §7.1.1)"),
            ("alpn=h\\\\2", 0, "alpn: a \\ in the list escapes a comma or a \\ (RFC 9460 appendix A.1)"),
            ("alpn=\"\\300\"", 0, "this escape is not \\DDD, 000 to 255"),
            ("ech=!", 0, "ech: expected base 64"),
            ("ALPN=h2", 0, EXPECTED_KEY),
            ("key0123=x", 0, EXPECTED_KEY),
            ("key65536=x", 0, EXPECTED_KEY),
            ("key=x", 0, EXPECTED_KEY),
            ("port=1 \"x\"", 1, EXPECTED_KEY),
        ] {
            assert_eq!(read(text), Err((at, why.to_owned())), "{text}");
        }
    }
}
