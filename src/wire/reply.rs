//! The writing of a reply, section by section, into the buffer that is sent.

use hickory_proto::op::ResponseCode;

use super::names::{self, Names};
use super::{
    CLASS_IN, Edns, HEADER, MAX_UDP_PAYLOAD, OPTION_ERROR, OPTION_KEEPALIVE, OPTION_NSID, OPTION_SUBNET,
    Query,
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
        OPTION_LENGTH + 2 + self.text.len()
    }
}

/// A reply being written. Records go in by section, in the order of [`Section`].
pub struct Writer<'b> {
    bytes: &'b mut Vec<u8>,
    query: &'b Query<'b>,
    offer: Offer<'b>,
    /// For the OPT record, if there is one.
    error: Option<ExtendedError>,
    names: Names,
    /// Where the question ends and records begin.
    records_start: usize,
    /// Records, by section in the order of the header.
    counts: [u16; 3],
    truncated: bool,
    limit: usize,
    /// The limit for all but the OPT record.
    room: usize,
}

/// Bytes of an OPT record without options: root, type, class, TTL, length.
const OPT_LENGTH: usize = 11;
/// Bytes of an option before its data: code, length.
const OPTION_LENGTH: usize = 4;
/// Bytes of the client subnet option before its address: code, length, family, two prefix lengths.
const SUBNET_LENGTH: usize = 8;
/// The only version of EDNS there is.
const EDNS_VERSION: u8 = 0;
/// Bytes of a record between its owner and its data: type, class, TTL, length.
const FIXED: usize = 10;
/// Bytes of a SOA record's data behind its names.
const SOA_NUMBERS: usize = 20;

impl<'b> Writer<'b> {
    /// Starts a reply of at most `limit` bytes in `bytes`, which is emptied. The question is repeated, and an OPT
    /// record will be added if the query had one, with what of the offer the query asks for. That much is written
    /// whatever the limit; 512 always holds it.
    #[must_use]
    pub fn start(bytes: &'b mut Vec<u8>, query: &'b Query<'b>, limit: u16, offer: Offer<'b>) -> Self {
        bytes.clear();
        // Written over in the end.
        bytes.extend_from_slice(&[0; HEADER]);
        let name = match &query.question {
            Some(question) => {
                bytes.extend_from_slice(question.wire);
                question.name().len()
            }
            None => 0,
        };
        let mut writer = Self {
            records_start: bytes.len(),
            bytes,
            query,
            offer,
            error: None,
            names: Names::new(name),
            counts: [0; 3],
            truncated: false,
            limit: usize::from(limit),
            room: usize::from(limit),
        };
        writer.room = writer.limit.saturating_sub(writer.opt_length());
        writer
    }

    /// Says why, to those with EDNS, if there is room.
    pub fn explain(&mut self, error: ExtendedError) {
        self.error = Some(error);
    }

    /// Takes all records back.
    pub fn clear(&mut self) {
        self.bytes.truncate(self.records_start);
        self.names.forget(0);
        self.counts = [0; 3];
        self.truncated = false;
    }

    /// Whether something that had to be in the reply did not fit.
    #[must_use]
    pub fn is_truncated(&self) -> bool {
        self.truncated
    }

    /// Adds an RRset.
    pub fn rrset(&mut self, section: Section, owner: Owner<'_>, set: &RRset) {
        self.records(section, owner, set.rtype, set.ttl, &set.rdata);
    }

    /// Adds the records of one RRset, given their data in uncompressed wire format: all of them or none.
    pub fn records(
        &mut self,
        section: Section,
        owner: Owner<'_>,
        rtype: u16,
        ttl: Ttl,
        data: impl IntoIterator<Item: AsRef<[u8]>>,
    ) {
        if self.truncated {
            return;
        }
        let (start, known) = (self.bytes.len(), self.names.count());
        let mut count = 0;
        for data in data {
            self.record(owner, rtype, ttl, data.as_ref());
            if self.bytes.len() > self.room {
                self.bytes.truncate(start);
                self.names.forget(known);
                self.truncated = section != Section::Additional;
                return;
            }
            count += 1;
        }
        let section = match section {
            Section::Answer => 0,
            Section::Authority => 1,
            Section::Glue | Section::Additional => 2,
        };
        self.counts[section] += count;
    }

    /// Completes the reply. `scope` is the SCOPE PREFIX-LENGTH of the client subnet, if there is one.
    pub fn finish(&mut self, rcode: ResponseCode, authoritative: bool, scope: u8) {
        if let Some(edns) = &self.query.edns {
            self.write_opt(edns, rcode, scope);
            self.counts[2] += 1;
        }
        // RFC 1035 §4.1.1: QR, OPCODE, AA, TC, RD; RA and Z are 0.
        let flags = 0x80
            | self.query.opcode << 3
            | u8::from(authoritative) << 2
            | u8::from(self.truncated) << 1
            | u8::from(self.query.recursion_desired);
        let flags = u16::from_be_bytes([flags, rcode.low()]);
        let questions = u16::from(self.query.question.is_some());
        let [answers, authorities, additionals] = self.counts;
        let header = [self.query.id, flags, questions, answers, authorities, additionals];
        self.bytes[..HEADER].copy_from_slice(header.map(u16::to_be_bytes).as_flattened());
    }

