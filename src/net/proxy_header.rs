//! The header by which a proxy passes on the address of its client: PROXY protocol, versions 1 and 2.
//!
//! The specification is haproxy's `doc/proxy-protocol.txt`; its sections are quoted below. The parser is strict, because
//! whatever it accepts decides who the client is: an incomplete header is waited for, anything else that is not exactly
//! a header is an error.
//!
//! Not a library: the crate `proxy-header` (0.1.3) refuses LOCAL whose family is not UNSPEC unless that family's addresses
//! follow, although "the receiver must accept this connection as valid and must … discard the protocol block including
//! the family which is ignored" (§2.2). Where the client's bytes do not follow, it even waits for more.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::str::{self, FromStr};

/// The longest header that is read, in bytes. Addresses take 232 at most; the rest is room for the TLVs of a proxy,
/// which nothing here needs. The specification allows 65,551, which nobody sends.
pub const MAX_HEADER: usize = 4096;

/// The longest header of version 1, in bytes, with its CRLF (§2.1).
const MAX_LINE: usize = 107;
const LINE_START: &[u8] = b"PROXY ";
const SIGNATURE: &[u8; 12] = b"\r\n\r\n\0\r\nQUIT\n";
/// Of version 2: signature, version with command, family with transport, length.
const FIXED: usize = 16;
/// What the addresses of a family take, with their ports (§2.2).
const V4_ADDRESSES: usize = 2 * (4 + 2);
const V6_ADDRESSES: usize = 2 * (16 + 2);
const UNIX_ADDRESSES: usize = 2 * 108;

/// A whole header.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Header {
    /// The client; IPv4 even where the proxy wrote it as an IPv4-mapped IPv6 address. `None`: the proxy itself, as in
    /// its health checks (LOCAL), or a client that the proxy cannot name (UNKNOWN, UNSPEC, AF_UNIX).
    pub client: Option<SocketAddr>,
    /// What the client connected to, where there is a client.
    pub destination: Option<SocketAddr>,
    /// The bytes that it takes; the client's own follow.
    pub length: usize,
}

/// Why bytes are not a header.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Malformed {
    /// They begin like none.
    Absent,
    /// It is longer than is read.
    TooLong,
    /// The line of version 1 has something else than two addresses and two ports.
    Line,
    /// The version or the command in a header of version 2.
    VersionOrCommand(u8),
    /// The family or the transport in a header of version 2.
    Family(u8),
    /// The length in a header of version 2 is too short for its addresses.
    TooShort,
}

impl fmt::Display for Malformed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Absent => f.write_str("the connection does not begin with a PROXY header"),
            Self::TooLong => f.write_str("the PROXY header is too long"),
            Self::Line => f.write_str("the line of the PROXY header is malformed"),
            Self::VersionOrCommand(byte) => {
                write!(f, "unknown version or command {byte:#04x} in the PROXY header")
            }
            Self::Family(byte) => write!(f, "unknown family or transport {byte:#04x} in the PROXY header"),
            Self::TooShort => f.write_str("the PROXY header is too short for its addresses"),
        }
    }
}

impl std::error::Error for Malformed {}

/// The header at the start of a connection; `None` if more bytes are needed to tell.
///
/// # Errors
/// If no further bytes could make it a header.
pub fn parse(bytes: &[u8]) -> Result<Option<Header>, Malformed> {
    if begins(bytes, LINE_START) {
        parse_line(bytes)
    } else if begins(bytes, SIGNATURE) {
        parse_binary(bytes)
    } else {
        Err(Malformed::Absent)
    }
}

/// Whether the bytes begin with `start`, as far as they go.
fn begins(bytes: &[u8], start: &[u8]) -> bool {
    let known = bytes.len().min(start.len());
    bytes[..known] == start[..known]
}

