//! PROXY headers: read the same however much has come, and by both versions.

use std::net::{IpAddr, SocketAddr};

use portolan::net::proxy_header::{Header, MAX_HEADER, Malformed, binary, line, parse};

/// Reads bytes as the start of a connection, byte by byte.
pub(crate) fn read(bytes: &[u8]) {
    let whole = parse(bytes);
    let mut decided: Option<Result<Header, Malformed>> = None;
    for length in 1..=bytes.len().min(MAX_HEADER + 1) {
        let found = parse(&bytes[..length]);
        match (&decided, found) {
            (None, Ok(None)) => {}
            (None, Ok(Some(header))) => {
                assert_eq!(header.length, length, "the header ends where it is complete");
                decided = Some(Ok(header));
            }
            (None, Err(why)) => decided = Some(Err(why)),
            (Some(before), now) => assert_eq!(*before, now.map(|it| it.expect("decided")), "at {length}"),
        }
    }
    match (decided, whole) {
        (Some(Ok(header)), Ok(Some(found))) => {
            assert_eq!(header, found);
            agree(&header, &bytes[..header.length]);
        }
        (Some(Err(early)), Err(late)) => assert_eq!(early, late),
        (None, Ok(None)) => {}
        (early, late) => assert!(bytes.is_empty() || bytes.len() > MAX_HEADER, "{early:?} {late:?}"),
    }
}

/// What a header says is what a plain reading of the specification finds, and survives being written anew.
fn agree(header: &Header, bytes: &[u8]) {
    let named = header.client.zip(header.destination);
    assert_eq!(named, if bytes.starts_with(b"PROXY") { of_line(bytes) } else { of_binary(bytes) });
    let Some((client, destination)) = named else { return };
    assert_eq!(client.ip(), client.ip().to_canonical());
    if client.is_ipv4() != destination.is_ipv4() {
        return;
    }
    for written in [line(client, destination), binary(client, destination)] {
        let again = parse(&written).expect("it is valid").expect("it is whole");
        assert_eq!((again.client.zip(again.destination), again.length), (named, written.len()));
    }
}

fn of_line(bytes: &[u8]) -> Option<(SocketAddr, SocketAddr)> {
    let text = std::str::from_utf8(bytes).expect("text");
    let words: Vec<&str> = text.trim_end_matches("\r\n").split(' ').collect();
    let [_, "TCP4" | "TCP6", client, destination, from, to] = words[..] else { return None };
    let address = |ip: &str, port: &str| {
        let ip: IpAddr = ip.parse().expect("an address");
        SocketAddr::new(ip.to_canonical(), port.parse().expect("a port"))
    };
    Some((address(client, from), address(destination, to)))
}

fn of_binary(bytes: &[u8]) -> Option<(SocketAddr, SocketAddr)> {
    let (is_local, family) = (bytes[12] == 0x20, bytes[13] >> 4);
    let size = match family {
        _ if is_local => return None,
        1 => 4,
        2 => 16,
        _ => return None,
    };
    let ip = |at: usize| match size {
        4 => IpAddr::from(<[u8; 4]>::try_from(&bytes[at..at + 4]).expect("4 bytes")),
        _ => IpAddr::from(<[u8; 16]>::try_from(&bytes[at..at + 16]).expect("16 bytes")),
    };
    let port = |at: usize| u16::from_be_bytes([bytes[at], bytes[at + 1]]);
    let end = 16 + 2 * size;
    let address = |at, port| SocketAddr::new(ip(at).to_canonical(), port);
    Some((address(16, port(end)), address(16 + size, port(end + 2))))
}
