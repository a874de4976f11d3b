//! Any bytes get a reply that can be decoded, or none.

use hickory_proto::op::Message;
use portolan::answer::{Outcome, Transport};
use portolan::model::AllDown;

use super::{Server, query, with_edns, with_subnet};

/// Marsaglia's xorshift: the same packets on every run.
struct Random(u64);

impl Random {
    fn below(&mut self, bound: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 % bound as u64) as usize
    }
}

#[test]
fn mutated_packets_never_panic() {
    let server =
        Server::new(&[("example.", "*.w TXT x\nalias CNAME www\nd DNAME w\nsub NS ns.sub\nmx MX 1 ns\n")])
            .service("www.example.", &["192.0.2.80", "2001:db8::80"], AllDown::All)
            .start();
    let asked = [
        "www.example. A",
        "alias.example. AAAA",
        "x.w.example. TXT",
        "x.d.example. TXT",
        "x.sub.example. DS",
        "mx.example. MX",
        "example. ANY",
        "none.example. A",
        "elsewhere.test. A",
    ];
    let mut seeds: Vec<Vec<u8>> = asked
        .iter()
        .flat_map(|asked| {
            let plain = query(asked);
            [with_edns(plain.clone(), 1232), with_subnet(plain.clone(), "203.0.113.0", 24), plain]
        })
        .map(|message| message.to_vec().unwrap())
        .collect();
    let signed = b"\0\0\0\0\0\x01\0\0\0\0\0\x01\x03www\x07example\0\0\x01\0\x01\x01k\xc0\x10\0\xfa\0\xff\0\0\0\0\0\x20\
        \x09hmac-sha1\0\0\0\0\0\0\x01\x01\x2c\0\x04mac!\0\x01\0\0\0\0";
    seeds.extend(std::iter::repeat_n(signed.to_vec(), 9));
    let mut random = Random(4711);
    let (mut dropped, mut answered) = (0, 0);
    for _ in 0..6_000 {
        let mut packet = seeds[random.below(seeds.len())].clone();
        for _ in 0..=random.below(4) {
            let at = random.below(packet.len());
            match random.below(4) {
                0 => packet[at] ^= 1 << random.below(8),
                1 => packet[at] = random.below(256) as u8,
                2 => packet.truncate(at.max(1)),
                _ => packet.insert(at, random.below(256) as u8),
            }
        }
        let transport = if random.below(2) == 0 { Transport::Udp } else { Transport::Tcp };
        match server.raw(&packet, transport) {
            (Some(reply), Outcome::Answered { .. }) => {
                answered += 1;
                assert_eq!(reply[..2], packet[..2], "the id of {packet:?}");
                assert!(transport == Transport::Tcp || reply.len() <= 1232, "{packet:?}");
                // The decoder that reads the reply here does not support a client subnet of FAMILY 0.
                let decoded = Message::from_vec(&reply);
                let family_0 = reply.windows(6).any(|bytes| bytes == [0, 8, 0, 4, 0, 0]);
                assert!(decoded.is_ok() || family_0, "{decoded:?} for {packet:?}");
            }
            (None, Outcome::Dropped) => dropped += 1,
            other => panic!("{other:?} for {packet:?}"),
        }
    }
    assert!(dropped > 100 && answered > 3_000, "{dropped} dropped, {answered} answered");
}