/// Version 1, §2.1: `PROXY TCP4 CLIENT PROXY PORT PORT` or `PROXY UNKNOWN …`, and CRLF.
fn parse_line(bytes: &[u8]) -> Result<Option<Header>, Malformed> {
    let start = &bytes[..bytes.len().min(MAX_LINE)];
    let Some(end) = start.windows(2).position(|pair| pair == b"\r\n") else {
        return if bytes.len() < MAX_LINE { Ok(None) } else { Err(Malformed::TooLong) };
    };
    let line = str::from_utf8(&start[..end]).map_err(|_| Malformed::Line)?;
    let words: Vec<&str> = line.split(' ').collect();
    let named = match words[..] {
        ["PROXY", "TCP4", client, proxy, from, to] => Some(addresses::<Ipv4Addr>(client, proxy, from, to)),
        ["PROXY", "TCP6", client, proxy, from, to] => Some(addresses::<Ipv6Addr>(client, proxy, from, to)),
        // "the receiver must ignore anything presented before the CRLF is found"
        ["PROXY", "UNKNOWN", ..] => None,
        _ => return Err(Malformed::Line),
    };
    let named = named.map(|named| named.ok_or(Malformed::Line)).transpose()?;
    Ok(Some(Header::of(named, end + 2)))
}

/// The client and what it connected to, if all four words are valid.
fn addresses<A: FromStr + Into<IpAddr>>(
    client: &str,
    proxy: &str,
    from: &str,
    to: &str,
) -> Option<(SocketAddr, SocketAddr)> {
    let (client, proxy): (A, A) = (client.parse().ok()?, proxy.parse().ok()?);
    Some((canonical(client.into(), port(from)?), canonical(proxy.into(), port(to)?)))
}

/// "Decimal, between 0 and 65535", "heading zeroes are not permitted" (§2.1).
fn port(word: &str) -> Option<u16> {
    let is_plain = word.bytes().all(|byte| byte.is_ascii_digit()) && (word == "0" || !word.starts_with('0'));
    word.parse().ok().filter(|_| is_plain)
}

/// Version 2, §2.2.
fn parse_binary(bytes: &[u8]) -> Result<Option<Header>, Malformed> {
    let Some(&version_and_command) = bytes.get(SIGNATURE.len()) else { return Ok(None) };
    let is_local = match version_and_command {
        0x20 => true,
        0x21 => false,
        other => return Err(Malformed::VersionOrCommand(other)),
    };
    let Some(&[_, family, high, low]) = bytes.get(SIGNATURE.len()..FIXED) else { return Ok(None) };
    let length = FIXED + usize::from(u16::from_be_bytes([high, low]));
    if length > MAX_HEADER {
        return Err(Malformed::TooLong);
    }
    let Some(block) = bytes.get(FIXED..length) else { return Ok(None) };
    // "the receiver must … ignore" the family and the addresses of LOCAL.
    let named = if is_local { None } else { named_in(family, block)? };
    Ok(Some(Header::of(named, length)))
}

/// The client and what it connected to, as the address block has them; the TLVs behind the addresses are skipped.
fn named_in(family: u8, block: &[u8]) -> Result<Option<(SocketAddr, SocketAddr)>, Malformed> {
    let needed = match family {
        0x00 => 0,
        0x11 | 0x12 => V4_ADDRESSES,
        0x21 | 0x22 => V6_ADDRESSES,
        0x31 | 0x32 => UNIX_ADDRESSES,
        other => return Err(Malformed::Family(other)),
    };
    let addresses = block.get(..needed).ok_or(Malformed::TooShort)?;
    let ips = match needed {
        V4_ADDRESSES => addresses.first_chunk::<8>().map(|it| halves::<8, 4>(*it).map(IpAddr::from)),
        V6_ADDRESSES => addresses.first_chunk::<32>().map(|it| halves::<32, 16>(*it).map(IpAddr::from)),
        _ => None,
    };
    // Both addresses, then both ports; the client's come first.
    Ok(match (ips, addresses) {
        (Some([client, destination]), [.., a, b, c, d]) => Some((
            canonical(client, u16::from_be_bytes([*a, *b])),
            canonical(destination, u16::from_be_bytes([*c, *d])),
        )),
        _ => None,
    })
}

fn halves<const WHOLE: usize, const HALF: usize>(whole: [u8; WHOLE]) -> [[u8; HALF]; 2] {
    let (first, second) = whole.split_at(HALF);
    [first, second].map(|half| std::array::from_fn(|index| half[index]))
}

