//! Values written as strings: durations, addresses, prefixes, names. Each parser returns its error as a clause.

use std::net::{IpAddr, Ipv6Addr, SocketAddr};
use std::time::Duration;

use http::uri::Authority;
use ipnet::IpNet;
use jiff::SpanRelativeTo;
use jiff::fmt::friendly::{FractionalUnit, Spacing, SpanParser, SpanPrinter};
use rustls::pki_types::ServerName;

use crate::model::{Fraction, Name};

/// The description of a duration in messages.
pub(super) const A_DURATION: &str = "a duration such as \"5s\" (units: ms, s, m, h, d)";

/// Parses a share above 0 % and up to 100 %.
pub(super) fn share(text: &str) -> Result<Fraction, String> {
    Fraction::parse(text)
        .filter(|part| part.get() > 0.0)
        .ok_or_else(|| format!("expected a share above 0% and up to 100%, found {:?}", shortened(text)))
}

/// Parses "250ms", "3.5s", "10m", "1h30m", "7d". A day has 24 hours.
pub(super) fn duration(text: &str) -> Result<Duration, String> {
    let parser = SpanParser::new();
    let with_days = || {
        let span = parser.parse_span(text).ok()?;
        Duration::try_from(span.to_duration(SpanRelativeTo::days_are_24_hours()).ok()?).ok()
    };
    let duration = parser.parse_unsigned_duration(text).ok().or_else(with_days);
    duration.ok_or_else(|| format!("expected {A_DURATION}, found {:?}", shortened(text)))
}

/// The description of a size in messages.
pub(super) const A_SIZE: &str = "a size such as \"10MiB\" (units: B, KiB, MiB, GiB)";

/// Parses "512B", "64KiB", "10MiB", "2GiB" into bytes.
pub(super) fn size(text: &str) -> Result<u64, String> {
    const UNITS: [(&str, u64); 4] = [("KiB", 1 << 10), ("MiB", 1 << 20), ("GiB", 1 << 30), ("B", 1)];
    let parse = |(unit, bytes): (&str, u64)| {
        let digits = text.strip_suffix(unit)?.trim_end();
        let is_number = digits.bytes().all(|it| it.is_ascii_digit());
        is_number.then(|| digits.parse::<u64>().ok()?.checked_mul(bytes)).flatten()
    };
    let size = UNITS.into_iter().find_map(parse);
    size.ok_or_else(|| format!("expected {A_SIZE}, found {:?}", shortened(text)))
}

/// Formats a duration in the config's syntax.
pub(super) fn format_duration(duration: Duration) -> String {
    // A fraction only where there are whole seconds before it: "3.5s", but "250ms".
    let fraction = (duration.as_secs() > 0).then_some(FractionalUnit::Second);
    SpanPrinter::new().spacing(Spacing::None).fractional(fraction).unsigned_duration_to_string(&duration)
}

/// The first 40 characters of a text, for a message.
pub(super) fn shortened(text: &str) -> String {
    const SHOWN: usize = 40;
    match text.char_indices().nth(SHOWN) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text.to_owned(),
    }
}

/// `"a", "b" or "c"`
pub(super) fn either<'w>(words: impl Iterator<Item = &'w str>) -> String {
    let words: Vec<_> = words.map(|word| format!("{word:?}")).collect();
    match words.as_slice() {
        [all @ .., last] if !all.is_empty() => format!("{} or {last}", all.join(", ")),
        _ => words.concat(),
    }
}

/// A clause that suggests the most similar word, if there is a similar one.
pub(super) fn did_you_mean<'w>(word: &str, words: impl Iterator<Item = &'w str>) -> String {
    let allowed = (word.chars().count() / 3).max(1);
    words
        .map(|other| (strsim::osa_distance(&word.to_lowercase(), &other.to_lowercase()), other))
        .filter(|(distance, _)| *distance <= allowed)
        .min_by_key(|(distance, _)| *distance)
        .map_or_else(String::new, |(_, other)| format!("; did you mean `{other}`?"))
}

