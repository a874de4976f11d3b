//! The writing of a reply, section by section, into the buffer that is sent.

use hickory_proto::ProtoError;
use hickory_proto::op::{Header, HeaderCounts, MessageType, Metadata, OpCode, ResponseCode};
use hickory_proto::rr::Name;
use hickory_proto::serialize::binary::{BinDecodable, BinDecoder, BinEncodable, BinEncoder};

use super::{
    CLASS_IN, ClientSubnet, HEADER, MAX_UDP_PAYLOAD, OPTION_ERROR, OPTION_KEEPALIVE, OPTION_NSID,
    OPTION_SUBNET, Query,
};
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

/// What the server says of itself in the OPT record, to those who ask.
#[derive(Clone, Copy, Debug, Default)]
pub struct Offer<'a> {
    /// Whether client subnets are answered (RFC 7871).
    pub subnet: bool,
    /// The identifier for those who want one (RFC 5001), at most [`MAX_IDENTITY`](crate::model::MAX_IDENTITY)
    /// bytes.
    pub nsid: Option<&'a [u8]>,
    /// How long a connection may idle, in tenths of a second (RFC 7828 §3.1); `None` over UDP, where the option
    /// must not be sent (§3.2.2).
    pub keepalive: Option<u16>,
}

/// Why, beyond the RCODE (RFC 8914).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ExtendedError {
    /// INFO-CODE, by IANA's registry.
    code: u16,
    /// EXTRA-TEXT, for people; may be empty.
    text: &'static str,
}

impl ExtendedError {
    /// No region may be answered, and the service's policy is SERVFAIL.
    pub const ALL_DOWN: Self = Self { code: 0, text: "no region is up" };
    /// §4.19: whoever asks is not allowed to.
    pub const PROHIBITED: Self = Self { code: 18, text: "" };
    /// §4.21: the name is in none of the zones.
    pub const NOT_AUTHORITATIVE: Self = Self { code: 20, text: "" };
    /// §4.22: no such operation.
    pub const NOT_SUPPORTED: Self = Self { code: 21, text: "" };
    /// RFC 9824 §3.5: a type that nobody can own.
    pub const INVALID_QUERY_TYPE: Self = Self { code: 30, text: "" };

    /// Bytes of the option.
    fn length(self) -> usize {
        usize::from(OPTION_LENGTH) + 2 + self.text.len()
    }
}

/// A reply being written. Records go in by section, in the order of [`Section`].
pub struct Writer<'b> {
    encoder: BinEncoder<'b>,
    id: u16,
    opcode: u8,
    recursion_desired: bool,
    /// Of every record: the question's.
    class: u16,
    /// Where the question ends and records begin.
    records_start: usize,
    /// Length of the question's name.
    name_length: usize,
    /// Whether the encoder may compress against the question's name.
    question_is_known: bool,
    counts: HeaderCounts,
    truncated: bool,
    /// The OPT record to come, for which room is kept.
    opt: Option<Opt<'b>>,
    limit: u16,
}

/// An OPT record to come.
struct Opt<'b> {
    dnssec_ok: bool,
    subnet: Option<ClientSubnet>,
    nsid: Option<&'b [u8]>,
    keepalive: Option<u16>,
    error: Option<ExtendedError>,
}

impl Opt<'_> {
    /// Its bytes without the extended error, which is left out for want of room.
    fn length(&self) -> u16 {
        let subnet = self.subnet.map_or(0, |subnet| SUBNET_LENGTH + subnet.address_bytes().len() as u16);
        let nsid = self.nsid.map_or(0, |nsid| OPTION_LENGTH + nsid.len() as u16);
        OPT_LENGTH + subnet + nsid + self.keepalive.map_or(0, |_| OPTION_LENGTH + 2)
    }
}

