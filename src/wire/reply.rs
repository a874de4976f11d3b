//! The writing of a reply, section by section, into the buffer that is sent.

use hickory_proto::ProtoError;
use hickory_proto::op::{Header, HeaderCounts, MessageType, Metadata, OpCode, ResponseCode};
use hickory_proto::rr::Name;
use hickory_proto::serialize::binary::{BinDecodable, BinDecoder, BinEncodable, BinEncoder};

use super::{CLASS_IN, ClientSubnet, HEADER, MAX_UDP_PAYLOAD, OPTION_SUBNET, Query};
use crate::model::Ttl;
use crate::zone::{RRset, rtype};

/// Sections of records in the order in which they must be written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Section {
    /// What was asked for. What does not fit sets TC.
    Answer,
    /// SOA of a negative answer, NS of a referral. What does not fit sets TC.
    Authority,
    /// Glue without which a referral is useless: what does not fit sets TC (RFC 9471 §3).
    Glue,
    /// Helpful addresses. What does not fit is left out (RFC 2181 §9).
    Additional,
}

/// Whose records they are.
#[derive(Clone, Copy, Debug)]
pub enum Owner<'a> {
    /// The question's name from this byte on, in the case in which it was asked.
    Question(usize),
    /// A name in uncompressed wire format.
    Name(&'a [u8]),
}

/// A reply being written. Records go in by section, in the order of [`Section`].
pub struct Writer<'b> {
    encoder: BinEncoder<'b>,
    id: u16,
    opcode: u8,
    recursion_desired: bool,
    /// Where the question ends and records begin.
    records_start: usize,
    /// Length of the question's name.
    name_length: usize,
    /// Whether the encoder may compress against the question's name.
    question_is_known: bool,
    counts: HeaderCounts,
    truncated: bool,
    /// The OPT record to come, for which room is kept.
    edns: Option<(bool, Option<ClientSubnet>)>,
    limit: u16,
}

/// Bytes of an OPT record without options: root, type, class, TTL, length.
const OPT_LENGTH: u16 = 11;
/// Bytes of the client subnet option before its address: code, length, family, two prefix lengths.
const SUBNET_LENGTH: u16 = 8;
/// The only version of EDNS there is.
const EDNS_VERSION: u8 = 0;
/// Labels of the question's name, counted from the root, that other names are compressed against: it bounds
/// what a name of a hundred labels can cost.
const MAX_COMPRESSED_LABELS: usize = 8;
/// The place of the question's name, as a compression pointer.
const POINTER_TO_QUESTION: u16 = 0xc000 | HEADER as u16;

impl<'b> Writer<'b> {
    /// Starts a reply of at most `limit` bytes in `buffer`, which is emptied. The question is repeated, and
    /// an OPT record will be added if the query had one; it repeats the client subnet if `with_subnet`.
    ///
    /// # Errors
    /// If `limit` does not even hold that; it always does from 512 on.
    pub fn start(
        buffer: &'b mut Vec<u8>,
        query: &Query<'_>,
        limit: u16,
        with_subnet: bool,
    ) -> Result<Self, ProtoError> {
        buffer.clear();
        let mut encoder = BinEncoder::new(buffer);
        let edns = query.edns.map(|edns| (edns.dnssec_ok, edns.subnet.filter(|_| with_subnet)));
        let reserved = edns.map_or(0, |(_, subnet)| {
            let option = |subnet: ClientSubnet| SUBNET_LENGTH + subnet.address_bytes().len() as u16;
            OPT_LENGTH + subnet.map_or(0, option)
        });
        encoder.set_max_size(limit.saturating_sub(reserved));
        // Written over by the header in the end.
        encoder.emit_vec(&[0; HEADER])?;
        let mut counts = HeaderCounts::default();
        let mut name_length = 0;
        if let Some(question) = &query.question {
            encoder.emit_vec(question.wire)?;
            counts.queries = 1;
            name_length = question.name.as_wire().len();
        }
        Ok(Self {
            records_start: encoder.offset(),
            encoder,
            id: query.id,
            opcode: query.opcode,
            recursion_desired: query.recursion_desired,
            name_length,
            question_is_known: false,
            counts,
            truncated: false,
            edns,
            limit,
        })
    }