fn canonical(ip: IpAddr, port: u16) -> SocketAddr {
    SocketAddr::new(ip.to_canonical(), port)
}

impl Header {
    fn of(named: Option<(SocketAddr, SocketAddr)>, length: usize) -> Self {
        let (client, destination) = named.unzip();
        Self { client, destination, length }
    }
}

/// A header of version 1 for a TCP connection (§2.1).
#[must_use]
pub fn line(client: SocketAddr, destination: SocketAddr) -> Vec<u8> {
    let (from, to) = (client.port(), destination.port());
    match same_family(client.ip(), destination.ip()) {
        Pair::V4(client, destination) => format!("PROXY TCP4 {client} {destination} {from} {to}\r\n"),
        Pair::V6(client, destination) => format!("PROXY TCP6 {client} {destination} {from} {to}\r\n"),
    }
    .into_bytes()
}

/// A header of version 2 for a TCP connection (§2.2).
#[must_use]
pub fn binary(client: SocketAddr, destination: SocketAddr) -> Vec<u8> {
    let (family, ips) = match same_family(client.ip(), destination.ip()) {
        Pair::V4(client, destination) => (0x11, [client.octets(), destination.octets()].concat()),
        Pair::V6(client, destination) => (0x21, [client.octets(), destination.octets()].concat()),
    };
    let ports = [client.port().to_be_bytes(), destination.port().to_be_bytes()].concat();
    let length = (ips.len() + ports.len()) as u16;
    [SIGNATURE.as_slice(), &[0x21, family], &length.to_be_bytes(), &ips, &ports].concat()
}

/// Two addresses of one family.
enum Pair {
    V4(Ipv4Addr, Ipv4Addr),
    V6(Ipv6Addr, Ipv6Addr),
}

