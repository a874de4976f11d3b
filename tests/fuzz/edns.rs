//! Well-formed queries with any OPT record, compared with an independent parser of its options.

use std::net::IpAddr;

use ipnet::IpNet;
use portolan::answer::Transport;

use crate::{fixture, packets};

const NAMES: [&[u8]; 4] =
    [b"\x03www\x07example\0", b"\x07example\0", b"\x02ns\x07example\0", b"\x01x\x03any\x07example\0"];
const SUBNET: u16 = 8;
const COOKIE: u16 = 10;
const KEEPALIVE: u16 = 11;
const BADVERS: u16 = 16;
const FORMERR: u16 = 1;

/// The first byte selects the question, followed by payload, version and flags of the OPT record; the rest are its
/// options.
pub(crate) fn answer(bytes: &[u8]) {
    let [choice, payload_high, payload_low, version, flags, options @ ..] = bytes else { return };
    let name = NAMES[usize::from(choice & 3)];
    let rtype = if choice & 4 == 0 { 1 } else { 28 };
    let mut message = fixture::query(name, rtype);
    message[11] = 1;
    message.extend_from_slice(&[0, 0, 41, *payload_high, *payload_low, 0, *version, *flags, 0]);
    message.extend_from_slice(&(options.len() as u16).to_be_bytes());
    message.extend_from_slice(options);
    packets::answer(&message);

    let [_, (reply, outcome)] = fixture::ask_fixture(&message, Transport::Tcp);
    let portolan::answer::Outcome::Answered { rcode, .. } = outcome else { panic!("dropped") };
    let Known { subnet, cookie, keepalive } = match known(options) {
        _ if *version != 0 => return assert_eq!(rcode, BADVERS),
        None => return assert_eq!(rcode, FORMERR),
        Some(known) => known,
    };
    assert_eq!(rcode, 0);
    let before = match subnet {
        None => &reply[..],
        Some(subnet) => {
            let (before, echoed) = reply.split_at(reply.len() - subnet.len());
            assert_eq!(
                (&echoed[..3], &echoed[4..]),
                (&subnet[..3], &subnet[4..]),
                "repeated but for the scope"
            );
            let longest = if subnet[1] == 1 { 32 } else { 128 };
            assert!(echoed[3] <= if subnet[2] == 0 { 0 } else { longest }, "scope {}", echoed[3]);
            without(before, SUBNET, subnet.len())
        }
    };
    let before = if keepalive { without(&before[..before.len() - 2], KEEPALIVE, 2) } else { before };
    let before = match cookie {
        None => before,
        Some(cookie) => {
            let (before, granted) = before.split_at(before.len() - 24);
            assert_eq!(granted[..12], [&cookie[..8], &[1, 0, 0, 0]].concat(), "client cookie, version 1");
            without(before, COOKIE, 24)
        }
    };
    let length = reply.len() - before.len();
    assert!(before.ends_with(&(length as u16).to_be_bytes()), "no other option");
}

/// The bytes before the head of an option, which they end with.
fn without(bytes: &[u8], code: u16, length: usize) -> &[u8] {
    let head = [code.to_be_bytes(), (length as u16).to_be_bytes()].concat();
    bytes.strip_suffix(&head[..]).unwrap_or_else(|| panic!("no option {code} at the end of {bytes:02x?}"))
}

/// The options that are answered.
#[derive(Default)]
struct Known<'a> {
    subnet: Option<&'a [u8]>,
    cookie: Option<&'a [u8]>,
    keepalive: bool,
}

/// The known options, if all options are well formed.
fn known(mut options: &[u8]) -> Option<Known<'_>> {
    let mut known = Known::default();
    while !options.is_empty() {
        let [code_high, code_low, length_high, length_low, rest @ ..] = options else { return None };
        let length = usize::from(u16::from_be_bytes([*length_high, *length_low]));
        let (data, rest) = rest.split_at_checked(length)?;
        options = rest;
        match u16::from_be_bytes([*code_high, *code_low]) {
            SUBNET if !is_well_formed(data) || known.subnet.replace(data).is_some() => return None,
            COOKIE if known.cookie.is_none() && data.len() != 8 && !(16..=40).contains(&data.len()) => {
                return None;
            }
            COOKIE => known.cookie = known.cookie.or(Some(data)),
            KEEPALIVE => known.keepalive = data.is_empty(),
            _ => {}
        }
    }
    Some(known)
}

/// RFC 7871 §6.
fn is_well_formed(data: &[u8]) -> bool {
    let [0, family, source, 0, address @ ..] = data else { return false };
    let mut bytes = [0; 16];
    if address.len() > bytes.len() || address.len() != usize::from(source.div_ceil(8)) {
        return false;
    }
    bytes[..address.len()].copy_from_slice(address);
    let address: IpAddr = match family {
        0 => return *source == 0,
        1 => <[u8; 4]>::try_from(&bytes[..4]).expect("four bytes").into(),
        2 => bytes.into(),
        _ => return false,
    };
    // Also refuses a prefix too long for the family.
    IpNet::new(address, *source).is_ok_and(|net| net.network() == address)
}