    /// Takes all records back.
    pub fn clear(&mut self) {
        self.rewind(self.records_start);
        self.counts = HeaderCounts { queries: self.counts.queries, ..HeaderCounts::default() };
        self.truncated = false;
    }

    /// Whether something that had to be in the reply did not fit.
    #[must_use]
    pub fn is_truncated(&self) -> bool {
        self.truncated
    }

    /// Adds an RRset.
    ///
    /// # Errors
    /// Only if the data is not what its type says; not for want of room.
    pub fn rrset(&mut self, section: Section, owner: Owner<'_>, set: &RRset) -> Result<(), ProtoError> {
        self.records(section, owner, set.rtype, set.ttl, set.rdata.iter().map(|data| &**data))
    }

    /// Adds the records of one RRset, given their data in uncompressed wire format.
    ///
    /// # Errors
    /// As [`Writer::rrset`].
    pub fn records<'d>(
        &mut self,
        section: Section,
        owner: Owner<'_>,
        rtype: u16,
        ttl: Ttl,
        data: impl Iterator<Item = &'d [u8]>,
    ) -> Result<(), ProtoError> {
        if self.truncated {
            return Ok(());
        }
        let (start, before) = (self.encoder.offset(), self.count(section));
        for data in data {
            let record_start = self.encoder.offset();
            match self.record(owner, rtype, ttl, data) {
                Ok(()) => self.set_count(section, self.count(section) + 1),
                Err(ProtoError::MaxBufferSizeExceeded(_)) if section == Section::Additional => {
                    self.rewind(start);
                    self.set_count(section, before);
                    return Ok(());
                }
                Err(ProtoError::MaxBufferSizeExceeded(_)) => {
                    self.rewind(record_start);
                    self.truncated = true;
                    return Ok(());
                }
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    /// Completes the reply. `scope` is the SCOPE PREFIX-LENGTH of the client subnet, if there is one.
    ///
    /// # Errors
    /// None that a started reply can meet: room for the OPT record was kept.
    pub fn finish(mut self, rcode: ResponseCode, authoritative: bool, scope: u8) -> Result<(), ProtoError> {
        self.encoder.set_max_size(self.limit);
        if let Some((dnssec_ok, subnet)) = self.edns {
            self.opt(rcode, dnssec_ok, subnet.as_ref(), scope)?;
            self.counts.additionals += 1;
        }
        let mut metadata = Metadata::new(self.id, MessageType::Response, OpCode::from_u8(self.opcode));
        metadata.authoritative = authoritative;
        metadata.truncation = self.truncated;
        metadata.recursion_desired = self.recursion_desired;
        metadata.response_code = rcode;
        let end = self.encoder.offset();
        self.encoder.set_offset(0);
        Header { metadata, counts: self.counts }.emit(&mut self.encoder)?;
        self.encoder.set_offset(end);
        Ok(())
    }

    /// The OPT record (RFC 6891 §6.1.2, §6.1.3).
    fn opt(
        &mut self,
        rcode: ResponseCode,
        dnssec_ok: bool,
        subnet: Option<&ClientSubnet>,
        scope: u8,
    ) -> Result<(), ProtoError> {
        self.encoder.emit_u8(0)?;
        self.encoder.emit_u16(rtype::OPT)?;
        self.encoder.emit_u16(MAX_UDP_PAYLOAD)?;
        self.encoder.emit_vec(&[rcode.high(), EDNS_VERSION, u8::from(dnssec_ok) << 7, 0])?;
        let Some(subnet) = subnet else { return self.encoder.emit_u16(0) };
        let address = subnet.address_bytes();
        self.encoder.emit_u16(SUBNET_LENGTH + address.len() as u16)?;
        self.encoder.emit_u16(OPTION_SUBNET)?;
        self.encoder.emit_u16(SUBNET_LENGTH - 4 + address.len() as u16)?;
        // RFC 7871 §7.2.1: FAMILY, SOURCE PREFIX-LENGTH and ADDRESS "MUST match those of the original".
        self.encoder.emit_u16(subnet.family)?;
        self.encoder.emit_vec(&[subnet.source, scope])?;
        self.encoder.emit_vec(address)
    }

    fn record(&mut self, owner: Owner<'_>, rtype: u16, ttl: Ttl, data: &[u8]) -> Result<(), ProtoError> {
        match owner {
            // RFC 1035 §4.1.4: a pointer to the name's earlier place, which keeps the case it was asked in.
            Owner::Question(offset) => self.encoder.emit_u16(POINTER_TO_QUESTION + offset as u16)?,
            Owner::Name(wire) => self.name(wire)?,
        }
        self.encoder.emit_u16(rtype)?;
        self.encoder.emit_u16(CLASS_IN)?;
        self.encoder.emit_u32(ttl.0)?;
        let place = self.encoder.place::<u16>()?;
        self.data(rtype, data)?;
        let length = self.encoder.len_since_place(&place) as u16;
        place.replace(&mut self.encoder, length)
    }

    /// Names in the data of RFC 1035's own types may be compressed, in no others (RFC 3597 §4).
    fn data(&mut self, rtype: u16, data: &[u8]) -> Result<(), ProtoError> {
        match rtype {
            rtype::NS | rtype::CNAME | rtype::PTR => self.name(data),
            rtype::MX => {
                let (preference, exchange) = data.split_at_checked(2).ok_or(MALFORMED)?;
                self.encoder.emit_vec(preference)?;
                self.name(exchange)
            }
            rtype::SOA => {
                let numbers = data.len().checked_sub(20).ok_or(MALFORMED)?;
                let mut decoder = BinDecoder::new(&data[..numbers]);
                Name::read(&mut decoder)?;
                let (primary, mailbox) = data[..numbers].split_at(decoder.index());
                self.name(primary)?;
                self.name(mailbox)?;
                self.encoder.emit_vec(&data[numbers..])
            }
            _ => self.encoder.emit_vec(data),
        }
    }

    fn name(&mut self, wire: &[u8]) -> Result<(), ProtoError> {
        if !self.question_is_known {
            self.remember_question();
            self.question_is_known = true;
        }
        Name::read(&mut BinDecoder::new(wire))?.emit(&mut self.encoder)
    }

    /// Lets the encoder compress against the question's name; put off until there is a name to compress,
    /// which for addresses there never is.
    fn remember_question(&mut self) {
        let Some(labels_length) = self.name_length.checked_sub(1) else { return };
        let (mut label, end) = (HEADER, HEADER + labels_length);
        let mut starts = [0; MAX_COMPRESSED_LABELS];
        let mut count = 0;
        while label < end {
            starts[count % MAX_COMPRESSED_LABELS] = label;
            count += 1;
            label += usize::from(self.encoder.slice_of(label, label + 1)[0]) + 1;
        }
        for start in &starts[..count.min(MAX_COMPRESSED_LABELS)] {
            self.encoder.store_label_pointer(*start, end);
        }
    }

    fn rewind(&mut self, to: usize) {
        self.encoder.set_offset(to);
        self.encoder.trim();
    }

    fn count(&self, section: Section) -> u16 {
        match section {
            Section::Answer => self.counts.answers,
            Section::Authority => self.counts.authorities,
            Section::Glue | Section::Additional => self.counts.additionals,
        }
    }

    fn set_count(&mut self, section: Section, count: u16) {
        match section {
            Section::Answer => self.counts.answers = count,
            Section::Authority => self.counts.authorities = count,
            Section::Glue | Section::Additional => self.counts.additionals = count,
        }
    }
}

/// Zone data is checked when it is read, so this is not seen.
const MALFORMED: ProtoError = ProtoError::Message("record data shorter than its type needs");
