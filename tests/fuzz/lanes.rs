//! Every name of the fixture with every common form of a query, by either path. The general path is the reference.

use std::sync::LazyLock;

use allocation_counter::measure;
use portolan::answer::Transport;
use portolan::model::Name;
use portolan::zone::Zone;

use crate::fixture::{SNAPSHOT, ZONE, answer_again, ask, query};
use crate::packets;

const TYPES: [u16; 14] = [1, 2, 5, 6, 12, 15, 16, 28, 33, 43, 52, 65, 255, 65280];

/// What follows the question: nothing, or an OPT record with these flags and options.
const TAILS: [Option<(u8, &[u8])>; 11] = [
    None,
    Some((0, b"")),
    Some((0x80, b"")),
    Some((0, b"\x00\x08\x00\x07\x00\x01\x18\x00\x0a\x01\x02")),
    Some((0x80, b"\x00\x08\x00\x0b\x00\x02\x38\x00\x20\x01\x0d\xb8\x00\x01\x00")),
    Some((0, b"\x00\x08\x00\x04\x00\x01\x00\x00")),
    // NSID, edns-tcp-keepalive.
    Some((0, b"\x00\x03\x00\x00\x00\x0b\x00\x00")),
    // A cookie before a subnet, padding, and an unknown option.
    Some((0, b"\x00\x0a\x00\x08cookie!!\x00\x08\x00\x06\x00\x01\x10\x00\x0a\x02")),
    // Client and server cookie.
    Some((0, b"\x00\x0a\x00\x18cookie!!and the server's")),
    Some((0, b"\x00\x0c\x00\x02\x00\x00")),
    Some((0, b"\xff\xfe\x00\x00")),
];

/// The names of the zone and of its services, a name below each of them, and one outside the zone.
static NAMES: LazyLock<Vec<Vec<u8>>> = LazyLock::new(|| {
    let origin: Name = "example.".parse().expect("a name");
    let text = std::str::from_utf8(ZONE).expect("text");
    let zone = Zone::read(&origin, text, "fixture.zone", &mut |_| Err(String::new())).expect("a zone");
    let services = SNAPSHOT.plan.topology.services.iter().map(|service| &service.name);
    let names = zone.names.keys().chain(services).map(|name| name.as_wire().to_vec());
    let names = names.flat_map(|name| [[b"\x03bEl".as_slice(), &name].concat(), name]);
    names.chain([b"\x03www\x09elsewhere\x04test\0".to_vec()]).collect()
});

fn message(name: &[u8], rtype: u16, tail: Option<(u8, &[u8])>) -> Vec<u8> {
    let mut message = query(name, rtype);
    if let Some((flags, options)) = tail {
        message[11] = 1;
        message.extend_from_slice(&[0, 0, 41, 4, 208, 0, 0, flags, 0]);
        message.extend_from_slice(&(options.len() as u16).to_be_bytes());
        message.extend_from_slice(options);
    }
    message
}

fn messages() -> impl Iterator<Item = Vec<u8>> {
    let forms = || TYPES.iter().flat_map(|rtype| TAILS.map(|tail| (*rtype, tail)));
    NAMES.iter().flat_map(move |name| forms().map(|(rtype, tail)| message(name, rtype, tail)))
}

#[test]
fn both_paths_agree_on_every_name() {
    messages().for_each(|message| packets::answer(&message));
}

#[test]
fn both_paths_agree_on_any_class() {
    for (name, rtype) in NAMES.iter().flat_map(|name| TYPES.map(|rtype| (name, rtype))) {
        let mut message = query(name, rtype);
        *message.last_mut().expect("a class") = 255;
        packets::answer(&message);
    }
}

/// Except where a DNAME synthesises a name that no zone owns.
#[test]
fn answers_allocate_nothing() {
    const DNAME: &[u8] = &[0, 39, 0, 1, 0, 0, 1, 44];
    let mut measured = 0;
    for message in messages() {
        let (reply, _) = ask(&SNAPSHOT, &message, Transport::Udp);
        if reply.windows(DNAME.len()).any(|bytes| bytes == DNAME) {
            continue;
        }
        let mut answer = answer_again(&message, Transport::Udp);
        // The first answer still has to grow its buffers.
        answer();
        assert_eq!(measure(&mut answer).count_total, 0, "{message:02x?}");
        measured += 1;
    }
    assert!(measured > 10_000, "{measured}");
}