/// Checks a name chosen by the config, which appears in targets, metrics and URLs.
pub(super) fn own_name(text: &str) -> Result<(), String> {
    const LONGEST: usize = 63;
    let good = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
    if (1..=LONGEST).contains(&text.len()) && text.chars().all(good) {
        return Ok(());
    }
    Err(format!("{:?} is not a valid name: 1 to {LONGEST} letters, digits, `-`, `_` or `.`", shortened(text)))
}

/// Parses a domain name; the final dot is optional.
pub(super) fn domain(text: &str) -> Result<Name, String> {
    if text.contains(char::is_whitespace) {
        return Err(format!("{:?} is not a valid domain name: it contains a space", shortened(text)));
    }
    text.parse().map_err(|error| format!("{:?} is not a valid domain name: {error}", shortened(text)))
}

/// Parses a domain name that records can point to.
pub(super) fn target(text: &str) -> Result<Name, String> {
    if let Ok(address) = text.parse::<IpAddr>() {
        return Err(format!("{address} is an address, not a name"));
    }
    let name = domain(text)?;
    if name == Name::root() || name.is_wildcard() {
        return Err(format!("{name} is not the name of a host"));
    }
    Ok(name)
}

/// Parses a host name or address as in a certificate, without a port. An IPv6 address may be in brackets.
pub(super) fn host(text: &str) -> Result<ServerName<'static>, String> {
    let bare = text.strip_prefix('[').and_then(|text| text.strip_suffix(']'));
    if let Some(Ok(address)) = bare.map(str::parse::<Ipv6Addr>) {
        return Ok(ServerName::from(IpAddr::V6(address)));
    }
    ServerName::try_from(text.trim_end_matches('.')).map(|name| name.to_owned()).map_err(|_| {
        format!("{:?} is not a valid host name: write a name or an address, without a port", shortened(text))
    })
}

/// A host as in the `Host` header: an IPv6 address is in brackets (RFC 3986 §3.2.2).
pub(super) fn authority(host: &ServerName<'_>) -> Authority {
    let text = host.to_str();
    let written = match text.parse::<Ipv6Addr>() {
        Ok(address) => Authority::try_from(format!("[{address}]")),
        Err(_) => Authority::try_from(&*text),
    };
    written.expect("host names and addresses are authorities")
}

/// The IPv4 address within an IPv4-mapped IPv6 address (RFC 4291 §2.5.5.2): clients cannot connect to such an
/// address over IPv6, so an AAAA record with it is useless.
fn mapped(address: IpAddr) -> Option<IpAddr> {
    match address {
        IpAddr::V6(v6) => v6.to_ipv4_mapped().map(IpAddr::V4),
        IpAddr::V4(_) => None,
    }
}

/// Parses an address that a client can connect to.
pub(super) fn destination(text: &str) -> Result<IpAddr, String> {
    let address: IpAddr =
        text.parse().map_err(|_| format!("{:?} is not a valid IP address", shortened(text)))?;
    if let Some(v4) = mapped(address) {
        return Err(format!("{address} is an IPv4-mapped address; write {v4}"));
    }
    if address.is_unspecified() || address.is_multicast() || address == IpAddr::from([255; 4]) {
        return Err(format!("{address} cannot be connected to"));
    }
    Ok(address)
}

/// Parses `address:port` to listen on; port 0 lets the system choose.
pub(super) fn listener(text: &str) -> Result<SocketAddr, String> {
    let address: SocketAddr = text
        .parse()
        .map_err(|_| format!("{:?} is not an address with a port{}", shortened(text), listener_hint(text)))?;
    if let Some(v4) = mapped(address.ip()) {
        return Err(format!("{} is an IPv4-mapped address; write {v4}", address.ip()));
    }
    if address.ip().is_multicast() {
        return Err(format!("{} is a multicast address", address.ip()));
    }
    Ok(address)
}

