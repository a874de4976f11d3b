//! The authority section of a negative answer, encoded in advance.

use hickory_proto::op::ResponseCode;

use super::CLASS_IN;
use super::header::{HEADER, Header};
use super::query::{Content, Query};
use super::question::Question;
use super::reply::{Owner, Section, Writer};
use crate::model::Ttl;
use crate::zone::{Served, rtype};

/// The SOA record of a zone, as it appears in a reply to any question that the zone denies.
///
/// It is encoded once, for a question about the apex itself. A longer question moves everything that the record's
/// names are compressed against, the question and the record itself, by as many bytes as it is longer, so all
/// pointers are moved by as much.
#[derive(Debug)]
pub struct Denial {
    record: Box<[u8]>,
    /// Where in the record its compression pointers are.
    pointers: Vec<usize>,
}

/// Offset of the TTL in a record whose owner is a pointer.
const TTL: usize = 6;
/// Offset of its data.
const DATA: usize = 12;

impl Denial {
    /// Encodes the SOA record of a zone.
    #[must_use]
    pub fn of(zone: &Served) -> Self {
        let apex = zone.origin.as_wire();
        let wire = [apex, &rtype::SOA.to_be_bytes(), &CLASS_IN.to_be_bytes()].concat();
        let question = Question { wire: &wire, qtype: rtype::SOA, class: CLASS_IN };
        let query = Query { header: Header::default(), content: Content::Question(question), edns: None };
        let mut message = Vec::new();
        let mut writer = Writer::start(&mut message, &query, u16::MAX, None);
        writer.rrset(Section::Authority, Owner::Question(0), zone.soa());
        writer.finish(ResponseCode::NoError, true, 0);
        let record: Box<[u8]> = message[HEADER + wire.len()..].into();
        let mut pointers = vec![0];
        let primary_end = end_of_name(&record, DATA, &mut pointers);
        end_of_name(&record, primary_end, &mut pointers);
        Self { record, pointers }
    }

    /// Bytes of the record.
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

/// Returns where the name at `start` ends; adds the pointer it ends with, if any, to `pointers`.
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