/// Bytes of an OPT record without options: root, type, class, TTL, length.
const OPT_LENGTH: u16 = 11;
/// Bytes of an option before its data: code, length.
const OPTION_LENGTH: u16 = 4;
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
    /// an OPT record will be added if the query had one, with what of the offer the query asks for.
    ///
    /// # Errors
    /// If `limit` does not even hold that; it always does from 512 on.
    pub fn start(
        buffer: &'b mut Vec<u8>,
        query: &Query<'_>,
        limit: u16,
        offer: Offer<'b>,
    ) -> Result<Self, ProtoError> {
        buffer.clear();
        let mut encoder = BinEncoder::new(buffer);
        let opt = query.edns.map(|edns| Opt {
            dnssec_ok: edns.dnssec_ok,
            subnet: edns.subnet.filter(|_| offer.subnet),
            nsid: offer.nsid.filter(|_| edns.nsid),
            keepalive: offer.keepalive.filter(|_| edns.keepalive),
            error: None,
        });
        encoder.set_max_size(limit.saturating_sub(opt.as_ref().map_or(0, Opt::length)));
        // Written over by the header in the end.
        encoder.emit_vec(&[0; HEADER])?;
        let mut counts = HeaderCounts::default();
        let (mut name_length, mut class) = (0, CLASS_IN);
        if let Some(question) = &query.question {
            encoder.emit_vec(question.wire)?;
            counts.queries = 1;
            name_length = question.name.as_wire().len();
            class = question.class;
        }
        Ok(Self {
            records_start: encoder.offset(),
            encoder,
            id: query.id,
            opcode: query.opcode,
            recursion_desired: query.recursion_desired,
            class,
            name_length,
            question_is_known: false,
            counts,
            truncated: false,
            opt,
            limit,
        })
    }

    /// Says why, to those with EDNS, if there is room.
    pub fn explain(&mut self, error: ExtendedError) {
        if let Some(opt) = &mut self.opt {
            opt.error = Some(error);
        }
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

    /// Adds the records of one RRset, given their data in uncompressed wire format: all of them or none.
    ///
    /// # Errors
    /// As [`Writer::rrset`].
    pub fn records(
        &mut self,
        section: Section,
        owner: Owner<'_>,
        rtype: u16,
        ttl: Ttl,
        data: impl Iterator<Item: AsRef<[u8]>>,
    ) -> Result<(), ProtoError> {
        if self.truncated {
            return Ok(());
        }
        let (start, before) = (self.encoder.offset(), self.count(section));
        for data in data {
            match self.record(owner, rtype, ttl, data.as_ref()) {
                Ok(()) => self.set_count(section, self.count(section) + 1),
                Err(ProtoError::MaxBufferSizeExceeded(_)) => {
                    self.rewind(start);
                    self.set_count(section, before);
                    self.truncated = section != Section::Additional;
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
        if let Some(opt) = self.opt.take() {
            self.write_opt(&opt, rcode, scope)?;
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
    fn write_opt(&mut self, opt: &Opt<'_>, rcode: ResponseCode, scope: u8) -> Result<(), ProtoError> {
        let mut length = opt.length();
        let room = usize::from(self.limit).saturating_sub(self.encoder.offset() + usize::from(length));
        let error = opt.error.filter(|error| room >= error.length());
        length += error.map_or(0, |error| error.length() as u16);
        self.encoder.emit_u8(0)?;
        self.encoder.emit_u16(rtype::OPT)?;
        self.encoder.emit_u16(MAX_UDP_PAYLOAD)?;
        self.encoder.emit_vec(&[rcode.high(), EDNS_VERSION, u8::from(opt.dnssec_ok) << 7, 0])?;
        self.encoder.emit_u16(length - OPT_LENGTH)?;
        if let Some(nsid) = opt.nsid {
            self.encoder.emit_u16(OPTION_NSID)?;
            self.encoder.emit_u16(nsid.len() as u16)?;
            self.encoder.emit_vec(nsid)?;
        }
        if let Some(tenths) = opt.keepalive {
            self.encoder.emit_u16(OPTION_KEEPALIVE)?;
            self.encoder.emit_u16(2)?;
            self.encoder.emit_u16(tenths)?;
        }
        if let Some(error) = error {
            self.encoder.emit_u16(OPTION_ERROR)?;
            self.encoder.emit_u16(2 + error.text.len() as u16)?;
            self.encoder.emit_u16(error.code)?;
            self.encoder.emit_vec(error.text.as_bytes())?;
        }
        if let Some(subnet) = opt.subnet {
            let address = subnet.address_bytes();
            self.encoder.emit_u16(OPTION_SUBNET)?;
            self.encoder.emit_u16(SUBNET_LENGTH - OPTION_LENGTH + address.len() as u16)?;
            // RFC 7871 §7.2.1: FAMILY, SOURCE PREFIX-LENGTH and ADDRESS "MUST match those of the original".
            self.encoder.emit_u16(subnet.family)?;
            self.encoder.emit_vec(&[subnet.source, scope])?;
            self.encoder.emit_vec(address)?;
        }
        Ok(())
    }

    fn record(&mut self, owner: Owner<'_>, rtype: u16, ttl: Ttl, data: &[u8]) -> Result<(), ProtoError> {
        match owner {
            // RFC 1035 §4.1.4: a pointer to the name's earlier place, which keeps the case it was asked in.
            Owner::Question(offset) => self.encoder.emit_u16(POINTER_TO_QUESTION + offset as u16)?,
            Owner::Name(wire) => self.name(wire)?,
        }
        self.encoder.emit_u16(rtype)?;
        self.encoder.emit_u16(self.class)?;
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