/// A suggestion for a text that is not an address with a port.
fn listener_hint(text: &str) -> String {
    let split = text.rsplit_once(':').and_then(|(host, port)| Some((host, port.parse::<u16>().ok()?)));
    if let Ok(port) = text.parse::<u16>() {
        return format!("; write \"0.0.0.0:{port}\" or \"[::]:{port}\"");
    }
    let meant = match (split, text.parse::<IpAddr>()) {
        (Some((host, port)), _) if let Ok(address) = host.parse::<Ipv6Addr>() => {
            let address = SocketAddr::new(address.into(), port);
            return format!("; an IPv6 address needs brackets: write \"{address}\"");
        }
        (_, Ok(address)) => {
            let address = SocketAddr::new(address, 53);
            return format!("; write \"{address}\" with the port you mean");
        }
        (Some(("" | "*", port)), _) => format!("\"0.0.0.0:{port}\" or \"[::]:{port}\""),
        (Some(("localhost", port)), _) => format!("\"127.0.0.1:{port}\" or \"[::1]:{port}\""),
        _ => return String::new(),
    };
    format!("; write {meant}")
}

/// Parses a prefix whose host bits are zero.
pub(super) fn prefix(text: &str) -> Result<IpNet, String> {
    let net: IpNet = text.parse().map_err(|_| {
        let hint = match text.parse::<IpAddr>() {
            Ok(address) => format!("; write {}", IpNet::from(address)),
            Err(_) => String::new(),
        };
        format!("{:?} is not a valid prefix such as 192.0.2.0/24{hint}", shortened(text))
    })?;
    if mapped(net.addr()).is_some() {
        return Err(format!("{net} is an IPv4-mapped prefix; write the IPv4 prefix"));
    }
    if net != net.trunc() {
        return Err(format!("{net} has host bits set; write {}", net.trunc()));
    }
    Ok(net)
}

/// Parses 32 bytes from 64 hexadecimal digits.
pub(super) fn sha256(text: &str) -> Result<[u8; 32], String> {
    let error = || "expected a SHA-256 in 64 hexadecimal digits".to_owned();
    if text.len() != 64 || !text.bytes().all(|byte| byte.is_ascii_hexdigit()) {
        return Err(error());
    }
    let mut bytes = [0; 32];
    for (index, byte) in bytes.iter_mut().enumerate() {
        *byte = u8::from_str_radix(&text[2 * index..2 * index + 2], 16).map_err(|_| error())?;
    }
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn formatted_durations_parse_back() {
        for (text, millis) in
            [("250ms", 250), ("3.5s", 3_500), ("5s", 5_000), ("10m", 600_000), ("1h30m", 5_400_000)]
        {
            let found = duration(text).expect("a duration");
            assert_eq!(found, Duration::from_millis(millis), "{text}");
            assert_eq!(format_duration(found), text);
        }
        for (days, hours) in [("7d", 168), ("1d12h", 36)] {
            assert_eq!(duration(days), Ok(Duration::from_secs(hours * 3600)), "{days}");
        }
        for text in ["", "5", "s", "-5s", "5 parsecs", "5s ago", "1 month", "1y"] {
            let why = duration(text).expect_err(text);
            assert!(why.contains("(units: ms, s, m, h, d)"), "{why}");
        }
    }

    #[test]
    fn suggestions_are_near_or_absent() {
        let words = || ["eu-west", "us-east", "tls"].into_iter();
        assert_eq!(did_you_mean("eu-wst", words()), "; did you mean `eu-west`?");
        assert_eq!(did_you_mean("TLS", words()), "; did you mean `tls`?");
        assert_eq!(did_you_mean("ap-south", words()), "");
    }

    #[test]
    fn words_are_listed_with_or() {
        assert_eq!(either(["a"].into_iter()), r#""a""#);
        assert_eq!(either(["a", "b", "c"].into_iter()), r#""a", "b" or "c""#);
    }
}
