//! Well-formed queries with any OPT record, compared with an independent parser of its options.

use std::net::IpAddr;

use ipnet::IpNet;
use portolan::answer::Transport;

use crate::{fixture, packets};

const NAMES: [&[u8]; 4] =
    [b"\x03www\x07example\0", b"\x07example\0", b"\x02ns\x07example\0", b"\x01x\x03any\x07example\0"];
const SUBNET: u16 = 8;
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
    let subnet = match subnet(options) {
        _ if *version != 0 => return assert_eq!(rcode, BADVERS),
        Err(()) => return assert_eq!(rcode, FORMERR),
        Ok(subnet) => subnet,
    };
    assert_eq!(rcode, 0);
    let Some(subnet) = subnet else {
        assert!(reply.ends_with(&[0, 0]), "no option in, none out");
        return;
    };
    let (echoed, before) = (&reply[reply.len() - subnet.len()..], &reply[..reply.len() - subnet.len()]);
    assert!(before.ends_with(&[&SUBNET.to_be_bytes()[..], &(subnet.len() as u16).to_be_bytes()].concat()));
    assert_eq!((&echoed[..3], &echoed[4..]), (&subnet[..3], &subnet[4..]), "repeated except for the scope");
    let longest = if subnet[1] == 1 { 32 } else { 128 };
    assert!(echoed[3] <= if subnet[2] == 0 { 0 } else { longest }, "scope {}", echoed[3]);
}

/// The data of the only client subnet option, if all options are well formed.
fn subnet(mut options: &[u8]) -> Result<Option<&[u8]>, ()> {
    let mut found = None;
    while !options.is_empty() {
        let [code_high, code_low, length_high, length_low, rest @ ..] = options else { return Err(()) };
        let length = usize::from(u16::from_be_bytes([*length_high, *length_low]));
        let (data, rest) = rest.split_at_checked(length).ok_or(())?;
        options = rest;
        if u16::from_be_bytes([*code_high, *code_low]) == SUBNET
            && (!is_well_formed(data) || found.replace(data).is_some())
        {
            return Err(());
        }
    }
    Ok(found)
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
