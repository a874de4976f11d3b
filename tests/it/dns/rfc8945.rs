//! RFC 8945: signatures with TSIG. No key is known to the server.

use domain::base::Message as Parsed;
use portolan::answer::Transport;

use super::{Running, Server, query, with_edns};

const KEY: &[u8] = b"\x03key\x04test\0";
const ALGORITHM: &[u8] = b"\x0bhmac-sha256\0";
/// Type, class and TTL.
const FIXED: &[u8] = b"\0\xfa\0\xff\0\0\0\0";
/// 2023-11-14 22:13:20, with a fudge of 300 s.
const TIMES: &[u8] = b"\0\0\x65\x53\xf1\x00\x01\x2c";
const OTHER_TSIG_DATA: &[u8] = b"\0\0\0\0";
const NOTAUTH: u8 = 9;
const FORMERR: u8 = 1;

fn server() -> Running {
    Server::new(&[("example.", "www A 192.0.2.1\n")]).start()
}

/// The data of a record: with a signature in a query, without one in the reply.
fn data(mac: &[u8], error_and_other: &[u8]) -> Vec<u8> {
    let size = (mac.len() as u16).to_be_bytes();
    // The original ID is another than the message's.
    [ALGORITHM, TIMES, &size, mac, b"\x12\x34", error_and_other].concat()
}

fn record(key: &[u8], fixed: &[u8], data: &[u8]) -> Vec<u8> {
    [key, fixed, &(data.len() as u16).to_be_bytes(), data].concat()
}

fn tsig(key: &[u8]) -> Vec<u8> {
    record(key, FIXED, &data(&[7; 32], OTHER_TSIG_DATA))
}

/// A record behind a message, in the section whose count is at this byte.
fn append(message: &mut Vec<u8>, count: usize, record: &[u8]) {
    message[count + 1] += 1;
    message.extend_from_slice(record);
}

const ANSWERS: usize = 6;
const AUTHORITIES: usize = 8;
const ADDITIONALS: usize = 10;

fn plain(asked: &str) -> Vec<u8> {
    query(asked).to_vec().unwrap()
}

fn signed(asked: &str, key: &[u8]) -> Vec<u8> {
    let mut message = plain(asked);
    append(&mut message, ADDITIONALS, &tsig(key));
    message
}

fn reply(message: &[u8]) -> Vec<u8> {
    server().raw(message, Transport::Udp).0.expect("a reply")
}

#[track_caller]
fn check_rejected(asked: &str, key: &[u8]) {
    let (query, reply) = (plain(asked), reply(&signed(asked, key)));
    assert_eq!(reply[..2], query[..2]);
    assert_eq!((reply[2] & 4, reply[3]), (0, NOTAUTH), "{asked}");
    assert_eq!(reply[4..12], [0, 1, 0, 0, 0, 0, 0, 1]);
    let rejection = record(key, FIXED, &data(&[], b"\0\x11\0\0"));
    assert_eq!(reply[12..], [&query[12..], &rejection].concat(), "{asked}");
}

#[test]
fn section_5_2_1_an_unknown_key_is_badkey_in_an_unsigned_reply() {
    for asked in ["www.example. A", "gone.example. A", "example. AXFR", "elsewhere.test. A"] {
        check_rejected(asked, KEY);
    }
}

#[test]
fn the_name_of_the_key_may_be_compressed_against_the_question() {
    check_rejected("www.example. A", b"\xc0\x0c");
    check_rejected("www.example. A", b"\x03key\xc0\x10");
    // Into a label, to the question's end, to the header, to itself.
    for elsewhere in [b"\xc0\x0d", b"\xc0\x19", b"\xc0\x00", b"\xc0\x1d", b"\xff\xff"] {
        assert_eq!(reply(&signed("www.example. A", elsewhere))[3], FORMERR, "{elsewhere:02x?}");
    }
    // 252 bytes and the question's `example.`.
    let too_long = [b"\x03abc".repeat(63), b"\xc0\x10".to_vec()].concat();
    assert_eq!(reply(&signed("www.example. A", &too_long))[3], FORMERR);
}

#[test]
fn section_5_1_the_record_follows_opt() {
    let mut message = with_edns(query("www.example. A"), 1232).to_vec().unwrap();
    append(&mut message, ADDITIONALS, &tsig(KEY));
    let reply = reply(&message);
    assert_eq!((reply[3], reply[11]), (NOTAUTH, 2));
    let parsed = Parsed::from_octets(&reply[..]).unwrap();
    let types: Vec<u16> =
        parsed.additional().unwrap().map(|record| record.unwrap().rtype().to_int()).collect();
    assert_eq!(types, [41, 250]);
}

#[test]
fn section_5_2_several_records_and_other_positions_are_a_format_error() {
    let opt = b"\0\0\x29\x04\xd0\0\0\0\0\0\0";
    for behind in [&opt[..], &tsig(KEY)] {
        let mut message = signed("www.example. A", KEY);
        append(&mut message, ADDITIONALS, behind);
        assert_eq!(reply(&message)[3], FORMERR);
    }
    for section in [ANSWERS, AUTHORITIES] {
        let mut message = plain("www.example. IXFR");
        append(&mut message, section, &tsig(KEY));
        assert_eq!(reply(&message)[3], FORMERR);
    }
}

#[test]
fn section_5_2_records_that_cannot_be_interpreted_are_a_format_error() {
    let whole = data(&[7; 32], OTHER_TSIG_DATA);
    let class_in = b"\0\xfa\0\x01\0\0\0\0";
    let cut = (0..whole.len()).map(|end| record(KEY, FIXED, &whole[..end]));
    let longer = [record(KEY, class_in, &whole), record(KEY, FIXED, &[&whole[..], b"x"].concat())];
    for record in cut.chain(longer) {
        let mut message = plain("www.example. A");
        append(&mut message, ADDITIONALS, &record);
        assert_eq!(reply(&message)[3..12], [FORMERR, 0, 1, 0, 0, 0, 0, 0, 0], "{record:02x?}");
    }
}

/// Without EDNS there is no room for the longest question and the longest key.
#[test]
fn a_record_that_does_not_fit_is_left_out() {
    let long = format!("{}example.", "abc.".repeat(60));
    let key = [b"\x03key".repeat(63).as_slice(), b"\0"].concat();
    let reply = reply(&signed(&format!("{long} A"), &key));
    assert_eq!((reply[3], reply[11]), (NOTAUTH, 0));
}

/// RFC 2931 §3.1: "servers are not required to check a request SIG(0)".
#[test]
fn sig_0_is_ignored() {
    let sig = b"\0\x18\0\xff\0\0\0\0";
    for data in [&b""[..], b"\0\0\x08\0\0\0\0\0\x7f\xff\xff\xff\0\0\0\0\x04\xd2\x03key\0signature"] {
        let mut message = plain("www.example. A");
        append(&mut message, ADDITIONALS, &record(b"\0", sig, data));
        assert_eq!(reply(&message), reply(&plain("www.example. A")));
    }
}