    /// Bytes of the OPT record without the extended error, which is left out for want of room.
    fn opt_length(&self) -> usize {
        let Some(edns) = &self.query.edns else { return 0 };
        let subnet = edns.subnet.as_ref().filter(|_| self.offer.subnet);
        let nsid = self.offer.nsid.filter(|_| edns.nsid);
        let keepalive = self.offer.keepalive.filter(|_| edns.keepalive);
        OPT_LENGTH
            + subnet.map_or(0, |subnet| SUBNET_LENGTH + subnet.address_bytes().len())
            + nsid.map_or(0, |nsid| OPTION_LENGTH + nsid.len())
            + keepalive.map_or(0, |_| OPTION_LENGTH + 2)
    }

    /// The OPT record (RFC 6891 §6.1.2, §6.1.3).
    fn write_opt(&mut self, edns: &Edns, rcode: ResponseCode, scope: u8) {
        let mut length = self.opt_length();
        let room = self.limit.saturating_sub(self.bytes.len() + length);
        let error = self.error.filter(|error| room >= error.length());
        length += error.map_or(0, ExtendedError::length);
        let [payload_high, payload_low] = MAX_UDP_PAYLOAD.to_be_bytes();
        let [length_high, length_low] = ((length - OPT_LENGTH) as u16).to_be_bytes();
        self.bytes.extend_from_slice(&[
            0,
            0,
            rtype::OPT as u8,
            payload_high,
            payload_low,
            rcode.high(),
            EDNS_VERSION,
            u8::from(edns.dnssec_ok) << 7,
            0,
            length_high,
            length_low,
        ]);
        if let Some(nsid) = self.offer.nsid.filter(|_| edns.nsid) {
            self.words([OPTION_NSID, nsid.len() as u16]);
            self.bytes.extend_from_slice(nsid);
        }
        if let Some(tenths) = self.offer.keepalive.filter(|_| edns.keepalive) {
            self.words([OPTION_KEEPALIVE, 2, tenths]);
        }
        if let Some(error) = error {
            self.words([OPTION_ERROR, 2 + error.text.len() as u16, error.code]);
            self.bytes.extend_from_slice(error.text.as_bytes());
        }
        if let Some(subnet) = edns.subnet.as_ref().filter(|_| self.offer.subnet) {
            let address = subnet.address_bytes();
            let length = SUBNET_LENGTH - OPTION_LENGTH + address.len();
            // RFC 7871 §7.2.1: FAMILY, SOURCE PREFIX-LENGTH and ADDRESS "MUST match those of the original".
            let lengths = u16::from_be_bytes([subnet.source, scope]);
            self.words([OPTION_SUBNET, length as u16, subnet.family, lengths]);
            self.bytes.extend_from_slice(address);
        }
    }

    fn words<const N: usize>(&mut self, words: [u16; N]) {
        self.bytes.extend_from_slice(words.map(u16::to_be_bytes).as_flattened());
    }

    fn record(&mut self, owner: Owner<'_>, rtype: u16, ttl: Ttl, data: &[u8]) {
        // Records are of the question's class.
        let class = self.query.question.as_ref().map_or(CLASS_IN, |question| question.class);
        let mut fixed = [0; 2 + FIXED];
        fixed[2..4].copy_from_slice(&rtype.to_be_bytes());
        fixed[4..6].copy_from_slice(&class.to_be_bytes());
        fixed[6..10].copy_from_slice(&ttl.0.to_be_bytes());
        fixed[10..].copy_from_slice(&(data.len() as u16).to_be_bytes());
        match owner {
            // A pointer to the name's earlier place, which keeps the case it was asked in.
            Owner::Question(offset) => {
                fixed[..2].copy_from_slice(&names::to_question(offset).to_be_bytes());
                self.bytes.extend_from_slice(&fixed);
            }
            Owner::Name(name) => {
                self.name(name);
                self.bytes.extend_from_slice(&fixed[2..]);
            }
        }
        self.data(rtype, data);
    }

    /// Names in the data of RFC 1035's own types may be compressed, in no others (RFC 3597 §4).
    fn data(&mut self, rtype: u16, data: &[u8]) {
        let start = self.bytes.len();
        match rtype {
            rtype::NS | rtype::CNAME | rtype::PTR => self.name(data),
            rtype::MX => {
                let (preference, exchange) = data.split_at(data.len().min(2));
                self.bytes.extend_from_slice(preference);
                self.name(exchange);
            }
            rtype::SOA => {
                let (names, numbers) = data.split_at(data.len().saturating_sub(SOA_NUMBERS));
                let (primary, mailbox) = names.split_at(names::length(names));
                self.name(primary);
                self.name(mailbox);
                self.bytes.extend_from_slice(numbers);
            }
            _ => return self.bytes.extend_from_slice(data),
        }
        let length = (self.bytes.len() - start) as u16;
        self.bytes[start - 2..start].copy_from_slice(&length.to_be_bytes());
    }

    fn name(&mut self, name: &[u8]) {
        self.names.write(self.bytes, name);
    }
}