/// Both as IPv4 if they are, else both as IPv6: a header has one family. A hop before this one may have written one of them
/// as IPv4-mapped.
fn same_family(a: IpAddr, b: IpAddr) -> Pair {
    let as_v6 = |ip| match ip {
        IpAddr::V4(ip) => ip.to_ipv6_mapped(),
        IpAddr::V6(ip) => ip,
    };
    match (a, b) {
        (IpAddr::V4(a), IpAddr::V4(b)) => Pair::V4(a, b),
        _ => Pair::V6(as_v6(a), as_v6(b)),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn header_2(version_and_command: u8, family: u8, block: &[u8]) -> Vec<u8> {
        let mut bytes = SIGNATURE.to_vec();
        bytes.extend([version_and_command, family]);
        bytes.extend((block.len() as u16).to_be_bytes());
        bytes.extend(block);
        bytes
    }

    /// The address block of two sockets of one family.
    fn block(client: &str, proxy: &str) -> Vec<u8> {
        let (client, proxy): (SocketAddr, SocketAddr) = (client.parse().unwrap(), proxy.parse().unwrap());
        let octets = |address: SocketAddr| match address.ip() {
            IpAddr::V4(ip) => ip.octets().to_vec(),
            IpAddr::V6(ip) => ip.octets().to_vec(),
        };
        let ports = [client.port().to_be_bytes(), proxy.port().to_be_bytes()].concat();
        [octets(client), octets(proxy), ports].concat()
    }

    fn whole(bytes: &[u8]) -> Option<SocketAddr> {
        let header = parse(bytes).unwrap().expect("a whole header");
        assert_eq!(header.length, bytes.len());
        header.client
    }

    fn some(client: &str) -> Option<SocketAddr> {
        Some(client.parse().unwrap())
    }

    #[test]
    fn version_1() {
        for (line, client) in [
            ("PROXY TCP4 192.0.2.7 198.51.100.1 56324 53", some("192.0.2.7:56324")),
            ("PROXY TCP4 255.255.255.255 255.255.255.255 65535 0", some("255.255.255.255:65535")),
            ("PROXY TCP6 2001:db8::7 2001:db8::1 1 53", some("[2001:db8::7]:1")),
            ("PROXY TCP6 ::ffff:192.0.2.7 ::ffff:198.51.100.1 5 53", some("192.0.2.7:5")),
            ("PROXY UNKNOWN", None),
            ("PROXY UNKNOWN whatever else 1", None),
        ] {
            assert_eq!(whole(format!("{line}\r\n").as_bytes()), client, "{line}");
        }
    }

    #[test]
    fn malformed_lines() {
        for line in [
            "PROXY ",
            "PROXY TCP4",
            "PROXY  TCP4 192.0.2.7 198.51.100.1 5 53",
            "PROXY TCP4 192.0.2.7 198.51.100.1 5 53 ",
            "PROXY TCP4 192.0.2.7 198.51.100.1 5",
            "PROXY TCP4 192.0.2.7 198.51.100.1 5 65536",
            "PROXY TCP4 192.0.2.7 198.51.100.1 +5 53",
            "PROXY TCP4 192.0.2.7 198.51.100.1 05 53",
            "PROXY TCP4 192.0.2.07 198.51.100.1 5 53",
            "PROXY TCP4 192.0.2.7 2001:db8::1 5 53",
            "PROXY TCP4 2001:db8::7 2001:db8::1 5 53",
            "PROXY TCP6 192.0.2.7 198.51.100.1 5 53",
            "PROXY TCP6 fe80::1%eth0 fe80::2 5 53",
            "PROXY TCP5 192.0.2.7 198.51.100.1 5 53",
            "PROXY UDP4 192.0.2.7 198.51.100.1 5 53",
            "PROXY UNKNOWNED",
            "PROXY unknown",
            "PROXY TCP4 192.0.2.7\t198.51.100.1 5 53",
            "PROXY TCP4 192.0.2.7 198.51.100.1 5 53\n",
        ] {
            assert_eq!(parse(format!("{line}\r\n").as_bytes()), Err(Malformed::Line), "{line:?}");
        }
        assert_eq!(parse(b"PROXY \xff\r\n"), Err(Malformed::Line));
    }

    #[test]
    fn a_line_has_at_most_107_bytes() {
        let line = |length: usize| format!("PROXY UNKNOWN {}\r\n", "x".repeat(length - 16)).into_bytes();
        assert_eq!(whole(&line(MAX_LINE)), None);
        assert_eq!(parse(&line(MAX_LINE)[..MAX_LINE - 1]), Ok(None));
        for too_long in [MAX_LINE + 1, 2 * MAX_LINE] {
            assert_eq!(parse(&line(too_long)), Err(Malformed::TooLong));
        }
    }

    #[test]
    fn version_2() {
        let v4 = block("192.0.2.7:56324", "198.51.100.1:53");
        let v6 = block("[2001:db8::7]:56324", "[2001:db8::1]:53");
        let mapped = block("[::ffff:192.0.2.7]:5", "[::ffff:198.51.100.1]:53");
        for (command, family, block, client) in [
            (0x21, 0x11, &v4, some("192.0.2.7:56324")),
            (0x21, 0x12, &v4, some("192.0.2.7:56324")),
            (0x21, 0x21, &v6, some("[2001:db8::7]:56324")),
            (0x21, 0x22, &v6, some("[2001:db8::7]:56324")),
            (0x21, 0x21, &mapped, some("192.0.2.7:5")),
            (0x21, 0x31, &vec![0; UNIX_ADDRESSES], None),
            (0x21, 0x00, &vec![], None),
            (0x20, 0x00, &vec![], None),
            (0x20, 0x11, &v4, None),
            (0x20, 0x11, &vec![], None),
            (0x20, 0xff, &vec![1, 2, 3], None),
        ] {
            assert_eq!(whole(&header_2(command, family, block)), client, "{command:#x} {family:#x}");
            // TLVs follow the addresses.
            let tlvs = [block.as_slice(), b"\x04\0\x02\0\0\x02\0\x0bexample.com"].concat();
            assert_eq!(whole(&header_2(command, family, &tlvs)), client, "{command:#x} {family:#x}, TLVs");
        }
    }

    #[test]
    fn malformed_version_2() {
        let v4 = block("192.0.2.7:5", "198.51.100.1:53");
        for version_and_command in [0x00, 0x01, 0x11, 0x22, 0x2f, 0x31] {
            assert_eq!(
                parse(&header_2(version_and_command, 0x11, &v4)),
                Err(Malformed::VersionOrCommand(version_and_command))
            );
        }
        for family in [0x01, 0x10, 0x13, 0x20, 0x41, 0xff] {
            assert_eq!(parse(&header_2(0x21, family, &v4)), Err(Malformed::Family(family)));
        }
        for (family, needed) in [(0x11, V4_ADDRESSES), (0x21, V6_ADDRESSES), (0x31, UNIX_ADDRESSES)] {
            assert_eq!(parse(&header_2(0x21, family, &vec![0; needed - 1])), Err(Malformed::TooShort));
        }
        let block = vec![0; MAX_HEADER - FIXED + 1];
        assert_eq!(
            parse(&header_2(0x21, 0x11, &block)[..FIXED]),
            Err(Malformed::TooLong),
            "before it is read"
        );
        assert!(parse(&header_2(0x21, 0x11, &block[1..])).unwrap().is_some());
    }

    #[test]
    fn a_header_is_waited_for_and_what_follows_is_left_alone() {
        let v2 = header_2(0x21, 0x11, &block("192.0.2.7:5", "198.51.100.1:53"));
        for header in [b"PROXY TCP4 192.0.2.7 198.51.100.1 5 53\r\n", &v2[..]] {
            for cut in 0..header.len() {
                assert_eq!(parse(&header[..cut]), Ok(None), "{cut}");
            }
            let expected = Header {
                client: some("192.0.2.7:5"),
                destination: some("198.51.100.1:53"),
                length: header.len(),
            };
            assert_eq!(parse(&[header, b"\0\x1dPROXY "].concat()), Ok(Some(expected)));
        }
        for other in [&b"\0\x1d"[..], b"P\0", b"proxy TCP4", b"\r\n\r\n\0\r\nQUIT ", b"GET / HTTP/1.1"] {
            assert_eq!(parse(other), Err(Malformed::Absent));
        }
    }

    proptest! {
        /// However a header is cut or damaged, more bytes never change what is already decided, and none is longer than
        /// the bytes or the limit.
        #[test]
        fn a_decision_is_final(
            is_binary: bool,
            command in 0x1f_u8..0x23,
            family: u8,
            body in prop::collection::vec(any::<u8>(), 0..300),
            words in "( TCP[46]| UNKNOWN)?( [0-9a-f.:]{1,15}){0,2}( [0-9]{1,6}){0,2}(\r\n)?",
        ) {
            let bytes = if is_binary { header_2(command, family, &body) } else { format!("PROXY{words}").into_bytes() };
            let mut decided = None;
            for end in 0..=bytes.len() {
                let parsed = parse(&bytes[..end]);
                if let Some(decided) = decided {
                    prop_assert_eq!(parsed, decided);
                } else if parsed != Ok(None) {
                    if let Ok(Some(header)) = parsed {
                        prop_assert!(header.length <= end && header.length <= MAX_HEADER);
                    }
                    decided = Some(parsed);
                }
            }
        }
    }

    #[test]
    fn what_is_written_is_read_again() {
        for (client, destination, family) in [
            ("192.0.2.7:56324", "198.51.100.1:443", "TCP4"),
            ("[2001:db8::7]:1", "[2001:db8::1]:65535", "TCP6"),
            // Only one of them fits IPv4.
            ("192.0.2.7:5", "[2001:db8::1]:443", "TCP6"),
        ] {
            let (client, destination) = (some(client).unwrap(), some(destination).unwrap());
            let (text, block) = (line(client, destination), binary(client, destination));
            assert!(text.starts_with(format!("PROXY {family} ").as_bytes()), "{text:?}");
            for written in [text, block] {
                let length = written.len();
                let expected = Header { client: Some(client), destination: Some(destination), length };
                assert_eq!(parse(&written), Ok(Some(expected)), "{written:?}");
            }
        }
    }
}
