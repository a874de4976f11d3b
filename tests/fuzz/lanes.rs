//! Every name of the fixture with every common form of a query, by either path. The general path is the measure.

use std::sync::LazyLock;

use allocation_counter::measure;
use portolan::answer::Transport;
use portolan::model::Name;
use portolan::zone::Zone;

use crate::fixture::{SNAPSHOT, ZONE, answer_again, query};
use crate::packets;

const TYPES: [u16; 14] = [1, 2, 5, 6, 12, 15, 16, 28, 33, 43, 52, 65, 255, 65280];

/// What stands behind the question: nothing, or an OPT record with these flags and options.
const TAILS: [Option<(u8, &[u8])>; 9] = [
    None,
    Some((0, b"")),
    Some((0x80, b"")),
    Some((0, b"\x00\x08\x00\x07\x00\x01\x18\x00\x0a\x01\x02")),
    Some((0x80, b"\x00\x08\x00\x0b\x00\x02\x38\x00\x20\x01\x0d\xb8\x00\x01\x00")),
    Some((0, b"\x00\x08\x00\x04\x00\x01\x00\x00")),
    // A cookie before a subnet, padding, and an option that nobody knows.
    Some((0, b"\x00\x0a\x00\x08cookie!!\x00\x08\x00\x06\x00\x01\x10\x00\x0a\x02")),
    Some((0, b"\x00\x0c\x00\x02\x00\x00")),
    Some((0, b"\xff\xfe\x00\x00")),
];

/// The names of the zone and of its services, and beside each one below it.
static NAMES: LazyLock<Vec<Vec<u8>>> = LazyLock::new(|| {
    let origin: Name = "example.".parse().expect("a name");
    let text = std::str::from_utf8(ZONE).expect("text");
    let zone = Zone::read(&origin, text, "fixture.zone", &mut |_| Err(String::new())).expect("a zone");
    let services = SNAPSHOT.plan.topology.services.iter().map(|service| &service.name);
    let names = zone.names.keys().chain(services).map(|name| name.as_wire().to_vec());
    names.flat_map(|name| [[b"\x03bEl".as_slice(), &name].concat(), name]).collect()
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

#[test]
fn every_name_by_either_path() {
    for name in &*NAMES {
        for rtype in TYPES {
            for tail in TAILS {
                packets::answer(&message(name, rtype, tail));
            }
        }
    }
}

#[test]
fn common_queries_allocate_nothing() {
    let cases: [(&[u8], u16); 5] = [
        (b"\x03wWw\x07example\0", 1),
        (b"\x03www\x07example\0", 28),
        (b"\x02ns\x07example\0", 1),
        (b"\x02ns\x07example\0", 16),
        (b"\x07nothing\x07example\0", 1),
    ];
    for (name, rtype) in cases {
        // The last one is not common.
        for tail in &TAILS[..8] {
            let message = message(name, rtype, *tail);
            let mut answer = answer_again(&message, Transport::Udp);
            // The first answer finds its buffers too small.
            answer();
            assert_eq!(measure(&mut answer).count_total, 0, "{message:02x?}");
        }
    }
}
