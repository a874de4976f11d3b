//! The authority section of a negative answer, encoded ahead.

use hickory_proto::op::ResponseCode;

use super::query::{Query, Question};
use super::reply::{Offer, Owner, Section, Writer};
use super::{CLASS_IN, HEADER};
use crate::model::Ttl;
use crate::zone::{Served, rtype};

/// The SOA record of a zone as it stands in a reply to any question that the zone denies.
///
/// The encoder made it for a question about the apex itself. In a reply to a longer name all that its names may
/// be compressed against lies as many bytes further on as the name is longer, be it the question or the record
/// itself; so do all of its pointers.
#[derive(Debug)]
pub struct Denial {
    record: Box<[u8]>,
    /// Where in the record compression pointers stand.
    pointers: Vec<usize>,
}

/// Where the TTL of a record stands whose owner is a pointer.
const TTL: usize = 6;
/// Where its data stands.
const DATA: usize = 12;

impl Denial {
    /// Encodes the SOA record of a zone.
    #[must_use]
    pub fn of(zone: &Served) -> Self {
        let apex = zone.origin.as_wire();
        let wire = [apex, &rtype::SOA.to_be_bytes(), &CLASS_IN.to_be_bytes()].concat();
        let query = Query {
            id: 0,
            opcode: 0,
            recursion_desired: false,
            question: Some(Question { wire: &wire, qtype: rtype::SOA, class: CLASS_IN }),
            edns: None,
            fault: None,
        };
        let mut message = Vec::new();
        let mut writer = Writer::start(&mut message, &query, u16::MAX, Offer::default());
        writer.rrset(Section::Authority, Owner::Question(0), zone.soa());
        writer.finish(ResponseCode::NoError, true, 0);
        let record: Box<[u8]> = message[HEADER + wire.len()..].into();
        let mut pointers = vec![0];
        let primary_end = end_of_name(&record, DATA, &mut pointers);
        end_of_name(&record, primary_end, &mut pointers);
        Self { record, pointers }
    }

    /// Its length.
    #[must_use]
    pub fn length(&self) -> usize {
        self.record.len()
    }

    /// Appends the record to a reply whose question's name has the apex from byte `apex` on.
    pub fn write(&self, bytes: &mut Vec<u8>, apex: usize, ttl: Ttl) {
        let start = bytes.len();
        bytes.extend_from_slice(&self.record);
        let record = &mut bytes[start..];
        record[TTL..TTL + 4].copy_from_slice(&ttl.0.to_be_bytes());
        for at in &self.pointers {
            let pointer = u16::from_be_bytes([record[*at], record[at + 1]]) + apex as u16;
            record[*at..at + 2].copy_from_slice(&pointer.to_be_bytes());
        }
    }
}

/// Walks over the name at `start`, notes the pointer it may end with, and returns where it ends.
fn end_of_name(record: &[u8], start: usize, pointers: &mut Vec<usize>) -> usize {
    let mut at = start;
    loop {
        match record[at] {
            0 => return at + 1,
            length @ 1..=63 => at += usize::from(length) + 1,
            _ => {
                pointers.push(at);
                return at + 2;
            }
        }
    }
}
